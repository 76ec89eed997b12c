"""What a reply means for an order and its key: pure."""

from __future__ import annotations

from dataclasses import replace

from mts1b_brokers_core.foundation.orders import Order, OrderStatus

from .journal import State
from .merge import apply, unfilled
from .port import Ack, NotPlaced, OrderView, PlaceResult, Rejected, Ticket


def as_sent(order: Order, ticket: Ticket) -> Order:
    """Return an order as it was sent."""
    return order.evolve(
        account_id=ticket.account_id, submitted_at=ticket.t0, adjustments=ticket.order.adjustments
    )


def still_tells(state: State, result: PlaceResult) -> bool:
    """Tell whether an answer other than an acknowledgement still says something about the key."""
    return state is State.SENDING or (state is State.UNKNOWN and not isinstance(result, NotPlaced))


def certainty_of(state: State) -> str | None:
    """Return how sure the absence is that a reply alone tells."""
    return "proven" if state is State.NOT_PLACED else None


def outcome_of(
    known: Order, ticket: Ticket, result: PlaceResult, reopens: frozenset[OrderStatus]
) -> tuple[State, Order, str | None, str | None]:
    """Return the state, order, reason and words that a reply means: pure."""
    order = as_sent(known, ticket)
    if isinstance(result, Ack):
        view = result.echo or OrderView(result.ref, OrderStatus.NEW)
        if view.ref.broker_order_id is None:
            view = replace(view, ref=result.ref)
        return State.CONFIRMED, apply(order, unfilled(view), reopens=reopens), None, None
    if isinstance(result, Rejected):
        refused = order.evolve(status=OrderStatus.REJECTED, reason=result.reason)
        return State.REJECTED, refused, result.reason, result.words
    if isinstance(result, NotPlaced):
        return State.NOT_PLACED, order.evolve(status=None), None, result.cause
    return State.UNKNOWN, order.evolve(status=OrderStatus.UNKNOWN), None, result.cause
