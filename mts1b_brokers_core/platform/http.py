"""HTTP to a venue: the client, exactly these bytes to exactly this path, and what a status means."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidInput,
    PermissionDenied,
    RateLimited,
    UnreadableReply,
    VenueError,
    VenueUnavailable,
)

from .security import redact

if TYPE_CHECKING:
    import httpx

    from .ratelimit import Cost, Limiter
    from .recorder import Tap
    from .skew import ClockSkew

#: How much of a venue's own words an error quotes.
WORDS = 300
_WEEK = 7 * 86400.0


def http_client(
    name: str,
    *,
    base_url: str,
    timeout: float = 20.0,
    retries: int = 3,
    auth: httpx.Auth | None = None,
    clock: Clock | None = None,
    limiter: Limiter | None = None,
    cost: Callable[[httpx.Request], Cost] | None = None,
    tap: Tap | None = None,
    skew: ClockSkew | None = None,
    on_reply: Callable[[httpx.Response], object] | None = None,
    proxy: str | None = None,
    ca_file: Path | None = None,
    stock: bool = False,
) -> httpx.AsyncClient:
    """Return an httpx client for the venue `name`; close it with `async with` or `aclose()`.

    `timeout` is seconds for a whole exchange, connecting included, the limiter's wait excluded. `retries`
    repeats GET and HEAD only, with backoff: requests that got no reply, 502, 503, 504, and 429 where
    Retry-After is at most 5 s; `auth` signs each repeat anew. `limiter` is asked before each request for
    `cost(request)`; a Retry-After that comes with 429 holds it back. `skew` learns from Date headers, `tap`
    sees every request and reply. `on_reply` is called with each reply, whatever its status and however it
    was asked for: headers tell there what is left of a limit. `proxy` is http://[user:password@]host:port,
    `ca_file` a PEM file of authorities trusted beside the system's. Redirects are not followed, and nothing
    is read from the environment. `stock` carries the requests by httpx's own transport instead of the lean
    one.

    Requests raise `NotSent` where no byte left, `ReplyLost` where one may have. Raises `ConfigurationError`
    for a proxy or a file that can't be used, and where plain http would leave this machine. What httpx logs,
    each address with its query, is redacted from the first client on.
    """
    from .clock import RealClock
    from .http_exchange import VenueHttp, VenueTransport
    from .logging import REDACTING

    logging.getLogger("httpx").addFilter(REDACTING)
    clock = clock or RealClock()
    transport = VenueTransport(
        name, clock, timeout=timeout, tap=tap, skew=skew, on_reply=on_reply, proxy=proxy, ca_file=ca_file,
        stock=stock,
    )  # fmt: skip
    return VenueHttp(
        transport, clock, base_url=base_url, timeout=timeout, auth=auth, retries=retries, limiter=limiter,
        cost=cost,
    )  # fmt: skip


@lru_cache(64)
def is_local(host: str) -> bool:
    """Tell whether a host is this machine: only to it may anything go unencrypted."""
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def not_encrypted(scheme: str, host: str) -> ConfigurationError:
    """Return the error for an address to which keys and orders would go for all to read."""
    return ConfigurationError(
        f"{scheme}://{host} is not encrypted and not on this machine.",
        next_step=f"write {scheme}s://, or an address of this machine such as 127.0.0.1",
    )


def raw_request(
    method: str,
    url: httpx.URL | str,
    *,
    target: bytes,
    headers: Mapping[str, str] | Sequence[tuple[str, str]],
    body: bytes,
) -> httpx.Request:
    """Build a request that puts exactly `body` and the raw path `target`, query included, on the wire.

    Only Host and Content-Length are added to `headers`, where they are missing. Venues sign path and body as
    they are sent; here nothing normalises them in between.
    """
    import httpx

    address = url if isinstance(url, httpx.URL) else _address(url)
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    given = {name.lower() for name, _ in pairs}
    if "host" not in given:
        pairs.insert(0, ("Host", address.netloc.decode("ascii")))
    if "content-length" not in given and (body or method not in ("GET", "HEAD")):
        pairs.append(("Content-Length", str(len(body))))
    # Given a stream, httpx adds nothing of its own, and is twice as fast.
    request = httpx.Request(
        method, address, headers=pairs, stream=httpx.ByteStream(body), extensions={"target": target}
    )
    request.read()
    return request


@lru_cache(64)
def _address(url: str) -> httpx.URL:
    import httpx

    return httpx.URL(url)


async def send_raw(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Hand a prebuilt request straight to the transport of a client that `http_client` made.

    Limiter, tap, skew, time-out and errors are the client's; auth, cookies and repeats are left out.
    """
    send = getattr(client, "send_raw", None)
    if send is None:
        raise InvalidInput(f"send_raw: got {type(client).__name__}, expected a client that http_client made.")
    response: httpx.Response = await send(request)
    return response


def decode_json(body: bytes) -> Any:
    """Decode JSON with numbers straight to `Decimal`, whole ones to `int`. Raises `UnreadableReply`."""
    try:
        return _decoder.decode(body.decode(json.detect_encoding(body)))
    except (ValueError, ArithmeticError, RecursionError) as error:
        where = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        # The decoder's own error holds the whole document, secrets included.
        raise UnreadableReply(
            f"The reply of {len(body)} bytes is not JSON{where}.", words=_words(body)
        ) from None


def raise_for(response: httpx.Response) -> None:
    """Raise the typed error a status of 300 or more stands for.

    401 `AuthenticationError`, 403 `PermissionDenied`, 429 `RateLimited` (with `retry_after` in seconds), 5xx
    `VenueUnavailable`, others `VenueError`; the message quotes the venue's redacted words.
    """
    status = response.status_code
    if status < 300:
        return
    words = _words(response.content)
    message = f"{named(response.request)} was answered with {status}{f': {words}' if words else '.'}"
    if status == 401:
        raise AuthenticationError(message, next_step="check the key, its secret and this machine's clock")
    if status == 403:
        raise PermissionDenied(message, next_step="give the key the permission that this needs")
    if status == 429:
        seconds = retry_after(response)
        wait = "a while" if seconds is None else f"{seconds:g} s"
        raise RateLimited(message, retry_after=seconds, next_step=f"wait {wait} before the next request")
    if status >= 500:
        raise VenueUnavailable(message, next_step="see the venue's status page")
    raise VenueError(message)


def retry_after(response: httpx.Response) -> float | None:
    """Return the Retry-After header in seconds, or None; a date is taken relative to the reply's own Date.

    What is more than a week ahead is no time to wait, and None as well.
    """
    text = response.headers.get("retry-after", "").strip()
    try:
        wait = float(text) if text[:1].isdigit() else _seconds_until(text, response.headers["date"])
    except (ValueError, KeyError):
        return None
    return max(0.0, wait) if wait <= _WEEK else None


def _seconds_until(then: str, now: str) -> float:
    # Both by the server's clock, so ours doesn't matter.
    return max(0.0, (http_date(then) - http_date(now)).total_seconds())


def http_date(text: str) -> datetime:
    """Read the date of a header, which is UTC whatever zone it names. Raises ValueError."""
    return parsedate_to_datetime(text).replace(tzinfo=UTC)


def named(request: httpx.Request) -> str:
    """Return method and path, which is how errors name a request: no host, no query, no secret."""
    target: bytes = request.extensions.get("target") or request.url.raw_path
    return redact(f"{request.method} {target.partition(b'?')[0].decode('ascii', 'replace')}")


def _words(body: bytes) -> str:
    text = " ".join(redact(body.decode("utf-8", "replace")).split())
    return text if len(text) <= WORDS else f"{text[:WORDS]}..."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)
