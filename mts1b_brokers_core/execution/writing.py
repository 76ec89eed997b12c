"""How an order's new state is written: into the journal, with the events that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import OrderStatus

from . import journal
from .bodies import fingerprint
from .eventlog import Appender
from .journal import Record, State
from .merge import Part, apply
from .port import OrderRef, OrderView


def write_record(log: Appender, was: Record, now: Record, *, settle: bool = True) -> Record:
    """Write a key's new row with the events that tell of it, and settle its order where that adds up.

    `settle` False leaves it unsettled although it adds up: after a bust the venue has to be asked.
    """
    now = tell(log, was, now, settle=settle)
    return journal.put(log.connection, was, now, log.now_ns)


def tell(log: Appender, was: Record, now: Record, *, settle: bool = True) -> Record:
    """Log the events that tell of a key's new row, and return the row as it is to be written."""
    now = _with_earlier_fills(log, was, now)
    complete = now.order.is_final and now.logged.quantity == now.order.filled_quantity
    if now.order.fills_pending:  # its count isn't known: what is logged need not be all of it
        complete = complete and not _short(now)
    settled = complete and settle and now.state is not State.DUPLICATE
    if settled and not was.order.settled:
        settled = not journal.doubted(log.connection, now.key)
    pending = now.order.fills_pending and not complete
    absent = now.state is State.NOT_PLACED
    if (settled, pending) != (now.order.settled, now.order.fills_pending):
        now = replace(now, order=now.order.evolve(settled=settled, fills_pending=pending))
    if now.certainty and not absent:
        now = replace(now, certainty=None)
    order = now.order
    log.bound = log.bound or order.broker_order_ids != was.order.broker_order_ids
    if len(order.broker_order_ids) > len(was.order.broker_order_ids) > 0:
        log.event(EventKind.BOUND, order, order.broker_order_ids[-1])
    became_absent = absent and was.state is not State.NOT_PLACED
    if order.status is not was.order.status or became_absent:
        log.event(EventKind.STATUS, order, str(now.state if became_absent else order.status))
    if order.settled and not was.order.settled:
        log.event(EventKind.SETTLED, order)
    found = now.state is State.CONFIRMED is not was.state
    bound = now.state is State.UNKNOWN and order.broker_order_id not in (None, was.order.broker_order_id)
    if now.cancel_wanted and (found or bound) and not order.is_final:
        log.cancels_due.append(order)
    return now


def _short(record: Record) -> bool:
    """Tell whether an order that the venue calls filled lacks fills by its own quantity."""
    order = record.order
    if order.status is not OrderStatus.FILLED or len(order.broker_order_ids) > 1 or order.legs:
        return False
    return record.logged.quantity < (order.quantity or 0)


def _with_earlier_fills(log: Appender, was: Record, now: Record) -> Record:
    """Count what was logged of venue ids before they were known to be this order's."""
    for name in now.order.broker_order_ids:
        if name in was.order.broker_order_ids:
            continue
        logged, order = now.logged.under(name), now.order
        earlier = [fill for fill in log.rows.fills_at(now.account_id, name) if fill.order_id == name]
        for fill in earlier:
            logged = logged.plus(name, Part.of(fill))
            order = apply(order, fill, logged=logged.total)
        if earlier:
            log.event(EventKind.BOUND, order, name, fills=str(len(earlier)))
        if logged is not now.logged or order is not now.order:
            now = replace(now, logged=logged, order=order)
    return now


def bind_children(log: Appender, record: Record, refs: Sequence[OrderRef]) -> None:
    """Let the venue's orders below a bracket be orders of their own, each under the key it was given."""
    parent, account_id = record.order, record.account_id
    for child, ref in zip(parent.attached, refs, strict=False):
        known = journal.get(log.connection, child.idempotency_key)
        if known is None:
            order = child.evolve(
                account_id=account_id, broker=parent.broker, created_at=parent.created_at,
                submitted_at=parent.submitted_at,
            )  # fmt: skip
            mark = fingerprint(child, account_id)
            found = Record(child.idempotency_key, mark, account_id, State.CONFIRMED, order)
            known = journal.adopt(log.connection, found, log.now_ns)
        if known is not None and ref.broker_order_id not in known.order.broker_order_ids:
            order = apply(known.order, OrderView(ref, OrderStatus.NEW))
            write_record(log, known, replace(known, order=order, state=State.CONFIRMED))
