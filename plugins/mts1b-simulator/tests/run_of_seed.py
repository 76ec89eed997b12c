"""One run of traders on the synthetic market, as a digest of everything reported; started by test_laws."""

from __future__ import annotations

import hashlib
from itertools import islice
from random import Random

from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_simulator import DEFAULT_INSTRUMENTS, ExchangeConfig, SimulatedExchange, synthetic_market
from mts1b_simulator.commands import CancelCommand, SubmitCommand
from mts1b_simulator.latency import UniformDelay

START = 1_767_625_200_000_000_000


def digest(seed: int, events: int = 3_000) -> str:
    exchange = SimulatedExchange(ExchangeConfig(DEFAULT_INSTRUMENTS), start_ns=START)
    rng, delay, log = Random(seed), UniformDelay(1_000_000, 90_000_000, seed=seed), hashlib.sha256()
    for number, event in enumerate(islice(synthetic_market(seed, start_ns=START), events)):
        exchange.apply(event)
        quote = exchange.quote(event.symbol)
        if quote and quote.bid and quote.ask and number % 7 == 0:
            side = rng.choice((Side.BUY, Side.SELL))
            price = quote.bid if side is Side.BUY else quote.ask
            crypto = event.symbol.endswith("-USD")
            order = Order.limit(
                event.symbol, side, "0.01" if crypto else "10", price=price, order_id=f"o{number}",
                time_in_force=rng.choice(("gtc", "ioc", "day")),
            )  # fmt: skip
            arrival = exchange.now_ns + delay.next_ns()
            exchange.send(SubmitCommand(arrival, order, f"t{number}"))
            if number % 21 == 0:
                exchange.send(CancelCommand(arrival + delay.next_ns(), f"S1-{number // 7}"))
        for report in exchange.drain().reports:
            log.update(repr(report).encode())
    log.update(repr(exchange.balances("paper")).encode())
    return log.hexdigest()
