"""The translation alone: tables, rows that make no sense beside rows that do, and what is sent."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from mts1b_broker_reference import translate
from mts1b_broker_reference.auth import SignedAuth, Signer
from mts1b_broker_reference.profiles import PROFILES, profile_named
from mts1b_broker_reference.wire import encoded, error_of, order_path, rows_of
from pydantic import SecretStr

from mts1b_brokers_core import (
    ConfigurationError,
    Order,
    OrderChanges,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from mts1b_brokers_core.execution.port import (
    Ack,
    Coverage,
    Final,
    NoSuch,
    NotPlaced,
    OrderRef,
    Refused,
    Rejected,
    Taken,
    Ticket,
    Unknown,
)
from mts1b_brokers_core.execution.rows import listing, meant
from mts1b_brokers_core.foundation import FeeStatus, FillKind, Liquidity, Money, UnreadableReply

NOON = datetime(2026, 3, 2, 12, 0, 0, 1500, tzinfo=UTC)
PROFILE = PROFILES["native_dedupe"]


def order_row(**changes: Any) -> Any:
    row = {
        "id": "R-1", "client_order_id": "token1", "symbol": "BTC-USD", "side": "buy", "type": "limit",
        "quantity": "0.50", "quote_quantity": None, "limit_price": "96000.10", "stop_price": None,
        "time_in_force": "gtc", "status": "open", "filled_quantity": "0", "average_price": None, "fees": None,
        "reason": None, "created": "2026-03-02T12:00:00.001500+00:00", "updated": "2026-03-02T12:00:01Z",
        "replaces": None, "replaced_by": None,
    }  # fmt: skip
    return row | changes


def execution_row(**changes: Any) -> Any:
    row = {
        "id": "X-1", "order_id": "R-1", "client_order_id": "token1", "symbol": "BTC-USD", "side": "sell",
        "quantity": "0.25", "price": "96000", "fees": [{"currency": "USD", "amount": "1.10"}],
        "liquidity": "maker", "executed_at": "2026-03-02T12:00:00+00:00", "kind": "trade", "corrects": None,
    }  # fmt: skip
    return row | changes


def ticket(order: Order, changes: OrderChanges | None = None) -> Ticket:
    return Ticket(order, "A-1", "token1", 1, NOON, changes=changes)


LIMIT_ORDER = Order.limit("BTC-USD", Side.BUY, "0.5", price="96000.10", post_only=True)


# --- from the venue ------------------------------------------------------------------------------------


def test_an_order_is_shown_with_everything_the_venue_says() -> None:
    view = translate.view_of(order_row(fees=[{"currency": "USD", "amount": "0.1"}], replaced_by="R-2"))
    assert view.ref == OrderRef("R-1", "token1")
    assert (view.status, view.decided) == (OrderStatus.NEW, True)
    assert view.terms.contradicts(LIMIT_ORDER) is None
    assert (view.terms.order_type, view.terms.time_in_force) == (OrderType.LIMIT, TimeInForce.GTC)
    assert view.created == NOON
    assert view.cumulative_fees == (Money(amount=Decimal("0.1"), currency="USD"),)
    assert view.replaced_by == "R-2"


@pytest.mark.parametrize(("word", "meaning"), translate.STATUSES.items())
def test_only_an_undecided_order_is_undecided(word: str, meaning: tuple[OrderStatus, bool]) -> None:
    view = translate.view_of(order_row(status=word))
    assert (view.status, view.decided) == meaning
    assert view.decided is (word != "accepted")


def test_every_final_status_of_ours_is_one_of_the_venue() -> None:
    meant = {status for status, _ in translate.STATUSES.values()}
    assert {status for status in OrderStatus if status.final} <= meant


@pytest.mark.parametrize(
    "change",
    [
        {"status": "teleported"},
        {"side": "sideways"},
        {"filled_quantity": "much"},
        {"filled_quantity": None},
        {"filled_quantity": "NaN"},
        {"limit_price": "Infinity"},
        {"created": "2026-03-02T12:00:00"},
        {"fees": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_row_that_makes_no_sense_is_told_beside_the_others(change: dict[str, Any]) -> None:
    rows = [order_row(), order_row(**change), order_row(id="R-3"), "not even a row", None]
    read = listing(rows, translate.view_of, Coverage(("orders",)))
    assert [view.ref.broker_order_id for view in read.rows] == ["R-1", "R-3"]
    assert len(read.unreadable) == 3
    assert "R-1" in read.unreadable[0].words
    assert all(row.cause for row in read.unreadable)
    with pytest.raises(UnreadableReply):
        meant(rows[1], translate.view_of)


def test_words_that_only_describe_may_be_new() -> None:
    view = translate.view_of(order_row(type="iceberg", time_in_force="gtx", colour="green"))
    assert (view.terms.order_type, view.terms.time_in_force) == (None, None)
    execution = translate.execution_of(execution_row(liquidity="auction"), PROFILE)
    assert execution.liquidity is None


def test_an_execution_keeps_its_fee_and_its_kind() -> None:
    trade = translate.execution_of(execution_row(), PROFILE)
    assert (trade.quantity, trade.liquidity, trade.fee_status) == (
        Decimal("0.25"),
        Liquidity.MAKER,
        FeeStatus.FINAL,
    )
    bust = translate.execution_of(execution_row(id="X-2", kind="bust", corrects="X-1"), PROFILE)
    assert (bust.quantity, bust.kind, bust.corrects) == (Decimal("-0.25"), FillKind.BUST, "X-1")


@pytest.mark.parametrize(
    ("timing", "status"), [("seconds", FeeStatus.PENDING), ("never", FeeStatus.UNAVAILABLE)]
)
def test_a_fee_not_known_yet_is_not_zero(timing: Any, status: FeeStatus) -> None:
    row = execution_row(fees=None)
    execution = translate.execution_of(row, replace(PROFILE, fee_timing=timing))
    assert (execution.fees, execution.fee_status) == (None, status)


@pytest.mark.parametrize(
    ("identity", "given", "fill_id"),
    [("native", "X-1", "X-1"), ("composite", "1", "R-1:1"), ("content", None, None)],
)
def test_an_execution_is_named_as_the_profile_says(
    identity: Any, given: str | None, fill_id: str | None
) -> None:
    execution = translate.execution_of(execution_row(id=given), replace(PROFILE, fill_identity=identity))
    assert execution.fill_id == fill_id
    row = execution_row(id="2", kind="bust", corrects=given)
    assert translate.execution_of(row, replace(PROFILE, fill_identity=identity)).corrects == fill_id


def test_a_late_fee_names_its_execution() -> None:
    fees = [{"currency": "USD", "amount": "0.3"}]
    row: Any = {"execution_id": "1", "order_id": "R-1", "fees": fees, "status": "final"}
    amendment = translate.amendment_of(row, replace(PROFILE, fill_identity="composite"))
    assert (amendment.fill_id, amendment.fee_status) == ("R-1:1", FeeStatus.FINAL)
    assert translate.amendment_of(row, PROFILE).fill_id == "1"


# --- to the venue, and its answers ---------------------------------------------------------------------


def test_an_order_is_sent_as_text_with_nothing_that_was_not_asked() -> None:
    sent = json.loads(encoded(translate.order_fields(ticket(LIMIT_ORDER))))
    assert sent == {
        "symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "0.5", "limit_price": "96000.10",
        "time_in_force": "gtc", "post_only": True, "client_order_id": "token1",
    }  # fmt: skip
    assert translate.order_fields(ticket(LIMIT_ORDER), NOON)["deadline"] == "2026-03-02T12:00:00.001500+00:00"


def test_a_change_holds_only_what_changes() -> None:
    changes = OrderChanges(limit_price=Decimal("95000"))
    changed = LIMIT_ORDER.model_copy(update=changes.given())
    sent = json.loads(encoded(translate.change_fields(ticket(changed, changes))))
    assert sent == {"limit_price": "95000", "client_order_id": "token1"}


def refusal(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "its own words"}}


@pytest.mark.parametrize(
    ("status", "reply", "result"),
    [
        (422, refusal("insufficient_funds"), Rejected("insufficient_funds", "its own words")),
        (422, refusal("bad_price"), Rejected("price_increment", "its own words")),
        (422, refusal("a_new_one"), Rejected("other", "its own words")),
        (409, refusal("final"), Rejected("order_final", "its own words")),
        (401, refusal("bad_signature"), NotPlaced("its own words")),
        (401, refusal("expired"), NotPlaced("its own words")),
        (401, refusal("clock"), NotPlaced("its own words", 0.0)),
        (403, refusal("scope"), NotPlaced("its own words")),
        (409, refusal("too_late"), NotPlaced("its own words", 0.0)),
        (429, refusal("rate_limited"), NotPlaced("its own words", 1.0)),
        (409, refusal("duplicate_token"), Unknown("409 duplicate_token: its own words")),
        (503, refusal("unavailable"), Unknown("503 unavailable: its own words")),
        (404, {"detail": "nothing"}, Unknown("404 : {'detail': 'nothing'}")),
    ],
    ids=lambda part: part["error"]["code"] if isinstance(part, dict) and "error" in part else None,
)
def test_only_a_refusal_of_the_order_itself_is_a_rejection(status: int, reply: Any, result: Any) -> None:
    assert translate.placed(status, reply) == result


def test_an_order_taken_is_acknowledged_with_its_echo() -> None:
    taken = translate.placed(201, {"order": order_row()})
    assert isinstance(taken, Ack)
    assert taken.ref == OrderRef("R-1", "token1")
    assert taken.echo is not None
    assert taken.echo.status is OrderStatus.NEW


@pytest.mark.parametrize("reply", [{"order": order_row(status="teleported")}, {}, [], None])
def test_an_answer_that_makes_no_sense_is_unknown(reply: Any) -> None:
    assert isinstance(translate.placed(201, reply), Unknown)


@pytest.mark.parametrize(
    ("status", "reply", "result"),
    [
        (202, {}, Taken),
        (404, refusal("not_found"), NoSuch),
        (404, {"detail": "no route"}, Unknown),
        (409, refusal("final") | {"order": order_row(status="filled", filled_quantity="0.50")}, Final),
        (422, refusal("market_closed"), Refused),
        (401, refusal("bad_signature"), Refused),
        (429, refusal("rate_limited"), Unknown),
        (503, refusal("unavailable"), Unknown),
    ],
)
def test_a_cancel_is_answered_in_one_of_five_ways(status: int, reply: Any, result: type) -> None:
    answer = translate.canceled(status, reply)
    assert type(answer) is result
    if isinstance(answer, Final):
        assert answer.view is not None
        assert answer.view.status is OrderStatus.FILLED


# --- what goes on the wire -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../accounts", "a/b", "x?status=all", "ü", "%2e"])
def test_an_id_stays_one_part_of_the_path(name: str) -> None:
    path = order_path(name, None)
    assert path.startswith("/v1/orders/")
    assert not set(path.removeprefix("/v1/orders/")) & set("/?#")
    assert order_path(None, "token1") == "/v1/orders/by_token/token1"


def test_a_listing_without_its_rows_is_unreadable() -> None:
    for reply in ({"orders": None}, {}, [], None):
        with pytest.raises(UnreadableReply, match="no list of orders"):
            rows_of(reply, "orders")
    assert error_of({"error": "broken"}) == ("", "{'error': 'broken'}")


def test_the_signature_covers_the_bytes_that_are_sent() -> None:
    signer = Signer(SecretStr("key"), SecretStr("secret"), lambda: NOON)
    body = b'{"symbol":"BTC-USD"}'
    headers = signer.headers("POST", b"/v1/orders?x=1", body, at=NOON)
    message = b"1772452800001POST/v1/orders?x=1" + body
    assert headers == {
        "X-Key": "key",
        "X-Timestamp": "1772452800001",
        "X-Signature": hmac.new(b"secret", message, hashlib.sha256).hexdigest(),
    }
    signer.session = "S-1"
    request = httpx.Request("GET", "http://venue.test/v1/orders", params={"since": "a b"})
    next(SignedAuth(signer).auth_flow(request))
    assert request.headers["X-Session"] == "S-1"
    expected = signer.headers("GET", b"/v1/orders?since=a+b")
    assert {name: request.headers[name] for name in expected} == expected


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match="native_dedupe"):
        profile_named("unheard_of")
