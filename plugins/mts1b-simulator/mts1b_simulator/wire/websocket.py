"""The server's side of one WebSocket, over wsproto."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from .frames import Session
from .messages import Request

if TYPE_CHECKING:
    from .routes import Receiver
    from .script import Faults


class Socket(Session):
    """One open WebSocket; `receiver` gets its messages, whole and in order."""

    receiver: Receiver

    def __init__(self, transport: asyncio.Transport, faults: Faults) -> None:
        super().__init__(transport, faults)
        self._ws = WSConnection(ConnectionType.SERVER)
        self._parts: list[str | bytes | bytearray] = []

    def accept(self, request: Request) -> bool:
        """Answer the handshake; False where it is none."""
        headers = [(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()]
        try:
            self._ws.initiate_upgrade_connection(headers, request.target)
            if not any(isinstance(event, ws.Request) for event in self._ws.events()):
                return False
            self.write(self._ws.send(ws.AcceptConnection()))
        except (LocalProtocolError, RemoteProtocolError):
            return False
        return True

    def encode(self, data: str | bytes) -> bytes:
        """Return a message as one frame."""
        message = ws.TextMessage(data=data) if isinstance(data, str) else ws.BytesMessage(data=data)
        return self._ws.send(message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with a code and words, as the protocol wants it."""
        if not (self.over or self.frozen):
            self.write(self._ws.send(ws.CloseConnection(code=code, reason=reason)))
            self._end()

    def _end(self) -> None:
        self.over = True
        if not self.frozen:
            self.transport.close()

    def lost(self) -> None:
        """Learn that the connection is gone."""
        self.over = True
        self.receiver.closed()

    def receive(self, raw: bytes) -> None:
        """Take bytes: answer pings, hand messages on, take part in closing."""
        if self.frozen or self.over:
            return
        self._ws.receive_data(raw)
        for event in self._ws.events():
            self._take(event)

    def _take(self, event: ws.Event) -> None:
        if isinstance(event, ws.Ping):
            self.write(self._ws.send(event.response()))
        elif isinstance(event, ws.CloseConnection):
            if not self.over:
                self.write(self._ws.send(event.response()))
                self._end()
        elif isinstance(event, ws.Message):
            self._parts.append(event.data)
            if event.message_finished and not self.over:
                whole = self._parts[0]
                for part in self._parts[1:]:
                    whole += part  # type: ignore[operator]
                self._parts.clear()
                self.receiver.received(whole if isinstance(whole, str) else bytes(whole))
