"""Positions, orders, instruments, settings and halts; and what a wrong command line is answered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mts1b_brokers_core.execution.ownership import Halt
from mts1b_brokers_core.runtime.state import journal_path

Document = Callable[..., Any]


def test_positions(mts: Any, document: Document) -> None:
    assert mts("positions", "toy").stdout == (
        "symbol   quantity  available  average  market  value  unrealized  realized  currency\n"
        "BTC-USD       1.5          -   91,000       -      -           -         -  USD\n"
    )
    found = document("positions", "teddy")
    assert (found["broker"], found["environment"], found["account"]) == ("toy", "paper", "TOY-1")
    assert (found["positions"][0]["quantity"], found["positions"][0]["as_of"]) == (
        "1.50",
        "2026-12-01T12:00:00Z",
    )


def test_orders_show_the_unknown_ones_too(mts: Any, document: Document) -> None:
    text = mts("orders", "toy").stdout
    assert "O1        new     buy       0.01  BTC-USD  limit  90,000" in text
    assert "The outcome of these is unknown; they may be live:" in text
    found = document("orders", "toy")
    assert [row["order_id"] for row in found["orders"]] == ["O1"]
    assert [row["status"] for row in found["unresolved"]] == ["unknown"]


@pytest.mark.parametrize(
    ("words", "year"), [(("--since", "2020-02-03"), 2020), (("--since", "2021-02-03T04:05:06+02:00"), 2021)]
)
def test_past_orders_are_read_page_by_page(document: Document, words: tuple[str, ...], year: int) -> None:
    assert [row["order_id"] for row in document("orders", "toy", *words)["orders"]] == [f"H{year}", "H2"]


def test_past_orders_of_a_time_ago(document: Document) -> None:
    assert len(document("orders", "toy", "--all")["orders"]) == 2
    assert len(document("orders", "toy", "--since", "36h")["orders"]) == 2


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 1),
        (("toy",), 1),
        (("btc",), 1),
        (("nothing",), 0),
        (("toy", "BTC/USD"), 1),
        (("btc/usd", "--broker", "toy"), 1),
        (("toy", "btc"), 1),
        (("btc", "--broker", "toy"), 1),
    ],
)
def test_instruments(mts: Any, document: Document, words: tuple[str, ...], count: int) -> None:
    assert len(document("instruments", *words)["instruments"]) == count
    line = (
        "BTC-USD  crypto  -       USD          0.01     0.00000001" if count else "Nothing matches nothing."
    )
    assert line in mts("instruments", *words).stdout


def test_config_lists_instances_and_explains_one(mts: Any, document: Document, tmp_path: Path) -> None:
    config = tmp_path / "brokers.toml"
    config.write_text('[brokers.fund-a]\nbroker = "toy"\nenvironment = "live"\napi_key = "s3cret"\n')
    where = ("--config", str(config))
    assert mts("config", *where).stdout.splitlines() == [
        str(config), "", "instance  broker  environment  account", "fund-a    toy     live         -",
    ]  # fmt: skip
    text = mts("config", "fund-a", "--explain", "--set", "seed=9", *where).stdout
    assert "s3cret" not in text
    rows = {row["field"]: row for row in document("config", "fund-a", "--set", "seed=9", *where)["settings"]}
    assert (rows["api_key"]["value"], rows["api_key"]["kind"]) == ("***", "file")
    assert str(config) in rows["api_key"]["source"]
    assert (rows["seed"]["value"], rows["seed"]["kind"]) == ("9", "argument")
    assert rows["fault"]["kind"] == "default"
    assert "The generator's seed." in text
    assert document("config")["exists"] is False


def test_settings_reach_nested_tables_and_lists(document: Document) -> None:
    pairs = ("--set", "gates.read-only=true", "--set", 'gates.symbols=["BTC-USD"]')
    rows = {row["field"]: row["value"] for row in document("config", "toy", *pairs)["settings"]}
    assert (rows["gates.read_only"], rows["gates.symbols"]) == ("true", "BTC-USD")


def test_halt_and_resume_set_the_flag_without_loading_the_plugin(
    toys: Any, mts: Any, document: Document
) -> None:
    (toys.folder / "mts1b_broker_toy" / "plugin.py").write_text("raise SystemExit('never loaded')")
    flag = Halt(journal_path("toy", "paper"))
    result = mts("halt", "teddy", "--reason", "too wild")
    assert result.stdout == (
        "toy (paper): halted: too wild; new orders are denied, cancels pass\n"
        "toy (live): halted: too wild; new orders are denied, cancels pass\n"
    )
    assert flag.reason() == "too wild"
    assert mts("resume", "toy", "--environment", "paper").stdout == (
        "toy (paper): trading is allowed (was: too wild)\n"
    )
    assert flag.reason() is None
    assert mts("resume", "toy").stdout == "toy (live): trading is allowed (was: too wild)\n"
    assert mts("resume", "toy").stdout == "toy (paper): was not halted\ntoy (live): was not halted\n"
    rows = document("halt", "toy", "--environment", "live")["instances"]
    assert [(row["environment"], row["halted"]) for row in rows] == [("live", "halted by hand")]
    assert Halt(journal_path("toy", "live")).reason() == "halted by hand"


def test_a_resume_never_lifts_a_halt_that_was_not_meant(mts: Any) -> None:
    mts("halt", "toy", "--environment", "live", "--reason", "the auditor")
    mts("halt", "toy", "--environment", "paper")
    result = mts("resume", "toy")
    assert result.exit_code == 2
    assert "paper: halted by hand; live: the auditor" in result.stderr
    assert Halt(journal_path("toy", "live")).reason() == "the auditor"


def test_halt_misses_no_environment_where_none_is_chosen(
    toys: Any, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MTS1B_BROKERS__TOY__ENVIRONMENT")
    journal = journal_path("toy", "sandbox")
    journal.parent.mkdir(parents=True)
    journal.touch()
    assert [row["environment"] for row in document("halt", "toy")["instances"]] == [
        "paper",
        "live",
        "sandbox",
    ]


def test_a_halt_that_would_halt_nothing_says_so(toys: Any, mts: Any) -> None:
    toys.broker("bad", manifest="schema = = 1")
    result = mts("halt", "bad")
    assert result.exit_code != 0
    assert result.stdout == ""
    assert mts("halt", "bad", "--environment", "live").exit_code == 0
    assert Halt(journal_path("bad", "live")).reason() == "halted by hand"


def test_halt_follows_a_state_path(
    document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTS1B_BROKERS__TOY__STATE_PATH", str(tmp_path / "own.journal"))
    assert document("halt", "toy")["instances"][0]["journal"] == str(tmp_path / "own.journal")
    assert Halt(tmp_path / "own.journal").reason() == "halted by hand"


BAD = {
    "unknown broker": (("test", "ty"), 2, "did you mean toy or teddy?"),
    "unknown broker, halted": (("halt", "ty"), 2, "did you mean toy"),
    "unknown command": (("poitions",), 2, "did you mean positions?"),
    "unknown option": (("test", "toy", "--fulat", "x"), 2, "No such option"),
    "two names": (("test", "toy", "--broker", "teddy"), 2, "name two brokers"),
    "unknown environment": (("test", "toy", "--environment", "lvie"), 2, "there are paper, live"),
    "malformed symbol": (("buy", "btc usd", "1", "--yes"), 2, "'btc usd' is not a symbol"),
    "lower-case symbol": (("buy", "btc-usd", "1", "--yes"), 2, "did you mean 'BTC-USD'?"),
    "malformed symbol to test": (("test", "toy", "--symbol", "b t c"), 2, "is not a symbol"),
    "bad number": (("buy", "BTC-USD", "many", "--yes"), 2, "expected a decimal number"),
    "huge number": (("buy", "BTC-USD", "1e400000", "--yes"), 2, "beyond 30 digits before the point"),
    "huge price": (
        ("buy", "BTC-USD", "1", "--price", "1E+60", "--yes"),
        2,
        "Order.limit_price: got a number",
    ),
    "negative number": (("buy", "BTC-USD", "--yes", "--", "-1"), 2, "expected more than zero"),
    "bad price": (("buy", "BTC-USD", "1", "--price", "1e", "--yes"), 2, "expected a decimal number"),
    "bad option value": (("buy", "BTC-USD", "1", "--tif", "never"), 2, "'never' is not one of"),
    "bad wait": (("buy", "BTC-USD", "1", "--wait", "soon", "3"), 2, "'soon' is not one of"),
    "contradiction": (("buy", "BTC-USD", "1", "--post-only", "--yes"), 2, "can't be post_only"),
    "too few words": (("buy", "BTC-USD"), 2, "expected [NAME] SYMBOL QUANTITY"),
    "too many words": (("cancel", "a", "b", "c"), 2, "expected [NAME] ID"),
    "bad time": (("orders", "toy", "--since", "yesterday"), 2, "is no time; write 2026-12-01"),
    "unknown setting": (("test", "toy", "--set", "sede=3"), 2, "did you mean seed"),
    "bad setting": (("test", "toy", "--set", "seed=three"), 2, "BrokerSettings.seed|Settings.seed"),
    "secret in a bad list": (
        ("test", "toy", "--set", "api_key=[s3cret"),
        2,
        "--set api_key: a list is written",
    ),
    "no value": (("test", "toy", "--set", "seed"), 2, "expected key=value"),
    "bad list": (("test", "toy", "--set", "gates.symbols=[A"), 2, "a list is written"),
    "no such file": (("config", "--config", "/nowhere/brokers.toml"), 2, "does not exist"),
    "explain nothing": (("config", "--explain"), 2, "--explain needs a NAME"),
    "why nothing": (("why",), 2, "name a broker"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_command_line_is_answered_with_what_is_right(mts: Any, case: str) -> None:
    words, code, expected = BAD[case]
    result = mts(*words)
    assert result.exit_code == code, result.output
    assert any(text in result.stderr for text in expected.split("|")), result.stderr
    assert result.stdout == ""
    words = (
        (*words[: words.index("--")], "--json", *words[words.index("--") :])
        if "--" in words
        else (*words, "--json")
    )
    twin = mts(*words)
    assert twin.exit_code == code
    error = json.loads(twin.stdout)["error"]
    assert {"code", "message", "next_step", "repeat_is_safe"} <= error.keys()


BAD_FILES = {
    "corrupted": ("[brokers.toy\n", "is not TOML"),
    "wrong table": ("[borkers.toy]\n", "write [brokers]"),
    "wrong key": ('[brokers.toy]\nenvironmnt = "paper"\n', "did you mean environment"),
    "not UTF-8": (b"\xff\xfe", "is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_wrong_configuration_names_file_and_cure(mts: Any, tmp_path: Path, case: str) -> None:
    text, expected = BAD_FILES[case]
    config = tmp_path / "brokers.toml"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = mts("positions", "toy", "--config", str(config))
    assert result.exit_code == 2
    assert expected in result.stderr
    assert str(config) in result.stderr


def test_an_unexpected_error_is_one_line_and_a_hint(mts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = mts("positions", "toy", "--set", "fault=crash")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: ZeroDivisionError: division by zero\n"
        "  next: run it again with MTS1B_TRACEBACK=1 to see where, and report it\n"
    )


def test_several_brokers_and_none_named_are_listed(toys: Any, mts: Any) -> None:
    toys.broker("other")
    result = mts("positions")
    assert result.exit_code == 2
    assert "there are several brokers: other, toy; name one with --broker." in result.stderr
