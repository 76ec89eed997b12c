"""Market events: what a feed says happened, with exact decimals, UTC nanoseconds and an id each."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from mts1b_brokers_core.foundation.orders import Side

#: A price in quote currency and the quantity displayed there, in units.
PriceLevel: TypeAlias = tuple[Decimal, Decimal]


class SnapshotEvent(NamedTuple):
    """The whole displayed book at one moment; it replaces all depth known before."""

    ts_ns: int
    symbol: str
    event_id: str
    bids: tuple[PriceLevel, ...]
    asks: tuple[PriceLevel, ...]


class DeltaEvent(NamedTuple):
    """Levels that changed together; quantity 0 means the level is gone."""

    ts_ns: int
    symbol: str
    event_id: str
    bids: tuple[PriceLevel, ...]
    asks: tuple[PriceLevel, ...]


class QuoteEvent(NamedTuple):
    """The best bid and ask, None where a side is empty; an unknown size (None) can't be traded against."""

    ts_ns: int
    symbol: str
    event_id: str
    bid: Decimal | None
    bid_size: Decimal | None
    ask: Decimal | None
    ask_size: Decimal | None


class TradeEvent(NamedTuple):
    """One print; `side` is the taker's, where known."""

    ts_ns: int
    symbol: str
    event_id: str
    price: Decimal
    quantity: Decimal
    side: Side | None = None


class BarEvent(NamedTuple):
    """A finished bar over [`start_ns`, `ts_ns`); it is known at its end, and only then."""

    ts_ns: int
    symbol: str
    event_id: str
    start_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


MarketEvent: TypeAlias = SnapshotEvent | DeltaEvent | QuoteEvent | TradeEvent | BarEvent


def merge(*sources: Iterable[MarketEvent]) -> Iterator[MarketEvent]:
    """Merge sources, each ascending in time, into one; at equal times the source named first goes first."""
    return heapq.merge(*sources, key=lambda event: event.ts_ns)
