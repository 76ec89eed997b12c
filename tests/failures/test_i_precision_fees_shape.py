"""I: exact numbers, fees that are known or not known, and replies of another shape than expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from failure_kit import Rewritten, Site, Start, at_once, event_of, fills_of, resting, until
from scripted import PROFILE, Venue, buy, settle

from mts1b_brokers_core import (
    EventKind,
    InvalidInput,
    Money,
    Order,
    OrderDenied,
    OrderStatus,
    OutcomeUnknown,
    Side,
    VenueError,
)
from mts1b_brokers_core.foundation.orders import FeeStatus
from mts1b_simulator.wire import Request, faults

# --- precision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "price", "reason"),
    [
        ("0.5", "90000.001", "price"),
        ("0.123456789", "90000", "quantity"),
        ("0.000000001", "90000", "quantity"),
        ("0.5", "9E-30", "price"),
    ],
)  # fmt: skip
async def test_terms_off_the_increments_are_denied_by_name_with_what_is_expected(
    start: Start, quantity: str, price: str, reason: str
) -> None:
    """Prices and sizes with too many digits came back as a bare 400, or as "too accurate"."""
    # ccxt#16918, ccxt#4991, hummingbot#106, #7422, tfukaza/harvest#168, finlab-python/order_executor#9
    async with start() as site, site.broker() as broker:
        increments = {row.symbol: row for row in await broker.get_instruments()}["BTC-USD"]
        with pytest.raises(OrderDenied) as denied:
            await broker.submit(resting(quantity, price))
        assert denied.value.reason == reason
        step = increments.price_increment if reason == "price" else increments.quantity_increment
        assert f"{step:f}" in denied.value.message
        assert reason in denied.value.next_step
        assert site.server.count("POST /v1/orders") == 0


@pytest.mark.parametrize("quantity", ["0E-36", "0", "-1", "NaN", "Infinity", 0.1])
def test_a_quantity_that_is_none_is_refused_where_it_is_written(quantity: Any) -> None:
    """A size of 0E-36 went out to the exchange, which answered with an opaque error."""
    # hummingbot#7422
    with pytest.raises(InvalidInput, match="quantity"):
        Order.limit("BTC-USD", Side.BUY, quantity, price="90000")


async def test_an_allowed_adjustment_comes_back_with_what_was_asked(start: Start) -> None:
    """A price was rounded in silence, and the caller learned of it from the bill."""
    # ccxt#16918
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting("0.5", "90000.019", allow_adjust={"price"}))
        (adjusted,) = order.adjustments
        assert (adjusted.field, adjusted.asked, adjusted.sent) == ("limit_price", "90000.019", "90000.01")
        assert site.held(order).terms.limit_price == Decimal("90000.01")


async def test_numbers_survive_the_wire_digit_by_digit(start: Start) -> None:
    """Decimals went through floats, and the sum of many fills was off by dust."""
    # ccxt#4991
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting("0.30000001"))
        for quantity in ("0.1", "0.1", "0.1", "0.00000001"):
            site.fill(order, quantity)
        after = await broker.wait_for(order, "filled", timeout=5)
        assert after.filled_quantity == Decimal("0.30000001")
        fills = await fills_of(broker, 4)
        assert sum((fill.quantity for fill in fills), Decimal(0)) == Decimal("0.30000001")


# --- fees ---------------------------------------------------------------------------------------------


async def test_a_fee_of_zero_is_not_a_fee_that_is_unknown(venue: Venue) -> None:
    """Zero was stored where the commission was not known yet, and stayed."""
    # pysystemtrade#1661
    async with venue.client() as broker:
        order = await broker.submit(buy())
        seen = venue.fill("V1", "0.5", push=False)
        free = (Money(amount=0, currency="USD"),)
        venue.push(replace(seen, fees=None))
        await settle()
        assert (await broker.outcome(order.idempotency_key)).fees is None
        venue.push(replace(venue.fill("V1", "0.5", push=False), fees=free, fee_status=FeeStatus.FINAL))
        await settle()
        unknown, zero = venue.logged()
        assert (unknown.fees, unknown.fee_status) == (None, FeeStatus.PENDING)
        assert (zero.fees, zero.fee_status) == (free, FeeStatus.FINAL)


async def test_a_commission_that_comes_late_amends_the_fill_and_the_order(start: Start) -> None:
    """The commission came after the fill had been stored, and nobody put it in."""
    # pysystemtrade#1661
    async with start("late_fees_corrections") as site, site.broker(reconcile_every=0.3) as broker:
        order = await broker.submit(at_once())
        (fill,) = await fills_of(broker, 1)
        assert (fill.fees, fill.fee_status) == (None, FeeStatus.PENDING)
        await event_of(broker, EventKind.FEE_AMENDED)
        (fill,) = await fills_of(broker, 1, since=0)
        (execution,) = site.server.venue.executions()
        assert fill.fee_status is FeeStatus.FINAL
        assert fill.fees is not None
        assert (await broker.outcome(order.idempotency_key)).fees == fill.fees
        assert [fee.amount for fee in fill.fees] == [row["amount"] for row in execution.fees]


async def test_a_fee_without_a_currency_is_reported_and_costs_no_other_row(start: Start) -> None:
    """A commission with an empty currency stopped the reading of all fills."""
    # pysystemtrade#1525

    def nameless(status: int, body: Any) -> tuple[int, Any]:
        body["executions"][0]["fees"] = [{"currency": "", "amount": "1"}]
        return status, body

    async with start("token_not_unique") as site, site.broker(settle_wait=0.1) as broker:
        order = await broker.submit(resting())
        site.server.faults.when(Rewritten(nameless), "GET /v1/executions")
        site.fill(order, "0.2")
        site.fill(order, "0.3")
        (fill,) = await fills_of(broker, 1)
        assert fill.quantity == Decimal("0.3")
        await until(lambda: EventKind.UNREADABLE in site.kinds())
        site.server.faults.clear()
        site.fill(await broker.submit(resting()), "0.5")  # anything that makes it read again
        await event_of(broker, EventKind.SETTLED)


async def test_a_fee_taken_in_the_base_currency_leaves_the_fill_as_it_was(venue: Venue) -> None:
    """The fee was taken out of what was bought, so that selling the quantity bought failed."""
    # freqtrade#1371, #2383, #2636, #10833, coinfloor/API#15
    async with venue.client() as broker:
        order = await broker.submit(buy())
        fee = (Money(amount="0.003", currency="BTC"),)
        venue.push(replace(venue.fill("V1", "1", push=False), fees=fee, fee_status=FeeStatus.FINAL))
        await settle()
        (fill,) = venue.logged()
        assert (fill.quantity, fill.fees) == (Decimal(1), fee)
        after = await broker.outcome(order.idempotency_key)
        assert (after.status, after.filled_quantity, after.fees) == (OrderStatus.FILLED, Decimal(1), fee)


async def test_fees_of_several_currencies_are_never_added_up(venue: Venue) -> None:
    """Fees of two currencies went into one sum."""
    # nautilus#3463
    async with venue.client() as broker:
        order = await broker.submit(buy())
        for quantity, amount, currency in (
            ("0.5", "0.003", "BTC"),
            ("0.25", "1", "USD"),
            ("0.25", "2", "USD"),
        ):
            fee = (Money(amount=amount, currency=currency),)
            venue.push(replace(venue.fill("V1", quantity, push=False), fees=fee, fee_status=FeeStatus.FINAL))
        await settle()
        assert (await broker.outcome(order.idempotency_key)).fees == (
            Money(amount="0.003", currency="BTC"), Money(amount="3", currency="USD"),
        )  # fmt: skip


async def test_a_venue_that_never_tells_fees_leaves_them_unavailable(venue: Venue) -> None:
    """Where no fee is ever told, zero was booked."""
    # pysystemtrade#1661
    venue.profile = replace(PROFILE, fee_timing="never")
    async with venue.client() as broker:
        order = await broker.submit(buy())
        venue.push(replace(venue.fill("V1", "1", push=False), fees=None, fee_status=FeeStatus.UNAVAILABLE))
        await settle()
        assert [(fill.fees, fill.fee_status) for fill in venue.logged()] == [(None, FeeStatus.UNAVAILABLE)]
        after = await broker.outcome(order.idempotency_key)
        assert (after.fees, after.settled) == (None, True)


# --- shape --------------------------------------------------------------------------------------------

Change = Callable[[int, Any], tuple[int, Any]]


def orders_as(value: Any) -> Change:
    return lambda status, body: (status, {**body, "orders": value})


def list_of_orders(request: Request) -> bool:
    return request.label == "GET /v1/orders"


@pytest.mark.parametrize(
    "change",
    [
        orders_as(None), orders_as({"id": "R-1"}), orders_as("none"), lambda status, body: (status, None),
        lambda status, body: (status, []), lambda status, body: (status, {}),
        lambda status, body: (status, b"<html>End of day</html>"), lambda status, body: (status, b""),
        lambda status, body: (status, {"orders": body["orders"]}),
    ],
    ids=["null", "one object", "a word", "nothing", "a bare list", "no rows", "a page", "empty", "no end"],
)  # fmt: skip
async def test_a_list_of_another_shape_is_an_error_and_never_no_orders(start: Start, change: Change) -> None:
    """Null for an empty list, one object for a list of one, or a page at the end of the day."""
    # rleonard21/PyTradier#8, Lumiwealth/lumiwealth-tradier#15, alpacahq/alpaca-ts#81
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting())
        site.server.faults.next(Rewritten(change), list_of_orders)
        with pytest.raises(VenueError):
            await broker.get_open_orders()
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.NEW
        assert [row.order_id for row in await broker.get_open_orders()] == [order.order_id]


async def test_an_empty_list_is_no_error(start: Start) -> None:
    """An empty list was taken for a failure, or failed to be read."""
    # alpacahq/alpaca-ts#81
    async with start() as site, site.broker() as broker:
        assert await broker.get_open_orders() == []
        site.server.faults.next(Rewritten(lambda *_: (200, {"positions": []})), "GET /v1/positions")
        assert await broker.get_positions() == []


async def unreadable(site: Site) -> list[str]:
    return [event.message for event in site.events if event.kind is EventKind.UNREADABLE]


@pytest.mark.parametrize("missing", ["quantity", "symbol", "currency"])
async def test_one_malformed_position_costs_none_of_the_others(start: Start, missing: str) -> None:
    """One field was missing in one row, and the whole list failed."""
    # nautilus#4492

    def without(status: int, body: Any) -> tuple[int, Any]:
        del body["positions"][0][missing]
        return status, body

    async with start() as site, site.broker() as broker:
        whole = await broker.get_positions()
        site.server.faults.next(Rewritten(without), "GET /v1/positions")
        assert [row.symbol for row in await broker.get_positions()] == [row.symbol for row in whole[1:]]
        assert any(missing in words for words in await unreadable(site))


@pytest.mark.parametrize("value", [None, "", "1e", [], "NaN"], ids=repr)
async def test_one_malformed_order_costs_none_of_the_others(start: Start, value: Any) -> None:
    """One order of a list couldn't be read, and with it none of them could."""
    # nautilus#4492

    def spoilt(status: int, body: Any) -> tuple[int, Any]:
        body["orders"][1]["filled_quantity"] = value
        return status, body

    async with start() as site, site.broker() as broker:
        orders = [await broker.submit(resting()) for _ in range(3)]
        site.server.faults.next(Rewritten(spoilt), list_of_orders)
        seen = await broker.get_open_orders()
        assert [row.order_id for row in seen] == [orders[0].order_id, orders[2].order_id]
        assert len(await unreadable(site)) == 1
        assert (await broker.outcome(orders[1].idempotency_key)).status is OrderStatus.NEW


async def test_a_malformed_sight_of_the_order_asked_for_is_not_its_absence(start: Start) -> None:
    """The one row that was wanted couldn't be read, and counted as not there."""
    # nautilus#4492

    def spoilt(status: int, body: Any) -> tuple[int, Any]:
        for row in (body["order"], *body["orders"]):
            del row["status"]
        return status, body

    async with start("token_not_unique") as site, site.broker(resend_within=0) as broker:
        site.server.faults.when(faults.LoseFrame(), "triggers")  # the stream doesn't help
        site.server.faults.next(faults.DropReply(), "POST /v1/orders")
        site.server.faults.next(Rewritten(spoilt), "GET /v1/orders/by_token")
        with pytest.raises(OutcomeUnknown) as unknown:
            await broker.submit(resting())
        order = await unknown.value.resolved()
        assert [held.id for held in site.orders()] == [order.broker_order_id]
