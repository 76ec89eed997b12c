"""One request of a venue's client, from `httpx.Request` to `httpx.Response` or a typed error."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import httpx

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import (
    BrokerError,
    ConfigurationError,
    InvalidInput,
    NotSent,
    ReplyLost,
)

from .http import http_date, is_local, named, not_encrypted, retry_after
from .retry import UNREAD, again, took_effect
from .transport import Cut, Headers, Origin, Pool, Proxy, Reply

if TYPE_CHECKING:
    from .ratelimit import Cost, Limiter
    from .recorder import Kind, Tap
    from .skew import ClockSkew

#: Connections to one origin; beyond it requests wait their turn.
MOST_CONNECTIONS = 50
#: Bytes of one reply as it comes over the wire: the longest instrument lists stay far below.
MOST_BYTES = 64 * 2**20
#: Methods that change nothing at the venue (RFC 9110 section 9.2.1).
SAFE = frozenset({"GET", "HEAD"})
#: Statuses of a gateway that could not reach the venue's own servers, or finds them busy.
GATEWAY = frozenset({502, 503, 504})
#: From how many seconds on our wall clock was set, against one that never steps.
_SET = 0.1
#: The first wait before a repeat, in seconds.
BACKOFF = 0.25
#: The longest Retry-After, in seconds, that a read sits out by itself.
SHORT_WAIT = 5.0


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that verifies chain and host name, against the system's authorities and `ca_file`."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ConfigurationError(
                f"{ca_file} is no file of certificate authorities: {error.strerror or error}.",
                next_step="name a PEM file that this process may read",
            ) from None
    return context


class WholeReply(httpx.Response):
    """A response that is there already: httpx reads it again through five generators, this hands it out."""

    def __init__(self, request: httpx.Request, reply: Reply) -> None:
        super().__init__(
            reply.status,
            headers=reply.headers,
            stream=httpx.ByteStream(reply.body),
            request=request,
            extensions={"http_version": b"HTTP/1.1"},
        )
        names = {name.lower() for name, _ in reply.headers}
        self.sets_cookies = b"set-cookie" in names
        self._whole = super().read() if b"content-encoding" in names else reply.body

    @property
    def content(self) -> bytes:
        """Return the decoded body."""
        return self._whole

    def read(self) -> bytes:
        """Return the decoded body."""
        return self._whole

    async def aread(self) -> bytes:
        """Return the decoded body."""
        return self._whole


class _Jar(httpx.Cookies):
    """Cookies that cost nothing where a reply sets none."""

    def extract_cookies(self, response: httpx.Response) -> None:
        if getattr(response, "sets_cookies", True):
            super().extract_cookies(response)


class VenueTransport(httpx.AsyncHTTPTransport):
    """The transport under every venue's client: lean or stock underneath, the same rules above.

    It derives from httpx's own because tracers patch that one's method; a patched one is called.
    """

    def __init__(  # the base's own would build a pool and a TLS context that nobody uses
        self,
        name: str,
        clock: Clock,
        *,
        timeout: float | None,
        tap: Tap | None = None,
        skew: ClockSkew | None = None,
        on_reply: Callable[[httpx.Response], object] | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
        stock: bool = False,
        most_connections: int = MOST_CONNECTIONS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._name = name
        self._clock = clock
        self._timeout = timeout
        self._tap = tap
        self._skew = skew
        self._on_reply = on_reply
        self._date, self._wall = "", 0.0
        self._most_connections = most_connections
        self._most_bytes = most_bytes
        self._proxy = Proxy.at(proxy) if proxy else None
        self._context = tls_context(ca_file) if ca_file or stock else None
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._closed = False
        self._stock: httpx.AsyncHTTPTransport | None = None
        if stock:
            assert self._context is not None
            limits = httpx.Limits(
                max_connections=most_connections, max_keepalive_connections=most_connections
            )
            self._stock = httpx.AsyncHTTPTransport(verify=self._context, limits=limits, proxy=proxy)

    async def __aenter__(self) -> VenueTransport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and ask other loops that still run to close theirs."""
        self._closed = True
        here = asyncio.get_running_loop()
        for loop, pool in list(self._pools.items()):
            if loop is here:
                await pool.close()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(pool.close(), loop)
        if self._stock is not None:
            await self._stock.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry one request, once. Raises `NotSent` or `ReplyLost`."""
        if self._stock is not None or not hasattr(
            httpx.AsyncHTTPTransport.handle_async_request, "__wrapped__"
        ):
            return await self._exchange(request)
        # Some program's tracer wraps the base's method: go through it, and come out by `_Traced`.
        self._pool: Any = _Traced(self._exchange)
        request.extensions = {**request.extensions, _Traced.__name__: request}
        response = await super().handle_async_request(request)
        whole: httpx.Response = response.extensions[_Traced.__name__]
        return whole

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        limits = request.extensions.get("timeout")
        seconds: float | None = limits["read"] if limits else self._timeout
        if self._closed:
            raise self._problem(request, "the client is closed", sent=False)
        try:
            body = request.content
        except httpx.RequestNotRead:
            body = await request.aread()
        origin = _origin(request)
        head = _head(request, len(body), None if origin.tls else self._proxy)
        exchange = self._show(request, body) if self._tap is not None else 0
        asked_at = self._clock.now() if self._skew is not None else None
        begun = self._clock.monotonic()
        reply: Reply | None = None
        sent: list[bool] = []  # no longer empty once a byte may have left
        try:
            async with self._clock.timeout(seconds):
                if self._stock is not None:
                    reply = await self._carry(self._stock, request, sent)
                else:
                    pool = self._pools.get(asyncio.get_running_loop()) or self._pool_here()
                    connection = pool.ready(origin, begun) or await pool.take(origin)
                    sent.append(True)
                    try:
                        reply = await connection.exchange(head + body, bodiless=request.method == "HEAD")
                    finally:
                        pool.give(origin, connection)
            response = WholeReply(request, reply)
        except (Cut, TimeoutError, httpx.DecodingError) as error:
            why = str(error) if isinstance(error, Cut) else "its encoding is broken"
            if isinstance(error, TimeoutError):
                why = f"{'no whole reply' if sent else 'no connection'} within {seconds:g} s"
            problem = self._problem(request, why, sent=bool(sent))
            if self._tap is not None:
                self._frame("in", "error", exchange, {"error": problem.message}, b"")
            # The cause may quote what went over the wire: its words are in the message already.
            raise problem from None
        finally:
            if sent and request.method not in SAFE and (reply is None or reply.status not in UNREAD):
                took_effect(request.method)
        response.elapsed = timedelta(seconds=self._clock.monotonic() - begun)
        if asked_at is not None:
            self._observe(response, asked_at, begun)
        if self._tap is not None:
            # Decoded: no secret could be found in what is compressed.
            shown = {"status": str(response.status_code), **_shown(response.headers.raw, b"content-encoding")}
            self._frame("in", "response", exchange, shown, response.content)
        if self._on_reply is not None:
            self._on_reply(response)
        return response

    async def _carry(
        self, stock: httpx.AsyncHTTPTransport, request: httpx.Request, sent: list[bool]
    ) -> Reply:
        async def trace(event: str, info: dict[str, Any]) -> None:
            if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
                sent.append(True)

        # Its own time-outs would count on another clock.
        options = {**request.extensions, "trace": trace, "timeout": {}}
        if "target" in options and self._proxy is not None and request.url.scheme == "http":
            options["target"] = b"http://" + request.url.netloc + options["target"]
        request = httpx.Request(
            request.method, request.url, headers=request.headers, stream=request.stream, extensions=options
        )
        try:
            response = await stock.handle_async_request(request)
            try:
                if response.status_code == 101:
                    raise Cut("the reply is not HTTP/1.1")
                body = bytearray()
                assert isinstance(response.stream, httpx.AsyncByteStream)
                async for part in response.stream:
                    body += part
                    if len(body) > self._most_bytes:
                        raise Cut(f"the reply is larger than {self._most_bytes} bytes")
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise Cut(
                _STOCK.get(type(error), "the connection was closed before the reply was whole")
            ) from None
        return Reply(response.status_code, response.headers.raw, bytes(body))

    def _pool_here(self) -> Pool:
        for loop in [loop for loop in self._pools if loop.is_closed()]:
            del self._pools[loop]
        pool = self._pools[asyncio.get_running_loop()] = Pool(
            self._clock, self._tls, self._proxy, most=self._most_connections, most_bytes=self._most_bytes
        )
        return pool

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = tls_context(None)
        return self._context

    def _problem(self, request: httpx.Request, why: str, *, sent: bool) -> BrokerError:
        if sent:
            return ReplyLost(
                f"{named(request)} was sent, but {why}.",
                broker=self._name,
                next_step="look up at the venue whether it took effect before sending it again",
            )
        return NotSent(
            f"{named(request)} was not sent: {why}.",
            broker=self._name,
            next_step="check the network, the address and the proxy, then try again",
        )

    def _observe(self, response: httpx.Response, asked_at: datetime, begun: float) -> None:
        date, wall = response.headers.get("date", ""), asked_at.timestamp() - begun
        # A second's later replies say less than its first, unless our own clock was set since.
        if date and (date != self._date or abs(wall - self._wall) > _SET):
            self._date, self._wall = date, wall
            try:
                server = http_date(date)
            except ValueError:
                return
            assert self._skew is not None
            self._skew.observe(sent=asked_at, received=self._clock.now(), server=server, resolution=1.0)

    def _show(self, request: httpx.Request, body: bytes) -> int:
        from .recorder import next_exchange

        exchange = next_exchange()
        target: bytes = request.extensions.get("target") or request.url.raw_path
        url = str(request.url.copy_with(raw_path=b"/")).rstrip("/") + target.decode("ascii", "replace")
        head = {"method": request.method, "target": url, **_shown(request.headers.raw)}
        self._frame("out", "request", exchange, head, body)
        return exchange

    def _frame(
        self, direction: Literal["out", "in"], kind: Kind, exchange: int, head: dict[str, str], body: bytes
    ) -> None:
        from .recorder import Frame

        assert self._tap is not None
        self._tap(Frame(direction, "http", kind, exchange, head, body))


class _Traced:
    """Stands where httpx's transport keeps its connection pool, and carries the request it was made from."""

    def __init__(self, carry: Callable[[httpx.Request], Awaitable[httpx.Response]]) -> None:
        self._carry = carry

    async def handle_async_request(self, request: Any) -> SimpleNamespace:
        response = await self._carry(request.extensions[_Traced.__name__])
        return SimpleNamespace(
            status=response.status_code,
            headers=response.headers.raw,
            stream=response.stream,
            extensions={**response.extensions, _Traced.__name__: response},
        )


class VenueHttp(httpx.AsyncClient):
    """An httpx client that asks the limiter first and repeats reads; made by `http_client`."""

    def __init__(
        self,
        transport: VenueTransport,
        clock: Clock,
        *,
        base_url: str,
        timeout: float | None,
        auth: httpx.Auth | None,
        retries: int,
        limiter: Limiter | None,
        cost: Callable[[httpx.Request], Cost] | None,
    ) -> None:
        _check_encrypted(httpx.URL(base_url))
        super().__init__(base_url=base_url, transport=transport, timeout=timeout, auth=auth, trust_env=False)
        self._cookies = _Jar()
        # Joining a path to the base is half of what building a request costs.
        self._joined = lru_cache(256)(lambda path: httpx.AsyncClient.build_request(self, "GET", path).url)
        self._clock = clock
        self._retries = retries
        self._limiter = limiter
        self._cost = cost

    def build_request(
        self, method: str, url: httpx.URL | str, *, content: Any = None, headers: Any = None, **options: Any
    ) -> httpx.Request:
        """Build as httpx does, and bytes with headers, as signed requests are, at a third of the cost."""
        address = self._joined(url) if isinstance(url, str) else url
        fancy = any(options.get(name) is not None for name in ("params", "cookies", "json", "data", "files"))
        if fancy or not isinstance(content, bytes) or self.cookies or self.params or address.is_relative_url:
            return super().build_request(method, address, content=content, headers=headers, **options)
        pairs = httpx.Headers(headers).raw
        given = {name.lower() for name, _ in pairs}
        pairs = [pair for pair in self.headers.raw if pair[0].lower() not in given] + pairs
        if b"host" not in given:
            pairs.insert(0, (b"Host", address.netloc))
        if not given & {b"content-length", b"transfer-encoding"}:
            pairs.append((b"Content-Length", b"%d" % len(content)))
        extensions = dict(options.get("extensions") or {})
        if "timeout" not in extensions:
            timeout = options.get("timeout", httpx.USE_CLIENT_DEFAULT)
            chosen = self.timeout if timeout is httpx.USE_CLIENT_DEFAULT else httpx.Timeout(timeout)
            extensions["timeout"] = chosen.as_dict()
        request = httpx.Request(
            method, address, headers=pairs, stream=httpx.ByteStream(content), extensions=extensions
        )
        request.read()
        return request

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send as httpx does; GET and HEAD are repeated as `http_client` says."""
        carry = partial(super().send, request, **options)
        if request.method not in SAFE or self._retries < 1:
            return await self._metered(request, carry)
        busy: httpx.Response | None = None

        async def once() -> httpx.Response:
            nonlocal busy
            busy = None
            response = await self._metered(request, carry)
            wait = retry_after(response) if response.status_code in GATEWAY | {429} else None
            short = response.status_code in GATEWAY if wait is None else wait <= SHORT_WAIT
            if not short:
                return response
            busy = response
            raise _Busy(wait)

        try:
            try:
                return await once()
            except (NotSent, ReplyLost, _Busy) as error:
                failed = error
            return await again(
                once,
                failed,
                lambda error: isinstance(error, NotSent | ReplyLost | _Busy),
                retries=self._retries,
                backoff=BACKOFF,
                clock=self._clock,
            )
        except _Busy:
            assert busy is not None
            return busy

    async def send_raw(self, request: httpx.Request) -> httpx.Response:
        """Hand the request to the transport as it is."""
        carry = self._transport.handle_async_request
        return await (
            carry(request) if self._limiter is None else self._metered(request, partial(carry, request))
        )

    async def _metered(
        self, request: httpx.Request, carry: Callable[[], Awaitable[httpx.Response]]
    ) -> httpx.Response:
        limiter = self._limiter
        if limiter is None:
            return await carry()
        permit = await limiter.acquire(self._cost(request) if self._cost else {})
        try:
            response = await carry()
        except NotSent:
            permit.refund()
            raise
        if response.status_code == 429 and (wait := retry_after(response)) is not None:
            limiter.penalise(wait)
        return response


class _Busy(BrokerError):
    """A reply that asks to come again shortly."""

    def __init__(self, retry_after: float | None) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


#: What httpx's own transport stumbled over, in our words: its texts may quote the wire.
_STOCK: dict[type[Exception], str] = {
    httpx.ConnectError: "no connection",
    httpx.ProxyError: "the proxy refused to connect",
    httpx.RemoteProtocolError: "the reply is not whole, or not HTTP/1.1",
    httpx.LocalProtocolError: "the request is not HTTP/1.1",
}


def _check_encrypted(url: httpx.URL) -> None:
    if url.scheme == "http" and not is_local(url.raw_host.decode("ascii")):
        raise not_encrypted("http", url.host)


def _origin(request: httpx.Request) -> Origin:
    url = request.url
    scheme, host = url.scheme, url.raw_host
    if scheme not in ("http", "https") or not host:
        raise InvalidInput(f"{named(request)}: the address is neither http nor https.")
    _check_encrypted(url)
    return Origin(scheme == "https", host.decode("ascii"), url.port or (443 if scheme == "https" else 80))


def _head(request: httpx.Request, length: int, proxy: Proxy | None) -> bytes:
    """Return request line and headers as they go over the wire. Raises `InvalidInput` where they can't."""
    target: bytes = request.extensions.get("target") or request.url.raw_path
    headers = request.headers.raw
    lines = b"\r\n".join([b"%b: %b" % pair for pair in headers])
    if b"transfer-encoding:" in lines.lower():  # a streamed body, which is whole by now
        headers = [pair for pair in headers if pair[0].lower() != b"transfer-encoding"]
        headers.append((b"Content-Length", b"%d" % length))
        lines = b"\r\n".join([b"%b: %b" % pair for pair in headers])
    breaks = len(headers) + 2
    login = b""
    if proxy is not None:
        target = b"http://" + request.url.netloc + target
        login = proxy.authorization
        breaks += bool(login)
    head = b"%b %b HTTP/1.1\r\n%b\r\n%b\r\n" % (request.method.encode("ascii"), target, lines, login)
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b" " in target:
        raise InvalidInput(f"{named(request)}: a header or the path holds a line break or a space.")
    return head


def _shown(headers: Headers, without: bytes = b"") -> dict[str, str]:
    return {
        f"header:{name.decode('latin-1')}": value.decode("latin-1")
        for name, value in headers
        if name.lower() != without
    }
