"""The log of executions and events: written once, numbered without gaps, read by any number of consumers.

Readers read the log, not a queue, so memory is bounded and one slow reader costs the others nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Container, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import BrokerError, InvalidInput
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import Fill, Order
from mts1b_brokers_core.platform.clock import from_ns
from mts1b_brokers_core.platform.failpoints import failpoint

from .journal import Journal
from .logrows import Entry, Rows, event_of

T = TypeVar("T")
Stream = Literal["fills", "events"]

_log = logging.getLogger("mts1b_brokers")

_BATCH = 256
_RECENT = 4096


class Appender:
    """Adds rows to the log inside one transaction, numbering them."""

    def __init__(self, connection: sqlite3.Connection, rows: Rows, broker: str, now_ns: int) -> None:
        self.connection = connection
        self.rows = rows
        self._broker = broker
        self.now_ns = now_ns
        self.now = from_ns(now_ns)
        self.entries: list[Entry] = []
        #: Orders bound by this transaction whose cancel was wanted while they were unknown.
        self.cancels_due: list[Order] = []
        #: Fills whose fees became known or changed.
        self.amended: list[Fill] = []
        #: True where a venue id was bound: executions that wait may be its.
        self.bound = False
        self._offset, self._seq = rows.newest()
        self.first = self._offset + 1

    def fill(self, values: dict[str, Any]) -> Fill:
        """Number an execution, given by its fields, and add it; the dictionary becomes the fill's own."""
        self._seq += 1
        values["seq"], values["broker"], values["recorded_at"] = self._seq, self._broker, self.now
        fill = Fill.adopt(values)
        self._add(fill)
        return fill

    def amend(self, fill: Fill) -> None:
        """Write a logged execution's fees anew."""
        self.rows.amend(fill)
        self.amended.append(fill)

    def event(self, kind: EventKind, order: Order | None = None, message: str = "", **detail: str) -> None:
        """Add an event that is no execution."""
        self._add(BrokerEvent.trusted(
            kind=kind, broker=self._broker, at=self.now, seq=self._seq, offset=self._offset + 1,
            account_id=order.account_id if order else None,
            order_id=order.order_id if order else None,
            broker_order_id=order.broker_order_id if order else None,
            idempotency_key=order.idempotency_key if order else None,
            order=order, fill=None, message=message, detail=detail,
        ))  # fmt: skip

    def _add(self, entry: Entry) -> None:
        self._offset += 1
        self.rows.add(self._offset, self._seq, entry)
        self.entries.append(entry)


class Bell(asyncio.Event):
    """Set once something was logged; then it knows of which orders, and the bell that rings next."""

    about: Container[str | None] | None = None
    following: Bell

    async def told_of(self, order_id: str) -> Bell:
        """Wait until something may have been told of an order; return the bell that rings after that."""
        bell = self
        while True:
            await bell.wait()
            about, bell = bell.about, bell.following
            if about is None or order_id in about:
                return bell


class EventLog:
    """Writes through `transact`, reads through `stream`; wakes whoever waits after each commit."""

    def __init__(
        self, journal: Journal, broker: str, clock: Clock, emit: Callable[[BrokerEvent], None] | None = None,
        listened: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self._journal = journal
        self._broker = broker
        self._clock = clock
        self._emit = emit
        self._listened = listened
        #: The rows committed last, and the offset of the first of them.
        self._recent: list[Entry] = []
        self._recent_from = 1
        self._bell = Bell()
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

        memory = self._journal.memory

        def job(connection: sqlite3.Connection) -> tuple[T, Appender]:
            appender = Appender(connection, self._journal.rows(connection), self._broker, now_ns)
            result = work(appender)
            if memory is not None:
                memory.commit()
            return result, appender

        try:
            return (await self._journal.store.run(job, self._published))[0]
        except BaseException:
            if memory is not None:
                memory.roll_back()
            raise

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Look something up in what is committed."""
        return self._journal.store.read(query)

    async def note(self, kind: EventKind, message: str = "", **detail: str) -> None:
        """Log an event that concerns no one order."""
        await self.transact(lambda log: log.event(kind, None, message, **detail))

    def observed(self, kind: EventKind, message: str = "", **detail: str) -> None:
        """Tell observers of something that isn't kept in the log."""
        if self._emit is not None and self._listened():
            at = self._clock.now()
            self._tell(BrokerEvent(kind=kind, broker=self._broker, at=at, message=message, detail=detail))

    def _published(self, done: tuple[object, Appender]) -> None:
        appender = done[1]
        entries = appender.entries
        if self._journal.memory is None:
            self._keep(appender)
        if entries:
            self.ring({entry.order_id for entry in entries})
            if self._emit is not None and self._listened():
                for at, entry in enumerate(entries, appender.first):
                    self._tell(event_of(entry, at))
        if self.on_cancel_due is not None:
            for order in appender.cancels_due:
                self.on_cancel_due(order)
        if appender.bound and self.on_bound is not None:
            self.on_bound()

    def _keep(self, appender: Appender) -> None:
        """Keep what was committed at hand: most readers want just that, and need not parse it again."""
        recent = self._recent
        if appender.amended:
            recent.clear()  # the file has them as they are now
        elif appender.entries:
            # Results arrive in the order of their commits; a gap is another process's, and in the file.
            if not recent or appender.first != self._recent_from + len(recent):
                recent.clear()
                self._recent_from = appender.first
            recent.extend(appender.entries)
            if (over := len(recent) - 2 * _RECENT) > 0:
                del recent[: over + _RECENT]
                self._recent_from += over + _RECENT

    def _tell(self, event: BrokerEvent) -> None:
        assert self._emit is not None
        try:
            self._emit(event)
        # What is written is written: an observer that fails can't make an order's answer fail.
        except Exception:  # noqa: BLE001
            _log.exception("%s: an observer failed on %s", self._broker, event.kind)

    def look_again(self) -> None:
        """Wake every reader because another process may have written."""
        newest, _ = self._rows(lambda rows: rows.newest())
        if newest >= self._recent_from + len(self._recent):
            self._recent.clear()  # what follows it is in the file
        self.ring()

    def ring(self, about: Container[str | None] | None = None) -> None:
        """Wake every reader; `about` are the orders of which something was told, None where it may be any."""
        bell, self._bell = self._bell, Bell()
        bell.about, bell.following = about, self._bell
        bell.set()

    @property
    def bell(self) -> Bell:
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
            raise self._failure.with_traceback(None)  # raised to many, it would collect all their frames

    async def fills(self, *, since: int | None, consumer: str) -> AsyncIterator[Fill]:
        """Iterate over executions from after `since` (a seq), or after what the consumer acknowledged."""
        async for rows, first in self._batches("fills", since, consumer):
            for at, row in enumerate(rows, first):
                if isinstance(row, Fill):
                    yield row
                    if since is None:
                        self._acknowledge(consumer, "fills", at)

    async def events(self, *, since: int | None, consumer: str) -> AsyncIterator[BrokerEvent]:
        """Iterate over everything logged, in the same way."""
        async for rows, first in self._batches("events", since, consumer):
            for at, row in enumerate(rows, first):
                yield event_of(row, at)
                if since is None:
                    self._acknowledge(consumer, "events", at)

    async def _batches(
        self, stream: Stream, since: int | None, consumer: str
    ) -> AsyncIterator[tuple[Sequence[Entry], int]]:
        """Iterate over rows that stand together, with the offset of the first.

        Asking for the next row acknowledges the one before. Ends when the broker closes; raises
        `BrokerFailed` where it failed.
        """
        cursor = self._cursor(stream, consumer) if since is None else self._offset_of(since)
        while True:
            bell = self._bell
            rows = self._after(cursor)
            if rows:
                yield rows, cursor + 1
                cursor += len(rows)
            else:
                self.check()
                if self._closed:
                    return
                await bell.wait()

    def _after(self, cursor: int) -> Sequence[Entry]:
        recent = self._recent
        if recent and self._recent_from <= cursor + 1:
            start = cursor + 1 - self._recent_from
            return recent[start : start + _BATCH]
        if self._closed and self._journal.memory is None:
            return []
        return self._rows(lambda rows: rows.after(cursor, _BATCH))

    def _rows(self, query: Callable[[Rows], T]) -> T:
        memory = self._journal.memory
        return query(memory) if memory is not None else self.read(lambda c: query(self._journal.rows(c)))

    def last_fill(self) -> Fill | None:
        """Return the execution logged last."""
        return self._rows(lambda rows: rows.last_fill())

    def unpaid_since(self) -> datetime | None:
        """Return when the first execution happened whose fees are not known yet, None without one."""
        return self._rows(lambda rows: rows.unpaid_since())

    def logged_fill(self, account_id: str, fill_id: str) -> Fill | None:
        """Return an execution as it was logged, or None where it wasn't."""
        return self._rows(lambda rows: rows.fill(account_id, fill_id))

    def _cursor(self, stream: Stream, consumer: str) -> int:
        held = self._acks.get((consumer, stream))
        if held is not None:
            return held
        query, names = 'SELECT "offset" FROM consumers WHERE name = ? AND stream = ?', (consumer, stream)
        row = self.read(lambda connection: connection.execute(query, names).fetchone())
        return int(row[0]) if row else 0

    def _offset_of(self, seq: int) -> int:
        offset, last = self._rows(lambda rows: rows.offset_of(seq))
        if last < seq:
            raise InvalidInput(
                f"since={seq} is beyond the last execution logged here, {last}.",
                next_step="this is another journal than the one that gave this seq: open that one",
            )
        return offset

    def _acknowledge(self, consumer: str, stream: Stream, offset: int) -> None:
        """Remember how far a consumer is; two of one name count as the one that is further."""
        cursor = consumer, stream
        if offset <= self._acks.get(cursor, -1) or self._closed:
            return
        self._acks[cursor] = offset
        if self._journal.memory is not None or cursor in self._unwritten:
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
