"""What the venue shows, said in our nouns; and how an order's terms meet an instrument: mostly pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from scripted import BTC, Row, Venue, buy, settle

from mts1b_brokers_core.execution.instruments import fit, fit_tree
from mts1b_brokers_core.execution.journal import Record, State
from mts1b_brokers_core.execution.lookups import foreign_order
from mts1b_brokers_core.execution.named import fields_of, identified
from mts1b_brokers_core.execution.port import Execution, OrderRef, OrderView, Terms, TokenRule
from mts1b_brokers_core.execution.tokens import venue_token
from mts1b_brokers_core.foundation.errors import BrokerError, InvalidInput, OrderDenied, OrderNotFound
from mts1b_brokers_core.foundation.orders import FillKind, Liquidity, Order, OrderStatus, OrderType, Side
from mts1b_brokers_core.platform.clock import SteppedClock

SEEN = Execution(
    "E1", OrderRef("V1", "t1"), "BTC-USD", Side.BUY, Decimal(1), Decimal(100), Venue.opened, leg=2,
    liquidity=Liquidity.MAKER, source="push", evidence={"raw": "1"},
)  # fmt: skip


# --- look-ups ------------------------------------------------------------------------------------


async def test_an_order_is_read_by_our_id_and_by_the_venues(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "0.4", push=False)
        for name in (placed.order_id, "V1"):
            found = await broker.lookups.order(name)
            assert (found.order_id, found.broker_order_id) == (placed.order_id, "V1")
        assert venue.calls.count("read") == 2
        by_key = await broker.lookups.order_by_key(placed.idempotency_key)
        assert by_key.order_id == placed.order_id
        record = await broker.lookups.record("V1")
        assert record is not None
        assert record.key == placed.idempotency_key


async def test_what_is_settled_or_has_no_venue_id_is_told_without_asking(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "1")
        await settle()
        reads = venue.calls.count("read")
        assert (await broker.lookups.order(placed.order_id)).settled
        assert venue.calls.count("read") == reads


async def test_what_nobody_knows_is_not_found(venue: Venue) -> None:
    async with venue.client() as broker:
        with pytest.raises(OrderNotFound, match="neither the journal nor the venue knows an order V7"):
            await broker.lookups.order("V7")
        with pytest.raises(OrderNotFound, match="the key 'k7' was never used here"):
            await broker.lookups.order_by_key("k7")
        assert await broker.lookups.record("V7") is None


async def test_somebody_elses_order_is_told_under_the_venues_id(venue: Venue) -> None:
    venue.book["X1"] = Row("X1", "theirs", buy("10"))
    async with venue.client() as broker:
        found = await broker.lookups.order("X1")
        assert (found.order_id, found.broker_order_id, found.account_id) == ("X1", "X1", "A1")
        assert [found.broker, found.status, found.quantity] == ["scripted", OrderStatus.NEW, 10]


def test_a_foreign_order_has_what_the_venue_shows_of_it() -> None:
    terms = Terms(
        symbol="BTC-USD",
        side=Side.SELL,
        quantity=Decimal(3),
        order_type=OrderType.LIMIT,
        limit_price=Decimal(90),
    )
    view = OrderView(
        OrderRef("X1", "t9"), OrderStatus.PARTIALLY_FILLED, "PART", terms, cumulative_quantity=Decimal(1),
        average_price=Decimal(91), created=Venue.opened, updated=Venue.opened + timedelta(1), account_id="A2",
    )  # fmt: skip
    order = foreign_order(view, "fund-a", "A1")
    assert (order.order_id, order.broker_order_id, order.account_id) == ("X1", "X1", "A2")
    assert (order.broker, order.symbol, order.side) == ("fund-a", "BTC-USD", Side.SELL)
    assert [order.quantity, order.limit_price, order.filled_quantity, order.average_price] == [3, 90, 1, 91]
    assert (order.status, order.raw_status) == (OrderStatus.PARTIALLY_FILLED, "PART")
    assert (order.created_at, order.updated_at) == (view.created, view.updated)
    bare = foreign_order(replace(view, ref=OrderRef(None, "t9"), raw_status="", account_id=None), "b", "A1")
    assert (bare.order_id, bare.broker_order_id, bare.raw_status, bare.account_id) == ("t9", None, None, "A1")
    assert foreign_order(replace(view, cumulative_quantity=None), "b", "A1").filled_quantity == 0


async def test_executions_are_told_as_logged_or_as_they_will_be(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "0.4")
        await settle()
        logged, new = venue.fills[0], replace(venue.fills[0], fill_id="E9", account_id="A1")
        foreign = replace(new, fill_id="E8", ref=OrderRef("X1"))
        first, second, third = await broker.lookups.fills_of([logged, new, foreign])
        assert (first.seq, second.seq, third.seq) == (1, 0, 0)
        assert (second.order_id, second.broker, second.account_id) == (placed.order_id, "scripted", "A1")
        assert third.order_id == "X1"


# --- executions under the id they are known by ---------------------------------------------------


def test_what_has_its_own_id_stays_as_it_is() -> None:
    assert identified(SEEN, "native", Counter()) is SEEN


def test_what_has_none_is_known_by_what_it_says() -> None:
    bare, alike = replace(SEEN, fill_id=None), Counter[str]()
    first, second = identified(bare, "content", alike), identified(bare, "content", alike)
    assert first.fill_id == "945279ef4f931bc1e0ff4bae-1"
    assert second.fill_id == "945279ef4f931bc1e0ff4bae-2"
    assert first.derived
    assert identified(bare, "content", Counter()).fill_id == first.fill_id
    differing = [
        replace(bare, ref=OrderRef("V2")), replace(bare, symbol="ETH-USD"), replace(bare, side=Side.SELL),
        replace(bare, quantity=Decimal(2)), replace(bare, price=Decimal(101)),
        replace(bare, executed_at=Venue.opened + timedelta(microseconds=1)),
    ]  # fmt: skip
    ids = {identified(seen, "content", Counter()).fill_id for seen in differing}
    assert len(ids | {first.fill_id}) == 7
    same = replace(bare, ref=OrderRef("V1"), quantity=Decimal("1.00"), price=Decimal("1E+2"))
    assert identified(same, "content", Counter()).fill_id == first.fill_id
    assert identified(SEEN, "content", Counter()) is SEEN
    with pytest.raises(BrokerError, match="an execution without an id"):
        identified(bare, "native", Counter())


def test_a_composite_id_is_the_orders_and_its_own() -> None:
    made = identified(SEEN, "composite", Counter())
    assert (made.fill_id, made.corrects) == ("V1:E1", None)
    assert identified(made, "composite", Counter()) is made
    by_token = identified(replace(SEEN, ref=OrderRef(None, "t1"), corrects="E0"), "composite", Counter())
    assert (by_token.fill_id, by_token.corrects) == ("t1:E1", "t1:E0")


def test_a_bust_without_an_id_of_its_own_has_that_of_what_it_takes_back() -> None:
    bust = replace(SEEN, kind=FillKind.BUST, corrects="E1")
    assert identified(bust, "native", Counter()).fill_id == "E1:bust"
    assert identified(replace(bust, fill_id=None), "native", Counter()).fill_id == "E1:bust"
    assert identified(replace(bust, fill_id=None), "content", Counter()).fill_id == "E1:bust"
    own = replace(bust, fill_id="B1")
    assert identified(own, "native", Counter()) is own
    corrected = replace(SEEN, corrects="E1")  # a trade keeps its id
    assert identified(corrected, "native", Counter()) is corrected


def test_an_execution_has_all_its_fields_as_a_fill() -> None:
    order = buy().evolve(broker_order_id="V1", broker_order_ids=("V1",))
    record = Record("k1", "m", "A1", State.CONFIRMED, order)
    fields = fields_of(SEEN, record, "A1")
    assert fields == {
        "fill_id": "E1", "kind": FillKind.TRADE, "corrects": None, "account_id": "A1",
        "order_id": order.order_id,
        "broker_order_id": "V1", "symbol": "BTC-USD", "leg": 2, "side": Side.BUY, "quantity": Decimal(1),
        "price": Decimal(100), "fees": None, "fee_status": SEEN.fee_status, "account_fee": None,
        "liquidity": Liquidity.MAKER, "executed_at": Venue.opened, "source": "push", "derived": False,
        "evidence": {"raw": "1"},
    }  # fmt: skip
    by_token = fields_of(replace(SEEN, ref=OrderRef(None, "t1")), record, "A1")
    assert by_token["broker_order_id"] == "V1"
    foreign = fields_of(SEEN, None, "A1")
    assert (foreign["order_id"], foreign["broker_order_id"]) == ("V1", "V1")
    nameless = fields_of(replace(SEEN, ref=OrderRef(None, "t1")), None, "A1")
    assert (nameless["order_id"], nameless["broker_order_id"]) == ("t1", None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": Decimal("NaN")},
        {"price": Decimal("Infinity")},
        {"executed_at": Venue.opened.replace(tzinfo=None)},
        {"symbol": ""},
        {"price": 100.5},
        {"quantity": 0.5},
    ],
    ids=str,
)
def test_what_no_fill_can_hold_is_refused(wrong: dict[str, object]) -> None:
    record = Record("k1", "m", "A1", State.CONFIRMED, buy())
    with pytest.raises(InvalidInput):
        fields_of(replace(SEEN, **wrong), record, "A1")  # type: ignore[arg-type]


def test_whole_numbers_become_exact_ones() -> None:
    record = Record("k1", "m", "A1", State.CONFIRMED, buy())
    for name in ("quantity", "price"):
        fields = fields_of(replace(SEEN, **{name: 7}), record, "A1")  # type: ignore[arg-type]
        assert type(fields[name]) is Decimal
        assert fields[name] == 7


# --- terms that an instrument measures -----------------------------------------------------------


def sell(quantity: str = "1", price: str = "100", **more: object) -> Order:
    return Order.limit("BTC-USD", Side.SELL, quantity, price=price, **more)


def test_what_fits_is_sent_as_it_is() -> None:
    order = buy()
    assert fit(order, BTC) is order
    assert fit_tree(order, BTC) is order


def test_an_adjustment_is_passive_and_says_what_and_why() -> None:
    sent = fit(buy("1.00019", "100.129", allow_adjust={"price", "quantity"}), BTC)
    assert [sent.limit_price, sent.quantity] == [Decimal("100.12"), Decimal("1.0001")]
    price, quantity = sent.adjustments
    assert (price.field, price.asked, price.sent) == ("limit_price", "100.129", "100.12")
    assert (quantity.field, quantity.asked, quantity.sent) == ("quantity", "1.00019", "1.0001")
    assert price.reason.startswith("price 100.129 is not a multiple of the increment 0.01")
    dearer = fit(sell(price="100.121", allow_adjust={"price"}), BTC)
    assert dearer.limit_price == Decimal("100.13")


@pytest.mark.parametrize(
    ("order", "kind", "words", "cure"),
    [
        (buy("1", "100.001"), "price", "BTC-USD: price 100.001 is not a multiple",
         "change the price, or allow it: allow_adjust={'price'}"),
        (buy("1.00001"), "quantity", "BTC-USD: quantity 1.00001 is not a multiple",
         "change the quantity, or allow it: allow_adjust={'quantity'}"),
        (buy("1001", allow_adjust={"quantity"}), "quantity", "BTC-USD: quantity 1001 is above the maximum",
         "change the quantity"),
        (buy("0.00019", "1", allow_adjust={"quantity"}), "notional", "is below the minimum 1.",
         "change the quantity or the price"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_denied_with_its_cure(order: Order, kind: str, words: str, cure: str) -> None:
    with pytest.raises(OrderDenied) as caught:
        fit(order, BTC.model_copy(update={"min_notional": Decimal(1)}))
    assert words in caught.value.message
    assert (caught.value.reason, caught.value.next_step, caught.value.order) == (kind, cure, order)


def test_value_is_measured_where_it_is_known() -> None:
    dear = BTC.model_copy(update={"min_notional": Decimal(100), "multiplier": Decimal(2)})
    fit(buy("0.5", "100"), dear)
    fit(Order.market("BTC-USD", Side.BUY, "0.001"), dear)  # of unknown value
    fit(Order.market("BTC-USD", Side.BUY, quote_quantity=100), dear)
    stop = {"symbol": "BTC-USD", "side": Side.BUY, "order_type": "stop", "stop_price": 100}
    fit(Order(quantity="0.5", **stop), dear)
    low = (
        buy("0.49", "100"),
        Order.market("BTC-USD", Side.BUY, quote_quantity=99),
        Order(quantity="0.4", **stop),
    )
    for order in low:
        with pytest.raises(OrderDenied, match="below the minimum"):
            fit(order, dear)


def test_what_is_attached_is_fitted_as_well() -> None:
    legs = {"take_profit": "110.009", "stop_loss": "90.001"}
    bracket = Order.bracket("BTC-USD", Side.BUY, "1", price="100.009", **legs)
    allowed = bracket.model_copy(
        update={
            "allow_adjust": frozenset({"price"}),
            "attached": tuple(
                child.model_copy(update={"allow_adjust": frozenset({"price"})}) for child in bracket.attached
            ),
        }
    )
    sent = fit_tree(allowed, BTC)
    assert sent.limit_price == Decimal("100.00")
    prices = {child.limit_price or child.stop_price for child in sent.attached}
    assert prices == {Decimal("110.01"), Decimal("90.01")}


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "token"),
    [
        (TokenRule("forever", longest=8), "kjbm7bg4"),
        (TokenRule("forever", longest=100), "kjbm7bg4yvlndboblx52fmiklh07fgcg4ffg"),
        (TokenRule("no", form="uuid5"), "f425a4ab-8203-54fe-a46e-2b25962cc350"),
    ],
)
def test_a_token_is_as_long_as_the_venue_takes_and_no_longer_than_needed(rule: TokenRule, token: str) -> None:
    assert venue_token("key", "venue\x1flive\x1fA1", rule) == token
