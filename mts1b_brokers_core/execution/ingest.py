"""The one door for what the venue reports: executions and order views into journal and log."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mts1b_brokers_core.foundation.errors import BrokerError
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Fill, Order, OrderStatus

from . import journal
from .eventlog import Appender, EventLog
from .journal import UNRESOLVED, Record, State
from .merge import Logged, apply
from .port import Execution, OrderRef, OrderView, VenueProfile


@dataclass(slots=True)
class Ingested:
    """What one call changed: the orders by key, and the views held back until their fills are here."""

    orders: dict[str, Order] = field(default_factory=dict)
    held: dict[str, OrderView] = field(default_factory=dict)
    new_fills: int = 0


class Ingest:
    """Deduplicates, numbers, attributes and merges; each call is one commit."""

    def __init__(self, log: EventLog, profile: VenueProfile) -> None:
        self._log = log
        self._profile = profile
        self._held: dict[str, OrderView] = {}

    @property
    def held(self) -> dict[str, OrderView]:
        """Terminal views by key whose last fills have not been logged yet."""
        return dict(self._held)

    async def observe(
        self, account_id: str, seen: Sequence[Execution | OrderView], *, release: bool = False
    ) -> Ingested:
        """Log what is new of what was seen, in order, and merge it into the journalled orders.

        A terminal view whose cumulative quantity exceeds the logged fills is held until they arrive;
        `release` lets it through with `fills_pending`.
        """
        held = dict(self._held)

        def work(connection: sqlite3.Connection, log: Appender) -> Ingested:
            result = Ingested()
            for item in seen:
                if isinstance(item, Execution):
                    self._execution(connection, log, account_id, item, result)
                else:
                    self._view(connection, log, account_id, item, result, release=release)
            for key in list(result.orders):
                if key in held and key not in result.held:
                    self._view(connection, log, account_id, held[key], result, release=False)
            return result

        result = await self._log.transact(work)
        for key in result.orders:
            self._held.pop(key, None)
        self._held.update(result.held)
        return result

    def _execution(
        self, connection: sqlite3.Connection, log: Appender, account_id: str, seen: Execution, into: Ingested
    ) -> None:
        if seen.fill_id is None:
            raise BrokerError(
                "the adapter reported an execution without an id, which its profile doesn't announce.",
                next_step="report this to the adapter's author",
            )
        account = seen.account_id or account_id
        if log.has_fill(account, seen.fill_id):
            return
        record = _named(connection, account, seen.ref)
        fill = log.fill(_fill(seen, record, account))
        into.new_fills += 1
        if record is None:
            return
        logged = record.logged.plus(fill)
        order = apply(record.order, fill, logged=logged)
        if seen.ref.broker_order_id:
            order = _bound(order, seen.ref.broker_order_id)
        # A fill proves that the venue took the order, whatever we knew before.
        state = State.CONFIRMED if record.state in (*UNRESOLVED, State.NOT_PLACED) else None
        if record.state is State.NOT_PLACED:
            log.event(EventKind.LATE, order, "a fill of an order that was taken for absent")
        self._write(connection, log, record, order, into, logged=logged, state=state)

    def _view(
        self,
        connection: sqlite3.Connection,
        log: Appender,
        account_id: str,
        view: OrderView,
        into: Ingested,
        *,
        release: bool,
    ) -> None:
        record = _named(connection, view.account_id or account_id, view.ref)
        if record is None or record.state in (State.REJECTED, State.AMBIGUOUS, State.DUPLICATE):
            return
        missing = (view.cumulative_quantity or 0) > record.logged.quantity
        if view.status.final and missing and not release:
            into.held[record.key] = view
            working = OrderStatus.PARTIALLY_FILLED if view.cumulative_quantity else OrderStatus.NEW
            view = replace(view, status=working)
        order = apply(record.order, view, reopens=self._profile.reopens)
        if missing and release:
            order = order.evolve(fills_pending=True)
        state = None
        if view.decided and record.state in (State.SENDING, State.UNKNOWN, State.NOT_PLACED):
            state = State.REJECTED if view.status is OrderStatus.REJECTED else State.CONFIRMED
            if record.state is State.NOT_PLACED:
                log.event(EventKind.LATE, order, "an order that was taken for absent is at the venue")
        if order is not record.order or state is not None:
            self._write(connection, log, record, order, into, logged=record.logged, state=state)

    def _write(
        self,
        connection: sqlite3.Connection,
        log: Appender,
        record: Record,
        order: Order,
        into: Ingested,
        *,
        logged: Logged,
        state: State | None,
    ) -> None:
        write_order(connection, log, record, order, logged=logged, state=state)
        into.orders[record.key] = order


def write_order(
    connection: sqlite3.Connection,
    log: Appender,
    record: Record,
    order: Order,
    *,
    logged: Logged,
    state: State | None = None,
    reason: str | None = None,
    words: str | None = None,
) -> Order:
    """Write an order's new state with the events that tell of it, and settle it where it adds up."""
    complete = order.is_final and logged.quantity == order.filled_quantity
    was = record.order
    order = order.evolve(settled=complete, fills_pending=order.fills_pending and not complete)
    journal.put(
        connection, record, log.now_ns, order=order, state=state, logged=logged, reason=reason, words=words
    )
    if len(order.broker_order_ids) > len(was.broker_order_ids) > 0:
        log.event(EventKind.BOUND, order, order.broker_order_ids[-1])
    if order.status is not was.status:
        log.event(EventKind.STATUS, order, str(order.status))
    if order.settled and not was.settled:
        log.event(EventKind.SETTLED, order)
    return order


def _bound(order: Order, broker_order_id: str) -> Order:
    return apply(order, OrderView(OrderRef(broker_order_id), order.status or OrderStatus.NEW))


def _named(connection: sqlite3.Connection, account_id: str, ref: OrderRef) -> Record | None:
    for name in (ref.broker_order_id, ref.token):
        if name and (record := journal.named(connection, account_id, name)) is not None:
            return record
    return None


def fill_of(connection: sqlite3.Connection, seen: Execution, account_id: str) -> Fill:
    """Return an execution as a fill that is not numbered yet, attributed to our order where it is ours."""
    return _fill(seen, _named(connection, seen.account_id or account_id, seen.ref), account_id)


def _fill(seen: Execution, record: Record | None, account_id: str) -> Fill:
    return Fill(
        fill_id=seen.fill_id or "",
        kind=seen.kind,
        corrects=seen.corrects,
        order_id=record.order.order_id if record else (seen.ref.broker_order_id or seen.ref.token or ""),
        broker_order_id=seen.ref.broker_order_id,
        account_id=account_id,
        symbol=seen.symbol,
        leg=seen.leg,
        side=seen.side,
        quantity=seen.quantity,
        price=seen.price,
        fees=seen.fees,
        fee_status=seen.fee_status,
        liquidity=seen.liquidity,
        executed_at=seen.executed_at,
        source=seen.source,
        evidence=seen.evidence,
    )
