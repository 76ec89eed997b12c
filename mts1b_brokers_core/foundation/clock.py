"""The one clock: every "now" and every wait in core, simulators and adapters goes through it."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Protocol, runtime_checkable


def wall_clock_ns() -> int:
    """Return the machine's time in nanoseconds since 1970 UTC: the single place it is read."""
    return time.time_ns()


@runtime_checkable
class Clock(Protocol):
    """Real, accelerated or stepped time behind one face."""

    def now(self) -> datetime:
        """Return the present as an aware UTC time."""

    def now_ns(self) -> int:
        """Return the present in nanoseconds since 1970 UTC."""

    def monotonic(self) -> float:
        """Return seconds that never step back, from an arbitrary start."""

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds of this clock's time."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep simulated time from moving by itself while work outside the event loop is under way."""

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """Limit the block to that many seconds; None never ends it. Raises TimeoutError."""
