"""What the venue shows, said in the caller's nouns: which of our orders it is, and which logged fill."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mts1b_brokers_core.foundation.errors import OrderNotFound
from mts1b_brokers_core.foundation.orders import Fill, Order

from . import journal
from .ingest import Ingest, fill_of
from .journal import Journal, Record
from .port import Execution, OrderRef, OrderView, VenuePort


class Lookups:
    """Joins what the venue shows with what the journal knows; for the `Supports*` reads of adapters."""

    def __init__(
        self, port: VenuePort, journal_: Journal, ingest: Ingest, *, broker: str, account_id: str
    ) -> None:
        self._port = port
        self._journal = journal_
        self._ingest = ingest
        self._broker = broker
        self._account_id = account_id

    async def record(self, order_id: str) -> Record | None:
        """Return the journal's row of an id."""
        return self.find(order_id)

    def find(self, order_id: str) -> Record | None:
        """Return the journal's row of an id: ours first, then the venue's, then the token."""
        return self._journal.store.read(
            lambda connection: journal.named(connection, self._account_id, order_id)
        )

    async def order(self, order_id: str) -> Order:
        """Read one order by our id or the venue's. Raises `OrderNotFound`."""
        record = self.find(order_id)
        if record is not None and (record.order.settled or record.order.broker_order_id is None):
            return record.order
        name = record.order.broker_order_id if record is not None else order_id
        listing = await self._port.read([OrderRef(broker_order_id=name)])
        if not listing.rows:
            raise OrderNotFound(
                f"neither the journal nor the venue knows an order {order_id}.",
                next_step="use order_id or broker_order_id of an order of this account",
            )
        await self._ingest.observe(self._account_id, listing.rows)
        return await self.order_of(listing.rows[0])

    async def order_by_key(self, idempotency_key: str) -> Order:
        """Return the order submitted under a key. Raises `OrderNotFound`."""
        record = self._journal.store.read(lambda connection: journal.get(connection, idempotency_key))
        if record is None:
            raise OrderNotFound(f"the key {idempotency_key!r} was never used here.")
        return await self.order(record.order.order_id)

    async def order_of(self, view: OrderView) -> Order:
        """Return our order behind a view, or the order of somebody else that it shows."""
        account = view.account_id or self._account_id
        record = self._journal.store.read(lambda connection: journal.at_venue(connection, account, view.ref))
        if record is not None:
            return record.order.evolve(broker=self._broker)
        return foreign_order(view, self._broker, self._account_id)

    async def fills_of(self, executions: Sequence[Execution]) -> list[Fill]:
        """Return executions as fills: as logged where they are, with seq 0 where they aren't yet."""

        def work(connection: sqlite3.Connection) -> list[Fill]:
            return [
                journal.logged_fill(connection, row.account_id or self._account_id, row.fill_id or "")
                or fill_of(connection, row, self._account_id).evolve(broker=self._broker)
                for row in executions
            ]

        return self._journal.store.read(work)


def foreign_order(view: OrderView, broker: str, account_id: str) -> Order:
    """Describe a venue order that was not placed here; terms the venue doesn't show stay out."""
    terms = {
        name: getattr(view.terms, name)
        for name in view.terms.__slots__
        if getattr(view.terms, name) is not None
    }
    return Order(
        **terms,
        order_id=view.ref.broker_order_id or view.ref.token or "",
        broker=broker,
        account_id=view.account_id or account_id,
        broker_order_id=view.ref.broker_order_id,
        status=view.status,
        raw_status=view.raw_status or None,
        filled_quantity=view.cumulative_quantity or 0,
        average_price=view.average_price,
        created_at=view.created,
        updated_at=view.updated,
    )
