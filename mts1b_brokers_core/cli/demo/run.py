"""Runs the demo: opens the configured instances, trades, and gathers what there is to show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Protocol, runtime_checkable

from mts1b_brokers_core.foundation.accounts import Account
from mts1b_brokers_core.foundation.base import LEDGER, Money
from mts1b_brokers_core.foundation.market_data import Quote
from mts1b_brokers_core.foundation.orders import Fill, Order, Position
from mts1b_brokers_core.foundation.protocols import (
    SupportsAccount,
    SupportsFillHistory,
    SupportsOrderHistory,
    require,
)
from mts1b_brokers_core.runtime.hub import BrokerHub

from .strategy import Breakout

_SAMPLE = timedelta(minutes=5)

#: What is traded: instance, recording and strategy. A share moves less in a day than a bitcoin.
BOOKS: tuple[tuple[str, str, Callable[[], Breakout]], ...] = (
    ("crypto", "crypto-day", partial(Breakout, "BTC-USD", Decimal(20_000))),
    (
        "equity",
        "equity-days",
        partial(
            Breakout,
            "AAPL",
            Decimal(40_000),
            window=30,
            breakout=Decimal("0.0012"),
            dip=Decimal("0.0012"),
            target=Decimal("0.0025"),
            risk=Decimal("0.0020"),
        ),
    ),
)

Progress = Callable[[str, datetime], None]


@runtime_checkable
class ReportsOptimism(Protocol):
    """A simulated broker that can tell what a more hopeful fill model would have claimed."""

    def optimism(self) -> Optimism:
        """Return both claims for the orders placed so far."""
        ...


class Claims(Protocol):
    """What one fill model makes of the run: fills, and the account's worth by currency."""

    @property
    def fills(self) -> int:
        """How many fills."""
        ...

    @property
    def worth(self) -> Mapping[str, Decimal]:
        """Cash and holdings at the last prices, by currency."""
        ...


class Optimism(Protocol):
    """The run under the fill model used and under a hopeful one."""

    @property
    def other_model(self) -> str:
        """The hopeful model's name."""
        ...

    @property
    def used(self) -> Claims:
        """Under the model used."""
        ...

    @property
    def claimed(self) -> Claims:
        """Under the hopeful model."""
        ...


@dataclass
class Book:
    """What one instance did: money in the account's currency, times UTC."""

    instance: str
    symbol: str
    metadata: dict[str, str]
    currency: str
    start_equity: Decimal
    end_equity: Decimal = Decimal(0)
    orders: list[Order] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    curve: list[tuple[datetime, Decimal]] = field(default_factory=list)
    optimism: Optimism | None = None

    @property
    def profit(self) -> Decimal:
        """End equity less start equity."""
        return LEDGER.subtract(self.end_equity, self.start_equity)

    @property
    def fees(self) -> list[Money]:
        """Fees paid, by currency."""
        totals: dict[str, Money] = {}
        for fill in self.fills:
            for fee in fill.fees or ():
                totals[fee.currency] = totals[fee.currency] + fee if fee.currency in totals else fee
        return [totals[currency] for currency in sorted(totals)]


def configuration(fill_model: str) -> dict[str, object]:
    """Return the hub's configuration: one paper instance for each recording, nothing kept on disk."""
    common = {"broker": "paper", "memory": True, "fill_model": fill_model}
    return {"brokers": {instance: {**common, "data": data} for instance, data, _ in BOOKS}}


async def run_demo(fill_model: str, progress: Progress) -> list[Book]:
    """Open the hub, run one strategy on each instance at once, and return what happened."""
    async with BrokerHub.from_config(configuration(fill_model)) as hub:
        return list(
            await asyncio.gather(
                *(_trade(hub, instance, strategy(), progress) for instance, _, strategy in BOOKS)
            )
        )


async def _trade(hub: BrokerHub, instance: str, strategy: Breakout, progress: Progress) -> Book:
    broker = hub[instance]
    account = await require(broker, SupportsAccount).get_account()
    book = Book(instance, strategy.symbol, account.metadata, account.currency, _equity(account))
    began: datetime | None = None
    latest: datetime | None = None

    async def on_quote(quote: Quote) -> None:
        nonlocal began, latest
        progress(instance, quote.at)
        began, latest = began or quote.at, quote.at
        if not book.curve or quote.at - book.curve[-1][0] >= _SAMPLE:
            book.curve.append((quote.at, _equity(await require(broker, SupportsAccount).get_account())))

    await strategy.run(broker, on_quote)
    assert began is not None
    assert latest is not None
    book.orders = list((await require(broker, SupportsOrderHistory).get_orders(since=began, limit=1000)).rows)
    book.fills = list((await require(broker, SupportsFillHistory).get_fills(since=began, limit=1000)).rows)
    book.positions = await broker.get_positions()
    book.refused = strategy.refused
    book.end_equity = _equity(await require(broker, SupportsAccount).get_account())
    book.curve.append((latest, book.end_equity))
    if isinstance(broker, ReportsOptimism):
        book.optimism = broker.optimism()
    return book


def _equity(account: Account) -> Decimal:
    return account.equity if account.equity is not None else Decimal(0)
