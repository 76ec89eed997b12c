"""What WebSocket and TCP connections have in common: frames out, and what faults do to them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .script import Faults


@dataclass(frozen=True, slots=True)
class Frame:
    """One message about to be sent; `label` is what faults match, such as its channel."""

    label: str
    data: str | bytes
    heartbeat: bool = False


class Session(ABC):
    """One connection's outgoing side; `state` is the venue's to use."""

    def __init__(self, transport: asyncio.Transport, faults: Faults) -> None:
        self.transport = transport
        self.state: dict[str, Any] = {}
        #: True once nothing can be sent any more.
        self.over = False
        #: True where the server no longer reads or writes, without having said so.
        self.frozen = False
        #: True where no frame goes out, not even heartbeats.
        self.muted = False
        self._faults = faults
        self._held: list[str | bytes] = []

    def send(self, data: str | bytes, *, heartbeat: bool = False, label: str = "") -> None:
        """Send one message, unless a fault has other plans for it."""
        if self.over or self.muted or self.frozen:
            return
        fault = self._faults.for_frame(Frame(label, data, heartbeat))
        if fault is None:
            self.emit(data)
        else:
            fault.send(self, data)

    def emit(self, data: str | bytes) -> None:
        """Send one message, and after it those held back."""
        self.write(self.encode(data))
        while self._held:
            self.write(self.encode(self._held.pop(0)))

    def hold_back(self, data: str | bytes) -> None:
        """Keep a message until another has overtaken it."""
        self._held.append(data)

    def write(self, raw: bytes) -> None:
        """Write bytes, unless the connection is gone or frozen."""
        if not (self.over or self.frozen or self.transport.is_closing()):
            self.transport.write(raw)

    def freeze(self) -> None:
        """Stop reading and writing without closing: the peer sees a half-open connection."""
        self.frozen = True
        self.transport.pause_reading()

    def mute(self) -> None:
        """Send no frame any more; pings are still answered."""
        self.muted = True

    def abort(self) -> None:
        """Cut the connection."""
        self.over = True
        self.transport.abort()

    @abstractmethod
    def encode(self, data: str | bytes) -> bytes:
        """Return a message as it goes over the wire."""

    @abstractmethod
    def receive(self, raw: bytes) -> None:
        """Take bytes from the wire."""
