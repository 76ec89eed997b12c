"""Executions: recorded once, numbered without gaps, delivered to every reader from where it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, Venue, buy, settle, take

from mts1b_brokers_core.execution.port import (
    FeeAmendment,
    Link,
    OrderRef,
    Trigger,
    Unreadable,
)
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.errors import AuthenticationError, BrokerFailed, InvalidInput
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import FeeStatus, FillKind, OrderStatus
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.platform.clock import SteppedClock


def logged(venue: Venue) -> list[Any]:
    return [event.fill for event in venue.events if event.fill is not None]


async def test_fills_are_numbered_densely_in_the_order_learned(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        for _ in range(4):
            venue.fill("V1", "0.25")
        fills = await take(broker.stream_fills(), 4)
        assert [fill.seq for fill in fills] == [1, 2, 3, 4]
        assert {fill.order_id for fill in fills} == {placed.order_id}
        assert {(fill.broker, fill.account_id, fill.broker_order_id) for fill in fills} == {
            ("scripted", "A1", "V1")
        }
        assert sum(fill.quantity for fill in fills) == 1
        assert fills[0].recorded_at == venue.opened


async def test_duplicate_reordered_and_replayed_frames_are_recorded_once(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        one, two = (venue.fill("V1", "0.5", push=False) for _ in range(2))
        venue.push(two, two)
        venue.push(one)
        venue.push(one, two)
        await settle()
        assert [fill.fill_id for fill in logged(venue)] == ["E2", "E1"]


async def test_a_restart_replays_nothing_and_misses_nothing(venue: Venue, file: Path) -> None:
    async with venue.client(file) as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "0.25")
        await take(broker.stream_fills(consumer="check"), 1)
    venue.fill("V1", "0.25", push=False)  # while nobody listens
    async with venue.client(file) as broker:
        venue.push(*venue.fills)
        venue.fill("V1", "0.25")
        fills = await take(broker.stream_fills(), 3)
        assert [(fill.seq, fill.fill_id) for fill in fills] == [(1, "E1"), (2, "E2"), (3, "E3")]
        assert (await broker.outcome(placed.idempotency_key)).filled_quantity == Decimal("0.75")


async def test_one_frame_is_one_commit(venue: Venue, file: Path) -> None:
    async with venue.client(file) as broker:
        await broker.submit(buy())
        seen = [venue.fill("V1", "0.25", push=False) for _ in range(3)]
        runs = 0
        run = broker._journal.store.run

        async def counting(work: Any, then: Any = None) -> Any:
            nonlocal runs
            runs += 1
            return await run(work, then)

        broker._journal.store.run = counting  # type: ignore[method-assign]
        venue.push(*seen)
        await take(broker.stream_fills(), 3)
        assert runs == 1


async def test_consumers_are_independent(venue: Venue, file: Path) -> None:
    async with venue.client(file) as broker:
        await broker.submit(buy())
        for _ in range(4):
            venue.fill("V1", "0.25")
        assert [fill.seq for fill in await take(broker.stream_fills(consumer="a"), 3)] == [1, 2, 3]
        assert [fill.seq for fill in await take(broker.stream_fills(consumer="b"), 1)] == [1]
    async with venue.client(file) as broker:
        # The last of each was not acknowledged: nobody asked for the one after it.
        assert [fill.seq for fill in await take(broker.stream_fills(consumer="a"), 2)] == [3, 4]
        assert [fill.seq for fill in await take(broker.stream_fills(consumer="b"), 1)] == [1]
        assert [fill.seq for fill in await take(broker.stream_fills(consumer="c"), 1)] == [1]


async def test_within_one_life_a_stream_taken_up_again_goes_on(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        for _ in range(4):
            venue.fill("V1", "0.25")
        assert [fill.seq for fill in await take(broker.stream_fills(), 2)] == [1, 2]
        assert [fill.seq for fill in await take(broker.stream_fills(), 2)] == [2, 3]


async def test_two_readers_of_one_name_never_take_the_cursor_back(venue: Venue, file: Path) -> None:
    async with venue.client(file) as broker:
        await broker.submit(buy())
        for _ in range(4):
            venue.fill("V1", "0.25")
        slow = broker.stream_fills()
        assert (await anext(slow)).seq == 1
        assert len(await take(broker.stream_fills(), 4)) == 4
        assert (await anext(slow)).seq == 2
        await slow.aclose()  # type: ignore[attr-defined]
    async with venue.client(file) as broker:
        assert [fill.seq for fill in await take(broker.stream_fills(), 1)] == [4]


async def test_since_is_exactly_once(venue: Venue, file: Path) -> None:
    async with venue.client(file) as broker:
        await broker.submit(buy())
        for _ in range(4):
            venue.fill("V1", "0.25")
        await take(broker.stream_fills(), 4)
    async with venue.client(file) as broker:
        assert [fill.seq for fill in await take(broker.stream_fills(since=0), 4)] == [1, 2, 3, 4]
        assert [fill.seq for fill in await take(broker.stream_fills(since=2), 2)] == [3, 4]
        # Reading by number acknowledges nothing.
        assert [fill.seq for fill in await take(broker.stream_fills(), 1)] == [4]


async def test_a_number_from_another_journal_is_refused(venue: Venue) -> None:
    async with venue.client() as broker:
        with pytest.raises(InvalidInput, match="since=5 is beyond the last execution logged here, 0"):
            await anext(broker.stream_fills(since=5))


async def test_a_slow_reader_costs_no_memory_and_misses_nothing(venue: Venue, monkeypatch: Any) -> None:
    from mts1b_brokers_core.execution import eventlog

    monkeypatch.setattr(eventlog, "_RECENT", 8)
    monkeypatch.setattr(eventlog, "_BATCH", 5)
    async with venue.client() as broker:
        await broker.submit(buy("100"))
        slow = broker.stream_fills()
        venue.fill("V1", "1")
        assert (await anext(slow)).seq == 1
        for _ in range(60):
            venue.fill("V1", "1")
        await settle(200)
        assert len(broker._event_log._recent) <= 16
        assert [fill.seq for fill in await take(slow, 60)] == list(range(2, 62))


async def test_events_share_the_numbers_of_fills(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.fill("V1", "0.5")
        venue.fill("V1", "0.5")
        events = await take(broker.stream_events(), 5)
        assert [(event.kind, event.seq) for event in events] == [
            (EventKind.STATUS, 0),
            (EventKind.FILL, 1),
            (EventKind.STATUS, 1),
            (EventKind.FILL, 2),
            (EventKind.STATUS, 2),
        ]
        assert [event.offset for event in events] == [1, 2, 3, 4, 5]
        assert [event.seq for event in await take(broker.stream_events(since=1), 3)] == [1, 2, 2]


async def test_a_reader_that_waits_is_woken(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        reading = asyncio.create_task(take(broker.stream_fills(), 2))
        await settle()
        venue.fill("V1", "0.5")
        await settle()
        assert not reading.done()
        venue.fill("V1", "0.5")
        assert [fill.seq for fill in await reading] == [1, 2]


async def test_streams_end_when_the_broker_closes(venue: Venue, file: Path) -> None:
    broker = venue.client(file)
    async with broker:
        await broker.submit(buy())
        venue.fill("V1", "0.5")
        rows: list[Any] = []

        async def read() -> None:
            async for fill in broker.stream_fills():
                rows.append(fill)

        reading = asyncio.create_task(read())
        await take(broker.stream_fills(consumer="check"), 1)
        stalled = broker.stream_fills(consumer="stalled")
        await anext(stalled)
    await reading
    assert [row.seq for row in rows] == [1]
    with pytest.raises(StopAsyncIteration):
        await anext(stalled)


async def test_streams_and_calls_raise_when_the_venues_stream_crashes(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.fill("V1", "0.5")
        venue.crash(RuntimeError("framing"))
        reading = broker.stream_fills()
        assert (await anext(reading)).seq == 1  # what is logged is delivered first
        with pytest.raises(BrokerFailed, match="framing") as caught:
            await anext(reading)
        assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(BrokerFailed):
            await broker.submit(buy())
        with pytest.raises(BrokerFailed):
            await broker.wait_for("x")
        assert EventKind.FAILED in [event.kind for event in venue.events]
        assert "failed" in repr(broker)


async def test_a_stream_of_frames_that_ends_is_a_failure(venue: Venue) -> None:
    async with venue.client() as broker:
        venue.frames.put_nowait(None)
        with pytest.raises(BrokerFailed, match="stream ended"):
            await anext(broker.stream_fills())


# --- the end of an order comes after its fills ---------------------------------------------------


async def test_an_end_shown_before_the_last_fill_waits_for_it(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        last = venue.fill("V1", "1", push=False)
        venue.hidden.add(last.fill_id)
        venue.push(venue.view("V1"))
        await settle()
        assert EventKind.SETTLED not in [event.kind for event in venue.events]
        venue.push(last)
        await settle()
        kinds = [event.kind for event in venue.events]
        assert kinds.index(EventKind.FILL) < kinds.index(EventKind.SETTLED)
        ends = [
            event.order.status for event in venue.events if event.kind is EventKind.STATUS and event.order
        ]
        assert ends[-1] is OrderStatus.FILLED
        assert OrderStatus.FILLED not in ends[:-1]


async def test_the_venues_word_for_a_status_is_never_that_of_another(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())

        async def stands() -> tuple[OrderStatus | None, str | None]:
            await settle()
            order = await broker.outcome(placed.idempotency_key)
            return order.status, order.raw_status

        assert await stands() == (OrderStatus.NEW, "NEW")
        venue.fill("V1", "0.4")
        assert await stands() == (OrderStatus.PARTIALLY_FILLED, None)
        venue.push(venue.view("V1"))
        assert await stands() == (OrderStatus.PARTIALLY_FILLED, "PARTIALLY_FILLED")
        last = venue.fill("V1", "0.6", push=False)
        venue.push(venue.view("V1"))
        assert await stands() == (OrderStatus.PARTIALLY_FILLED, "PARTIALLY_FILLED")
        venue.push(last)
        assert await stands() == (OrderStatus.FILLED, "FILLED")


async def test_an_end_and_its_last_fill_in_one_frame(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        last = venue.fill("V1", "0.4", push=False)
        venue.push(venue.end("V1"), last)
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.settled) == (OrderStatus.CANCELED, True)
        kinds = [event.kind for event in venue.events]
        assert kinds.index(EventKind.FILL) < kinds.index(EventKind.SETTLED)


async def test_an_end_waits_no_longer_than_the_settle_wait(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(settle_wait=5.0) as broker:
        placed = await broker.submit(buy())
        last = venue.fill("V1", "1", push=False)
        venue.hidden.add(last.fill_id)
        venue.push(venue.view("V1"))
        await settle()
        for _ in range(4):  # seeing it again doesn't begin the wait anew
            await clock.advance(1)
            venue.push(venue.view("V1"))
            await settle()
        assert not (await broker.outcome(placed.idempotency_key)).is_final
        await clock.advance(1.5)
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.fills_pending, after.settled) == (OrderStatus.FILLED, True, False)
        venue.push(last)
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.fills_pending, after.settled) == (False, True)


async def test_the_missing_fills_are_fetched_before_the_wait_ends(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        venue.push(venue.view("V1"))
        await settle()
        await clock.advance(5)
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.fills_pending, after.settled) == (OrderStatus.FILLED, False, True)


async def test_an_end_seen_by_a_read_waits_and_is_let_go_too(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.hidden.add(venue.fill("V1", "1", push=False).fill_id)
        assert await broker.cancel(placed.order_id) is False  # reads the order
        await clock.advance(5)
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.fills_pending) == (OrderStatus.FILLED, True)


async def test_an_order_that_ended_without_fills_is_settled(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.push(venue.end("V1", OrderStatus.EXPIRED))
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.settled) == (OrderStatus.EXPIRED, True)


# --- corrections, fees, gaps ---------------------------------------------------------------------


async def test_a_bust_unsettles_and_the_sum_stays_right(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        seen = venue.fill("V1", "1")
        await settle()
        assert (await broker.outcome(placed.idempotency_key)).settled
        venue.read_next.append(TimeoutError())  # the venue can't be asked at once
        venue.push(venue.bust(seen))
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.filled_quantity, after.settled) == (OrderStatus.FILLED, 0, False)
        fills = logged(venue)
        assert [fill.kind for fill in fills] == [FillKind.TRADE, FillKind.BUST]
        assert [fill.seq for fill in fills] == [1, 2]
        assert fills[1].corrects == fills[0].fill_id
        assert sum(fill.quantity for fill in fills) == 0
        assert EventKind.BUST in [event.kind for event in venue.events]
        venue.push(venue.view("V1"))  # the venue counts the same: settled again
        await settle()
        assert (await broker.outcome(placed.idempotency_key)).settled


async def test_a_correction_is_a_bust_and_a_trade_in_one_commit(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        seen = venue.fill("V1", "1", "100")
        await settle()
        venue.push(venue.bust(seen), venue.fill("V1", "1", "99", push=False))
        await settle()
        fills = logged(venue)
        assert [(fill.seq, fill.quantity) for fill in fills] == [(1, 1), (2, -1), (3, 1)]
        after = await broker.outcome(placed.idempotency_key)
        assert (after.filled_quantity, after.average_price, after.settled) == (1, 99, True)


async def test_a_fee_that_comes_later_is_an_event_and_holds_nothing_back(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        seen = venue.fill("V1", "1", push=False)
        venue.push(replace(seen, fees=None))
        await settle()
        assert logged(venue)[0].fees is None
        venue.push(FeeAmendment("E1", (Money(amount="0.2", currency="USD"),), FeeStatus.FINAL))
        await settle()
        amended = [event for event in venue.events if event.kind is EventKind.FEE_AMENDED]
        assert [(event.message, event.detail["fill_id"]) for event in amended] == [("0.2 USD", "E1")]
        assert len(await take(broker.stream_events(), 1)) == 1


async def test_a_gap_is_announced_and_closed_by_reading_again(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.push(Link(up=False, words="reset"))
        venue.fill("V1", "0.5", push=False)
        venue.push(Link(up=True))
        await settle()
        kinds = [event.kind for event in venue.events]
        order = [kinds.index(kind) for kind in (
            EventKind.LINK_DOWN, EventKind.GAP_OPEN, EventKind.LINK_UP, EventKind.FILL, EventKind.GAP_CLOSED
        )]  # fmt: skip
        assert order == sorted(order)
        assert kinds.count(EventKind.GAP_OPEN) == kinds.count(EventKind.GAP_CLOSED) == 1


async def test_a_gap_stays_open_while_the_venue_cannot_be_read(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.fill("V1", "0.5", push=False)
        venue.read_next.extend([TimeoutError(), ConnectionResetError()])
        venue.push(Link(up=True, data_lost=True))
        await settle()
        assert logged(venue) == []
        assert EventKind.GAP_CLOSED not in [event.kind for event in venue.events]
        await clock.advance(2)
        assert [fill.fill_id for fill in logged(venue)] == ["E1"]
        assert EventKind.GAP_CLOSED in [event.kind for event in venue.events]


async def test_a_login_that_stays_refused_while_reading_again_ends_the_broker(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client() as broker:
        venue.read_next.extend([AuthenticationError("expired")] * 3)
        venue.push(Link(up=True, data_lost=True))
        await clock.advance(1)
        with pytest.raises(BrokerFailed, match="expired"):
            await anext(broker.stream_fills())


async def test_a_login_refused_once_is_tried_again(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        venue.read_next.extend([AuthenticationError("expired")] * 2)
        venue.push(Link(up=True, data_lost=True))
        await clock.advance(1)
        assert [fill.fill_id for fill in logged(venue)] == ["E1"]
        assert [kind for kind in venue.kinds() if kind in (EventKind.GAP_OPEN, EventKind.GAP_CLOSED)] == [
            EventKind.GAP_OPEN,
            EventKind.GAP_CLOSED,
        ]


async def test_a_trigger_is_followed_by_a_reading(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        venue.read_next.append(TimeoutError())
        venue.push(Trigger((OrderRef("V1"),)))
        await settle()
        await clock.advance(1)
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.settled) == (OrderStatus.FILLED, True)


async def test_what_is_lacking_is_fetched_for_working_orders_too(venue: Venue, file: Path) -> None:
    async with venue.client(file) as broker:
        placed = await broker.submit(buy())
        seen = venue.fill("V1", "0.5", push=False)
    # Too old for the window that is read again: only the order's own count tells of it.
    venue.fills[0] = replace(seen, executed_at=venue.opened.replace(year=2020))
    async with venue.client(file) as broker:
        assert [fill.fill_id for fill in await take(broker.stream_fills(), 1)] == ["E1"]
        assert (await broker.outcome(placed.idempotency_key)).filled_quantity == Decimal("0.5")


async def test_an_unreadable_frame_is_reported_beside_the_others(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.push(Unreadable("{", "no JSON"), venue.fill("V1", "0.5", push=False))
        await settle()
        assert len(logged(venue)) == 1
        reported = [event for event in venue.events if event.kind is EventKind.UNREADABLE]
        assert [(event.message, event.detail) for event in reported] == [("no JSON", {"words": "{"})]


async def test_an_execution_of_somebody_elses_order_is_logged_under_the_venues_id(venue: Venue) -> None:
    async with venue.client() as other:
        await other.submit(buy())
    async with venue.client() as broker:
        venue.fill("V1", "0.5")
        (fill,) = await take(broker.stream_fills(), 1)
        assert (fill.order_id, fill.broker_order_id) == ("V1", "V1")


async def test_events_are_made_for_nobody_where_nobody_listens(venue: Venue) -> None:
    listening = False
    services = Services(
        "scripted", "simulator", venue.clock, None, venue.events.append, listened=lambda: listening
    )
    async with Scripted(venue, BrokerSettings(), services) as broker:
        await broker.submit(buy())
        assert venue.events == []
        listening = True
        await broker.submit(buy())
        assert {EventKind.REQUEST_SENT, EventKind.OUTCOME, EventKind.STATUS} <= {e.kind for e in venue.events}
