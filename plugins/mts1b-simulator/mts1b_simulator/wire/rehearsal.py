"""A broker at a replayed recording: what it makes of what the venue said then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mts1b_brokers_core.foundation.base import plain
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Fill, Order
from mts1b_brokers_core.foundation.plugin import SimulatorOptions

from .replay import ReplayServer

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient

#: Seconds a message waits for what isn't asked for again: whoever plays may leave out what was called then.
PATIENCE = 0.5
#: Seconds without anything played, after which the broker is taken to have seen all it will ask for.
QUIET = 0.5
#: Events that are about the time and this machine.
_OF_THE_DAY = {EventKind.LIMITER_WAIT, EventKind.SKEW}
#: What stands for secrets of brokers that bring no simulator: a replay checks none.
ANY_SECRET = "any-secret-will-do"  # noqa: S105


@dataclass
class Seen:
    """What a broker made of a recording; as text, one line for each thing."""

    orders: list[Order] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    #: What it asked for that was not recorded, what it sent that was not as recorded, and what it left out.
    unmatched: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    unplayed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts: dict[str, list[str]] = {
            "orders": [_order(row) for row in self.orders],
            "fills": [_fill(row) for row in self.fills],
            "events": self.events,
            "asked for, but not recorded": self.unmatched,
            "sent, but not as recorded": self.differences,
            "recorded, but not asked for": self.unplayed,
        }
        lines = []
        for name, rows in parts.items():
            lines += [f"{name}: {len(rows) or 'none'}", *(f"  {row}" for row in rows)]
        return "\n".join(lines)


@dataclass
class Rehearsal:
    """An opened broker and the replay it is at."""

    broker: VenueClient
    server: ReplayServer
    _seen: Seen
    _quiet: float

    async def seen(self) -> Seen:
        """Let the recording play until nothing more is asked for; return what the broker made of it."""
        await self.server.quiet(self._quiet)
        seen, server = self._seen, self.server
        seen.unmatched, seen.differences = list(server.unmatched), list(server.differences)
        seen.unplayed = server.unplayed
        return seen


@contextlib.asynccontextmanager
async def rehearse(
    recording: Path, broker: str, *, patience: float = PATIENCE, quiet: float = QUIET, **settings: Any
) -> AsyncIterator[Rehearsal]:
    """Open a broker by name at a replay of the recording; `settings` are those of `open_broker`.

    Credentials that are not given are throwaway ones. `patience` is the server's; so many seconds without
    anything played as `quiet` says count as the end. Raises `RecordingError`, and what opening raises.
    """
    from mts1b_brokers_core import open_broker

    server = ReplayServer(recording, patience=patience)
    await server.start()
    try:
        given = await _reached(broker, server.settings)
        async with open_broker(broker, **{**given, **settings}) as opened:
            seen = Seen()
            watching = asyncio.get_running_loop().create_task(_watch(opened, seen))
            try:
                yield Rehearsal(opened, server, seen, quiet)
            finally:
                watching.cancel()
                await asyncio.wait([watching])
    finally:
        await server.stop()


async def _reached(broker: str, addresses: Mapping[str, str]) -> dict[str, str]:
    """Return a broker's settings: where it is played, and credentials, of its simulator where it has one."""
    from pydantic import SecretStr

    from mts1b_brokers_core.plugins.registry import registry

    plugins = registry()
    record = plugins.get(broker)
    plugins.load(record)
    model = plugins.facade.settings_model(record.name)
    fields = model.model_fields
    secrets = [
        name for name, row in fields.items() if SecretStr in (row.annotation, *get_args(row.annotation))
    ]
    given: dict[str, str] = dict.fromkeys(secrets, ANY_SECRET)
    if plugins.facade.has(record.name, "mts1b_broker_simulator"):
        server = plugins.facade.simulator(record.name, SimulatorOptions())
        await server.start()
        needed = [*secrets, *(name for name, row in fields.items() if row.is_required())]
        given |= {name: value for name, value in server.settings.items() if name in needed}
        await server.stop()
    return given | {name: value for name, value in addresses.items() if name in fields}


async def _watch(broker: VenueClient, seen: Seen) -> None:
    orders: dict[str, Order] = {}
    async for event in broker.stream_events(since=0, consumer="rehearsal"):
        if event.kind in _OF_THE_DAY:
            continue
        if event.fill is not None and event.kind in (EventKind.FILL, EventKind.BUST):
            seen.fills.append(event.fill)
        if event.order is not None:
            orders[event.order.order_id] = event.order
            seen.orders[:] = orders.values()
        about = event.broker_order_id or (event.order.broker_order_id if event.order else None)
        what = event.message or (str(event.order.status) if event.order else "")
        seen.events.append(" ".join(word for word in (str(event.kind), about, what) if word))


def _order(order: Order) -> str:
    average = "" if order.average_price is None else f" at {plain(order.average_price)}"
    name, amount = order.broker_order_id or order.idempotency_key, order.quantity or order.quote_quantity
    price = "" if order.limit_price is None else f" at {plain(order.limit_price)}"
    terms = f"{order.side} {amount} {order.symbol} {order.order_type}{price}"
    return f"{name}: {terms}, {order.status}, filled {plain(order.filled_quantity)}{average}"


def _fill(fill: Fill) -> str:
    fees = "unknown" if fill.fees is None else ", ".join(map(str, fill.fees)) or "none"
    terms = f"{fill.side} {plain(fill.quantity)} {fill.symbol} at {plain(fill.price)}"
    return f"{fill.fill_id}: {fill.kind} {terms} of {fill.broker_order_id}, fees {fees}"
