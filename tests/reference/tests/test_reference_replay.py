"""A session of the reference broker, recorded among faults, and played again: as a server and as a test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from mts1b_broker_reference.client import ReferenceClient
from mts1b_broker_reference.stream import channels_of

from mts1b_brokers_core import (
    BrokerNotInstalled,
    Fill,
    InvalidInput,
    Order,
    OrderStatus,
    Side,
    VenueClient,
    VenueError,
    require,
)
from mts1b_brokers_core.foundation import SupportsAccount
from mts1b_brokers_core.foundation.errors import RecordingError
from mts1b_brokers_core.platform.recorder import read_recording
from mts1b_simulator.cli.replay import replay
from mts1b_simulator.reference import ReferenceServer
from mts1b_simulator.wire import faults
from mts1b_simulator.wire.rehearsal import rehearse

ORDER = Order.limit("BTC-USD", Side.BUY, "0.5", price="90000", idempotency_key="then-as-now")


def at(folder: Path, profile: str = "native_dedupe") -> dict[str, Any]:
    """Return the settings of a broker; only where nothing is pushed may steady reading bring the fills."""
    every = 0.3 if profile == "timestamp_limit" else 60.0
    place = {"environment": "sandbox", "state_path": folder / "journal.sqlite"}
    return {**place, "profile": profile, "reconcile_every": every}


async def until(true: Any) -> None:
    """Wait for something about the server, at most twenty seconds."""
    async with asyncio.timeout(20):
        while not true():
            await asyncio.to_thread(lambda: None)


async def trade(broker: VenueClient, order: Order) -> list[Fill]:
    """Return an order's fills, all of it."""
    fills: list[Fill] = []
    async with asyncio.timeout(20):
        async for fill in broker.stream_fills(since=0):
            fills.append(fill)
            if sum(row.quantity for row in fills) == order.filled_quantity:
                break
    return fills


def shown(fills: list[Fill]) -> list[tuple[Any, ...]]:
    """Return what fills say; where a frame was lost, a read may bring its fill before or after the next."""
    return sorted(
        (row.fill_id, row.quantity, row.price, str(row.fees), row.broker_order_id, row.executed_at)
        for row in fills
    )


Session = tuple[Path, list[Fill], list[str]]


async def recorded(profile: str, folder: Path) -> Session:
    """Record a session in which a reply and a message were lost; return its fills and secrets too."""
    recording = folder / "session.jsonl"
    server = ReferenceServer(profile)
    await server.start()
    try:
        server.faults.next(faults.DropReply(), "POST /v1/orders")
        settings: dict[str, Any] = {**server.settings, **at(folder, profile), "record": recording}
        async with ReferenceClient(**settings | {"state_path": folder / "then.sqlite"}) as broker:
            order = await broker.submit(ORDER)
            assert order.broker_order_id is not None
            channels = channels_of(broker.profile)
            if channels:
                await until(lambda: any(channels[-1] in stream.channels for stream in server.streams))
                server.faults.next(faults.LoseFrame(), channels[-1])
            server.venue.fill(order.broker_order_id, "0.1")
            server.venue.fill(order.broker_order_id, "0.4")
            order = await broker.wait_for(order, "filled", timeout=20)
            fills = await trade(broker, order)
    finally:
        await server.stop()
    assert server.errors == []
    key = server.access.key
    return recording, fills, [key.name, key.secret]


@pytest.fixture
async def session(tmp_path: Path) -> Session:
    return await recorded("native_dedupe", tmp_path)


@pytest.mark.parametrize("profile", ["native_dedupe", "cumulative_fills", "timestamp_limit"])
async def test_the_same_calls_get_the_same_fills_again(profile: str, tmp_path: Path) -> None:
    recording, then, secrets = await recorded(profile, tmp_path)
    async with rehearse(recording, "reference", **at(tmp_path, profile)) as stage:
        order = await stage.broker.submit(ORDER)
        order = await stage.broker.wait_for(order, "filled", timeout=20)
        now = await trade(stage.broker, order)
        seen = await stage.seen()
    assert shown(now) == shown(then)
    assert sum(row.quantity for row in now) == order.filled_quantity == Decimal("0.5")
    assert [row.status for row in seen.orders] == [OrderStatus.FILLED]
    assert sum(event.startswith("fill ") for event in seen.events) == len(then)
    # How often something is read is a matter of the moment; what is written is not.
    assert all(row.startswith("GET ") for row in seen.unmatched + seen.unplayed)
    assert seen.differences == []
    for secret in secrets:
        assert secret not in recording.read_text()


async def test_another_order_is_answered_and_told(session: Any, tmp_path: Path) -> None:
    recording, _, _ = session
    async with rehearse(recording, "reference", **at(tmp_path)) as stage:
        await stage.broker.submit(ORDER.evolve(limit_price=Decimal(91000)))
        seen = await stage.seen()
    assert seen.differences == ["POST /v1/orders: limit_price is 91000, was 90000"]


async def test_what_was_never_asked_is_told(session: Any, tmp_path: Path) -> None:
    recording, then, _ = session
    async with rehearse(recording, "reference", **at(tmp_path)) as stage:
        with pytest.raises(VenueError, match="recorded never"):
            await require(stage.broker, SupportsAccount).get_balances()
        seen = await stage.seen()
    assert shown(seen.fills) == shown(then)
    assert "POST /v1/orders" in seen.unplayed
    (refused,) = [row for row in seen.unmatched if row.startswith("GET /v1/balances: recorded never; ")]
    assert f"\n  {refused}\n" in str(seen).partition("asked for, but not recorded: ")[2]


def run(test: Path) -> subprocess.CompletedProcess[str]:
    """Run a test as anybody would, in a folder of its own; it needs no plugin of pytest's."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", test.name]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=test.parent, env=alone, capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_recording_becomes_a_test_that_says_what_it_saw(session: Any, tmp_path: Path) -> None:
    recording, then, secrets = session
    test = tmp_path / "suite" / "test_lost_reply.py"
    test.parent.mkdir()
    made = CliRunner().invoke(replay, [str(recording), "--as-test", str(test), "--json"])
    assert made.exit_code == 0, made.output
    copy = test.with_name("test_lost_reply.jsonl")
    assert json.loads(made.output) == {"test": str(test), "recording": str(copy)}
    assert list(read_recording(copy)) == list(read_recording(recording))
    for secret in secrets:
        assert secret not in copy.read_text() + test.read_text()

    failed = await asyncio.to_thread(run, test)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "say what should have been seen; this was:" in failed.stdout
    for fill in then:
        assert f"{fill.fill_id}: trade buy {fill.quantity} BTC-USD at 90000.00 of R1-1" in failed.stdout
    assert "# POST /v1/orders {" in test.read_text()

    text = test.read_text()
    (marked,) = [line for line in text.splitlines() if "pytest.fail(" in line]
    said = f"    assert {{row.fill_id for row in seen.fills}} == { {row.fill_id for row in then} }"
    test.write_text(text.replace(marked, said))
    passed = await asyncio.to_thread(run, test)
    assert passed.returncode == 0, passed.stdout + passed.stderr


async def test_what_became_a_secret_since_is_not_copied(session: Any, tmp_path: Path) -> None:
    recording, _, _ = session
    from mts1b_brokers_core.platform.security import forget_secret, register_secret

    register_secret("BTC-USD")
    try:
        test = tmp_path / "test_it.py"
        made = CliRunner().invoke(replay, [str(recording), "--as-test", str(test)])
    finally:
        forget_secret("BTC-USD")
    assert made.exit_code == 0
    assert "BTC-USD" in recording.read_text()
    assert "BTC-USD" not in test.with_suffix(".jsonl").read_text()
    assert "BTC-USD" not in test.read_text()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--as-test", "{folder}/it.py"], InvalidInput),
        (["--as-test", "{folder}/missing/test_it.py"], InvalidInput),
        (["--as-test", "{folder}/test_there.py"], InvalidInput),
        (["--as-test", "{folder}/test_it.py", "--broker", "no-such-broker"], BrokerNotInstalled),
        (["--broker", "reference"], SystemExit),
        (["--as-test", "{folder}/test_it.py", "--port", "1"], SystemExit),
    ],
)
async def test_what_can_not_be_written_is_refused(
    session: Any, tmp_path: Path, words: list[str], error: Any
) -> None:
    recording, _, _ = session
    (tmp_path / "test_there.py").touch()
    before = os.listdir(tmp_path)
    result = CliRunner().invoke(replay, [str(recording), *(word.format(folder=tmp_path) for word in words)])
    assert isinstance(result.exception, error)
    assert os.listdir(tmp_path) == before


@pytest.mark.parametrize("content", ["", "garbage\n", '{"format":"mts1b-recording","version":9}\n'])
def test_garbage_is_no_recording(tmp_path: Path, content: str) -> None:
    file = tmp_path / "garbage.jsonl"
    file.write_text(content)
    result = CliRunner().invoke(replay, [str(file)])
    assert isinstance(result.exception, RecordingError)


@contextmanager
def serving(recording: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    script = "from mts1b_simulator.cli.replay import replay; replay()"
    command = [sys.executable, "-c", script, str(recording), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_the_command_serves_a_recording(session: Any) -> None:
    recording, _, _ = session
    with serving(recording, "--json") as process:
        assert process.stdout is not None
        told = json.loads(await asyncio.to_thread(process.stdout.readline))
        assert told["recording"] == str(recording)
        assert told["settings"]["ws_url"].endswith("/v1/stream")
        async with httpx.AsyncClient(base_url=told["settings"]["base_url"]) as client:
            assert (await client.get("/v1/time")).json()["time"]
        process.send_signal(signal.SIGINT)
        rest, errors = await asyncio.to_thread(process.communicate, timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


async def test_the_command_tells_a_person_what_was_not_recorded(session: Any) -> None:
    recording, _, _ = session
    with serving(recording) as process:
        assert process.stdout is not None
        lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(4)]
        assert lines[0] == f"{recording} is being replayed; Ctrl-C ends it.\n"
        async with httpx.AsyncClient(base_url=lines[2].split()[1]) as client:
            assert (await client.get("/v1/nonsense")).status_code == 404
        process.send_signal(signal.SIGINT)
        rest, _ = await asyncio.to_thread(process.communicate, timeout=10)
    nonsense = "  GET /v1/nonsense: recorded never; expected GET /v1/time"
    assert rest.startswith(f"asked for, but not recorded:\n{nonsense}")
    assert "\nrecorded, but not asked for:\n  GET /v1/time\n" in rest
