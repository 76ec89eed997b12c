"""How an order is cancelled: at once, repeatable, answered truthfully."""

from __future__ import annotations

import sqlite3

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import (
    OrderNotFound,
    OutcomeUnknown,
    StateError,
    VenueError,
)
from mts1b_brokers_core.foundation.orders import Order, OrderStatus

from . import journal
from .eventlog import Appender, EventLog
from .ingest import Ingest, write_order
from .journal import UNRESOLVED, Journal, Record, State
from .lookups import Lookups
from .port import CancelResult, Final, NoSuch, OrderRef, OrderView, Refused, Taken, Unknown, VenuePort
from .resolver import Resolver

_TRIES = 3


class Cancellation:
    """The one way to cancel. Nothing is written before the cancel is sent."""

    def __init__(
        self,
        port: VenuePort,
        journal_: Journal,
        log: EventLog,
        ingest: Ingest,
        resolver: Resolver,
        lookups: Lookups,
        *,
        account_id: str,
        clock: Clock,
    ) -> None:
        self._port = port
        self._journal = journal_
        self._log = log
        self._ingest = ingest
        self._resolver = resolver
        self._lookups = lookups
        self._account_id = account_id
        self._clock = clock

    async def cancel(self, order_id: str) -> bool:
        """Cancel by our id or the venue's.

        True: the venue took our cancel, or the order reads cancelled after we asked. False: it was
        final otherwise. Raises `OrderNotFound`, `OutcomeUnknown`, or `VenueError` where the venue
        refuses to cancel a working order.
        """
        record = await self._lookups.record(order_id)
        if record is None:
            return await self._send(OrderRef(broker_order_id=order_id), None)
        if record.state in UNRESOLVED or record.state is State.NOT_PLACED:
            return await self._unresolved(record)
        if record.order.is_final:
            return record.order.status is OrderStatus.CANCELED and record.order.cancel_requested
        return await self.send_for(record.order)

    async def send_for(self, order: Order) -> bool:
        """Cancel an order whose venue id is known."""
        return await self._send(OrderRef(broker_order_id=order.broker_order_id), order)

    async def _unresolved(self, record: Record) -> bool:
        await self._journal.store.run(lambda connection: journal.want_cancel(connection, record.key))
        if record.state is not State.NOT_PLACED:
            record = await self._resolver.resolve_once(record)
        if record.state is State.CONFIRMED:
            return await self.send_for(record.order) if not record.order.is_final else False
        if record.state in (State.NOT_PLACED, State.REJECTED):
            return False
        raise OutcomeUnknown(
            "whether the order is at the venue is not known; the cancel is sent the moment it is found.",
            order=record.order,
            operation="cancel",
        )

    async def _send(self, ref: OrderRef, order: Order | None) -> bool:
        cause = ""
        for _ in range(_TRIES):
            result = await self._once(ref)
            if isinstance(result, Taken):
                await self._requested(order)
                return True
            if isinstance(result, NoSuch):
                raise OrderNotFound(
                    f"the venue knows no order {ref.broker_order_id}.",
                    order=order,
                    next_step="use order_id or broker_order_id of an order of this account",
                )
            view = result.view if isinstance(result, Final) else await self._read(ref)
            if view is not None:
                await self._ingest.observe(self._account_id, [view])
            if isinstance(result, Final) or (view is not None and view.status.final):
                return self._answer(order, view, asked_before=isinstance(result, Unknown))
            if isinstance(result, Refused):
                raise VenueError(
                    f"the venue refused to cancel: {result.words}.",
                    next_step="read the order again; a cancel of a working order may be repeated",
                    repeat_is_safe=True,
                )
            cause = result.cause
        raise OutcomeUnknown(
            f"the cancel was sent {_TRIES} times without an answer: {cause}.",
            order=order,
            next_step="cancel again: repeating a cancel is harmless",
            repeat_is_safe=True,
        )

    async def _once(self, ref: OrderRef) -> CancelResult:
        try:
            return await self._port.cancel_one(ref)
        # A reply that is lost in whatever way says nothing; reading the order does.
        except Exception as error:  # noqa: BLE001
            return Unknown(f"{type(error).__name__}: {error}")

    async def _read(self, ref: OrderRef) -> OrderView | None:
        try:
            listing = await self._port.read([ref])
        except (OSError, TimeoutError, VenueError):
            return None
        return listing.rows[0] if listing.rows else None

    @staticmethod
    def _answer(order: Order | None, view: OrderView | None, *, asked_before: bool) -> bool:
        canceled = view is not None and view.status is OrderStatus.CANCELED
        asked = asked_before or (order is not None and order.cancel_requested)
        return canceled and asked

    async def _requested(self, order: Order | None) -> None:
        """Remember that we asked; a journal that fails never turns a taken cancel into an error."""
        if order is None:
            return
        key = order.idempotency_key

        try:
            await self._log.transact(lambda connection, log: _mark_requested(connection, log, key))
        except StateError:
            return


def _mark_requested(connection: sqlite3.Connection, log: Appender, key: str) -> None:
    record = journal.get(connection, key)
    if record is None or record.order.cancel_requested:
        return
    order = record.order.evolve(cancel_requested=True)
    if order.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED):
        order = order.evolve(status=OrderStatus.PENDING_CANCEL)
    write_order(connection, log, record, order, logged=record.logged)
