"""One contender of the HTTP benchmark: `peers_http.py NAME PORT CA_FILE`; then a count a line, times out.

Each order is signed, sent, answered and decoded; all but ccxt, which brings its own, use the one signer here.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

SECRET = b"k" * 64
PATH = "/0/private/AddOrder"
NAME, PORT, CA = sys.argv[1:4]
TLS = NAME.endswith("-tls")
URL = f"{'https' if TLS else 'http'}://127.0.0.1:{PORT}"
Order = Callable[[], Awaitable[Any]]


def order() -> tuple[bytes, dict[str, str]]:
    """Return body and signed headers of the next order."""
    nonce = time.time_ns()
    body = (
        f"nonce={nonce}&ordertype=limit&pair=XBTUSD&price=96000.0&type=buy&volume=0.01"
        f"&cl_ord_id={nonce:032x}&validate=false"
    ).encode()
    digest = hashlib.sha256(str(nonce).encode() + body).digest()
    sign = base64.b64encode(hmac.digest(SECRET, PATH.encode() + digest, "sha512")).decode()
    return body, {"API-Key": "K" * 56, "API-Sign": sign, "Content-Type": "application/x-www-form-urlencoded"}


def raw() -> Callable[[], Any]:
    link: socket.socket = socket.create_connection(("127.0.0.1", int(PORT)))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if TLS:
        link = ssl.create_default_context(cafile=CA).wrap_socket(link, server_hostname="127.0.0.1")

    def one() -> Any:
        body, headers = order()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        link.sendall(head.encode() + body)
        reply = link.recv(65536)
        return json.loads(reply[reply.index(b"\r\n\r\n") + 4 :])

    return one


async def ours(way: str) -> Order:
    from mts1b_brokers_core.platform.http import decode_json, http_client, raw_request, send_raw

    client = http_client("bench", base_url=URL, ca_file=Path(CA))
    target = PATH.encode()

    async def path() -> Any:
        body, headers = order()
        request = raw_request("POST", URL, target=target, headers=headers, body=body)
        return decode_json((await send_raw(client, request)).content)

    async def whole() -> Any:
        body, headers = order()
        return decode_json((await client.post(PATH, content=body, headers=headers)).content)

    return path if way == "order path" else whole


async def stock() -> Order:
    import httpx

    client = httpx.AsyncClient(base_url=URL, verify=ssl.create_default_context(cafile=CA))

    async def one() -> Any:
        body, headers = order()
        return json.loads((await client.post(PATH, content=body, headers=headers)).content)

    return one


async def nautilus() -> Order:
    from nautilus_trader.core.nautilus_pyo3 import HttpClient, HttpMethod

    client = HttpClient()

    async def one() -> Any:
        body, headers = order()
        reply = await client.request(HttpMethod.POST, URL + PATH, headers=headers, body=body)
        return json.loads(reply.body)

    return one


async def ccxt() -> Order:
    import ccxt.async_support

    venue = ccxt.async_support.kraken(
        {"apiKey": "K" * 56, "secret": base64.b64encode(SECRET).decode(), "enableRateLimit": False}
    )
    venue.urls["api"] = dict.fromkeys(venue.urls["api"], URL)
    precision, limits = {"amount": 1e-8, "price": 0.1}, {"amount": {"min": 1e-8}}
    market = {
        "id": "XBTUSD", "altname": "XBTUSD", "symbol": "BTC/USD", "base": "BTC", "quote": "USD",
        "baseId": "XXBT", "quoteId": "ZUSD", "type": "spot", "spot": True, "active": True,
        "precision": precision, "limits": limits,
    }  # fmt: skip
    venue.set_markets([market])

    async def one() -> Any:
        placed = await venue.create_order("BTC/USD", "limit", "buy", 0.01, 96000.0)
        assert placed["id"] == "OUF4EM-FRGI2-MQMWZD"
        return placed

    return one


async def contender() -> Order:
    name = NAME.removesuffix("-tls").removesuffix(" x50")
    if name in ("order path", "AsyncClient"):
        return await ours(name)
    return await {"httpx": stock, "nautilus_trader": nautilus, "ccxt": ccxt}[name]()


async def at_once(one: Order, count: int) -> list[float]:
    """Return the mean cost of a request while 50 are always under way."""
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await one()

    begin = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(50)))
    return [(time.perf_counter() - begin) / count * 1e6]


async def one_by_one(one: Order, count: int) -> list[float]:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        await one()
        times.append((time.perf_counter() - begin) * 1e6)
    return times


def main() -> None:
    if NAME.startswith("raw socket"):
        blocking = raw()

        def measure(count: int) -> list[float]:
            times = []
            for _ in range(count):
                begin = time.perf_counter()
                blocking()
                times.append((time.perf_counter() - begin) * 1e6)
            return times
    else:
        runner = asyncio.Runner()
        one = runner.run(contender())
        way = at_once if " x50" in NAME else one_by_one

        def measure(count: int) -> list[float]:
            return runner.run(way(one, count))

    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(measure(int(line))), flush=True)
    os._exit(0)  # some contenders complain at length about connections that end with the process


main()
