"""The market as a venue publishes it: quotes, trades, books and bars as nouns, and the recent ones kept."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.market_data import Bar, Trade
from mts1b_brokers_core.platform.clock import from_ns, to_ns

from .feeds import BarEvent, TradeEvent
from .units import at_least_one

MINUTE_NS = 60_000_000_000


def trade_of(event: TradeEvent) -> Trade:
    """Return a print as a noun."""
    return Trade.model_construct(
        symbol=event.symbol, price=event.price, quantity=event.quantity, side=event.side,
        trade_id=event.event_id, at=from_ns(event.ts_ns),
    )  # fmt: skip


def bar_of(event: BarEvent) -> Bar:
    """Return a bar as a noun."""
    return Bar.model_construct(
        symbol=event.symbol, start=from_ns(event.start_ns), end=from_ns(event.ts_ns), open=event.open,
        high=event.high, low=event.low, close=event.close, volume=event.volume,
    )  # fmt: skip


class History:
    """Recent trades and bars of one symbol; where the feed brings no bars, minutes are built from trades."""

    def __init__(self, symbol: str, *, trades: int = 1_000, bars: int = 10_000) -> None:
        self.symbol = symbol
        self._trades: deque[TradeEvent] = deque(maxlen=trades)
        self._bars: deque[BarEvent] = deque(maxlen=bars)
        self._building: BarEvent | None = None
        self._recorded = False

    def add(self, event: TradeEvent | BarEvent) -> None:
        """Take in a print or a bar."""
        if isinstance(event, BarEvent):
            if not self._recorded:
                self._recorded, self._building = True, None
                self._bars.clear()
            self._bars.append(event)
            return
        self._trades.append(event)
        if not self._recorded:
            self._build(event)

    def _build(self, trade: TradeEvent) -> None:
        start_ns = trade.ts_ns - trade.ts_ns % MINUTE_NS
        bar = self._building
        if bar is not None and bar.start_ns == start_ns:
            self._building = bar._replace(
                high=max(bar.high, trade.price), low=min(bar.low, trade.price), close=trade.price,
                volume=LEDGER.add(bar.volume, trade.quantity),
            )  # fmt: skip
            return
        if bar is not None:
            self._bars.append(bar)
        price = trade.price
        self._building = BarEvent(
            start_ns + MINUTE_NS, trade.symbol, f"built from {trade.event_id}", start_ns,
            price, price, price, price, trade.quantity,
        )  # fmt: skip

    def trades(self, limit: int) -> list[Trade]:
        """Return the last prints, oldest first. Raises `InvalidInput`."""
        at_least_one("limit", limit)
        return [trade_of(event) for event in list(self._trades)[-limit:]]

    def bars(
        self, interval: timedelta, now_ns: int, start: datetime | None, end: datetime | None, limit: int
    ) -> list[Bar]:
        """Return finished bars, oldest first, the last `limit` of them. Raises `InvalidInput`."""
        at_least_one("limit", limit)
        width = interval // timedelta(microseconds=1) * 1000
        rows = list(self._bars)
        if self._building is not None and self._building.ts_ns <= now_ns:
            rows.append(self._building)
        finest = min((row.ts_ns - row.start_ns for row in rows), default=MINUTE_NS)
        if width <= 0 or width % finest:
            raise InvalidInput(
                f"bars of {interval} can't be made from bars of {timedelta(microseconds=finest // 1000)}.",
                next_step="ask for a multiple of what there is",
            )
        merged: list[BarEvent] = []
        for row in rows:
            begin = row.start_ns - row.start_ns % width
            last = merged[-1] if merged else None
            if last is not None and last.start_ns == begin:
                merged[-1] = last._replace(
                    high=max(last.high, row.high), low=min(last.low, row.low), close=row.close,
                    volume=LEDGER.add(last.volume, row.volume),
                )  # fmt: skip
            else:
                merged.append(row._replace(start_ns=begin, ts_ns=begin + width))
        first, until = to_ns(start) if start else 0, min(now_ns, to_ns(end) if end else now_ns)
        found = [bar_of(row) for row in merged if row.start_ns >= first and row.ts_ns <= until]
        return found[-limit:]
