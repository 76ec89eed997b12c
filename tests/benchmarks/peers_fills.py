"""One contender of the fills benchmark, named by the first argument: takes as many fills as it is told.

For each count on its input it prints a list with the microseconds one fill took, first to last.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers_ws import answer, counted
from peers_ws_server import ORDERS

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient

URL = f"ws://127.0.0.1:{sys.argv[2]}/stream"


def structs() -> Any:
    """Return msgspec's decoder of a frame; numbers stay text until they become exact."""
    import msgspec

    fee = msgspec.defstruct("Fee", [("asset", str), ("qty", msgspec.Raw)])
    texts = ("order_id", "exec_id", "exec_type", "symbol", "side", "liquidity_ind", "timestamp")
    numbers = ("last_qty", "last_price", "cost")
    row = msgspec.defstruct(
        "Row",
        [
            *((name, str) for name in texts),
            *((name, msgspec.Raw) for name in numbers),
            ("fees", list[fee]),  # type: ignore[valid-type]
        ],
    )
    frame = msgspec.defstruct("Frame", [("data", list[row])])  # type: ignore[valid-type]
    return msgspec.json.Decoder(frame)


async def with_picows(counts: AsyncIterator[int]) -> None:
    """Decode each frame and count: what no client can be quicker than."""
    import picows

    decode = structs().decode

    class Counter(picows.WSListener):
        left = 0
        done: asyncio.Future[None]

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            decode(frame.get_payload_as_memoryview())
            self.left -= 1
            if self.left == 0:
                self.done.set_result(None)

    transport, listener = await picows.ws_connect(Counter, URL)
    assert isinstance(listener, Counter)
    async for count in counts:
        listener.left, listener.done = count, asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        transport.send(picows.WSMsgType.TEXT, str(count))
        await listener.done
        answer(begin, count)
    transport.disconnect()


def adapter() -> type[VenueClient]:
    """Return a broker whose fills come by WebSocket and whose orders are taken at once."""
    from mts1b_brokers_core.execution import port
    from mts1b_brokers_core.execution.client import VenueClient
    from mts1b_brokers_core.foundation.accounts import Account
    from mts1b_brokers_core.foundation.base import Money
    from mts1b_brokers_core.foundation.capabilities import Capabilities, parse_capabilities
    from mts1b_brokers_core.foundation.instruments import AssetClass, Instrument
    from mts1b_brokers_core.foundation.orders import Liquidity, OrderStatus, Side
    from mts1b_brokers_core.platform.websocket import WebSocket

    decode = structs().decode
    sides = {"buy": Side.BUY, "sell": Side.SELL}
    nothing: port.Listing[Any] = port.listed([], "nothing")

    def exact(raw: Any) -> Decimal:
        return Decimal(bytes(raw).decode())

    class Fast(VenueClient):
        profile = port.VenueProfile("bench", port.TokenRule("forever", dedupes=True))
        round = 0

        @classmethod
        def read_capabilities(cls) -> Capabilities:
            return parse_capabilities(
                'schema = 1\nname = "bench"\ndistribution = "mts1b-broker-bench"\napi = "1.0"\n'
                'environments = ["simulator"]\n[[orders]]\nlevel = "native"\nside = "venue"\nnote = ""\n'
                'asset = ["crypto"]\ntype = ["limit"]\ntif = ["gtc"]\n'
            )

        async def connect(self) -> None:
            self.socket = WebSocket(URL, self.clock, hello=None)
            self.ids = itertools.count()

        async def disconnect(self) -> None:
            await self.socket.close()

        async def frames(self) -> AsyncIterator[Any]:
            async for batch in self.socket.batches():
                yield batch

        def decode(self, frame: Sequence[Any]) -> list[port.Decoded]:
            rows = (row for item in frame if isinstance(item, bytes) for row in decode(item).data)
            return [
                port.Execution(
                    fill_id=f"{row.exec_id}-{self.round}",
                    ref=port.OrderRef(row.order_id),
                    symbol=row.symbol,
                    side=sides[row.side],
                    quantity=exact(row.last_qty),
                    price=exact(row.last_price),
                    executed_at=datetime.fromisoformat(row.timestamp),
                    fees=tuple(Money.trusted(amount=exact(fee.qty), currency=fee.asset) for fee in row.fees),
                    liquidity=Liquidity.TAKER if row.liquidity_ind == "t" else Liquidity.MAKER,
                )
                for row in rows
            ]

        async def place(self, ticket: port.Ticket) -> port.PlaceResult:
            ref = port.OrderRef(f"O{next(self.ids)}")
            return port.Ack(ref, port.OrderView(ref, OrderStatus.NEW))

        async def cancel_one(self, ref: port.OrderRef) -> port.CancelResult:
            return port.NoSuch()

        async def find(self, ticket: port.Ticket) -> port.FindResult:
            return port.Inconclusive("never asked")

        async def instruments(self, query: str | None) -> port.Listing[Instrument]:
            symbol = {"symbol": "BTC-USD", "asset_class": AssetClass.CRYPTO, "base": "BTC", "quote": "USD"}
            return port.listed(
                [Instrument(**symbol, price_increment="0.1", quantity_increment="1E-8")], "all"
            )

        async def accounts(self) -> port.Listing[Account]:
            return port.listed([Account(account_id="A1")], "all")

        async def _nothing(self, *_: object) -> port.Listing[Any]:
            return nothing

        read = open_orders = positions = executions = executions_of = _nothing

    return Fast


async def with_ours(counts: AsyncIterator[int], path: Path | None) -> None:
    """Iterate over the fills of our own orders, logged, numbered and counted to their orders."""
    from mts1b_brokers_core.foundation.orders import Order, Side
    from mts1b_brokers_core.foundation.settings import BrokerSettings

    settings = BrokerSettings(state_path=path)
    async with adapter()(settings) as broker:
        for _ in range(ORDERS):
            await broker.submit(Order.limit("BTC-USD", Side.BUY, "100000000", price="64123.1"))
        stream = broker.stream_fills()
        async for count in counts:
            broker.round += 1  # type: ignore[attr-defined]
            begin = time.perf_counter()
            await broker.socket.send(str(count))  # type: ignore[attr-defined]
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
    waiting = asyncio.ensure_future(exchange.watch_my_trades())
    while not exchange.clients:
        await asyncio.sleep(0)
    await exchange.clients[URL].connected
    async for count in counts:
        begin = time.perf_counter()
        await exchange.clients[URL].send(str(count))
        while (await waiting)[-1]["id"] != f"T{count}":
            waiting = asyncio.ensure_future(exchange.watch_my_trades())
        answer(begin, count)
        waiting = asyncio.ensure_future(exchange.watch_my_trades())
        await asyncio.sleep(0)
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
        "picows + msgspec": with_picows,
        "log in memory": lambda counts: with_ours(counts, None),
        "durable log": lambda counts: with_ours(counts, Path(folder) / "bench.journal"),
        "SQLite alone": lambda counts: with_sqlite(counts, Path(folder) / "alone.db"),
        "ccxt.pro": with_ccxt,
    }
    asyncio.run(CONTENDERS[sys.argv[1]](counted()))
