"""Fees, holds and balances, to the last digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mts1b_brokers_core.foundation.instruments import Rounding
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, Side
from mts1b_simulator import EQUITY_FEES, FeeRule, Refusal, VolumeTier

BUY, SELL = Side.BUY, Side.SELL
PERCENT = FeeRule((VolumeTier(Decimal("0.001"), Decimal("0.002")),), rounding=Rounding.UP)


def fees(lab: Any) -> list[str]:
    return [f"{fill.fee.amount} {fill.fee.currency}" for fill in lab.exchange.fills_since()]


def test_makers_and_takers_pay_their_own_rates(make_lab: Any) -> None:
    lab = make_lab(fees=(PERCENT,))
    lab.quote(99, 101)
    lab.market(BUY, 1)
    resting = lab.limit(BUY, 1, 100)
    lab.trade("99.50", 1)
    assert fees(lab) == ["0.202 USD", "0.1 USD"]
    assert lab.order(resting).fees[0].amount == Decimal("0.1")
    assert lab.balance("USD") == (Decimal(100_000) - 101 - 100 - Decimal("0.302"), 0)


def test_a_hold_covers_value_and_dearest_fee_and_is_released_exactly(make_lab: Any) -> None:
    lab = make_lab(fees=(PERCENT,))
    lab.quote(99, 101)
    order = lab.limit(BUY, 2, 100)
    assert lab.balance("USD")[1] == Decimal("200.4")
    lab.trade(98, 1)
    assert lab.balance("USD")[1] == Decimal("100.2")
    lab.exchange.cancel(order.order.venue_order_id)
    assert lab.balance("USD") == (Decimal(100_000) - 100 - Decimal("0.1"), 0)


def test_price_improvement_is_given_back_at_once(make_lab: Any) -> None:
    lab = make_lab(fees=(PERCENT,))
    lab.quote(99, 100, 1)
    lab.limit(BUY, 2, 110)
    assert lab.balance("USD") == (Decimal(100_000) - 100 - Decimal("0.2"), Decimal("110.22"))


def test_a_buy_never_overdraws_and_a_sell_is_never_short(make_lab: Any) -> None:
    lab = make_lab(fees=(PERCENT,), accounts={"a": {"USD": Decimal("100.19"), "COIN": Decimal(1)}})
    lab.quote(100, 100)
    refused = lab.limit(BUY, 1, 100)
    assert refused.reason is Refusal.INSUFFICIENT_FUNDS
    assert "100.2 USD" in refused.words
    assert "100.19 is available" in refused.words
    assert lab.market(BUY, 1).reason is Refusal.INSUFFICIENT_FUNDS
    assert lab.limit(SELL, 1, 101).accepted
    assert lab.limit(SELL, "0.01", 101).reason is Refusal.INSUFFICIENT_FUNDS


def test_a_market_order_must_be_covered_whole_even_where_little_is_displayed(lab: Any) -> None:
    lab.quote(99, 100, 1)
    assert lab.market(BUY, 5000).reason is Refusal.INSUFFICIENT_FUNDS


def test_a_fee_in_base_is_taken_from_what_is_bought(make_lab: Any) -> None:
    rule = FeeRule((VolumeTier(Decimal("0.001"), Decimal("0.001")),), currency="base")
    lab = make_lab(fees=(rule,), accounts={"a": {"USD": Decimal(100)}})
    lab.quote(99, 100)
    lab.market(BUY, 1)
    assert fees(lab) == ["0.001 COIN"]
    assert lab.balance("COIN") == (Decimal("0.999"), 0)
    assert lab.balance("USD") == (0, 0)
    assert lab.market(SELL, "0.99").accepted
    assert lab.balance("COIN")[0] == Decimal("0.009") - Decimal("0.00099")


def test_a_fee_in_a_third_currency_is_held_there_and_converted(make_lab: Any) -> None:
    rule = FeeRule(
        (VolumeTier(Decimal("0.001"), Decimal("0.002")),), currency="FEE", conversion=Decimal("0.5")
    )
    accounts = {"a": {"USD": Decimal(1000), "COIN": Decimal(5), "FEE": Decimal("0.2")}}
    lab = make_lab(fees=(rule,), accounts=accounts)
    lab.quote(99, 101)
    lab.limit(BUY, 1, 100)
    assert lab.balance("FEE") == (Decimal("0.2"), Decimal("0.1"))
    assert lab.limit(BUY, 2, 100).reason is Refusal.INSUFFICIENT_FUNDS
    lab.trade(98, 1)
    assert lab.balance("FEE") == (Decimal("0.15"), 0)
    assert lab.limit(SELL, 2, 10).reason is Refusal.INSUFFICIENT_FUNDS  # at 99 the fee is 0.198


def test_a_rebate_is_paid_out(make_lab: Any) -> None:
    lab = make_lab(fees=(FeeRule((VolumeTier(Decimal("-0.001"), Decimal("0.002")),)),))
    lab.quote(99, 101)
    lab.limit(BUY, 1, 100)
    lab.trade(98, 1)
    assert fees(lab) == ["-0.1 USD"]
    assert lab.balance("USD") == (Decimal(100_000) - 100 + Decimal("0.1"), 0)


def test_per_share_fees_have_their_minimum_once_an_order(make_lab: Any) -> None:
    lab = make_lab(fees=(EQUITY_FEES,))
    lab.quote(99, 100, 150, symbol="AAPL")
    order = lab.limit(BUY, 300, 100, symbol="AAPL")
    assert lab.balance("USD")[1] == 15_000 + Decimal("0.50")
    lab.trade(98, 100, symbol="AAPL")
    lab.trade(98, 50, symbol="AAPL")
    assert fees(lab) == ["1 USD", "0.25 USD", "0.25 USD"]
    assert lab.order(order).fees[0].amount == Decimal("1.5")
    lab.quote(99, 100, 1, symbol="AAPL")
    small = lab.market(SELL, 1, symbol="AAPL")
    assert lab.order(small).fees[0].amount == 1


@pytest.mark.parametrize(
    ("rule", "fee"),
    [
        (Rounding.UP, "0.67"), (Rounding.DOWN, "0.66"), (Rounding.NEAREST, "0.67"),
        (Rounding.FLOOR, "0.66"), (Rounding.CEILING, "0.67"),
    ],
)  # fmt: skip
def test_the_rounding_rule_is_the_one_named(make_lab: Any, rule: Rounding, fee: str) -> None:
    tiers = (VolumeTier(Decimal("0.00666"), Decimal("0.00666")),)
    lab = make_lab(fees=(FeeRule(tiers, rounding=rule, increment=Decimal("0.01")),))
    lab.quote(99, 100)
    lab.market(BUY, 1)
    assert fees(lab) == [f"{fee} USD"]


def test_rounded_fees_of_many_fills_add_up_to_the_rounded_fee_of_the_order(make_lab: Any) -> None:
    tiers = (VolumeTier(Decimal("0.00333"), Decimal("0.00333")),)
    lab = make_lab(fees=(FeeRule(tiers, rounding=Rounding.UP, increment=Decimal("0.01")),))
    lab.quote(99, 101)
    order = lab.limit(BUY, 1, 100)
    for _ in range(10):
        lab.trade(99, "0.10")
    assert sum(fill.fee.amount for fill in lab.exchange.fills_since()) == Decimal("0.34")
    assert lab.order(order).fees[0].amount == Decimal("0.34")


def test_the_tier_follows_the_traded_volume_and_is_fixed_at_entry(make_lab: Any) -> None:
    tiers = (VolumeTier(Decimal(0), Decimal("0.01")), VolumeTier(Decimal(0), Decimal("0.001"), Decimal(150)))
    lab = make_lab(fees=(FeeRule(tiers),))
    for _ in range(3):
        lab.quote(99, 100)
        lab.market(BUY, 1)
    assert fees(lab) == ["1 USD", "1 USD", "0.1 USD"]
    assert lab.exchange.fee_schedule("a").tiers[0].taker_rate == Decimal("0.001")
    lab.wait(31 * 86_400 * 1_000_000_000)
    assert lab.exchange.fee_schedule("a").tiers[0].taker_rate == Decimal("0.01")


def test_a_stop_that_slips_beyond_the_funds_ends_and_says_so(make_lab: Any) -> None:
    lab = make_lab(accounts={"a": {"USD": Decimal(105)}})
    lab.quote(99, 100)
    order = lab.submit(Order.stop("COIN-USD", BUY, "1", stop_price="104"))
    lab.quote(119, 120)
    lab.trade(119, 1)
    assert lab.order(order).reason is Refusal.INSUFFICIENT_FUNDS
    assert lab.balance("USD") == (105, 0)


def test_a_replace_is_reckoned_with_what_the_order_holds_already(make_lab: Any) -> None:
    lab = make_lab(accounts={"a": {"USD": Decimal(100)}})
    order = lab.limit(BUY, 1, 100)
    replace = lambda **changes: lab.exchange.replace(order.order.venue_order_id, OrderChanges(**changes))  # noqa: E731
    assert replace(quantity="2", limit_price="50").accepted
    assert replace(quantity="2", limit_price="50.01").reason is Refusal.INSUFFICIENT_FUNDS
    assert lab.balance("USD") == (100, 100)


def test_a_position_knows_its_average_cost(lab: Any) -> None:
    lab.quote(9, 10, 100, symbol="AAPL")
    lab.market(BUY, 10, symbol="AAPL")
    lab.quote(19, 20, 100, symbol="AAPL")
    lab.market(BUY, 10, symbol="AAPL")
    lab.market(SELL, 5, symbol="AAPL")
    row = next(row for row in lab.exchange.positions("a") if row.symbol == "AAPL")
    assert (row.quantity, row.available, row.average_price) == (15, 15, 15)


def test_tiers_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending volumes from 0"):
        FeeRule((VolumeTier(Decimal(0), Decimal(0), Decimal(5)),))


def test_selling_more_than_is_held_is_refused_in_plain_words(lab: Any) -> None:
    lab.quote(99, 100, 500, symbol="AAPL")
    short = lab.market(SELL, 100, symbol="AAPL")
    assert short.reason is Refusal.INSUFFICIENT_FUNDS
    assert short.words == "selling more than is held is not offered: the order needs 100 AAPL; a holds none"
    lab.limit(SELL, 30, 50)
    assert lab.limit(SELL, 80, 50).words == (
        "selling more than is held is not offered: the order needs 80 COIN; a holds 100, "
        "30 of it for open orders"
    )
    assert "100000 is available" in lab.limit(BUY, 5000, 50).words
