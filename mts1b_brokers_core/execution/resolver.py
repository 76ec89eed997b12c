"""What became of an order whose answer is missing. A resolver reads; it never sends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Order
from mts1b_brokers_core.platform.clock import from_ns
from mts1b_brokers_core.platform.failpoints import failpoint
from mts1b_brokers_core.platform.ratelimit import Priority, prioritised

from . import door, journal, port
from .bodies import order_of
from .eventlog import Appender
from .journal import Attempt, Name, Record, State
from .login import Login
from .sound import unsound
from .verdict import Asked, Verdict, after, by_hand, candidates, state_of, verdict
from .writing import bind_children, write_record

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0
_ASKABLE = (State.UNKNOWN, State.SENDING)
_SETTLED_BY_HAND = (State.UNKNOWN, State.SENDING, State.AMBIGUOUS, State.DUPLICATE)
Run = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Resolver:
    """Asks the venue and writes the verdict, with its evidence, by the journal's state machine."""

    def __init__(self, login: Login, run: Run) -> None:
        self._login = login
        self._run = run
        self._sent: dict[tuple[str, int], float] = {}
        #: When a key was looked for last, and how many seconds after its attempt that was.
        self._looked: dict[str, tuple[float, float]] = {}
        self._following: dict[str, asyncio.Task[None]] = {}

    # --- in the background ----------------------------------------------------------------------

    def sent(self, key: str, attempt: int) -> None:
        """Note when an attempt goes out, by a clock that never steps."""
        self._sent[key, attempt] = self._login.clock.monotonic()

    def answered(self, key: str, attempt: int) -> None:
        """Forget when an attempt went out: its answer came."""
        self._sent.pop((key, attempt), None)

    def take_over(self) -> None:
        """Go on asking about every open question that no other living process asks about."""
        for record in self._login.journal.read(journal.unsettled, _ASKABLE):
            owner = self._login.attempts(record.key)[-1].owner
            if owner == self._login.owner.name or self._login.owner.is_dead(owner):
                self.follow(record.key)

    def follow(self, key: str) -> asyncio.Task[None]:
        """Go on asking about a key that was asked about just now, in a task of the broker's."""
        task = self._following.get(key)
        if task is None:
            task = self._following[key] = self._run(self._until_resolved(key), f"resolver of {key}")
            task.add_done_callback(lambda _: self._following.pop(key, None))
        return task

    async def wait(self, record: Record, seconds: float | None, *, abandoned: bool = False) -> Record:
        """Look once, then wait for the verdict at most so many seconds (None: however long it takes).

        Returns how the key stands then; what is still open is asked about in the background.
        """
        if record.state not in _ASKABLE:
            return record
        with contextlib.suppress(TimeoutError, errors.StateError):  # a verdict that can't be written is none
            async with self._login.clock.timeout(seconds or None):
                record = await self.resolve_once(record, abandoned=abandoned)
                if record.state in _ASKABLE and seconds != 0:
                    await asyncio.wait([following := self.follow(record.key)])
                    if following.cancelled():  # the broker closes
                        return record
        record = self._login.record(record.key) or record
        if record.state in _ASKABLE:
            self.follow(record.key)
        return record

    async def _until_resolved(self, key: str) -> None:
        clock, log, wait = self._login.clock, self._login.log, _FIRST_WAIT
        due = clock.monotonic() + wait
        while True:
            bell, record = log.bell, self._login.record(key)
            if record is None or record.state not in _ASKABLE:
                return
            try:
                async with clock.timeout(due - clock.monotonic()):
                    await bell.wait()  # whatever is written may be the answer
            except TimeoutError:
                try:
                    await self.resolve_once(record)
                except errors.StateError as error:  # a verdict that can't be written is none
                    log.observed(EventKind.UNREADABLE, f"the verdict on {key}: {error}")
                wait = min(wait * 2, _LONGEST_WAIT)
                due = clock.monotonic() + wait

    # --- one look -------------------------------------------------------------------------------

    async def resolve_once(self, record: Record, *, abandoned: bool = False) -> Record:
        """Ask the venue once about a key's latest attempt and write what that settles.

        An attempt being sent is left to its owner while that lives, unless it was `abandoned`.
        """
        if record.state not in _ASKABLE:
            return record
        latest = self._login.attempts(record.key)[-1]
        if record.state is State.SENDING and not abandoned and not self._login.owner.is_dead(latest.owner):
            return self._login.record(record.key) or record
        return await self.look(record, latest)

    async def look_for_late(self, record: Record) -> None:
        """Look for an order that was taken for absent, the more rarely the older its attempt is."""
        at, age = self._looked.get(record.key, (0.0, 0.0))
        if self._login.clock.monotonic() - at >= age / 8:
            await self.look(record, self._login.attempts(record.key)[-1])

    async def look(self, record: Record, attempt: Attempt) -> Record:
        """Ask the venue about one attempt and write the verdict."""
        ticket = _ticket(record.order, record.account_id, attempt)
        asked_at, asked = self._login.clock.now(), self._asked(attempt)
        found = await self._find(ticket)
        if not isinstance(found, port.Inconclusive):
            self._looked[attempt.key] = self._login.clock.monotonic(), asked.oldest
        coverage = None if isinstance(found, port.Inconclusive) else found.coverage
        if coverage is not None and (shown := coverage.as_of or coverage.until) is not None:
            # What it shows may be older than the asking: an answer from a cache.
            asked = replace(asked, age=asked.age - max(0.0, (asked_at - shown).total_seconds()))
        failpoint("verdict.unwritten")
        settled, told = await self._login.log.transact(
            lambda log: self._write(log, attempt, ticket, found, asked)
        )
        failpoint("verdict.written")
        if settled.state not in _ASKABLE:
            self._sent.pop((attempt.key, attempt.n), None)
        if settled.state is not State.NOT_PLACED:
            self._looked.pop(attempt.key, None)
        if settled.state is State.CONFIRMED and told is not None and told.view is not None:
            settled = await self.catch_up(settled, told.view)
        return settled

    async def _find(self, ticket: port.Ticket) -> port.FindResult:
        try:
            with prioritised(Priority.RESOLVER):
                found = await door.bounded(self._login.clock, door.LOOK, self._login.port.find(ticket))
        # A look-up that fails in any way says nothing about the order.
        except Exception as error:  # noqa: BLE001
            return port.Inconclusive(f"{type(error).__name__}: {error}")
        for view in found.views if isinstance(found, port.Found) else ():
            if cause := unsound(view):
                return port.Inconclusive(f"what was found makes no sense: {cause}")
        known = isinstance(found, port.FindResult)
        return found if known else port.Inconclusive(f"the adapter answered with {type(found).__name__}")

    async def look_behind(self, since_ns: int) -> None:
        """Look for the orders of attempts before the last one that arrived after all.

        Tokens tell of them by themselves; without any, what has the terms and is no other key's is taken
        for one: a second order under the key, both tracked, for a person to look at.
        """
        if self._login.port.profile.token.unique != "none":
            return
        for record, attempt in self._login.journal.read(journal.tried_again, since_ns):
            ticket = _ticket(order_of(attempt.body), record.account_id, attempt)
            found = await self._find(ticket)
            if isinstance(found, port.Found):
                await self._login.log.transact(functools.partial(self._bind_strays, ticket, found.views))

    def _bind_strays(self, ticket: port.Ticket, views: Sequence[port.OrderView], log: Appender) -> None:
        """Bind the orders that fit a ticket and may be no other key's."""
        was = journal.get(log.connection, ticket.order.idempotency_key)
        if was is None or was.state is not State.CONFIRMED:
            return
        fitting = candidates(ticket, views, timedelta(seconds=self._slack()))
        names = {
            str(view.ref.broker_order_id): None for view in fitting
            if journal.at_venue(log.connection, ticket.account_id, view.ref) is None
        }  # fmt: skip
        if not names or journal.twin(log.connection, ticket.account_id, was.fingerprint, was.key):
            return
        words = f"{', '.join(names)} beside {was.order.broker_order_id}: an earlier attempt arrived as well"
        order = was.order.evolve(broker_order_ids=(*was.order.broker_order_ids, *names))
        now = write_record(log, was, replace(was, order=order, state=State.DUPLICATE, words=words))
        log.event(EventKind.DUPLICATE, now.order, words)

    def _asked(self, attempt: Attempt) -> Asked:
        """Say how long ago an attempt went out; one that isn't of ours counts from our first look.

        The wall clock may have been stepped since; a clock that never steps is all that proves an absence.
        """
        clock = self._login.clock
        now, window = clock.monotonic(), None
        age = now - self._sent.setdefault((attempt.key, attempt.n), now)
        if attempt.not_after_ns is not None:
            window = (attempt.not_after_ns - attempt.t0_ns) / 1e9
        return Asked(age, max(age, (clock.now_ns() - attempt.t0_ns) / 1e9), self._slack(), window)

    def _slack(self) -> float:
        """Return what the venue's clock and ours may be apart, in seconds."""
        skew, slack = self._login.skew, self._login.port.profile.clock_uncertainty
        return slack + abs(skew.offset.total_seconds()) + skew.uncertainty if skew.known else slack

    async def catch_up(self, record: Record, view: port.OrderView) -> Record:
        """Log what is behind a view of a key's order, and return how the key stands then."""
        await self.log_behind(view)
        return self._login.record(record.key) or record

    async def log_behind(self, view: port.OrderView) -> None:
        """Log the executions behind a view, then the view itself, so that its status follows its fills.

        Where they can't be read now, an end shown by the view waits for them like any other.
        """
        fills: tuple[port.Seen, ...] = ()
        try:
            if view.cumulative_quantity or view.status.final:
                with prioritised(Priority.FILLS):
                    read = self._login.port.executions_of([view.ref])
                    fills = (await door.bounded(self._login.clock, door.LOOK, read)).rows
        # The order itself is found; its fills come by the stream or by the next read.
        except Exception as error:  # noqa: BLE001
            self._login.log.observed(
                EventKind.UNREADABLE, f"executions of {view.ref.broker_order_id}: {error}"
            )
        await self._login.ingest.observe([*fills, view])

    def _write(
        self, log: Appender, attempt: Attempt, ticket: port.Ticket, found: port.FindResult, asked: Asked
    ) -> tuple[Record, Verdict | None]:
        record = journal.get(log.connection, attempt.key)
        assert record is not None
        latest = journal.attempts(log.connection, attempt.key, kind="new")[-1]
        open_question = record.state in _ASKABLE or record.state is State.NOT_PLACED
        if not open_question or latest.n != attempt.n:
            return record, None  # settled, or tried again, while we asked

        def taken(view: port.OrderView) -> bool:
            ref = port.OrderRef(view.ref.broker_order_id)
            holder = journal.at_venue(log.connection, ticket.account_id, ref)
            return holder is not None and holder.key != attempt.key

        told = verdict(ticket, found, asked, self._login.port.profile, taken)
        if record.state is State.NOT_PLACED and not told.ids:
            return record, None  # still absent
        order = after(record.order, told).evolve(submitted_at=ticket.t0)
        journal.finish_attempt(log.connection, attempt.key, attempt.n, str(told.state), told.evidence)
        if record.state is State.NOT_PLACED:
            log.event(EventKind.LATE, order, told.evidence)
        now = replace(record, order=order, state=told.state, certainty=told.certainty, words=told.evidence)
        record = write_record(log, record, now)
        if told.state is State.DUPLICATE:
            log.event(EventKind.DUPLICATE, order, told.evidence)
        if told.state is State.AMBIGUOUS:
            log.event(EventKind.STATUS, order, f"ambiguous: {told.evidence}")
        if told.state is State.CONFIRMED and told.view is not None and order.attached:
            bind_children(log, record, [port.OrderRef(child) for child in told.view.children])
        failpoint("verdict.uncommitted")
        return record, told

    # --- a person's word ------------------------------------------------------------------------

    async def by_hand(self, record: Record, broker_order_id: str | None) -> Record:
        """Write a person's word on an open question: which venue order it is, or that there is none.

        Raises `OrderError` where it is no open question, or the venue order is another's or differs.
        """
        view = await self._named(record, broker_order_id) if broker_order_id else None

        def work(log: Appender) -> Record:
            was = journal.get(log.connection, record.key)
            assert was is not None
            latest = journal.attempts(log.connection, was.key, kind="new")[-1]
            holder = broker_order_id and journal.named(
                log.connection, was.account_id, broker_order_id, Name.VENUE
            )
            why, cure = "", "name another of the venue's orders, or none"
            if was.state not in _SETTLED_BY_HAND:
                why, cure = f"{was.key!r} is no open question: it is {was.state}.", "see outcome(key)"
            elif was.state is State.SENDING and not self._login.owner.is_dead(latest.owner):
                why, cure = f"{was.key!r} is being sent.", "wait for its outcome"
            elif holder and holder.key != was.key:
                why = f"{broker_order_id} is the order of the key {holder.key!r}."
            elif view is None and was.order.filled_quantity:
                why, cure = f"{was.key!r} has filled: it is at the venue.", "name the order it is"
            elif view is None and (ids := was.order.broker_order_ids):
                why = f"{was.key!r} was seen at the venue as {', '.join(ids)}."
                cure = "name one of these; cancel those that shouldn't be there"
            if why:
                raise errors.OrderError(why, order=was.order, next_step=cure)
            state = State.NOT_PLACED if view is None else state_of(view)
            told = "not at the venue" if view is None else str(broker_order_id)
            order = by_hand(was.order, view)
            journal.finish_attempt(log.connection, was.key, latest.n, str(state), f"by hand: {told}")
            certainty = "probable" if view is None else None
            now = replace(was, order=order, state=state, certainty=certainty, words=f"by hand: {told}")
            now = write_record(log, was, now)
            log.event(EventKind.RESOLVED, now.order, told)
            failpoint("resolve.uncommitted")
            return now

        now = await self._login.log.transact(work)
        failpoint("resolve.written")
        return now if view is None else await self.catch_up(now, view)

    async def _named(self, record: Record, broker_order_id: str) -> port.OrderView:
        view = await door.look(self._login, port.OrderRef(broker_order_id), Priority.RESOLVER)
        if view is None:
            raise errors.OrderNotFound(
                f"the venue knows no order {broker_order_id}.",
                order=record.order,
                next_step="take an id that the venue shows, e.g. one of get_open_orders()",
            )
        if difference := view.terms.contradicts(record.order):
            raise errors.OrderError(
                f"{broker_order_id} is another order: {difference}.",
                order=record.order,
                next_step="name the venue order that has this order's terms, or none",
            )
        return view


def _ticket(order: Order, account_id: str, attempt: Attempt) -> port.Ticket:
    not_after = None if attempt.not_after_ns is None else from_ns(attempt.not_after_ns)
    t0 = from_ns(attempt.t0_ns)
    return port.Ticket(order, account_id, attempt.token, attempt.n, t0, not_after)
