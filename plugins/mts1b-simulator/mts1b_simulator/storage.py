"""How orders, fills and accounts are written down, and how an exchange is put together from them again."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from mts1b_brokers_core.foundation.errors import StateCorrupted, StateMismatch
from mts1b_brokers_core.foundation.orders import Liquidity, Order, OrderStatus, OrderType, Side

from .exchange import SimulatedExchange
from .market import Market
from .orders import Refusal, VenueFill
from .working import WorkingOrder

_PLAIN = (
    "number", "order_id", "token", "owner", "quantity", "filled", "value", "limit", "stop", "cap",
    "fee_numerator", "fee_charged", "triggered", "words", "created_ns", "updated_ns", "accepted_ns",
    "expires_ns", "arrived", "hold", "taking",
)  # fmt: skip


def order_body(order: WorkingOrder) -> str:
    """Write an order down as it is now."""
    body: dict[str, Any] = {name: getattr(order, name) for name in _PLAIN}
    if order.terms_text is None:
        order.terms_text = order.terms.model_dump_json(exclude_none=True)
    body["terms"] = order.terms_text
    body["status"], body["reason"] = order.status, order.reason
    body["rates"] = (order.maker_rate, order.taker_rate, order.dearest_rate)
    body["rests"] = order.level is not None
    return json.dumps(body)


def fill_body(fill: VenueFill) -> str:
    """Write a fill down."""
    return json.dumps([
        fill.trade_id, fill.sequence, fill.venue_order_id, fill.token, fill.account_id, fill.symbol,
        fill.side, str(fill.quantity), str(fill.price), str(fill.fee_amount), fill.fee_currency,
        fill.liquidity, fill.at_ns, fill.evidence,
    ])  # fmt: skip


def _fill(body: list[Any]) -> VenueFill:
    trade_id, sequence, order_id, token, account_id, symbol, side, quantity, price, fee, paid_in, *rest = body
    return VenueFill(
        trade_id, sequence, order_id, token, account_id, symbol, Side(side), Decimal(quantity),
        Decimal(price), Decimal(fee), paid_in, Liquidity(rest[0]), rest[1], rest[2],
    )  # fmt: skip


def settings_of(exchange: SimulatedExchange) -> dict[str, Any]:
    """Return what the integers in the file depend on: digits, increments and fee rules."""
    return {
        "digits": exchange.digits,
        "markets": {symbol: _units_of(market) for symbol, market in exchange.markets.items()},
    }


def _units_of(market: Market) -> list[str]:
    instrument, rule = market.instrument, market.rule
    return [
        str(market.ticks.increment.normalize()), str(market.lots.increment.normalize()),
        str(instrument.multiplier.normalize()), market.base, market.quote, market.meter.currency,
        str(market.meter.scale), str(rule.minimum), str(rule.increment), str(rule.rounding),
        str(rule.per_unit), str(rule.conversion),
    ]  # fmt: skip


def restore(exchange: SimulatedExchange, found: dict[str, Any]) -> None:
    """Bring a fresh exchange to the state found. Raises `StateMismatch` or `StateCorrupted`."""
    _compare(settings_of(exchange), found)
    counters, recorder = found["counters"], exchange.recorder
    recorder.epoch = found["epoch"]
    recorder.order_count, recorder.trade_count = counters["orders"], counters["trades"]
    recorder.report_count = counters["reports"]
    exchange.now_ns = max(exchange.now_ns, counters["now_ns"])
    for body in found["accounts"]:
        account = exchange.accounts.get(body["account_id"])
        if account is None:
            raise StateMismatch(
                f"the state holds account {body['account_id']!r}, which is not configured.",
                next_step="configure the account again, or choose another state_path",
            )
        account.load(body)
    for body in found["fills"]:
        recorder.remember(_fill(body))
    resting: list[tuple[int, WorkingOrder]] = []
    for body in found["orders"]:
        order = _order(exchange, body)
        exchange.desk.adopt(order)
        if body["rests"]:
            resting.append((body["arrived"], order))
    for symbol, market in exchange.markets.items():
        market.book.arrivals = counters["arrivals"].get(symbol, 0)
    for _, order in sorted(resting, key=lambda row: row[0]):
        order.market.book.rest(order)
        order.market.place(order)
        if order.taking:
            order.market.taking.append(order)
    _audit(exchange)


def _order(exchange: SimulatedExchange, body: dict[str, Any]) -> WorkingOrder:
    terms = Order.model_validate_json(body["terms"])
    order = WorkingOrder(
        body["number"], body["order_id"], body["token"], terms, body["owner"], body["created_ns"]
    )
    for name in _PLAIN:
        setattr(order, name, body[name])
    order.arrived = 0
    order.status = OrderStatus(body["status"])
    order.reason = Refusal(body["reason"]) if body["reason"] else None
    order.maker_rate, order.taker_rate, order.dearest_rate = body["rates"]
    order.remaining = order.quantity - order.filled
    if order.limit is not None:
        order.price = order.limit
    market, account = exchange.markets.get(terms.symbol), exchange.accounts.get(order.owner or "")
    if market is not None and account is not None:
        order.market, order.account = market, account
        if order.open and order.level is None and not body["rests"]:
            _rearm(order)
    return order


def _rearm(order: WorkingOrder) -> None:
    """Put an order back to where it waited: for its trigger, or for the market."""
    if order.stop is not None and not order.triggered:
        order.market.add_stop(order)
    elif order.terms.order_type in (OrderType.STOP, OrderType.MARKET):
        order.market.waiting.append(order)


def _compare(present: dict[str, Any], found: dict[str, Any]) -> None:
    stored = found["settings"]
    used = {json.loads(body["terms"])["symbol"] for body in found["orders"]}
    for symbol in sorted(used & set(stored["markets"])):
        if present["markets"].get(symbol) != stored["markets"][symbol]:
            raise StateMismatch(
                f"{symbol} has other increments or fees than the state was written with, or isn't listed.",
                next_step="open with the settings used then, or choose another state_path",
            )
    for currency, digits in stored["digits"].items():
        if present["digits"].get(currency) != digits:
            raise StateMismatch(
                f"{currency} is kept to another number of digits than when the state was written.",
                next_step="open with the settings used then, or choose another state_path",
            )


def _audit(exchange: SimulatedExchange) -> None:
    """Refuse a state whose holds are not those of its open orders."""
    for account in exchange.accounts.values():
        held = dict.fromkeys(account.held, 0)
        for order in exchange.desk.open.values():
            if order.account is account:
                for currency, amount in order.hold.items():
                    held[currency] += amount
        if held != account.held:
            raise StateCorrupted(
                f"the holds of account {account.account_id} are not those of its open orders.",
                next_step="move the state file aside (keep it) or restore a backup",
            )
