"""A person's word on an open question: what it settles, and what it can't."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest
from scripted import PROFILE, REJECTED, Venue, answers, buy, fails, first, loses_reply, settle, waits

from mts1b_brokers_core.execution.journal import State
from mts1b_brokers_core.execution.port import Inconclusive, TokenRule
from mts1b_brokers_core.foundation.errors import (
    OrderError,
    OrderNotFound,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
)
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Order, OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock


async def twice(venue: Venue, ticket: Any) -> Any:
    """Book the order twice and lose the reply."""
    venue.accept(ticket)
    venue.accept(ticket)
    raise TimeoutError


def venue_for(state: State, clock: SteppedClock) -> Venue:
    """Return a venue at which the next order ends in that state."""
    nameless = replace(PROFILE, token=TokenRule("none"))
    venue = Venue(clock, nameless if state is State.AMBIGUOUS else PROFILE)
    venue.place_next.append(loses_reply() if state is State.UNKNOWN else twice)
    if state is State.UNKNOWN:
        venue.find_next.extend([Inconclusive("busy")] * 30)
    return venue


async def in_doubt(broker: Any, state: State) -> Order:
    order = buy()
    with pytest.raises(OutcomeUnknown):
        await broker.submit(order)
    assert where(broker, order) is state
    return order


def where(broker: Any, order: Order) -> State:
    """Return where the order's key stands."""
    found: State = broker._login.record(order.idempotency_key).state
    return found


def told(venue: Venue) -> list[str]:
    return [event.message for event in venue.events if event.kind is EventKind.RESOLVED]


OPEN = pytest.mark.parametrize("state", [State.UNKNOWN, State.AMBIGUOUS, State.DUPLICATE])


@OPEN
async def test_it_is_that_order(clock: SteppedClock, state: State) -> None:
    venue = venue_for(state, clock)
    async with venue.client() as broker:
        order = await in_doubt(broker, state)
        named = list(venue.book)[-1]
        venue.fill(named, "0.25", push=False)
        left = await broker.resolve(order.idempotency_key, named)
        assert (left.broker_order_id, left.status) == (named, OrderStatus.PARTIALLY_FILLED)
        assert told(venue) == [named]
        assert await broker.unresolved() == []
        assert (await broker.submit(order)).broker_order_id == named
        assert await broker.cancel(order.order_id)
        assert [ref.broker_order_id for ref in venue.canceled] == [named]
        assert len(venue.placed) == 1
        if state is State.DUPLICATE:  # the other one is filled in our name as well
            venue.fill("V1", "1")
            await settle()
            assert (await broker.outcome(order.idempotency_key)).filled_quantity > 1


async def test_what_was_seen_at_the_venue_is_not_absent_by_a_persons_word(clock: SteppedClock) -> None:
    venue = venue_for(State.DUPLICATE, clock)
    async with venue.client() as broker:
        order = await in_doubt(broker, State.DUPLICATE)
        with pytest.raises(OrderError, match="was seen at the venue as V1, V2") as caught:
            await broker.resolve(order.idempotency_key)
        assert "name one of these" in str(caught.value.next_step)
        assert where(broker, order) is State.DUPLICATE
        assert (await broker.unresolved())[0].broker_order_ids == ("V1", "V2")


@pytest.mark.parametrize("state", [State.UNKNOWN, State.AMBIGUOUS])
async def test_it_is_not_there(clock: SteppedClock, state: State) -> None:
    venue = venue_for(state, clock)
    async with venue.client() as broker:
        order = await in_doubt(broker, state)
        left = await broker.resolve(order.idempotency_key)
        assert (left.status, left.broker_order_ids) == (None, ())
        assert told(venue) == ["not at the venue"]
        with pytest.raises(OrderNotPlaced) as caught:
            await broker.submit(order)
        assert caught.value.certainty == "probable"  # a person is no proof
        venue.place_next.clear()
        await broker.submit(order, accept_duplicate_risk=True)
        assert len(venue.placed) == 2


@OPEN
async def test_what_a_person_says_must_fit(clock: SteppedClock, state: State) -> None:
    venue = venue_for(state, clock)
    async with venue.client() as broker:
        order = await in_doubt(broker, state)
        placed = await broker.submit(buy("2"))
        other = venue.accept(replace(venue.placed[-1], token="manual"))
        for name, error, words in [
            ("V99", OrderNotFound, "the venue knows no order V99"),
            (other.id, OrderError, "another order: quantity 2 instead of 1"),
        ]:
            with pytest.raises(error, match=words):
                await broker.resolve(order.idempotency_key, name)
        if state is not State.AMBIGUOUS:
            twin = await broker.submit(buy())
            with pytest.raises(OrderError, match=f"the order of the key '{twin.idempotency_key}'"):
                await broker.resolve(order.idempotency_key, twin.broker_order_id)
        assert where(broker, order) is state
        assert told(venue) == []
        assert placed.broker_order_id


async def test_a_key_nobody_used(venue: Venue) -> None:
    async with venue.client() as broker:
        with pytest.raises(OrderNotFound, match="never used"):
            await broker.resolve("nope")


@pytest.mark.parametrize(
    ("script", "state"),
    [(None, "confirmed"), (REJECTED, "rejected"), (ConnectionRefusedError(), "not_placed")],
)
async def test_what_is_answered_is_no_open_question(venue: Venue, script: Any, state: str) -> None:
    if script is not None:
        venue.place_next.append(fails(script) if isinstance(script, Exception) else answers(script))
    order = buy()
    async with venue.client() as broker:
        with contextlib.suppress(OrderRejected, OrderNotPlaced):
            await broker.submit(order)
        with pytest.raises(OrderError, match=f"no open question: it is {state}"):
            await broker.resolve(order.idempotency_key)
        assert where(broker, order) == state


async def test_what_is_being_sent_is_no_open_question_yet(venue: Venue) -> None:
    gate, sent = asyncio.Event(), asyncio.Event()
    venue.place_next.append(first(lambda ticket: sent.set(), waits(gate)))
    order = buy()
    async with venue.client() as broker:
        submitting = asyncio.create_task(broker.submit(order))
        await sent.wait()
        with pytest.raises(OrderError, match="is being sent"):
            await broker.resolve(order.idempotency_key)
        gate.set()
        assert (await submitting).broker_order_id == "V1"


async def test_an_order_that_has_filled_is_there(clock: SteppedClock) -> None:
    venue = venue_for(State.DUPLICATE, clock)
    async with venue.client() as broker:
        order = await in_doubt(broker, State.DUPLICATE)
        venue.fill("V1", "0.5")
        await settle()
        with pytest.raises(OrderError, match="has filled"):
            await broker.resolve(order.idempotency_key)


async def test_naming_a_refused_order_is_a_rejection(clock: SteppedClock) -> None:
    venue = venue_for(State.UNKNOWN, clock)
    async with venue.client() as broker:
        order = await in_doubt(broker, State.UNKNOWN)
        venue.end("V1", OrderStatus.REJECTED)
        await broker.resolve(order.idempotency_key, "V1")
        with pytest.raises(OrderRejected):
            await broker.submit(order)


async def test_a_cancel_that_was_wanted_is_sent_for_the_order_named(clock: SteppedClock) -> None:
    venue = venue_for(State.DUPLICATE, clock)
    async with venue.client() as broker:
        order = await in_doubt(broker, State.DUPLICATE)
        with pytest.raises(OutcomeUnknown):
            await broker.cancel(order.order_id)
        assert venue.canceled == []
        await broker.resolve(order.idempotency_key, "V2")
        await settle()
        assert [ref.broker_order_id for ref in venue.canceled] == ["V2"]
