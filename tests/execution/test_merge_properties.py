"""Laws of the pure parts: merging what is observed of an order, and the venue's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import examples

from mts1b_brokers_core.execution.merge import Part, add_fees, apply, unfilled
from mts1b_brokers_core.execution.port import OrderRef, OrderView, TokenRule
from mts1b_brokers_core.execution.tokens import venue_token
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.orders import Fill, FillKind, Order, OrderStatus, Side

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
FIXED = settings(derandomize=True, database=None, max_examples=examples(200), deadline=None)
ORDER = Order.limit("BTC-USD", Side.BUY, "10", price="100", order_id="mine")

quantities = st.integers(1, 10).map(Decimal)
times = st.none() | st.integers(0, 60).map(lambda second: NOON + timedelta(seconds=second))
views = st.builds(
    OrderView,
    ref=st.sampled_from(["V1", "V2"]).map(OrderRef),
    status=st.sampled_from(OrderStatus),
    cumulative_quantity=st.none() | quantities,
    average_price=st.none() | quantities,
    updated=times,
    replaced_by=st.sampled_from([None, None, None, "V2"]),
)
fills = st.builds(
    lambda number, quantity, second: Fill(
        fill_id=f"E{number}",
        order_id="mine",
        broker_order_id="V1",
        symbol="BTC-USD",
        side=Side.BUY,
        quantity=quantity,
        price=100 + number,
        executed_at=NOON + timedelta(seconds=second),
        fees=(Money(amount=number, currency="USD"),),
    ),
    st.integers(0, 10_000),
    quantities,
    st.integers(0, 60),
)


def merged(seen: Sequence[OrderView | Fill]) -> list[Order]:
    """Merge observations as the fill log does and return every state passed through."""
    order, logged, states = ORDER, Part(), [ORDER]
    for item in seen:
        if isinstance(item, Fill):
            logged = logged.plus(Part.of(item))
        order = apply(order, item, logged=logged if isinstance(item, Fill) else None)
        states.append(order)
    return states


def busted(fill: Fill) -> Fill:
    return fill.evolve(fill_id=f"{fill.fill_id}b", kind=FillKind.BUST, quantity=-fill.quantity, fees=None)


@FIXED
@given(st.lists(views | fills, max_size=8))
def test_bindings_are_never_overwritten(seen: list[OrderView | Fill]) -> None:
    states = merged(seen)
    for before, after in pairwise(states):
        assert after.broker_order_ids[: len(before.broker_order_ids)] == before.broker_order_ids
        assert len(set(after.broker_order_ids)) == len(after.broker_order_ids)
        if before.broker_order_id:
            assert after.broker_order_id in (before.broker_order_id, *after.broker_order_ids)


@FIXED
@given(st.lists(views | fills | fills.map(busted), max_size=8))
def test_filled_falls_only_by_a_bust(seen: list[OrderView | Fill]) -> None:
    for before, after, item in zip(merged(seen), merged(seen)[1:], seen, strict=False):
        if after.filled_quantity < before.filled_quantity:
            assert isinstance(item, Fill)
            assert item.kind is FillKind.BUST
        assert after.filled_quantity >= 0


def test_a_count_that_fell_is_believed_where_it_agrees_with_the_log_and_is_not_old() -> None:
    bound = {"broker_order_id": "V1", "broker_order_ids": ("V1",)}
    order = ORDER.evolve(filled_quantity=Decimal(3), updated_at=NOON, **bound)
    logged = Part(Decimal(1), Decimal(100))

    def seen(count: int, seconds: int) -> Decimal:
        updated = NOON + timedelta(seconds=seconds)
        view = OrderView(OrderRef("V1"), OrderStatus.NEW, cumulative_quantity=Decimal(count), updated=updated)
        return apply(order, view, logged=logged).filled_quantity

    assert [seen(1, 1), seen(1, -1), seen(2, 1), seen(4, -1)] == [1, 3, 3, 4]


@FIXED
@given(st.lists(views | fills | fills.map(busted), max_size=8))
def test_an_end_stays(seen: list[OrderView | Fill]) -> None:
    states = merged(seen)
    for before, after in pairwise(states):
        if before.is_final:
            assert after.status is before.status


@FIXED
@given(views, views | fills)
def test_what_a_profile_reopens_may_go_on(first: OrderView, second: OrderView | Fill) -> None:
    order = apply(ORDER, replace(first, status=OrderStatus.EXPIRED, replaced_by=None))
    working = OrderView(OrderRef(order.broker_order_id), OrderStatus.NEW, updated=NOON + timedelta(hours=1))
    assert apply(order, working).status is OrderStatus.EXPIRED
    assert not apply(order, working, reopens=frozenset({OrderStatus.EXPIRED})).is_final


@FIXED
@given(st.lists(views, max_size=6))
def test_seeing_the_same_twice_changes_nothing(seen: list[OrderView]) -> None:
    for view in seen:
        once = apply(merged(seen)[-1], view)
        assert apply(once, view) == once


@FIXED
@given(st.lists(fills, max_size=4, unique_by=lambda fill: fill.fill_id), st.integers(0, 3))
def test_fills_and_the_final_view_converge_in_every_order(seen: list[Fill], spare: int) -> None:
    total = sum((fill.quantity for fill in seen), Decimal(0))
    order = ORDER.model_copy(update={"quantity": total + 1 + spare})
    ended = OrderView(
        OrderRef("V1"), OrderStatus.CANCELED, cumulative_quantity=total, updated=NOON + timedelta(hours=1)
    )
    results = set()
    for sequence in permutations([*seen, ended]):
        now, logged = order, Part()
        for item in sequence:
            logged = logged.plus(Part.of(item)) if isinstance(item, Fill) else logged
            now = apply(now, item, logged=logged)
        results.add((now.status, now.filled_quantity, now.average_price, now.fees, now.broker_order_ids))
    assert len(results) == 1
    (status, filled, *_) = results.pop()
    assert (status, filled) == (OrderStatus.CANCELED, total)


@pytest.mark.parametrize(
    ("now", "seen", "becomes"),
    [
        (OrderStatus.NEW, OrderStatus.PENDING_NEW, OrderStatus.NEW),
        (OrderStatus.UNKNOWN, OrderStatus.PENDING_NEW, OrderStatus.PENDING_NEW),
        (OrderStatus.PENDING_CANCEL, OrderStatus.FILLED, OrderStatus.FILLED),
        (OrderStatus.NEW, OrderStatus.UNKNOWN, OrderStatus.NEW),
        (OrderStatus.CANCELED, OrderStatus.NEW, OrderStatus.CANCELED),
        (OrderStatus.NEW, OrderStatus.PENDING_REPLACE, OrderStatus.PENDING_REPLACE),
        (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.FILLED),
    ],
)
def test_statuses_merge_by_table(now: OrderStatus, seen: OrderStatus, becomes: OrderStatus) -> None:
    order = ORDER.evolve(status=now)
    assert apply(order, OrderView(OrderRef("V1"), seen)).status is becomes


def test_a_view_dated_before_the_trade_it_counts_is_not_stale() -> None:
    five = Decimal(5)
    seen = OrderView(OrderRef("V1"), OrderStatus.PARTIALLY_FILLED, cumulative_quantity=five, updated=NOON)
    traded = Fill(
        fill_id="E1", order_id="o", broker_order_id="V1", symbol="BTC-USD", side=Side.BUY, quantity=3,
        price=100, executed_at=NOON + timedelta(microseconds=1),
    )  # fmt: skip
    order = apply(apply(ORDER, seen), traded, logged=Part(Decimal(3), Decimal(300)))
    again = replace(seen, cumulative_quantity=Decimal(3))
    assert apply(order, again, logged=Part(Decimal(3), Decimal(300))).filled_quantity == 3


def test_an_older_view_does_not_take_a_newer_status_back() -> None:
    newer = OrderView(OrderRef("V1"), OrderStatus.PENDING_CANCEL, updated=NOON)
    older = OrderView(OrderRef("V1"), OrderStatus.NEW, updated=NOON - timedelta(seconds=1))
    order = apply(apply(ORDER, newer), older)
    assert (order.status, order.updated_at) == (OrderStatus.PENDING_CANCEL, NOON)


@FIXED
@given(views)
def test_a_view_before_its_fills_brings_no_quantity_and_no_end(view: OrderView) -> None:
    shown = unfilled(view)
    assert not shown.cumulative_quantity
    assert not shown.status.final or shown.status is OrderStatus.REJECTED
    assert shown.ref == view.ref


def test_fees_add_up_by_currency_and_unknown_is_not_zero() -> None:
    dollars, bitcoins = Money(amount="0.1", currency="USD"), Money(amount="0.002", currency="BTC")
    assert add_fees(None, None) is None
    assert add_fees(None, (dollars,)) == (dollars,)
    assert add_fees((dollars,), (bitcoins, dollars)) == (bitcoins, Money(amount="0.2", currency="USD"))


# --- tokens --------------------------------------------------------------------------------------

keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)
rules = st.builds(
    TokenRule,
    unique=st.just("forever"),
    longest=st.integers(18, 36),
    alphabet=st.sampled_from(["0123456789", "0123456789abcdef", "abcdefghijklmnopqrstuvwxyz"]),
)


@FIXED
@given(keys, keys, rules)
def test_a_token_is_fitting_repeatable_and_scoped(key: str, scope: str, rule: TokenRule) -> None:
    token = venue_token(key, scope, rule)
    assert token is not None
    assert len(token) <= rule.longest
    assert set(token) <= set(rule.alphabet)
    assert venue_token(key, scope, rule) == token
    assert venue_token(key + "x", scope, rule) != token
    assert venue_token(key, scope + "x", rule) != token


def test_tokens_as_uuid_and_none() -> None:
    text = venue_token("k", "s", TokenRule("forever", form="uuid5"))
    assert text is not None
    assert (len(text), text[14]) == (36, "5")
    assert venue_token("k", "s", TokenRule("none")) is None


def test_tokens_never_change_between_releases() -> None:
    assert venue_token("key", "venue\x1flive\x1fA1", TokenRule("forever")) == PINNED


PINNED = "kjbm7bg4yvlndboblx52fmiklh07fgcg4ffg"
