"""What to subscribe to, and how a frame becomes what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mts1b_brokers_core.execution.port import Decoded, Link, OrderRef, Trigger, Unreadable, VenueProfile
from mts1b_brokers_core.foundation import UnreadableReply
from mts1b_brokers_core.platform import websocket
from mts1b_brokers_core.platform.http import decode_json

from .auth import STREAM_LOGIN, Signer
from .translate import execution_of, translated, view_of
from .wire import ReferenceFrame, ReferenceTrigger

#: The channels that carry what happens, by how the venue tells of fills.
CHANNELS = {"push": ("orders", "executions"), "trigger": ("triggers",), "poll": ()}


def trigger_of(row: ReferenceTrigger) -> Trigger:
    """Name the order to which something happened."""
    return Trigger((OrderRef(row["order_id"], row["client_order_id"]),))


class ReferenceStream:
    """One stream: its login, its subscriptions, and the meaning of its frames."""

    def __init__(self, signer: Signer, profile: VenueProfile) -> None:
        self._signer = signer
        self._channels = CHANNELS[profile.fill_source]
        self._sequence = websocket.Sequence()
        self._meanings: dict[str, Callable[[Any], Decoded]] = {
            "order": view_of,
            "execution": partial(execution_of, profile=profile),
            "trigger": trigger_of,
        }

    async def hello(self) -> Sequence[bytes]:
        """Return what to send on a new connection: login and subscriptions, signed now."""
        timestamp, signature = self._signer.signed(*STREAM_LOGIN)
        login = {"op": "login", "key": self._signer.key, "timestamp": timestamp, "signature": signature}
        subscribe = {"op": "subscribe", "channels": self._channels}
        return [json.dumps(message).encode() for message in (login, subscribe)]

    def decode(self, frame: websocket.Item) -> Iterator[Decoded]:
        """Say what a frame tells."""
        if isinstance(frame, websocket.LinkUp):
            self._sequence.reset()  # the venue counts anew on each link
        elif isinstance(frame, websocket.LinkDown):
            yield Link(up=False, data_lost=frame.data_lost, words=frame.words)
        else:
            try:
                yield from self._message(decode_json(frame))
            except (UnreadableReply, LookupError, TypeError) as error:
                yield Unreadable(words=f"{frame!r:.500}", cause=f"a frame: {type(error).__name__}: {error}")

    def _message(self, message: ReferenceFrame) -> Iterator[Decoded]:
        channel, number, kind = message["channel"], message["seq"], message["type"]
        place = self._sequence.check(channel, number)
        if place == "old":
            return
        if place == "gap":
            yield Link(up=True, data_lost=True, words=f"frames of {channel} before {number} are missing")
        if kind == "subscribed":
            # Only now is the link of use, and what happened before this frame came on no channel.
            yield Link(up=True, data_lost=True, words="subscribed")
        elif kind == "error":
            yield Unreadable(words=f"{message['data']!r:.500}", cause="the venue refused the subscription")
        elif kind != "heartbeat":
            yield translated(message["data"], self._meanings[kind])
