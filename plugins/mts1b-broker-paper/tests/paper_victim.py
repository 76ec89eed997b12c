"""What a process does until it is killed: submits under fixed keys, reads fills, and notes what it was told.

A warm parent forks victims, so that a kill costs milliseconds. What a victim learned from the broker
goes to an append-only file that is synced line by line: it is the memory of the world outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

from mts1b_broker_paper.client import PaperClient
from mts1b_brokers_core import BrokerError, Order, OrderNotPlaced, OutcomeUnknown, Side
from mts1b_brokers_core.platform import failpoints

#: In memory the exchange would forget; on disk, without latency, a run is quick.
SETTINGS: dict[str, Any] = {
    "submit_latency": 0, "cancel_latency": 0, "pace": "fast", "settle_wait": 1, "cash": {"USD": "100000000"},
}  # fmt: skip


class Ledger:
    """An append-only file of facts, each on disk before the next thing happens."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def add(self, **fact: Any) -> None:
        os.write(self._file, json.dumps(fact).encode() + b"\n")
        os.fsync(self._file)


def facts(path: Path) -> list[dict[str, Any]]:
    """Read the facts; the last line may be cut off."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def fork(work: Callable[[], Coroutine[Any, Any, None]], failpoint: str) -> int:
    """Run work in a forked process that dies at the failpoint; return its exit status as a signal or code."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            failpoints.arm(failpoint)
            asyncio.run(work())
        except BaseException:  # noqa: BLE001 - the child must never return into the test runner
            traceback.print_exc()
            code = 1
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def was_killed(status: int) -> bool:
    return status == -signal.SIGKILL


def order_for(key: str) -> Order:
    """The order of a key: every third rests far below the market, the others fill at once."""
    number = int(key.split("-")[1])
    if number % 3 == 2:
        return Order.limit("BTC-USD", Side.BUY, "0.01", price="50000", idempotency_key=key)
    side = Side.SELL if number % 3 == 1 else Side.BUY
    quantity = "0.01" if side is Side.SELL else "0.02"
    return Order.market("BTC-USD", side, quantity, idempotency_key=key)


async def trade(state: Path, world: Path, first: int, count: int) -> None:
    """Submit the orders of some keys and read the fills, writing down every answer and every fill."""
    ledger = Ledger(world)
    async with PaperClient(state_path=state, **SETTINGS) as broker:
        ledger.add(opened=os.getpid())
        reader = asyncio.create_task(read_fills(broker, ledger))
        for number in range(first, first + count):
            order = order_for(f"k-{number}")
            ledger.add(asked=order.idempotency_key)
            await submit(broker, order, ledger)
            if number % 3 == 2:
                await broker.cancel(order.order_id)
        reader.cancel()


async def submit(broker: PaperClient, order: Order, ledger: Ledger) -> None:
    try:
        placed = await broker.submit(order)
        ledger.add(placed=order.idempotency_key, id=placed.broker_order_id)
    except (OrderNotPlaced, OutcomeUnknown) as error:
        ledger.add(unclear=order.idempotency_key, why=error.code)
    except BrokerError as error:
        ledger.add(refused=order.idempotency_key, why=str(error))


async def read_fills(broker: PaperClient, ledger: Ledger) -> None:
    async for fill in broker.stream_fills():
        ledger.add(fill=fill.fill_id, seq=fill.seq, key_order=fill.broker_order_id)


async def audit(state: Path, world: Path, keys: int) -> dict[str, Any]:
    """Open once more, repeat every key, and hold journal, exchange and world against each other."""
    told = facts(world)
    async with PaperClient(state_path=state, **SETTINGS) as broker:
        asked = [f"k-{number}" for number in range(keys)]
        for key in asked:
            await broker.submit(order_for(key))
        venue = broker.venue
        orders = await venue.orders_since()
        fills = await venue.fills_since()
        held = {row.currency: row.total for row in await venue.balances("paper")}
        logged = []
        stream = broker.stream_fills(since=0)
        while len(logged) < len(fills):
            logged.append(await anext(stream))
        known = {key: (await broker.outcome(key)).broker_order_id for key in asked}
    told_ids = {fact["placed"]: fact["id"] for fact in told if "placed" in fact}
    return {
        "orders": Counter(order.token for order in orders),
        "known": known,
        "venue_ids": {order.venue_order_id for order in orders},
        "contradicted": {key: id_ for key, id_ in told_ids.items() if known[key] != id_},
        "refused": [fact for fact in told if "refused" in fact],
        "fill_ids": [fill.trade_id for fill in fills],
        "logged_ids": [fill.fill_id for fill in logged],
        "seqs": [fill.seq for fill in logged],
        "delivered": {fact["fill"]: fact["seq"] for fact in told if "fill" in fact},
        "logged_seq": {fill.fill_id: fill.seq for fill in logged},
        "net_btc": sum((f.quantity * f.side.sign for f in fills), Decimal(0)),
        "net_usd": sum((-f.quantity * f.price * f.side.sign - f.fee.amount for f in fills), Decimal(0)),
        "held": held,
    }
