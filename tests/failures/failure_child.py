"""A process of its own that submits one order under one key, as often as it is told, at once."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core import Order, Side


def say(words: Any) -> None:
    print(json.dumps(words), flush=True)


async def work() -> None:
    told = json.loads(sys.stdin.readline())
    order = Order.limit("BTC-USD", Side.BUY, "0.5", price="90000", idempotency_key=told["key"])
    async with ReferenceClient(**told["settings"]) as broker:
        say("ready")
        sys.stdin.readline()
        answers = await asyncio.gather(*(broker.submit(order) for _ in range(told["times"])))
        say([answer.broker_order_id for answer in answers])
        sys.stdin.readline()


if __name__ == "__main__":
    asyncio.run(work())
