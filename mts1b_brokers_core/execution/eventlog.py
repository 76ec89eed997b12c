"""The log of executions and events: written once, numbered without gaps, read by any number of consumers.

Readers read the log, not a queue, so memory is bounded and one slow reader costs the others nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, TypeVar

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import BrokerError, InvalidInput
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import Fill, FillKind, Order
from mts1b_brokers_core.platform.clock import from_ns
from mts1b_brokers_core.platform.failpoints import failpoint

from .journal import Journal

T = TypeVar("T")
Stream = Literal["fills", "events"]

_log = logging.getLogger("mts1b_brokers")

_EXECUTIONS = (EventKind.FILL, EventKind.BUST)
_BATCH = 256
_RECENT = 4096


class Appender:
    """Adds rows to the log inside one transaction, numbering them."""

    def __init__(self, connection: sqlite3.Connection, broker: str, now_ns: int) -> None:
        self.connection = connection
        self._broker = broker
        self.now_ns = now_ns
        self.now = from_ns(now_ns)
        self.events: list[BrokerEvent] = []
        #: Orders bound by this transaction whose cancel was wanted while they were unknown.
        self.cancels_due: list[Order] = []
        #: Fills whose fees became known or changed.
        self.amended: list[Fill] = []
        #: True where a venue id was bound: executions that wait may be its.
        self.bound = False
        last = connection.execute('SELECT "offset", seq FROM log ORDER BY "offset" DESC LIMIT 1').fetchone()
        self._offset: int = last[0] if last else 0
        self._seq: int = last[1] if last else 0

    def fee_open(self, account_id: str, fill_id: str) -> bool | None:
        """Tell whether a logged execution's fees are not known yet; None where it isn't logged."""
        row = self.connection.execute(
            "SELECT fee_open FROM log WHERE account_id = ? AND fill_id = ?", (account_id, fill_id)
        ).fetchone()
        return None if row is None else bool(row[0])

    def amend(self, fill: Fill) -> None:
        """Write a logged execution's fees anew."""
        self.connection.execute(
            "UPDATE log SET body = ?, fee_open = ? WHERE account_id = ? AND fill_id = ?",
            (fill.model_dump_json(), fill.fees is None, fill.account_id, fill.fill_id),
        )
        self.amended.append(fill)

    def fill(self, fill: Fill) -> Fill:
        """Number an execution and add it."""
        self._seq += 1
        numbered = fill.evolve(seq=self._seq, broker=self._broker, recorded_at=self.now)
        kind = EventKind.BUST if fill.kind is FillKind.BUST else EventKind.FILL
        event = _fill_event(numbered, kind, self._offset + 1)
        self._add(event, numbered.model_dump_json(), fill.fill_id, fee_open=fill.fees is None)
        return numbered

    def event(self, kind: EventKind, order: Order | None = None, message: str = "", **detail: str) -> None:
        """Add an event that is no execution."""
        event = BrokerEvent(
            kind=kind, broker=self._broker, at=self.now, seq=self._seq, offset=self._offset + 1,
            account_id=order.account_id if order else None,
            order_id=order.order_id if order else None,
            broker_order_id=order.broker_order_id if order else None,
            idempotency_key=order.idempotency_key if order else None,
            order=order, message=message, detail=detail,
        )  # fmt: skip
        self._add(event, event.model_dump_json(), None)

    def _add(self, event: BrokerEvent, body: str, fill_id: str | None, *, fee_open: bool = False) -> None:
        self._offset += 1
        names = (event.account_id, fill_id, event.broker_order_id)
        self.connection.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._offset, self._seq, event.kind, *names, body, fee_open),
        )
        self.events.append(event)


def _fill_event(fill: Fill, kind: EventKind, offset: int) -> BrokerEvent:
    return BrokerEvent.model_construct(
        kind=kind, broker=fill.broker, at=fill.recorded_at or fill.executed_at, seq=fill.seq, offset=offset,
        account_id=fill.account_id, order_id=fill.order_id, broker_order_id=fill.broker_order_id,
        idempotency_key=None, order=None, fill=fill, message="", detail={},
    )  # fmt: skip


def _event_of(offset: int, kind: str, body: str) -> BrokerEvent:
    if kind in _EXECUTIONS:
        return _fill_event(Fill.model_validate_json(body), EventKind(kind), offset)
    return BrokerEvent.model_validate_json(body)


class EventLog:
    """Writes through `transact`, reads through `stream`; wakes whoever waits after each commit."""

    def __init__(
        self, journal: Journal, broker: str, clock: Clock, emit: Callable[[BrokerEvent], None] | None
    ) -> None:
        self._journal = journal
        self._broker = broker
        self._clock = clock
        self._emit = emit
        self._recent: list[BrokerEvent] = []
        self._bell = asyncio.Event()
        self._acks: dict[tuple[str, Stream], int] = {}
        #: Cursors whose newest position waits to be written; whoever writes takes the newest.
        self._unwritten: set[tuple[str, Stream]] = set()
        self._closed = False
        self._failure: BrokerError | None = None
        #: Called with an order that was bound after a cancel of it was wanted.
        self.on_cancel_due: Callable[[Order], object] | None = None
        #: Called after a commit that bound a venue id.
        self.on_bound: Callable[[], object] | None = None

    async def transact(self, work: Callable[[Appender], T]) -> T:
        """Run work in one transaction with an appender; its events are seen once it is durable."""
        now_ns = self._clock.now_ns()

        def job(connection: sqlite3.Connection) -> tuple[T, Appender]:
            appender = Appender(connection, self._broker, now_ns)
            return work(appender), appender

        result, _ = await self._journal.store.run(job, self._published)
        return result

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Look something up in what is committed."""
        return self._journal.store.read(query)

    async def note(self, kind: EventKind, message: str = "", **detail: str) -> None:
        """Log an event that concerns no one order."""
        await self.transact(lambda log: log.event(kind, None, message, **detail))

    def observed(self, kind: EventKind, message: str = "", **detail: str) -> None:
        """Tell observers of something that isn't kept in the log."""
        if self._emit is not None:
            at = self._clock.now()
            self._tell(BrokerEvent(kind=kind, broker=self._broker, at=at, message=message, detail=detail))

    def _published(self, done: tuple[object, Appender]) -> None:
        appender = done[1]
        events = appender.events
        for fill in appender.amended:
            self._amend_recent(fill)
        if events:
            # Results arrive in the order of their commits; a gap is another process's, and in the file.
            if self._recent and events[0].offset != self._recent[-1].offset + 1:
                self._recent.clear()
            self._recent.extend(events)
            if len(self._recent) > 2 * _RECENT:
                del self._recent[:-_RECENT]
            self.ring()
            if self._emit is not None:
                for event in events:
                    self._tell(event)
        if self.on_cancel_due is not None:
            for order in appender.cancels_due:
                self.on_cancel_due(order)
        if appender.bound and self.on_bound is not None:
            self.on_bound()

    def _amend_recent(self, fill: Fill) -> None:
        for at, event in enumerate(self._recent):
            if event.fill is not None and event.fill.seq == fill.seq:
                self._recent[at] = event.model_copy(update={"fill": fill})
                return

    def _tell(self, event: BrokerEvent) -> None:
        assert self._emit is not None
        try:
            self._emit(event)
        # What is written is written: an observer that fails can't make an order's answer fail.
        except Exception:  # noqa: BLE001
            _log.exception("%s: an observer failed on %s", self._broker, event.kind)

    def look_again(self) -> None:
        """Wake every reader because another process may have written."""
        newest = self._first('SELECT "offset" FROM log ORDER BY "offset" DESC LIMIT 1')
        if self._recent and newest and newest[0] > self._recent[-1].offset:
            self._recent.clear()  # what follows it is in the file
        self.ring()

    def ring(self) -> None:
        """Wake every reader."""
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    @property
    def bell(self) -> asyncio.Event:
        """Set at the next change; take it before looking, wait for it after."""
        return self._bell

    def fail(self, error: BrokerError) -> None:
        """End all streams with an error, after what is logged."""
        self._failure = self._failure or error
        self.ring()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self.ring()

    def check(self) -> None:
        """Raise the failure that ended the log, where there is one."""
        if self._failure is not None:
            raise self._failure

    async def stream(
        self, stream: Stream, *, since: int | None = None, consumer: str = "default"
    ) -> AsyncIterator[BrokerEvent]:
        """Iterate from after `since` (a seq), or from after what the consumer has acknowledged.

        Asking for the next row acknowledges the one before. Ends when the broker closes; raises
        `BrokerFailed` where it failed.
        """
        named = since is None
        cursor = self._cursor(stream, consumer) if since is None else self._offset_of(since)
        while True:
            bell = self._bell
            rows = self._after(cursor)
            for row in rows:
                if stream == "events" or row.fill is not None:
                    yield row
                    if named:
                        self._acknowledge(consumer, stream, row.offset)
                cursor = row.offset
            if not rows:
                self.check()
                if self._closed:
                    return
                await bell.wait()

    def _after(self, cursor: int) -> list[BrokerEvent]:
        recent = self._recent
        if recent and recent[0].offset <= cursor + 1:
            start = cursor + 1 - recent[0].offset
            return recent[start : start + _BATCH]
        if self._closed:
            return []

        query = 'SELECT "offset", kind, body FROM log WHERE "offset" > ? ORDER BY "offset" LIMIT ?'
        rows = self._journal.store.read(
            lambda connection: connection.execute(query, (cursor, _BATCH)).fetchall()
        )
        return [_event_of(*row) for row in rows]

    def _cursor(self, stream: Stream, consumer: str) -> int:
        held = self._acks.get((consumer, stream))
        if held is not None:
            return held
        row = self._first('SELECT "offset" FROM consumers WHERE name = ? AND stream = ?', consumer, stream)
        return int(row[0]) if row else 0

    def _first(self, query: str, *values: object) -> Any:
        return self._journal.store.read(lambda connection: connection.execute(query, values).fetchone())

    def _offset_of(self, seq: int) -> int:
        row = self._first(
            'SELECT "offset", seq FROM log WHERE seq <= ? AND fill_id IS NOT NULL ORDER BY seq DESC LIMIT 1',
            seq,
        )
        offset, last = row or (0, 0)
        if last < seq:
            raise InvalidInput(
                f"since={seq} is beyond the last execution logged here, {last}.",
                next_step="this is another journal than the one that gave this seq: open that one",
            )
        return int(offset)

    def _acknowledge(self, consumer: str, stream: Stream, offset: int) -> None:
        """Remember how far a consumer is; two of one name count as the one that is further."""
        cursor = consumer, stream
        if self._closed or offset <= self._acks.get(cursor, -1):
            return
        self._acks[cursor] = offset
        if not self._journal.store.durable or cursor in self._unwritten:
            return
        self._unwritten.add(cursor)

        def work(connection: sqlite3.Connection) -> None:
            self._unwritten.discard(cursor)
            connection.execute(
                "INSERT INTO consumers VALUES (?, ?, ?) ON CONFLICT (name, stream)"
                ' DO UPDATE SET "offset" = max("offset", excluded."offset")',
                (consumer, stream, self._acks[cursor]),
            )
            failpoint("ack.uncommitted")

        self._journal.store.post(work)
