"""What a manifest claims, what it leaves out, and what an order is told."""

from __future__ import annotations

import pytest

from mts1b_brokers_core.foundation.capabilities import (
    Instruction,
    Level,
    Operation,
    instructions_of,
    parse_capabilities,
)
from mts1b_brokers_core.foundation.errors import InvalidInput, OrderUnsupported
from mts1b_brokers_core.foundation.instruments import AssetClass
from mts1b_brokers_core.foundation.orders import Leg, Order, Side

HEAD = """
schema = 1
name = "toy"
distribution = "mts1b-broker-toy"
api = "1.0"
environments = ["simulator", "live"]
"""
ROW = """
[[orders]]
level = "native"
side = "venue"
note = ""
asset = ["crypto"]
type = ["limit"]
tif = ["gtc", "ioc"]
instructions = ["post_only"]
"""
OPERATION = """
[operations.quotes]
level = "native"
side = "venue"
note = ""
"""


def limit(**more: object) -> Order:
    return Order.limit("BTC-USD", Side.BUY, "1", price="100", **more)


def test_a_manifest_is_read_whole() -> None:
    made = parse_capabilities(HEAD + ROW + OPERATION)
    assert (made.name, made.environments, made.unknown_keys) == ("toy", ("simulator", "live"), ())
    assert made.claimed == {Operation.QUOTES}
    assert made.orders[0].level is Level.NATIVE


def test_what_a_row_covers_may_be_ordered() -> None:
    made = parse_capabilities(HEAD + ROW)
    assert made.require(limit(), AssetClass.CRYPTO) is made.orders[0]
    assert made.require(limit(post_only=True), AssetClass.CRYPTO)


@pytest.mark.parametrize(
    ("order", "asset", "words"),
    [
        (limit(time_in_force="day"), AssetClass.CRYPTO, "crypto limit day"),
        (limit(reduce_only=True), AssetClass.CRYPTO, "reduce_only"),
        (limit(display_quantity="0.1"), AssetClass.CRYPTO, "display_quantity"),
        (limit(session="pre"), AssetClass.CRYPTO, "session=pre"),
        (limit(position_effect="open"), AssetClass.CRYPTO, "position_effect=open"),
        (limit(), AssetClass.EQUITY, "equity limit gtc"),
        (Order.market("BTC-USD", Side.BUY, "1"), AssetClass.CRYPTO, "market"),
        (
            Order.bracket("BTC-USD", Side.BUY, 1, price=2, take_profit=3, stop_loss=1),
            AssetClass.CRYPTO, "attached=otoco",
        ),
        (
            Order(legs=(Leg(symbol="A", side="buy"),) * 2, quantity=1, order_type="limit", limit_price=1),
            AssetClass.CRYPTO, "2 legs",
        ),
        (
            Order(legs=(Leg(symbol="A", side="buy"),), quantity=1, order_type="limit", limit_price=1),
            AssetClass.CRYPTO, "1 leg",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_what_no_row_covers_is_refused_in_the_manifests_words(
    order: Order, asset: AssetClass, words: str
) -> None:
    with pytest.raises(OrderUnsupported, match="is not offered") as caught:
        parse_capabilities(HEAD + ROW).require(order, asset)
    assert words in caught.value.capability
    assert caught.value.order is order
    assert caught.value.reason == "unsupported"
    offered = "limit gtc, limit ioc" if asset is AssetClass.CRYPTO else "no equity orders"
    assert offered in caught.value.next_step


def test_legs_need_a_row_that_claims_them() -> None:
    made = parse_capabilities(HEAD + ROW + "max_legs = 2\n")
    for count, claimed in ((1, True), (2, True), (3, False)):
        legs = (Leg(symbol="A", side="buy"),) * count
        order = Order(legs=legs, quantity=1, order_type="limit", limit_price=1)
        assert (made.claim_for(order, AssetClass.CRYPTO) is not None) is claimed
    assert made.claim_for(limit(), AssetClass.CRYPTO)


def test_an_unsupported_row_claims_nothing() -> None:
    made = parse_capabilities(
        HEAD + ROW.replace('"native"', '"unsupported"') + OPERATION.replace("native", "unsupported")
    )
    assert made.claim_for(limit(), AssetClass.CRYPTO) is None
    assert made.claimed == frozenset()


def test_unknown_keys_are_told_and_do_no_harm() -> None:
    text = (
        HEAD
        + 'colour = "red"\n'
        + ROW
        + "instuctions = []\n"
        + OPERATION
        + "[operations.telepathy]\nlevel = 'native'\n"
    )
    made = parse_capabilities(text)
    told = " ".join(made.unknown_keys)
    for words in ("colour", "orders[0].instuctions (did you mean instructions?)", "operations.telepathy"):
        assert words in told
    assert len(made.orders) == 1


@pytest.mark.parametrize(
    "text",
    [
        "schema = ",
        HEAD.replace('name = "toy"', 'name = "Toy!"'),
        HEAD.replace('api = "1.0"', 'api = "one"'),
        HEAD.replace("schema = 1\n", ""),
        HEAD + ROW.replace('"limit"', '"limitless"'),
        HEAD + ROW.replace('note = ""\n', ""),
        HEAD + OPERATION.replace('"venue"', '"nobody"'),
        HEAD + "operations = 3\n",
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_capabilities(text)


def test_instructions_are_what_rides_on_an_order() -> None:
    assert instructions_of(limit()) == set()
    assert instructions_of(limit(post_only=True, reduce_only=True)) == {
        Instruction.POST_ONLY,
        Instruction.REDUCE_ONLY,
    }
    assert instructions_of(Order.market("BTC-USD", Side.BUY, quote_quantity="5")) == {
        Instruction.QUOTE_QUANTITY
    }
