"""What the exchange takes, refuses and ends, and what each time in force means."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from mts1b_brokers_core.foundation.orders import Order, OrderChanges, OrderStatus, Side
from mts1b_simulator import Refusal, ReportKind, SelfTradePolicy, spot

BUY, SELL = Side.BUY, Side.SELL
HOUR = 3_600_000_000_000
TIGHT = spot("TIGHT-USD", "Tight", lot="0.01").model_copy(
    update={"min_quantity": "0.1", "max_quantity": "50", "min_notional": "10", "max_notional": "1000"}
)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (Order.limit("TIGHT-USD", BUY, "1", price="20.005"), Refusal.PRICE_INCREMENT),
        (Order.limit("TIGHT-USD", BUY, "1.001", price="20"), Refusal.QUANTITY_INCREMENT),
        (Order.limit("TIGHT-USD", BUY, "0.09", price="20"), Refusal.MIN_QUANTITY),
        (Order.limit("TIGHT-USD", BUY, "51", price="1"), Refusal.MAX_QUANTITY),
        (Order.limit("TIGHT-USD", BUY, "0.1", price="20"), Refusal.MIN_NOTIONAL),
        (Order.limit("TIGHT-USD", BUY, "50", price="21"), Refusal.MAX_NOTIONAL),
        (Order.limit("TIGHT-USD", BUY, "1", price="-20"), Refusal.PRICE_INCREMENT),
        (Order.limit("TIGTH-USD", BUY, "1", price="20"), Refusal.UNKNOWN_SYMBOL),
        (Order.limit("TIGHT-USD", SELL, "1", price="20"), Refusal.INSUFFICIENT_FUNDS),
        (Order.limit("TIGHT-USD", BUY, "1", price="20", account_id="b"), Refusal.UNKNOWN_ACCOUNT),
        (Order.limit("TIGHT-USD", BUY, "1", price="20", time_in_force="opg"), Refusal.UNSUPPORTED),
        (Order.limit("TIGHT-USD", BUY, "1", price="20", reduce_only=True), Refusal.UNSUPPORTED),
        (Order.limit("TIGHT-USD", BUY, quote_quantity="50", price="20"), Refusal.UNSUPPORTED),
        (Order.bracket("TIGHT-USD", BUY, "1", take_profit="30", stop_loss="10"), Refusal.UNSUPPORTED),
    ],
)  # fmt: skip
def test_an_order_is_refused_as_a_venue_refuses_it(make_lab: Any, order: Order, reason: Refusal) -> None:
    lab = make_lab(instruments=(TIGHT,), accounts={"a": {"USD": Decimal(10_000)}})
    reply = lab.submit(order)
    assert (reply.accepted, reply.reason) == (False, reason)
    assert reply.words
    assert lab.order(reply).status is OrderStatus.REJECTED
    assert lab.balance("USD") == (10_000, 0)


def test_a_closed_market_refuses_regular_orders_and_takes_extended_ones(lab: Any) -> None:
    lab.exchange.advance(lab.now + 7 * HOUR)  # 17:00 New York
    assert lab.limit(BUY, 1, 100, symbol="AAPL").reason is Refusal.MARKET_CLOSED
    assert lab.limit(BUY, 1, 100, symbol="AAPL", session="extended").accepted
    assert lab.limit(BUY, 1, 100, symbol="AAPL", session="post").accepted
    assert lab.limit(BUY, 1, 100, symbol="AAPL", session="pre").reason is Refusal.MARKET_CLOSED


def test_prints_outside_its_session_do_not_fill_an_order(lab: Any) -> None:
    order = lab.limit(BUY, 1, 100, symbol="AAPL")
    lab.exchange.advance(lab.now + 7 * HOUR)
    lab.trade(90, 100, symbol="AAPL")
    assert lab.fills(order) == []


def test_a_day_order_ends_with_the_session_or_at_midnight_utc(lab: Any) -> None:
    share = lab.limit(BUY, 1, 100, symbol="AAPL", time_in_force="day")
    coin = lab.limit(BUY, 1, 100, time_in_force="day")
    lab.exchange.advance(lab.now + 24 * HOUR)
    ends = [datetime.fromtimestamp(lab.order(row).updated_ns / 1e9, UTC) for row in (share, coin)]
    assert [lab.order(row).status for row in (share, coin)] == [OrderStatus.EXPIRED] * 2
    assert ends == [datetime(2026, 1, 5, 21, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)]
    assert lab.balance("USD") == (100_000, 0)


def test_good_till_date_ends_at_its_moment(lab: Any) -> None:
    ends = datetime.fromtimestamp(lab.now / 1e9 + 90, UTC)
    order = lab.limit(BUY, 1, 100, time_in_force="gtd", expires_at=ends)
    lab.wait(89_000_000_000)
    assert lab.order(order).is_open
    lab.wait(1_000_000_000)
    assert lab.order(order).status is OrderStatus.EXPIRED


def test_immediate_or_cancel_takes_what_is_there_and_cancels_the_rest(lab: Any) -> None:
    lab.quote(99, 100, 2)
    order = lab.limit(BUY, 3, 100, time_in_force="ioc")
    assert order.accepted
    assert (lab.order(order).status, lab.fills(order)) == (OrderStatus.CANCELED, [("2", "100")])


def test_fill_or_kill_takes_all_or_nothing(lab: Any) -> None:
    lab.quote(99, 100, 2)
    killed = lab.limit(BUY, 3, 100, time_in_force="fok")
    assert (lab.order(killed).status, lab.fills(killed)) == (OrderStatus.CANCELED, [])
    assert lab.order(killed).reason is Refusal.NOT_FILLABLE_AT_ONCE
    assert lab.fills(lab.limit(BUY, 2, 100, time_in_force="fok")) == [("2", "100")]


def test_a_market_order_walks_the_levels_and_cancels_what_is_not_there(lab: Any) -> None:
    lab.depth([(99, 1)], [(100, 1), (101, 1)])
    order = lab.market(BUY, 3)
    assert lab.fills(order) == [("1", "100"), ("1", "101")]
    assert (lab.order(order).status, lab.order(order).reason) == (OrderStatus.CANCELED, Refusal.NO_LIQUIDITY)


def test_a_market_order_in_quote_currency_spends_at_most_that(lab: Any) -> None:
    lab.depth([(99, 1)], [(100, 1), (101, 5)])
    order = lab.submit(Order.market("COIN-USD", BUY, quote_quantity="250"))
    assert lab.fills(order) == [("1", "100"), ("1.48", "101")]
    assert lab.order(order).status is OrderStatus.FILLED
    poor = lab.submit(Order.market("COIN-USD", SELL, quote_quantity="1.5"))
    assert lab.fills(poor) == [("0.01", "99")]


def test_a_quote_sized_order_that_finds_too_little_is_cancelled_not_filled(lab: Any) -> None:
    lab.quote(99, 100, 1)
    order = lab.submit(Order.market("COIN-USD", BUY, quote_quantity="250"))
    assert (lab.order(order).status, lab.fills(order)) == (OrderStatus.CANCELED, [("1", "100")])
    kinds = [report.kind for report in lab.exchange.drain().reports]
    assert kinds == [ReportKind.NEW, ReportKind.FILL, ReportKind.CANCELED]


def test_post_only_is_refused_where_it_would_take_and_rests_where_not(lab: Any) -> None:
    lab.quote(99, 101)
    assert lab.limit(BUY, 1, 101, post_only=True).reason is Refusal.POST_ONLY_WOULD_TAKE
    assert lab.order(lab.limit(BUY, 1, 100, post_only=True)).status is OrderStatus.NEW


def test_the_same_token_returns_the_first_order_whatever_became_of_it(lab: Any) -> None:
    first = lab.submit(Order.limit("COIN-USD", BUY, "1", price="50"), "t")
    lab.exchange.cancel(first.order.venue_order_id)
    again = lab.submit(Order.limit("COIN-USD", BUY, "2", price="60"), "t")
    assert (again.duplicate, again.accepted) == (True, True)
    assert again.order.venue_order_id == first.order.venue_order_id
    assert again.order.status is OrderStatus.CANCELED
    refused = lab.submit(Order.limit("NONE-USD", BUY, "1", price="1"), "r")
    repeated = lab.submit(Order.limit("NONE-USD", BUY, "1", price="1"), "r")
    assert (repeated.accepted, repeated.duplicate, repeated.reason) == (False, True, refused.reason)


def test_cancel_has_three_answers(lab: Any) -> None:
    order = lab.limit(BUY, 1, 50)
    assert lab.exchange.cancel(order.order.venue_order_id).outcome == "taken"
    assert lab.exchange.cancel(order.order.venue_order_id).outcome == "final"
    assert lab.exchange.cancel("S9-9").outcome == "unknown_order"
    assert lab.balance("USD") == (100_000, 0)


def test_cancel_all_takes_one_symbol_or_everything(lab: Any) -> None:
    coin, share = lab.limit(BUY, 1, 50), lab.limit(BUY, 1, 50, symbol="AAPL")
    assert lab.exchange.cancel_all("AAPL") == (share.order.venue_order_id,)
    assert lab.exchange.cancel_all() == (coin.order.venue_order_id,)
    assert lab.exchange.open_orders() == []


def test_a_smaller_size_keeps_its_place_and_anything_else_loses_it(lab: Any) -> None:
    lab.depth([(99, 1)], [(101, 1)])
    first, second = lab.limit(BUY, 5, 100), lab.limit(BUY, 5, 100)
    assert lab.exchange.replace(first.order.venue_order_id, OrderChanges(quantity="2")).accepted
    lab.trade(100, 1)
    assert (lab.fills(first), lab.fills(second)) == ([("1", "100")], [])
    assert lab.exchange.replace(first.order.venue_order_id, OrderChanges(quantity="3")).accepted
    lab.trade(100, 1)
    assert (lab.fills(first), lab.fills(second)) == ([("1", "100")], [("1", "100")])
    assert lab.balance("USD")[1] == 2 * 100 + 4 * 100


def test_a_new_price_moves_the_order_and_may_take(lab: Any) -> None:
    lab.quote(99, 101, 2)
    order = lab.limit(BUY, 3, 100)
    reply = lab.exchange.replace(order.order.venue_order_id, OrderChanges(limit_price="101"))
    assert reply.accepted
    assert reply.order.terms.limit_price == 101
    assert lab.fills(order) == [("2", "101")]
    assert lab.exchange.order_book("COIN-USD").bids[0] == (Decimal(101), Decimal(1))


def test_a_refused_replace_leaves_the_order_as_it_was(lab: Any) -> None:
    lab.depth([(99, 1)], [(101, 1)])
    order = lab.limit(BUY, 2, 100, post_only=True)
    lab.trade(100, 1)
    before = lab.order(order)
    replace = lambda **changes: lab.exchange.replace(before.venue_order_id, OrderChanges(**changes))  # noqa: E731
    assert replace(quantity="1").reason is Refusal.QUANTITY_BELOW_FILLED
    assert replace(quantity="5000").reason is Refusal.INSUFFICIENT_FUNDS
    assert replace(limit_price="101").reason is Refusal.POST_ONLY_WOULD_TAKE
    assert replace(limit_price="100.001").reason is Refusal.PRICE_INCREMENT
    assert replace(stop_price="90").reason is Refusal.UNSUPPORTED
    assert replace(time_in_force="ioc").reason is Refusal.UNSUPPORTED
    assert lab.order(order) == before
    assert lab.exchange.replace("S9-9", OrderChanges(quantity="1")).reason is Refusal.UNKNOWN_ORDER
    lab.exchange.cancel(before.venue_order_id)
    assert replace(quantity="3").reason is Refusal.ORDER_FINAL


def test_a_stop_can_be_moved_before_it_triggers(lab: Any) -> None:
    lab.quote(99, 100)
    order = lab.submit(Order.stop("COIN-USD", SELL, "1", stop_price="95"))
    assert lab.exchange.replace(order.order.venue_order_id, OrderChanges(stop_price="90")).accepted
    lab.trade(94, 1)
    assert not lab.order(order).triggered
    assert lab.exchange.replace(order.order.venue_order_id, OrderChanges(stop_price="95")).accepted
    lab.trade(94, 1)
    assert [report.kind for report in lab.exchange.drain().reports].count(ReportKind.TRIGGERED) == 1


@pytest.mark.parametrize(
    ("policy", "older", "newer"),
    [
        (SelfTradePolicy.CANCEL_NEWEST, OrderStatus.NEW, OrderStatus.CANCELED),
        (SelfTradePolicy.CANCEL_OLDEST, OrderStatus.CANCELED, OrderStatus.NEW),
        (SelfTradePolicy.CANCEL_BOTH, OrderStatus.CANCELED, OrderStatus.CANCELED),
    ],
)
def test_orders_of_one_account_never_trade_with_each_other(
    make_lab: Any, policy: SelfTradePolicy, older: OrderStatus, newer: OrderStatus
) -> None:
    lab = make_lab(self_trade=policy)
    first, second = lab.limit(SELL, 1, 100), lab.limit(BUY, 1, 100)
    assert (lab.order(first).status, lab.order(second).status) == (older, newer)
    assert lab.exchange.fills_since() == []
    assert sum(row[1] for row in (lab.balance("USD"), lab.balance("COIN"))) in (0, 1, 100)


def test_a_market_order_that_meets_only_our_own_says_so(lab: Any) -> None:
    lab.quote(99, None)
    lab.limit(SELL, 1, 100)
    assert lab.order(lab.market(BUY, 1)).reason is Refusal.SELF_TRADE


def test_two_accounts_trade_with_each_other_by_price_and_time(make_lab: Any) -> None:
    rich = {"USD": Decimal(1000), "COIN": Decimal(10)}
    lab = make_lab(accounts={"a": rich, "b": rich})
    far, near = lab.limit(SELL, 1, 102, account_id="a"), lab.limit(SELL, 1, 101, account_id="a")
    lab.depth([], [(101, 1)])
    taker = lab.market(BUY, 3, account_id="b")
    assert lab.fills(taker) == [("1", "101"), ("1", "101"), ("1", "102")]
    assert [fill.evidence["rule"] for fill in lab.exchange.fills_of([taker.order.venue_order_id])] == [
        "matched a resting order", "took displayed depth", "matched a resting order",
    ]  # fmt: skip
    assert (lab.fills(near), lab.fills(far)) == ([("1", "101")], [("1", "102")])
    assert lab.balance("USD", "a")[0] + lab.balance("USD", "b")[0] == 2000 - 101
    assert lab.balance("COIN", "a")[0] + lab.balance("COIN", "b")[0] == 21


def test_an_order_the_market_moved_through_is_not_shown_crossed(lab: Any) -> None:
    lab.quote(99, 101)
    lab.limit(BUY, 1, 100)
    lab.quote(95, 96)
    book = lab.exchange.order_book("COIN-USD")
    assert book.bids[0].price == 100
    assert book.asks == ()


def test_after_the_recording_a_market_order_is_refused(lab: Any) -> None:
    lab.quote(99, 101)
    lab.exchange.end_recording()
    assert lab.market(BUY, 1).reason is Refusal.RECORDING_ENDED
    assert lab.limit(BUY, 1, 90).accepted


def test_an_instrument_answers_to_its_full_key_as_well(lab: Any) -> None:
    lab.quote(99, 100, symbol="AAPL")
    reply = lab.market(BUY, 1, symbol="AAPL@XNAS")
    assert lab.fills(reply) == [("1", "100")]
    assert [fill.symbol for fill in lab.exchange.fills_since()] == ["AAPL"]


def test_with_several_accounts_one_must_be_named(make_lab: Any) -> None:
    lab = make_lab(accounts={"a": {"USD": Decimal(10)}, "b": {"USD": Decimal(10)}})
    refused = lab.limit(BUY, 1, 5)
    assert (refused.reason, "a, b" in refused.words) == (Refusal.UNKNOWN_ACCOUNT, True)


def test_histories_begin_where_they_are_asked_to(lab: Any) -> None:
    lab.quote(99, 100)
    first = lab.market(BUY, 1)
    lab.quote(99, 100)
    moment = lab.now
    second = lab.market(BUY, 1)
    assert [row.venue_order_id for row in lab.exchange.orders_since(moment)] == [second.order.venue_order_id]
    assert [row.venue_order_id for row in lab.exchange.fills_since(moment)] == [second.order.venue_order_id]
    assert len(lab.exchange.fills_since(first.order.created_ns)) == 2
    assert lab.exchange.orders_since(moment + 1) == []
