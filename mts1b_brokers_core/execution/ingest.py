"""The one door for what the venue reports: executions and order views into journal and log."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator, Sequence
from datetime import datetime, timedelta

from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.platform.failpoints import failpoint

from . import journal, parking
from .books import Books, Ingested, Rules
from .eventlog import Appender, EventLog
from .port import Execution, FeeAmendment, OrderView, VenueProfile
from .sound import unsound


class Ingest:
    """Deduplicates, numbers, attributes and merges; each call is one commit."""

    def __init__(self, log: EventLog, profile: VenueProfile, account_id: str, *, park_max: float) -> None:
        self._log = log
        self._rules = Rules(account_id, profile, timedelta(seconds=park_max))
        self._held: dict[str, OrderView] = {}
        self._asking: list[set[str]] = []
        #: Called with a key when a terminal status begins to wait for its last fills.
        self.on_held: Callable[[str], object] | None = None
        self.park_max = park_max
        #: Called when an execution begins to wait for the order it may be of.
        self.on_parked: Callable[[], object] | None = None
        #: Tells the venue's time, where that is known.
        self.venue_now: Callable[[], datetime | None] = lambda: None

    @property
    def held(self) -> dict[str, OrderView]:
        """Terminal views by key whose last fills have not been logged yet."""
        return dict(self._held)

    @contextlib.contextmanager
    def asking(self) -> Iterator[Container[str]]:
        """Note which orders change while the venue is asked: its answer may be from before that."""
        changed: set[str] = set()
        self._asking.append(changed)
        try:
            yield changed
        finally:
            self._asking = [other for other in self._asking if other is not changed]

    async def observe(
        self,
        seen: Sequence[Execution | OrderView | FeeAmendment],
        *,
        release: bool = False,
        overtaken: Container[str] | None = None,
    ) -> Ingested:
        """Log what is new of what was seen, in order, and merge it into the journalled orders.

        A terminal view whose cumulative quantity exceeds the logged fills is held until they arrive;
        `release` lets it through with `fills_pending`. `overtaken` is what `asking` gave, where the orders
        were read by id.
        """
        if not seen:
            return Ingested()
        held = dict(self._held)
        unreadable: list[tuple[str, str]] = []

        def work(log: Appender) -> Ingested:
            books = Books(log, self._rules, release=release, venue_now=self.venue_now(), overtaken=overtaken)
            for item in seen:
                if (cause := unsound(item)) is not None:
                    unreadable.append((cause, repr(item)))
                    continue
                try:
                    if isinstance(item, Execution):
                        books.execution(item)
                    elif isinstance(item, OrderView):
                        books.view(item)
                    else:
                        books.amend(item)
                except InvalidInput as error:  # what no fill can hold is told of, and stops nothing else
                    unreadable.append((error.message, repr(item)))
            books.merge()
            waiting = held | books.result.held
            for key in (waiting.keys() & books.result.orders.keys()) - books.result.past:
                books.result.held.pop(key, None)
                books.view(waiting[key])
            failpoint("fill.uncommitted")
            result = books.close()
            for changed in tuple(self._asking):  # here, as the next commit may begin before we go on
                changed.update(result.orders)
            return result

        result = await self._log.transact(work)
        self._report(unreadable + result.odd)
        for key in result.past.union(result.orders):
            self._held.pop(key, None)
        for key, view in result.held.items():
            begins = key not in held
            self._held[key] = view
            if begins and self.on_held is not None:
                self.on_held(key)
        if result.parked and self.on_parked is not None:
            self.on_parked()
        return result

    def _report(self, rows: Sequence[tuple[str, str]]) -> None:
        for cause, words in rows:
            self._log.observed(EventKind.UNREADABLE, cause, words=words)

    async def unpark(self) -> None:
        """Log the parked executions whose order is known by now, or whose order can't be ours any more."""
        if not self._log.read(parking.parked):
            return

        odd: list[tuple[str, str]] = []

        def work(log: Appender) -> None:
            books = Books(log, self._rules, venue_now=self.venue_now())
            for seen, until_ns in parking.parked(log.connection):
                account = seen.account_id or self._rules.account_id
                ours = journal.at_venue(log.connection, account, seen.ref) is not None
                expired = until_ns <= log.now_ns
                if ours or expired or not parking.could_own(log.connection, account, seen):
                    parking.unpark(log.connection, account, seen.fill_id)
                    try:
                        books.execution(seen, parked=True)
                    except InvalidInput as error:
                        odd.append((error.message, repr(seen)))
            odd.extend(books.close().odd)
            failpoint("unpark.uncommitted")

        await self._log.transact(work)
        self._report(odd)
