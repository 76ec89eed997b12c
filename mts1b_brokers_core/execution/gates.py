"""The limits every order passes before anything is sent; all off unless set."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from mts1b_brokers_core.foundation.base import LEDGER, plain
from mts1b_brokers_core.foundation.errors import OrderDenied, StateError
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.market_data import Quote
from mts1b_brokers_core.foundation.orders import Order, OrderType, Side
from mts1b_brokers_core.foundation.settings import Gates

from .ownership import Halt

_MINUTE_NS = 60_000_000_000
GetQuote = Callable[[str], Awaitable[Quote]]


class Gatekeeper:
    """Says no before anything is sent. Denials are `OrderDenied` with the gate's name as reason."""

    def __init__(self, gates: Gates, halt: Halt, get_quote: GetQuote | None) -> None:
        self._gates = gates
        self._halt = halt
        self._get_quote = get_quote

    @property
    def halted(self) -> str | None:
        """Why trading is halted, or None."""
        return self._halt.reason()

    def check_halt(self, order: Order) -> None:
        """Deny while trading is halted."""
        reason = self.halted
        if reason is not None:
            cure = f"`mts mts1b-brokers resume {order.broker or 'NAME'}` once it is safe"
            raise denied(order, "halted", f"trading is halted: {reason}.", cure)

    @staticmethod
    def check_journal(stopped: StateError | None, order: Order) -> None:
        """Deny once an outcome could not be written: what is not remembered must not be sent."""
        if stopped is not None:
            why = f"the last outcome could not be journalled: {stopped.message}"
            raise denied(order, "journal", why, stopped.next_step)

    async def check(self, order: Order, instrument: Instrument | None) -> None:
        """Deny an order that breaks a limit; asks for a quote only where a limit needs one."""
        self.check_halt(order)
        gates = self._gates
        if gates.read_only:
            raise _denied(order, "read_only", "this broker is opened read-only.")
        symbols = [leg.symbol for leg in order.legs] or [order.symbol]
        outside = [symbol for symbol in symbols if gates.symbols and symbol not in gates.symbols]
        if outside:
            raise _denied(order, "symbols", f"{outside[0]} is not among {', '.join(gates.symbols)}.")
        most = gates.max_order_quantity
        if most is not None and order.quantity is not None and order.quantity > most:
            raise _denied(order, "max_order_quantity", f"{plain(order.quantity)} is above {plain(most)}.")
        valued = gates.max_order_value is not None or (most is not None and order.quantity is None)
        # A buy never costs more than its limit, so that valuing it takes no quote.
        capped = order.side is Side.BUY and order.limit_price is not None and not order.legs
        if gates.price_collar is None and (capped or not valued):
            if valued:
                self._check_value(order, instrument, None)
            return
        quote = await self._quote(order)
        self._check_value(order, instrument, quote)
        self._check_collar(order, quote)

    def _check_value(self, order: Order, instrument: Instrument | None, quote: Quote | None) -> None:
        gates = self._gates
        touch = None if quote is None else quote.ask if order.side is Side.BUY else quote.bid
        price = order.limit_price or order.stop_price or touch
        if price is None:
            raise _denied(order, "max_order_value", "there is no price to value the order at.")
        value = order.quote_quantity
        if order.quantity is not None:
            # A sell limit below the market trades at the market: value it at the dearer of the two.
            sells = order.side is Side.SELL and touch is not None
            dearest = max(abs(price), abs(touch)) if sells and touch is not None else abs(price)
            value = LEDGER.multiply(order.quantity, dearest)
            value = LEDGER.multiply(value, instrument.multiplier) if instrument else value
        if gates.max_order_value is not None and value is not None and value > gates.max_order_value:
            limit = plain(gates.max_order_value)
            raise _denied(order, "max_order_value", f"the value {plain(value)} is above {limit}.")
        most = gates.max_order_quantity
        if most is not None and value is not None and order.quantity is None:
            unit = LEDGER.multiply(most, abs(touch if touch is not None else price))
            if value > unit:
                raise _denied(order, "max_order_quantity", f"{plain(value)} buys more than {plain(most)}.")

    def _check_collar(self, order: Order, quote: Quote) -> None:
        collar = self._gates.price_collar
        if collar is None or (order.order_type is OrderType.MARKET and order.limit_price is None):
            return
        price = order.limit_price if order.limit_price is not None else order.stop_price
        touch = quote.ask if order.side is Side.BUY else quote.bid
        if price is None or touch is None:
            raise _denied(order, "price_collar", "there is no quote to compare the price with.")
        room = LEDGER.multiply(abs(touch), collar)
        worst = LEDGER.add(touch, room) if order.side is Side.BUY else LEDGER.subtract(touch, room)
        beyond = price > worst if order.side is Side.BUY else price < worst
        if beyond:
            percent = plain(LEDGER.multiply(collar, Decimal(100)))
            raise _denied(
                order, "price_collar", f"{plain(price)} is more than {percent} % beyond {plain(touch)}."
            )

    async def _quote(self, order: Order) -> Quote:
        if self._get_quote is None or order.legs:
            raise _denied(order, "no_quote", "a limit needs a quote, and this broker gives none for it.")
        try:
            return await self._get_quote(order.symbol)
        # Whatever keeps a quote from us, nothing was sent, and nothing will be without one.
        except Exception as error:
            raise _denied(order, "no_quote", f"a limit needs a quote: {error}") from error

    def check_rate(self, connection: sqlite3.Connection, now_ns: int, order: Order) -> None:
        """Deny where too many attempts lie in the last minute, all processes counted."""
        most = self._gates.max_orders_per_minute
        if most is None:
            return
        row: Any = connection.execute(
            "SELECT count(*), min(t0_ns) FROM attempts WHERE t0_ns > ?", (now_ns - _MINUTE_NS,)
        ).fetchone()
        if row[0] >= most:
            wait = (row[1] + _MINUTE_NS - now_ns) / 1e9
            why = f"{most} orders in the last minute is the limit set."
            raise denied(order, "max_orders_per_minute", why, f"wait {wait:.0f} seconds, or raise the limit")


def denied(order: Order, reason: str, why: str, next_step: str = "") -> OrderDenied:
    """Return our refusal of an order: the stable word for it, why, and what to do now."""
    return OrderDenied(why, reason=reason, order=order, next_step=next_step)


def _denied(order: Order, gate: str, why: str) -> OrderDenied:
    return denied(order, gate, f"gate {gate}: {why}", f"change the order, or the setting gates.{gate}")
