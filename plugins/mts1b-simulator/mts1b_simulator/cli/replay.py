"""`mts mts1b-brokers replay FILE`: a flight recording as a server, or as a test that fails."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mts1b_simulator.wire.replay import ReplayServer


@click.command(short_help="Serve a recording on this machine, or turn it into a failing test.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--as-test", "test", type=click.Path(path_type=Path), metavar="FILE.py",
    help="Write a pytest file, and a copy of the recording beside it, instead of serving.",
)  # fmt: skip
@click.option("--broker", help="Whose recording it is; by default it says so itself. With --as-test.")
@click.option("--environment", help="The environment it was recorded in. With --as-test.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def replay(
    file: Path, port: int, test: Path | None, broker: str | None, environment: str | None, as_json: bool
) -> None:
    """Answer whoever asks what FILE's venue answered then; FILE was written with the setting `record`.

    Who asks is not checked: any credentials will do. With --as-test, a test is written that opens the
    broker at the recording and fails, saying what the broker made of it, until you say what is right.
    """
    from mts1b_brokers_core.foundation.plugin import SimulatorOptions
    from mts1b_simulator.wire.replay import ReplayServer

    if test is None and (broker or environment):
        raise click.UsageError("--broker and --environment go with --as-test.")
    if test is not None and port:
        raise click.UsageError("--port doesn't go with --as-test: nothing is served.")
    server = ReplayServer(file, SimulatorOptions(port=port))
    if test is not None:
        copy = write_test(server, test, broker, environment)
        told = {"test": str(test), "recording": str(copy)}
        click.echo(json.dumps(told) if as_json else f"{test} and {copy} are written; run: pytest {test}")
        return
    from .simulate import serve

    asyncio.run(serve(server, f"{file} is being replayed", {"recording": str(file)}, as_json=as_json))
    if not as_json:
        for title, rows in {
            "asked for, but not recorded": server.unmatched,
            "sent, but not as recorded": server.differences,
            "recorded, but not asked for": server.unplayed,
        }.items():
            if rows:
                click.echo("\n  ".join([f"{title}:", *rows]))


def write_test(server: ReplayServer, test: Path, broker: str | None, environment: str | None) -> Path:
    """Write a test of a recording, and beside it a copy of the recording; return the copy.

    Raises `InvalidInput` where either is there already or can't be written, or the test has no name that
    pytest looks for; `BrokerNotInstalled`.
    """
    from mts1b_brokers_core.foundation.errors import InvalidInput
    from mts1b_brokers_core.platform.recorder import read_header
    from mts1b_brokers_core.plugins.registry import registry

    if not re.fullmatch(r"test_\w+\.py", test.name):
        raise InvalidInput(f"got {test.name}, expected test_NAME.py: pytest looks for no other.")
    record = registry().get(broker or read_header(server.path).source)
    chosen = environment or next((row for row in record.environments if row != "live"), "live")
    copy = test.with_suffix(".jsonl")
    calls = [json.dumps(row)[1:-1].replace('\\"', '"') for row in server.writes]
    text = _TEST.format(
        broker=record.name, environment=chosen, recording=copy.name, test=test.stem,
        sent="\n".join(f"    # {row}" for row in calls) or "    # (nothing)",
    )  # fmt: skip
    lines = [_redacted(line) for line in server.path.read_bytes().splitlines(keepends=True)]
    if there := [path for path in (test, copy) if path.exists()]:
        raise InvalidInput(f"{there[0]} is there already.", next_step="name another file")
    try:
        for path, content in ((copy, b"".join(lines)), (test, text.encode())):
            with path.open("xb") as out:
                out.write(content)
    except OSError as error:
        raise InvalidInput(f"{error.filename} can't be written: {error.strerror}.") from None
    return copy


def _redacted(line: bytes) -> bytes:
    """Return a line of the recording, redacted once more: by now more may be known to be secret."""
    from mts1b_brokers_core.platform.security import redact

    if not line.endswith(b"\n"):  # cut off while it was written
        return b""
    return json.dumps(redact(json.loads(line)), separators=(",", ":")).encode() + b"\n"


_TEST = """\
\"\"\"What {broker} makes of {recording}, as it was recorded.\"\"\"

import asyncio
from pathlib import Path

import pytest

from mts1b_brokers_core import VenueClient
from mts1b_simulator.wire.rehearsal import Seen, rehearse

RECORDING = Path(__file__).with_name("{recording}")


async def what_the_program_did(broker: VenueClient) -> None:
    \"\"\"Place and cancel here what the program did then, with its idempotency keys, if it matters.\"\"\"
    # The venue was sent:
{sent}


async def rehearsal(folder: Path) -> Seen:
    settings = {{"environment": "{environment}", "state_path": folder / "journal.sqlite"}}
    async with rehearse(RECORDING, "{broker}", **settings) as stage:
        await what_the_program_did(stage.broker)
        return await stage.seen()


def {test}(tmp_path: Path) -> None:
    seen = asyncio.run(rehearsal(tmp_path))
    print(seen)
    # Replace the next line with what should have been seen, as in
    # assert {{row.fill_id for row in seen.fills}} == {{"T1", "T2"}}
    pytest.fail(f"say what should have been seen; this was:\\n{{seen}}")
"""
