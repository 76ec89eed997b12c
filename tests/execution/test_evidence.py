"""What is no evidence: ends without a count, counts of odd dates, listings with holes, senseless items."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from scripted import PROFILE, Scripted, Venue, buy, settle

from mts1b_brokers_core.foundation.orders import Order, OrderStatus
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
