"""How far the venue's clock is from ours, known from its replies, with what is not known of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from math import inf

from mts1b_brokers_core.foundation.clock import Clock

#: How much two clocks may drift apart, in seconds a second: poor quartz, and generous.
_DRIFT = 1e-4
#: What our own times are rounded to.
_TICK = 1e-6


class ClockSkew:
    """The venue's time minus ours, as an interval that every reply narrows and time widens.

    A reply that says "it is S" was written after our request left and before it arrived: that bounds the
    offset on both sides, and by more exactly the quicker the reply. Bounds that can't all be true
    mean that a clock was stepped: then only the last reply counts, and `on_change` is told.
    """

    def __init__(self, clock: Clock, *, on_change: Callable[[ClockSkew], None] | None = None) -> None:
        self.on_change = on_change
        self._clock = clock
        self._low, self._high = -inf, inf
        self._at = clock.monotonic()

    def observe(self, *, sent: datetime, received: datetime, server: datetime, resolution: float) -> None:
        """Learn from one reply.

        `sent` and `received` are our times, `server` is the venue's, cut to steps of `resolution` seconds:
        1.0 for a Date header (RFC 9110, section 5.6.7), 0.001 for a time in milliseconds.
        """
        if received < sent:  # our clock was stepped back meanwhile: nothing we knew holds
            self._restart(-inf, inf)
            return
        on_the_way = (received - sent).total_seconds() * _DRIFT
        low = (server - received).total_seconds() - _TICK - on_the_way
        high = (server - sent).total_seconds() + resolution + on_the_way
        slack = self._drift()
        if max(low, self._low - slack) > min(high, self._high + slack):
            self._restart(low, high)
            return
        self._low, self._high = max(low, self._low - slack), min(high, self._high + slack)
        self._at = self._clock.monotonic()

    def _restart(self, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._at = self._clock.monotonic()
        if self.on_change is not None:
            self.on_change(self)

    def _drift(self) -> float:
        return (self._clock.monotonic() - self._at) * _DRIFT

    @property
    def known(self) -> bool:
        """Whether any reply has told it."""
        return self._high < inf

    @property
    def offset(self) -> timedelta:
        """The venue's time minus ours, by the best estimate; zero where it is not known."""
        return timedelta(seconds=(self._low + self._high) / 2 if self.known else 0.0)

    @property
    def uncertainty(self) -> float:
        """By how many seconds the offset may be wrong; infinite where it is not known."""
        return (self._high - self._low) / 2 + self._drift()

    def venue_now(self) -> datetime:
        """Return the venue's present, by the best estimate, as an aware UTC time."""
        return self._clock.now() + self.offset
