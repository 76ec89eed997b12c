"""One price-time-priority order book, in integer ticks and lots.

Orders of participants and the replayed market's displayed depth rest in it together. A side keeps its
prices as sorted *keys* whose last one is the best: the price itself for bids, its negative for asks.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

BUY = 1
SELL = -1


class SelfTradePolicy(StrEnum):
    """What happens when an order would trade with another one of the same owner."""

    CANCEL_NEWEST = "cancel_newest"
    CANCEL_OLDEST = "cancel_oldest"
    CANCEL_BOTH = "cancel_both"


class RestingOrder:
    """A participant's order as the book sees it: `price` in ticks, `remaining` in lots."""

    __slots__ = ("arrived", "level", "order_id", "owner", "price", "remaining", "side")

    def __init__(
        self, order_id: str, side: int, price: int, remaining: int, owner: str | None = None
    ) -> None:
        self.order_id = order_id
        self.side = side
        self.price = price
        self.remaining = remaining
        self.owner = owner
        #: Place in the book's order of arrival.
        self.arrived = 0
        #: The level it rests in, or None.
        self.level: Level | None = None


class Level:
    """The participants' orders at one price, first in first out; cancelled ones are skipped when met."""

    __slots__ = ("dead", "displayed", "key", "orders", "total", "touched_ns")

    def __init__(self, key: int) -> None:
        self.key = key
        self.orders: deque[RestingOrder] = deque()
        #: Cancelled orders still in the queue, and the lots of the others: 0 means that none is left.
        self.dead = 0
        self.total = 0
        #: What the market last displayed here, and since when (ns); None where the feed doesn't show it.
        self.displayed: int | None = None
        self.touched_ns = 0

    def __iter__(self) -> Iterator[RestingOrder]:
        return (order for order in self.orders if order.level is self)


class Shown:
    """Displayed depth at one price: lots still to be had, and when it appeared."""

    __slots__ = ("arrived", "event_id", "remaining")

    def __init__(self, remaining: int, arrived: int, event_id: str) -> None:
        self.remaining = remaining
        self.arrived = arrived
        self.event_id = event_id


class BookTrade(NamedTuple):
    """One match: `maker` is None where the taker took displayed depth, whose market event is named."""

    price: int
    quantity: int
    maker: RestingOrder | None
    taker: RestingOrder
    event_id: str


class Taken(NamedTuple):
    """What an aggressive order did: its trades, the orders removed and whether it was itself stopped."""

    trades: list[BookTrade]
    removed: list[RestingOrder]
    stopped: bool


class BookSide:
    """One side: participants' levels and displayed depth, each under sorted keys, best last."""

    __slots__ = ("depth", "depth_keys", "keys", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}
        self.depth_keys: list[int] = []
        self.depth: dict[int, Shown] = {}

    def drop_level(self, level: Level) -> None:
        """Forget an empty level."""
        keys, key = self.keys, level.key
        del self.levels[key]
        if keys[-1] == key:
            keys.pop()
        else:
            del keys[bisect_left(keys, key)]

    def show(self, price: int, lots: int, arrived: int, event_id: str) -> None:
        """Set the displayed depth at a price; 0 lots takes it away."""
        key = price * self.sign
        shown = self.depth.get(key)
        if shown is not None:
            if lots:
                shown.remaining = lots
                shown.event_id = event_id
            else:
                self.hide(key)
        elif lots:
            self.depth[key] = Shown(lots, arrived, event_id)
            insort(self.depth_keys, key)

    def hide(self, key: int) -> None:
        """Take a displayed level away."""
        keys = self.depth_keys
        del self.depth[key]
        if keys[-1] == key:
            keys.pop()
        else:
            del keys[bisect_left(keys, key)]

    def clear_depth(self) -> None:
        """Take all displayed depth away."""
        self.depth.clear()
        self.depth_keys.clear()


class Book:
    """A book of two sides; whatever it reports names both sides of the trade."""

    __slots__ = ("arrivals", "asks", "bids")

    def __init__(self) -> None:
        self.bids = BookSide(1)
        self.asks = BookSide(-1)
        #: The place in the order of arrival given last.
        self.arrivals = 0

    def side(self, side: int) -> BookSide:
        """Return the side on which orders of this direction rest."""
        return self.bids if side > 0 else self.asks

    def show(self, side: int, price: int, lots: int, event_id: str = "") -> None:
        """Set the market's displayed depth at a price; 0 lots takes it away."""
        (self.bids if side > 0 else self.asks).show(price, lots, self.arrivals, event_id)

    def add(self, order: RestingOrder) -> Taken:
        """Match a limit order and let what remains rest."""
        own, other = (self.bids, self.asks) if order.side > 0 else (self.asks, self.bids)
        key = order.price * own.sign
        if (other.keys and other.keys[-1] >= -key) or (other.depth_keys and other.depth_keys[-1] >= -key):
            taken = self.take(order, order.price)
            if taken.stopped or not order.remaining:
                return taken
        else:
            taken = _UNTOUCHED
        level = own.levels.get(key)
        if level is None or order.arrived:
            self.rest(order)
        else:  # what `rest` would do, without the call
            self.arrivals = order.arrived = self.arrivals + 1
            level.orders.append(order)
            level.total += order.remaining
            order.level = level
        return taken

    def rest(self, order: RestingOrder) -> None:
        """Let an order rest behind all others at its price, without matching."""
        side = self.bids if order.side > 0 else self.asks
        key = order.price * side.sign
        level = side.levels.get(key)
        if level is None:
            level = side.levels[key] = Level(key)
            insort(side.keys, key)
        elif order.arrived and order in level.orders:
            level.orders.remove(order)  # it rested before: its cancelled place must not come to life again
            level.dead -= 1
        self.arrivals = order.arrived = self.arrivals + 1
        level.orders.append(order)
        level.total += order.remaining
        order.level = level

    def cancel(self, order: RestingOrder) -> bool:
        """Take an order off the book in constant time; False where it doesn't rest."""
        level = order.level
        if level is None:
            return False
        order.level = None
        level.total = total = level.total - order.remaining
        if not total:
            (self.bids if order.side > 0 else self.asks).drop_level(level)
            return True
        level.dead = dead = level.dead + 1
        if dead > 32 and 2 * dead > len(level.orders):
            level.orders, level.dead = deque(level), 0
        return True

    def fill(self, order: RestingOrder, lots: int) -> None:
        """Fill a resting order where it stands, by a trade of the market outside."""
        level = order.level
        assert level is not None
        assert 0 < lots <= order.remaining
        if lots == order.remaining:
            self.cancel(order)
            order.remaining = 0
        else:
            order.remaining -= lots
            level.total -= lots

    def reduce(self, order: RestingOrder, lots: int) -> None:
        """Make a resting order smaller by that much; it keeps its place."""
        level = order.level
        assert level is not None
        assert 0 < lots < order.remaining
        order.remaining -= lots
        level.total -= lots

    def take(
        self,
        taker: RestingOrder,
        limit: int | None,
        policy: SelfTradePolicy = SelfTradePolicy.CANCEL_NEWEST,
        *,
        displayed: bool = True,
    ) -> Taken:
        """Match an order against the other side, best price first, then first come first served.

        `limit` is the worst price in ticks, None takes any. `displayed=False` leaves the market's depth
        alone. What remains stays in `taker.remaining`.
        """
        book_side = self.asks if taker.side > 0 else self.bids
        sign, levels, keys = book_side.sign, book_side.levels, book_side.keys
        depth_keys = book_side.depth_keys if displayed else _NOTHING
        owner, remaining = taker.owner, taker.remaining
        worst = limit * sign if limit is not None else None
        trades: list[BookTrade] = []
        removed: list[RestingOrder] = []
        while remaining:
            if not keys:
                if not depth_keys:
                    break
                key, level = depth_keys[-1], None
            else:
                key = keys[-1]
                level = levels[key]
                if depth_keys and depth_keys[-1] > key:
                    key, level = depth_keys[-1], None
            if worst is not None and key < worst:
                break
            shown = book_side.depth[key] if depth_keys and depth_keys[-1] == key else None
            while level is not None:
                maker = level.orders[0]
                if maker.level is not level:
                    level.orders.popleft()  # cancelled a while ago
                    level.dead -= 1
                    continue
                if shown is not None and shown.arrived < maker.arrived:
                    level = None
                    break
                if maker.owner is not None and maker.owner == owner:
                    if policy is not SelfTradePolicy.CANCEL_NEWEST:
                        self.cancel(maker)
                        removed.append(maker)
                    if policy is not SelfTradePolicy.CANCEL_OLDEST:
                        taker.remaining = remaining
                        return _new(Taken, (trades, removed, True))
                    break
                lots = maker.remaining
                if lots > remaining:
                    maker.remaining = lots - remaining
                    level.total -= remaining
                    trades.append(_new(BookTrade, (key * sign, remaining, maker, taker, "")))
                    remaining = 0
                    break
                maker.remaining = 0
                maker.level = None
                level.orders.popleft()
                level.total = total = level.total - lots
                remaining -= lots
                trades.append(_new(BookTrade, (key * sign, lots, maker, taker, "")))
                if not total:
                    book_side.drop_level(level)
                    break
                if not remaining:
                    break
            if level is None:
                assert shown is not None
                lots = shown.remaining if shown.remaining < remaining else remaining
                remaining -= lots
                trades.append(BookTrade(key * sign, lots, None, taker, shown.event_id))
                if lots == shown.remaining:
                    book_side.hide(key)
                else:
                    shown.remaining -= lots
        taker.remaining = remaining
        return _new(Taken, (trades, removed, False))

    def best_bid(self) -> int | None:
        """Return the highest bid of anyone, in ticks."""
        return self._best(self.bids)

    def best_ask(self) -> int | None:
        """Return the lowest ask of anyone, in ticks."""
        return self._best(self.asks)

    @staticmethod
    def _best(side: BookSide) -> int | None:
        best = [keys[-1] for keys in (side.keys, side.depth_keys) if keys]
        return max(best) * side.sign if best else None

    def market_best(self, side: int) -> int | None:
        """Return the best price the market itself displays on a side, in ticks."""
        book_side = self.side(side)
        return book_side.depth_keys[-1] * book_side.sign if book_side.depth_keys else None

    @property
    def crossed(self) -> bool:
        """True where the market's own displayed bid is above its displayed ask."""
        bids, asks = self.bids.depth_keys, self.asks.depth_keys
        return bool(bids and asks and bids[-1] > -asks[-1])

    def levels(self, side: int, depth: int) -> list[tuple[int, int]]:
        """Return up to `depth` (price, lots) of a side, best first, as a venue would publish them.

        Displayed depth that a participant's resting order has overtaken is left out: the market has
        moved through that order, and no venue shows a crossed book.
        """
        book_side, other = self.side(side), self.side(-side)
        bound = -other.keys[-1] if other.keys else None
        rows: list[tuple[int, int]] = []
        own, market = len(book_side.keys) - 1, len(book_side.depth_keys) - 1
        while len(rows) < depth and (own >= 0 or market >= 0):
            own_key = book_side.keys[own] if own >= 0 else None
            market_key = book_side.depth_keys[market] if market >= 0 else None
            if own_key is not None and (market_key is None or own_key > market_key):
                rows.append((own_key * book_side.sign, book_side.levels[own_key].total))
                own -= 1
                continue
            assert market_key is not None
            market -= 1
            lots = book_side.depth[market_key].remaining
            if own_key == market_key:
                lots += book_side.levels[market_key].total
                own -= 1
            elif bound is not None and market_key >= bound:
                continue
            rows.append((market_key * book_side.sign, lots))
        return rows

    def takeable(
        self, taker: RestingOrder, limit: int | None, policy: SelfTradePolicy, *, displayed: bool = True
    ) -> Iterator[tuple[int, int]]:
        """Iterate over the (price, lots) that `take` would match, changing nothing."""
        book_side = self.asks if taker.side > 0 else self.bids
        worst = limit * book_side.sign if limit is not None else None
        own, market = len(book_side.keys) - 1, (len(book_side.depth_keys) - 1 if displayed else -1)
        while own >= 0 or market >= 0:
            own_key = book_side.keys[own] if own >= 0 else None
            market_key = book_side.depth_keys[market] if market >= 0 else None
            key = max(k for k in (own_key, market_key) if k is not None)
            if worst is not None and key < worst:
                return
            price = key * book_side.sign
            shown = book_side.depth[key] if market_key == key else None
            market -= market_key == key
            if own_key == key:
                own -= 1
                for order in book_side.levels[key]:
                    if shown is not None and shown.arrived < order.arrived:
                        yield price, shown.remaining
                        shown = None
                    if taker.owner is None or order.owner != taker.owner:
                        yield price, order.remaining
                    elif policy is not SelfTradePolicy.CANCEL_OLDEST:
                        return
            if shown is not None:
                yield price, shown.remaining


_NOTHING: list[int] = []
_UNTOUCHED = Taken([], [], False)
_new = tuple.__new__  # a named tuple's own constructor costs twice as much
