"""The WebSocket against a server that loses, repeats, garbles, falls silent, cuts, refuses and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import random
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    ConfigurationError,
    NotSent,
    PermissionDenied,
    VenueUnavailable,
)
from mts1b_brokers_core.platform import websocket
from mts1b_brokers_core.platform.clock import RealClock, SteppedClock
from mts1b_brokers_core.platform.recorder import Frame
from mts1b_brokers_core.platform.security import register_secret
from mts1b_brokers_core.platform.websocket import Item, LinkDown, LinkUp, Sequence, WebSocket

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
PATIENCE = 10


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.ws = WSConnection(ConnectionType.SERVER)
        self.answers_pings = True
        self.request: Request | None = None
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.gone = asyncio.Event()

    async def read(self) -> list[Event]:
        data = await self.reader.read(65536)
        self.ws.receive_data(data or None)
        return list(self.ws.events()) if data else []

    def send(self, *events: Event) -> None:
        self.raw(b"".join(self.ws.send(event) for event in events))

    def text(self, *texts: str) -> None:
        self.send(*(TextMessage(text) for text in texts))

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self.events.get()

    def cut(self) -> None:
        self.writer.transport.abort()


class Venue:
    """A server on a free port; what it does with a handshake is its `answers`, first come first used."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.port = 0
        self.accepted: asyncio.Queue[Peer] = asyncio.Queue()
        self.handshakes: list[float] = []
        self.clock: SteppedClock | None = None
        #: None accepts, "mute" never answers, an event is sent.
        self.answers: list[RejectConnection | str | None] = []
        self.always: RejectConnection | str | None = None
        self._peers: set[Peer] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"{'wss' if self.context else 'ws'}://127.0.0.1:{self.port}/stream?token=in-the-query"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for peer in list(self._peers):
            peer.cut()
            await peer.gone.wait()
        await self._server.wait_closed()

    async def peer(self) -> Peer:
        async with asyncio.timeout(PATIENCE):
            return await self.accepted.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self._peers.add(peer)
        try:
            with contextlib.suppress(ConnectionError):
                await self._talk(peer)
        finally:
            self._peers.discard(peer)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            peer.gone.set()

    async def _talk(self, peer: Peer) -> None:
        events = await peer.read()
        if not events:
            return
        assert isinstance(events[0], Request)
        peer.request = events[0]
        self.handshakes.append(self.clock.monotonic() if self.clock else 0.0)
        answer = self.answers.pop(0) if self.answers else self.always
        if isinstance(answer, RejectConnection):
            peer.send(answer)
            await peer.writer.drain()
            return
        if answer is None:
            peer.send(AcceptConnection())
        self.accepted.put_nowait(peer)
        while events:
            for event in events[1:] if isinstance(events[0], Request) else events:
                if isinstance(event, Ping) and peer.answers_pings:
                    peer.send(event.response())
                elif isinstance(event, CloseConnection):
                    with contextlib.suppress(Exception):  # it may have said goodbye first
                        peer.send(event.response())
                peer.events.put_nowait(event)
            events = await peer.read()


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    server = Venue()
    await server.start()
    yield server
    await server.stop()


class Consumer:
    """Iterates in a task, so that a test can look at what came."""

    def __init__(self, ws: WebSocket) -> None:
        self.ws = ws
        self.items: list[Item] = []
        self._news = asyncio.Event()
        self._read = 0
        self.task = asyncio.create_task(self._consume())

    async def _consume(self) -> None:
        async for item in self.ws:
            self.items.append(item)
            self._news.set()

    async def next(self) -> Item:
        async with asyncio.timeout(PATIENCE):
            while self._read >= len(self.items):
                self._news.clear()
                if self.task.done():
                    self.task.result()
                    raise AssertionError("the iteration has ended")
                waiting = asyncio.create_task(self._news.wait())
                await asyncio.wait([waiting, self.task], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        self._read += 1
        return self.items[self._read - 1]

    async def until_down(self) -> LinkDown:
        while not isinstance(item := await self.next(), LinkDown):
            pass
        return item


Connect = Callable[..., Consumer]


@pytest.fixture
async def connect(venue: Venue) -> AsyncIterator[Connect]:
    """Build sockets that are closed in the end; whatever they leave behind shows as a warning."""
    made: list[Consumer] = []

    def build(clock: Any = None, **options: Any) -> Consumer:
        url = options.pop("url", venue.url)
        made.append(Consumer(WebSocket(url, clock or RealClock(), backoff=(0.001, 0.01), **options)))
        return made[-1]

    yield build
    for consumer in made:
        await consumer.ws.close()
        await asyncio.gather(consumer.task, return_exceptions=True)


async def greeted(venue: Venue, consumer: Consumer) -> Peer:
    peer = await venue.peer()
    assert await consumer.next() == LinkUp()
    return peer


# --- messages ------------------------------------------------------------------------------------------


async def test_messages_arrive_in_order_after_the_link_is_up(venue: Venue, connect: Connect) -> None:
    consumer = connect()
    peer = await greeted(venue, consumer)
    peer.text("one", "zwölf", "")
    assert [await consumer.next() for _ in range(3)] == [b"one", "zwölf".encode(), b""]
    await consumer.ws.send("text")
    await consumer.ws.send(b"bytes")
    assert [await peer.receive(), await peer.receive()] == [TextMessage("text"), TextMessage("bytes")]


async def test_what_arrives_together_is_handed_over_together(venue: Venue) -> None:
    ws = WebSocket(venue.url, RealClock())
    batches = ws.batches()
    assert await anext(batches) == [LinkUp()]
    peer = await venue.peer()
    peer.send(TextMessage("a"), TextMessage("b"), Ping(b"server"), TextMessage("c"))
    assert await anext(batches) == [b"a", b"b", b"c"]
    peer.send(TextMessage("d"), Ping(b"last"))
    assert await anext(batches) == [b"d"]
    assert [bytes((await peer.receive()).payload) for _ in range(2)] == [b"server", b"last"]
    await ws.close()
    assert [batch async for batch in batches] == []


async def test_a_message_in_many_frames_arrives_whole(venue: Venue, connect: Connect) -> None:
    consumer = connect()
    peer = await greeted(venue, consumer)
    peer.send(TextMessage("be", message_finished=False), Ping(b"between"))
    peer.send(TextMessage("gin", message_finished=False), TextMessage("ning", message_finished=True))
    peer.text("next")
    assert [await consumer.next(), await consumer.next()] == [b"beginning", b"next"]


async def test_hello_is_asked_anew_at_each_connect_and_sent_before_anything_else(
    venue: Venue, connect: Connect
) -> None:
    tokens = iter(["first", "second"])

    async def hello() -> list[bytes | str]:
        return [f"login {next(tokens)}", b"subscribe"]

    consumer = connect(hello=hello)
    for token in ("first", "second"):
        peer = await greeted(venue, consumer)
        assert [await peer.receive(), await peer.receive()] == [
            TextMessage(f"login {token}"),
            TextMessage("subscribe"),
        ]
        peer.cut()
        assert (await consumer.until_down()).data_lost


async def test_frames_that_come_before_hello_is_said_follow_the_link_up(
    venue: Venue, connect: Connect
) -> None:
    token = asyncio.Event()

    async def hello() -> list[str]:
        await token.wait()
        return ["login"]

    consumer = connect(hello=hello)
    peer = await venue.peer()
    peer.send(TextMessage("status"), Ping(b"alive?"))
    assert bytes((await peer.receive()).payload) == b"alive?"
    assert consumer.items == []
    token.set()
    assert [await consumer.next(), await consumer.next()] == [LinkUp(), b"status"]


async def test_a_hello_that_fails_is_tried_again_unless_the_key_is_refused(
    venue: Venue, connect: Connect
) -> None:
    failures = iter([VenueUnavailable("no token today"), None, AuthenticationError("the key is gone")])

    async def hello() -> list[str]:
        if (failure := next(failures)) is not None:
            raise failure
        return ["login"]

    consumer = connect(hello=hello)
    assert await consumer.next() == LinkDown("no token today", data_lost=False)
    await venue.peer()
    peer = await greeted(venue, consumer)
    peer.cut()
    await consumer.until_down()
    with pytest.raises(AuthenticationError, match="the key is gone"):
        await consumer.next()


async def test_lost_repeated_and_reordered_frames_show_in_their_numbers(
    venue: Venue, connect: Connect
) -> None:
    consumer, sequence = connect(), Sequence(first=1)
    verdicts = []
    for numbers in ([1, 2, 4, 4, 3, 5], [2, 3]):  # the second link begins with a gap
        peer = await greeted(venue, consumer)
        peer.text(*(json.dumps({"seq": number}) for number in numbers))
        for _ in numbers:
            item = await consumer.next()
            assert isinstance(item, bytes)
            verdicts.append(sequence.check("orders", json.loads(item)["seq"]))
        peer.cut()
        await consumer.until_down()
        sequence.reset()
    assert verdicts == ["ok", "ok", "gap", "old", "old", "ok", "gap", "ok"]


def test_channels_count_apart_and_a_channel_without_a_known_first_number_begins_anywhere() -> None:
    sequence = Sequence()
    rows = [("a", 7), ("b", 1), ("a", 8), ("b", 3), ("a", 8)]
    assert [sequence.check(*row) for row in rows] == ["ok", "ok", "ok", "gap", "old"]


# --- silence -----------------------------------------------------------------------------------------------


async def test_a_link_that_falls_silent_is_cut_and_made_anew(venue: Venue, connect: Connect) -> None:
    clock = SteppedClock(NOON)
    consumer = connect(clock, ping_every=None)
    peer = await greeted(venue, consumer)
    await clock.advance(14)
    peer.text("alive")
    assert await consumer.next() == b"alive"
    await clock.advance(14.9)
    assert not peer.gone.is_set()
    await clock.advance(0.2)
    await peer.gone.wait()
    down = await consumer.until_down()
    assert down == LinkDown("nothing was heard for 15 s, and the link was cut", data_lost=True)
    await clock.advance(0.01)
    await greeted(venue, consumer)


async def test_pings_keep_an_idle_link_up_as_long_as_they_are_answered(
    venue: Venue, connect: Connect
) -> None:
    clock = SteppedClock(NOON)
    consumer = connect(clock)
    peer = await greeted(venue, consumer)
    for _ in range(8):
        await clock.advance(5)
        assert isinstance(await peer.receive(), Ping)
        peer.text("seen")  # after the pong, so that the pong has arrived too
        assert await consumer.next() == b"seen"
    peer.answers_pings = False
    for _ in range(2):
        await clock.advance(5)
        assert isinstance(await peer.receive(), Ping)
    await clock.advance(5)
    assert (await consumer.until_down()).words.startswith("nothing was heard for 15 s")


async def test_a_program_that_was_stopped_itself_reads_before_it_judges(
    venue: Venue, connect: Connect
) -> None:
    consumer = connect(silent_after=0.2, ping_every=None)
    peer = await greeted(venue, consumer)
    peer.text("sent before we stopped")
    time.sleep(0.3)  # noqa: ASYNC251 - the whole process stands still
    assert await consumer.next() == b"sent before we stopped"


async def test_where_heartbeats_are_promised_pongs_prove_nothing(venue: Venue, connect: Connect) -> None:
    clock = SteppedClock(NOON)
    consumer = connect(clock, heartbeats=True)
    peer = await greeted(venue, consumer)
    for _ in range(2):
        await clock.advance(5)
        assert isinstance(await peer.receive(), Ping)
    await clock.advance(5)
    assert (await consumer.until_down()).data_lost


# --- connecting --------------------------------------------------------------------------------------------


async def test_a_server_that_never_answers_the_handshake_is_given_up(venue: Venue, connect: Connect) -> None:
    venue.answers = ["mute"]
    clock = SteppedClock(NOON)
    consumer = connect(clock)
    peer = await venue.peer()
    await clock.advance(10)
    assert await consumer.next() == LinkDown(
        f"ws://127.0.0.1:{venue.port}/stream: no connection within 10 s.", data_lost=False
    )
    await peer.gone.wait()
    await clock.advance(0.01)
    await greeted(venue, consumer)


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (403, PermissionDenied)])
async def test_a_refusal_of_the_key_ends_the_iteration(
    venue: Venue, connect: Connect, status: int, error: type[Exception]
) -> None:
    venue.always = RejectConnection(status_code=status)
    consumer = connect()
    with pytest.raises(error, match=f"refused the connection with {status}"):
        await consumer.next()
    assert len(venue.handshakes) == 1


async def test_too_many_connections_wait_as_long_as_the_venue_asks(venue: Venue, connect: Connect) -> None:
    clock = venue.clock = SteppedClock(NOON, auto=True)
    venue.answers = [
        RejectConnection(status_code=429, headers=[(b"Retry-After", b"37")]),
        RejectConnection(status_code=503, headers=[(b"Retry-After", b"5")]),
        RejectConnection(status_code=502),
    ]
    consumer = connect(clock)
    downs = [await consumer.next() for _ in range(3)]
    await greeted(venue, consumer)
    assert [isinstance(down, LinkDown) and down.words[-20:] for down in downs] == [
        f"connection with {status}." for status in (429, 503, 502)
    ]
    waits = [later - sooner for sooner, later in itertools.pairwise(venue.handshakes)]
    assert [round(wait) for wait in waits] == [37, 5, 0]


async def test_a_redirect_is_a_refusal(venue: Venue, connect: Connect) -> None:
    other = Venue()
    await other.start()
    venue.answers = [RejectConnection(status_code=307, headers=[(b"Location", other.url.encode())])]
    consumer = connect(headers={"Authorization": "Bearer for the venue alone"})
    assert (await consumer.until_down()).words.endswith("refused the connection with 307.")
    await greeted(venue, consumer)
    assert other.handshakes == []
    await other.stop()


async def test_a_server_that_restarts_is_found_again(venue: Venue, connect: Connect) -> None:
    consumer = connect()
    peer = await greeted(venue, consumer)
    peer.text("before")
    await venue.stop()
    assert await consumer.next() == b"before"
    assert (await consumer.until_down()).data_lost
    refused = await consumer.until_down()
    assert refused.data_lost is False
    assert "no connection (" in refused.words
    await venue.start()
    while await consumer.next() != LinkUp():
        pass
    (await venue.peer()).text("after")
    assert await consumer.next() == b"after"


async def test_waits_double_with_jitter_and_only_a_link_that_held_ends_them(venue: Venue) -> None:
    clock = venue.clock = SteppedClock(NOON, auto=True)
    ws = WebSocket(venue.url, clock, backoff=(0.25, 30.0), rng=random.Random(7))
    expected, draws = [0.0], random.Random(7)
    for failures in (0, 1, 2, 3, 4, 5, 6, 7, 8):
        expected.append(expected[-1] + draws.uniform(0, min(30.0, 0.25 * 2**failures)))
    async for item in ws:
        if len(venue.handshakes) == 10:
            break
        if isinstance(item, LinkUp):  # taken, and dropped at once
            (await venue.peer()).cut()
    assert venue.handshakes == pytest.approx(expected)
    await clock.sleep(31)
    peer = await venue.peer()
    peer.cut()
    async for item in ws:
        if isinstance(item, LinkUp):
            break
    assert venue.handshakes[10] - expected[9] - 31 < 0.25
    await ws.close()


# --- how a link ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (1012, "back soon", "the venue closed it: 1012, service restart (back soon)"),
        (1001, None, "the venue closed it: 1001, going away"),
        (4008, "token", "the venue closed it: 4008, a code of its own (token)"),
    ],
)
async def test_a_close_code_is_told_in_words_after_the_last_message(
    venue: Venue, connect: Connect, code: int, reason: str | None, words: str
) -> None:
    consumer = connect()
    peer = await greeted(venue, consumer)
    peer.send(TextMessage("last"), CloseConnection(code, reason))
    assert [await consumer.next(), await consumer.next()] == [b"last", LinkDown(words, data_lost=True)]
    await greeted(venue, consumer)


async def test_a_cut_in_the_middle_of_a_message_delivers_what_was_whole(
    venue: Venue, connect: Connect
) -> None:
    consumer = connect()
    peer = await greeted(venue, consumer)
    peer.send(TextMessage("whole"), TextMessage("half of", message_finished=False))
    assert await consumer.next() == b"whole"
    peer.cut()
    assert await consumer.next() == LinkDown(
        "the connection was cut without a word, in the middle of a message", data_lost=True
    )
    peer = await greeted(venue, consumer)
    peer.send(TextMessage("whole again"))
    peer.raw(b"\x81\x7e\x01\x00only a part of 256 bytes")
    peer.writer.close()
    assert await consumer.next() == b"whole again"
    assert (await consumer.until_down()).words == "the connection was cut without a word"


GARBAGE = {
    "no opcode": b"\x83\x00",
    "masked": b"\x81\x81\x00\x00\x00\x00a",
    "compressed": b"\xc1\x01a",
    "continuation of nothing": b"\x80\x01a",
    "one message inside another": b"\x01\x01a\x81\x01b",
    "a fragmented ping": b"\x09\x00",
    "a long ping": b"\x89\x7e\x00\x80" + b"x" * 128,
    "too big": b"\x81\x7f" + struct.pack(">Q", 5000 + 65536) + b"x" * (5000 + 65536),
    "too big in parts": b"\x01\x7e\x0f\xa0" + b"x" * 4000 + b"\x80\x7e\x0f\xa0" + b"x" * 4000,
    "a huge length": b"\x81\x7f" + b"\xff" * 8,
    "a wrong close": b"\x88\x01a",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_ends_the_link_and_nothing_of_it_is_delivered(
    venue: Venue, connect: Connect, garbage: bytes
) -> None:
    consumer = connect(max_size=5000)
    peer = await greeted(venue, consumer)
    peer.raw(b"\x81\x04good" + garbage + b"\x81\x09after all")
    assert await consumer.next() == b"good"
    down = await consumer.next()
    assert isinstance(down, LinkDown), down
    assert down.words.startswith("the venue broke the protocol: ")
    peer = await greeted(venue, consumer)
    peer.text("good again")
    assert await consumer.next() == b"good again"


async def test_random_bytes_never_harm_more_than_the_link(venue: Venue, connect: Connect) -> None:
    consumer, chance = connect(), random.Random(3)
    for _ in range(40):
        peer = await greeted(venue, consumer)
        peer.raw(chance.randbytes(chance.randrange(1, 400)))
        peer.writer.close()
        await consumer.until_down()


# --- back-pressure -------------------------------------------------------------------------------------


async def test_a_slow_consumer_holds_the_venue_back_and_misses_nothing(venue: Venue) -> None:
    ws = WebSocket(venue.url, RealClock())
    batches = ws.batches()
    await anext(batches)
    peer = await venue.peer()
    total, size = 10_000, 4096
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for number in range(total):
            peer.text(str(number).ljust(size))
            await peer.writer.drain()
            sent = number + 1

    flooding = asyncio.create_task(flood())
    stuck = 0
    while stuck < 50:  # turns of the loop in which nothing more could be sent
        before = sent
        await asyncio.sleep(0.001)
        stuck = stuck + 1 if sent == before else 0
    assert sent < total
    received: list[int] = []
    largest = 0
    async for batch in batches:
        largest = max(largest, sum(len(item) for item in batch if isinstance(item, bytes)))
        received += [int(item) for item in batch if isinstance(item, bytes)]
        if len(received) == total:
            break
    await flooding
    assert received == list(range(total))
    assert largest < 12 << 20
    await ws.close()


async def test_silence_is_not_held_against_a_venue_that_we_do_not_read(venue: Venue) -> None:
    clock = SteppedClock(NOON)
    ws = WebSocket(venue.url, clock, ping_every=None)
    batches = ws.batches()
    await anext(batches)
    peer = await venue.peer()
    for _ in range(6):
        peer.text("x" * (1 << 20))
    await asyncio.gather(peer.writer.drain(), _until(lambda: bool(ws._inbox.link and ws._inbox.link.paused)))
    await clock.advance(60)
    taken = 0
    async for batch in batches:
        taken += len(batch)
        assert not any(isinstance(item, LinkDown) for item in batch)
        if taken == 6:
            break
    await ws.close()


async def test_news_of_failures_is_bounded_too(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_MOST_WAITING", 10 * 1024)
    venue.always = RejectConnection(status_code=502)
    ws = WebSocket(venue.url, SteppedClock(NOON, auto=True), backoff=(0.001, 0.001))
    batches = ws.batches()
    assert len(await anext(batches)) == 1
    await _until(lambda: len(venue.handshakes) == 12)
    with pytest.raises(TimeoutError):
        await _until(lambda: len(venue.handshakes) > 12, patience=0.05)
    assert len(await anext(batches)) == 11
    await _until(lambda: len(venue.handshakes) > 12)
    await ws.close()


async def _until(condition: Callable[[], bool], *, patience: float = PATIENCE) -> None:
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - sockets tell nobody that they are full
            await asyncio.sleep(0.001)


async def test_sending_waits_while_the_venue_does_not_read_and_fails_when_the_link_is_down(
    venue: Venue,
) -> None:
    ws = WebSocket(venue.url, RealClock(), backoff=(0.001, 0.01))
    with pytest.raises(NotSent, match="the link is down"):
        await ws.send("too early")
    batches = ws.batches()
    await anext(batches)
    peer = await venue.peer()
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]

    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await ws.send(b"x" * 100_000)
            sent += 1

    flooding = asyncio.create_task(flood())
    link = ws._inbox.link
    assert link is not None
    await _until(lambda: not link.writable.is_set())
    before = sent
    for _ in range(20):
        await asyncio.sleep(0)
    assert sent <= before + 1
    peer.cut()
    with pytest.raises(NotSent, match="the link is down"):
        await flooding
    await ws.close()


# --- closing -------------------------------------------------------------------------------------------


async def test_closing_says_goodbye_and_ends_the_iteration(venue: Venue, connect: Connect) -> None:
    consumer = connect()
    peer = await greeted(venue, consumer)
    await consumer.ws.close()
    await consumer.task
    event = await peer.receive()
    assert isinstance(event, CloseConnection)
    assert event.code == 1000
    await consumer.ws.close()
    assert [item async for item in consumer.ws] == []
    with pytest.raises(NotSent):
        await consumer.ws.send("too late")


@pytest.mark.parametrize("moment", ["handshake", "hello", "backoff"])
async def test_closing_while_it_connects_leaves_nothing_behind(
    venue: Venue, connect: Connect, moment: str
) -> None:
    asked = asyncio.Event()

    async def hello() -> list[str]:
        asked.set()
        await asyncio.Event().wait()
        return []

    venue.answers = ["mute"] if moment == "handshake" else [None]
    clock = SteppedClock(NOON)
    if moment == "backoff":
        venue.answers = [RejectConnection(status_code=502)]
    consumer = connect(clock, hello=hello)
    if moment == "backoff":
        await consumer.until_down()
    else:
        peer = await venue.peer()
        if moment == "hello":
            await asked.wait()
    await consumer.ws.close()
    await consumer.task
    if moment != "backoff":
        await peer.gone.wait()


async def test_closing_what_was_never_opened_is_harmless(venue: Venue) -> None:
    ws = WebSocket(venue.url, RealClock())
    await ws.close()
    assert [item async for item in ws] == []
    assert venue.handshakes == []


# --- TLS, proxies, what is shown ----------------------------------------------------------------------------


async def test_a_certificate_is_verified_and_an_authority_can_be_added(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    pem = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    server = Venue(context)
    await server.start()
    ws = WebSocket(server.url, RealClock(), ca_file=pem)
    batches = ws.batches()
    assert await anext(batches) == [LinkUp()]
    (await server.peer()).text("over TLS")
    assert await anext(batches) == [b"over TLS"]
    await ws.close()
    stranger = WebSocket(server.url, RealClock())
    (down,) = await anext(stranger.batches())
    assert isinstance(down, LinkDown)
    assert "the server's certificate is not trusted" in down.words
    await stranger.close()
    other_name = WebSocket(server.url.replace("127.0.0.1", "localhost"), RealClock(), ca_file=pem)
    (down,) = await anext(other_name.batches())
    assert isinstance(down, LinkDown)
    assert "not trusted" in down.words
    await other_name.close()
    await server.stop()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_it_goes_through_a_proxy(venue: Venue, connect: Connect, scheme: str) -> None:
    seen: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if scheme == "http":
            seen.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
            answer = b"HTTP/1.1 200 OK\r\n\r\n"
        else:
            await reader.readexactly(3)
            writer.write(b"\x05\x00")
            seen.append(await reader.readexactly(10))
            answer = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00"
        inner, outer = await asyncio.open_connection("127.0.0.1", venue.port)
        writer.write(answer)
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    consumer = connect(proxy=f"{scheme}://127.0.0.1:{port}")
    (await greeted(venue, consumer)).text("through")
    assert await consumer.next() == b"through"
    assert len(seen) == 1
    await consumer.ws.close()
    server.close()


async def test_every_frame_passes_the_tap(venue: Venue, connect: Connect) -> None:
    frames: list[Frame] = []

    async def hello() -> list[str]:
        return ["hello"]

    consumer = connect(hello=hello, tap=frames.append, headers={"X-Key": "of this test"})
    peer = await greeted(venue, consumer)
    peer.text("in")
    peer.send(TextMessage("par", message_finished=False), TextMessage("ts", message_finished=True))
    await consumer.next()
    await consumer.next()
    peer.send(CloseConnection(1001))
    await consumer.until_down()
    rows = [(frame.direction, frame.kind, frame.body) for frame in frames[:5]]
    assert rows == [
        ("out", "open", b""),
        ("out", "message", b"hello"),
        ("in", "message", b"in"),
        ("in", "message", b"parts"),
        ("in", "close", b"the venue closed it: 1001, going away"),
    ]
    assert frames[0].head == {"target": venue.url, "header:X-Key": "of this test"}
    assert len({frame.exchange for frame in frames[:5]}) == 1
    assert {frame.channel for frame in frames} == {"ws"}


async def test_headers_and_queries_stay_out_of_logs_and_words(
    venue: Venue, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    logging.getLogger("picows").setLevel(1)
    venue.answers = [RejectConnection(status_code=502)]
    register_secret("hush-hush")
    consumer = connect(headers={"Authorization": "Bearer hush-hush"})
    down = await consumer.until_down()
    peer = await greeted(venue, consumer)
    peer.send(CloseConnection(4000, "the token hush-hush is used elsewhere"))
    closed = await consumer.until_down()
    assert peer.request is not None
    assert (b"authorization", b"Bearer hush-hush") in peer.request.extra_headers
    assert closed.words.endswith("is used elsewhere)")
    for text in (caplog.text, down.words, closed.words, repr(consumer.ws)):
        assert "hush-hush" not in text
        assert "in-the-query" not in text


@pytest.mark.parametrize("url", ["https://venue.example/ws", "wss://", "venue.example", "ws://host/#part"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="no WebSocket address"):
        WebSocket(url, RealClock())


def test_a_socket_that_is_not_encrypted_stays_on_this_machine() -> None:
    with pytest.raises(ConfigurationError, match="example is not encrypted") as caught:
        WebSocket("ws://venue.example/stream?token=t", RealClock())
    assert caught.value.next_step.startswith("write wss://")
    WebSocket("ws://localhost:1/stream", RealClock())
