"""Loading a plugin in a process of its own, so that whatever its import does stays there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from mts1b_brokers_core.foundation.errors import BrokerError

_CHILD = "from mts1b_brokers_core.cli.probe import child; child()"


class Loaded(TypedDict):
    """What became of a plugin when it was loaded."""

    state: str
    cause: str
    remedy: str
    traceback: str


def load_apart(name: str, config: Path | None, *, timeout: float = 60.0) -> Loaded:
    """Load a plugin in a child process and return what became of it."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path)}
    command = [sys.executable, "-P", "-c", _CHILD, name, str(config or "")]
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter
            command, capture_output=True, text=True, env=environ, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return _died(f"its import took more than {timeout:g} s", "")
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        return _died(f"its import ended the process with exit code {ended.returncode}", ended.stderr)
    found: Loaded = json.loads(lines[-1])
    return found


def _died(cause: str, words: str) -> Loaded:
    return {
        "state": "failed",
        "cause": cause,
        "remedy": "report it to the plugin's authors",
        "traceback": words,
    }


def child() -> None:
    """Load the plugin named on the command line and print what became of it as JSON."""
    from mts1b_brokers_core.plugins.registry import registry
    from mts1b_brokers_core.runtime.config import load_config

    name, config = sys.argv[1], sys.argv[2]
    plugins = registry(load_config(config or None).policy)
    row = next(record for record in plugins.records() if record.name == name and record.usable)
    try:
        plugins.load(row)
    except BrokerError as error:
        row.cause = row.cause or error.message
    found: Loaded = {
        "state": str(row.state), "cause": row.cause, "remedy": row.remedy, "traceback": row.traceback,
    }  # fmt: skip
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()
