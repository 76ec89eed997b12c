"""Venues without executions, or without ids of them: fills are cut from counts, or named by what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from scripted import (
    PROFILE,
    Replaceable,
    Row,
    Scripted,
    Venue,
    buy,
    comes_late,
    listed,
    loses_reply,
    settle,
    take,
)

from mts1b_brokers_core.execution.port import Execution, Inconclusive, Listing, OrderRef, OrderView, Seen
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.errors import OutcomeUnknown
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import FillKind, Order, OrderChanges, OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock

CUMULATIVE = replace(PROFILE, fill_identity="cumulative")
CONTENT = replace(PROFILE, fill_identity="content", fill_source="poll", poll_every=5)


@pytest.fixture
def venue(clock: SteppedClock) -> Venue:
    return Venue(clock, CUMULATIVE)


async def stands(broker: Scripted, order: Order) -> Order:
    await settle()
    return await broker.outcome(order.idempotency_key)


def value(venue: Venue) -> Decimal:
    return sum((fill.quantity * fill.price for fill in venue.logged()), Decimal(0))


def ids(venue: Venue) -> list[str]:
    return [fill.fill_id for fill in venue.logged()]


async def test_fills_are_cut_from_counts_and_averages(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy("7"))
        for quantity, price in (("1", "100"), ("2", "99.5"), ("4", "98.37")):
            await clock.advance(1)
            venue.fill("V1", quantity, price)
            venue.push(venue.view("V1"))  # seen twice
            await settle()
        assert ids(venue) == ["V1:0-1", "V1:1-3", "V1:3-7"]
        assert all(fill.derived for fill in venue.logged())
        row = venue.book["V1"]
        assert abs(value(venue) - row.value) < Decimal("1e-6")
        assert [round(fill.price, 7) for fill in venue.logged()][:2] == [Decimal(100), Decimal("99.5")]
        after = await stands(broker, placed)
        assert (after.status, after.settled, after.filled_quantity) == (OrderStatus.FILLED, True, Decimal(7))


async def test_older_views_and_views_without_a_price_cut_nothing(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy("7"))
        venue.fill("V1", "1", push=False)
        older = venue.view("V1")
        await clock.advance(1)
        venue.fill("V1", "2", push=False)
        newer = venue.view("V1")
        venue.push(replace(newer, average_price=None))
        await settle()
        assert ids(venue) == []
        venue.push(newer, older)
        venue.push(older)
        venue.push(replace(older, updated=None))
        await settle()
        assert ids(venue) == ["V1:0-3"]
        assert (await stands(broker, placed)).filled_quantity == 3


async def test_a_count_that_falls_is_a_bust_and_may_rise_again(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy("2"))
        for _ in range(2):
            await clock.advance(1)
            seen = venue.fill("V1", "1", "99")
            await settle()
            await clock.advance(1)
            venue.bust(seen)
            venue.push(venue.view("V1"))
            await settle()
            assert (await stands(broker, placed)).filled_quantity == 0
            assert value(venue) == 0
        assert ids(venue) == ["V1:0-1", "V1:1-0", "V1:0-1#2", "V1:1-0#2"]
        assert [fill.kind for fill in venue.logged()] == [FillKind.TRADE, FillKind.BUST] * 2


async def test_a_count_from_before_a_bust_is_not_believed(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy("1"))
        for push in (True, False):  # seen before it was taken back, and only after
            await clock.advance(1)
            seen = venue.fill("V1", "1", push=push)
            older = venue.view("V1")
            await settle()
            await clock.advance(1)
            venue.bust(seen)
            newer = venue.view("V1")
            venue.push(newer, older)
            await settle()
            venue.push(older)
            after = await stands(broker, placed)
            assert (after.filled_quantity, value(venue)) == (Decimal(0), Decimal(0))
        assert ids(venue) == ["V1:0-1", "V1:1-0"]
        assert after.status is OrderStatus.FILLED


class Crossing(Scripted):
    """Only reads by id show anything; their replies are made at once, and arrive when the gate opens."""

    gate: asyncio.Event
    asked: asyncio.Event

    async def executions(self, *window: Any) -> Listing[Seen]:
        return listed([], "orders")

    async def read(self, refs: Sequence[OrderRef]) -> Listing[OrderView]:
        reply = await super().read(refs)
        self.asked.set()
        await self.gate.wait()
        return reply


async def test_a_reply_that_a_bust_overtook_is_not_believed(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(kind=Crossing, reconcile_every=60) as opened:
        broker = cast("Crossing", opened)
        broker.gate, broker.asked = asyncio.Event(), asyncio.Event()
        placed = await broker.submit(buy("2"))
        venue.fill("V1", "1")
        await settle()
        await clock.advance(1)
        seen = venue.fill("V1", "1", "99", push=False)
        await clock.advance(60)  # the comparing reads it by id
        await broker.asked.wait()
        venue.bust(seen)
        venue.push(venue.view("V1"))
        await settle()
        broker.gate.set()
        after = await stands(broker, placed)
        assert (ids(venue), after.filled_quantity) == (["V1:0-1"], Decimal(1))
        await clock.advance(61)
        assert (await stands(broker, placed)).filled_quantity == 1
        assert sum(fill.quantity for fill in venue.logged()) == 1


async def test_a_bust_at_the_very_time_that_was_told_last_is_found_by_asking(
    venue: Venue, clock: SteppedClock
) -> None:
    """Some venues date by the second; only an answer that was asked for since tells which came first."""
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy("2"))
        older = venue.view("V1")
        seen = venue.fill("V1", "1")
        venue.push(replace(older, updated=clock.now()))  # late, of the same second, and no bust
        await settle()
        assert (await stands(broker, placed)).filled_quantity == 1
        venue.bust(seen)
        venue.push(venue.view("V1"))
        await settle()
        assert (await stands(broker, placed)).filled_quantity == 1  # could as well be late
        await clock.advance(61)
        assert (await stands(broker, placed)).filled_quantity == 0
        assert ids(venue) == ["V1:0-1", "V1:1-0"]


async def test_somebody_elses_order_is_cut_too_and_its_count_may_fall(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.book["X9"] = Row("X9", None, buy("5"))
        seen = venue.fill("X9", "2", "50")
        await settle()
        await clock.advance(1)
        venue.fill("X9", "1", "53")
        await settle()
        await clock.advance(1)
        venue.bust(seen)
        venue.push(venue.view("X9"))
        await settle()
        assert ids(venue) == ["X9:0-2", "X9:2-3", "X9:3-1"]
        assert {fill.order_id for fill in venue.logged()} == {"X9"}
        assert sum(fill.quantity for fill in venue.logged()) == 1
        assert value(venue) == 53


async def test_an_order_that_may_be_ours_is_cut_once_it_is_known_or_old(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(park_max=90) as broker:
        venue.place_next.append(comes_late)
        venue.find_next.extend([Inconclusive("down")] * 99)
        with pytest.raises(OutcomeUnknown):
            await broker.submit(buy())
        venue.book["X9"] = Row("X9", None, buy("5"))
        venue.fill("X9", "1")
        await settle()
        assert ids(venue) == []
        await clock.advance(100)
        venue.push(venue.view("X9"))
        await settle()
        assert ids(venue) == ["X9:0-1"]


async def test_what_was_cut_as_foreign_is_not_cut_again_once_bound(venue: Venue) -> None:
    async with venue.client(park_max=0) as broker:
        venue.place_next.append(loses_reply())
        venue.find_next.extend([Inconclusive("down")] * 99)
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(buy("2"))
        assert caught.value.order is not None
        venue.fill("V1", "1", push=False)
        bare = venue.view("V1")
        venue.push(replace(bare, ref=replace(bare.ref, token=None)))
        await settle()
        assert [fill.order_id for fill in venue.logged()] == ["V1"]
        venue.fill("V1", "1")  # this view names our token
        after = await stands(broker, caught.value.order)
        assert ids(venue) == ["V1:0-1", "V1:1-2"]
        assert (after.filled_quantity, after.status) == (Decimal(2), OrderStatus.FILLED)


async def test_a_restart_cuts_from_where_the_journal_stands(clock: SteppedClock, file: Path) -> None:
    venue = Venue(clock, CUMULATIVE)
    async with venue.client(file) as broker:
        placed = await broker.submit(buy("3"))
        venue.fill("V1", "1", "100")
        await take(broker.stream_fills(), 1)
    await clock.advance(60)
    venue.fill("V1", "2", "97", push=False)
    async with venue.client(file) as broker:
        fills = await take(broker.stream_fills(since=0), 2)
        assert [(fill.fill_id, fill.price) for fill in fills] == [
            ("V1:0-1", Decimal(100)), ("V1:1-3", Decimal(97))
        ]  # fmt: skip
        assert (await broker.outcome(placed.idempotency_key)).settled


async def test_two_who_see_the_same_view_cut_it_once(clock: SteppedClock, file: Path) -> None:
    venue = Venue(clock, CUMULATIVE)
    async with venue.client(file) as one, venue.client(file) as two:
        await one.submit(buy("3"))
        venue.fill("V1", "1", push=False)
        view = venue.view("V1")
        await asyncio.gather(*(broker._login.ingest.observe([view, view]) for broker in (one, two, one, two)))
        rows = one._journal.read(lambda c: c.execute("SELECT fill_id FROM log WHERE fill_id > ''").fetchall())
        assert rows == [("V1:0-1",)]


async def test_each_id_of_a_chain_counts_and_pays_for_itself(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(CUMULATIVE, replace="new_id", fee_timing="order_level"))

    def fees(name: str, amount: str) -> None:
        venue.book[name].fees = (Money(amount=amount, currency="USD"),)

    async with venue.client(kind=Replaceable) as broker:
        assert isinstance(broker, Replaceable)
        placed = await broker.submit(buy("5"))
        venue.fill("V1", "2", push=False)
        fees("V1", "0.2")
        venue.push(venue.view("V1"))
        await settle()
        await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        new = venue.book["V2"]
        new.filled, new.value, new.fees, new.updated = Decimal(0), Decimal(0), None, None
        await clock.advance(1)
        venue.fill("V2", "1", "99", push=False)
        fees("V2", "0.1")
        venue.push(venue.view("V2"))
        await settle()
        fees("V2", "0.15")
        venue.book["V2"].updated = clock.now()
        venue.push(venue.view("V2"), venue.view("V1"))
        after = await stands(broker, placed)
        assert ids(venue) == ["V1:0-2", "V2:0-1"]
        assert (after.filled_quantity, after.fees) == (Decimal(3), (Money(amount="0.35", currency="USD"),))


# --- executions without ids ----------------------------------------------------------------------


async def test_equal_executions_of_one_listing_are_each_one_and_stay_so(clock: SteppedClock) -> None:
    venue = Venue(clock, CONTENT)
    async with venue.client() as broker:
        placed = await broker.submit(buy("4"))
        for _ in range(2):
            venue.fill("V1", "1", "100", push=False)
        venue.fill("V1", "1", "101", push=False)
        await clock.advance(6)
        assert len(venue.logged()) == 3
        assert len(set(ids(venue))) == 3
        await clock.advance(60)
        assert len(venue.logged()) == 3
        venue.fill("V1", "1", "100", push=False)  # alike, but of another moment
        await clock.advance(6)
        assert len(venue.logged()) == 4
        assert (await stands(broker, placed)).settled
        fills = await broker.lookups.fills_of(venue.fills)
        assert [fill.seq for fill in fills] == [1, 2, 3, 4]


async def test_equal_executions_pushed_in_frames_are_counted_by_a_listing(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(CONTENT, fill_source="push"))
    async with venue.client() as broker:
        await broker.submit(buy("9"))
        one = venue.fill("V1", "1")
        venue.push(one)  # the same again, not another one
        await settle()
        assert len(venue.logged()) == 1
        venue.fill("V1", "1")
        await settle()
        assert len(venue.logged()) == 2


async def test_part_of_a_window_names_them_the_same(clock: SteppedClock) -> None:
    venue = Venue(clock, CONTENT)
    async with venue.client() as broker:
        await broker.submit(buy("9"))
        rows = [venue.fill("V1", "1", str(price), push=False) for price in (100, 100, 101, 100, 102)]
        ingest = broker._login.ingest
        await ingest.observe(rows[3:])
        await ingest.observe(rows[1:4])
        await ingest.observe(rows)
        await ingest.observe(rows[::-1])
        assert len(venue.logged()) == 5
        assert value(venue) == sum(row.price for row in rows)


async def test_more_than_was_ordered_is_announced_once_and_held(clock: SteppedClock) -> None:
    venue = Venue(clock, CONTENT)
    async with venue.client() as broker:
        placed = await broker.submit(buy("2"))
        seen = [venue.fill("V1", "1", push=False) for _ in range(2)]
        # The venue shows one of them a second time, rounded otherwise.
        venue.fills.append(replace(seen[0], executed_at=seen[0].executed_at + timedelta(milliseconds=1)))
        for _ in range(4):
            await clock.advance(6)
        assert len(venue.logged()) == 2
        (told,) = [event for event in venue.events if event.kind is EventKind.SUM_EXCEEDED]
        assert "1 more would be above the 2 ordered" in told.message
        after = await stands(broker, placed)
        assert (after.filled_quantity, after.settled) == (Decimal(2), True)


async def test_short_ids_are_unique_by_their_order(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(PROFILE, fill_identity="composite"))
    async with venue.client() as broker:
        orders = [await broker.submit(buy()) for _ in range(2)]
        seen: list[Execution] = [venue.fill(name, "1", fill_id="7") for name in ("V1", "V2")]
        venue.push(*seen)
        await settle()
        assert ids(venue) == ["V1:7", "V2:7"]
        assert [(await stands(broker, order)).filled_quantity for order in orders] == [1, 1]
        logged: list[Any] = await broker.lookups.fills_of(seen)
        assert [fill.seq for fill in logged] == [1, 2]
