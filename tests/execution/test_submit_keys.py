"""One key, one order: told to many callers at once, after a restart, and to another process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from scripted import REJECTED, Venue, answers, buy, fails, loses_reply, settle, waits

from mts1b_brokers_core.execution.port import Inconclusive, NotPlaced
from mts1b_brokers_core.foundation.errors import (
    IdempotencyConflict,
    OrderDenied,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
)
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, OrderStatus, Side


@pytest.mark.parametrize("callers", [2, 7, 50])
async def test_one_key_from_many_callers_is_one_place(venue: Venue, callers: int) -> None:
    order = buy()
    async with venue.client() as broker:
        answers = await asyncio.gather(*(broker.submit(order) for _ in range(callers)))
        assert len(venue.placed) == len(venue.book) == 1
        assert {answer.broker_order_id for answer in answers} == {"V1"}


async def test_one_key_from_many_callers_is_one_place_on_disk(venue: Venue, file: Path) -> None:
    order = buy()
    async with venue.client(file) as broker:
        answers = await asyncio.gather(*(broker.submit(order) for _ in range(50)))
        assert len(venue.placed) == 1
        assert {answer.broker_order_id for answer in answers} == {"V1"}


async def test_two_clients_of_one_file_place_a_key_once(venue: Venue, file: Path) -> None:
    order = buy()
    gate = asyncio.Event()
    venue.place_next.append(waits(gate))
    async with venue.client(file) as one, venue.client(file) as other:
        sending = [asyncio.create_task(client.submit(order)) for client in (one, other)]
        done, _ = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(OutcomeUnknown):
            done.pop().result()
        assert len(venue.placed) == 1
        assert venue.found == []  # its owner lives: nobody else asks or sends
        gate.set()
        results = await asyncio.gather(*sending, return_exceptions=True)
        assert sum(isinstance(result, Order) for result in results) == 1
        assert (await one.submit(order)) == (await other.submit(order))
        assert len(venue.placed) == 1


async def test_many_keys_at_once_are_all_placed(venue: Venue, file: Path) -> None:
    async with venue.client(file) as broker:
        placed = await asyncio.gather(*(broker.submit(buy()) for _ in range(60)))
        assert len({order.broker_order_id for order in placed}) == len(venue.book) == 60
        assert venue.calls.count("instruments") == 1


@pytest.mark.parametrize("ended", ["confirmed", "rejected"])
async def test_a_key_after_a_restart_gives_the_stored_answer(venue: Venue, file: Path, ended: str) -> None:
    order = buy()
    if ended == "rejected":
        venue.place_next.append(answers(REJECTED))
    async with venue.client(file) as broker:
        result = await asyncio.gather(broker.submit(order), return_exceptions=True)
    async with venue.client(file) as broker:
        if ended == "confirmed":
            assert await broker.submit(order) == result[0]
        else:
            with pytest.raises(OrderRejected, match="Insufficient funds"):
                await broker.submit(order)
        assert len(venue.placed) == 1


async def test_a_key_whose_reply_was_lost_is_asked_about_at_the_next_start(venue: Venue, file: Path) -> None:
    order = buy()
    venue.place_next.append(loses_reply())
    venue.find_next.append(Inconclusive("busy"))
    async with venue.client(file) as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
    async with venue.client(file) as broker:
        assert len(venue.found) == 2
        stored = await broker.outcome(order.idempotency_key)
        assert (stored.status, stored.broker_order_id) == (OrderStatus.NEW, "V1")
        assert len(venue.placed) == 1


async def test_a_start_places_nothing_even_where_absence_is_found(venue: Venue, file: Path) -> None:
    order = buy()
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.append(Inconclusive("busy"))
    async with venue.client(file) as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
    async with venue.client(file) as broker:
        assert len(venue.placed) == 1
        with pytest.raises(OrderNotPlaced):
            await broker.outcome(order.idempotency_key)


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": "2"}, {"limit_price": "101"}, {"side": "sell"}, {"time_in_force": "day"},
        {"post_only": True}, {"symbol": "ETH-USD"},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
async def test_a_key_with_other_terms_is_a_conflict(venue: Venue, change: dict[str, object]) -> None:
    order = buy()
    async with venue.client() as broker:
        await broker.submit(order)
        with pytest.raises(IdempotencyConflict) as caught:
            await broker.submit(order.model_copy(update=change))
        assert caught.value.reason == "idempotency_conflict"
        assert len(venue.placed) == 1


async def test_a_key_with_other_terms_is_a_conflict_while_the_first_is_under_way(venue: Venue) -> None:
    gate = asyncio.Event()
    venue.place_next.append(waits(gate))
    order = buy()
    async with venue.client() as broker:
        sending = asyncio.create_task(broker.submit(order))
        await settle()
        with pytest.raises(IdempotencyConflict):
            await broker.submit(order.model_copy(update={"quantity": "2"}))
        gate.set()
        assert (await sending).status is OrderStatus.NEW


async def test_equal_terms_written_otherwise_are_the_same_order(venue: Venue) -> None:
    async with venue.client() as broker:
        first = await broker.submit(buy("1.0", "100.00", idempotency_key="k"))
        again = await broker.submit(
            Order.limit("BTC/USD", Side.BUY, 1, price="100", idempotency_key="k", account_id="A1")
        )
        assert again == first


async def test_the_order_an_answer_carries_is_the_same_order(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy("1", "100.123", allow_adjust={"price"}))
        assert placed.limit_price is not None
        assert str(placed.limit_price) == "100.12"
        assert await broker.submit(placed) == placed
        assert len(venue.placed) == 1


async def test_another_order_id_is_an_alias(venue: Venue) -> None:
    async with venue.client() as broker:
        first = await broker.submit(buy(order_id="mine-1", idempotency_key="k"))
        again = await broker.submit(buy(order_id="mine-2", idempotency_key="k"))
        assert again == first
        assert await broker.cancel("mine-2")
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]


async def test_another_order_id_is_an_alias_while_the_first_is_under_way(venue: Venue) -> None:
    gate = asyncio.Event()
    venue.place_next.append(waits(gate))
    async with venue.client() as broker:
        both = [
            asyncio.create_task(broker.submit(buy(order_id=name, idempotency_key="k")))
            for name in ("mine-1", "mine-2")
        ]
        await settle()
        gate.set()
        first, again = await asyncio.gather(*both)
        assert first == again
        assert await broker.cancel("mine-2")


async def test_an_order_id_never_stands_for_two_orders(venue: Venue) -> None:
    venue.place_next.append(answers(REJECTED))
    async with venue.client() as broker:
        with pytest.raises(OrderRejected):
            await broker.submit(buy(order_id="mine", idempotency_key="k1"))
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(buy(order_id="mine", idempotency_key="k2"))
        assert caught.value.reason == "order_id_taken"
        assert len(venue.placed) == 1


async def test_our_ids_and_the_venues_may_look_alike(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy(order_id="V2", idempotency_key="k1"))
        second = await broker.submit(buy(order_id="other", idempotency_key="k2"))
        assert second.broker_order_id == "V2"
        venue.fill("V2", "1")
        await settle()
        assert [event.fill.order_id for event in venue.events if event.fill] == ["other"]
        assert await broker.cancel("V2")  # ours is matched first
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]


async def test_a_cancel_wanted_forbids_any_further_attempt(venue: Venue) -> None:
    venue.place_next.append(answers(NotPlaced("throttled")))
    order = buy()
    async with venue.client() as broker:
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        assert await broker.cancel(order.order_id) is False
        with pytest.raises(OrderNotPlaced, match="cancel"):
            await broker.submit(order)
        assert len(venue.placed) == 1
        assert venue.canceled == []


async def test_attempts_by_two_callers_after_an_absence_are_one(venue: Venue, file: Path) -> None:
    venue.place_next.append(answers(NotPlaced("throttled")))
    order = buy()
    async with venue.client(file) as one, venue.client(file) as other:
        with pytest.raises(OrderNotPlaced):
            await one.submit(order)
        results = await asyncio.gather(one.submit(order), other.submit(order), return_exceptions=True)
        assert len(venue.placed) == 2
        assert sum(isinstance(result, Order) for result in results) >= 1


async def test_an_answer_about_an_earlier_attempt_never_touches_a_later_one(venue: Venue) -> None:
    from mts1b_brokers_core.execution.port import Absent, Coverage, FindResult, Ticket

    asked = asyncio.Event()
    release = asyncio.Event()
    order = buy()
    client = venue.client()
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.append(Inconclusive("busy"))
    async with client as broker:
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
        honest = client.find

        async def slow(ticket: Ticket) -> FindResult:
            asked.set()
            await release.wait()
            return Absent(Coverage(("history",)))

        client.find = slow  # type: ignore[method-assign]
        resolving = asyncio.create_task(broker._resolver.wait(await record(broker, order), None))
        await asked.wait()
        client.find = honest  # type: ignore[method-assign]
        gate = asyncio.Event()
        venue.place_next.append(waits(gate))
        sending = asyncio.create_task(broker.submit(order, accept_duplicate_risk=True))
        await settle()
        assert len(venue.placed) == 2
        release.set()
        await settle()
        assert (await record(broker, order)).state == "sending"
        gate.set()
        assert (await sending).status is OrderStatus.NEW
        resolving.cancel()


async def record(broker: object, order: Order) -> object:
    from mts1b_brokers_core.execution import journal

    return broker._journal.store.read(lambda connection: journal.get(connection, order.idempotency_key))  # type: ignore[attr-defined]


async def test_a_bracket_is_one_tree_whose_children_are_orders_of_their_own(venue: Venue) -> None:
    order = Order.bracket("BTC-USD", Side.BUY, "1", price="100", take_profit="110", stop_loss="90")
    profit, loss = order.attached
    async with venue.client() as broker:
        placed = await broker.submit(order)
        assert placed.broker_order_id == "V1"
        child = await broker.outcome(profit.idempotency_key)
        assert (child.broker_order_id, child.status) == ("V2", OrderStatus.NEW)
        assert (child.broker, child.created_at) == ("scripted", placed.created_at)
        assert await broker.submit(profit) == child
        assert await broker.cancel(loss.order_id)
        assert [ref.broker_order_id for ref in venue.canceled] == ["V3"]
        venue.fill("V2", "1", "110")
        await settle()
        assert [event.fill.order_id for event in venue.events if event.fill] == [profit.order_id]
        assert len(venue.placed) == 1


async def test_a_brackets_children_are_bound_when_the_reply_was_lost(venue: Venue) -> None:
    venue.place_next.append(loses_reply())
    order = Order.bracket("BTC-USD", Side.BUY, "1", price="100", take_profit="110", stop_loss="90")
    async with venue.client() as broker:
        await broker.submit(order)
        assert (await broker.outcome(order.attached[1].idempotency_key)).broker_order_id == "V3"


async def test_a_change_made_since_does_not_make_the_key_another_order(venue: Venue) -> None:
    from scripted import PROFILE, Replaceable

    venue.profile = __import__("dataclasses").replace(PROFILE, replace="same_id")
    async with venue.client(kind=Replaceable) as broker:
        order = buy()
        placed = await broker.submit(order)
        assert isinstance(broker, Replaceable)
        changed = await broker.replace(placed.order_id, OrderChanges(limit_price="99"))
        assert await broker.submit(order) == changed
        assert await broker.submit(changed) == changed
        assert len(venue.placed) == 2
