"""Several processes on the same keys and one journal: one order a key, whoever of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from death_judge import differences, logged
from death_venue import VenueProcess, ended, fork, venue_of
from death_victim import Facts, facts, keep, place

from mts1b_brokers_core import Order, Side
from mts1b_simulator.wire import faults

KEYS = 8


def order_of(number: int) -> Order:
    quantity = Decimal("0.01") + Decimal(number) * Decimal("0.00000001")
    return Order.market("BTC-USD", Side.BUY, quantity, idempotency_key=f"k-{number}")


def take_part(venue: VenueProcess, folder: Path, number: int) -> None:
    """Submit every key beside the others, and stay until every fill was delivered here."""
    own = folder / str(number)
    own.mkdir()
    asyncio.run(_take_part(venue, folder / "journal", own, folder / ("lead" if number == 0 else "go")))


async def _take_part(venue: VenueProcess, journal: Path, own: Path, go: Path) -> None:
    world = Facts(own / "world")

    async def one(number: int) -> None:
        placed: Order | None = None
        while placed is None:  # whoever was asked last may have died before the venue's answer
            placed = await place(broker, order_of(number), risk=True)
        world.add(answered=number, id=placed.broker_order_id)

    async with venue.client(journal) as broker:
        reading = asyncio.create_task(keep(broker, own))
        world.add(opened=os.getpid(), leads=broker._leader.leads)
        while not os.path.exists(go):  # noqa: ASYNC240
            await broker.clock.sleep(0.002)
        await asyncio.gather(*(one(number) for number in range(KEYS)))
        async with broker.clock.timeout(15):
            while len(facts(own / "state")) < KEYS:
                await broker.clock.sleep(0.01)
        reading.cancel()


def until(file: Path, word: str) -> None:
    """Wait until a process has noted a fact."""
    while not any(word in fact for fact in facts(file)):
        time.sleep(0.002)


def claimed(path: Path) -> int:
    """Count the attempts in a journal."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM attempts").fetchone()[0])


@pytest.mark.parametrize(
    ("profile", "many", "death"),
    [
        ("native_dedupe", 2, ""),
        ("native_dedupe", 4, "submit.claimed:3"),
        ("while_open_deadline_short", 4, "submit.claimed:2"),
        ("token_not_unique", 2, "submit.answered:4"),
        ("cumulative_fills", 4, "outcome.uncommitted:2"),
        ("no_client_id", 2, "fill.uncommitted:1"),
    ],
)
def test_several_processes_on_the_same_keys(profile: str, many: int, death: str, tmp_path: Path) -> None:
    with venue_of(profile) as venue:
        venue.ask("fault", faults.Delay(0.02), "POST /v1/orders", 1.0)
        pids = []
        for number in range(many):
            work = partial(take_part, venue, tmp_path, number)
            pids.append(fork(work, failpoint="" if number else death))
            until(tmp_path / str(number) / "world", "opened")
        (tmp_path / "lead").touch()
        while death and not claimed(tmp_path / "journal"):  # it dies with claims of its own
            time.sleep(0.001)
        (tmp_path / "go").touch()
        how = [ended(pid) for pid in pids]
        assert how == [-signal.SIGKILL if death else 0] + [0] * (many - 1)
        books = venue.books()
    worlds = [facts(tmp_path / str(number) / "world") for number in range(many)]
    leads = [world[0]["leads"] for world in worlds]
    assert leads == [True] + [False] * (many - 1)
    assert len(books.orders) == KEYS
    assert len({row.quantity for row in books.orders}) == KEYS
    fills = logged(tmp_path / "journal")
    assert differences(books, fills, cumulative=profile == "cumulative_fills") == []
    told = [{fact["answered"]: fact["id"] for fact in world if "answered" in fact} for world in worlds]
    whole = told[-1]
    assert sorted(whole.values()) == sorted(row.id for row in books.orders)
    for number, answers in enumerate(told):
        assert answers == whole if number or not death else answers.items() <= whole.items()
        kept = [(fact["seq"], fact["fill"]) for fact in facts(tmp_path / str(number) / "state")]
        expected = [(fill.seq, fill.fill_id) for fill in fills]
        assert kept == (expected if number or not death else expected[: len(kept)])
