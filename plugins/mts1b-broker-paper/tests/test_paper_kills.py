"""SIGKILL at every named point of an order's and a fill's way: afterwards all books agree."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from functools import partial
from pathlib import Path

import paper_victim as victim
import pytest

#: Where the process dies, and how often: most of the kills hit the middle of a submit.
POINTS = {
    "submit.unclaimed": 12,
    "submit.claimed": 12,
    "command.before": 6,
    "command.after": 12,
    "state.before_write": 8,
    "state.before_commit": 12,
    "state.after_write": 12,
    "reply.before": 8,
    "submit.answered": 12,
    "submit.recorded": 8,
    "report.before": 6,
    "report.after": 6,
    "fill.uncommitted": 10,
    "ack.uncommitted": 6,
    "cancel.answered": 6,
}
KEYS_PER_LIFE = 6


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_or_doubled_by_a_kill(
    point: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, world = tmp_path / "paper.journal", tmp_path / "world.jsonl"
    kills = 0
    for life in range(POINTS[point]):
        trade = partial(victim.trade, state, world, life * KEYS_PER_LIFE, KEYS_PER_LIFE)
        passes = 1 + life % (2 if point.startswith("cancel") else 4)
        status = victim.fork(trade, f"{point}:{passes}")
        assert victim.was_killed(status), f"life {life} ended with {status} instead of dying at {point}"
        kills += 1
    keys = POINTS[point] * KEYS_PER_LIFE
    found = asyncio.run(victim.audit(state, world, keys))

    assert kills == POINTS[point]
    assert found["refused"] == []
    assert len(found["orders"]) == keys
    assert set(found["orders"].values()) == {1}
    assert len(set(found["known"].values())) == keys
    assert set(found["known"].values()) == found["venue_ids"]
    assert found["contradicted"] == {}
    assert sorted(found["logged_ids"]) == sorted(found["fill_ids"])
    assert found["seqs"] == list(range(1, len(found["seqs"]) + 1))
    assert all(found["logged_seq"][fill] == seq for fill, seq in found["delivered"].items())
    assert found["held"].get("BTC", Decimal(0)) == found["net_btc"]
    assert found["held"]["USD"] == Decimal(100_000_000) + found["net_usd"]
    with capsys.disabled():
        print(f"\n{point}: {kills} kills, {keys} keys, {len(found['fill_ids'])} fills: books agree", end="")


def test_there_are_enough_kills_and_most_of_them_hit_a_submit() -> None:
    middle = {name for name in POINTS if name.startswith(("submit", "command", "state", "reply"))}
    assert sum(POINTS.values()) >= 100
    assert sum(POINTS[name] for name in middle) > sum(POINTS.values()) / 2
