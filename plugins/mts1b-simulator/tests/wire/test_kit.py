"""The kit by itself: HTTP as it comes in pieces, WebSockets, raw TCP, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import ssl
from decimal import Decimal
from typing import Any

import httpx
import pytest
from wsproto import events as ws

from mts1b_brokers_core.foundation.plugin import SimulatorOptions, SimulatorServer
from mts1b_simulator.wire import Declined, HttpServer, Reply, Request, TcpServer, TcpSession, Upgrade, faults


class Echo:
    def __init__(self, session: Any, request: Request | None = None) -> None:
        self.session = session

    def received(self, data: str | bytes) -> None:
        self.session.state["count"] = self.session.state.get("count", 0) + 1
        self.session.send(data)

    def closed(self) -> None:
        self.session.state["closed"] = True


def venue() -> HttpServer:
    server = HttpServer()

    async def slow(request: Request) -> Reply:
        await server.clock.sleep(0)
        return Reply.json(200, {"body": request.body.decode(), "price": Decimal("1E+2"), "q": request.query})

    def broken(request: Request) -> Reply:
        raise KeyError("oops")

    def declined(request: Request) -> Reply:
        raise Declined(418, "teapot", f"no {request.params['what']}", Hint="kettle")

    server.routes.add("POST", "/slow", slow)
    server.routes.add("GET", "/broken", broken)
    server.routes.add("GET", "/no/{what}", declined)
    server.routes.add("GET", "/echo", Upgrade(Echo))
    return server


async def test_an_http_server_is_a_simulator_server(serve: Any) -> None:
    server = await serve.other(venue())
    assert isinstance(server, SimulatorServer)
    assert server.settings == {
        "base_url": f"http://127.0.0.1:{server.port}", "ws_url": f"ws://127.0.0.1:{server.port}",
    }  # fmt: skip


async def test_requests_in_pieces_and_several_at_once_are_answered_in_order(serve: Any) -> None:
    server = await serve.other(venue())
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = b"POST /slow?a=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
    data = head % b"1" + b"one" + head % b"2" + b"two"
    for byte in data[:40]:
        writer.write(bytes([byte]))
        await writer.drain()
    writer.write(data[40:] + b"GET /no/way%20out HTTP/1.1\r\nConnection: close\r\n\r\n")
    got = await reader.read()
    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert got.index(b'"body":"one","price":"100","q":{"a":"1"}') < got.index(b'"body":"two"')
    assert b"418" in got
    assert b"Hint: kettle" in got
    assert b"no way out" in got
    assert b"Connection: close" in got
    writer.close()
    await writer.wait_closed()


async def test_what_is_not_http_is_refused_and_a_bug_is_told(serve: Any) -> None:
    server = await serve.other(venue())
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"\x16\x03\x01 this is TLS\r\n\r\n")
    assert b"HTTP/1.1 400" in await reader.read()
    writer.close()
    await writer.wait_closed()
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        reply = await client.get("/broken")
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "simulator_bug")
        assert (await client.get("/echo")).status_code == 400
        switch = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert (await client.get("/echo", headers=switch)).status_code == 400
    assert isinstance(server.errors.pop(), KeyError)


async def test_a_websocket_echoes_fragments_and_keeps_its_own_state(serve: Any) -> None:
    server = await serve.other(venue())
    one, two = [await serve.socket(server, "/echo") for _ in range(2)]
    one.writer.write(one._ws.send(ws.TextMessage(data='{"a":', message_finished=False)))
    one.writer.write(one._ws.send(ws.TextMessage(data="1}")))
    assert await one.frame() == {"a": 1}
    two.send('"b"')
    two.send('"c"')
    assert [(await two.event()).data for _ in range(2)] == ['"b"', '"c"']
    assert sorted(socket.state["count"] for socket in server.sockets) == [1, 2]
    server.broadcast({"all": Decimal("1.50")}, label="news")
    assert await one.frame() == await two.frame() == {"all": "1.50"}
    one.writer.write(b"\xff\xff\xff")
    assert isinstance(await one.event(), ws.CloseConnection)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_tcp_server_gives_bytes_and_meets_faults(serve: Any, tls: bool) -> None:
    server = await serve.other(TcpServer(Echo, SimulatorOptions(tls=tls)))
    assert isinstance(server, SimulatorServer)
    context = ssl.create_default_context(cafile=server.settings["ca_file"]) if tls else None
    reader, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
    writer.write(b"\x00\x01raw")
    assert await reader.readexactly(5) == b"\x00\x01raw"
    [session] = server.sessions
    assert isinstance(session, TcpSession)
    server.faults.next(faults.DuplicateFrame())
    session.send(b"twice", label="tick")
    assert await reader.readexactly(10) == b"twicetwice"
    server.faults.next(faults.CutSocket())
    session.send("gone")
    assert await read_to_end(reader) == b""
    assert session.state["closed"]
    assert [row.label for row in server.faults.applied] == ["tick", ""]
    writer.transport.abort()
    await hang_up(writer)


async def test_a_restart_keeps_the_port_and_stop_frees_it(serve: Any) -> None:
    server = await serve.other(TcpServer(Echo))
    port = server.port
    reader, writer = await asyncio.open_connection(server.host, port)
    writer.write(b"x")
    await reader.readexactly(1)
    await server.restart()
    assert await read_to_end(reader) == b""
    await hang_up(writer)
    other = await asyncio.open_connection(server.host, port)
    await hang_up(other[1])
    await server.stop()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(server.host, port)
    again = await asyncio.start_server(lambda *_: None, server.host, port)
    again.close()
    await again.wait_closed()


async def test_maintenance_turns_tcp_connections_away(serve: Any, clock: Any) -> None:
    server = await serve.other(TcpServer(Echo, clock=clock))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"x")
    await reader.readexactly(1)
    server.maintain(5)
    assert await read_to_end(reader) == b""
    late = await asyncio.open_connection(server.host, server.port)
    assert await read_to_end(late[0]) == b""
    await clock.advance(5)
    back = await asyncio.open_connection(server.host, server.port)
    back[1].write(b"y")
    assert await back[0].readexactly(1) == b"y"
    for open_one in (writer, late[1], back[1]):
        await hang_up(open_one)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    try:
        await writer.wait_closed()
    except OSError:
        return


async def test_a_frame_that_comes_with_the_handshake_is_not_lost(serve: Any) -> None:
    server = await serve.other(venue())
    masked = b"\x81\x87" + bytes(4) + b'"early"'
    socket = await serve.socket(server, "/echo", masked)
    assert await socket.frame() == "early"


class Broken(Echo):
    def received(self, data: str | bytes) -> None:
        raise KeyError("oops")


async def test_a_receiver_that_fails_is_kept_for_the_test_and_cut(serve: Any) -> None:
    server = await serve.other(TcpServer(Broken))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"x")
    assert await read_to_end(reader) == b""
    await hang_up(writer)
    http = venue()
    http.routes.add("GET", "/broken-feed", Upgrade(Broken))
    socket = await serve.socket(await serve.other(http), "/broken-feed")
    socket.send("x")
    assert await socket.event() is None
    assert [type(server.errors.pop()) for server in (server, http)] == [KeyError, KeyError]


async def test_a_task_that_fails_is_kept_for_the_test(serve: Any) -> None:
    server = await serve.other(venue())

    async def fail() -> None:
        raise KeyError("oops")

    task = server.spawn(fail())
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert isinstance(server.errors.pop(), KeyError)
