"""The arrows of the state machine and of a fill's way, and how a process is killed at each of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from death_judge import judge
from death_venue import KillReader, KillSender, VenueProcess, ended, fork, venue_of
from death_victim import SCENES, Scene, set_scene, trade

_POST = "POST /v1/orders"
#: A kind of venue each for what changes the answer; all but the last two serve most arrows.
MAIN = (
    "native_dedupe", "while_open_deadline_short", "token_not_unique", "no_client_id", "cumulative_fills",
    "late_fees_corrections", "timestamp_limit_short", "exclusive_login",
)  # fmt: skip


@dataclass(frozen=True)
class Arrow:
    """One arrow: where it is, in which scene a process gets there, and at which passings it dies.

    `point` is a failpoint, or what the venue does to the process: `sender:WHEN` as it takes the request,
    `reader` as it sends a frame.
    """

    words: str
    point: str
    scene: str = "plain"
    passes: tuple[int, ...] = (1, 2, 4)
    #: Kinds of venue at which a process can get there; none named means all.
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


_STREAM = ("native_dedupe", "while_open_deadline_short", "late_fees_corrections", "cumulative_fills",
           "exclusive_login", "token_not_unique", "no_client_id")  # fmt: skip
_PROBABLE = ("token_not_unique", "no_client_id", "cumulative_fills", "late_fees_corrections")
_CHANGING = tuple(name for name in MAIN if name != "timestamp_limit_short")

ARROWS = (
    Arrow("no row -> claim", "submit.unclaimed"),
    Arrow("claim, not committed", "claim.uncommitted"),
    Arrow("claim -> SENDING, nothing sent", "submit.claimed"),
    Arrow("SENDING, request lost with us", "sender:lost"),
    Arrow("SENDING, request lands after us", "sender:before"),
    Arrow("SENDING, venue has it, no reply", "sender:after"),
    Arrow("SENDING -> answer, not written", "submit.answered"),
    Arrow("SENDING -> CONFIRMED, not committed", "outcome.uncommitted"),
    Arrow("SENDING -> CONFIRMED, not told", "submit.recorded"),
    Arrow("SENDING -> REJECTED, not committed", "outcome.uncommitted", "refused", (1, 3)),
    Arrow("SENDING -> REJECTED, not told", "submit.recorded", "refused", (1, 3)),
    Arrow("SENDING -> NOT_PLACED, not committed", "outcome.uncommitted", "throttled"),
    Arrow("NOT_PLACED -> SENDING, not committed", "claim.uncommitted", "throttled", (2, 3, 5)),
    Arrow("NOT_PLACED -> SENDING, nothing sent", "submit.claimed", "throttled", (2, 3, 5)),
    Arrow("SENDING -> UNKNOWN, not committed", "outcome.uncommitted", "lost reply"),
    Arrow("SENDING -> UNKNOWN", "submit.recorded", "lost reply"),
    Arrow("UNKNOWN -> found, not written", "verdict.unwritten", "lost reply", (1, 2)),
    Arrow("UNKNOWN -> found, not committed", "verdict.uncommitted", "lost reply", (1, 2)),
    Arrow("UNKNOWN -> found, fills not read", "verdict.written", "lost reply", (1, 2)),
    Arrow("UNKNOWN -> absent, not written", "verdict.unwritten", "lost request", (1, 2)),
    Arrow("UNKNOWN -> absent, not committed", "verdict.uncommitted", "lost request", (1, 2)),
    Arrow("UNKNOWN -> absent, not told", "verdict.written", "lost request", (1, 2)),
    Arrow("NOT_PLACED -> late, not committed", "fill.uncommitted", "late arrival", (1, 3)),
    Arrow("UNKNOWN -> AMBIGUOUS, not committed", "verdict.uncommitted", "twins", (1,), ("no_client_id",)),
    Arrow("UNKNOWN -> AMBIGUOUS, not told", "verdict.written", "twins", (1,), ("no_client_id",)),
    Arrow("AMBIGUOUS -> resolve(), not committed", "resolve.uncommitted", "twins", (1, 2), ("no_client_id",)),
    Arrow("AMBIGUOUS -> resolve(), not told", "resolve.written", "twins", (1, 2), ("no_client_id",)),
    Arrow("-> DUPLICATE, not committed", "fill.uncommitted", "double arrival", (2, 4), _PROBABLE),
    Arrow("-> DUPLICATE, answer not committed", "outcome.uncommitted", "double arrival", (2, 3), _PROBABLE),
    Arrow("UNKNOWN, cancel wanted", "cancel.wanted", "slow answer", (1, 2)),
    Arrow("CONFIRMED -> cancel taken, not written", "cancel.answered", "cancels", (1, 2)),
    Arrow("CONFIRMED -> change claimed", "replace.claimed", "changes", (1, 2), _CHANGING),
    Arrow("CONFIRMED -> change answered", "replace.answered", "changes", (1, 2), _CHANGING),
    Arrow("CONFIRMED -> change unknown, not written", "replace.answered", "slow change", (1, 2), _CHANGING),
    Arrow("CONFIRMED -> change, not committed", "replace.uncommitted", "changes", (1, 2), _CHANGING),
    Arrow("fill: frame sent", "reader", passes=(2, 5, 9), only=_STREAM),
    Arrow("fill: not committed", "fill.uncommitted", passes=(1, 3, 6)),
    Arrow("fill: committed", "fill.delivered", passes=(1, 2, 5), only=_STREAM,
          never=("token_not_unique", "no_client_id")),
    Arrow("fill: parked, not released", "unpark.uncommitted", "lost reply", (1,), ("no_client_id",)),
    Arrow("fill: consumer has it, not stored", "consumer.received", passes=(1, 3, 5)),
    Arrow("fill: consumer stored it", "consumer.stored", passes=(1, 3, 5)),
    Arrow("fill: acknowledged, not committed", "ack.uncommitted", passes=(1, 2, 4)),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What became of the processes that died at one arrow at one kind of venue."""

    arrow: Arrow
    profile: str
    kills: int
    keys: int
    fills: int
    open: int
    misses: tuple[str, ...]
    seconds: float


def cells(
    arrows: tuple[Arrow, ...] = ARROWS, profiles: tuple[str, ...] = MAIN
) -> Iterator[tuple[Arrow, str]]:
    """Go through every arrow at every kind of venue where there is one."""
    for arrow in arrows:
        for profile in profiles:
            if profile in (arrow.only or MAIN) and profile not in arrow.never:
                yield arrow, profile


def run(arrow: Arrow, profile: str, folder: Path, *, seed: int = 0, most: int | None = None) -> Verdict:
    """Let one process after the other die at an arrow, on one journal and one venue, and judge them."""
    began, scene, misses, kills = time.monotonic(), SCENES[arrow.scene], [], 0
    folder.mkdir(parents=True, exist_ok=True)
    revising = profile == "late_fees_corrections"
    with venue_of(profile, seed=seed) as venue:
        venue.ask("market", True, revising)
        for passing in arrow.passes[:most]:
            how = kill(venue, arrow.point, passing, folder, scene)
            kills += how == -signal.SIGKILL
            if how != -signal.SIGKILL:
                misses.append(f"a process ended with {how} instead of dying at {arrow.point}:{passing}")
        found, counts = asyncio.run(judge(venue, folder, scene))
    seconds = time.monotonic() - began
    return Verdict(arrow, profile, kills, **counts, misses=(*misses, *found), seconds=seconds)


def kill(venue: VenueProcess, point: str, passing: int, folder: Path, scene: Scene) -> int:
    """Live one life that ends at the point; return how it ended."""
    set_scene(venue, scene)
    ours, theirs = os.pipe()
    by_venue = point.startswith(("sender:", "reader"))

    def live() -> None:
        os.close(theirs)
        os.read(ours, 1)  # until the venue knows whom to kill
        trade(venue, folder, scene)

    pid = fork(live, failpoint="" if by_venue else f"{point}:{passing}")
    if point == "reader":
        venue.ask("fault", KillReader(pid), None, None, passing)
    elif by_venue:
        venue.ask("fault", KillSender(pid, point.partition(":")[2]), _POST, None, passing)
    os.close(theirs)
    os.close(ours)
    return ended(pid)
