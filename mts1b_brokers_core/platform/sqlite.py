"""A small durable store: one SQLite file, one owner thread, commits shared by those who wait together.

Used by the journal and by simulated venues. It opens only files of its own kind and version, migrates
forward after a backup, refuses newer ones, and turns every storage failure into a `StateError` that says
what to do; nothing is ever silently recreated.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.clock import Clock

from .locks import Lock as Lock
from .locks import refuse_network_file_system, unwritable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
#: Each migration is SQL that takes the file one version up; their count is the version written.
Migrations = Sequence[str]

#: How long a write waits for another process that holds the file.
_PATIENCE = 10.0


class SqliteStore:
    """One SQLite database that runs work in its own thread and commits what arrives together at once.

    `path` None keeps it in memory (then work runs in the caller's thread). `kind` marks whose file it is.
    Reading goes by a connection of its own and never waits for a commit. A simulated `clock` is held
    while the thread works, so that no time passes meanwhile.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        kind: int,
        migrations: Migrations,
        what: str,
        clock: Clock | None = None,
        patience: float = _PATIENCE,
    ) -> None:
        self.path = path
        self._place = path or Path(":memory:")
        self._kind = kind
        self._migrations = migrations
        self._what = what
        self._clock = clock
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        #: The storage failure after which nothing more is written, or None.
        self.failed: errors.StateError | None = None

    @property
    def durable(self) -> bool:
        """True where a file holds the state."""
        return self.path is not None

    def open(self) -> None:
        """Open or create the file, check it, and bring it to the present version. Raises `StateError`."""
        if self.path is None:
            self._connection = self._reader = self._connect(self._place)
            self._connection.execute("PRAGMA page_size=8192")  # fewer pages per commit: measurably quicker
            for step in self._migrations:
                self._connection.executescript(step)
            return
        refuse_network_file_system(self.path)
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = self._connect(self.path)
            try:
                self._prepare(self._connection)
                self._reader = self._connect(self.path)
                self._reader.execute("PRAGMA query_only=ON")
            except BaseException:
                self._disconnect()
                raise
        self._thread = threading.Thread(target=self._work, name=f"store {self.path.name}", daemon=True)
        self._thread.start()

    def _connect(self, path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=self._patience)

    def _disconnect(self) -> None:
        for connection in (self._reader, self._connection):
            if connection is not None:
                connection.close()
        self._reader = self._connection = None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # one view of the file: another process may be creating it just now
        try:
            version = self._recognise(connection)
        finally:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise self._damaged(problem)
        if version < len(self._migrations):
            self._migrate(connection)

    def _recognise(self, connection: sqlite3.Connection) -> int:
        """Return the file's version, having changed nothing in it. Raises `StateError` for others' files."""
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        kind = connection.execute("PRAGMA application_id").fetchone()[0]
        empty = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
        if kind != self._kind and not (empty and version == kind == 0):
            raise errors.StateCorrupted(
                f"{self.path} is a SQLite file of something else, not {self._what}.",
                next_step="choose another state_path",
            )
        if version > len(self._migrations):
            raise errors.StateTooNew(
                f"{self.path} has schema version {version}; this release knows {len(self._migrations)}.",
                next_step="upgrade mts1b-brokers-core and its plugins, or choose another state_path",
            )
        return version

    def _migrate(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection, "EXCLUSIVE"):
            # Another process may have migrated while we waited for the lock.
            version = self._recognise(connection)
            if version:
                self._back_up(version)
            for step in self._migrations[version:]:
                for statement in _statements(step):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={self._kind:d}")
            connection.execute(f"PRAGMA user_version={len(self._migrations):d}")

    def _back_up(self, version: int) -> None:
        """Copy what is committed, while our lock keeps everybody from committing more."""
        assert self.path is not None
        copy = self.path.with_name(f"{self.path.name}.v{version}.bak")
        with (
            contextlib.closing(self._connect(self.path)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)

    async def run(self, work: Work[T], then: Callable[[T], None] | None = None) -> T:
        """Run `work(connection)` in a transaction and return its result once it is durable.

        What several callers ask for at the same time is committed together. Work that raises changes
        nothing and costs the others nothing. `then` is called with each result in the order of the
        commits, also where the caller has stopped waiting. Raises `StateUnwritable` where the commit fails.
        """
        if self._thread is None:
            result = self.run_now(work)
            if then is not None:
                then(result)
            return result
        reply = _Reply(asyncio.get_running_loop(), then)
        self._queue.put((work, reply))
        with self._clock.hold() if self._clock is not None else contextlib.nullcontext():
            answer: T = await reply.future
        return answer

    def read(self, work: Work[T]) -> T:
        """Look something up in what is committed, without waiting for any commit under way."""
        if self._reader is None:
            raise self._not_open()
        with self._translated():
            return work(self._reader)

    @property
    def version(self) -> int:
        """A number that changes with every commit, whichever process made it."""
        return int(self.read(lambda connection: connection.execute("PRAGMA data_version").fetchone()[0]))

    def post(self, work: Work[Any]) -> None:
        """Queue work without waiting for it; a failure shows in `failed` and at the next `run`."""
        if self._thread is None:
            self.run_now(work)
        else:
            self._queue.put((work, None))

    def run_now(self, work: Work[T]) -> T:
        """Run work in the caller's thread; for stores in memory and before the event loop runs."""
        connection = self._connection
        if connection is None:
            raise self._not_open()
        with self._translated(), _transaction(connection, "IMMEDIATE"):
            return work(connection)

    def close(self) -> None:
        """Finish what is queued and close the file; harmless where it is closed already."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._disconnect()

    def _not_open(self) -> errors.StateError:
        return errors.StateError(f"{self._what} is not open.", next_step="open the broker first")

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

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job]) -> None:
        answers: list[tuple[_Reply | None, Any, BaseException | None]] = []
        try:
            with self._translated(), _transaction(connection, "IMMEDIATE"):
                for work, reply in jobs:
                    connection.execute("SAVEPOINT job")
                    try:
                        with self._translated():
                            answers.append((reply, work(connection), None))
                    except Exception as error:  # belongs to whoever asked, not to this thread
                        if not connection.in_transaction:
                            raise  # it took the whole transaction with it
                        connection.execute("ROLLBACK TO job")
                        answers.append((reply, None, error))
                    connection.execute("RELEASE job")
        # Nothing of it was committed, and each who waits must learn that.
        except Exception as error:  # noqa: BLE001
            self.failed = error if isinstance(error, errors.StateError) else unwritable(self._place, error)
            answers = [(reply, None, self.failed) for _, reply in jobs]
        else:
            self.failed = None
        for reply, result, failure in answers:
            if reply is not None:
                reply.send(result, failure)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            meaning = self._meaning(error)
            if meaning is error:
                raise
            raise meaning from error
        except OSError as error:
            raise unwritable(self._place, error) from error

    def _meaning(self, error: sqlite3.Error) -> Exception:
        """Tell a storage failure from a broken law of ours, which stays as it is."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return errors.StateLocked(
                f"{self.path} stayed locked by another process: {error}.",
                next_step="close the program that holds the file open, then repeat",
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._damaged(error)
        return unwritable(self._place, error) if code in _STORAGE else error

    def _damaged(self, why: object) -> errors.StateCorrupted:
        return errors.StateCorrupted(
            f"{self.path} is damaged or not {self._what}: {why}. It was left as it is.",
            next_step="move the file aside (keep it) or restore a backup; open orders stay at the venue",
        )


_STORAGE = frozenset({
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS,
})  # fmt: skip


class _Reply:
    """Carries an answer from the store's thread to the event loop that waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, then: Callable[[Any], None] | None) -> None:
        self._loop = loop
        self._then = then
        self.future: asyncio.Future[Any] = loop.create_future()

    def send(self, result: Any, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if error is None and self._then is not None:
            self._then(result)
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Commit what the block does, or nothing of it."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


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


#: Work, and who waits for its answer: nobody where it was only posted.
_Job = tuple[Work[Any], _Reply | None]
