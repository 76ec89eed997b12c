"""What every local server has: a port, TLS where wanted, a clock of the venue's own, and an end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.plugin import SimulatorOptions
from mts1b_brokers_core.platform.clock import RealClock

from .frames import Session
from .script import Faults
from .tls import ThrowawayAuthority

_LOOPBACK = ("127.0.0.1", "localhost")


class Connection(Protocol):
    """One accepted connection, as the server ends it."""

    def abort(self) -> None:
        """Cut it."""


class Server(ABC):
    """Listens where the options say: port 0 takes a free one and keeps it over restarts, `tls` issues a
    throwaway certificate that is trusted by way of `ca_file`, `faults` are read into the script.

    `clock` is where every wait goes (real time by default); `now()` is the venue's own idea of the time,
    which a fault may shift. What `extra` options there are is the venue's to say. Raises `InvalidInput`
    for an address that others could reach, or a fault that isn't there.
    """

    def __init__(self, options: SimulatorOptions | None = None, *, clock: Clock | None = None) -> None:
        options = options or SimulatorOptions()
        if options.host not in _LOOPBACK:
            raise InvalidInput(f"got the address {options.host}, expected one of {', '.join(_LOOPBACK)}.")
        self.host, self.port, self.seed = options.host, options.port, options.seed
        self.clock: Clock = clock or RealClock()
        self.faults = Faults(self.clock, options.seed)
        self.faults.read(options.faults)
        self.shift = timedelta()
        #: What the simulator's own code raised where it shouldn't: a handler's bug is also answered with 500.
        self.errors: list[Exception] = []
        self._tls = options.tls
        self._authority: ThrowawayAuthority | None = None
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._empty = asyncio.Event()
        self._maintained_until = 0.0

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start listening. Raises `InvalidInput` where the port can't be had."""
        if self._tls and self._authority is None:
            self._authority = ThrowawayAuthority(self.host, "localhost")
        await self._listen()

    async def _listen(self) -> None:
        context = None if self._authority is None else self._authority.context
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self.connection, self.host, self.port, ssl=context
            )
        except (OSError, OverflowError) as error:
            raise InvalidInput(
                f"{self.host}:{self.port} can't be listened on: {error}.",
                next_step="choose another port, or 0 for a free one",
            ) from error
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._cut_all()
        if self._listener is not None:
            await self._listener.wait_closed()
            self._listener = None

    async def _cut_all(self) -> None:
        self._empty.clear()
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            await self._empty.wait()

    async def stop(self) -> None:
        """Cut every connection, end every task, free the port; harmless when stopped already."""
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._hang_up()
        if self._authority is not None:
            self._authority.discard()
            self._authority = None

    async def restart(self, *, keep: bool = True) -> None:
        """Go down and come back on the same port, with what the venue knows or without.

        What was under way to it from before (`delay_beyond`) arrives all the same.
        """
        await self._hang_up()
        self.restarted(keep=keep)
        await self._listen()

    def restarted(self, *, keep: bool) -> None:  # noqa: B027 - most servers keep nothing
        """Forget what a restart loses; for a venue to fill in."""

    def restart_soon(self, *, keep: bool) -> None:
        """Restart in a task of its own."""
        self.spawn(self.restart(keep=keep))

    # --- what the whole server can suffer -------------------------------------------------------------

    def now(self) -> datetime:
        """Return the time as the venue has it."""
        return self.clock.now() + self.shift

    def now_ns(self) -> int:
        """Return the time as the venue has it, in nanoseconds since 1970 UTC."""
        return self.clock.now_ns() + self.shift // timedelta(microseconds=1) * 1000

    def shift_clock(self, seconds: float) -> None:
        """Let the venue's clock be off by that many seconds from now on; 0 puts it right."""
        self.shift = timedelta(seconds=seconds)

    def maintain(self, seconds: float) -> None:
        """Refuse every request, and cut every stream, for that many seconds."""
        self._maintained_until = self.clock.monotonic() + seconds
        self.cut_streams()

    @property
    def maintained(self) -> bool:
        """True during a maintenance window."""
        return bool(self._maintained_until) and self.clock.monotonic() < self._maintained_until

    @abstractmethod
    def cut_streams(self) -> None:
        """Cut every stream; requests under way are let be."""

    # --- for connections ------------------------------------------------------------------------------

    @abstractmethod
    def connection(self) -> asyncio.Protocol:
        """Return the protocol of one new connection."""

    def connected(self, connection: Connection) -> None:
        """Keep a connection in view."""
        self._connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        """Let go of a connection that is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def deliver(self, session: Session, data: bytes) -> None:
        """Let a connection take bytes; what its receiver fails of is kept, and cuts it."""
        try:
            session.receive(data)
        except Exception as error:  # noqa: BLE001 - a bug of a simulator must reach its test
            self.errors.append(error)
            session.abort()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something until it ends or the server stops."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.errors.append(error)

    @property
    def ca_file(self) -> Path | None:
        """The certificate to trust, None without TLS or before the start."""
        return None if self._authority is None else self._authority.ca_file

    @property
    def settings(self) -> Mapping[str, str]:
        """How the server is reached; a venue adds its credentials."""
        ca = {} if self.ca_file is None else {"ca_file": str(self.ca_file)}
        return {"host": self.host, "port": str(self.port), **ca}
