"""A small strategy that knows nothing of the broker it trades through."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal

from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.errors import OrderDenied, OrderNotPlaced, OrderRejected
from mts1b_brokers_core.foundation.instruments import Instrument, Rounding
from mts1b_brokers_core.foundation.market_data import Quote
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, Side
from mts1b_brokers_core.foundation.protocols import (
    BrokerProtocol,
    SupportsInstruments,
    SupportsMarketData,
    SupportsOrderById,
    SupportsReplace,
    require,
)

_REFUSED = (OrderDenied, OrderRejected, OrderNotPlaced)

OnQuote = Callable[[Quote], Awaitable[None]]


@dataclass
class Breakout:
    """Buys what rises above its average and dips; sells half at a target, half at a stop that follows.

    `budget` is in quote currency and is spent on each entry; `window` is in quotes, the other figures are
    fractions of the price. A breakout is bought at the market, a dip with a resting limit order; what is
    held has a resting limit above and a stop below, and the stop is raised as the price rises. After a
    refusal (a closed market, say) it waits `patience` quotes before it tries again.
    """

    symbol: str
    budget: Decimal
    window: int = 60
    breakout: Decimal = Decimal("0.004")
    dip: Decimal = Decimal("0.006")
    target: Decimal = Decimal("0.012")
    risk: Decimal = Decimal("0.010")
    patience: int = 15
    submitted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _mids: deque[Decimal] = field(default_factory=deque)
    _entry: Order | None = None
    _exits: list[Order] = field(default_factory=list)
    _wait: int = 0

    async def run(self, broker: BrokerProtocol, on_quote: OnQuote) -> None:
        """Trade until the market data ends; `on_quote` is called with each quote first."""
        self._broker = broker
        listed = await require(broker, SupportsInstruments).get_instruments(self.symbol)
        self._instrument = next(row for row in listed if row.symbol == self.symbol)
        feed = require(broker, SupportsMarketData).stream_market_data([self.symbol], ("quote",))
        async for quote in feed:
            assert isinstance(quote, Quote)
            await on_quote(quote)
            if quote.mid is not None:
                await self._consider(quote, quote.mid)

    async def _consider(self, quote: Quote, mid: Decimal) -> None:
        self._mids.append(mid)
        if len(self._mids) <= self.window:
            return
        self._mids.popleft()
        average = _mean(self._mids)
        self._entry = await self._latest(self._entry)
        self._exits = [order for order in [await self._latest(exit_) for exit_ in self._exits] if order]
        if self._exits:
            await self._manage(mid)
        elif self._entry is None:
            await self._enter(quote, mid, average)
        elif self._entry.is_final:
            await self._protect(self._entry)
        elif mid > LEDGER.multiply(average, 1 + self.dip):
            await self._broker.cancel(self._entry.order_id)  # the dip did not come

    async def _enter(self, quote: Quote, mid: Decimal, average: Decimal) -> None:
        if quote.ask is None or quote.bid is None or self._wait:
            self._wait = max(0, self._wait - 1)
            return
        if mid > LEDGER.multiply(average, 1 + self.breakout):
            order = Order.market(self.symbol, Side.BUY, self._affordable(quote.ask))
        else:
            price = self._price(LEDGER.multiply(quote.bid, 1 - self.dip), Rounding.DOWN)
            order = Order.limit(self.symbol, Side.BUY, self._affordable(price), price=price)
        self._entry = await self._submit(order)

    async def _protect(self, entry: Order) -> None:
        """Turn what an entry bought into two exits, or forget the entry where it bought nothing."""
        self._entry = None
        held, price = await self._held(), entry.average_price
        half = self._instrument.round_quantity(LEDGER.multiply(held, Decimal("0.5")))
        rest = self._instrument.round_quantity(LEDGER.subtract(held, half))
        if (
            price is None
            or self._instrument.quantity_problem(half)
            or self._instrument.quantity_problem(rest)
        ):
            return
        above = self._price(LEDGER.multiply(price, 1 + self.target), Rounding.UP)
        below = self._price(LEDGER.multiply(price, 1 - self.risk), Rounding.DOWN)
        exits = [
            await self._submit(Order.limit(self.symbol, Side.SELL, half, price=above)),
            await self._submit(Order.stop(self.symbol, Side.SELL, rest, stop_price=below)),
        ]
        self._exits = [order for order in exits if order is not None]

    async def _manage(self, mid: Decimal) -> None:
        working = [order for order in self._exits if not order.is_final]
        stops = [order for order in working if order.stop_price is not None]
        if not working:
            self._exits = []
        elif not stops:  # stopped out: the other half leaves at the market
            await self._broker.cancel(working[0].order_id)
            self._exits = []
            held = self._instrument.round_quantity(await self._held())
            if not self._instrument.quantity_problem(held):
                await self._submit(Order.market(self.symbol, Side.SELL, held))
        else:
            await self._raise_stop(stops[0], mid)

    async def _raise_stop(self, stop: Order, mid: Decimal) -> None:
        assert stop.stop_price is not None
        price = self._price(LEDGER.multiply(mid, 1 - self.risk), Rounding.DOWN)
        step = LEDGER.multiply(stop.stop_price, Decimal("1.004"))
        if price > step and isinstance(self._broker, SupportsReplace):
            try:
                await self._broker.replace(stop.order_id, OrderChanges(stop_price=price))
            except _REFUSED as error:
                self.refused.append(error.message)  # the stop stays where it is

    async def _submit(self, order: Order) -> Order | None:
        try:
            placed = await self._broker.submit(order)
        except _REFUSED as error:
            self.refused.append(error.message)
            self._wait = self.patience
            return None
        self.submitted.append(placed.order_id)
        return placed

    async def _latest(self, order: Order | None) -> Order | None:
        if order is None:
            return None
        return await require(self._broker, SupportsOrderById).get_order(order.order_id)

    async def _held(self) -> Decimal:
        rows = await self._broker.get_positions()
        return next((row.quantity for row in rows if row.symbol == self.symbol), Decimal(0))

    def _affordable(self, price: Decimal) -> Decimal:
        return whole_units(self.budget, price, self._instrument)

    def _price(self, price: Decimal, rule: Rounding) -> Decimal:
        return self._instrument.round_price(price, rule)


def whole_units(budget: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """Return the largest quantity the budget (quote currency) buys at the price, in whole increments."""
    steps = budget // LEDGER.multiply(price, instrument.quantity_increment)
    return LEDGER.multiply(steps, instrument.quantity_increment)


def _mean(values: deque[Decimal]) -> Decimal:
    # An indicator, not money: 28 digits are plenty, and the quotient need not end.
    return sum(values, Decimal(0)) / len(values)
