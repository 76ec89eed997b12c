"""How orders fill by taking displayed depth and by prints, and how stops come alive."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from mts1b_brokers_core.foundation.orders import Liquidity, OrderStatus, OrderType, TimeInForce, TriggerBy

from .book import BUY, SELL, BookTrade, SelfTradePolicy
from .changes import Recorder
from .entry import Problem, short_of
from .feeds import BarEvent, TradeEvent
from .fill_models import FillModel
from .market import Market
from .orders import Refusal, ReportKind
from .settlement import Settlement, needs, outlay
from .units import from_units
from .working import WorkingOrder

Plan = list[tuple[int, int]]


class Matcher:
    """Fills orders by one fill model and self-trade policy."""

    def __init__(
        self, model: FillModel, policy: SelfTradePolicy, settlement: Settlement, recorder: Recorder,
        *, stale_after_ns: int, digits: dict[str, int],
    ) -> None:  # fmt: skip
        self._model = model
        self._policy = policy
        self._settlement = settlement
        self._recorder = recorder
        self._stale_after_ns = stale_after_ns
        self._digits = digits

    # --- the end of an order -----------------------------------------------------------------------

    def end(self, order: WorkingOrder, status: OrderStatus, now_ns: int, reason: Refusal, words: str) -> None:
        """Take an order off the exchange, release what it held and report it."""
        order.market.book.cancel(order)
        self._settlement.hold(order, {})
        order.status, order.reason, order.words, order.updated_ns = status, reason, words, now_ns
        kind = {OrderStatus.EXPIRED: ReportKind.EXPIRED, OrderStatus.REJECTED: ReportKind.REJECTED}
        self._recorder.report(kind.get(status, ReportKind.CANCELED), order, now_ns)

    # --- taking --------------------------------------------------------------------------------------

    def data_problem(self, market: Market, now_ns: int) -> Problem | None:
        """Say why displayed depth may not be taken now, or None."""
        return market.data_problem(now_ns, self._stale_after_ns)

    def would_take(self, order: WorkingOrder) -> bool:
        """True where the limit reaches what the other side shows now, or on bars alone the last close."""
        assert order.limit is not None
        takeable = order.market.book.takeable(order, order.limit, SelfTradePolicy.CANCEL_OLDEST)
        return (
            next(takeable, None) is not None or self._meets_own(order)
            or order.market.beyond_close(order.side, order.limit)
        )  # fmt: skip

    def _meets_own(self, order: WorkingOrder) -> bool:
        other = order.market.book.side(-order.side)
        return bool(other.keys) and other.keys[-1] >= (order.limit or 0) * other.sign

    def plan(self, order: WorkingOrder, limit: int | None, lots: int, *, displayed: bool = True) -> Plan:
        """Return the (price, lots) that taking up to `lots` would match."""
        rows: Plan = []
        for price, there in order.market.book.takeable(order, limit, self._policy, displayed=displayed):
            taken = min(there, lots)
            rows.append((price, taken))
            lots -= taken
            if not lots:
                break
        return rows

    def plan_value(self, order: WorkingOrder, budget: int) -> tuple[Plan, bool]:
        """Return what a budget (ledger units of quote currency) buys or sells, and whether it was used up."""
        rows: Plan = []
        unit = order.market.value_unit
        for price, there in order.market.book.takeable(order, None, self._policy):
            if price <= 0:
                break
            lots = min(there, budget // (price * unit))
            if lots:
                rows.append((price, lots))
                budget -= lots * price * unit
            if lots < there:
                return rows, True
        return rows, False

    def unaffordable(self, order: WorkingOrder, amounts: dict[str, int]) -> Problem | None:
        """Say what the account lacks for these amounts, the order's own hold counted in, or None."""
        account = order.account
        currency = account.shortfall(amounts, order.hold)
        if currency is None:
            return None
        digits = self._digits[currency]
        free = account.available(currency) + order.hold.get(currency, 0)
        return short_of(order, currency, from_units(amounts[currency], digits), from_units(free, digits))

    def take(self, order: WorkingOrder, limit: int | None, now_ns: int, *, displayed: bool = True) -> bool:
        """Match an order against the other side now; False where self-trade prevention stopped it."""
        taken = order.market.book.take(order, limit, self._policy, displayed=displayed)
        for trade in taken.trades:
            self._settle(order, trade, now_ns)
        for removed in taken.removed:
            assert isinstance(removed, WorkingOrder)
            self.end(
                removed, OrderStatus.CANCELED, now_ns, Refusal.SELF_TRADE,
                f"{order.order_id} of the same account would have traded with it",
            )  # fmt: skip
        return not taken.stopped

    def _settle(self, taker: WorkingOrder, trade: BookTrade, now_ns: int) -> None:
        maker = trade.maker
        if maker is None:
            evidence = {"rule": "took displayed depth", "market_event": trade.event_id}
        else:
            assert isinstance(maker, WorkingOrder)
            evidence = {"rule": "matched a resting order", "counterparty": maker.order_id}
            self._settlement.fill(
                maker, trade.price, trade.quantity, Liquidity.MAKER, now_ns,
                {"rule": "matched by an incoming order", "counterparty": taker.order_id},
            )  # fmt: skip
        self._settlement.fill(taker, trade.price, trade.quantity, Liquidity.TAKER, now_ns, evidence)

    # --- prints --------------------------------------------------------------------------------------

    def on_print(self, market: Market, event: TradeEvent) -> None:
        """Fill resting orders from one print, bounded by its size in total, then look at stops."""
        low, high = market.ticks.floor(event.price), market.ticks.ceiling(event.price)
        market.last = event.price
        printed = market.lots.floor(event.quantity)
        book = market.book
        if printed and (book.bids.keys or book.asks.keys) and not market.crossed:
            left = printed - self._fill_side(market, BUY, high, low, printed, 0, event)
            if left:
                self._fill_side(market, SELL, low, high, printed, printed - left, event)
        if market.stops:
            self._trigger(market, TriggerBy.LAST, low, high, event.ts_ns)

    def _fill_side(
        self, market: Market, side: int, at: int, beyond: int, printed: int, taken: int, event: TradeEvent
    ) -> int:
        """Let a print reach one side's orders; return the lots taken.

        An order is reached where `at` is no worse than its price, and passed through where `beyond` is
        strictly better: two roundings of one price, so that off-grid prints never gain us a tick.
        """
        before = taken
        for order in reached_by(market, side, at):
            if not market.calendar.is_open(order.terms.session, event.ts_ns):
                continue
            through = beyond < order.price if side > 0 else beyond > order.price
            reach = self._model.reach(
                order, through=through, printed=printed, taken=taken, now_ns=event.ts_ns
            )
            if not reach or reach < 0:
                if taken >= printed:
                    break
                continue
            lots = min(reach, order.remaining)
            taken += lots
            self._fill_resting(order, lots, event.ts_ns, {
                "rule": "print through the limit" if through else "print at the limit, queue gone",
                "market_event": event.event_id,
                "print_price": str(event.price),
                "print_size": str(event.quantity),
            })  # fmt: skip
        return taken - before

    def _fill_resting(
        self, order: WorkingOrder, lots: int, now_ns: int, evidence: dict[str, str], at: int | None = None
    ) -> None:
        ahead, lots_of = order.ahead_at_acceptance, order.market.lots
        evidence["queue_ahead"] = "not displayed" if ahead is None else str(lots_of.decimal(ahead))
        order.market.book.fill(order, lots)
        liquidity = Liquidity.TAKER if order.taking else Liquidity.MAKER
        self._settlement.fill(order, order.price if at is None else at, lots, liquidity, now_ns, evidence)

    def decree(self, order: WorkingOrder, lots: int, at: int, now_ns: int) -> None:
        """Fill part of a resting order at a price (ticks) that no market event gave it."""
        self._fill_resting(order, lots, now_ns, {"rule": "decreed"}, at)

    # --- quotes --------------------------------------------------------------------------------------

    def on_depth(self, market: Market, now_ns: int) -> None:
        """After the displayed depth changed: models that fill on quotes, waiting orders, quote triggers."""
        if self._model.fills_on_quotes and (market.book.bids.keys or market.book.asks.keys):
            self._touch(market, BUY, now_ns)
            self._touch(market, SELL, now_ns)
        if market.waiting:
            self._work_waiting(market, now_ns)
        if market.stops and not market.crossed:
            bid, ask = market.book.market_best(BUY), market.book.market_best(SELL)
            self._quote_triggers(market, bid, ask, now_ns)

    def _quote_triggers(self, market: Market, bid: int | None, ask: int | None, now_ns: int) -> None:
        if ask is not None:
            self._come_alive(market.reached(TriggerBy.BID_ASK, BUY, ask), now_ns)
        if bid is not None:
            self._come_alive(market.reached(TriggerBy.BID_ASK, SELL, bid), now_ns)
        if bid is not None and ask is not None:
            self._trigger(market, TriggerBy.MID, (bid + ask) // 2, -(-(bid + ask) // 2), now_ns)

    def _touch(self, market: Market, side: int, now_ns: int) -> None:
        """Fill resting orders from opposite displayed depth at or through their limit, using it up."""
        book = market.book
        other = book.side(-side)
        if market.crossed:
            return
        while other.depth_keys:
            key = other.depth_keys[-1]
            order = next(
                (o for o in reached_by(market, side, key * other.sign)
                 if market.calendar.is_open(o.terms.session, now_ns)), None,
            )  # fmt: skip
            if order is None:
                return
            shown = other.depth[key]
            lots = min(order.remaining, shown.remaining)
            shown.remaining -= lots
            if not shown.remaining:
                other.hide(key)
            self._fill_resting(order, lots, now_ns, {
                "rule": "an opposite quote touched the limit", "market_event": shown.event_id,
            })  # fmt: skip

    # --- stops ---------------------------------------------------------------------------------------

    def _trigger(self, market: Market, kind: TriggerBy, low: int, high: int, now_ns: int) -> None:
        self._come_alive(market.reached(kind, BUY, low), now_ns)
        self._come_alive(market.reached(kind, SELL, high), now_ns)

    def _come_alive(self, stops: list[WorkingOrder], now_ns: int, bar: BarEvent | None = None) -> None:
        for order in stops:
            # What is displayed may be of a moment within the bar, when the order still slept.
            fresh = bar is None or (order.market.last_book_ns or 0) >= bar.ts_ns
            calendar, session = order.market.calendar, order.terms.session
            open_then = calendar.is_open(session, now_ns) if bar is None else (
                calendar.meets(session, bar.start_ns, bar.ts_ns)
            )  # fmt: skip
            if not open_then:
                order.market.add_stop(order)
                continue
            order.triggered, order.updated_ns = True, now_ns
            order.accepted_ns = now_ns  # live from here: the bar under way is not for it
            self._recorder.report(ReportKind.TRIGGERED, order, now_ns)
            if order.terms.order_type is OrderType.STOP:
                order.market.waiting.append(order)
                if fresh:
                    self._work(order, now_ns)
                order.market.waiting = [o for o in order.market.waiting if o.open]
            else:
                self.work_limit(order, now_ns, fresh=fresh)

    def _work_waiting(self, market: Market, now_ns: int) -> None:
        for order in market.waiting:
            if order.open:
                self._work(order, now_ns)
        market.waiting = [order for order in market.waiting if order.open]

    def _work(self, order: WorkingOrder, now_ns: int) -> None:
        """Let a triggered stop take what is displayed; it keeps working until it is filled."""
        market = order.market
        if self.data_problem(market, now_ns) or not market.calendar.is_open(order.terms.session, now_ns):
            return
        plan = self.plan(order, None, order.remaining)
        if plan and self._fund(order, plan, now_ns) and not self.take(order, None, now_ns):
            self.end(order, OrderStatus.CANCELED, now_ns, Refusal.SELF_TRADE, SELF_TRADE_WORDS)

    def _fund(self, order: WorkingOrder, plan: Plan, now_ns: int) -> bool:
        """Reserve what a plan costs beside what remains; an order that can't pay ends here."""
        lots = sum(taken for _, taken in plan)
        amounts = outlay(order, plan)
        if lots < order.remaining:
            for currency, amount in needs(order, order.quantity - lots).items():
                amounts[currency] = amounts.get(currency, 0) + amount
        problem = self.unaffordable(order, amounts)
        if problem:
            self.end(order, OrderStatus.CANCELED, now_ns, *problem)
            return False
        self._settlement.hold(order, amounts)
        return True

    def work_limit(self, order: WorkingOrder, now_ns: int, *, fresh: bool = True) -> None:
        """Let a live limit order take what it reaches, then rest or end as its time in force says.

        `fresh=False` leaves what is displayed alone.
        """
        assert order.limit is not None
        market, force = order.market, order.terms.time_in_force
        if order.terms.post_only and self.would_take(order):
            self.end(order, OrderStatus.CANCELED, now_ns, Refusal.POST_ONLY_WOULD_TAKE, POST_ONLY_WORDS)
            return
        other = market.book.side(-order.side)
        reached = bool(other.depth_keys) and other.depth_keys[-1] >= order.limit * other.sign
        displayed = fresh and reached and self.data_problem(market, now_ns) is None
        if not displayed and not self._meets_own(order) and force is not TimeInForce.IOC and (
            force is not TimeInForce.FOK
        ):  # fmt: skip
            self._rest(order, order.limit)
            return
        if force is TimeInForce.FOK:
            plan = self.plan(order, order.limit, order.remaining, displayed=displayed)
            if sum(lots for _, lots in plan) < order.remaining:
                self.end(order, OrderStatus.CANCELED, now_ns, Refusal.NOT_FILLABLE_AT_ONCE, NOT_AT_ONCE_WORDS)
                return
        if not self.take(order, order.limit, now_ns, displayed=displayed):
            self.end(order, OrderStatus.CANCELED, now_ns, Refusal.SELF_TRADE, SELF_TRADE_WORDS)
        elif order.remaining and force in (TimeInForce.IOC, TimeInForce.FOK):
            self.end(order, OrderStatus.CANCELED, now_ns, Refusal.NO_LIQUIDITY, REST_CANCELED_WORDS)
        elif order.remaining:
            self._rest(order, order.limit)

    @staticmethod
    def _rest(order: WorkingOrder, limit: int) -> None:
        """Let what remains rest; on bars alone one beyond the last close is a taker until a bar tells."""
        market = order.market
        order.price = limit
        market.book.rest(order)
        market.place(order)
        order.taking = market.beyond_close(order.side, limit)
        if order.taking and order not in market.taking:
            market.taking.append(order)


def reached_by(market: Market, side: int, at: int) -> Iterator[WorkingOrder]:
    """Iterate over the orders of a side that a price reaches, by price, then time; they may fill now."""
    book_side = market.book.side(side)
    keys = book_side.keys
    for key in reversed(keys[bisect_left(keys, at * book_side.sign) :]):
        for order in list(book_side.levels[key]):
            assert isinstance(order, WorkingOrder)
            yield order


SELF_TRADE_WORDS = "it would have traded with another order of the same account"
POST_ONLY_WORDS = "it would have taken liquidity at once"
NOT_AT_ONCE_WORDS = "the whole quantity could not be filled at once"
REST_CANCELED_WORDS = "what could not be filled at once was cancelled"
