"""The one door for what the venue reports: executions and order views into journal and log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mts1b_brokers_core.foundation.errors import BrokerError
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Fill, FillKind, Order, OrderStatus
from mts1b_brokers_core.platform.failpoints import failpoint

from . import journal
from .eventlog import Appender, EventLog
from .journal import OPEN_QUESTIONS, Record, State
from .merge import apply
from .port import Execution, OrderRef, OrderView, VenueProfile
from .writing import bind_children, write_record

_FOR_A_PERSON = (State.REJECTED, State.AMBIGUOUS, State.DUPLICATE)


@dataclass(slots=True)
class Ingested:
    """What one call changed.

    `held` are terminal views kept back until their fills are here, `lacking` all orders of which the
    venue counts more than is logged, both by key.
    """

    orders: dict[str, Order] = field(default_factory=dict)
    held: dict[str, OrderView] = field(default_factory=dict)
    lacking: dict[str, OrderRef] = field(default_factory=dict)


class Ingest:
    """Deduplicates, numbers, attributes and merges; each call is one commit."""

    def __init__(self, log: EventLog, profile: VenueProfile, account_id: str) -> None:
        self._log = log
        self._profile = profile
        self._account_id = account_id
        self._held: dict[str, OrderView] = {}
        #: Called with a key when a terminal status begins to wait for its last fills.
        self.on_held: Callable[[str], None] | None = None

    @property
    def held(self) -> dict[str, OrderView]:
        """Terminal views by key whose last fills have not been logged yet."""
        return dict(self._held)

    async def observe(self, seen: Sequence[Execution | OrderView], *, release: bool = False) -> Ingested:
        """Log what is new of what was seen, in order, and merge it into the journalled orders.

        A terminal view whose cumulative quantity exceeds the logged fills is held until they arrive;
        `release` lets it through with `fills_pending`.
        """
        if not seen:
            return Ingested()
        held = dict(self._held)

        def work(log: Appender) -> Ingested:
            one = _Transaction(log, self._account_id, self._profile, release=release)
            for item in seen:
                if isinstance(item, Execution):
                    one.execution(item)
                else:
                    one.view(item)
            waiting = held | one.result.held
            for key in waiting.keys() & one.result.orders.keys():
                one.result.held.pop(key, None)
                one.view(waiting[key])
            failpoint("fill.uncommitted")
            return one.result

        result = await self._log.transact(work)
        for key in result.orders:
            self._held.pop(key, None)
        for key, view in result.held.items():
            begins = key not in held
            self._held[key] = view
            if begins and self.on_held is not None:
                self.on_held(key)
        return result


class _Transaction:
    """One commit's worth of merging."""

    def __init__(self, log: Appender, account_id: str, profile: VenueProfile, *, release: bool) -> None:
        self._log = log
        self._account_id = account_id
        self._profile = profile
        self._release = release
        self.result = Ingested()

    def execution(self, seen: Execution) -> None:
        """Log one execution, unless it is logged, and count it to its order."""
        if seen.fill_id is None:
            raise BrokerError(
                "the adapter reported an execution without an id, which its profile doesn't announce.",
                next_step="report this to the adapter's author",
            )
        account = seen.account_id or self._account_id
        if self._log.has_fill(account, seen.fill_id):
            return
        record = journal.at_venue(self._log.connection, account, seen.ref)
        fill = self._log.fill(_fill(seen, record, account))
        if record is None:
            return
        logged = record.logged.plus(fill)
        order, state = self._bound(record, apply(record.order, fill, logged=logged), seen.ref, None)
        # A fill proves that the venue took the order, whatever we knew before.
        if state is None and record.state in OPEN_QUESTIONS:
            state = State.CONFIRMED
        self._late(record, order)
        now = replace(record, order=order, logged=logged, state=state or record.state)
        now = write_record(self._log, record, now, settle=fill.kind is not FillKind.BUST)
        self.result.orders[record.key] = now.order

    def view(self, view: OrderView) -> None:
        """Merge one order view into the order it shows, where that is one of ours."""
        record = journal.at_venue(self._log.connection, view.account_id or self._account_id, view.ref)
        if record is None or record.state in _FOR_A_PERSON:
            return
        order, state = self._bound(record, record.order, view.ref, view.replaced_by)
        if state is not State.DUPLICATE:
            shown = self._ready(record, view)
            order = apply(order, shown, reopens=self._profile.reopens)
            if shown is view and view.status.final and self._lacks(record, view):
                order = order.evolve(fills_pending=True)
            state = _state_seen(record, view)
            if state is not None:
                self._late(record, order)
        adds_up = order.is_final and not order.settled and view.cumulative_quantity == record.logged.quantity
        if order is not record.order or state is not None or adds_up:
            now = replace(record, order=order, state=state or record.state)
            record = write_record(self._log, record, now)
            self.result.orders[record.key] = record.order
        if view.children and record.order.attached:
            bind_children(self._log, record, [OrderRef(child) for child in view.children])

    def _ready(self, record: Record, view: OrderView) -> OrderView:
        """Return the view as it may be shown: an end waits until the fills before it are logged."""
        if not self._lacks(record, view):
            self.result.lacking.pop(record.key, None)
            return view
        self.result.lacking[record.key] = view.ref
        if not view.status.final or self._release:
            return view
        self.result.held[record.key] = view
        return replace(view, status=OrderStatus.PARTIALLY_FILLED, raw_status="")

    @staticmethod
    def _lacks(record: Record, view: OrderView) -> bool:
        return (view.cumulative_quantity or 0) > record.logged.quantity

    def _late(self, record: Record, order: Order) -> None:
        if record.state is State.NOT_PLACED:
            self._log.event(EventKind.LATE, order, "an order that was taken for absent is at the venue")

    def _bound(
        self, record: Record, order: Order, ref: OrderRef, replaced_by: str | None
    ) -> tuple[Order, State | None]:
        """Bind a venue id; one more id that nothing links to the first is a second order under the key."""
        new, known = ref.broker_order_id, order.broker_order_ids
        if new is None or new in known:
            return order, None
        if not known or replaced_by in known:
            return apply(order, OrderView(OrderRef(new), OrderStatus.UNKNOWN)), None
        if journal.open_changes(self._log.connection, record.key):  # it may be the changed order's own id
            current = OrderRef(order.broker_order_id)
            return apply(order, OrderView(current, OrderStatus.UNKNOWN, replaced_by=new)), None
        order = order.evolve(broker_order_ids=(*known, new))
        self._log.event(EventKind.DUPLICATE, order, f"{new} beside {order.broker_order_id}, under one key")
        return order, State.DUPLICATE


def _state_seen(record: Record, view: OrderView) -> State | None:
    """Return the state that a sight of the order brings its key to, or None where it stays."""
    if record.state not in OPEN_QUESTIONS:
        return None
    if not view.decided:
        return State.UNKNOWN
    return State.REJECTED if view.status is OrderStatus.REJECTED else State.CONFIRMED


def fill_of(connection: sqlite3.Connection, seen: Execution, account_id: str) -> Fill:
    """Return an execution as a fill that is not numbered yet, attributed to our order where it is ours."""
    account = seen.account_id or account_id
    return _fill(seen, journal.at_venue(connection, account, seen.ref), account)


def _fill(seen: Execution, record: Record | None, account_id: str) -> Fill:
    return Fill(
        fill_id=seen.fill_id or "", kind=seen.kind, corrects=seen.corrects, account_id=account_id,
        order_id=record.order.order_id if record else (seen.ref.broker_order_id or seen.ref.token or ""),
        broker_order_id=seen.ref.broker_order_id or (record.order.broker_order_id if record else None),
        symbol=seen.symbol, leg=seen.leg, side=seen.side, quantity=seen.quantity, price=seen.price,
        fees=seen.fees, fee_status=seen.fee_status, liquidity=seen.liquidity,
        executed_at=seen.executed_at, source=seen.source, evidence=seen.evidence,
    )  # fmt: skip
