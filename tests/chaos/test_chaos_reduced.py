"""Chaos, reduced: each kind of venue with a seed of its own, and every seed that ever failed."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest

from tests.chaos.flow import plans
from tests.chaos.judge import Finding
from tests.chaos.kinds import KINDS
from tests.chaos.run import Result, chaos, watched

SEEDS = tomllib.loads(Path(__file__).with_name("seeds.toml").read_text(encoding="utf-8"))["seed"]
#: Orders of each run that is no replay.
ORDERS = 15


async def _together(runs: list[tuple[str, int, int]]) -> list[Result]:
    """Run them side by side: most of the time of each is waiting."""
    async with watched() as left:
        results = await asyncio.gather(*(chaos(KINDS[name], seed, orders) for name, seed, orders in runs))
    results[0].findings += left
    return list(results)


def _missed(results: list[Result]) -> list[str]:
    return [
        f"{row.profile}, seed {row.seed}, {row.orders} orders: {found}"
        for row in results
        for found in row.findings
    ]


async def test_every_kind_of_venue_and_every_seed_that_failed() -> None:
    replayed = [(row["profile"], row["seed"], row["orders"]) for row in SEEDS]
    results = await _together([*((name, 20, ORDERS) for name in KINDS), *replayed])
    missed = _missed(results)
    assert not missed, "\n\n".join(missed)
    # Not their share: on a busy machine coming to rest takes requests that no fault meets.
    assert all(row.faults for row in results)
    assert sum(row.second_attempts for row in results) > 0
    assert sum(row.unknowns for row in results) > 0
    assert all(row.fills for row in results)


async def test_the_judge_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that says nothing of every seventh execution must not pass."""
    from mts1b_brokers_core.execution.books import Books

    told, seen = Books.execution, [0]

    def forgetful(self: Books, execution: object, **named: bool) -> None:
        seen[0] += 1
        if "7" not in str(getattr(execution, "fill_id", "")):
            told(self, execution, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Books, "execution", forgetful)
    monkeypatch.setattr("tests.chaos.run.SETTLED_WITHIN", 1.0)
    result = await chaos(KINDS["native_dedupe"], 20, 20, faults=False)
    assert any("is logged 0 times" in found.what for found in result.findings)
    assert any("by the fills" in found.what for found in result.findings)
    assert isinstance(result.findings[0], Finding)


@pytest.mark.parametrize("name", KINDS)
def test_a_seed_means_the_same_flow(name: str) -> None:
    once, again, other = (plans(KINDS[name], seed, 50) for seed in (1, 1, 2))
    assert once == again
    assert [row.order.terms() for row in once] != [row.order.terms() for row in other]
