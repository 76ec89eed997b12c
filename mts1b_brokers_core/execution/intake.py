"""How what the venue says comes in: pushed, triggered, or read again after a gap, all by one door."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import BrokerFailed
from mts1b_brokers_core.foundation.events import EventKind

from . import journal
from .eventlog import EventLog
from .ingest import Ingest
from .journal import Journal, State
from .port import (
    Decoded,
    Execution,
    FeeAmendment,
    Link,
    OrderRef,
    OrderView,
    Trigger,
    Unreadable,
    VenuePort,
)
from .resolver import Resolver

#: Overlap of every read of past executions with what was read before.
_OVERLAP = timedelta(minutes=5)


class Intake:
    """Feeds the fill log from frames and from reads with overlap."""

    def __init__(
        self,
        port: VenuePort,
        journal_: Journal,
        log: EventLog,
        ingest: Ingest,
        *,
        account_id: str,
        clock: Clock,
        since: datetime,
        settle_wait: float,
        run: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self._port = port
        self._journal = journal_
        self._log = log
        self._ingest = ingest
        self._account_id = account_id
        self._clock = clock
        self._since = since
        self._settle_wait = settle_wait
        self._run = run

    async def settle_the_past(self, resolver: Resolver) -> None:
        """Ask about what the last run left open, then read what happened meanwhile, with overlap."""
        records = await self._journal.store.run(
            lambda connection: journal.unsettled(connection, (State.SENDING, State.UNKNOWN))
        )
        for record in records:
            await resolver.resolve_once(record)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Read past executions with overlap, then the unsettled orders and what those still lack."""
        last = await self._journal.store.run(journal.last_fill)
        since = last.executed_at if last else self._since
        since -= _OVERLAP + timedelta(seconds=self._port.profile.correction_lookback)
        listing = await self._port.executions(self._account_id, since, None)
        self.report(listing.unreadable)
        await self._ingest.observe(self._account_id, listing.rows)
        records = await self._journal.store.run(
            lambda connection: journal.unsettled(connection, (State.CONFIRMED,))
        )
        refs = [OrderRef(row.order.broker_order_id) for row in records if row.order.broker_order_id]
        if refs:
            views = await self._port.read(refs)
            self.report(views.unreadable)
            await self._observe(views.rows)
            await self._fetch_missing()

    async def _fetch_missing(self) -> None:
        """Read the executions of the orders whose final status waits for them."""
        held = list(self._ingest.held.values())
        if held:
            listing = await self._port.executions_of([view.ref for view in held])
            self.report(listing.unreadable)
            await self._ingest.observe(self._account_id, listing.rows)

    async def pump(self) -> None:
        """Take frames until the broker closes. Raises `BrokerFailed` where the venue's stream ends."""
        async for frame in self._port.frames():
            await self._handle(self._port.decode(frame))
        raise BrokerFailed("the venue's stream ended.")

    async def _handle(self, items: Sequence[Decoded]) -> None:
        seen = [item for item in items if isinstance(item, (Execution, OrderView))]
        if seen:
            await self._observe(seen)
        for item in items:
            if isinstance(item, Trigger):
                fills = await self._port.executions_of(item.refs)
                views = await self._port.read(item.refs)
                self.report([*fills.unreadable, *views.unreadable])
                await self._observe([*fills.rows, *views.rows])
            elif isinstance(item, Link):
                await self._linked(item)
            elif isinstance(item, FeeAmendment):
                await self._amend(item)
            elif isinstance(item, Unreadable):
                self.report([item])

    async def _observe(self, seen: Sequence[Execution | OrderView]) -> None:
        result = await self._ingest.observe(self._account_id, seen)
        for key, view in result.held.items():
            self._run(self._release(key, view), f"settle {key}")

    async def _release(self, key: str, view: OrderView) -> None:
        await self._clock.sleep(self._settle_wait)
        if self._ingest.held.get(key) is not view:
            return
        await self._fetch_missing()
        if key in self._ingest.held:
            await self._ingest.observe(self._account_id, [view], release=True)

    async def _linked(self, link: Link) -> None:
        kind = EventKind.LINK_UP if link.up else EventKind.LINK_DOWN
        await self._tell(kind, link.words)
        if not link.up or link.data_lost:
            await self._tell(EventKind.GAP_OPEN, link.words)
        if link.up and link.data_lost:
            await self.catch_up()
            await self._tell(EventKind.GAP_CLOSED, link.words)

    async def _tell(self, kind: EventKind, words: str) -> None:
        await self._log.transact(lambda _, log: log.event(kind, None, words))

    async def _amend(self, amendment: FeeAmendment) -> None:
        fees = " + ".join(map(repr, amendment.fees))
        await self._log.transact(
            lambda _, log: log.event(
                EventKind.FEE_AMENDED, None, fees, fill_id=amendment.fill_id, status=amendment.fee_status
            )
        )

    def report(self, rows: Sequence[Unreadable]) -> None:
        """Tell observers of rows that make no sense."""
        for row in rows:
            self._log.observed(EventKind.UNREADABLE, row.cause, words=row.words)
