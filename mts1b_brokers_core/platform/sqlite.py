"""A small durable store: one SQLite file, one owner thread, commits shared by those who wait together.

Used by the journal and by simulated venues. It opens only files of its own kind and version, migrates
forward after a backup, refuses newer ones, and turns every storage failure into a `StateError` that says
what to do; nothing is ever silently recreated.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, TypeVar

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import (
    StateCorrupted,
    StateError,
    StateLocked,
    StateTooNew,
    StateUnwritable,
)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
#: Each migration is SQL that takes the file one version up; their count is the version written.
Migrations = Sequence[str]

_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})


class Lock:
    """A kernel lock on a file that names its owner; the kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, what: str) -> None:
        """Take the lock. Raises `StateLocked`, naming the process that holds it."""
        refuse_network_file_system(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - held until release
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "a process that did not leave its name"
            file.close()
            raise StateLocked(
                f"{what} is in use by {owner} (lock {self.path}).",
                next_step="close that process first, or choose another state_path",
            ) from None
        with contextlib.suppress(
            OSError
        ):  # a full disk must not keep us from the lock, only from naming ourselves
            file.truncate(0)
            file.write(f"process {os.getpid()} ({_command()})")
            file.flush()
        self._file = file

    def release(self) -> None:
        """Give the lock back; harmless where it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _command() -> str:
    try:
        words = (
            Path("/proc/self/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").split()
        )
    except OSError:
        words = []
    return " ".join(Path(word).name if "/" in word else word for word in words[:4])[:80] or "unnamed"


def refuse_network_file_system(path: Path) -> None:
    """Raise `StateError` where the path lies on a network file system, whose locks can't be trusted."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    best, kind = "", ""
    target = str(path.absolute())
    for row in mounts:
        _, point, file_system, *_ = row.split(" ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, file_system
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StateError(
            f"{path} is on a network file system ({kind}), where locks can't be trusted.",
            next_step="put the state folder on a local disk (MTS1B_STATE_DIR or state_path)",
        )


def unwritable(path: Path, error: BaseException) -> StateUnwritable:
    """Turn a failure to write into the error that says what to do."""
    return StateUnwritable(
        f"{path} can't be written: {error}. Nothing in it was changed.",
        next_step="free disk space and check the folder's permissions, then open the broker again",
    )


class SqliteStore:
    """One SQLite database that runs work in its own thread and commits what arrives together at once.

    `path` None keeps it in memory (then work runs in the caller's thread). `kind` marks whose file it is.
    A simulated `clock` is held while the thread works, so that no time passes meanwhile.
    """

    def __init__(
        self, path: Path | None, *, kind: int, migrations: Migrations, what: str, clock: Clock | None = None
    ) -> None:
        self.path = path
        self._kind = kind
        self._migrations = migrations
        self._what = what
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._queue: SimpleQueue[tuple[Work[Any], _Reply] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        #: The storage failure after which nothing more is written, or None.
        self.failed: StateError | None = None

    @property
    def durable(self) -> bool:
        """True where a file holds the state."""
        return self.path is not None

    def open(self) -> None:
        """Open or create the file, check it, and bring it to the present version. Raises `StateError`."""
        if self.path is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            for step in self._migrations:
                self._connection.executescript(step)
            return
        refuse_network_file_system(self.path)
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = not self.path.exists() or self.path.stat().st_size == 0
            if fresh:
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=10
            )
            try:
                self._prepare(self._connection, fresh)
            except BaseException:
                self._connection.close()
                self._connection = None
                raise
        self._thread = threading.Thread(target=self._work, name=f"store {self.path.name}", daemon=True)
        self._thread.start()

    def _prepare(self, connection: sqlite3.Connection, fresh: bool) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        kind = connection.execute("PRAGMA application_id").fetchone()[0]
        if not fresh and version and kind != self._kind:
            raise StateCorrupted(
                f"{self.path} is a SQLite file of something else, not {self._what}.",
                next_step="choose another state_path",
            )
        if version > len(self._migrations):
            raise StateTooNew(
                f"{self.path} has schema version {version}; this release knows {len(self._migrations)}.",
                next_step="upgrade mts1b-brokers-core and its plugins, or choose another state_path",
            )
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)
        if version < len(self._migrations):
            self._migrate(connection, version)

    def _migrate(self, connection: sqlite3.Connection, version: int) -> None:
        assert self.path is not None
        if version:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy2(self.path, self.path.with_name(f"{self.path.name}.v{version}.bak"))
        connection.execute("BEGIN EXCLUSIVE")
        try:
            # Another process may have migrated while we waited for the lock.
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            for step in self._migrations[version:]:
                for statement in _statements(step):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={self._kind:d}")
            connection.execute(f"PRAGMA user_version={len(self._migrations):d}")
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    async def run(self, work: Work[T]) -> T:
        """Run `work(connection)` in a transaction and return its result once it is durable.

        What several callers ask for at the same time is committed together. Work that raises changes
        nothing and costs the others nothing. Raises `StateUnwritable` where the commit fails.
        """
        if self._thread is None:
            return self.run_now(work)
        reply = _Reply(asyncio.get_running_loop())
        assert reply.future is not None
        self._queue.put((work, reply))
        with self._clock.hold() if self._clock is not None else contextlib.nullcontext():
            result: T = await reply.future
        return result

    def post(self, work: Work[Any]) -> None:
        """Queue work without waiting for it; a failure shows in `failed` and at the next `run`."""
        if self._thread is None:
            self.run_now(work)
        else:
            self._queue.put((work, _Reply(None)))

    def run_now(self, work: Work[T]) -> T:
        """Run work in the caller's thread; for stores in memory and before the event loop runs."""
        connection = self._connection
        if connection is None:
            raise StateError(f"{self._what} is not open.", next_step="open the broker first")
        with self._translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            return result

    def close(self) -> None:
        """Finish what is queued and close the file; harmless where it is closed already."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _work(self) -> None:
        assert self._connection is not None
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty() and len(batch) < 512:
                batch.append(self._queue.get())
            jobs = [job for job in batch if job is not None]
            if jobs:
                self._commit(self._connection, jobs)
            if len(jobs) < len(batch):
                return

    def _commit(self, connection: sqlite3.Connection, jobs: list[tuple[Work[Any], _Reply]]) -> None:
        answers: list[tuple[_Reply, Any, BaseException | None]] = []
        try:
            with self._translated():
                connection.execute("BEGIN IMMEDIATE")
                for work, reply in jobs:
                    connection.execute("SAVEPOINT job")
                    try:
                        answers.append((reply, work(connection), None))
                    except Exception as error:  # belongs to whoever asked, not to this thread
                        if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                            raise
                        connection.execute("ROLLBACK TO job")
                        answers.append((reply, None, error))
                    connection.execute("RELEASE job")
                connection.execute("COMMIT")
        except StateError as error:
            self.failed = error
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            answers = [(reply, None, error) for _, reply in jobs]
        else:
            self.failed = None
        for reply, result, failure in answers:
            reply.send(result, failure)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise  # a broken law of ours: whoever asked must see it as it is
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StateLocked(
                    f"{self.path} stayed locked by another process: {error}.",
                    next_step="close the program that holds the file open, then repeat",
                ) from error
            raise unwritable(self.path or Path(":memory:"), error) from error
        except sqlite3.DatabaseError as error:
            raise StateCorrupted(
                f"{self.path} is damaged or not {self._what}: {error}. It was left as it is.",
                next_step="move the file aside (keep it) or restore a backup; open orders stay at the venue",
            ) from error
        except OSError as error:
            raise unwritable(self.path or Path(":memory:"), error) from error


class _Reply:
    """Carries an answer from the store's thread to the event loop that waits for it."""

    __slots__ = ("_loop", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self.future: asyncio.Future[Any] | None = None if loop is None else loop.create_future()

    def send(self, result: Any, error: BaseException | None) -> None:
        if self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future is None or self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements, so that they run inside one transaction."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending
