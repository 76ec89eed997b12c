"""What is installed is listed without importing it, and what can't be used says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Document = Callable[..., Any]


def names(document: Any) -> list[str]:
    return [row["name"] for row in document["brokers"] if row["state"] != "denied"]


def test_listing_imports_no_adapter(toys: Any, mts: Any, document: Document) -> None:
    result = mts("list")
    line = next(line for line in result.stdout.splitlines() if line.startswith("toy "))
    assert line.split() == [
        "toy", "1.0", "ready", "(not", "loaded)", "*unverified*", "paper,", "live", "1.0", "mts1b-broker-toy",
    ]  # fmt: skip
    (row,) = [row for row in document("list")["brokers"] if row["name"] == "toy"]
    assert row == {
        "name": "toy", "aliases": ["teddy"], "distribution": "mts1b-broker-toy", "version": "1.0",
        "state": "ready", "usable": True, "loaded": False, "level": "unverified",
        "environments": ["paper", "live"], "plugin_api": "1.0", "cause": "", "remedy": "", "traceback": "",
    }  # fmt: skip
    assert document("list")["plugin_api"] == "1.0"
    assert result.stdout.endswith("This core speaks plugin API 1.0.\n")
    assert not [name for name in sys.modules if name.startswith("mts1b_broker_toy")]


def test_the_plugin_api_a_plugin_needs_is_shown_beside_ours(toys: Any, mts: Any, document: Document) -> None:
    toys.broker("other", api="1.9")
    toys.broker("bad", manifest="schema = = 1")
    rows = {row["name"]: row["plugin_api"] for row in document("list")["brokers"]}
    assert (rows["toy"], rows["other"], rows["bad"]) == ("1.0", "1.9", None)
    assert document("info", "toy")["plugin_api"] == {"needed": "1.0", "core": "1.0"}
    assert "plugin API: needs 1.0, this core speaks 1.0\n" in mts("info", "toy").stdout
    assert mts("--version").stdout.endswith(", plugin API 1.0\n")


def test_load_imports_each_in_a_process_of_its_own(
    toys: Any, document: Document, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOY_IMPORTED", str(tmp_path / "imported"))
    toys.broker("bad", "import os; os._exit(3)")
    rows = {row["name"]: row for row in document("list", "--load")["brokers"]}
    assert rows["toy"]["state"] == "loaded"
    assert (rows["bad"]["state"], rows["bad"]["usable"]) == ("failed", False)
    assert rows["bad"]["cause"] == "its import ended the process with exit code 3"
    assert (tmp_path / "imported").read_text() == "imported\n"
    assert not [name for name in sys.modules if name.startswith("mts1b_broker_toy")]


def test_strict_exits_with_1_where_a_row_is_unusable(toys: Any, mts: Any) -> None:
    assert mts("list", "--strict").exit_code == 0
    toys.broker("bad", manifest="schema = = 1")
    assert mts("list").exit_code == 0
    result = mts("list", "--strict")
    assert result.exit_code == 1
    assert "bad: the manifest is not TOML" in result.stdout
    assert "  remedy: correct capabilities.toml" in result.stdout


def test_why_shows_the_traceback_of_the_plugin(toys: Any, document: Document) -> None:
    toys.broker("bad", "import no_such_library_here")
    result = document("why", "bad", code=1)["brokers"][0]
    assert result["cause"] == "its dependency no_such_library_here is missing"
    assert result["remedy"].startswith("pip install")
    assert result["traceback"].endswith("ModuleNotFoundError: No module named 'no_such_library_here'\n")


def test_why_of_a_sound_plugin_says_so(mts: Any) -> None:
    result = mts("why", "teddy")
    assert result.exit_code == 0
    assert result.stdout == "toy (mts1b-broker-toy 1.0): loaded\nIt loads without trouble.\n"


def test_info_shows_the_tables(mts: Any, document: Document) -> None:
    text = mts("info", "toy").stdout
    for part in (
        "toy, also teddy: mts1b-broker-toy 1.0, *unverified*",
        "environments: paper, live",
        "one key, one order: not known (this adapter keeps no journal: one key may become two orders)",
        "crypto  limit, market  gtc, ioc       post_only     native  venue  a toy does what it is told",
        "replace    unsupported  adapter  the venue can, the toy doesn't",
        "seed                         7        The generator's seed.",
    ):
        assert part in text
    found = document("info", "--broker", "toy")
    assert found["orders"][0]["tif"] == ["gtc", "ioc"]
    assert {row["operation"]: row["level"] for row in found["operations"]} == {
        "quotes": "native", "replace": "unsupported",
    }  # fmt: skip
    assert {row["field"] for row in found["settings"]} >= {"seed", "gates.read_only", "api_key"}


def test_info_computes_the_guarantee_from_the_profile(toys: Any, document: Document) -> None:
    profile = """
from mts1b_brokers_core.execution.port import TokenRule, VenueProfile
class OtherClient:
    profile = VenueProfile(venue="other", token=TokenRule(alphabet="abc", longest=10, unique="none"))
    async def get_open_orders(self): ...
"""
    toy = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
    folder = toys.broker("other", toy)
    Path(toys.folder, folder.replace("-", "_"), "client.py").write_text(profile)
    assert document("info", "other")["guarantee"] == "fingerprint"


def test_a_plugins_own_commands_are_subcommands_loaded_when_called(toys: Any, mts: Any) -> None:
    toys.package("mts1b_broker_other", "")
    Path(toys.folder, "mts1b_broker_other", "commands.py").write_text(
        "import click\n@click.group()\ndef other(): 'More.'\n"
        "@other.command()\ndef reset(): click.echo('reset')\n"
    )
    toys.info(
        "mts1b-broker-other",
        "[mts1b.brokers.commands]\nother = mts1b_broker_other.commands:other\n"
        "lost = mts1b_broker_other.gone:lost\n",
    )
    help_text = mts("--help").stdout
    assert "other " in help_text
    assert "lost " in help_text
    assert "mts1b_broker_other.commands" not in sys.modules
    assert mts("other", "reset").stdout == "reset\n"
    broken = mts("lost", "--any", "thing")
    assert broken.exit_code == 1
    assert "the command lost of mts1b-broker-other 1.0 can't be loaded: ModuleNotFoundError" in broken.stderr
    assert "next: pip install --force-reinstall mts1b-broker-other" in broken.stderr
