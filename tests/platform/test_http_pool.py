"""The connections below: kept, closed, shared out, timed out, encrypted, sent through proxies."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from http_kit import CLOSE, OK, Server, talking

from mts1b_brokers_core.foundation.errors import ConfigurationError, NotSent, ReplyLost
from mts1b_brokers_core.platform.clock import RealClock, SteppedClock
from mts1b_brokers_core.platform.http import http_client, raw_request, send_raw
from mts1b_brokers_core.platform.http_exchange import VenueTransport

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(params=[False, True], ids=["lean", "stock"])
def stock(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def serving(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_one_connection_serves_one_request_after_the_other(stock: bool) -> None:
    server = Server(OK, repeat=True)
    async with talking(server, stock) as client:
        for _ in range(20):
            assert (await client.get("/x")).text == "hi"
    assert server.connections == 1


async def test_a_connection_the_server_closed_while_idle_costs_nothing(stock: bool) -> None:
    server = Server([OK, CLOSE], OK)
    async with talking(server, stock) as client:
        await client.post("/a")
        await server.closed.wait()
        assert (await client.post("/b")).text == "hi"
    assert [head.split()[1] for head in server.heads] == [b"/a", b"/b"]
    assert server.connections == 2


async def test_a_close_that_the_event_loop_has_not_seen_yet_is_seen_before_writing(stock: bool) -> None:
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_one() -> socket.socket:
            link, _ = listener.accept()
            seen.append(link.recv(65536))
            link.sendall(OK)
            return link

        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with http_client("toy", base_url=url, stock=stock) as client:
            first = asyncio.create_task(asyncio.to_thread(answer_one))
            await client.post("/a")
            link = await first
            second = asyncio.create_task(asyncio.to_thread(answer_one))
            link.close()  # and no turn of the loop before the next request
            assert (await client.post("/b")).text == "hi"
            (await second).close()
    assert [each.split()[1] for each in seen] == [b"/a", b"/b"]


async def test_bytes_nobody_asked_for_end_the_connection() -> None:
    stray = b"HTTP/1.1 500 Late\r\nContent-Length: 0\r\n\r\n"
    server = Server(OK + stray, OK)
    async with talking(server, stock=False) as client:
        assert (await client.get("/a")).status_code == 200
        assert (await client.get("/b")).text == "hi"  # and never the stray 500
    assert server.connections == 2


@pytest.mark.parametrize(("announced", "connections"), [(b"timeout=5, max=100", 2), (b"timeout=60", 1)])
async def test_an_idle_connection_is_kept_as_long_as_the_server_says(
    announced: bytes, connections: int
) -> None:
    clock = SteppedClock(NOON)
    told = b"HTTP/1.1 200 OK\r\nKeep-Alive: " + announced + b"\r\nContent-Length: 0\r\n\r\n"
    server = Server(told, OK)
    async with talking(server, stock=False, clock=clock) as client:
        await client.get("/a")
        await clock.advance(10)
        await client.get("/b")
    assert server.connections == connections


@asynccontextmanager
async def limited(server: Server, stock: bool, most: int, **options: Any) -> AsyncIterator[tuple[Any, str]]:
    async with server.running() as url:
        options = {"timeout": 20.0, **options}
        transport = VenueTransport("toy", RealClock(), stock=stock, most_connections=most, **options)
        async with transport:
            yield transport, url


async def test_fifty_at_once_share_the_connections_there_may_be(stock: bool) -> None:
    gate = asyncio.Event()
    server = Server([gate, OK], repeat=True)
    async with limited(server, stock, most=8) as (transport, url):
        asked = [
            asyncio.create_task(transport.handle_async_request(httpx.Request("POST", f"{url}/{number}")))
            for number in range(50)
        ]
        while server.open < 8:
            await server.arrived.wait()
            await asyncio.sleep(0)
        gate.set()
        assert [(await each).content for each in asked] == [b"hi"] * 50
    assert (server.most_open, server.connections) == (8, 8)
    numbers = [int(head.split()[1][1:]) for head in server.heads]
    assert sorted(numbers) == list(range(50))
    if not stock:
        assert sorted(numbers[:8]) == list(range(8))  # and in the order in which they came


async def test_who_gives_up_waiting_takes_no_connection_along() -> None:
    gate = asyncio.Event()
    server = Server([gate, OK], OK, OK)
    async with limited(server, stock=False, most=1) as (transport, url):
        ask = lambda: asyncio.create_task(transport.handle_async_request(httpx.Request("POST", url)))  # noqa: E731
        first, second = ask(), ask()
        await server.arrived.wait()
        third = ask()
        await asyncio.sleep(0)
        second.cancel()
        gate.set()
        assert (await first).content == (await third).content == b"hi"
        with pytest.raises(asyncio.CancelledError):
            await second
    assert (len(server.requests), server.connections) == (2, 1)


async def test_a_cancelled_request_closes_its_connection_and_poisons_nothing(stock: bool) -> None:
    server = Server([asyncio.Event()], OK)
    async with talking(server, stock) as client:
        asked = asyncio.create_task(client.post("/a"))
        await server.arrived.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert (await client.post("/b")).text == "hi"
    assert [head.split()[1] for head in server.heads] == [b"/a", b"/b"]
    assert server.connections == 2


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\nX-Slow", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"]
)
async def test_a_reply_that_never_ends_is_lost_when_the_clock_says_so(stock: bool, sent: bytes) -> None:
    clock = SteppedClock(NOON)
    server = Server([sent, asyncio.Event()], OK)
    async with talking(server, stock, clock=clock, timeout=5.0) as client:
        asked = asyncio.create_task(client.post("/a"))
        await server.arrived.wait()
        await clock.advance(4.9)
        assert not asked.done()
        await clock.advance(0.2)
        with pytest.raises(ReplyLost, match=r"POST /a was sent, but no whole reply within 5 s"):
            await asked
        assert (await client.post("/b")).text == "hi"
        waiting = asyncio.create_task(client.post("/c", timeout=None))
        await clock.advance(1)
        waiting.cancel()


async def test_a_request_that_waits_for_a_connection_in_vain_was_not_sent(stock: bool) -> None:
    clock = SteppedClock(NOON)
    server = Server([asyncio.Event()])
    async with server.running() as url:
        transport = VenueTransport("toy", clock, timeout=60.0, stock=stock, most_connections=1)
        async with transport:
            first = asyncio.create_task(transport.handle_async_request(httpx.Request("POST", url)))
            await server.arrived.wait()
            limits = {"timeout": {"read": 5.0}}
            late = httpx.Request("POST", f"{url}/late", extensions=limits)
            second = asyncio.create_task(transport.handle_async_request(late))
            await clock.advance(6)
            with pytest.raises(NotSent, match="POST /late was not sent: no connection within 5 s"):
                await second
            first.cancel()
    assert len(server.requests) == 1


async def test_a_reply_beyond_all_measure_is_refused(stock: bool) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 200_000
    server = Server([endless, asyncio.Event()])
    async with limited(server, stock, most=1, most_bytes=100_000) as (transport, url):
        with pytest.raises(ReplyLost, match="larger than 100000 bytes"):
            await transport.handle_async_request(httpx.Request("GET", url))


async def test_requests_under_way_end_when_the_client_is_closed() -> None:
    server = Server([asyncio.Event()])
    async with server.running() as url:
        client = http_client("toy", base_url=url)
        asked = asyncio.create_task(client.post("/a"))
        await server.arrived.wait()
        await client.aclose()
        with pytest.raises(ReplyLost):
            await asked


def test_each_event_loop_has_connections_of_its_own() -> None:
    server_loop, other = asyncio.Runner(), asyncio.Runner()
    with server_loop, other:

        async def start() -> tuple[Any, Any, str]:
            server = Server(OK, repeat=True)
            context = server.running()
            return server, context, await context.__aenter__()

        server, context, url = server_loop.run(start())
        client = http_client("toy", base_url=url)

        async def ask() -> str:
            return (await client.get("/x")).text

        async def ask_elsewhere() -> str:
            return await asyncio.to_thread(other.run, ask())

        assert [server_loop.run(ask()), server_loop.run(ask_elsewhere()), server_loop.run(ask())] == [
            "hi"
        ] * 3
        assert server.connections == 2

        async def stop() -> None:
            pools = client._transport._pools  # type: ignore[attr-defined]
            foreign = pools[other.get_loop()]
            await asyncio.to_thread(other.run, foreign.close())
            await client.aclose()
            await context.__aexit__(None, None, None)

        server_loop.run(stop())


async def test_tls_is_verified_against_the_authority_given(
    stock: bool, authority: trustme.CA, ca_file: Path
) -> None:
    server = Server(OK, repeat=True)
    async with talking(server, stock, tls=serving(authority, "127.0.0.1"), ca_file=ca_file) as client:
        for _ in range(3):
            assert (await client.post("/x")).text == "hi"
    assert server.connections == 1


@pytest.mark.parametrize("trusted", [True, False], ids=["wrong host", "unknown authority"])
async def test_a_certificate_that_does_not_fit_is_refused_before_anything_is_sent(
    stock: bool, authority: trustme.CA, ca_file: Path, trusted: bool
) -> None:
    server = Server(OK, repeat=True)
    tls = serving(authority, "venue.example" if trusted else "127.0.0.1")
    async with talking(server, stock, tls=tls, ca_file=ca_file if trusted else None) as client:
        with pytest.raises(NotSent):
            await client.post("/x")
    assert server.requests == []


def test_a_file_without_authorities_and_a_wrong_proxy_are_refused_at_once(tmp_path: Path) -> None:
    for bad in (tmp_path / "none.pem", Path(__file__)):
        with pytest.raises(ConfigurationError, match="no file of certificate authorities"):
            http_client("toy", base_url="https://127.0.0.1", ca_file=bad)
    for proxy in ("socks5://u:pa55word@h:1", "h:1", "http://u:pa55word@h:port"):
        with pytest.raises(ConfigurationError, match="plain HTTP proxy") as refused:
            http_client("toy", base_url="https://127.0.0.1", proxy=proxy)
        assert "pa55word" not in str(refused.value)


class Tunnel(Server):
    """A proxy that connects through to one port."""

    def __init__(self, port: int, answer: bytes = b"HTTP/1.1 200 Connected\r\n\r\n") -> None:
        super().__init__()
        self.port = port
        self.answer = answer

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        if b" 200 " not in self.answer:
            writer.close()
            return False
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(back)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        async with asyncio.TaskGroup() as both:
            both.create_task(pump(reader, back))
            both.create_task(pump(there, writer))
        return False


async def test_https_goes_through_a_proxy_by_a_tunnel(
    stock: bool, authority: trustme.CA, ca_file: Path
) -> None:
    server = Server(OK, repeat=True)
    async with server.running(serving(authority, "127.0.0.1")) as url:
        tunnel = Tunnel(int(url.rpartition(":")[2]))
        async with tunnel.running() as proxy:
            login = proxy.replace("//", "//user:p%40ss@")
            async with http_client("toy", base_url=url, proxy=login, ca_file=ca_file, stock=stock) as client:
                for _ in range(2):
                    assert (await client.post("/x", headers={"X-Key": "k"})).text == "hi"
    (head,) = tunnel.heads
    assert head.startswith(b"CONNECT " + url.removeprefix("https://").encode() + b" HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:p@ss") in head
    assert b"X-Key" not in head
    assert b"roxy" not in server.heads[0]


async def test_a_proxy_that_refuses_has_sent_nothing(
    stock: bool, authority: trustme.CA, ca_file: Path
) -> None:
    tunnel = Tunnel(0, b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
    async with tunnel.running() as proxy:
        options: dict[str, Any] = {"proxy": proxy, "ca_file": ca_file, "stock": stock}
        async with http_client("toy", base_url="https://venue.example", **options) as client:
            with pytest.raises(NotSent, match="the proxy refused to connect"):
                await client.post("/x")


async def test_plain_http_goes_to_the_proxy_with_its_whole_address(stock: bool) -> None:
    server = Server(OK)
    async with server.running() as proxy:
        options: dict[str, Any] = {"proxy": proxy.replace("//", "//user:pass@"), "stock": stock}
        async with http_client("toy", base_url="http://127.0.0.1:81", **options) as client:
            request = raw_request("POST", "http://127.0.0.1:81", target=b"/a?b=%7e", headers={}, body=b"{}")
            assert (await send_raw(client, request)).text == "hi"
    assert server.heads[0].startswith(b"POST http://127.0.0.1:81/a?b=%7e HTTP/1.1\r\n")
    assert b"host: 127.0.0.1:81\r\n" in server.heads[0].lower()
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:pass") in server.heads[0]


async def test_ipv6_is_an_address_like_any_other(stock: bool) -> None:
    server = Server(OK)
    async with server.running(host="::1") as url, http_client("toy", base_url=url, stock=stock) as client:
        assert (await client.get("/x")).text == "hi"
    assert b"host: " + url.removeprefix("http://").encode() in server.heads[0].lower()
