"""HTTP over real sockets, by both transports: what arrives, what comes back, what is said where it fails."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise

import httpx
import pytest
from http_kit import CLOSE, OK, RESET, Server, reply, talking
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mts1b_brokers_core.foundation.errors import InvalidInput, NotSent, ReplyLost
from mts1b_brokers_core.platform.http import http_client, raw_request, send_raw
from mts1b_brokers_core.platform.transport import Connection


@pytest.fixture(params=[False, True], ids=["lean", "stock"])
def stock(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


FRAMINGS = {
    "length": (reply(b"hello", b"Content-Length: 5"), b"hello", True),
    "empty": (reply(b"", b"Content-Length: 0"), b"", True),
    "chunked": (
        reply(b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"), b"hello", True),
    "trailers": (
        reply(b"5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n", b"Transfer-Encoding: chunked"), b"hello", True),
    "gzip": (
        reply(gzip.compress(b"hello"), b"Content-Encoding: gzip", b"Content-Length: 25"), b"hello", True),
    "deflate": (
        reply(zlib.compress(b"hello"), b"Content-Encoding: deflate", b"Content-Length: 13"), b"hello", True),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"hello", b"Content-Length: 5"), b"hello", True),
    "no content": (b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nX: y\r\n\r\n", b"", True),
    "close": (reply(b"hello", b"Content-Length: 5", b"Connection: close"), b"hello", False),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
}  # fmt: skip


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_every_framing_of_a_body(stock: bool, framing: str) -> None:
    wire, body, keeps = FRAMINGS[framing]
    server = Server(wire, wire)
    async with talking(server, stock) as client:
        for _ in range(2):
            response = await client.post("/x", content=b"{}")
            assert (response.content, "x-late" in response.headers) == (body, False)
            assert response.elapsed > timedelta(0)
    assert server.connections == (1 if keeps else 2)


async def test_a_body_that_ends_with_the_connection(stock: bool) -> None:
    server = Server([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo", CLOSE])
    async with talking(server, stock) as client:
        assert (await client.get("/x")).text == "hello"


async def test_a_head_has_no_body_whatever_its_length_says(stock: bool) -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", OK)
    async with talking(server, stock) as client:
        response = await client.head("/x")
        assert (response.headers["content-length"], response.content) == ("500", b"")
        assert (await client.get("/x")).text == "hi"


async def test_exactly_these_bytes_to_exactly_this_path(stock: bool) -> None:
    server = Server(OK, OK)
    async with server.running() as url, http_client("toy", base_url=url, stock=stock) as client:
        target, body = b"/a//b/../c%2f%2F;v=1?z=1&a=%7e&b=,:", b'{"b" :1,\n"a":"\xc3\xa4"}'
        request = raw_request(
            "POST", url, target=target, headers={"X-Sign": "aBc", "Accept": "*/*"}, body=body
        )
        assert (await send_raw(client, request)).text == "hi"
        assert (await send_raw(client, request)).text == "hi"  # a prebuilt request is not used up
    host = url.removeprefix("http://").encode()
    lines = server.heads[0].split(b"\r\n")
    assert lines[0] == b"POST " + target + b" HTTP/1.1"
    assert sorted(lines[1:-2]) == sorted(
        [b"Host: " + host, b"X-Sign: aBc", b"Accept: */*", b"Content-Length: %d" % len(body)]
    )
    assert server.bodies == [body, body]
    assert server.requests[0] == server.requests[1]


async def test_a_streamed_body_arrives_whole(stock: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"hel"
        yield b"lo"

    server = Server([OK, CLOSE])
    async with talking(server, stock) as client:
        assert (await client.post("/x", content=parts())).text == "hi"
    if not stock:
        assert server.bodies == [b"hello"]


@pytest.mark.parametrize("bad", [{"X-A": "b\r\nX-Evil: 1"}, {"X-A": "b\n"}])
async def test_no_header_smuggles_another(stock: bool, bad: dict[str, str]) -> None:
    server = Server(OK)
    async with talking(server, stock) as client:
        with pytest.raises(InvalidInput, match="POST /x: a header or the path"):
            await client.post("/x?secret=1", headers=bad)
        with pytest.raises(InvalidInput):
            await send_raw(client, raw_request("GET", client.base_url, target=b"/a b", headers={}, body=b""))
    assert server.requests == []


GARBAGE = {
    "nothing": [CLOSE],
    "reset": [RESET],
    "half a status line": [b"HTTP/1.", CLOSE],
    "half the headers": [b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE],
    "no body": [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", CLOSE],
    "half a body": [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", CLOSE],
    "half a body, then a reset": [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", RESET],
    "half a chunk": [reply(b"5\r\nhe", b"Transfer-Encoding: chunked"), CLOSE],
    "no last chunk": [reply(b"5\r\nhello\r\n", b"Transfer-Encoding: chunked"), CLOSE],
    "only a continue": [b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE],
    "garbage": [b"SSH-2.0-OpenSSH_9.2 secret-9f2b\r\n\r\n", CLOSE],
    "bad length": [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", CLOSE],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi", CLOSE],
    "bad chunk": [reply(b"zz\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"), CLOSE],
    "another protocol": [b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", CLOSE],
    "bad gzip": [reply(b"hello", b"Content-Encoding: gzip", b"Content-Length: 5")],
}  # fmt: skip


@pytest.mark.parametrize("case", GARBAGE)
async def test_whatever_goes_wrong_after_the_request_left_is_a_lost_reply(stock: bool, case: str) -> None:
    server = Server(GARBAGE[case], OK)
    async with talking(server, stock) as client:
        with pytest.raises(ReplyLost) as lost:
            await client.post("/v1/orders?key=secret-9f2b", json={}, headers={"X-Key": "secret-9f2b"})
        assert not lost.value.repeat_is_safe
        assert str(lost.value).startswith("toy: POST /v1/orders was sent, but ")
        assert lost.value.__suppress_context__
        assert "9f2b" not in f"{lost.value!s}{lost.value!r}"
        assert (await client.post("/x")).text == "hi"  # and the pool is not poisoned
    assert len(server.requests) == 2


async def test_a_cut_at_any_byte_is_a_lost_reply_and_never_a_short_one() -> None:
    for framing in ("length", "chunked", "trailers", "gzip", "continue"):
        wire = FRAMINGS[framing][0]
        server = Server(*([wire[:end], CLOSE] for end in range(len(wire))))
        async with talking(server, stock=False) as client:
            for _ in range(len(wire)):
                with pytest.raises(ReplyLost):
                    await client.post("/x")


async def test_where_nobody_listens_nothing_was_sent(stock: bool, unused_tcp_port: int) -> None:
    async with http_client("toy", base_url=f"http://127.0.0.1:{unused_tcp_port}", stock=stock) as client:
        with pytest.raises(NotSent, match="POST /v1/orders was not sent: no connection") as refused:
            await client.post("/v1/orders?key=secret")
        assert refused.value.repeat_is_safe
        for address in ("ftp://127.0.0.1/x", "http:///x"):
            with pytest.raises(InvalidInput, match="neither http nor https"):
                await send_raw(client, httpx.Request("GET", address))
    with pytest.raises(NotSent, match="closed"):
        await send_raw(client, httpx.Request("GET", "http://127.0.0.1/x"))


def wires() -> st.SearchStrategy[tuple[bytes, int, bytes]]:
    bodies = st.binary(max_size=40)

    def chunked(parts: list[bytes]) -> bytes:
        whole = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
        return reply(whole, b"Transfer-Encoding: chunked")

    plain = bodies.map(lambda body: (reply(body, b"A: b", b"Content-Length: %d" % len(body)), 200, body))
    pieces = st.lists(bodies, max_size=4).map(lambda parts: (chunked(parts), 200, b"".join(parts)))
    return plain | pieces


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wire=wires(), cuts=st.lists(st.integers(0, 200), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_reply(wire: tuple[bytes, int, bytes], cuts: list[int]) -> None:
    data, status, body = wire
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(places)]

    async def fed(pieces: list[bytes]) -> tuple[int, list[tuple[bytes, bytes]], bytes, bool]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        connection = Connection(loop, 10_000)
        await loop.create_connection(lambda: connection, sock=ours)
        answer = connection.exchange(b"GET / HTTP/1.1\r\n\r\n")
        for piece in pieces:  # handed over as the event loop would, one read each
            connection.data_received(piece)
        got = await answer
        kept = connection.reusable
        connection.close()
        await connection.lost
        theirs.close()
        return got.status, got.headers, got.body, kept

    split, whole = asyncio.run(fed(pieces)), asyncio.run(fed([data]))
    assert split == whole
    assert (split[0], split[2], split[3]) == (status, body, True)
