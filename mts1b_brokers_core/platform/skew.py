"""Stand-in until the real one is merged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from mts1b_brokers_core.foundation.clock import Clock


class ClockSkew:
    def __init__(self, clock: Clock) -> None:
        self.offset = timedelta(0)
        self.uncertainty = 0.0
        self.known = False
        self.on_change: Callable[[ClockSkew], None] | None = None
