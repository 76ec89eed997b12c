"""A venue that takes every order at once, and pushes fills by WebSocket where it is given an address."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from mts1b_brokers_core.execution import port
from mts1b_brokers_core.execution.client import VenueClient
from mts1b_brokers_core.foundation.accounts import Account
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.capabilities import Capabilities, parse_capabilities
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.instruments import AssetClass, Instrument
from mts1b_brokers_core.foundation.orders import FeeStatus, Liquidity, OrderStatus, Side
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.platform.websocket import WebSocket

MANIFEST = """
schema = 1
name = "bench"
distribution = "mts1b-broker-bench"
api = "1.0"
environments = ["simulator"]

[[orders]]
level = "native"
side = "venue"
note = ""
asset = ["crypto"]
type = ["limit"]
tif = ["gtc"]
"""
BTC = Instrument(
    symbol="BTC-USD", asset_class=AssetClass.CRYPTO, base="BTC", quote="USD", price_increment="0.1",
    quantity_increment="1E-8",
)  # fmt: skip
TAKER, MAKER = Liquidity.TAKER, Liquidity.MAKER
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
NOTHING: port.Listing[Any] = port.listed([], "nothing")


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


def exact(raw: Any) -> Decimal:
    """Return a number as the venue wrote it."""
    return Decimal(bytes(raw).decode())


class FastBroker(VenueClient):
    """The adapter; `round` is part of every fill's id, so that the same frames can come again.

    `first` is the number of its first order: a journal that is opened again knows those before.
    """

    profile = port.VenueProfile("bench", port.TokenRule("forever", dedupes=True))

    def __init__(self, url: str = "", clock: Clock | None = None, *, first: int = 0, **settings: Any) -> None:
        if not url:
            self.profile = replace(self.profile, fill_source="poll")
        super().__init__(BrokerSettings(**settings), Services("bench", "simulator", clock))
        self.url, self.round, self.ids = url, 0, itertools.count(first)

    @classmethod
    def read_capabilities(cls) -> Capabilities:
        return parse_capabilities(MANIFEST)

    async def connect(self) -> None:
        if self.url:
            self.socket, self._decode = WebSocket(self.url, self.clock, hello=None), structs().decode

    async def disconnect(self) -> None:
        if self.url:
            await self.socket.close()

    async def frames(self) -> AsyncIterator[Sequence[Any]]:
        async for batch in self.socket.batches():
            yield batch

    def decode(self, frame: Sequence[Any]) -> list[port.Decoded]:
        rows = (row for item in frame if isinstance(item, bytes) for row in self._decode(item).data)
        return [
            port.Execution(  # by place: by keyword it takes three times as long
                f"{row.exec_id}-{self.round}",
                port.OrderRef(row.order_id),
                row.symbol,
                SIDES[row.side],
                exact(row.last_qty),
                exact(row.last_price),
                datetime.fromisoformat(row.timestamp),
                tuple([Money.adopt({"amount": exact(fee.qty), "currency": fee.asset}) for fee in row.fees]),
                FeeStatus.FINAL,
                TAKER if row.liquidity_ind == "t" else MAKER,
            )
            for row in rows
        ]

    async def place(self, ticket: port.Ticket) -> port.PlaceResult:
        ref = port.OrderRef(f"O{next(self.ids)}", ticket.token)
        return port.Ack(ref, port.OrderView(ref, OrderStatus.NEW))

    async def cancel_one(self, ref: port.OrderRef) -> port.CancelResult:
        return port.Taken()

    async def find(self, ticket: port.Ticket) -> port.FindResult:
        return port.Inconclusive("never asked")

    async def instruments(self, query: str | None) -> port.Listing[Instrument]:
        return port.listed([BTC], "all")

    async def accounts(self) -> port.Listing[Account]:
        return port.listed([Account(account_id="A1")], "all")

    async def _nothing(self, *_: object) -> port.Listing[Any]:
        return NOTHING

    read = open_orders = positions = executions = executions_of = _nothing
