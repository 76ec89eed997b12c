"""A trader on a durable venue that prints what was acknowledged; started and killed by test_state."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from pathlib import Path

from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_brokers_core.platform.clock import SteppedClock, from_ns
from mts1b_simulator import (
    ExchangeConfig,
    FeeRule,
    InProcessVenue,
    QuoteEvent,
    SimulatedExchange,
    TradeEvent,
    VenueState,
    VolumeTier,
    spot,
)

START = 1_767_625_200_000_000_000
COIN = spot("COIN-USD", "Coin", lot="0.01")


def say(*words: object) -> None:
    print(*words, flush=True)


def open_exchange() -> SimulatedExchange:
    fees = (FeeRule((VolumeTier(Decimal("0.001"), Decimal("0.002")),)),)
    accounts = {"a": {"USD": Decimal(10_000), "COIN": Decimal(10)}}
    return SimulatedExchange(ExchangeConfig((COIN,), accounts, fees), start_ns=START)


async def main(path: str) -> None:
    feed: list[QuoteEvent | TradeEvent] = []
    for number in range(40):
        at = START + number * 1_000_000_000
        feed.append(
            QuoteEvent(at, "COIN-USD", f"q{number}", Decimal(99), Decimal(5), Decimal(101), Decimal(5))
        )
        feed.append(TradeEvent(at + 500_000_000, "COIN-USD", f"t{number}", Decimal(98), Decimal("0.5")))
    clock = SteppedClock(from_ns(START), auto=True)
    venue = InProcessVenue(open_exchange(), feed, clock, VenueState(Path(path)))
    await venue.start()

    async def read() -> None:
        async for report in venue.reports(0):
            if report.fill is not None:
                say("FILL", report.fill.trade_id, report.fill.token, report.fill.quantity)

    reader = asyncio.create_task(read())
    for number in range(10):
        order = Order.limit("COIN-USD", Side.BUY, "1", price="99" if number % 3 else "102")
        reply = await venue.submit(order, f"k{number}")
        say("ACK", f"k{number}", reply.order.venue_order_id, reply.duplicate)
        if number % 4 == 3 and (await venue.cancel(reply.order.venue_order_id)).taken:
            say("GONE", f"k{number}")
        await clock.sleep(1)
    await venue.stop()
    await reader
    say("END")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
