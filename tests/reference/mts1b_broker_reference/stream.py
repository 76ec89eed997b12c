"""What to subscribe to, and how a frame becomes what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mts1b_brokers_core.execution.port import Decoded, Link, OrderRef, Trigger, Unreadable, VenueProfile
from mts1b_brokers_core.execution.rows import translated
from mts1b_brokers_core.foundation import AuthenticationError, UnreadableReply
from mts1b_brokers_core.platform import websocket
from mts1b_brokers_core.platform.http import decode_json

from .auth import STREAM_LOGIN, Signer
from .translate import execution_of, view_of
from .wire import ReferenceFrame, ReferenceTrigger

#: Errors after which a new connection would only be refused again.
LOGIN_LOST = frozenset({"bad_signature", "session_taken", "no_session"})


def channels_of(profile: VenueProfile) -> tuple[str, ...]:
    """Name the channels that tell of fills; none where there is no stream."""
    if profile.fill_source == "push":
        return ("orders",) if profile.fill_identity == "cumulative" else ("orders", "executions")
    return ("triggers",) if profile.fill_source == "trigger" else ()


def trigger_of(row: ReferenceTrigger) -> Trigger:
    """Name the order to which something happened."""
    return Trigger((OrderRef(row["order_id"], row["client_order_id"]),))


class ReferenceStream:
    """One stream: its login, its subscriptions, and the meaning of its frames."""

    def __init__(self, signer: Signer, profile: VenueProfile) -> None:
        self._signer = signer
        self._channels = channels_of(profile)
        self._unconfirmed = set(self._channels)
        self._sequence = websocket.Sequence(first=1)
        self._meanings: dict[str, Callable[[Any], Decoded]] = {
            "order": view_of,
            "execution": partial(execution_of, profile=profile),
            "trigger": trigger_of,
        }

    async def hello(self) -> Sequence[bytes]:
        """Return what to send on a new link: login and subscriptions, signed now."""
        timestamp, signature = self._signer.signed(*STREAM_LOGIN)
        login = {"op": "login", "key": self._signer.key, "timestamp": timestamp, "signature": signature}
        if self._signer.session is not None:
            login["session"] = self._signer.session
        subscribe = {"op": "subscribe", "channels": self._channels}
        return [json.dumps(message).encode() for message in (login, subscribe)]

    def decode(self, frame: websocket.Item) -> Iterator[Decoded]:
        """Say what a frame tells. Raises `AuthenticationError` where the login is lost."""
        if isinstance(frame, websocket.LinkUp):
            self._sequence.reset()  # the venue counts anew on each link
            self._unconfirmed = set(self._channels)
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
            yield from self._subscribed(channel)
        elif kind == "error":
            yield _refusal(message["data"]["code"], message["data"]["message"])
        elif kind != "heartbeat":
            yield translated(message["data"], self._meanings[kind])

    def _subscribed(self, channel: str) -> Iterator[Decoded]:
        """Count the link as up with the last channel: what happened before has to be read."""
        self._unconfirmed.discard(channel)
        if not self._unconfirmed:
            yield Link(up=True, words="subscribed")
            yield Trigger()


def _refusal(code: str, words: str) -> Unreadable:
    if code in LOGIN_LOST:
        raise AuthenticationError(f"the stream was closed: {words}.", next_step="check who else uses the key")
    return Unreadable(words=words, cause=f"the stream said {code}")
