"""Under which id an execution is known, and the fields of the fill it becomes: pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from datetime import UTC
from decimal import Decimal
from typing import Any

from mts1b_brokers_core.foundation.base import LEDGER, plain
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.orders import Fill, FillKind

from .journal import Record
from .port import Execution


def identified(seen: Execution, identity: str, alike: Counter[str]) -> Execution:
    """Return an execution under the id it is known by, which the profile says how to make.

    `alike` counts the executions of one reading that nothing tells apart: each is one of its own.
    """
    order, fill_id, corrects = seen.ref.broker_order_id or seen.ref.token, seen.fill_id, seen.corrects
    if identity == "content" and fill_id is None and seen.kind is FillKind.TRADE:
        # Equal amounts are one amount, with however many zeros a source writes them.
        quantity, price = (plain(LEDGER.normalize(value)) for value in (seen.quantity, seen.price))
        what = (order, seen.symbol, seen.side, quantity, price, seen.executed_at)
        text = "\x1f".join(map(str, what))
        alike[text] += 1
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        return replace(seen, fill_id=f"{digest}-{alike[text]}", derived=True)
    if identity == "composite":
        fill_id, corrects = (
            name if name is None or name.startswith(f"{order}:") else f"{order}:{name}"
            for name in (fill_id, corrects)
        )
    if seen.kind is FillKind.BUST and corrects and fill_id in (None, corrects):
        fill_id = f"{corrects}:bust"
    if fill_id is None:
        raise InvalidInput(
            "the adapter reported an execution without an id, which its profile doesn't announce.",
            next_step="report this to the adapter's author",
        )
    if (fill_id, corrects) == (seen.fill_id, seen.corrects):
        return seen
    return replace(seen, fill_id=fill_id, corrects=corrects)


def fields_of(seen: Execution, record: Record | None, account_id: str) -> dict[str, Any]:
    """Return an execution as a fill's fields without number, attributed to our order where it is ours.

    Raises `InvalidInput` for what no fill can hold.
    """
    venue_id, order = seen.ref.broker_order_id, record.order if record else None
    fields: dict[str, Any] = {
        "fill_id": seen.fill_id or "", "kind": seen.kind, "corrects": seen.corrects, "account_id": account_id,
        "order_id": order.order_id if order else (venue_id or seen.ref.token or ""),
        "broker_order_id": venue_id or (order.broker_order_id if order else None),
        "symbol": seen.symbol, "leg": seen.leg, "side": seen.side, "quantity": seen.quantity,
        "price": seen.price, "fees": seen.fees, "fee_status": seen.fee_status, "account_fee": None,
        "liquidity": seen.liquidity, "executed_at": seen.executed_at, "source": seen.source,
        "derived": seen.derived, "evidence": seen.evidence,
    }  # fmt: skip
    if not _sound(seen, record):
        checked = Fill(**fields)
        fields = {name: getattr(checked, name) for name in fields}
    return fields


def _sound(seen: Execution, record: Record | None) -> bool:
    """Tell at little cost that a fill's own rules would find nothing: an adapter's usual execution."""
    exact = type(seen.quantity) is Decimal and type(seen.price) is Decimal
    finite = exact and seen.quantity.is_finite() and seen.price.is_finite()
    known = record is not None and record.order.symbol == seen.symbol
    return finite and known and seen.executed_at.tzinfo is UTC
