"""How what the venue says comes in: pushed, triggered, or read again after a gap, all by one door."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.events import EventKind

from . import journal, port
from .ingest import Ingested
from .journal import State
from .login import Login
from .resolver import Resolver

Reading = Callable[[], Awaitable[None]]

#: Overlap of every read of past executions with what was read before.
_OVERLAP = timedelta(minutes=5)
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0


class Intake:
    """Feeds the fill log from frames and from reads with overlap."""

    def __init__(
        self,
        login: Login,
        *,
        since: datetime,
        settle_wait: float,
        run: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self._login = login
        self._since = since
        self._settle_wait = settle_wait
        self._gap = False
        login.ingest.on_held = lambda key: run(self._release(key), f"settle {key}")

    async def settle_the_past(self, resolver: Resolver) -> None:
        """Ask about what the last run left open, then read what happened meanwhile, with overlap."""
        records = self._login.journal.read(journal.unsettled, (State.SENDING, State.UNKNOWN))
        for record in records:
            await resolver.resolve_once(record)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Read past executions with overlap, then the unsettled orders and what those still lack."""
        last = self._login.journal.read(journal.last_fill)
        since = last.executed_at if last else self._since
        since -= _OVERLAP + timedelta(seconds=self._login.port.profile.correction_lookback)
        await self._observe(await self._login.port.executions(self._login.account_id, since, None))
        records = self._login.journal.read(journal.unsettled, (State.CONFIRMED,))
        refs = [port.OrderRef(row.order.broker_order_id) for row in records if row.order.broker_order_id]
        if refs:
            await self._follow(await self._observe(await self._login.port.read(refs)))

    async def _follow(self, seen: Ingested) -> None:
        """Read the executions of orders of which the venue counts more than is logged."""
        if seen.lacking:
            await self._observe(await self._login.port.executions_of(list(seen.lacking.values())))

    async def _observe(
        self, listing: port.Listing[port.Execution] | port.Listing[port.OrderView]
    ) -> Ingested:
        self.report(listing.unreadable)
        return await self._login.ingest.observe(listing.rows)

    async def pump(self) -> None:
        """Take frames until the broker closes. Raises `BrokerFailed` where the venue's stream ends."""
        async for frame in self._login.port.frames():
            await self._handle(self._login.port.decode(frame))
        raise errors.BrokerFailed("the venue's stream ended.")

    async def _handle(self, items: Sequence[port.Decoded]) -> None:
        await self._login.ingest.observe(
            [item for item in items if isinstance(item, (port.Execution, port.OrderView))]
        )
        for item in items:
            if isinstance(item, port.Trigger):
                await self._persist(functools.partial(self._read, item.refs))
            elif isinstance(item, port.Link):
                await self._linked(item)
            elif isinstance(item, port.FeeAmendment):
                await self._amend(item)
            elif isinstance(item, port.Unreadable):
                self.report([item])

    async def _read(self, refs: Sequence[port.OrderRef]) -> None:
        fills = await self._login.port.executions_of(refs)
        views = await self._login.port.read(refs)
        self.report([*fills.unreadable, *views.unreadable])
        await self._login.ingest.observe([*fills.rows, *views.rows])

    async def _persist(self, read: Reading) -> None:
        """Read until it succeeds: what the venue could not tell is a gap, and no reason to stop."""
        wait = _FIRST_WAIT
        while True:
            try:
                await read()
            except (errors.AuthenticationError, errors.PermissionDenied):
                raise
            except (OSError, TimeoutError, errors.VenueError) as error:
                await self._open_gap(str(error))
                await self._login.clock.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                read = self.catch_up
            else:
                await self._close_gap()
                return

    async def _release(self, key: str) -> None:
        await self._login.clock.sleep(self._settle_wait)
        view = self._login.ingest.held.get(key)
        if view is None:
            return
        with contextlib.suppress(OSError, TimeoutError, errors.VenueError):
            await self._observe(await self._login.port.executions_of([view.ref]))
        if (view := self._login.ingest.held.get(key)) is not None:
            await self._login.ingest.observe([view], release=True)

    async def _linked(self, link: port.Link) -> None:
        await self._login.log.note(EventKind.LINK_UP if link.up else EventKind.LINK_DOWN, link.words)
        if not link.up or link.data_lost:
            await self._open_gap(link.words)
        if link.up and self._gap:
            await self._persist(self.catch_up)

    async def _open_gap(self, words: str) -> None:
        if not self._gap:
            self._gap = True
            await self._login.log.note(EventKind.GAP_OPEN, words)

    async def _close_gap(self) -> None:
        if self._gap:
            self._gap = False
            await self._login.log.note(EventKind.GAP_CLOSED, "read again with overlap")

    async def _amend(self, amendment: port.FeeAmendment) -> None:
        fees = " + ".join(map(repr, amendment.fees))
        detail = {"fill_id": amendment.fill_id, "status": amendment.fee_status}
        await self._login.log.note(EventKind.FEE_AMENDED, fees, **detail)

    def report(self, rows: Sequence[port.Unreadable]) -> None:
        """Tell observers of rows that make no sense."""
        for row in rows:
            self._login.log.observed(EventKind.UNREADABLE, row.cause, words=row.words)
