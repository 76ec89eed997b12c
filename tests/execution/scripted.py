"""A small honest venue in process, whose every behaviour a test can script, and its adapter."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from mts1b_brokers_core.execution.client import ReplacingClient, VenueClient
from mts1b_brokers_core.execution.port import (
    Absent,
    Ack,
    CancelResult,
    Coverage,
    Decoded,
    Execution,
    FeeAmendment,
    Final,
    FindResult,
    Found,
    Listing,
    NoSuch,
    OrderRef,
    OrderView,
    PlaceResult,
    Rejected,
    Seen,
    Taken,
    Terms,
    Ticket,
    TokenRule,
    Unreadable,
    VenueProfile,
    listed,
)
from mts1b_brokers_core.foundation.accounts import Account
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.capabilities import Capabilities, parse_capabilities
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.instruments import AssetClass, Instrument
from mts1b_brokers_core.foundation.market_data import Quote
from mts1b_brokers_core.foundation.orders import Fill, FillKind, Order, OrderStatus, Position, Side
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.platform.failpoints import failpoint

MANIFEST = """
schema = 1
name = "scripted"
distribution = "mts1b-broker-scripted"
api = "1.0"
environments = ["simulator", "live"]

[[orders]]
level = "native"
side = "venue"
note = ""
asset = ["crypto"]
type = ["market", "limit", "stop", "stop_limit"]
tif = ["day", "gtc", "ioc"]
instructions = ["post_only", "quote_quantity"]
attached = ["otoco"]
"""

PROFILE = VenueProfile("scripted", TokenRule("forever"))
#: A venue that takes the same token twice for the same order.
DEDUPES = replace(PROFILE, token=TokenRule("forever", dedupes=True))
#: A venue that itself refuses a request older than ten seconds.
DEADLINE = replace(PROFILE, not_after="deadline", not_after_seconds=10.0)

BTC = Instrument(
    symbol="BTC-USD", asset_class=AssetClass.CRYPTO, base="BTC", quote="USD",
    price_increment="0.01", quantity_increment="0.0001", min_quantity="0.0001", max_quantity="1000",
)  # fmt: skip

Script = Callable[["Venue", Ticket], Awaitable[PlaceResult]]


def examples(count: int) -> int:
    """Return how many examples a law is tried on: fewer where thousands of mutants are."""
    return max(20, count // 8) if "MUTANT_UNDER_TEST" in os.environ else count


@dataclass
class Row:
    """One order in the venue's own book."""

    id: str
    token: str | None
    order: Order
    status: OrderStatus = OrderStatus.NEW
    filled: Decimal = Decimal(0)
    value: Decimal = Decimal(0)
    fees: tuple[Money, ...] | None = None
    updated: datetime | None = None
    children: tuple[str, ...] = ()
    replaced_by: str | None = None


@dataclass
class Venue:
    """The venue: a book, executions, frames, and queues of scripted behaviour before the honest one."""

    opened = datetime(2026, 7, 1, 12, tzinfo=UTC)

    clock: Clock
    profile: VenueProfile = PROFILE
    account_ids: tuple[str, ...] = ("A1",)
    listed: tuple[Instrument, ...] = (BTC,)
    book: dict[str, Row] = field(default_factory=dict)
    fills: list[Execution] = field(default_factory=list)
    hidden: set[str | None] = field(default_factory=set)
    place_next: deque[Script] = field(default_factory=deque)
    find_next: deque[FindResult | Exception] = field(default_factory=deque)
    cancel_next: deque[CancelResult | Exception | Callable[[OrderRef], CancelResult]] = field(
        default_factory=deque
    )
    replace_next: deque[Script] = field(default_factory=deque)
    read_next: deque[Exception] = field(default_factory=deque)
    late: list[Ticket] = field(default_factory=list)
    placed: list[Ticket] = field(default_factory=list)
    found: list[Ticket] = field(default_factory=list)
    canceled: list[OrderRef] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    events: list[BrokerEvent] = field(default_factory=list)
    quote: Quote | None = None
    #: Whether its views tell average price, fees and time of change; a cumulative venue's always do.
    telling: bool = False
    amendments: list[FeeAmendment] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    frames: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    disk: Path | None = None

    # --- the honest venue ---------------------------------------------------------------------

    def accept(self, ticket: Ticket) -> Row:
        """Book an order, or give back the one a deduplicating venue holds already."""
        known = [row for row in self.book.values() if ticket.token and row.token == ticket.token]
        if known and self.profile.token.dedupes:
            return known[0]
        row = Row(f"V{len(self.book) + 1}", ticket.token, ticket.order)
        self.book[row.id] = row
        children = []
        for child in ticket.order.attached:
            leg = Row(f"V{len(self.book) + 1}", None, child)
            self.book[leg.id] = leg
            children.append(leg.id)
        row.children = tuple(children)
        self._write("order", id=row.id, token=row.token, order=ticket.order.model_dump_json())
        return row

    def ack(self, row: Row) -> Ack:
        """Answer that the order is booked, with its terms."""
        return Ack(
            OrderRef(row.id, row.token), self.view(row), tuple(OrderRef(child) for child in row.children)
        )

    def view(self, row: Row | str) -> OrderView:
        """Show an order as the venue's lists do."""
        row = self.book[row] if isinstance(row, str) else row
        order = row.order
        terms = Terms(
            symbol=order.symbol, side=order.side, quantity=order.quantity, order_type=order.order_type,
            quote_quantity=order.quote_quantity, limit_price=order.limit_price, stop_price=order.stop_price,
        )  # fmt: skip
        view = OrderView(
            OrderRef(row.id, row.token), row.status, row.status.upper(), terms,
            cumulative_quantity=row.filled, children=row.children, replaced_by=row.replaced_by,
        )  # fmt: skip
        if not (self.telling or self.cumulative):
            return view
        average = round(row.value / row.filled, 8) if row.filled else None
        return replace(view, average_price=average, cumulative_fees=row.fees, updated=row.updated)

    @property
    def cumulative(self) -> bool:
        """Whether this venue shows no executions, only how much of an order is filled."""
        return self.profile.fill_identity == "cumulative"

    def fill(
        self,
        row: Row | str,
        quantity: str,
        price: str = "100",
        *,
        fill_id: str | None = None,
        push: bool = True,
    ) -> Execution:
        """Execute some of an order; with `push` tell of it by a frame."""
        row = self.book[row] if isinstance(row, str) else row
        row.filled += Decimal(quantity)
        row.value += Decimal(quantity) * Decimal(price)
        row.updated = self.clock.now()
        whole = row.order.quantity is not None and row.filled >= row.order.quantity
        if not row.status.final:
            row.status = OrderStatus.FILLED if whole else OrderStatus.PARTIALLY_FILLED
        seen = Execution(
            fill_id=None if self.profile.fill_identity == "content" else fill_id or f"E{len(self.fills) + 1}",
            ref=OrderRef(row.id),
            symbol=row.order.symbol,
            side=row.order.side,
            quantity=Decimal(quantity),
            price=Decimal(price),
            executed_at=self.clock.now(),
            fees=(Money(amount="0.1", currency="USD"),),
        )
        self.fills.append(seen)
        self._write("fill", order=row.id, fill=seen.fill_id, quantity=quantity, price=price)
        if push:
            self.push(self.view(row) if self.cumulative else seen)
        return seen

    def bust(self, seen: Execution) -> Execution:
        """Take an execution back."""
        row = self.book[str(seen.ref.broker_order_id)]
        row.filled -= seen.quantity
        row.value -= seen.quantity * seen.price
        row.updated = self.clock.now()
        back = replace(
            seen, fill_id=f"{seen.fill_id}-bust", quantity=-seen.quantity, kind=FillKind.BUST,
            corrects=seen.fill_id, executed_at=self.clock.now(), fees=None,
        )  # fmt: skip
        self.fills.append(back)
        return back

    def end(self, row: Row | str, status: OrderStatus = OrderStatus.CANCELED) -> OrderView:
        """Let an order end and show it."""
        row = self.book[row] if isinstance(row, str) else row
        row.status = status
        row.updated = self.clock.now()
        return self.view(row)

    def land(self) -> Row:
        """Let the oldest delayed request arrive after all."""
        return self.accept(self.late.pop(0))

    def push(self, *items: Decoded) -> None:
        """Send one frame."""
        self.frames.put_nowait(items)

    def logged(self) -> list[Fill]:
        """Return the executions a broker told its observers of, in order."""
        return [event.fill for event in self.events if event.fill is not None]

    def kinds(self) -> list[EventKind]:
        """Return what kinds of events a broker told its observers of, in order."""
        return [event.kind for event in self.events]

    def crash(self, error: Exception) -> None:
        """Let the stream of frames break."""
        self.frames.put_nowait(error)

    def client(
        self, path: Path | None = None, *, kind: type[Scripted] | None = None, **settings: Any
    ) -> Scripted:
        """Build an adapter for this venue."""
        services = Services("scripted", "simulator", self.clock, path, self.events.append)
        settings = {"resend_within": 0, **settings}  # one look, unless a test waits for more
        return (kind or Scripted)(self, BrokerSettings(**settings), services)

    def _write(self, what: str, **row: Any) -> None:
        if self.disk is None:
            return
        with open(self.disk, "a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **row}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def load(self, disk: Path) -> Venue:
        """Take up the book an earlier process of this venue left on disk."""
        for line in disk.read_text(encoding="utf-8").splitlines() if disk.exists() else ():
            row = json.loads(line)
            if row["what"] == "order":
                self.book[row["id"]] = Row(row["id"], row["token"], Order.model_validate_json(row["order"]))
            elif row["what"] == "cancel":
                self.book[row["id"]].status = OrderStatus.CANCELED
            else:
                self.fill(row["order"], row["quantity"], row["price"], fill_id=row["fill"], push=False)
        self.disk = disk
        return self


# --- scripted replies ----------------------------------------------------------------------------


async def accepted(venue: Venue, ticket: Ticket) -> PlaceResult:
    return venue.ack(venue.accept(ticket))


async def bare_ack(venue: Venue, ticket: Ticket) -> PlaceResult:
    return Ack(OrderRef(venue.accept(ticket).id))


def answers(result: PlaceResult) -> Script:
    """Answer without booking anything."""

    async def script(venue: Venue, ticket: Ticket) -> PlaceResult:
        return result

    return script


def fails(error: Exception) -> Script:
    """Raise before the venue took the order."""

    async def script(venue: Venue, ticket: Ticket) -> PlaceResult:
        raise error

    return script


def loses_reply(error: Exception | None = None) -> Script:
    """Book the order, then lose the reply."""

    async def script(venue: Venue, ticket: Ticket) -> PlaceResult:
        venue.accept(ticket)
        raise error or TimeoutError("no reply")

    return script


async def comes_late(venue: Venue, ticket: Ticket) -> PlaceResult:
    """Lose the reply now and let the request land when the test says so."""
    venue.late.append(ticket)
    raise TimeoutError("no reply")


def waits(gate: asyncio.Event, then: Script = accepted) -> Script:
    """Answer only once the gate is open."""

    async def script(venue: Venue, ticket: Ticket) -> PlaceResult:
        await gate.wait()
        return await then(venue, ticket)

    return script


def first(does: Callable[[Ticket], object], then: Script = accepted) -> Script:
    """Do something at the moment of sending, then answer."""

    async def script(venue: Venue, ticket: Ticket) -> PlaceResult:
        does(ticket)
        return await then(venue, ticket)

    return script


REJECTED = Rejected("insufficient_funds", "EOrder:Insufficient funds")


# --- the adapter ---------------------------------------------------------------------------------


class Scripted(VenueClient):
    """The adapter: hands every operation to the venue's script, or to its honest self."""

    def __init__(self, venue: Venue, settings: BrokerSettings, services: Services) -> None:
        self.venue = venue
        self.profile = venue.profile
        super().__init__(settings, services)

    @classmethod
    def read_capabilities(cls) -> Capabilities:
        return parse_capabilities(MANIFEST)

    async def connect(self) -> None:
        self.venue.calls.append("connect")
        self.venue.frames = asyncio.Queue()

    async def disconnect(self) -> None:
        self.venue.calls.append("disconnect")

    async def frames(self) -> AsyncIterator[Any]:
        queue = self.venue.frames
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def decode(self, frame: Sequence[Decoded]) -> Sequence[Decoded]:
        return frame

    async def place(self, ticket: Ticket) -> PlaceResult:
        venue = self.venue
        venue.placed.append(ticket)
        script = venue.place_next.popleft() if venue.place_next else accepted
        result = await script(venue, ticket)
        failpoint("venue.accepted")
        return result

    async def cancel_one(self, ref: OrderRef) -> CancelResult:
        venue = self.venue
        venue.canceled.append(ref)
        if venue.cancel_next:
            script = venue.cancel_next.popleft()
            if isinstance(script, Exception):
                raise script
            return script(ref) if callable(script) else script
        row = venue.book.get(ref.broker_order_id or "")
        if row is None:
            return NoSuch()
        if row.status.final:
            return Final(venue.view(row))
        row.status = OrderStatus.CANCELED
        venue._write("cancel", id=row.id)
        return Taken()

    async def find(self, ticket: Ticket) -> FindResult:
        venue = self.venue
        venue.found.append(ticket)
        if venue.find_next:
            script = venue.find_next.popleft()
            if isinstance(script, Exception):
                raise script
            return script
        views = tuple(venue.view(row) for row in venue.book.values() if row.token == ticket.token)
        return Found(views) if views else Absent(Coverage(("open orders", "history"), as_of=self.clock.now()))

    async def read(self, refs: Sequence[OrderRef]) -> Listing[OrderView]:
        self.venue.calls.append("read")
        if self.venue.read_next:
            raise self.venue.read_next.popleft()
        book = self.venue.book
        return listed(
            [self.venue.view(str(ref.broker_order_id)) for ref in refs if ref.broker_order_id in book],
            "orders",
        )

    async def open_orders(self, account_id: str) -> Listing[OrderView]:
        return listed(
            [self.venue.view(row) for row in self.venue.book.values() if not row.status.final], "open"
        )

    async def positions(self, account_id: str) -> Listing[Position]:
        total = sum((seen.quantity * seen.side.sign for seen in self.venue.fills), Decimal(0))
        return listed([Position(symbol="BTC-USD", quantity=total, account_id=account_id)], "positions")

    async def executions(
        self, account_id: str, since: datetime | None, until: datetime | None
    ) -> Listing[Seen]:
        self.venue.calls.append("executions")
        if self.venue.read_next:
            raise self.venue.read_next.popleft()
        if self.venue.cumulative:
            return listed([self.venue.view(row) for row in self.venue.book.values()], "orders")
        rows = [seen for seen in self._visible() if since is None or seen.executed_at >= since]
        return replace(listed(rows, "fills"), unreadable=tuple(self.venue.unreadable))

    async def executions_of(self, refs: Sequence[OrderRef]) -> Listing[Seen]:
        self.venue.calls.append("executions_of")
        if self.venue.read_next:
            raise self.venue.read_next.popleft()
        if self.venue.cumulative:
            return await self.read(refs)
        ids = {ref.broker_order_id for ref in refs}
        return listed([seen for seen in self._visible() if seen.ref.broker_order_id in ids], "fills")

    def _visible(self) -> list[Execution]:
        return [seen for seen in self.venue.fills if seen.fill_id not in self.venue.hidden]

    async def instruments(self, query: str | None) -> Listing[Instrument]:
        self.venue.calls.append("instruments")
        await asyncio.sleep(0)
        return listed(self.venue.listed, "instruments")

    async def accounts(self) -> Listing[Account]:
        return listed(
            [Account(account_id=name, currency="USD") for name in self.venue.account_ids], "accounts"
        )


class Quoting(Scripted):
    """The adapter of a venue that also gives quotes."""

    async def get_quote(self, symbol: str) -> Quote:
        self.venue.calls.append("quote")
        if self.venue.quote is None:
            raise TimeoutError("no quote came")
        return self.venue.quote


class TellingFees(Scripted):
    """The adapter of a venue that lists the fees that became known later."""

    async def fees(self, account_id: str, since: datetime | None) -> Listing[FeeAmendment]:
        self.venue.calls.append("fees")
        return listed(self.venue.amendments, "fees")


class Replaceable(ReplacingClient, Scripted):
    """The adapter of a venue that can change a working order, keeping or changing its id."""

    async def replace_one(self, ref: OrderRef, ticket: Ticket) -> PlaceResult:
        venue = self.venue
        venue.placed.append(ticket)
        if venue.replace_next:
            return await venue.replace_next.popleft()(venue, ticket)
        return change(venue, ref, ticket)


def change(venue: Venue, ref: OrderRef, ticket: Ticket) -> PlaceResult:
    """Change an order as the profile says: in place, or as a new order that follows it."""
    row = venue.book[str(ref.broker_order_id)]
    if row.status.final:
        return Rejected("too_late", "order is final")
    if venue.profile.replace == "same_id":
        row.order = ticket.order
        return venue.ack(row)
    new = replace(row, id=f"V{len(venue.book) + 1}", token=ticket.token, order=ticket.order, replaced_by=None)
    venue.book[new.id] = new
    row.replaced_by, row.status = new.id, OrderStatus.CANCELED
    return venue.ack(new)


# --- small helpers -------------------------------------------------------------------------------


def buy(quantity: str = "1", price: str = "100", **more: Any) -> Order:
    """A limit order to buy, the tests' usual one."""
    return Order.limit("BTC-USD", Side.BUY, quantity, price=price, **more)


async def settle(turns: int = 60) -> None:
    """Let the background tasks of a broker in memory run until they wait."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool]) -> None:
    """Let tasks and the journal's thread go on until something holds, for at most three real seconds."""
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


async def take(stream: AsyncIterator[Any], count: int) -> list[Any]:
    """Take rows from a stream; the last one stays unacknowledged."""
    rows = []
    async for row in stream:
        rows.append(row)
        if len(rows) == count:
            break
    return rows


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)
