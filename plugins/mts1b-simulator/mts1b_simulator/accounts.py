"""A cash account: totals and holds in integer ledger units; it can be neither overdrawn nor short."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .units import from_units


@dataclass(frozen=True, slots=True)
class BalanceView:
    """One currency or asset of an account; `held` is reserved for open orders, `available` is free."""

    account_id: str
    currency: str
    total: Decimal
    held: Decimal
    available: Decimal


@dataclass(frozen=True, slots=True)
class PositionView:
    """What an account holds of an instrument, in units; cost and price in `currency`.

    `average_price` is the average cost without fees, rounded down to the currency's ledger digits.
    """

    account_id: str
    symbol: str
    quantity: Decimal
    available: Decimal
    average_price: Decimal | None
    market_price: Decimal | None
    currency: str


class CashAccount:
    """Balances of one account. Margin and short selling would be another class with these methods."""

    kind = "cash"

    __slots__ = ("_digits", "account_id", "costs", "dirty", "held", "total", "volumes")

    def __init__(self, account_id: str, digits: dict[str, int]) -> None:
        self.account_id = account_id
        self._digits = digits
        self.total: dict[str, int] = dict.fromkeys(digits, 0)
        self.held: dict[str, int] = dict.fromkeys(digits, 0)
        #: Cost of what is held of each instrument, in ledger units of its quote currency.
        self.costs: dict[str, int] = {}
        #: Traded value by quote currency and UTC day, in ledger units, for volume tiers.
        self.volumes: dict[str, dict[int, int]] = {}
        #: True where something changed since the state was last written.
        self.dirty = False

    def available(self, currency: str) -> int:
        """Return what is not reserved, in ledger units."""
        return self.total[currency] - self.held[currency]

    def shortfall(self, needs: dict[str, int], instead_of: dict[str, int] | None = None) -> str | None:
        """Return the first currency that can't cover these holds (in place of others), or None."""
        for currency, amount in needs.items():
            freed = instead_of.get(currency, 0) if instead_of else 0
            if amount > self.total[currency] - self.held[currency] + freed:
                return currency
        return None

    def hold(self, amounts: dict[str, int], instead_of: dict[str, int]) -> None:
        """Reserve amounts in place of those reserved before."""
        held = self.held
        for currency, amount in instead_of.items():
            held[currency] -= amount
        for currency, amount in amounts.items():
            held[currency] += amount
        self.dirty = True

    def traded(self, symbol: str, quote: str, day: int, bought: int, *, value: int, held_before: int) -> None:
        """Keep the cost of a holding and the traded volume: `bought` base units (negative when sold)."""
        days = self.volumes.get(quote)
        if days is None:
            days = self.volumes[quote] = {}
        days[day] = days.get(day, 0) + value
        if len(days) > 30:
            for old in [d for d in days if d <= day - 30]:
                del days[old]
        cost = self.costs.get(symbol, 0)
        if bought > 0:
            self.costs[symbol] = cost + value
        else:
            self.costs[symbol] = cost * (held_before + bought) // held_before if held_before else 0

    def volume(self, quote: str, day: int) -> int:
        """Return the value traded in the 30 days up to this one, in ledger units."""
        return sum(value for d, value in self.volumes.get(quote, {}).items() if day - 30 < d <= day)

    def dump(self) -> dict[str, Any]:
        """Return the account as plain data."""
        return {
            "account_id": self.account_id,
            "total": {currency: amount for currency, amount in self.total.items() if amount},
            "held": {currency: amount for currency, amount in self.held.items() if amount},
            "costs": self.costs,
            "volumes": self.volumes,
        }

    def load(self, body: dict[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.total = dict.fromkeys(self._digits, 0) | body["total"]
        self.held = dict.fromkeys(self._digits, 0) | body["held"]
        self.costs = dict(body["costs"])
        self.volumes = {
            quote: {int(day): v for day, v in days.items()} for quote, days in body["volumes"].items()
        }

    def balance(self, currency: str) -> BalanceView:
        """Return one currency as exact decimals."""
        digits, total, held = self._digits[currency], self.total[currency], self.held[currency]
        return BalanceView(
            self.account_id,
            currency,
            from_units(total, digits),
            from_units(held, digits),
            from_units(total - held, digits),
        )
