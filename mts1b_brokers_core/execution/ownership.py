"""Which process owns an attempt, told by kernel locks that only death frees."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from mts1b_brokers_core.foundation.errors import StateUnwritable
from mts1b_brokers_core.foundation.ids import uuid7
from mts1b_brokers_core.platform.locks import Lock, private


class Owner:
    """This process's name on its attempts; alive as long as its lock file stays locked.

    Without a folder (a journal in memory) there are no other processes to tell apart.
    """

    def __init__(self, folder: Path | None) -> None:
        self.name = uuid7()
        self._folder = folder
        self._lock = None if folder is None else Lock(folder / f"{self.name}.new")

    def begin(self) -> None:
        """Take the lock and clear away the files of owners that died."""
        if self._lock is None or self._folder is None:
            return
        self._lock.acquire("the owner's lock")
        # Under its name it is never seen unlocked, so that nobody takes a newcomer for dead.
        self._lock.path = self._lock.path.rename(self._folder / f"{self.name}.lock")
        for file in self._folder.glob("*.lock"):
            if self.is_dead(file.stem):
                file.unlink(missing_ok=True)

    def end(self) -> None:
        """Release the lock; the attempts left open count as a dead owner's."""
        if self._lock is not None:
            self._lock.path.unlink(missing_ok=True)
            self._lock.release()

    def is_dead(self, owner: str) -> bool:
        """True where no living process holds that owner's lock."""
        if owner == self.name:
            return False
        if self._folder is None:
            return True
        try:
            descriptor = os.open(self._folder / f"{owner}.lock", os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)


class Leader:
    """The one process of a state folder that owns the login: its socket, its tokens, its fills."""

    def __init__(self, journal: Path | None) -> None:
        self._lock = None if journal is None else Lock(journal.with_name(f"{journal.name}.leader"))
        self.leads = False

    def take(self, what: str = "the login") -> None:
        """Become the leader. Raises `StateLocked`, naming the process that is."""
        if not self.leads and self._lock is not None:
            self._lock.acquire(what)
        self.leads = True

    def end(self) -> None:
        """Let another process lead."""
        if self._lock is not None:
            self._lock.release()
        self.leads = False


class Halt:
    """The durable halt flag: a file beside the journal that every process of the state folder sees."""

    def __init__(self, journal: Path | None) -> None:
        self._file = None if journal is None else journal.with_name(f"{journal.name}.halt")
        self._reason: str | None = None

    def reason(self) -> str | None:
        """Return why trading is halted, or None where it is not."""
        if self._file is None:
            return self._reason
        if not self._file.exists():
            return None
        with contextlib.suppress(OSError):
            return self._file.read_text(encoding="utf-8").strip() or "no reason given"
        return "the halt flag can't be read"

    def set(self, reason: str) -> None:
        """Halt: submits and replaces are denied, cancels pass. Raises `StateUnwritable`."""
        if self._file is None:
            self._reason = reason
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(self._file, "w", encoding="utf-8", opener=private) as file:
                file.write(reason)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # Even an empty flag halts; only where no file could be made is there nothing to see.
            if not self._file.exists():
                raise StateUnwritable(
                    f"the halt flag {self._file} can't be written: {error}.",
                    next_step="stop the trading processes themselves, then free the disk",
                ) from error

    def clear(self) -> None:
        """Resume."""
        self._reason = None
        if self._file is not None:
            self._file.unlink(missing_ok=True)
