"""A failpoint costs nothing unset, and ends the process at the hit it names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

SCRIPT = """
from mts1b_brokers_core.platform.failpoints import failpoint
for n in range(4):
    failpoint("other")
    print(n, flush=True)
    failpoint("here")
"""


def run(setting: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "MTS1B_FAILPOINT"}
    if setting is not None:
        env["MTS1B_FAILPOINT"] = setting
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=False
    )


def test_unset_lets_everything_pass() -> None:
    done = run(None)
    assert done.returncode == 0
    assert done.stdout.split() == ["0", "1", "2", "3"]


def test_a_bare_name_kills_at_the_first_hit() -> None:
    done = run("here")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0"]


def test_a_number_kills_at_that_hit() -> None:
    done = run("here:3")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]
