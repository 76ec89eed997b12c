"""Each endpoint of the reference venue, over a real socket."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.plugin import SimulatorOptions, SimulatorServer
from mts1b_simulator.reference import PROFILES, ReferenceProfile, ReferenceServer, VenueLimit
from mts1b_simulator.reference.paging import page
from mts1b_simulator.wire.faults import ErrorBefore

ORDER_FIELDS = {
    "id", "client_order_id", "symbol", "side", "type", "quantity", "quote_quantity", "limit_price",
    "stop_price", "time_in_force", "status", "filled_quantity", "average_price", "fees", "reason", "created",
    "updated", "replaces", "replaced_by",
}  # fmt: skip
BUY = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "2", "limit_price": "90000"}


async def test_public_reads_need_no_key_and_the_rest_does(serve: Any) -> None:
    client = await serve()
    for target in ("/v1/time", "/v1/instruments", "/v1/quotes/AAPL"):
        assert (await client.http.get(target)).status_code == 200
    reply = await client.http.get("/v1/positions")
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "bad_signature")
    assert "Date" in reply.headers


async def test_reads_say_what_there_is(serve: Any) -> None:
    client = await serve()
    assert (await client.get("/v1/accounts"))["accounts"] == [
        {"id": "main", "name": "Main", "currency": "USD"}
    ]
    listed = await client.get("/v1/instruments?limit=2")
    assert [row["symbol"] for row in listed["instruments"]] == ["BTC-USD", "ETH-USD"]
    rest = await client.get(f"/v1/instruments?cursor={listed['next']}")
    assert [row["symbol"] for row in rest["instruments"]] == ["AAPL"]
    assert rest["next"] is None
    quote = await client.get("/v1/quotes/BTC-USD")
    assert (quote["bid"], quote["ask"], quote["ask_size"]) == ("99995.00", "100005.00", "50.00000000")
    assert await client.refused("GET", "/v1/quotes/NO-USD") == (404, "unknown_symbol")
    assert {row["symbol"]: row["quantity"] for row in (await client.get("/v1/positions"))["positions"]} == {
        "BTC-USD": "10000", "ETH-USD": "100000", "AAPL": "1000000",
    }  # fmt: skip
    usd = next(row for row in (await client.get("/v1/balances"))["balances"] if row["currency"] == "USD")
    assert (usd["total"], usd["held"]) == ("1000000000", "0")


async def test_an_order_lives_from_open_to_cancelled(serve: Any) -> None:
    client = await serve()
    order = await client.order("mine")
    assert set(order) == ORDER_FIELDS
    assert (order["status"], order["client_order_id"], order["filled_quantity"]) == ("open", "mine", "0")
    client.server.venue.fill(order["id"], "0.5")
    assert (await client.get(f"/v1/orders/{order['id']}"))["order"]["status"] == "partially_filled"
    named = await client.get("/v1/orders/by_token/mine")
    assert named["order"]["average_price"] == "90000.00"
    changed = await client("PATCH", f"/v1/orders/{order['id']}", {"quantity": "3", "limit_price": "91000"})
    assert changed.json()["order"]["quantity"] == "3"
    cancelled = await client("DELETE", f"/v1/orders/{order['id']}")
    assert (cancelled.status_code, cancelled.json()["order"]["status"]) == (202, "cancelled")
    again = await client("DELETE", f"/v1/orders/{order['id']}")
    assert (again.status_code, again.json()["error"]["code"], again.json()["order"]["id"]) == (
        409, "final", order["id"],
    )  # fmt: skip
    assert await client.refused("DELETE", "/v1/orders/none") == (404, "not_found")
    assert await client.refused("GET", "/v1/orders/by_token/none") == (404, "not_found")
    [booked] = client.server.venue.orders()
    assert (booked.token, booked.status, booked.filled_quantity) == ("mine", "cancelled", Decimal("0.5"))


async def test_marketable_orders_fill_against_a_book_that_refills(serve: Any) -> None:
    client = await serve()
    for _ in range(3):
        order = await client.order(type="market", limit_price=None, quantity="49")
        assert (order["status"], order["average_price"]) == ("filled", "100005.00")
    rows = (await client.get("/v1/executions"))["executions"]
    assert [row["quantity"] for row in rows] == ["49.00000000"] * 3
    assert rows[0]["fees"] == [{"currency": "USD", "amount": "9800.49"}]
    assert client.server.venue.positions()["BTC-USD"] == 10_000 + 3 * 49
    assert [fill.order.id for fill in client.server.venue.executions()] == ["R1-1", "R1-2", "R1-3"]


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"quantity": "1000000"}, "insufficient_funds"),
        ({"symbol": "NO-USD"}, "unknown_symbol"),
        ({"limit_price": "90000.001"}, "bad_price"),
        ({"quantity": "0.000000001"}, "bad_quantity"),
        ({"post_only": True, "limit_price": "100010"}, "post_only"),
        ({"side": "up"}, "bad_order"),
        ({"type": "limit", "limit_price": None}, "bad_order"),
        ({"client_order_id": "x" * 37}, "bad_token"),
    ],
)
async def test_a_refusal_on_the_orders_own_terms_leaves_no_trace(
    serve: Any, terms: dict[str, Any], code: str
) -> None:
    client = await serve()
    body = {**BUY, "client_order_id": "t", **terms}
    assert await client.refused("POST", "/v1/orders", body) == (422, code)
    assert client.server.venue.orders() == []
    assert (await client.order("t"))["status"] == "open"


async def test_listings_filter_and_page(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    ids = []
    for number in range(5):
        symbol = "BTC-USD" if number % 2 else "ETH-USD"
        ids.append((await client.order(f"t{number}", symbol=symbol, limit_price="1000"))["id"])
        await clock.advance(1)
    await client("DELETE", f"/v1/orders/{ids[0]}")
    assert [row["id"] for row in (await client.get("/v1/orders?status=open"))["orders"]] == ids[1:]
    assert [row["id"] for row in (await client.get("/v1/orders?symbol=BTC-USD"))["orders"]] == ids[1::2]
    later = client.server.venue.order(ids[3]).created.isoformat().replace("+", "%2B")
    # The first one is among them: it changed since.
    assert [row["id"] for row in (await client.get(f"/v1/orders?since={later}"))["orders"]] == [
        ids[0],
        *ids[3:],
    ]
    first = await client.get("/v1/orders?limit=2")
    await client.order("t5")  # rows that come in between move nothing
    second = await client.get(f"/v1/orders?limit=2&cursor={first['next']}")
    assert [row["id"] for row in first["orders"] + second["orders"]] == ids[:4]
    assert await client.refused("GET", "/v1/orders?limit=0") == (400, "bad_request")
    assert await client.refused("GET", "/v1/orders?cursor=rubbish") == (400, "bad_request")
    assert await client.refused("GET", "/v1/orders?since=tomorrow") == (400, "bad_request")


async def test_executions_are_listed_by_window_and_order(serve: Any, clock: Any) -> None:
    client = await serve(clock=clock)
    one, two = await client.order("one"), await client.order("two")
    fills = []
    for order in (one, two, one):
        fills.append(client.server.venue.fill(order["id"], "0.25"))
        await clock.advance(10)
    since = fills[1].executed_at.isoformat().replace("+", "%2B")
    until = fills[2].executed_at.isoformat().replace("+", "%2B")
    get = client.get
    window = (await get(f"/v1/executions?since={since}&until={until}"))["executions"]
    assert [row["id"] for row in window] == [fills[1].id]
    mine = (await get(f"/v1/executions?order_id={one['id']}"))["executions"]
    assert [row["id"] for row in mine] == [fills[0].id, fills[2].id]


@settings(max_examples=60)
@given(rows=st.sets(st.tuples(st.integers(0, 9), st.integers(0, 50))), size=st.integers(1, 60))
def test_any_page_size_gives_the_same_rows(rows: set[tuple[int, int]], size: int) -> None:
    ordered, found, cursor = sorted(rows), [], None
    for _ in range(len(ordered) + 1):
        query = {"limit": str(size)} | ({} if cursor is None else {"cursor": cursor})
        part, cursor = page(ordered, lambda row: row, query)
        assert len(part) <= size
        found += part
        if cursor is None:
            break
    assert found == ordered
    assert cursor is None


async def test_any_page_size_gives_the_same_orders_over_the_wire(serve: Any) -> None:
    client = await serve()
    for number in range(7):
        await client.order(f"t{number}")
    whole = (await client.get("/v1/orders"))["orders"]
    for size in (1, 2, 3, 7, 8):
        found, cursor = [], ""
        while cursor is not None:
            reply = await client.get(f"/v1/orders?limit={size}&cursor={cursor}")
            found += reply["orders"]
            cursor = reply["next"]
        assert found == whole


async def test_a_signature_covers_every_byte_of_the_request(serve: Any) -> None:
    client = await serve()
    stamp, digest = client.signature(b"GET/v1/orders?limit=1")
    headers = {"X-Key": client.key.name, "X-Timestamp": stamp, "X-Signature": digest}
    assert (await client.http.get("/v1/orders?limit=1", headers=headers)).status_code == 200
    assert (await client.http.get("/v1/orders?limit=2", headers=headers)).status_code == 401
    forged = {**headers, "X-Signature": digest[:-1] + "ä"}
    reply = await client.http.get("/v1/orders?limit=1", headers=httpx.Headers(forged, encoding="latin-1"))
    assert reply.status_code == 401


async def test_clock_and_scope_are_refused_by_name(serve: Any) -> None:
    client = await serve()
    client.ahead = -6
    assert await client.refused("GET", "/v1/orders") == (401, "clock")
    client.ahead = 6
    assert await client.refused("GET", "/v1/orders") == (401, "clock")
    client.ahead, client.key = 0, client.server.access.read_only_key
    assert (await client.get("/v1/orders"))["orders"] == []
    assert await client.refused("POST", "/v1/orders", BUY) == (403, "scope")
    assert client.server.venue.orders() == []


async def test_unknown_paths_methods_and_bodies_are_refused(serve: Any) -> None:
    client = await serve()
    assert await client.refused("GET", "/v1/nothing") == (404, "not_found")
    assert await client.refused("PUT", "/v1/orders") == (405, "bad_method")
    assert await client.refused("POST", "/v1/orders", [1]) == (400, "bad_request")


@pytest.mark.parametrize("kind", ["token_bucket", "fixed_window"])
async def test_limits_are_enforced_and_told(serve: Any, clock: Any, kind: Any) -> None:
    client = await serve(ReferenceProfile(limit=VenueLimit(3, 6, kind)), clock=clock)
    replies = [await client("GET", "/v1/orders") for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    assert [reply.headers["X-Limit-Remaining"] for reply in replies] == ["2", "1", "0", "0"]
    wait = float(replies[3].headers["Retry-After"])
    assert wait == (2 if kind == "token_bucket" else 6)
    assert float(replies[3].headers["X-Limit-Reset"]) == wait
    assert replies[3].json()["error"]["code"] == "rate_limited"
    await clock.advance(wait - 1)
    assert (await client("GET", "/v1/orders")).status_code == 429
    await clock.advance(1)
    assert (await client("GET", "/v1/orders")).status_code == 200
    silent = await serve(ReferenceProfile(limit=VenueLimit(1, 6, kind, tells_retry_after=False)), clock=clock)
    silent.server.faults.next(ErrorBefore())
    untouched = await silent("GET", "/v1/orders")
    assert (untouched.status_code, untouched.headers["X-Limit-Remaining"]) == (503, "1")
    await silent("GET", "/v1/orders")
    refused = await silent("GET", "/v1/orders")
    assert refused.status_code == 429
    assert "Retry-After" not in refused.headers


async def test_tls_is_trusted_by_the_ca_file_and_only_by_it(serve: Any) -> None:
    client = await serve(tls=True)
    ca_file = client.server.ca_file
    assert client.server.settings["ca_file"] == str(ca_file)
    assert (await client.order("over-tls"))["status"] == "open"
    socket = await client.stream("orders")
    await client.order("second")
    assert (await socket.frame())["data"]["client_order_id"] == "second"
    async with httpx.AsyncClient() as stranger:
        with pytest.raises(httpx.ConnectError):
            await stranger.get(client.server.base_url + "/v1/time")
    await client.server.stop()
    assert not ca_file.exists()


async def test_it_is_built_from_options_and_says_what_it_does_not_take() -> None:
    options = SimulatorOptions(
        seed=3, faults=("drop_reply:0.5",), extra={"profile": "kraken", "fill_every": "0.5"}
    )
    server = ReferenceServer.from_options(options)
    assert isinstance(server, SimulatorServer)
    assert (server.profile, server.seed) == (PROFILES["while_open_deadline"], 3)
    for extra in ({"profile": "krakn"}, {"colour": "red"}, {"fill_every": "often"}):
        with pytest.raises(InvalidInput):
            ReferenceServer.from_options(SimulatorOptions(extra=extra))
    with pytest.raises(InvalidInput, match=r"0\.0\.0\.0"):
        ReferenceServer(host="0.0.0.0")


async def test_every_profile_serves_an_order(serve: Any) -> None:
    for name in PROFILES:
        client = await serve(name)
        client.session = (await client("POST", "/v1/session")).json()["session"]
        order = await client.order("t1")
        assert order["status"] == ("accepted" if PROFILES[name].undecided else "open")
        assert (order["client_order_id"] is None) == (PROFILES[name].unique == "none")
