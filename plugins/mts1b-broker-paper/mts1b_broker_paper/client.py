"""The paper broker: the simulated exchange in process, behind the contract every broker keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from mts1b_brokers_core import VenueClient
from mts1b_brokers_core.execution.client import ReplacingClient
from mts1b_brokers_core.execution.port import (
    Absent,
    CancelResult,
    Coverage,
    Decoded,
    Execution,
    FindResult,
    Found,
    Listing,
    NoSuch,
    OrderRef,
    OrderView,
    PlaceResult,
    Ticket,
    TokenRule,
    VenueProfile,
    listed,
)
from mts1b_brokers_core.execution.reads import (
    ReadsAccount,
    ReadsInstruments,
    ReadsOrderById,
    ReadsOrderByKey,
)
from mts1b_brokers_core.foundation import (
    Account,
    Bar,
    BrokerClosed,
    FeeSchedule,
    Fill,
    Instrument,
    InvalidInput,
    NaiveDatetime,
    Order,
    OrderBook,
    Page,
    Position,
    Quote,
    Services,
    Trade,
    UnsupportedCapability,
    VenueUnavailable,
)
from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.plugin import Connection
from mts1b_brokers_core.platform.clock import SteppedClock, to_ns
from mts1b_simulator import (
    DEFAULT_FEES,
    ConstantDelay,
    ExchangeConfig,
    InProcessVenue,
    Latency,
    OptimismReport,
    Report,
    SimulatedExchange,
    UniformDelay,
    VenueState,
    optimism_report,
)

from .market import market_for
from .reset import Reset, reset_account
from .settings import Milliseconds, PaperSettings
from .translate import balance_of, canceled, decoded, execution_of, placed, position_of, view_of

_MS = 1_000_000
#: The one account, as the exchange knows it.
ACCOUNT = "paper"
T = TypeVar("T")


class PaperClient(
    ReplacingClient, ReadsOrderById, ReadsOrderByKey, ReadsInstruments, ReadsAccount, VenueClient
):
    """A broker without credentials; `PaperClient(seed=7, memory=True)` works by hand as well.

    Opened through `open_broker` it is durable: orders, fills and balances survive the process, in a file
    of the venue's own beside the journal. Keywords are the fields of `PaperSettings`.
    """

    profile = VenueProfile(
        venue="paper",
        token=TokenRule(unique="forever", dedupes=True),
        fill_identity="native",
        fill_source="push",
        fee_timing="with_fill",
        replace="same_id",
        replace_quantity="total",
        login="exclusive",
    )
    settings: PaperSettings

    def __init__(
        self, settings: PaperSettings | None = None, *, services: Services | None = None, **keywords: Any
    ) -> None:
        settings = PaperSettings(**keywords) if settings is None else settings.model_copy(update=keywords)
        services = services or Services("paper", "paper")
        self._market = market_for(settings, services.clock)
        path = None if settings.memory else settings.state_path or services.state_path
        services = dataclasses.replace(services, clock=self._market.clock, state_path=path)
        super().__init__(settings.evolve(state_path=path), services)
        self._venue_path = None if path is None else path.with_name(f"{path.name}.venue")
        self._venue: InProcessVenue | None = None
        self._account_id = ACCOUNT
        self._seen = 0

    # --- the port -------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Open the exchange's state, if it is kept, and start the market."""
        state = None if self._venue_path is None else VenueState(self._venue_path)
        venue = self._open_venue(state)
        await venue.start()
        self._venue = venue
        if state is not None:
            # An exchange whose file was lost is another one: the journal must not take it for its own.
            self._account_id = f"{ACCOUNT}-{state.identity}"
        await self._come_to_the_present(venue.exchange.now_ns)
        self._seen = venue.last_report

    async def _come_to_the_present(self, account_ns: int) -> None:
        """Go on at the account's time; simulated time begins at the recording's start."""
        clock = self.clock
        if isinstance(clock, SteppedClock) and (behind := account_ns - clock.now_ns()) > 0:
            with clock.hold():
                await clock.advance(behind / 1e9)

    def _exchange(self) -> SimulatedExchange:
        config = ExchangeConfig(
            instruments=self._market.instruments,
            accounts={ACCOUNT: dict(self.settings.cash)},
            fees=self.settings.fees or DEFAULT_FEES,
            fill_model=self.settings.fill_model,
            self_trade=self.settings.self_trade,
        )
        return SimulatedExchange(config, start_ns=self.clock.now_ns())

    def _open_venue(self, state: VenueState | None) -> InProcessVenue:
        settings, exchange = self.settings, self._exchange()
        # Only a run from a fresh account to the end of a recording can be played again under another model.
        if self._market.end is not None and state is None:
            exchange.record_commands()
        latency = Latency(
            submit=_delay(settings.submit_latency, settings.seed),
            cancel=_delay(settings.cancel_latency, settings.seed + 1),
            report=_delay(settings.report_latency, settings.seed + 2),
        )
        feed = self._market.events(lambda: max(self.clock.now_ns(), exchange.now_ns))
        return InProcessVenue(exchange, feed, self.clock, state, latency=latency)

    def reset(self) -> Reset:
        """Archive the account and its journal and begin anew; only while this broker is closed.

        Raises `StateError` where another process has the account open, `UnsupportedCapability` where
        nothing is kept.
        """
        journal, venue = self.settings.state_path, self._venue_path
        if journal is None or venue is None:
            raise UnsupportedCapability(
                "an account in memory is gone when it is closed.", broker=self.name, operation="reset",
                capability="reset",
            )  # fmt: skip
        return reset_account(journal, venue, self._exchange(), self._exchange())

    async def disconnect(self) -> None:
        """Stop the market and close the exchange's state."""
        if self._venue is not None:
            await self._venue.stop()

    @property
    def venue(self) -> InProcessVenue:
        """The exchange behind this broker. Raises `BrokerClosed` before opening."""
        if self._venue is None:
            raise BrokerClosed("the paper exchange is not running.", broker=self.name)
        return self._venue

    @property
    def connection(self) -> Connection:
        """How the exchange is reached: it is in this process."""
        return Connection(
            endpoint=f"in process, {self._market.words}",
            transport="in process",
            credentials="no credentials needed",
        )

    def frames(self) -> AsyncIterator[Report]:
        """Iterate over execution reports from where the last read ended."""
        return self.venue.reports(after=self._seen)

    def decode(self, frame: Report) -> Sequence[Decoded]:
        """Say what an execution report tells."""
        return decoded(frame)

    async def place(self, ticket: Ticket) -> PlaceResult:
        """Send one order."""
        assert ticket.token is not None
        return placed(await self.venue.submit(ticket.order, ticket.token, account_id=ACCOUNT))

    async def cancel_one(self, ref: OrderRef) -> CancelResult:
        """Ask for one cancel."""
        if ref.broker_order_id is None:
            return NoSuch()
        return canceled(await self.venue.cancel(ref.broker_order_id))

    async def replace_one(self, ref: OrderRef, ticket: Ticket) -> PlaceResult:
        """Ask for one change."""
        assert ref.broker_order_id is not None
        assert ticket.changes is not None
        return placed(await self.venue.replace(ref.broker_order_id, ticket.changes))

    async def find(self, ticket: Ticket) -> FindResult:
        """Look the token up: the exchange keeps every token for good."""
        order = await self.venue.order_by_token(ticket.token or "")
        if order is not None:
            return Found((view_of(order),))
        return Absent(Coverage(("orders by token",), as_of=await self.venue.now()))

    async def read(self, refs: Sequence[OrderRef]) -> Listing[OrderView]:
        """Read orders by id."""
        orders = [await self.venue.order(ref.broker_order_id or "") for ref in refs]
        return listed([view_of(order) for order in orders if order is not None], "orders")

    async def open_orders(self, account_id: str) -> Listing[OrderView]:
        """List the orders being worked."""
        return listed([view_of(row) for row in await self.venue.open_orders(ACCOUNT)], "open orders")

    async def positions(self, account_id: str) -> Listing[Position]:
        """List what is held, worth the last price, or the middle of the book before any trade."""
        rows = []
        for row in await self.venue.positions(ACCOUNT):
            price = row.market_price
            if price is None and (quote := await self.venue.quote(row.symbol)) is not None:
                price = quote.mid
            rows.append(position_of(row, price, account_id))
        return listed(rows, "positions")

    async def executions(
        self, account_id: str, since: datetime | None, until: datetime | None
    ) -> Listing[Execution]:
        """List executions in a window."""
        fills = await self.venue.fills_since(0 if since is None else to_ns(since), ACCOUNT)
        rows = [execution_of(fill) for fill in fills if until is None or fill.at_ns <= to_ns(until)]
        return listed(rows, "executions")

    async def executions_of(self, refs: Sequence[OrderRef]) -> Listing[Execution]:
        """List executions of some orders."""
        fills = await self.venue.fills_of(ref.broker_order_id or "" for ref in refs)
        return listed([execution_of(fill) for fill in fills], "executions")

    async def instruments(self, query: str | None) -> Listing[Instrument]:
        """List what can be traded."""
        return listed(await self.venue.instruments(), "instruments")

    async def accounts(self) -> Listing[Account]:
        """List the one account, with its worth at the last prices."""
        balances = [balance_of(row, self._account_id) for row in await self.venue.balances(ACCOUNT)]
        positions = (await self.positions(self._account_id)).rows
        currency = next(iter(self.settings.cash), "USD")
        cash = next((row for row in balances if row.currency == currency), None)
        equity = cash.total if cash else Decimal(0)
        for row in positions:
            if row.currency == currency and row.market_value is not None:
                equity = LEDGER.add(equity, row.market_value)
        account = Account(
            account_id=self._account_id,
            broker=self.name,
            environment=self.environment,
            name="Paper account",
            kind="cash",
            currency=currency,
            balances=tuple(balances),
            equity=equity,
            buying_power=cash.available if cash else Decimal(0),
            metadata=self._metadata(),
            as_of=await self.venue.now(),
        )
        return listed([account], "accounts")

    def _metadata(self) -> dict[str, str]:
        settings = self.settings
        about = {
            "simulated": "yes: no order leaves this process",
            "data": self._market.words,
            "ends": "never" if self._market.end is None else self._market.end.isoformat(),
            "fill_model": settings.fill_model,
            "latency_ms": f"submit {settings.submit_latency}, cancel {settings.cancel_latency}, "
            f"report {settings.report_latency}",
            "pace": str(settings.pace or ("real" if self._market.end is None else "fast")),
            "state": str(self._venue_path or "memory"),
        }
        for kind, rows in self._market.problems.items():
            about[f"{kind}_rows"] = "; ".join(rows[:10])
            about[f"{kind}_count"] = str(len(rows))
        return about

    # --- what it can do besides -----------------------------------------------------------------

    async def cancel_all(self, symbol: str | None = None) -> list[str]:
        """Cancel all open orders, or those of one symbol; return the ids taken, ours where it is ours."""
        taken = await self.venue.cancel_all(symbol, ACCOUNT)
        records = [(order_id, await self.lookups.record(order_id)) for order_id in taken]
        return [record.order.order_id if record else order_id for order_id, record in records]

    async def get_orders(
        self, *, since: datetime, cursor: str | None = None, limit: int = 100
    ) -> Page[Order]:
        """Return orders created at or after `since`, oldest first, a page at a time."""
        with self.operation("get_orders"):
            rows, more = _page(await self.venue.orders_since(_ns(since), ACCOUNT), cursor, limit)
            return Page(tuple([await self.lookups.order_of(view_of(row)) for row in rows]), more)

    async def get_fills(self, *, since: datetime, cursor: str | None = None, limit: int = 100) -> Page[Fill]:
        """Return executions at or after `since`, oldest first, a page at a time."""
        with self.operation("get_fills"):
            rows, more = _page(await self.venue.fills_since(_ns(since), ACCOUNT), cursor, limit)
            return Page(tuple(await self.lookups.fills_of([execution_of(row) for row in rows])), more)

    async def get_quote(self, symbol: str) -> Quote:
        """Return the best bid and ask. Raises `UnknownInstrument`, or `VenueUnavailable` before any data."""
        with self.operation("get_quote"):
            return _there(await self.venue.quote(symbol), symbol)

    async def get_order_book(self, symbol: str, depth: int = 10) -> OrderBook:
        """Return up to `depth` levels a side, our own orders included."""
        with self.operation("get_order_book"):
            return _there(await self.venue.order_book(symbol, depth), symbol)

    async def get_bars(
        self, symbol: str, *, interval: timedelta, start: datetime | None = None, end: datetime | None = None,
        limit: int = 100,
    ) -> list[Bar]:  # fmt: skip
        """Return finished bars since the broker was opened, oldest first."""
        with self.operation("get_bars"):
            for moment in (start, end):
                if moment is not None:
                    _ns(moment)
            return await self.venue.bars(symbol, interval, start=start, end=end, limit=limit)

    def stream_market_data(
        self, symbols: Sequence[str], kinds: Sequence[str] = ("quote", "trade")
    ) -> AsyncIterator[Quote | Trade | OrderBook | Bar]:
        """Iterate over quotes, trades, books and bars from now on; ends with a recording."""
        with self.operation("stream_market_data"):
            return self.venue.market_data(symbols, kinds)

    async def get_fee_schedule(self) -> FeeSchedule:
        """Return the account's fees."""
        return await self.venue.fee_schedule(ACCOUNT)

    async def get_server_time(self) -> datetime:
        """Return the exchange's time, aware UTC."""
        return await self.venue.now()

    def optimism(self) -> OptimismReport:
        """Return what the `touch` fill model would have claimed for the same orders on the same recording.

        Raises `UnsupportedCapability` where the account is kept on disk or the market has no end.
        """
        exchange = self.venue.exchange
        commands = exchange.command_log
        if commands is None:
            raise UnsupportedCapability(
                "only a recording traded from a fresh account in memory can be played again.",
                broker=self.name, operation="optimism", capability="optimism report",
                next_step="open with memory=True and a recording as data",
            )  # fmt: skip
        return optimism_report(exchange, commands, self._market.events(lambda: exchange.now_ns))


def _ns(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise NaiveDatetime(f"got {moment.isoformat()} without a time zone, expected an aware time.")
    return to_ns(moment)


def _page(rows: Sequence[T], cursor: str | None, limit: int) -> tuple[Sequence[T], str | None]:
    """Return one page of rows and the cursor of the next. Raises `InvalidInput`."""
    if limit < 1:
        raise InvalidInput(f"limit={limit}: expected at least one row a page.")
    if cursor is not None and not cursor.isdecimal():
        raise InvalidInput(
            f"cursor={cursor!r} is not one that a page gave.", next_step="begin without a cursor"
        )
    start = int(cursor or 0)
    end = start + limit
    return rows[start:end], str(end) if len(rows) > end else None


def _delay(milliseconds: Milliseconds, seed: int) -> ConstantDelay | UniformDelay:
    if isinstance(milliseconds, int):
        return ConstantDelay(milliseconds * _MS)
    low, high = milliseconds
    return UniformDelay(low * _MS, high * _MS, seed=seed)


def _there(value: T | None, symbol: str) -> T:
    if value is None:
        raise VenueUnavailable(f"the market has shown nothing of {symbol} yet.", repeat_is_safe=True)
    return value
