"""One kind of venue's chaos, from opening to verdict."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core.execution.journal import State
from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import Fill, OrderStatus
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.platform.clock import RealClock
from mts1b_simulator.wire.faults import RequestFault

from .flow import Callers, Plan, plans
from .judge import Evidence, Finding, Judge
from .kinds import SETTINGS, TIMEOUT, Kind
from .venue import WatchedVenue, tagged

#: Seconds in which everything has to come to rest once the faults have ended.
SETTLED_WITHIN = 150.0
_LOOK = 0.05
_FILL_EVERY = 0.02
Progress = Callable[[str], None]


@dataclass(slots=True)
class Result:
    """One profile's figures and findings."""

    profile: str
    seed: int
    guarantee: str
    scaled: str
    orders: int
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    faulty_share: float = 0.0
    callers: Counter[str] = field(default_factory=Counter)
    unknowns: int = 0
    second_attempts: int = 0
    duplicates: int = 0
    announced: int = 0
    late: int = 0
    fills: int = 0
    busts: int = 0
    gaps: int = 0
    links_down: int = 0
    states: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    settling: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True where nothing is wrong."""
        return not self.findings


class _Listener(logging.Handler):
    """Keeps what the library and asyncio warn of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line, with what caused it."""
        cause = f": {record.exc_info[1]!r}" if record.exc_info and record.exc_info[1] else ""
        self.lines.append(f"{record.name}: {record.getMessage()}{cause}")


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[list[Finding]]:
    """Find what is warned of meanwhile, and which open files and tasks are left over afterwards."""
    found: list[Finding] = []
    tasks, files, listener, clock = set(asyncio.all_tasks()), _open_files(), _Listener(), RealClock()
    logging.getLogger().addHandler(listener)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield found
            with contextlib.suppress(TimeoutError):
                async with clock.timeout(5):
                    while set(asyncio.all_tasks()) - tasks or len(_open_files()) > len(files):
                        await clock.sleep(_LOOK)
            gc.collect()  # what was dropped without being closed warns when it is collected
    finally:
        logging.getLogger().removeHandler(listener)
    lines = [*listener.lines, *(f"{row.category.__name__}: {row.message}" for row in caught)]
    found += [Finding(f"warned of: {line}") for line in lines]
    if left := set(asyncio.all_tasks()) - tasks:
        found.append(Finding(f"tasks left over: {sorted(map(repr, left))}"))
    if len(now := _open_files()) > len(files):
        found.append(Finding(f"open files left over: {sorted(set(now.values()) - set(files.values()))}"))


def _open_files() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


async def chaos(
    kind: Kind, seed: int, count: int, *, only: str = "", faults: bool = True, say: Progress = lambda _: None
) -> Result:
    """Put one kind of venue through it. `only` names the one kind of fault there is to be."""
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(kind, seed, count, Path(folder) / "journal.sqlite", say)
        return await run.run(only=only, faults=faults)


class _Run:
    def __init__(self, kind: Kind, seed: int, count: int, journal: Path, say: Progress) -> None:
        self._kind, self._seed, self._say = kind, seed, say
        self._clock = RealClock()
        self._venue = WatchedVenue(kind, seed)
        self._flow: list[Plan] = plans(kind, seed, count)
        self._journal = journal
        self._observed: Counter[str] = Counter()
        self._failures: list[str] = []
        #: When the last delayed request had landed; what is taken for absent is looked for once more since.
        self._landed = 0.0
        self.result = Result(kind.name, seed, str(kind.guarantee), kind.scaled, count)

    def _broker(self) -> ReferenceClient:
        services = Services(self._kind.name, "sandbox", emit=self._observe)
        settings: dict[str, Any] = {
            **self._venue.settings, **SETTINGS, "profile": self._kind.name, "environment": "sandbox",
            "state_path": self._journal, "timeout": TIMEOUT,
        }  # fmt: skip
        broker = ReferenceClient(services=services, **settings)
        broker.profile = self._kind.ours
        return broker

    def _observe(self, event: BrokerEvent) -> None:
        self._observed[event.kind] += 1
        if event.kind is EventKind.FAILED:
            self._failures.append(event.message)

    def _find(self, what: str) -> None:
        self.result.findings.append(Finding(what))

    async def run(self, *, only: str, faults: bool) -> Result:
        """Open, let loose, settle, judge, open again, judge again."""
        began = self._clock.monotonic()
        await self._venue.start()
        try:
            opening = self._venue.venue.positions()
            fills = await self._first(opening, only=only, faults=faults)
            if fills is not None:
                await self._again(fills)
        finally:
            await self._venue.stop()
        self.result.findings += [
            Finding(f"the venue itself broke: {error!r}") for error in self._venue.errors
        ]
        self.result.seconds = self._clock.monotonic() - began
        return self.result

    async def _first(self, opening: dict[str, Any], *, only: str, faults: bool) -> list[Fill] | None:
        broker = self._broker()
        async with broker:
            tagged(broker)
            live: list[Fill] = []
            reader = asyncio.ensure_future(_collect(broker, live, consumer="live"))
            filling = asyncio.ensure_future(self._venue.live(_FILL_EVERY))
            if faults:
                self._venue.let_loose(only=only)
            callers = Callers(broker, self._flow, self._seed)
            watching = asyncio.ensure_future(self._watch(callers))
            try:
                await callers.run()
            finally:
                for task in (watching, filling):
                    task.cancel()
            self._venue.faults.clear()
            self.result.requests = sum(self._venue.faults.requests.values())
            self.result.callers = callers.counts
            for key, error in callers.surprises:
                trace = tuple("".join(traceback.format_exception(error)).splitlines()[-12:])
                self.result.findings.append(
                    Finding(f"told what no caller can act on: {error!r}", key, "", trace)
                )
            ended = self._clock.monotonic()
            settled = await self._settle(broker)
            self.result.settling = self._clock.monotonic() - ended
            self._count(broker)
            if self._failures:
                self._find(f"the broker failed: {self._failures}")
                reader.cancel()
                await asyncio.gather(reader, watching, filling, return_exceptions=True)
                return None
            fills = await _logged(broker)
            told = await self._evidence(broker, fills, opening)
            judge = Judge(self._kind, self._venue, self._flow, told)
            self.result.findings += judge.judge()
            self.result.duplicates, self.result.announced = judge.duplicates, judge.announced
            if not settled:
                self._find(f"not at rest {SETTLED_WITHIN:g} s after the faults ended: {self._unrest(broker)}")
            await self._compare_streams(broker, reader, live, fills)
        await asyncio.gather(reader, watching, filling, return_exceptions=True)
        return fills

    async def _watch(self, callers: Callers) -> None:
        while True:
            self._say(
                f"{self._kind.name}: {callers.left} orders left, {len(self._venue.faults.applied)} faults"
            )
            await self._clock.sleep(0.5)

    # --- coming to rest -------------------------------------------------------------------------------

    def _unrest(self, broker: ReferenceClient) -> str:
        """Say what is still under way, or nothing."""
        rows = [row for plan in self._flow if (row := broker._login.record(plan.key)) is not None]
        open_questions = [row.key for row in rows if row.state in (State.SENDING, State.UNKNOWN)]
        if open_questions:
            return f"unresolved {open_questions[:5]}"
        confirmed = [row for row in rows if row.state is State.CONFIRMED]
        if canceling := [row.key for row in confirmed if row.order.status is OrderStatus.PENDING_CANCEL]:
            return f"being cancelled {canceling[:5]}"
        looked = broker._resolver._looked
        absent = [row.key for row in rows if row.state is State.NOT_PLACED and row.certainty == "probable"]
        if late := [key for key in absent if looked.get(key, (0.0, 0.0))[0] < self._landed]:
            return f"not looked for since the last request landed {late[:5]}"
        if broker._intake._gap:
            return "a gap is open"
        if broker._login.ingest.held:
            return f"held back {list(broker._login.ingest.held)[:5]}"
        return ""

    async def _settle(self, broker: ReferenceClient) -> bool:
        """Wait until nothing is under way and the broker has compared itself with the venue twice since."""
        until = self._clock.monotonic() + SETTLED_WITHIN
        # Whatever was sent late has to land first; no caller waits any more, so all of it is on its way.
        if any(getattr(row.fault, "kind", "") in _LATE for row in self._venue.faults.applied):
            await self._clock.sleep(max(self._kind.lands))
            self._landed = self._clock.monotonic()
        compared: int | None = None
        while self._clock.monotonic() < until and not self._failures:
            self._say(f"{self._kind.name}: settling, {self._unrest(broker) or 'comparing'}")
            if self._unrest(broker):
                compared = None
            elif compared is None:
                compared = self._venue.compared
            # The one that is under way may have begun before: the second one has not.
            elif self._venue.compared >= compared + 2 and await self._quiet(broker):
                return True
            await self._clock.sleep(_LOOK)
        return False

    async def _quiet(self, broker: ReferenceClient) -> bool:
        """Let what the second comparison began be written."""
        await self._clock.sleep(5 * _LOOK)
        return not self._unrest(broker)

    def _count(self, broker: ReferenceClient) -> None:
        venue, result = self._venue, self.result
        result.faults = Counter(row.fault.kind for row in venue.faults.applied)
        met = sum(1 for row in venue.faults.applied if isinstance(row.fault, RequestFault))
        result.faulty_share = met / max(result.requests, 1)
        result.unknowns = result.callers["unknown"]
        for plan in self._flow:
            record = broker._login.record(plan.key)
            result.states[str(record.state) if record else "denied"] += 1
            tries = [row for row in broker._login.attempts(plan.key) if row.kind == "new"]
            result.second_attempts += max(0, len(tries) - 1)

    # --- what the broker says -------------------------------------------------------------------------

    async def _evidence(self, broker: ReferenceClient, fills: list[Fill], opening: Any) -> Evidence:
        login = broker._login
        records = {plan.key: record for plan in self._flow if (record := login.record(plan.key)) is not None}
        events = [row async for row in _events(broker)]
        result = self.result
        result.fills = len(fills)
        result.busts = sum(fill.quantity < 0 for fill in fills)
        kinds = Counter(event.kind for event in events)
        result.gaps, result.late = kinds[EventKind.GAP_OPEN], kinds[EventKind.LATE]
        result.links_down = kinds[EventKind.LINK_DOWN]
        if kinds[EventKind.GAP_OPEN] != kinds[EventKind.GAP_CLOSED]:
            self._find(f"{kinds[EventKind.GAP_OPEN]} gaps opened, {kinds[EventKind.GAP_CLOSED]} closed")
        offsets = [event.offset for event in events]
        if offsets != list(range(1, len(offsets) + 1)):
            self._find("the offsets of the events are not dense")
        listed = {order.idempotency_key: order.reason for order in await broker.unresolved()}
        for key, record in records.items():
            if record.state in (State.AMBIGUOUS, State.DUPLICATE, State.UNKNOWN, State.SENDING):
                if not listed.get(key):
                    self.result.findings.append(
                        Finding("not listed by unresolved(), or without evidence", key)
                    )
            elif key in listed and not record.order.settled:
                self.result.findings.append(Finding("listed by unresolved() although answered", key))
        attempts = {key: login.attempts(key) for key in records}
        positions = {row.symbol: row.quantity for row in await broker.get_positions()}
        return Evidence(records, attempts, fills, events, positions, opening)

    async def _compare_streams(
        self, broker: ReferenceClient, reader: asyncio.Future[None], live: list[Fill], fills: list[Fill]
    ) -> None:
        """Let the consumer of the whole run, and one that comes now, have seen the same."""
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(5):
                while len(live) < len(fills):
                    await self._clock.sleep(_LOOK)
        reader.cancel()
        second: list[Fill] = []
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(5):
                await _collect(broker, second, consumer="second", most=len(fills))
        for name, seen in (("that was there all along", live), ("that came later", second)):
            if _marks(seen) != _marks(fills):
                self._find(f"the consumer {name} saw {len(seen)} executions, the log has {len(fills)}")

    async def _again(self, fills: list[Fill]) -> None:
        """Open the same journal again: the same stream, the same answers, nothing new."""
        broker = self._broker()
        async with broker:
            tagged(broker)
            sent = len(self._venue.done)
            compared = self._venue.compared
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(15):
                    while self._venue.compared < compared + 1:
                        await self._clock.sleep(_LOOK)
            now = await _logged(broker)
            if _marks(now) != _marks(fills):
                new = [str(fill) for fill in now[len(fills) :]]
                self._find(
                    f"opened again, the log has {len(now)} executions instead of {len(fills)}: {new[:5]}"
                )
            changed = Counter(
                str(record.state) if (record := broker._login.record(plan.key)) else "denied"
                for plan in self._flow
            )
            if changed != self.result.states:
                self._find(f"opened again, the keys stand at {changed} instead of {self.result.states}")
            if orders := [row for row in self._venue.done[sent:] if row.label == "POST /v1/orders"]:
                self._find(f"opened again, the broker sent orders: {orders}")
        if self._failures:
            self._find(f"opened again, the broker failed: {self._failures}")


_LATE = ("delay_beyond", "hang_beyond")


def _marks(fills: list[Fill]) -> list[tuple[Any, ...]]:
    return [(row.seq, row.fill_id, row.kind, row.quantity, row.price, row.order_id) for row in fills]


async def _collect(
    broker: ReferenceClient, into: list[Fill], *, consumer: str, most: int | None = None
) -> None:
    if most == 0:
        return
    with contextlib.suppress(errors.BrokerFailed):  # found by the broker's own word
        async for fill in broker.stream_fills(consumer=consumer):
            into.append(fill)
            if most is not None and len(into) >= most:
                return


async def _logged(broker: ReferenceClient) -> list[Fill]:
    """Return every execution as the log has it now, fees amended."""
    last = broker._event_log.last_fill()
    fills: list[Fill] = []
    if last is not None:
        async for fill in broker.stream_fills(since=0):
            fills.append(fill)
            if fill.seq >= last.seq:
                break
    return fills


async def _events(broker: ReferenceClient) -> AsyncIterator[BrokerEvent]:
    """Iterate over everything logged until now."""
    newest, _ = broker._event_log._rows(lambda rows: rows.newest())
    async for event in broker.stream_events(since=0):
        yield event
        if event.offset >= newest:
            return
