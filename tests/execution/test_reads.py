"""The reads that adapters mix in: each gives one ability, by the port's own operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scripted import Scripted, Venue, buy, settle

from mts1b_brokers_core.execution.client import VenueClient
from mts1b_brokers_core.execution.port import Listing, Unreadable
from mts1b_brokers_core.execution.reads import (
    ReadsAccount,
    ReadsInstruments,
    ReadsOrderById,
    ReadsOrderByKey,
)
from mts1b_brokers_core.foundation.accounts import Account, Balance
from mts1b_brokers_core.foundation.errors import BrokerClosed, OrderNotFound, VenueError
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.protocols import (
    PROTOCOLS,
    SupportsAccount,
    SupportsInstruments,
    SupportsOrderById,
    SupportsOrderByKey,
)


class Reading(ReadsOrderById, ReadsOrderByKey, ReadsInstruments, ReadsAccount, Scripted):
    """An adapter that claims all of them."""

    spoilt: tuple[Unreadable, ...] = ()
    gone = False

    async def instruments(self, query: str | None) -> Listing[Instrument]:
        return replace(await super().instruments(None), unreadable=self.spoilt)

    async def accounts(self) -> Listing[Account]:
        listing = await super().accounts()
        held = Balance(currency="USD", total=5, available=5, held=0)
        rows = tuple(row.evolve(balances=(held,)) for row in listing.rows)
        return replace(listing, rows=() if self.gone else rows)


def reading(venue: Venue) -> Reading:
    broker = venue.client(kind=Reading)
    assert isinstance(broker, Reading)
    return broker


@pytest.mark.parametrize(
    ("mixin", "protocol"),
    [
        (ReadsOrderById, SupportsOrderById),
        (ReadsOrderByKey, SupportsOrderByKey),
        (ReadsInstruments, SupportsInstruments),
        (ReadsAccount, SupportsAccount),
    ],
)
def test_each_gives_one_ability_and_no_other(mixin: type[VenueClient], protocol: Any) -> None:
    without = {each for each in PROTOCOLS.values() if issubclass(VenueClient, each)}
    assert {each for each in PROTOCOLS.values() if issubclass(mixin, each)} - without == {protocol}


async def test_an_order_is_found_by_each_of_its_names(venue: Venue) -> None:
    async with reading(venue) as broker:
        order = await broker.submit(buy())
        assert order.broker_order_id is not None
        for found in (
            await broker.get_order(order.order_id),
            await broker.get_order(order.broker_order_id),
            await broker.get_order_by_key(order.idempotency_key),
        ):
            assert found.order_id == order.order_id
        with pytest.raises(OrderNotFound) as failure:
            await broker.get_order("nobody's")
        assert failure.value.operation == "get_order"
        with pytest.raises(OrderNotFound):
            await broker.get_order_by_key("never-used")


async def test_instruments_match_by_symbol_or_name_and_bad_rows_are_told(venue: Venue) -> None:
    async with reading(venue) as broker:
        (row,) = await broker.get_instruments()
        assert await broker.get_instruments(row.symbol.lower()) == [row]
        assert await broker.get_instruments("nothing like it") == []
        broker.spoilt = (Unreadable("words of the venue", "KeyError: 'symbol'"),)
        assert await broker.get_instruments(row.symbol[1:]) == [row]
        await settle()
    assert EventKind.UNREADABLE in venue.kinds()


async def test_the_account_comes_with_its_balances(venue: Venue) -> None:
    broker = reading(venue)
    async with broker:
        account = await broker.get_account()
        assert account.account_id == broker.account_id
        assert await broker.get_balances() == list(account.balances)
        assert account.balances[0].total == 5
        broker.gone = True
        with pytest.raises(VenueError, match="doesn't list the account"):
            await broker.get_account()
    with pytest.raises(BrokerClosed):
        await broker.get_balances()
