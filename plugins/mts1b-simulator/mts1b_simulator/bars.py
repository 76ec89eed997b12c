"""How orders fill from finished bars, by pessimistic rules."""

from __future__ import annotations

from decimal import Decimal

from mts1b_brokers_core.foundation.orders import Liquidity, TriggerBy

from .book import BUY, SELL, SelfTradePolicy
from .changes import Recorder
from .feeds import BarEvent
from .fill_models import FillModel
from .market import Market
from .matching import Matcher, reached_by
from .settlement import Settlement
from .working import WorkingOrder


class BarMatcher(Matcher):
    """Fills orders from bars too, which give at most `participation` of their volume."""

    def __init__(
        self, model: FillModel, policy: SelfTradePolicy, settlement: Settlement, recorder: Recorder,
        *, stale_after_ns: int, digits: dict[str, int], participation: Decimal,
    ) -> None:  # fmt: skip
        super().__init__(model, policy, settlement, recorder, stale_after_ns=stale_after_ns, digits=digits)
        self._share = participation.as_integer_ratio()

    def on_bar(self, market: Market, bar: BarEvent) -> None:
        """Fill from a finished bar, by pessimistic rules.

        Only orders accepted, or triggered, before the bar began take part. A resting limit fills, at its
        limit, where the bar went strictly through it. Without any quotes, market orders and triggered
        stops fill at the bar's worst price for them, and so does a limit that was beyond the last close,
        but never beyond its limit. All of these together get at most the bar's volume times the
        participation.
        """
        market.take_bar(bar)
        began_ns = market.began_ns(bar)
        full = market.lots.floor(bar.volume)
        budget = full if self._model.fills_on_bar_touch else full * self._share[0] // self._share[1]
        if market.stops:
            buys = market.reached(TriggerBy.LAST, BUY, market.ticks.floor(bar.high), since_ns=began_ns)
            sells = market.reached(TriggerBy.LAST, SELL, market.ticks.ceiling(bar.low), since_ns=began_ns)
            self._come_alive([*buys, *sells], bar.ts_ns, bar)
        if market.waiting and market.bars_only:
            for order in market.waiting:
                if order.open and order.accepted_ns <= began_ns:
                    budget -= self._fill_at_worst(order, bar, budget)
            market.waiting = [order for order in market.waiting if order.open]
        if not market.crossed:
            for side in (BUY, SELL):
                if market.book.side(side).keys:
                    budget -= self._fill_from_bar(market, side, bar, began_ns, budget)
        if market.taking:
            market.taking = [order for order in market.taking if self._goes_on_taking(order, began_ns)]

    def _goes_on_taking(self, order: WorkingOrder, began_ns: int) -> bool:
        """Say whether a limit is still beyond the close; one that a whole bar left behind rests."""
        assert order.limit is not None
        if not order.open or not order.taking:
            return False
        if order.accepted_ns <= began_ns and not order.market.beyond_close(order.side, order.limit):
            order.taking = False
            self._recorder.changed(order)
        return order.taking

    def _fill_at_worst(self, order: WorkingOrder, bar: BarEvent, budget: int) -> int:
        market = order.market
        lots = min(order.remaining, budget)
        if lots <= 0 or not market.calendar.meets(order.terms.session, bar.start_ns, bar.ts_ns):
            return 0
        worst = market.ticks.ceiling(bar.high) if order.side == BUY else market.ticks.floor(bar.low)
        if not self._fund(order, [(worst, lots)], bar.ts_ns):
            return 0
        order.remaining -= lots
        self._settlement.fill(order, worst, lots, Liquidity.TAKER, bar.ts_ns, {
            "rule": "the worst price of a whole bar", "market_event": bar.event_id,
            "bar_volume": str(bar.volume),
        })  # fmt: skip
        return lots

    def _fill_from_bar(self, market: Market, side: int, bar: BarEvent, began_ns: int, budget: int) -> int:
        extreme, other = (bar.low, bar.high) if side == BUY else (bar.high, bar.low)
        low, high = market.ticks.floor(extreme), market.ticks.ceiling(extreme)
        at, beyond = (high, low) if side == BUY else (low, high)
        worst = market.ticks.ceiling(other) if side == BUY else market.ticks.floor(other)
        used = 0
        for order in reached_by(market, side, at):
            if used >= budget:
                break
            through = (order.price - beyond) * side > 0
            within = order.taking and (order.price - worst) * side >= 0
            if order.accepted_ns > began_ns or not (through or within or self._model.fills_on_bar_touch):
                continue
            if not market.calendar.meets(order.terms.session, bar.start_ns, bar.ts_ns):
                continue
            lots = min(order.remaining, budget - used)
            used += lots
            rule = "a whole bar went through the limit" if through else "a bar touched the limit"
            self._fill_resting(order, lots, bar.ts_ns, {
                "rule": "the worst price of a whole bar within the limit" if within else rule,
                "market_event": bar.event_id, "bar_extreme": str(other if within else extreme),
                "bar_volume": str(bar.volume),
            }, at=worst if within else None)  # fmt: skip
        return used
