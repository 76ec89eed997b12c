"""What the package keeps to: one clock, no float money, small files, and a surface that is all there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mts1b_simulator

PACKAGE = Path(mts1b_simulator.__file__).parent
FILES = sorted(PACKAGE.glob("*.py"))
FORBIDDEN = {
    ("time", "time"), ("time", "time_ns"), ("time", "monotonic"), ("datetime", "now"), ("datetime", "utcnow"),
    ("asyncio", "sleep"), ("asyncio", "timeout"), ("asyncio", "wait_for"), ("uuid", "uuid4"),
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_module_reads_no_clock_and_makes_no_float_money(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert not names & FORBIDDEN
    floats = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    assert [value for value in floats if value != 1e9] == []  # seconds for the clock are the only floats
    calls = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "float"
    ]
    assert calls == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_module_imports_only_the_two_rooms_it_may(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
    ]
    core = {name for name in found if name.startswith("mts1b_brokers_core")}
    assert all(name.split(".")[1] in ("foundation", "platform") for name in core)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_module_is_small_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_every_public_name_is_there_and_every_data_file_has_its_source() -> None:
    assert sorted(mts1b_simulator.__all__) == sorted(set(mts1b_simulator.__all__))
    assert all(hasattr(mts1b_simulator, name) for name in mts1b_simulator.__all__)
    sources = (PACKAGE / "data" / "SOURCES.md").read_text(encoding="utf-8")
    files = [path for path in (PACKAGE / "data").iterdir() if path.suffix == ".gz"]
    assert len(files) == 4
    assert all(path.name in sources for path in files)
    assert sum(path.stat().st_size for path in files) < 400_000
