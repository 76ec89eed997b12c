"""How an order is cancelled: at once, repeatable, answered truthfully."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Coroutine
from typing import Any

from mts1b_brokers_core.foundation.errors import OrderNotFound, OutcomeUnknown, StateError, VenueError
from mts1b_brokers_core.foundation.orders import Order, OrderStatus
from mts1b_brokers_core.platform.failpoints import failpoint

from . import journal
from .eventlog import Appender, EventLog
from .ingest import Ingest
from .journal import Journal, Record, State
from .lookups import Lookups
from .port import CancelResult, Final, NoSuch, OrderRef, OrderView, Refused, Taken, Unknown, VenuePort
from .resolver import Resolver
from .writing import write_order

_TRIES = 3


class Cancellation:
    """The one way to cancel. Nothing is written before the cancel is sent.

    A cancel under way is shared by all who ask for it, and none of them cuts it by going away.
    """

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
        spawn: Callable[[Coroutine[Any, Any, bool]], asyncio.Task[bool]],
    ) -> None:
        self._port = port
        self._journal = journal_
        self._log = log
        self._ingest = ingest
        self._resolver = resolver
        self._lookups = lookups
        self._account_id = account_id
        self._spawn = spawn
        self._under_way: dict[str, asyncio.Task[bool]] = {}
        log.on_cancel_due = self._start

    async def cancel(self, order_id: str) -> bool:
        """Cancel by our id or the venue's.

        True: the venue took our cancel, or the order reads cancelled after we asked. False: it was
        final otherwise. Raises `OrderNotFound`, `OutcomeUnknown`, or `VenueError` where the venue
        refuses to cancel a working order.
        """
        record = self._lookups.find(order_id)
        if record is None or _one_of_several(record, order_id):
            return await asyncio.shield(self._spawn(self._send(OrderRef(order_id), None)))
        if record.state not in (State.CONFIRMED, State.REJECTED):
            return await self._unresolved(record)
        return await self._known(record.order)

    async def _known(self, order: Order) -> bool:
        if order.is_final:
            return order.status is OrderStatus.CANCELED and order.cancel_requested
        return await asyncio.shield(self._start(order))

    def _start(self, order: Order) -> asyncio.Task[bool]:
        """Send the cancel of an order whose venue id is known, unless it is being sent already."""
        key = order.idempotency_key
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = self._spawn(self._send(self._ref(order), order))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return task

    def _ref(self, order: Order) -> OrderRef:
        if self._port.profile.cancel_by == "venue_id":
            return OrderRef(order.broker_order_id)
        key = order.idempotency_key
        tries = self._journal.store.read(lambda connection: journal.attempts(connection, key))
        return OrderRef(order.broker_order_id, tries[-1].token if tries else None)

    async def _unresolved(self, record: Record) -> bool:
        key = record.key
        noted = await self._journal.store.run(lambda connection: journal.want_cancel(connection, key))
        record = await self._resolver.resolve_once(noted or record)
        if record.state is State.CONFIRMED:
            return await self._known(record.order)
        if record.state in (State.NOT_PLACED, State.REJECTED):
            return False
        raise OutcomeUnknown(
            "whether the order is at the venue is not known; the cancel is sent the moment it is found.",
            order=record.order,
            operation="cancel",
        )

    async def _send(self, ref: OrderRef, order: Order | None) -> bool:
        cause = ""
        for tried in range(_TRIES):
            result = await self._once(ref)
            failpoint("cancel.answered")
            if isinstance(result, Taken):
                await self._requested(order, taken=True)
                return True
            view = result.view if isinstance(result, Final) else None
            if view is None and (order is not None or not isinstance(result, NoSuch)):
                view = await self._read(ref)
            if isinstance(result, Unknown):
                await self._requested(order, taken=False)
            if view is not None and view.status.final:
                await self._seen(view)
                return self._answer(order, view, asked_before=tried > 0 or isinstance(result, Unknown))
            if isinstance(result, Final):
                return False
            if isinstance(result, NoSuch):
                raise OrderNotFound(
                    f"the venue knows no order {ref.broker_order_id}.",
                    order=order,
                    next_step="use order_id or broker_order_id of an order of this account",
                )
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
        # Nor does a reading that fails.
        except Exception:  # noqa: BLE001
            return None
        return listing.rows[0] if listing.rows else None

    async def _seen(self, view: OrderView) -> None:
        """Merge what was read; a journal that fails never turns a cancel's answer into an error."""
        with contextlib.suppress(StateError):
            await self._ingest.observe(self._account_id, [view])

    @staticmethod
    def _answer(order: Order | None, view: OrderView, *, asked_before: bool) -> bool:
        asked = asked_before or (order is not None and order.cancel_requested)
        return asked and view.status is OrderStatus.CANCELED

    async def _requested(self, order: Order | None, *, taken: bool) -> None:
        """Remember that we asked, and whether the venue took it."""
        if order is None:
            return
        key = order.idempotency_key
        with contextlib.suppress(StateError):
            await self._log.transact(lambda connection, log: _mark(connection, log, key, taken=taken))


def _one_of_several(record: Record, order_id: str) -> bool:
    """Tell whether one venue order was named of a key that has more than one: that one is meant."""
    return record.state is State.DUPLICATE and order_id in record.order.broker_order_ids


def _mark(connection: sqlite3.Connection, log: Appender, key: str, *, taken: bool) -> None:
    record = journal.get(connection, key)
    if record is None:
        return
    order = record.order.evolve(cancel_requested=True)
    if taken and order.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING_NEW):
        order = order.evolve(status=OrderStatus.PENDING_CANCEL)
    if (order.status, order.cancel_requested) != (record.order.status, record.order.cancel_requested):
        write_order(connection, log, record, order, logged=record.logged)
