"""What the client adds to the wire: repeats of reads, the limiter, the tap, skew, statuses, decoding."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from http_kit import CLOSE, OK, Server, talking
from hypothesis import given
from hypothesis import strategies as st

from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidInput,
    NotSent,
    PermissionDenied,
    RateLimited,
    ReplyLost,
    UnreadableReply,
    VenueError,
    VenueUnavailable,
)
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.http import (
    decode_json,
    http_client,
    raise_for,
    raw_request,
    retry_after,
    send_raw,
)
from mts1b_brokers_core.platform.ratelimit import Limit, Limiter
from mts1b_brokers_core.platform.recorder import Frame
from mts1b_brokers_core.platform.skew import ClockSkew

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
DATE = b"Date: Wed, 01 Jul 2026 12:00:00 GMT"
NESTED = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)


@pytest.fixture(params=[False, True], ids=["lean", "stock"])
def stock(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def status(code: int, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 %d Words" % code, *headers, b"Content-Length: 0", b"", b""])


class Signer(httpx.Auth):
    """Signs every attempt with the next number."""

    def __init__(self) -> None:
        self.count = 0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self.count += 1
        request.headers["X-Nonce"] = str(self.count)
        yield request


async def through(clock: SteppedClock, asked: asyncio.Task[httpx.Response]) -> httpx.Response:
    """Move the clock on until the request has its answer."""
    while not asked.done():
        await clock.advance(0.25)
        await asyncio.sleep(0)
    return await asked


async def test_a_read_is_repeated_and_signed_anew_each_time(stock: bool) -> None:
    clock = SteppedClock(NOON)
    server = Server([CLOSE], status(502), status(503, b"Retry-After: 2"), OK)
    async with talking(server, stock, clock=clock, timeout=600, retries=3, auth=Signer()) as client:
        response = await through(clock, asyncio.create_task(client.get("/x")))
    assert response.text == "hi"
    nonces = [line for head in server.heads for line in head.split(b"\r\n") if line.lower()[:7] == b"x-nonce"]
    assert [line[-1:] for line in nonces] == [b"1", b"2", b"3", b"4"]
    assert clock.monotonic() >= 2


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("answer", [[CLOSE], [status(503)], [status(429, b"Retry-After: 0")]])
async def test_nothing_but_a_read_is_repeated(stock: bool, method: str, answer: list[Any]) -> None:
    server = Server(answer)
    async with talking(server, stock, retries=3) as client:
        if answer == [CLOSE]:
            with pytest.raises(ReplyLost):
                await client.request(method, "/x")
        else:
            assert (await client.request(method, "/x")).status_code in (429, 503)
    assert len(server.requests) == 1


async def test_the_last_answer_is_what_comes_back_when_repeats_are_used_up() -> None:
    clock = SteppedClock(NOON)
    for last in (status(504), [CLOSE]):
        server = Server(status(503), [CLOSE], last)
        async with talking(server, False, clock=clock, timeout=600, retries=2) as client:
            asked = asyncio.create_task(client.get("/x"))
            if isinstance(last, bytes):
                assert (await through(clock, asked)).status_code == 504
            else:
                with pytest.raises(ReplyLost):
                    await through(clock, asked)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        (status(429), 1),
        (status(429, b"Retry-After: 60"), 1),
        (status(429, b"Retry-After: soon"), 1),
        (status(429, b"Retry-After: 3"), 2),
        (
            status(
                429, b"Date: Wed, 01 Jul 2026 12:00:00 GMT", b"Retry-After: Wed, 01 Jul 2026 12:00:03 GMT"
            ),
            2,
        ),
        (status(503, b"Retry-After: 60"), 1),
        (status(500), 1),
        (status(404), 1),
    ],
)
async def test_a_throttle_is_sat_out_only_where_it_is_short(answer: bytes, requests: int) -> None:
    clock = SteppedClock(NOON)
    server = Server(answer, OK)
    async with talking(server, False, clock=clock, timeout=600, retries=1) as client:
        response = await through(clock, asyncio.create_task(client.get("/x")))
    assert (len(server.requests), response.status_code == 200) == (requests, requests == 2)
    if b"429" in answer and requests == 2:
        assert clock.monotonic() >= 3


async def test_the_limiter_is_asked_before_each_request_and_told_of_a_throttle(unused_tcp_port: int) -> None:
    clock = SteppedClock(NOON)
    limiter = Limiter([Limit("calls", "token_bucket", capacity=10, per=1000, reserve=0)], clock)
    server = Server(OK, status(429, b"Retry-After: 30"), OK)
    costs: list[str] = []

    def cost(request: httpx.Request) -> Mapping[str, float]:
        costs.append(request.url.path)
        return {"calls": 4}

    options: dict[str, Any] = {
        "clock": clock,
        "timeout": 6000,
        "limiter": limiter,
        "cost": cost,
        "retries": 0,
    }
    async with talking(server, False, **options) as client:
        away = raw_request("POST", f"http://127.0.0.1:{unused_tcp_port}", target=b"/no", headers={}, body=b"")
        with pytest.raises(NotSent):
            await send_raw(client, away)
        await client.get("/a")  # what was not sent gave its allowance back: these two fit
        here = raw_request("POST", client.base_url, target=b"/b", headers={}, body=b"")
        assert (await send_raw(client, here)).status_code == 429
        asked = asyncio.create_task(client.get("/c"))
        await clock.advance(29)
        assert len(server.requests) == 2
        await through(clock, asked)
    assert costs == ["/", "/a", "/", "/c"]
    assert clock.monotonic() >= 200  # ten at most, one back each hundred seconds


async def test_the_tap_sees_every_request_and_what_came_of_it(stock: bool) -> None:
    frames: list[Frame] = []
    server = Server(OK, [CLOSE])
    async with talking(server, stock, tap=frames.append) as client:
        url = str(client.base_url).rstrip("/")
        await send_raw(
            client, raw_request("POST", url, target=b"/a?b=%7e", headers={"X-Key": "k"}, body=b"{}")
        )
        with pytest.raises(ReplyLost):
            await client.get("/b")
    assert [(each.direction, each.kind, each.channel) for each in frames] == [
        ("out", "request", "http"),
        ("in", "response", "http"),
        ("out", "request", "http"),
        ("in", "error", "http"),
    ]
    first, answer, second, failure = frames
    assert (first.head["method"], first.head["target"], first.body) == ("POST", f"{url}/a?b=%7e", b"{}")
    assert first.head["header:X-Key"] == "k"
    assert (answer.head["status"], answer.head["header:Content-Length"], answer.body) == ("200", "2", b"hi")
    assert first.exchange == answer.exchange != second.exchange == failure.exchange
    assert "GET /b was sent" in failure.head["error"]


async def test_date_headers_tell_the_skew(stock: bool) -> None:
    clock = SteppedClock(NOON)
    skew = ClockSkew(clock)
    server = Server(
        status(200, b"Date: Wed, 01 Jul 2026 12:00:07 GMT"), status(200, b"Date: nonsense"), status(200)
    )
    async with talking(server, stock, clock=clock, skew=skew) as client:
        for _ in range(3):
            await client.get("/x")
    assert skew.known
    assert abs(skew.offset - timedelta(seconds=7.5)) <= timedelta(seconds=0.5)


async def test_our_own_clock_that_is_set_is_noticed_within_the_same_second(stock: bool) -> None:
    class Wall(SteppedClock):
        by = timedelta(0)

        def now(self) -> datetime:
            return super().now() + self.by

    clock = Wall(NOON)
    skew = ClockSkew(clock)
    server = Server(*[status(200, b"Date: Wed, 01 Jul 2026 12:00:00 GMT")] * 2)
    async with talking(server, stock, clock=clock, skew=skew) as client:
        await client.get("/x")
        clock.by = timedelta(hours=1)
        await client.get("/x")
    assert abs(skew.offset + clock.by - timedelta(seconds=0.5)) <= timedelta(seconds=0.5)


async def test_redirects_are_answers_and_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = Server(status(307, b"Location: /elsewhere"))
    async with talking(server, False) as client:
        response = await client.post("/x")
        with pytest.raises(VenueError, match="POST /x was answered with 307"):
            raise_for(response)
    assert len(server.requests) == 1


async def test_cookies_that_a_venue_sets_come_back(stock: bool) -> None:
    server = Server(status(200, b"Set-Cookie: session=abc; Path=/"), OK)
    async with talking(server, stock) as client:
        await client.get("/a")
        await client.get("/b")
    assert b"session=abc" in server.heads[1]


@pytest.mark.parametrize(
    "url", ["http://venue.example", "http://10.0.0.1:8080/v1", "http://127.0.0.1.example"]
)
async def test_plain_http_leaves_this_machine_for_nobody(stock: bool, url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not encrypted and not on this machine"):
        http_client("toy", base_url=url, stock=stock)
    async with http_client("toy", base_url="https://venue.example", stock=stock) as client:
        with pytest.raises(ConfigurationError, match="not encrypted"):
            await client.get(url)
        with pytest.raises(ConfigurationError, match="not encrypted"):
            await send_raw(client, raw_request("GET", url, target=b"/", headers={}, body=b""))


@pytest.mark.parametrize("host", ["localhost", "sim.localhost", "127.0.0.2", "[::1]"])
async def test_plain_http_may_go_to_this_machine(host: str) -> None:
    async with http_client("toy", base_url=f"http://{host}:1") as client:
        assert client.base_url.port == 1


async def test_what_httpx_logs_of_addresses_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    log, server = logging.getLogger("httpx"), Server(OK)
    log.filters.clear()
    caplog.set_level(logging.DEBUG)
    async with server.running() as url, http_client("toy", base_url=url) as client:
        await client.get("/orders?signature=abcdef012345")
    assert "signature=[redacted]" in caplog.text
    assert "abcdef012345" not in caplog.text


async def test_addresses_are_joined_as_httpx_joins_them() -> None:
    theirs = httpx.AsyncClient(base_url="http://127.0.0.1:1/v1/")
    async with http_client("toy", base_url="http://127.0.0.1:1/v1/") as ours, theirs:
        for url in ("x", "/x", "/x?a=b", "", "http://other/y", "/x y"):
            for _ in range(2):
                assert (
                    ours.build_request("GET", url, params={"q": "1"}).url
                    == theirs.build_request("GET", url, params={"q": "1"}).url
                )


@pytest.mark.parametrize(
    "options",
    [
        {"content": b"{}"},
        {"content": b"{}", "headers": {"X-Key": "k", "ACCEPT": "a/b", "host": "other"}},
        {"content": b"", "headers": [("A", "1"), ("a", "2"), ("Content-Length", "0")]},
        {"content": b"{}", "timeout": 3.0, "extensions": {"x": 1}},
        {"content": b"{}", "timeout": None},
        {"content": b"{}", "params": {"a": "b"}},
        {"content": b"{}", "cookies": {"a": "b"}},
        {"content": "text"},
        {"json": {"a": 1}},
        {"data": {"a": "1"}},
        {},
    ],
)
async def test_requests_are_built_as_httpx_builds_them(options: dict[str, Any]) -> None:
    theirs = httpx.AsyncClient(base_url="http://127.0.0.1:1/v1", timeout=20.0)
    async with http_client("toy", base_url="http://127.0.0.1:1/v1") as ours, theirs:
        built, expected = (each.build_request("POST", "/x", **options) for each in (ours, theirs))
    assert (built.method, built.url, built.content) == (expected.method, expected.url, expected.content)
    assert sorted(built.headers.multi_items()) == sorted(expected.headers.multi_items())
    assert built.extensions == expected.extensions


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, AuthenticationError), (403, PermissionDenied), (429, RateLimited), (500, VenueUnavailable),
        (503, VenueUnavailable), (404, VenueError), (422, VenueError), (302, VenueError),
    ],
)  # fmt: skip
def test_a_status_is_an_error_of_its_kind(code: int, error: type[VenueError]) -> None:
    request = httpx.Request("GET", "https://h/v1/orders?signature=abc", headers={"X-Key": "topsecret"})
    body = b'{"api_key": "0123456789abcdef", "message":\n "no"}' + b" very long" * 100
    with pytest.raises(error) as raised:
        raise_for(httpx.Response(code, content=body, request=request, headers={"Retry-After": "7"}))
    assert type(raised.value) is error
    text = str(raised.value)
    assert text.startswith(f"GET /v1/orders was answered with {code}: ")
    assert "no" in text
    assert len(text) < 600
    for secret in ("signature", "topsecret", "0123456789abcdef"):
        assert secret not in text
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after == 7


@pytest.mark.parametrize("text", ["9" * 400, "700000", "nan"])
def test_a_retry_after_that_is_no_time_is_none(text: str) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": text})) is None


def test_a_good_status_raises_nothing() -> None:
    for code in (200, 201, 202, 204):
        raise_for(httpx.Response(code, request=httpx.Request("GET", "https://h/")))


def test_numbers_come_straight_to_decimal() -> None:
    assert decode_json(b'{"a": 0.1, "b": 1e-8, "c": 12345678901234567890, "d": [1.10]}') == {
        "a": Decimal("0.1"), "b": Decimal("1e-8"), "c": 12345678901234567890, "d": [Decimal("1.10")],
    }  # fmt: skip
    assert str(decode_json(b"1.10")) == "1.10"


@given(NESTED | st.decimals(allow_nan=False, allow_infinity=False))
def test_what_was_encoded_is_decoded(value: Any) -> None:
    if isinstance(value, Decimal):
        assert decode_json(f"[{value:e}]".encode())[0] == value
    else:
        assert decode_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b'{"api_key": "0123456789abcdef"', b"<html>", b"[NaN]", b"[Infinity]", b"\xff\xfe\x00",
        b"[" * 100_000, b"1" * 5000, b"1e99999999999999999999999",
    ],
)  # fmt: skip
def test_what_is_not_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableReply, match=f"{len(body)} bytes is not JSON") as raised:
        decode_json(body)
    assert "0123456789abcdef" not in f"{raised.value}{raised.value.words}"
    assert len(raised.value.words) <= 303
    assert raised.value.__suppress_context__


async def test_a_tracer_that_patches_httpx_sees_each_request_once(
    stock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = httpx.AsyncHTTPTransport.handle_async_request
    seen: list[tuple[str, int]] = []

    @functools.wraps(base)
    async def traced(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        request.headers["traceparent"] = "00-1"
        response = await base(self, request)
        seen.append((request.method, response.status_code))
        return response

    server = Server(OK, status(404), [CLOSE])
    async with talking(server, stock) as client:
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", traced)
        assert (await client.get("/a")).text == "hi"
        request = raw_request("POST", client.base_url, target=b"/b", headers={}, body=b"{}")
        assert (await send_raw(client, request)).status_code == 404
        with pytest.raises(ReplyLost):
            await client.post("/c", content=b"{}")
    assert seen == [("GET", 200), ("POST", 404)]
    assert all(b"traceparent: 00-1" in head for head in server.heads)


async def test_only_our_clients_take_raw_requests() -> None:
    async with httpx.AsyncClient() as plain:
        with pytest.raises(InvalidInput, match="expected a client that http_client made"):
            await send_raw(plain, httpx.Request("GET", "http://h"))
