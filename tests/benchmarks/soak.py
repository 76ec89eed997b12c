"""`hatch run soak`: an hour of trading in simulated time, watched for what grows.

200,000 orders by default, each filled in two parts or cancelled, through a journal on disk, with a reader of
fills and one of events. Memory, open files and tasks must stay flat after the first fifth, every fill must
arrive once, and nothing may warn. `--orders N` makes it shorter; exit status 1 on a miss.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from bench_journal import resident
from fast_broker import FastBroker

from mts1b_brokers_core.execution import port
from mts1b_brokers_core.foundation.orders import Order, OrderStatus, Side
from mts1b_brokers_core.platform.clock import SteppedClock

HOUR, AT_ONCE = 3600.0, 20
#: What the last fifth may hold beside the first, in megabytes: SQLite's own caches among it.
GROWTH = 24.0
HALF = Decimal("0.005")


class Market(FastBroker):
    """Fills each order in two parts by frames; one in ten waits for its cancel."""

    def __init__(self, clock: SteppedClock, path: Path) -> None:
        super().__init__("", clock, state_path=path)
        self.profile = port.VenueProfile("bench", port.TokenRule("forever", dedupes=True))
        self.pushed: asyncio.Queue[list[port.Decoded]] = asyncio.Queue()
        self.filled = 0

    async def frames(self):  # type: ignore[no-untyped-def, override]
        while True:
            yield await self.pushed.get()

    def decode(self, frame: list[port.Decoded]) -> list[port.Decoded]:  # type: ignore[override]
        return frame

    async def place(self, ticket: port.Ticket) -> port.PlaceResult:
        ack = await super().place(ticket)
        assert isinstance(ack, port.Ack)
        number = int(str(ack.ref.broker_order_id)[1:])
        if number % 10:
            at, order = self.clock.now(), ticket.order
            for part in "ab":
                self.filled += 1
                seen = port.Execution(
                    f"{number}{part}", ack.ref, order.symbol, order.side, HALF, Decimal(64_000), at, ()
                )
                self.pushed.put_nowait([seen])
        return ack

    async def read(self, refs):  # type: ignore[no-untyped-def, override]
        return port.listed([port.OrderView(ref, OrderStatus.CANCELED) for ref in refs], "orders")


async def trade(orders: int, path: Path) -> list[str]:
    """Trade for an hour and return what is wrong."""
    clock = SteppedClock(datetime(2026, 7, 1, 12, tzinfo=UTC), auto=True)
    seen: list[int] = []
    figures: list[tuple[float, int, int]] = []
    began = time.perf_counter()
    async with Market(clock, path) as broker:

        async def read_fills() -> None:
            async for fill in broker.stream_fills(consumer="fills"):
                seen[0:1] = [fill.seq]
                if fill.seq == broker.filled and done.is_set():
                    return

        async def read_events() -> None:
            async for _ in broker.stream_events(consumer="events"):
                pass

        done = asyncio.Event()
        readers = [asyncio.create_task(read_fills()), asyncio.create_task(read_events())]
        left = iter(range(orders))

        async def work() -> None:
            for number in left:
                order = await broker.submit(Order.limit("BTC-USD", Side.BUY, "0.01", price="64000"))
                if not int(str(order.broker_order_id)[1:]) % 10:
                    await broker.cancel(order.order_id)
                await clock.sleep(HOUR / orders * AT_ONCE)
                if number % max(1, orders // 20) == 0:
                    figures.append((resident(), len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())))
                    if sys.stderr.isatty():
                        print(f"\r{number:,} orders, {resident():.0f} MB ", end="", file=sys.stderr)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        done.set()
        while not seen or seen[0] < broker.filled:  # noqa: ASYNC110 - in real time: the clock is simulated
            await asyncio.sleep(0.01)
        for reader in readers:
            reader.cancel()
        open_orders = len(await broker.unresolved())
    took = time.perf_counter() - began
    early, late = figures[len(figures) // 5], figures[-1]
    print(f"{orders:,} orders and {broker.filled:,} fills of {HOUR / 60:.0f} minutes in {took:.0f} s")
    for name, first, last in zip(("memory, MB", "open files", "tasks"), early, late, strict=True):
        print(f"{name:12} {first:8.0f} after a fifth {last:8.0f} at the end")
    wrong = []
    if late[0] - early[0] > GROWTH:
        wrong.append(f"memory grew by {late[0] - early[0]:.0f} MB, allowed {GROWTH:.0f}")
    wrong += [f"{name} grew" for name, at in (("open files", 1), ("tasks", 2)) if late[at] > early[at] + 4]
    if seen[0] != broker.filled:
        wrong.append(f"{broker.filled - seen[0]} fills did not arrive")
    if open_orders:
        wrong.append(f"{open_orders} orders are unresolved")
    return wrong


def main() -> int:
    """Run it."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--orders", type=int, default=200_000)
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(trade(arguments.parse_args().orders, Path(folder) / "soak.journal"))
    wrong += [f"warned: {text}" for text in dict.fromkeys(told)]
    print("\n".join(wrong) or "all flat, nothing lost, nothing warned")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
