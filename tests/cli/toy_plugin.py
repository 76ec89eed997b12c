"""A broker in fifty lines that implements the protocol by itself, and breaks where it is told to."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pydantic import Field, SecretStr

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.accounts import Account, Balance, FeeSchedule, FeeTier
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.market_data import BookLevel, OrderBook, Quote
from mts1b_brokers_core.foundation.orders import Fill, Order, Position
from mts1b_brokers_core.foundation.plugin import CheckResult, CheckState, Connection
from mts1b_brokers_core.foundation.protocols import Page
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.plugins.hookspecs import hookimpl

if os.environ.get("TOY_IMPORTED"):
    with open(os.environ["TOY_IMPORTED"], "a") as file:
        file.write("imported\n")

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
OPENING = {
    "auth": errors.AuthenticationError("the key was revoked.", next_step="make a new key"),
    "unreachable": errors.VenueUnavailable("no route to the venue."),
    "refused": ConnectionRefusedError(111, "Connection refused"),
    "accounts": errors.AccountNotChosen("the login has several accounts.", choices=["A1", "A2"]),
    "state": errors.StateLocked("process 7 owns the state.", next_step="stop process 7"),
    "crash": ZeroDivisionError("division by zero"),
}
SUBMIT = {
    "denied": errors.OrderDenied("0.001 is below the minimum 0.01.", reason="quantity"),
    "rejected": errors.OrderRejected("not enough funds.", reason="funds", words="Insufficient USD"),
    "not_placed": errors.OrderNotPlaced("the token had expired.", certainty="proven"),
    "maybe_placed": errors.OrderNotPlaced("no trace of it.", certainty="probable"),
    "unknown": errors.OutcomeUnknown("no reply within 10 s."),
    "submit_crash": BrokenPipeError(32, "Broken pipe"),
    "submit_venue": errors.VenueUnavailable("502 Bad Gateway"),
}


class Settings(BrokerSettings):
    """What the toy takes."""

    api_key: SecretStr | None = Field(default=None, description="The toy's key.")
    fault: str = Field(default="", description="Where to break.")
    seed: int = Field(default=7, description="The generator's seed.")


class Toy:
    def __init__(self, settings: Settings, services) -> None:
        self.settings, self.name, self.environment = settings, services.instance, services.environment
        self.account_id = "TOY-1"
        self.connection = Connection(
            endpoint=f"generator seed {settings.seed}",
            transport="in process",
            credentials="no credentials needed",
        )
        self._fills: list[Fill] = []
        self._new = asyncio.Event()

    def _break(self, *faults: str) -> None:
        if self.settings.fault in faults:
            raise errors.VenueUnavailable(f"{self.settings.fault} is down.", broker=self.name)

    async def __aenter__(self):
        if self.settings.fault == "hang":
            await asyncio.Event().wait()
        if self.settings.fault in OPENING:
            raise OPENING[self.settings.fault]
        return self

    async def __aexit__(self, kind, error, trace) -> None:
        if self.settings.fault == "closing":
            raise errors.StateUnwritable("the disk is full.", next_step="free the disk")

    async def submit(self, order: Order) -> Order:
        if self.settings.fault in SUBMIT:
            raise SUBMIT[self.settings.fault]
        if self.settings.fault == "known":
            return order.model_copy(update={"order_id": "O1", "broker_order_id": "V9", "status": "new"})
        if self.settings.fault == "slow":
            await asyncio.Event().wait()
        filled = order.quantity or Decimal("0.01")
        self._fills.append(Fill(
            seq=1, fill_id="F1", order_id=order.order_id, symbol=order.symbol, side=order.side,
            quantity=filled, price="95120", fees=(Money(amount="0.95", currency="USD"),), executed_at=NOON,
        ))  # fmt: skip
        self._new.set()
        placed = order.model_copy(update={"broker_order_id": "V1", "status": "new", "submitted_at": NOON})
        return await self.wait_for(placed) if self.settings.fault == "at_once" else placed

    async def wait_for(self, order: Order, until: str = "final", *, timeout: float | None = None) -> Order:
        if self.settings.fault == "late":
            raise errors.WaitTimeout(f"not {until} within {timeout} s; it was not cancelled.")
        if self.settings.fault == "wait_crash":
            raise ZeroDivisionError("division by zero")
        return order.model_copy(update={
            "status": "filled", "filled_quantity": order.quantity, "average_price": "95120",
        })  # fmt: skip

    async def cancel(self, order_id: str) -> bool:
        if order_id == "nope":
            raise errors.OrderNotFound("no order nope was placed here.", broker=self.name)
        return order_id != "V0"

    async def get_open_orders(self) -> list[Order]:
        self._break("orders")
        if self.settings.fault == "revoked":
            raise errors.AuthenticationError("the key was revoked meanwhile.")
        return [
            Order.limit("BTC-USD", "buy", "0.01", price="90000", order_id="O1", status="new", created_at=NOON)
        ]

    async def unresolved(self) -> list[Order]:
        return [Order.limit("BTC-USD", "sell", "0.02", price="99000", order_id="U1", status="unknown")]

    async def resolve(self, idempotency_key: str, broker_order_id: str | None = None) -> Order:
        if idempotency_key != "U1":
            raise errors.OrderNotFound(f"the key {idempotency_key!r} was never used here.")
        (order,) = await self.unresolved()
        return order.model_copy(update={"broker_order_id": broker_order_id, "status": "new"})

    async def get_orders(
        self, *, since: datetime, cursor: str | None = None, limit: int = 100
    ) -> Page[Order]:
        if cursor is None:
            return Page(
                (Order.market("BTC-USD", "buy", "0.5", order_id=f"H{since.year}", status="filled"),), "more"
            )
        return Page((Order.market("BTC-USD", "sell", "0.5", order_id="H2", status="canceled"),))

    async def get_positions(self) -> list[Position]:
        return [
            Position(symbol="BTC-USD", quantity="1.50", average_price="91000", currency="USD", as_of=NOON)
        ]

    async def stream_fills(self):
        if self.settings.fault == "stream":
            raise errors.BrokerFailed("the reader crashed.")
        while True:
            await self._new.wait()
            self._new.clear()
            for fill in self._fills:
                yield fill

    async def get_account(self) -> Account:
        self._break("account")
        row = Balance(currency="USD", total="100000.00", available="100000.00", held="0")
        return Account(account_id="TOY-1", balances=(row,))

    async def get_balances(self) -> list[Balance]:
        return list((await self.get_account()).balances)

    async def get_instruments(self, query: str | None = None) -> list[Instrument]:
        row = Instrument(
            symbol="BTC-USD", asset_class="crypto", base="BTC", quote="USD",
            price_increment="0.01", quantity_increment="0.00000001",
        )  # fmt: skip
        return [row] if query is None or query.upper() in "BTC-USD" else []

    async def get_quote(self, symbol: str) -> Quote:
        return Quote(symbol=symbol, bid="95100", ask="95120", at=NOON)

    async def get_order_book(self, symbol: str, depth: int = 10) -> OrderBook:
        self._break("book")
        bids = () if self.settings.fault == "one_sided" else (BookLevel(Decimal(95100), Decimal(1)),)
        return OrderBook(symbol=symbol, bids=bids, asks=(BookLevel(Decimal(95120), Decimal(1)),), at=NOON)

    async def get_fee_schedule(self) -> FeeSchedule:
        return FeeSchedule(tiers=(FeeTier(maker_rate="0.0005", taker_rate="0.001"),))

    async def get_server_time(self) -> datetime:
        self._break("time")
        return datetime.now(UTC) + timedelta(seconds={"skew": 7.3, "drift": -2}.get(self.settings.fault, 0))


class OwnCheck:
    name = "shelf"

    def __init__(self, fault: str) -> None:
        self.fault = fault

    async def run(self, broker) -> CheckResult:
        if self.fault == "own_crash":
            raise KeyError("shelf")
        state = CheckState.FAILED if self.fault == "own" else CheckState.OK
        return CheckResult(name="shelf", title="toy shelf", state=state, text="3 toys", evidence={"toys": 3})


@hookimpl
def mts1b_broker_settings():
    return Settings


@hookimpl
def mts1b_broker_create(settings, services):
    return Toy(settings, services)


@hookimpl
def mts1b_broker_checks(settings):
    return [OwnCheck(settings.fault)] if settings.fault.startswith("own") else []
