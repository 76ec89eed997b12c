"""One contender of the fills benchmark, named by the first argument: takes as many fills as it is told.

For each count on its input it prints a list with the microseconds one fill took, first to last.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from peers_ws import answer, counted
from peers_ws_server import ORDERS

URL = f"ws://127.0.0.1:{sys.argv[2]}/stream"


async def with_picows(counts: AsyncIterator[int], *, exact_fills: bool) -> None:
    """Decode each frame and count; or make an exact fill of it, and hand that out by an async iterator."""
    import msgspec
    import picows
    from fast_broker import exact, structs

    decode = structs().decode
    names = ("id", "order", "symbol", "side", "quantity", "price", "executed_at", "fees", "liquidity")
    bare = msgspec.defstruct("BareFill", names)

    def fill(row: Any) -> object:
        fees = tuple([(exact(fee.qty), fee.asset) for fee in row.fees])
        at = datetime.fromisoformat(row.timestamp)
        quantity, price = exact(row.last_qty), exact(row.last_price)
        names = (row.exec_id, row.order_id, row.symbol, row.side)
        return bare(*names, quantity, price, at, fees, row.liquidity_ind)

    class Listener(picows.WSListener):
        def __init__(self) -> None:
            self.left, self.fills, self.bell = 0, collections.deque[object](), asyncio.Event()

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            rows = decode(frame.get_payload_as_memoryview()).data
            if exact_fills:
                self.fills.extend(map(fill, rows))
            self.left -= 1
            if exact_fills or self.left == 0:
                self.bell.set()

        async def stream(self) -> AsyncIterator[object]:
            while True:
                while self.fills:
                    yield self.fills.popleft()
                self.bell.clear()
                await self.bell.wait()

    transport, listener = await picows.ws_connect(Listener, URL)
    assert isinstance(listener, Listener)
    stream = listener.stream()
    async for count in counts:
        listener.left = count
        listener.bell.clear()
        begin = time.perf_counter()
        transport.send(picows.WSMsgType.TEXT, str(count))
        if exact_fills:
            for _ in range(count):
                await anext(stream)
        else:
            await listener.bell.wait()
        answer(begin, count)
    transport.disconnect()


async def with_ours(counts: AsyncIterator[int], path: Path | None) -> None:
    """Iterate over the fills of our own orders, logged, numbered and counted to their orders."""
    from fast_broker import FastBroker

    from mts1b_brokers_core.foundation.orders import Order, Side

    async with FastBroker(URL, state_path=path) as broker:
        for _ in range(ORDERS):
            await broker.submit(Order.limit("BTC-USD", Side.BUY, "100000000", price="64123.1"))
        stream = broker.stream_fills()
        async for count in counts:
            broker.round += 1
            begin = time.perf_counter()
            await broker.socket.send(str(count))
            for _ in range(count):
                await anext(stream)
            answer(begin, count)


async def with_ccxt(counts: AsyncIterator[int]) -> None:
    """Iterate over my trades of ccxt.pro's Kraken client."""
    import ccxt.pro

    class Local(ccxt.pro.kraken):  # type: ignore[misc]
        async def load_markets(self, *_: object, **__: object) -> dict[str, Any]:
            return {}

        async def authenticate(self, *_: object, **__: object) -> str:
            return "token"

    exchange = Local({"newUpdates": True})
    exchange.urls["api"]["ws"]["privateV2"] = URL
    async for count in counts:
        waiting = asyncio.ensure_future(exchange.watch_my_trades())
        while URL not in exchange.clients:  # noqa: ASYNC110 - it tells nobody when it is there
            await asyncio.sleep(0)
        await exchange.clients[URL].connected
        exchange.myTrades = None
        begin = time.perf_counter()
        await exchange.clients[URL].send(str(count))
        while exchange.myTrades is None or exchange.myTrades[-1]["id"] != f"T{count}":
            # The last news can come before we wait for it.
            await asyncio.wait([waiting], timeout=0.05)
            if waiting.done():
                waiting = asyncio.ensure_future(exchange.watch_my_trades())
        answer(begin, count)
        waiting.cancel()
    await exchange.close()


async def with_sqlite(counts: AsyncIterator[int], path: Path) -> None:
    """Write rows of the size of a fill, 256 in a commit that survives a power cut: the disk's own pace."""
    import sqlite3

    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "CREATE TABLE log (number INTEGER PRIMARY KEY, name TEXT UNIQUE, body TEXT)"
    )
    numbers = itertools.count()
    async for count in counts:
        begin = time.perf_counter()
        for _ in range(count // 256):
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(256):
                n = next(numbers)
                connection.execute("INSERT INTO log VALUES (?, ?, ?)", (n, f"T{n}", "x" * 600))
            connection.execute("COMMIT")
        answer(begin, count // 256 * 256)
    connection.close()


with tempfile.TemporaryDirectory() as folder:
    CONTENDERS: dict[str, Callable[[AsyncIterator[int]], Any]] = {
        "picows + msgspec, decoded": lambda counts: with_picows(counts, exact_fills=False),
        "picows + msgspec, fills": lambda counts: with_picows(counts, exact_fills=True),
        "log in memory": lambda counts: with_ours(counts, None),
        "durable log": lambda counts: with_ours(counts, Path(folder) / "bench.journal"),
        "SQLite alone": lambda counts: with_sqlite(counts, Path(folder) / "alone.db"),
        "ccxt.pro": with_ccxt,
    }
    asyncio.run(CONTENDERS[sys.argv[1]](counted()))
