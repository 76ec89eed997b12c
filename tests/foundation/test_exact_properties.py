"""Laws of rounding, money and identifiers."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.ids import uuid7
from mts1b_brokers_core.foundation.instruments import Instrument, PriceBand, Rounding, round_to

FIXED = settings(derandomize=True, database=None, max_examples=300, deadline=None)
values = st.decimals("-1e12", "1e12", allow_nan=False, places=10)
increments = st.sampled_from([Decimal(text) for text in ("0.01", "0.03", "0.0000001", "1", "25", "0.125")])
amounts = st.decimals("-1e15", "1e15", allow_nan=False, places=12).map(
    lambda amount: Money(amount=amount, currency="USD")
)


@FIXED
@given(values, increments, st.sampled_from(Rounding))
def test_rounding_gives_a_near_multiple(value: Decimal, step: Decimal, rule: Rounding) -> None:
    rounded = round_to(value, step, rule)
    assert rounded % step == 0
    assert abs(rounded - value) < step
    assert round_to(rounded, step, rule) == rounded


@FIXED
@given(values, increments)
def test_rules_round_the_way_they_are_named(value: Decimal, step: Decimal) -> None:
    by = {rule: round_to(value, step, rule) for rule in Rounding}
    assert by[Rounding.FLOOR] <= value <= by[Rounding.CEILING]
    assert abs(by[Rounding.DOWN]) <= abs(value) <= abs(by[Rounding.UP])
    assert abs(by[Rounding.NEAREST] - value) * 2 <= step


@FIXED
@given(values, increments)
def test_a_multiple_has_no_problem_and_anything_else_names_its_neighbours(
    value: Decimal, step: Decimal
) -> None:
    made = Instrument(
        symbol="X", asset_class="future", quote="USD", price_increment=step, quantity_increment=step,
        negative_prices=True,
    )  # fmt: skip
    problem = made.price_problem(value)
    assert (problem is None) == (value % step == 0)
    if problem is not None:
        assert format(made.round_price(value, Rounding.FLOOR), "f") in problem
    assert made.price_problem(made.round_price(value)) is None


@FIXED
@given(amounts, amounts, amounts)
def test_money_adds_without_loss_in_every_order(one: Money, two: Money, three: Money) -> None:
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert (one + -one).amount == 0


def test_price_bands_hold_from_their_price_on() -> None:
    made = Instrument(
        symbol="X", asset_class="equity", quote="USD", price_increment="0.0001", quantity_increment="1",
        price_bands=(
            PriceBand(from_price="1", increment="0.01"), PriceBand(from_price="500", increment="0.5"),
        ),
    )  # fmt: skip
    assert made.price_problem(Decimal("0.9999")) is None
    assert made.price_problem(Decimal("1.001")) is not None
    assert made.price_problem(Decimal("500.25")) is not None
    assert made.price_problem(Decimal("-1")) == "price -1 must be above zero"


@pytest.mark.parametrize(("quantity", "words"), [("0.5", "below the minimum"), ("11", "above the maximum")])
def test_quantity_limits(quantity: str, words: str) -> None:
    made = Instrument(
        symbol="X", asset_class="equity", quote="USD", price_increment="0.01", quantity_increment="0.5",
        min_quantity="1", max_quantity="10",
    )  # fmt: skip
    assert words in str(made.quantity_problem(Decimal(quantity)))
    assert made.quantity_problem(Decimal("1.5")) is None


def test_identifiers_sort_as_they_were_made_and_follow_the_standard() -> None:
    made = [uuid7() for _ in range(5000)]
    assert all(one < two for one, two in pairwise(made))
    assert {(text[14], len(text)) for text in made} == {("7", 36)}
    assert {text[19] for text in made} <= set("89ab")
    assert uuid7(1_645_557_742_000_000_000)[:18] == "017f22e2-79b0-7000"
