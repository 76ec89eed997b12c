"""The optimism report: what another fill model would have claimed for the same orders and market."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from mts1b_brokers_core.foundation.base import LEDGER, plain
from mts1b_brokers_core.foundation.orders import Side

from .commands import CancelAllCommand, CancelCommand, Command, ReplaceCommand, SubmitCommand
from .exchange import SimulatedExchange
from .feeds import MarketEvent
from .orders import VenueOrder


@dataclass(frozen=True, slots=True)
class OrderClaim:
    """What one model made of an order: filled units, average price, value and fees in their currencies."""

    status: str
    filled: Decimal
    average_price: Decimal | None
    value: Decimal
    fees: dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class OrderComparison:
    """One order under both models."""

    venue_order_id: str
    token: str
    symbol: str
    side: Side
    used: OrderClaim
    claimed: OrderClaim


@dataclass(frozen=True, slots=True)
class Totals:
    """A whole run under one model: fills, orders that got any, fees, the accounts' worth at last prices."""

    fills: int
    orders_filled: int
    fees: dict[str, Decimal]
    worth: dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class OptimismReport:
    """Both models side by side; `worth_claimed_beyond` is what the other one promises on top, by currency."""

    model: str
    other_model: str
    orders: tuple[OrderComparison, ...]
    used: Totals
    claimed: Totals

    @property
    def differing(self) -> tuple[OrderComparison, ...]:
        """The orders that the models fill differently."""
        return tuple(row for row in self.orders if row.used != row.claimed)

    @property
    def worth_claimed_beyond(self) -> dict[str, Decimal]:
        """The other model's worth less the used one's, by currency."""
        zero = Decimal(0)
        currencies = sorted({*self.used.worth, *self.claimed.worth})
        return {
            currency: LEDGER.subtract(
                self.claimed.worth.get(currency, zero), self.used.worth.get(currency, zero)
            )
            for currency in currencies
        }

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        head = f"{'':28}{self.model:>20}{self.other_model:>20}"
        rows = [head, f"{'fills':28}{self.used.fills:>20}{self.claimed.fills:>20}"]
        rows.append(f"{'orders filled':28}{self.used.orders_filled:>20}{self.claimed.orders_filled:>20}")
        for title, used, claimed in (
            ("fees", self.used.fees, self.claimed.fees),
            ("worth", self.used.worth, self.claimed.worth),
        ):
            for currency in sorted({*used, *claimed}):
                cells = (_cents(row.get(currency, Decimal(0))) for row in (used, claimed))
                rows.append(f"{f'{title} {currency}':28}" + "".join(f"{cell:>20}" for cell in cells))
        for currency, more in self.worth_claimed_beyond.items():
            word = "less" if more < 0 else "more"
            rows.append(f"{self.other_model} claims {_cents(abs(more))} {currency} {word} than {self.model}.")
        return rows


def optimism_report(
    exchange: SimulatedExchange,
    commands: Sequence[Command],
    events: Iterable[MarketEvent],
    *,
    model: str = "touch",
) -> OptimismReport:
    """Play a run's commands again, at their times, on the same market under another fill model.

    `exchange` is the run's own, `commands` what its `record_commands()` kept from the start of a fresh
    exchange, `events` the same market data; what lies after the run's present is left out.
    """
    config = replace(exchange.config, fill_model=model)
    other = SimulatedExchange(config, start_ns=commands[0].arrival_ns if commands else 0)
    for command in commands:
        other.send(_again(command))
    for event in events:
        if event.ts_ns > exchange.now_ns:
            break
        other.apply(event)
    other.advance(exchange.now_ns)
    rows = []
    for order in exchange.orders_since():
        twin = other.order_by_token(order.token)
        assert twin is not None, "the commands don't hold every order of the run"
        claims = (_claim(run, row) for run, row in ((exchange, order), (other, twin)))
        rows.append(OrderComparison(order.venue_order_id, order.token, order.symbol, order.side, *claims))
    return OptimismReport(exchange.config.fill_model, model, tuple(rows), _totals(exchange), _totals(other))


def _again(command: Command) -> Command:
    """Return the command without its reply."""
    if isinstance(command, SubmitCommand):
        return SubmitCommand(command.arrival_ns, command.order, command.token, command.account_id)
    if isinstance(command, CancelCommand):
        return CancelCommand(command.arrival_ns, command.venue_order_id)
    if isinstance(command, ReplaceCommand):
        return ReplaceCommand(command.arrival_ns, command.venue_order_id, command.changes)
    return CancelAllCommand(command.arrival_ns, command.symbol, command.account_id)


def _claim(exchange: SimulatedExchange, order: VenueOrder) -> OrderClaim:
    listed = exchange.markets.get(order.symbol)
    average = order.average_price(listed.instrument.multiplier) if listed else None
    fees = {fee.currency: fee.amount for fee in order.fees}
    return OrderClaim(str(order.status), order.filled_quantity, average, order.filled_value, fees)


def _totals(exchange: SimulatedExchange) -> Totals:
    fees: dict[str, Decimal] = {}
    for fill in exchange.fills_since():
        fees[fill.fee_currency] = LEDGER.add(fees.get(fill.fee_currency, Decimal(0)), fill.fee_amount)
    filled = len({fill.venue_order_id for fill in exchange.fills_since()})
    return Totals(len(exchange.fills_since()), filled, fees, worth(exchange))


def worth(exchange: SimulatedExchange) -> dict[str, Decimal]:
    """Return what all accounts are worth at last prices, by the currency they are priced in.

    Assets that no listed instrument prices stand under their own name.
    """
    last = {market.base: market for market in exchange.markets.values() if market.last is not None}
    sums: dict[str, Decimal] = {}
    for account_id in exchange.accounts:
        for row in exchange.balances(account_id):
            market = last.get(row.currency)
            if market is None or market.last is None:
                currency, amount = row.currency, row.total
            else:
                currency, amount = market.quote, market.instrument.notional(row.total, market.last)
            sums[currency] = LEDGER.add(sums.get(currency, Decimal(0)), amount)
    return sums


def _cents(amount: Decimal) -> str:
    return plain(amount.quantize(Decimal("0.01")))
