"""What the limiter costs, and how much of the allowed rate it uses, judged by venues that count."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

from mts1b_brokers_core.platform.clock import RealClock, SteppedClock
from mts1b_brokers_core.platform.ratelimit import Limit, Limiter, Priority

#: What one acquire that need not wait may cost, in bare coroutine calls that ask the time.
BARE_CALLS = 12.0
ROUNDS = 9
CALLS = 20_000


def venues() -> ModuleType:
    """Return the tests' venues and their saturating program."""
    file = Path(__file__).parents[1] / "platform" / "test_ratelimit.py"
    spec = importlib.util.spec_from_file_location("venues_of_the_tests", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


async def costs() -> dict[str, float]:
    """Return the microseconds of one call without a wait, by what is called: the best of rounds in turn."""
    clock = RealClock()

    async def bare() -> float:
        return clock.monotonic()

    limiters = {
        kind: Limiter([Limit("requests", kind, 1e9, 1.0)], clock)
        for kind in ("token_bucket", "sliding_log")  # the other two are kept the same ways
    }
    cost = {"requests": 1.0}
    took: dict[str, list[float]] = {"bare coroutine": [], **{kind: [] for kind in limiters}}
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(CALLS):
            await bare()
        took["bare coroutine"].append(time.perf_counter() - begin)
        for kind, limiter in limiters.items():
            begin = time.perf_counter()
            for _ in range(CALLS):
                await limiter.acquire(cost, priority=Priority.SUBMIT)
            took[kind].append(time.perf_counter() - begin)
    return {what: min(rows) * 1e6 / CALLS for what, rows in took.items()}


def main() -> int:
    """Print each figure beside its budget."""
    missed = False
    tests = venues()
    for limit in tests.LIMITS:
        clock = SteppedClock(tests.NOON, auto=True)
        passed, refused = asyncio.run(tests.saturate(limit, clock))
        allowed = limit.capacity / limit.per * 60
        share = sum(passed.values()) / allowed
        ok = refused == 0 and sum(passed.values()) >= 0.98 * allowed - 1
        missed = missed or not ok
        print(
            f"{limit.kind:13} {limit.capacity:4g} in {limit.per:4g} s: {share:7.1%} of the allowed rate, "
            f"{refused} refused  budget 98 % and none  {'ok' if ok else 'MISSED'}"
        )
    took = asyncio.run(costs())
    for what, value in took.items():
        ratio = value / took["bare coroutine"]
        ok = ratio <= BARE_CALLS or what == "bare coroutine"
        missed = missed or (what == "token_bucket" and not ok)
        budget = f"  budget {BARE_CALLS:g}  {'ok' if ok else 'MISSED'}" if what == "token_bucket" else ""
        print(f"acquire, {what:15} {value:6.2f} us = {ratio:5.1f} bare coroutines{budget}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
