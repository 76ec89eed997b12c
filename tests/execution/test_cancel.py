"""What a cancel answers, and what it never does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from scripted import PROFILE, Venue, buy, comes_late, settle, take

from mts1b_brokers_core.execution import journal
from mts1b_brokers_core.execution.port import CancelResult, Final, NoSuch, OrderRef, Refused, Taken, Unknown
from mts1b_brokers_core.foundation.errors import (
    BrokerFailed,
    OrderNotFound,
    OrderNotPlaced,
    OutcomeUnknown,
    StateCorrupted,
    StateUnwritable,
    VenueError,
)
from mts1b_brokers_core.foundation.orders import OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock


@pytest.mark.parametrize("by", ["order_id", "broker_order_id"])
async def test_taken_is_true_and_remembered(venue: Venue, by: str) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        assert await broker.cancel(getattr(placed, by))
        after = await broker.outcome(placed.idempotency_key)
        assert after.cancel_requested
        assert (after.status, after.raw_status) == (OrderStatus.PENDING_CANCEL, None)
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]


async def test_a_filled_order_is_false(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        assert await broker.cancel(placed.order_id) is False
        venue.push(*venue.fills)
        await settle()
        assert await broker.cancel(placed.order_id) is False
        assert len(venue.canceled) == 1  # the second answer needs no venue


async def test_cancelled_by_somebody_else_before_we_asked_is_false(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.end("V1")
        assert await broker.cancel(placed.order_id) is False
        assert (await broker.outcome(placed.idempotency_key)).status is OrderStatus.CANCELED


async def test_a_repeat_of_a_taken_cancel_is_true(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        assert await broker.cancel(placed.order_id)
        assert await broker.cancel(placed.order_id)
        venue.push(venue.view("V1"))
        await settle()
        assert await broker.cancel(placed.order_id)
        assert (await broker.outcome(placed.idempotency_key)).status is OrderStatus.CANCELED


async def test_an_id_nobody_knows_is_not_found(venue: Venue) -> None:
    async with venue.client() as broker:
        with pytest.raises(OrderNotFound, match="knows no order nope") as caught:
            await broker.cancel("nope")
        assert caught.value.operation == "cancel"


async def test_an_order_placed_elsewhere_is_cancelled_by_the_venues_id(venue: Venue) -> None:
    async with venue.client() as other:
        await other.submit(buy())
    async with venue.client() as broker:
        assert await broker.cancel("V1")


async def test_a_venue_that_forgot_a_finished_order_does_not_make_it_unknown(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        venue.cancel_next.append(NoSuch())
        assert await broker.cancel(placed.order_id) is False


async def test_a_working_order_the_venue_denies_knowing_is_not_found(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.cancel_next.append(NoSuch())
        venue.read_next.append(TimeoutError())
        with pytest.raises(OrderNotFound) as caught:
            await broker.cancel(placed.order_id)
        assert caught.value.order is not None


async def test_refused_while_it_works_is_an_error_in_the_venues_words(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.cancel_next.append(Refused("auction call"))
        with pytest.raises(VenueError, match="auction call") as caught:
            await broker.cancel(placed.order_id)
        assert caught.value.repeat_is_safe
        assert await broker.cancel(placed.order_id)


async def test_refused_because_it_filled_is_false(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        venue.cancel_next.append(Refused("not an open order"))
        assert await broker.cancel(placed.order_id) is False


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), ValueError("no JSON")])
async def test_a_lost_reply_of_a_cancel_that_worked_is_true(venue: Venue, error: Exception) -> None:
    def loses(ref: OrderRef) -> CancelResult:
        venue.end("V1")
        raise error

    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.cancel_next.append(loses)
        assert await broker.cancel(placed.order_id)
        assert len(venue.canceled) == 1


async def test_a_lost_reply_of_a_cancel_that_did_not_arrive_is_repeated(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.cancel_next.append(TimeoutError())
        assert await broker.cancel(placed.order_id)
        assert len(venue.canceled) == 2


async def test_a_lost_reply_whose_repeat_finds_it_cancelled_is_true(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())

        def lost(ref: OrderRef) -> CancelResult:
            return Unknown("504")

        def final(ref: OrderRef) -> CancelResult:
            return Final(venue.end("V1"))

        venue.cancel_next.extend([lost, final])
        assert await broker.cancel(placed.order_id)
        assert len(venue.canceled) == 2


async def test_a_final_without_a_view_is_read(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        assert await broker.cancel(placed.order_id)
        venue.cancel_next.append(Final())
        assert await broker.cancel(placed.order_id)  # it reads cancelled, after we asked


async def test_no_answer_at_all_is_unknown_and_safe_to_repeat(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.cancel_next.extend([TimeoutError()] * 3)
        venue.read_next.extend([TimeoutError()] * 3)
        with pytest.raises(OutcomeUnknown, match="sent 3 times") as caught:
            await broker.cancel(placed.order_id)
        assert caught.value.repeat_is_safe
        assert len(venue.canceled) == 3
        # It worked after all: asking again says so.
        venue.push(venue.end("V1"))
        await settle()
        assert await broker.cancel(placed.order_id)


async def test_many_cancels_at_once_are_one(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        assert await asyncio.gather(*(broker.cancel(placed.order_id) for _ in range(20))) == [True] * 20
        assert len(venue.canceled) == 1


async def test_a_caller_that_goes_away_does_not_cut_a_cancel(venue: Venue) -> None:
    gate = asyncio.Event()

    async with venue.client() as broker:
        placed = await broker.submit(buy())

        async def slow(ref: OrderRef) -> CancelResult:
            venue.canceled.append(ref)
            await gate.wait()
            return Taken()

        broker.cancel_one = slow  # type: ignore[method-assign]
        caller = asyncio.create_task(broker.cancel(placed.order_id))
        await settle()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.set()
        await settle()
        assert (await broker.outcome(placed.idempotency_key)).cancel_requested


async def test_a_partly_filled_order_stays_cancelled_with_what_filled_late(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "0.3")
        await broker.cancel(placed.order_id)
        venue.push(venue.view("V1"))
        venue.fill("V1", "0.2", push=False)
        venue.push(venue.fills[-1])
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert after.status is OrderStatus.CANCELED
        assert str(after.filled_quantity) == "0.5"


async def test_where_cancels_go_by_token_the_token_is_named(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(PROFILE, cancel_by="token"))
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        await broker.cancel(placed.order_id)
        assert venue.canceled == [OrderRef("V1", venue.placed[0].token)]


@pytest.mark.parametrize("by", ["order_id", "broker_order_id"])
async def test_a_cancel_passes_where_everything_else_has_failed(venue: Venue, by: str) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.crash(RuntimeError("framing"))
        await settle()
        with pytest.raises(BrokerFailed):
            await broker.submit(buy(order_id="another"))
        assert await broker.cancel(getattr(placed, by)) is True
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]


async def test_a_cancel_passes_though_the_order_was_never_written_down_as_placed(venue: Venue) -> None:
    async with venue.client() as broker:
        write = broker._event_log.transact

        async def full(work: Any) -> Any:
            raise StateUnwritable("the disk is full.", next_step="free disk space")

        broker._event_log.transact = full  # type: ignore[method-assign]
        placed = await broker.submit(buy())
        assert await broker.cancel(placed.order_id) is True
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]
        assert await broker.cancel(placed.order_id) is True  # it was we who asked
        broker._event_log.transact = write  # type: ignore[method-assign]


async def test_a_cancel_passes_though_the_journal_cannot_be_read(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())

        def unreadable(*values: object) -> Any:
            raise StateCorrupted("the journal is damaged.", next_step="restore a backup")

        broker._journal.read = unreadable  # type: ignore[method-assign]
        assert await broker.cancel(str(placed.broker_order_id)) is True
        with pytest.raises(OrderNotFound):
            await broker.cancel(placed.order_id)


async def test_a_cancel_that_finds_the_order_filled_reads_the_fills_at_once(venue: Venue) -> None:
    async with venue.client(settle_wait=3600) as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "1", push=False)
        assert not await broker.cancel(placed.order_id)
        filled = await broker.wait_for(placed, "filled")
        assert filled.settled
        assert [fill.fill_id for fill in await take(broker.stream_fills(), 1)] == ["E1"]


async def test_a_wanted_cancel_whose_replies_are_lost_is_sent_again(
    venue: Venue, clock: SteppedClock
) -> None:
    venue.place_next.append(comes_late)
    async with venue.client(reconcile_every=30) as broker:
        order = buy()
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        await broker._login.journal.store.run(
            lambda connection: journal.want_cancel(connection, order.idempotency_key)
        )
        venue.cancel_next.extend([TimeoutError()] * 3)
        venue.push(venue.view(venue.land()))
        await settle()
        assert len(venue.canceled) == 3
        assert venue.book["V1"].status is OrderStatus.NEW
        await clock.advance(31)
        assert venue.book["V1"].status is OrderStatus.CANCELED
