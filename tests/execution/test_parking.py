"""Executions of orders that nobody knows yet: kept until it is known whose they are, never doubled."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scripted import DEADLINE, Row, Scripted, Venue, buy, comes_late, eventually, settle, waits

from mts1b_brokers_core.execution import parking
from mts1b_brokers_core.execution.port import Inconclusive, OrderRef
from mts1b_brokers_core.foundation.errors import OutcomeUnknown
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Order, OrderStatus, Side
from mts1b_brokers_core.platform.clock import SteppedClock


def foreign(venue: Venue, order: Order | None = None) -> Row:
    """Book an order that somebody else placed."""
    row = Row(f"X{len(venue.book) + 1}", None, order or buy("10"))
    venue.book[row.id] = row
    return row


async def unknown(venue: Venue, broker: Scripted, order: Order | None = None, **more: Any) -> None:
    """Leave one order of ours without an answer."""
    venue.place_next.append(comes_late)
    venue.find_next.extend([Inconclusive("down")] * 50)
    with pytest.raises(OutcomeUnknown):
        await broker.submit(order or buy(**more))


async def test_a_fill_before_its_acknowledgement_is_kept_and_delivered_under_our_id(venue: Venue) -> None:
    gate = asyncio.Event()
    async with venue.client() as broker:
        venue.place_next.append(waits(gate))
        task = asyncio.create_task(broker.submit(buy()))
        await settle()
        row = Row("V1", "another token", buy())
        venue.book["V1"] = row
        seen = venue.fill(row, "0.4")
        venue.push(seen)
        await settle()
        assert venue.logged() == []
        del venue.book["V1"]
        gate.set()
        placed = await task
        await settle()
        (fill,) = venue.logged()
        assert (fill.order_id, fill.broker_order_id) == (placed.order_id, "V1")
        venue.push(seen, seen)
        await settle()
        assert len(venue.logged()) == 1
        assert (await broker.outcome(placed.idempotency_key)).filled_quantity == Decimal("0.4")


async def test_what_nothing_of_ours_could_be_is_delivered_at_once(venue: Venue) -> None:
    async with venue.client() as broker:
        await unknown(venue, broker)
        venue.fill(foreign(venue, Order.market("BTC-USD", Side.SELL, "1")), "1")
        await settle()
        assert [(fill.order_id, fill.side) for fill in venue.logged()] == [("X1", Side.SELL)]


async def test_what_could_be_ours_waits_so_long_and_is_then_somebody_elses(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(park_max=90, reconcile_every=60) as broker:
        await unknown(venue, broker)
        venue.fill(foreign(venue), "1")
        await settle()
        await clock.advance(61)
        assert venue.logged() == []
        await clock.advance(60)
        assert [fill.order_id for fill in venue.logged()] == ["X1"]


async def test_what_waits_is_let_go_once_the_question_is_answered(venue: Venue, clock: SteppedClock) -> None:
    venue.profile = DEADLINE
    async with venue.client(park_max=3600, reconcile_every=60) as broker:
        await unknown(venue, broker)
        venue.fill(foreign(venue), "1")
        await settle()
        venue.find_next.clear()  # from now on the venue tells that our order isn't there
        await clock.advance(61)
        assert [fill.order_id for fill in venue.logged()] == ["X1"]


async def test_what_waits_survives_a_restart(venue: Venue, file: Path, clock: SteppedClock) -> None:
    async with venue.client(file, park_max=3600) as broker:
        await unknown(venue, broker, order_id="k1")
        ticket = venue.placed[0]
        row = Row("V7", ticket.token, ticket.order)
        venue.book["V7"] = row
        venue.fill(row, "0.5")
        await eventually(lambda: bool(broker._journal.read(parking.parked)))
    venue.fills.clear()  # the venue tells of it no more
    assert venue.logged() == []
    venue.find_next.clear()
    async with venue.client(file, park_max=3600) as broker:
        await eventually(lambda: bool(venue.logged()))
        assert [fill.order_id for fill in venue.logged()] == ["k1"]
        assert (await broker.outcome("k1")).filled_quantity == Decimal("0.5")


async def test_what_was_delivered_as_foreign_counts_once_it_is_bound(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(park_max=0, reconcile_every=60) as broker:
        await unknown(venue, broker, order_id="k1")
        row = venue.land()
        seen = venue.fill(row, "0.25")
        await settle()
        await broker._login.ingest.unpark()
        assert [fill.order_id for fill in venue.logged()] == ["V1"]
        venue.find_next.clear()
        await clock.advance(61)
        after = await broker.outcome("k1")
        assert (after.filled_quantity, after.status) == (Decimal("0.25"), OrderStatus.PARTIALLY_FILLED)
        bound = [event for event in venue.events if event.kind is EventKind.BOUND]
        assert [(event.order_id, event.message, event.detail) for event in bound] == [
            ("k1", "V1", {"fills": "1"})
        ]
        venue.push(seen)
        venue.fill(row, "0.75")
        await settle()
        assert [fill.order_id for fill in venue.logged()] == ["V1", "k1"]
        after = await broker.outcome("k1")
        assert (after.filled_quantity, after.status, after.settled) == (Decimal(1), OrderStatus.FILLED, True)


async def test_a_bust_of_what_waits_lets_it_never_be_logged(venue: Venue) -> None:
    async with venue.client() as broker:
        await unknown(venue, broker)
        seen = venue.fill(foreign(venue), "1")
        await settle()
        venue.push(venue.bust(seen))
        await settle()
        await broker._login.ingest.unpark()
        venue.find_next.clear()
        venue.land()
        await settle()
        assert venue.logged() == []


async def test_a_child_filled_while_its_parent_is_in_doubt_is_kept(venue: Venue) -> None:
    async with venue.client() as broker:
        entry = Order.bracket("BTC-USD", Side.BUY, "1", price="100", take_profit="110", stop_loss="90")
        await unknown(venue, broker, entry)
        row = venue.land()
        venue.fill(row.children[0], "1", "110")
        await settle()
        assert venue.logged() == []


async def test_a_kept_fill_keeps_every_field(venue: Venue) -> None:
    async with venue.client(park_max=0) as broker:
        await unknown(venue, broker)
        seen = venue.fill(foreign(venue), "1", push=False)
        venue.push(replace(seen, evidence={"why": "x"}, leg=2, account_id="A1", ref=OrderRef("X1", "t")))
        await settle()
        await broker._login.ingest.unpark()
        (fill,) = venue.logged()
        assert (fill.evidence, fill.leg, fill.fees, fill.executed_at) == (
            {"why": "x"}, 2, seen.fees, seen.executed_at
        )  # fmt: skip
