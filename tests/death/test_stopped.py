"""A process that is stopped longer than any time-out and goes on: no second order, nothing lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from death_judge import judge
from death_venue import StopSender, VenueProcess, ended, fork, venue_of
from death_victim import SCENES, trade

#: Longer than the client waits for a reply, a silent stream, or a heartbeat; each of these is shorter.
STOPPED, TIMEOUT, SILENT = 1.2, 0.4, 0.9
SCENE = SCENES["plain"]


def live(venue: VenueProcess, folder: Path) -> None:
    trade(venue, folder, SCENE, timeout=TIMEOUT, silent_after=SILENT)


@pytest.mark.parametrize(
    ("profile", "nth"), [("native_dedupe", 2), ("token_not_unique", 5), ("no_client_id", 3)]
)
def test_a_client_stopped_while_a_reply_is_on_its_way(profile: str, nth: int, tmp_path: Path) -> None:
    with venue_of(profile, heartbeat=0.2) as venue:
        venue.ask("market", True)
        pid = fork(lambda: live(venue, tmp_path), held=True)
        venue.ask("fault", StopSender(pid), "POST /v1/orders", None, nth)
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        venue.ask("wait", STOPPED)
        os.kill(pid, signal.SIGCONT)
        assert ended(pid) == 0
        misses, counts = asyncio.run(judge(venue, tmp_path, SCENE))
    assert misses == []
    assert (counts["keys"], counts["open"]) == (16, 0)


@pytest.mark.parametrize("profile", ["native_dedupe", "cumulative_fills"])
def test_a_venue_stopped_while_requests_are_on_their_way(profile: str, tmp_path: Path) -> None:
    with venue_of(profile, heartbeat=0.2) as venue:
        venue.ask("market", True)
        pid = fork(lambda: live(venue, tmp_path))
        while len(venue.books().orders) < 3:
            pass
        os.kill(venue.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, venue.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(TimeoutError):
            asyncio.run(_nothing_for(STOPPED))
        os.kill(venue.pid, signal.SIGCONT)
        assert ended(pid) == 0
        misses, counts = asyncio.run(judge(venue, tmp_path, SCENE))
    assert misses == []
    assert (counts["keys"], counts["open"]) == (16, 0)


async def _nothing_for(seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await asyncio.Event().wait()
