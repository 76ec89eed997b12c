"""How an order is cancelled: at once, repeatable, answered truthfully."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from mts1b_brokers_core.foundation.errors import OrderNotFound, OutcomeUnknown, StateError, VenueError
from mts1b_brokers_core.foundation.orders import Order, OrderStatus
from mts1b_brokers_core.platform.failpoints import failpoint
from mts1b_brokers_core.platform.ratelimit import Priority, prioritised

from . import door, journal
from .eventlog import Appender
from .journal import Record, State
from .login import Login
from .port import CancelResult, Final, NoSuch, OrderRef, OrderView, Refused, Taken, Unknown
from .resolver import Resolver
from .writing import write_record

_TRIES = 3


class Cancellation:
    """The one way to cancel. Nothing is written before the cancel is sent.

    A cancel under way is shared by all who ask for it, and none of them cuts it by going away.
    """

    def __init__(self, login: Login, resolver: Resolver) -> None:
        self._login = login
        self._resolver = resolver
        self._under_way: dict[str, asyncio.Task[bool]] = {}
        #: Keys whose cancel was sent and couldn't be written down.
        self._unwritten: set[str] = set()
        login.log.on_cancel_due = self._start

    async def cancel(self, order_id: str) -> bool:
        """Cancel by our id or the venue's.

        True: the venue took our cancel, or the order reads cancelled after we asked. False: it was
        final otherwise. Raises `OrderNotFound`, `OutcomeUnknown`, or `VenueError` where the venue
        refuses to cancel a working order.
        """
        try:
            record = self._login.find(order_id)
        except StateError:  # a journal that can't be read keeps no cancel back: it may be the venue's id
            record = None
        if record is not None and record.state is State.SENDING:
            record = self._login.journal.unwritten.get(record.key, record)
        if record is None or _one_of_several(record, order_id):
            return await asyncio.shield(self._login.spawn(self._send(OrderRef(order_id), None)))
        if record.state not in (State.CONFIRMED, State.REJECTED):
            return await self._unresolved(record)
        return await self._known(record.order)

    async def _known(self, order: Order) -> bool:
        if order.is_final:
            return order.status is OrderStatus.CANCELED and self._asked(order)
        return await asyncio.shield(self._start(order))

    def _asked(self, order: Order) -> bool:
        return order.cancel_requested or order.idempotency_key in self._unwritten

    def _start(self, order: Order) -> asyncio.Task[bool]:
        """Send the cancel of an order whose venue id is known, unless it is being sent already."""
        key = order.idempotency_key
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = self._login.spawn(self._send(self._ref(order), order))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return task

    def _ref(self, order: Order) -> OrderRef:
        if self._login.port.profile.cancel_by == "venue_id":
            return OrderRef(order.broker_order_id)
        tries = self._login.attempts(order.idempotency_key)
        made = [tried.token for tried in tries if tried.kind == "new" or tried.outcome == State.CONFIRMED]
        return OrderRef(order.broker_order_id, made[-1] if made else None)

    async def _unresolved(self, record: Record) -> bool:
        noted = await self._login.journal.store.run(
            lambda connection: journal.want_cancel(connection, record.key)
        )
        failpoint("cancel.wanted")
        record = await self._resolver.resolve_once(noted or record)
        if record.state in (State.UNKNOWN, State.SENDING):
            self._resolver.follow(record.key)
        undecided = record.state is State.UNKNOWN and record.order.broker_order_id
        if record.state is State.CONFIRMED or undecided:
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
                with contextlib.suppress(StateError):  # the cancel's answer stands without it
                    if (await self._login.ingest.observe([view])).lacking:
                        self._login.spawn(self._resolver.log_behind(view))
                asked = tried > 0 or isinstance(result, Unknown) or (order is not None and self._asked(order))
                return asked and view.status is OrderStatus.CANCELED
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
            with prioritised(Priority.CANCEL):
                result = await door.bounded(self._login.clock, door.WRITE, self._login.port.cancel_one(ref))
            known = isinstance(result, CancelResult)
            return result if known else Unknown(f"the adapter answered with {type(result).__name__}")
        # A reply that is lost in whatever way says nothing; reading the order does.
        except Exception as error:  # noqa: BLE001
            return Unknown(f"{type(error).__name__}: {error}")

    async def _read(self, ref: OrderRef) -> OrderView | None:
        try:
            return await door.look(self._login, ref, Priority.CANCEL)
        # Nor does a reading that fails.
        except Exception:  # noqa: BLE001
            return None

    async def _requested(self, order: Order | None, *, taken: bool) -> None:
        """Remember that we asked, and whether the venue took it."""
        if order is not None:
            key = order.idempotency_key
            try:
                await self._login.log.transact(lambda log: _mark(log, key, taken=taken))
            except StateError:
                self._unwritten.add(key)


def _one_of_several(record: Record, order_id: str) -> bool:
    """Tell whether one venue order was named of a key that has more than one: that one is meant."""
    return record.state is State.DUPLICATE and order_id in record.order.broker_order_ids


def _mark(log: Appender, key: str, *, taken: bool) -> None:
    record = journal.get(log.connection, key)
    if record is None:
        return
    order = record.order.evolve(cancel_requested=True)
    if taken and order.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING_NEW):
        order = order.evolve(status=OrderStatus.PENDING_CANCEL, raw_status=None)
    if (order.status, order.cancel_requested) != (record.order.status, record.order.cancel_requested):
        write_record(log, record, replace(record, order=order))
