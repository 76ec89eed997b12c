"""Whether what an adapter reports can be merged at all: asked before anything is touched."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.orders import Fill, FillKind, Order, OrderStatus, Side

from .port import Execution, FeeAmendment, OrderRef, OrderView


def unsound(seen: Execution | OrderView | FeeAmendment) -> str | None:
    """Name what is wrong with one item, or return None where it makes sense."""
    if isinstance(seen, Execution):
        return _execution(seen)
    if isinstance(seen, OrderView):
        return _view(seen)
    return None if isinstance(seen.fill_id, str) and _fees(seen.fees) else "a fee without a fill, or no fee"


# Not every adapter is type-checked: what arrives here may be anything.
def _execution(seen: Any) -> str | None:
    if not isinstance(seen.ref, OrderRef) or not isinstance(seen.side, Side):
        return "an execution of no order, or of no side"
    if not isinstance(seen.fill_id, str | None) or not isinstance(seen.corrects, str | None):
        return "an execution's id that is no text"
    if not _exact(seen.quantity) or not _exact(seen.price):
        return f"an execution of {seen.quantity!r} at {seen.price!r}: no exact amounts"
    if (seen.quantity > 0) is (seen.kind is FillKind.BUST) or not seen.quantity:
        return f"a {seen.kind} of {seen.quantity}"
    if not _aware(seen.executed_at):
        return "an execution whose time has no zone"
    return None if seen.fees is None or _fees(seen.fees) else "an execution whose fees are none"


def _view(seen: Any) -> str | None:
    if not isinstance(seen.ref, OrderRef) or not isinstance(seen.status, OrderStatus):
        return f"a view of no order, or with the status {seen.status!r}"
    for amount in (seen.cumulative_quantity, seen.average_price):
        if amount is not None and not _exact(amount):
            return f"a count or average of {amount!r}: no exact amount"
    if (seen.cumulative_quantity or 0) < 0:
        return f"a count of {seen.cumulative_quantity}"
    if not all(at is None or _aware(at) for at in (seen.created, seen.updated)):
        return "a view whose time has no zone"
    known = seen.cumulative_fees is None or _fees(seen.cumulative_fees)
    return None if known else "a view whose fees are none"


def contradiction(seen: Execution, order: Order) -> str | None:
    """Tell what an execution says otherwise than the order it names; of legs each says its own."""
    if order.legs or (seen.symbol, seen.side) == (order.symbol, order.side):
        return None
    return f"an execution {seen.side} {seen.symbol} of an order {order.side} {order.symbol}"


def changed(seen: Execution, fill: Fill, names: tuple[str, ...]) -> str | None:
    """Tell what an execution says otherwise than it was logged with, `names` being its order's ids."""
    shown, logged = seen.ref.broker_order_id, fill.broker_order_id
    same = shown is None or shown == logged or {shown, logged} <= {*names}
    if same and (seen.quantity, seen.price) == (fill.quantity, fill.price):
        return None
    was = f"{fill.quantity} at {fill.price} of {logged}"
    return (
        f"execution {fill.fill_id} came again as {seen.quantity} at {seen.price} of {shown}, logged as {was}"
    )


def _exact(amount: object) -> bool:
    return isinstance(amount, Decimal) and amount.is_finite()


def _aware(at: object) -> bool:
    return isinstance(at, datetime) and at.tzinfo is not None


def _fees(fees: object) -> bool:
    return isinstance(fees, tuple | list) and all(isinstance(fee, Money) for fee in fees)
