"""Matching throughput beside a bare integer book on the same flow, in one process; run it by hand.

    python tests/benchmarks/bench_book.py [events]

Flow: 55 % limit adds within 30 ticks of a walking mid, 35 % cancels of a random earlier order, 10 % market
orders. Exits with 1 where a budget is missed.
"""

from __future__ import annotations

import gc
import sys
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_simulator import BTC_USD, ExchangeConfig, FeeRule, SimulatedExchange, VolumeTier
from mts1b_simulator.book import Book, RestingOrder

Event = tuple[str, int, int, int, str]


def flow(count: int, seed: int = 7) -> list[Event]:
    rng = Random(seed)
    mid, events, adds = 100_000, [], 0
    for _ in range(count):
        draw = rng.random()
        mid += rng.choice((-1, 0, 0, 1))
        if draw < 0.55 or not adds:
            side = rng.choice((1, -1))
            events.append(("add", side, mid - side * rng.randint(-5, 30), rng.randint(1, 100), f"o{adds}"))
            adds += 1
        elif draw < 0.90:
            events.append(("cancel", rng.randrange(adds), 0, 0, ""))
        else:
            events.append(("market", rng.choice((1, -1)), 0, rng.randint(1, 200), "m"))
    return events


class Floor:
    """The least a book can do: sorted keys, a queue a level, lazy cancel; it reports no trades."""

    def __init__(self) -> None:
        self.keys: dict[int, list[int]] = {1: [], -1: []}
        self.levels: dict[int, dict[int, deque[list[int]]]] = {1: {}, -1: {}}
        self.traded = self.trades = 0

    def match(self, side: int, worst: int | None, quantity: int) -> int:
        keys, levels = self.keys[-side], self.levels[-side]
        while quantity and keys:
            key = keys[-1]
            if worst is not None and key < worst:
                break
            queue = levels[key]
            while queue and quantity:
                order = queue[0]
                if not order[0]:
                    queue.popleft()
                    continue
                lots = order[0] if order[0] < quantity else quantity
                order[0] -= lots
                quantity -= lots
                self.traded += lots
                self.trades += 1
                if not order[0]:
                    queue.popleft()
            if not queue:
                keys.pop()
                del levels[key]
        return quantity

    def add(self, side: int, price: int, quantity: int) -> list[int]:
        order = [self.match(side, -side * price, quantity)]
        if order[0]:
            key = side * price
            queue = self.levels[side].get(key)
            if queue is None:
                queue = self.levels[side][key] = deque()
                insort(self.keys[side], key)
            queue.append(order)
        return order


def run_floor(events: list[Event]) -> tuple[int, int]:
    book, orders = Floor(), []
    for kind, a, b, c, _ in events:
        if kind == "add":
            orders.append(book.add(a, b, c))
        elif kind == "cancel":
            orders[a][0] = 0
        else:
            book.match(a, None, c)
    return book.traded, book.trades


def run_book(events: list[Event], book: Book | None = None) -> tuple[int, int]:
    book = book or Book()
    orders: list[RestingOrder] = []
    traded = trades = 0
    for kind, a, b, c, name in events:
        if kind == "add":
            order = RestingOrder(name, a, b, c)
            taken = book.add(order)
            orders.append(order)
        elif kind == "cancel":
            book.cancel(orders[a])
            continue
        else:
            taken = book.take(RestingOrder(name, a, 0, c), None)
        for trade in taken.trades:
            traded += trade.quantity
            trades += 1
    return traded, trades


def exchange_flow(events: list[Event]) -> tuple[SimulatedExchange, list[Any]]:
    fees = (FeeRule(tiers=(VolumeTier(Decimal("0.001"), Decimal("0.002")),)),)
    rich = {"USD": Decimal(10) ** 12, "BTC": Decimal(10) ** 6}
    exchange = SimulatedExchange(ExchangeConfig((BTC_USD,), {"maker": rich, "taker": rich}, fees))
    calls: list[Any] = []
    for kind, a, b, c, _ in events:
        side = Side.BUY if a > 0 else Side.SELL
        if kind == "add":
            calls.append(
                Order.limit("BTC-USD", side, Decimal(c) / 1000, price=Decimal(b) / 100, account_id="maker")
            )
        elif kind == "market":
            calls.append(Order.market("BTC-USD", side, Decimal(c) / 1000, account_id="taker"))
        else:
            calls.append(a)
    return exchange, calls


def run_exchange(prepared: tuple[SimulatedExchange, list[Any]]) -> tuple[int, int]:
    exchange, calls = prepared
    ids, token = [], 0
    for call in calls:
        if type(call) is int:
            exchange.cancel(ids[call])
        else:
            token += 1
            reply = exchange.submit(call, str(token))
            if call.limit_price is not None:
                ids.append(reply.order.venue_order_id)
        if not token % 256:
            exchange.drain()
    return 0, len(exchange.recorder.fills)


def rate(work: Callable[[], object], count: int, runs: int = 3) -> float:
    best = 0.0
    for _ in range(runs):
        gc.collect()
        begun = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - begun))
    return best


def exchange_rate(events: list[Event]) -> float:
    prepared = exchange_flow(events)
    return rate(lambda: run_exchange(prepared), len(events), 1)


def resting(orders: int, events: int) -> float:
    """Events a second in a book that holds so many orders already."""
    rng, book = Random(3), Book()
    for number in range(orders):
        side = rng.choice((1, -1))
        book.rest(RestingOrder(str(number), side, 100_000 - side * rng.randint(40, 2_000), 10))
    rows = flow(events, 11)
    gc.collect()
    gc.freeze()
    begun = time.perf_counter()
    run_book(rows, book)
    spent = time.perf_counter() - begun
    gc.unfreeze()
    return events / spent


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    events = flow(count)
    assert run_floor(events)[0] == run_book(events)[0], "the two books disagree"
    floor = rate(lambda: run_floor(events), count)
    core = rate(lambda: run_book(events), count)
    few = count // 4
    full = max(exchange_rate(events[:few]) for _ in range(3))
    pairs = [
        (resting(10_000, few), resting(1_000_000, few)) for _ in range(2)
    ]  # side by side: machines breathe
    small, large = max(row[0] for row in pairs), max(row[1] for row in pairs)
    rows = [
        ("matching core with both-sided trades", core, core / floor, 0.5),
        ("with accounts, fees, validation, reports", full, full / floor, 0.1),
        ("core at 1 M resting orders, against 10 k", large, large / small, 0.5),
    ]
    print(f"{'bare integer book':42} {floor:12,.0f} /s")
    for name, speed, share, budget in rows:
        print(f"{name:42} {speed:12,.0f} /s   {share:5.2f}   budget {budget}")
    return int(any(share < budget for _, _, share, budget in rows))


if __name__ == "__main__":
    sys.exit(main())
