"""What the stream may have lost is found, announced with its bounds, and read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scripted import PROFILE, Row, Scripted, Venue, buy, settle, take

from mts1b_brokers_core.execution import intake
from mts1b_brokers_core.execution.port import Link, Listing, OrderRef, Seen, Trigger, Unreadable
from mts1b_brokers_core.foundation.errors import VenueUnavailable
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock

GAPS = (EventKind.GAP_OPEN, EventKind.GAP_CLOSED)
DAY = 86_400


class SteppingWall(SteppedClock):
    """A clock whose wall time somebody sets; what never steps goes on."""

    by = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.by

    def now_ns(self) -> int:
        return super().now_ns() + self.by // timedelta(microseconds=1) * 1000


def gaps(venue: Venue) -> list[BrokerEvent]:
    return [event for event in venue.events if event.kind in GAPS]


def foreign(venue: Venue) -> Row:
    row = Row(f"X{len(venue.book) + 1}", None, buy("1000"))
    venue.book[row.id] = row
    return row


async def test_one_lost_frame_of_a_healthy_stream_is_found_and_announced(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "0.25")
        venue.fill("V1", "0.25", push=False)
        venue.fill("V1", "0.25")
        await clock.advance(59)
        assert [fill.fill_id for fill in venue.logged()] == ["E1", "E3"]
        await clock.advance(2)
        assert [fill.fill_id for fill in venue.logged()] == ["E1", "E3", "E2"]
        assert [event.kind for event in gaps(venue)] == [*GAPS]
        assert (await broker.outcome(placed.idempotency_key)).filled_quantity == Decimal("0.75")
        await clock.advance(61)
        assert len(gaps(venue)) == 2  # nothing more was missing


async def test_a_quiet_stream_is_no_gap(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(reconcile_every=60) as broker:
        await broker.submit(buy())
        venue.fill("V1", "1")
        await clock.advance(600)
        assert gaps(venue) == []


async def test_a_polled_venue_is_read_at_its_pace_and_announces_no_gap(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(PROFILE, fill_source="poll", poll_every=2))
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        await clock.advance(2.5)
        assert [fill.fill_id for fill in venue.logged()] == ["E1"]
        assert (await broker.outcome(placed.idempotency_key)).settled
        assert gaps(venue) == []


async def test_what_comes_between_the_fall_and_the_return_of_a_link_is_read_after_it(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(reconcile_every=60) as broker:
        await broker.submit(buy())
        await clock.advance(59)
        venue.push(Link(up=False, words="reset"))
        await clock.advance(5)  # reconciliation reads everything meanwhile: the link is still down
        assert [event.kind for event in gaps(venue)] == [EventKind.GAP_OPEN]
        venue.fill("V1", "0.5", push=False)
        venue.push(Link(up=True))
        await settle()
        assert [fill.fill_id for fill in venue.logged()] == ["E1"]
        assert [event.kind for event in gaps(venue)] == [*GAPS]


async def test_a_reading_begun_before_the_loss_does_not_close_the_gap(
    venue: Venue, clock: SteppedClock
) -> None:
    class Slow(Scripted):
        async def read(self, refs: Sequence[OrderRef]) -> Listing[Any]:
            rows = await super().read(refs)
            await self.clock.sleep(10)
            return rows

    async with venue.client(kind=Slow, reconcile_every=3600) as broker:
        await broker.submit(buy())
        venue.push(Trigger((OrderRef("V1"),)))
        await settle()
        venue.fill("V1", "0.5", push=False)
        venue.push(Link(up=True, data_lost=True))
        await clock.advance(11)
        await clock.advance(11)
        kinds = venue.kinds()
        assert kinds.count(EventKind.GAP_CLOSED) == 1
        assert kinds.index(EventKind.FILL) < kinds.index(EventKind.GAP_CLOSED)


async def test_frames_go_on_while_the_venue_cannot_be_read(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(reconcile_every=60) as broker:
        await broker.submit(buy())
        venue.fill("V1", "0.25", push=False)
        venue.read_next.extend([VenueUnavailable("503")] * 12)
        venue.push(Link(up=True, data_lost=True))
        await clock.advance(30)
        venue.fill("V1", "0.25")
        await settle()
        assert [fill.fill_id for fill in venue.logged()] == ["E2"]
        assert [event.kind for event in gaps(venue)] == [EventKind.GAP_OPEN]
        await clock.advance(600)
        assert [fill.fill_id for fill in venue.logged()] == ["E2", "E1"]
        assert [event.kind for event in gaps(venue)] == [*GAPS]


async def test_an_outage_longer_than_the_venue_keeps_executions_is_announced(
    clock: SteppedClock, file: Path
) -> None:
    venue = Venue(clock, replace(PROFILE, fill_window=3600))
    async with venue.client(file) as broker:
        await broker.submit(buy())
        venue.fill("V1", "0.5")
        await take(broker.stream_fills(), 1)
    await clock.advance(DAY)
    left = clock.now()
    async with venue.client(file):
        (gap,) = gaps(venue)
        assert gap.detail["closed"] == "never"
        assert gap.detail["since"] == str(Venue.opened)
        assert gap.detail["until"] == str(left - timedelta(hours=1))
    await clock.advance(1800)
    async with venue.client(file):
        assert len(gaps(venue)) == 1  # that much the venue keeps


async def test_days_without_a_fill_are_no_outage(clock: SteppedClock, file: Path) -> None:
    venue = Venue(clock, replace(PROFILE, fill_window=3600))
    async with venue.client(file, reconcile_every=600) as broker:
        await broker.submit(buy())
        venue.fill("V1", "0.5")
        await take(broker.stream_fills(), 1)
        while venue.calls.count("executions") < 12:  # more than an hour, read at a steady pace
            await clock.advance(100)
            await settle()
        assert gaps(venue) == []
    async with venue.client(file):
        assert gaps(venue) == []


async def test_what_was_read_before_a_restart_is_where_the_next_reading_begins(
    clock: SteppedClock, file: Path
) -> None:
    venue = Venue(clock)
    async with venue.client(file):
        pass
    await clock.advance(DAY)
    venue.fill(foreign(venue), "1", push=False)  # somebody else's, while nobody was here
    await clock.advance(DAY)
    async with venue.client(file) as broker:
        assert [fill.fill_id for fill in await take(broker.stream_fills(), 1)] == ["E1"]


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_wall_clock_that_is_set_loses_nothing(hours: int) -> None:
    clock, right = SteppingWall(Venue.opened), SteppedClock(Venue.opened)
    venue = Venue(right)

    async def later(seconds: float) -> None:
        await right.advance(seconds)
        await clock.advance(seconds)

    venue.clock = clock
    async with venue.client(reconcile_every=600) as broker:
        venue.clock = right
        await broker.submit(buy("1000"))
        row, expected = foreign(venue), 0
        for step in (0, hours, 0, 0, -hours, 0, 0):
            clock.by += timedelta(hours=step)
            venue.fill(row, "1", push=False)
            venue.fill("V1", "1", push=False)
            expected += 2
            await later(601)
            assert len(venue.logged()) == expected


async def test_an_unreadable_row_is_reported_beside_the_good_ones(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(reconcile_every=60) as broker:
        await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        venue.unreadable.append(Unreadable("<html>", "no row"))
        await clock.advance(61)
        assert [fill.fill_id for fill in venue.logged()] == ["E1"]
        told = [event for event in venue.events if event.kind is EventKind.UNREADABLE]
        assert [(event.message, event.detail["words"]) for event in told] == [("no row", "<html>")]


# --- many frames at once -------------------------------------------------------------------------


def counting(broker: Scripted) -> list[int]:
    """Count how many executions each commit of the log brings."""
    sizes: list[int] = []
    observe = broker._login.ingest.observe

    async def counted(seen: Any, **more: Any) -> Any:
        sizes.append(len(seen))
        return await observe(seen, **more)

    broker._login.ingest.observe = counted  # type: ignore[method-assign]
    return sizes


async def test_five_hundred_frames_are_few_commits_and_the_same_events(clock: SteppedClock) -> None:
    told = []
    for together in (True, False):
        venue = Venue(clock)
        async with venue.client() as broker:
            await broker.submit(buy("1000", order_id="k"))
            sizes = counting(broker)
            for n in range(500):
                venue.fill("V1", "2")
                if n in (100, 200):
                    venue.push(Link(up=n == 200, words=str(n)))
                if n % 50 == 0 or n == 499:
                    venue.push(venue.view("V1"))
                if not together:
                    await settle(12)
            await settle(100)
            assert len(sizes) <= 5 if together else len(sizes) >= 500
            assert [fill.seq for fill in venue.logged()] == list(range(1, 501))
            assert (await broker.outcome("k")).settled
            keep = (
                EventKind.GAP_OPEN,
                EventKind.FILL,
                EventKind.STATUS,
                EventKind.LINK_DOWN,
                EventKind.LINK_UP,
            )
            told.append([
                (event.kind, event.seq, event.message, event.order and event.order.status)
                for event in venue.events if event.kind in keep
            ])  # fmt: skip
    assert told[0] == told[1]


async def test_the_stream_is_left_unread_while_too_much_waits(venue: Venue, monkeypatch: Any) -> None:
    monkeypatch.setattr(intake, "_WAITING", 10)
    async with venue.client() as broker:
        await broker.submit(buy("1000"))
        observe, waiting = broker._login.ingest.observe, []

        async def counted(seen: Any, **more: Any) -> Any:
            waiting.append((len(seen), len(broker._intake._waiting)))
            return await observe(seen, **more)

        broker._login.ingest.observe = counted  # type: ignore[method-assign]
        for _ in range(100):
            venue.fill("V1", "1")
        await settle(400)
        assert len(venue.logged()) == 100
        assert max(size for size, _ in waiting) <= 10


async def test_many_triggers_are_read_by_parts(venue: Venue, monkeypatch: Any) -> None:
    monkeypatch.setattr(intake, "_AT_ONCE", 4)
    read: list[int] = []

    class Counting(Scripted):
        async def executions_of(self, refs: Sequence[OrderRef]) -> Listing[Seen]:
            read.append(len(refs))
            return await super().executions_of(refs)

    async with venue.client(kind=Counting) as broker:
        for n in range(1, 11):
            await broker.submit(buy())
            venue.fill(f"V{n}", "1", push=False)
        venue.push(*(Trigger((OrderRef(f"V{n}"),)) for n in range(1, 11)))
        await settle(400)
        assert len(venue.logged()) == 10
        assert max(read) <= 4


async def test_fills_decoded_before_the_stream_broke_are_logged(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        for _ in range(4):
            venue.fill("V1", "0.25")
        venue.crash(RuntimeError("framing"))
        await settle()
        assert len(venue.logged()) == 4
        record = broker._login.record(placed.idempotency_key)
        assert record is not None
        assert record.order.status is OrderStatus.FILLED


async def test_a_fill_that_a_reading_brings_before_its_frame_is_no_gap(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(reconcile_every=30) as broker:
        await broker.submit(buy())
        await clock.advance(29.5)
        venue.fill("V1", "0.5", push=False)
        await clock.advance(1)
        assert [fill.fill_id for fill in venue.logged()] == ["E1"]
        assert EventKind.GAP_OPEN not in {event.kind for event in venue.events}


async def test_an_order_that_the_venue_knows_no_longer_is_announced_once(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(reconcile_every=30) as broker:
        placed = await broker.submit(buy())
        hidden = venue.book.pop("V1")
        await clock.advance(31)
        await clock.advance(60)
        (told,) = [event for event in venue.events if event.kind is EventKind.GAP_OPEN]
        assert (told.order_id, told.detail) == (placed.order_id, {"closed": "never"})
        assert "V1 no longer" in told.message
        venue.book["V1"] = hidden
        assert (await broker.outcome(placed.idempotency_key)).status is OrderStatus.NEW


async def test_an_order_that_may_not_show_yet_is_not_taken_for_lost(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(PROFILE, visibility=60.0))
    async with venue.client(reconcile_every=30) as broker:
        await broker.submit(buy())
        venue.book.clear()
        await clock.advance(61)
        assert EventKind.GAP_OPEN not in {event.kind for event in venue.events}
        await clock.advance(30)
        assert EventKind.GAP_OPEN in {event.kind for event in venue.events}
