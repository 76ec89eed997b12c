"""Where a venue takes no client ids: equal orders are told apart by never having two in doubt."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import PROFILE, Venue, bare_ack, buy, comes_late, fails, first, loses_reply, settle, waits

from mts1b_brokers_core.execution.port import Inconclusive, TokenRule
from mts1b_brokers_core.foundation.errors import OrderDenied, OrderNotPlaced, OutcomeUnknown
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.platform.clock import SteppedClock


@pytest.fixture
def venue(clock: SteppedClock) -> Venue:
    return Venue(clock, replace(PROFILE, token=TokenRule("none")))


async def test_an_equal_order_is_denied_while_its_twin_is_in_doubt_over_all_clients(
    venue: Venue, file: Path
) -> None:
    venue.place_next.append(loses_reply())
    venue.find_next.append(Inconclusive("busy"))
    order = buy()
    async with venue.client(file) as one, venue.client(file) as other:
        with pytest.raises(OutcomeUnknown):
            await one.submit(order)
        for broker in (one, other):
            with pytest.raises(OrderDenied, match=f"its twin, key '{order.idempotency_key}'") as caught:
                await broker.submit(buy())
            assert caught.value.reason == "twin_unresolved"
        assert (await other.submit(buy("2"))).broker_order_id == "V2"  # it differs
        assert (await other.submit(order)).broker_order_id == "V1"  # the same key asks
        assert (await one.submit(buy())).broker_order_id == "V3"  # no doubt is left


async def test_one_that_is_being_sent_is_in_doubt(venue: Venue) -> None:
    gate, sent = asyncio.Event(), asyncio.Event()
    venue.place_next.append(first(lambda ticket: sent.set(), waits(gate)))
    async with venue.client() as broker:
        sending = asyncio.create_task(broker.submit(buy()))
        await sent.wait()
        with pytest.raises(OrderDenied):
            await broker.submit(buy())
        gate.set()
        await sending
        assert len(venue.placed) == 1


async def test_what_is_bound_to_another_key_is_no_candidate(venue: Venue) -> None:
    venue.place_next.extend([bare_ack, fails(TimeoutError())])
    async with venue.client() as broker:
        await broker.submit(buy())
        with pytest.raises(OutcomeUnknown, match="missing"):  # V1 is shown, and is the first key's
            await broker.submit(buy())
        assert len(venue.placed) == 2


async def test_after_an_absence_the_late_order_and_a_new_twin_keep_their_keys(
    venue: Venue, clock: SteppedClock
) -> None:
    venue.place_next.append(comes_late)
    late = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(late)
        second = await broker.submit(buy())
        row = venue.land()
        await clock.advance(31)
        await settle()
        assert (await broker.outcome(late.idempotency_key)).broker_order_id == row.id
        assert (await broker.outcome(second.idempotency_key)).broker_order_id == second.broker_order_id


async def test_an_earlier_attempt_that_arrives_beside_the_later_is_a_duplicate(
    venue: Venue, clock: SteppedClock
) -> None:
    venue.place_next.append(comes_late)
    order = buy()
    async with venue.client(reconcile_every=60) as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        placed = await broker.submit(order, accept_duplicate_risk=True)
        manual = venue.book["V1"]
        venue.book["V9"] = replace(manual, id="V9", order=buy("2"))  # somebody else's
        await clock.advance(61)
        assert EventKind.DUPLICATE not in venue.kinds()
        late = venue.land()
        venue.fill(late, "1")
        await clock.advance(61)
        assert venue.kinds().count(EventKind.DUPLICATE) == 1
        (told,) = [event for event in venue.events if event.kind is EventKind.DUPLICATE]
        assert told.order_id == order.order_id
        assert (
            told.message == f"{late.id} beside {placed.broker_order_id}: an earlier attempt arrived as well"
        )
        (listed,) = await broker.unresolved()
        assert listed.broker_order_ids == (placed.broker_order_id, late.id)
        assert "an earlier attempt arrived as well" in str(listed.reason)
        await clock.advance(61)
        assert venue.kinds().count(EventKind.DUPLICATE) == 1


async def test_the_older_an_absence_the_more_rarely_it_is_looked_for(
    venue: Venue, clock: SteppedClock
) -> None:
    venue.place_next.append(comes_late)
    async with venue.client(reconcile_every=10) as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(buy())
        looks = []
        for _ in range(4):
            seen = len(venue.found)
            for _ in range(20):
                await clock.advance(10)
            looks.append(len(venue.found) - seen)
        assert looks[0] > looks[1] > looks[3] > 1
        venue.land()
        for _ in range(13):
            await clock.advance(10)
        assert EventKind.LATE in venue.kinds()


async def test_with_tokens_equal_orders_may_be_in_doubt_together(clock: SteppedClock) -> None:
    venue = Venue(clock)
    venue.place_next.extend([loses_reply(), loses_reply()])
    venue.find_next.extend([Inconclusive("busy")] * 2)
    async with venue.client() as broker:
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await broker.submit(buy())
        await clock.advance(1)
        assert await broker.unresolved() == []
        assert len(venue.book) == 2
