"""What remembering every order costs, and that neither time nor memory grows with what is remembered.

`--orders N` sets how far one file is filled (default 20,000; a million takes a quarter of an hour).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from fast_broker import FastBroker

from mts1b_brokers_core.execution import port
from mts1b_brokers_core.foundation.orders import Order, OrderStatus, Side

AT_ONCE, ROUNDS, ORDERS = 50, 7, 500
#: Journalled beside unjournalled, at most; and the last orders of a full file beside its first.
COST, GROWTH, MEMORY = 3.0, 1.5, 1.3


def order() -> Order:
    """Build one like another."""
    return Order.limit("BTC-USD", Side.BUY, "0.01", price="64000")


async def paced(broker: FastBroker, count: int) -> float:
    """Place so many orders, 50 at once, and return the microseconds each took."""
    orders = iter([order() for _ in range(count)])

    async def work() -> None:
        for one in orders:
            await broker.submit(one)

    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return (time.perf_counter() - begin) / count * 1e6


def resident() -> float:
    """Return the megabytes this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def cost(folder: Path) -> bool:
    """Compare a journal on disk with one in memory, in turn."""
    async with FastBroker() as memory, FastBroker(state_path=folder / "cost.journal") as disk:
        took: dict[str, list[float]] = {"memory": [], "disk": []}
        for number in range(ROUNDS + 1):
            for name, broker in (("memory", memory), ("disk", disk)):
                each = await paced(broker, ORDERS)
                if number:
                    took[name].append(each)
    kept, bare = statistics.median(took["disk"]), statistics.median(took["memory"])
    print(f"an order in memory      {bare:8.0f} us")
    print(f"an order journalled     {kept:8.0f} us, {AT_ONCE} at once")
    return verdict("journalled / in memory", kept / bare, COST)


class Ending(FastBroker):
    """Takes every order and ends it at once, unfilled: of the many orders of a state file few work."""

    async def place(self, ticket: port.Ticket) -> port.PlaceResult:
        """Acknowledge the order as cancelled by the venue."""
        ref = port.OrderRef(f"O{next(self.ids)}", ticket.token)
        return port.Ack(ref, port.OrderView(ref, OrderStatus.CANCELED, cumulative_quantity=Decimal(0)))


async def growth(folder: Path, total: int) -> bool:
    """Fill one file and watch time and memory; then open it again."""
    path = folder / "growth.journal"
    figures: list[tuple[int, float, float]] = []
    steps = [n for n in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000) if n < total] + [total]
    async with Ending(state_path=path) as broker:
        done = 0
        for step in steps:
            each = 0.0
            while done < step:
                count = min(1_000, step - done)
                each = await paced(broker, count)
                done += count
            figures.append((done, each, resident()))
            print(f"{done:10,} orders  {each:8.0f} us each  {resident():8.0f} MB resident", flush=True)
    begin = time.perf_counter()
    async with Ending(state_path=path, first=total) as broker:
        opened = time.perf_counter() - begin
        await broker.submit(order())
    print(f"opening it again        {opened:8.2f} s, {path.stat().st_size / 1e6:.0f} MB")
    slower = figures[-1][1] / figures[0][1]
    larger = figures[-1][2] / figures[0][2]
    fine = verdict(f"time of an order, {figures[-1][0]:,} / {figures[0][0]:,}", slower, GROWTH)
    return verdict("memory, at the same two", larger, MEMORY) and fine


def verdict(what: str, ratio: float, budget: float) -> bool:
    """Print a ratio beside its budget."""
    print(f"{what:40} {ratio:5.2f}  budget {budget:4.2f}  {'ok' if ratio <= budget else 'MISSED'}")
    return ratio <= budget


def main() -> int:
    """Run both."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--orders", type=int, default=20_000)
    with tempfile.TemporaryDirectory() as folder:
        fine = [
            asyncio.run(cost(Path(folder))),
            asyncio.run(growth(Path(folder), arguments.parse_args().orders)),
        ]
    return int(not all(fine))


if __name__ == "__main__":
    sys.exit(main())
