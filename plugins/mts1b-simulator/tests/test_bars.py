"""What bars fill: nothing inside the bar that decided it, takers pay as takers, and days have no hours."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mts1b_brokers_core.foundation.orders import Liquidity, Order, OrderChanges, OrderStatus, Side
from mts1b_simulator import AAPL, BarEvent, FeeRule, Refusal, VolumeTier

BUY, SELL = Side.BUY, Side.SELL
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND


def bar(lab: Any, low: Any, high: Any, close: Any, volume: Any = 1000, *, symbol: str = "COIN-USD") -> None:
    """Let the next minute pass as one bar."""
    start = lab.now - lab.now % MINUTE
    rows = [Decimal(str(value)) for value in (close, high, low, close, volume)]
    lab.exchange.apply(BarEvent(start + MINUTE, symbol, lab._id(), start, *rows))


def day(lab: Any, number: int, low: Any, high: Any, *, symbol: str = "AAPL") -> None:
    """Let a day pass as one bar: 0 is Monday 2026-01-05."""
    start = 1_767_571_200 * SECOND + number * DAY
    low, high = Decimal(str(low)), Decimal(str(high))
    lab.exchange.apply(
        BarEvent(start + DAY, symbol, f"d{number}", start, low, high, low, high, Decimal(1000))
    )


def liquidity(lab: Any, reply: Any) -> list[Liquidity]:
    return [fill.liquidity for fill in lab.exchange.fills_of([reply.order.venue_order_id])]


# --- stops -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "stop", "fills"), [(SELL, 95, [("2", "80")]), (BUY, 105, [("2", "96")])], ids=["sell", "buy"]
)
def test_a_stop_never_fills_inside_the_bar_that_triggered_it(
    lab: Any, side: Side, stop: int, fills: list[tuple[str, str]]
) -> None:
    bar(lab, 99, 101, 100)
    order = lab.submit(Order.stop("COIN-USD", side, "2", stop_price=str(stop)))
    bar(lab, 90, 110, 95)
    assert (lab.order(order).triggered, lab.fills(order)) == (True, [])
    bar(lab, 80, 96, 85)
    assert lab.fills(order) == fills


def test_a_stop_triggered_by_a_print_waits_for_a_bar_that_began_after_it(lab: Any) -> None:
    bar(lab, 99, 101, 100)
    order = lab.submit(Order.stop("COIN-USD", SELL, "2", stop_price="95"))
    lab.trade(94, 1)
    bar(lab, 93, 100, 94)
    assert (lab.order(order).triggered, lab.fills(order)) == (True, [])
    bar(lab, 92, 94, 93)
    assert lab.fills(order) == [("2", "92")]


def test_a_stop_that_a_bar_triggers_takes_only_what_is_displayed_at_its_end_or_later(lab: Any) -> None:
    lab.quote(99, 100)
    order = lab.submit(Order.stop("COIN-USD", SELL, "1", stop_price="95"))
    limit = lab.submit(Order.stop_limit("COIN-USD", SELL, "1", stop_price="95", price="90"))
    start = lab.now
    lab.bar(90, 98, 1000, start=start)  # the quote is a minute older than the bar's end
    assert (lab.order(order).triggered, lab.fills(order), lab.fills(limit)) == (True, [], [])
    lab.quote(91, 92)
    assert (lab.fills(order), lab.fills(limit)) == ([("1", "91")], [])
    lab.trade("90.50", 5)
    assert lab.fills(limit) == [("1", "90")]


def test_a_quote_of_the_very_end_of_the_bar_is_taken(lab: Any) -> None:
    lab.quote(99, 100)
    order = lab.submit(Order.stop("COIN-USD", SELL, "1", stop_price="95"))
    start = lab.now
    lab.quote(93, 94, after=MINUTE)
    lab.bar(90, 98, 1000, start=start)
    assert lab.fills(order) == [("1", "93")]


# --- marketable limits -----------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "price"), [(BUY, 130), (BUY, 100), (SELL, 70), (SELL, 100)])
def test_post_only_is_refused_where_the_last_close_says_that_it_would_take(
    lab: Any, side: Side, price: int
) -> None:
    bar(lab, 99, 101, 100)
    assert lab.limit(side, 1, price, post_only=True).reason is Refusal.POST_ONLY_WOULD_TAKE
    kept = lab.limit(side, 1, 99 if side is BUY else 101, post_only=True)
    assert kept.accepted
    changed = lab.exchange.replace(kept.order.venue_order_id, OrderChanges(limit_price=Decimal(price)))
    assert changed.reason is Refusal.POST_ONLY_WOULD_TAKE


@pytest.mark.parametrize(
    ("side", "limit", "low", "high", "price"),
    [
        (BUY, 130, 90, 104, "104"),  # the bar's worst price for a buyer
        (BUY, 102, 90, 104, "102"),  # never above the limit
        (BUY, 102, 102, 102, "102"),
        (BUY, 102, 102, 104, None),  # the market moved away, and only touched
        (SELL, 70, 90, 104, "90"),
        (SELL, 95, 90, 104, "95"),
        (SELL, 95, 80, 94, None),
    ],
)
def test_a_limit_beyond_the_last_close_takes_at_the_worst_price_within_it(
    make_lab: Any, side: Side, limit: int, low: int, high: int, price: str | None
) -> None:
    rule = FeeRule(tiers=(VolumeTier(Decimal(0), Decimal("0.01")),))
    lab = make_lab(fees=(rule,))
    bar(lab, 99, 101, 100)
    order = lab.limit(side, 1, limit)
    assert lab.order(order).status is OrderStatus.NEW
    bar(lab, low, high, high)
    if price is None:
        assert lab.fills(order) == []
        return
    assert (lab.fills(order), liquidity(lab, order)) == ([("1", price)], [Liquidity.TAKER])
    fill = lab.exchange.fills_of([order.order.venue_order_id])[0]
    assert fill.fee_amount == Decimal(price) / 100
    assert lab.balance("USD")[1] == 0


def test_a_limit_that_the_market_left_behind_rests_and_makes(lab: Any) -> None:
    bar(lab, 99, 101, 100)
    order = lab.limit(BUY, 4, 101)
    bar(lab, 100, 105, 105, 80)  # through it, for 2.5 % of 80
    assert (lab.fills(order), liquidity(lab, order)) == ([("2", "101")], [Liquidity.TAKER])
    bar(lab, 95, 104, 100)
    assert lab.fills(order) == [("2", "101"), ("2", "101")]
    assert liquidity(lab, order) == [Liquidity.TAKER, Liquidity.MAKER]


def test_only_a_whole_bar_leaves_a_limit_behind(lab: Any) -> None:
    bar(lab, 99, 101, 100)
    lab.wait(SECOND)
    order = lab.limit(BUY, 1, 101)
    bar(lab, 99, 105, 105)
    assert lab.fills(order) == []
    bar(lab, 100, 106, 106)
    assert (lab.fills(order), liquidity(lab, order)) == ([("1", "101")], [Liquidity.TAKER])


def test_a_limit_still_beyond_the_close_goes_on_taking(lab: Any) -> None:
    bar(lab, 99, 101, 100)
    order = lab.limit(BUY, 4, 120)
    bar(lab, 99, 101, 100, 80)
    bar(lab, 99, 102, 100, 80)
    assert lab.fills(order) == [("2", "101"), ("2", "102")]
    assert liquidity(lab, order) == [Liquidity.TAKER] * 2


def test_a_limit_moved_away_from_the_market_makes(lab: Any) -> None:
    bar(lab, 99, 101, 100)
    order = lab.limit(BUY, 1, 120)
    lab.exchange.replace(order.order.venue_order_id, OrderChanges(limit_price=Decimal(98)))
    bar(lab, 97, 101, 100)
    assert (lab.fills(order), liquidity(lab, order)) == ([("1", "98")], [Liquidity.MAKER])


def test_a_limit_behind_the_close_makes(lab: Any) -> None:
    bar(lab, 99, 101, 100)
    order = lab.limit(BUY, 1, "99.99")
    bar(lab, 90, 101, 100)
    assert (lab.fills(order), liquidity(lab, order)) == ([("1", "99.99")], [Liquidity.MAKER])


# --- days ------------------------------------------------------------------------------------------


def test_an_order_between_two_daily_bars_is_accepted_and_fills_from_the_next(make_lab: Any) -> None:
    lab = make_lab(instruments=(AAPL,))
    day(lab, 0, 90, 100)  # ends in the night, when New York is closed
    lab.wait(50_000_000)
    orders = [
        lab.limit(BUY, 1, 95, symbol="AAPL"),
        lab.limit(BUY, 1, 95, symbol="AAPL", time_in_force="day"),
        lab.market(BUY, 1, symbol="AAPL"),
        lab.submit(Order.stop("AAPL", BUY, "1", stop_price="101")),
    ]
    assert [row.words for row in orders] == [""] * 4
    day(lab, 1, 94, 102)
    assert [lab.fills(row) for row in orders] == [[("1", "95")], [("1", "95")], [("1", "102")], []]
    day(lab, 2, 94, 103)
    assert lab.fills(orders[3]) == [("1", "103")]


def test_a_day_order_of_a_friday_night_lives_through_monday_and_no_longer(make_lab: Any) -> None:
    lab = make_lab(instruments=(AAPL,))
    day(lab, 4, 90, 100)
    lab.wait(50_000_000)
    fills, rests = (lab.limit(BUY, 1, price, symbol="AAPL", time_in_force="day") for price in (95, 80))
    day(lab, 7, 94, 99)
    assert lab.fills(fills) == [("1", "95")]
    lab.wait(1)
    assert lab.order(rests).status is OrderStatus.EXPIRED


def test_an_order_can_be_replaced_between_two_daily_bars(make_lab: Any) -> None:
    lab = make_lab(instruments=(AAPL,))
    day(lab, 0, 90, 100)
    order = lab.limit(BUY, 1, 80, symbol="AAPL")
    assert lab.exchange.replace(order.order.venue_order_id, OrderChanges(limit_price=Decimal(95))).accepted
    day(lab, 1, 94, 102)
    assert lab.fills(order) == [("1", "95")]


def test_an_order_of_a_day_under_way_waits_for_the_next(make_lab: Any) -> None:
    lab = make_lab(instruments=(AAPL,))
    day(lab, 0, 90, 100)
    lab.wait(16 * 3600 * SECOND)  # Tuesday 16:00 UTC: New York has been open since 14:30
    order = lab.limit(BUY, 1, 95, symbol="AAPL")
    assert order.accepted
    day(lab, 1, 90, 100)
    assert lab.fills(order) == []
    day(lab, 2, 90, 100)
    assert lab.fills(order) == [("1", "95")]


def test_finer_data_bring_the_hours_back(make_lab: Any) -> None:
    lab = make_lab(instruments=(AAPL,))
    day(lab, 0, 90, 100)
    bar(lab, 90, 100, 100, symbol="AAPL")
    assert lab.limit(BUY, 1, 95, symbol="AAPL").reason is Refusal.MARKET_CLOSED
    lab = make_lab(instruments=(AAPL,))
    day(lab, 0, 90, 100)
    lab.quote(99, 100, symbol="AAPL")
    assert lab.limit(BUY, 1, 95, symbol="AAPL").reason is Refusal.MARKET_CLOSED
