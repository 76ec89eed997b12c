"""Exact integers inside, decimals at the edge: prices in ticks, quantities in lots, money in ledger units."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from math import gcd

from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.instruments import Instrument, parse_symbol


def decimals(value: Decimal) -> int:
    """Return how many digits after the point the value needs."""
    exponent = value.normalize(LEDGER).as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def to_units(value: Decimal, digits: int) -> int:
    """Turn an amount into integer units of 10**-digits, exactly. Raises `decimal.Inexact` where it can't."""
    scaled = LEDGER.scaleb(value, digits)
    return int(scaled.to_integral_exact(context=LEDGER))


def from_units(units: int, digits: int) -> Decimal:
    """Turn integer units of 10**-digits into an exact decimal without trailing zeros."""
    whole, rest = divmod(units, 10**digits)
    return LEDGER.normalize(LEDGER.scaleb(units, -digits)) if rest else Decimal(whole)


def common_increment(increments: Iterable[Decimal]) -> Decimal:
    """Return the largest increment of which all of these are multiples."""
    values = list(increments)
    digits = max(decimals(value) for value in values)
    shared = gcd(*(to_units(value, digits) for value in values))
    return LEDGER.scaleb(Decimal(shared), -digits)


def base_asset(instrument: Instrument) -> str:
    """Return the code under which an account holds the instrument: its base, or its bare symbol."""
    return instrument.base or parse_symbol(instrument.symbol).symbol


def at_least_one(name: str, number: int) -> None:
    """Check a count that a caller asks for. Raises `InvalidInput`."""
    if number < 1:
        raise InvalidInput(f"{name} is {number}; expected 1 or more.")


class Grid:
    """Converts decimals to a multiple of one increment and back."""

    __slots__ = ("_factor", "increment")

    def __init__(self, increment: Decimal) -> None:
        self.increment = increment
        inverse = Decimal(1).scaleb(decimals(increment))
        # Multiplying by a whole inverse is exact and twice as fast as dividing.
        self._factor = inverse if LEDGER.multiply(inverse, increment) == 1 else None

    def floor(self, value: Decimal) -> int:
        """Return the number of whole increments at or below the value."""
        if self._factor is not None:
            scaled = LEDGER.multiply(value, self._factor)
            steps = int(scaled)
            return steps - 1 if steps > scaled else steps
        steps = int(LEDGER.divide_int(value, self.increment))
        return steps - 1 if LEDGER.multiply(Decimal(steps), self.increment) > value else steps

    def ceiling(self, value: Decimal) -> int:
        """Return the number of whole increments at or above the value."""
        return -self.floor(-value)

    def exact(self, value: Decimal) -> int | None:
        """Return the number of increments, or None where the value is not a multiple."""
        if self._factor is not None:
            scaled = LEDGER.multiply(value, self._factor)
            steps = int(scaled)
            return steps if steps == scaled else None
        steps = self.floor(value)
        return steps if LEDGER.multiply(steps, self.increment) == value else None

    def decimal(self, steps: int) -> Decimal:
        """Return the exact decimal of that many increments."""
        return LEDGER.multiply(steps, self.increment)
