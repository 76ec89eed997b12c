"""Submit and cancel pairs through the whole venue, without latency: in memory, and durable; run it by hand.

python tests/benchmarks/bench_venue.py [pairs]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_brokers_core.platform.clock import RealClock
from mts1b_simulator import BTC_USD, ExchangeConfig, InProcessVenue, Latency, SimulatedExchange, VenueState


async def measure(pairs: int, at_once: int, path: Path | None) -> float:
    clock = RealClock()
    config = ExchangeConfig((BTC_USD,), {"a": {"USD": Decimal(10) ** 9}})
    exchange = SimulatedExchange(config, start_ns=clock.now_ns())
    state = VenueState(path) if path else None
    venue = InProcessVenue(exchange, None, clock, state, latency=Latency.none())
    await venue.start()
    orders = [Order.limit("BTC-USD", Side.BUY, "0.01", price="90000") for _ in range(pairs)]

    async def trade(first: int) -> None:
        for number in range(first, pairs, at_once):
            reply = await venue.submit(orders[number], str(number))
            await venue.cancel(reply.order.venue_order_id)

    begun = time.perf_counter()
    await asyncio.gather(*(trade(first) for first in range(at_once)))
    spent = time.perf_counter() - begun
    await venue.stop()
    return pairs / spent


async def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        memory = await measure(pairs, 50, None)
        durable = await measure(pairs, 50, Path(folder) / "venue.db")
    print(f"in memory {memory:,.0f} pairs/s, 50 at once")
    print(f"durable   {durable:,.0f} pairs/s, {durable / memory:.2f} of that")


if __name__ == "__main__":
    asyncio.run(main())
