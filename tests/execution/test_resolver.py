"""The resolver at work: in the background, with backoff, after a restart, and when an order comes late."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scripted import (
    DEADLINE,
    PROFILE,
    REJECTED,
    Venue,
    accepted,
    answers,
    bare_ack,
    buy,
    comes_late,
    eventually,
    fails,
    first,
    loses_reply,
    settle,
    waits,
)

from mts1b_brokers_core.execution.journal import State
from mts1b_brokers_core.execution.port import (
    Absent,
    Ack,
    Coverage,
    Found,
    Inconclusive,
    OrderRef,
    TokenRule,
    Unknown,
)
from mts1b_brokers_core.foundation.errors import OrderNotPlaced, OrderRejected, OutcomeUnknown
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock, to_ns

NO_TOKENS = replace(PROFILE, token=TokenRule("none"))
ALL = Coverage(("open orders", "history"))


class Steppable(SteppedClock):
    """A machine whose wall clock somebody sets."""

    step = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.step

    def now_ns(self) -> int:
        return to_ns(self.now())


def state_of(broker: Any, key: str) -> State:
    found: State = broker._login.record(key).state
    return found


async def passing(clock: SteppedClock, broker: Any, seconds: float) -> None:
    """Let time pass in small steps, the journal's thread keeping up with each."""
    for _ in range(round(seconds * 4)):
        await clock.advance(0.25)
        await broker._journal.store.run(lambda connection: None)
        await settle()


async def dies(broker: Any, clock: SteppedClock) -> None:
    """Close without waiting for the write that is under way."""
    closing = asyncio.create_task(broker.close())
    await settle()
    await clock.advance(broker.settings.close_timeout)
    await closing


def kinds(venue: Venue) -> list[EventKind]:
    return [event.kind for event in venue.events]


# --- waiting for the verdict --------------------------------------------------------------------------


async def test_a_submit_waits_for_the_verdict_that_comes_in_time(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(loses_reply())
    venue.find_next.extend([Inconclusive("one"), Inconclusive("two")])
    async with venue.client(resend_within=10) as broker:
        submitting = asyncio.create_task(broker.submit(buy()))
        await settle()
        assert not submitting.done()
        await clock.advance(0.8)
        assert (await submitting).broker_order_id == "V1"
        assert len(venue.found) == 3


async def test_a_verdict_in_time_is_raised_instead_of_unknown(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(loses_reply())
    venue.find_next.append(Inconclusive("busy"))
    async with venue.client(resend_within=10) as broker:
        submitting = asyncio.create_task(broker.submit(buy()))
        await settle()
        venue.end("V1", OrderStatus.REJECTED)
        await clock.advance(0.3)
        with pytest.raises(OrderRejected):
            await submitting


async def test_a_submit_waits_no_longer_than_it_may(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.extend([Inconclusive("busy")] * 20)
    async with venue.client(resend_within=10) as broker:
        submitting = asyncio.create_task(broker.submit(buy()))
        await settle()
        await clock.advance(9.99)
        assert not submitting.done()
        await clock.advance(0.01)
        with pytest.raises(OutcomeUnknown):
            await submitting


async def test_what_a_frame_tells_ends_the_wait_at_once(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(loses_reply())
    venue.find_next.extend([Inconclusive("busy")] * 20)
    async with venue.client(resend_within=10) as broker:
        submitting = asyncio.create_task(broker.submit(buy()))
        await settle()
        await clock.advance(5)
        asked = len(venue.found)
        venue.push(venue.view("V1"))
        await settle()
        assert (await submitting).broker_order_id == "V1"
        assert len(venue.found) == asked


async def test_other_news_is_no_reason_to_ask_earlier(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.extend([accepted, fails(TimeoutError())])
    venue.find_next.extend([Inconclusive("busy")] * 20)
    async with venue.client() as broker:
        await broker.submit(buy())
        with pytest.raises(OutcomeUnknown):
            await broker.submit(buy())
        for _ in range(5):
            venue.fill("V1", "0.1")
            await settle()
        assert len(venue.found) == 1


# --- in the background --------------------------------------------------------------------------------


async def test_the_background_backs_off(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.extend([Inconclusive("busy")] * 50)
    asked: list[float] = []
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(buy())
        for _ in range(1200):
            before = len(venue.found)
            await clock.advance(0.25)
            if len(venue.found) > before:
                asked.append(clock.monotonic())
    pauses = [round(later - sooner, 6) for sooner, later in zip([0.0, *asked], asked, strict=False)]
    assert pauses[:8] == [0.25, 0.5, 1, 2, 4, 8, 16, 30]
    assert set(pauses[8:]) == {30}


async def test_unknown_goes_on_being_resolved_and_resolved_returns(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(loses_reply())
    venue.find_next.append(Inconclusive("busy"))
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(order)
        await clock.advance(1)
        assert state_of(broker, order.idempotency_key) is State.CONFIRMED  # nobody had to ask
        assert (await caught.value.resolved()).broker_order_id == "V1"
        assert await broker.unresolved() == []


async def test_resolved_raises_what_was_found(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.append(Inconclusive("busy"))
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(buy())
        await clock.advance(1)
        with pytest.raises(OrderNotPlaced) as absent:
            await caught.value.resolved()
        assert absent.value.certainty == "probable"


async def test_whoever_waits_for_the_verdict_is_told_that_the_broker_closes(
    venue: Venue, clock: SteppedClock
) -> None:
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.extend([Inconclusive("busy")] * 5)
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(buy())
        verdict = asyncio.create_task(caught.value.resolved())
        await settle()
        assert not verdict.done()
    with pytest.raises(OutcomeUnknown):
        await verdict
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_evidence_so_far_is_told(venue: Venue) -> None:
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.append(Inconclusive("page 2 failed"))
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(buy())
        assert [row.reason for row in await broker.unresolved()] == ["inconclusive: page 2 failed"]


async def test_an_adapter_whose_own_waiting_is_cut_off_leaves_the_outcome_unknown(
    venue: Venue, clock: SteppedClock
) -> None:
    venue.place_next.append(loses_reply(asyncio.CancelledError("the socket's reader ended")))  # type: ignore[arg-type]
    venue.find_next.append(Inconclusive("busy"))
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown, match="the socket's reader ended"):
            await broker.submit(order)
        await clock.advance(1)
        assert state_of(broker, order.idempotency_key) is State.CONFIRMED


async def test_a_rejection_found_later_says_why(venue: Venue) -> None:
    async def refuses_late(venue: Venue, ticket: Any) -> Any:
        row = venue.accept(ticket)
        venue.end(row, OrderStatus.REJECTED)
        venue.find_next.append(Found((replace(venue.view(row), reason="post_only"),)))
        raise TimeoutError

    venue.place_next.append(refuses_late)
    async with venue.client() as broker:
        with pytest.raises(OrderRejected) as caught:
            await broker.submit(buy())
        assert caught.value.reason == "post_only"


# --- what an absence takes ----------------------------------------------------------------------------


async def test_an_answer_from_a_cache_counts_from_when_it_was_true(clock: SteppedClock, venue: Venue) -> None:
    venue = Venue(clock, replace(PROFILE, visibility=5.0))
    venue.place_next.append(fails(TimeoutError()))
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
        for seconds, coverage in [
            (6, replace(ALL, as_of=venue.opened + timedelta(seconds=4))),
            (6, replace(ALL, until=venue.opened + timedelta(seconds=4))),
        ]:
            venue.find_next.append(Absent(coverage))
            venue.find_next.extend([Inconclusive("busy")] * 8)
            await clock.advance(seconds)
            with pytest.raises(OutcomeUnknown):
                await broker.submit(order)
            venue.find_next.clear()
        venue.find_next.append(Absent(replace(ALL, as_of=venue.opened + timedelta(seconds=5))))
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(hours=-1), timedelta(0)])
async def test_after_a_restart_an_absence_counts_from_our_start_whatever_the_wall_clock_says(
    file: Path, step: timedelta
) -> None:
    clock = Steppable(Venue.opened)
    venue = Venue(clock, DEADLINE)
    venue.place_next.append(comes_late)
    venue.find_next.append(Inconclusive("busy"))
    order = buy()
    async with venue.client(file) as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
    clock.step = step
    async with venue.client(file) as broker:
        assert state_of(broker, order.idempotency_key) is State.UNKNOWN
        await passing(clock, broker, 9)
        assert state_of(broker, order.idempotency_key) is State.UNKNOWN
        assert "the venue may still take it" in str((await broker.unresolved())[0].reason)
        await passing(clock, broker, 8)
        assert state_of(broker, order.idempotency_key) is State.NOT_PLACED
        assert len(venue.placed) == 1


async def test_after_a_restart_an_order_older_than_the_sources_reach_stays_unknown(
    clock: SteppedClock, file: Path
) -> None:
    venue = Venue(clock, replace(PROFILE, lookup_window=3600.0))
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.append(Inconclusive("busy"))
    order = buy()
    async with venue.client(file) as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
    await clock.advance(3601)
    async with venue.client(file) as broker:
        assert state_of(broker, order.idempotency_key) is State.UNKNOWN
        assert "reach back 3600 s only" in str((await broker.unresolved())[0].reason)


# --- late ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [PROFILE, NO_TOKENS])
@pytest.mark.parametrize("crashed", [False, True])
async def test_the_late_watch_finds_what_was_taken_for_absent(
    clock: SteppedClock, file: Path, profile: Any, crashed: bool
) -> None:
    venue = Venue(clock, profile)
    order = buy()
    sent = asyncio.Event()
    if crashed:  # the process ends before the answer, the next one finds nothing
        venue.place_next.append(first(lambda ticket: sent.set(), waits(asyncio.Event())))
        async with venue.client(file) as broker:
            submitting = asyncio.create_task(broker.submit(order))
            await sent.wait()
            venue.late.append(venue.placed[0])
            await dies(broker, clock)
        with pytest.raises(OutcomeUnknown):
            await submitting
    else:
        venue.place_next.append(comes_late)
    async with venue.client(file) as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        row = venue.land()
        await clock.advance(30)
        await eventually(lambda: EventKind.LATE in kinds(venue))
        assert (await broker.outcome(order.idempotency_key)).broker_order_id == row.id
        assert len(venue.placed) == 1


async def test_open_orders_show_what_was_taken_for_absent(venue: Venue) -> None:
    venue.place_next.append(comes_late)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        venue.land()
        assert [row.order_id for row in await broker.get_open_orders()] == [order.order_id]
        assert (await broker.submit(order)).broker_order_id == "V1"
        assert EventKind.LATE in kinds(venue)


async def test_a_late_order_that_is_still_undecided_is_followed_to_its_end(clock: SteppedClock) -> None:
    venue = Venue(clock, NO_TOKENS)
    venue.place_next.append(comes_late)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        row = venue.land()
        undecided = replace(venue.view(row), decided=False, status=OrderStatus.PENDING_NEW)
        venue.find_next.append(Found((undecided,)))
        await clock.advance(30)
        assert state_of(broker, order.idempotency_key) is State.UNKNOWN
        assert [held.broker_order_id for held in await broker.unresolved()] == [row.id]
        await clock.advance(61)
        assert state_of(broker, order.idempotency_key) is State.CONFIRMED


async def test_an_order_seen_undecided_that_vanishes_can_be_placed_anew(
    venue: Venue, clock: SteppedClock
) -> None:
    venue.place_next.append(fails(TimeoutError()))
    seen = Found((replace(venue_view(venue), decided=False, status=OrderStatus.PENDING_NEW),))
    order = buy()
    async with venue.client() as broker:
        venue.find_next.append(seen)
        with pytest.raises(OutcomeUnknown) as caught:
            await broker.submit(order)
        assert caught.value.order is not None
        assert caught.value.order.broker_order_id == "V99"
        await clock.advance(1)
        placed = await broker.submit(order, accept_duplicate_risk=True)
        assert (placed.broker_order_id, placed.broker_order_ids) == ("V1", ("V1",))
        assert await broker.cancel(order.order_id)
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]
        # Should the first one show again, it is a second order under the key, and announced.
        venue.push(replace(venue_view(venue), status=OrderStatus.NEW))
        await settle()
        assert EventKind.DUPLICATE in kinds(venue)


def venue_view(venue: Venue) -> Any:
    """Show an order V99 that nothing but its id tells of."""
    from mts1b_brokers_core.execution.port import OrderView

    return OrderView(OrderRef("V99"), OrderStatus.NEW)


@pytest.mark.parametrize("answer", ["ack", "rejected", "lost"])
async def test_a_first_attempt_that_lands_while_the_second_is_being_sent(venue: Venue, answer: str) -> None:
    async def lands_first(venue: Venue, ticket: Any) -> Any:
        venue.push(venue.view(venue.land()))
        await settle()
        if answer == "ack":
            return venue.ack(venue.accept(ticket))
        if answer == "lost":
            raise TimeoutError
        return REJECTED

    venue.place_next.extend([comes_late, lands_first])
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        if answer == "ack":
            with pytest.raises(OutcomeUnknown, match="more than one order") as caught:
                await broker.submit(order, accept_duplicate_risk=True)
            assert caught.value.order is not None
            assert caught.value.order.broker_order_ids == ("V1", "V2")
            assert kinds(venue).count(EventKind.DUPLICATE) == 1
        else:
            placed = await broker.submit(order, accept_duplicate_risk=True)
            assert placed.broker_order_ids == ("V1",)


# --- an acknowledgement is compared -------------------------------------------------------------------


async def test_without_token_and_echo_what_was_acknowledged_is_read_and_compared(clock: SteppedClock) -> None:
    venue = Venue(clock, NO_TOKENS)
    venue.place_next.append(bare_ack)
    async with venue.client() as broker:
        await broker.submit(buy())
        assert venue.calls.count("read") == 1
        foreign = venue.view("V1").ref.broker_order_id
        venue.find_next.extend([Inconclusive("busy")] * 3)
        for script, words in [
            (answers(Ack(OrderRef(foreign))), "another order: quantity 1 instead of 2"),
            (answers(Ack(OrderRef("V77"))), "V77, can't be found"),
        ]:
            venue.place_next.append(script)
            with pytest.raises(OutcomeUnknown, match=words) as caught:
                await broker.submit(buy("2" if foreign == "V1" and "another" in words else "3"))
            assert caught.value.order is not None
            assert caught.value.order.broker_order_ids == ()
        venue.place_next.append(bare_ack)
        venue.read_next.append(ConnectionResetError("reset"))
        with pytest.raises(OutcomeUnknown, match="could not be read: reset"):
            await broker.submit(buy("4"))


# --- every arrow out of SENDING, as the journal holds it ----------------------------------------------


@pytest.mark.parametrize(
    ("script", "state", "certainty"),
    [
        (accepted, State.CONFIRMED, None),
        (answers(REJECTED), State.REJECTED, None),
        (fails(ConnectionRefusedError()), State.NOT_PLACED, "proven"),
        (fails(TimeoutError()), State.UNKNOWN, None),
        (answers(Unknown("500")), State.UNKNOWN, None),
    ],
)
async def test_the_state_and_the_attempt_say_how_it_ended(
    venue: Venue, script: Any, state: State, certainty: str | None
) -> None:
    venue.place_next.append(script)
    venue.find_next.append(Inconclusive("busy"))
    order = buy()
    async with venue.client() as broker:
        with contextlib.suppress(OrderNotPlaced, OrderRejected, OutcomeUnknown):
            await broker.submit(order)
        record = broker._login.record(order.idempotency_key)
        assert record is not None
        assert (record.state, record.certainty) == (state, certainty)
        tries = broker._login.attempts(order.idempotency_key)
        assert [tried.outcome for tried in tries] == [str(state)]


async def test_a_key_left_behind_by_a_process_that_died_is_taken_over_by_one_that_lives(
    venue: Venue, clock: SteppedClock, file: Path
) -> None:
    sent = asyncio.Event()
    order = buy()
    async with venue.client(file) as leader:
        async with venue.client(file) as follower:
            venue.place_next.append(first(lambda ticket: sent.set(), waits(asyncio.Event())))
            submitting = asyncio.create_task(follower.submit(order))
            await sent.wait()
            venue.accept(venue.placed[0])
            assert state_of(leader, order.idempotency_key) is State.SENDING
            await dies(follower, clock)
        with pytest.raises(OutcomeUnknown):
            await submitting
        await passing(clock, leader, 32)
        assert state_of(leader, order.idempotency_key) is State.CONFIRMED
        assert len(venue.placed) == 1
