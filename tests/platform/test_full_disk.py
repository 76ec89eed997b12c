"""A disk that is full, or a folder that may not be written: an error with a cure, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FULL = """
import asyncio, resource, sqlite3, sys
from pathlib import Path
from mts1b_brokers_core.foundation.errors import StateUnwritable
from mts1b_brokers_core.platform.sqlite import SqliteStore

path = Path(sys.argv[1])
table = "CREATE TABLE t (n INTEGER PRIMARY KEY, body TEXT);"
store = SqliteStore(path, kind=1, migrations=(table,), what="a state")
store.open()

def insert(n):
    return lambda connection: connection.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 2000)).rowcount

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    kept = []
    for n in range(500):
        try:
            await store.run(insert(n))
            kept.append(n)
        except StateUnwritable as error:
            assert store.failed is error and "free disk space" in error.next_step, error
            break
    else:
        raise SystemExit("the disk never filled up")
    assert len(kept) > 10
    rows = [row[0] for row in store.read(lambda c: c.execute("SELECT n FROM t").fetchall())]
    assert rows == kept
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    await store.run(insert(1000))
    assert store.failed is None
    store.close()
    again = SqliteStore(path, kind=1, migrations=("",), what="a state")
    again.open()
    rows = [row[0] for row in again.read(lambda c: c.execute("SELECT n FROM t").fetchall())]
    assert rows == [*kept, 1000]
    again.close()

asyncio.run(main())
print("nothing lost")
"""

FORBIDDEN = """
import os, sys
from pathlib import Path
from mts1b_brokers_core.foundation.errors import StateUnwritable
from mts1b_brokers_core.platform.locks import Lock
from mts1b_brokers_core.platform.sqlite import SqliteStore

if os.getuid() == 0:
    os.setuid(65534)
folder = Path(sys.argv[1])
for attempt in (
    lambda: SqliteStore(folder / "new.db", kind=1, migrations=("",), what="a state").open(),
    lambda: Lock(folder / "lock").acquire("x"),
):
    try:
        attempt()
    except StateUnwritable as error:
        assert "permissions" in error.next_step
    else:
        raise SystemExit("it was written")
print("refused")
"""


def run(script: str, *arguments: Path) -> str:
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=env, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    assert run(FULL, tmp_path / "s.db") == "nothing lost\n"


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" and parent.stat().st_mode & 0o5 != 0o5:
            parent.chmod(parent.stat().st_mode | 0o5)
        if parent.name == "tmp":
            break
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    assert run(FORBIDDEN, folder) == "refused\n"
