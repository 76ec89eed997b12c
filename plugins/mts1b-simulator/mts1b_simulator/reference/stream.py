"""One connection of the stream: login, subscriptions, and what it is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mts1b_simulator.wire import Declined, Request, Socket, encode

if TYPE_CHECKING:
    from .server import ReferenceServer

CHANNELS = ("orders", "executions", "triggers")


class Stream:
    """Numbers what it sends densely, by channel, from 1 on each connection."""

    def __init__(self, server: ReferenceServer, socket: Socket, request: Request) -> None:
        self._server = server
        self._socket = socket
        self._numbers: Counter[str] = Counter()
        self.channels: set[str] = set()
        self.logged_in = False
        server.streams.add(self)
        self._beat = server.spawn(self._heartbeat())

    def send(self, channel: str, kind: str, data: Any, *, heartbeat: bool = False) -> None:
        """Send one frame."""
        self._numbers[channel] += 1
        frame = {"channel": channel, "seq": self._numbers[channel], "type": kind, "data": data}
        self._socket.send(encode(frame), heartbeat=heartbeat, label=channel)

    async def _heartbeat(self) -> None:
        while True:
            await self._server.clock.sleep(self._server.profile.heartbeat)
            self.send("heartbeats", "heartbeat", {"time": self._server.now()}, heartbeat=True)

    def closed(self) -> None:
        """End with the connection."""
        self._server.streams.discard(self)
        self._beat.cancel()

    def end(self, code: str, message: str) -> None:
        """Say why, and cut."""
        self.send("session", "error", {"code": code, "message": message})
        self._socket.close(1008, code)

    def received(self, data: str | bytes) -> None:
        """Do what the client asks."""
        actions: dict[Any, Callable[[dict[str, Any]], None]] = {
            "login": self._login,
            "subscribe": self._subscribe,
        }
        try:
            message = json.loads(data)
            action = actions[message["op"]]
        except (ValueError, LookupError, TypeError):
            self.send(
                "session", "error", {"code": "bad_request", "message": "expected an op: login, subscribe"}
            )
            return
        try:
            action(message)
        except Declined as error:
            self.end(error.code, error.message)

    def _login(self, message: dict[str, Any]) -> None:
        server, now_ns = self._server, self._server.clock_ns()
        server.access.check(
            str(message.get("key")),
            str(message.get("timestamp")),
            str(message.get("signature")),
            b"GET/v1/stream",
            now_ns,
        )
        server.access.session(message.get("session"), now_ns)
        self.logged_in = True

    def _subscribe(self, message: dict[str, Any]) -> None:
        if not self.logged_in:
            raise Declined(401, "bad_signature", "log in before subscribing")
        for channel in message.get("channels", ()):
            if channel not in self._server.channels:
                offered = ", ".join(self._server.channels)
                problem = {"code": "no_channel", "message": f"there is no {channel} among {offered}"}
                self.send("session", "error", problem)
                continue
            self.channels.add(channel)
            self.send(channel, "subscribed", {"channel": channel})
