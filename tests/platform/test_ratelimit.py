"""The limiter against venues that count for themselves: never refused, hardly slower, the urgent first."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mts1b_brokers_core.foundation.errors import ConfigurationError
from mts1b_brokers_core.platform.clock import RealClock, SteppedClock
from mts1b_brokers_core.platform.ratelimit import (
    LONGEST_PENALTY,
    Limit,
    Limiter,
    Permit,
    Priority,
    prioritised,
)

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
KINDS: tuple[Any, ...] = ("token_bucket", "fixed_window", "sliding_log", "decaying")


class VenueBucket:
    """Tokens that come evenly up to a most; a request takes its cost or is refused."""

    def __init__(self, capacity: float, per: float) -> None:
        self.most = self.tokens = Fraction(capacity)
        self.rate = Fraction(capacity) / Fraction(per)
        self.at = 0

    def admits(self, ns: int, cost: float) -> bool:
        self.tokens = min(self.most, self.tokens + self.rate * Fraction(ns - self.at, 10**9))
        self.at = ns
        if self.tokens < cost:
            return False
        self.tokens -= Fraction(cost)
        return True


class VenueCounter:
    """Kraken's: every request adds its points, time takes them off, and above the maximum it is refused."""

    def __init__(self, capacity: float, per: float) -> None:
        self.most = Fraction(capacity)
        self.decay = Fraction(capacity) / Fraction(per)
        self.count = Fraction(0)
        self.at = 0

    def admits(self, ns: int, cost: float) -> bool:
        self.count = max(Fraction(0), self.count - self.decay * Fraction(ns - self.at, 10**9))
        self.at = ns
        self.count += Fraction(cost)
        return self.count <= self.most


class VenueWindow:
    """A count that starts anew each so many seconds of the venue's own clock."""

    def __init__(self, capacity: float, per: float, phase: float = 0.0) -> None:
        self.most = Fraction(capacity)
        self.per, self.phase = round(per * 1e9), round(phase * 1e9)
        self.window, self.count = -1, Fraction(0)

    def admits(self, ns: int, cost: float) -> bool:
        window = (ns + self.phase) // self.per
        if window != self.window:
            self.window, self.count = window, Fraction(0)
        self.count += Fraction(cost)
        return self.count <= self.most

    def resets_in(self, ns: int) -> float:
        return (self.per - (ns + self.phase) % self.per) / 1e9


class VenueLog:
    """Every request of the last so many seconds counts."""

    def __init__(self, capacity: float, per: float) -> None:
        self.most, self.per = Fraction(capacity), round(per * 1e9)
        self.log: list[tuple[int, Fraction]] = []

    def admits(self, ns: int, cost: float) -> bool:
        self.log = [row for row in self.log if row[0] > ns - self.per] + [(ns, Fraction(cost))]
        return sum(row[1] for row in self.log) <= self.most


Venue = VenueBucket | VenueCounter | VenueWindow | VenueLog


def venue_for(limit: Limit, phase: float = 0.0) -> Venue:
    if limit.kind == "fixed_window":
        return VenueWindow(limit.capacity, limit.per, phase)
    if limit.kind == "sliding_log":
        return VenueLog(limit.capacity, limit.per)
    return (VenueBucket if limit.kind == "token_bucket" else VenueCounter)(limit.capacity, limit.per)


def simulated(program: Callable[[SteppedClock], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await program(SteppedClock(NOON, auto=True))

    asyncio.run(run())


def elapsed_ns(clock: SteppedClock) -> int:
    return round(clock.monotonic() * 1e9)


async def saturate(
    limit: Limit, clock: SteppedClock, priorities: tuple[Priority, ...] = tuple(Priority)
) -> tuple[dict[Priority, int], int]:
    """Ask for more than is allowed for two minutes, with every priority.

    Returns what passed in the second minute, when the bucket's first burst is over, and all refusals.
    """
    limiter, venue = Limiter([limit], clock), venue_for(limit)
    passed = dict.fromkeys(priorities, 0)
    refused = 0

    async def asks(priority: Priority) -> None:
        nonlocal refused
        while True:
            await limiter.acquire({limit.name: 1}, priority=priority)
            passed[priority] += 60 <= clock.monotonic() < 120
            refused += not venue.admits(elapsed_ns(clock), 1)
            if priority is Priority.CANCEL:  # a fifth of all requests, not all of them
                await clock.sleep(limit.per / limit.capacity * 3 * 5)

    tasks = [asyncio.create_task(asks(priority)) for priority in priorities for _ in range(3)]
    await clock.sleep(120)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return passed, refused


#: As venues' sheets state them; capacity and seconds.
SHEETS = [(30, 1.0), (10, 1.0), (120, 60.0), (3, 2.0), (100, 10.0)]
COUNTERS = [(20, 40.0), (125, 53.4)]
LIMITS = [
    # A tenth of 3 is no request: what is kept of it is lost to all but cancels.
    Limit("requests", kind, *sheet, reserve=0.1 if sheet[0] >= 10 else 0.0)
    for kind in KINDS
    for sheet in SHEETS + COUNTERS * (kind in ("token_bucket", "decaying"))
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.kind} {limit.capacity}/{limit.per}")
async def test_a_minute_at_the_allowed_rate_without_a_refusal(limit: Limit) -> None:
    passed, refused = await saturate(limit, SteppedClock(NOON, auto=True))
    assert refused == 0
    allowed = limit.capacity / limit.per * 60
    assert sum(passed.values()) >= 0.98 * allowed - 1  # one may fall just outside the minute
    assert passed[Priority.CANCEL] > 0
    assert passed[Priority.RESOLVER] > passed[Priority.OTHER]


requests = st.lists(
    st.tuples(
        st.floats(0, 5).map(lambda seconds: round(seconds, 3)),
        st.integers(1, 12),
        st.sampled_from(Priority),
        st.one_of(st.none(), st.floats(0, 3).map(lambda seconds: round(seconds, 3))),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    capacity=st.integers(1, 12),
    per=st.sampled_from([0.1, 1.0, 3.7, 10.0]),
    reserve=st.sampled_from([0.0, 0.1, 0.5]),
    phase=st.floats(0, 10),
    asked=requests,
)
def test_no_schedule_gets_refused_loses_a_permit_or_jumps_the_queue(
    kind: Any, capacity: int, per: float, reserve: float, phase: float, asked: list[Any]
) -> None:
    """Requests arrive, some are given up; the venue counts each that passed and would refuse none."""

    async def program(clock: SteppedClock) -> None:
        limit = Limit("requests", kind, capacity, per, reserve=reserve)
        limiter, venue = Limiter([limit], clock), venue_for(limit, phase)
        waiting: dict[int, Priority] = {}
        passed: list[int] = []

        async def asks(number: int, at: float, cost: int, priority: Priority, patience: float | None) -> None:
            await clock.sleep(at)
            cost = min(cost, capacity)
            waiting[number] = priority
            permit = None
            try:
                with contextlib.suppress(TimeoutError):
                    async with clock.timeout(patience):
                        permit = await limiter.acquire({"requests": cost}, priority=priority)
            finally:
                arrived = list(waiting)
                del waiting[number]
            if permit is not None:
                assert venue.admits(elapsed_ns(clock), cost)
                ahead = [other for other in arrived[: arrived.index(number)] if other in waiting]
                assert all(waiting[other] > priority for other in ahead)
                passed.append(number)

        tasks = [
            asyncio.create_task(asks(number, *row))
            for number, row in enumerate(sorted(asked, key=lambda row: row[0]))
        ]
        await asyncio.gather(*tasks)
        assert not waiting
        assert len(passed) >= sum(row[3] is None for row in asked)
        await clock.sleep(per * 1.02)
        before = clock.monotonic()
        await limiter.acquire({"requests": capacity}, priority=Priority.CANCEL)
        assert clock.monotonic() == before, "what was given up is free again"

    simulated(program)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    costs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=1, max_size=20),
)
def test_several_limits_are_taken_together_or_not_at_all(kinds: Any, costs: list[tuple[int, int]]) -> None:
    async def program(clock: SteppedClock) -> None:
        limits = [Limit("short", kinds[0], 3, 1.0), Limit("long", kinds[1], 8, 10.0)]
        limiter = Limiter(limits, clock)
        venues = {limit.name: venue_for(limit) for limit in limits}

        async def asks(short: int, long: int) -> None:
            await limiter.acquire({"short": short, "long": long})
            for name, cost in (("short", short), ("long", long)):
                assert not cost or venues[name].admits(elapsed_ns(clock), cost)

        await asyncio.gather(*(asks(*row) for row in costs))

    simulated(program)


@settings(max_examples=60, deadline=None)
@given(
    phase=st.floats(0, 10),
    gaps=st.lists(st.floats(0, 4).map(lambda seconds: round(seconds, 3)), min_size=5, max_size=40),
)
def test_a_window_is_used_anew_the_moment_the_venue_said_it_ends(phase: float, gaps: list[float]) -> None:
    async def program(clock: SteppedClock) -> None:
        limit = Limit("requests", "fixed_window", 5, 10.0)
        limiter, venue = Limiter([limit], clock), VenueWindow(5, 10.0, phase)
        for gap in gaps:
            await clock.sleep(gap)
            await limiter.acquire({"requests": 1}, priority=Priority.CANCEL)
            ns = elapsed_ns(clock)
            assert venue.admits(ns, 1)
            limiter.reported(
                "requests", remaining=float(venue.most - venue.count), reset_in=venue.resets_in(ns)
            )

    simulated(program)


async def test_what_left_just_before_the_end_of_a_window_may_count_for_the_next() -> None:
    clock = SteppedClock(NOON, auto=True)
    limiter = Limiter([Limit("requests", "fixed_window", 2, 60.0, reserve=0)], clock)
    await limiter.acquire({"requests": 1})
    limiter.reported("requests", remaining=1, reset_in=2.0)
    await clock.sleep(1.9)
    await limiter.acquire({"requests": 1})  # it may arrive at the venue after the end
    await limiter.acquire({"requests": 1})
    assert 2.0 <= clock.monotonic() < 2.1
    await limiter.acquire({"requests": 1})
    assert clock.monotonic() > 61


async def test_a_reported_end_of_the_window_spares_a_cancel_the_wait_of_a_whole_one() -> None:
    clock = SteppedClock(NOON, auto=True)
    limiter = Limiter([Limit("requests", "fixed_window", 1, 60.0)], clock)
    await limiter.acquire({"requests": 1})
    limiter.reported("requests", remaining=0, reset_in=2.0)
    await limiter.acquire({"requests": 1})
    assert 2.0 <= clock.monotonic() < 2.1


async def test_the_reserve_is_for_cancels_alone() -> None:
    clock = SteppedClock(NOON)
    limiter = Limiter([Limit("requests", "token_bucket", 10, 10.0, reserve=0.2)], clock)
    for _ in range(8):
        await limiter.acquire({"requests": 1}, priority=Priority.SUBMIT)
    submit = asyncio.create_task(limiter.acquire({"requests": 1}, priority=Priority.SUBMIT))
    await clock.advance(0)
    for _ in range(2):
        await limiter.acquire({"requests": 1}, priority=Priority.CANCEL)
    assert not submit.done()
    submit.cancel()


async def test_a_request_larger_than_what_the_reserve_leaves_passes_when_all_is_free() -> None:
    clock = SteppedClock(NOON, auto=True)
    limiter = Limiter([Limit("one", "token_bucket", 1, 1.0)], clock)
    for _ in range(3):
        await limiter.acquire({"one": 1})
    assert 2.0 <= clock.monotonic() < 2.1


async def test_a_large_request_is_not_overtaken_by_small_ones_but_by_what_needs_another_limit() -> None:
    clock = SteppedClock(NOON)
    limits = [
        Limit("pair", "token_bucket", 10, 10.0, "symbol", reserve=0),
        Limit("login", "token_bucket", 100, 1.0),
    ]
    limiter = Limiter(limits, clock)
    await limiter.acquire({"pair": 10}, symbol="BTC-USD")
    order: list[str] = []

    async def asks(name: str, cost: int, symbol: str) -> None:
        await limiter.acquire({"pair": cost, **({"login": 1} if name == "small" else {})}, symbol=symbol)
        order.append(name)

    tasks = [asyncio.create_task(asks("large", 8, "BTC-USD"))]
    await clock.advance(0)
    tasks += [
        asyncio.create_task(asks("small", 1, "BTC-USD")),
        asyncio.create_task(asks("else", 1, "ETH-USD")),
    ]
    await clock.advance(8)
    assert order == ["else"]
    await clock.advance(2)
    assert order == ["else", "large", "small"]


async def test_a_request_that_needs_all_of_two_limits_is_served_among_those_that_need_one() -> None:
    clock = SteppedClock(NOON, auto=True)
    limits = [Limit("a", "sliding_log", 4, 4.0, reserve=0), Limit("b", "token_bucket", 4, 8.0, reserve=0)]
    limiter = Limiter(limits, clock)

    async def asks_again_and_again(name: str) -> None:
        while True:
            await limiter.acquire({name: 1})

    tasks = [asyncio.create_task(asks_again_and_again(name)) for name in "aabb"]
    await clock.sleep(10)
    await limiter.acquire({"a": 4, "b": 4})
    assert clock.monotonic() < 10 + 8 * 1.02 + 4 * 1.02
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
async def test_requests_may_catch_each_other_up_on_the_way(kind: Any, seed: int) -> None:
    """Up to a hundredth of the window: what the spare is for."""
    clock, chance = SteppedClock(NOON, auto=True), random.Random(seed)
    limit = Limit("requests", kind, 20, 2.0)
    limiter, venue = Limiter([limit], clock), venue_for(limit, chance.random())
    arrivals = []
    for _ in range(400):
        await limiter.acquire({"requests": 1}, priority=Priority.SUBMIT)
        arrivals.append(elapsed_ns(clock) + round(chance.uniform(0.05, 0.05 + limit.per * 0.0099) * 1e9))
    assert all(venue.admits(ns, 1) for ns in sorted(arrivals))


async def test_a_cost_above_the_capacity_and_an_unknown_limit_are_refused_at_once() -> None:
    limiter = Limiter([Limit("requests", "decaying", 20, 40.0)], SteppedClock(NOON))
    with pytest.raises(ConfigurationError, match="costs 21 of the limit 'requests', whose capacity is 20"):
        await limiter.acquire({"requests": 21})
    with pytest.raises(ConfigurationError, match="no limit named 'request'; there are requests"):
        await limiter.acquire({"request": 1})
    with pytest.raises(ConfigurationError, match="no limit named 'other'"):
        limiter.reported("other", remaining=1)
    with pytest.raises(ConfigurationError, match="capacity and per"):
        Limit("requests", "decaying", 0, 1.0)


async def test_a_capacity_that_shrinks_below_a_waiting_request_fails_it() -> None:
    clock = SteppedClock(NOON)
    limiter = Limiter([Limit("requests", "decaying", 20, 20.0, reserve=0)], clock)
    await limiter.acquire({"requests": 20})
    waiting = asyncio.create_task(limiter.acquire({"requests": 15}))
    await clock.advance(0)
    limiter.reported("requests", capacity=10)
    with pytest.raises(ConfigurationError, match="whose capacity is 10"):
        await waiting


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_venue_reports_is_believed_when_it_is_less_and_not_when_it_is_more(kind: Any) -> None:
    clock = SteppedClock(NOON)
    limiter = Limiter([Limit("requests", kind, 10, 10.0, reserve=0)], clock)
    await limiter.acquire({"requests": 4})
    limiter.reported("requests", remaining=9)  # three of ours are still on their way
    await limiter.acquire({"requests": 2})
    limiter.reported("requests", remaining=1)  # somebody else uses the same login
    await limiter.acquire({"requests": 1})
    late = asyncio.create_task(limiter.acquire({"requests": 1}))
    await clock.advance(0)
    assert not late.done()
    await clock.advance(10.2)
    await late


async def test_a_larger_capacity_that_the_venue_announces_is_used() -> None:
    clock = SteppedClock(NOON)
    limiter = Limiter([Limit("pair", "decaying", 60, 60.0, "symbol", reserve=0)], clock)
    await limiter.acquire({"pair": 60}, symbol="BTC-USD")
    limiter.reported("pair", capacity=125)
    await limiter.acquire({"pair": 65}, symbol="BTC-USD")
    await limiter.acquire({"pair": 125}, symbol="ETH-USD")


async def test_nothing_passes_a_penalty_but_cancels_after_a_second() -> None:
    clock = SteppedClock(NOON)
    limits = [Limit("orders", "token_bucket", 5, 1.0), Limit("reads", "token_bucket", 5, 1.0)]
    limiter = Limiter(limits, clock)
    order: list[tuple[str, float]] = []

    async def asks(name: str, limit: str, priority: Priority) -> None:
        await limiter.acquire({limit: 1}, priority=priority)
        order.append((name, clock.monotonic()))

    limiter.penalise(3, "orders")
    tasks = [asyncio.create_task(asks("submit", "orders", Priority.SUBMIT))]
    await clock.advance(0)
    tasks.append(asyncio.create_task(asks("cancel", "orders", Priority.CANCEL)))
    tasks.append(asyncio.create_task(asks("read", "reads", Priority.OTHER)))
    await clock.advance(5)
    assert order == [("read", 0.0), ("cancel", 1.0), ("submit", 3.0)]
    limiter.penalise(2)
    tasks.append(asyncio.create_task(asks("read", "reads", Priority.OTHER)))
    free = asyncio.create_task(limiter.acquire({}))
    await clock.advance(1.9)
    assert (len(order), free.done()) == (3, False)
    await clock.advance(0.1)
    assert order[3] == ("read", 7.0)
    assert free.done()


async def test_a_cancel_passes_a_long_penalty_that_others_wait_for() -> None:
    clock = SteppedClock(NOON)
    told: list[tuple[str, float, Priority]] = []
    limiter = Limiter(
        [Limit("orders", "token_bucket", 5, 1.0)], clock, on_wait=lambda *what: told.append(what)
    )
    limiter.penalise(1e9)
    limiter.penalise(0.25)  # a shorter one takes nothing off a longer one
    submit = asyncio.create_task(limiter.acquire({"orders": 1}, priority=Priority.SUBMIT))
    cancel = asyncio.create_task(limiter.acquire({"orders": 1}, priority=Priority.CANCEL))
    await clock.advance(0.9)
    assert not cancel.done()
    await clock.advance(0.1)
    assert (cancel.done(), submit.done()) == (True, False)
    ((_, waited, priority),) = told
    assert (round(waited, 6), priority) == (1.0, Priority.CANCEL)
    await limiter.acquire({"orders": 1}, priority=Priority.CANCEL)
    await clock.advance(LONGEST_PENALTY - 1.5)
    assert not submit.done()
    await clock.advance(0.5)
    assert submit.done()


@pytest.mark.parametrize("seconds", [math.inf, math.nan, 0.0, -5.0])
async def test_a_penalty_that_is_no_time_is_none(seconds: float) -> None:
    limiter = Limiter([Limit("orders", "token_bucket", 5, 1.0)], SteppedClock(NOON))
    limiter.penalise(seconds)
    limiter.penalise(seconds, "orders")
    await limiter.acquire({"orders": 1})


async def test_a_penalty_holds_for_symbols_not_asked_for_before() -> None:
    clock = SteppedClock(NOON, auto=True)
    limiter = Limiter([Limit("pair", "decaying", 60, 60.0, "symbol")], clock)
    limiter.penalise(4, "pair")
    await limiter.acquire({"pair": 1}, symbol="NEW-USD")
    assert clock.monotonic() == pytest.approx(4)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refund_gives_back_what_was_taken_once(kind: Any) -> None:
    clock = SteppedClock(NOON)
    limiter = Limiter([Limit("requests", kind, 10, 10.0, reserve=0)], clock)
    permit = await limiter.acquire({"requests": 6})
    await limiter.acquire({"requests": 4})
    waiting = asyncio.create_task(limiter.acquire({"requests": 6}))
    await clock.advance(0)
    assert not waiting.done()
    permit.refund()
    permit.refund()
    await waiting
    late = asyncio.create_task(limiter.acquire({"requests": 1}))
    await clock.advance(0)
    assert not late.done()
    late.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_permit_granted_to_somebody_who_gave_up_in_that_moment_is_not_lost(kind: Any) -> None:
    clock = SteppedClock(NOON)
    limiter = Limiter([Limit("requests", kind, 10, 10.0, reserve=0)], clock)
    permit = await limiter.acquire({"requests": 10})
    first = asyncio.create_task(limiter.acquire({"requests": 10}))
    await clock.advance(0)
    second = asyncio.create_task(limiter.acquire({"requests": 10}))
    await clock.advance(0)
    permit.refund()
    first.cancel()
    assert isinstance(await second, Permit)
    assert first.cancelled()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_late_refund_never_frees_what_another_request_has_taken_since(kind: Any) -> None:
    clock = SteppedClock(NOON)
    limiter = Limiter([Limit("requests", kind, 10, 10.0, reserve=0)], clock)
    permit = await limiter.acquire({"requests": 10})
    await clock.advance(11)
    await limiter.acquire({"requests": 10})
    permit.refund()
    late = asyncio.create_task(limiter.acquire({"requests": 1}))
    await clock.advance(0)
    assert not late.done()
    late.cancel()


async def test_requests_inside_take_the_priority_and_the_first_travels_on_the_prepaid_permit() -> None:
    clock = SteppedClock(NOON)
    waits: list[tuple[str, float, Priority]] = []
    limiter = Limiter(
        [Limit("requests", "token_bucket", 2, 2.0, reserve=0.5)],
        clock,
        on_wait=lambda *row: waits.append((row[0], round(row[1], 2), row[2])),
    )
    prepaid = await limiter.acquire({"requests": 1}, priority=Priority.SUBMIT)
    with prioritised(Priority.CANCEL, prepaid=prepaid):
        assert await limiter.acquire({"requests": 1}) is prepaid
        await limiter.acquire({"requests": 1})  # the reserve: it counts as a cancel
        second = asyncio.create_task(limiter.acquire({"requests": 1}))
        await clock.advance(0)
        assert not second.done()
    await clock.advance(2)
    assert isinstance(await second, Permit)
    assert waits == [("requests", 1.01, Priority.CANCEL)]
    outside = asyncio.create_task(limiter.acquire({"requests": 1}))
    await clock.advance(0)
    assert not outside.done(), "outside, it is the least urgent"
    outside.cancel()


async def test_scopes_count_apart_and_an_address_counts_for_the_whole_process() -> None:
    clock = SteppedClock(NOON)
    limits = [
        Limit("account", "token_bucket", 1, 100.0, "account"),
        Limit("pair", "token_bucket", 1, 100.0, "symbol"),
        Limit("address", "fixed_window", 2, 100.0, "address", reserve=0),
    ]
    first, second = Limiter(limits, clock, address="here"), Limiter(limits, clock, address="here")
    for account in ("a", "b"):
        await first.acquire({"account": 1}, account=account)
        await first.acquire({"pair": 1}, account=account, symbol="X")
    await first.acquire({"pair": 1}, account="a", symbol="Y")
    await first.acquire({"address": 1})
    await second.acquire({"address": 1})
    third = asyncio.create_task(second.acquire({"address": 1}))
    repeated = asyncio.create_task(first.acquire({"account": 1}, account="a"))
    await clock.advance(0)
    assert not third.done()
    assert not repeated.done()
    await Limiter(limits, clock, address="there").acquire({"address": 2})
    await clock.advance(102)
    await asyncio.gather(third, repeated)


async def test_brokers_that_each_have_a_real_clock_share_their_address() -> None:
    limits = [Limit("address in a test", "fixed_window", 1, 3600.0, "address")]
    await Limiter(limits, RealClock()).acquire({"address in a test": 1})
    late = asyncio.create_task(Limiter(limits, RealClock()).acquire({"address in a test": 1}))
    await asyncio.sleep(0)
    assert not late.done()
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
