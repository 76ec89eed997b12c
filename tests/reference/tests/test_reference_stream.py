"""The stream alone: what is said first, and what each frame tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from mts1b_broker_reference.auth import Signer
from mts1b_broker_reference.profiles import PROFILES
from mts1b_broker_reference.stream import ReferenceStream
from pydantic import SecretStr

from mts1b_brokers_core import AuthenticationError
from mts1b_brokers_core.execution.port import Decoded, Execution, Link, OrderRef, Trigger, Unreadable
from mts1b_brokers_core.platform.websocket import LinkDown, LinkUp

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
EXECUTION = {
    "id": "X-1", "order_id": "R-1", "client_order_id": "t", "symbol": "BTC-USD", "side": "buy",
    "quantity": "0.25", "price": "96000", "fees": None, "liquidity": None,
    "executed_at": "2026-03-02T12:00:00+00:00", "kind": "trade", "corrects": None,
}  # fmt: skip


@pytest.fixture
def stream() -> ReferenceStream:
    return ReferenceStream(
        Signer(SecretStr("key"), SecretStr("secret"), lambda: NOON), PROFILES["native_dedupe"]
    )


def told(stream: ReferenceStream, *frames: Any) -> list[Decoded]:
    raw = [frame if not isinstance(frame, dict) else json.dumps(frame).encode() for frame in frames]
    return [item for frame in raw for item in stream.decode(frame)]


def frame(kind: str, data: Any = None, *, seq: int, channel: str = "executions") -> dict[str, Any]:
    return {"channel": channel, "seq": seq, "type": kind, "data": data}


async def test_each_link_begins_with_a_login_signed_then_and_the_subscriptions(
    stream: ReferenceStream,
) -> None:
    login, subscribe = map(json.loads, await stream.hello())
    assert (login["op"], login["key"], login["timestamp"]) == ("login", "key", "1772452800000")
    assert len(login["signature"]) == 64
    assert subscribe == {"op": "subscribe", "channels": ["orders", "executions"]}


def test_each_kind_of_frame_says_what_it_is(stream: ReferenceStream) -> None:
    trigger = {"order_id": "R-1", "client_order_id": None}
    (execution, asked, silence) = (
        told(stream, frame("execution", EXECUTION, seq=1)),
        told(stream, frame("trigger", trigger, seq=1, channel="triggers")),
        told(stream, frame("heartbeat", seq=1, channel="heartbeats")),
    )
    assert isinstance(execution[0], Execution)
    assert asked == [Trigger((OrderRef("R-1", None),))]
    assert silence == []


def test_what_is_missing_is_said_once_and_what_is_late_is_left_to_the_reading(
    stream: ReferenceStream,
) -> None:
    first, gap, late, next_ = (
        told(stream, frame("execution", EXECUTION, seq=number)) for number in (1, 3, 2, 4)
    )
    assert len(first) == len(next_) == 1
    assert isinstance(gap[0], Link)
    assert (gap[0].up, gap[0].data_lost) == (True, True)
    assert isinstance(gap[1], Execution)
    assert late == []


def test_numbers_begin_anew_on_a_new_link(stream: ReferenceStream) -> None:
    items = told(
        stream,
        frame("execution", EXECUTION, seq=1),
        LinkDown("cut", data_lost=True),
        LinkUp(),
        frame("subscribed", seq=1, channel="orders"),
        frame("subscribed", seq=1),
        frame("execution", EXECUTION, seq=2),
    )
    assert [type(item) for item in items] == [Execution, Link, Link, Trigger, Execution]
    assert items[1] == Link(up=False, data_lost=True, words="cut")
    assert items[2] == Link(up=True, words="subscribed")
    assert items[3] == Trigger(), "everything before the subscription has to be read"


def test_a_login_that_was_taken_over_ends_the_stream(stream: ReferenceStream) -> None:
    taken = {"code": "session_taken", "message": "another login took the session over"}
    with pytest.raises(AuthenticationError, match="another login"):
        told(stream, frame("error", taken, seq=1, channel="session"))


def test_what_is_missing_from_the_start_is_missed(stream: ReferenceStream) -> None:
    gap, execution = told(stream, LinkUp(), frame("execution", EXECUTION, seq=2))
    assert isinstance(gap, Link)
    assert gap.data_lost
    assert isinstance(execution, Execution)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"no json",
        b"[1]",
        b"null",
        frame("execution", {"id": "X-1"}, seq=1),
        frame("order", None, seq=1),
        frame("unheard_of", {}, seq=1),
        frame("error", {"code": "no_channel", "message": "there is no such channel"}, seq=1),
        {"channel": "orders"},
    ],
    ids=str,
)
def test_a_frame_that_makes_no_sense_is_told_and_the_next_one_counts(
    stream: ReferenceStream, nonsense: Any
) -> None:
    broken, whole = told(stream, nonsense, frame("execution", EXECUTION, seq=1, channel="others"))
    assert isinstance(broken, Unreadable)
    assert isinstance(whole, Execution)
