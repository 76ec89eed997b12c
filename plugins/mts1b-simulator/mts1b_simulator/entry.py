"""What an order must satisfy before the exchange takes it: refused here as a venue refuses."""

from __future__ import annotations

from decimal import Decimal

from mts1b_brokers_core.foundation.base import LEDGER, plain
from mts1b_brokers_core.foundation.orders import (
    Order,
    OrderType,
    PositionEffect,
    Side,
    TimeInForce,
    TriggerBy,
)

from .market import Market
from .orders import Refusal
from .units import from_units
from .working import WorkingOrder

Problem = tuple[Refusal, str]


def unsupported(terms: Order) -> str | None:
    """Say which term this exchange doesn't take, or None."""
    if terms.legs or terms.attached:
        return "orders with legs or attached orders are not taken"
    kind, force = terms.order_type, terms.time_in_force
    if kind is OrderType.TRAILING_STOP:
        return f"{kind} orders are not taken"
    if force is TimeInForce.OPG or force is TimeInForce.CLS:
        return f"time in force {force} is not taken"
    stop = kind is OrderType.STOP or kind is OrderType.STOP_LIMIT
    if stop and (force is TimeInForce.IOC or force is TimeInForce.FOK):
        return f"a stop order can't be {force}"
    if terms.quote_quantity is not None and terms.order_type is not OrderType.MARKET:
        return "only market orders are sized in quote currency"
    if stop and (terms.trigger_by is TriggerBy.MARK or terms.trigger_by is TriggerBy.INDEX):
        return f"a trigger by {terms.trigger_by} price is not offered"
    if terms.reduce_only or terms.position_effect is not PositionEffect.AUTO:
        return "reduce_only and position_effect mean nothing in a cash account"
    if terms.display_quantity is not None:
        return "display_quantity is not taken"
    return None


def read_terms(order: WorkingOrder, market: Market, terms: Order) -> Problem | None:
    """Turn the terms into ticks and lots on the order, or say why the instrument doesn't allow them."""
    instrument = market.instrument
    limit = stop = None
    if terms.limit_price is not None and (limit := market.price_ticks(terms.limit_price)) is None:
        return Refusal.PRICE_INCREMENT, f"limit {instrument.price_problem(terms.limit_price)}"
    if terms.stop_price is not None and (stop := market.price_ticks(terms.stop_price)) is None:
        return Refusal.PRICE_INCREMENT, f"stop {instrument.price_problem(terms.stop_price)}"
    quantity = 0
    if terms.quantity is not None:
        exact = market.lots.exact(terms.quantity)
        if exact is None or not market.least_lots <= exact <= market.most_lots:
            problem = quantity_problem(market, terms.quantity, exact)
            assert problem is not None
            return problem
        quantity = exact
    order.limit, order.stop, order.quantity, order.remaining = limit, stop, quantity, quantity
    price = terms.limit_price if terms.limit_price is not None else terms.stop_price
    if terms.quote_quantity is not None:
        return notional_problem(market, terms.quote_quantity)
    if price is None or terms.quantity is None:
        return None
    ticks = limit if limit is not None else stop
    assert ticks is not None
    if market.least_value <= abs(ticks) * quantity * market.value_unit <= market.most_value:
        return None
    return notional_problem(market, instrument.notional(terms.quantity, price))


def quantity_problem(market: Market, quantity: Decimal, lots: int | None) -> Problem | None:
    """Say why a quantity can't be taken, or None."""
    instrument = market.instrument
    if quantity < instrument.min_quantity:
        return Refusal.MIN_QUANTITY, f"{instrument.quantity_problem(quantity)}"
    if instrument.max_quantity is not None and quantity > instrument.max_quantity:
        return Refusal.MAX_QUANTITY, f"{instrument.quantity_problem(quantity)}"
    if lots is None:
        return Refusal.QUANTITY_INCREMENT, f"{instrument.quantity_problem(quantity)}"
    return None


def notional_problem(market: Market, value: Decimal) -> Problem | None:
    """Say why an order of this value (quote currency) can't be taken, or None."""
    instrument = market.instrument
    if abs(value) < instrument.min_notional:
        return Refusal.MIN_NOTIONAL, f"{instrument.notional_problem(value)}"
    if instrument.max_notional is not None and abs(value) > instrument.max_notional:
        return Refusal.MAX_NOTIONAL, f"{instrument.notional_problem(value)}"
    return None


def short_of(order: WorkingOrder, currency: str, amount: Decimal, available: Decimal) -> Problem:
    """Word the refusal for want of funds."""
    account = order.account
    if order.terms.side is Side.SELL and currency == order.market.base:
        held = from_units(account.total[currency], order.market.base_digits)
        has = plain(held) if held else "none"
        if held and available != held:
            has += f", {plain(LEDGER.subtract(held, available))} of it for open orders"
        return (
            Refusal.INSUFFICIENT_FUNDS,
            f"selling more than is held is not offered: the order needs {plain(amount)} {currency}; "
            f"{account.account_id} holds {has}",
        )
    return (
        Refusal.INSUFFICIENT_FUNDS,
        f"the order needs {plain(amount)} {currency} with its fee; {plain(available)} is available in "
        f"{account.account_id}",
    )
