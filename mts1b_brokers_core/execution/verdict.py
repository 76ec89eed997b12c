"""What a look-up at the venue means for an order whose answer is missing: pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from mts1b_brokers_core.foundation.orders import Order, OrderStatus

from . import port
from .journal import State
from .merge import apply, unfilled


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a key stands by a look-up: `certainty` is that of an absence, `evidence` says why in words."""

    state: State
    evidence: str
    certainty: str | None = None
    view: port.OrderView | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """When a look-up was made: seconds since the attempt by a clock that never steps.

    `margin` is what visibility and the clocks may add, `window` the seconds after which the venue itself
    refuses the request, None where it never does.
    """

    age: float
    margin: float
    window: float | None = None


def verdict(
    ticket: port.Ticket,
    found: port.FindResult,
    asked: Asked,
    profile: port.VenueProfile,
    taken: Callable[[port.OrderView], bool],
) -> Verdict:
    """Say what a look-up means; `taken` tells the orders that are known to be another key's."""
    if isinstance(found, port.Inconclusive):
        return Verdict(State.UNKNOWN, f"inconclusive: {found.why}")
    if isinstance(found, port.Absent):
        return _absence(found.coverage, asked, profile)
    fitting = [view for view in found.views if _fits(ticket, view, profile) and not taken(view)]
    if fitting:
        return _sight(ticket, fitting)
    if found.coverage is None:
        return Verdict(State.UNKNOWN, "the look-up showed only other orders, and not what it covers")
    return _absence(found.coverage, asked, profile)


def _fits(ticket: port.Ticket, view: port.OrderView, profile: port.VenueProfile) -> bool:
    """Tell whether a venue order may be the ticket's: by token, or by terms and age where there is none."""
    if ticket.token is not None:
        return view.ref.token in (None, ticket.token)
    slack = timedelta(seconds=profile.clock_uncertainty)
    if view.created is not None and view.created < ticket.t0 - slack:
        return False
    return view.terms.contradicts(ticket.order) is None


def _sight(ticket: port.Ticket, views: list[port.OrderView]) -> Verdict:
    ids = tuple(view.ref.broker_order_id for view in views if view.ref.broker_order_id)
    if len(views) > 1:
        state = State.DUPLICATE if ticket.token else State.AMBIGUOUS
        return Verdict(state, f"several found: {', '.join(ids)}", ids=ids)
    view = views[0]
    name, difference = view.ref.broker_order_id, view.terms.contradicts(ticket.order)
    if difference:
        return Verdict(State.UNKNOWN, f"{name} was found, but {difference}", ids=ids)
    if not view.decided:
        evidence = f"found as {name}, not decided by the venue: {view.raw_status}"
        return Verdict(State.UNKNOWN, evidence, view=view, ids=ids)
    state = State.REJECTED if view.status is OrderStatus.REJECTED else State.CONFIRMED
    return Verdict(state, f"found as {name}: {view.status}", view=view, ids=ids)


def _absence(coverage: port.Coverage, asked: Asked, profile: port.VenueProfile) -> Verdict:
    where = ", ".join(coverage.sources)
    if not coverage.complete:
        return Verdict(State.UNKNOWN, f"not found, but {where} was not read completely")
    if profile.token.dedupes and profile.token.unique == "forever":
        return Verdict(State.NOT_PLACED, f"not in {where}; the venue dedupes the token", "proven")
    if profile.lookup_window is not None and asked.age > profile.lookup_window:
        return Verdict(State.UNKNOWN, f"not in {where}, which reach back {profile.lookup_window:.0f} s only")
    if asked.window is not None:
        if asked.age < asked.window + asked.margin:
            return Verdict(State.UNKNOWN, f"not in {where} yet; the venue may still take it")
        return Verdict(State.NOT_PLACED, f"not in {where} after the venue stopped taking it", "proven")
    if asked.age < asked.margin:
        return Verdict(State.UNKNOWN, f"not in {where} yet")
    return Verdict(State.NOT_PLACED, f"not in {where}; it could still arrive", "probable")


def after(order: Order, told: Verdict) -> Order:
    """Return the order as a verdict leaves it; fills, and an end after them, come by the fill log's door."""
    if told.state is State.DUPLICATE:
        return order.evolve(broker_order_ids=told.ids, broker_order_id=told.ids[0] if told.ids else None)
    if told.view is not None:
        return apply(order, unfilled(told.view))
    if told.certainty == "proven":
        return order.evolve(status=None, raw_status=None)
    return order.evolve(status=OrderStatus.UNKNOWN, raw_status=None)


def by_hand(order: Order, view: port.OrderView | None) -> Order:
    """Return the order as a person's word leaves it: it is that venue order, or it isn't there."""
    if view is None:
        return order.evolve(status=None, raw_status=None)
    name = view.ref.broker_order_id
    ids = order.broker_order_ids if name in order.broker_order_ids else (*order.broker_order_ids, str(name))
    bound = order.evolve(broker_order_id=name, broker_order_ids=ids)
    return apply(bound, replace(unfilled(view), replaced_by=None))
