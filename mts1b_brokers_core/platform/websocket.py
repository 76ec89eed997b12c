"""A WebSocket to a venue that re-makes itself, and says each time that something may be missing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import abc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    ConfigurationError,
    NotSent,
    PermissionDenied,
    RateLimited,
    VenueError,
    VenueUnavailable,
)

from .http import is_local, not_encrypted
from .security import redact

if TYPE_CHECKING:
    from .recorder import Tap
    from .websocket_link import Link

#: How many bytes wait for the consumer before we stop reading, and what a word of ours counts for.
_MOST_WAITING = 4 << 20
_WORDS = 1024
#: How long a goodbye may take, in seconds.
_GOODBYE = 1.0


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The link is up and what `hello` said is sent; the frames that follow came over it."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link is down, or could not be made, and is tried again; frames were missed if `data_lost`."""

    words: str
    data_lost: bool


Item = bytes | LinkUp | LinkDown
Hello = Callable[[], Awaitable[abc.Sequence[bytes | str]]]


class Inbox:
    """What has arrived and nobody has taken yet: bounded, because whoever fills it stops reading."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.link: Link | None = None
        self.arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._size = 0

    def put(self, items: abc.Sequence[Item], size: int) -> None:
        """Add items in order, of so many bytes."""
        self.items += items
        self._size += size
        self.arrived.set()

    def take(self) -> list[Item]:
        """Return all of it, and let whoever stopped go on."""
        items, self.items, self._size = self.items, [], 0
        self.arrived.clear()
        self._taken.set()
        if self.link is not None and self.link.paused:
            self.link.resume()
        return items

    def full(self, more: int = 0) -> bool:
        """Whether it holds, with so many bytes more, as much as it should."""
        return self._size + more > _MOST_WAITING

    async def room(self) -> None:
        """Wait until it isn't full."""
        while self.full():
            self._taken.clear()
            await self._taken.wait()


class WebSocket:
    """One connection to a venue that re-makes itself for as long as one consumer iterates over it.

    Iterating gives each message as bytes, `LinkUp` when a link is up, and `LinkDown` after the last message
    of one that was lost. `hello` is asked at each connect for what to send first (login, subscriptions), so
    its tokens are fresh; any `VenueError` of it counts as a failed connect.

    A link on which nothing is heard for `silent_after` seconds is cut; after each `ping_every` idle seconds
    a ping asks for a sign of life. Where the venue promises `heartbeats`, only messages are signs of life: a
    gateway answers pings for a venue that has stopped. Waits between attempts are drawn between 0 and
    `backoff[0]` seconds, doubled with each failure up to `backoff[1]`; a Retry-After is kept.

    `max_size` is in bytes and for one message, `ca_file` a PEM file of authorities trusted beside the
    system's, `proxy` an http, https, socks4 or socks5 URL. Compression is not offered to the venue.
    Iterating raises `AuthenticationError` or `PermissionDenied` where the venue refuses the connection with
    401 or 403, or `hello` raises it: trying again would lock the key.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        hello: Hello | None = None,
        silent_after: float = 15.0,
        heartbeats: bool = False,
        ping_every: float | None = 5.0,
        connect_timeout: float = 10.0,
        backoff: tuple[float, float] = (0.25, 30.0),
        rng: random.Random | None = None,
        headers: Mapping[str, str] | None = None,
        tap: Tap | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
        max_size: int = 16 << 20,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.fragment:
            raise ConfigurationError(
                f"{parts.scheme}://{parts.hostname} is no WebSocket address.",
                next_step="write wss://host/path, or ws:// for a server on this machine",
            )
        if parts.scheme == "ws" and not is_local(parts.hostname):
            raise not_encrypted("ws", parts.hostname)
        self._url = url
        #: What is shown: the query may hold a token.
        self._name = redact(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
        self._clock = clock
        self._hello = hello
        self._silent_after = silent_after
        self._heartbeats = heartbeats
        self._ping_every = ping_every
        self._connect_timeout = connect_timeout
        self._first, self._longest = backoff
        self._rng = rng or random.Random()  # noqa: S311 - spreads attempts, guards nothing
        self._headers = dict(headers or {})
        self._tap = tap
        self._proxy = proxy
        self._ca_file = ca_file
        self._max_size = max_size
        self._tls: ssl.SSLContext | None = None
        self._inbox = Inbox()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<WebSocket {self._name}>"

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Iterate over messages and what happens to the link, in order."""
        async for batch in self.batches():
            for item in batch:
                yield item

    async def batches(self) -> AsyncIterator[list[Item]]:
        """Iterate over lists of what arrived together, so that a burst costs one wait and not thousands."""
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"websocket {self._name}")
            self._task.add_done_callback(lambda _: self._inbox.arrived.set())
        while True:
            if self._inbox.items:
                yield self._inbox.take()
            elif self._task is None or self._task.cancelled():
                return
            elif self._task.done():
                self._task.result()
            else:
                await self._inbox.arrived.wait()

    async def send(self, data: bytes | str) -> None:
        """Send one text message; it is handed over when this returns, and may still be lost.

        Waits while the venue doesn't read. Raises `NotSent` where the link is down.
        """
        link = self._inbox.link
        if link is not None:
            await link.writable.wait()
        if link is None or link.is_lost:
            raise NotSent(f"{self._name}: the link is down.", next_step="send it again after LinkUp")
        link.send(data)

    async def close(self) -> None:
        """Close the link and end the iteration, after what has arrived; harmless when repeated."""
        self._closed = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._inbox.room()
            wait, since, down = 0.0, self._clock.monotonic(), ""
            try:
                link = await self._connect()
            except (AuthenticationError, PermissionDenied):
                raise
            except VenueError as error:
                self._put_down(error.message, data_lost=False)
                wait = getattr(error, "retry_after", None) or 0.0
            else:
                try:
                    down = await self._stay(link)
                finally:
                    self._inbox.link = None
                self._put_down(down, data_lost=True)
            if down and self._clock.monotonic() - since >= self._longest:
                failures = 0  # only after a link that held: a venue that drops us at once is not hammered
            most = min(self._longest, self._first * 2.0 ** min(failures, 60))
            failures += 1
            await self._clock.sleep(max(wait, self._rng.uniform(0, most)))

    def _put_down(self, words: str, *, data_lost: bool) -> None:
        # They may be the venue's own, and name what it was given.
        self._inbox.put([LinkDown(redact(words), data_lost)], _WORDS)

    async def _connect(self) -> Link:
        from .recorder import next_exchange
        from .websocket_link import Link

        link = Link(
            self._inbox, self._clock, max_size=self._max_size, tap=self._tap, exchange=next_exchange()
        )
        link.show_open(self._url, self._headers)
        await self._open(link)
        try:
            for message in await self._hello() if self._hello is not None else ():
                link.send(message)
        except BaseException:
            link.cut()
            raise
        if link.is_lost:
            raise VenueUnavailable(f"{self._name}: {await link.lost()}.")
        self._inbox.link = link
        link.admit(LinkUp())
        return link

    async def _open(self, link: Link) -> None:
        import picows
        from python_socks import ProxyError

        try:
            async with self._clock.timeout(self._connect_timeout):
                await link.connect(self._url, headers=self._headers, tls=self._context(), proxy=self._proxy)
        except picows.WSHandshakeError as error:
            raise self._refused(error) from None
        except TimeoutError:
            why = f"no connection within {self._connect_timeout:g} s"
        except ssl.SSLCertVerificationError as error:
            why = f"the server's certificate is not trusted ({error.verify_message})"
        except (OSError, ProxyError) as error:
            why = f"no connection ({getattr(error, 'strerror', None) or error})"
        else:
            return
        raise VenueUnavailable(f"{self._name}: {why}.", next_step="see the venue's status page")

    def _refused(self, error: Any) -> VenueError:
        """Say what the answer to the handshake means."""
        from .http import retry_after

        response = error.response
        if response is None or response.status == 101:
            return VenueUnavailable(f"{self._name}: the handshake failed: {error}.")
        status = int(response.status)
        said = f"{self._name} refused the connection with {status}."
        if status == 401:
            return AuthenticationError(said, next_step="check the key, its secret and this machine's clock")
        if status == 403:
            return PermissionDenied(said, next_step="give the key the permission that this needs")
        seconds = retry_after(response)
        if status == 429 or seconds is not None:
            return RateLimited(said, retry_after=seconds)
        return VenueUnavailable(said)

    def _context(self) -> ssl.SSLContext | None:
        if self._tls is None and self._url.startswith("wss:"):
            from .http_exchange import tls_context

            self._tls = tls_context(self._ca_file)
        return self._tls

    async def _stay(self, link: Link) -> str:
        """Keep the link while it is alive, and return in words why it ended."""
        asked_at = self._clock.monotonic()
        try:
            while True:
                now = self._clock.monotonic()
                heard_at = now if link.paused else link.data_at if self._heartbeats else link.heard_at
                wait = heard_at + self._silent_after - now
                if wait <= 0:
                    link.cut()
                    await link.lost()
                    return f"nothing was heard for {self._silent_after:g} s, and the link was cut"
                if self._ping_every is not None:
                    ping_in = max(link.heard_at, asked_at) + self._ping_every - now
                    if ping_in <= 0:
                        link.ping()
                        asked_at, ping_in = now, self._ping_every
                    wait = min(wait, ping_in)
                with contextlib.suppress(TimeoutError):
                    async with self._clock.timeout(wait):
                        return await link.lost()
        except asyncio.CancelledError:
            await self._goodbye(link)
            raise

    async def _goodbye(self, link: Link) -> None:
        link.close()
        try:
            async with self._clock.timeout(_GOODBYE):
                await link.lost()
        except TimeoutError:
            link.cut()
            await link.lost()


class Sequence:
    """Watches the numbers a venue gives its messages, channel by channel, for what is missing.

    `first` is the number each channel begins with on a new link, where the venue says so; without it a
    channel's first number is taken as it comes, and what is missing before it goes unseen.
    """

    def __init__(self, *, first: int | None = None) -> None:
        self._first = first
        self._next: dict[str, int] = {}

    def check(self, channel: str, number: int) -> Literal["ok", "gap", "old"]:
        """Judge a message: the next one, one after missing ones, or one seen before (or late)."""
        expected = self._next.get(channel, number if self._first is None else self._first)
        if number < expected:
            return "old"
        self._next[channel] = number + 1
        return "ok" if number == expected else "gap"

    def reset(self) -> None:
        """Forget all numbers, as venues do on a new link."""
        self._next.clear()
