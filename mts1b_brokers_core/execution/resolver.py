"""What became of an order whose answer is missing. A resolver reads; it never sends."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import OrderStatus
from mts1b_brokers_core.platform.clock import from_ns

from . import journal
from .eventlog import Appender, EventLog
from .ingest import Ingest, write_order
from .journal import Attempt, Journal, Record, State
from .merge import apply
from .ownership import Owner
from .port import Absent, FindResult, Found, Inconclusive, OrderView, Ticket, VenuePort

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0


class Resolver:
    """Asks the venue and writes the verdict, with its evidence, by the journal's state machine."""

    def __init__(
        self, port: VenuePort, journal_: Journal, log: EventLog, ingest: Ingest, *, owner: Owner, clock: Clock
    ) -> None:
        self._port = port
        self._ingest = ingest
        self._journal = journal_
        self._log = log
        self._owner = owner
        self._clock = clock

    async def resolve_once(self, record: Record) -> Record:
        """Ask the venue once about a key's latest attempt and write what that settles."""
        tries = await self._journal.store.run(lambda connection: journal.attempts(connection, record.key))
        latest = tries[-1]
        if record.state is State.SENDING and not self._owner.is_dead(latest.owner):
            return record
        return await self._ask(record, latest)

    async def _ask(self, record: Record, attempt: Attempt) -> Record:
        ticket = Ticket(
            order=record.order,
            account_id=record.account_id,
            token=attempt.token,
            attempt=attempt.n,
            t0=from_ns(attempt.t0_ns),
            not_after=None if attempt.not_after_ns is None else from_ns(attempt.not_after_ns),
        )
        try:
            found = await self._port.find(ticket)
        # A look-up that fails in any way says nothing about the order.
        except Exception as error:  # noqa: BLE001
            found = Inconclusive(f"{type(error).__name__}: {error}")
        settled = await self._log.transact(
            lambda connection, log: self._write(connection, log, record.key, attempt, ticket, found)
        )
        if settled.state is State.CONFIRMED and isinstance(found, Found):
            await self._catch_up(settled, found.views[0])
            settled = await self._log.record(settled.key) or settled
        return settled

    async def _catch_up(self, record: Record, view: OrderView) -> None:
        listing = await self._port.executions_of([view.ref])
        await self._ingest.observe(record.account_id, [*listing.rows, view])

    async def until_resolved(self, record: Record) -> Record:
        """Ask again, ever more slowly, until the key is confirmed, rejected or not placed."""
        wait = _FIRST_WAIT
        while True:
            record = await self._log.record(record.key) or record
            if record.state in (State.UNKNOWN, State.SENDING):
                record = await self.resolve_once(record)
            if record.state not in (State.UNKNOWN, State.SENDING):
                return record
            await self._clock.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _write(
        self,
        connection: sqlite3.Connection,
        log: Appender,
        key: str,
        attempt: Attempt,
        ticket: Ticket,
        found: FindResult,
    ) -> Record:
        record = journal.get(connection, key)
        assert record is not None
        if record.state not in (State.UNKNOWN, State.SENDING, State.NOT_PLACED):
            return record
        state, certainty, evidence = self.verdict(ticket, found)
        order = record.order
        if isinstance(found, Found) and len(found.views) == 1:
            if order.status is OrderStatus.UNKNOWN:
                order = order.evolve(status=None)
            # This binds the id; what was filled, and a final status after it, come by the fill log's door.
            bound = replace(found.views[0], cumulative_quantity=None, status=_working(found.views[0].status))
            order = apply(order, bound, reopens=self._port.profile.reopens)
        journal.finish_attempt(connection, key, attempt.n, str(state), evidence)
        write_order(connection, log, record, order, logged=record.logged, state=state)
        if certainty:
            journal.set_certainty(connection, key, certainty)
        if state is State.DUPLICATE:
            log.event(EventKind.DUPLICATE, order, evidence)
        updated = journal.get(connection, key)
        assert updated is not None
        return updated

    def verdict(self, ticket: Ticket, found: FindResult) -> tuple[State, str | None, str]:
        """Say what a look-up means: the state, the certainty of an absence, and the evidence in words."""
        if isinstance(found, Found):
            if len(found.views) > 1:
                ids = ", ".join(str(view.ref.broker_order_id) for view in found.views)
                return (State.DUPLICATE if ticket.token else State.AMBIGUOUS), None, f"several found: {ids}"
            view = found.views[0]
            difference = view.terms.contradicts(ticket.order)
            if difference:
                return State.UNKNOWN, None, f"found under our token, but {difference}"
            if not view.decided:
                return State.UNKNOWN, None, f"found, not decided by the venue: {view.raw_status}"
            state = State.REJECTED if view.status is OrderStatus.REJECTED else State.CONFIRMED
            return state, None, f"found as {view.ref.broker_order_id}: {view.status}"
        if isinstance(found, Absent):
            return self._absence(ticket, found)
        return State.UNKNOWN, None, f"inconclusive: {found.why}"

    def _absence(self, ticket: Ticket, found: Absent) -> tuple[State, str | None, str]:
        profile, coverage = self._port.profile, found.coverage
        where = ", ".join(coverage.sources)
        if not coverage.complete:
            return State.UNKNOWN, None, f"not found, but {where} was not read completely"
        if profile.token.dedupes and profile.token.unique == "forever":
            return State.NOT_PLACED, "proven", f"not in {where}; the venue dedupes the token"
        margin = timedelta(seconds=profile.visibility + profile.clock_uncertainty)
        read_at = coverage.as_of or self._clock.now()
        if ticket.not_after is not None:
            if read_at < ticket.not_after + margin:
                return State.UNKNOWN, None, f"not in {where} yet; the venue may still take it"
            return State.NOT_PLACED, "proven", f"not in {where} after the venue stopped taking it"
        if read_at < ticket.t0 + margin:
            return State.UNKNOWN, None, f"not in {where} yet"
        return State.NOT_PLACED, "probable", f"not in {where}; it could still arrive"


def _working(status: OrderStatus) -> OrderStatus:
    return OrderStatus.NEW if status.final and status is not OrderStatus.REJECTED else status
