"""Endless synthetic markets: a random walk with a mean-reverting spread, ten levels, trades that consume.

Integer arithmetic on a seeded generator throughout: one seed gives one stream, on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from heapq import heapify, heapreplace
from random import Random

from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.orders import Side

from .feeds import DeltaEvent, MarketEvent, PriceLevel, SnapshotEvent, TradeEvent
from .instruments import AAPL, BTC_USD, ETH_USD, SPY
from .units import Grid


@dataclass(frozen=True, slots=True)
class MarketShape:
    """How a synthetic market looks: first price, spread, typical size at a level, pace of events (ns)."""

    instrument: Instrument
    price: Decimal
    spread: Decimal
    size: Decimal
    interval_ns: int = 250_000_000
    levels: int = 10


DEFAULT_SHAPES = (
    MarketShape(BTC_USD, Decimal("96000.00"), Decimal("4.00"), Decimal("0.40000000"), 200_000_000),
    MarketShape(ETH_USD, Decimal("3400.00"), Decimal("0.40"), Decimal("6.00000000"), 250_000_000),
    MarketShape(AAPL, Decimal("230.00"), Decimal("0.02"), Decimal(300), 400_000_000),
    MarketShape(SPY, Decimal("600.00"), Decimal("0.02"), Decimal(600), 300_000_000),
)


def synthetic_market(
    seed: int, *, start_ns: int, shapes: Sequence[MarketShape] = DEFAULT_SHAPES
) -> Iterator[MarketEvent]:
    """Iterate without end over the events of synthetic markets from `start_ns` (UTC) on.

    Each begins with a snapshot; then levels change, and trades take from the best level before the
    delta that shows it. A market's stream depends on the seed and its symbol only.
    """
    markets = [_Walk(shape, seed, start_ns) for shape in shapes]
    for market in markets:
        yield market.snapshot()
    queue = [(market.next_ns, index) for index, market in enumerate(markets)]
    heapify(queue)
    while queue:
        index = queue[0][1]
        yield from markets[index].step()
        heapreplace(queue, (markets[index].next_ns, index))


class _Walk:
    """One market's walk, in ticks and lots."""

    def __init__(self, shape: MarketShape, seed: int, start_ns: int) -> None:
        self._shape = shape
        self._symbol = shape.instrument.symbol
        self._random = Random(f"{seed}/{self._symbol}")  # noqa: S311 - it must repeat itself
        self._ticks, self._lots = (
            Grid(shape.instrument.price_increment),
            Grid(shape.instrument.quantity_increment),
        )
        self._half = max(1, self._ticks.floor(shape.spread) // 2)
        self._step = max(1, self._half // 2)
        self._size = max(2, self._lots.floor(shape.size))
        self._mid = self._ticks.floor(shape.price)
        self._spread = self._half
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._count = 0
        self.next_ns = start_ns
        self._rebuild()

    def _event_id(self) -> str:
        self._count += 1
        return f"{self._symbol}:{self._count}"

    def _rebuild(self) -> None:
        """Lay out both sides around the mid, keeping sizes at prices that stay."""
        bids, asks = self._bids, self._asks
        levels, step = range(self._shape.levels), self._step
        best_bid, best_ask = self._mid - self._spread, self._mid + self._spread
        self._bids = {p: bids.get(p) or self._draw() for p in (best_bid - i * step for i in levels) if p > 0}
        self._asks = {p: asks.get(p) or self._draw() for p in (best_ask + i * step for i in levels)}

    def _draw(self) -> int:
        """Draw a size: the typical one times 1/8 to 3, smaller ones more often."""
        draw = self._random.randrange
        return max(1, self._size * (1 + min(draw(24), draw(24))) // 8)

    def _rows(self, side: dict[int, int]) -> tuple[PriceLevel, ...]:
        return tuple((self._ticks.decimal(price), self._lots.decimal(lots)) for price, lots in side.items())

    def snapshot(self) -> SnapshotEvent:
        """Return the whole book, at the present moment."""
        event = SnapshotEvent(
            self.next_ns, self._symbol, self._event_id(), self._rows(self._bids), self._rows(self._asks)
        )
        self._wait()
        return event

    def _wait(self) -> None:
        self.next_ns += 1 + self._random.randrange(2 * self._shape.interval_ns)

    def step(self) -> Iterator[MarketEvent]:
        """Return the next events of this market: a trade with its delta, or a change of quotes."""
        draw, now_ns = self._random.randrange, self.next_ns
        old_bids, old_asks = dict(self._bids), dict(self._asks)
        if draw(100) < 35:
            yield self._trade(now_ns)
        else:
            move = draw(5) - 2
            self._mid = max(self._shape.levels * self._step * 2 + 2, self._mid + move * self._step)
            pull = 1 if self._spread < self._half else -1 if self._spread > self._half else 0
            self._spread = max(1, self._spread + (draw(3) - 1) + pull)
            self._rebuild()
            side = self._bids if draw(2) else self._asks
            for price in list(side)[: 1 + draw(3)]:
                side[price] = self._draw()
        bids, asks = _changed(old_bids, self._bids), _changed(old_asks, self._asks)
        if bids or asks:
            yield DeltaEvent(now_ns, self._symbol, self._event_id(), self._rows(bids), self._rows(asks))
        self._wait()

    def _trade(self, now_ns: int) -> TradeEvent:
        """Let a taker consume part or all of the best level; a level that is gone moves the mid."""
        draw = self._random.randrange
        buying = bool(draw(2))
        side = self._asks if buying else self._bids
        price = next(iter(side))
        lots = min(side[price], max(1, self._size * (1 + min(draw(16), draw(16))) // 16))
        side[price] -= lots
        if not side[price]:
            del side[price]
            self._mid += self._step if buying else -self._step
            if self._mid <= self._shape.levels * self._step * 2:
                self._mid += 2 * self._step
            self._rebuild()
        return TradeEvent(
            now_ns, self._symbol, self._event_id(), self._ticks.decimal(price), self._lots.decimal(lots),
            Side.BUY if buying else Side.SELL,
        )  # fmt: skip


def _changed(old: dict[int, int], new: dict[int, int]) -> dict[int, int]:
    """Return the prices whose size changed, with 0 for those that are gone; in a fixed order."""
    gone = {price: 0 for price in old if price not in new}
    return gone | {price: lots for price, lots in new.items() if old.get(price) != lots}
