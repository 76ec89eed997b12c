"""How what is observed of an order changes what is known of it: one pure function."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from mts1b_brokers_core.foundation.base import LEDGER, Money
from mts1b_brokers_core.foundation.orders import Fill, FillKind, Order, OrderStatus

from .port import OrderView

_WORKING = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True)
class Part:
    """What the fill log holds of one venue order: quantity, and value (sum of price x quantity)."""

    quantity: Decimal = Decimal(0)
    value: Decimal = Decimal(0)

    def plus(self, other: Part) -> Part:
        """Return the sums of both."""
        return Part(LEDGER.add(self.quantity, other.quantity), LEDGER.add(self.value, other.value))

    @classmethod
    def of(cls, fill: Fill) -> Part:
        """Return what one fill adds; a bust takes away."""
        return cls(fill.quantity, LEDGER.multiply(fill.price, fill.quantity))


@dataclass(frozen=True, slots=True)
class Logged:
    """What the fill log holds of one order of ours, by the venue ids it had: each id counts for itself."""

    parts: Mapping[str, Part] = field(default_factory=dict)

    def of(self, broker_order_id: str | None) -> Part:
        """Return what is logged of one venue id."""
        return self.parts.get(broker_order_id or "", _NOTHING)

    @property
    def total(self) -> Part:
        """What is logged of the order as a whole."""
        if len(self.parts) == 1:
            return next(iter(self.parts.values()))
        total = _NOTHING
        for part in self.parts.values():
            total = total.plus(part)
        return total

    @property
    def quantity(self) -> Decimal:
        """The quantity logged of the order as a whole."""
        return self.total.quantity

    def plus(self, broker_order_id: str | None, part: Part) -> Logged:
        """Return the totals with more logged of one venue id."""
        name = broker_order_id or ""
        return Logged({**self.parts, name: self.of(name).plus(part)})

    def with_fills(self, fills: Sequence[Fill]) -> Logged:
        """Return the totals with executions counted in."""
        sums: dict[str, tuple[Decimal, Decimal]] = {}
        add, multiply = LEDGER.add, LEDGER.multiply
        for fill in fills:
            name = fill.broker_order_id or ""
            quantity, value = sums.get(name, _ZEROES)
            sums[name] = add(quantity, fill.quantity), add(value, multiply(fill.price, fill.quantity))
        parts = {name: self.of(name).plus(Part(*sum_)) for name, sum_ in sums.items()}
        return Logged({**self.parts, **parts})

    def under(self, broker_order_id: str) -> Logged:
        """Return the totals with what was logged before any id was known under the first that is."""
        if "" not in self.parts:
            return self
        rest = {name: part for name, part in self.parts.items() if name}
        return Logged(rest).plus(broker_order_id, self.parts[""])

    def text(self) -> str:
        """Return the totals as the text that is stored."""
        return json.dumps({name: (str(part.quantity), str(part.value)) for name, part in self.parts.items()})

    @classmethod
    def parse(cls, text: str) -> Logged:
        """Return the totals that a stored text holds."""
        if text == "{}":
            return NOTHING_LOGGED
        return cls({name: Part(Decimal(row[0]), Decimal(row[1])) for name, row in json.loads(text).items()})


_NOTHING = Part()
_ZERO = Decimal(0)
_ZEROES = (_ZERO, _ZERO)
NOTHING_LOGGED = Logged()


def apply(
    order: Order,
    seen: OrderView | Fill,
    *,
    logged: Part | None = None,
    reopens: frozenset[OrderStatus] = frozenset(),
) -> Order:
    """Return the order with an observation merged in; for a fill, `logged` already includes it.

    Bindings are never overwritten. The filled quantity is the larger of what the venue counts and what
    the log holds; it falls only by a bust, or to the count of a view that is not stale and agrees with
    `logged`, where that is given: an older count was believed after a bust. A terminal status stays (but
    for those in `reopens`): cancelled with a late fill is cancelled with more filled. Of a venue id that
    a replace has left behind nothing counts but its fills.
    """
    if isinstance(seen, Fill):
        return with_fills(order, (seen,), logged or _NOTHING)
    return _with_view(order, seen, logged, reopens)


def _with_view(order: Order, view: OrderView, logged: Part | None, reopens: frozenset[OrderStatus]) -> Order:
    changes: dict[str, Any] = _binding(order, view)
    if left_behind(order, view):
        return order.evolve(**changes) if changes else order
    stale = view.updated is not None and order.updated_at is not None and view.updated < order.updated_at
    filled = max(order.filled_quantity, view.cumulative_quantity or Decimal(0))
    if logged is not None and not stale and view.cumulative_quantity == logged.quantity:
        filled = logged.quantity
    if filled != order.filled_quantity:
        changes["filled_quantity"] = filled
    if view.average_price is not None and view.cumulative_quantity == filled and filled:
        changes["average_price"] = view.average_price
    if not stale and view.updated is not None:
        changes["updated_at"] = view.updated
    status = _status(order, view.status, filled, stale=stale, reopens=reopens)
    if status is not order.status:
        changes["status"] = status
        changes["raw_status"] = view.raw_status or None
        if view.reason:
            changes["reason"] = view.reason
    elif status is view.status and view.raw_status and order.raw_status is None:
        changes["raw_status"] = view.raw_status
    return order.evolve(**changes) if changes else order


def _binding(order: Order, view: OrderView) -> dict[str, Any]:
    ids = [*order.broker_order_ids]
    if order.broker_order_id and order.broker_order_id not in ids:
        ids.append(order.broker_order_id)
    for new in (view.ref.broker_order_id, view.replaced_by):
        if new and new not in ids:
            ids.append(new)
    if tuple(ids) == order.broker_order_ids:
        return {}
    changes: dict[str, Any] = {"broker_order_ids": tuple(ids)}
    follows = view.replaced_by is not None and view.replaced_by not in order.broker_order_ids
    current = view.replaced_by if follows else order.broker_order_id or view.ref.broker_order_id
    if current != order.broker_order_id:
        changes["broker_order_id"] = current
    return changes


def left_behind(order: Order, view: OrderView) -> bool:
    """Tell whether a view shows a venue id that a replace has left behind."""
    shown = view.ref.broker_order_id
    earlier = shown in order.broker_order_ids and shown != order.broker_order_id
    return earlier or view.replaced_by is not None


def _status(
    order: Order, seen: OrderStatus, filled: Decimal, *, stale: bool, reopens: frozenset[OrderStatus]
) -> OrderStatus:
    now = order.status or OrderStatus.PENDING_NEW
    if now.final and now not in reopens:
        return now
    if stale and not seen.final:
        seen = now
    if seen is OrderStatus.UNKNOWN:
        return now
    if seen is OrderStatus.PENDING_NEW:
        return seen if now is OrderStatus.UNKNOWN else now
    if seen in _WORKING:
        return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
    return seen


def with_fills(order: Order, fills: Sequence[Fill], logged: Part) -> Order:
    """Return the order with executions merged in, trades or one bust; `logged` already includes them."""
    last = fills[-1]
    if last.kind is FillKind.BUST:
        filled = max(Decimal(0), LEDGER.add(order.filled_quantity, last.quantity))
    else:
        filled = max(order.filled_quantity, logged.quantity)
    at = order.updated_at
    fees = add_fees(order.fees, _summed([fill.fees for fill in fills if fill.fees is not None]))
    # A trade makes no view stale: venues date an order's change before the execution that brought it.
    for fill in fills:
        newer = at is None or (fill.kind is FillKind.BUST and fill.executed_at > at)
        at = fill.executed_at if newer else at
    changes: dict[str, Any] = {"filled_quantity": filled, "fees": fees, "updated_at": at}
    if filled == logged.quantity:
        changes["average_price"] = mean(logged)
    now = order.status or OrderStatus.PENDING_NEW
    if not now.final and last.kind is FillKind.TRADE:
        if order.quantity is not None and filled >= order.quantity:
            changes["status"] = OrderStatus.FILLED
        elif now in (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.UNKNOWN):
            changes["status"] = OrderStatus.PARTIALLY_FILLED
    if changes.get("status", order.status) is not order.status:
        changes["raw_status"] = None  # the venue's word was for the status before
    return order.evolve(**changes)


_AVERAGE_PLACES = Decimal("1E-18")
_QUOTIENTS = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[])


def mean(part: Part) -> Decimal | None:
    """Return value / quantity, rounded half-even at 18 decimals: an average need not end."""
    if not part.quantity:
        return None
    quotient = _QUOTIENTS.divide(part.value, part.quantity)
    return quotient.quantize(_AVERAGE_PLACES, context=_QUOTIENTS).normalize(_QUOTIENTS)


def add_fees(first: tuple[Money, ...] | None, second: tuple[Money, ...] | None) -> tuple[Money, ...] | None:
    """Sum fees by currency; None only where neither side is known."""
    if first is None or second is None:
        return first if second is None else second
    totals = {fee.currency: fee for fee in first}
    for fee in second:
        totals[fee.currency] = totals[fee.currency] + fee if fee.currency in totals else fee
    return tuple(totals[currency] for currency in sorted(totals))


def _summed(rows: Sequence[tuple[Money, ...]]) -> tuple[Money, ...] | None:
    if not rows:
        return None
    totals: dict[str, Decimal] = {}
    for row in rows:
        for fee in row:
            totals[fee.currency] = LEDGER.add(totals.get(fee.currency, _ZERO), fee.amount)
    return tuple(Money.trusted(amount=totals[name], currency=name) for name in sorted(totals))


def less_fees(first: tuple[Money, ...] | None, second: tuple[Money, ...] | None) -> tuple[Money, ...] | None:
    """Return the first fees without the second, by currency."""
    return add_fees(first, None if second is None else negated(second))


def negated(fees: tuple[Money, ...]) -> tuple[Money, ...]:
    """Return the fees that take these back."""
    return tuple(-fee for fee in fees)


def unfilled(view: OrderView) -> OrderView:
    """Return a view that binds and brings a working status only: fills, and an end after them, follow.

    The venue's own word is kept only where it is for the status that is shown.
    """
    ended = view.status.final and view.status is not OrderStatus.REJECTED
    if not ended and not view.cumulative_quantity:
        return view
    status = OrderStatus.NEW if ended or view.status is OrderStatus.PARTIALLY_FILLED else view.status
    raw_status = view.raw_status if status is view.status else ""
    return replace(view, status=status, raw_status=raw_status, cumulative_quantity=None, average_price=None)
