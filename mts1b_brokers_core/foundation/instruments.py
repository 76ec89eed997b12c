"""What can be traded: symbols as text, and instruments with their increments and limits."""

from __future__ import annotations

import re
from datetime import date, time
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_UP, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from .base import LEDGER, Currency, Exact, Model, NotNegative, Positive, UtcTime, plain
from .errors import MalformedSymbol


class AssetClass(StrEnum):
    """What kind of thing an instrument is."""

    CRYPTO = "crypto"
    EQUITY = "equity"
    OPTION = "option"
    FUTURE = "future"
    FOREX = "forex"
    INDEX = "index"
    BOND = "bond"
    FUND = "fund"


class Rounding(StrEnum):
    """The named rounding rules; nothing is ever rounded without one."""

    DOWN = "down"
    UP = "up"
    FLOOR = "floor"
    CEILING = "ceiling"
    NEAREST = "nearest"


_ROUNDING = {
    Rounding.DOWN: ROUND_DOWN, Rounding.UP: ROUND_UP, Rounding.FLOOR: ROUND_FLOOR,
    Rounding.CEILING: ROUND_CEILING, Rounding.NEAREST: ROUND_HALF_EVEN,
}  # fmt: skip


class SymbolText(NamedTuple):
    """A symbol text taken apart: the symbol itself and the market's MIC, where one was named."""

    symbol: str
    market: str | None

    def __str__(self) -> str:
        return f"{self.symbol}@{self.market}" if self.market else self.symbol


_PART = r"[A-Z0-9][A-Z0-9.]{0,19}"
_SYMBOL = re.compile(rf"(?P<symbol>{_PART}(?:-{_PART}){{0,3}})(?:@(?P<market>[A-Z0-9]{{4}}))?")
_OPTION = re.compile(r"(?P<root>[A-Z0-9]{1,6}) *(?P<rest>\d{6}[CP]\d{8})(?P<market>@[A-Z0-9]{4})?")


@lru_cache(maxsize=4096)
def parse_symbol(text: str) -> SymbolText:
    """Take a symbol text apart and write it the one way this library writes it.

    `BTC/USD` becomes `BTC-USD`, a padded OSI option code loses its padding. Raises
    `MalformedSymbol`.
    """
    found = _OPTION.fullmatch(text)
    if found:
        month, day = int(found["rest"][2:4]), int(found["rest"][4:6])
        if not (1 <= month <= 12 and 1 <= day <= 31):
            raise MalformedSymbol(f"{text!r} has the form of an option code, but no such date.")
        return SymbolText(found["root"] + found["rest"], found["market"][1:] if found["market"] else None)
    found = _SYMBOL.fullmatch(text.replace("/", "-"))
    if not found or found["symbol"].endswith("."):
        hint = f"; did you mean {text.strip().upper()!r}?" if _SYMBOL.fullmatch(text.strip().upper()) else "."
        raise MalformedSymbol(f"{text!r} is not a symbol{hint}")
    return SymbolText(found["symbol"], found["market"])


def _canonical(text: str) -> str:
    return str(parse_symbol(text))


#: A symbol text in canonical form.
Symbol = Annotated[str, Field(max_length=64), AfterValidator(_canonical)]


class PriceBand(Model):
    """From this price on, this increment holds (upwards, until the next band)."""

    from_price: NotNegative
    increment: Positive


class TradingSession(Model):
    """Hours in which the instrument trades, in the market's own time zone.

    `days` are ISO weekdays (1 is Monday). A session whose end is not after its start runs past
    midnight; equal times mean the whole day.
    """

    name: str
    timezone: str
    start: time
    end: time
    days: tuple[int, ...] = (1, 2, 3, 4, 5)


class Instrument(Model):
    """One tradable thing at one market, with the rules a venue holds orders to.

    Prices are in `quote` currency per unit of `base` (or per share or contract), quantities in units;
    a contract's money is price x quantity x `multiplier`. `as_of` tells when the venue said so.
    """

    symbol: Symbol
    asset_class: AssetClass
    market: str | None = None
    base: Currency | None = None
    quote: Currency
    native_symbol: str = ""
    name: str = ""
    price_increment: Positive
    price_bands: tuple[PriceBand, ...] = ()
    quantity_increment: Positive
    quote_increment: Positive | None = None
    min_quantity: NotNegative = Decimal(0)
    max_quantity: Positive | None = None
    min_notional: NotNegative = Decimal(0)
    max_notional: Positive | None = None
    multiplier: Positive = Decimal(1)
    negative_prices: bool = False
    tradable: bool = True
    sessions: tuple[TradingSession, ...] = ()
    underlying: Symbol | None = None
    expires: date | None = None
    strike: Exact | None = None
    right: str | None = Field(default=None, pattern=r"^(call|put)$")
    as_of: UtcTime | None = None

    repr_fields = ("symbol", "asset_class", "market", "quote", "price_increment", "quantity_increment")

    @property
    def key(self) -> str:
        """The unambiguous text: SYMBOL@MIC where the market is known, else SYMBOL."""
        bare = parse_symbol(self.symbol).symbol
        return f"{bare}@{self.market}" if self.market else bare

    def price_increment_at(self, price: Decimal) -> Decimal:
        """Return the increment that holds at this price."""
        increment = self.price_increment
        for band in self.price_bands:
            if price.copy_abs() >= band.from_price:
                increment = band.increment
        return increment

    def round_price(self, price: Decimal, rule: Rounding = Rounding.NEAREST) -> Decimal:
        """Round a price to the increment that holds there, by the rule named."""
        return round_to(price, self.price_increment_at(price), rule)

    def round_quantity(self, quantity: Decimal, rule: Rounding = Rounding.DOWN) -> Decimal:
        """Round a quantity to the increment, by default down, so that it never grows."""
        return round_to(quantity, self.quantity_increment, rule)

    def notional(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Return the exact value of a quantity at a price, in quote currency."""
        return LEDGER.multiply(LEDGER.multiply(quantity, price), self.multiplier)

    def price_problem(self, price: Decimal) -> str | None:
        """Say why a price can't be sent, or None where it can."""
        if price <= 0 and not self.negative_prices:
            return f"price {plain(price)} must be above zero"
        return _off(price, self.price_increment_at(price), "price")

    def quantity_problem(self, quantity: Decimal) -> str | None:
        """Say why a quantity can't be sent, or None where it can."""
        if quantity < self.min_quantity:
            return f"quantity {plain(quantity)} is below the minimum {plain(self.min_quantity)}"
        if self.max_quantity is not None and quantity > self.max_quantity:
            return f"quantity {plain(quantity)} is above the maximum {plain(self.max_quantity)}"
        return _off(quantity, self.quantity_increment, "quantity")

    def notional_problem(self, value: Decimal) -> str | None:
        """Say why an order of this value (quote currency) can't be sent, or None where it can."""
        if value.copy_abs() < self.min_notional:
            return f"value {plain(value)} {self.quote} is below the minimum {plain(self.min_notional)}"
        if self.max_notional is not None and value.copy_abs() > self.max_notional:
            return f"value {plain(value)} {self.quote} is above the maximum {plain(self.max_notional)}"
        return None


def round_to(value: Decimal, increment: Decimal, rule: Rounding) -> Decimal:
    """Round to a multiple of `increment` by the rule named."""
    steps = _WIDE.divide(value, increment).to_integral_value(rounding=_ROUNDING[rule])
    return LEDGER.multiply(steps, increment)


# Quotients by an increment such as 0.03 don't end, so only their whole part is used.
_WIDE = LEDGER.copy()
_WIDE.traps = {**LEDGER.traps, **{signal: False for signal in LEDGER.traps if signal.__name__ == "Inexact"}}


def _off(value: Decimal, increment: Decimal, what: str) -> str | None:
    if LEDGER.remainder(value, increment) == 0:
        return None
    below, above = (round_to(value, increment, rule) for rule in (Rounding.FLOOR, Rounding.CEILING))
    return (
        f"{what} {plain(value)} is not a multiple of the increment {plain(increment)}; "
        f"the nearest are {plain(below)} and {plain(above)}"
    )
