"""HTTP/1.1 on the wire: connections that carry one exchange at a time, and the pool that keeps them warm."""

from __future__ import annotations

import asyncio
import base64
import select
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import httptools

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import ConfigurationError

#: Seconds an idle connection is trusted. Common front ends close theirs after 60 and more; a server that
#: announces less in `Keep-Alive: timeout=` is believed.
IDLE = 50.0

Headers = list[tuple[bytes, bytes]]


class Cut(Exception):
    """The connection did not carry the exchange through; the text says why and quotes nothing of it."""


class Reply(NamedTuple):
    """A whole reply; the body is as it came, without chunk framing but with its content encoding."""

    status: int
    headers: Headers
    body: bytes


class Origin(NamedTuple):
    """Where a connection leads."""

    tls: bool
    host: str
    port: int


class Connection(asyncio.Protocol):
    """One connection. Whatever arrives unasked, or after the reply's end, makes it unfit for another."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._reply: asyncio.Future[Reply] | None = None
        self._poll = select.poll()
        self.transport: asyncio.Transport
        self.lost = loop.create_future()
        self.reusable = False
        self.idle_until = 0.0
        self.keeps = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and watch its socket for what arrives between exchanges."""
        self.transport = transport  # type: ignore[assignment]
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def fit(self, now: float) -> bool:
        """Whether another request may be written: open, not too long idle, nothing unread in the kernel.

        A server's close that the event loop hasn't seen yet shows here, before a byte is written; afterwards
        nobody could say whether the request was acted on.
        """
        return not (self.transport.is_closing() or now >= self.idle_until or self._poll.poll(0))

    def exchange(self, request: bytes, *, bodiless: bool = False) -> asyncio.Future[Reply]:
        """Write the whole request and return the future of its reply, which raises `Cut` otherwise.

        `bodiless` is for HEAD and CONNECT, whose replies end with their headers.
        """
        self.reusable = False
        self._bodiless = bodiless
        self._headers: Headers = []
        self._body: list[bytes] = []
        self._size = self._status = 0
        self._in_head = True
        self._complete = self._more = self._keep = False
        self._parser = httptools.HttpResponseParser(self)
        self._reply = self._loop.create_future()
        self.transport.write(request)
        return self._reply

    def close(self) -> None:
        """Close at once; `lost` is done when the socket is gone."""
        self.reusable = False
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came; outside an exchange it can belong to nothing, and ends the connection."""
        if self._reply is None or self._reply.done():
            self.close()
            return
        self._size += len(data)
        if self._size > self._most:
            self._fail(f"the reply is larger than {self._most} bytes")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._more = True
            if not self._complete:
                self._fail("the reply is not HTTP/1.1")
                return
        if self._complete:
            self._finish(keep=self._keep and not self._more)
        elif self._bodiless and not self._in_head:
            self._finish(keep=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a reply that has no length of its own; any other is cut short."""
        if self._reply is not None and not self._reply.done():
            if exc is None and not self._in_head and self._ends_with_connection():
                self._finish(keep=False)
            else:
                self._fail("the connection was closed before the reply was whole")
        if not self.lost.done():
            self.lost.set_result(None)

    def _ends_with_connection(self) -> bool:
        return not {b"content-length", b"transfer-encoding"} & {name.lower() for name, _ in self._headers}

    def _finish(self, *, keep: bool) -> None:
        assert self._reply is not None
        self.reusable = keep and not self.transport.is_closing()
        self._reply.set_result(Reply(self._status, self._headers, b"".join(self._body)))

    def _fail(self, why: str) -> None:
        assert self._reply is not None
        self._reply.set_exception(Cut(why))
        self.close()

    def on_message_begin(self) -> None:
        """Note a second reply to one request (the final one after 1xx is expected)."""
        self._more = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers after a chunked body are not headers."""
        if self._in_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note that the body begins, and how long the server means to keep an idle connection."""
        self._in_head = False
        if not self._complete:
            self._status = self._parser.get_status_code()
        if not self.keeps:
            self.keeps = _kept(self._headers)

    def on_body(self, body: bytes) -> None:
        """Collect a piece of the body."""
        if not self._complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Note the end of the reply, unless it only was the announcement of one (1xx)."""
        if self._complete:
            return
        if 100 <= self._status < 200:
            self._headers.clear()
            self._in_head = True
        else:
            self._complete = True
            self._keep = self._parser.should_keep_alive()


class Proxy(NamedTuple):
    """A plain HTTP proxy; https goes through it by CONNECT."""

    host: str
    port: int
    authorization: bytes

    @classmethod
    def at(cls, url: str) -> Proxy:
        """Read `http://[user:password@]host:port`. Raises `ConfigurationError`, which never quotes it."""
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port or 80
        except ValueError:
            scheme, host, port = "", None, 0
        if scheme != "http" or not host:
            raise ConfigurationError(
                "The proxy is not the address of a plain HTTP proxy.",
                next_step="write it as http://host:port or http://user:password@host:port",
            )
        words = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        known = parts.username is not None
        login = b"Proxy-Authorization: Basic " + base64.b64encode(words) + b"\r\n" if known else b""
        return cls(host, port, login)


class _Lane:
    """The connections to one origin, and who waits for one (None: for leave to open one)."""

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self.all: set[Connection] = set()
        self.open = 0
        self.waiting: deque[asyncio.Future[Connection | None]] = deque()


class Pool:
    """The connections of one event loop: at most `most` to an origin, the warmest first, waiters in order."""

    def __init__(
        self,
        clock: Clock,
        tls: Callable[[], ssl.SSLContext],
        proxy: Proxy | None,
        *,
        most: int,
        most_bytes: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._tls = tls
        self._proxy = proxy
        self._most = most
        self._most_bytes = most_bytes
        self._closed = False
        self._lanes: dict[Origin, _Lane] = {}

    def ready(self, origin: Origin, now: float) -> Connection | None:
        """Return an idle connection fit for a request, if there is one."""
        lane = self._lanes.get(origin)
        while lane is not None and lane.idle:
            connection = lane.idle.pop()
            if connection.fit(now):
                return connection
            connection.close()
        return None

    async def take(self, origin: Origin) -> Connection:
        """Return a connection fit for a request, waiting for one where all are in use. Raises `Cut`."""
        lane = self._lanes.setdefault(origin, _Lane())
        while True:
            if (idle := self.ready(origin, self._clock.monotonic())) is not None:
                return idle
            if lane.open < self._most:
                lane.open += 1
                return await self._open(origin, lane)
            handed = await self._wait(lane)
            if handed is None:
                return await self._open(origin, lane)
            if handed.fit(self._clock.monotonic()):
                return handed
            handed.close()

    async def _open(self, origin: Origin, lane: _Lane) -> Connection:
        try:
            connection = await self._connect(origin)
        except BaseException:
            self._freed(lane)
            raise
        lane.all.add(connection)
        connection.lost.add_done_callback(partial(self._gone, lane, connection))
        if self._closed:
            connection.close()
        if connection.transport.is_closing():
            raise Cut("the connection was closed as soon as it was open")
        return connection

    def give(self, origin: Origin, connection: Connection) -> None:
        """Take a connection back; one whose exchange did not end cleanly is closed."""
        lane = self._lanes[origin]
        if not connection.reusable:
            connection.close()
            return
        connection.idle_until = self._clock.monotonic() + connection.keeps
        if (waiter := _next(lane)) is not None:
            waiter.set_result(connection)
        else:
            lane.idle.append(connection)

    async def close(self) -> None:
        """Close every connection, those in use too, and wait until their sockets are gone."""
        self._closed = True
        connections = [each for lane in self._lanes.values() for each in lane.all]
        for each in connections:
            each.close()
        if connections:
            await asyncio.wait([each.lost for each in connections])

    async def _wait(self, lane: _Lane) -> Connection | None:
        future: asyncio.Future[Connection | None] = self._loop.create_future()
        lane.waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # handed over in the same moment: pass it on
                if (handed := future.result()) is None:
                    self._freed(lane)
                else:
                    handed.close()
            raise

    def _freed(self, lane: _Lane) -> None:
        if (waiter := _next(lane)) is not None:
            waiter.set_result(None)
        else:
            lane.open -= 1

    def _gone(self, lane: _Lane, connection: Connection, _: object) -> None:
        lane.all.discard(connection)
        if connection in lane.idle:
            lane.idle.remove(connection)
        self._freed(lane)

    async def _connect(self, origin: Origin) -> Connection:
        proxy = self._proxy
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        context = self._tls() if origin.tls else None
        connection = Connection(self._loop, self._most_bytes)
        try:
            await self._loop.create_connection(
                lambda: connection,
                host,
                port,
                ssl=None if proxy else context,
                server_hostname=origin.host if context and not proxy else None,
            )
            if context and proxy:
                await self._tunnel(connection, origin, context, proxy)
        except (OSError, ssl.CertificateError) as error:
            raise Cut(_refusal(error)) from None
        return connection

    async def _tunnel(
        self, connection: Connection, origin: Origin, context: ssl.SSLContext, proxy: Proxy
    ) -> None:
        try:
            name = f"[{origin.host}]" if ":" in origin.host else origin.host
            target = f"{name}:{origin.port}".encode()
            head = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, proxy.authorization)
            reply = await connection.exchange(head, bodiless=True)
            if not 200 <= reply.status < 300:
                raise Cut(f"the proxy refused to connect, with status {reply.status}")
            secure = await self._loop.start_tls(
                connection.transport, connection, context, server_hostname=origin.host
            )
            if secure is None:
                raise Cut("the connection was closed during the TLS handshake")
            connection.transport = secure
        except BaseException:
            connection.close()
            raise


def _next(lane: _Lane) -> asyncio.Future[Connection | None] | None:
    while lane.waiting:
        waiter = lane.waiting.popleft()
        if not waiter.done():
            return waiter
    return None


def _kept(headers: Headers) -> float:
    for name, value in headers:
        if name.lower() == b"keep-alive":
            words = dict(word.strip().partition(b"=")[::2] for word in value.lower().split(b","))
            if (seconds := words.get(b"timeout", b"")).isdigit():
                # One second less, for the server counts from when the reply was sent.
                return min(IDLE, int(seconds) - 1.0) or -1.0
    return IDLE


def _refusal(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed ({error.reason})"
    return f"no connection ({error.strerror or error})"
