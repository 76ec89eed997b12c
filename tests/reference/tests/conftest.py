"""A reference venue on a loopback socket, and brokers at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mts1b_broker_reference.client import ReferenceClient

from mts1b_simulator.reference import PROFILES, ReferenceServer

#: The kinds of venue that differ; the other names are made of them.
NAMED = tuple(PROFILES)[:8]


@dataclass
class Venue:
    """One venue, and where a broker at it keeps its journal."""

    server: ReferenceServer
    journal: Path

    def broker(self, **settings: Any) -> ReferenceClient:
        """Return a broker that is not opened yet, on the same journal each time."""
        # Only where nothing is pushed may the steady reading bring what a test waits for.
        every = 0.3 if self.server.profile.fill_source == "poll" else 60.0
        ours = {"environment": "sandbox", "state_path": self.journal, "reconcile_every": every}
        return ReferenceClient(**{**self.server.settings, **ours, **settings})

    def orders(self) -> list[Any]:
        """Return what the venue itself holds."""
        return self.server.venue.orders()


Start = Callable[[str], Any]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    @asynccontextmanager
    async def started(profile: str) -> AsyncIterator[Venue]:
        server = ReferenceServer(profile)
        await server.start()
        try:
            yield Venue(server, tmp_path / "journal.sqlite")
        finally:
            await server.stop()
        assert server.errors == []

    return started


@pytest.fixture(params=NAMED)
async def venue(request: pytest.FixtureRequest, start: Start) -> AsyncIterator[Venue]:
    async with start(request.param) as venue:
        yield venue


@pytest.fixture
async def native(start: Start) -> AsyncIterator[Venue]:
    async with start("native_dedupe") as venue:
        yield venue
