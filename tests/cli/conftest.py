"""A toy broker, installed in a folder on the path, and the command line to talk to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
HEAD = """
aliases = ["teddy"]
[[orders]]
asset = ["crypto"]
type = ["limit", "market"]
tif = ["gtc", "ioc"]
instructions = ["post_only"]
level = "native"
side = "venue"
note = "a toy does what it is told"
[operations]
quotes = { level = "native", side = "venue", note = "" }
replace = { level = "unsupported", side = "adapter", note = "the venue can, the toy doesn't" }
"""

Run = Callable[..., Result]


@pytest.fixture
def toys(site: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A site with the toy broker as the only one that is allowed."""
    site.broker("toy", TOY, head=HEAD, environments='["paper", "live"]')
    monkeypatch.setenv("MTS1B_BROKERS_ALLOW", "mts1b-broker-toy, mts1b-broker-bad, mts1b-broker-other")
    monkeypatch.setenv("MTS1B_BROKERS__TOY__ENVIRONMENT", "paper")
    return site


def run(*words: str, text: str | None = None) -> Result:
    """Run `mts mts1b-brokers` in this process; whatever happens, no traceback may reach the person."""
    from mts1b_brokers_core.cli.component import brokers

    result = CliRunner().invoke(brokers, list(words), input=text, prog_name="mts mts1b-brokers")
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    assert "Traceback" not in result.output or words[0] == "why"
    return result


@pytest.fixture
def mts(toys: Any) -> Run:
    return run


@pytest.fixture
def document(mts: Run) -> Callable[..., Any]:
    """The same with `--json`, which must print exactly one document."""

    def read(*words: str, code: int = 0) -> Any:
        result = mts(*words, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    return read


@pytest.fixture
def process(toys: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A real process, warnings being errors; `mts=True` runs the umbrella."""

    def start(*words: str, mts: bool = False, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words, mts=mts),
            capture_output=True,
            text=True,
            env=environment(toys, environ),
            check=False,
        )

    return start


def command(*words: str, mts: bool = False) -> list[str]:
    script = "from mts1b_brokers_core.cli.umbrella import main; main()"
    begin = ["-c", script] if mts else ["-m", "mts1b_brokers_core"]
    return [sys.executable, "-W", "error", *begin, *words]


def environment(toys: Any, more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(toys.folder), "TERM": "xterm-256color", **more}
