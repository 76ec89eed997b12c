"""An order command has four answers: confirmed, rejected, denied, unknown; and when each is given."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest
from scripted import (
    DEADLINE,
    DEDUPES,
    PROFILE,
    REJECTED,
    Script,
    Venue,
    answers,
    bare_ack,
    buy,
    comes_late,
    fails,
    loses_reply,
    settle,
)

from mts1b_brokers_core.execution.port import (
    Absent,
    Ack,
    Coverage,
    Found,
    Inconclusive,
    NotPlaced,
    OrderRef,
    OrderView,
    Terms,
    TokenRule,
    Unknown,
)
from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    BrokerError,
    OrderDenied,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    VenueUnavailable,
)
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock


async def test_confirmed_is_what_the_venue_acknowledged(venue: Venue) -> None:
    async with venue.client() as broker:
        order = buy()
        placed = await broker.submit(order)
        assert placed.status is OrderStatus.NEW
        assert placed.broker_order_id == "V1"
        assert placed.order_id == order.order_id
        assert placed.submitted_at == venue.opened
        assert placed.account_id == "A1"
        assert await broker.outcome(order.idempotency_key) == placed
        assert venue.found == []


async def test_an_order_says_whose_it_is_and_since_when(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(answers(NotPlaced("throttled")))
    async with venue.client() as broker:
        order = buy(created_at=venue.opened - timedelta(days=1))
        with pytest.raises(OrderNotPlaced) as caught:
            await broker.submit(order)
        await clock.advance(60)
        placed = await broker.submit(order)
        venue.fill("V1", "1")
        await settle()
        read = [
            caught.value.order,
            placed,
            await broker.wait_for(placed),
            await broker.outcome(order.idempotency_key),
            await broker.lookups.order(order.order_id),
            *(event.order for event in venue.events if event.order),
        ]
        assert len(read) > 6
        assert {(seen.broker, seen.created_at) for seen in read if seen} == {("scripted", venue.opened)}
        assert placed.created_at is not None
        assert placed.created_at.tzinfo is UTC
        assert placed.submitted_at == venue.opened + timedelta(seconds=60)


async def test_an_ack_without_an_echo_confirms(venue: Venue) -> None:
    venue.place_next.append(bare_ack)
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        assert (placed.status, placed.broker_order_id) == (OrderStatus.NEW, "V1")


async def test_rejected_carries_reason_words_and_order_and_sticks(venue: Venue) -> None:
    venue.place_next.append(answers(REJECTED))
    order = buy()
    async with venue.client() as broker:
        for _ in range(2):
            with pytest.raises(OrderRejected) as caught:
                await broker.submit(order)
            assert caught.value.reason == "insufficient_funds"
            assert caught.value.words == "EOrder:Insufficient funds"
            assert caught.value.order is not None
            assert caught.value.order.status is OrderStatus.REJECTED
            assert caught.value.broker == "scripted"
            assert caught.value.operation == "submit"
            assert not caught.value.repeat_is_safe
        assert len(venue.placed) == 1


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("the token has expired"),
        PermissionDenied("the key may not trade"),
        ConnectionRefusedError(111, "refused"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_never_reached_the_order_system_is_not_placed(venue: Venue, error: Exception) -> None:
    venue.place_next.append(fails(error))
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced) as caught:
            await broker.submit(order)
        assert caught.value.certainty == "proven"
        assert caught.value.repeat_is_safe
        assert venue.found == []
        assert (await broker.submit(order)).status is OrderStatus.NEW
        assert [ticket.attempt for ticket in venue.placed] == [1, 2]


async def test_not_placed_hands_on_the_venues_pause(venue: Venue) -> None:
    venue.place_next.append(answers(NotPlaced("throttled", retry_after=1.5)))
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced, match="throttled") as caught:
            await broker.submit(buy())
        assert caught.value.retry_after == 1.5
        assert caught.value.order is not None
        assert caught.value.order.status is None


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(104, "reset"),
        BrokenPipeError(32, "broken pipe"),
        OSError("network is unreachable"),
        RateLimited("slow down"),
        VenueUnavailable("503"),
        ValueError("no JSON"),
        KeyError("txid"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_else_an_adapter_raises_is_unknown_and_asked_about_once(
    venue: Venue, error: Exception
) -> None:
    venue.place_next.append(fails(error))
    venue.find_next.append(Inconclusive("the history page failed"))
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(buy())
        assert not caught.value.repeat_is_safe
        assert caught.value.order is not None
        assert caught.value.order.status is OrderStatus.UNKNOWN
        assert len(venue.found) == 1
        assert [row.order_id for row in await broker.unresolved()] == [caught.value.order.order_id]


async def test_an_unknown_reply_is_unknown(venue: Venue) -> None:
    venue.place_next.append(answers(Unknown("504 without a body")))
    venue.find_next.append(Inconclusive("busy"))
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown, match="504 without a body"):
            await broker.submit(buy())


async def test_a_lost_reply_is_found_by_token(venue: Venue) -> None:
    venue.place_next.append(loses_reply())
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        assert (placed.status, placed.broker_order_id) == (OrderStatus.NEW, "V1")
        assert [ticket.token for ticket in venue.found] == [venue.placed[0].token]
        assert await broker.unresolved() == []


async def test_an_order_that_filled_before_it_was_found_is_filled_with_its_fills(venue: Venue) -> None:
    async def fills_at_once(venue: Venue, ticket: Any) -> Any:
        venue.fill(venue.accept(ticket), "1", push=False)
        raise TimeoutError

    venue.place_next.append(fills_at_once)
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        assert placed.status is OrderStatus.FILLED
        assert placed.filled_quantity == 1
        assert placed.settled


async def test_fills_that_cannot_be_read_do_not_hide_that_the_order_was_found(venue: Venue) -> None:
    venue.place_next.append(loses_reply())
    async with venue.client() as broker:
        venue.read_next.append(ConnectionResetError("reset"))
        placed = await broker.submit(buy())
        assert placed.broker_order_id == "V1"


async def test_a_found_rejection_is_a_rejection(venue: Venue) -> None:
    async def refuses_late(venue: Venue, ticket: Any) -> Any:
        venue.accept(ticket).status = OrderStatus.REJECTED
        raise TimeoutError

    venue.place_next.append(refuses_late)
    order = buy()
    async with venue.client() as broker:
        for _ in range(2):
            with pytest.raises(OrderRejected):
                await broker.submit(order)
        assert len(venue.placed) == 1


async def test_found_but_not_decided_by_the_venue_binds_the_id_and_stays_unknown(venue: Venue) -> None:
    venue.place_next.append(loses_reply())
    order = buy()
    async with venue.client() as broker:
        undecided = OrderView(OrderRef("V1"), OrderStatus.PENDING_NEW, decided=False)
        venue.find_next.append(Found((undecided,)))
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(order)
        assert caught.value.order is not None
        assert caught.value.order.broker_order_id == "V1"
        assert len(await broker.unresolved()) == 1
        assert (await broker.submit(order)).status is OrderStatus.NEW
        assert len(venue.placed) == 1


async def test_found_with_other_terms_is_not_taken_for_ours(venue: Venue) -> None:
    venue.place_next.append(fails(TimeoutError()))
    other = OrderView(OrderRef("V9"), OrderStatus.NEW, terms=Terms(quantity=Decimal(7)))
    venue.find_next.append(Found((other,)))
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(buy())
        assert caught.value.order is not None
        assert caught.value.order.broker_order_id is None
        with pytest.raises(BrokerError):
            await broker.cancel("V9")
        assert [ref.broker_order_id for ref in venue.canceled] == ["V9"]


async def test_an_echo_of_other_terms_is_unknown_and_binds_nothing(venue: Venue) -> None:
    echo = OrderView(OrderRef("V9"), OrderStatus.NEW, terms=Terms(quantity=Decimal(7)))
    venue.place_next.append(answers(Ack(OrderRef("V9"), echo)))
    venue.find_next.append(Inconclusive("busy"))
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown, match="another order: quantity 7 instead of 1") as caught:
            await broker.submit(buy())
        assert caught.value.order is not None
        assert caught.value.order.broker_order_id is None


async def test_several_found_under_one_token_are_a_duplicate_for_a_person(venue: Venue) -> None:
    async def twice(venue: Venue, ticket: Any) -> Any:
        venue.accept(ticket)
        venue.accept(ticket)
        raise TimeoutError

    venue.place_next.append(twice)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown, match="more than one order under this key"):
            await broker.submit(order)
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order, accept_duplicate_risk=True)
        assert len(venue.placed) == 1
        assert EventKind.DUPLICATE in [event.kind for event in venue.events]
        # Both are tracked: fills of either belong to the order, and nothing makes it look resolved.
        venue.fill("V1", "1")
        venue.fill("V2", "1")
        await settle()
        fills = [event.fill for event in venue.events if event.fill]
        assert [fill.order_id for fill in fills] == [order.order_id] * 2
        assert len(await broker.unresolved()) == 1
        # No cancel in silence, but a person may name the one.
        with pytest.raises(OutcomeUnknown):
            await broker.cancel(order.order_id)
        assert venue.canceled == []
        assert await broker.cancel("V2") is False
        assert [ref.broker_order_id for ref in venue.canceled] == ["V2"]


async def test_several_found_without_tokens_are_ambiguous(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(PROFILE, token=TokenRule("none")))
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.append(
        Found((OrderView(OrderRef("V1"), OrderStatus.NEW), OrderView(OrderRef("V2"), OrderStatus.NEW)))
    )
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown, match="more than one venue order fits"):
            await broker.submit(buy())
        assert venue.placed[0].token is None


@pytest.mark.parametrize(
    ("profile", "seconds", "complete", "expected"),
    [
        (DEDUPES, 0, True, "proven"),
        (PROFILE, 0, True, "probable"),
        (PROFILE, 0, False, "unknown"),
        (replace(PROFILE, visibility=5.0), 4, True, "unknown"),
        (replace(PROFILE, visibility=5.0), 5, True, "probable"),
        (DEADLINE, 9, True, "unknown"),
        (replace(DEADLINE, visibility=2.0, clock_uncertainty=1.0), 12, True, "unknown"),
        (replace(DEADLINE, visibility=2.0, clock_uncertainty=1.0), 13, True, "proven"),
        (DEADLINE, 13, False, "unknown"),
    ],
)
async def test_how_sure_an_absence_is(
    clock: SteppedClock, profile: Any, seconds: int, complete: bool, expected: str
) -> None:
    venue = Venue(clock, profile)
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.append(Inconclusive("not yet"))
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
        await clock.advance(seconds)
        venue.find_next.append(Absent(Coverage(("open orders",), complete=complete)))
        if expected == "proven":
            assert (await broker.submit(order)).status is OrderStatus.NEW
            assert len(venue.placed) == 2
        elif expected == "probable":
            with pytest.raises(OrderNotPlaced) as caught:
                await broker.submit(order)
            assert (caught.value.certainty, caught.value.repeat_is_safe) == ("probable", False)
            assert len(venue.placed) == 1
        else:
            with pytest.raises(OutcomeUnknown):
                await broker.submit(order)
            assert len(venue.placed) == 1


async def test_probable_absence_is_repeated_only_at_the_callers_risk(venue: Venue) -> None:
    venue.place_next.append(fails(TimeoutError()))
    order = buy()
    async with venue.client() as broker:
        for _ in range(2):
            with pytest.raises(OrderNotPlaced) as caught:
                await broker.submit(order)
            assert caught.value.certainty == "probable"
        assert len(venue.placed) == 1
        placed = await broker.submit(order, accept_duplicate_risk=True)
        assert placed.broker_order_id == "V1"
        first_token, second_token = (ticket.token for ticket in venue.placed)
        assert first_token != second_token


async def test_a_deduplicating_venue_is_asked_again_under_the_same_token(clock: SteppedClock) -> None:
    venue = Venue(clock, DEDUPES)
    venue.place_next.append(comes_late)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced) as caught:
            await broker.submit(order)
        assert caught.value.certainty == "proven"
        placed = await broker.submit(order)
        assert venue.land().id == placed.broker_order_id
        assert len(venue.book) == 1


@pytest.mark.parametrize("by", ["fill", "view"])
async def test_an_order_taken_for_absent_that_shows_after_all_is_confirmed_late(
    venue: Venue, by: str
) -> None:
    venue.place_next.append(comes_late)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        row = venue.land()
        if by == "fill":
            seen = venue.fill(row, "1", push=False)
            venue.push(replace(seen, ref=OrderRef(row.id, row.token)))
        else:
            venue.push(venue.view(row))
        await settle()
        kinds = [event.kind for event in venue.events]
        assert EventKind.LATE in kinds
        stored = await broker.submit(order)
        assert stored.broker_order_id == row.id
        assert len(venue.placed) == 1


async def test_an_undecided_late_row_makes_an_absence_unknown_again(venue: Venue) -> None:
    venue.place_next.append(comes_late)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        row = venue.land()
        venue.push(replace(venue.view(row), decided=False, status=OrderStatus.PENDING_NEW))
        await settle()
        assert [held.broker_order_id for held in await broker.unresolved()] == [row.id]
        assert (await broker.submit(order, accept_duplicate_risk=True)).broker_order_id == row.id
        assert len(venue.placed) == 1


async def test_a_first_attempt_that_lands_beside_the_second_is_announced_as_a_duplicate(venue: Venue) -> None:
    venue.place_next.append(comes_late)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        await broker.submit(order, accept_duplicate_risk=True)
        late = venue.land()
        venue.push(venue.view(late))
        await settle()
        assert EventKind.DUPLICATE in [event.kind for event in venue.events]
        venue.end(late)
        venue.push(venue.view(late))
        venue.fill("V1", "0.5")
        await settle()
        with pytest.raises(OutcomeUnknown, match="more than one order") as caught:
            await broker.outcome(order.idempotency_key)
        assert caught.value.order is not None
        assert set(caught.value.order.broker_order_ids) == {"V1", "V2"}
        assert not caught.value.order.is_final


async def test_a_fill_before_the_ack_confirms_and_the_ack_does_not_take_it_back(venue: Venue) -> None:
    async def fills_first(venue: Venue, ticket: Any) -> Any:
        row = venue.accept(ticket)
        venue.push(replace(venue.fill(row, "0.4", push=False), ref=OrderRef(row.id, row.token)))
        await settle()
        return Ack(
            OrderRef(row.id), replace(venue.view(row), status=OrderStatus.NEW, cumulative_quantity=None)
        )

    venue.place_next.append(fills_first)
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        assert placed.status is OrderStatus.PARTIALLY_FILLED
        assert placed.filled_quantity == Decimal("0.4")
        assert placed.submitted_at == venue.opened


@pytest.mark.parametrize("then", [fails(TimeoutError()), answers(REJECTED), answers(NotPlaced("busy"))])
async def test_a_fill_before_a_bad_answer_outweighs_it(venue: Venue, then: Script) -> None:
    async def fills_first(venue: Venue, ticket: Any) -> Any:
        row = venue.accept(ticket)
        venue.push(replace(venue.fill(row, "0.4", push=False), ref=OrderRef(row.id, row.token)))
        await settle()
        return await then(venue, ticket)

    venue.place_next.append(fills_first)
    order = buy()
    async with venue.client() as broker:
        placed = await broker.submit(order)
        assert placed.status is OrderStatus.PARTIALLY_FILLED
        assert placed.broker_order_id == "V1"
        assert await broker.outcome(order.idempotency_key) == placed


async def test_resolved_waits_for_the_verdict(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(loses_reply())
    venue.find_next.extend([Inconclusive("one"), TimeoutError("two"), Inconclusive("three")])
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(buy())
        verdict = asyncio.create_task(caught.value.resolved())
        await settle()
        assert not verdict.done()
        await clock.advance(60)
        placed = await verdict
        assert placed.broker_order_id == "V1"
        assert len(venue.found) == 4


async def test_denials_carry_the_order_and_send_nothing(venue: Venue) -> None:
    async with venue.client() as broker:
        order = buy(account_id="B7")
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(order)
        assert caught.value.reason == "account"
        assert caught.value.order == order
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(buy(time_in_force="fok"))
        assert caught.value.reason == "unsupported"
        assert venue.placed == []
        assert await broker.unresolved() == []


async def test_instruments_that_cannot_be_read_are_a_denial(venue: Venue) -> None:
    async def broken(query: str | None) -> Any:
        raise ConnectionResetError("reset")

    client = venue.client()
    client.instruments = broken  # type: ignore[method-assign]
    async with client as broker:
        with pytest.raises(OrderDenied, match="instruments could not be read") as caught:
            await broker.submit(buy())
        assert caught.value.repeat_is_safe
        assert venue.placed == []
