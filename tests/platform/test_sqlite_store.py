"""The store: what it opens, what it refuses, and how it commits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mts1b_brokers_core.foundation.errors import (
    StateCorrupted,
    StateError,
    StateLocked,
    StateTooNew,
    StateUnwritable,
)
from mts1b_brokers_core.platform import locks
from mts1b_brokers_core.platform.locks import Lock
from mts1b_brokers_core.platform.sqlite import SqliteStore

KIND = 0x1234
ONE = "CREATE TABLE t (n INTEGER PRIMARY KEY CHECK (n < 1000)) STRICT;"
TWO = "ALTER TABLE t ADD COLUMN name TEXT; -- with a ';' in a comment\nUPDATE t SET name = 'old;';"


def store(path: Path | None, *migrations: str, patience: float = 0.05, kind: int = KIND) -> SqliteStore:
    made = SqliteStore(
        path, kind=kind, migrations=migrations or (ONE,), what="a test's state", patience=patience
    )
    made.open()
    return made


def insert(n: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        return connection.execute("INSERT INTO t (n) VALUES (?)", (n,)).rowcount

    return work


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]


@pytest.fixture(params=["memory", "file"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = store(None if request.param == "memory" else tmp_path / "s.db")
    yield made
    made.close()


async def test_work_is_committed_and_read(opened: SqliteStore) -> None:
    assert await opened.run(insert(1)) == 1
    opened.post(insert(2))
    await opened.run(insert(3))
    assert opened.read(numbers) == [1, 2, 3]
    assert opened.run_now(numbers) == [1, 2, 3]


async def test_work_that_raises_changes_nothing_and_costs_its_neighbours_nothing(opened: SqliteStore) -> None:
    def half(connection: sqlite3.Connection) -> None:
        insert(50)(connection)
        raise ValueError("half way")

    def nonsense(connection: sqlite3.Connection) -> None:
        insert(51)(connection)
        connection.execute("SELECT nothing FROM nowhere")

    results = await asyncio.gather(
        opened.run(insert(1)), opened.run(half), opened.run(insert(2)), opened.run(nonsense),
        opened.run(insert(1)), opened.run(insert(5000)), opened.run(insert(3)), return_exceptions=True,
    )  # fmt: skip
    assert [type(result) for result in results] == [
        int, ValueError, int, sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.IntegrityError, int
    ]  # fmt: skip
    assert opened.read(numbers) == [1, 2, 3]
    assert opened.failed is None


async def test_results_are_told_in_the_order_of_the_commits_even_to_nobody(opened: SqliteStore) -> None:
    told: list[int] = []

    async def one(n: int) -> None:
        await opened.run(lambda connection: insert(n)(connection) and n, told.append)

    waiting = [asyncio.create_task(one(n)) for n in range(20)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await opened.run(insert(100))
    assert told == opened.read(numbers)[:-1] == list(range(20))


async def test_what_is_asked_together_is_committed_together(tmp_path: Path) -> None:
    made = store(tmp_path / "s.db")
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    assert made._connection is not None
    made._connection.set_trace_callback(count)
    await asyncio.gather(*(made.run(insert(n)) for n in range(200)))
    assert 1 <= commits < 100
    assert made.read(numbers) == list(range(200))
    made.close()


async def test_reading_does_not_wait_for_a_commit_under_way(tmp_path: Path) -> None:
    import threading

    made = store(tmp_path / "s.db")
    release = threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        insert(1)(connection)
        release.wait(10)

    running = asyncio.create_task(made.run(slow))
    await asyncio.sleep(0)
    assert made.read(numbers) == []
    release.set()
    await running
    assert made.read(numbers) == [1]
    with pytest.raises(StateUnwritable):
        made.read(insert(2))
    made.close()


async def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    made = store(tmp_path / "s.db")
    for n in range(50):
        made.post(insert(n))
    made.close()
    made.close()
    for call in (made.run_now, made.read):
        with pytest.raises(StateError, match="is not open"):
            call(numbers)
    with pytest.raises(StateError, match="is not open"):
        await made.run(numbers)
    again = store(tmp_path / "s.db")
    assert again.read(numbers) == list(range(50))
    again.close()


# --- what may be opened --------------------------------------------------------------------------


def test_a_file_is_migrated_after_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    old = store(path)
    old.run_now(insert(7))
    old.close()
    new = store(path, ONE, TWO)
    assert new.read(lambda c: c.execute("SELECT * FROM t").fetchall()) == [(7, "old;")]
    new.close()
    backup = store(tmp_path / "s.db.v1.bak")
    assert backup.read(numbers) == [7]
    backup.close()
    assert store(path, ONE, TWO).read(lambda c: c.execute("PRAGMA user_version").fetchone()) == (2,)


def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    old = store(path)
    old.run_now(insert(7))
    old.close()
    with pytest.raises(sqlite3.OperationalError):
        store(path, ONE, "ALTER TABLE t ADD COLUMN name TEXT;\nALTER TABLE nowhere ADD COLUMN x TEXT;")
    again = store(path)
    assert again.read(lambda c: c.execute("SELECT * FROM t").fetchall()) == [(7,)]
    again.close()


def test_a_newer_file_is_refused_with_the_cure(tmp_path: Path) -> None:
    store(tmp_path / "s.db", ONE, TWO).close()
    with pytest.raises(StateTooNew, match="schema version 2; this release knows 1") as caught:
        store(tmp_path / "s.db")
    assert "upgrade" in caught.value.next_step


@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize("application", [0, 0x4242])
def test_another_applications_file_is_refused_and_not_touched(
    tmp_path: Path, version: int, application: int
) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute(f"PRAGMA user_version={version}")
        other.execute(f"PRAGMA application_id={application}")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StateCorrupted, match="something else, not a test's state"):
        store(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["other.db"]


def test_a_damaged_or_foreign_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_text("Dear diary, today I lost my orders. " * 100)
    before = path.read_bytes()
    with pytest.raises(StateCorrupted, match="left as it is"):
        store(path)
    assert path.read_bytes() == before
    path.unlink()
    made = store(path)
    for n in range(900):
        made.run_now(insert(n))
    made.close()
    body = bytearray(path.read_bytes())
    body[4096:8192] = b"\xff" * 4096
    path.write_bytes(body)
    with pytest.raises(StateCorrupted):
        store(path)
    assert path.read_bytes() == body


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "s.db").touch()
    made = store(tmp_path / "s.db")
    assert made.read(numbers) == []
    made.close()


def test_many_may_create_the_file_at_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store(tmp_path / "s.db", ONE, TWO, patience=5), range(8)))
    for number, each in enumerate(made):
        each.run_now(insert(number))
        each.close()
    assert store(tmp_path / "s.db", ONE, TWO).read(numbers) == list(range(8))


async def test_a_file_another_process_holds_is_locked_and_works_afterwards(tmp_path: Path) -> None:
    made = store(tmp_path / "s.db")
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateLocked) as caught:
        await made.run(insert(1))
    assert caught.value.repeat_is_safe
    assert made.failed is caught.value
    assert made.read(numbers) == []
    other.execute("ROLLBACK")
    other.close()
    await made.run(insert(1))
    assert made.failed is None
    made.close()


def test_a_path_that_cannot_be_is_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateUnwritable, match="Nothing in it was changed"):
        store(tmp_path / "file" / "s.db")
    with pytest.raises(StateUnwritable):
        store(tmp_path)
    with pytest.raises(StateUnwritable):
        Lock(tmp_path / "file" / "lock").acquire("x")


# --- locks ---------------------------------------------------------------------------------------


def test_a_lock_names_its_owner_and_is_freed(tmp_path: Path) -> None:
    import os

    one, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    one.acquire("the venue")
    with pytest.raises(StateLocked, match=f"the venue is in use by process {os.getpid()} \\(") as caught:
        other.acquire("the venue")
    assert "another state_path" in caught.value.next_step
    one.release()
    one.release()
    other.acquire("the venue")
    other.release()


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n"
    real = Path.read_text

    def read(self: Path, *args: Any, **options: Any) -> str:
        return mounts if str(self) == "/proc/mounts" else real(self, *args, **options)

    monkeypatch.setattr(locks.Path, "read_text", read)
    with pytest.raises(StateError, match=r"network file system \(nfs4\)"):
        store(tmp_path / "s.db")
    locks.refuse_network_file_system(Path("/elsewhere"))
