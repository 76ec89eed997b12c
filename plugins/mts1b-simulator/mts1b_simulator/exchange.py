"""The simulated exchange: synchronous, deterministic, and no more generous than the market was."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from heapq import heappop, heappush
from itertools import islice

from mts1b_brokers_core.foundation.accounts import FeeSchedule
from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.errors import InvalidInput, UnknownInstrument, nearest
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.market_data import BookLevel, OrderBook, Quote
from mts1b_brokers_core.foundation.orders import Order, OrderChanges
from mts1b_brokers_core.platform.clock import from_ns

from .accounts import BalanceView, CashAccount, PositionView
from .bars import BarMatcher
from .book import BUY, SELL, SelfTradePolicy
from .changes import Changes, Recorder
from .commands import CancelAllCommand, CancelCommand, Command, ReplaceCommand, Reply, SubmitCommand
from .desk import OrderDesk
from .feeds import BarEvent, MarketEvent, TradeEvent
from .fees import DEFAULT_FEES, FeeRule, rule_for
from .fill_models import fill_model
from .market import Market, ledger_digits
from .orders import CancelReply, ReplaceReply, SubmitReply, VenueFill, VenueOrder
from .settlement import Settlement
from .units import at_least_one, decimals, from_units, to_units
from .working import WorkingOrder

#: The default age beyond which quotes fill nothing: five minutes, as recordings have a quote a minute.
STALE_AFTER_NS = 300_000_000_000


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """What the exchange lists, whom it serves and how it fills.

    `accounts` give each account's opening balances by currency or asset. Quotes older than
    `stale_after_ns` fill nothing; a bar gives at most `participation` of its volume.
    """

    instruments: tuple[Instrument, ...]
    accounts: Mapping[str, Mapping[str, Decimal]] = field(
        default_factory=lambda: {"paper": {"USD": Decimal(100_000)}}
    )
    fees: tuple[FeeRule, ...] = DEFAULT_FEES
    fill_model: str = "trade_through"
    self_trade: SelfTradePolicy = SelfTradePolicy.CANCEL_NEWEST
    stale_after_ns: int = STALE_AFTER_NS
    participation: Decimal = Decimal("0.025")


class SimulatedExchange:
    """Books, accounts and rules behind synchronous calls; time comes in with each of them.

    Time is nanoseconds since 1970 UTC and never steps back. Nothing here reads a clock, draws a random
    number or depends on hash order: the same calls give the same orders, fills and reports.
    """

    def __init__(self, config: ExchangeConfig, *, start_ns: int = 0, epoch: int = 1) -> None:
        self.config = config
        self.now_ns = start_ns
        self.recorder = Recorder(epoch)
        rules = [rule_for(config.fees, instrument) for instrument in config.instruments]
        opening: dict[str, int] = {}
        for balances in config.accounts.values():
            for currency, amount in balances.items():
                opening[currency] = max(opening.get(currency, 0), decimals(amount))
        self.digits = ledger_digits(list(config.instruments), rules, opening)
        self.markets: dict[str, Market] = {}
        for instrument, rule in zip(config.instruments, rules, strict=True):
            if instrument.symbol in self.markets:
                raise InvalidInput(f"{instrument.symbol} is listed twice; symbols must be unique here.")
            self.markets[instrument.symbol] = Market(instrument, rule, self.digits)
        self.accounts: dict[str, CashAccount] = {}
        for account_id, balances in config.accounts.items():
            account = self.accounts[account_id] = CashAccount(account_id, self.digits)
            for currency, amount in balances.items():
                if amount < 0:
                    raise InvalidInput(f"{account_id} can't open with {amount} {currency}.")
                account.total[currency] = to_units(amount, self.digits[currency])
        model = fill_model(config.fill_model)
        settlement = Settlement(self.recorder, model.name)
        self._matcher = BarMatcher(
            model, config.self_trade, settlement, self.recorder,
            stale_after_ns=config.stale_after_ns, digits=self.digits, participation=config.participation,
        )  # fmt: skip
        self.desk = OrderDesk(self.markets, self.accounts, self._matcher, settlement, self.recorder)
        self._in_flight: list[tuple[int, int, Command]] = []
        self._sent = 0
        #: Every command in the order it took effect, where `record_commands()` was called.
        self.command_log: list[Command] | None = None

    # --- time and the market -----------------------------------------------------------------------

    def apply(self, event: MarketEvent) -> None:
        """Let a market event happen, after everything due before it. Unlisted symbols are ignored."""
        ts_ns = event.ts_ns
        self._advance(ts_ns - 1)
        if type(event) is not BarEvent:
            self._expire(ts_ns)
        self.now_ns = max(self.now_ns, ts_ns)
        market = self.markets.get(event.symbol)
        if market is None:
            return
        if isinstance(event, TradeEvent):
            self._matcher.on_print(market, event)
        elif isinstance(event, BarEvent):
            self._matcher.on_bar(market, event)
        else:
            market.show(event)
            self._matcher.on_depth(market, ts_ns)

    def observe(self, event: MarketEvent) -> None:
        """Take in an event's quotes and prices without filling anything, to catch up after a restart."""
        market = self.markets.get(event.symbol)
        if market is None:
            return
        if isinstance(event, TradeEvent):
            market.last = event.price
        elif isinstance(event, BarEvent):
            market.take_bar(event)
        else:
            market.show(event)

    def advance(self, to_ns: int) -> None:
        """Let time pass: commands under way arrive and orders expire, each at its own moment."""
        self._advance(to_ns)
        self._expire(to_ns)
        self.now_ns = max(self.now_ns, to_ns)

    def _advance(self, to_ns: int) -> None:
        while self._in_flight and self._in_flight[0][0] <= to_ns:
            arrival_ns, _, command = heappop(self._in_flight)
            self._expire(arrival_ns)
            self.now_ns = max(self.now_ns, arrival_ns)
            command.reply = self._execute(command)
        self._expire(to_ns)

    def _expire(self, to_ns: int) -> None:
        if self.desk.next_expiry_ns <= to_ns:
            self.now_ns = max(self.now_ns, self.desk.expire(to_ns))

    @property
    def next_due_ns(self) -> int | None:
        """When something happens by itself: a command arrives or an order expires; None for never."""
        due = [self._in_flight[0][0]] if self._in_flight else []
        if self.desk.next_expiry_ns < _NEVER:
            due.append(self.desk.next_expiry_ns)
        return min(due, default=None)

    # --- commands ------------------------------------------------------------------------------------

    def submit(self, order: Order, token: str, *, account_id: str | None = None) -> SubmitReply:
        """Place an order now. The token names it for good: the same one again returns the first order."""
        if self.command_log is None:
            return self.desk.submit(order, token, account_id, self.now_ns)
        reply = self._execute(SubmitCommand(self.now_ns, order, token, account_id))
        assert isinstance(reply, SubmitReply)
        return reply

    def cancel(self, venue_order_id: str) -> CancelReply:
        """Cancel an order now."""
        if self.command_log is None:
            return self.desk.cancel(venue_order_id, self.now_ns)
        reply = self._execute(CancelCommand(self.now_ns, venue_order_id))
        assert isinstance(reply, CancelReply)
        return reply

    def replace(self, venue_order_id: str, changes: OrderChanges) -> ReplaceReply:
        """Change price, total quantity or life now; the order keeps its id."""
        reply = self._execute(ReplaceCommand(self.now_ns, venue_order_id, changes))
        assert isinstance(reply, ReplaceReply)
        return reply

    def cancel_all(self, symbol: str | None = None, account_id: str | None = None) -> tuple[str, ...]:
        """Cancel all open orders now, or those of a symbol or account; return the ids taken."""
        reply = self._execute(CancelAllCommand(self.now_ns, symbol, account_id))
        assert isinstance(reply, tuple)
        return reply

    def fill(self, venue_order_id: str, quantity: Decimal, price: Decimal | None = None) -> None:
        """Fill part of a resting order by decree: no market event need give it; for tests of fills.

        At its limit or better. Raises `InvalidInput` where the order doesn't rest or has less left.
        """
        self.desk.decree(venue_order_id, quantity, price, self.now_ns)

    def send(self, command: Command) -> Command:
        """Let a command arrive at its `arrival_ns`; its `reply` is None until then."""
        self._sent += 1
        heappush(self._in_flight, (command.arrival_ns, self._sent, command))
        return command

    def _execute(self, command: Command) -> Reply:
        if self.command_log is not None:
            command.arrival_ns = self.now_ns
            self.command_log.append(command)
        return self.desk.execute(command, self.now_ns)

    def record_commands(self) -> list[Command]:
        """Keep every command from now on, for an optimism report; return the growing list."""
        self.command_log = []
        return self.command_log

    def end_recording(self) -> None:
        """Say that the feed is over: from now on market orders are refused."""
        self.desk.recording_ended = True

    def drain(self) -> Changes:
        """Return what changed since the last call, reports included, and start anew."""
        return self.recorder.drain()

    # --- reads -----------------------------------------------------------------------------------------

    def order(self, venue_order_id: str) -> VenueOrder | None:
        """Return an order by the exchange's id, or None."""
        order = self.desk.orders.get(venue_order_id)
        return None if order is None else order.view()

    def order_by_token(self, token: str) -> VenueOrder | None:
        """Return the order a token names, or None."""
        order = self.desk.tokens.get(token)
        return None if order is None else order.view()

    def open_orders(self, account_id: str | None = None, symbol: str | None = None) -> list[VenueOrder]:
        """Return the orders being worked, oldest first."""
        return [
            order.view()
            for order in self.desk.open.values()
            if account_id in (None, order.owner) and symbol in (None, order.terms.symbol)
        ]

    def orders_since(self, ns: int = 0, account_id: str | None = None) -> list[VenueOrder]:
        """Return orders created at or after a moment (ns), oldest first."""
        return [
            order.view()
            for order in islice(self.desk.history, bisect_left(self.desk.history, ns, key=_created), None)
            if account_id in (None, order.owner)
        ]

    def fills_since(self, ns: int = 0, account_id: str | None = None) -> list[VenueFill]:
        """Return executions at or after a moment (ns), in the order they happened."""
        fills = self.recorder.fills
        first = bisect_left(fills, ns, key=lambda fill: fill.at_ns)
        return [fill for fill in islice(fills, first, None) if account_id in (None, fill.account_id)]

    def fills_of(self, venue_order_ids: Iterable[str]) -> list[VenueFill]:
        """Return the executions of some orders, in the order they happened within each."""
        return [fill for order_id in venue_order_ids for fill in self.recorder.fills_of.get(order_id, ())]

    def balances(self, account_id: str) -> list[BalanceView]:
        """Return what an account holds, by currency; those it never had are left out."""
        account = self.account(account_id)
        return [account.balance(c) for c in sorted(account.total) if account.total[c] or account.held[c]]

    def positions(self, account_id: str) -> list[PositionView]:
        """Return what an account holds of each listed instrument, in listing order."""
        account = self.account(account_id)
        rows: list[PositionView] = []
        for symbol, market in self.markets.items():
            total = account.total[market.base]
            if not total:
                continue
            quantity = from_units(total, self.digits[market.base])
            cost = account.costs.get(symbol, 0)
            average = _quotient(cost, total, market) if cost else None
            free = from_units(account.available(market.base), self.digits[market.base])
            rows.append(PositionView(account_id, symbol, quantity, free, average, market.last, market.quote))
        return rows

    def account(self, account_id: str) -> CashAccount:
        """Return an account. Raises `InvalidInput` where there is none of that id."""
        try:
            return self.accounts[account_id]
        except KeyError:
            raise InvalidInput(f"no account {account_id!r} among {', '.join(self.accounts)}.") from None

    def market(self, symbol: str) -> Market:
        """Return an instrument's market. Raises `UnknownInstrument` with the nearest symbols."""
        try:
            return self.markets[symbol]
        except KeyError:
            close = ", ".join(nearest(symbol, self.markets))
            raise UnknownInstrument(
                f"{symbol!r} is not listed here" + (f"; did you mean {close}?" if close else "."),
                next_step=f"choose one of {', '.join(self.markets)}",
            ) from None

    def quote(self, symbol: str) -> Quote | None:
        """Return the best bid and ask of the whole book, or None where nothing is known yet."""
        book = self.order_book(symbol, 1)
        if book is None:
            return None
        bid, ask = book.best_bid, book.best_ask
        return Quote.model_construct(
            symbol=symbol, bid=bid and bid.price, ask=ask and ask.price, bid_size=bid and bid.quantity,
            ask_size=ask and ask.quantity, at=book.at, source="simulator",
        )  # fmt: skip

    def order_book(self, symbol: str, depth: int = 10) -> OrderBook | None:
        """Return up to `depth` levels a side, our orders included, or None where nothing is known yet.

        Raises `InvalidInput` for a depth below 1.
        """
        market = self.market(symbol)
        at_least_one("depth", depth)
        sides: list[tuple[BookLevel, ...]] = []
        for side in (BUY, SELL):
            rows = market.book.levels(side, depth)
            sides.append(tuple(BookLevel(market.ticks.decimal(p), market.lots.decimal(q)) for p, q in rows))
        at = market.last_book_ns
        if at is None and not any(sides):
            return None
        return OrderBook.model_construct(
            symbol=symbol,
            bids=sides[0],
            asks=sides[1],
            at=from_ns(self.now_ns if at is None else at),
            sequence=None,
        )

    def fee_schedule(self, account_id: str) -> FeeSchedule:
        """Return what the account pays at present, rule by rule in listing order."""
        account, day = self.account(account_id), self.now_ns // 86_400_000_000_000
        rows = {
            market.rule.applies_to: market.rule.as_tier(
                from_units(account.volume(market.quote, day), market.quote_digits)
            )
            for market in self.markets.values()
        }
        return FeeSchedule(tiers=tuple(rows.values()), as_of=from_ns(self.now_ns))


def _created(order: WorkingOrder) -> int:
    return order.created_ns


def _quotient(cost: int, total: int, market: Market) -> Decimal:
    """Return cost per unit, rounded down to the quote currency's ledger digits."""
    lots = max(1, total // market.lot_units)
    per_unit = LEDGER.multiply(market.lots.increment, market.instrument.multiplier)
    numerator, denominator = per_unit.as_integer_ratio()
    return from_units(cost * denominator // (lots * numerator), market.quote_digits)


_NEVER = 1 << 62
