"""Accounts and what is in them."""

from __future__ import annotations

from pydantic import Field

from .base import Currency, Exact, Model, Money, NotNegative, UtcTime


class Balance(Model):
    """One currency or asset of an account: `held` is reserved for open orders, `available` is free."""

    currency: Currency
    total: Exact
    available: Exact
    held: Exact
    account_id: str | None = None

    repr_fields = ("currency", "total", "available", "held")


class Account(Model):
    """One account of a login; money in `currency`.

    `metadata` says in words what a reader must know, e.g. which fill model a simulation uses.
    """

    account_id: str
    broker: str = ""
    environment: str = ""
    name: str = ""
    kind: str = "cash"
    currency: Currency = "USD"
    balances: tuple[Balance, ...] = ()
    equity: Exact | None = None
    buying_power: Exact | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    as_of: UtcTime | None = None

    repr_fields = ("account_id", "broker", "environment", "kind", "currency", "equity", "buying_power")

    def balance(self, currency: str) -> Balance | None:
        """Return the balance in one currency, or None where the account holds none."""
        return next((row for row in self.balances if row.currency == currency), None)


class FeeTier(Model):
    """One fee rule: a rate of the value, an amount per unit, a minimum; `currency` says in what it is paid.

    `maker_rate` and `taker_rate` are fractions (0.001 is 10 basis points); a negative rate is a rebate.
    """

    applies_to: str = "*"
    maker_rate: Exact
    taker_rate: Exact
    per_unit: NotNegative | None = None
    minimum: NotNegative | None = None
    currency: str = "quote"


class FeeSchedule(Model):
    """What the account pays at present."""

    tiers: tuple[FeeTier, ...]
    volume: Money | None = None
    as_of: UtcTime | None = None


class KeyPermissions(Model):
    """What a credential may do."""

    can_view: bool
    can_trade: bool
    can_transfer: bool
    expires_at: UtcTime | None = None
    note: str = ""


class OrderPreview(Model):
    """What the venue says an order would do: value, fee and the price it expects, in `currency`."""

    value: Exact
    fee: Exact | None = None
    price: Exact | None = None
    currency: Currency
    warnings: tuple[str, ...] = ()
