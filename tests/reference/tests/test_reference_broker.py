"""The adapter at each kind of venue, over real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest
from mts1b_broker_reference import profiles
from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core import (
    AuthenticationError,
    BrokerFailed,
    ConfigurationError,
    Fill,
    Order,
    OrderChanges,
    OrderNotFound,
    OrderNotPlaced,
    OrderRejected,
    OrderStatus,
    Side,
    TimeInForce,
)
from mts1b_brokers_core.execution.port import Guarantee, VenueProfile
from mts1b_brokers_core.platform.recorder import read_recording
from mts1b_simulator.reference import PROFILES, ReferenceServer, VenueLimit
from mts1b_simulator.wire import faults


def resting(**more: Any) -> Order:
    return Order.limit("BTC-USD", Side.BUY, "0.5", price="90000", **more)


async def working(broker: ReferenceClient, order: Order) -> Order:
    """Return the order once the venue works it, which some kinds of venue decide later."""
    order = await broker.submit(order)
    async with asyncio.timeout(8):
        while order.status is OrderStatus.PENDING_NEW:
            order = await broker.get_order(order.order_id)
    return order


async def fills_of(broker: ReferenceClient, count: int) -> list[Fill]:
    """Return the next fills, in the order they are delivered."""
    seen: list[Fill] = []
    async with asyncio.timeout(8):
        async for fill in broker.stream_fills():
            seen.append(fill)
            if len(seen) == count:
                break
    return seen


# --- every kind of venue -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_the_adapter_knows_each_kind_of_venue_as_it_is(name: str) -> None:
    ours, theirs = profiles.PROFILES[name], PROFILES[name]
    assert (ours.token.unique, ours.token.dedupes) == (theirs.unique, theirs.dedupes)
    assert ours.token.longest <= theirs.longest_token
    limited = theirs.not_after != "none"
    assert ours.not_after_seconds == (theirs.not_after_seconds if limited else None)
    same = {field.name for field in fields(VenueProfile)} & {field.name for field in fields(theirs)}
    same -= {"token", "not_after_seconds"}
    assert len(same) >= 11
    assert {field: getattr(ours, field) for field in same} == {
        field: getattr(theirs, field) for field in same
    }


async def test_an_order_lives_as_it_should(venue: Any) -> None:
    async with venue.broker() as broker:
        order = await working(broker, resting())
        (held,) = venue.orders()
        assert order.broker_order_id == held.id
        assert [row.order_id for row in await broker.get_open_orders()] == [order.order_id]
        if broker.profile.replace != "none":
            order = await broker.replace(order.order_id, OrderChanges(limit_price=Decimal(91000)))
            assert order.limit_price == Decimal(91000)
            assert venue.orders()[-1].terms.limit_price == Decimal(91000)
        venue.server.venue.fill(order.broker_order_id, "0.2")
        (fill,) = await fills_of(broker, 1)
        assert (fill.order_id, fill.quantity) == (order.order_id, Decimal("0.2"))
        assert await broker.cancel(order.order_id) is True
        order = await broker.wait_for(order, timeout=8)
        assert (order.status, order.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.2"))
        assert await broker.get_open_orders() == []
        assert await broker.cancel(order.order_id) is True


async def test_what_trades_at_once_is_filled_and_held(venue: Any) -> None:
    async with venue.broker() as broker:
        order = await broker.submit(Order.market("AAPL", Side.BUY, "10"))
        order = await broker.wait_for(order, "filled", timeout=8)
        assert order.filled_quantity == 10
        held = {row.symbol: row.quantity for row in await broker.get_positions()}
        assert held["AAPL"] == venue.server.venue.positions()["AAPL"] == 1_000_010


async def test_a_refusal_says_why(venue: Any) -> None:
    async with venue.broker() as broker:
        crossing = Order.limit("BTC-USD", Side.BUY, "0.5", price="110000", post_only=True)
        try:
            order = await broker.wait_for(await broker.submit(crossing), timeout=8)
        except OrderRejected as refused:
            order = refused.order
        assert order is not None
        assert (order.status, order.reason) == (OrderStatus.REJECTED, "post_only_would_take")


async def test_a_lost_reply_places_no_second_order(venue: Any) -> None:
    venue.server.faults.next(faults.DropReply(), "POST /v1/orders")
    async with venue.broker() as broker:
        order = await broker.submit(resting())
        (held,) = venue.orders()
        assert order.broker_order_id == held.id
        assert (await broker.submit(order)).broker_order_id == held.id
        assert len(venue.orders()) == 1


async def test_a_broker_that_comes_back_learns_what_it_missed(venue: Any) -> None:
    async with venue.broker() as broker:
        order = await working(broker, resting(idempotency_key="overnight"))
    venue.server.venue.fill(order.broker_order_id, "0.5")
    async with venue.broker() as broker:
        (fill,) = await fills_of(broker, 1)
        assert (fill.order_id, fill.quantity) == (order.order_id, Decimal("0.5"))
        assert (await broker.wait_for(order, "filled", timeout=8)).filled_quantity == Decimal("0.5")
        assert (await broker.outcome("overnight")).broker_order_id == order.broker_order_id


# --- single properties ---------------------------------------------------------------------------------


async def test_a_stream_that_is_cut_loses_nothing(native: Any) -> None:
    async with native.broker() as broker:
        order = await broker.submit(resting())
        native.server.faults.next(faults.CutSocket(), "executions")
        native.server.venue.fill(order.broker_order_id, "0.1")
        native.server.venue.fill(order.broker_order_id, "0.4")
        assert sum(fill.quantity for fill in await fills_of(broker, 2)) == Decimal("0.5")


async def test_a_lost_frame_is_noticed_by_its_number(native: Any) -> None:
    async with native.broker() as broker:
        order = await broker.submit(resting())
        native.server.faults.next(faults.LoseFrame(), "executions")
        native.server.venue.fill(order.broker_order_id, "0.1")
        native.server.venue.fill(order.broker_order_id, "0.4")
        assert sum(fill.quantity for fill in await fills_of(broker, 2)) == Decimal("0.5")


async def test_a_request_that_never_arrived_is_made_again_where_the_venue_dedupes(native: Any) -> None:
    native.server.faults.next(faults.DropRequest(), "POST /v1/orders")
    async with native.broker() as broker:
        assert broker.guarantee is Guarantee.NATIVE
        order = await broker.submit(resting())
        assert [held.id for held in native.orders()] == [order.broker_order_id]


async def test_without_tokens_an_absence_is_only_probable(start: Any) -> None:
    async with start("no_client_id") as venue:
        venue.server.faults.next(faults.DropRequest(), "POST /v1/orders")
        async with venue.broker(resend_within=0.5) as broker:
            assert broker.guarantee is Guarantee.FINGERPRINT
            with pytest.raises(OrderNotPlaced) as error:
                await broker.submit(resting())
            assert (error.value.certainty, error.value.repeat_is_safe) == ("probable", False)
            assert venue.orders() == []


async def test_a_late_fee_comes_after_its_fill(start: Any) -> None:
    async with start("late_fees_corrections") as venue, venue.broker(reconcile_every=0.3) as broker:
        await broker.submit(Order.market("AAPL", Side.BUY, "10"))
        async with asyncio.timeout(8):
            async for event in broker.stream_events():
                if event.kind == "fee_amended":
                    break
        (fill,) = [row async for row in _first(broker)]
        assert fill.fees is not None


async def _first(broker: ReferenceClient) -> Any:
    async for fill in broker.stream_fills(since=0):
        yield fill
        return


async def test_a_second_login_ends_the_first_where_there_is_one_only(start: Any) -> None:
    async with start("exclusive_login") as venue, venue.broker() as first:
        assert await link_up(first)
        async with venue.broker(state_path=None):
            with pytest.raises(BrokerFailed, match="another login"):
                async for _ in first.stream_fills():
                    pass


async def test_venue_time_and_reads(native: Any) -> None:
    native.server.shift_clock(3.0)
    async with native.broker() as broker:
        skew = (await broker.get_server_time() - broker.clock.now()).total_seconds()
        assert 2.5 < skew < 3.5
        quote = await broker.get_quote("BTC-USD")
        assert (quote.bid, quote.ask) == (Decimal(99_995), Decimal(100_005))
        account = await broker.get_account()
        assert {row.currency for row in account.balances} == {"USD", "BTC", "ETH", "AAPL"}
        assert [row.symbol for row in await broker.get_instruments("btc")] == ["BTC-USD"]
        begin = broker.clock.now()
        orders = [await broker.submit(resting()) for _ in range(3)]
        first = await broker.get_orders(since=begin, limit=2)
        rest = await broker.get_orders(since=begin, limit=2, cursor=first.cursor)
        assert [row.order_id for row in (*first.rows, *rest.rows)] == [order.order_id for order in orders]
        assert rest.cursor is None
        assert (await broker.get_order(orders[0].order_id)).broker_order_id == orders[0].broker_order_id


async def test_a_bust_and_a_correction_keep_the_sum_right(start: Any) -> None:
    async with start("late_fees_corrections") as venue, venue.broker() as broker:
        order = await broker.submit(resting())
        books = venue.server.venue
        first, second = (books.fill(order.broker_order_id, quantity) for quantity in ("0.1", "0.2"))
        books.bust(first.id)
        books.correct(second.id, quantity="0.15")
        fills = await fills_of(broker, 5)
        assert sum(fill.quantity for fill in fills) == Decimal("0.15")
        assert [fill.kind for fill in fills] == ["trade", "trade", "bust", "bust", "trade"]


async def test_an_order_past_its_deadline_is_refused_by_the_venue_and_proven_absent(start: Any) -> None:
    async with start("while_open_deadline") as venue, venue.broker(resend_within=0.5) as broker:
        broker.profile = replace(broker.profile, not_after_seconds=0.2)
        assert broker.guarantee is Guarantee.RESOLVER_PROVEN
        venue.server.faults.when(faults.Delay(0.4), "POST /v1/orders")
        with pytest.raises(OrderNotPlaced) as error:
            await broker.submit(resting())
        assert error.value.certainty == "proven"
        assert venue.orders() == []


@pytest.mark.parametrize("ahead", [-60.0, 60.0])
@pytest.mark.parametrize("profile", ["native_dedupe", "no_client_id", "while_open_deadline"])
async def test_a_lost_reply_is_found_whatever_our_clock_says(start: Any, profile: str, ahead: float) -> None:
    async with start(profile) as venue:
        venue.server.shift_clock(ahead)
        venue.server.faults.next(faults.Garbage(), "POST /v1/orders")
        async with venue.broker(resend_within=2.0) as broker:
            order = await broker.submit(resting())
            assert [held.id for held in venue.orders()] == [order.broker_order_id]


@pytest.mark.parametrize(
    "fault",
    [faults.ErrorAfter(), faults.Truncated(), faults.Status429(0.05), faults.ErrorBefore()],
    ids=lambda fault: fault.kind,
)
async def test_whatever_is_answered_there_is_one_order(native: Any, fault: Any) -> None:
    native.server.faults.next(fault, "POST /v1/orders")
    async with native.broker() as broker:
        order = await broker.submit(resting())
        assert [held.id for held in native.orders()] == [order.broker_order_id]


async def test_a_cancel_whose_reply_is_lost_is_answered_by_reading(native: Any) -> None:
    async with native.broker() as broker:
        order = await broker.submit(resting())
        native.server.faults.next(faults.DropReply(), "DELETE /v1/orders")
        assert await broker.cancel(order.order_id) is True
        with pytest.raises(OrderNotFound):
            await broker.cancel("../accounts")


async def test_a_change_that_is_not_offered_is_refused_with_nothing_sent(native: Any) -> None:
    async with native.broker() as broker:
        order = await broker.submit(resting())
        with pytest.raises(OrderRejected, match="time_in_force"):
            await broker.replace(order.order_id, OrderChanges(time_in_force=TimeInForce.DAY))
        assert native.orders()[0].terms.time_in_force is TimeInForce.GTC


async def test_a_limit_is_kept_by_waiting(native: Any) -> None:
    path = native.journal.with_name("recording.jsonl")
    limited = replace(PROFILES["native_dedupe"], limit=VenueLimit(40, 1.0))
    server = ReferenceServer(limited)
    await server.start()
    native.server, idle = server, native.server
    try:
        async with native.broker(profile="native_dedupe", requests_per_second=40, record=path) as broker:
            await asyncio.gather(*(broker.get_quote("BTC-USD") for _ in range(60)))
        statuses = [frame.head.get("status") for frame in read_recording(path) if frame.kind == "response"]
        assert statuses.count("200") >= 60
        assert "429" not in statuses
    finally:
        await server.stop()
        native.server = idle


async def test_a_wrong_secret_is_said_when_it_is_opened(native: Any) -> None:
    with pytest.raises(AuthenticationError) as error:
        async with native.broker(api_secret="a-secret-of-somebody-else"):
            pass
    assert "somebody-else" not in str(error.value)


async def test_a_recording_holds_the_traffic_and_no_secret(native: Any) -> None:
    path = native.journal.with_name("recording.jsonl")
    async with native.broker(record=path) as broker:
        await broker.submit(resting())
        assert await link_up(broker)
    frames = list(read_recording(path))
    assert {frame.channel for frame in frames} == {"http", "ws"}
    assert any(frame.head.get("method") == "POST" for frame in frames)
    text = path.read_text()
    assert native.server.access.key.secret not in text
    assert native.server.access.key.name not in text


async def link_up(broker: ReferenceClient) -> bool:
    """Wait until the stream has come up."""
    async with asyncio.timeout(8):
        async for event in broker.stream_events():
            if event.kind == "link_up":
                return True
    return False


async def test_an_address_must_be_given() -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        async with ReferenceClient(environment="sandbox", api_key="k", api_secret="s"):
            pass
