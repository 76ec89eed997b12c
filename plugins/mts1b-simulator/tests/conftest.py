"""A bench for the exchange: one spot pair, one share, and short words for what the market does."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_simulator import (
    AAPL,
    BTC_USD,
    BarEvent,
    DeltaEvent,
    ExchangeConfig,
    FeeRule,
    QuoteEvent,
    SimulatedExchange,
    SnapshotEvent,
    SubmitReply,
    TradeEvent,
    spot,
)

settings.register_profile(
    "house", derandomize=True, deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
#: A Monday, 2026-01-05 15:00 UTC: New York is open.
START = 1_767_625_200 * SECOND
#: A pair with round numbers: cents and hundredths.
COIN = spot("COIN-USD", "Coin", lot="0.01")


def levels(*rows: tuple[Any, Any]) -> tuple[tuple[Decimal, Decimal], ...]:
    return tuple((Decimal(str(price)), Decimal(str(size))) for price, size in rows)


class Lab:
    """An exchange and a market to put it through."""

    def __init__(self, **changes: Any) -> None:
        values: dict[str, Any] = {
            "instruments": (COIN, BTC_USD, AAPL),
            "accounts": {"a": {"USD": Decimal(100_000), "COIN": Decimal(100)}},
            "fees": (FeeRule(),),
        }
        self.exchange = SimulatedExchange(ExchangeConfig(**(values | changes)), start_ns=START)
        self.count = 0

    @property
    def now(self) -> int:
        return self.exchange.now_ns

    def _id(self) -> str:
        self.count += 1
        return f"e{self.count}"

    def wait(self, ns: int) -> None:
        self.exchange.advance(self.now + ns)

    def quote(
        self, bid: Any, ask: Any, size: Any = 10, *, symbol: str = "COIN-USD", after: int = SECOND
    ) -> str:
        number = lambda value: None if value is None else Decimal(str(value))  # noqa: E731
        event = QuoteEvent(
            self.now + after, symbol, self._id(), number(bid), number(size), number(ask), number(size)
        )
        self.exchange.apply(event)
        return event.event_id

    def depth(self, bids: Any, asks: Any, *, delta: bool = False, after: int = SECOND) -> str:
        kind = DeltaEvent if delta else SnapshotEvent
        event = kind(self.now + after, "COIN-USD", self._id(), levels(*bids), levels(*asks))
        self.exchange.apply(event)
        return event.event_id

    def trade(self, price: Any, size: Any, *, symbol: str = "COIN-USD", after: int = SECOND) -> str:
        event = TradeEvent(self.now + after, symbol, self._id(), Decimal(str(price)), Decimal(str(size)))
        self.exchange.apply(event)
        return event.event_id

    def bar(
        self, low: Any, high: Any, volume: Any, *, symbol: str = "COIN-USD", start: int | None = None
    ) -> str:
        start = self.now if start is None else start
        low, high = Decimal(str(low)), Decimal(str(high))
        event = BarEvent(
            start + MINUTE, symbol, self._id(), start, low, high, low, high, Decimal(str(volume))
        )
        self.exchange.apply(event)
        return event.event_id

    def submit(self, order: Order, token: str | None = None, account_id: str | None = None) -> SubmitReply:
        return self.exchange.submit(order, token or self._id(), account_id=account_id)

    def limit(self, side: Side, quantity: Any, price: Any, **more: Any) -> SubmitReply:
        account_id, symbol = more.pop("account_id", None), more.pop("symbol", "COIN-USD")
        order = Order.limit(symbol, side, str(quantity), price=str(price), **more)
        return self.submit(order, account_id=account_id)

    def market(self, side: Side, quantity: Any, **more: Any) -> SubmitReply:
        account_id, symbol = more.pop("account_id", None), more.pop("symbol", "COIN-USD")
        return self.submit(Order.market(symbol, side, str(quantity), **more), account_id=account_id)

    def order(self, reply: SubmitReply) -> Any:
        return self.exchange.order(reply.order.venue_order_id)

    def fills(self, reply: SubmitReply) -> list[tuple[str, str]]:
        rows = self.exchange.fills_of([reply.order.venue_order_id])
        return [
            (format(fill.quantity.normalize(), "f"), format(fill.price.normalize(), "f")) for fill in rows
        ]

    def balance(self, currency: str, account_id: str = "a") -> tuple[Decimal, Decimal]:
        rows = {row.currency: row for row in self.exchange.balances(account_id)}
        row = rows.get(currency)
        return (row.total, row.held) if row else (Decimal(0), Decimal(0))


@pytest.fixture
def make_lab() -> Callable[..., Lab]:
    return Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()
