"""Lets the tests of this folder share `scripted.py`, and gives them a clock and a venue."""

from __future__ import annotations

import os
import sys
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
from hypothesis import Phase, settings

sys.path.insert(0, str(Path(__file__).parent))

from scripted import Venue

from mts1b_brokers_core.platform.clock import SteppedClock

if "MUTANT_UNDER_TEST" in os.environ:
    # Of a mutant only whether a test fails is asked, not the smallest example.
    settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate))
    settings.load_profile("mutants")

    def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
        """Let the quickest tests be the first to meet a mutant: those without a loop, then without a law."""
        items.sort(
            key=lambda item: (hasattr(item.function, "hypothesis"), iscoroutinefunction(item.function))
        )


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(Venue.opened)


@pytest.fixture
def venue(clock: SteppedClock) -> Venue:
    return Venue(clock)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a journal on disk lies."""
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def most_seconds() -> int:
    return 8
