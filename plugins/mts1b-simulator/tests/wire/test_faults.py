"""Every scripted fault, once, over a real socket; and what the script promises."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.platform.clock import RealClock
from mts1b_simulator.wire import KINDS, Faults, Frame, Request, faults, parse_fault

BUY = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "2", "limit_price": "90000"}
POST = "POST /v1/orders"


async def until(holds: Any) -> None:
    for _ in range(100_000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to be")


def tokens(client: Any) -> list[str]:
    return [order.token for order in client.server.venue.orders()]


# --- requests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "applied"),
    [(faults.DropRequest(), False), (faults.DropReply(), True)],
    ids=["request", "reply"],
)
async def test_a_connection_cut_before_and_after_the_request_counts(
    serve: Any, fault: Any, applied: bool
) -> None:
    client = await serve()
    client.server.faults.next(fault, POST)
    await client.get("/v1/orders")
    with pytest.raises(httpx.TransportError):
        await client.order("t")
    assert tokens(client) == (["t"] if applied else [])
    [row] = client.server.faults.applied
    assert (row.fault, row.label) == (fault, POST)
    assert row.hit.headers["x-key"] == client.key.name
    await client.order("u")
    assert tokens(client)[-1] == "u"


async def test_a_delay_is_on_the_servers_clock(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    client.server.faults.next(faults.Delay(3), POST)
    placing = asyncio.create_task(client.order("t"))
    await until(lambda: client.server.faults.applied)
    await clock.advance(2)
    assert (tokens(client), placing.done()) == ([], False)
    await clock.advance(1)
    assert (await placing)["status"] == "open"


async def test_a_hanging_request_lands_after_its_client_gave_up(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    client.server.faults.next(faults.HangBeyond(30), POST)
    placing = asyncio.create_task(client.order("t"))
    await until(lambda: client.server.faults.applied)
    await clock.advance(20)
    assert not placing.done()
    placing.cancel()
    await asyncio.gather(placing, return_exceptions=True)
    assert tokens(client) == []
    await clock.advance(10)
    assert tokens(client) == ["t"]


@pytest.mark.parametrize(
    ("fault", "status", "code", "applied"),
    [
        (faults.Status429(), 429, "rate_limited", False),
        (faults.Status429(2.5), 429, "rate_limited", False),
        (faults.ErrorBefore(), 503, "unavailable", False),
        (faults.ErrorAfter(502), 502, "unavailable", True),
        (faults.ExpiredCredential(), 401, "expired", False),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
async def test_answers_that_say_no(serve: Any, fault: Any, status: int, code: str, applied: bool) -> None:
    client = await serve()
    client.server.faults.next(fault, POST)
    reply = await client("POST", "/v1/orders", {**BUY, "client_order_id": "t"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.headers.get("Retry-After") == ("2.5" if fault == faults.Status429(2.5) else None)
    assert tokens(client) == (["t"] if applied else [])


@pytest.mark.parametrize("fault", [faults.Truncated(), faults.Garbage()])
async def test_replies_that_make_no_sense_come_after_acting(serve: Any, fault: Any) -> None:
    client = await serve()
    client.server.faults.next(fault, POST)
    reply = await client("POST", "/v1/orders", {**BUY, "client_order_id": "t"})
    assert reply.status_code == 201
    with pytest.raises(ValueError, match=r"."):
        json.loads(reply.content)
    assert tokens(client) == ["t"]


async def test_the_venues_clock_can_be_off(serve: Any) -> None:
    client = await serve()
    client.server.faults.next(faults.ClockShift(-60))
    assert await client.refused("GET", "/v1/orders") == (401, "clock")
    client.ahead = -60
    order = await client.order("t")
    client.server.shift_clock(0)
    client.ahead = 0
    later = await client.order("u")
    assert order["created"] < later["created"]
    client.server.shift_clock(3600)
    date = (await client.http.get("/v1/time")).headers["Date"]
    assert f"{client.server.now():%H:%M}" in date


async def test_a_maintenance_window_closes_everything_for_its_time(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    stream = await client.stream("orders")
    client.server.faults.next(faults.Maintenance(60), POST)
    assert await client.refused("POST", "/v1/orders", BUY) == (503, "maintenance")
    assert await stream.frame() is None
    assert await client.refused("GET", "/v1/orders") == (503, "maintenance")
    await clock.advance(60)
    assert (await client.get("/v1/orders"))["orders"] == []


@pytest.mark.parametrize(("fault", "kept"), [(faults.RestartKept(), True), (faults.RestartLost(), False)])
async def test_a_restart_comes_back_on_its_port(serve: Any, fault: Any, kept: bool) -> None:
    client = await serve()
    port, order = client.server.port, await client.order("before")
    stream = await client.stream("orders")
    client.server.faults.next(fault, POST)
    with pytest.raises(httpx.TransportError):
        await client.order("during")
    assert await stream.frame() is None
    reply = None
    while reply is None:
        try:
            reply = await client("GET", f"/v1/orders/{order['id']}")
        except httpx.ConnectError:
            await asyncio.sleep(0)
    assert client.server.port == port
    assert reply.status_code == (200 if kept else 404)
    assert tokens(client) == (["before"] if kept else [])
    after = await client.order("after")
    assert after["id"] == ("R1-2" if kept else "R2-1")
    assert client.server.venue.positions()["BTC-USD"] == 10_000


async def test_what_was_delayed_lands_even_after_a_restart(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    client.server.faults.next(faults.DelayBeyond(5), POST)
    with pytest.raises(httpx.TransportError):
        await client.order("t")
    await client.server.restart(keep=True)
    await clock.advance(6)
    assert tokens(client) == ["t"]


async def test_an_upgrade_meets_faults_as_any_request_does(serve: Any) -> None:
    client = await serve()
    client.server.faults.next(faults.DropReply(), "GET /v1/stream")
    with pytest.raises(AssertionError):
        await client.connect("/v1/stream")
    client.server.faults.next(faults.ErrorBefore(), "GET /v1/stream")
    with pytest.raises(AssertionError):
        await client.connect("/v1/stream")
    await client.stream("orders")


# --- frames --------------------------------------------------------------------------------------------


async def orders_seen(client: Any, stream: Any, fault: Any, count: int) -> list[Any]:
    client.server.faults.next(fault, "orders")
    for number in range(3):
        await client.order(f"t{number}")
    frames = [await stream.frame() for _ in range(count)]
    return [(row["seq"], row["data"]["client_order_id"]) for row in frames]


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (faults.DuplicateFrame(), [(2, "t0"), (2, "t0"), (3, "t1"), (4, "t2")]),
        (faults.ReorderFrames(), [(3, "t1"), (2, "t0"), (4, "t2")]),
        (faults.LoseFrame(), [(3, "t1"), (4, "t2")]),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
async def test_frames_are_doubled_reordered_and_lost(serve: Any, fault: Any, seen: Any) -> None:
    client = await serve()
    stream = await client.stream("orders")
    assert await orders_seen(client, stream, fault, len(seen)) == seen


async def test_one_frame_is_lost_while_heartbeats_go_on(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    stream = await client.stream("orders")
    client.server.faults.next(faults.LoseFrame())
    await clock.advance(1)
    assert '"heartbeat"' in (await stream.event()).data
    await client.order("lost")
    await clock.advance(1)
    assert '"seq":2,"type":"heartbeat"' in (await stream.event()).data
    assert [row.label for row in client.server.faults.applied] == ["orders"]


async def test_a_half_open_socket_neither_reads_nor_writes_nor_closes(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    stream = await client.stream("orders")
    client.server.faults.next(faults.HalfOpen())
    await client.order("t")
    stream.ping()
    await clock.advance(3)
    reading = asyncio.create_task(stream.event())
    await client.get("/v1/orders")
    await clock.advance(3)
    assert not reading.done()
    [socket] = client.server.sockets
    assert (socket.frozen, socket.transport.is_closing()) == (True, False)
    await client.server.stop()
    assert await reading is None


async def test_a_silent_socket_still_answers_pings(serve: Any, clock: Any) -> None:
    from wsproto import events as ws

    client = await serve(clock=clock)
    stream = await client.stream("orders")
    client.server.faults.next(faults.SilentSocket())
    await clock.advance(1)
    await client.order("t")
    await clock.advance(3)
    stream.ping()
    assert isinstance(await stream.event(), ws.Pong)


async def test_a_socket_is_cut_and_another_one_opened(serve: Any) -> None:
    client = await serve()
    stream = await client.stream("orders")
    client.server.faults.next(faults.CutSocket(), "orders")
    await client.order("t")
    assert await stream.frame() is None
    again = await client.stream("orders")
    await client.order("u")
    assert (await again.frame())["data"]["client_order_id"] == "u"


# --- the script ------------------------------------------------------------------------------------------


def requests(count: int) -> list[Request]:
    return [
        Request("POST" if number % 3 else "GET", b"/v1/orders?n=%d" % number, {}) for number in range(count)
    ]


def script(seed: int = 0) -> Faults:
    return Faults(RealClock(), seed)


def test_next_hits_one_the_nth_or_what_a_predicate_picks() -> None:
    rules = script()
    rules.next(faults.DropReply(), "POST", nth=2)
    rules.next(faults.DropRequest(), lambda request: request.query["n"] == "6")
    rules.when(faults.ErrorAfter(), "DELETE")
    drawn = [rules.for_request(request) for request in requests(9)]
    hits = {number: fault.kind for number, fault in enumerate(drawn) if fault is not None}
    assert hits == {2: "drop_reply", 6: "drop_request"}
    assert [rules.for_request(Request("DELETE", b"/", {})) for _ in range(2)] == [faults.ErrorAfter()] * 2
    rules.clear()
    assert rules.for_request(Request("DELETE", b"/", {})) is None
    assert len(rules.applied) == 4
    with pytest.raises(InvalidInput):
        rules.next(faults.DropReply(), nth=0)


def test_the_same_seed_and_the_same_requests_meet_the_same_faults() -> None:
    def run(seed: int) -> list[Any]:
        rules = script(seed)
        rules.random(0.3, {faults.DropReply(): 3, faults.Delay(0.5): 1}, "POST")
        rules.random(0.1, faults.LoseFrame())
        drawn: list[Any] = []
        for request in requests(300):
            drawn += [rules.for_request(request), rules.for_frame(Frame("orders", "x"))]
        return drawn

    first = run(1)
    assert run(1) == first
    assert run(2) != first
    counts = {kind: sum(row == kind for row in first) for kind in (faults.DropReply(), faults.Delay(0.5))}
    assert 30 <= counts[faults.DropReply()] <= 65
    assert 5 <= counts[faults.Delay(0.5)] <= 30


async def test_seeded_faults_repeat_over_the_wire(serve: Any) -> None:
    runs = []
    for _ in range(2):
        client = await serve(seed=11, faults=["drop_reply:0.3"])
        outcomes = []
        for number in range(20):
            try:
                outcomes.append((await client.order(f"t{number}"))["status"])
            except httpx.TransportError:
                outcomes.append("lost")
        runs.append(outcomes)
        assert len(tokens(client)) == 20
    assert runs[0] == runs[1]
    assert 0 < runs[0].count("lost") < 20


def test_faults_of_requests_and_frames_are_not_mixed_in_one_rate() -> None:
    with pytest.raises(InvalidInput, match="mixed"):
        script().random(0.5, {faults.DropReply(): 1, faults.LoseFrame(): 1})
    with pytest.raises(InvalidInput, match="share"):
        script().random(1.5, faults.DropReply())


@pytest.mark.parametrize(
    ("text", "fault", "when"),
    [
        ("drop_reply:0.05", faults.DropReply(), 0.05),
        ("lose_frame:next", faults.LoseFrame(), 1),
        ("cut_socket", faults.CutSocket(), 1),
        ("delay:2", faults.Delay(2), 1),
        ("delay_beyond:30:nth=4", faults.DelayBeyond(30), 4),
        ("status_429:0.1", faults.Status429(), 0.1),
        ("status_429:5:0.1", faults.Status429(5), 0.1),
        ("error_after:500:next", faults.ErrorAfter(500), 1),
        ("clock_shift:-3", faults.ClockShift(-3), 1),
    ],
)
def test_faults_are_read_from_text(text: str, fault: Any, when: Any) -> None:
    assert parse_fault(text) == (fault, when)
    assert type(parse_fault(text)[1]) is type(when)


@pytest.mark.parametrize(
    "text",
    [
        "drop_replies",
        "delay",
        "delay:soon",
        "drop_reply:2",
        "drop_reply:nth=0",
        "drop_reply:1:1",
        "delay:1:often",
    ],
)
def test_text_that_is_no_fault_is_answered_with_what_is_expected(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_fault(text)
    if text == "drop_replies":
        assert "did you mean drop_reply" in caught.value.message
        assert all(kind in caught.value.next_step for kind in KINDS)


def test_every_kind_can_be_written() -> None:
    for kind in KINDS:
        text = (
            f"{kind}:1:next"
            if kind in ("delay", "delay_beyond", "hang_beyond", "clock_shift", "maintenance")
            else kind
        )
        assert parse_fault(text)[0].kind == kind
