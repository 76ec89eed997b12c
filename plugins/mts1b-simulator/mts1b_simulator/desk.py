"""The order desk: takes commands in, checks them, and keeps every order by id and token."""

from __future__ import annotations

from decimal import Decimal
from heapq import heappop, heappush

from mts1b_brokers_core.foundation.base import LEDGER, plain
from mts1b_brokers_core.foundation.errors import InvalidInput, nearest
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, OrderStatus, OrderType, TimeInForce
from mts1b_brokers_core.platform.clock import to_ns

from .accounts import CashAccount
from .book import BUY
from .changes import Recorder
from .commands import CancelAllCommand, CancelCommand, Command, ReplaceCommand, Reply, SubmitCommand
from .entry import Problem, notional_problem, quantity_problem, read_terms, unsupported
from .market import Market
from .matching import NOT_AT_ONCE_WORDS, POST_ONLY_WORDS, SELF_TRADE_WORDS, Matcher, Plan
from .orders import CancelReply, Refusal, ReplaceReply, ReportKind, SubmitReply
from .sessions import DAY_NS
from .settlement import Settlement, needs, outlay
from .units import from_units
from .working import WorkingOrder

_NEVER = 1 << 62
_AT_ONCE = frozenset({TimeInForce.IOC, TimeInForce.FOK})


class OrderDesk:
    """Accepts, replaces, cancels and expires orders."""

    def __init__(
        self, markets: dict[str, Market], accounts: dict[str, CashAccount], matcher: Matcher,
        settlement: Settlement, recorder: Recorder,
    ) -> None:  # fmt: skip
        self._markets = markets
        self._accounts = accounts
        self._matcher = matcher
        self._settlement = settlement
        self._recorder = recorder
        self.orders: dict[str, WorkingOrder] = {}
        self.tokens: dict[str, WorkingOrder] = {}
        #: Every order in the order of arrival.
        self.history: list[WorkingOrder] = []
        self._by_key = {market.instrument.key: market for market in markets.values()}
        self.open = recorder.open
        self.recording_ended = False
        self._expiries: list[tuple[int, int, WorkingOrder]] = []

    def adopt(self, order: WorkingOrder) -> None:
        """Take over an order from a stored state."""
        self.orders[order.order_id] = self.tokens[order.token] = order
        self.history.append(order)
        if order.open:
            self.open[order.order_id] = order
            if order.expires_ns is not None:
                heappush(self._expiries, (order.expires_ns, order.number, order))

    def execute(self, command: Command, now_ns: int) -> Reply:
        """Carry a command out."""
        if type(command) is SubmitCommand:
            return self.submit(command.order, command.token, command.account_id, now_ns)
        if type(command) is CancelCommand:
            return self.cancel(command.venue_order_id, now_ns)
        if type(command) is ReplaceCommand:
            return self.replace(command.venue_order_id, command.changes, now_ns)
        assert type(command) is CancelAllCommand
        return self.cancel_all(command.symbol, command.account_id, now_ns)

    # --- submit ----------------------------------------------------------------------------------------

    def submit(self, terms: Order, token: str, account_id: str | None, now_ns: int) -> SubmitReply:
        """Place an order, or return the one the token already names."""
        known = self.tokens.get(token)
        if known is not None:
            refused = known.status is OrderStatus.REJECTED
            return SubmitReply(
                not refused, known.view(), True, known.reason if refused else None, known.words
            )
        recorder = self._recorder
        number = recorder.next_order()
        owner = (
            account_id or terms.account_id or (next(iter(self._accounts)) if len(self._accounts) == 1 else "")
        )
        order = WorkingOrder(number, f"S{recorder.epoch}-{number}", token, terms, owner, now_ns)
        self.orders[order.order_id] = self.tokens[token] = order
        self.history.append(order)
        problem = self._admit(order, now_ns)
        if problem is not None:
            order.status, (order.reason, order.words) = OrderStatus.REJECTED, problem
            recorder.report(ReportKind.REJECTED, order, now_ns)
            return SubmitReply(False, order.view(), False, order.reason, order.words)
        if order.open and order.expires_ns is not None:
            heappush(self._expiries, (order.expires_ns, number, order))
        return SubmitReply(True, order.view())

    def _admit(self, order: WorkingOrder, now_ns: int) -> Problem | None:
        """Check an order and let it live; or say why it is refused."""
        terms = order.terms
        words = unsupported(terms)
        if words:
            return Refusal.UNSUPPORTED, words
        account = self._accounts.get(order.owner or "")
        if account is None:
            names = ", ".join(self._accounts)
            what = f"no account {order.owner!r}" if order.owner else "no account was named"
            return Refusal.UNKNOWN_ACCOUNT, f"{what} among {names}"
        market = self._markets.get(terms.symbol) or self._by_key.get(terms.symbol)
        if market is None:
            close = nearest(terms.symbol, self._markets, most=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            return Refusal.UNKNOWN_SYMBOL, f"{terms.symbol} is not listed{hint}"
        order.market, order.account = market, account
        if not market.instrument.tradable:
            return Refusal.NOT_TRADABLE, f"{terms.symbol} is not open for trading"
        ends_ns = market.session_end(terms.session, now_ns)
        if ends_ns is None:
            return Refusal.MARKET_CLOSED, f"{terms.symbol} is closed for {terms.session} orders"
        problem = read_terms(order, market, terms)
        if problem:
            return problem
        if terms.time_in_force is TimeInForce.DAY:
            order.expires_ns = ends_ns
        elif terms.expires_at is not None:
            order.expires_ns = to_ns(terms.expires_at)
            if order.expires_ns <= now_ns:
                return Refusal.EXPIRED, "expires_at has passed already"
        self._set_rates(order, market, account, now_ns)
        if terms.order_type is OrderType.MARKET:
            return self._admit_market(order, now_ns)
        return self._admit_priced(order, now_ns)

    def _set_rates(self, order: WorkingOrder, market: Market, account: CashAccount, now_ns: int) -> None:
        tier = market.rule.tiers[0]
        if len(market.rule.tiers) > 1:
            volume = account.volume(market.quote, now_ns // DAY_NS)
            tier = market.rule.tier(from_units(volume, market.quote_digits))
        order.maker_rate, order.taker_rate, order.dearest_rate = market.meter.rates(tier)

    def _admit_priced(self, order: WorkingOrder, now_ns: int) -> Problem | None:
        """Admit a limit, stop or stop-limit order."""
        terms, market, matcher = order.terms, order.market, self._matcher
        cap = order.limit if order.limit is not None else order.stop
        assert cap is not None
        order.cap = cap
        live = order.stop is None
        if live and terms.time_in_force in _AT_ONCE:
            problem = self._no_taking(market, order.side, now_ns)
            if problem:
                return problem
        if live and terms.post_only and matcher.would_take(order):
            return Refusal.POST_ONLY_WOULD_TAKE, POST_ONLY_WORDS
        amounts = needs(order)
        problem = matcher.unaffordable(order, amounts)
        if problem is None and live and market.meter.currency not in (market.quote, market.base):
            # A fee in a third currency grows with the price: reckon with what would be taken right now.
            assert order.limit is not None
            problem = matcher.unaffordable(
                order, outlay(order, matcher.plan(order, order.limit, order.remaining))
            )
        if problem:
            return problem
        order.status = OrderStatus.NEW
        self._settlement.hold(order, amounts)
        self._recorder.report(ReportKind.NEW, order, now_ns)
        if live:
            matcher.work_limit(order, now_ns)
        else:
            market.add_stop(order)
        return None

    def _no_taking(self, market: Market, side: int, now_ns: int) -> Problem | None:
        if self.recording_ended:
            return Refusal.RECORDING_ENDED, "the recording has ended; there is no market to trade with"
        problem = self._matcher.data_problem(market, now_ns)
        if problem and problem[0] is Refusal.NO_MARKET_DATA and market.book.side(-side).keys:
            return None  # no feed at all: the participants trade among themselves
        return problem

    def _admit_market(self, order: WorkingOrder, now_ns: int) -> Problem | None:
        """Admit a market order: it takes what is displayed, and what is left ends with it."""
        market, matcher, terms = order.market, self._matcher, order.terms
        if market.bars_only and not self.recording_ended:
            return self._admit_on_bars(order, now_ns)
        problem = self._no_taking(market, order.side, now_ns)
        if problem:
            return problem
        complete, problem = self._plan_market(order)
        if problem:
            return problem
        order.status = OrderStatus.NEW
        self._recorder.report(ReportKind.NEW, order, now_ns)
        if terms.time_in_force is TimeInForce.FOK and not complete:
            matcher.end(order, OrderStatus.CANCELED, now_ns, Refusal.NOT_FILLABLE_AT_ONCE, NOT_AT_ONCE_WORDS)
            return None
        if not matcher.take(order, None, now_ns):
            matcher.end(order, OrderStatus.CANCELED, now_ns, Refusal.SELF_TRADE, SELF_TRADE_WORDS)
        elif order.open:
            words = "all displayed liquidity was taken; the rest was cancelled"
            matcher.end(order, OrderStatus.CANCELED, now_ns, Refusal.NO_LIQUIDITY, words)
        return None

    def _plan_market(self, order: WorkingOrder) -> tuple[bool, Problem | None]:
        """Say whether what is displayed completes a market order, and why it can't be paid or sized."""
        market, matcher, terms = order.market, self._matcher, order.terms
        if terms.quote_quantity is None:
            plan = matcher.plan(order, None, order.remaining)
            complete = sum(lots for _, lots in plan) == order.remaining
            if plan and not complete:  # a venue wants the whole order covered, not only what is displayed
                short = order.remaining - sum(lots for _, lots in plan)
                checked = [*plan, (plan[-1][0], short)]
            else:
                checked = plan
            value = abs(sum(price * lots for price, lots in checked) * market.value_unit)
            problem = None
            if plan and not market.least_value <= value <= market.most_value:
                problem = notional_problem(market, from_units(value, market.quote_digits))
        else:
            plan, complete = self._plan_quote_sized(order, terms.quote_quantity)
            checked, problem = plan, None
            if complete:
                quantity = market.lots.decimal(order.quantity)
                problem = quantity_problem(market, quantity, order.quantity)
                if not plan or problem:
                    words = f"{plain(terms.quote_quantity)} {market.quote} buys too little"
                    return False, (Refusal.MIN_QUANTITY, f"{words}: {problem[1] if problem else quantity}")
        if not plan and not market.book.side(-order.side).keys:
            return False, (Refusal.NO_LIQUIDITY, f"nothing of {terms.symbol} is displayed to trade with")
        return complete, problem or matcher.unaffordable(order, outlay(order, checked))

    def _plan_quote_sized(self, order: WorkingOrder, amount: Decimal) -> tuple[Plan, bool]:
        """Turn an amount of quote currency into lots; whatever is less than a lot stays unspent."""
        scaled = LEDGER.scaleb(amount, order.market.quote_digits)
        plan, complete = self._matcher.plan_value(order, int(scaled))
        order.quantity = order.remaining = sum(lots for _, lots in plan)
        if not complete:
            order.quantity += 1  # it wanted more than there is, so that is not filled
            order.remaining = max(1, order.remaining)
        return plan, complete

    def _admit_on_bars(self, order: WorkingOrder, now_ns: int) -> Problem | None:
        """Admit a market order where only bars are known: it works in the next whole bar."""
        market, terms = order.market, order.terms
        if terms.quote_quantity is not None or terms.time_in_force in _AT_ONCE:
            return (
                Refusal.NO_MARKET_DATA,
                f"only bars of {terms.symbol} are known, no quotes to trade with at once",
            )
        bar = market.last_bar
        assert bar is not None
        order.cap = market.ticks.ceiling(bar.high) if order.side == BUY else market.ticks.floor(bar.low)
        amounts = needs(order)
        problem = self._matcher.unaffordable(order, amounts)
        if problem:
            return problem
        order.status = OrderStatus.NEW
        self._settlement.hold(order, amounts)
        self._recorder.report(ReportKind.NEW, order, now_ns)
        market.waiting.append(order)
        return None

    def decree(self, venue_order_id: str, quantity: Decimal, price: Decimal | None, now_ns: int) -> None:
        """Fill part of a resting order, at its limit or better. Raises `InvalidInput`."""
        order = self.orders.get(venue_order_id)
        if order is None or order.level is None:
            raise InvalidInput(f"{venue_order_id} doesn't rest in the book.")
        lots, at = order.market.lots.exact(quantity), order.price
        if price is not None:
            at = order.market.price_ticks(price) or 0
        if lots is None or not 0 < lots <= order.remaining:
            remaining = plain(order.market.lots.decimal(order.remaining))
            raise InvalidInput(f"got {quantity} to fill, expected whole lots, at most the {remaining} left.")
        if at <= 0 or (order.price - at) * order.side < 0:
            raise InvalidInput(
                f"got the price {price}, expected whole ticks, no worse than the order's limit."
            )
        self._matcher.decree(order, lots, at, now_ns)

    # --- cancel, expire, replace -------------------------------------------------------------------------

    def cancel(self, venue_order_id: str, now_ns: int) -> CancelReply:
        """Cancel an open order."""
        order = self.orders.get(venue_order_id)
        if order is None:
            return CancelReply("unknown_order", None, f"no order {venue_order_id}")
        if not order.open:
            return CancelReply("final", order.view(), f"the order is {order.status} already")
        self._matcher.end(order, OrderStatus.CANCELED, now_ns, Refusal.CANCELED_BY_CALLER, "")
        return CancelReply("taken", order.view())

    @property
    def next_expiry_ns(self) -> int:
        """When the next order may expire (ns), far in the future where none does."""
        return self._expiries[0][0] if self._expiries else _NEVER

    def expire(self, to_ns: int) -> int:
        """End the orders whose time is over, each at its moment; return the last such moment."""
        last = 0
        while self._expiries and self._expiries[0][0] <= to_ns:
            due_ns, _, order = heappop(self._expiries)
            if order.open and order.expires_ns == due_ns:
                words = f"time in force {order.terms.time_in_force} has ended"
                self._matcher.end(order, OrderStatus.EXPIRED, due_ns, Refusal.EXPIRED, words)
                last = due_ns
        return last

    def replace(self, venue_order_id: str, changes: OrderChanges, now_ns: int) -> ReplaceReply:
        """Change an open order; where that is refused it stays as it was."""
        order = self.orders.get(venue_order_id)
        if order is None:
            return ReplaceReply(False, None, Refusal.UNKNOWN_ORDER, f"no order {venue_order_id}")
        if not order.open:
            words = f"the order is {order.status} already"
            return ReplaceReply(False, order.view(), Refusal.ORDER_FINAL, words)
        problem = self._change(order, changes, now_ns)
        if problem:
            return ReplaceReply(False, order.view(), *problem)
        return ReplaceReply(True, order.view())

    def _change(self, order: WorkingOrder, changes: OrderChanges, now_ns: int) -> Problem | None:
        market, old = order.market, order.terms
        problem = _unchangeable(order, changes)
        if problem:
            return problem
        ends_ns = market.session_end(old.session, now_ns)
        if ends_ns is None:
            return Refusal.MARKET_CLOSED, f"{old.symbol} is closed for {old.session} orders"
        terms = old.model_copy(update=changes.given())
        draft = WorkingOrder(order.number, order.order_id, order.token, terms, order.owner or "", now_ns)
        draft.market, draft.account = market, order.account
        problem = read_terms(draft, market, terms)
        if problem:
            return problem
        if draft.quantity <= order.filled:
            filled = market.lots.decimal(order.filled)
            return Refusal.QUANTITY_BELOW_FILLED, f"{filled} is filled already; a new total must be above it"
        live = order.stop is None or order.triggered
        if live and terms.post_only and draft.limit != order.limit and self._matcher.would_take(draft):
            return Refusal.POST_ONLY_WOULD_TAKE, POST_ONLY_WORDS
        cap = draft.limit if draft.limit is not None else draft.stop if draft.stop is not None else order.cap
        amounts = needs(order, draft.quantity, cap)
        problem = self._matcher.unaffordable(order, amounts)
        if problem:
            return problem
        moved = (draft.limit, draft.stop) != (order.limit, order.stop)
        loses_place = moved or draft.quantity > order.quantity
        less = order.quantity - draft.quantity
        order.terms, order.terms_text = terms, None
        order.quantity, order.cap = draft.quantity, cap
        order.limit, order.stop, order.updated_ns = draft.limit, draft.stop, now_ns
        order.expires_ns = to_ns(terms.expires_at) if terms.expires_at is not None else (
            ends_ns if terms.time_in_force is TimeInForce.DAY else None
        )  # fmt: skip
        if order.expires_ns is not None:
            heappush(self._expiries, (order.expires_ns, order.number, order))
        self._settlement.hold(order, amounts)
        self._recorder.report(ReportKind.REPLACED, order, now_ns)
        if not loses_place:
            if less and order.level is not None:
                market.book.reduce(order, less)
            elif less:
                order.remaining -= less
            return None
        market.book.cancel(order)
        order.remaining = order.quantity - order.filled
        order.accepted_ns = now_ns
        if not live:
            market.add_stop(order)
        elif order.limit is not None:
            self._matcher.work_limit(order, now_ns)
        return None

    def cancel_all(self, symbol: str | None, account_id: str | None, now_ns: int) -> tuple[str, ...]:
        """Cancel all open orders, or those of a symbol or account; return their ids, oldest first."""
        wanted = [
            order.order_id
            for order in self.open.values()
            if symbol in (None, order.terms.symbol) and account_id in (None, order.owner)
        ]
        return tuple(order_id for order_id in wanted if self.cancel(order_id, now_ns).taken)


def _unchangeable(order: WorkingOrder, changes: OrderChanges) -> Problem | None:
    """Say which change the order can't take, or None."""
    if changes.trail_amount is not None or changes.trail_percent is not None:
        return Refusal.UNSUPPORTED, "trailing stops are not taken"
    if changes.limit_price is not None and order.limit is None:
        return Refusal.UNSUPPORTED, f"a {order.terms.order_type} order has no limit price to change"
    if changes.stop_price is not None and (order.stop is None or order.triggered):
        return Refusal.UNSUPPORTED, "there is no stop price waiting to be changed"
    if changes.quantity is not None and order.terms.quantity is None:
        return Refusal.UNSUPPORTED, "the order is sized in quote currency"
    force = changes.time_in_force
    if force is not None and force not in (TimeInForce.DAY, TimeInForce.GTC, TimeInForce.GTD):
        return Refusal.UNSUPPORTED, f"a working order can't become {force}"
    return None
