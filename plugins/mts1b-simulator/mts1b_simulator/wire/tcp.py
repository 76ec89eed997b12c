"""A raw TCP server, for venues whose protocol is neither HTTP nor WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.plugin import SimulatorOptions

from .frames import Session
from .routes import Receiver
from .script import Faults
from .server import Server


class TcpSession(Session):
    """One TCP connection; what is sent is one frame to the faults, bytes to the wire."""

    receiver: Receiver

    def __init__(self, transport: asyncio.Transport, faults: Faults) -> None:
        super().__init__(transport, faults)

    def encode(self, data: str | bytes) -> bytes:
        """Return bytes as they are, text in UTF-8."""
        return data.encode() if isinstance(data, str) else data

    def receive(self, raw: bytes) -> None:
        """Hand bytes on."""
        if not (self.frozen or self.over):
            self.receiver.received(raw)

    def close(self) -> None:
        """Close after what was written."""
        if not self.frozen:
            self.over = True
            self.transport.close()


class TcpServer(Server):
    """Gives each connection a receiver of its own, made by `receiver`."""

    def __init__(
        self, receiver: Callable[[TcpSession], Receiver], options: SimulatorOptions | None = None, *,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        super().__init__(options, clock=clock)
        self.receiver = receiver
        self.sessions: set[TcpSession] = set()

    def connection(self) -> asyncio.Protocol:
        """Return the protocol of one new connection."""
        return _TcpConnection(self)

    def cut_streams(self) -> None:
        """Cut every connection."""
        for session in list(self.sessions):
            session.abort()


class _TcpConnection(asyncio.Protocol):
    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._session: TcpSession

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._session = TcpSession(cast("asyncio.Transport", transport), self._server.faults)
        self._server.connected(self)
        if self._server.maintained:
            self.abort()
        self._server.sessions.add(self._session)
        self._session.receiver = self._server.receiver(self._session)

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.over = True
        self._server.sessions.discard(self._session)
        self._session.receiver.closed()
        self._server.disconnected(self)

    def abort(self) -> None:
        self._session.abort()

    def data_received(self, data: bytes) -> None:
        self._server.deliver(self._session, data)
