"""A process that trades on the scripted venue until it is done or killed at a failpoint."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from scripted import Venue, buy

from mts1b_brokers_core.foundation.errors import OrderNotPlaced
from mts1b_brokers_core.platform.clock import RealClock

KEYS = 6


async def trade(folder: Path) -> None:
    venue = Venue(RealClock()).load(folder / "venue.jsonl")
    async with venue.client(folder / "journal.db") as broker:
        fills = broker.stream_fills()

        async def deliver() -> int:
            fill = await anext(fills)
            line = f"{fill.seq} {fill.fill_id}\n"
            os.write(delivered, line.encode())
            return fill.seq

        delivered = os.open(folder / "delivered", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        last = 0
        for number in range(KEYS):
            order = buy(order_id=f"k{number}")
            try:
                placed = await broker.submit(order)
            except OrderNotPlaced:  # the first request never arrived, and this venue can't prove it
                placed = await broker.submit(order, accept_duplicate_risk=True)
            row = venue.book[str(placed.broker_order_id)]
            if number % 3 == 2 and not placed.is_final:
                await broker.cancel(placed.order_id)
            elif not row.filled:
                venue.fill(row, "1")
            while last < len(venue.fills):
                last = await deliver()
            await broker.get_open_orders()


if __name__ == "__main__":
    asyncio.run(trade(Path(sys.argv[1])))
