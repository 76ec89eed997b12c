"""Real processes: pipes, terminals, signals, completion, and what a help page costs."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mts1b_brokers_core.platform.clock import RealClock

from .conftest import command, environment

PAPER = {"MTS1B_BROKERS__TOY__ENVIRONMENT": "paper"}


class Terminal:
    """A process that sees a terminal."""

    def __init__(self, toys: Any, *words: str, columns: int = 100, **environ: str) -> None:
        self.shown = b""
        more = {"COLUMNS": str(columns), **environ}
        self.fd, inner = pty.openpty()
        self.process = subprocess.Popen(
            command(*words, mts=True), env=environment(toys, more),
            stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
        )  # fmt: skip
        os.close(inner)

    def until(self, text: str) -> None:
        clock = RealClock()
        end = clock.monotonic() + 20
        while text.encode() not in self.shown:
            assert clock.monotonic() < end, self.shown.decode()
            self._read()

    def _read(self) -> bool:
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.shown += data
        return bool(data)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        while self._read():
            pass
        os.close(self.fd)
        text = self.shown.decode()
        assert "Traceback" not in text
        return self.process.wait(20), text.replace("\r\n", "\n")


def test_help_loads_no_component_and_names_what_is_there(toys: Any, process: Any) -> None:
    toys.package("mts_toybox", "")
    toys.info(
        "mts-toybox",
        "[mts.components]\nmts1b-brokers = mts1b_brokers_core.cli.component:brokers\n"
        "toybox = mts_toybox.plugin:nothing\n",
    )
    (toys.folder / "mts_toybox-1.0.dist-info" / "METADATA").write_text(
        "Name: mts-toybox\nSummary: Many toys.\n\n"
    )
    (toys.folder / "mts_toybox" / "__init__.py").write_text("raise RuntimeError('loaded')")
    page = process("--help", mts=True)
    assert (page.returncode, page.stderr) == (0, "")
    assert "toybox         Many toys." in page.stdout
    assert "mts-toybox" not in page.stdout
    assert process("--version").stdout.startswith("mts1b-brokers-core ")
    versions = process("--version", mts=True).stdout
    assert "toybox 1.0\n" in versions
    called = process("toybox", "play", mts=True)
    assert called.returncode == 1
    assert "the command toybox of mts-toybox 1.0 can't be loaded: RuntimeError: loaded." in called.stderr
    nearest = process("toybx", mts=True)
    assert nearest.returncode == 2
    assert "did you mean toybox?" in nearest.stderr


def test_the_module_is_the_component(process: Any) -> None:
    result = process("list", "--json", **PAPER)
    assert result.returncode == 0
    assert "toy" in [row["name"] for row in json.loads(result.stdout)["brokers"]]
    bad = process("test", "ty")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "did you mean toy" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_help_pages_import_neither_pydantic_nor_rich_nor_asyncio() -> None:
    script = (
        "import sys\nfrom mts1b_brokers_core.cli.component import brokers\n"
        "from mts1b_brokers_core.cli.umbrella import mts\n"
        "for group in (mts, brokers):\n"
        "    try: group.main(['--help'], prog_name='mts')\n"
        "    except SystemExit as end: assert not end.code\n"
        "print({'pydantic', 'rich', 'asyncio', 'httpx', 'logging', 'importlib_metadata'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("set()\n")


def test_every_command_that_is_listed_can_be_loaded() -> None:
    import click

    from mts1b_brokers_core.cli.component import brokers

    context = click.Context(brokers)
    for name in brokers.list_commands(context):
        command = brokers.get_command(context, name)
        assert command is not None
        assert command.callback is not None or isinstance(command, click.Group)


def complete(words: str, toys: Any, **environ: str) -> list[str]:
    env = {
        **os.environ, "PYTHONPATH": str(toys.folder), "_MTS_COMPLETE": "bash_complete",
        "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), **environ,
    }  # fmt: skip
    script = "from mts1b_brokers_core.cli.umbrella import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, check=False
    )
    assert ended.stderr == ""
    return [line.partition(",")[2] for line in ended.stdout.splitlines() if line]


def test_completion_knows_commands_brokers_and_environments(toys: Any, tmp_path: Path) -> None:
    toys.info("mts-toybox", "[mts.components]\nmts1b-brokers = mts1b_brokers_core.cli.component:brokers\n")
    imported = tmp_path / "imported"
    assert complete("mts mts1b-brokers pos", toys) == ["positions"]
    assert {"toy", "teddy"} <= set(complete("mts mts1b-brokers test t", toys, TOY_IMPORTED=str(imported)))
    assert complete("mts mts1b-brokers test toy --environment ", toys) == ["paper", "live"]
    assert not imported.exists()
    broken = tmp_path / "broken.toml"
    broken.write_text("[")
    assert complete("mts mts1b-brokers test t", toys, MTS1B_CONFIG=str(broken)) == []


def test_the_shells_are_given_their_script(process: Any) -> None:
    result = process(mts=True, _MTS_COMPLETE="bash_source")
    assert "complete -o nosort -F _mts_completion mts" in result.stdout


def test_a_closed_pipe_is_quiet(toys: Any, process: Any) -> None:
    for words in (("info", "toy"), ("test", "toy"), ("buy", "toy", "BTC-USD", "1", "--yes")):
        reading, writing = os.pipe()
        os.close(reading)
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-m", "mts1b_brokers_core", *words],
            stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(toys.folder)},
        )  # fmt: skip
        os.close(writing)
        assert "Traceback" not in ended.stderr
        assert "Broken" not in ended.stderr
        assert "error" not in ended.stderr
        # A confirmed order stays confirmed, whoever reads the answer.
        assert ended.returncode == (0 if words[0] == "buy" else 1)


def test_an_output_that_cant_be_written_is_one_line(toys: Any, tmp_path: Path) -> None:
    env = environment(toys, PAPER)
    for words in (
        ("list", "--json"), ("list",), ("--help",), ("--version",), ("info", "toy"), ("info", "ty", "--json"),
        ("positions", "toy", "--json", "--set", "fault=crash"), ("test", "toy"), ("buy", "--json"),
    ):  # fmt: skip
        with open("/dev/full", "w") as full:
            ended = subprocess.run(
                command(*words), stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False
            )
        assert ended.stderr == "error: the output can't be written: No space left on device\n", words
        assert ended.returncode == 1
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command("list", "--json")],
        stderr=subprocess.PIPE, text=True, env=env, check=False,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr) == (0, "")


def test_an_answer_that_cant_be_written_takes_nothing_back(toys: Any) -> None:
    buy = ("buy", "toy", "BTC-USD", "1", "--yes", "--key", "k9")
    for words, code, told in (
        (buy, 0, "confirmed: order id "), ((*buy, "--json"), 0, "at the venue V1"),
        ((*buy, "--json", "--set", "fault=unknown"), 3, "UNKNOWN, the order may be live: no reply"),
    ):  # fmt: skip
        with open("/dev/full", "w") as full:
            ended = subprocess.run(
                command(*words), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                env=environment(toys, PAPER),
            )  # fmt: skip
        assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr
        assert "the output can't be written: No space left on device" in ended.stderr
        assert told in ended.stderr


@pytest.mark.parametrize("place", ["/proc/x", "file/x"])
def test_a_demo_that_cant_write_its_picture_says_so_before_it_trades(
    process: Any, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").touch()
    output = str(tmp_path / place)
    ended = process("demo", "--output", output)
    assert (ended.returncode, ended.stdout) == (1, "")
    first, second = ended.stderr.splitlines()
    assert first.startswith(f"error: the folder {output} can't be made: ")
    assert second == "  next: name another folder with --output"


def test_an_encoding_without_the_marks_gets_plain_ones(process: Any) -> None:
    result = process("test", "toy", PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "OK   toy: API reachable     in process, generator seed 7"
    assert lines[5] == "-    toy: WebSocket stream  not applicable: in process (fill stream OK)"
    failed = process("test", "toy", "--set", "fault=book", PYTHONIOENCODING="ascii")
    assert "FAIL toy: order book        venue unavailable\n    cause: book is down.\n" in failed.stdout


def test_a_traceback_is_shown_to_those_who_ask(process: Any) -> None:
    result = process("positions", "toy", "--set", "fault=crash", MTS1B_TRACEBACK="1")
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("and report it\n")


def test_colours_only_where_they_are_wanted(toys: Any) -> None:
    for environ, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        code, text = Terminal(toys, *MTS, "test", "toy", **environ).end()
        assert code == 0
        assert ("\x1b[" in text) is coloured
        assert ("✓" in text) is (environ.get("TERM") != "dumb")


#: The component under the umbrella; the umbrella finds it by the core's own entry point.
MTS = ("mts1b-brokers",)


def test_a_narrow_terminal_loses_nothing(toys: Any) -> None:
    _, wide = Terminal(toys, *MTS, "orders", "toy", columns=140, NO_COLOR="1").end()
    assert "O1         new      buy        0.01   BTC-USD   limit   90,000   gtc" in wide
    _, narrow = Terminal(toys, *MTS, "orders", "toy", columns=50, NO_COLOR="1").end()
    assert "order id  O1\nstatus    new\nside      buy\nquantity  0.01\n" in narrow
    assert "created   2026-12-01 12:00:00Z\n" in narrow


@pytest.mark.parametrize(
    ("answer", "code", "words"), [("y\n", 0, "confirmed: "), ("\n", 1, "the answer was no")]
)
def test_an_order_is_asked_for(toys: Any, answer: str, code: int, words: str) -> None:
    terminal = Terminal(toys, *MTS, "buy", "toy", "BTC-USD", "0.01")
    terminal.until("Place this order? [y/N] ")
    assert b"value about $951.20" in terminal.shown
    terminal.type(answer)
    ended, text = terminal.end()
    assert ended == code
    assert words in text


def test_ctrl_c_at_the_question_places_nothing(toys: Any) -> None:
    terminal = Terminal(toys, *MTS, "buy", "toy", "BTC-USD", "0.01")
    terminal.until("[y/N] ")
    terminal.interrupt()
    code, text = terminal.end()
    assert code == 130
    assert text.endswith("Interrupted.\n")
    assert "confirmed" not in text


def test_ctrl_c_while_an_order_is_on_its_way_says_that_it_may_be_live(toys: Any) -> None:
    terminal = Terminal(toys, *MTS, "buy", "toy", "BTC-USD", "0.01", "--yes", "--set", "fault=slow")
    terminal.until("toy: buy BTC-USD: placing (2 s)")  # the sign of life after two seconds
    terminal.interrupt()
    code, text = terminal.end()
    assert code == 130
    assert "interrupted while the order was on its way: it may be live." in text
    assert "mts mts1b-brokers orders toy" in text
