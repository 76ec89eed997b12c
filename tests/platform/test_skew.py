"""Clock skew: the true offset is always inside what is claimed, and a stepped clock is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import floor, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.skew import ClockSkew

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def cut(moment: datetime, resolution: float) -> datetime:
    """Cut a time to whole steps, as servers write it."""
    micro = round(resolution * 1e6)
    since = (moment - NOON) // timedelta(microseconds=1)
    return NOON + timedelta(microseconds=floor(since / micro) * micro)


async def reply(
    clock: SteppedClock,
    skew: ClockSkew,
    offset: timedelta | Callable[[], timedelta],
    there: float,
    back: float,
    resolution: float,
) -> None:
    """Ask a server whose clock is `offset` ahead of ours."""
    sent = clock.now()
    await clock.advance(there)
    server = cut(clock.now() + (offset if isinstance(offset, timedelta) else offset()), resolution)
    await clock.advance(back)
    skew.observe(sent=sent, received=clock.now(), server=server, resolution=resolution)


seconds = st.floats(0, 3).map(lambda value: round(value, 6))
replies = st.lists(
    st.tuples(seconds, seconds, st.sampled_from([1.0, 0.001, 1e-6]), st.floats(0, 600)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=150, deadline=None)
@given(offset=st.floats(-3600, 3600), drift=st.floats(-1e-4, 1e-4), answers=replies)
def test_the_true_offset_is_inside_what_is_claimed(
    offset: float, drift: float, answers: list[tuple[float, float, float, float]]
) -> None:
    async def run() -> None:
        clock = SteppedClock(NOON)
        changes: list[ClockSkew] = []
        skew = ClockSkew(clock, on_change=changes.append)

        def true() -> timedelta:
            return timedelta(seconds=offset + drift * clock.monotonic())

        for there, back, resolution, pause in answers:
            await reply(clock, skew, true, there, back, resolution)
            await clock.advance(pause)
            assert abs((true() - skew.offset).total_seconds()) <= skew.uncertainty + 2e-6
            assert skew.uncertainty <= (there + back + resolution) / 2 + (there + back + pause) * 1e-4 + 2e-6
        assert changes == []

    asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(offset=st.floats(-3600, 3600).map(lambda value: timedelta(seconds=value)), answers=replies)
def test_a_steady_clock_is_inside_to_the_microsecond(
    offset: timedelta, answers: list[tuple[float, float, float, float]]
) -> None:
    async def run() -> None:
        clock = SteppedClock(NOON)
        skew = ClockSkew(clock)
        for there, back, resolution, pause in answers:
            await reply(clock, skew, offset, there, back, resolution)
            await clock.advance(pause)
            assert abs((offset - skew.offset).total_seconds()) <= skew.uncertainty + 1e-6

    asyncio.run(run())


async def test_whole_second_headers_narrow_each_other_below_a_second() -> None:
    clock = SteppedClock(NOON)
    skew = ClockSkew(clock)
    for _ in range(10):
        await reply(clock, skew, timedelta(seconds=7.25), 0.02, 0.02, 1.0)
        await clock.advance(0.87)
    assert skew.uncertainty < 0.25
    assert abs(skew.offset - timedelta(seconds=7.25)) < timedelta(seconds=0.25)
    assert abs(skew.venue_now() - clock.now() - timedelta(seconds=7.25)) < timedelta(seconds=0.25)


async def test_nothing_is_claimed_before_the_first_reply() -> None:
    skew = ClockSkew(SteppedClock(NOON))
    assert (skew.known, skew.offset, skew.uncertainty) == (False, timedelta(0), inf)
    assert skew.venue_now() == NOON


@pytest.mark.parametrize("step", [-3600.0, 3600.0, 0.5, -0.5])
async def test_a_stepped_clock_is_believed_at_once_and_told(step: float) -> None:
    clock = SteppedClock(NOON)
    told: list[timedelta] = []
    skew = ClockSkew(clock, on_change=lambda changed: told.append(changed.offset))
    offset = timedelta(seconds=2)
    for _ in range(5):
        await reply(clock, skew, offset, 0.01, 0.01, 0.001)
    assert told == []
    await reply(clock, skew, offset + timedelta(seconds=step), 0.01, 0.01, 0.001)
    assert told == [skew.offset]
    assert abs(skew.offset - offset - timedelta(seconds=step)) <= timedelta(seconds=skew.uncertainty)


async def test_our_own_clock_stepped_back_during_a_request_makes_us_forget() -> None:
    clock = SteppedClock(NOON)
    told: list[bool] = []
    skew = ClockSkew(clock, on_change=lambda changed: told.append(changed.known))
    await reply(clock, skew, timedelta(seconds=2), 0.01, 0.01, 0.001)
    skew.observe(sent=NOON, received=NOON - timedelta(hours=1), server=NOON, resolution=0.001)
    assert (skew.known, told) == (False, [False])


async def test_what_was_known_long_ago_is_claimed_less_exactly() -> None:
    clock = SteppedClock(NOON)
    skew = ClockSkew(clock)
    await reply(clock, skew, timedelta(seconds=2), 0.01, 0.01, 0.001)
    before = skew.uncertainty
    await clock.advance(3600)
    assert skew.uncertainty == pytest.approx(before + 0.36)
