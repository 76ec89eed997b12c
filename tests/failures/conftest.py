"""Venues for the tests of failures: one on a socket of this machine, and one scripted in process."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "execution"))
sys.path.insert(0, str(Path(__file__).parent))

from failure_kit import Site, Start, started
from scripted import Venue

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_simulator.reference import ReferenceProfile


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a reference venue: `async with start(profile) as site`."""

    def run(
        profile: str | ReferenceProfile = "native_dedupe", clock: Clock | None = None
    ) -> AbstractAsyncContextManager[Site]:
        return started(profile, tmp_path, clock)

    return run


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(Venue.opened)


@pytest.fixture
def venue(clock: SteppedClock) -> Venue:
    """The scripted venue, where no wire is involved."""
    return Venue(clock)


@pytest.fixture
def most_seconds() -> int:
    return 12
