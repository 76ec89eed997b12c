"""`orders --unresolved` and `orders resolve`: what is in doubt, and a person's word on it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from mts1b_brokers_core.runtime.state import journal_path

Document = Callable[..., Any]


def test_the_list_names_key_state_and_time(mts: Any, document: Document) -> None:
    text = mts("orders", "toy", "--unresolved").stdout
    assert text.splitlines()[0].split() == ["key", "state", "since", "order", "evidence"]
    assert "U1" in text
    assert "sell 0.02 BTC-USD limit @ 99,000 gtc" in text
    assert "O1" not in text
    (row,) = document("orders", "toy", "--unresolved")["unresolved"]
    assert (row["key"], row["state"], row["order"]["order_id"]) == ("U1", "unknown", "U1")


@pytest.mark.parametrize(
    ("words", "told"), [(("--order", "V1"), "order V1"), (("--none",), "not at the venue")]
)
def test_a_word_is_written_down(mts: Any, document: Document, words: tuple[str, ...], told: str) -> None:
    result = mts("orders", "resolve", "toy", "U1", *words, "--yes")
    assert (result.exit_code, result.stdout) == (0, f"resolved: U1 is {told}\n")
    assert f"toy (paper): the key U1 is {told}" in result.stderr
    found = document("orders", "resolve", "U1", "--broker", "toy", *words, "--yes")
    assert (found["key"], found["order"]["order_id"]) == ("U1", "U1")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("toy", "U1", "--yes"), 2, "say what it is: --order ID or --none."),
        (("toy", "U1", "--order", "V1", "--none", "--yes"), 2, "say what it is"),
        (("toy", "U1", "more", "--none", "--yes"), 2, "expected [NAME] KEY."),
        (("toy", "U1", "--none"), 2, "there is no terminal to ask on; pass --yes to settle it unasked."),
        (("toy", "U9", "--none", "--yes"), 1, "the key 'U9' was never used here."),
    ],
)
def test_what_is_refused(mts: Any, words: tuple[str, ...], code: int, why: str) -> None:
    result = mts("orders", "resolve", *words)
    assert result.exit_code == code
    assert why in result.stderr


def test_live_must_be_said(mts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTS1B_BROKERS__TOY__ENVIRONMENT", "live")
    words = ("orders", "resolve", "toy", "U1", "--none", "--yes")
    refused = mts(*words)
    assert refused.exit_code == 2
    assert "toy trades live; say so: --environment live" in refused.stderr
    assert mts(*words, "--environment", "live").exit_code == 0


def test_the_help_of_orders_names_it(mts: Any) -> None:
    assert "orders resolve [NAME] KEY" in mts("orders", "--help").stdout
    assert "--none" in mts("orders", "resolve", "--help").stdout


def test_with_a_journal_it_is_settled_and_logged(mts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTS1B_BROKERS_ALLOW")
    result = mts("buy", "paper", "BTC-USD", "0.01", "--price", "1000", "--yes", "--json")
    assert result.exit_code == 0, result.output
    placed = json.loads(result.stdout)
    key, name = placed["order"]["idempotency_key"], placed["order"]["broker_order_id"]
    journal = journal_path("paper", "paper")
    with sqlite3.connect(journal) as connection:
        connection.execute("UPDATE orders SET state = 'ambiguous', words = 'several found: V1, V2'")
    connection.close()

    (row,) = json.loads(mts("orders", "paper", "--unresolved", "--json").stdout)["unresolved"]
    assert (row["key"], row["state"], row["evidence"]) == (key, "ambiguous", "several found: V1, V2")
    assert row["since"]
    wrong = mts("orders", "resolve", "paper", key, "--order", "nobody", "--yes")
    assert (wrong.exit_code, "nobody" in wrong.stderr) == (1, True)
    assert mts("orders", "resolve", "paper", key, "--order", name, "--yes").exit_code == 0

    assert "has no order whose outcome is unknown" in mts("orders", "paper", "--unresolved").stdout
    with sqlite3.connect(journal) as connection:
        logged = connection.execute("SELECT count(*) FROM log WHERE kind = 'resolved'").fetchone()
    connection.close()
    assert logged == (1,)
