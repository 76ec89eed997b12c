"""`with_retry`: what is safe is repeated, what may have happened is not, over a real socket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from http_kit import CLOSE, OK, Server, talking

from mts1b_brokers_core.foundation.errors import BrokerError, NotSent, OrderNotPlaced, ReplyLost, VenueError
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.http import http_client
from mts1b_brokers_core.platform.retry import LONGEST, with_retry

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(params=[False, True], ids=["lean", "stock"])
def stock(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_a_post_whose_reply_is_dropped_reaches_the_server_once(stock: bool) -> None:
    server = Server([CLOSE])
    async with talking(server, stock) as client:

        @with_retry(retries=3, backoff=0.01)
        async def submit() -> str:
            return (await client.post("/v1/orders", content=b"{}")).text

        with pytest.raises(ReplyLost):
            await submit()
    assert len(server.requests) == 1


async def test_a_post_of_which_nothing_left_is_repeated(stock: bool, unused_tcp_port: int) -> None:
    clock = SteppedClock(NOON, auto=True)
    url = f"http://127.0.0.1:{unused_tcp_port}"
    attempts = 0
    async with http_client("toy", base_url=url, stock=stock) as away:
        server = Server(OK)
        async with talking(server, stock) as there:

            @with_retry(retries=3, backoff=0.5, clock=clock)
            async def submit() -> str:
                nonlocal attempts
                attempts += 1
                return (await (away if attempts < 3 else there).post("/v1/orders")).text

            assert await submit() == "hi"
    assert (attempts, len(server.requests)) == (3, 1)


async def test_a_function_whose_order_was_taken_is_not_repeated_for_what_failed_after_it(
    stock: bool, unused_tcp_port: int
) -> None:
    server = Server(OK, OK)
    async with (
        talking(server, stock) as client,
        http_client("toy", base_url=f"http://127.0.0.1:{unused_tcp_port}", retries=0, stock=stock) as away,
    ):

        @with_retry(retries=3, backoff=0.01)
        async def post() -> None:
            await client.post("/v1/orders")

        @with_retry(retries=3, backoff=0.01)
        async def submit() -> None:
            await post()
            await away.get("/v1/orders/1")

        with pytest.raises(NotSent) as failed:
            await submit()
    assert len(server.requests) == 1
    assert not failed.value.repeat_is_safe


async def test_waits_grow_with_jitter_and_the_last_error_is_raised() -> None:
    clock = SteppedClock(NOON, auto=True)
    at: list[float] = []

    @with_retry(retries=8, backoff=1.0, clock=clock)
    async def fails() -> None:
        at.append(clock.monotonic())
        raise NotSent(f"attempt {len(at)}")

    with pytest.raises(NotSent, match="attempt 9"):
        await fails()
    waits = [later - sooner for sooner, later in pairwise(at)]
    assert len(waits) == 8
    assert all(wait <= min(2.0**number, LONGEST) for number, wait in enumerate(waits))
    assert len(set(waits)) == 8


async def test_an_error_that_names_a_wait_is_not_repeated_sooner() -> None:
    clock = SteppedClock(NOON, auto=True)
    failures = [OrderNotPlaced("throttled", certainty="proven", retry_after=45.0)]

    @with_retry(retries=1, backoff=0.1, clock=clock)
    async def submit(word: str, *, other: int) -> tuple[str, int]:
        """Place it."""
        if failures:
            raise failures.pop()
        return word, other

    assert await submit("a", other=1) == ("a", 1)
    assert clock.monotonic() >= 45
    assert submit.__doc__ == "Place it."


@pytest.mark.parametrize(
    "error", [VenueError("no"), ReplyLost("gone"), ValueError("ours"), asyncio.CancelledError()]
)
async def test_everything_else_is_raised_at_once(error: BaseException) -> None:
    calls = 0

    @with_retry(retries=5, backoff=0.01)
    async def fails() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(type(error)):
        await fails()
    assert calls == 1


async def test_an_error_that_is_not_safe_ends_the_repeats() -> None:
    errors: list[BrokerError] = [NotSent("first"), ReplyLost("second"), NotSent("never")]

    @with_retry(retries=5, backoff=0.01, clock=SteppedClock(NOON, auto=True))
    async def fails() -> None:
        raise errors.pop(0)

    with pytest.raises(ReplyLost, match="second"):
        await fails()
    assert len(errors) == 1


def test_nothing_is_loaded_until_something_fails() -> None:
    script = (
        "import asyncio, sys\nfrom mts1b_brokers_core.platform.retry import with_retry\n"
        "@with_retry(retries=3, backoff=1)\nasync def works(): return 1\n"
        "assert asyncio.run(works()) == 1\nprint('tenacity' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
