"""Contenders in processes of their own, asked in turn; and an environment for those that are not ours.

The peers' environment is made once under the user's cache folder, by uv, on the newest interpreter present.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from platformdirs import user_cache_dir


def newest_python() -> str:
    """Return the newest CPython that can be started: on the path, or beside it where pyenv keeps them."""
    names = [f"python3.{minor}" for minor in range(11, 20)]
    found = [path for name in names if (path := shutil.which(name))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found += [str(path) for path in pyenv.glob("versions/3.*/bin/python3")]
    ask = "import sys; print(*sys.version_info[:3]) if sys.version_info[3] == 'final' else print(0)"
    versions = [(sys.version_info[:3], sys.executable)]
    for path in found:
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            versions.append((tuple(map(int, done.stdout.split())), path))
    return max(versions)[1]


def environment(packages: Sequence[str], *, beside: Sequence[str] = ()) -> tuple[str, str] | str:
    """Return an interpreter that has the packages, and their versions; or why there is none.

    `beside` are source trees it runs too, so that ours and theirs share one interpreter.
    """
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        return "uv is not installed"
    python = newest_python()
    ask = "import platform; print(platform.python_version())"
    version = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    home = Path(user_cache_dir("mts1b-bench")) / f"peers-{version}"
    inside = home / "bin" / "python"
    steps = [
        [
            uv,
            "pip",
            "install",
            "-q",
            "-p",
            str(inside),
            *packages,
            *(word for tree in beside for word in ("-e", tree)),
        ]
    ]
    if not inside.exists():
        steps.insert(0, [uv, "venv", "-q", "-p", python, str(home)])
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=600)
        except subprocess.TimeoutExpired:
            return f"uv {step[1]} on Python {version} took more than 10 minutes"
        if done.returncode:
            return f"uv {step[1]} on Python {version} failed: {done.stderr.strip()[-200:]}"
    ask = (
        "import sys; from importlib.metadata import version\n"
        "print(*(name + ' ' + version(name) for name in sys.argv[1:]))"
    )
    done = subprocess.run([str(inside), "-c", ask, *packages], capture_output=True, text=True, check=True)
    words = re.sub(r" (?=[a-z])", ", ", done.stdout.strip())
    return str(inside), f"{words} on Python {version}"


class Worker:
    """A process that runs one contender when told how often, and answers with its times in microseconds."""

    def __init__(self, python: str, script: Path, *arguments: str, core: int | None = None) -> None:
        self._process = subprocess.Popen(
            [python, str(script), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, {core})

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def line(self) -> str:
        """Read a line of its answer."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait(20)}")
        return answer

    def run(self, count: int) -> list[float]:
        """Have it work and return the times."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        times: list[float] = json.loads(self.line())
        return times


def interleaved(
    workers: Mapping[str, Worker], rounds: int, counts: Mapping[str, int]
) -> dict[str, list[float]]:
    """Run all in turn, `rounds` times, after one run that doesn't count."""
    for name, worker in workers.items():
        worker.run(counts[name])
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name] += worker.run(counts[name])
    return times
