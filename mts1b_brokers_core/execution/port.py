"""The port: what an adapter supplies, as typed operations, results and data.

An adapter translates; it never retries, waits, deduplicates or decides what a missing answer means.
Everything it can say about an order is one of the results below.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from mts1b_brokers_core.foundation import orders
from mts1b_brokers_core.foundation.accounts import Account
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.errors import ConfigurationError
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.platform.ratelimit import Limit

T = TypeVar("T")
Row = TypeVar("Row", covariant=True)


# --- what the venue is like, as data -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenRule:
    """The venue's client order id: which characters, how long, and how far its uniqueness reaches.

    `dedupes` means that sending a known token again returns the first order instead of a second one.
    """

    unique: Literal["forever", "while_open", "no", "none"]
    dedupes: bool = False
    longest: int = 36
    alphabet: str = "0123456789abcdefghijklmnopqrstuvwxyz"
    form: Literal["text", "uuid5"] = "text"


@dataclass(frozen=True, slots=True)
class VenueProfile:
    """How a venue behaves where order safety depends on it; times in seconds, None where unlimited.

    `fill_window` is how far back executions can be read, `poll_every` how often they are where nothing is
    pushed; `limits` are what the venue allows, as the limiter's data.

    `not_after` names the means by which the venue itself refuses a late request, `not_after_seconds`
    how long after sending that is. `visibility` is the longest delay until an accepted order shows in
    the sources, `clock_uncertainty` what our idea of the venue's clock may be off by. `sources` are those
    that only together show every order, by the names its coverages use. Raises `ConfigurationError` where
    `not_after` and `not_after_seconds` don't go together.
    """

    venue: str
    token: TokenRule
    not_after: Literal["none", "deadline", "timestamp", "credential"] = "none"
    not_after_seconds: float | None = None
    visibility: float = 0.0
    lookup_window: float | None = None
    clock_uncertainty: float = 0.0
    fill_identity: Literal["native", "composite", "content", "cumulative"] = "native"
    fill_source: Literal["push", "trigger", "poll"] = "push"
    fill_scope: Literal["account", "session"] = "account"
    fill_window: float | None = None
    poll_every: float = 5.0
    correction_lookback: float = 0.0
    fee_timing: Literal["with_fill", "seconds", "next_day", "order_level", "never"] = "with_fill"
    replace: Literal["same_id", "new_id", "none"] = "none"
    replace_quantity: Literal["total", "remaining"] = "total"
    cancel_by: Literal["venue_id", "token"] = "venue_id"
    login: Literal["exclusive", "shared"] = "shared"
    limits: tuple[Limit, ...] = ()
    reopens: frozenset[orders.OrderStatus] = frozenset()
    sources: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        limited, seconds = self.not_after != "none", self.not_after_seconds
        if limited is (seconds is None) or (seconds is not None and seconds <= 0):
            expected = "seconds above 0" if limited else "None, as nothing limits it"
            raise ConfigurationError(
                f"{self.venue}: not_after is {self.not_after!r} and not_after_seconds {seconds};"
                f" expected {expected}.",
                next_step="give the profile both, or neither",
            )


class Guarantee(StrEnum):
    """How far "one key, one venue order" reaches, strongest first."""

    NATIVE = "native"
    RESOLVER_PROVEN = "resolver, proven"
    RESOLVER_PROBABLE = "resolver, probable"
    FINGERPRINT = "fingerprint"
    THIS_PROCESS = "this process only"


def guarantee_of(profile: VenueProfile, *, durable: bool) -> Guarantee:
    """Compute the guarantee from the venue's profile and the journal's durability."""
    if profile.token.dedupes and profile.token.unique == "forever":
        return Guarantee.NATIVE
    if not durable:
        return Guarantee.THIS_PROCESS
    if profile.token.unique == "none":
        return Guarantee.FINGERPRINT
    if profile.not_after != "none":
        return Guarantee.RESOLVER_PROVEN
    return Guarantee.RESOLVER_PROBABLE


# --- what travels to the venue -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ticket:
    """One attempt to place (or replace) an order: what to send, under which token, until when.

    `t0` and `not_after` are times of ours; `ClockSkew` tells the venue's.
    """

    order: orders.Order
    account_id: str
    token: str | None
    attempt: int
    t0: datetime
    not_after: datetime | None = None
    instrument: Instrument | None = None
    changes: orders.OrderChanges | None = None


# --- what comes back ---------------------------------------------------------------------------------


# This and Execution are made for every fill, and a frozen dataclass takes three times as long to make: they
# are to be left alone all the same.
@dataclass(slots=True, unsafe_hash=True)
class OrderRef:
    """A venue order, by the venue's id, our token, or both."""

    broker_order_id: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """An order's terms as the venue shows them; None where it doesn't show one."""

    symbol: str | None = None
    side: orders.Side | None = None
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    order_type: orders.OrderType | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: orders.TimeInForce | None = None

    def contradicts(self, order: orders.Order) -> str | None:
        """Name the first term shown that differs from the order's, or None where all agree."""
        for name in self.__slots__:
            shown, asked = getattr(self, name), getattr(order, name)
            if shown is not None and asked is not None and shown != asked:
                return f"{name} {shown} instead of {asked}"
        return None


@dataclass(frozen=True, slots=True)
class OrderView:
    """One venue order as one source shows it; `decided` is False while the venue itself hasn't taken it."""

    ref: OrderRef
    status: orders.OrderStatus
    raw_status: str = ""
    terms: Terms = Terms()
    decided: bool = True
    cumulative_quantity: Decimal | None = None
    average_price: Decimal | None = None
    cumulative_fees: tuple[Money, ...] | None = None
    reason: str | None = None
    created: datetime | None = None
    updated: datetime | None = None
    parent: str | None = None
    children: tuple[str, ...] = ()
    replaced_by: str | None = None
    account_id: str | None = None


@dataclass(slots=True)
class Execution:
    """One execution as the venue reports it.

    A bust names what it takes back in `corrects`, and has that one's quantity and price, negative; a
    trade with `corrects` replaces the one it names. `fill_id` is None only where the profile says that
    executions have no ids of their own (content).
    """

    fill_id: str | None
    ref: OrderRef
    symbol: str
    side: orders.Side
    quantity: Decimal
    price: Decimal
    executed_at: datetime
    fees: tuple[Money, ...] | None = None
    fee_status: orders.FeeStatus = orders.FeeStatus.PENDING
    liquidity: orders.Liquidity | None = None
    kind: orders.FillKind = orders.FillKind.TRADE
    corrects: str | None = None
    leg: int | None = None
    account_id: str | None = None
    source: str = ""
    derived: bool = False
    evidence: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FeeAmendment:
    """A fee that became known, or changed, after its fill."""

    fill_id: str
    fees: tuple[Money, ...]
    fee_status: orders.FeeStatus
    account_id: str | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """Something happened to these orders: read them; none named means that anything may have."""

    refs: tuple[OrderRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """The connection went up or down; `data_lost` says that frames may be missing."""

    up: bool
    data_lost: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row or frame that makes no sense; reported beside the ones that do."""

    words: str
    cause: str


Seen = Execution | OrderView
Decoded = Seen | FeeAmendment | Trigger | Link | Unreadable


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a listing covers: its sources, the window, and whether all of it was read."""

    sources: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    complete: bool = True
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """Rows, the rows that could not be read, and what they cover."""

    rows: tuple[Row, ...]
    coverage: Coverage
    unreadable: tuple[Unreadable, ...] = ()


def listed(rows: Sequence[T], *sources: str, as_of: datetime | None = None) -> Listing[T]:
    """Return rows as a complete listing of the sources named."""
    return Listing(tuple(rows), Coverage(sources, as_of=as_of))


def row_of(listing: Listing[OrderView], ref: OrderRef) -> OrderView | None:
    """Return the row that is the order asked for, by its id, else by its token; any other row is not it."""
    for view in listing.rows:
        shown = view.ref
        if ref.broker_order_id and shown.broker_order_id:
            if shown.broker_order_id == ref.broker_order_id:
                return view
        elif ref.token and shown.token == ref.token:
            return view
    return None


@dataclass(frozen=True, slots=True)
class Ack:
    """The venue took the order and gave it an id; `echo` is what it said it took."""

    ref: OrderRef
    echo: OrderView | None = None
    children: tuple[OrderRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The venue refused the order on its own terms."""

    reason: str
    words: str


@dataclass(frozen=True, slots=True)
class NotPlaced:
    """Nothing reached the venue's order system, or it refused for a reason that isn't the order's.

    `retry_after` is the seconds after which the same attempt may succeed, None where repeating it is no
    use before something else has changed.
    """

    cause: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer is missing or can't be trusted."""

    cause: str


PlaceResult = Ack | Rejected | NotPlaced | Unknown


@dataclass(frozen=True, slots=True)
class Taken:
    """The venue took the cancel."""


@dataclass(frozen=True, slots=True)
class Final:
    """The order was final already."""

    view: OrderView | None = None


@dataclass(frozen=True, slots=True)
class NoSuch:
    """The venue knows no such order."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The venue refused the cancel, in its words."""

    words: str


CancelResult = Taken | Final | NoSuch | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Found:
    """Orders that may be the ticket's; which of them are is told by token or terms.

    With the `coverage` of the look-up, an answer that holds none of them proves as much as `Absent`.
    """

    views: tuple[OrderView, ...]
    coverage: Coverage | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """No such order in everything the coverage names."""

    coverage: Coverage


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """The look-up can't say: a page failed, an end marker is missing, a cache is stale."""

    why: str


FindResult = Found | Absent | Inconclusive


class VenuePort(Protocol):
    """The operations an adapter supplies. Transport exceptions may simply pass: core classifies them."""

    profile: VenueProfile

    def cost(self, operation: str, order: orders.Order | None) -> Mapping[str, float]:
        """Return what an operation takes of each limit; pure. Nothing, unless an adapter says otherwise."""
        return {}

    @abstractmethod
    async def connect(self) -> None:
        """Log in and prepare; raises a `VenueError` or `ConfigurationError` where that fails."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Let go of everything `connect` took."""

    @abstractmethod
    def frames(self) -> AsyncIterator[Any]:
        """Iterate over raw frames as they arrive; never asked where fills are polled."""

    @abstractmethod
    def decode(self, frame: Any) -> Sequence[Decoded]:
        """Turn one frame into what it says; pure."""

    @abstractmethod
    async def place(self, ticket: Ticket) -> PlaceResult:
        """Send one order, once."""

    @abstractmethod
    async def cancel_one(self, ref: OrderRef) -> CancelResult:
        """Ask for one cancel, once."""

    @abstractmethod
    async def find(self, ticket: Ticket) -> FindResult:
        """Look for the order of an attempt in every source the venue has."""

    @abstractmethod
    async def read(self, refs: Sequence[OrderRef]) -> Listing[OrderView]:
        """Read orders by id."""

    @abstractmethod
    async def open_orders(self, account_id: str) -> Listing[OrderView]:
        """List the orders the venue works."""

    @abstractmethod
    async def positions(self, account_id: str) -> Listing[orders.Position]:
        """List what is held."""

    @abstractmethod
    async def executions(
        self, account_id: str, since: datetime | None, until: datetime | None
    ) -> Listing[Seen]:
        """List executions in a window; None leaves that side open.

        Where the venue shows none, the orders that changed in the window: their fills are cut from them.
        """

    @abstractmethod
    async def executions_of(self, refs: Sequence[OrderRef]) -> Listing[Seen]:
        """List executions of these orders, or the orders where the venue shows none."""

    @abstractmethod
    async def instruments(self, query: str | None) -> Listing[Instrument]:
        """List instruments, all or those that match."""

    @abstractmethod
    async def accounts(self) -> Listing[Account]:
        """List the login's accounts."""


@runtime_checkable
class ReadingFees(Protocol):
    """What an adapter supplies besides where fees become known after their fills."""

    async def fees(self, account_id: str, since: datetime | None) -> Listing[FeeAmendment]:
        """List the fees that became known, or changed, since a time."""


class Replacing(Protocol):
    """What an adapter that can replace supplies besides."""

    async def replace_one(self, ref: OrderRef, ticket: Ticket) -> PlaceResult:
        """Ask for one change, once."""
