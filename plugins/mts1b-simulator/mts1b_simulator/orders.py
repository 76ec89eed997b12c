"""The exchange's orders, fills, replies and reports as callers see them, and why it refuses."""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal, NamedTuple

from mts1b_brokers_core.foundation.base import LEDGER, Money
from mts1b_brokers_core.foundation.orders import Liquidity, Order, OrderStatus, Side

_QUOTIENT = decimal.Context(prec=28, rounding=decimal.ROUND_HALF_EVEN)


class Refusal(StrEnum):
    """Why the exchange refused or ended an order, as one stable word; the words beside it say more."""

    UNKNOWN_SYMBOL = "unknown_symbol"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNSUPPORTED = "unsupported"
    NOT_TRADABLE = "not_tradable"
    MARKET_CLOSED = "market_closed"
    PRICE_INCREMENT = "price_increment"
    QUANTITY_INCREMENT = "quantity_increment"
    MIN_QUANTITY = "min_quantity"
    MAX_QUANTITY = "max_quantity"
    MIN_NOTIONAL = "min_notional"
    MAX_NOTIONAL = "max_notional"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    SELF_TRADE = "self_trade"
    NO_MARKET_DATA = "no_market_data"
    STALE_MARKET_DATA = "stale_market_data"
    CROSSED_MARKET_DATA = "crossed_market_data"
    NO_LIQUIDITY = "no_liquidity"
    NOT_FILLABLE_AT_ONCE = "not_fillable_at_once"
    RECORDING_ENDED = "recording_ended"
    UNKNOWN_ORDER = "unknown_order"
    ORDER_FINAL = "order_final"
    QUANTITY_BELOW_FILLED = "quantity_below_filled"
    CANCELED_BY_CALLER = "canceled_by_caller"
    EXPIRED = "expired"


class VenueOrder(NamedTuple):
    """An order as the exchange had it at one moment.

    `terms` are the order as submitted, with any replacement applied; `filled_value` is in quote currency.
    Times are nanoseconds since 1970 UTC. `reason` and `words` say why it was refused or ended early.
    """

    venue_order_id: str
    token: str
    account_id: str
    terms: Order
    status: OrderStatus
    filled_quantity: Decimal
    filled_value: Decimal
    fee_amount: Decimal
    fee_currency: str
    created_ns: int
    updated_ns: int
    expires_ns: int | None
    triggered: bool
    reason: Refusal | None
    words: str

    @property
    def symbol(self) -> str:
        """The instrument's symbol."""
        return self.terms.symbol

    @property
    def side(self) -> Side:
        """Which way the order trades."""
        return self.terms.side

    @property
    def fees(self) -> tuple[Money, ...]:
        """What the order has cost so far; empty before its first fill."""
        return (_money(self.fee_amount, self.fee_currency),) if self.fee_currency else ()

    @property
    def is_open(self) -> bool:
        """True while the exchange works the order."""
        return not self.status.final

    def average_price(self, multiplier: Decimal = Decimal(1)) -> Decimal | None:
        """Return the average fill price to 28 digits, half-even, or None where nothing filled."""
        if not self.filled_quantity:
            return None
        return _QUOTIENT.divide(self.filled_value, LEDGER.multiply(self.filled_quantity, multiplier))


class VenueFill(NamedTuple):
    """One execution: a negative fee is a rebate; `evidence` says which rule filled it, from what."""

    trade_id: str
    sequence: int
    venue_order_id: str
    token: str
    account_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee_amount: Decimal
    fee_currency: str
    liquidity: Liquidity
    at_ns: int
    evidence: dict[str, str]

    @property
    def fee(self) -> Money:
        """What the execution cost."""
        return _money(self.fee_amount, self.fee_currency)


def _money(amount: Decimal, currency: str) -> Money:
    return Money.model_construct(amount=amount, currency=currency)


class ReportKind(StrEnum):
    """What an execution report tells."""

    NEW = "new"
    REJECTED = "rejected"
    TRIGGERED = "triggered"
    FILL = "fill"
    CANCELED = "canceled"
    REPLACED = "replaced"
    EXPIRED = "expired"
    GAP = "gap"


class Report(NamedTuple):
    """One execution report; `sequence` is dense, so a missing number is a lost report.

    A `gap` takes the place of the reports up to its sequence that a slow reader lost: read orders and
    fills again.
    """

    sequence: int
    kind: ReportKind
    at_ns: int
    order: VenueOrder | None = None
    fill: VenueFill | None = None


@dataclass(frozen=True, slots=True)
class SubmitReply:
    """The answer to a submit; `duplicate` is True where the token named an order already there."""

    accepted: bool
    order: VenueOrder
    duplicate: bool = False
    reason: Refusal | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class CancelReply:
    """The answer to a cancel: taken, too late (the order is final), or no such order."""

    outcome: Literal["taken", "final", "unknown_order"]
    order: VenueOrder | None = None
    words: str = ""

    @property
    def taken(self) -> bool:
        """True where the order was cancelled by this request."""
        return self.outcome == "taken"


@dataclass(frozen=True, slots=True)
class ReplaceReply:
    """The answer to a replace; where it is refused the order stays as it was."""

    accepted: bool
    order: VenueOrder | None = None
    reason: Refusal | None = None
    words: str = ""
