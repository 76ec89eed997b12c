"""What became of an order whose answer is missing. A resolver reads; it never sends."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Order, OrderStatus
from mts1b_brokers_core.platform.clock import from_ns

from . import journal, port
from .eventlog import Appender
from .journal import Attempt, Record, State
from .login import Login
from .merge import apply, unfilled
from .writing import bind_children, write_record

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0
#: The state, the certainty of an absence, and the evidence in words.
Verdict = tuple[State, str | None, str]
_ASKABLE = (State.UNKNOWN, State.SENDING)


class Resolver:
    """Asks the venue and writes the verdict, with its evidence, by the journal's state machine."""

    def __init__(self, login: Login) -> None:
        self._login = login

    async def resolve_once(self, record: Record, *, abandoned: bool = False) -> Record:
        """Ask the venue once about a key's latest attempt and write what that settles.

        An attempt being sent is left to its owner while that lives, unless it was `abandoned`.
        """
        if record.state not in _ASKABLE:
            return record
        latest = self._login.attempts(record.key)[-1]
        if record.state is State.SENDING and not abandoned and not self._login.owner.is_dead(latest.owner):
            return record
        return await self._ask(record, latest)

    async def _ask(self, record: Record, attempt: Attempt) -> Record:
        ticket = port.Ticket(
            order=record.order,
            account_id=record.account_id,
            token=attempt.token,
            attempt=attempt.n,
            t0=from_ns(attempt.t0_ns),
            not_after=None if attempt.not_after_ns is None else from_ns(attempt.not_after_ns),
        )
        asked_at = self._login.clock.now()
        try:
            found = await self._login.port.find(ticket)
        # A look-up that fails in any way says nothing about the order.
        except Exception as error:  # noqa: BLE001
            found = port.Inconclusive(f"{type(error).__name__}: {error}")
        settled = await self._login.log.transact(
            lambda log: self._write(log, attempt, ticket, found, asked_at)
        )
        if settled.state is State.CONFIRMED and isinstance(found, port.Found):
            settled = await self.catch_up(settled, found.views[0])
        return settled

    async def catch_up(self, record: Record, view: port.OrderView) -> Record:
        """Log the executions behind a view, then the view itself, so that its status follows its fills.

        Where they can't be read now, an end shown by the view waits for them like any other.
        """
        fills: tuple[port.Execution, ...] = ()
        try:
            fills = (await self._login.port.executions_of([view.ref])).rows
        # The order itself is found; its fills come by the stream or by the next read.
        except Exception as error:  # noqa: BLE001
            self._login.log.observed(
                EventKind.UNREADABLE, f"executions of {view.ref.broker_order_id}: {error}"
            )
        await self._login.ingest.observe([*fills, view])
        return self._login.record(record.key) or record

    async def until_resolved(self, record: Record) -> Record:
        """Ask again, ever more slowly, until the key is no open question any more."""
        wait = _FIRST_WAIT
        while True:
            record = await self.resolve_once(self._login.record(record.key) or record)
            if record.state not in _ASKABLE:
                return record
            await self._login.clock.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _write(
        self, log: Appender, attempt: Attempt, ticket: port.Ticket, found: port.FindResult, asked_at: datetime
    ) -> Record:
        record = journal.get(log.connection, attempt.key)
        assert record is not None
        latest = journal.attempts(log.connection, attempt.key)[-1]
        if record.state not in _ASKABLE or latest.n != attempt.n:
            return record  # settled, or tried again, while we asked
        state, certainty, evidence = self.verdict(ticket, found, asked_at)
        order = _after(record.order, ticket, found, state, certainty)
        journal.finish_attempt(log.connection, attempt.key, attempt.n, str(state), evidence)
        record = write_record(log, record, replace(record, order=order, state=state, certainty=certainty))
        if state is State.DUPLICATE:
            log.event(EventKind.DUPLICATE, order, evidence)
        if state is State.CONFIRMED and isinstance(found, port.Found) and order.attached:
            bind_children(log, record, [port.OrderRef(child) for child in found.views[0].children])
        return record

    def verdict(self, ticket: port.Ticket, found: port.FindResult, asked_at: datetime) -> Verdict:
        """Say what a look-up means."""
        if isinstance(found, port.Found):
            return _sight(ticket, found)
        if isinstance(found, port.Absent):
            return self._absence(ticket, found.coverage, asked_at)
        return State.UNKNOWN, None, f"inconclusive: {found.why}"

    def _absence(self, ticket: port.Ticket, coverage: port.Coverage, asked_at: datetime) -> Verdict:
        profile = self._login.port.profile
        where = ", ".join(coverage.sources)
        if not coverage.complete:
            return State.UNKNOWN, None, f"not found, but {where} was not read completely"
        if profile.token.dedupes and profile.token.unique == "forever":
            return State.NOT_PLACED, "proven", f"not in {where}; the venue dedupes the token"
        margin = timedelta(seconds=profile.visibility + profile.clock_uncertainty)
        read_at = coverage.as_of or asked_at
        if ticket.not_after is not None:
            if read_at < ticket.not_after + margin:
                return State.UNKNOWN, None, f"not in {where} yet; the venue may still take it"
            return State.NOT_PLACED, "proven", f"not in {where} after the venue stopped taking it"
        if read_at < ticket.t0 + margin:
            return State.UNKNOWN, None, f"not in {where} yet"
        return State.NOT_PLACED, "probable", f"not in {where}; it could still arrive"


def _sight(ticket: port.Ticket, found: port.Found) -> Verdict:
    if len(found.views) > 1:
        ids = ", ".join(str(view.ref.broker_order_id) for view in found.views)
        return (State.DUPLICATE if ticket.token else State.AMBIGUOUS), None, f"several found: {ids}"
    view = found.views[0]
    difference = view.terms.contradicts(ticket.order)
    if difference:
        return State.UNKNOWN, None, f"{view.ref.broker_order_id} was found, but {difference}"
    if not view.decided:
        return State.UNKNOWN, None, f"found, not decided by the venue: {view.raw_status}"
    state = State.REJECTED if view.status is OrderStatus.REJECTED else State.CONFIRMED
    return state, None, f"found as {view.ref.broker_order_id}: {view.status}"


def _after(
    order: Order, ticket: port.Ticket, found: port.FindResult, state: State, certainty: str | None
) -> Order:
    """Return the order as a look-up leaves it; fills, and an end after them, come by the fill log's door."""
    if isinstance(found, port.Found) and state is State.DUPLICATE:
        ids = tuple(view.ref.broker_order_id for view in found.views if view.ref.broker_order_id)
        return order.evolve(broker_order_ids=ids, broker_order_id=ids[0] if ids else None)
    if isinstance(found, port.Found) and state is not State.AMBIGUOUS:
        view = found.views[0]
        return order if view.terms.contradicts(ticket.order) else apply(order, unfilled(view))
    if certainty == "proven":
        return order.evolve(status=None, raw_status=None)
    return order.evolve(status=OrderStatus.UNKNOWN, raw_status=None)
