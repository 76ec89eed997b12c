"""What is written before anything is sent, and what happens where it can't be."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from scripted import (
    DEADLINE,
    PROFILE,
    REJECTED,
    Venue,
    answers,
    buy,
    fails,
    first,
    loses_reply,
    settle,
    waits,
)

from mts1b_brokers_core.execution import journal
from mts1b_brokers_core.execution.port import Guarantee, Inconclusive, Taken, Ticket, TokenRule, guarantee_of
from mts1b_brokers_core.foundation.errors import (
    OrderDenied,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
    StateUnwritable,
)
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock


async def test_key_and_attempt_are_on_disk_before_anything_is_sent(venue: Venue, file: Path) -> None:
    seen: list[Any] = []

    def look(ticket: Ticket) -> None:
        with sqlite3.connect(file) as other:
            seen.extend(
                other.execute(
                    "SELECT orders.key, state, n, token, outcome FROM orders JOIN attempts USING (key)"
                ).fetchall()
            )
        other.close()

    venue.place_next.append(first(look))
    order = buy()
    async with venue.client(file) as broker:
        await broker.submit(order)
    assert seen == [(order.idempotency_key, "sending", 1, venue.placed[0].token, None)]


async def test_a_caller_that_goes_away_does_not_cut_the_write(venue: Venue, file: Path) -> None:
    gate = asyncio.Event()
    sent = asyncio.Event()
    venue.place_next.append(first(lambda ticket: sent.set(), waits(gate)))
    order = buy()
    async with venue.client(file) as broker:
        caller = asyncio.create_task(broker.submit(order))
        await sent.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.set()
        placed = await broker.submit(order)
        assert placed.broker_order_id == "V1"
        assert len(venue.placed) == 1


async def test_closing_waits_for_a_write_and_then_leaves_it_unknown(
    venue: Venue, clock: SteppedClock, file: Path
) -> None:
    sent = asyncio.Event()
    venue.place_next.append(first(lambda ticket: sent.set(), waits(asyncio.Event())))
    order = buy()
    broker = venue.client(file)
    await broker.__aenter__()
    caller = asyncio.create_task(broker.submit(order))
    await sent.wait()
    closing = asyncio.create_task(broker.close())
    await settle()
    assert not closing.done()
    await clock.advance(broker.settings.close_timeout)
    await closing
    with pytest.raises(OutcomeUnknown, match="closed before the venue answered"):
        await caller
    async with venue.client(file) as again:
        with pytest.raises(OrderNotPlaced):
            await again.outcome(order.idempotency_key)


async def test_closing_lets_a_write_that_ends_in_time_finish(venue: Venue, file: Path) -> None:
    gate = asyncio.Event()
    sent = asyncio.Event()
    venue.place_next.append(first(lambda ticket: sent.set(), waits(gate)))
    broker = venue.client(file)
    await broker.__aenter__()
    caller = asyncio.create_task(broker.submit(buy()))
    await sent.wait()
    closing = asyncio.create_task(broker.close())
    gate.set()
    assert (await caller).status is OrderStatus.NEW
    await closing


@pytest.mark.parametrize("path", [None, "file"])
async def test_a_halt_between_claim_and_write_denies_and_frees_the_key(
    venue: Venue, file: Path, path: str | None
) -> None:
    broker = venue.client(file if path else None)
    order = buy()
    async with broker:
        run = broker._journal.store.run

        async def halting(work: Any, then: Any = None) -> Any:
            result = await run(work, then)
            if result is True:  # the claim
                broker._halt.set("something is wrong")
            return result

        broker._journal.store.run = halting  # type: ignore[method-assign]
        with pytest.raises(OrderDenied, match="something is wrong") as caught:
            await broker.submit(order)
        assert caught.value.reason == "halted"
        assert venue.placed == []
        await broker.resume()
        broker._journal.store.run = run  # type: ignore[method-assign]
        assert (await broker.submit(order)).broker_order_id == "V1"
        assert venue.placed[0].attempt == 2


async def test_a_halt_is_seen_by_every_client_of_the_state_and_cancels_pass(venue: Venue, file: Path) -> None:
    async with venue.client(file) as one, venue.client(file) as other:
        placed = await one.submit(buy())
        await other.halt("end of day")
        assert one.halted == "end of day"
        with pytest.raises(OrderDenied) as caught:
            await one.submit(buy())
        assert caught.value.reason == "halted"
        assert await one.submit(placed) == placed  # a stored answer is no order
        assert await one.cancel(placed.order_id)
        await one.resume()
        assert other.halted is None
        assert (await other.submit(buy())).broker_order_id == "V2"
    async with venue.client(file) as broker:
        kinds = [event.kind for event in venue.events]
        assert EventKind.HALTED in kinds
        assert EventKind.RESUMED in kinds
        await broker.halt("again")
    async with venue.client(file) as broker:
        assert broker.halted == "again"


async def test_a_request_whose_time_passed_in_the_journal_is_not_sent(clock: SteppedClock) -> None:
    venue = Venue(clock, DEADLINE)
    order = buy()
    async with venue.client() as broker:
        run = broker._journal.store.run

        async def slow(work: Any, then: Any = None) -> Any:
            result = await run(work, then)
            await clock.advance(11)
            return result

        broker._journal.store.run = slow  # type: ignore[method-assign]
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(order)
        assert caught.value.reason == "too_late"
        assert venue.placed == []
        broker._journal.store.run = run  # type: ignore[method-assign]
        placed = await broker.submit(order)
        assert placed.broker_order_id == "V1"
        assert venue.placed[0].not_after == clock.now() + timedelta(seconds=10)


def break_at(broker: Any, when: int) -> None:
    """Let the journal's nth transaction from now on, and all after it, fail as on a full disk."""
    run = broker._journal.store.run
    count = 0

    async def failing(work: Any, then: Any = None) -> Any:
        nonlocal count
        count += 1
        if count >= when:
            raise StateUnwritable("the disk is full.", next_step="free disk space")
        return await run(work, then)

    broker._journal.store.run = failing


async def test_an_attempt_that_cannot_be_journalled_is_denied_and_not_sent(venue: Venue) -> None:
    async with venue.client() as broker:
        break_at(broker, 1)
        with pytest.raises(OrderDenied, match="could not be journalled: the disk is full") as caught:
            await broker.submit(buy())
        assert caught.value.reason == "journal"
        assert caught.value.next_step == "free disk space"
        assert venue.placed == []


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (None, None),
        (answers(REJECTED), OrderRejected),
        (fails(TimeoutError()), OutcomeUnknown),
        (fails(ConnectionRefusedError()), OrderNotPlaced),
    ],
)
async def test_an_outcome_that_cannot_be_journalled_is_told_and_stops_new_orders(
    venue: Venue, script: Any, error: type[Exception] | None
) -> None:
    if script:
        venue.place_next.append(script)
    order = buy()
    async with venue.client() as broker:
        break_at(broker, 2)
        for _ in range(2):  # the answer is remembered as long as the broker lives
            if error is None:
                assert (await broker.submit(order)).broker_order_id == "V1"
            elif error is not OrderNotPlaced or _ == 0:
                with pytest.raises(error):
                    await broker.submit(order)
        with pytest.raises(OrderDenied, match="last outcome could not be journalled") as caught:
            await broker.submit(buy())
        assert caught.value.reason == "journal"
        assert len(venue.placed) == 1


async def test_cancels_pass_where_the_journal_fails(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        break_at(broker, 1)
        assert await broker.cancel(placed.order_id)
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]


async def test_an_observer_that_fails_spoils_no_answer(venue: Venue, caplog: Any) -> None:
    client = venue.client()

    def emit(event: Any) -> None:
        raise RuntimeError("observer")

    client._event_log._emit = emit
    async with client as broker:
        assert (await broker.submit(buy())).broker_order_id == "V1"
    assert "an observer failed" in caplog.text


async def test_what_is_sent_is_told_to_observers_with_its_outcome(venue: Venue) -> None:
    async with venue.client() as broker:
        order = await broker.submit(buy())
        told = [(event.kind, event.detail.get("outcome")) for event in venue.events]
        assert (EventKind.REQUEST_SENT, None) in told
        assert (EventKind.OUTCOME, "confirmed") in told
        assert {event.offset for event in venue.events if event.kind is EventKind.STATUS} == {1}
        assert order.broker_order_id == "V1"


async def test_a_cancel_wanted_while_unknown_is_sent_when_the_order_is_found(
    venue: Venue, clock: SteppedClock
) -> None:
    venue.place_next.append(loses_reply())
    venue.find_next.extend([Inconclusive("one"), Inconclusive("two")])
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as unknown:
            await broker.submit(order)
        with pytest.raises(OutcomeUnknown, match="cancel is sent the moment it is found"):
            await broker.cancel(order.order_id)
        assert venue.canceled == []
        placed = await unknown.value.resolved()
        await settle()
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]
        assert (await broker.outcome(order.idempotency_key)).cancel_requested
        assert placed.broker_order_id == "V1"


@pytest.mark.parametrize("seen_by", ["start", "frame", "reply"])
async def test_a_wanted_cancel_is_sent_however_the_id_comes(venue: Venue, file: Path, seen_by: str) -> None:
    gate = asyncio.Event()
    sent = asyncio.Event()
    script = first(lambda ticket: sent.set(), waits(gate)) if seen_by == "reply" else loses_reply()
    venue.place_next.append(script)
    venue.find_next.extend([Inconclusive("one"), Inconclusive("two")])
    order = buy()
    canceled = asyncio.Event()
    venue.cancel_next.append(lambda ref: (canceled.set(), Taken())[1])
    async with venue.client(file) as broker:
        submitting = asyncio.create_task(broker.submit(order))
        if seen_by == "reply":
            await sent.wait()
        else:
            with pytest.raises(OutcomeUnknown):
                await submitting
        with pytest.raises(OutcomeUnknown):
            await broker.cancel(order.order_id)
        if seen_by == "reply":
            gate.set()
            assert (await submitting).broker_order_id == "V1"
            await canceled.wait()
        elif seen_by == "frame":
            venue.push(venue.view("V1"))
            await canceled.wait()
    if seen_by == "start":
        async with venue.client(file):
            await canceled.wait()
    assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]
    assert len(venue.placed) == 1


@pytest.mark.parametrize(
    ("profile", "durable", "expected"),
    [
        (replace(PROFILE, token=TokenRule("forever", dedupes=True)), False, Guarantee.NATIVE),
        (replace(PROFILE, token=TokenRule("while_open", dedupes=True)), True, Guarantee.RESOLVER_PROBABLE),
        (DEADLINE, True, Guarantee.RESOLVER_PROVEN),
        (DEADLINE, False, Guarantee.THIS_PROCESS),
        (PROFILE, True, Guarantee.RESOLVER_PROBABLE),
        (replace(PROFILE, token=TokenRule("none")), True, Guarantee.FINGERPRINT),
        (replace(PROFILE, token=TokenRule("none")), False, Guarantee.THIS_PROCESS),
    ],
)
def test_the_guarantee_is_computed(profile: Any, durable: bool, expected: Guarantee) -> None:
    assert guarantee_of(profile, durable=durable) is expected


async def test_the_repr_says_what_is_promised_and_where(venue: Venue, file: Path) -> None:
    async with venue.client() as broker:
        assert "account=A1, journal=memory, guarantee=this process only, open" in repr(broker)
    async with venue.client(file) as broker:
        assert f"journal={file}, guarantee=resolver, probable" in repr(broker)
        assert "\n" not in repr(broker)


async def test_secrets_and_bodies_are_frozen_as_they_were_sent(venue: Venue, file: Path) -> None:
    order = buy("1", "100.129", allow_adjust={"price"})
    async with venue.client(file) as broker:
        await broker.submit(order)
        tries = broker._journal.store.read(
            lambda connection: journal.attempts(connection, order.idempotency_key)
        )
        assert '"limit_price":"100.12"' in tries[0].body
        assert tries[0].outcome == "confirmed"
