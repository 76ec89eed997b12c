"""A server that does on the wire exactly what a test tells it to, and the client that talks to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from mts1b_brokers_core.platform.http import http_client

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CLOSE = object()
RESET = object()


class Server:
    """Answers the n-th request with the n-th script: bytes to send, CLOSE, RESET, or an Event to wait for."""

    def __init__(self, *scripts: list[Any] | bytes, repeat: bool = False) -> None:
        self.scripts = [[each] if isinstance(each, bytes) else each for each in scripts]
        self.repeat = repeat
        self.requests: list[bytes] = []
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.closed = asyncio.Event()
        self.arrived = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        self.writers.append(writer)
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while await self.one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.transport.abort()
            self.closed.set()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = [
            int(row.split(b":")[1]) for row in head.split(b"\r\n") if row.lower().startswith(b"content-len")
        ]
        body = await reader.readexactly(length[0]) if length else b""
        number = len(self.requests)
        self.heads.append(head)
        self.bodies.append(body)
        self.requests.append(head + body)
        self.arrived.set()
        script = self.scripts[0 if self.repeat else number]
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step is RESET:
                writer.transport.abort()
                return False
            else:
                writer.close()
                return False
        return True

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[str]:
        server = await asyncio.start_server(self.serve, host, 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"{'https' if tls else 'http'}://{name}:{port}"
        finally:
            server.close()
            for writer in self.writers:
                writer.transport.abort()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def talking(
    server: Server, stock: bool, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    options.setdefault("retries", 0)
    async with server.running(tls) as url, http_client("toy", base_url=url, stock=stock, **options) as client:
        yield client


def reply(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"", body])
