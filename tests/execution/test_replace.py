"""Changing a working order: the same door as placing one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scripted import (
    PROFILE,
    REJECTED,
    Replaceable,
    Venue,
    answers,
    buy,
    change,
    fails,
    settle,
    waits,
)

from mts1b_brokers_core.execution.port import NotPlaced, OrderRef
from mts1b_brokers_core.foundation.errors import (
    IdempotencyConflict,
    InvalidInput,
    OrderDenied,
    OrderNotFound,
    OrderNotPlaced,
    OrderRejected,
    OrderUnsupported,
    OutcomeUnknown,
    StateUnwritable,
)
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import OrderChanges, OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock

SAME = replace(PROFILE, replace="same_id")
NEW = replace(PROFILE, replace="new_id")


def client(venue: Venue, *, path: Path | None = None, **settings: Any) -> Replaceable:
    made = venue.client(path, kind=Replaceable, **settings)
    assert isinstance(made, Replaceable)
    return made


@pytest.fixture(params=[SAME, NEW], ids=["same id", "new id"])
def venue(request: pytest.FixtureRequest, clock: SteppedClock) -> Venue:
    return Venue(clock, request.param)


async def test_our_id_stays_over_the_chain_of_the_venues(venue: Venue) -> None:
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        changed = await broker.replace(placed.order_id, OrderChanges(limit_price="99", quantity="2"))
        assert (changed.limit_price, changed.quantity) == (99, 2)
        assert changed.order_id == placed.order_id
        new = venue.profile.replace == "new_id"
        assert changed.broker_order_id == ("V2" if new else "V1")
        assert changed.broker_order_ids == (("V1", "V2") if new else ("V1",))
        assert changed.status is OrderStatus.NEW
        kinds = [event.kind for event in venue.events]
        assert kinds.count(EventKind.REPLACED) == 1
        assert EventKind.DUPLICATE not in kinds
        again = await broker.replace(placed.order_id, OrderChanges(limit_price="98"))
        assert again.broker_order_id == ("V3" if new else "V1")
        assert await broker.cancel(placed.order_id)
        assert venue.canceled[-1].broker_order_id == again.broker_order_id


async def test_fills_of_every_id_of_the_chain_are_the_orders(clock: SteppedClock) -> None:
    venue = Venue(clock, NEW)
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        venue.fill("V1", "0.4")  # it was on its way when the change was made
        venue.fill("V2", "0.6")
        await settle()
        fills = [event.fill for event in venue.events if event.fill]
        assert {fill.order_id for fill in fills} == {placed.order_id}
        assert (await broker.outcome(placed.idempotency_key)).status is OrderStatus.FILLED


async def test_the_end_of_an_id_left_behind_is_not_the_orders(clock: SteppedClock) -> None:
    venue = Venue(clock, NEW)
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        await broker.replace(placed.order_id, OrderChanges(limit_price="98"))
        venue.push(venue.view("V1"), venue.view("V2"))
        venue.push(replace(venue.view("V1"), replaced_by=None))
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.broker_order_id) == (OrderStatus.NEW, "V3")
        assert (await broker.outcome(placed.idempotency_key)).limit_price == 98


async def test_a_new_id_seen_before_the_reply_follows_the_old(clock: SteppedClock) -> None:
    venue = Venue(clock, NEW)

    async def shows_first(venue: Venue, ticket: Any) -> Any:
        result = change(venue, OrderRef("V1"), ticket)
        venue.push(venue.view("V2"))
        await settle()
        return result

    venue.replace_next.append(shows_first)
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        changed = await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        assert changed.broker_order_id == "V2"
        assert EventKind.DUPLICATE not in [event.kind for event in venue.events]


async def test_a_change_by_somebody_else_is_followed(clock: SteppedClock) -> None:
    venue = Venue(clock, NEW)
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        venue.book["V2"] = replace(venue.book["V1"], id="V2", token=None)
        venue.book["V1"].replaced_by, venue.book["V1"].status = "V2", OrderStatus.CANCELED
        venue.push(venue.view("V1"))
        venue.fill("V2", "1")
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.broker_order_id) == (OrderStatus.FILLED, "V2")


async def test_the_same_key_gives_the_stored_answer(venue: Venue) -> None:
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        changes = OrderChanges(limit_price="99")
        first = await broker.replace(placed.order_id, changes, idempotency_key="r1")
        assert await broker.replace(placed.order_id, changes, idempotency_key="r1") == first
        assert len(venue.placed) == 2
        with pytest.raises(IdempotencyConflict):
            await broker.replace(placed.order_id, OrderChanges(limit_price="98"), idempotency_key="r1")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answers(REJECTED), OrderRejected),
        (answers(NotPlaced("throttled")), OrderNotPlaced),
        (fails(TimeoutError()), OutcomeUnknown),
    ],
)
async def test_the_other_answers_leave_the_order_as_it_was_and_are_stored(
    venue: Venue, script: Any, error: type[Exception]
) -> None:
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        venue.replace_next.append(script)
        for _ in range(2):
            with pytest.raises(error):
                await broker.replace(placed.order_id, OrderChanges(limit_price="99"), idempotency_key="r1")
        assert await broker.outcome(placed.idempotency_key) == placed
        assert len(venue.placed) == 2


async def test_who_asks_for_a_change_under_way_shares_its_answer(venue: Venue) -> None:
    async with client(venue) as broker:
        placed, gate = await broker.submit(buy()), asyncio.Event()

        async def change_later(venue: Venue, ticket: Any) -> Any:
            await gate.wait()
            return change(venue, OrderRef("V1"), ticket)

        venue.replace_next.append(change_later)
        changes = OrderChanges(limit_price="99")
        asking = [
            asyncio.create_task(broker.replace(placed.order_id, changes, idempotency_key="r1"))
            for _ in range(3)
        ]
        await settle()
        with pytest.raises(IdempotencyConflict):
            await broker.replace(placed.order_id, OrderChanges(limit_price="98"), idempotency_key="r1")
        asking[0].cancel()  # whoever goes away cuts nobody's change
        await settle()
        gate.set()
        assert [order.limit_price for order in await asyncio.gather(*asking[1:])] == [99, 99]
        assert len(venue.placed) == 2


@pytest.mark.parametrize("made", [True, False])
async def test_a_change_in_doubt_is_looked_for_though_the_order_has_filled(
    clock: SteppedClock, made: bool
) -> None:
    venue = Venue(clock, SAME)

    async def lands_late(venue: Venue, ticket: Any) -> Any:
        raise TimeoutError

    venue.replace_next.append(lands_late)
    async with client(venue, reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        with pytest.raises(OutcomeUnknown):
            await broker.replace(placed.order_id, OrderChanges(limit_price="99"), idempotency_key="r1")
        if made:
            venue.book["V1"].order = venue.book["V1"].order.evolve(limit_price=Decimal(99))
        venue.fill("V1", "1")
        await settle()
        assert (await broker.outcome(placed.idempotency_key)).settled is False
        await clock.advance(61)
        order = await broker.outcome(placed.idempotency_key)
        assert (order.settled, order.limit_price) == (True, 99 if made else 100)
        again = broker.replace(placed.order_id, OrderChanges(limit_price="99"), idempotency_key="r1")
        if made:
            assert (await again).limit_price == 99
        else:
            with pytest.raises(OrderNotPlaced):
                await again


async def test_a_lost_reply_is_read_by_id(clock: SteppedClock) -> None:
    venue = Venue(clock, SAME)

    async def loses(venue: Venue, ticket: Any) -> Any:
        change(venue, OrderRef("V1"), ticket)
        raise TimeoutError

    venue.replace_next.append(loses)
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        changed = await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        assert changed.limit_price == 99
        assert await broker.outcome(placed.idempotency_key) == changed


async def test_denials_of_a_change(venue: Venue) -> None:
    async with client(venue, gates={"max_order_quantity": "5"}) as broker:
        placed = await broker.submit(buy())
        with pytest.raises(InvalidInput, match="nothing to change"):
            await broker.replace(placed.order_id, OrderChanges())
        with pytest.raises(OrderNotFound):
            await broker.replace("nope", OrderChanges(limit_price="99"))
        for changes, reason in (
            (OrderChanges(quantity="6"), "max_order_quantity"),
            (OrderChanges(limit_price="99.001"), "price"),
        ):
            with pytest.raises(OrderDenied) as caught:
                await broker.replace(placed.order_id, changes)
            assert caught.value.reason == reason
        venue.fill("V1", "0.5")
        await settle()
        with pytest.raises(OrderDenied, match=r"not above the 0\.5 already filled"):
            await broker.replace(placed.order_id, OrderChanges(quantity="0.5"))
        await broker.halt("stop")
        with pytest.raises(OrderDenied) as caught:
            await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        assert caught.value.reason == "halted"
        await broker.resume()
        venue.fill("V1", "0.5")
        await settle()
        with pytest.raises(OrderDenied, match="filled and can't be changed"):
            await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        assert len(venue.placed) == 1


async def test_where_quantity_means_the_rest_a_partly_filled_one_cannot_be_resized(
    clock: SteppedClock,
) -> None:
    venue = Venue(clock, replace(SAME, replace_quantity="remaining"))
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        assert (await broker.replace(placed.order_id, OrderChanges(quantity="2"))).quantity == 2
        venue.fill("V1", "0.5")
        await settle()
        with pytest.raises(OrderUnsupported):
            await broker.replace(placed.order_id, OrderChanges(quantity="3"))
        assert (await broker.replace(placed.order_id, OrderChanges(limit_price="99"))).limit_price == 99


async def test_a_caller_that_goes_away_does_not_cut_a_change(venue: Venue) -> None:
    gate = asyncio.Event()

    async def slow(venue: Venue, ticket: Any) -> Any:
        return change(venue, OrderRef("V1"), ticket)

    venue.replace_next.append(waits(gate, slow))
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        caller = asyncio.create_task(broker.replace(placed.order_id, OrderChanges(limit_price="99")))
        await settle()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.set()
        await settle()
        assert (await broker.outcome(placed.idempotency_key)).limit_price == Decimal(99)


async def test_two_changes_at_once_are_one(venue: Venue) -> None:
    gate = asyncio.Event()

    async def slow(venue: Venue, ticket: Any) -> Any:
        return change(venue, OrderRef("V1"), ticket)

    venue.replace_next.append(waits(gate, slow))
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        one = asyncio.create_task(broker.replace(placed.order_id, OrderChanges(limit_price="99")))
        await settle()
        with pytest.raises(OrderDenied) as caught:
            await broker.replace(placed.order_id, OrderChanges(limit_price="98"))
        assert caught.value.reason == "replace_under_way"
        gate.set()
        assert (await one).limit_price == 99


async def test_an_outcome_that_cannot_be_written_is_told(venue: Venue) -> None:
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        run = broker._journal.store.run

        async def failing(work: Any, then: Any = None) -> Any:
            if venue.placed[1:]:
                raise StateUnwritable("the disk is full.")
            return await run(work, then)

        broker._journal.store.run = failing  # type: ignore[method-assign]
        changed = await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        assert changed.limit_price == 99
        with pytest.raises(OrderDenied) as caught:
            await broker.replace(placed.order_id, OrderChanges(limit_price="98"))
        assert caught.value.reason == "journal"


async def test_a_cancel_by_token_names_none_that_the_venue_refused(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(SAME, cancel_by="token"))
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        venue.replace_next.append(answers(REJECTED))
        with pytest.raises(OrderRejected):
            await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        await broker.cancel(placed.order_id)
        assert venue.canceled == [OrderRef("V1", venue.placed[0].token)]


async def test_a_change_that_never_left_is_not_made_and_nothing_is_read(venue: Venue) -> None:
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        venue.replace_next.append(fails(ConnectionRefusedError("refused")))
        with pytest.raises(OrderNotPlaced, match="no connection was made") as caught:
            await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        assert caught.value.certainty == "proven"
        assert "read" not in venue.calls


# --- a reply that is lost ------------------------------------------------------------------------


async def loses_the_change(venue: Venue, ticket: Any) -> Any:
    """Make the change, then lose the reply and whatever could be read at once."""
    change(venue, OrderRef("V1"), ticket)
    venue.read_next.append(TimeoutError())
    raise TimeoutError("no reply")


async def lost(broker: Replaceable, venue: Venue, order_id: str) -> None:
    venue.replace_next.append(loses_the_change)
    with pytest.raises(OutcomeUnknown):
        await broker.replace(order_id, OrderChanges(limit_price="99"), idempotency_key="r1")


def replaced(venue: Venue) -> list[str]:
    return [event.message for event in venue.events if event.kind is EventKind.REPLACED]


async def test_a_change_whose_reply_was_lost_is_seen_later(venue: Venue) -> None:
    async with client(venue) as broker:
        placed = await broker.submit(buy())
        await lost(broker, venue, placed.order_id)
        assert replaced(venue) == []
        new = "V2" if venue.profile.replace == "new_id" else "V1"
        venue.push(*(venue.view(name) for name in venue.book))
        venue.push(venue.view(new))
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.limit_price, after.broker_order_id, after.status) == (
            Decimal(99), new, OrderStatus.NEW
        )  # fmt: skip
        assert replaced(venue) == ["limit_price"]
        assert EventKind.DUPLICATE not in venue.kinds()
        again = await broker.replace(placed.order_id, OrderChanges(limit_price="99"), idempotency_key="r1")
        assert again.limit_price == 99
        assert len(venue.placed) == 2


@pytest.mark.parametrize("first", ["the new id first", "the old one first", "the old one without a link"])
async def test_a_lost_change_under_a_new_id_is_found_in_any_order(clock: SteppedClock, first: str) -> None:
    venue = Venue(clock, NEW)
    async with client(venue, reconcile_every=60) as broker:
        placed = await broker.submit(buy("2"))
        await lost(broker, venue, placed.order_id)
        old, new = venue.view("V1"), venue.view("V2")
        if first == "the new id first":
            venue.push(new, old)
        elif first == "the old one first":
            venue.push(old, new)
        else:
            venue.push(replace(old, replaced_by=None))
            await settle()
            venue.push(new)
        venue.fill("V2", "0.5")
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.broker_order_id, after.limit_price) == ("V2", Decimal(99))
        assert (after.status, after.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.5"))
        assert await broker.cancel(placed.order_id)
        assert venue.canceled[-1].broker_order_id == "V2"


async def test_a_change_under_a_new_id_is_waited_for_only_so_long(clock: SteppedClock) -> None:
    venue = Venue(clock, NEW)
    venue.replace_next.append(fails(TimeoutError()))
    async with client(venue, reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        with pytest.raises(OutcomeUnknown):
            await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        assert await broker.cancel(placed.order_id)
        await clock.advance(61)
        assert (await broker.outcome(placed.idempotency_key)).settled is False
        await clock.advance(15 * 60)
        order = await broker.outcome(placed.idempotency_key)
        assert (order.status, order.settled) == (OrderStatus.CANCELED, True)


async def test_a_lost_change_is_seen_after_a_restart(venue: Venue, file: Path) -> None:
    async with client(venue, path=file) as broker:
        placed = await broker.submit(buy())
        await lost(broker, venue, placed.order_id)
    async with client(venue, path=file) as broker:
        await broker.get_open_orders()
        after = await broker.outcome(placed.idempotency_key)
        new = "V2" if venue.profile.replace == "new_id" else "V1"
        assert (after.limit_price, after.broker_order_id) == (Decimal(99), new)
        assert after.status is OrderStatus.NEW
        assert replaced(venue) == ["limit_price"]
        assert await broker.cancel(placed.order_id)


async def test_what_an_earlier_id_still_lacks_does_not_end_the_order(clock: SteppedClock) -> None:
    venue = Venue(clock, NEW)
    async with client(venue, settle_wait=5.0) as broker:
        placed = await broker.submit(buy("2"))
        hidden = venue.fill("V1", "0.5", push=False)
        venue.hidden.add(hidden.fill_id)
        await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        venue.book["V2"].filled = Decimal(0)
        venue.push(venue.view("V1"))
        await settle()
        await clock.advance(6)
        after = await broker.outcome(placed.idempotency_key)
        assert (after.is_final, after.fills_pending) == (False, False)
        venue.hidden.clear()
        venue.push(hidden)
        venue.fill("V2", "1.5")
        await settle()
        after = await broker.outcome(placed.idempotency_key)
        assert (after.status, after.filled_quantity) == (OrderStatus.FILLED, Decimal(2))
        assert after.settled
