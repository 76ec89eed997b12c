"""Stepped time: it moves only when told, wakes in order, and stands still while held."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mts1b_brokers_core.platform.clock import RealClock, SteppedClock, from_ns, to_ns

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


async def test_time_stands_still_until_it_is_moved() -> None:
    clock = SteppedClock(NOON)
    assert (clock.now(), clock.monotonic(), clock.now_ns()) == (NOON, 0.0, to_ns(NOON))
    await clock.advance(1.5)
    assert clock.now() == NOON + timedelta(seconds=1.5)
    assert clock.monotonic() == 1.5


async def test_sleepers_wake_in_order_each_at_its_own_moment() -> None:
    clock = SteppedClock(NOON)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float, again: float = 0) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))
        if again:
            await sleeper(f"{name}+", again)

    tasks = [
        asyncio.create_task(sleeper(*each))
        for each in (("c", 3), ("a", 1, 1), ("b", 2), ("a2", 1), ("far", 99), ("now", 0))
    ]
    await clock.advance(5)
    assert woken == [("now", 0), ("a", 1), ("a2", 1), ("b", 2), ("a+", 2), ("c", 3)]
    assert not tasks[4].done()
    tasks[4].cancel()


async def test_a_timeout_ends_the_block_in_simulated_time() -> None:
    clock = SteppedClock(NOON)

    async def waits() -> None:
        async with clock.timeout(5):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(waits())
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.1)
    with pytest.raises(TimeoutError):
        await waiting
    async with clock.timeout(None), clock.timeout(3):
        await asyncio.sleep(0)
    await clock.advance(10)  # the timeout left behind disturbs nobody


async def test_with_auto_the_clock_jumps_when_nothing_else_can_go_on() -> None:
    clock = SteppedClock(NOON, auto=True)
    await clock.sleep(3600)
    assert clock.monotonic() == 3600
    with pytest.raises(TimeoutError):
        async with clock.timeout(60):
            await asyncio.Event().wait()
    assert clock.monotonic() == 3660


async def test_a_held_clock_does_not_jump() -> None:
    clock = SteppedClock(NOON, auto=True)
    sleeping = asyncio.create_task(clock.sleep(10))
    with clock.hold():
        done = await asyncio.to_thread(lambda: 42)
        assert (done, clock.monotonic()) == (42, 0)
        assert not sleeping.done()
    await sleeping
    assert clock.monotonic() == 10


async def test_a_clock_with_a_speed_takes_its_time() -> None:
    clock, real = SteppedClock(NOON, auto=True, speed=1000.0), RealClock()
    before = real.monotonic()
    await clock.sleep(20)
    assert real.monotonic() - before >= 0.02


async def test_real_time_is_aware_and_moves_on() -> None:
    clock = RealClock()
    assert clock.now().tzinfo is UTC
    first = clock.monotonic(), clock.now_ns()
    await clock.sleep(0)
    assert (clock.monotonic(), clock.now_ns()) >= first
    with clock.hold():
        pass
    with pytest.raises(TimeoutError):
        async with clock.timeout(0):
            await asyncio.Event().wait()


@pytest.mark.parametrize("moment", [NOON, NOON.replace(microsecond=1), datetime(1970, 1, 1, tzinfo=UTC)])
def test_nanoseconds_and_times_are_the_same(moment: datetime) -> None:
    assert from_ns(to_ns(moment)) == moment
