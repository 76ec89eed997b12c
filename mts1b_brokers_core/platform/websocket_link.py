"""One WebSocket connection over picows: what arrives on it, whole and in order, and why it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import picows
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSProtocolError, WSTransport

from mts1b_brokers_core.foundation.clock import Clock

if TYPE_CHECKING:
    from .recorder import Kind, Tap
    from .websocket import Inbox

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION

#: picows writes handshakes, with their headers, to its log; nothing is written to this one.
_SILENT = logging.Logger("picows", logging.CRITICAL + 1)

#: The largest message once the protocol was broken: picows goes on reading for a moment.
_NOTHING = -1

#: RFC 6455, section 7.4.1, and the registry it founds.
CLOSE_CODES = {
    1000: "normal end", 1001: "going away", 1002: "protocol error", 1003: "data it can't accept",
    1005: "no code", 1007: "text that is not UTF-8", 1008: "policy violation", 1009: "message too big",
    1010: "extension missing", 1011: "internal error", 1012: "service restart", 1013: "try again later",
    1014: "bad gateway",
}  # fmt: skip


class Link(WSListener):
    """A connection whose messages go to the inbox, those of one read from the socket together."""

    def __init__(self, inbox: Inbox, clock: Clock, *, max_size: int, tap: Tap | None, exchange: int) -> None:
        self.paused = False
        #: Seconds of the clock: when any frame was last heard, and when the last data.
        self.heard_at = self.data_at = clock.monotonic()
        self.writable = asyncio.Event()
        self.writable.set()
        self._inbox = inbox
        self._clock = clock
        self._max_size = max_size
        self._tap = tap
        self._exchange = exchange
        self._greeting = True
        self._batch: list[Any] = []
        self._size = 0
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._transport: WSTransport | None = None
        self._closed_with = ""

    async def connect(
        self, url: str, *, headers: Mapping[str, str], tls: ssl.SSLContext | None, proxy: str | None
    ) -> None:
        """Open the connection. Raises what the network, TLS, the proxy or picows raise."""
        dialled: list[socket.socket] = []

        async def dial(target: Any) -> socket.socket:
            dialled.append(await _dial(self._clock, target.host, target.port))
            return dialled[0]

        try:
            _, listener = await picows.ws_connect(
                lambda: self,
                url,
                ssl_context=tls,
                # Both are waits: ours go by the clock.
                websocket_handshake_timeout=None,
                enable_auto_ping=False,
                # Every frame must come to us: the last of a read ends a batch.
                enable_auto_pong=False,
                logger_name=_SILENT,
                max_frame_size=self._max_size,
                extra_headers=headers,
                # The headers are for this venue and not for whom it names.
                max_redirects=0,
                proxy=proxy,
                socket_factory=dial,
            )
        except BaseException:
            await self._undial(dialled)
            raise
        if listener is None:
            raise ConnectionError("the connection was closed during the handshake")

    async def _undial(self, dialled: list[socket.socket]) -> None:
        """Close a socket whose transport picows leaves open when it is interrupted."""
        for sock in dialled:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            for _ in range(20):
                if sock.fileno() == -1:
                    break
                await self._clock.sleep(0)

    def admit(self, first: object) -> None:
        """Let the messages, those held back so far included, into the inbox after `first`."""
        self._greeting = False
        self._batch.insert(0, first)
        self._flush()

    def resume(self) -> None:
        """Read on, after the inbox was full."""
        self.paused = False
        self.heard_at = self.data_at = self._clock.monotonic()
        assert self._transport is not None
        if not self._transport.is_disconnected:
            self._transport.underlying_transport.resume_reading()

    def send(self, text: bytes | str) -> None:
        """Send one text frame."""
        assert self._transport is not None
        if self._tap is not None:
            self._show("out", "message", text.encode() if isinstance(text, str) else text)
        self._transport.send(_TEXT, text)

    def ping(self) -> None:
        """Send a ping; the pong counts as heard."""
        assert self._transport is not None
        self._transport.send_ping()

    def close(self) -> None:
        """Say goodbye and close once that is sent."""
        assert self._transport is not None
        if self._tap is not None:
            self._show("out", "close", b"")
        self._transport.send_close(WSCloseCode.OK)
        self._transport.disconnect()

    def cut(self) -> None:
        """Close at once, whatever is still to be sent."""
        assert self._transport is not None
        self._transport.disconnect(graceful=False)

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._transport is None or self._transport.is_disconnected

    async def lost(self) -> str:
        """Wait until the connection has ended, and return in words why."""
        assert self._transport is not None
        try:
            await self._transport.wait_disconnected()
        except WSProtocolError as error:
            return f"the venue broke the protocol: {error}"
        return self._closed_with or "the connection was cut without a word" + (
            ", in the middle of a message" if self._parts else ""
        )

    # --- what picows calls ---------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep what is needed to send, pause and close."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take in one frame."""
        kind = frame.msg_type
        if (kind is _TEXT or kind is _BINARY) and frame.fin and not frame.rsv1 and not self._parts:
            data = frame.get_payload_as_bytes()
            size = len(data)
            if size > self._max_size:
                self._max_size = _NOTHING
                return
            self._batch.append(data)
            self._size += size
            if self._tap is not None:
                self._show("in", "message", data)
        elif kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
            self._part(frame, kind)
        else:
            self._control(transport, frame, kind)
        if frame.last_in_buffer:
            self._flush()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Pass on what was received before the end."""
        self._flush()
        self.writable.set()
        if self._tap is not None:
            self._show("in", "close", self._closed_with.encode())

    def pause_writing(self) -> None:
        """Hold back those who send: the venue does not read."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let them send again."""
        self.writable.set()

    def _part(self, frame: WSFrame, kind: WSMsgType) -> None:
        """Join the frames of one message."""
        begins = kind is not _CONTINUATION
        if frame.rsv1:
            raise self._broken(WSCloseCode.PROTOCOL_ERROR, "a compressed frame that nobody had asked for")
        if begins == bool(self._parts):
            what = "a message begins inside another" if begins else "a continuation of nothing"
            raise self._broken(WSCloseCode.PROTOCOL_ERROR, what)
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_size += frame.payload_size
        if self._parts_size > self._max_size:
            raise self._broken(WSCloseCode.MESSAGE_TOO_BIG, f"a message of more than {self._max_size} bytes")
        self.data_at = self._clock.monotonic()
        if frame.fin:
            data = b"".join(self._parts)
            self._parts.clear()
            self._parts_size = 0
            self._batch.append(data)
            self._size += len(data)
            if self._tap is not None:
                self._show("in", "message", data)

    def _broken(self, code: WSCloseCode, what: str) -> WSProtocolError:
        self._max_size = _NOTHING
        return WSProtocolError(code, what)

    def _control(self, transport: WSTransport, frame: WSFrame, kind: WSMsgType) -> None:
        payload = frame.get_payload_as_bytes()
        if kind is WSMsgType.PING:
            transport.send_pong(payload)
        elif kind is WSMsgType.CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            words = payload[2:].decode("utf-8", "replace")
            meaning = CLOSE_CODES.get(code, "a code of its own")
            self._closed_with = f"the venue closed it: {code}, {meaning}{f' ({words})' if words else ''}"
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def _flush(self) -> None:
        """Hand over what one read from the socket brought."""
        self.heard_at = self._clock.monotonic()
        if self._batch:
            self.data_at = self.heard_at
            if not self._greeting:
                self._inbox.put(self._batch, self._size)
                self._batch.clear()
                self._size = 0
        transport = self._transport
        if transport is None or transport.is_disconnected:
            return
        if transport.is_close_frame_sent:
            self._max_size = _NOTHING
        if self._inbox.full(self._size) and not self.paused:
            self.paused = True
            transport.underlying_transport.pause_reading()

    def show_open(self, url: str, headers: Mapping[str, str]) -> None:
        """Let the tap see what is about to be opened."""
        if self._tap is not None:
            head = {"target": url, **{f"header:{name}": value for name, value in headers.items()}}
            self._show("out", "open", b"", head)

    def _show(
        self, direction: Literal["out", "in"], kind: Kind, body: bytes, head: Mapping[str, str] | None = None
    ) -> None:
        from .recorder import Frame

        assert self._tap is not None
        self._tap(Frame(direction, "ws", kind, self._exchange, head or {}, body))


async def _dial(clock: Clock, host: str, port: int) -> socket.socket:
    """Connect to the first of the host's addresses that answers. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    with clock.hold():  # names are looked up in a thread
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
