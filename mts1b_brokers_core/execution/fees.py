"""How a fee that is known for a whole order is shared among its fills: pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_DOWN, Context, Decimal

from mts1b_brokers_core.foundation.base import LEDGER, Money
from mts1b_brokers_core.foundation.orders import Fill

_PLACES = Decimal("1E-12")
_QUOTIENTS = Context(prec=60, rounding=ROUND_DOWN, traps=[])


def shares(fees: Sequence[Money], fills: Sequence[Fill]) -> list[tuple[Money, ...]]:
    """Return each fill's share by value, in the fills' order; the last takes what rounding leaves."""
    values = [abs(LEDGER.multiply(fill.price, fill.quantity)) for fill in fills]
    total = sum(values, Decimal(0))
    left = {fee.currency: fee.amount for fee in fees}
    given: list[tuple[Money, ...]] = []
    for value in values[:-1]:
        part = []
        for fee in fees:
            share = _QUOTIENTS.divide(_QUOTIENTS.multiply(fee.amount, value), total) if total else Decimal(0)
            share = share.quantize(_PLACES, context=_QUOTIENTS)
            left[fee.currency] = LEDGER.subtract(left[fee.currency], share)
            part.append(Money(amount=share, currency=fee.currency))
        given.append(tuple(part))
    return [*given, tuple(Money(amount=left[fee.currency], currency=fee.currency) for fee in fees)][
        : len(fills)
    ]
