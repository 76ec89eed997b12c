"""How an order's new state is written: into the journal, with the events that tell of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Order, OrderStatus

from . import journal
from .bodies import fingerprint
from .eventlog import Appender
from .journal import Record, State
from .merge import Logged, apply
from .port import OrderRef, OrderView


def write_order(
    connection: sqlite3.Connection,
    log: Appender,
    record: Record,
    order: Order,
    *,
    logged: Logged,
    state: State | None = None,
    certainty: str | None = None,
    reason: str | None = None,
    words: str | None = None,
    settle: bool = True,
) -> Record:
    """Write an order's new state with the events that tell of it, and settle it where it adds up.

    `settle` False leaves it unsettled although it adds up: after a bust the venue has to be asked.
    """
    complete = order.is_final and logged.quantity == order.filled_quantity
    was = record.order
    order = order.evolve(
        settled=complete and settle and (state or record.state) is not State.DUPLICATE,
        fills_pending=order.fills_pending and not complete,
    )
    written = journal.put(
        connection, record, log.now_ns, order=order, state=state, logged=logged, certainty=certainty,
        reason=reason, words=words,
    )  # fmt: skip
    if len(order.broker_order_ids) > len(was.broker_order_ids) > 0:
        log.event(EventKind.BOUND, order, order.broker_order_ids[-1])
    absent = written.state is State.NOT_PLACED is not record.state
    if order.status is not was.status or absent:
        log.event(EventKind.STATUS, order, str(written.state if absent else order.status))
    if order.settled and not was.settled:
        log.event(EventKind.SETTLED, order)
    if written.cancel_wanted and state is State.CONFIRMED is not record.state and not order.is_final:
        log.cancels_due.append(order)
    return written


def bind_children(
    connection: sqlite3.Connection, log: Appender, record: Record, refs: Sequence[OrderRef]
) -> None:
    """Let the venue's orders below a bracket be orders of their own, each under the key it was given."""
    for child, ref in zip(record.order.attached, refs, strict=False):
        known = journal.get(connection, child.idempotency_key)
        if known is None:
            order = child.evolve(account_id=record.account_id, submitted_at=record.order.submitted_at)
            mark = fingerprint(child, record.account_id)
            known = journal.adopt(connection, order, mark, record.account_id, log.now_ns)
        if known is not None and ref.broker_order_id not in known.order.broker_order_ids:
            order = apply(known.order, OrderView(ref, OrderStatus.NEW))
            write_order(connection, log, known, order, logged=known.logged, state=State.CONFIRMED)
