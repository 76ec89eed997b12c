"""One contender of the WebSocket benchmark, named by the first argument: takes as many frames as it is told.

For each count on its input it prints a list with the microseconds one frame took, first to last.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

URL = f"ws://127.0.0.1:{sys.argv[2]}/stream"


def decoder() -> Callable[[bytes], object]:
    """Return what turns a frame into structs with msgspec."""
    import msgspec

    fee = msgspec.defstruct("Fee", [("currency", str), ("amount", str)])
    texts = ("id", "order_id", "client_order_id", "symbol", "side", "quantity", "price", "liquidity", "kind")
    rest = [("fees", list[fee]), ("executed_at", str), ("corrects", str | None)]  # type: ignore[valid-type]
    data = msgspec.defstruct("Data", [*((name, str) for name in texts), *rest])
    message = msgspec.defstruct("Message", [("channel", str), ("seq", int), ("type", str), ("data", data)])
    return msgspec.json.Decoder(message).decode


async def with_picows(counts: AsyncIterator[int], decode: Callable[[Any], object] | None) -> None:
    import picows

    class Counter(picows.WSListener):
        left = 0
        done: asyncio.Future[None]

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if decode is not None:
                decode(frame.get_payload_as_memoryview())
            self.left -= 1
            if self.left == 0:
                self.done.set_result(None)

    transport, listener = await picows.ws_connect(Counter, URL)
    assert isinstance(listener, Counter)
    async for count in counts:
        listener.left, listener.done = count, asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        transport.send(picows.WSMsgType.TEXT, str(count))
        await listener.done
        answer(begin, count)
    transport.disconnect()


async def with_ours(counts: AsyncIterator[int], decode: Callable[[bytes], object] | None) -> None:
    from mts1b_brokers_core.platform.clock import RealClock
    from mts1b_brokers_core.platform.websocket import WebSocket

    ws = WebSocket(URL, RealClock())
    batches = ws.batches()
    await anext(batches)
    async for count in counts:
        begin, left = time.perf_counter(), count
        await ws.send(str(count))
        while left:
            batch = await anext(batches)
            left -= len(batch)
            if decode is not None:
                for item in batch:
                    assert isinstance(item, bytes)
                    decode(item)
        answer(begin, count)
    await ws.close()


async def with_websockets(counts: AsyncIterator[int]) -> None:
    from websockets.asyncio.client import connect

    async with connect(URL, compression=None) as ws:
        async for count in counts:
            begin = time.perf_counter()
            await ws.send(str(count))
            for _ in range(count):
                await ws.recv(decode=False)
            answer(begin, count)


async def with_aiohttp(counts: AsyncIterator[int]) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(URL) as ws:
        async for count in counts:
            begin = time.perf_counter()
            await ws.send_str(str(count))
            for _ in range(count):
                await ws.receive()
            answer(begin, count)


def answer(begin: float, count: int) -> None:
    print(json.dumps([(time.perf_counter() - begin) * 1e6 / count]), flush=True)


async def counted() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield int(line)


CONTENDERS: dict[str, Callable[[AsyncIterator[int]], Any]] = {
    "picows": lambda counts: with_picows(counts, None),
    "picows + msgspec": lambda counts: with_picows(counts, decoder()),
    "batches()": lambda counts: with_ours(counts, None),
    "batches() + msgspec": lambda counts: with_ours(counts, decoder()),
    "websockets": with_websockets,
    "aiohttp": with_aiohttp,
}

if __name__ == "__main__":
    asyncio.run(CONTENDERS[sys.argv[1]](counted()))
