"""The rules of the house that a reader could break without noticing."""

from __future__ import annotations

import ast
import configparser
import io
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "mts1b_brokers_core"
PLUGINS = [
    *sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir()),
    ROOT / "tests" / "reference",  # the example adapter is held to what every plugin is
]
SOURCES = sorted(
    file
    for top in [CORE, *PLUGINS]
    for file in top.rglob("*.py")
    if not {"tests", "build", "dist", ".venv"} & set(file.relative_to(top).parts)
)

#: The only modules that may read the machine's time or wait on the event loop's own.
CLOCKS = {"mts1b_brokers_core/foundation/clock.py", "mts1b_brokers_core/platform/clock.py"}
BANNED = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "asyncio": {"sleep", "timeout", "timeout_at", "wait_for"},
}


def clock_calls(source: str) -> Iterator[str]:
    """Yield every use of a time or wait function that doesn't go through the one clock."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if node.attr in BANNED.get(name, ()):
                yield f"{name}.{node.attr} (line {node.lineno})"
        elif isinstance(node, ast.ImportFrom) and node.module in BANNED:
            for alias in node.names:
                if alias.name in BANNED[node.module]:
                    yield f"from {node.module} import {alias.name} (line {node.lineno})"


def code_lines(file: Path) -> int:
    """Count lines that hold code: no blanks, comments or docstrings."""
    text = file.read_text(encoding="utf-8")
    strings = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                strings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped and token.type != tokenize.ENDMARKER:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - strings)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_time_comes_through_the_one_clock(file: Path) -> None:
    if str(file.relative_to(ROOT)) in CLOCKS:
        assert file.exists()
    else:
        assert list(clock_calls(file.read_text(encoding="utf-8"))) == []


def test_the_clock_rule_catches_what_it_is_for() -> None:
    broken = "import time, asyncio\nfrom asyncio import sleep\ntime.time()\nasyncio.wait_for\n"
    assert len(list(clock_calls(broken))) == 3


#: The most code lines of each room; `docs/decisions.md` says why these.
CEILINGS = {"foundation": 1_500, "platform": 3_050, "execution": 4_400, "checks": 400, "plugins": 600}


def test_the_core_is_thin() -> None:
    sizes = {file: code_lines(file) for file in SOURCES if file.is_relative_to(CORE)}
    rooms: Counter[str] = Counter()
    for file, size in sizes.items():
        rooms[file.relative_to(CORE).parts[0]] += size
    assert {room: rooms[room] for room, most in CEILINGS.items() if rooms[room] > most} == {}
    assert rooms.total() - rooms["cli"] - rooms["testing"] <= 10_800
    assert {file.name: size for file, size in sizes.items() if size > 500} == {}


def test_the_root_offers_few_names_and_all_of_them_resolve() -> None:
    import mts1b_brokers_core

    assert 10 < len(mts1b_brokers_core.__all__) <= 60
    for name in mts1b_brokers_core.__all__:
        assert getattr(mts1b_brokers_core, name) is not None


def test_a_bare_import_loads_nothing_heavy() -> None:
    script = (
        "import sys, pydantic; import importlib.metadata; before = set(sys.modules)\n"
        "import mts1b_brokers_core\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "httpx", "tenacity", "structlog", "click", "rich", "sqlite3", "asyncio", "pluggy",
        "mts1b_simulator", "mts1b_broker_paper",
    }  # fmt: skip
    assert {name.partition(".")[0] for name in loaded} & heavy == set()


def test_every_distribution_is_linted_for_imports() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    listed = set(config["importlinter"]["root_packages"].split())
    found = {file.parent.name for top in PLUGINS for file in top.glob("*/__init__.py")}
    assert found - {"tests"} | {"mts1b_brokers_core"} == listed


def test_the_top_level_holds_only_what_it_should() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    top = {name.partition("/")[0] for name in tracked}
    visible = {name for name in top if not name.startswith(".")}
    allowed = {
        "pyproject.toml", "mts1b_brokers_core", "plugins", "templates", "tests", "docs", "README.md",
        "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
    }  # fmt: skip
    assert visible <= allowed
