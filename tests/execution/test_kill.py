"""The process dies at each arrow of the state machine; the next one finds the books in agreement."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from kill_child import KEYS
from scripted import Venue, take

from mts1b_brokers_core.execution.journal import UNRESOLVED, unsettled
from mts1b_brokers_core.foundation.orders import OrderStatus
from mts1b_brokers_core.platform.clock import RealClock

POINTS = {
    "submit.unclaimed": (1, 3),
    "submit.claimed": (1, 4),
    "venue.accepted": (1, 2, 5),
    "submit.answered": (1, 3, 6),
    "submit.recorded": (2,),
    "fill.uncommitted": (1, 2, 4),
    "ack.uncommitted": (1, 2),
    "cancel.answered": (1, 2),
}


def run(folder: Path, failpoint: str | None) -> int:
    env = {name: value for name, value in os.environ.items() if name != "MTS1B_FAILPOINT"}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    if failpoint:
        env["MTS1B_FAILPOINT"] = failpoint
    child = Path(__file__).with_name("kill_child.py")
    return subprocess.run([sys.executable, child, folder], env=env, check=False, timeout=30).returncode


@pytest.mark.parametrize("point", [f"{name}:{hit}" for name, hits in POINTS.items() for hit in hits])
async def test_the_books_agree_after_dying_at(point: str, tmp_path: Path) -> None:
    killed = run(tmp_path, point)
    assert killed == -signal.SIGKILL
    assert run(tmp_path, None) == 0

    venue = Venue(RealClock()).load(tmp_path / "venue.jsonl")
    # One key, one order: but a first request that never arrived is not there at all.
    assert sorted(row.order.order_id for row in venue.book.values()) == [f"k{n}" for n in range(KEYS)]
    async with venue.client(tmp_path / "journal.db") as broker:
        assert broker._journal.store.read(lambda connection: unsettled(connection, UNRESOLVED)) == []
        for row in venue.book.values():
            ours = await broker.outcome(row.order.idempotency_key)
            assert ours.broker_order_id == row.id
            assert ours.filled_quantity == row.filled
            assert ours.is_final
        fills = await take(broker.stream_fills(since=0), len(venue.fills))
        assert [fill.seq for fill in fills] == list(range(1, len(fills) + 1))
        assert {fill.fill_id for fill in fills} == {seen.fill_id for seen in venue.fills}
        held = sum((fill.quantity * fill.side.sign for fill in fills), Decimal(0))
        assert held == (await broker.get_positions())[0].quantity
        numbers = {str(fill.seq): fill.fill_id for fill in fills}
    delivered = [line.split() for line in (tmp_path / "delivered").read_text().splitlines()]
    # Never another number for a fill, and after a death at most the unacknowledged again.
    assert all(numbers[seq] == fill_id for seq, fill_id in delivered)
    assert {seq for seq, _ in delivered} == set(numbers)
    assert max(Counter(seq for seq, _ in delivered).values()) <= 2


async def test_a_request_that_arrives_after_the_process_died_is_the_keys_order(tmp_path: Path) -> None:
    assert run(tmp_path, "submit.claimed:1") == -signal.SIGKILL
    venue = Venue(RealClock())
    with sqlite3.connect(tmp_path / "journal.db") as journal:
        (token,) = journal.execute("SELECT token FROM attempts").fetchone()
    journal.close()
    async with venue.client(tmp_path / "journal.db") as broker:
        from scripted import Row, buy, settle

        venue.book["V1"] = Row("V1", token, buy(order_id="k0"))
        venue.push(venue.view("V1"))
        await settle()
        events = [event async for event in _logged(broker, 2)]
        assert "late" in [event.kind for event in events]
        assert (await broker.outcome("k0")).status is OrderStatus.NEW


async def _logged(broker: object, count: int) -> object:
    for event in await take(broker.stream_events(), count):  # type: ignore[attr-defined]
        yield event
