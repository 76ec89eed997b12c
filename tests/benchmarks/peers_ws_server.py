"""The venue of the WebSocket benchmarks: sends prebuilt fills as fast as the other side takes them.

Prints its port and ends when its input does. A client asks with a text message that is a whole number N, and
gets N frames; other messages are ignored. The first argument, where given, is the frame's text with
`%(n)d` for the fill's number, from 1 on in each answer, and `%(o)d` for its order's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import sys

FILL = (
    '{"channel":"executions","seq":%(n)d,"type":"execution","data":{"id":"T%(n)08d","order_id":"O%(n)08d",'
    '"client_order_id":"bench-%(n)d","symbol":"BTC-USD","side":"buy","quantity":"0.01250000",'
    '"price":"64123.10","fees":[{"currency":"USD","amount":"1.28"}],"liquidity":"taker",'
    '"executed_at":"2026-07-01T12:00:00.123456+00:00","kind":"trade","corrects":null}}'
)
CHUNK = 64 * 1024
#: How many orders the fills of a template with `%(o)d` belong to.
ORDERS = 50


def frame(text: bytes) -> bytes:
    """Put a server's header before a text (RFC 6455, section 5.2)."""
    head = (
        struct.pack(">BB", 0x81, len(text)) if len(text) < 126 else struct.pack(">BBH", 0x81, 126, len(text))
    )
    return head + text


def chunks(template: str, count: int) -> list[bytes]:
    """Build the frames, joined into pieces that a socket takes well."""
    pieces, piece = [], bytearray()
    for number in range(1, count + 1):
        piece += frame((template % {"n": number, "o": number % ORDERS}).encode())
        if len(piece) >= CHUNK:
            pieces.append(bytes(piece))
            piece.clear()
    return [*pieces, bytes(piece)]


class Venue(asyncio.Protocol):
    """One connection."""

    template = FILL
    built: dict[int, list[bytes]] = {}  # noqa: RUF012 - what was built once serves every connection

    def __init__(self) -> None:
        self._held = b""
        self._shaken = False
        self._waiting: list[bytes] = []
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        if not self._shaken:
            self._shake()
        while self._shaken and self._message():
            pass

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def _shake(self) -> None:
        head, end, rest = self._held.partition(b"\r\n\r\n")
        if not end:
            return
        rows = dict(row.split(b": ", 1) for row in head.split(b"\r\n")[1:])
        key = next(value for name, value in rows.items() if name.lower() == b"sec-websocket-key")
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        self._held, self._shaken = rest, True

    def _message(self) -> bool:
        """Take one short masked frame from what has arrived."""
        data = self._held
        if len(data) < 2:
            return False
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        if len(data) < at + 4 + size:
            return False
        mask, payload = data[at : at + 4], data[at + 4 : at + 4 + size]
        self._held = data[at + 4 + size :]
        text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        if data[0] & 0xF == 8:
            self._transport.close()
        elif data[0] & 0xF == 9:
            self._transport.write(struct.pack(">BB", 0x8A, len(text)) + text)
        elif text.isdigit():
            count = int(text)
            if count not in self.built:
                self.built[count] = chunks(self.template, count)
            self._waiting = self.built[count][::-1]
            self._send()
        return True

    def _send(self) -> None:
        while self._waiting and not self._paused:
            self._transport.write(self._waiting.pop())


async def main() -> None:
    """Serve until the input ends."""
    Venue.template = sys.argv[1] if len(sys.argv) > 1 else FILL
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Venue, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
