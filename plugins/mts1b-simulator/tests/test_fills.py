"""When resting orders fill, and when they do not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mts1b_brokers_core.foundation.orders import Order, OrderStatus, Side
from mts1b_simulator import BarEvent, Refusal

BUY, SELL = Side.BUY, Side.SELL
MINUTE = 60_000_000_000


def test_a_print_at_the_limit_fills_only_what_is_left_after_the_queue(lab: Any) -> None:
    lab.depth([(100, 5)], [(101, 5)])
    order = lab.limit(BUY, 3, 100)
    lab.trade(100, 4)
    assert lab.fills(order) == []
    lab.trade(100, 2)
    assert lab.fills(order) == [("1", "100")]
    lab.trade(100, 10)
    assert lab.fills(order) == [("1", "100"), ("2", "100")]


def test_a_print_through_the_limit_fills_past_any_queue_but_within_its_size(lab: Any) -> None:
    lab.depth([(100, 50)], [(101, 5)])
    order = lab.limit(BUY, 3, 100)
    event = lab.trade("99.99", 2)
    assert lab.fills(order) == [("2", "100")]
    evidence = lab.exchange.fills_of([order.order.venue_order_id])[0].evidence
    assert evidence["market_event"] == event
    assert evidence["model"] == "trade_through"
    assert evidence["rule"] == "print through the limit"
    assert Decimal(evidence["queue_ahead"]) == 50


def test_one_print_is_shared_by_our_orders_best_price_then_first_come(lab: Any) -> None:
    lab.depth([(99, 1)], [(101, 5)])
    low = lab.limit(BUY, 2, "99.50")
    first, second = lab.limit(BUY, 2, 100), lab.limit(BUY, 2, 100)
    lab.trade(99, 3)
    assert [lab.fills(row) for row in (first, second, low)] == [[("2", "100")], [("1", "100")], []]


def test_a_later_order_at_the_price_never_fills_before_an_earlier_one(lab: Any) -> None:
    lab.depth([(100, 10)], [(101, 5)])
    first = lab.limit(BUY, 1, 100)
    lab.depth([(100, 3)], [], delta=True)
    second = lab.limit(BUY, 1, 100)
    lab.trade(100, 8, after=1_000_000)
    assert (lab.fills(first), lab.fills(second)) == ([], [])
    lab.trade(100, 3, after=1_000_000)
    assert (lab.fills(first), lab.fills(second)) == ([("1", "100")], [])


def test_depth_that_left_ahead_of_us_counts_once_it_has_stood_still(lab: Any) -> None:
    lab.depth([(100, 10)], [(101, 5)])
    order = lab.limit(BUY, 1, 100)
    lab.depth([(100, 0)], [], delta=True)
    lab.trade(100, 1, after=10_000_000)
    assert lab.fills(order) == []  # this print may be what took the level away
    lab.trade(100, 1, after=2_000_000_000)
    assert lab.fills(order) == [("1", "100")]


def test_a_queue_the_quote_does_not_show_is_not_assumed_empty(lab: Any) -> None:
    lab.quote(100, 101, 5)
    order = lab.limit(BUY, 1, 99)
    lab.trade(99, 10)
    assert lab.fills(order) == []
    lab.quote(99, 101, 4)  # now the level shows: four stand before us
    lab.trade(99, 4)
    assert lab.fills(order) == []
    lab.trade(99, 1)
    assert lab.fills(order) == [("1", "99")]


def test_inside_the_spread_we_are_first(lab: Any) -> None:
    lab.quote(100, 102, 5)
    order = lab.limit(BUY, 1, 101)
    lab.trade(101, 1)
    assert lab.fills(order) == [("1", "101")]


def test_a_print_off_the_grid_never_gains_us_a_tick(lab: Any) -> None:
    lab.quote(100, 102, 5)
    buy, sell = lab.limit(BUY, 1, 101), lab.limit(SELL, 1, "101.01")
    lab.trade("101.005", 5)
    assert (lab.fills(buy), lab.fills(sell)) == ([], [])
    lab.trade("100.995", 5)
    assert (lab.fills(buy), lab.fills(sell)) == ([("1", "101")], [])


def test_an_opposite_quote_alone_fills_only_under_touch(make_lab: Any) -> None:
    for model, expected in (("trade_through", []), ("touch", [("2", "100")])):
        lab = make_lab(fill_model=model)
        lab.quote(100, 101, 5)
        order = lab.limit(BUY, 3, 100)
        lab.quote(99, 100, 2)
        assert lab.fills(order) == expected


def test_touch_ignores_the_queue_but_uses_no_size_twice(make_lab: Any) -> None:
    lab = make_lab(fill_model="touch")
    lab.depth([(100, 50)], [(101, 5)])
    first, second = lab.limit(BUY, 3, 100), lab.limit(BUY, 3, 100)
    lab.trade(100, 4)
    assert (lab.fills(first), lab.fills(second)) == ([("3", "100")], [("1", "100")])


def test_liquidity_we_took_stays_taken_until_its_level_is_stated_again(lab: Any) -> None:
    lab.depth([(99, 5)], [(100, 2), (101, 5)])
    assert lab.fills(lab.market(BUY, 2)) == [("2", "100")]
    lab.depth([(99, 6)], [], delta=True)
    assert lab.fills(lab.market(BUY, 1)) == [("1", "101")]
    lab.depth([], [(100, 2)], delta=True)
    assert lab.fills(lab.market(BUY, 3)) == [("2", "100"), ("1", "101")]


def test_a_quote_stated_again_is_new_liquidity(lab: Any) -> None:
    lab.quote(99, 100, 1)
    assert lab.market(BUY, 1).accepted
    assert lab.market(BUY, 1).reason is Refusal.NO_LIQUIDITY
    lab.quote(99, 100, 1)
    assert lab.fills(lab.market(BUY, 1)) == [("1", "100")]


def test_stale_quotes_fill_no_market_order_and_say_so(lab: Any) -> None:
    lab.quote(99, 100)
    lab.wait(301 * 1_000_000_000)
    reply = lab.market(BUY, 1)
    assert (reply.accepted, reply.reason) == (False, Refusal.STALE_MARKET_DATA)
    assert "301.0 s old" in reply.words
    resting = lab.limit(BUY, 1, 101)
    assert lab.order(resting).status is OrderStatus.NEW


def test_crossed_quotes_fill_nothing(lab: Any) -> None:
    lab.quote(99, 100)
    resting = lab.limit(BUY, 1, 98)
    lab.quote(103, 100)
    assert lab.market(BUY, 1).reason is Refusal.CROSSED_MARKET_DATA
    assert lab.limit(BUY, 1, 101, time_in_force="ioc").reason is Refusal.CROSSED_MARKET_DATA
    lab.trade(97, 5)
    assert lab.fills(resting) == []


def test_an_opposite_quote_that_is_crossed_touches_nothing(make_lab: Any) -> None:
    lab = make_lab(fill_model="touch")
    lab.quote(99, 104)
    resting = lab.limit(BUY, 1, 102)
    lab.quote(103, 101)
    assert lab.fills(resting) == []
    lab.quote(100, 101)
    assert lab.fills(resting) == [("1", "102")]


@pytest.mark.parametrize(
    ("bid", "ask", "size"),
    [("100.004", "100.001", 5), (103, 100, None), (103, 100, 0)],
    ids=["less than a tick", "unknown sizes", "no sizes"],
)
def test_a_crossed_quote_blocks_however_little_it_shows(lab: Any, bid: Any, ask: Any, size: Any) -> None:
    lab.quote(99, 101)
    lab.quote(bid, ask, size)
    assert lab.market(BUY, 1).reason is Refusal.CROSSED_MARKET_DATA
    lab.quote(100, 100)  # locked quotes are good
    assert lab.fills(lab.market(BUY, 1)) == [("1", "100")]


def test_a_crossed_quote_beside_a_book_blocks_the_book_until_a_good_one(lab: Any) -> None:
    lab.depth([(99, 5)], [(100, 5)])
    lab.quote(103, 100)
    lab.depth([(98, 5)], [], delta=True)
    assert lab.market(BUY, 1).reason is Refusal.CROSSED_MARKET_DATA
    lab.quote(99, 100)
    assert lab.fills(lab.market(BUY, 1)) == [("1", "100")]


def test_a_new_book_makes_up_for_a_crossed_quote_and_a_book_can_be_crossed_by_itself(lab: Any) -> None:
    lab.depth([(99, 5)], [(100, 5)])
    lab.quote(103, 100)
    lab.depth([(99, 5)], [(100, 5)])
    assert lab.fills(lab.market(BUY, 1)) == [("1", "100")]
    lab.depth([(101, 5)], [], delta=True)
    assert lab.market(BUY, 1).reason is Refusal.CROSSED_MARKET_DATA


def test_a_bar_fills_nothing_while_the_quotes_are_crossed(lab: Any) -> None:
    lab.quote(99, 100)
    resting = lab.limit(BUY, 1, 98)
    lab.quote(103, 100)
    lab.bar(90, 99, 1000)
    assert lab.fills(resting) == []
    lab.quote(97, 99)
    lab.bar(90, 99, 1000)
    assert lab.fills(resting) == [("1", "98")]


def test_before_any_data_a_market_order_is_refused(lab: Any) -> None:
    assert lab.market(BUY, 1).reason is Refusal.NO_MARKET_DATA


def test_a_bar_under_way_fills_nothing(lab: Any) -> None:
    lab.quote(99, 101)
    start = lab.now
    lab.wait(1_000_000_000)
    order = lab.limit(BUY, 1, 98)
    lab.bar(90, 99, 1000, start=start)
    assert lab.fills(order) == []
    lab.bar(90, 99, 1000)
    assert lab.fills(order) == [("1", "98")]


def test_a_bar_that_only_touches_fills_nothing_and_one_through_gives_its_share(lab: Any) -> None:
    lab.quote(99, 101)
    order = lab.limit(BUY, 10, 98)
    lab.bar(98, 99, 100)
    assert lab.fills(order) == []
    lab.bar("97.99", 99, 100)  # 2.5 % of 100
    assert lab.fills(order) == [("2.5", "98")]


def test_on_bars_alone_a_market_order_gets_the_worst_price_of_the_next_whole_bar(lab: Any) -> None:
    lab.bar(95, 100, 400)
    lab.wait(1)
    order = lab.market(BUY, 4)
    assert lab.order(order).status is OrderStatus.NEW
    lab.bar(90, 99, 400, start=lab.now - 1)
    assert lab.fills(order) == []
    lab.bar(96, 101, 80)
    lab.bar(96, 102, 400)
    assert lab.fills(order) == [("2", "101"), ("2", "102")]
    assert lab.balance("USD") == (Decimal(100_000) - 2 * 101 - 2 * 102, 0)


def test_a_buy_stop_triggers_on_a_later_print_and_takes_what_is_displayed(lab: Any) -> None:
    lab.quote(99, 100, 1)
    lab.trade(105, 1)
    order = lab.submit(Order.stop("COIN-USD", BUY, "3", stop_price="105"))
    lab.quote(104, 106, 1)
    assert not lab.order(order).triggered
    lab.trade(105, 1)
    assert lab.order(order).triggered
    lab.quote(105, 107, 5)
    assert lab.fills(order) == [("1", "106"), ("2", "107")]
    assert lab.order(order).status is OrderStatus.FILLED


def test_a_sell_stop_waits_out_stale_quotes_instead_of_vanishing(lab: Any) -> None:
    lab.quote(99, 100)
    order = lab.submit(Order.stop("COIN-USD", SELL, "1", stop_price="95"))
    lab.trade(94, 1, after=400 * 1_000_000_000)
    assert (lab.order(order).triggered, lab.fills(order)) == (True, [])
    lab.quote(93, 94)
    assert lab.fills(order) == [("1", "93")]


def test_stops_watch_what_they_were_told_to(lab: Any) -> None:
    lab.quote(99, 101)
    by_quote = lab.submit(Order.stop("COIN-USD", BUY, "1", stop_price="105", trigger_by="bid_ask"))
    by_mid = lab.submit(Order.stop("COIN-USD", BUY, "1", stop_price="104", trigger_by="mid"))
    lab.trade(110, 1)
    assert not lab.order(by_quote).triggered
    assert not lab.order(by_mid).triggered
    lab.quote(103, 105)
    assert lab.order(by_quote).triggered
    assert lab.order(by_mid).triggered
    assert (
        lab.submit(Order.stop("COIN-USD", BUY, "1", stop_price="105", trigger_by="mark")).reason
        is Refusal.UNSUPPORTED
    )


def test_a_stop_limit_rests_at_its_limit_once_triggered(lab: Any) -> None:
    lab.quote(99, 100)
    order = lab.submit(Order.stop_limit("COIN-USD", SELL, "1", stop_price="95", price="97"))
    lab.trade(95, 1)
    assert lab.order(order).triggered
    assert lab.fills(order) == [("1", "99")]  # what is displayed is better than the limit
    again = lab.submit(Order.stop_limit("COIN-USD", SELL, "1", stop_price="95", price="99.50"))
    lab.trade(95, 1)
    assert lab.fills(again) == []
    lab.trade("99.60", 1)
    assert lab.fills(again) == [("1", "99.5")]


@pytest.mark.parametrize("name", ["tuoch", "queue"])
def test_an_unknown_fill_model_is_named_with_those_there_are(make_lab: Any, name: str) -> None:
    with pytest.raises(ValueError, match="touch, trade_through"):
        make_lab(fill_model=name)


def test_daily_bars_fill_the_orders_of_a_regular_session(lab: Any) -> None:
    day = 86_400_000_000_000
    start = lab.now - lab.now % day
    order = lab.limit(BUY, 1, 98, symbol="AAPL")
    low, high = Decimal(90), Decimal(99)
    for number in range(2):
        begin = start + number * day
        lab.exchange.apply(
            BarEvent(begin + day, "AAPL", f"d{number}", begin, high, high, low, low, Decimal(1000))
        )
        assert len(lab.fills(order)) == number  # the day of its acceptance was under way


def test_many_orders_the_quote_does_not_reach_cost_nothing_until_it_does(lab: Any) -> None:
    lab.quote(100, 101, 5)
    orders = [lab.limit(BUY, "0.05", 90 + number / 100) for number in range(200)]
    lab.quote("91.00", 101, 2)
    lab.trade("91.00", 6)
    filled = [row for row in orders if lab.fills(row)]
    assert filled == orders[101:]  # above the best bid nothing stands before them; at it, two do
