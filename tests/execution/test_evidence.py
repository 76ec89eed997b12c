"""What is no evidence: ends without a count, counts of odd dates, listings with holes, senseless items."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from scripted import PROFILE, Row, Scripted, Venue, buy, fails, settle

from mts1b_brokers_core.execution.intake import _read_until
from mts1b_brokers_core.execution.port import (
    Coverage,
    Inconclusive,
    Link,
    Listing,
    OrderRef,
    Seen,
    TokenRule,
    Unreadable,
)
from mts1b_brokers_core.foundation.errors import OutcomeUnknown, PermissionDenied
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import FillKind, Order, OrderStatus, Side
from mts1b_brokers_core.platform.clock import SteppedClock

CUMULATIVE = replace(PROFILE, fill_identity="cumulative")


async def stands(broker: Scripted, order: Order) -> Order:
    await settle()
    return await broker.outcome(order.idempotency_key)


@pytest.mark.parametrize("count", [None, Decimal(0), Decimal("0.4")])
async def test_filled_without_its_count_waits_for_the_fills(
    venue: Venue, clock: SteppedClock, count: Decimal | None
) -> None:
    async with venue.client(settle_wait=5, reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        venue.view = lambda row: replace(  # type: ignore[method-assign]
            Venue.view(venue, row), status=OrderStatus.FILLED, cumulative_quantity=count
        )
        venue.push(venue.view("V1"))
        after = await stands(broker, placed)
        assert (after.is_final, after.settled) == (False, False)
        await clock.advance(6)
        after = await stands(broker, placed)
        assert (after.status, after.fills_pending, after.settled) == (OrderStatus.FILLED, True, False)
        venue.fill("V1", "0.4")
        assert not (await stands(broker, placed)).settled
        venue.fill("V1", "0.6")
        after = await stands(broker, placed)
        assert (after.filled_quantity, after.fills_pending, after.settled) == (Decimal(1), False, True)


async def test_an_end_without_a_count_settles_once_its_executions_were_read(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(settle_wait=5, reconcile_every=600) as broker:
        placed = await broker.submit(buy())
        venue.view = lambda row: replace(  # type: ignore[method-assign]
            Venue.view(venue, row), status=OrderStatus.CANCELED, cumulative_quantity=None
        )
        venue.push(venue.view("V1"))
        after = await stands(broker, placed)
        assert (after.status, after.settled) == (OrderStatus.CANCELED, False)
        venue.fill("V1", "0.4", push=False)
        await clock.advance(6)
        after = await stands(broker, placed)
        assert (after.filled_quantity, after.settled) == (Decimal("0.4"), True)


async def test_a_higher_count_of_an_older_date_is_cut_once_it_was_read_by_id(clock: SteppedClock) -> None:
    venue = Venue(clock, CUMULATIVE)
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy("5"))
        venue.fill("V1", "1")
        await settle()
        venue.fill("V1", "4", push=False)
        venue.book["V1"].updated = clock.now() - timedelta(seconds=1)
        venue.push(venue.view("V1"))
        after = await stands(broker, placed)
        assert (after.filled_quantity, after.settled) == (Decimal(5), True)
        assert [fill.quantity for fill in venue.logged()] == [1, 4]


async def test_a_date_ahead_of_every_clock_makes_no_later_view_old(clock: SteppedClock) -> None:
    venue = Venue(clock, CUMULATIVE)
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy("5"))
        venue.push(replace(venue.view("V1"), updated=clock.now() + timedelta(days=365)))
        await clock.advance(1)
        venue.fill("V1", "2")
        seen = venue.fill("V1", "1")
        await settle()
        await clock.advance(1)
        venue.bust(seen)
        venue.push(venue.view("V1"))
        assert (await stands(broker, placed)).filled_quantity == 2


@pytest.mark.parametrize(
    "holes",
    [{"coverage": Coverage(("fills",), complete=False)}, {"unreadable": (Unreadable("row", "bad"),)}],
)
async def test_a_listing_with_holes_closes_no_gap_until_the_venue_lists_all(
    venue: Venue, clock: SteppedClock, holes: dict[str, Any]
) -> None:
    async with venue.client(reconcile_every=600) as broker:
        whole = broker.executions
        read_until = broker._journal.read(_read_until)

        async def part(*window: Any) -> Listing[Seen]:
            listing: Listing[Seen] = replace(await whole(*window), **holes)
            return listing

        broker.executions = part  # type: ignore[method-assign,assignment,unused-ignore]
        venue.push(Link(up=False, data_lost=True, words="cut"), Link(up=True, words="up"))
        await settle()
        await clock.advance(1)
        assert EventKind.GAP_OPEN in venue.kinds()
        assert EventKind.GAP_CLOSED not in venue.kinds()
        assert broker._journal.read(_read_until) == read_until
        broker.executions = whole  # type: ignore[method-assign,assignment,unused-ignore]
        await clock.advance(60)
        await settle()
        assert venue.kinds().count(EventKind.GAP_CLOSED) == 1


async def test_whatever_an_adapter_raises_in_a_reading_is_a_gap_and_read_again(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(reconcile_every=60) as broker:
        whole = broker.executions
        errors: list[BaseException | list[object]] = [
            KeyError("x"), asyncio.CancelledError(), [], PermissionDenied("403 by a front end")
        ]  # fmt: skip

        async def odd(*window: Any) -> Any:
            if not errors:
                return await whole(*window)
            if isinstance(error := errors.pop(0), BaseException):
                raise error
            return error

        broker.executions = odd  # type: ignore[method-assign,assignment,unused-ignore]
        await broker.submit(buy())
        await clock.advance(61)
        venue.fill("V1", "1", push=False)
        for _ in range(6):
            await clock.advance(20)
            await settle()
        assert errors == []
        assert len(venue.logged()) == 1
        assert EventKind.GAP_CLOSED in venue.kinds()


async def test_a_frame_that_cannot_be_decoded_is_a_gap_and_the_stream_goes_on(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with venue.client(reconcile_every=600) as broker:
        await broker.submit(buy())
        decode = broker.decode
        monkeypatch.setattr(broker, "decode", lambda frame: decode(frame[5]))
        venue.fill("V1", "0.4")
        await settle()
        monkeypatch.undo()
        venue.fill("V1", "0.6")
        await settle()
        assert [fill.quantity for fill in venue.logged()] == [Decimal("0.4"), Decimal("0.6")]
        assert {EventKind.UNREADABLE, EventKind.GAP_OPEN, EventKind.GAP_CLOSED} <= set(venue.kinds())


async def test_a_parked_fill_waits_no_longer_than_it_may(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(PROFILE, token=TokenRule("no")))
    async with venue.client(park_max=3, reconcile_every=600) as broker:
        venue.place_next.append(fails(ConnectionResetError()))
        venue.find_next.extend([Inconclusive("x")] * 99)
        with pytest.raises(OutcomeUnknown):
            await broker.submit(buy())
        venue.book["X1"] = Row("X1", None, buy())
        venue.fill("X1", "1")
        await settle()
        assert venue.logged() == []
        await clock.advance(4)
        await settle()
        assert len(venue.logged()) == 1


async def test_what_makes_no_sense_is_told_of_and_costs_only_itself(venue: Venue) -> None:
    async with venue.client(reconcile_every=600) as broker:
        placed = await broker.submit(buy())
        good = venue.fill("V1", "0.4", push=False)
        shown = replace(venue.view("V1"), status=OrderStatus.NEW, cumulative_quantity=Decimal(0))
        naive = datetime(2026, 7, 1)  # noqa: DTZ001
        change: Any = replace
        odd: list[Any] = [
            change(good, fill_id="a", quantity=Decimal(-1)),
            change(good, fill_id="b", quantity=Decimal(0)),
            change(good, fill_id="c", quantity=0.4),
            change(good, fill_id="d", price=Decimal("NaN")),
            change(good, fill_id="e", kind=FillKind.BUST),
            change(good, fill_id="f", symbol="ETH-USD"),
            change(good, fill_id="g", side=Side.SELL),
            change(good, fill_id="h", executed_at=naive),
            change(good, fill_id=None),
            change(shown, status="WEIRD"),
            change(shown, cumulative_quantity=0.4),
            change(shown, cumulative_quantity=Decimal("NaN")),
            change(shown, updated=naive),
            change(shown, cumulative_fees=(Decimal(1),)),
        ]
        venue.push(*odd, good)
        assert (await stands(broker, placed)).filled_quantity == Decimal("0.4")
        assert [fill.fill_id for fill in venue.logged()] == [good.fill_id]
        assert venue.kinds().count(EventKind.UNREADABLE) == len(odd)


async def test_more_than_was_ordered_is_logged_and_told_of_once(venue: Venue) -> None:
    async with venue.client(reconcile_every=600) as broker:
        placed = await broker.submit(buy())
        for _ in range(3):
            venue.fill("V1", "0.6")
            await settle()
        assert (await stands(broker, placed)).filled_quantity == Decimal("1.8")
        assert venue.kinds().count(EventKind.SUM_EXCEEDED) == 1


async def test_an_execution_that_comes_again_as_another_is_told_of_once(venue: Venue) -> None:
    async with venue.client(reconcile_every=600) as broker:
        placed = await broker.submit(buy())
        await broker.submit(buy())
        seen = venue.fill("V1", "0.4")
        venue.push(seen, replace(seen, ref=OrderRef("V2")), replace(seen, quantity=Decimal("0.5")))
        venue.push(replace(seen, quantity=Decimal("0.5")))
        assert (await stands(broker, placed)).filled_quantity == Decimal("0.4")
        assert venue.kinds().count(EventKind.UNREADABLE) == 2
