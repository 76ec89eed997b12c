"""How what the venue says comes in: pushed, triggered, polled, or read again after a gap, all by one door."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Order, OrderStatus
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_brokers_core.platform.failpoints import failpoint
from mts1b_brokers_core.platform.ratelimit import Priority, prioritised

from . import journal, parking, port
from .books import Ingested
from .journal import State
from .login import Login
from .resolver import Resolver

P = ParamSpec("P")
T = TypeVar("T")
Reading = Callable[[], Awaitable[object]]
Run = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]

#: Overlap of every read of past executions with what was read before.
_OVERLAP = timedelta(minutes=5)
#: How old an execution is that the stream should have brought by then.
_ON_ITS_WAY = timedelta(seconds=2)
_FIRST_WAIT, _LONGEST_WAIT, _ONCE_MORE = 0.25, 30.0, (0.1, 0.5)
#: Seconds until a listing that had holes is read again.
_HOLES_WAIT = 5.0
#: Refusals of the login after which one reading gives up; more of them would lock the key at some venues.
_REFUSALS = 3
#: How long an order that probably isn't at the venue is looked for again, in case it arrives late.
_LATE_WATCH = timedelta(minutes=15)
#: How long after an execution its fees may become known: over a long weekend.
_FEES_LATE = timedelta(days=5)
#: Seconds within which an order that was acknowledged shows everywhere, beside what the profile says.
_SHOWN_WITHIN = 5.0
#: Decoded items that may wait for the journal before the socket is left unread.
_WAITING = 8192
#: Orders read by id at once.
_AT_ONCE = 50
_MERGED = (port.OrderView, port.FeeAmendment, port.Execution)
_UNREACHED = (OSError, TimeoutError, errors.VenueError)


class Intake:
    """Feeds the fill log from frames and from reads with overlap."""

    def __init__(
        self, login: Login, resolver: Resolver, *, since: datetime, settle_wait: float, every: float, run: Run
    ) -> None:
        self._login = login
        self._resolver = resolver
        self._since = since
        self._settle_wait = settle_wait
        profile = login.port.profile
        self._every = min(every, profile.poll_every) if profile.fill_source == "poll" else every
        # Executions that nothing tells apart can only be counted in a listing of all of them.
        self._merged = _MERGED[:2] if profile.fill_identity == "content" else _MERGED
        self._gap, self._up = False, True
        #: False where the last reading of the past was told to be, or seen to be, no whole one.
        self._whole = True
        self._again: float | None = None
        self._run = run
        self._parked = False
        #: The end of an outage that was longer than the venue keeps executions, announced already.
        self._outage: datetime | None = None
        #: How often frames were lost: a reading begun before the last time closes no gap.
        self._losses = 0
        self._fees_until: datetime | None = None
        #: Orders that the venue took and knows no longer, announced already.
        self._vanished: set[str | None] = set()
        self._reading = asyncio.Lock()
        self._waiting: list[port.Decoded] = []
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._ended = False
        #: What has to be read: these orders, or everything.
        self._refs: dict[port.OrderRef, None] = {}
        self._everything = False
        self._wanted = asyncio.Event()
        login.ingest.venue_now = login.skew.venue_now
        login.ingest.on_held = lambda key: run(self._release(key), f"settle {key}")
        login.ingest.on_parked = self._wait_parked
        login.log.on_bound = lambda: run(self._unpark(), "parked fills")

    # --- start, and reads with overlap ----------------------------------------------------------

    async def settle_the_past(self) -> None:
        """Ask about what the last run left open, then read what happened meanwhile, with overlap."""
        await self._login.log.transact(
            lambda log: journal.abandon_changes(log.connection, self._login.owner.is_dead)
        )
        for record in self._login.journal.read(journal.unsettled, (State.SENDING, State.UNKNOWN)):
            await self._resolver.resolve_once(record)
        self._resolver.take_over()
        await self.catch_up()

    async def catch_up(self) -> Ingested:
        """Read past executions with overlap, then the unsettled orders and what those still lack."""
        async with self._reading:
            losses = self._losses
            with prioritised(Priority.FILLS):
                seen = await self._catch_up()
            if losses == self._losses:
                await self._close_gap()
        await self._unpark()
        if self._whole:
            self._again = None
        elif self._again is None:
            self._again = _HOLES_WAIT
            self._run(self._read_again(), "incomplete listing")
        return seen

    async def _read_again(self) -> None:
        """Want everything again until the venue lists all of it: ever more rarely, and beside the stream."""
        while (wait := self._again) is not None:
            await self._login.clock.sleep(wait)
            if self._again is not None:
                self._again = min(wait * 2, max(_LONGEST_WAIT, self._every))
                self._want((), everything=True)

    async def _catch_up(self) -> Ingested:
        login, profile = self._login, self._login.port.profile
        # Times of executions are the venue's, and so must be the one until which they were read.
        now, last, read_until = login.skew.venue_now(), login.log.last_fill(), login.journal.read(_read_until)
        since = min(filter(None, (read_until, last.executed_at if last else None)), default=self._since)
        since -= _OVERLAP + timedelta(seconds=profile.correction_lookback)
        await self._check_window(read_until, now)
        past = await self._ask(login.port.executions, login.account_id, since, None)
        whole = _whole(past)
        seen = await self._observe(past)
        records = login.journal.read(journal.unsettled, (State.CONFIRMED, State.DUPLICATE))
        refs = [port.OrderRef(name) for row in records for name in row.order.broker_order_ids]
        shown: set[str | None] = set()
        for start in range(0, len(refs), _AT_ONCE):
            listing, part = await self._read_orders(refs[start : start + _AT_ONCE])
            whole = whole and _whole(listing)
            seen.fills += part.fills
            seen.fills += await self._follow(part)
            shown |= {view.ref.broker_order_id for view in listing.rows}
            if listing.unreadable or not listing.coverage.complete:
                shown |= {ref.broker_order_id for ref in refs}  # what is not shown may still be there
        for record in records:
            name = record.order.broker_order_id
            if name not in shown and name not in self._vanished:
                await self._vanish(record.order)
        self._whole = whole
        if whole:
            until = min(now, past.coverage.as_of or now).isoformat()
            query = "INSERT OR REPLACE INTO meta VALUES ('read_until', ?)"
            login.journal.store.post(lambda connection: connection.execute(query, (until,)))
        return seen

    async def _vanish(self, order: Order) -> None:
        """Announce an order that the venue took, and doesn't know by its id: the venue has lost something."""
        now, profile = self._login.clock.now(), self._login.port.profile
        age = (now - (order.submitted_at or now)).total_seconds()
        if age <= profile.visibility + _SHOWN_WITHIN or age > (profile.lookup_window or age):
            return
        self._vanished.add(order.broker_order_id)
        why = f"the venue knows {order.broker_order_id} no longer; compare the positions"
        await self._login.log.transact(lambda log: log.event(EventKind.GAP_OPEN, order, why, closed="never"))

    async def _check_window(self, read_until: datetime | None, now: datetime) -> None:
        """Announce what can't be read any more: an outage longer than the venue keeps executions."""
        window = self._login.port.profile.fill_window
        if window is None or read_until is None or read_until == self._outage:
            return
        kept = now - timedelta(seconds=window)
        if read_until < kept:
            self._outage = read_until
            bounds = {"since": str(read_until), "until": str(kept), "closed": "never"}
            why = "the venue keeps executions no longer; compare the positions"
            await self._login.log.note(EventKind.GAP_OPEN, why, **bounds)

    async def _follow(self, seen: Ingested) -> list[datetime]:
        """Read what orders lack: executions where the venue counts more, counts where it shows only those."""
        fills: list[datetime] = []
        port_ = self._login.port
        if seen.lacking and port_.profile.fill_identity != "cumulative":
            listing = await self._ask(port_.executions_of, list(seen.lacking.values()))
            fills += (await self._observe(listing)).fills
        if seen.reread:
            fills += (await self._read_orders(seen.reread))[1].fills
        return fills

    async def _ask(
        self, operation: Callable[P, Awaitable[port.Listing[T]]], *values: P.args, **named: P.kwargs
    ) -> port.Listing[T]:
        """Ask once more, twice at most, before one reply that can't be read costs all those before it."""
        for wait in _ONCE_MORE:
            try:
                return await _told(operation, *values, **named)
            except errors.UnreadableReply:
                await self._login.clock.sleep(wait)
        return await _told(operation, *values, **named)

    async def _observe(self, listing: port.Listing[port.Seen]) -> Ingested:
        self.report(listing.unreadable)
        return await self._login.ingest.observe(listing.rows)

    async def _read_orders(
        self, refs: Sequence[port.OrderRef], fills: Sequence[port.Seen] = ()
    ) -> tuple[port.Listing[port.OrderView], Ingested]:
        """Read orders by id, and merge them after the `fills` that were read before."""
        ingest = self._login.ingest
        with ingest.asking() as overtaken:
            listing = await self._ask(self._login.port.read, refs)
            self.report(listing.unreadable)
            return listing, await ingest.observe([*fills, *listing.rows], overtaken=overtaken)

    # --- what a healthy-looking stream may have lost --------------------------------------------

    async def reconcile(self) -> None:
        """Compare with the venue at a steady pace until the broker closes."""
        while True:
            await self._login.clock.sleep(self._every)
            await self._persist(self.compare)

    async def compare(self) -> None:
        """Read what the stream should have brought; what it didn't is a gap, found and closed here."""
        login, known = self._login, self._gap
        seen = await self.catch_up()
        with prioritised(Priority.FILLS):
            listing = await self._ask(login.port.open_orders, login.account_id)
            seen.fills += await self._follow(await self._observe(listing))
            if isinstance(login.port, port.ReadingFees):
                await self._read_fees(login.port)
        # One that happened just now may be on its way.
        overdue = [at for at in seen.fills if at < login.skew.venue_now() - _ON_ITS_WAY]
        if overdue and login.port.profile.fill_source != "poll" and not (known or self._gap):
            await self._open_gap(f"{len(overdue)} executions that the stream did not bring")
            await self._close_gap()
        self._resolver.take_over()
        self._cancel_again()

    def _cancel_again(self) -> None:
        """Send the cancels that were wanted before their order was found, and that nobody waits for."""
        log, working = self._login.log, (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
        for record in self._login.journal.read(journal.unsettled, (State.CONFIRMED,)):
            if record.cancel_wanted and record.order.status in working and log.on_cancel_due is not None:
                log.on_cancel_due(record.order)

    async def _read_fees(self, source: port.ReadingFees) -> None:
        login = self._login
        now = login.skew.venue_now()
        unpaid = login.log.unpaid_since()
        since = min(self._fees_until or self._since, max(unpaid or now, now - _FEES_LATE)) - _OVERLAP
        listing = await self._ask(source.fees, login.account_id, since)
        self.report(listing.unreadable)
        await login.ingest.observe(listing.rows)
        self._fees_until = now

    async def watch(self) -> None:
        """Look for orders that arrive late, at the same pace and beside the comparing, until the end."""
        while True:
            await self._login.clock.sleep(self._every)
            with contextlib.suppress(errors.StateError):  # what can't be written is looked for again
                await self._look_for_late_orders()

    async def _look_for_late_orders(self) -> None:
        since = self._login.clock.now() - _LATE_WATCH
        for record in self._login.journal.read(_young_absent, to_ns(since)):
            sent = record.order.submitted_at
            if record.certainty == "probable" and sent is not None and sent >= since:
                await self._resolver.look_for_late(record)
        await self._resolver.look_behind(to_ns(since))

    # --- the stream -----------------------------------------------------------------------------

    async def pump(self) -> None:
        """Take frames until the broker closes. Raises `BrokerFailed` where the venue's stream ends.

        Frames are decoded as they come and merged together: one commit for what arrived meanwhile.
        """
        try:
            async for frame in self._login.port.frames():
                try:
                    self._waiting.extend(self._login.port.decode(frame))
                # An adapter that stumbles over one frame has lost that one, and not the stream.
                except Exception as error:  # noqa: BLE001
                    words = f"a frame that could not be decoded: {type(error).__name__}"
                    self.report([port.Unreadable(f"a {type(frame).__name__}", words)])
                    self._losses += 1
                    await self._open_gap(words)
                    self._want((), everything=True)
                self._arrived.set()
                if len(self._waiting) >= _WAITING:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._ended = True
            self._arrived.set()
        raise errors.BrokerFailed("the venue's stream ended.")

    async def merge(self) -> None:
        """Merge what `pump` decoded until it ends."""
        while not self._ended or self._waiting:
            await self._arrived.wait()
            self._arrived.clear()
            items, self._waiting = self._waiting, []
            self._room.set()
            await self._handle(items)

    async def _handle(self, items: Sequence[port.Decoded]) -> None:
        merged: list[port.Execution | port.OrderView | port.FeeAmendment] = []
        for item in items:
            if isinstance(item, self._merged):
                merged.append(item)
            elif isinstance(item, port.Link):
                await self._merge(merged)  # what came before it is logged before it
                merged = []
                await self._linked(item)
            elif isinstance(item, port.Trigger):
                self._want(item.refs, everything=not item.refs)
            elif isinstance(item, port.Unreadable):
                self.report([item])
            elif isinstance(item, port.Execution):
                self._want([item.ref])
        await self._merge(merged)

    async def _merge(self, items: Sequence[port.Execution | port.OrderView | port.FeeAmendment]) -> None:
        if items:
            seen = await self._login.ingest.observe(items)
            failpoint("fill.delivered")
            self._want(seen.reread)

    def _want(self, refs: Sequence[port.OrderRef], *, everything: bool = False) -> None:
        self._refs.update(dict.fromkeys(refs))
        self._everything = self._everything or everything
        if self._refs or self._everything:
            self._wanted.set()

    def want_everything(self) -> None:
        """Let `read` catch up, as often as it takes."""
        self._want((), everything=True)

    async def read(self) -> None:
        """Read what the stream gave reason to, until the broker closes; the stream goes on meanwhile."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            refs, everything = list(itertools.islice(self._refs, _AT_ONCE)), self._everything
            for ref in refs:
                del self._refs[ref]
            self._everything = False
            self._want(())
            await self._persist(self.catch_up if everything else functools.partial(self._read, refs))

    async def _read(self, refs: Sequence[port.OrderRef]) -> None:
        fills: Sequence[port.Seen] = ()
        with prioritised(Priority.FILLS):
            if self._login.port.profile.fill_identity != "cumulative":
                listing = await self._ask(self._login.port.executions_of, refs)
                self.report(listing.unreadable)
                fills = listing.rows
            await self._read_orders(refs, fills)

    async def _persist(self, read: Reading) -> None:
        """Read until it succeeds: what the venue could not tell is a gap, and no reason to stop.

        A login that stays refused is one. The first refusals may be a clock that was set, or one server of
        many that doesn't know a new token yet: the next request is signed anew.
        """
        wait, refused = _FIRST_WAIT, 0
        while True:
            try:
                await read()
            except _UNREACHED as error:
                refused += isinstance(error, (errors.AuthenticationError, errors.PermissionDenied))
                if refused >= _REFUSALS:
                    raise
                await self._open_gap(str(error))
                await self._login.clock.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                read = read if read == self.compare else self.catch_up
            else:
                return

    async def _release(self, key: str) -> None:
        await self._login.clock.sleep(self._settle_wait)
        while (view := self._login.ingest.held.get(key)) is not None:
            # An end that shows no count is proven by its executions alone: those have to be read first.
            proven = view.cumulative_quantity is not None or view.status is OrderStatus.FILLED
            with contextlib.suppress(*_UNREACHED), prioritised(Priority.FILLS):
                listing = await _told(self._login.port.executions_of, [view.ref])
                proven = proven or _whole(listing)
                await self._observe(listing)
            if proven and (view := self._login.ingest.held.get(key)) is not None:
                await self._login.ingest.observe([view], release=True)
                return
            await self._login.clock.sleep(self._settle_wait)

    async def _unpark(self) -> None:
        with contextlib.suppress(errors.StateError):  # they stay parked
            await self._login.ingest.unpark()

    def _wait_parked(self) -> None:
        if not self._parked:
            self._parked = True
            self._run(self._unpark_late(), "parked fills")

    async def _unpark_late(self) -> None:
        """Unpark what has waited longest until nothing waits: no event may ever come that does."""
        while self._login.log.read(parking.parked):
            await self._login.clock.sleep(self._login.ingest.park_max)
            await self._unpark()
        self._parked = False

    async def _linked(self, link: port.Link) -> None:
        lost = not link.up or link.data_lost
        self._up, self._losses = link.up, self._losses + lost
        await self._login.log.note(EventKind.LINK_UP if link.up else EventKind.LINK_DOWN, link.words)
        if lost:
            await self._open_gap(link.words)
        if link.up and (lost or self._gap):
            self._want((), everything=True)

    async def _open_gap(self, words: str) -> None:
        if not self._gap:
            self._gap = True
            await self._login.log.note(EventKind.GAP_OPEN, words)

    async def _close_gap(self) -> None:
        if self._gap and self._up and self._whole:
            self._gap = False
            await self._login.log.note(EventKind.GAP_CLOSED, "read again with overlap")

    def report(self, rows: Sequence[port.Unreadable]) -> None:
        """Tell observers of rows that make no sense."""
        for row in rows:
            self._login.log.observed(EventKind.UNREADABLE, row.cause, words=row.words)


async def _told(
    operation: Callable[P, Awaitable[port.Listing[T]]], *values: P.args, **named: P.kwargs
) -> port.Listing[T]:
    """Return a listing of the adapter's. Whatever fails inside the adapter is a reply that can't be read."""
    try:
        listing: object = await operation(*values, **named)
    except (*_UNREACHED, errors.StateError):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise errors.UnreadableReply("the adapter gave up on a reading.") from error
    except Exception as error:
        raise errors.UnreadableReply(f"the adapter failed on a reading: {type(error).__name__}.") from error
    if not isinstance(listing, port.Listing):
        raise errors.UnreadableReply(f"the adapter returned a {type(listing).__name__}, not a listing.")
    return listing


def _whole(listing: port.Listing[object]) -> bool:
    return listing.coverage.complete and not listing.unreadable


def _young_absent(connection: sqlite3.Connection, since_ns: int) -> list[journal.Record]:
    """Return the orders tried since a time that were not placed."""
    query = (
        "SELECT DISTINCT attempts.key FROM attempts JOIN orders USING (key)"
        " WHERE t0_ns >= ? AND state = ? AND settled = 0"
    )
    keys = connection.execute(query, (since_ns, State.NOT_PLACED)).fetchall()
    return [record for (key,) in keys if (record := journal.get(connection, key)) is not None]


def _read_until(connection: sqlite3.Connection) -> datetime | None:
    """Return until when executions were read, in this life or an earlier one."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'read_until'").fetchone()
    return datetime.fromisoformat(row[0]) if row else None
