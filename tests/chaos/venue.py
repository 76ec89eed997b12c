"""The reference venue under watch: which request of which key did what, whatever became of the reply."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from random import Random
from typing import Any, TypeVar

from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core.execution.port import Ticket
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_simulator.reference import BookOrder, ReferenceServer
from mts1b_simulator.wire.messages import Reply, Request
from mts1b_simulator.wire.script import Faults

from .kinds import FRAME_FAULTS, RATE, Kind, request_faults

T = TypeVar("T")
#: The header that tells the judge whose request it is; the venue itself takes no notice of it.
TAG = "X-Chaos"
_tag: ContextVar[str] = ContextVar("tag", default="")


@dataclass(frozen=True, slots=True)
class Done:
    """What one request did at the venue, and when."""

    at: datetime
    label: str
    tag: str
    late: bool
    fault: str
    status: int
    words: str

    def __str__(self) -> str:
        late = " (landed late)" if self.late else ""
        fault = f" [{self.fault}]" if self.fault else ""
        return f"{self.at:%H:%M:%S.%f} {self.label} {self.tag}{late}{fault} -> {self.status} {self.words}"


def sort_of(request: Request) -> str:
    """Return which sort of request it is: each sort's faults are drawn for themselves."""
    if request.label == "POST /v1/orders":
        return "place"
    if request.path == "/v1/stream":
        return "stream"
    return {"DELETE": "cancel", "PATCH": "replace"}.get(request.method, "read")


class CountedFaults(Faults):
    """Counts what it is asked about."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.requests: Counter[str] = Counter()

    def for_request(self, request: Request) -> Any:
        """Draw what happens to a request."""
        self.requests[sort_of(request)] += 1
        return super().for_request(request)


class WatchedVenue(ReferenceServer):
    """Serves a kind of venue; its nth request of a sort meets the same fault with each run of a seed."""

    def __init__(self, kind: Kind, seed: int) -> None:
        super().__init__(kind.theirs, seed=seed)
        self.kind = kind
        self.faults: CountedFaults = CountedFaults(self.clock, f"{seed}/{kind.name}")
        self.done: list[Done] = []
        #: Venue orders by the key whose request made them, replacing ones left out.
        self.made: defaultdict[str, list[str]] = defaultdict(list)
        #: How many times the comparison with the venue got as far as the open orders.
        self.compared = 0
        self._draw = Random(f"{seed}/{kind.name}/venue")

    def let_loose(self, *, only: str = "") -> None:
        """Begin with the faults, or with those of one name."""
        some = {fault: weight for fault, weight in request_faults(self.kind).items() if _named(fault, only)}
        for sort in ("place", "cancel", "replace", "read", "stream"):
            if some:
                self.faults.random(RATE, some, partial(_is_a, sort))
        frames = {fault: weight for fault, weight in FRAME_FAULTS.items() if _named(fault, only)}
        if frames:
            self.faults.random(sum(frames.values()) / 1000, frames, lambda hit: hit.label != "session")

    async def handle(self, request: Request) -> Reply | None:
        """Answer a request, and note what it did."""
        reply = await super().handle(request)
        if reply is None:
            return None
        tag, data = request.headers.get(TAG.lower(), ""), {}
        if request.method != "GET":
            data = json.loads(reply.body)
            words = str(data["error"] if "error" in data else data["order"]["id"] if "order" in data else "")
            fault = repr(request.fault) if request.fault else ""
            self.done.append(Done(self.now(), request.label, tag, request.late, fault, reply.status, words))
        if sort_of(request) == "place" and reply.status == 201:
            made = self.made[tag.partition("#")[0]]
            if data["order"]["id"] not in made:
                made.append(data["order"]["id"])
        first = "cursor" not in request.query  # a listing has several pages
        if request.label == "GET /v1/orders" and request.query.get("status") == "open" and first:
            self.compared += reply.status == 200
        return reply

    def chain(self, order_id: str) -> list[BookOrder]:
        """Return an order and those that took its place, in order."""
        order = self.venue.order(order_id)
        assert order is not None
        rows = [order]
        while rows[-1].replaced_by is not None:
            following = self.venue.order(rows[-1].replaced_by)
            assert following is not None
            rows.append(following)
        return rows

    def story_of(self, key: str) -> list[str]:
        """Return what was asked for a key, and what became of it, in words."""
        ids = {row.id for name in self.made.get(key, ()) for row in self.chain(name)}
        ids |= {row.token for name in ids if (row := self.venue.order(name)) is not None and row.token}
        done = [
            str(row) for row in self.done
            if row.tag.partition("#")[0] == key or row.label.rpartition("/")[2] in ids
        ]  # fmt: skip
        met = [
            f"{row.at:%H:%M:%S.%f} {row.label} {row.hit.headers[TAG.lower()]} met {row.fault}"
            for row in self.faults.applied
            if isinstance(row.hit, Request) and row.hit.headers.get(TAG.lower(), "").partition("#")[0] == key
        ]
        return sorted([*done, *met])

    # --- what the venue does by itself ----------------------------------------------------------------

    async def live(self, every: float) -> None:
        """Fill resting orders in parts, and now and then take an execution back or correct it."""
        while True:
            await self.clock.sleep(every)
            roll = self._draw.random()
            try:
                if roll < 0.9:
                    self.venue.fill_some(self._draw)
                elif roll < 0.95 and self.kind.busts:
                    self._with_some(lambda row: self.venue.bust(row.id))
                elif self.kind.corrections:
                    self._with_some(
                        lambda row: self.venue.correct(row.id, price=row.price + self._draw.randint(-3, 3))
                    )
            except InvalidInput:
                continue  # too small a part, or an execution that stands no more: the next one then

    def _with_some(self, act: Callable[[Any], object]) -> None:
        standing = [row for row in self.venue.executions()[-200:] if not row.void and row.kind == "trade"]
        if standing:
            act(self._draw.choice(standing))


def _is_a(sort: str, hit: Any) -> bool:
    return sort_of(hit) == sort


def _named(fault: Any, only: str) -> bool:
    return not only or fault.kind == only


def tagged(client: ReferenceClient) -> None:
    """Let each order and change that a client sends say whose it is."""
    signer = client._signer
    plain_headers = signer.headers

    def headers(*values: Any, **named: Any) -> Mapping[str, str]:
        made = plain_headers(*values, **named)
        return made | {TAG: _tag.get()} if _tag.get() else made

    signer.headers = headers  # type: ignore[method-assign, assignment]
    client.place = _marked(client.place, 0)  # type: ignore[method-assign, assignment]
    client.replace_one = _marked(client.replace_one, 1)  # type: ignore[method-assign, assignment]


def _marked(send: Callable[..., Awaitable[T]], where: int) -> Callable[..., Awaitable[T]]:
    async def marked(*values: Any) -> T:
        ticket: Ticket = values[where]
        token = _tag.set(f"{ticket.order.idempotency_key}#{ticket.attempt}")
        try:
            return await send(*values)
        finally:
            _tag.reset(token)

    return marked
