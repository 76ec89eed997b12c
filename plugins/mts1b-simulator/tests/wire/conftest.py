"""Clients that know nothing of the server but its protocol: signed HTTP, and a WebSocket of their own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws

from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_simulator.reference import Key, ReferenceServer

BUY = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "2", "limit_price": "90000"}


class Client:
    """A signed client of one server; `ahead` seconds are what its clock is off by."""

    def __init__(self, server: ReferenceServer, key: Key | None = None) -> None:
        self.server = server
        self.key = key or server.access.key
        self.session: str | None = None
        self.ahead = 0.0
        context = None if server.ca_file is None else ssl.create_default_context(cafile=str(server.ca_file))
        verify: Any = True if context is None else context
        self.http = httpx.AsyncClient(base_url=server.settings["base_url"], verify=verify, timeout=5)

    def signature(self, message: bytes) -> tuple[str, str]:
        stamp = str(int((self.server.clock.now().timestamp() + self.ahead) * 1000))
        digest = hmac.new(self.key.secret.encode(), stamp.encode() + message, hashlib.sha256).hexdigest()
        return stamp, digest

    async def __call__(self, method: str, target: str, body: Any = None) -> httpx.Response:
        content = b"" if body is None else json.dumps(body).encode()
        request = self.http.build_request(method, target, content=content)
        stamp, digest = self.signature(method.encode() + request.url.raw_path + content)
        request.headers.update({"X-Key": self.key.name, "X-Timestamp": stamp, "X-Signature": digest})
        if self.session is not None:
            request.headers["X-Session"] = self.session
        return await self.http.send(request)

    async def get(self, target: str) -> Any:
        reply = await self("GET", target)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def order(self, token: str | None = None, **terms: Any) -> Any:
        reply = await self("POST", "/v1/orders", {**BUY, "client_order_id": token, **terms})
        assert reply.status_code == 201, reply.text
        return reply.json()["order"]

    async def refused(self, method: str, target: str, body: Any = None) -> tuple[int, str]:
        reply = await self(method, target, body)
        return reply.status_code, reply.json()["error"]["code"]

    async def connect(self, path: str) -> SocketClient:
        return await connect(self.server, path)

    async def stream(self, *channels: str) -> SocketClient:
        socket = await connect(self.server, "/v1/stream")
        stamp, digest = self.signature(b"GET/v1/stream")
        login = {"op": "login", "key": self.key.name, "timestamp": stamp, "signature": digest}
        socket.send(json.dumps({**login, "session": self.session}))
        socket.send(json.dumps({"op": "subscribe", "channels": channels}))
        for channel in channels:
            assert await socket.frame() == {
                "channel": channel, "seq": 1, "type": "subscribed", "data": {"channel": channel},
            }  # fmt: skip
        return socket


class SocketClient:
    """A WebSocket's client side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._events: list[Any] = []

    async def open(self, host: str, path: str, first: bytes) -> None:
        self.writer.write(self._ws.send(ws.Request(host=host, target=path)) + first)
        assert isinstance(await self.event(), ws.AcceptConnection)

    def send(self, data: str) -> None:
        self.writer.write(self._ws.send(ws.TextMessage(data=data)))

    def ping(self) -> None:
        self.writer.write(self._ws.send(ws.Ping(payload=b"?")))

    async def event(self) -> Any:
        """Return the next event, or None where the connection ended."""
        async with asyncio.timeout(5):
            while not self._events:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._ws.receive_data(data)
                self._events += self._ws.events()
        return self._events.pop(0)

    async def frame(self) -> Any:
        """Return the next message as data, heartbeats left out, or None where the connection ended."""
        while True:
            event = await self.event()
            if event is None or isinstance(event, ws.CloseConnection):
                return None
            assert isinstance(event, ws.Message), event
            data = json.loads(event.data)
            if not (isinstance(data, dict) and data.get("type") == "heartbeat"):
                return data


async def connect(server: Any, path: str, first: bytes = b"") -> SocketClient:
    place = urlsplit(server.ws_url)
    context = None if server.ca_file is None else ssl.create_default_context(cafile=str(server.ca_file))
    reader, writer = await asyncio.open_connection(place.hostname, place.port, ssl=context)
    socket = SocketClient(reader, writer)
    _opened.append(writer)
    await socket.open(place.netloc, path, first)
    return socket


_opened: list[asyncio.StreamWriter] = []


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(datetime(2026, 1, 5, 15, tzinfo=UTC))


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Start servers; they, their clients and their sockets are closed at the end."""
    servers: list[Any] = []
    clients: list[Client] = []

    async def start(profile: Any = "native_dedupe", **options: Any) -> Client:
        server = ReferenceServer(profile, **options)
        servers.append(server)
        await server.start()
        client = Client(server)
        clients.append(client)
        return client

    async def keep(server: Any) -> Any:
        servers.append(server)
        await server.start()
        return server

    start.other, start.socket = keep, connect  # type: ignore[attr-defined]
    yield start
    for client in clients:
        await client.http.aclose()
    for server in servers:
        await server.stop()
        assert server.errors == []
    while _opened:
        writer = _opened.pop()
        writer.transport.abort()
        try:
            await writer.wait_closed()
        except OSError:  # the server cut it first
            continue
