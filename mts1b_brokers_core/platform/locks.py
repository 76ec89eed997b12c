"""Kernel locks on files, and what is said where a file can't be used."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from mts1b_brokers_core.foundation.errors import StateError, StateLocked, StateUnwritable

_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})


def private(path: str, flags: int) -> int:
    """Open a file that only its owner may read or write."""
    return os.open(path, flags, 0o600)


class Lock:
    """A kernel lock on a file that names its owner; the kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, what: str) -> None:
        """Take the lock. Raises `StateLocked`, naming the process that holds it."""
        refuse_network_file_system(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Whoever may open the file may take the lock: nobody else may.
            file = open(self.path, "a+", encoding="utf-8", opener=private)  # noqa: SIM115 - held until release
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
        # A full disk must not keep us from the lock, only from naming ourselves.
        with contextlib.suppress(OSError):
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
    words: list[str] = []
    with contextlib.suppress(OSError):
        line = Path("/proc/self/cmdline").read_bytes().replace(b"\0", b" ")
        words = line.decode("utf-8", "replace").split()
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
