"""Real and stepped time behind the `Clock` protocol."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

from mts1b_brokers_core.foundation.clock import wall_clock_ns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_ns(ns: int) -> datetime:
    """Turn nanoseconds since 1970 UTC into an aware time (microseconds are the finest it holds)."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def to_ns(moment: datetime) -> int:
    """Turn an aware time into nanoseconds since 1970 UTC, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


class RealClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Return the present as an aware UTC time."""
        return datetime.now(UTC)

    def now_ns(self) -> int:
        """Return the present in nanoseconds since 1970 UTC."""
        return wall_clock_ns()

    def monotonic(self) -> float:
        """Return seconds that never step back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that many real seconds."""
        await asyncio.sleep(seconds)

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: real time can't be held."""
        return contextlib.nullcontext()

    def timeout(self, seconds: float | None) -> contextlib.AbstractAsyncContextManager[object]:
        """Limit the block to that many real seconds; None never ends it. Raises TimeoutError."""
        return asyncio.timeout(seconds)


class SteppedClock:
    """Time that moves only when told: by `advance`, or by itself when nothing else can go on.

    With `auto=True` the clock jumps to the next waiter whenever the event loop has nothing left to run
    and no `hold()` is open, so a program runs as fast as it can compute and always the same way. With
    `speed` set it jumps no faster than that many simulated seconds per real second.
    """

    def __init__(self, start: datetime, *, auto: bool = False, speed: float | None = None) -> None:
        self._ns = self._start = to_ns(start)
        self._auto = auto
        self._speed = speed
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = 0
        self._holds = 0
        self._runner: asyncio.Task[None] | None = None

    def now(self) -> datetime:
        """Return the simulated present as an aware UTC time."""
        return from_ns(self._ns)

    def now_ns(self) -> int:
        """Return the simulated present in nanoseconds since 1970 UTC."""
        return self._ns

    def monotonic(self) -> float:
        """Return simulated seconds since the clock was made."""
        return (self._ns - self._start) / 1e9

    async def sleep(self, seconds: float) -> None:
        """Wait that many simulated seconds."""
        await self.sleep_until_ns(self._ns + round(seconds * 1e9))

    async def sleep_until_ns(self, ns: int) -> None:
        """Wait until the simulated time is reached; at once where it is past."""
        if ns <= self._ns:
            await asyncio.sleep(0)
            return
        future = self._wait_for(ns)
        await future

    @contextlib.asynccontextmanager
    async def _timeout(self, seconds: float) -> AsyncIterator[None]:
        expiry = self._wait_for(self._ns + round(seconds * 1e9))
        async with asyncio.timeout(None) as scope:
            expiry.add_done_callback(
                lambda done: None if done.cancelled() else scope.reschedule(asyncio.get_running_loop().time())
            )
            try:
                yield
            finally:
                expiry.cancel()

    def timeout(self, seconds: float | None) -> contextlib.AbstractAsyncContextManager[object]:
        """Limit the block to that many simulated seconds; None never ends it. Raises TimeoutError."""
        return asyncio.timeout(None) if seconds is None else self._timeout(seconds)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the clock from jumping by itself while work outside the event loop is under way."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    async def advance(self, seconds: float) -> None:
        """Let everything that can run do so, then move time on, waking each waiter at its own moment."""
        await _quiet()
        await self._advance_to(self._ns + round(seconds * 1e9))

    async def _advance_to(self, target: int) -> None:
        while self._waiters and self._waiters[0][0] <= target:
            due, _, future = heapq.heappop(self._waiters)
            if future.done():
                continue
            self._ns = max(self._ns, due)
            future.set_result(None)
            await _quiet()
        self._ns = max(self._ns, target)

    def _wait_for(self, ns: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._waiters, (ns, self._order, future))
        if self._auto and (self._runner is None or self._runner.done()):
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="stepped-clock")
        return future

    async def _run(self) -> None:
        began, at = time.monotonic(), self._ns
        while True:
            await _quiet()
            while self._holds:
                await asyncio.sleep(0.0002)
                await _quiet()
            while self._waiters and self._waiters[0][2].done():
                heapq.heappop(self._waiters)
            if not self._waiters:
                return
            if self._speed is not None:
                due = began + (self._waiters[0][0] - at) / 1e9 / self._speed
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                    continue
            await self._advance_to(self._waiters[0][0])


#: How many stepped clocks wait for quiet, by event loop: each of them takes a turn that is not work.
_listening: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()


async def _quiet(most: int = 10_000) -> None:
    """Let every other task run until all of them wait for something."""
    loop = asyncio.get_running_loop()
    ready = getattr(loop, "_ready", None)
    if ready is None:  # a foreign event loop that doesn't tell: give it a fair number of turns
        most = 50
    _listening[loop] = _listening.get(loop, 0) + 1
    try:
        for _ in range(most):
            await asyncio.sleep(0)
            if ready is not None and len(ready) < _listening[loop]:
                return
    finally:
        _listening[loop] -= 1
