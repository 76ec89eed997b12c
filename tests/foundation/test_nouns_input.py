"""What the nouns refuse, how they say so, and what they keep exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from mts1b_brokers_core.foundation.accounts import Account, Balance
from mts1b_brokers_core.foundation.base import Money, decimal_from_float
from mts1b_brokers_core.foundation.errors import BrokerError, InvalidInput, MalformedSymbol, NaiveDatetime
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.instruments import Instrument, parse_symbol
from mts1b_brokers_core.foundation.market_data import Quote
from mts1b_brokers_core.foundation.orders import (
    Contingency,
    Fill,
    Leg,
    Order,
    OrderChanges,
    OrderStatus,
    OrderType,
    PositionEffect,
    Side,
    TimeInForce,
    child_key,
)

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LIMIT: dict[str, Any] = {
    "symbol": "BTC-USD", "side": "buy", "quantity": "1", "order_type": "limit", "limit_price": "100",
}  # fmt: skip
LEGS = (Leg(symbol="AAPL", side=Side.BUY), Leg(symbol="MSFT", side=Side.SELL))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantity": "0"}, "more than zero"),
        ({"quantity": "-1"}, "more than zero"),
        ({"quantity": "NaN"}, "finite"),
        ({"quantity": "Infinity"}, "finite"),
        ({"quantity": Decimal("sNaN")}, "finite"),
        ({"quantity": 1.5}, "float"),
        ({"quantity": True}, "expected a Decimal"),
        ({"quantity": "one"}, "decimal number"),
        ({"quantity": "1E+60"}, "beyond 30 digits before the point"),
        ({"quantity": "1e400000"}, "beyond 30 digits before the point"),
        ({"quantity": 10**5000}, "beyond 30 digits before the point"),
        ({"quantity": "9" * 100_000 + "x"}, "decimal number"),
        ({"limit_price": Decimal("-1E+30")}, "beyond 30 digits before the point"),
        ({"limit_price": "1e-400000"}, "40 after it"),
        ({"limit_price": "0." + "1" * 41}, "40 after it"),
        ({"quantity": None}, "neither was given"),
        ({"quote_quantity": "5"}, "both were given"),
        ({"limit_price": 96000.5}, "float"),
        ({"limit_price": None}, "needs a limit_price"),
        ({"stop_price": "90"}, "takes no stop_price"),
        ({"order_type": "market"}, "takes no limit_price"),
        ({"order_type": "stop", "limit_price": None}, "needs a stop_price"),
        ({"order_type": "trailing_stop", "limit_price": None}, "exactly one of trail_amount"),
        ({"trail_amount": "1"}, "takes no trail"),
        ({"order_type": "market", "limit_price": None, "post_only": True}, "can't be post_only"),
        ({"post_only": True, "time_in_force": "ioc"}, "contradict"),
        ({"time_in_force": "gtd"}, "expires_at goes with"),
        ({"expires_at": NOON}, "expires_at goes with"),
        ({"display_quantity": "2"}, "above quantity"),
        ({"side": "hold"}, "'buy' or 'sell'"),
        ({"symbol": ""}, "symbol"),
        ({"symbol": "btc-usd"}, "did you mean 'BTC-USD'"),
        ({"idempotency_key": "k" * 129}, "128"),
        ({"idempotency_key": "schlüssel"}, "idempotency_key"),
        ({"order_id": ""}, "order_id"),
        ({"contingency": "oco"}, "needs attached orders"),
        ({"legs": LEGS}, "takes no symbol"),
        ({"quantiy": "1"}, "did you mean quantity"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else ",".join(value),
)
def test_an_order_that_makes_no_sense_is_refused_with_the_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Order(**{**LIMIT, **change})
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.repeat_is_safe
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_largest_and_the_finest_numbers_stay_exact() -> None:
    most, least = Decimal("9" * 30 + "." + "9" * 40), Decimal("1E-40")
    made = Instrument(
        symbol="X-USD", asset_class="crypto", quote="USD", price_increment=least, quantity_increment=least,
        multiplier=most,
    )  # fmt: skip
    assert made.quantity_problem(most) is None
    assert made.round_price(most) == most
    assert Fraction(made.notional(most, most)) == Fraction(most) ** 3
    order = Order(**{**LIMIT, "quantity": most, "limit_price": least})
    assert Order.model_validate_json(order.model_dump_json()) == order


def test_the_side_is_never_guessed() -> None:
    with pytest.raises(InvalidInput, match="the side is missing"):
        Order(symbol="BTC-USD", quantity="1")


@pytest.mark.parametrize("name", ["created_at", "submitted_at", "updated_at"])
def test_a_naive_time_is_refused_with_the_cure(name: str) -> None:
    with pytest.raises(NaiveDatetime, match="without a time zone") as caught:
        Order(**LIMIT, **{name: datetime(2026, 7, 1, 12)})  # noqa: DTZ001
    assert "timezone.utc" in caught.value.next_step


def test_aware_times_are_held_in_utc() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    order = Order(**LIMIT, created_at=there)
    assert order.created_at == NOON
    assert order.created_at.tzinfo is UTC


def test_a_copy_is_validated_and_the_original_stays() -> None:
    order = Order(**LIMIT)
    assert order.model_copy(update={"quantity": "2"}).quantity == 2
    assert order.quantity == 1
    assert order.model_copy() == order
    for change in ({"quantity": "-1"}, {"limit_price": None}, {"nothing": 1}, {"quantity": 0.1}):
        with pytest.raises(InvalidInput):
            order.model_copy(update=change)
    with pytest.raises(Exception, match="frozen"):
        order.quantity = Decimal(2)  # type: ignore[misc]


def test_the_key_is_the_order_id_unless_given() -> None:
    order = Order(**LIMIT)
    assert order.idempotency_key == order.order_id
    assert Order(**LIMIT, order_id="mine").idempotency_key == "mine"
    assert Order(**LIMIT, idempotency_key="k").idempotency_key == "k"
    assert Order(**LIMIT).order_id != Order(**LIMIT).order_id


@pytest.mark.parametrize(
    "made",
    [
        Order(**LIMIT, tag="x", created_at=NOON, fees=(Money(amount="0.10", currency="USD"),)),
        Order.bracket("BTC-USD", Side.SELL, "0.30", take_profit="90", stop_loss="110", stop_loss_limit="111"),
        Order(legs=LEGS, quantity="1", order_type="limit", limit_price="-0.35"),
        Fill(
            fill_id="E1", order_id="o", symbol="AAPL", side="buy", quantity="-0.10", price="1E-8",
            executed_at=NOON, kind="bust", corrects="E0",
        ),
        Quote(symbol="BTC-USD", bid="1.10", ask=None, at=NOON),
        Account(account_id="A", balances=(Balance(currency="USD", total=1, available=1, held=0),)),
        BrokerEvent(kind=EventKind.STATUS, at=NOON, order=Order(**LIMIT), detail={"a": "b"}),
        OrderChanges(quantity="1.50"),
    ],
    ids=lambda made: type(made).__name__,
)  # fmt: skip
def test_a_noun_survives_json_and_shows_itself_in_one_line(made: Any) -> None:
    back = type(made).model_validate_json(made.model_dump_json())
    assert back == made
    assert back.model_dump() == made.model_dump()
    assert "\n" not in repr(made)
    assert repr(made) == str(made)
    assert type(made).__name__ in repr(made)


def test_decimals_keep_every_digit() -> None:
    exact = "0.100000000000000000000000000000000001"
    order = Order(**{**LIMIT, "quantity": exact})
    assert str(order.quantity) == exact
    assert f'"quantity":"{exact}"' in order.model_dump_json()
    assert str(Order(**{**LIMIT, "limit_price": "1.10"}).limit_price) == "1.10"
    assert decimal_from_float(0.1) == Decimal("0.1")


def test_money_adds_exactly_and_only_its_own_kind() -> None:
    dollars = Money(amount="0.1", currency="USD")
    assert dollars + dollars + dollars == Money(amount="0.3", currency="USD")
    assert -dollars == Money(amount="-0.1", currency="USD")
    assert repr(Money(amount="1E-8", currency="BTC")) == "0.00000001 BTC"
    with pytest.raises(InvalidInput, match="currencies differ"):
        _ = dollars + Money(amount="1", currency="EUR")
    with pytest.raises(InvalidInput):
        Money(amount="1", currency="usd")


# --- symbols -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "symbol", "market"),
    [
        ("BTC-USD", "BTC-USD", None),
        ("BTC/USD", "BTC-USD", None),
        ("AAPL", "AAPL", None),
        ("AAPL@XNAS", "AAPL", "XNAS"),
        ("BRK.B", "BRK.B", None),
        ("AAPL  261218C00200000", "AAPL261218C00200000", None),
        ("AAPL261218C00200000", "AAPL261218C00200000", None),
        ("AAPL  261218C00200000@XCBO", "AAPL261218C00200000", "XCBO"),
        ("ESZ6", "ESZ6", None),
        ("EUR-USD", "EUR-USD", None),
    ],
)
def test_symbols_have_one_form(text: str, symbol: str, market: str | None) -> None:
    assert parse_symbol(text) == (symbol, market)
    canonical = str(parse_symbol(text))
    assert str(parse_symbol(canonical)) == canonical
    assert Order(**{**LIMIT, "symbol": text}).symbol == canonical


@pytest.mark.parametrize(
    "text",
    ["aapl", " AAPL", "AAPL ", "BTC--USD", "-USD", "BTC-", "A B", "AAPL@", "AAPL@NASDAQ", "BRK.", "ÄPPL",
     "AAPL261318C00200000", "AAPL261232C00200000", "A" * 30, "BTC USD", "BTC_USD", "", "@XNAS"],
)  # fmt: skip
def test_malformed_symbols_are_refused(text: str) -> None:
    with pytest.raises(MalformedSymbol) as caught:
        parse_symbol(text)
    assert "SYMBOL@MIC" in caught.value.next_step


# --- orders of several parts ---------------------------------------------------------------------


def test_a_bracket_is_an_entry_with_two_ends() -> None:
    order = Order.bracket(
        "BTC-USD", Side.BUY, "1", price="100", take_profit="110", stop_loss="90", account_id="A"
    )
    profit, loss = order.attached
    assert order.contingency is Contingency.OTOCO
    assert (profit.order_type, profit.limit_price, profit.side) == (OrderType.LIMIT, 110, Side.SELL)
    assert (loss.order_type, loss.stop_price, loss.side) == (OrderType.STOP, 90, Side.SELL)
    assert {child.position_effect for child in order.attached} == {PositionEffect.CLOSE}
    assert {child.parent_order_id for child in order.attached} == {order.order_id}
    assert {child.account_id for child in order.attached} == {"A"}
    assert profit.idempotency_key == f"{order.idempotency_key}:take-profit"
    assert len({order.order_id, profit.order_id, loss.order_id}) == 3
    assert Order.bracket("BTC-USD", Side.BUY, 1, take_profit=2, stop_loss=1).order_type is OrderType.MARKET


def test_a_bracket_takes_what_a_market_order_takes_and_hands_it_to_its_ends() -> None:
    for side, opposite in (("buy", Side.SELL), ("sell", Side.BUY), (Side.BUY, Side.SELL)):
        order = Order.bracket("AAPL", side, 1, take_profit=2, stop_loss=1)
        assert order.side is Side(side)
        assert {child.side for child in order.attached} == {opposite}
        assert {child.time_in_force for child in order.attached} == {TimeInForce.GTC}
    terms = {"time_in_force": "day", "asset_class": "equity", "session": "extended"}
    given = Order.bracket("AAPL", "buy", 1, take_profit=2, stop_loss=1, **terms)
    for child in given.attached:
        assert (child.time_in_force, child.asset_class, child.session) == ("day", "equity", "extended")
    # Ends that must wait can't be filled or killed at once, nor belong to an auction.
    at_once = Order.bracket("AAPL", "buy", 1, take_profit=2, stop_loss=1, time_in_force="ioc")
    assert {child.time_in_force for child in at_once.attached} == {TimeInForce.GTC}
    until = Order.bracket("AAPL", "buy", 1, take_profit=2, stop_loss=1, time_in_force="gtd", expires_at=NOON)
    assert {(child.time_in_force, child.expires_at) for child in until.attached} == {("gtd", NOON)}
    with pytest.raises(InvalidInput, match="'buy' or 'sell'"):
        Order.bracket("AAPL", "hold", 1, take_profit=2, stop_loss=1)


def test_a_person_reads_numbers_without_exponents_and_idle_zeros() -> None:
    order = Order.limit("BTC-USD", "buy", "1E-8", price="9.6E+4", filled_quantity="0.01000000", status="new")
    assert "buy 0.00000001 BTC-USD limit @96000 gtc [new filled 0.01]" in repr(order)
    assert "buy 0.50 BTC-USD" in repr(Order.market("BTC-USD", "buy", "0.50"))
    assert "buy 100 quote BTC-USD" in repr(Order.market("BTC-USD", "buy", quote_quantity="1E+2"))


def test_attached_orders_need_keys_of_their_own() -> None:
    child = Order(**LIMIT, idempotency_key="k")
    with pytest.raises(InvalidInput, match="keys of their own"):
        Order(**LIMIT, idempotency_key="k", attached=(child,), contingency="oto")
    with pytest.raises(InvalidInput, match="need a contingency"):
        Order(**LIMIT, attached=(child,))
    assert len(child_key("k" * 128, "stop-loss")) <= 128


def test_legs_have_a_signed_net_price() -> None:
    order = Order(legs=LEGS, quantity="2", order_type="limit", limit_price="-0.35")
    assert order.limit_price == Decimal("-0.35")
    assert "2 x buy 1 AAPL+sell 1 MSFT" in repr(order)
    with pytest.raises(InvalidInput, match="needs a quantity"):
        Order(legs=LEGS, order_type="market")


def test_equal_terms_are_equal_however_they_are_written() -> None:
    one = Order(**LIMIT)
    other = Order(**{**LIMIT, "quantity": Decimal("1.000"), "symbol": "BTC/USD"}, tag="y", order_id="z")
    assert one.terms() == other.terms()
    for change in ({"quantity": "2"}, {"time_in_force": "day"}, {"post_only": True}, {"side": "sell"}):
        assert Order(**{**LIMIT, **change}).terms() != one.terms()


def test_what_remains_and_what_is_final() -> None:
    order = Order(**LIMIT, filled_quantity="0.4", status=OrderStatus.PARTIALLY_FILLED)
    assert (order.remaining_quantity, order.is_final) == (Decimal("0.6"), False)
    assert Order.market("BTC-USD", Side.BUY, quote_quantity="5").remaining_quantity is None
    finals = {status for status in OrderStatus if status.final}
    assert finals == {"filled", "canceled", "rejected", "expired"}
    assert OrderChanges(limit_price="1").given() == {"limit_price": 1}
    assert TimeInForce("gtc") is TimeInForce.GTC


def test_errors_say_who_what_and_what_next() -> None:
    error = BrokerError("it broke.", next_step="mend it").located(broker="fund-a", operation="submit")
    assert str(error) == "fund-a: submit: it broke. Next: mend it"
    assert str(error.located(broker="other")) == str(error)
    with pytest.raises(InvalidInput) as many:
        Order(symbol="BTC-USD", side="x", quantity="-1")
    assert set(many.value.fields) == {"side", "quantity"}


def test_an_instruments_key_names_its_market() -> None:
    made = Instrument(
        symbol="AAPL", asset_class="equity", market="XNAS", quote="USD", price_increment="0.01",
        quantity_increment="1",
    )  # fmt: skip
    assert made.key == "AAPL@XNAS"
    assert made.notional(Decimal(3), Decimal("1.5")) == Decimal("4.5")


def test_a_trusted_copy_is_a_copy_like_any_other() -> None:
    order = Order(**LIMIT)
    evolved = order.evolve(status=OrderStatus.NEW)
    assert evolved == order.model_copy(update={"status": "new"})
    assert order.status is None
    assert evolved.model_fields_set == order.model_fields_set | {"status"}
    assert Order.model_validate_json(evolved.model_dump_json()) == evolved
    assert hash(evolved) != hash(order)
