"""What the parts of one opened broker share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from mts1b_brokers_core.foundation.capabilities import Capabilities
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.platform.ratelimit import Limiter
from mts1b_brokers_core.platform.skew import ClockSkew

from . import journal
from .eventlog import EventLog
from .gates import Gatekeeper
from .ingest import Ingest
from .instruments import InstrumentCache
from .journal import Attempt, Journal, Record
from .ownership import Owner
from .port import VenuePort


@dataclass(frozen=True, slots=True)
class Login:
    """One login at one venue: how it is reached, whose orders these are, and where they are remembered.

    `scope` names venue, environment and account. `spawn` runs a write in a task the broker owns.
    `held_elsewhere` names the other instance of the same hub that holds a key.
    """

    port: VenuePort
    broker: str
    account_id: str
    scope: str
    capabilities: Capabilities
    clock: Clock
    journal: Journal
    log: EventLog
    ingest: Ingest
    instruments: InstrumentCache
    gates: Gatekeeper
    owner: Owner
    limiter: Limiter
    skew: ClockSkew
    spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]
    held_elsewhere: Callable[[str], str | None] | None

    def record(self, key: str) -> Record | None:
        """Return what the journal holds of a key."""
        return self.journal.read(journal.get, key)

    def find(self, order_id: str) -> Record | None:
        """Return the journal's row of an id: ours first, then the venue's, then the token."""
        return self.journal.read(journal.named, self.account_id, order_id)

    def attempts(self, key: str) -> list[Attempt]:
        """Return a key's attempts, oldest first."""
        return self.journal.read(journal.attempts, key)
