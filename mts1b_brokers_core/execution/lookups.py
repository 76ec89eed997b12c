"""What the venue shows, said in the caller's nouns: which of our orders it is, and which logged fill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mts1b_brokers_core.foundation.errors import InvalidInput, OrderNotFound
from mts1b_brokers_core.foundation.orders import Fill, Order, OrderType

from . import journal
from .journal import Record
from .login import Login
from .named import fields_of, identified
from .port import Execution, OrderRef, OrderView, Unreadable, row_of


class Lookups:
    """Joins what the venue shows with what the journal knows; for the `Supports*` reads of adapters."""

    def __init__(self, login: Login) -> None:
        self._login = login

    async def record(self, order_id: str) -> Record | None:
        """Return the journal's row of an id: ours first, then the venue's, then the token."""
        return self._login.find(order_id)

    async def order(self, order_id: str) -> Order:
        """Read one order by our id or the venue's. Raises `OrderNotFound`."""
        record = self._login.find(order_id)
        if record is not None and (record.order.settled or record.order.broker_order_id is None):
            return record.order
        name = record.order.broker_order_id if record is not None else order_id
        ref = OrderRef(broker_order_id=name)
        view = row_of(await self._login.port.read([ref]), ref)
        if view is None:
            raise OrderNotFound(
                f"neither the journal nor the venue knows an order {order_id}.",
                next_step="use order_id or broker_order_id of an order of this account",
            )
        await self._login.ingest.observe([view])
        return await self.order_of(view)

    async def order_by_key(self, idempotency_key: str) -> Order:
        """Return the order submitted under a key. Raises `OrderNotFound`."""
        record = self._login.record(idempotency_key)
        if record is None:
            raise OrderNotFound(f"the key {idempotency_key!r} was never used here.")
        return await self.order(record.order.order_id)

    async def order_of(self, view: OrderView) -> Order:
        """Return our order behind a view, or the order of somebody else that it shows."""
        account = view.account_id or self._login.account_id
        record = self._login.journal.read(journal.at_venue, account, view.ref)
        if record is not None:
            return record.order
        return foreign_order(view, self._login.broker, self._login.account_id)

    async def orders_of(self, views: Sequence[OrderView]) -> tuple[list[Order], list[Unreadable]]:
        """Return the orders behind views, and beside them the views that describe no order."""
        orders, odd = [], []
        for view in views:
            try:
                orders.append(await self.order_of(view))
            except InvalidInput as error:
                odd.append(Unreadable(f"{view!r:.500}", error.message))
        return orders, odd

    async def fills_of(self, executions: Sequence[Execution]) -> list[Fill]:
        """Return executions as fills: as logged where they are, with seq 0 where they aren't yet."""

        login, fills, alike = self._login, [], Counter[str]()
        for seen in executions:
            row = identified(seen, login.port.profile.fill_identity, alike)
            account = row.account_id or login.account_id
            logged = login.log.logged_fill(account, row.fill_id or "")
            record = login.journal.read(journal.at_venue, account, row.ref)
            fills.append(logged or Fill(**fields_of(row, record, account), broker=login.broker))
        return fills


_TYPES = {
    (False, False): OrderType.MARKET, (True, False): OrderType.LIMIT, (False, True): OrderType.STOP,
    (True, True): OrderType.STOP_LIMIT,
}  # fmt: skip


def foreign_order(view: OrderView, broker: str, account_id: str) -> Order:
    """Describe a venue order that was not placed here; terms the venue doesn't show stay out."""
    terms = view.terms
    shown = {name: value for name in terms.__slots__ if (value := getattr(terms, name)) is not None}
    shown.setdefault("order_type", _TYPES[terms.limit_price is not None, terms.stop_price is not None])
    if terms.quantity is not None:
        shown.pop("quote_quantity", None)  # some venues tell the value beside the size
    return Order(
        **shown,
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
