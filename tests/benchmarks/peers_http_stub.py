"""The stub venue of the HTTP benchmark: takes any order and answers it, as fast as Python can, plain and TLS.

Prints its two ports and ends when its input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

BODY = (
    b'{"error":[],"result":{"descr":{"order":"buy 0.01000000 XBTUSD @ limit 96000.0"},'
    b'"txid":["OUF4EM-FRGI2-MQMWZD"]}}'
)
REPLY = (
    b"HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\nX-Limit-Remaining: 59\r\n\r\n%b" % (len(BODY), BODY)
)


class Venue(asyncio.Protocol):
    """One connection: a reply for each whole request."""

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].partition(b"\r\n")[0]) if at >= 0 else 0
            if len(data) < end + 4 + length:
                break
            data = data[end + 4 + length :]
            self._transport.write(REPLY)  # type: ignore[attr-defined]
        self._held = data


async def main(certificate: str) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    plain = await loop.create_server(Venue, "127.0.0.1", 0, backlog=512)
    secure = await loop.create_server(Venue, "127.0.0.1", 0, backlog=512, ssl=context)
    print(*(each.sockets[0].getsockname()[1] for each in (plain, secure)), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
