"""How an order is placed: one key, one claim, one write, one of four answers."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from mts1b_brokers_core.foundation.capabilities import Capabilities
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    IdempotencyConflict,
    OrderDenied,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
    PermissionDenied,
    StateError,
)
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.orders import Order
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_brokers_core.platform.failpoints import failpoint

from . import journal
from .bodies import fingerprint
from .eventlog import Appender, EventLog
from .gates import Gatekeeper
from .instruments import InstrumentCache
from .journal import Journal, Name, Record, State
from .merge import Logged
from .outcomes import as_sent, certainty_of, outcome_of, still_tells
from .ownership import Owner
from .port import Ack, NotPlaced, OrderView, PlaceResult, Ticket, Unknown, VenuePort
from .resolver import Resolver
from .tokens import venue_token
from .writing import bind_children, write_order

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


class Submission:
    """The one way to place an order."""

    def __init__(
        self,
        port: VenuePort,
        journal_: Journal,
        log: EventLog,
        *,
        scope: str,
        account_id: str,
        capabilities: Capabilities,
        instruments: InstrumentCache,
        gates: Gatekeeper,
        owner: Owner,
        resolver: Resolver,
        clock: Clock,
        spawn: Spawn,
    ) -> None:
        self._port = port
        self._journal = journal_
        self._log = log
        self._scope = scope
        self._account_id = account_id
        self._capabilities = capabilities
        self._instruments = instruments
        self._gates = gates
        self._owner = owner
        self._resolver = resolver
        self._clock = clock
        self._spawn = spawn
        self._inflight: dict[str, tuple[str, asyncio.Task[Order]]] = {}
        #: Answers that could not be written; they are given again as long as we live.
        self._unwritten: dict[str, Record] = {}

    async def submit(self, order: Order, *, accept_duplicate_risk: bool = False) -> Order:
        """Place the order, or give the stored answer of its key. Raises the other three answers.

        The write runs in a task of the broker's: whoever stops waiting for it doesn't cut it.
        """
        key = order.idempotency_key
        mark = fingerprint(order, self._account_id)
        running = self._inflight.get(key)
        if running is None:
            task = self._spawn(self._door(order, mark, accept_duplicate_risk))
            self._inflight[key] = (mark, task)
            task.add_done_callback(lambda _: self._inflight.pop(key, None))
        else:
            if running[0] != mark:
                raise self._conflict(order)
            task = running[1]
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled() or _being_cancelled():
                raise
            raise OutcomeUnknown(
                "the broker was closed before the venue answered.",
                order=order,
                next_step="open it again with the same journal: it asks the venue, and outcome(key) tells",
            ) from None
        finally:
            if running is not None:
                await self._alias(order)

    def stored(self, key: str) -> Record | None:
        """Return what is known of a key."""
        return self._unwritten.get(key) or self._log.record(key)

    async def _door(self, order: Order, mark: str, accept_risk: bool) -> Order:
        record = self.stored(order.idempotency_key)
        if record is None:
            return await self._attempt(order, mark, attempt=1)
        return await self._again(record, order, mark, accept_risk)

    async def _again(self, record: Record, order: Order, mark: str, accept_risk: bool) -> Order:
        self._check_same(record, order, mark)
        await self._alias(order)
        # A row being sent that is not in flight here was left behind: by another process, or by an
        # outcome of ours that could not be written.
        record = await self._resolved_once(record, abandoned=self._is_ours(record))
        retry = record.state is State.NOT_PLACED and (record.certainty == "proven" or accept_risk)
        if retry and not record.cancel_wanted:
            tries = self._journal.store.read(lambda connection: journal.attempts(connection, record.key))
            placed_as = order.model_copy(update={"order_id": record.order.order_id})
            return await self._attempt(placed_as, mark, attempt=len(tries) + 1)
        return self.answer(record)

    async def _resolved_once(self, record: Record, *, abandoned: bool = False) -> Record:
        try:
            return await self._resolver.resolve_once(record, abandoned=abandoned)
        except StateError:  # a verdict that can't be written is none
            return record

    def _is_ours(self, record: Record) -> bool:
        tries = self._journal.store.read(lambda connection: journal.attempts(connection, record.key))
        return bool(tries) and tries[-1].owner == self._owner.name

    def _check_same(self, record: Record, order: Order, mark: str) -> None:
        """Refuse other terms; equal ones are those first asked for, or those that hold by now."""
        if mark not in (record.fingerprint, fingerprint(record.order, self._account_id)):
            raise self._conflict(order)

    async def _alias(self, order: Order) -> None:
        """Let a retry's own order id stand for the order of its key."""
        key = order.idempotency_key

        def known(connection: sqlite3.Connection) -> Record | None:
            return journal.named(connection, self._account_id, order.order_id, Name.OURS)

        def work(connection: sqlite3.Connection) -> None:
            journal.add_name(connection, self._account_id, order.order_id, Name.OURS, key)

        with contextlib.suppress(StateError):  # the answer counts, not its second name
            if self._journal.store.read(known) is None and self._log.record(key) is not None:
                await self._journal.store.run(work)

    async def _attempt(self, order: Order, mark: str, *, attempt: int) -> Order:
        sent, instrument = await self._prepare(order)
        ticket = self._ticket(sent, instrument, attempt)
        failpoint("submit.unclaimed")
        if not await self._claim(sent, mark, ticket):
            record = self._log.record(order.idempotency_key)
            assert record is not None
            self._check_same(record, order, mark)
            return self.answer(record)
        failpoint("submit.claimed")
        await self._check_still_wanted(ticket)
        self._log.observed(EventKind.REQUEST_SENT, operation="submit", key=order.idempotency_key)
        result = await self._place(ticket)
        failpoint("submit.answered")
        return await self._settle(ticket, result)

    async def _check_still_wanted(self, ticket: Ticket) -> None:
        """Look once more, after the commit and before the write, at what may have changed meanwhile."""
        try:
            self._gates.check_halt(ticket.order)
            if ticket.not_after is not None and self._clock.now() >= ticket.not_after:
                raise OrderDenied(
                    "the time in which the venue takes the order passed while it was journalled.",
                    reason="too_late", order=ticket.order, next_step="submit it again with the same key",
                )  # fmt: skip
        except OrderDenied as denial:
            await self._conclude(ticket, NotPlaced(denial.message))
            raise

    async def _prepare(self, order: Order) -> tuple[Order, Instrument | None]:
        self._gates.check_journal(self._journal.stopped, order)
        if order.account_id not in (None, self._account_id):
            raise OrderDenied(
                f"the order is for account {order.account_id}, this broker trades {self._account_id}.",
                reason="account",
                order=order,
                next_step="open the broker with that account, or leave account_id out",
            )
        order = order.evolve(account_id=self._account_id)
        first = order.legs[0] if order.legs else order
        instrument = await self._instruments.find(first.symbol, first.asset_class)
        for leg in order.legs[1:]:
            await self._instruments.find(leg.symbol, leg.asset_class)
        if not instrument.tradable:
            raise OrderDenied(f"{order.symbol} is not tradable now.", reason="not_tradable", order=order)
        self._capabilities.require(order, instrument.asset_class)
        if order.legs:
            await self._gates.check(order, None)
            return order, None
        sent, instrument = await self._instruments.fitted(order, instrument)
        await self._gates.check(sent, instrument)
        return sent, instrument

    def _ticket(self, order: Order, instrument: Instrument | None, attempt: int) -> Ticket:
        profile = self._port.profile
        t0 = self._clock.now()
        after = profile.not_after_seconds
        # Where the venue dedupes, the same token again is itself the question; elsewhere each attempt
        # after a proven absence needs a token of its own, or a late first request would be taken for it.
        key = order.idempotency_key
        named = key if attempt == 1 or profile.token.dedupes else f"{key}\x1f{attempt}"
        return Ticket(
            order=order,
            account_id=self._account_id,
            token=venue_token(named, self._scope, profile.token),
            attempt=attempt,
            t0=t0,
            not_after=None if after is None else t0 + timedelta(seconds=after),
            instrument=instrument,
        )

    async def _claim(self, order: Order, mark: str, ticket: Ticket) -> bool:
        now_ns = to_ns(ticket.t0)

        def work(connection: sqlite3.Connection) -> bool:
            self._gates.check_rate(connection, now_ns, order)
            return journal.claim(connection, order, mark, ticket, self._owner.name, now_ns)

        try:
            return await self._journal.store.run(work)
        except journal.IdTaken:
            raise OrderDenied(
                f"the order id {order.order_id} is used by an order of another key.",
                reason="order_id_taken",
                order=order,
                next_step="build a new order, or copy it with a new order_id as well",
            ) from None
        except StateError as error:
            raise OrderDenied(
                f"the attempt could not be journalled: {error.message}",
                reason="journal",
                order=order,
                next_step=error.next_step,
            ) from error

    async def _place(self, ticket: Ticket) -> PlaceResult:
        try:
            return await self._port.place(ticket)
        except (AuthenticationError, PermissionDenied) as error:
            return NotPlaced(error.message)
        except ConnectionRefusedError as error:
            return NotPlaced(f"no connection was made: {error}")
        # Whatever else an adapter or its transport raises, bytes may have left: unknown, never "no".
        except Exception as error:  # noqa: BLE001
            return Unknown(f"{type(error).__name__}: {error}")

    async def _settle(self, ticket: Ticket, result: PlaceResult) -> Order:
        """Write the outcome, ask about one that is unknown, and answer."""
        if isinstance(result, Ack):
            result = self._checked(ticket, result)
        record = await self._conclude(ticket, result)
        failpoint("submit.recorded")
        if self._journal.stopped is None:
            if record.state is State.UNKNOWN:
                record = await self._resolved_once(record)
            elif isinstance(result, Ack):
                record = await self._follow(record, result.echo)
        retry_after = result.retry_after if isinstance(result, NotPlaced) else None
        cause = result.cause if isinstance(result, (NotPlaced, Unknown)) else ""
        return self.answer(record, cause=cause, retry_after=retry_after)

    async def _conclude(self, ticket: Ticket, result: PlaceResult) -> Record:
        """Write the outcome; where that fails the caller still gets it, and nothing more is sent."""
        key = ticket.order.idempotency_key
        try:
            record = await self._log.transact(
                lambda connection, log: self._write(connection, log, ticket, result)
            )
        except StateError as error:
            self._journal.stopped = error
            record = self._unwritten[key] = self._remembered(ticket, result)
        self._log.observed(EventKind.OUTCOME, operation="submit", key=key, outcome=str(record.state))
        return record

    async def _follow(self, record: Record, echo: OrderView | None) -> Record:
        """Log what the reply shows beyond the acknowledgement."""
        if echo is None or not (echo.status.final or echo.cumulative_quantity):
            return record
        try:
            return await self._resolver.catch_up(record, echo)
        except StateError:
            return record

    @staticmethod
    def _checked(ticket: Ticket, ack: Ack) -> PlaceResult:
        difference = ack.echo.terms.contradicts(ticket.order) if ack.echo else None
        return Unknown(f"the venue answered with another order: {difference}") if difference else ack

    def _write(
        self, connection: sqlite3.Connection, log: Appender, ticket: Ticket, result: PlaceResult
    ) -> Record:
        record = journal.get(connection, ticket.order.idempotency_key)
        assert record is not None
        state, order, reason, words = outcome_of(record.order, ticket, result, self._port.profile.reopens)
        if record.state is State.DUPLICATE or not (
            isinstance(result, Ack) or still_tells(record.state, result)
        ):
            # What was seen of the order at the venue meanwhile outweighs an answer that is none.
            state, order = record.state, as_sent(record.order, ticket)
        cause = result.cause if isinstance(result, (NotPlaced, Unknown)) else (words or "")
        journal.finish_attempt(connection, record.key, ticket.attempt, str(state), cause)
        written = write_order(
            connection, log, record, order, logged=record.logged, state=state, reason=reason, words=words,
            certainty=certainty_of(state),
        )  # fmt: skip
        if isinstance(result, Ack) and order.attached:
            bind_children(connection, log, written, result.children)
        return written

    def _remembered(self, ticket: Ticket, result: PlaceResult) -> Record:
        state, order, reason, words = outcome_of(ticket.order, ticket, result, self._port.profile.reopens)
        return Record(
            key=order.idempotency_key, fingerprint=fingerprint(order, self._account_id), state=state,
            order=order, account_id=self._account_id, certainty=certainty_of(state), reason=reason,
            words=words, cancel_wanted=False, settled=False, logged=Logged(),
        )  # fmt: skip

    def answer(self, record: Record, *, cause: str = "", retry_after: float | None = None) -> Order:
        """Return the confirmed order, or raise the answer the journal holds for its key."""
        order = record.order
        if record.state is State.CONFIRMED:
            return order
        if record.state is State.REJECTED:
            words = record.words or ""
            raise OrderRejected(
                f"the venue refused the order: {words or record.reason}.",
                reason=record.reason or "other",
                words=words,
                order=order,
                next_step="change the order and submit it under a new key",
            )
        if record.state is State.NOT_PLACED:
            proven = record.certainty == "proven"
            if record.cancel_wanted:
                next_step = "nothing: a cancel was asked for, so this key is not sent again"
            elif proven:
                next_step = "submit it again with the same key"
            else:
                next_step = "look at the account; submit again with accept_duplicate_risk=True if it lacks it"
            raise OrderNotPlaced(
                f"the order is not at the venue ({record.certainty}){f': {cause}' if cause else '.'}",
                certainty="proven" if proven else "probable",
                retry_after=retry_after,
                order=order,
                next_step=next_step,
            )
        raise OutcomeUnknown(
            _UNKNOWN_WORDS.get(record.state, "the venue's answer is missing")
            + (f": {cause}" if cause else "."),
            order=order,
            resolve=lambda: self._resolved(record),
        )

    async def _resolved(self, record: Record) -> Order:
        return self.answer(await self._resolver.until_resolved(record))

    def _conflict(self, order: Order) -> IdempotencyConflict:
        return IdempotencyConflict(
            f"the key {order.idempotency_key!r} was used for an order with other terms.",
            reason="idempotency_conflict",
            order=order,
        )


_UNKNOWN_WORDS = {
    State.AMBIGUOUS: "more than one venue order fits; a person must say which",
    State.DUPLICATE: "the venue holds more than one order under this key; a person must look",
}


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
