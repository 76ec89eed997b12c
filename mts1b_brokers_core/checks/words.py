"""Amounts and times as a person reads them."""

from __future__ import annotations

from decimal import Decimal

#: Currencies whose amounts are written with at least two decimals.
_TWO_DECIMALS = frozenset({
    "USD", "EUR", "GBP", "CHF", "CAD", "AUD", "NZD", "HKD", "SGD", "CNY", "USDC", "USDT",
})  # fmt: skip


def number(value: Decimal, *, decimals: int = 0) -> str:
    """Write a number exactly, thousands apart, with at least that many decimals and no idle zeros."""
    whole, _, rest = f"{value:,f}".partition(".")
    rest = rest.rstrip("0").ljust(decimals, "0")
    return f"{whole}.{rest}" if rest else whole


def amount(value: Decimal, currency: str) -> str:
    """Write an amount for a place where its currency is said already: `$1,000.00`, `0.5`."""
    text = number(value, decimals=2 if currency in _TWO_DECIMALS else 0)
    if currency != "USD":
        return text
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def money(value: Decimal, currency: str) -> str:
    """Write an amount with its currency: `$1,000.00`, `1,000.00 EUR`, `0.5 BTC`."""
    text = amount(value, currency)
    return text if currency == "USD" else f"{text} {currency}"


def milliseconds(seconds: float) -> str:
    """Write a duration to the millisecond: `0ms`, `-12ms`."""
    return f"{round(seconds * 1000)}ms"
