"""What the tests of failures share: a venue that keeps what it was asked, brokers at it, and waits."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, ClassVar

from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core import BrokerEvent, EventKind, Fill, Order, Side
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_simulator.reference import BookExecution, BookOrder, ReferenceProfile, ReferenceServer
from mts1b_simulator.wire import Reply, Request, RequestFault

#: Starts a reference venue: `async with start(profile) as site`.
Start = Callable[..., AbstractAsyncContextManager["Site"]]
CHILD = Path(__file__).with_name("failure_child.py")


class Watched(ReferenceServer):
    """A reference venue that keeps the requests it got to read."""

    def __init__(self, *words: Any, **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.asked: list[Request] = []

    async def handle(self, request: Request) -> Reply | None:
        self.asked.append(request)
        return await super().handle(request)

    def count(self, label: str) -> int:
        """Return how many requests whose method and path begin so were read."""
        return sum(request.label.startswith(label) for request in self.asked)

    def sent(self) -> list[dict[str, Any]]:
        """Return the bodies of the orders that arrived."""
        return [json.loads(request.body) for request in self.asked if request.label == "POST /v1/orders"]


@dataclass(frozen=True, slots=True)
class Rewritten(RequestFault):
    """The venue acts, and what it answers is changed on its way: status and decoded body."""

    change: Callable[[int, Any], tuple[int, Any]]
    kind: ClassVar[str] = "rewritten"

    async def serve(self, call: Any) -> Reply | None:
        reply: Reply | None = await call.handle()
        if reply is None:
            return None
        status, body = self.change(reply.status, json.loads(reply.body))
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Reply(status, raw, reply.headers)


@dataclass(frozen=True, slots=True)
class Meanwhile(RequestFault):
    """Something happens at the venue just before it acts on the request."""

    happens: Callable[[], object]
    kind: ClassVar[str] = "meanwhile"

    async def serve(self, call: Any) -> Reply | None:
        self.happens()
        reply: Reply | None = await call.handle()
        return reply


@dataclass
class Site:
    """One venue, and where a broker at it keeps its journal."""

    server: Watched
    journal: Path
    clock: Clock | None = None
    events: list[BrokerEvent] = field(default_factory=list)

    def broker(self, **settings: Any) -> ReferenceClient:
        """Return a broker that is not opened yet, on the same journal each time."""
        every = 0.3 if self.server.profile.fill_source == "poll" else 600.0
        ours = {"environment": "sandbox", "state_path": self.journal, "reconcile_every": every}
        services = Services("reference", "sandbox", self.clock, None, self.events.append)
        return ReferenceClient(services=services, **{**self.settings, **ours, **settings})

    @property
    def settings(self) -> dict[str, Any]:
        """The venue's addresses and keys; a profile of a test's own is spoken as the plainest one."""
        given = dict(self.server.settings)
        return given if self.server.profile_name != "custom" else {**given, "profile": "native_dedupe"}

    def orders(self) -> list[Any]:
        """Return what the venue itself holds."""
        return self.server.venue.orders()

    def fill(self, order: Order, quantity: str, price: str | None = None) -> BookExecution:
        """Let an order fill at the venue."""
        return self.server.venue.fill(str(order.broker_order_id), quantity, price)

    def held(self, order: Order) -> BookOrder:
        """Return an order as the venue holds it."""
        held = self.server.venue.order(str(order.broker_order_id))
        assert held is not None
        return held

    def kinds(self) -> list[EventKind]:
        """Return what kinds of events the brokers told, in order."""
        return [event.kind for event in self.events]

    def logged(self) -> list[Fill]:
        """Return the executions the brokers logged, in order."""
        return [event.fill for event in self.events if event.fill is not None and not event.order]

    async def child(self, key: str, times: int, *, failpoint: str = "", **settings: Any) -> Child:
        """Start another process that opens a broker on the same journal and waits for the word."""
        env = {name: value for name, value in os.environ.items() if name != "MTS1B_FAILPOINT"}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        if failpoint:
            env["MTS1B_FAILPOINT"] = failpoint
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(CHILD), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=env
        )
        ours = {"environment": "sandbox", "state_path": str(self.journal), **settings}
        child = Child(process)
        child.tell({"settings": {**self.settings, **ours}, "key": key, "times": times})
        assert await child.hear() == "ready"
        return child


@dataclass
class Child:
    """Another process with a broker of its own."""

    process: asyncio.subprocess.Process

    def tell(self, words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")

    async def hear(self) -> Any:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        return json.loads(line) if line else None

    async def end(self) -> int:
        """Wait until it is over and return its code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.process.wait()


@asynccontextmanager
async def started(
    profile: str | ReferenceProfile, folder: Path, clock: Clock | None = None
) -> AsyncIterator[Site]:
    """Run a venue until the block ends."""
    server = Watched(profile, clock=clock)
    await server.start()
    try:
        yield Site(server, folder / "journal.sqlite", clock)
    finally:
        await server.stop()
    assert server.errors == []


# --- orders, and waiting ------------------------------------------------------------------------------


def resting(quantity: str = "0.5", price: str = "90000", **more: Any) -> Order:
    """An order to buy that rests below the market."""
    return Order.limit("BTC-USD", Side.BUY, quantity, price=price, **more)


def at_once(quantity: str = "10", **more: Any) -> Order:
    """An order to buy that fills at once."""
    return Order.market("AAPL", Side.BUY, quantity, **more)


async def until(condition: Callable[[], Any]) -> None:
    """Let sockets, tasks and the journal's thread go on until something holds, at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


async def fills_of(broker: Any, count: int, **where: Any) -> list[Fill]:
    """Return the next fills, in the order they are delivered."""
    seen: list[Fill] = []
    async with asyncio.timeout(5):
        async for fill in broker.stream_fills(**where):
            seen.append(fill)
            if len(seen) == count:
                break
    return seen


async def event_of(broker: Any, kind: EventKind, count: int = 1) -> BrokerEvent:
    """Return the event of a kind, or the so manieth, once it is there."""
    async with asyncio.timeout(5):
        async for event in broker.stream_events(since=0, consumer="tests"):
            count -= event.kind is kind
            if not count:
                assert isinstance(event, BrokerEvent)
                return event
    raise AssertionError("the stream ended")


async def passing(
    clock: SteppedClock, seconds: float = inf, *, step: float = 0.25, enough: Callable[[], Any] = bool
) -> None:
    """Let simulated time pass in steps, and arrive what travels in between, until it is enough."""
    until_ = clock.monotonic() + seconds
    async with asyncio.timeout(5):
        while clock.monotonic() < until_ and not enough():
            await clock.advance(step)
            for _ in range(100):
                await asyncio.sleep(0)
