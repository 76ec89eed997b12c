"""Fan-out to readers: a numbered report log of bounded length, and market data for whoever listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Generic, TypeVar

from mts1b_brokers_core.foundation.errors import InvalidInput, nearest
from mts1b_brokers_core.foundation.market_data import Bar, OrderBook, Quote, Trade

from .orders import Report, ReportKind

T = TypeVar("T")
MarketData = Quote | Trade | OrderBook | Bar
#: What can be asked for in market data.
KINDS = ("quote", "trade", "book", "bar")


def check_kinds(kinds: Sequence[str]) -> None:
    """Check which kinds of market data are asked for. Raises `InvalidInput`, naming those there are."""
    names = ", ".join(KINDS)
    if isinstance(kinds, str) or not kinds:
        raise InvalidInput(f"expected at least one kind of market data in a list, of {names}.")
    for kind in kinds:
        if kind not in KINDS:
            close = nearest(kind, KINDS, most=1)
            raise InvalidInput(
                f"there is no market data {kind!r}; there is {names}.",
                next_step=f"did you mean {close[0]}?" if close else "choose one of them",
            )


class Signal:
    """Wakes all who wait, each time it is given."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def give(self) -> None:
        """Wake all who wait now."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for the next time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class ReportLog:
    """The last reports, shared by all readers; memory is bounded by `most`, whatever a reader does."""

    def __init__(self, most: int) -> None:
        self._reports: deque[Report] = deque(maxlen=most)
        self._signal = Signal()
        self._closed = False
        self._error: BaseException | None = None
        #: The sequence of the last report published.
        self.last = 0

    def publish(self, reports: Iterable[Report]) -> None:
        """Add reports and wake the readers."""
        self._reports.extend(reports)
        if self._reports:
            self.last = self._reports[-1].sequence
        self._signal.give()

    def close(self, error: BaseException | None = None) -> None:
        """End every reader once it has read what is there; with an error it is raised there."""
        self._closed, self._error = True, error
        self._signal.give()

    async def read(self, after: int | None = None) -> AsyncIterator[Report]:
        """Iterate over reports after a sequence, or from now on.

        A reader that falls behind what is kept gets one `gap` report whose sequence is the last lost.
        """
        position = self.last if after is None else after
        while True:
            while self.last > position:
                oldest = self._reports[0].sequence if self._reports else self.last + 1
                if position + 1 < oldest:
                    position = oldest - 1
                    yield Report(position, ReportKind.GAP, self._reports[0].at_ns if self._reports else 0)
                    continue
                report = self._reports[position + 1 - oldest]
                position = report.sequence
                yield report
            if self._closed:
                if self._error is not None:
                    raise self._error
                return
            await self._signal.wait()


class Channel(Generic[T]):
    """One listener's queue; one that is too slow loses the oldest entries, and `dropped` counts them."""

    def __init__(self, most: int) -> None:
        self._queue: deque[T] = deque(maxlen=most)
        self._signal = Signal()
        self._closed = False
        self._error: BaseException | None = None
        self.dropped = 0

    def put(self, entry: T) -> None:
        """Add an entry."""
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(entry)
        self._signal.give()

    def close(self, error: BaseException | None = None) -> None:
        """End the iteration once the queue is empty; with an error it is raised there."""
        self._closed, self._error = True, error
        self._signal.give()

    async def read(self) -> AsyncIterator[T]:
        """Iterate over the entries."""
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._closed:
                if self._error is not None:
                    raise self._error
                return
            await self._signal.wait()
