"""H: a venue's limits are kept, its throttling is said by name, and cancels come first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from failure_kit import Start, resting
from scripted import PROFILE, Venue, buy

from mts1b_brokers_core import EventKind, OrderNotPlaced, OrderStatus, RateLimited, VenueUnavailable
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.ratelimit import Limit, Limiter, Priority
from mts1b_simulator.reference import PROFILES, VenueLimit
from mts1b_simulator.wire import faults


async def test_a_burst_is_spread_over_the_time_that_the_venue_allows(start: Start) -> None:
    """Limits counted a little differently than the venue counts them were broken again and again."""
    # hummingbot#2380, hummingbot#7594
    limited = replace(PROFILES["native_dedupe"], limit=VenueLimit(40, 1.0))
    async with start(limited) as site, site.broker(requests_per_second=40, timeout=5) as broker:
        quotes = await asyncio.gather(*(broker.get_quote("BTC-USD") for _ in range(50)))
        assert len(quotes) == 50
        # What is refused is made again. A machine that stalls may bunch a few on the way, and no more.
        assert site.server.count("GET /v1/quotes") <= 55
        assert EventKind.LIMITER_WAIT in site.kinds()


async def test_a_429_that_names_a_wait_is_sat_out_by_reads(start: Start) -> None:
    """The wait that came with the refusal was ignored, and the next request made it longer."""
    # rotki/rotki#904
    async with start() as site, site.broker(reconcile_every=9999) as broker:
        site.server.faults.next(faults.Status429(0.3), "GET /v1/positions")
        before = broker.clock.monotonic()
        assert await broker.get_positions()
        assert broker.clock.monotonic() - before >= 0.3
        assert len(site.server.faults.applied) == 1


async def test_a_429_without_a_wait_is_not_hammered(start: Start) -> None:
    """A refusal without a Retry-After was answered by trying again at once, for as long as it lasted."""
    # alpaca-py#740
    async with start() as site, site.broker(reconcile_every=9999) as broker:
        site.server.faults.when(faults.Status429(), "GET /v1/positions")
        with pytest.raises(RateLimited) as error:
            await broker.get_positions()
        assert error.value.retry_after is None
        assert len(site.server.faults.applied) == 1


@pytest.mark.parametrize("seconds", [60.0, 900.0])
async def test_a_lockout_is_surfaced_as_rate_limited_with_its_end(start: Start, seconds: float) -> None:
    """A lockout of a quarter of an hour was an error like any other, and backing off did not help."""
    # rotki/rotki#904, ccxt#3611
    async with start() as site, site.broker(reconcile_every=9999) as broker:
        site.server.faults.next(faults.Status429(seconds), "GET /v1/positions")
        with pytest.raises(RateLimited) as error:
            await broker.get_positions()
        assert error.value.retry_after == seconds
        assert (error.value.broker, error.value.operation) == ("reference", "get_positions")
        assert f"{seconds:g} s" in error.value.next_step


async def test_a_throttled_order_is_proven_not_placed_and_says_when_to_come_again(start: Start) -> None:
    """A throttled order was repeated blindly, or taken for rejected."""
    # alpaca-py#740, ccxt#3611
    async with start("token_not_unique") as site, site.broker(resend_within=0) as broker:
        site.server.faults.next(faults.Status429(), "POST /v1/orders")
        order = resting()
        with pytest.raises(OrderNotPlaced) as error:
            await broker.submit(order)
        assert (error.value.certainty, error.value.retry_after) == ("proven", 1.0)
        assert (await broker.submit(order)).status is OrderStatus.NEW
        assert len(site.orders()) == 1


async def test_private_limits_do_not_hold_public_requests_back(clock: SteppedClock) -> None:
    """One limit stood for all, so that market data waited for what orders had used up."""
    # hummingbot#7423
    limits = [Limit("private", "decaying", 20, 60), Limit("public", "token_bucket", 10, 1)]
    limiter = Limiter(limits, clock)
    for _ in range(18):
        await limiter.acquire({"private": 1})
    waiting = asyncio.ensure_future(limiter.acquire({"private": 1}))
    await clock.advance(0)
    assert not waiting.done()
    await limiter.acquire({"public": 1})  # would never return otherwise: time stands still
    await clock.advance(60)
    assert waiting.done()


async def test_what_others_use_of_a_shared_login_is_learned_from_the_venue(clock: SteppedClock) -> None:
    """Five programs on one key each kept the limit for themselves, and threw each other out."""
    # ctubio/Krypto-trading-bot#814, ccxt#9989
    limiter = Limiter([Limit("requests", "fixed_window", 10, 10, reserve=0)], clock)
    await limiter.acquire({"requests": 1})
    limiter.reported("requests", remaining=0, reset_in=4)  # we used one, and others nine
    waiting = asyncio.ensure_future(limiter.acquire({"requests": 1}))
    await clock.advance(3.5)
    assert not waiting.done()
    await clock.advance(1.5)
    assert waiting.done()


async def test_processes_that_share_a_login_lose_nothing_to_the_limit(start: Start) -> None:
    """Two processes on one login broke its limit together, and requests of either were lost."""
    # ctubio/Krypto-trading-bot#814
    limited = replace(PROFILES["native_dedupe"], limit=VenueLimit(20, 0.5))
    async with start(limited) as site:
        one = site.broker(requests_per_second=40, reconcile_every=9999)
        other = site.broker(requests_per_second=40, reconcile_every=9999)
        async with one, other:
            asked = [broker.get_quote("BTC-USD") for broker in (one, other) for _ in range(20)]
            assert len(await asyncio.gather(*asked)) == 40


async def test_a_cancel_overtakes_what_waits_for_the_limit(start: Start) -> None:
    """In a busy minute the cancel stood at the end of the queue, behind all that asked for prices."""
    # hummingbot#7594
    limited = replace(PROFILES["native_dedupe"], limit=VenueLimit(30, 1.0))
    async with start(limited) as site, site.broker(requests_per_second=30, reconcile_every=9999) as broker:
        order = await broker.submit(resting())
        quotes = [asyncio.ensure_future(broker.get_quote("BTC-USD")) for _ in range(45)]
        await asyncio.sleep(0)
        assert await broker.cancel(order.order_id) is True
        assert sum(quote.done() for quote in quotes) < 45
        await asyncio.gather(*quotes)


async def test_cancels_have_a_reserve_that_nothing_else_can_use(clock: SteppedClock) -> None:
    """With the allowance used up by orders, nothing could be cancelled until it came back."""
    # hummingbot#7594
    limiter = Limiter([Limit("requests", "fixed_window", 10, 10)], clock)
    for _ in range(9):
        await limiter.acquire({"requests": 1}, priority=Priority.SUBMIT)
    submit = asyncio.ensure_future(limiter.acquire({"requests": 1}, priority=Priority.SUBMIT))
    await limiter.acquire({"requests": 1}, priority=Priority.CANCEL)
    assert not submit.done()
    await clock.advance(11)
    assert submit.done()


async def test_a_venue_that_breaks_down_under_polling_is_polled_less(clock: SteppedClock) -> None:
    """The client's own polling brought the venue down, and went on at the same pace against the errors."""
    # lumibot#1106
    venue = Venue(clock, replace(PROFILE, fill_source="poll", poll_every=2.0))
    async with venue.client() as broker:
        order = await broker.submit(buy())
        venue.read_next.extend([VenueUnavailable("500")] * 100)
        before = venue.calls.count("executions")
        await clock.advance(120)
        assert venue.calls.count("executions") - before <= 15
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.NEW
        venue.read_next.clear()
        venue.fill("V1", "1", push=False)
        await clock.advance(35)
        assert (await broker.outcome(order.idempotency_key)).filled_quantity == Decimal(1)
