"""Market data: quotes, books, trades and bars. Prices in quote currency, times aware UTC."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from .base import LEDGER, Exact, Model, NotNegative, UtcTime
from .instruments import Symbol
from .orders import Side


class Quote(Model):
    """Best bid and ask at one moment; a side without orders is None."""

    symbol: Symbol
    bid: Exact | None
    ask: Exact | None
    bid_size: NotNegative | None = None
    ask_size: NotNegative | None = None
    at: UtcTime
    source: str = ""

    repr_fields = ("symbol", "bid", "bid_size", "ask", "ask_size", "at")

    @property
    def mid(self) -> Decimal | None:
        """The middle between bid and ask, where both are there."""
        if self.bid is None or self.ask is None:
            return None
        return LEDGER.divide(LEDGER.add(self.bid, self.ask), Decimal(2))

    @property
    def crossed(self) -> bool:
        """True where the bid is above the ask, which no continuous market means."""
        return self.bid is not None and self.ask is not None and self.bid > self.ask


class BookLevel(NamedTuple):
    """A price and the quantity resting at it."""

    price: Decimal
    quantity: Decimal


class OrderBook(Model):
    """Resting quantity by price, best first."""

    symbol: Symbol
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    at: UtcTime
    sequence: int | None = None

    @property
    def best_bid(self) -> BookLevel | None:
        """The highest bid, or None."""
        return self.bids[0] if self.bids else None

    @property
    def best_ask(self) -> BookLevel | None:
        """The lowest ask, or None."""
        return self.asks[0] if self.asks else None


class Trade(Model):
    """One trade of the market; `side` is the taker's, where known."""

    symbol: Symbol
    price: Exact
    quantity: NotNegative
    side: Side | None = None
    trade_id: str | None = None
    at: UtcTime


class Bar(Model):
    """Open, high, low, close and volume over [`start`, `end`)."""

    symbol: Symbol
    start: UtcTime
    end: UtcTime
    open: Exact
    high: Exact
    low: Exact
    close: Exact
    volume: NotNegative
