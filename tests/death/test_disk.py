"""A journal that can't be written or read: typed errors, nothing sent that isn't remembered, cancels pass."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from death_judge import judge
from death_venue import VenueProcess, ended, fork, venue_of
from death_victim import Facts, Scene, order_for, place, trade

from mts1b_brokers_core import BrokerFailed, OrderDenied
from mts1b_brokers_core.foundation import errors

SCENE = Scene("resting", ("rest",))
#: What a submit raises where nothing can be written: by then the stream may have met that before it.
STOPPED = (OrderDenied, BrokerFailed)


def remembered(path: Path) -> set[str]:
    """Return the tokens under which something may have been sent."""
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT token FROM attempts")}


async def fill_the_disk(venue: VenueProcess, folder: Path) -> None:
    """Trade until the disk is full, then cancel, then make room and trade on."""
    world = Facts(folder / "world")
    endless = resource.RLIM_INFINITY
    async with venue.client(folder / "journal") as broker:
        first = await place(broker, order_for(0, SCENE), risk=True)
        second = await place(broker, order_for(1, SCENE), risk=True)
        world.add(asked=0)
        assert first is not None
        assert second is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, endless))
        denial: errors.BrokerError | None = None
        number = 1
        while denial is None:
            number += 1
            assert number < 500, "the disk never filled up"
            try:
                await broker.submit(order_for(number, SCENE))
            except STOPPED as error:
                denial = error
        if isinstance(denial, OrderDenied):
            assert denial.reason == "journal"
        assert "disk" in f"{denial.message} {denial.next_step}"
        posted = len(venue.books().orders)
        with pytest.raises(STOPPED):
            await broker.submit(order_for(number + 1, SCENE))
        assert len(venue.books().orders) == posted
        assert await broker.cancel(first.order_id) is True
        assert await broker.cancel(str(second.broker_order_id)) is True
        states = {row.id: row.status for row in venue.books().orders}
        assert states[str(first.broker_order_id)] == states[str(second.broker_order_id)] == "cancelled"
        resource.setrlimit(resource.RLIMIT_FSIZE, (endless, endless))
        for known in range(1, number + 2):
            world.add(asked=known)
    async with venue.client(folder / "journal") as broker:
        assert await place(broker, order_for(number + 1, SCENE), risk=True) is not None


def test_a_disk_that_is_full_while_trading(tmp_path: Path) -> None:
    with venue_of("late_fees_corrections") as venue:
        assert ended(fork(lambda: asyncio.run(fill_the_disk(venue, tmp_path)))) == 0
        assert {row.token for row in venue.books().orders} <= remembered(tmp_path / "journal")
        misses, _ = asyncio.run(judge(venue, tmp_path, SCENE))
    assert misses == []


def test_an_outcome_that_finds_the_disk_full_is_told_and_remembered(tmp_path: Path) -> None:
    """The limit comes between the claim and the answer."""

    async def work() -> None:
        world = Facts(tmp_path / "world")
        async with venue.client(tmp_path / "journal") as broker:
            world.add(asked=0)
            place_one = broker.place

            async def full(ticket: object) -> object:
                result = await place_one(ticket)  # type: ignore[arg-type]
                resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, resource.RLIM_INFINITY))
                return result

            broker.place = full  # type: ignore[method-assign, assignment]
            placed = await broker.submit(order_for(0, SCENE))
            assert placed.broker_order_id == venue.books().orders[0].id
            with pytest.raises(STOPPED):
                await broker.submit(order_for(1, SCENE))
            with contextlib.suppress(BrokerFailed):  # a frame has met the full disk, too
                again = await broker.submit(order_for(0, SCENE))
                assert again.broker_order_id == placed.broker_order_id
            assert await broker.cancel(placed.order_id) is True
            assert len(venue.books().orders) == 1

    with venue_of("native_dedupe") as venue:
        assert ended(fork(lambda: asyncio.run(work()))) == 0
        misses, _ = asyncio.run(judge(venue, tmp_path, SCENE))
        assert misses == []
        assert [row.status for row in venue.books().orders] == ["cancelled"]


async def refused(venue: VenueProcess, path: Path, error: type[errors.StateError]) -> None:
    with pytest.raises(error) as told:
        async with venue.client(path) as broker:
            await broker.submit(order_for(99, SCENE))
    assert told.value.next_step


def damage(path: Path, how: str) -> None:
    """Do something to a journal that nobody has open."""
    size = path.stat().st_size
    with open(path, "r+b") as file:
        if how == "truncated":
            file.truncate(size // 2)
        elif how == "header":
            file.write(b"\0" * 100)
        else:
            file.seek(size // 3)
            file.write(os.urandom(size // 3))


@pytest.mark.parametrize("how", ["truncated", "header", "middle"])
def test_a_damaged_journal_is_refused_with_nothing_sent(how: str, tmp_path: Path) -> None:
    with venue_of("native_dedupe") as venue:
        assert ended(fork(partial(trade, venue, tmp_path, SCENE))) == 0
        before, path = venue.books().orders, tmp_path / "journal"
        damage(path, how)
        damaged = path.read_bytes()
        asyncio.run(refused(venue, path, errors.StateCorrupted))
        assert venue.books().orders == before
        assert path.read_bytes() == damaged


def test_a_journal_made_read_only_is_refused_with_nothing_sent(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    for parent in tmp_path.parents:  # what the child may walk through when it isn't root any more
        if parent.owner() == "root" and parent.stat().st_mode & 0o5 != 0o5:
            parent.chmod(parent.stat().st_mode | 0o5)
        if parent.name == "tmp":
            break
    tmp_path.chmod(0o755)

    def work() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        asyncio.run(refused(venue, folder / "journal", errors.StateUnwritable))

    with venue_of("native_dedupe") as venue:
        assert ended(fork(partial(trade, venue, folder, SCENE))) == 0
        before = venue.books().orders
        for file in folder.rglob("*"):
            file.chmod(0o555 if file.is_dir() else 0o444)
        folder.chmod(0o555)
        assert ended(fork(work)) == 0
        assert venue.books().orders == before
        folder.chmod(0o755)


@pytest.mark.parametrize("how", ["truncated", "middle"])
def test_a_journal_damaged_under_a_running_broker(how: str, tmp_path: Path) -> None:
    """Whatever it notices, it sends nothing that it could not write down, and cancels pass."""
    path = tmp_path / "journal"

    async def work() -> None:
        async with venue.client(path) as broker:
            placed = [await broker.submit(order_for(number, SCENE)) for number in range(30)]
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            damage(path, how)
            sent, told = 30, []
            for number in range(30, 40):
                try:
                    await broker.submit(order_for(number, SCENE))
                    sent += 1
                except errors.BrokerError as error:
                    told.append(error)
            assert told
            assert all(error.next_step for error in told)
            assert len(venue.books().orders) == sent
            for order in placed[:3]:
                assert await broker.cancel(str(order.broker_order_id)) is True
            states = {row.id: row.status for row in venue.books().orders}
            assert {states[str(order.broker_order_id)] for order in placed[:3]} == {"cancelled"}

    with venue_of("native_dedupe") as venue:
        assert ended(fork(lambda: asyncio.run(work()))) == 0
