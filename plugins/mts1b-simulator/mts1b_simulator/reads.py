"""What a venue tells when asked: orders, fills, balances, the market so far."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from datetime import datetime, timedelta

from mts1b_brokers_core.foundation.accounts import FeeSchedule
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.market_data import Bar, OrderBook, Quote, Trade

from .accounts import BalanceView, PositionView
from .exchange import SimulatedExchange
from .history import History
from .orders import VenueFill, VenueOrder


class VenueReads:
    """The reads of a venue; none of them tells what is not yet safely written."""

    clock: Clock
    _history: dict[str, History]

    @abstractmethod
    async def _read(self) -> SimulatedExchange:
        """Come to the present, and to nothing that is not yet safe."""

    async def order(self, venue_order_id: str) -> VenueOrder | None:
        """Return an order by the venue's id, or None."""
        return (await self._read()).order(venue_order_id)

    async def order_by_token(self, token: str) -> VenueOrder | None:
        """Return the order a token names, or None."""
        return (await self._read()).order_by_token(token)

    async def open_orders(self, account_id: str | None = None, symbol: str | None = None) -> list[VenueOrder]:
        """Return the orders being worked, oldest first."""
        return (await self._read()).open_orders(account_id, symbol)

    async def orders_since(self, since_ns: int = 0, account_id: str | None = None) -> list[VenueOrder]:
        """Return orders created at or after a moment (ns), oldest first."""
        return (await self._read()).orders_since(since_ns, account_id)

    async def fills_since(self, since_ns: int = 0, account_id: str | None = None) -> list[VenueFill]:
        """Return executions at or after a moment (ns), in the order they happened."""
        return (await self._read()).fills_since(since_ns, account_id)

    async def fills_of(self, venue_order_ids: Iterable[str]) -> list[VenueFill]:
        """Return the executions of some orders."""
        return (await self._read()).fills_of(venue_order_ids)

    async def balances(self, account_id: str) -> list[BalanceView]:
        """Return an account's balances by currency."""
        return (await self._read()).balances(account_id)

    async def positions(self, account_id: str) -> list[PositionView]:
        """Return what an account holds of each instrument."""
        return (await self._read()).positions(account_id)

    async def instruments(self) -> tuple[Instrument, ...]:
        """Return what is listed."""
        return (await self._read()).config.instruments

    async def quote(self, symbol: str) -> Quote | None:
        """Return the best bid and ask, or None where nothing is known yet. Raises `UnknownInstrument`."""
        return (await self._read()).quote(symbol)

    async def order_book(self, symbol: str, depth: int = 10) -> OrderBook | None:
        """Return the book, or None where nothing is known yet. Raises `UnknownInstrument`, `InvalidInput`."""
        return (await self._read()).order_book(symbol, depth)

    async def trades(self, symbol: str, limit: int = 100) -> list[Trade]:
        """Return the last prints, oldest first. Raises `UnknownInstrument`, `InvalidInput`."""
        (await self._read()).market(symbol)
        return self._history[symbol].trades(limit)

    async def bars(
        self, symbol: str, interval: timedelta, *, start: datetime | None = None, end: datetime | None = None,
        limit: int = 100,
    ) -> list[Bar]:  # fmt: skip
        """Return finished bars, oldest first. Raises `UnknownInstrument`, `InvalidInput`."""
        (await self._read()).market(symbol)
        return self._history[symbol].bars(interval, self.clock.now_ns(), start, end, limit)

    async def fee_schedule(self, account_id: str) -> FeeSchedule:
        """Return what an account pays at present."""
        return (await self._read()).fee_schedule(account_id)

    async def now(self) -> datetime:
        """Return the venue's time, aware UTC."""
        await self._read()
        return self.clock.now()
