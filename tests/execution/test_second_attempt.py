"""When a submit tries a second time by itself, and when it never does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from scripted import (
    DEADLINE,
    DEDUPES,
    PROFILE,
    REJECTED,
    Venue,
    answers,
    buy,
    comes_late,
    fails,
    settle,
)

from mts1b_brokers_core.execution.port import Inconclusive, NotPlaced, OrderRef, Trigger
from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    NotSent,
    OrderDenied,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
)
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Order, OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.ratelimit import Limit, Limiter, Priority

#: A venue that refuses a request older than two seconds: a lost one is proven absent in time.
QUICK = replace(DEADLINE, not_after_seconds=2.0)


@pytest.fixture
def venue(clock: SteppedClock) -> Venue:
    return Venue(clock, QUICK)


async def started(broker: Any, order: Order) -> asyncio.Task[Order]:
    task = asyncio.create_task(broker.submit(order))
    await settle()
    return task


async def test_a_proven_absence_is_followed_by_one_more_attempt(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(TimeoutError()))
    order = buy()
    async with venue.client(resend_within=10) as broker:
        task = await started(broker, order)
        await clock.advance(1.9)
        assert len(venue.placed) == 1
        await clock.advance(2)
        placed = await task
        assert [ticket.attempt for ticket in venue.placed] == [1, 2]
        assert venue.placed[0].token != venue.placed[1].token
        assert (placed.order_id, placed.broker_order_id) == (order.order_id, "V1")


async def test_there_is_no_third(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.extend([fails(TimeoutError())] * 3)
    async with venue.client(resend_within=30) as broker:
        task = await started(broker, buy())
        await clock.advance(60)
        with pytest.raises(OrderNotPlaced) as caught:
            await task
        assert caught.value.certainty == "proven"
        assert len(venue.placed) == 2


async def test_a_deduplicating_venue_is_asked_again_at_once_under_the_same_token(clock: SteppedClock) -> None:
    venue = Venue(clock, DEDUPES)
    venue.place_next.append(comes_late)
    async with venue.client(resend_within=10) as broker:
        placed = await broker.submit(buy())
        assert venue.land().id == placed.broker_order_id
        assert len(venue.placed) == 2


async def test_never_after_a_probable_absence(clock: SteppedClock) -> None:
    venue = Venue(clock, PROFILE)
    venue.place_next.append(comes_late)
    async with venue.client(resend_within=10) as broker:
        with pytest.raises(OrderNotPlaced) as caught:
            await broker.submit(buy())
        assert caught.value.certainty == "probable"
        assert len(venue.placed) == 1


async def test_never_where_nobody_waits_any_more(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(TimeoutError()))
    order = buy()
    async with venue.client(resend_within=10) as broker:
        task = await started(broker, order)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await clock.advance(5)
        assert len(venue.placed) == 1
        with pytest.raises(OrderNotPlaced):
            await broker.outcome(order.idempotency_key)
        # The key is not burned: who asks again gets the second attempt.
        assert (await broker.submit(order)).broker_order_id == "V1"


async def test_one_caller_of_two_going_away_changes_nothing(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(TimeoutError()))
    order = buy()
    async with venue.client(resend_within=10) as broker:
        task, other = await started(broker, order), await started(broker, order)
        task.cancel()
        await clock.advance(5)
        assert (await other).broker_order_id == "V1"
        assert len(venue.placed) == 2


async def test_never_where_a_cancel_is_wanted(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(TimeoutError()))
    order = buy()
    async with venue.client(resend_within=10) as broker:
        task = await started(broker, order)
        with pytest.raises(OutcomeUnknown):
            await broker.cancel(order.order_id)
        await clock.advance(5)
        with pytest.raises(OrderNotPlaced) as caught:
            await task
        assert "a cancel was asked for" in caught.value.next_step
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order, accept_duplicate_risk=True)
        assert len(venue.placed) == 1


async def test_never_while_trading_is_halted(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(TimeoutError()))
    order = buy()
    async with venue.client(resend_within=10) as broker:
        task = await started(broker, order)
        await broker.halt("enough")
        await clock.advance(5)
        with pytest.raises(OrderNotPlaced):
            await task
        with pytest.raises(OrderDenied, match="enough"):
            await broker.submit(order)
        assert len(venue.placed) == 1


async def test_never_once_the_time_for_it_has_passed(clock: SteppedClock) -> None:
    venue = Venue(clock, DEADLINE)
    venue.place_next.append(fails(TimeoutError()))
    async with venue.client(resend_within=9) as broker:
        task = await started(broker, buy())
        await clock.advance(9)
        with pytest.raises(OutcomeUnknown) as caught:
            await task
        await clock.advance(30)
        with pytest.raises(OrderNotPlaced):
            await caught.value.resolved()
        assert len(venue.placed) == 1


async def test_what_never_left_is_tried_once_more_after_a_moment(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(fails(NotSent("the connection was refused.")))
    async with venue.client(resend_within=10) as broker:
        task = await started(broker, buy())
        assert len(venue.placed) == 1
        await clock.advance(0.25)
        assert (await task).broker_order_id == "V1"
        assert venue.found == []


@pytest.mark.parametrize("seconds", [3.0, 11.0, None])
async def test_the_venues_own_pause_is_kept_or_handed_on(
    venue: Venue, clock: SteppedClock, seconds: float | None
) -> None:
    venue.place_next.append(answers(NotPlaced("throttled", retry_after=seconds)))
    async with venue.client(resend_within=10) as broker:
        task = await started(broker, buy())
        if seconds == 3.0:
            await clock.advance(2.9)
            assert len(venue.placed) == 1
            await clock.advance(0.1)
            assert (await task).broker_order_id == "V1"
        else:
            with pytest.raises(OrderNotPlaced, match="throttled") as caught:
                await task
            assert (caught.value.certainty, caught.value.retry_after) == ("proven", seconds)
            assert len(venue.placed) == 1


async def test_a_cancel_during_the_pause_forbids_the_attempt(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(answers(NotPlaced("throttled", retry_after=3.0)))
    order = buy()
    async with venue.client(resend_within=10) as broker:
        task = await started(broker, order)
        assert await broker.cancel(order.order_id) is False
        await clock.advance(5)
        with pytest.raises(OrderNotPlaced):
            await task
        assert len(venue.placed) == 1


async def test_refused_credentials_are_not_tried_again(venue: Venue) -> None:
    venue.place_next.append(fails(AuthenticationError("the key was revoked.")))
    async with venue.client(resend_within=10) as broker:
        with pytest.raises(OrderNotPlaced, match="revoked"):
            await broker.submit(buy())
        assert len(venue.placed) == 1


# --- a wanted cancel ----------------------------------------------------------------------------------


async def test_a_wanted_cancel_is_sent_the_moment_an_id_is_bound(venue: Venue, clock: SteppedClock) -> None:
    venue.place_next.append(comes_late)
    venue.find_next.extend([Inconclusive("busy")] * 20)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
        with pytest.raises(OutcomeUnknown):
            await broker.cancel(order.order_id)
        undecided = replace(venue.view(venue.land()), decided=False)
        venue.push(undecided)
        await settle()
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]


async def test_a_cancel_of_an_order_the_venue_has_not_decided_about_is_sent_at_once(venue: Venue) -> None:
    venue.place_next.append(comes_late)
    venue.find_next.extend([Inconclusive("busy")] * 20)
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
        venue.push(replace(venue.view(venue.land()), decided=False))
        await settle()
        assert await broker.cancel(order.order_id)
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]


# --- the limiter's allowance --------------------------------------------------------------------------

LIMITED = replace(QUICK, limits=(Limit("orders", "token_bucket", capacity=10, per=1000),))


def left(limiter: Limiter, name: str = "orders") -> int:
    """How many more orders the limit lets pass now."""
    return 10 - round(limiter._level(name, "", "", limiter._now()).level)


class Counting:
    """Gives a client's orders a price, and its requests an allowance to ask for."""

    def __init__(self, broker: Any) -> None:
        self.asked: list[Priority] = []
        broker.cost = lambda operation, order: {"orders": 1.0}
        for name in ("place", "find", "read", "cancel_one"):
            setattr(broker, name, self._asking(broker, getattr(broker, name)))

    def _asking(self, broker: Any, operation: Any) -> Any:
        async def asking(*values: Any) -> Any:
            permit = await broker.limiter.acquire({"orders": 1.0})
            self.asked.append(permit._priority)
            try:
                return await operation(*values)
            except NotSent:
                permit.refund()
                raise

        return asking


async def test_a_permit_is_spent_once_and_each_step_has_its_priority(clock: SteppedClock) -> None:
    venue = Venue(clock, LIMITED)
    venue.place_next.append(comes_late)
    venue.find_next.append(Inconclusive("busy"))
    order = buy()
    async with venue.client() as broker:
        counting = Counting(broker)
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
        venue.land()
        assert left(broker.limiter) == 8
        await broker.submit(order)
        await broker.cancel(order.order_id)
        assert counting.asked == [Priority.SUBMIT, Priority.RESOLVER, Priority.RESOLVER, Priority.CANCEL]


async def test_what_is_not_sent_costs_nothing(clock: SteppedClock) -> None:
    venue = Venue(clock, LIMITED)
    async with venue.client() as broker:
        Counting(broker)
        placed = await broker.submit(buy())
        assert left(broker.limiter) == 9
        with pytest.raises(OrderDenied):  # its id is another's
            await broker.submit(buy(order_id=placed.order_id, idempotency_key="another"))
        run = broker._journal.store.run

        async def halting(work: Any, then: Any = None) -> Any:
            result = await run(work, then)
            if result is True:  # the claim
                broker._halt.set("enough")
            return result

        broker._journal.store.run = halting  # type: ignore[method-assign]
        with pytest.raises(OrderDenied, match="enough"):
            await broker.submit(buy())
        broker._journal.store.run = run  # type: ignore[method-assign]
        await broker.resume()
        venue.place_next.append(fails(NotSent("refused.")))
        with pytest.raises(OrderNotPlaced):
            await broker.submit(buy())
        assert left(broker.limiter) == 9


@pytest.mark.parametrize("filled", [False, True])
async def test_an_order_that_lands_after_its_second_attempt_was_refused_is_announced(
    venue: Venue, clock: SteppedClock, filled: bool
) -> None:
    venue.place_next.extend([comes_late, answers(REJECTED)])
    order = buy()
    async with venue.client(resend_within=10) as broker:
        task = await started(broker, order)
        await clock.advance(5)
        with pytest.raises(OrderRejected):
            await task
        row = venue.land()
        if filled:
            venue.fill(row, "1", push=False)
        venue.push(venue.view(row), Trigger((OrderRef(row.id),)))
        await settle()
        found = await broker.outcome(order.idempotency_key)
        assert (found.broker_order_id, found.order_id) == (row.id, order.order_id)
        assert found.status is (OrderStatus.FILLED if filled else OrderStatus.NEW)
        assert found.reason is None
        assert [event.kind for event in venue.events].count(EventKind.LATE) == 1
