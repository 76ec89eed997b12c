"""SIGKILL at every arrow of the state machine and of a fill's way, over the wire: all books agree.

One kind of venue an arrow; `hatch run death` takes every arrow to every kind.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from death_judge import differences, judge, logged
from death_run import ARROWS, MAIN, Arrow, cells, run
from death_venue import ended, fork, venue_of
from death_victim import SCENES, order_for, trade


def _one_each() -> list[tuple[Arrow, str]]:
    """Take each arrow to one kind of venue, and all kinds in turn; of each commit only one side."""
    chosen = []
    for number, arrow in enumerate(ARROWS):
        if arrow.words.endswith(("not told", "not written", "nothing sent")):
            continue
        kinds = [profile for _, profile in cells((arrow,))]
        turned = MAIN[number % len(MAIN) :] + MAIN[: number % len(MAIN)]
        chosen.append((arrow, next(profile for profile in turned if profile in kinds)))
    return chosen


@pytest.mark.parametrize(
    ("arrow", "profile"), _one_each(), ids=lambda part: getattr(part, "words", part).replace(" ", "_")
)
def test_all_books_agree_after_dying_at(arrow: Arrow, profile: str, tmp_path: Path) -> None:
    told = run(arrow, profile, tmp_path, most=1)
    assert told.misses == ()
    assert told.kills == 1
    assert told.keys


def test_there_are_enough_kills_at_every_kind_of_venue() -> None:
    everything = list(cells())
    assert sum(len(arrow.passes) for arrow, _ in everything) >= 200
    assert {profile for _, profile in everything} == set(MAIN)


def test_what_is_lost_or_doubled_is_found(tmp_path: Path) -> None:
    scene = SCENES["plain"]
    with venue_of("native_dedupe") as venue:
        assert ended(fork(lambda: trade(venue, tmp_path, scene))) == 0
        misses, counts = asyncio.run(judge(venue, tmp_path, scene))
        assert misses == []
        assert counts["fills"] > 8
        fills = logged(tmp_path / "journal")
        assert len(differences(venue.books(), fills[1:], cumulative=False)) == 1
        assert len(differences(venue.books(), [*fills, fills[0]], cumulative=False)) == 1
        with closing(sqlite3.connect(tmp_path / "journal")) as journal, journal:
            journal.execute("DELETE FROM log WHERE seq = 2 AND fill_id IS NOT NULL")
        twin = order_for(0, scene)
        venue.ask("by_hand", {"symbol": twin.symbol, "side": "buy", "quantity": str(twin.quantity)})
        misses, _ = asyncio.run(judge(venue, tmp_path, scene, patience=0.5))
    text = "; ".join(misses)
    for words in ("k-0 has 2 orders", "the log's numbers have gaps", "kept since=seq has others"):
        assert words in text
