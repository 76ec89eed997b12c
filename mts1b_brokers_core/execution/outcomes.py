"""What a reply means for an order and its key: pure."""

from __future__ import annotations

from dataclasses import replace

from mts1b_brokers_core.foundation.orders import OrderStatus

from .journal import Record, State
from .merge import apply, unfilled
from .port import Ack, NotPlaced, OrderView, PlaceResult, Rejected, Ticket


def meaning_of(result: PlaceResult) -> tuple[State, str]:
    """Return the state that a reply brings, and its cause in words."""
    if isinstance(result, Ack):
        return State.CONFIRMED, ""
    if isinstance(result, Rejected):
        return State.REJECTED, result.words
    return (State.NOT_PLACED if isinstance(result, NotPlaced) else State.UNKNOWN), result.cause


def answered(record: Record, ticket: Ticket, result: PlaceResult, reopens: frozenset[OrderStatus]) -> Record:
    """Return a key's row as the reply to an attempt leaves it."""
    order = record.order.evolve(
        account_id=ticket.account_id, submitted_at=ticket.t0, adjustments=ticket.order.adjustments
    )
    if not _tells(record.state, result):
        return replace(record, order=order)
    state, cause = meaning_of(result)
    if isinstance(result, Ack):
        view = result.echo or OrderView(result.ref, OrderStatus.NEW)
        if view.ref.broker_order_id is None:
            view = replace(view, ref=result.ref)
        known, name = order.broker_order_ids, view.ref.broker_order_id
        if known and name not in known:  # an earlier attempt's order was seen while this one was sent
            return replace(record, state=State.DUPLICATE, order=order.evolve(broker_order_ids=(*known, name)))
        return replace(record, state=state, order=apply(order, unfilled(view), reopens=reopens))
    if isinstance(result, Rejected):
        order = order.evolve(status=OrderStatus.REJECTED, reason=result.reason)
        return replace(record, state=state, order=order, reason=result.reason, words=cause)
    status = None if isinstance(result, NotPlaced) else OrderStatus.UNKNOWN
    certainty = "proven" if isinstance(result, NotPlaced) else None
    return replace(record, state=state, order=order.evolve(status=status), words=cause, certainty=certainty)


def _tells(state: State, result: PlaceResult) -> bool:
    """Tell whether a reply still says something: what was seen of the order meanwhile outweighs a mere no."""
    if state is State.DUPLICATE:
        return False
    asked = state is State.SENDING or (state is State.UNKNOWN and not isinstance(result, NotPlaced))
    return asked or isinstance(result, Ack)
