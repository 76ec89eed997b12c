"""The `Supports*` reads that the port's own operations answer: an adapter mixes in those that it claims."""

from __future__ import annotations

from mts1b_brokers_core.foundation.accounts import Account, Balance
from mts1b_brokers_core.foundation.errors import VenueError
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.orders import Order

from .client import VenueClient


class ReadsOrderById(VenueClient):
    """`SupportsOrderById`, by `read`."""

    async def get_order(self, order_id: str) -> Order:
        """Return an order by our id or the venue's. Raises `OrderNotFound`."""
        with self.operation("get_order"):
            return await self.lookups.order(order_id)


class ReadsOrderByKey(VenueClient):
    """`SupportsOrderByKey`, by `read`."""

    async def get_order_by_key(self, idempotency_key: str) -> Order:
        """Return the order submitted under the key. Raises `OrderNotFound`."""
        with self.operation("get_order_by_key"):
            return await self.lookups.order_by_key(idempotency_key)


class ReadsInstruments(VenueClient):
    """`SupportsInstruments`, by `instruments`, which may leave the matching to this."""

    async def get_instruments(self, query: str | None = None) -> list[Instrument]:
        """Return what can be traded; `query` matches symbol or name, case-insensitively."""
        with self.operation("get_instruments"):
            word, listing = (query or "").casefold(), await self.instruments(query)
            self._intake.report(listing.unreadable)
            return [row for row in listing.rows if word in f"{row.symbol}\n{row.name}".casefold()]


class ReadsAccount(VenueClient):
    """`SupportsAccount`, by `accounts`, whose rows hold the balances."""

    async def get_account(self) -> Account:
        """Return the account with its balances."""
        with self.operation("get_account"):
            for account in (await self.accounts()).rows:
                if account.account_id == self.account_id:
                    return account
            raise VenueError("the venue doesn't list the account any more.")

    async def get_balances(self) -> list[Balance]:
        """Return total, available and held of each currency and asset."""
        with self.operation("get_balances"):
            return list((await self.get_account()).balances)
