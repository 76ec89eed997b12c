"""One instrument at the exchange: its units, its book, what its feed said last, and its waiting orders."""

from __future__ import annotations

from decimal import Decimal
from heapq import heappop, heappush

from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.orders import Session, TriggerBy

from .book import BUY, SELL, Book
from .feeds import BarEvent, DeltaEvent, PriceLevel, QuoteEvent, SnapshotEvent
from .fees import FeeMeter, FeeRule
from .orders import Refusal
from .sessions import DAY_NS, Calendar
from .units import Grid, base_asset, common_increment, decimals, to_units
from .working import WorkingOrder


class Market:
    """An instrument, its book and its feed. Prices in ticks, quantities in lots, money in ledger units."""

    __slots__ = (
        "_bands", "bar_width", "base", "base_digits", "book", "calendar", "crossed_top", "fee_digits",
        "full_depth", "has_bars", "instrument", "last", "last_bar", "last_book_ns", "least_lots",
        "least_value", "lot_units", "lots", "meter", "most_lots", "most_value", "partial", "quote",
        "quote_digits", "rule", "stops", "taking", "ticks", "unplaced", "value_unit", "waiting",
    )  # fmt: skip

    def __init__(self, instrument: Instrument, rule: FeeRule, digits: dict[str, int]) -> None:
        self.instrument = instrument
        self.rule = rule
        increments = [instrument.price_increment, *(band.increment for band in instrument.price_bands)]
        self.ticks = Grid(common_increment(increments))
        self.lots = Grid(instrument.quantity_increment)
        self.base, self.quote = base_asset(instrument), instrument.quote
        self.quote_digits = digits[self.quote]
        lot_value = instrument.notional(instrument.quantity_increment, self.ticks.increment)
        #: Ledger units of quote currency in one lot at one tick, and of base in one lot.
        self.value_unit = to_units(lot_value, self.quote_digits)
        self.base_digits = digits[self.base]
        self.lot_units = to_units(instrument.quantity_increment, self.base_digits)
        currency = {"quote": self.quote, "base": self.base}.get(rule.currency, rule.currency)
        self.fee_digits = digits[currency]
        self.meter = FeeMeter(
            rule, currency, lot=instrument.quantity_increment, digits=self.fee_digits,
            basis_digits=digits[self.base] if rule.currency == "base" else self.quote_digits,
        )  # fmt: skip
        #: The instrument's limits in lots and ledger units, for a quick look before the words are found.
        self.least_lots = self.lots.ceiling(instrument.min_quantity)
        self.most_lots = _FAR if instrument.max_quantity is None else self.lots.floor(instrument.max_quantity)
        self.least_value = int(LEDGER.scaleb(instrument.min_notional, self.quote_digits))
        most = instrument.max_notional
        self.most_value = _FAR if most is None else int(LEDGER.scaleb(most, self.quote_digits))
        self.calendar = Calendar(instrument.sessions)
        self.book = Book()
        #: True once the feed shows more than the best prices.
        self.full_depth = False
        #: True where the book lost a frame: a level it doesn't show may be there all the same.
        self.partial = False
        #: True while the last quote was crossed: its levels may hide that, by rounding or for want of sizes.
        self.crossed_top = False
        self.has_bars = False
        #: The length of the shortest bar so far (ns), 0 before any.
        self.bar_width = 0
        self.last_book_ns: int | None = None
        self.last: Decimal | None = None
        self.last_bar: BarEvent | None = None
        self.stops: dict[tuple[TriggerBy, int], list[tuple[int, int, WorkingOrder]]] = {}
        #: Market-like orders that work until they fill: triggered stops, and market orders on bars alone.
        self.waiting: list[WorkingOrder] = []
        #: Limits on bars alone that were beyond the last close: takers until a bar leaves them behind.
        self.taking: list[WorkingOrder] = []
        #: Resting orders whose queue the feed has not shown yet, nearest to the market first.
        self.unplaced: dict[int, list[tuple[int, int, WorkingOrder]]] = {BUY: [], SELL: []}
        self._bands = bool(instrument.price_bands)

    # --- units -----------------------------------------------------------------------------------

    def price_ticks(self, price: Decimal) -> int | None:
        """Return an order's price in ticks, or None where the instrument doesn't allow it."""
        ticks = self.ticks.exact(price)
        if ticks is None or (ticks <= 0 and not self.instrument.negative_prices):
            return None
        if self._bands and self.instrument.price_problem(price):
            return None
        return ticks

    # --- the feed --------------------------------------------------------------------------------

    def show(self, event: SnapshotEvent | DeltaEvent | QuoteEvent) -> None:
        """Bring the displayed depth up to date. Off-grid prices and sizes are rounded against the taker."""
        self.last_book_ns = event.ts_ns
        book = self.book
        if isinstance(event, QuoteEvent):
            self.crossed_top = event.bid is not None and event.ask is not None and event.bid > event.ask
            if self.full_depth:
                return  # the book is known in more detail than a quote tells
            _show_best(self, BUY, event.bid, event.bid_size, event.event_id)
            _show_best(self, SELL, event.ask, event.ask_size, event.event_id)
            if book.bids.keys or book.asks.keys:
                self._touch_better(BUY, event.ts_ns)
                self._touch_better(SELL, event.ts_ns)
        else:
            if type(event) is SnapshotEvent:
                book.bids.clear_depth()
                book.asks.clear_depth()
                self.full_depth, self.crossed_top = True, False
                self.partial = not (event.bids or event.asks)
            self._show_levels(BUY, event.bids, event)
            self._show_levels(SELL, event.asks, event)
            if type(event) is SnapshotEvent and (book.bids.keys or book.asks.keys):
                self._touch_all(event.ts_ns)
        for side, heap in self.unplaced.items():
            if heap:
                self._place(side, heap)

    def _show_levels(
        self, side: int, levels: tuple[PriceLevel, ...], event: SnapshotEvent | DeltaEvent
    ) -> None:
        book_side = self.book.side(side)
        price_of = self.ticks.floor if side > 0 else self.ticks.ceiling
        lots_of, show, own = self.lots.floor, book_side.show, book_side.levels
        arrived, event_id, sign = self.book.arrivals, event.event_id, book_side.sign
        for price, size in levels:
            ticks, lots = price_of(price), lots_of(size)
            show(ticks, lots, arrived, event_id)
            if own and (level := own.get(ticks * sign)) is not None:
                level.displayed, level.touched_ns = lots, event.ts_ns

    def _touch_all(self, now_ns: int) -> None:
        for book_side in (self.book.bids, self.book.asks):
            for key, level in book_side.levels.items():
                shown = book_side.depth.get(key)
                level.displayed, level.touched_ns = (shown.remaining if shown else 0), now_ns

    def _touch_better(self, side: int, now_ns: int) -> None:
        """Note what a quote says about our own levels at or better than its price; deeper ones it hides."""
        book_side = self.book.side(side)
        if not book_side.depth_keys:
            return
        best = book_side.depth_keys[-1]
        for key in reversed(book_side.keys):
            if key < best:
                break
            level = book_side.levels[key]
            displayed = book_side.depth[best].remaining if key == best else 0
            if displayed != level.displayed:
                level.displayed, level.touched_ns = displayed, now_ns

    def displayed_at(self, side: int, price: int) -> int | None:
        """Return the lots the market displays at a price, None where the feed doesn't tell."""
        book_side = self.book.side(side)
        if not book_side.depth_keys:
            return None
        key = price * book_side.sign
        shown = book_side.depth.get(key)
        if shown is not None:
            return shown.remaining
        known_down_to = book_side.depth_keys[0]  # for a quote that is also the best
        return 0 if key > known_down_to and not self.partial else None

    def place(self, order: WorkingOrder) -> None:
        """Set the queue ahead of an order that begins to rest: all that is displayed there."""
        displayed = self.displayed_at(order.side, order.price)
        level = order.level
        assert level is not None
        if displayed is None:
            order.ahead = order.ahead_at_acceptance = None
            heappush(self.unplaced[order.side], (-order.price * order.side, order.number, order))
            return
        # One of ours in front may still count more ahead of it than is displayed now: stay behind it.
        others = (other for other in level if other is not order and isinstance(other, WorkingOrder))
        before = [other.ahead or 0 for other in others] if len(level.orders) > 1 else ()
        order.ahead = order.ahead_at_acceptance = max(displayed, *before) if before else displayed
        if level.displayed != displayed:
            level.displayed, level.touched_ns = displayed, self.last_book_ns or 0

    def _place(self, side: int, heap: list[tuple[int, int, WorkingOrder]]) -> None:
        """Give those orders a place that the feed now shows the queue of."""
        depth_keys = self.book.side(side).depth_keys
        hidden: list[tuple[int, int, WorkingOrder]] = []
        while heap and depth_keys and -heap[0][0] >= depth_keys[0]:
            entry = heappop(heap)
            order = entry[2]
            if order.level is None or order.ahead is not None or order.price * side != -entry[0]:
                continue  # gone, moved, or the market has passed its queue already
            if self.displayed_at(side, order.price) is None:
                hidden.append(entry)
            else:
                self.place(order)
        for entry in hidden:
            heappush(heap, entry)

    def data_problem(self, now_ns: int, stale_after_ns: int) -> tuple[Refusal, str] | None:
        """Say why nothing may be taken from the displayed depth now, or None where it may."""
        symbol = self.instrument.symbol
        if self.last_book_ns is None:
            return Refusal.NO_MARKET_DATA, f"no quote or book of {symbol} has been seen yet"
        age = now_ns - self.last_book_ns
        if age > stale_after_ns:
            return (
                Refusal.STALE_MARKET_DATA,
                f"the last quote of {symbol} is {age / 1e9:.1f} s old; nothing fills from quotes older than "
                f"{stale_after_ns / 1e9:.1f} s",
            )
        if self.crossed:
            return (
                Refusal.CROSSED_MARKET_DATA,
                f"the quotes of {symbol} are crossed: the bid is above the ask",
            )
        return None

    @property
    def bars_only(self) -> bool:
        """True where the feed has shown bars and never a quote or a book."""
        return self.has_bars and self.last_book_ns is None

    @property
    def crossed(self) -> bool:
        """True where the displayed bid is above the displayed ask: nothing fills."""
        return self.crossed_top or self.book.crossed

    # --- bars ------------------------------------------------------------------------------------

    def take_bar(self, bar: BarEvent) -> None:
        """Note a finished bar."""
        width = bar.ts_ns - bar.start_ns
        self.bar_width = min(self.bar_width or width, width)
        self.has_bars, self.last_bar, self.last = True, bar, bar.close

    def beyond_close(self, side: int, limit: int) -> bool:
        """True where only bars are known and a limit (ticks) reaches the last one's close."""
        if not self.bars_only or self.last_bar is None:
            return False
        close = self.last_bar.close
        return limit >= self.ticks.floor(close) if side > 0 else limit <= self.ticks.ceiling(close)

    @property
    def daily(self) -> bool:
        """True where the feed has shown nothing finer than bars of a day: no hour can be checked."""
        return self.bars_only and self.bar_width >= DAY_NS

    def session_end(self, wanted: Session, ns: int) -> int | None:
        """Return when the session an order asks for ends (ns), or None where it is closed now.

        On daily data it is never closed: the order is for the session under way or the next, and that
        ends with its bar.
        """
        if not self.daily or self.calendar.continuous or self.last_bar is None:
            return self.calendar.end_of_session(wanted, ns)
        end = self.calendar.next_end(wanted, ns)
        if end is None:
            return None
        known = self.last_bar.ts_ns
        return known + -(-(end - known) // self.bar_width) * self.bar_width

    def began_ns(self, bar: BarEvent) -> int:
        """Return when trading in a bar began: one of a day or more begins with its first session."""
        if bar.ts_ns - bar.start_ns < DAY_NS:
            return bar.start_ns
        return self.calendar.next_open(Session.REGULAR, bar.start_ns, bar.ts_ns)

    # --- stops -----------------------------------------------------------------------------------

    def add_stop(self, order: WorkingOrder) -> None:
        """Watch a stop order's trigger."""
        assert order.stop is not None
        watched = order.terms.trigger_by
        kind = TriggerBy.LAST if watched is TriggerBy.DEFAULT else watched
        heappush(
            self.stops.setdefault((kind, order.side), []), (order.stop * order.side, order.number, order)
        )

    def reached(
        self, kind: TriggerBy, side: int, price: int, *, since_ns: int | None = None
    ) -> list[WorkingOrder]:
        """Take out the stops that a price triggers, in order of stop price, then age.

        `since_ns` leaves those that were accepted later.
        """
        heap = self.stops.get((kind, side))
        found: list[WorkingOrder] = []
        kept: list[tuple[int, int, WorkingOrder]] = []
        while heap and (not heap[0][2].open or heap[0][0] <= price * side):
            entry = heappop(heap)
            order = entry[2]
            if not order.open or order.triggered or order.stop is None or order.stop * side != entry[0]:
                continue
            if found and found[-1] is order:
                continue  # replaced back and forth: it was listed twice
            if since_ns is not None and order.accepted_ns > since_ns:
                kept.append(entry)
            else:
                found.append(order)
        for entry in kept:
            assert heap is not None
            heappush(heap, entry)
        return found


def _show_best(market: Market, side: int, price: Decimal | None, size: Decimal | None, event_id: str) -> None:
    """Make a quote's side the only displayed level there."""
    book_side = market.book.side(side)
    if price is None:
        book_side.clear_depth()
        return
    ticks = market.ticks.floor(price) if side > 0 else market.ticks.ceiling(price)
    key = ticks * book_side.sign
    if book_side.depth_keys and book_side.depth_keys != [key]:
        book_side.clear_depth()
    book_side.show(ticks, 0 if size is None else market.lots.floor(size), market.book.arrivals, event_id)


_FAR = 1 << 200

#: Enough for most instruments, so that listing another one rarely changes how amounts are stored.
_LEAST_DIGITS = 12


def ledger_digits(
    instruments: list[Instrument], rules: list[FeeRule], extra: dict[str, int]
) -> dict[str, int]:
    """Return for each currency how many digits keep every amount exact: products, fees and balances."""
    digits = {currency: max(count, _LEAST_DIGITS) for currency, count in extra.items()}

    def need(currency: str, count: int) -> None:
        digits[currency] = max(count, digits.get(currency, _LEAST_DIGITS))

    for instrument, rule in zip(instruments, rules, strict=True):
        base, lot = base_asset(instrument), instrument.quantity_increment
        increments = [instrument.price_increment, *(band.increment for band in instrument.price_bands)]
        need(base, decimals(lot))
        need(instrument.quote, sum(map(decimals, (common_increment(increments), lot, instrument.multiplier))))
        paid_in = {"quote": instrument.quote, "base": base}.get(rule.currency, rule.currency)
        need(paid_in, max(decimals(rule.increment), decimals(rule.minimum)))
    return digits
