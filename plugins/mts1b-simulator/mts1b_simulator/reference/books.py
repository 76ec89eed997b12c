"""The venue's own records of orders and executions: what is true, whatever a client may see of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Literal

from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.orders import Order, OrderStatus

from .profile import ReferenceProfile

Fees = list[dict[str, Any]]
#: The exchange's status in this venue's words.
WORDS = {
    OrderStatus.PENDING_NEW: "accepted",
    OrderStatus.NEW: "open",
    OrderStatus.PARTIALLY_FILLED: "partially_filled",
    OrderStatus.FILLED: "filled",
    OrderStatus.CANCELED: "cancelled",
    OrderStatus.REJECTED: "rejected",
    OrderStatus.EXPIRED: "expired",
}
FINAL = frozenset({"filled", "cancelled", "rejected", "expired"})
_QUOTIENT = Context(prec=28, rounding=ROUND_HALF_EVEN)
_ZERO = Decimal(0)


@dataclass(slots=True, eq=False)
class BookExecution:
    """One execution as it happened; times in ns are the machine's, `executed_at` is the venue's.

    A bust has the quantity it takes back, negative; a trade that `corrects` another stands in its place.
    `fees_from_ns` is when the fees become known, None where they never do.
    """

    number: int
    id: str
    order: BookOrder
    quantity: Decimal
    price: Decimal
    fees: Fees
    fees_from_ns: int | None
    fee_status: str
    liquidity: str
    at_ns: int
    executed_at: datetime
    kind: Literal["trade", "bust"] = "trade"
    corrects: BookExecution | None = None
    #: True once a bust or a correction took it back.
    void: bool = False

    def known_fees(self, now_ns: int) -> Fees | None:
        """Return the fees, or None where they are not known by now."""
        return self.fees if self.fees_from_ns is not None and self.fees_from_ns <= now_ns else None

    def shown_id(self, profile: ReferenceProfile) -> str | None:
        """Return the id as the venue shows it: its own, unique only within the order, or none."""
        if profile.fill_identity == "content":
            return None
        return str(self.order.fills.index(self) + 1) if profile.fill_identity == "composite" else self.id

    def show(self, profile: ReferenceProfile, now_ns: int) -> dict[str, Any]:
        """Return the execution as the protocol has it."""
        return {
            "id": self.shown_id(profile),
            "order_id": self.order.id,
            "client_order_id": self.order.token,
            "symbol": self.order.terms.symbol,
            "side": self.order.terms.side,
            "quantity": self.quantity,
            "price": self.price,
            "fees": self.known_fees(now_ns) if profile.fee_timing != "order_level" else None,
            "liquidity": self.liquidity,
            "executed_at": self.executed_at,
            "kind": self.kind,
            "corrects": None if self.corrects is None else self.corrects.shown_id(profile),
        }


@dataclass(slots=True, eq=False)
class BookOrder:
    """One order as the venue has it; `fills` is every execution of it, busts and corrections included."""

    number: int
    id: str
    token: str | None
    terms: Order
    created_ns: int
    created: datetime
    updated: datetime
    status: str = "accepted"
    reason: str | None = None
    fills: list[BookExecution] = field(default_factory=list)
    filled_quantity: Decimal = _ZERO
    filled_value: Decimal = _ZERO
    replaces: str | None = None
    replaced_by: str | None = None
    #: The exchange's id, once it has seen the order.
    exchange_id: str | None = None
    #: True from a cancel that was taken until it took effect.
    cancelling: bool = False

    @property
    def is_open(self) -> bool:
        """True while the order may still trade."""
        return self.status not in FINAL

    def count(self, execution: BookExecution, sign: int = 1) -> None:
        """Add an execution to what is filled, or take it off."""
        signed = LEDGER.multiply(execution.quantity, Decimal(sign))
        self.filled_quantity = LEDGER.add(self.filled_quantity, signed)
        self.filled_value = LEDGER.add(self.filled_value, LEDGER.multiply(signed, execution.price))

    def average_price(self) -> Decimal | None:
        """Return the average price to 28 digits, None where nothing is filled."""
        return _QUOTIENT.divide(self.filled_value, self.filled_quantity) if self.filled_quantity else None

    def fees(self, now_ns: int) -> Fees | None:
        """Return the sum of the fees by currency, None until all of them are known."""
        rows = [fill.known_fees(now_ns) for fill in self.fills if not fill.void]
        if not rows or any(row is None for row in rows):
            return None
        sums: dict[str, Decimal] = {}
        for row in rows:
            for fee in row or ():
                sums[fee["currency"]] = LEDGER.add(sums.get(fee["currency"], _ZERO), fee["amount"])
        return [{"currency": currency, "amount": amount} for currency, amount in sums.items()]

    def show(self, now_ns: int) -> dict[str, Any]:
        """Return the order as the protocol has it."""
        terms = self.terms
        return {
            "id": self.id,
            "client_order_id": self.token,
            "symbol": terms.symbol,
            "side": terms.side,
            "type": terms.order_type,
            "quantity": terms.quantity,
            "quote_quantity": terms.quote_quantity,
            "limit_price": terms.limit_price,
            "stop_price": terms.stop_price,
            "time_in_force": terms.time_in_force,
            "status": "pending_cancel" if self.cancelling and self.is_open else self.status,
            "filled_quantity": self.filled_quantity,
            "average_price": self.average_price(),
            "fees": self.fees(now_ns),
            "reason": self.reason,
            "created": self.created,
            "updated": self.updated,
            "replaces": self.replaces,
            "replaced_by": self.replaced_by,
        }
