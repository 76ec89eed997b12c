"""What an order would be worth and cost, told before it is placed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from mts1b_brokers_core.foundation.accounts import FeeTier
from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.errors import BrokerError
from mts1b_brokers_core.foundation.instruments import Instrument, parse_symbol
from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_brokers_core.foundation.protocols import (
    SupportsFeeSchedule,
    SupportsInstruments,
    SupportsPreview,
    SupportsQuotes,
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An order's value and fee in `currency`, as far as they can be told, and why not where they can't."""

    value: Decimal | None = None
    fee: Decimal | None = None
    fee_currency: str | None = None
    currency: str | None = None
    warnings: tuple[str, ...] = ()


async def estimate(broker: object, order: Order) -> Estimate:
    """Ask the venue what the order would do, or else reckon it from quote and fee schedule.

    Nothing is placed. What can't be read leaves its part of the estimate open: the order itself will
    be judged by the broker.
    """
    warnings: list[str] = []
    instrument = await _instrument(broker, order, warnings)
    currency = instrument.quote if instrument else None
    if isinstance(broker, SupportsPreview):
        try:
            shown = await broker.preview(order)
            return Estimate(
                shown.value, shown.fee, shown.currency, currency or shown.currency, shown.warnings
            )
        except BrokerError as error:
            warnings.append(error.message)
    value = await _value(broker, order, instrument, warnings)
    fee, fee_currency = (
        (None, None) if value is None else await _fee(broker, order, value, instrument, warnings)
    )
    return Estimate(value, fee, fee_currency or currency, currency, tuple(warnings))


async def _instrument(broker: object, order: Order, warnings: list[str]) -> Instrument | None:
    if not isinstance(broker, SupportsInstruments):
        return None
    wanted = parse_symbol(order.symbol)
    try:
        rows = await broker.get_instruments(wanted.symbol)
    except BrokerError as error:
        warnings.append(error.message)
        return None
    found = [
        row
        for row in rows
        if parse_symbol(row.symbol).symbol == wanted.symbol and wanted.market in (None, row.market)
    ]
    return found[0] if len(found) == 1 else None


async def _value(
    broker: object, order: Order, instrument: Instrument | None, warnings: list[str]
) -> Decimal | None:
    if order.quote_quantity is not None:
        return order.quote_quantity
    price = order.limit_price if order.limit_price is not None else order.stop_price
    if price is None and isinstance(broker, SupportsQuotes):
        try:
            quote = await broker.get_quote(order.symbol)
            price = quote.ask if order.side is Side.BUY else quote.bid
        except BrokerError as error:
            warnings.append(error.message)
    if price is None or order.quantity is None:
        return None
    return (
        instrument.notional(order.quantity, price) if instrument else LEDGER.multiply(order.quantity, price)
    )


async def _fee(
    broker: object, order: Order, value: Decimal, instrument: Instrument | None, warnings: list[str]
) -> tuple[Decimal | None, str | None]:
    if not isinstance(broker, SupportsFeeSchedule):
        return None, None
    try:
        tiers = (await broker.get_fee_schedule()).tiers
    except BrokerError as error:
        warnings.append(error.message)
        return None, None
    tier = _tier(tiers, order, instrument)
    if tier is None:
        return None, None
    fee = LEDGER.multiply(abs(value), tier.maker_rate if order.post_only else tier.taker_rate)
    if tier.per_unit is not None and order.quantity is not None:
        fee = LEDGER.add(fee, LEDGER.multiply(order.quantity, tier.per_unit))
    if tier.minimum is not None:
        fee = max(fee, tier.minimum)
    return fee, None if tier.currency == "quote" else tier.currency


def _tier(tiers: tuple[FeeTier, ...], order: Order, instrument: Instrument | None) -> FeeTier | None:
    """Return the tier of the symbol, else of its asset class, else of everything."""
    names = [order.symbol, *([str(instrument.asset_class)] if instrument else []), "*"]
    for name in names:
        for tier in tiers:
            if tier.applies_to == name:
                return tier
    return None
