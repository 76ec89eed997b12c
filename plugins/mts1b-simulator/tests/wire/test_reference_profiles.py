"""Each property of a profile, as a client meets it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_simulator.reference import ReferenceProfile
from mts1b_simulator.wire import iso
from mts1b_simulator.wire.faults import DelayBeyond

BUY = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "2", "limit_price": "90000"}


async def ids(client: Any, target: str, name: str = "orders") -> list[str]:
    return [row["id"] for row in (await client.get(target))[name]]


# --- tokens ----------------------------------------------------------------------------------------


async def test_a_known_token_returns_the_first_order_where_the_venue_dedupes(serve: Any) -> None:
    client = await serve(ReferenceProfile(dedupes=True))
    first = await client.order("t")
    await client("DELETE", f"/v1/orders/{first['id']}")
    assert (await client.order("t", quantity="9"))["id"] == first["id"]
    assert len(client.server.venue.orders()) == 1


async def test_a_token_unique_forever_is_refused_for_good(serve: Any) -> None:
    client = await serve(ReferenceProfile(unique="forever"))
    first = await client.order("t")
    await client("DELETE", f"/v1/orders/{first['id']}")
    body = {**BUY, "client_order_id": "t"}
    assert await client.refused("POST", "/v1/orders", body) == (409, "duplicate_token")


async def test_a_token_unique_while_open_is_free_again(serve: Any) -> None:
    client = await serve(ReferenceProfile(unique="while_open"))
    first = await client.order("t")
    body = {**BUY, "client_order_id": "t"}
    assert await client.refused("POST", "/v1/orders", body) == (409, "duplicate_token")
    await client("DELETE", f"/v1/orders/{first['id']}")
    second = await client.order("t")
    named = await client.get("/v1/orders/by_token/t")
    assert named["order"]["id"] == second["id"] != first["id"]
    assert [row["id"] for row in named["orders"]] == [first["id"], second["id"]]


async def test_a_token_that_need_not_be_unique_names_several(serve: Any) -> None:
    client = await serve(ReferenceProfile(unique="no"))
    both = [(await client.order("t"))["id"], (await client.order("t"))["id"]]
    assert [row["id"] for row in (await client.get("/v1/orders/by_token/t"))["orders"]] == both


async def test_a_venue_without_tokens_shows_none(serve: Any) -> None:
    client = await serve(ReferenceProfile(unique="none"))
    assert (await client.order("t"))["client_order_id"] is None
    assert await client.refused("GET", "/v1/orders/by_token/t") == (404, "not_found")


# --- too late --------------------------------------------------------------------------------------


async def test_an_order_past_its_deadline_is_refused(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(not_after="deadline"), clock=clock)
    deadline = iso(clock.now() + timedelta(seconds=2))
    assert (await client.order("in-time", deadline=deadline))["status"] == "open"
    await clock.advance(3)
    body = {**BUY, "client_order_id": "late", "deadline": deadline}
    assert await client.refused("POST", "/v1/orders", body) == (409, "too_late")
    assert await client.refused("POST", "/v1/orders", {**body, "deadline": "soon"}) == (400, "bad_request")


@pytest.mark.parametrize(
    ("not_after", "delay", "lands"),
    [
        ("none", 500, True), ("deadline", 9, True), ("deadline", 11, False), ("timestamp", 9, True),
        ("timestamp", 11, False), ("credential", 9, True), ("credential", 11, False),
    ],
)  # fmt: skip
async def test_what_was_delayed_lands_unless_the_venue_refuses_late_orders(
    serve: Any, clock: Any, not_after: Any, delay: float, lands: bool
) -> None:
    profile = ReferenceProfile(not_after=not_after, not_after_seconds=10)
    client = await serve(profile, clock=clock)
    client.session = (await client("POST", "/v1/session")).json()["session"]
    client.server.faults.next(DelayBeyond(delay), "POST /v1/orders")
    with pytest.raises(httpx.TransportError):
        await client.order("t", deadline=iso(clock.now() + timedelta(seconds=10)))
    assert client.server.venue.orders() == []
    await clock.advance(delay - 1)
    assert client.server.venue.orders() == []
    await clock.advance(2)
    assert [order.token for order in client.server.venue.orders()] == (["t"] if lands else [])


async def test_an_older_timestamp_is_taken_where_the_venue_limits_timestamps(serve: Any) -> None:
    client = await serve(ReferenceProfile(not_after="timestamp", not_after_seconds=30))
    client.ahead = -20
    assert (await client.order("t"))["status"] == "open"
    client.ahead = -31
    assert await client.refused("POST", "/v1/orders", BUY) == (401, "clock")


async def test_a_session_expires_where_it_is_the_credential(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(not_after="credential", not_after_seconds=10), clock=clock)
    client.session = (await client("POST", "/v1/session")).json()["session"]
    await client.order("t")
    await clock.advance(11)
    assert await client.refused("POST", "/v1/orders", BUY) == (401, "expired")
    client.session = (await client("POST", "/v1/session")).json()["session"]
    assert (await client.order("u"))["status"] == "open"


# --- what is seen, and when --------------------------------------------------------------------------


async def test_orders_and_executions_show_only_after_the_visibility_delay(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(visibility=5, fill_source="trigger"), clock=clock)
    stream = await client.stream("triggers")
    order = await client.order("t")
    client.server.venue.fill(order["id"], "1")
    targets = (f"/v1/orders/{order['id']}", "/v1/orders/by_token/t")
    for target in targets:
        assert await client.refused("GET", target) == (404, "not_found")
    assert await ids(client, "/v1/orders?status=open") == []
    assert await ids(client, "/v1/executions", "executions") == []
    assert (len(client.server.venue.orders()), len(client.server.venue.executions())) == (1, 1)
    await clock.advance(5)
    assert (await stream.frame())["data"]["order_id"] == order["id"]
    for target in targets:
        assert (await client.get(target))["order"]["id"] == order["id"]
    assert await ids(client, "/v1/orders?status=open") == [order["id"]]
    assert await ids(client, "/v1/executions", "executions") == ["T1-1"]


async def test_a_cancel_reaches_an_order_that_nobody_sees_yet(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(visibility=5), clock=clock)
    order = await client.order("t")
    assert (await client("DELETE", f"/v1/orders/{order['id']}")).status_code == 202


async def test_an_undecided_order_is_accepted_first(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(undecided=2), clock=clock)
    good, bad, gone = [
        await client.order(token, **terms)
        for token, terms in {"good": {}, "bad": {"quantity": "1000000"}, "gone": {}}.items()
    ]
    assert [good["status"], bad["status"], gone["status"]] == ["accepted"] * 3
    assert await client.refused("PATCH", f"/v1/orders/{good['id']}", {"quantity": "3"}) == (
        409,
        "not_working",
    )
    await client("DELETE", f"/v1/orders/{gone['id']}")
    await clock.advance(2)
    rows = (await client.get("/v1/orders"))["orders"]
    assert [row["status"] for row in rows] == ["open", "rejected", "cancelled"]
    assert rows[1]["reason"] == "insufficient_funds"


async def test_a_cancel_may_take_its_time_and_lose_to_a_fill(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(cancel_delay=1), clock=clock)
    slow, lost = await client.order("slow"), await client.order("lost")
    for order in (slow, lost, lost):
        reply = await client("DELETE", f"/v1/orders/{order['id']}")
        assert (reply.status_code, reply.json()["order"]["status"]) == (202, "pending_cancel")
    client.server.venue.fill(lost["id"], "2")
    await clock.advance(1)
    assert [row["status"] for row in (await client.get("/v1/orders"))["orders"]] == ["cancelled", "filled"]


async def test_final_orders_and_fills_leave_their_windows(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(lookup_window=60, fill_window=30), clock=clock)
    done, working = await client.order("done"), await client.order("working")
    client.server.venue.fill(done["id"], "2")
    await clock.advance(31)
    assert await ids(client, "/v1/executions", "executions") == []
    assert await ids(client, "/v1/orders") == [done["id"], working["id"]]
    await clock.advance(30)
    assert await ids(client, "/v1/orders") == [working["id"]]
    assert await client.refused("GET", "/v1/orders/by_token/done") == (404, "not_found")
    assert (await client.get(f"/v1/orders/{done['id']}"))["order"]["status"] == "filled"


# --- fills -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "shown"),
    [("native", ["T1-1", "T1-2", "T1-3"]), ("composite", ["1", "1", "2"]), ("content", [None] * 3)],
)
async def test_fill_ids_are_what_the_profile_makes_them(serve: Any, identity: Any, shown: Any) -> None:
    client = await serve(ReferenceProfile(fill_identity=identity))
    one, two = await client.order("one"), await client.order("two")
    for order in (one, two, two):
        client.server.venue.fill(order["id"], "0.5")
    rows = (await client.get("/v1/executions"))["executions"]
    assert [row["id"] for row in rows] == shown
    assert [row["client_order_id"] for row in rows] == ["one", "two", "two"]


async def test_a_venue_of_cumulative_fills_shows_no_executions(serve: Any) -> None:
    client = await serve(ReferenceProfile(fill_identity="cumulative"))
    stream = await client.stream("orders")
    order = await client.order("t")
    client.server.venue.fill(order["id"], "0.5")
    assert await client.refused("GET", "/v1/executions") == (404, "no_executions")
    assert [(await stream.frame())["data"]["filled_quantity"] for _ in range(2)] == ["0", "0.50000000"]
    stream.send('{"op": "subscribe", "channels": ["executions"]}')
    assert (await stream.frame())["data"]["code"] == "no_channel"


async def test_a_polled_venue_has_no_stream(serve: Any) -> None:
    client = await serve(ReferenceProfile(fill_source="poll"))
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    reply = await client.http.get("/v1/stream", headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "no_stream")


async def test_random_parts_of_resting_orders_fill_by_the_seed(serve: Any, clock: Any) -> None:
    runs = []
    for _ in range(2):
        client = await serve(clock=clock, seed=7, fill_every=1.0)
        for number in range(4):
            await client.order(f"t{number}")
        await clock.advance(5)
        runs.append([(fill.order.id, fill.quantity) for fill in client.server.venue.executions()])
        assert (await client.http.get("/v1/time")).status_code == 200
    assert runs[0] == runs[1]
    assert len(runs[0]) == 5


# --- fees, busts, corrections ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timing", "at_once", "later", "order_fees", "listed"),
    [
        ("with_fill", True, True, True, 0), ("seconds", False, True, True, 1),
        ("next_day", False, True, True, 1), ("order_level", False, False, True, 0),
        ("never", False, False, False, 0),
    ],
)  # fmt: skip
async def test_fees_become_known_when_the_profile_says(
    serve: Any, clock: Any, timing: Any, at_once: bool, later: bool, order_fees: bool, listed: int
) -> None:
    client = await serve(ReferenceProfile(fee_timing=timing, fee_delay=4), clock=clock)
    order = await client.order("t")
    client.server.venue.fill(order["id"], "1")
    await clock.advance(3)
    [row] = (await client.get("/v1/executions"))["executions"]
    assert (row["fees"] is not None) == at_once
    assert (await client.get("/v1/fees"))["fees"] == []
    await clock.advance(1)
    [row] = (await client.get("/v1/executions"))["executions"]
    assert (row["fees"] is not None) == later
    fees = (await client.get("/v1/fees"))["fees"]
    assert len(fees) == listed
    assert all(fee["fees"] == [{"currency": "USD", "amount": "90"}] for fee in fees)
    shown = (await client.get(f"/v1/orders/{order['id']}"))["order"]["fees"]
    assert (shown is not None) == order_fees
    await clock.advance(1)
    assert (await client.get(f"/v1/fees?since={iso(clock.now())}"))["fees"] == []


async def test_a_test_can_say_what_a_fee_is(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(fee_timing="next_day", fee_delay=86_400), clock=clock)
    order = await client.order("t")
    fill = client.server.venue.fill(order["id"], "1")
    await clock.advance(1)
    client.server.venue.set_fees(fill.id, "1.23", status="estimated")
    assert (await client.get("/v1/fees?limit=5"))["fees"] == [
        {
            "execution_id": fill.id, "order_id": order["id"], "status": "estimated",
            "fees": [{"currency": "USD", "amount": "1.23"}],
        }
    ]  # fmt: skip
    with pytest.raises(InvalidInput):
        client.server.venue.set_fees("none", "1")


@pytest.mark.parametrize("lookback", [0.0, 3600.0])
async def test_busts_and_corrections_move_the_books_and_are_told(
    serve: Any, clock: Any, lookback: float
) -> None:
    client = await serve(ReferenceProfile(correction_lookback=lookback), clock=clock)
    venue, stream = client.server.venue, await client.stream("executions")
    order = await client.order("t")
    first, second = venue.fill(order["id"], "0.5"), venue.fill(order["id"], "1.5")
    before = venue.positions()["BTC-USD"]
    cash = {row["currency"]: row["total"] for row in venue.balances()}
    await clock.advance(60)
    bust = venue.bust(first.id)
    assert venue.positions()["BTC-USD"] == before - Decimal("0.5")
    assert {row["currency"]: row["total"] for row in venue.balances()}["USD"] == cash["USD"] + 45_000 + 45
    fixed = venue.correct(second.id, quantity="1", price="89000")
    assert venue.positions()["BTC-USD"] == before - 1
    frames = [(await stream.frame())["data"] for _ in range(4)]
    assert [(row["kind"], row["corrects"], row["quantity"]) for row in frames] == [
        ("trade", None, "0.50000000"), ("trade", None, "1.50000000"),
        ("bust", first.id, "-0.50000000"), ("trade", second.id, "1"),
    ]  # fmt: skip
    shown = (await client.get(f"/v1/orders/{order['id']}"))["order"]
    assert (shown["status"], Decimal(shown["filled_quantity"])) == ("filled", 1)
    assert Decimal(shown["average_price"]) == 89_000
    assert (bust.executed_at == first.executed_at) == bool(lookback)
    for gone in (first.id, second.id, bust.id):
        with pytest.raises(InvalidInput):
            venue.bust(gone)
    venue.bust(fixed.id)
    assert venue.positions()["BTC-USD"] == before - 2


async def test_a_decreed_fill_is_never_beyond_what_the_order_allows(serve: Any) -> None:
    client = await serve()
    order = await client.order("t")
    venue = client.server.venue
    assert venue.fill(order["id"], "1", "89999.5").price == Decimal("89999.5")
    for quantity, price in (("1.1", None), ("0", None), ("1", "90000.01"), ("1", "0"), ("1", "1.001")):
        with pytest.raises(InvalidInput):
            venue.fill(order["id"], quantity, price)
    with pytest.raises(InvalidInput):
        venue.fill("none", "1")


# --- replacing, cancelling, logging in ---------------------------------------------------------------------


@pytest.mark.parametrize(("meaning", "quantity"), [("total", "3"), ("remaining", "3.50000000")])
async def test_a_replace_in_place_keeps_the_id(serve: Any, meaning: Any, quantity: str) -> None:
    client = await serve(ReferenceProfile(replace="same_id", replace_quantity=meaning))
    order = await client.order("t")
    client.server.venue.fill(order["id"], "0.5")
    reply = await client("PATCH", f"/v1/orders/{order['id']}", {"quantity": "3", "client_order_id": "t2"})
    changed = reply.json()["order"]
    assert (changed["id"], changed["quantity"], changed["filled_quantity"]) == (
        order["id"], quantity, "0.50000000",
    )  # fmt: skip
    assert (await client.get("/v1/orders/by_token/t2"))["order"]["id"] == order["id"]
    assert await client.refused("PATCH", f"/v1/orders/{order['id']}", {"limit_price": "1.001"}) == (
        422,
        "bad_price",
    )


@pytest.mark.parametrize(("meaning", "quantity"), [("total", "2.50000000"), ("remaining", "3")])
async def test_a_replace_by_another_links_the_two(serve: Any, meaning: Any, quantity: str) -> None:
    client = await serve(ReferenceProfile(replace="new_id", replace_quantity=meaning))
    old = await client.order("t")
    client.server.venue.fill(old["id"], "0.5")
    refused = await client.refused("PATCH", f"/v1/orders/{old['id']}", {"limit_price": "1.001"})
    assert refused == (422, "bad_price")
    if meaning == "total":
        too_little = await client.refused("PATCH", f"/v1/orders/{old['id']}", {"quantity": "0.5"})
        assert too_little == (422, "bad_quantity")
    reply = await client("PATCH", f"/v1/orders/{old['id']}", {"quantity": "3", "client_order_id": "t2"})
    new = reply.json()["order"]
    assert (new["replaces"], new["quantity"], new["client_order_id"]) == (old["id"], quantity, "t2")
    old = (await client.get(f"/v1/orders/{old['id']}"))["order"]
    assert (old["status"], old["replaced_by"]) == ("cancelled", new["id"])
    assert await client.refused("PATCH", f"/v1/orders/{old['id']}", {"quantity": "4"}) == (409, "final")


async def test_a_change_sent_again_under_its_token_is_made_once(serve: Any) -> None:
    client = await serve(ReferenceProfile(dedupes=True, replace="new_id"))
    old, other = await client.order("t"), await client.order("u")
    body = {"quantity": "3", "client_order_id": "t2"}
    first = (await client("PATCH", f"/v1/orders/{old['id']}", body)).json()["order"]
    again = (await client("PATCH", f"/v1/orders/{other['id']}", body)).json()["order"]
    assert again == first
    assert [order.status for order in client.server.venue.orders()] == ["cancelled", "open", "open"]


async def test_a_venue_without_replace_says_so(serve: Any) -> None:
    client = await serve(ReferenceProfile(replace="none"))
    order = await client.order("t")
    assert await client.refused("PATCH", f"/v1/orders/{order['id']}", {"quantity": "3"}) == (
        422,
        "unsupported",
    )


async def test_cancels_by_token_only_where_the_profile_says(serve: Any) -> None:
    client = await serve(ReferenceProfile(cancel_by="token"))
    order = await client.order("t")
    assert await client.refused("DELETE", f"/v1/orders/{order['id']}") == (422, "cancel_by")
    assert (await client("DELETE", "/v1/orders/by_token/t")).status_code == 202
    assert await client.refused("DELETE", "/v1/orders/by_token/u") == (404, "not_found")


async def test_an_exclusive_login_is_taken_over(serve: Any) -> None:
    client = await serve(ReferenceProfile(login="exclusive"))
    assert await client.refused("GET", "/v1/orders") == (401, "no_session")
    old = client.session = (await client("POST", "/v1/session")).json()["session"]
    stream = await client.stream("orders")
    new = (await client("POST", "/v1/session")).json()["session"]
    assert (await stream.frame())["data"]["code"] == "session_taken"
    assert await stream.frame() is None
    assert await client.refused("GET", "/v1/orders") == (401, "session_taken")
    client.session = new
    assert (await client.get("/v1/orders"))["orders"] == []
    assert old != new


async def test_a_request_that_was_let_in_lands_after_its_session_was_taken(serve: Any, clock: Any) -> None:
    client = await serve(ReferenceProfile(login="exclusive"), clock=clock)
    client.session = (await client("POST", "/v1/session")).json()["session"]
    client.server.faults.next(DelayBeyond(5), "POST /v1/orders")
    with pytest.raises(httpx.TransportError):
        await client.order("t")
    await clock.advance(1)
    await client("POST", "/v1/session")
    await clock.advance(5)
    assert [order.token for order in client.server.venue.orders()] == ["t"]


async def test_gtd_orders_expire_at_their_moment(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    await client.order("t", time_in_force="gtd", expires_at=iso(clock.now() + timedelta(seconds=3)))
    await clock.advance(4)
    await asyncio.sleep(0)
    assert (await client.get("/v1/orders/by_token/t"))["order"]["status"] == "expired"
