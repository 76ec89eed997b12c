"""What a look-up at the venue means for an order whose answer is missing: pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """When a look-up was made, in seconds since the attempt: at least `age`, at most `oldest`.

    `slack` is what the venue's clock and ours may be apart, `window` the seconds after which the venue
    itself refuses the request, None where it never does.
    """

    age: float
    oldest: float
    slack: float
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
    if isinstance(found, port.Found):
        # Several sources may each show the same order.
        views = {view.ref.broker_order_id: view for view in found.views if not taken(view)}
        fitting = candidates(ticket, list(views.values()), timedelta(seconds=asked.slack))
        if fitting:
            return _sight(ticket, fitting)
    if found.coverage is None:
        return Verdict(State.UNKNOWN, "the look-up showed only other orders, and not what it covers")
    return _absence(ticket, found.coverage, asked, profile)


def candidates(
    ticket: port.Ticket, views: Sequence[port.OrderView], slack: timedelta
) -> list[port.OrderView]:
    """Return the orders that may be the ticket's: by token, or by terms and age of those that show none."""
    named = [view for view in views if ticket.token and view.ref.token == ticket.token]
    return named or [
        view for view in views
        if (ticket.token is None or view.ref.token is None)
        and (view.created is None or view.created >= ticket.t0 - slack)
        and view.terms.contradicts(ticket.order) is None
        and _sized_alike(view.terms, ticket.order)
    ]  # fmt: skip


def _sized_alike(shown: port.Terms, order: Order) -> bool:
    """Tell whether an order shown may be sized as ours: units are no amount, an amount is no units."""
    if order.quantity is None:
        return shown.quantity is None or shown.quote_quantity is not None
    return shown.quantity is not None or shown.quote_quantity is None


def _sight(ticket: port.Ticket, views: list[port.OrderView]) -> Verdict:
    ids = tuple(view.ref.broker_order_id for view in views if view.ref.broker_order_id)
    if len(views) > 1:
        state = State.DUPLICATE if views[0].ref.token and ticket.token else State.AMBIGUOUS
        return Verdict(state, f"several found: {', '.join(ids)}", ids=ids)
    view = views[0]
    name, difference = view.ref.broker_order_id, view.terms.contradicts(ticket.order)
    if difference:
        return Verdict(State.UNKNOWN, f"{name} was found, but {difference}", ids=ids)
    if not view.decided:
        evidence = f"found as {name}, not decided by the venue: {view.raw_status}"
        return Verdict(State.UNKNOWN, evidence, view=view, ids=ids)
    return Verdict(state_of(view), f"found as {name}: {view.status}", view=view, ids=ids)


def state_of(view: port.OrderView) -> State:
    """Return the state of a key whose order the venue has decided about."""
    return State.REJECTED if view.status is OrderStatus.REJECTED else State.CONFIRMED


def _absence(
    ticket: port.Ticket, coverage: port.Coverage, asked: Asked, profile: port.VenueProfile
) -> Verdict:
    where, margin = ", ".join(coverage.sources), profile.visibility + asked.slack
    if unread := ", ".join(sorted(profile.sources.difference(coverage.sources))):
        return Verdict(State.UNKNOWN, f"not found, but {unread} was not read")
    if not coverage.sources:
        return Verdict(State.UNKNOWN, "not found, but the look-up names no source that it read")
    if not coverage.complete or (coverage.since is not None and coverage.since > ticket.t0):
        return Verdict(State.UNKNOWN, f"not found, but {where} was not read completely")
    if profile.token.dedupes and profile.token.unique == "forever":
        return Verdict(State.NOT_PLACED, f"not in {where}; the venue dedupes the token", "proven")
    if profile.lookup_window is not None and asked.oldest > profile.lookup_window:
        return Verdict(State.UNKNOWN, f"not in {where}, which reach back {profile.lookup_window:.0f} s only")
    if asked.window is not None:
        if asked.age < asked.window + margin:
            return Verdict(State.UNKNOWN, f"not in {where} yet; the venue may still take it")
        return Verdict(State.NOT_PLACED, f"not in {where} after the venue stopped taking it", "proven")
    if asked.age < margin:
        return Verdict(State.UNKNOWN, f"not in {where} yet")
    return Verdict(State.NOT_PLACED, f"not in {where}; it could still arrive", "probable")


def after(order: Order, told: Verdict) -> Order:
    """Return the order as a verdict leaves it; fills, and an end after them, come by the fill log's door."""
    if told.state is State.DUPLICATE:
        return order.evolve(broker_order_ids=told.ids, broker_order_id=told.ids[0] if told.ids else None)
    if told.view is not None:
        return apply(order, unfilled(told.view))
    if told.state is State.NOT_PLACED:
        return absent(order, None if told.certainty == "proven" else OrderStatus.UNKNOWN)
    return order.evolve(status=OrderStatus.UNKNOWN, raw_status=None)


def absent(order: Order, status: OrderStatus | None = None) -> Order:
    """Return the order as one the venue doesn't have: an id shown while it was undecided is none of it."""
    return order.evolve(status=status, raw_status=None, broker_order_id=None, broker_order_ids=())


def by_hand(order: Order, view: port.OrderView | None) -> Order:
    """Return the order as a person's word leaves it: it is that venue order, or it isn't there."""
    if view is None:
        return absent(order)
    name = view.ref.broker_order_id
    ids = order.broker_order_ids if name in order.broker_order_ids else (*order.broker_order_ids, str(name))
    bound = order.evolve(broker_order_id=name, broker_order_ids=ids)
    return apply(bound, replace(unfilled(view), replaced_by=None))
