"""The gates, and how an order's terms meet an instrument's increments."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from scripted import BTC, Quoting, Venue, buy

from mts1b_brokers_core.foundation.errors import AmbiguousInstrument, OrderDenied, UnknownInstrument
from mts1b_brokers_core.foundation.instruments import AssetClass
from mts1b_brokers_core.foundation.market_data import Quote
from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_brokers_core.platform.clock import SteppedClock


def quote(venue: Venue, bid: str | None = "99", ask: str | None = "101") -> None:
    venue.quote = Quote(symbol="BTC-USD", bid=bid, ask=ask, at=venue.clock.now())


def sell(quantity: str = "1", price: str = "100") -> Order:
    return Order.limit("BTC-USD", Side.SELL, quantity, price=price)


def market(side: Side = Side.BUY, **size: Any) -> Order:
    return Order.market("BTC-USD", side, **size)


@pytest.mark.parametrize(
    ("gates", "order", "reason"),
    [
        ({"read_only": True}, buy(), "read_only"),
        ({"symbols": ["ETH-USD"]}, buy(), "symbols"),
        ({"max_order_quantity": "0.5"}, buy(), "max_order_quantity"),
        ({"max_order_quantity": "0.5"}, market(quote_quantity="51"), "max_order_quantity"),
        ({"max_order_value": "99"}, buy(), "max_order_value"),
        ({"max_order_value": "100"}, market(quantity="1"), "max_order_value"),
        ({"max_order_value": "50"}, market(quote_quantity="51"), "max_order_value"),
        ({"max_order_value": "50"}, sell("1", "1"), "max_order_value"),
        ({"price_collar": "0.05"}, buy("1", "106.06"), "price_collar"),
        ({"price_collar": "0.05"}, sell("1", "94.04"), "price_collar"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
async def test_a_gate_denies_before_anything_is_written_or_sent(
    venue: Venue, gates: dict[str, Any], order: Order, reason: str
) -> None:
    quote(venue)
    async with venue.client(kind=Quoting, gates=gates) as broker:
        with pytest.raises(OrderDenied, match=f"gate {reason}") as caught:
            await broker.submit(order)
        assert caught.value.reason == reason
        assert caught.value.order is not None
        assert caught.value.next_step
        assert venue.placed == []
        assert await broker.unresolved() == []


@pytest.mark.parametrize(
    ("gates", "order"),
    [
        ({"symbols": ["BTC-USD"]}, buy()),
        ({"max_order_quantity": "1"}, buy()),
        ({"max_order_quantity": "0.5"}, market(quote_quantity="50.5")),
        ({"max_order_value": "100"}, buy()),
        ({"max_order_value": "101"}, market(quantity="1")),
        ({"max_order_value": "99"}, sell("1", "1")),
        ({"price_collar": "0.05"}, buy("1", "106.05")),
        ({"price_collar": "0.05"}, buy("1", "1")),
        ({"price_collar": "0.05"}, sell("1", "94.05")),
        ({"price_collar": "0.05"}, market(quantity="1")),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
async def test_what_is_within_the_gates_passes(venue: Venue, gates: dict[str, Any], order: Order) -> None:
    quote(venue)
    async with venue.client(kind=Quoting, gates=gates) as broker:
        assert (await broker.submit(order)).broker_order_id == "V1"


async def test_a_buy_that_its_limit_caps_needs_no_quote(venue: Venue) -> None:
    async with venue.client(gates={"max_order_value": "100"}) as broker:
        assert (await broker.submit(buy())).broker_order_id == "V1"
        with pytest.raises(OrderDenied):
            await broker.submit(buy("1.1"))
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(sell())
        assert caught.value.reason == "no_quote"


@pytest.mark.parametrize("kind", ["fails", "one-sided"])
async def test_a_gate_without_its_quote_denies(venue: Venue, kind: str) -> None:
    if kind == "one-sided":
        quote(venue, ask=None)
    async with venue.client(kind=Quoting, gates={"price_collar": "0.05"}) as broker:
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(buy())
        assert caught.value.reason == ("no_quote" if kind == "fails" else "price_collar")
        assert venue.placed == []


async def test_the_rate_gate_counts_every_attempt_of_the_last_minute(
    venue: Venue, clock: SteppedClock
) -> None:
    async with venue.client(gates={"max_orders_per_minute": 2}) as broker:
        await broker.submit(buy())
        await clock.advance(30)
        second = await broker.submit(buy())
        assert await broker.submit(second) == second  # a stored answer costs nothing
        with pytest.raises(OrderDenied, match="wait 30 seconds") as caught:
            await broker.submit(buy())
        assert caught.value.reason == "max_orders_per_minute"
        await clock.advance(30)
        assert (await broker.submit(buy())).broker_order_id == "V3"
        with pytest.raises(OrderDenied):
            await broker.submit(buy())
        assert len(venue.placed) == 3


async def test_the_rate_gate_counts_a_bracket_once(venue: Venue) -> None:
    async with venue.client(gates={"max_orders_per_minute": 2}) as broker:
        for _ in range(2):
            await broker.submit(
                Order.bracket("BTC-USD", Side.BUY, "1", price="100", take_profit="110", stop_loss="90")
            )
        assert len(venue.placed) == 2


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (buy("1", "100.001"), "price"),
        (buy("1.00001"), "quantity"),
        (buy("0.00001"), "quantity"),
        (buy("1001"), "quantity"),
    ],
)
async def test_terms_off_the_increments_are_denied_after_one_fresh_look(
    venue: Venue, order: Order, reason: str
) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        assert venue.calls.count("instruments") == 1
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(order)
        assert caught.value.reason == reason
        assert venue.calls.count("instruments") == 2
        assert len(venue.placed) == 1


async def test_increments_that_changed_meanwhile_are_learned_before_a_denial(venue: Venue) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.listed = (BTC.model_copy(update={"price_increment": "0.001"}),)
        assert (await broker.submit(buy("1", "100.001"))).limit_price == Decimal("100.001")


async def test_instruments_are_read_again_when_they_are_old(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        await clock.advance(timedelta(hours=1).total_seconds())
        await broker.submit(buy())
        assert venue.calls.count("instruments") == 2


@pytest.mark.parametrize(
    ("order", "field", "sent"),
    [
        (buy("1", "100.129", allow_adjust={"price"}), "limit_price", "100.12"),
        (sell("1", "100.121").model_copy(update={"allow_adjust": {"price"}}), "limit_price", "100.13"),
        (buy("1.00019", allow_adjust={"quantity"}), "quantity", "1.0001"),
    ],
)
async def test_an_allowed_adjustment_is_sent_and_reported(
    venue: Venue, order: Order, field: str, sent: str
) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(order)
        assert getattr(venue.placed[0].order, field) == Decimal(sent)
        (adjustment,) = placed.adjustments
        assert (adjustment.field, adjustment.sent) == (field, sent)
        assert "not a multiple of the increment" in adjustment.reason


async def test_an_adjustment_never_goes_below_the_minimum(venue: Venue) -> None:
    async with venue.client() as broker:
        with pytest.raises(OrderDenied, match="below the minimum"):
            await broker.submit(buy("0.00005", allow_adjust={"quantity"}))


async def test_what_is_attached_meets_the_increments_too(venue: Venue) -> None:
    async with venue.client() as broker:
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(
                Order.bracket("BTC-USD", Side.BUY, "1", price="100", take_profit="110.001", stop_loss="90")
            )
        assert caught.value.reason == "price"
        assert venue.placed == []


async def test_value_limits_of_the_instrument(venue: Venue) -> None:
    venue.listed = (BTC.model_copy(update={"min_notional": "10", "max_notional": "1000"}),)
    async with venue.client() as broker:
        for order in (buy("0.01"), buy("11")):
            with pytest.raises(OrderDenied) as caught:
                await broker.submit(order)
            assert caught.value.reason == "notional"


async def test_an_instrument_that_does_not_trade_is_denied(venue: Venue) -> None:
    venue.listed = (BTC.model_copy(update={"tradable": False}),)
    async with venue.client() as broker:
        with pytest.raises(OrderDenied) as caught:
            await broker.submit(buy())
        assert caught.value.reason == "not_tradable"


async def test_unknown_and_ambiguous_symbols_say_what_was_meant(venue: Venue) -> None:
    other = {"symbol": "SOL-USD", "base": "SOL"}
    venue.listed = (
        BTC,
        BTC.model_copy(update={**other, "market": "XAAA"}),
        BTC.model_copy(update={**other, "market": "XBBB", "asset_class": AssetClass.EQUITY}),
    )
    async with venue.client() as broker:
        with pytest.raises(UnknownInstrument, match="did you mean BTC-USD"):
            await broker.submit(Order.limit("BTX-USD", Side.BUY, "1", price="100"))
        with pytest.raises(AmbiguousInstrument) as caught:
            await broker.submit(Order.limit("SOL-USD", Side.BUY, "1", price="100"))
        assert caught.value.choices == ("SOL-USD@XAAA", "SOL-USD@XBBB")
        placed = await broker.submit(Order.limit("SOL-USD@XAAA", Side.BUY, "1", price="100"))
        assert placed.broker_order_id == "V1"
        assert venue.placed[0].instrument is not None
        assert venue.placed[0].instrument.market == "XAAA"
