"""Executions taken back and corrected: summing the stream is always right."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from scripted import PROFILE, Scripted, Venue, buy, settle, take

from mts1b_brokers_core.execution.port import Execution, FeeAmendment, OrderRef
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import FeeStatus, FillKind, Order, OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock


def dollars(amount: str) -> tuple[Money, ...]:
    return (Money(amount=amount, currency="USD"),)


def corrected(seen: Execution, fill_id: str, price: str) -> Execution:
    """Return the trade that replaces one at another price."""
    return replace(seen, fill_id=fill_id, price=Decimal(price), corrects=seen.fill_id)


async def stands(broker: Scripted, order: Order) -> Order:
    await settle()
    return await broker.outcome(order.idempotency_key)


def sums(venue: Venue) -> tuple[Decimal, Decimal]:
    fills = venue.logged()
    return (
        sum((fill.quantity for fill in fills), Decimal(0)),
        sum((fill.quantity * fill.price for fill in fills), Decimal(0)),
    )


async def test_a_bust_takes_its_fees_back_and_settles_once_the_venue_was_asked(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        one, two = venue.fill("V1", "0.4", "101"), venue.fill("V1", "0.6")
        assert (await stands(broker, placed)).settled
        venue.read_next.extend([TimeoutError()] * 3)  # it can't be asked at first
        venue.push(venue.bust(one))
        after = await stands(broker, placed)
        assert after.average_price == 100
        assert (after.filled_quantity, after.fees) == (Decimal("0.6"), dollars("0.1"))
        assert (after.status, after.settled) == (OrderStatus.FILLED, False)
        assert sums(venue) == (Decimal("0.6"), Decimal(60))
        # A fee that becomes known, or the venue's older count, is no answer to the question.
        venue.push(FeeAmendment(str(two.fill_id), dollars("0.3"), FeeStatus.FINAL))
        assert not (await stands(broker, placed)).settled
        venue.push(replace(venue.view("V1"), cumulative_quantity=Decimal(1), raw_status="OLDER"))
        assert not (await stands(broker, placed)).settled
        await clock.advance(8)
        after = await stands(broker, placed)
        assert (after.filled_quantity, after.settled) == (Decimal("0.6"), True)
        assert venue.kinds().count(EventKind.SETTLED) == 2


async def test_a_bust_before_its_trade_leaves_neither(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        seen = venue.fill("V1", "1", push=False)
        venue.push(venue.view("V1"))  # the venue counts it before it is told of
        await settle()
        back = venue.bust(seen)
        venue.push(back, seen, back)
        venue.push(seen)
        after = await stands(broker, placed)
        assert venue.logged() == []
        assert after.filled_quantity == 0
        venue.end("V1")
        await clock.advance(66)
        after = await stands(broker, placed)
        assert not after.filled_quantity
        assert (after.settled, after.fills_pending) == (True, False)


@pytest.mark.parametrize("first", ["original", "correction"])
async def test_a_correction_is_a_bust_and_a_trade_side_by_side(venue: Venue, first: str) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy("2"))
        seen = venue.fill("V1", "1", "100", push=False)
        right = corrected(seen, "E1.02", "99")
        both = [seen, right] if first == "original" else [right, seen]
        for item in (*both, *both):
            venue.push(item)
            await settle()
        fills = venue.logged()
        assert [(fill.kind, fill.fill_id, fill.corrects) for fill in fills] == (
            [
                (FillKind.TRADE, "E1", None),
                (FillKind.BUST, "E1:bust", "E1"),
                (FillKind.TRADE, "E1.02", "E1"),
            ]
            if first == "original"
            else [(FillKind.TRADE, "E1.02", "E1")]
        )
        assert sums(venue) == (Decimal(1), Decimal(99))
        after = await stands(broker, placed)
        assert (after.average_price, after.fees) == (Decimal(99), dollars("0.1"))


async def test_a_correction_of_a_correction_in_any_order(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy("2"))
        one = venue.fill("V1", "1", "100", push=False)
        two = corrected(one, "E1.02", "99")
        three = corrected(two, "E1.03", "98")
        for item in (three, one, two, three, two, one):
            venue.push(item)
            await settle()
        assert sums(venue) == (Decimal(1), Decimal(98))
        assert (await stands(broker, placed)).average_price == 98


async def test_a_correction_is_one_commit(venue: Venue, file: Any) -> None:
    async with venue.client(file) as broker:
        await broker.submit(buy("2"))
        seen = venue.fill("V1", "1", "100")
        await take(broker.stream_fills(), 1)
        run, runs = broker._journal.store.run, []

        async def counting(work: Any, then: Any = None) -> Any:
            runs.append(1)
            return await run(work, then)

        broker._journal.store.run = counting  # type: ignore[method-assign]
        venue.push(corrected(seen, "E1.02", "99"))
        fills = await take(broker.stream_fills(since=1), 2)
        assert [fill.seq for fill in fills] == [2, 3]
        assert len(runs) == 1


async def test_a_bust_under_the_id_of_what_it_takes_back(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        seen = venue.fill("V1", "1")
        await settle()
        venue.push(replace(venue.bust(seen), fill_id=seen.fill_id))
        await stands(broker, placed)
        assert sums(venue) == (Decimal(0), Decimal(0))
        assert [fill.fill_id for fill in venue.logged()] == ["E1", "E1:bust"]


async def test_ids_unique_within_an_order_name_what_they_correct_there(
    clock: SteppedClock,
) -> None:
    venue = Venue(clock, replace(PROFILE, fill_identity="composite"))
    async with venue.client() as broker:
        one, two = await broker.submit(buy()), await broker.submit(buy())
        seen = venue.fill("V1", "1", fill_id="1")
        venue.fill("V2", "1", fill_id="1")
        await settle()
        assert [fill.fill_id for fill in venue.logged()] == ["V1:1", "V2:1"]
        venue.push(venue.bust(seen))
        venue.push(*venue.fills)
        assert (await stands(broker, one)).filled_quantity == 0
        assert (await stands(broker, two)).filled_quantity == 1
        assert [fill.fill_id for fill in venue.logged()] == ["V1:1", "V2:1", "V1:1-bust"]


@pytest.mark.parametrize("order", ["fee first", "bust first"])
async def test_a_fee_of_what_was_taken_back_is_taken_back_too(clock: SteppedClock, order: str) -> None:
    venue = Venue(clock, replace(PROFILE, fee_timing="seconds"))
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        seen = replace(venue.fill("V1", "1", push=False), fees=None)
        venue.push(seen)
        await settle()
        fee, back = FeeAmendment("E1", dollars("0.2"), FeeStatus.FINAL), venue.bust(seen)
        for item in (fee, back) if order == "fee first" else (back, fee):
            venue.push(item)
            await settle()
        venue.push(FeeAmendment("E1", dollars("0.3"), FeeStatus.FINAL))
        after = await stands(broker, placed)
        assert after.fees == dollars("0.0")
        fills = await take(broker.stream_fills(since=0), 2)
        assert [fill.fees for fill in fills] == [dollars("0.3"), dollars("-0.3")]


async def test_an_older_count_is_not_believed_for_long(venue: Venue, clock: SteppedClock) -> None:
    venue.telling = True
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy("2"))
        seen = venue.fill("V1", "1")
        older = venue.view("V1")
        await settle()
        await clock.advance(1)
        venue.push(venue.bust(seen))
        venue.push(older)
        await settle()
        await clock.advance(61)
        assert (await stands(broker, placed)).filled_quantity == 0
        venue.push(venue.end("V1"))
        after = await stands(broker, placed)
        assert (after.status, after.settled, after.fills_pending) == (OrderStatus.CANCELED, True, False)


async def test_an_execution_that_makes_no_sense_is_reported_beside_the_others(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        good = venue.fill("V1", "0.5", push=False)
        bad = replace(good, fill_id="E9", price=Decimal("NaN"))
        wrong = replace(good, fill_id="E8", corrects="E1", quantity=Decimal("Infinity"))
        foreign = replace(good, fill_id="E7", ref=OrderRef("X1"), symbol="no symbol at all")
        venue.push(good, bad, wrong, foreign, venue.fill("V1", "0.5", push=False))
        after = await stands(broker, placed)
        assert [fill.fill_id for fill in venue.logged()] == ["E1", "E2"]
        assert (after.filled_quantity, after.settled) == (Decimal(1), True)
        assert venue.kinds().count(EventKind.UNREADABLE) == 3
