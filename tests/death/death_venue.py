"""A reference venue in a process of its own: it survives its clients, and tells its own books afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

from mts1b_broker_reference import profiles as client_profiles
from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.platform import failpoints
from mts1b_brokers_core.platform.websocket import WebSocket
from mts1b_simulator.reference import PROFILES, ReferenceServer
from mts1b_simulator.wire.faults import FrameFault, RequestFault

#: Kinds of venue whose own time limit is short enough to be waited for.
SHORT = 1.5
for _name in ("while_open_deadline", "timestamp_limit"):
    PROFILES[f"{_name}_short"] = replace(PROFILES[_name], not_after_seconds=SHORT)
    client_profiles.PROFILES[f"{_name}_short"] = replace(
        client_profiles.PROFILES[_name], not_after_seconds=SHORT
    )
#: What the account holds before anything is traded.
_OPENING = {"BTC-USD": Decimal(10_000), "ETH-USD": Decimal(100_000), "AAPL": Decimal(1_000_000)}


@dataclass(frozen=True, slots=True)
class KillSender(RequestFault):
    """The process that sent the request dies before, or after, the venue acts on it; or it is lost too."""

    pid: int
    when: str
    kind: ClassVar[str] = "kill_sender"

    async def serve(self, call: Any) -> Any:
        if self.when == "after":
            await call.handle()
        os.kill(self.pid, signal.SIGKILL)
        if self.when == "before":
            await call.handle()


@dataclass(frozen=True, slots=True)
class StopSender(RequestFault):
    """The process that sent the request is stopped while the reply is on its way."""

    pid: int
    kind: ClassVar[str] = "stop_sender"

    async def serve(self, call: Any) -> Any:
        os.kill(self.pid, signal.SIGSTOP)
        return await call.handle()


@dataclass(frozen=True, slots=True)
class KillReader(FrameFault):
    """The process that reads the stream dies as a frame of it is sent."""

    pid: int
    kind: ClassVar[str] = "kill_reader"

    def send(self, session: Any, data: str | bytes) -> None:
        session.emit(data)
        os.kill(self.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class TwinBeside(RequestFault):
    """The reply is lost, and somebody places an equal order by hand; a market order just loses its reply."""

    kind: ClassVar[str] = "twin_beside"

    async def serve(self, call: Any) -> Any:
        reply = await call.handle()
        body = json.loads(call._request.body)
        if reply.status == 201 and body["type"] == "limit":
            call.server.venue.place(body, expires_ns=None)


@dataclass(frozen=True)
class VenueOrder:
    """One order as the venue's books have it; `stands` are the executions not taken back."""

    id: str
    token: str | None
    symbol: str
    side: str
    quantity: Decimal
    filled: Decimal
    value: Decimal
    status: str
    replaces: str | None
    stands: tuple[tuple[Decimal, Decimal], ...]
    fees: Decimal


@dataclass(frozen=True)
class Books:
    """The venue's truth at one moment; `held` is what trading added."""

    orders: tuple[VenueOrder, ...]
    held: dict[str, Decimal] = field(default_factory=dict)
    posts: int = 0


class QuickClient(ReferenceClient):
    """The reference broker, sooner impatient with a silent stream than a real one should be."""

    __module__ = ReferenceClient.__module__  # whose capabilities it has
    silent_after = 2.5

    async def frames(self) -> AsyncIterator[Any]:
        if self.profile.fill_source == "poll":
            await asyncio.Event().wait()
        socket = WebSocket(
            self.settings.ws_url, self.clock, hello=self._stream.hello, silent_after=self.silent_after,
            heartbeats=True,
        )  # fmt: skip
        self._opened.push_async_callback(socket.close)
        async for batch in socket.batches():
            yield batch


class VenueProcess:
    """The venue, steered from outside: `ask("name", ...)` calls a method of `_Steering`."""

    def __init__(self, profile: str, *, seed: int = 0, heartbeat: float = 1.0, **server: Any) -> None:
        self.profile = profile
        self._conn, theirs = Pipe()
        self.pid = fork(
            lambda: asyncio.run(_serve(theirs, profile, seed, heartbeat, server)), close=[self._conn]
        )
        theirs.close()
        self.settings: dict[str, str] = self._conn.recv()

    def ask(self, name: str, *values: Any) -> Any:
        """Let the venue do something and return what it says."""
        self._conn.send((name, values))
        if not self._conn.poll(20):
            raise AssertionError(f"the venue did not answer {name}")
        answer = self._conn.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def books(self) -> Books:
        """Return the venue's own books."""
        books: Books = self.ask("books")
        return books

    def client(
        self, journal: Path, clock: Clock | None = None, *, silent_after: float = 2.5, **settings: Any
    ) -> ReferenceClient:
        """Return a broker at the venue that is not opened yet."""
        given: dict[str, Any] = {
            "environment": "sandbox", "state_path": journal, "reconcile_every": 0.3, "resend_within": 4.0,
            "settle_wait": 1.0, "timeout": 3.0,
        }  # fmt: skip
        services = None if clock is None else Services("reference", "sandbox", clock=clock)
        client = QuickClient(services=services, **{**self.settings, **given, **settings})
        client.silent_after = silent_after
        return client

    def stop(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._conn.close()


@contextlib.contextmanager
def venue_of(profile: str, *, seed: int = 0, **server: Any) -> Iterator[VenueProcess]:
    """Serve a venue of this kind as long as the block lasts."""
    venue = VenueProcess(profile, seed=seed, **server)
    try:
        yield venue
        errors = venue.ask("errors")
        assert errors == [], errors
    finally:
        venue.stop()


def fork(
    work: Callable[[], Any], *, failpoint: str = "", close: list[Connection] | None = None, held: bool = False
) -> int:
    """Run work in a forked process, armed to die at a failpoint; return its pid.

    `held` stops it before it does anything, until it is continued.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(0)
            for end in close or ():
                end.close()
            failpoints.arm(failpoint)
            if held:
                os.kill(os.getpid(), signal.SIGSTOP)
            work()
            code = 0
        # The child must never return into the test runner.
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if held:
        os.waitpid(pid, os.WUNTRACED)
    return pid


def ended(pid: int) -> int:
    """Wait for a process and return how it ended: minus the signal, or its exit code."""
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


async def _serve(conn: Connection, profile: str, seed: int, heartbeat: float, server: dict[str, Any]) -> None:
    kind = PROFILES[profile]
    soon = 0.2 if kind.fee_timing == "seconds" else kind.fee_delay
    PROFILES[profile] = replace(kind, heartbeat=heartbeat, fee_delay=soon)  # in this process alone
    venue = ReferenceServer(profile, seed=seed, **server)
    await venue.start()
    steering = _Steering(venue, seed)
    over = asyncio.Event()
    waiting: set[asyncio.Task[None]] = set()

    async def answer(name: str, values: tuple[Any, ...]) -> None:
        reply: Any
        try:
            reply = getattr(steering, name)(*values)
            reply = await reply if asyncio.iscoroutine(reply) else reply
        except Exception as error:  # noqa: BLE001 - whoever asked must learn of it
            reply = error
        conn.send(reply)

    def read() -> None:
        try:
            name, values = conn.recv()
        except (EOFError, OSError):
            over.set()
            return
        task = asyncio.get_running_loop().create_task(answer(name, values))
        waiting.add(task)
        task.add_done_callback(waiting.discard)

    asyncio.get_running_loop().add_reader(conn.fileno(), read)
    conn.send(dict(venue.settings))
    await over.wait()


class _Steering:
    """What the outside may do to the venue."""

    def __init__(self, server: ReferenceServer, seed: int) -> None:
        self._server = server
        self._random = random.Random(f"{seed}/market")
        self._market: asyncio.Task[None] | None = None

    def books(self) -> Books:
        venue = self._server.venue
        rows = tuple(
            VenueOrder(
                row.id, row.token, row.terms.symbol, str(row.terms.side), row.terms.quantity or Decimal(0),
                row.filled_quantity, row.filled_value, row.status, row.replaces,
                tuple(sorted((fill.quantity, fill.price) for fill in row.fills if _stands(fill))),
                sum((fee["amount"] for fill in row.fills if _stands(fill) for fee in fill.fees), Decimal(0)),
            )
            for row in venue.orders()
        )  # fmt: skip
        held = {symbol: units - _OPENING[symbol] for symbol, units in venue.positions().items()}
        return Books(rows, {symbol: units for symbol, units in held.items() if units})

    def errors(self) -> list[str]:
        return [repr(error) for error in self._server.errors]

    async def wait(self, seconds: float) -> None:
        """Let time pass, while trading goes on."""
        await self._server.clock.sleep(seconds)

    def clear(self) -> None:
        self._server.faults.clear()

    def fault(self, fault: Any, match: str | None, rate: float | None = None, nth: int = 1) -> None:
        if rate is None:
            self._server.faults.next(fault, match, nth=nth)
        elif rate == 1.0:
            self._server.faults.when(fault, match)
        else:
            self._server.faults.random(rate, fault, match)

    def market(self, on: bool, revising: bool = False) -> None:
        """Let random parts of resting orders fill every few milliseconds, or let the market be still."""
        if self._market is not None:
            self._market.cancel()
            self._market = None
        if on:
            self._market = asyncio.get_running_loop().create_task(self._trade(revising))

    async def _trade(self, revising: bool) -> None:
        venue = self._server.venue
        while True:
            await self._server.clock.sleep(0.01)
            venue.fill_some(self._random)
            standing = [row for row in venue.executions() if _stands(row)]
            if revising and standing and self._random.random() < 0.15:
                self.revise(self._random.choice(standing[-20:]).id)

    def revise(self, execution_id: str) -> None:
        """Bust an execution, or correct its price."""
        venue = self._server.venue
        (row,) = [row for row in venue.executions() if row.id == execution_id]
        if self._random.random() < 0.5:
            venue.bust(execution_id)
        else:
            venue.correct(execution_id, price=row.price - Decimal("0.01"))

    def fill(self, order_id: str, quantity: str) -> None:
        self._server.venue.fill(order_id, quantity)

    def fill_all(self) -> int:
        """Fill what rests, wholly."""
        venue = self._server.venue
        resting = [row for row in venue.exchange.desk.open.values() if row.level is not None]
        for row in resting:
            order = venue._by_exchange[row.order_id]
            if not order.cancelling:
                venue.fill(order.id, row.market.lots.decimal(row.remaining))
        return len(resting)

    def by_hand(self, body: dict[str, Any]) -> str:
        """Place an order beside all clients."""
        return self._server.venue.place(body, expires_ns=None).id

    def shift(self, seconds: float) -> None:
        self._server.shift_clock(seconds)

    def time(self) -> datetime:
        return self._server.now()

    async def restart(self, keep: bool) -> None:
        await self._server.restart(keep=keep)

    async def down(self) -> None:
        """Be unreachable until `up`; trading goes on."""
        await self._server._hang_up()

    async def up(self) -> None:
        await self._server._listen()

    def cut(self) -> None:
        self._server.cut_streams()


def _stands(execution: Any) -> bool:
    return execution.kind == "trade" and not execution.void
