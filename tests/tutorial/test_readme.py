"""What the README shows is what happens."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    own = {"MTS1B_STATE_DIR": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    env = os.environ | own
    return subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[number]


def test_the_snippet_runs_as_it_stands(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", block("python"))
    assert done.returncode == 0, done.stderr
    assert "buy 0.01 BTC-USD limit @96000" in done.stdout


def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "mts1b_brokers_core", "demo")
    assert done.returncode == 0, done.stderr
    shown = [line.rstrip() for line in block("", 1).splitlines()]
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    assert shown[0] == "result"
    assert set(shown) <= set(printed)
    assert done.stderr == ""
    picture = (tmp_path / "demo-output" / "equity.svg").read_text(encoding="utf-8")
    assert picture.count("<polyline") == 2


def test_the_demo_for_programs_holds_the_same_numbers_and_no_random_ones(tmp_path: Path) -> None:
    first, second = (
        json.loads(run(tmp_path, "-m", "mts1b_brokers_core", "demo", "--json").stdout) for _ in range(2)
    )
    assert first == second
    crypto, equity = first["instances"]
    assert [crypto["profit"][:7], equity["profit"][:6]] == ["-880.80", "-69.48"]
    for book in (crypto, equity):
        kinds = {order["order_type"] for order in book["orders"]}
        assert kinds == {"market", "limit", "stop"}
        assert all(fill["evidence"]["rule"] for fill in book["fills"])
        assert [fill["seq"] for fill in book["fills"]] == list(range(1, len(book["fills"]) + 1))


def test_the_table_of_brokers_is_what_the_plugins_declare() -> None:
    spec = importlib.util.spec_from_file_location("broker_table", ROOT / "docs" / "broker_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.written(README, module.declared()) == README
