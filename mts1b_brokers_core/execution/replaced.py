"""What a change that was made leaves of an order, told by its reply or by a later sight."""

from __future__ import annotations

from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, OrderStatus

from . import journal
from .eventlog import Appender
from .journal import Record, State
from .merge import apply
from .port import Ack, OrderRef, OrderView, Ticket

#: How long the order of a change under a new id may take to show.
_SHOWN_NS = 15 * 60 * 1_000_000_000


def changed(order: Order, ticket: Ticket, changes: OrderChanges, ack: Ack) -> Order:
    """Return the order as the venue's acknowledgement of a change leaves it."""
    sent = {name: getattr(ticket.order, name) for name in changes.given()}
    order = order.evolve(**sent, adjustments=ticket.order.adjustments)
    new_id = ack.ref.broker_order_id
    view = ack.echo or OrderView(ack.ref, order.status or OrderStatus.NEW)
    if new_id and order.broker_order_id and new_id != order.broker_order_id:
        order = apply(order, OrderView(OrderRef(order.broker_order_id), view.status, replaced_by=new_id))
    return apply(order, view)


def change_seen(log: Appender, record: Record, order: Order, view: OrderView, *, renames: bool) -> Order:
    """Let a sight of an order confirm a change of it whose reply was lost.

    `renames` says that the venue makes a change by cancelling the order for one under a new id.
    """
    for tried in journal.open_changes(log.connection, record.key):
        given = OrderChanges.model_validate_json(tried.body).given()
        shown = {name: getattr(view.terms, name, None) for name in given}
        if (
            tried.outcome is None
            or shown != given
            or all(getattr(order, name) == given[name] for name in given)
        ):
            # Still being made, not shown, or shown before it was asked for; but an order that ended as it
            # was is changed no more, unless a change under a new id is what ended it: that one shows in time.
            ended = view.status.final and view.replaced_by is None
            renamed = renames and view.status is OrderStatus.CANCELED and log.now_ns < tried.t0_ns + _SHOWN_NS
            if tried.outcome is not None and ended and not renamed:
                told = (tried.n, str(State.NOT_PLACED), "the order ended without it")
                journal.finish_attempt(log.connection, record.key, *told)
            continue
        order = order.evolve(**given)
        journal.finish_attempt(log.connection, record.key, tried.n, str(State.CONFIRMED), "seen at the venue")
        log.event(EventKind.REPLACED, order, ", ".join(sorted(given)))
    return order
