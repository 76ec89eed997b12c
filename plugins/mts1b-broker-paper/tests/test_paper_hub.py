"""One key, one order over all instances of a hub, whichever way an order goes in."""

from __future__ import annotations

import asyncio

import pytest

from mts1b_brokers_core import BrokerHub, IdempotencyConflict, Order, Side

CONFIG = {"brokers": {name: {"broker": "paper", "memory": True, "pace": "fast"} for name in ("a", "b")}}
ORDER = Order.limit("BTC-USD", Side.BUY, "0.01", price="50000", idempotency_key="k1")


async def test_a_key_of_one_instance_is_refused_by_the_other_directly() -> None:
    async with BrokerHub.from_config(CONFIG) as hub:
        placed = await hub["a"].submit(ORDER)
        with pytest.raises(IdempotencyConflict, match="belongs to an order at a"):
            await hub["b"].submit(ORDER)
        with pytest.raises(IdempotencyConflict, match="belongs to an order at a"):
            await hub.submit("b", ORDER)
        assert (await hub["a"].submit(ORDER)).broker_order_id == placed.broker_order_id
        assert await hub["b"].get_open_orders() == []


async def test_two_instances_at_once_under_one_key_place_one_order() -> None:
    async with BrokerHub.from_config(CONFIG) as hub:
        answers = await asyncio.gather(
            *(hub[name].submit(ORDER) for name in ("a", "b", "a", "b")), return_exceptions=True
        )
        orders = [answer for answer in answers if isinstance(answer, Order)]
        refused = [answer for answer in answers if isinstance(answer, IdempotencyConflict)]
        assert (len(orders), len(refused)) == (2, 2)
        assert len({order.broker_order_id for order in orders}) == 1
        assert sum([len(await broker.get_open_orders()) for broker in hub.ready.values()]) == 1
