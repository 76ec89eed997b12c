"""`test` prints one line a check, each failure on its own line with cause and cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Document = Callable[..., Any]

ALL_WELL = """\
✓ toy: API reachable     in process, generator seed 7
✓ toy: auth OK           no credentials needed
✓ toy: account info OK   USD=$100,000.00
✓ toy: order book OK     BTC-USD bid=$95,100.00, ask=$95,120.00
✓ toy: time skew OK      drift=0ms
– toy: WebSocket stream  not applicable: in process (fill stream OK)
ALL CHECKS PASSED
"""


def test_all_well(mts: Any) -> None:
    for words in (("toy",), ("--broker", "toy"), ("toy", "--broker", "toy"), ()):
        result = mts("test", *words)
        assert (result.exit_code, result.stdout) == (0, ALL_WELL)


def test_the_values_are_real(mts: Any) -> None:
    assert "in process, generator seed 42\n" in mts("test", "toy", "--set", "seed=42").stdout


def test_json_carries_the_evidence(document: Document) -> None:
    found = document("test", "toy")
    assert (found["passed"], found["failed"]) == (True, 0)
    rows = {row["name"]: row for row in found["checks"]}
    assert list(rows) == ["api", "auth", "account", "order_book", "time_skew", "stream"]
    assert rows["order_book"]["evidence"] == {
        "symbol": "BTC-USD", "bid": "95100", "ask": "95120", "at": "2026-12-01T12:00:00Z",
        "source": "order book",
    }  # fmt: skip
    assert rows["account"]["evidence"]["account"]["balances"][0]["total"] == "100000.00"
    samples = rows["time_skew"]["evidence"]["samples"]
    assert len(samples) == 3
    assert all(sample["server_time"].endswith("Z") for sample in samples)
    assert rows["api"]["evidence"]["server_time"].endswith("Z")
    assert rows["auth"]["evidence"] == {"open_orders": 1}


NOT_OPENED = {  # fault: (the line that fails, what it says, cause, cure)
    "unreachable": (0, "API unreachable", "no route to the venue.", "check the network"),
    "refused": (0, "API unreachable", "Connection refused", "check the network"),
    "state": (0, "API unreachable", "process 7 owns the state.", "stop process 7"),
    "crash": (0, "API unreachable", "ZeroDivisionError: division by zero", "MTS1B_TRACEBACK=1"),
    "hang": (0, "API unreachable", "no answer within 0.05 s", "check the network"),
    "auth": (1, "auth", "the key was revoked.", "make a new key"),
    "accounts": (2, "account info", "the login has several accounts.", "--account"),
}


@pytest.mark.parametrize("fault", NOT_OPENED)
def test_what_keeps_it_from_opening_is_on_its_line(
    mts: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mts1b_brokers_core.checks.engine.OPENING_LIMIT", 0.05 if fault == "hang" else 30)
    index, title, cause, cure = NOT_OPENED[fault]
    result = mts("test", "toy", "--set", f"fault={fault}")
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert [line[:1] for line in lines[:index]] == ["✓"] * index
    assert lines[index].startswith(f"✗ toy: {title.ljust(18)}")
    assert lines[index + 1].startswith("    cause: ")
    assert cause in lines[index + 1]
    assert lines[index + 2].startswith("    cure:  ")
    assert cure in lines[index + 2]
    rest = lines[index + 3 : -1]
    assert len(rest) == 5 - index
    assert all(line.startswith("– toy: ") and "not run: " in line for line in rest)
    assert lines[-1] == "1 OF 6 CHECKS FAILED"


FAILING = {  # fault: (name of the check, cause, how many of the others are not run)
    "time": ("api", "time is down.", 5),
    "orders": ("auth", "orders is down.", 2),
    "revoked": ("auth", "the key was revoked meanwhile.", 2),
    "account": ("account", "account is down.", 0),
    "book": ("order_book", "book is down.", 0),
    "skew": ("time_skew", "this machine's clock is 7.3 s behind the venue's", 0),
    "stream": ("stream", "the reader crashed.", 0),
    "own": ("shelf", "the plugin's own check says no more", 0),
    "own_crash": ("shelf", "KeyError: 'shelf'", 0),
    "closing": ("close", "the disk is full.", 0),
}


@pytest.mark.parametrize("fault", FAILING)
def test_a_failing_check_is_on_its_line(document: Document, mts: Any, fault: str) -> None:
    name, cause, lost = FAILING[fault]
    found = document("test", "toy", "--set", f"fault={fault}", code=1)
    (failed,) = [row for row in found["checks"] if row["state"] == "failed"]
    assert (failed["name"], failed["cause"]) == (name, cause)
    assert failed["cure"]
    assert sum(row["state"] == "not_run" for row in found["checks"]) == lost
    text = mts("test", "toy", "--set", f"fault={fault}")
    assert text.exit_code == 1
    assert f"    cause: {cause}\n    cure:  {failed['cure']}\n" in text.stdout
    assert text.stdout.endswith(f"1 OF {len(found['checks'])} CHECKS FAILED\n")


def test_a_plugins_checks_come_after_cores(mts: Any) -> None:
    assert mts("test", "toy", "--set", "fault=own_ok").stdout.splitlines()[-2:] == [
        "✓ toy: toy shelf         3 toys",
        "ALL CHECKS PASSED",
    ]


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("drift", "! toy: time skew OK      drift=-2000ms"),
        ("one_sided", "! toy: order book OK     BTC-USD bid=none, ask=$95,120.00"),
    ],
)
def test_a_warning_is_no_failure(mts: Any, fault: str, line: str) -> None:
    result = mts("test", "toy", "--set", f"fault={fault}")
    assert result.exit_code == 0
    assert f"{line}\n    cause: " in result.stdout
    assert result.stdout.endswith("ALL CHECKS PASSED\n")


def test_every_configured_instance_is_tested_and_none_stops_the_others(
    toys: Any, mts: Any, tmp_path: Path, document: Document
) -> None:
    config = tmp_path / "brokers.toml"
    config.write_text(
        '[brokers.one]\nbroker = "toy"\nenvironment = "paper"\n'
        '[brokers.three]\nbroker = "toy"\nenvironment = "paper"\nsede = 1\n'
        '[brokers.two]\nbroker = "toy"\nenvironment = "paper"\nseed = 2\n'
    )
    result = mts("test", "--config", str(config))
    assert result.exit_code == 1
    assert "✓ one: API reachable     in process, generator seed 7" in result.stdout
    assert "✗ three: configuration     unknown setting" in result.stdout
    assert "cure:  did you mean seed?" in result.stdout
    assert "✓ two: API reachable     in process, generator seed 2" in result.stdout
    assert result.stdout.endswith("1 OF 13 CHECKS FAILED\n")
    assert {row["broker"] for row in document("test", "--config", str(config), code=1)["checks"]} == {
        "one", "two", "three",
    }  # fmt: skip
