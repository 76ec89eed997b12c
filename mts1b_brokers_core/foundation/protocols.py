"""The contract: what every broker does, and one small protocol for each thing only some can do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast, runtime_checkable

from .accounts import Account, Balance, FeeSchedule, KeyPermissions, OrderPreview
from .capabilities import Operation
from .errors import BrokerError, UnsupportedCapability
from .events import BrokerEvent
from .instruments import Instrument
from .market_data import Bar, OrderBook, Quote, Trade
from .orders import Fill, Order, OrderChanges, Position

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `cursor` fetches the next, None means this was the last."""

    rows: tuple[T, ...]
    cursor: str | None = None
    unreadable: tuple[str, ...] = ()


@runtime_checkable
class BrokerProtocol(Protocol):
    """What every broker does; a class may implement it without deriving from anything here."""

    @property
    def name(self) -> str:
        """The instance's name, by default the broker's."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    async def submit(self, order: Order) -> Order:
        """Place the order and return it as the venue acknowledged it; everything else raises."""

    async def cancel(self, order_id: str) -> bool:
        """Cancel by our id or the venue's: True where it was taken, False where the order was final."""

    async def get_open_orders(self) -> list[Order]:
        """Return the orders the venue still works."""

    async def get_positions(self) -> list[Position]:
        """Return what is held."""

    def stream_fills(self) -> AsyncIterator[Fill]:
        """Iterate over executions as they are learned of, each once."""


@runtime_checkable
class SupportsReplace(Protocol):
    """Changes a working order in place."""

    async def replace(
        self, order_id: str, changes: OrderChanges, *, idempotency_key: str | None = None
    ) -> Order:
        """Change price or total quantity; our order id stays."""


@runtime_checkable
class SupportsCancelAll(Protocol):
    """Cancels everything at once."""

    async def cancel_all(self, symbol: str | None = None) -> list[str]:
        """Cancel all open orders, or those of one symbol; return the ids taken."""


@runtime_checkable
class SupportsBatch(Protocol):
    """Places several orders with one call."""

    async def submit_many(self, orders: Sequence[Order]) -> list[Order | BrokerError]:
        """Submit each order and return its answer, or its error, in the same place."""


@runtime_checkable
class SupportsPreview(Protocol):
    """Tells what an order would cost."""

    async def preview(self, order: Order) -> OrderPreview:
        """Ask what the order would do, without placing it."""


@runtime_checkable
class SupportsOrderById(Protocol):
    """Looks an order up by id."""

    async def get_order(self, order_id: str) -> Order:
        """Return the order by our id or the venue's. Raises `OrderNotFound`."""


@runtime_checkable
class SupportsOrderByKey(Protocol):
    """Looks an order up by the caller's key."""

    async def get_order_by_key(self, idempotency_key: str) -> Order:
        """Return the order submitted under the key. Raises `OrderNotFound`."""


@runtime_checkable
class SupportsOrderHistory(Protocol):
    """Lists past orders."""

    async def get_orders(
        self, *, since: datetime, cursor: str | None = None, limit: int = 100
    ) -> Page[Order]:
        """Return orders created at or after `since`, oldest first, a page at a time."""


@runtime_checkable
class SupportsFillHistory(Protocol):
    """Lists past fills."""

    async def get_fills(self, *, since: datetime, cursor: str | None = None, limit: int = 100) -> Page[Fill]:
        """Return executions at or after `since`, oldest first, a page at a time."""


@runtime_checkable
class SupportsEvents(Protocol):
    """Streams everything that happens to orders, not only fills."""

    def stream_events(
        self, since: int | None = None, consumer: str = "default"
    ) -> AsyncIterator[BrokerEvent]:
        """Iterate over events from the log."""


@runtime_checkable
class SupportsAccount(Protocol):
    """Reads the account and its balances."""

    async def get_account(self) -> Account:
        """Return the account with its balances."""

    async def get_balances(self) -> list[Balance]:
        """Return total, available and held of each currency."""


@runtime_checkable
class SupportsInstruments(Protocol):
    """Lists instruments."""

    async def get_instruments(self, query: str | None = None) -> list[Instrument]:
        """Return what can be traded; `query` matches symbol or name, case-insensitively."""


@runtime_checkable
class SupportsQuotes(Protocol):
    """Reads the best bid and ask."""

    async def get_quote(self, symbol: str) -> Quote:
        """Return the present best bid and ask."""


@runtime_checkable
class SupportsOrderBook(Protocol):
    """Reads the order book."""

    async def get_order_book(self, symbol: str, depth: int = 10) -> OrderBook:
        """Return up to `depth` levels a side, best first."""


@runtime_checkable
class SupportsBars(Protocol):
    """Reads bars."""

    async def get_bars(
        self, symbol: str, *, interval: timedelta, start: datetime | None = None, end: datetime | None = None,
        limit: int = 100,
    ) -> list[Bar]:  # fmt: skip
        """Return finished bars, oldest first."""


@runtime_checkable
class SupportsMarketData(Protocol):
    """Streams market data."""

    def stream_market_data(
        self, symbols: Sequence[str], kinds: Sequence[str] = ("quote", "trade")
    ) -> AsyncIterator[Quote | Trade | OrderBook | Bar]:
        """Iterate over quotes, trades, books or bars as they come."""


@runtime_checkable
class SupportsFeeSchedule(Protocol):
    """Reads what trading costs."""

    async def get_fee_schedule(self) -> FeeSchedule:
        """Return the account's present fees."""


@runtime_checkable
class SupportsServerTime(Protocol):
    """Reads the venue's clock."""

    async def get_server_time(self) -> datetime:
        """Return the venue's time, aware UTC."""


@runtime_checkable
class SupportsKeyPermissions(Protocol):
    """Reads what the credential may do."""

    async def get_key_permissions(self) -> KeyPermissions:
        """Return the credential's permissions."""


@runtime_checkable
class SupportsDeadMansSwitch(Protocol):
    """Lets the venue cancel everything when we fall silent."""

    async def arm_dead_mans_switch(self, seconds: float) -> None:
        """Cancel all orders unless called again within that time; 0 disarms."""


#: The protocol behind each optional operation.
PROTOCOLS: dict[Operation, type[Any]] = {
    Operation.REPLACE: SupportsReplace, Operation.CANCEL_ALL: SupportsCancelAll,
    Operation.BATCH: SupportsBatch, Operation.PREVIEW: SupportsPreview,
    Operation.ORDER_BY_ID: SupportsOrderById, Operation.ORDER_BY_KEY: SupportsOrderByKey,
    Operation.ORDER_HISTORY: SupportsOrderHistory, Operation.FILL_HISTORY: SupportsFillHistory,
    Operation.EVENT_STREAM: SupportsEvents, Operation.ACCOUNT: SupportsAccount,
    Operation.INSTRUMENTS: SupportsInstruments, Operation.QUOTES: SupportsQuotes,
    Operation.ORDER_BOOK: SupportsOrderBook, Operation.BARS: SupportsBars,
    Operation.MARKET_DATA_STREAM: SupportsMarketData, Operation.FEE_SCHEDULE: SupportsFeeSchedule,
    Operation.SERVER_TIME: SupportsServerTime, Operation.KEY_PERMISSIONS: SupportsKeyPermissions,
    Operation.DEAD_MANS_SWITCH: SupportsDeadMansSwitch,
}  # fmt: skip

_BY_PROTOCOL = {protocol: operation for operation, protocol in PROTOCOLS.items()}


def require(broker: object, protocol: Callable[..., T]) -> T:
    """Return the broker as the protocol asked for. Raises `UnsupportedCapability` otherwise.

    The protocol is typed as a callable because type checkers take abstract classes only as such.
    """
    kind = cast("type[T]", protocol)
    if isinstance(broker, kind):
        return broker
    operation = _BY_PROTOCOL.get(kind)
    word = str(operation) if operation else kind.__name__
    raise UnsupportedCapability(
        f"{word} is not offered.", broker=getattr(broker, "name", None), operation=word, capability=word
    )
