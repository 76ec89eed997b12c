"""How an order is placed: one key, one claim, one write, one of four answers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

from mts1b_brokers_core.foundation.capabilities import Capabilities
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    BrokerError,
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
from mts1b_brokers_core.foundation.orders import Order, OrderStatus
from mts1b_brokers_core.platform.clock import to_ns

from . import journal
from .eventlog import Appender, EventLog
from .gates import Gatekeeper
from .ingest import write_order
from .instruments import InstrumentCache, fit
from .journal import Journal, Record, State, fingerprint
from .merge import Logged, apply
from .ownership import Owner
from .port import Ack, NotPlaced, OrderView, PlaceResult, Rejected, Ticket, Unknown, VenuePort
from .resolver import Resolver
from .tokens import venue_token

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


#: Sends the cancel that was wanted while an order's outcome was unknown.
CancelBound = Callable[[Order], Awaitable[bool]]


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
        cancel_bound: CancelBound,
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
        self._cancel_bound = cancel_bound
        self._inflight: dict[str, tuple[str, asyncio.Task[Order]]] = {}
        self._stopped: StateError | None = None

    async def submit(self, order: Order, *, accept_duplicate_risk: bool = False) -> Order:
        """Place the order, or give the stored answer of its key. Raises the other three answers.

        The write runs in a task of the broker's: whoever stops waiting for it doesn't cut it.
        """
        key = order.idempotency_key
        mark = fingerprint(order)
        running = self._inflight.get(key)
        if running is None:
            task = self._spawn(self._door(order, mark, accept_duplicate_risk))
            self._inflight[key] = (mark, task)
            task.add_done_callback(lambda _: self._inflight.pop(key, None))
        elif running[0] != mark:
            raise self._conflict(order)
        else:
            task = running[1]
        return await asyncio.shield(task)

    async def _door(self, order: Order, mark: str, accept_risk: bool) -> Order:
        record = await self._log.record(order.idempotency_key)
        if record is not None:
            return await self._again(record, order, mark, accept_risk)
        return await self._attempt(order, mark, attempt=1)

    async def _again(self, record: Record, order: Order, mark: str, accept_risk: bool) -> Order:
        if record.fingerprint != mark:
            raise self._conflict(order)
        if order.order_id != record.order.order_id:
            await self._alias(order.order_id, record)
        if record.state is State.UNKNOWN or self._orphaned(record):
            record = await self._resolver.resolve_once(record)
        retry = record.state is State.NOT_PLACED and (record.certainty == "proven" or accept_risk)
        if retry and not record.cancel_wanted:
            tries = await self._attempts(record.key)
            placed_as = order.model_copy(update={"order_id": record.order.order_id})
            return await self._attempt(placed_as, mark, attempt=len(tries) + 1)
        return self.answer(record)

    def _orphaned(self, record: Record) -> bool:
        return record.state is State.SENDING and record.key not in self._inflight

    async def _attempts(self, key: str) -> list[journal.Attempt]:
        return await self._journal.store.run(lambda connection: journal.attempts(connection, key))

    async def _alias(self, order_id: str, record: Record) -> None:
        await self._journal.store.run(
            lambda connection: journal.add_name(connection, record.account_id, order_id, "alias", record.key)
        )

    async def _attempt(self, order: Order, mark: str, *, attempt: int) -> Order:
        sent, instrument = await self._prepare(order)
        ticket = self._ticket(sent, instrument, attempt)
        if not await self._claim(sent, mark, ticket):
            record = await self._log.record(order.idempotency_key)
            assert record is not None
            return self.answer(record) if record.fingerprint == mark else _raise(self._conflict(order))
        try:
            self._gates.check_halt(sent)
        except OrderDenied as denial:
            await self._settle(ticket, NotPlaced(denial.message))
            raise
        self._log.observed(EventKind.REQUEST_SENT, operation="submit", key=order.idempotency_key)
        result = await self._place(ticket)
        return await self._settle(ticket, result)

    async def _prepare(self, order: Order) -> tuple[Order, Instrument | None]:
        if self._stopped is not None:
            raise OrderDenied(
                f"the last outcome could not be journalled: {self._stopped.message}",
                reason="journal",
                order=order,
                next_step=self._stopped.next_step,
            )
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
        if not instrument.tradable:
            raise OrderDenied(f"{order.symbol} is not tradable now.", reason="not_tradable", order=order)
        self._capabilities.require(order, instrument.asset_class)
        if order.legs:
            await self._gates.check(order, None)
            return order, None
        try:
            sent = fit(order, instrument)
        except OrderDenied:
            await self._instruments.refresh()  # the venue may have changed its increments meanwhile
            instrument = await self._instruments.find(order.symbol, order.asset_class)
            sent = fit(order, instrument)
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
        not_after = None if ticket.not_after is None else to_ns(ticket.not_after)

        def work(connection: sqlite3.Connection) -> bool:
            self._gates.check_rate(connection, now_ns)
            return journal.claim(connection, order, mark, ticket, self._owner.name, now_ns, not_after)

        try:
            return await self._journal.store.run(work)
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
        """Write the outcome and answer with it; the caller gets it even where it can't be written."""
        if isinstance(result, Ack):
            result = self._checked(ticket, result)
        try:
            record = await self._log.transact(
                lambda connection, log: self._write(connection, log, ticket, result)
            )
        except StateError as error:
            self._stopped = error
            record = self._unwritten(ticket, result)
        self._log.observed(
            EventKind.OUTCOME, operation="submit", key=ticket.order.idempotency_key, outcome=str(record.state)
        )
        if record.state is State.UNKNOWN and self._stopped is None:
            record = await self._resolver.resolve_once(record)
        if record.cancel_wanted and record.state is State.CONFIRMED:
            self._spawn(_quietly(self._cancel_bound(record.order)))
        retry_after = result.retry_after if isinstance(result, NotPlaced) else None
        cause = result.cause if isinstance(result, (NotPlaced, Unknown)) else ""
        return self.answer(record, cause=cause, retry_after=retry_after)

    @staticmethod
    def _checked(ticket: Ticket, ack: Ack) -> PlaceResult:
        difference = ack.echo.terms.contradicts(ticket.order) if ack.echo else None
        return Unknown(f"the venue answered with another order: {difference}") if difference else ack

    def _write(
        self, connection: sqlite3.Connection, log: Appender, ticket: Ticket, result: PlaceResult
    ) -> Record:
        record = journal.get(connection, ticket.order.idempotency_key)
        assert record is not None
        state, order, reason, words = _outcome(record.order, ticket, result, reopens=self._reopens())
        if record.state is State.CONFIRMED:
            state = State.CONFIRMED  # a fill or a look-up was faster than the reply
        cause = result.cause if isinstance(result, (NotPlaced, Unknown)) else (words or "")
        journal.finish_attempt(connection, record.key, ticket.attempt, str(state), cause)
        certainty = "proven" if state is State.NOT_PLACED else None
        order = write_order(
            connection, log, record, order, logged=record.logged, state=state, reason=reason, words=words
        )
        if certainty:
            journal.set_certainty(connection, record.key, certainty)
        if isinstance(result, Ack):
            self._children(connection, ticket, result)
        updated = journal.get(connection, record.key)
        assert updated is not None
        return updated

    def _reopens(self) -> frozenset[OrderStatus]:
        return self._port.profile.reopens

    def _children(self, connection: sqlite3.Connection, ticket: Ticket, ack: Ack) -> None:
        now_ns = self._clock.now_ns()
        for child, ref in zip(ticket.order.attached, ack.children, strict=False):
            view = OrderView(ref, OrderStatus.NEW)
            order = apply(child.evolve(account_id=ticket.account_id, submitted_at=ticket.t0), view)
            child_ticket = Ticket(order, ticket.account_id, ref.token, 1, ticket.t0)
            journal.claim(connection, order, fingerprint(child), child_ticket, self._owner.name, now_ns, None)
            row = journal.get(connection, order.idempotency_key)
            assert row is not None
            journal.put(connection, row, now_ns, order=order, state=State.CONFIRMED)

    def _unwritten(self, ticket: Ticket, result: PlaceResult) -> Record:
        state, order, reason, words = _outcome(ticket.order, ticket, result, reopens=self._reopens())
        certainty = "proven" if state is State.NOT_PLACED else None
        return Record(
            key=order.idempotency_key, fingerprint="", state=state, order=order, account_id=self._account_id,
            certainty=certainty, reason=reason, words=words, cancel_wanted=False, settled=False,
            logged=Logged(),
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
            raise OrderNotPlaced(
                f"the order is not at the venue ({record.certainty}){f': {cause}' if cause else '.'}",
                certainty="proven" if proven else "probable",
                retry_after=retry_after,
                order=order,
                next_step="submit it again with the same key"
                if proven
                else "look at the account; submit again with accept_duplicate_risk=True if it is not there",
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


def _outcome(
    known: Order, ticket: Ticket, result: PlaceResult, *, reopens: frozenset[OrderStatus]
) -> tuple[State, Order, str | None, str | None]:
    """Return the state, order, reason and words that a reply means: pure."""
    order = known.evolve(
        account_id=ticket.account_id, submitted_at=ticket.t0, adjustments=ticket.order.adjustments
    )
    if isinstance(result, Ack):
        view = result.echo or OrderView(result.ref, OrderStatus.NEW)
        if view.ref.broker_order_id is None:
            view = OrderView(result.ref, view.status)
        return State.CONFIRMED, apply(order, view, reopens=reopens), None, None
    if isinstance(result, Rejected):
        refused = order.evolve(status=OrderStatus.REJECTED, reason=result.reason)
        return State.REJECTED, refused, result.reason, result.words
    if isinstance(result, NotPlaced):
        return State.NOT_PLACED, order, None, result.cause
    return State.UNKNOWN, order.evolve(status=OrderStatus.UNKNOWN), None, result.cause


def _raise(error: BrokerError) -> Order:
    raise error


async def _quietly(cancel: Awaitable[bool]) -> None:
    try:
        await cancel
    except BrokerError:
        return  # the order's own state tells what became of it
