"""Recordings as servers, asked by clients that know nothing of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from mts1b_brokers_core.foundation.errors import RecordingError
from mts1b_brokers_core.foundation.plugin import SimulatorOptions
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.recorder import Frame, Recorder
from mts1b_simulator.wire import ReplayServer

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
VENUE = "https://venue.example"
STREAM = "wss://venue.example/stream"


class Tape:
    """Writes a recording as the library does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recorder = Recorder(path, SteppedClock(NOON), source="acme")
        self._exchange = 0

    def add(self, direction: Any, channel: str, kind: Any, body: bytes | str = b"", **head: str) -> Tape:
        body = body.encode() if isinstance(body, str) else body
        head = {name.replace("__", ":").replace("_", "-"): value for name, value in head.items()}
        self.recorder(Frame(direction, channel, kind, self._exchange, head, body))
        return self

    def asked(self, method: str, target: str, body: bytes | str = b"") -> Tape:
        self._exchange += 1
        return self.add("out", "http", "request", body, method=method, target=VENUE + target)

    def answered(self, body: bytes | str, status: int = 200, **headers: str) -> Tape:
        return self.add("in", "http", "response", body, status=str(status), **headers)

    def failed(self) -> Tape:
        return self.add("in", "http", "error", error="it was sent, but the connection was closed")

    def opened(self, target: str = STREAM) -> Tape:
        self._exchange += 1
        return self.add("out", "ws", "open", target=target)

    def sent(self, body: str) -> Tape:
        return self.add("out", "ws", "message", body)

    def got(self, body: bytes | str) -> Tape:
        return self.add("in", "ws", "message", body)

    def closed(self, words: str = "") -> Tape:
        return self.add("in", "ws", "close", words)

    def on(self, exchange: int) -> Tape:
        self._exchange = exchange
        return self


@pytest.fixture
def tape(tmp_path: Path) -> Iterator[Tape]:
    tape = Tape(tmp_path / "tape.jsonl")
    yield tape
    tape.recorder.close()


@pytest.fixture
def play(serve: Any, tape: Tape) -> Callable[..., Any]:
    async def started(**options: Any) -> ReplayServer:
        server = ReplayServer(tape.path, **options)
        await serve.other(server)
        return server

    return started


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


async def test_each_line_gets_its_replies_in_order_and_reads_the_last_again(
    tape: Tape, play: Any, http: Any
) -> None:
    tape.asked("GET", "/a?x=1").answered("first").asked("GET", "/b").answered("other", 418)
    tape.asked("GET", "/a?x=1").answered("second", header__X_Left="7", header__content_length="99")
    server = await play()
    texts = [(await http.get(f"{server.base_url}/a?x=1")) for _ in range(4)]
    assert [row.text for row in texts] == ["first", "second", "second", "second"]
    assert (texts[1].headers["X-Left"], texts[1].headers["Content-Length"]) == ("7", "6")
    assert "Date" not in texts[1].headers
    assert server.unplayed == ["GET /b"]
    assert (await http.get(f"{server.base_url}/b")).status_code == 418
    await server.finished()
    assert server.unplayed == server.unmatched == []


async def test_what_was_not_recorded_is_refused_with_what_was_expected(
    tape: Tape, play: Any, http: Any
) -> None:
    tape.asked("POST", "/orders", "{}").answered("{}", 201).asked("GET", "/time").answered("now")
    server = await play()
    assert (await http.post(f"{server.base_url}/orders", content=b"{}")).status_code == 201
    again = await http.post(f"{server.base_url}/orders", content=b"{}")
    other = await http.get(f"{server.base_url}/time?zone=utc")
    assert [again.status_code, other.status_code] == [404, 404]
    assert again.json()["error"]["message"] == server.unmatched[0]
    assert server.unmatched == [
        "POST /orders: recorded once; expected GET /time",
        "GET /time?zone=utc: recorded never; expected GET /time",
    ]
    assert server.writes == ["POST /orders {}"]


async def test_secrets_and_moments_make_no_other_line(tape: Tape, play: Any, http: Any) -> None:
    tape.asked("GET", "/rows?token=abcdef&since=2026-01-02T03%3A04%3A05Z&page=1").answered("one")
    tape.asked("GET", "/rows?token=abcdef&since=2026-01-02T03%3A04%3A06Z&page=1").answered("two")
    tape.asked("GET", "/day?from=2026-01-02&nonce=1767323045000").answered("day")
    server = await play()

    async def text(target: str) -> str:
        return str((await http.get(server.base_url + target)).text)

    assert await text("/rows?page=1&token=other-one&since=2026-01-02T03%3A04%3A06Z") == "two"
    assert await text("/rows?page=1&token=other-one&since=2026-07-02T00%3A00%3A00Z") == "two"  # never back
    assert await text("/day?from=2026-09-09&nonce=1790000000000") == "day"
    assert "recorded never" in await text("/rows?page=2&token=x&since=2026-01-02T03%3A04%3A06Z")


async def test_a_secret_in_the_path_matches_any(tape: Tape, play: Any, http: Any) -> None:
    from mts1b_brokers_core.platform.security import forget_secret, register_secret

    register_secret("account-hash-1")
    try:
        tape.asked("GET", "/accounts/account-hash-1/orders").answered("[]")
    finally:
        forget_secret("account-hash-1")
    assert b"account-hash-1" not in tape.path.read_bytes()
    server = await play()
    assert (await http.get(f"{server.base_url}/accounts/whatever/orders")).text == "[]"
    assert (await http.get(f"{server.base_url}/accounts/whatever/more/orders")).status_code == 404


@pytest.mark.parametrize(
    ("recorded", "given", "told"),
    [
        (
            '{"price":"1","token":"abcdefgh","at":1767323045000}',
            b'{"price":"1","token":"t","at":1790000000000}',
            [],
        ),
        (
            '{"price":"1","size":2}',
            b'{"price":"9","more":true}',
            ["price is 9, was 1", "size is nothing, was 2", "more is true, was nothing"],
        ),
        ("nonce=1767323045000&volume=1", b"nonce=1790000000000&volume=2", ["volume is 2, was 1"]),
        ("plain", b"other", ["the body is other, was plain"]),
    ],
)
async def test_bodies_that_differ_are_told(
    tape: Tape, play: Any, http: Any, recorded: str, given: bytes, told: list[str]
) -> None:
    tape.asked("POST", "/orders", recorded).answered("{}")
    server = await play()
    assert (await http.post(f"{server.base_url}/orders", content=given)).status_code == 200
    assert server.differences == ([f"POST /orders: {', '.join(told)}"] if told else [])


async def test_what_failed_then_is_cut_now(tape: Tape, play: Any, http: Any) -> None:
    tape.asked("POST", "/a", "{}").failed().asked("GET", "/b").answered("b").asked("GET", "/b").failed()
    tape.asked("DELETE", "/c")  # the recording ends before the answer
    server = await play()
    for method, target in (("POST", "/a"), ("DELETE", "/c")):
        with pytest.raises(httpx.RemoteProtocolError):
            await http.request(method, server.base_url + target, content=b"{}")
    assert (await http.get(f"{server.base_url}/b")).text == "b"
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get(f"{server.base_url}/b")
    await server.finished()
    assert (await http.get(f"{server.base_url}/b")).text == "b"


async def test_bytes_come_back_as_bytes(tape: Tape, play: Any, http: Any) -> None:
    tape.asked("GET", "/raw").answered(b"\xff\x00\xfe", header__content_type="application/octet-stream")
    server = await play()
    reply = await http.get(f"{server.base_url}/raw")
    assert (reply.content, reply.headers["Content-Type"]) == (b"\xff\x00\xfe", "application/octet-stream")


async def test_a_socket_gets_its_messages_after_its_hello_and_its_end(
    tape: Tape, play: Any, serve: Any
) -> None:
    tape.opened().sent("login").sent("subscribe").got('{"n":1}').got('{"n":2}')
    tape.closed("the venue closed it: 1008, policy violation (session taken)")
    tape.opened(f"{STREAM}?listen=1").got('{"n":9}').closed()
    server = await play(patience=60.0)
    assert server.settings["ws_url"] == f"{server.ws_url}/stream"
    socket = await serve.socket(server, "/stream")
    socket.send("login")
    assert server.unplayed == ["/stream: 3 of its frames", "/stream?listen=1: 2 of its frames"]
    socket.send("subscribe")
    assert [await socket.frame(), await socket.frame()] == [{"n": 1}, {"n": 2}]
    end = await socket.event()
    assert (end.code, end.reason) == (1008, "session taken")
    other = await serve.socket(server, "/stream?listen=1")
    assert await other.frame() == {"n": 9}
    assert await other.event() is None  # cut without a word
    await server.finished()


async def test_the_nth_socket_is_the_nth_recorded_one(tape: Tape, play: Any, serve: Any, http: Any) -> None:
    tape.opened().got('{"n":1}').closed()
    tape.opened()  # could not be opened
    tape.opened().got('{"n":3}').add("out", "ws", "close").closed()
    server = await play()
    first = await serve.socket(server, "/stream")
    assert [await first.frame(), await first.event()] == [{"n": 1}, None]
    with pytest.raises(AssertionError):
        await serve.socket(server, "/stream")
    third = await serve.socket(server, "/stream")
    assert await third.frame() == {"n": 3}
    await server.finished()
    third.ping()
    assert type(await third.event()).__name__ == "Pong"  # whose goodbye it was, may say it again
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert (await http.get(f"{server.base_url}/stream", headers=upgrade)).status_code == 404
    assert server.unmatched == ["GET /stream: recorded as a socket 3 times; expected nothing more"]


async def test_a_message_waits_for_what_had_been_asked_before_it(
    tape: Tape, play: Any, serve: Any, http: Any
) -> None:
    tape.opened().got('{"n":1}').asked("POST", "/orders").answered("{}").on(1).got('{"n":2}').on(3)
    tape.asked("GET", "/never-again").answered("{}").on(1).got('{"n":3}')
    clock = SteppedClock(NOON)
    server = await play(clock=clock, patience=10.0)
    socket = await serve.socket(server, "/stream")
    assert await socket.frame() == {"n": 1}
    socket.ping()
    assert type(await socket.event()).__name__ == "Pong"  # and not the second message
    await http.post(f"{server.base_url}/orders")
    assert await socket.frame() == {"n": 2}
    third = asyncio.create_task(socket.frame())
    with clock.hold():
        await clock.advance(9.9)
    assert server.unplayed == ["GET /never-again", "/stream: 1 of its frames"]
    await clock.advance(0.2)
    assert await third == {"n": 3}
    quiet = asyncio.create_task(server.quiet(5))
    await clock.advance(5)
    await clock.advance(5)
    await quiet
    assert server.unplayed == ["GET /never-again"]


async def test_a_read_learns_nothing_before_the_socket_told_it(
    tape: Tape, play: Any, serve: Any, http: Any
) -> None:
    tape.asked("GET", "/a").answered("old").opened().asked("POST", "/x").answered("").on(2).got("{}").on(3)
    tape.asked("GET", "/a").answered("new")
    server = await play(patience=60.0)

    async def a() -> str:
        return str((await http.get(f"{server.base_url}/a")).text)

    assert await a() == "old"
    socket = await serve.socket(server, "/stream")
    assert await a() == "old"
    await http.post(f"{server.base_url}/x")
    assert await socket.frame() == {}
    assert await a() == "new"
    await server.finished()


async def test_two_processes_in_one_recording_are_one_session(tape: Tape, play: Any, http: Any) -> None:
    tape.asked("GET", "/a").answered("before").on(0).asked("GET", "/a").answered("after")
    server = await play()
    assert [(await http.get(f"{server.base_url}/a")).text for _ in range(2)] == ["before", "after"]


async def test_faults_may_come_on_top(tape: Tape, play: Any, http: Any) -> None:
    tape.asked("GET", "/a").answered('{"a": 1}').asked("GET", "/b").failed()
    server = await play(options=SimulatorOptions(faults=("truncated:next", "garbage:nth=1")))
    assert (await http.get(f"{server.base_url}/a")).text == '{"a"'
    assert (await http.get(f"{server.base_url}/b")).headers["Content-Type"] == "text/html"


HEADER = '{"format":"mts1b-recording","version":1,"source":"","licence":""}\n'
FRAME = {
    "at": "2026-01-02T03:04:05+00:00", "direction": "out", "channel": "http", "kind": "request",
    "exchange": 1,
    "head": {"method": "GET", "target": "https://x/a"}, "body": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["nonsense\n"], "line 1 is not a recording's header"),
        ([HEADER], "holds no frames"),
        ([HEADER, "{}\n"], "line 2 is not a frame"),
        ([HEADER, json.dumps({**FRAME, "kind": "response"}) + "\n"], "its frame 1, a response of http"),
        ([HEADER, json.dumps({**FRAME, "head": {"method": "GET"}}) + "\n"], "'target'"),
        ([HEADER, json.dumps({**FRAME, "head": {"method": "GET", "target": "/a"}}) + "\n"], "the address /a"),
        ([HEADER, json.dumps({**FRAME, "channel": "ws", "kind": "message"}) + "\n"], "a message of ws"),
        ([HEADER, json.dumps({**FRAME, "channel": "tcp"}) + "\n"], "holds tcp frames"),
        (
            [
                HEADER,
                json.dumps(FRAME) + "\n",
                json.dumps({**FRAME, "direction": "in", "kind": "response", "head": {"status": "x"}}) + "\n",
            ],
            "its frame 2",
        ),
    ],
)
def test_what_is_no_recording_is_said(tmp_path: Path, lines: list[str], words: str) -> None:
    file = tmp_path / "tape.jsonl"
    file.write_text("".join(lines))
    with pytest.raises(RecordingError) as failure:
        ReplayServer(file)
    assert words in failure.value.message
    assert failure.value.next_step
    with pytest.raises(RecordingError, match="can't be read"):
        ReplayServer(tmp_path / "nowhere.jsonl")
