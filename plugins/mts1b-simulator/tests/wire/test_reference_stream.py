"""The reference venue's stream, over a real WebSocket."""

from __future__ import annotations

from typing import Any

import pytest

from mts1b_simulator.reference import ReferenceProfile


async def test_sequences_are_dense_per_channel_and_connection(serve: Any) -> None:
    client = await serve()
    both, executions = await client.stream("orders", "executions"), await client.stream("executions")
    order = await client.order("t")
    client.server.venue.fill(order["id"], "0.5")
    client.server.venue.fill(order["id"], "1.5")
    frames = [await both.frame() for _ in range(5)]
    assert [(row["channel"], row["seq"], row["type"]) for row in frames] == [
        ("orders", 2, "order"), ("executions", 2, "execution"), ("orders", 3, "order"),
        ("executions", 3, "execution"), ("orders", 4, "order"),
    ]  # fmt: skip
    assert [row["data"]["status"] for row in frames if row["type"] == "order"] == [
        "open", "partially_filled", "filled",
    ]  # fmt: skip
    assert [(await executions.frame())["seq"] for _ in range(2)] == [2, 3]
    listed = (await client.get("/v1/executions"))["executions"]
    assert [row["data"] for row in frames if row["type"] == "execution"] == listed


async def test_triggers_name_the_order_and_nothing_else(serve: Any) -> None:
    client = await serve(ReferenceProfile(fill_source="trigger"))
    stream = await client.stream("triggers")
    order = await client.order("t")
    assert await stream.frame() == {
        "channel": "triggers", "seq": 2, "type": "trigger",
        "data": {"order_id": order["id"], "client_order_id": "t"},
    }  # fmt: skip
    stream.send('{"op": "subscribe", "channels": ["executions"]}')
    assert (await stream.frame())["data"]["code"] == "no_channel"


async def test_heartbeats_come_by_the_clock(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(heartbeat=2.0), clock=clock)
    stream = await client.stream()
    await clock.advance(0)
    for number in (1, 2):
        await clock.advance(2)
        event = await stream.event()
        assert '"heartbeat"' in event.data
        assert f'"seq":{number}' in event.data


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"op": "subscribe", "channels": ["orders"]}', "bad_signature"),
        ('{"op": "login", "key": "x", "timestamp": "1", "signature": "y"}', "bad_signature"),
        ('{"op": "dance"}', "bad_request"),
        ("no json", "bad_request"),
    ],
)
async def test_what_is_wrong_is_said_on_the_stream(serve: Any, message: str, code: str) -> None:
    client = await serve()
    stream = await client.connect("/v1/stream")
    stream.send(message)
    assert (await stream.frame())["data"]["code"] == code
    if code == "bad_signature":
        assert await stream.frame() is None


async def test_pings_are_answered_and_a_close_is_returned(serve: Any) -> None:
    from wsproto import events as ws

    client = await serve()
    stream = await client.stream()
    stream.ping()
    assert isinstance(await stream.event(), ws.Pong)
    stream.writer.write(stream._ws.send(ws.CloseConnection(code=1000)))
    assert isinstance(await stream.event(), ws.CloseConnection)
    assert await stream.event() is None
    assert client.server.streams == set()
