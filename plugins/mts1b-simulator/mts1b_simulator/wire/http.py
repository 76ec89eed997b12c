"""An HTTP/1.1 server with WebSocket upgrades, over httptools and wsproto."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Mapping
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, cast

import httptools

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.plugin import SimulatorOptions

from .messages import Declined, Reply, Request, encode
from .routes import Routes, Upgrade
from .server import Server
from .websocket import Socket

_SWITCH = 101
_WORDS = {status.value: status.phrase for status in HTTPStatus}


class HttpServer(Server):
    """Answers requests by its `routes`, in the order in which each connection sent them."""

    def __init__(self, options: SimulatorOptions | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(options, clock=clock)
        self.routes = Routes()
        #: The open WebSockets.
        self.sockets: set[Socket] = set()

    def connection(self) -> asyncio.Protocol:
        """Return the protocol of one new connection."""
        return HttpConnection(self)

    def cut_streams(self) -> None:
        """Cut every WebSocket."""
        for socket in list(self.sockets):
            socket.abort()

    @property
    def base_url(self) -> str:
        """Where requests go, without a trailing slash."""
        return f"http{'s' if self._tls else ''}://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where WebSockets go, without a path."""
        return f"ws{'s' if self._tls else ''}://{self.host}:{self.port}"

    @property
    def settings(self) -> Mapping[str, str]:
        """How the server is reached; a venue adds its credentials."""
        ca = {} if self.ca_file is None else {"ca_file": str(self.ca_file)}
        return {"base_url": self.base_url, "ws_url": self.ws_url, **ca}

    # --- what a venue may word its own way ------------------------------------------------------------

    def refusal(self, status: int, code: str, message: str, headers: Mapping[str, str]) -> Reply:
        """Word an error; a venue may do it in its own form."""
        return Reply.json(status, {"error": {"code": code, "message": message}}, **headers)

    def dress(self, request: Request, reply: Reply) -> None:
        """Add to a reply's headers; a venue may add its own."""
        reply.headers.setdefault("Date", format_datetime(self.now(), usegmt=True))

    def admit(self, request: Request) -> None:
        """Look at a request before its handler does; raises `Declined` where it may not pass."""

    async def handle(self, request: Request) -> Reply | None:
        """Answer a request as the venue does, faults aside; None cuts its connection."""
        try:
            handler = self.routes.find(request)
            self.admit(request)
            if isinstance(handler, Upgrade):
                if handler.admit is not None:
                    handler.admit(request)
                return Reply(_SWITCH)
            reply = handler(request)
            return await reply if inspect.isawaitable(reply) else reply
        except Declined as error:
            return self.refusal(error.status, error.code, error.message, error.headers)
        except Exception as error:  # noqa: BLE001 - a bug of a simulator must reach both its client and its test
            self.errors.append(error)
            return self.refusal(500, "simulator_bug", f"{type(error).__name__}: {error}", {})

    def broadcast(self, data: Any, *, label: str = "") -> None:
        """Send one message, as JSON unless it is text or bytes already, to every open WebSocket."""
        for socket in list(self.sockets):
            socket.send(data if isinstance(data, (str, bytes)) else encode(data), label=label)


class Call:
    """One request under way, as a fault may treat it."""

    def __init__(self, connection: HttpConnection, request: Request) -> None:
        self.server = connection.server
        self._connection = connection
        self._request = request

    async def handle(self) -> Reply | None:
        """Let the venue act on the request; None where it cuts the connection instead of answering."""
        return await self.server.handle(self._request)

    def refuse(self, status: int, code: str, message: str, **headers: str) -> Reply:
        """Return an error in the venue's own form."""
        return self.server.refusal(status, code, message, headers)

    def later(self, seconds: float) -> None:
        """Let the venue act on the request after that many seconds, whatever became of its connection."""

        async def land() -> None:
            await self.server.clock.sleep(seconds)
            self._request.late = True
            await self.server.handle(self._request)

        self.server.spawn(land())

    async def sleep(self, seconds: float) -> None:
        """Wait on the server's clock."""
        await self.server.clock.sleep(seconds)

    async def gone(self) -> None:
        """Wait until the client has let go of the connection."""
        await self._connection.lost.wait()


class HttpConnection(asyncio.Protocol):
    """One connection: requests in, replies out, until it is upgraded or closed."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.lost = asyncio.Event()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._socket: Socket | None = None
        self._early = b""
        self._queue: deque[tuple[Request, bool]] = deque()
        self._working = self._upgrading = False
        self._request = Request("", b"", {})
        self._target = self._body = b""
        self._headers: dict[str, str] = {}

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self.server.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.lost.set()
        if self._socket is not None:
            self.server.sockets.discard(self._socket)
            self._socket.lost()
        self.server.disconnected(self)

    def abort(self) -> None:
        """Cut the connection."""
        if self._socket is not None:
            self._socket.over = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._socket is not None:
            self.server.deliver(self._socket, data)
        elif self._upgrading:
            self._early += data
        else:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._early += data[upgrade.args[0] :]
            except httptools.HttpParserError:
                if not self._transport.is_closing():
                    self._write(
                        self.server.refusal(400, "bad_request", "this is not HTTP/1.1", {}), keep=False
                    )

    # --- httptools' side ---

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._target, self._headers, self._body = b"", {}, b""

    def on_url(self, part: bytes) -> None:
        """Take a part of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Draw what happens to the request, as its head is known and its body isn't."""
        method = self._parser.get_method().decode("latin-1")
        request = self._request = Request(
            method, self._target, self._headers, arrived_ns=self.server.clock.now_ns()
        )
        if not self.server.maintained:
            request.fault = self.server.faults.for_request(request)
        if request.fault is not None and request.fault.unread:
            self._transport.abort()

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        self._body += part

    def on_message_complete(self) -> None:
        """Queue the request behind those before it."""
        if self._transport.is_closing():
            return
        self._request.body = self._body
        self._upgrading = self._parser.should_upgrade()
        self._queue.append((self._request, self._parser.should_keep_alive()))
        if not self._working:
            self._working = True
            self.server.spawn(self._work())

    # --- answering ------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while self._queue:
            request, keep = self._queue.popleft()
            await self._answer(request, keep)
        self._working = False

    async def _answer(self, request: Request, keep: bool) -> None:
        server, fault = self.server, request.fault
        reply: Reply | None
        if server.maintained:
            reply = server.refusal(503, "maintenance", "the venue is under maintenance", {})
        elif fault is None:
            reply = await server.handle(request)
        else:
            reply = await fault.serve(Call(self, request))
        if reply is None:
            self._transport.abort()
        elif reply.status == _SWITCH:
            self._switch(request)
        elif not self._transport.is_closing():
            server.dress(request, reply)
            self._write(reply, keep=keep and not self._upgrading)

    def _write(self, reply: Reply, *, keep: bool) -> None:
        head = [f"HTTP/1.1 {reply.status} {_WORDS.get(reply.status, 'Other')}"]
        headers = {"Content-Type": "application/json", **reply.headers}
        headers["Content-Length"] = str(len(reply.body))
        if not keep:
            headers["Connection"] = "close"
        head += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join([*head, "", ""]).encode("latin-1") + reply.body)
        if not keep:
            self._transport.close()

    def _switch(self, request: Request) -> None:
        """Go on as a WebSocket."""
        route = self.server.routes.find(request)
        if self._transport.is_closing() or not isinstance(route, Upgrade):
            return
        socket = Socket(self._transport, self.server.faults)
        if not socket.accept(request):
            self._write(
                self.server.refusal(400, "bad_request", "this is no WebSocket handshake", {}), keep=False
            )
            return
        self._socket = socket
        self.server.sockets.add(socket)
        socket.receiver = route.open(socket, request)
        if self._early:
            self.server.deliver(socket, self._early)
