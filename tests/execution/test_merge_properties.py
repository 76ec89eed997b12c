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

from mts1b_brokers_core.execution.merge import (
    Logged,
    Part,
    add_fees,
    apply,
    less_fees,
    mean,
    unfilled,
    with_fills,
)
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


# --- totals by venue id --------------------------------------------------------------------------


def traded(name: str, quantity: int, price: int = 100, *, by: str | None = "V1", second: int = 0) -> Fill:
    return Fill(
        fill_id=name, order_id="mine", broker_order_id=by, symbol="BTC-USD", side=Side.BUY,
        quantity=quantity, price=price, executed_at=NOON + timedelta(seconds=second),
    )  # fmt: skip


def test_what_is_logged_is_counted_by_venue_id_and_survives_as_text() -> None:
    two, three = Part(Decimal(2), Decimal(200)), Part(Decimal(3), Decimal(330))
    logged = Logged().plus("V1", two).plus(None, three).plus("V1", three)
    assert logged.parts == {"V1": Part(Decimal(5), Decimal(530)), "": three}
    assert [logged.of("V1").quantity, logged.of(None), logged.of("V2")] == [5, three, Part()]
    assert [logged.total, logged.quantity] == [Part(Decimal(8), Decimal(860)), 8]
    assert Logged().plus("V1", two).total == two
    assert Logged().total == Part()
    assert Logged.parse(logged.text()) == logged
    assert Logged.parse(Logged().text()) == Logged()


def test_fills_count_as_one_by_one() -> None:
    rows = [
        traded("E1", 2),
        traded("E2", 3, 110, by=None),
        traded("E3", 4, 120),
        traded("E4", 1, 90, by="V2"),
    ]
    first = Logged().plus("V1", Part(Decimal(7), Decimal(70))).plus("V9", Part(Decimal(1), Decimal(1)))
    one_by_one = first
    for fill in rows:
        one_by_one = one_by_one.plus(fill.broker_order_id, Part.of(fill))
    assert first.with_fills(rows) == one_by_one
    assert one_by_one.of("V1") == Part(Decimal(13), Decimal(750))


def test_what_came_before_any_id_goes_to_the_first_one() -> None:
    two, three = Part(Decimal(2), Decimal(200)), Part(Decimal(3), Decimal(330))
    early = Logged({"": two, "V2": three})
    assert early.under("V1").parts == {"V1": two, "V2": three}
    assert early.under("V2").parts == {"V2": two.plus(three)}
    named = Logged({"V2": three})
    assert named.under("V1") is named


def test_an_average_is_rounded_to_the_even_neighbour_at_eighteen_places() -> None:
    assert mean(Part(Decimal(3), Decimal(100))) == Decimal("33.333333333333333333")
    assert mean(Part(Decimal(2), Decimal("0.000000000000000001"))) == 0
    assert mean(Part(Decimal(2), Decimal("0.000000000000000003"))) == Decimal("2E-18")
    assert str(mean(Part(Decimal(4), Decimal("400.00")))) == "1E+2"
    assert mean(Part(Decimal(0), Decimal(5))) is None
    assert mean(Part(Decimal(3), Decimal(10) ** 15)) == Decimal("333333333333333.333333333333333333")
    assert mean(Part(Decimal(1), Decimal("123456789012345.123456789012345678"))) == Decimal(
        "123456789012345.123456789012345678"
    )


def test_an_observed_fill_counts_what_is_logged_with_it() -> None:
    order = apply(BOUND, traded("E1", 2), logged=Part(Decimal(5), Decimal(500)))
    assert [order.filled_quantity, order.average_price] == [5, 100]
    assert apply(BOUND, traded("E1", 2)).filled_quantity == 0


# --- one observation -----------------------------------------------------------------------------

BOUND = ORDER.evolve(broker_order_id="V1", broker_order_ids=("V1",), status=OrderStatus.NEW)
V1 = OrderRef("V1")


def test_the_venues_words_come_with_its_status() -> None:
    rejected = OrderView(V1, OrderStatus.REJECTED, "REFUSED", reason="too_small")
    left = apply(BOUND.evolve(raw_status="OPEN"), rejected)
    assert (left.status, left.raw_status, left.reason) == ("rejected", "REFUSED", "too_small")
    wordless = apply(left.evolve(status=OrderStatus.NEW, reason="odd"), OrderView(V1, OrderStatus.CANCELED))
    assert (wordless.raw_status, wordless.reason) == (None, "odd")
    same = OrderView(V1, OrderStatus.NEW, "LIVE")
    assert apply(BOUND, same).raw_status == "LIVE"
    assert apply(BOUND.evolve(raw_status="OPEN"), same).raw_status == "OPEN"
    other = OrderView(V1, OrderStatus.UNKNOWN, "ODD")
    assert apply(BOUND, other).raw_status is None
    assert apply(BOUND, OrderView(V1, OrderStatus.NEW)) is BOUND


def test_an_average_is_the_venues_where_its_count_holds() -> None:
    view = OrderView(
        V1, OrderStatus.PARTIALLY_FILLED, cumulative_quantity=Decimal(2), average_price=Decimal(99)
    )
    left = apply(BOUND, view)
    assert [left.filled_quantity, left.average_price, left.status] == [2, 99, "partially_filled"]
    assert apply(BOUND.evolve(filled_quantity=Decimal(3)), view).average_price is None
    nothing = replace(view, status=OrderStatus.NEW, cumulative_quantity=Decimal(0))
    assert apply(BOUND, nothing).average_price is None
    assert apply(BOUND, nothing).filled_quantity == 0


def test_a_view_without_a_time_is_not_stale_and_one_of_the_same_time_neither() -> None:
    now = BOUND.evolve(updated_at=NOON)
    for updated, becomes in (
        (None, "pending_cancel"),
        (NOON, "pending_cancel"),
        (NOON - timedelta(1), "new"),
    ):
        view = OrderView(V1, OrderStatus.PENDING_CANCEL, updated=updated)
        assert apply(now, view).status == becomes
        assert apply(now, view).updated_at == NOON
    assert apply(BOUND, OrderView(V1, OrderStatus.NEW, updated=NOON)).updated_at == NOON
    ended = OrderView(V1, OrderStatus.CANCELED, updated=NOON - timedelta(1))
    assert apply(now, ended).status is OrderStatus.CANCELED


def test_an_id_that_replaces_another_is_the_current_one_and_the_old_one_counts_no_more() -> None:
    followed = apply(BOUND, OrderView(V1, OrderStatus.CANCELED, "REPLACED", replaced_by="V2"))
    assert (followed.broker_order_id, followed.broker_order_ids) == ("V2", ("V1", "V2"))
    assert (followed.status, followed.raw_status) == ("new", None)
    old = OrderView(V1, OrderStatus.CANCELED, cumulative_quantity=Decimal(5), updated=NOON)
    assert apply(followed, old) is followed
    again = apply(followed, replace(old, replaced_by="V2"))
    assert (again.broker_order_id, again.broker_order_ids) == ("V2", ("V1", "V2"))
    new = apply(followed, OrderView(OrderRef("V2"), OrderStatus.PENDING_CANCEL))
    assert (new.broker_order_id, new.status) == ("V2", "pending_cancel")
    half = ORDER.evolve(broker_order_id="V1")  # bound by its current id alone
    assert apply(half, OrderView(OrderRef("V3"), OrderStatus.NEW)).broker_order_ids == ("V1", "V3")
    assert apply(half, OrderView(OrderRef("V3"), OrderStatus.NEW)).broker_order_id == "V1"
    assert apply(ORDER, OrderView(OrderRef(), OrderStatus.NEW)).broker_order_ids == ()
    assert apply(ORDER, OrderView(V1, OrderStatus.NEW)).broker_order_id == "V1"


@pytest.mark.parametrize(
    ("was", "filled", "seen", "becomes"),
    [
        (None, 0, OrderStatus.NEW, OrderStatus.NEW),
        (None, 0, OrderStatus.UNKNOWN, OrderStatus.PENDING_NEW),
        (OrderStatus.NEW, 3, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED),
        (OrderStatus.NEW, 0, OrderStatus.PARTIALLY_FILLED, OrderStatus.NEW),
        (OrderStatus.PENDING_CANCEL, 0, OrderStatus.NEW, OrderStatus.NEW),
    ],
)
def test_a_working_status_is_told_by_what_is_filled(
    was: OrderStatus | None, filled: int, seen: OrderStatus, becomes: OrderStatus
) -> None:
    order = BOUND.evolve(status=was, filled_quantity=Decimal(filled))
    assert apply(order, OrderView(V1, seen)).status is becomes


def test_trades_fill_an_order_and_a_bust_takes_back() -> None:
    fee = (Money(amount="0.1", currency="USD"),)
    some = [traded("E1", 2, second=5).evolve(fees=fee), traded("E2", 1, 130, second=9).evolve(fees=fee)]
    order = with_fills(BOUND.evolve(raw_status="OPEN"), some, Part(Decimal(3), Decimal(330)))
    assert [order.status, order.raw_status, order.filled_quantity] == ["partially_filled", None, 3]
    assert [order.average_price, order.fees] == [110, (Money(amount="0.2", currency="USD"),)]
    assert order.updated_at == NOON + timedelta(seconds=5)  # of the first alone
    whole = with_fills(order, [traded("E3", 7, second=10)], Part(Decimal(10), Decimal(1030)))
    assert [whole.status, whole.average_price, whole.fees] == ["filled", 103, order.fees]
    back = busted(traded("E3", 7, second=10))
    left = with_fills(whole, [back], Part(Decimal(3), Decimal(330)))
    assert [left.status, left.filled_quantity, left.average_price] == ["filled", 3, 110]
    assert left.updated_at == NOON + timedelta(seconds=10)
    assert with_fills(left, [back.evolve(executed_at=NOON)], Part()).updated_at == left.updated_at
    assert with_fills(left, [back], Part()).filled_quantity == 0
    working = BOUND.evolve(filled_quantity=Decimal(7))
    assert with_fills(working, [back], Part()).status is OrderStatus.NEW
    full = with_fills(BOUND.evolve(status=OrderStatus.CANCELED), [traded("E1", 10)], Part(Decimal(10)))
    assert full.status is OrderStatus.CANCELED


def test_a_trade_that_the_venue_counts_already_changes_no_quantity_and_no_average() -> None:
    ahead = BOUND.evolve(filled_quantity=Decimal(5), average_price=Decimal(99), raw_status="OPEN")
    order = with_fills(ahead, [traded("E1", 2)], Part(Decimal(2), Decimal(200)))
    assert [order.filled_quantity, order.average_price, order.status] == [5, 99, "partially_filled"]


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (None, "partially_filled"),
        (OrderStatus.PENDING_NEW, "partially_filled"),
        (OrderStatus.UNKNOWN, "partially_filled"),
        (OrderStatus.PENDING_CANCEL, "pending_cancel"),
        (OrderStatus.CANCELED, "canceled"),
    ],
)
def test_a_trade_moves_only_what_hasnt_moved_on(was: OrderStatus | None, becomes: str) -> None:
    order = BOUND.evolve(status=was, raw_status="WORD")
    left = with_fills(order, [traded("E1", 2)], Part(Decimal(2), Decimal(200)))
    assert (left.status, left.raw_status) == (becomes, "WORD" if left.status is was else None)
    amount = Order.market("BTC-USD", Side.BUY, quote_quantity=500).evolve(status=OrderStatus.NEW)
    assert with_fills(amount, [traded("E1", 5)], Part(Decimal(5), Decimal(500))).status == "partially_filled"


def test_fees_are_taken_off_by_currency() -> None:
    dollars, bitcoins = Money(amount="0.3", currency="USD"), Money(amount="0.002", currency="BTC")
    less = less_fees((dollars,), (Money(amount="0.1", currency="USD"), bitcoins))
    assert less == (Money(amount="-0.002", currency="BTC"), Money(amount="0.2", currency="USD"))
    assert less_fees((dollars,), None) == (dollars,)
    assert less_fees(None, (dollars,)) == (Money(amount="-0.3", currency="USD"),)


@pytest.mark.parametrize(
    ("status", "count", "shown", "word"),
    [
        (OrderStatus.NEW, None, OrderStatus.NEW, "WORD"),
        (OrderStatus.PENDING_CANCEL, 2, OrderStatus.PENDING_CANCEL, "WORD"),
        (OrderStatus.PARTIALLY_FILLED, 2, OrderStatus.NEW, ""),
        (OrderStatus.CANCELED, None, OrderStatus.NEW, ""),
        (OrderStatus.FILLED, 2, OrderStatus.NEW, ""),
        (OrderStatus.REJECTED, None, OrderStatus.REJECTED, "WORD"),
        (OrderStatus.REJECTED, 2, OrderStatus.REJECTED, "WORD"),
    ],
)
def test_before_its_fills_a_view_binds_and_works(
    status: OrderStatus, count: int | None, shown: OrderStatus, word: str
) -> None:
    quantity = None if count is None else Decimal(count)
    view = OrderView(V1, status, "WORD", cumulative_quantity=quantity, average_price=Decimal(9))
    left = unfilled(view)
    assert (left.status, left.raw_status, left.cumulative_quantity) == (shown, word, None)
    assert left.average_price == (9 if left == view else None)
