"""`simulate` as a process of its own, until it is interrupted."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from mts1b_brokers_core.foundation.errors import BrokerNotInstalled, InvalidInput
from mts1b_brokers_core.foundation.plugin import SimulatorOptions
from mts1b_simulator.cli import simulate as module
from mts1b_simulator.cli.simulate import simulate


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", "from mts1b_simulator.cli.simulate import simulate; simulate()", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_prints_how_it_is_reached_and_ends_at_an_interrupt() -> None:
    words = [
        "reference",
        "--profile",
        "kraken",
        "--tls",
        "--json",
        "--fault",
        "error_before:next",
        "--seed",
        "3",
    ]
    with running(*words) as process:
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.readline())
        reached = told["settings"]
        assert told["simulator"] == "reference"
        assert reached["profile"] == "kraken"
        assert reached["api_key"].startswith("key-")
        trusted = ssl.create_default_context(cafile=reached["ca_file"])
        with httpx.Client(base_url=reached["base_url"], verify=trusted) as client:
            assert [client.get("/v1/time").status_code for _ in range(2)] == [503, 200]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_it_tells_a_person_what_went_wrong_on_purpose() -> None:
    with running("reference", "--fault", "drop_request:next") as process:
        assert process.stdout is not None
        lines = []
        while not lines or "profile" not in lines[-1]:
            lines.append(process.stdout.readline())
        base_url = next(line.split()[1] for line in lines if "base_url" in line)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{base_url}/v1/time")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=10)
    assert rest == "faults: drop_request 1\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["reference", "--fault", "nonsense"], InvalidInput),
        (["reference", "--profile", "nonsense"], InvalidInput),
        (["reference", "--host", "0.0.0.0"], InvalidInput),
        (["no-such-broker"], BrokerNotInstalled),
        (["reference", "--set", "nonsense"], SystemExit),
        (["reference", "--port", "70000"], SystemExit),
    ],
)
def test_what_it_does_not_know_is_refused_before_anything_starts(words: list[str], error: Any) -> None:
    result = CliRunner().invoke(simulate, words)
    assert result.exit_code != 0
    assert isinstance(result.exception, error)


def test_a_port_in_use_is_said_and_another_one_suggested() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(simulate, ["reference", "--port", str(taken.getsockname()[1])])
    assert isinstance(result.exception, InvalidInput)
    assert "another port" in result.exception.next_step


def test_any_brokers_simulator_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    record = SimpleNamespace(name="acme")
    plugins = SimpleNamespace(
        get=lambda name: record,
        load=asked.append,
        facade=SimpleNamespace(simulator=lambda name, options: asked.append((name, options)) or "server"),
    )
    monkeypatch.setattr("mts1b_brokers_core.plugins.registry.registry", lambda: plugins)
    options = SimulatorOptions(seed=4, extra={"colour": "red"})
    assert module._build("acme-crypto", options) == "server"
    assert asked == [record, ("acme", options)]
