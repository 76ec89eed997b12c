"""`orders --unresolved` and `orders resolve`: what is in doubt, and a person's word on it."""

from __future__ import annotations

import importlib
import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from mts1b_brokers_core.execution.ownership import Leader
from mts1b_brokers_core.foundation.errors import VenueUnavailable
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


@pytest.mark.parametrize("key", ["", " "])
def test_an_empty_key_is_refused(mts: Any, key: str) -> None:
    result = mts("orders", "resolve", "toy", key, "--none", "--yes")
    assert (result.exit_code, "KEY is empty" in result.stderr) == (2, True)


@pytest.fixture
def doubted(mts: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A key in doubt in the journal of a broker whose venue is down by now."""
    monkeypatch.delenv("MTS1B_BROKERS_ALLOW")
    result = mts("buy", "paper", "BTC-USD", "0.01", "--price", "1000", "--yes", "--json")
    assert result.exit_code == 0, result.output
    with sqlite3.connect(journal_path("paper", "paper")) as connection:
        unseen = "json_set(body, '$.broker_order_ids', json('[]'), '$.broker_order_id', NULL)"
        connection.execute(f"UPDATE orders SET state = 'unknown', words = 'no reply', body = {unseen}")
    connection.close()

    async def down(self: object) -> None:
        raise VenueUnavailable("maintenance")

    monkeypatch.setattr(importlib.import_module("mts1b_broker_paper.client").PaperClient, "connect", down)
    return json.loads(result.stdout)["order"]["idempotency_key"]


def test_what_is_in_doubt_is_listed_without_the_venue(mts: Any, doubted: str) -> None:
    assert mts("orders", "paper").exit_code == 1
    result = mts("orders", "paper", "--unresolved", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    (row,) = found["unresolved"]
    assert (row["key"], row["state"], row["evidence"]) == (doubted, "unknown", "no reply")
    assert (found["broker"], found["environment"], bool(found["account"])) == ("paper", "paper", True)


def test_a_word_that_needs_no_venue_is_taken_without_one(mts: Any, doubted: str) -> None:
    named = mts("orders", "resolve", "paper", doubted, "--order", "V1", "--yes")
    assert (named.exit_code, "maintenance" in named.stderr) == (1, True)
    result = mts("orders", "resolve", "paper", doubted, "--none", "--yes")
    assert result.exit_code == 0, result.output
    assert (result.exit_code, result.stdout) == (0, f"resolved: {doubted} is not at the venue\n")
    assert "the venue can't be asked, so that your word alone counts" in result.stderr
    assert "has no order whose outcome is unknown" in mts("orders", "paper", "--unresolved").stdout
    again = mts("orders", "resolve", "paper", doubted, "--none", "--yes")
    assert (again.exit_code, "is no open question: it is not_placed" in again.stderr) == (1, True)


def test_nothing_is_settled_beside_a_process_that_owns_the_login(mts: Any, doubted: str) -> None:
    leader = Leader(journal_path("paper", "paper"))
    leader.take()
    try:
        assert doubted in mts("orders", "paper", "--unresolved", "--json").stdout
        result = mts("orders", "resolve", "paper", doubted, "--none", "--yes")
        assert (result.exit_code, "in use by process" in result.stderr) == (1, True)
    finally:
        leader.end()


def test_a_key_nobody_used_is_refused_before_anything_is_asked(mts: Any, doubted: str) -> None:
    result = mts("orders", "resolve", "paper", "typo", "--none")
    assert result.exit_code == 1
    assert "the key 'typo' was never used here" in result.stderr
    assert "`mts mts1b-brokers orders paper --unresolved` lists the keys in doubt" in result.stderr


def test_a_file_that_is_no_journal_is_told(mts: Any, doubted: str) -> None:
    with sqlite3.connect(journal_path("paper", "paper")) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    result = mts("orders", "paper", "--unresolved")
    assert (result.exit_code, "is no journal of this release (version 99" in result.stderr) == (1, True)
    journal_path("paper", "paper").write_text("nothing of that kind" * 100)
    result = mts("orders", "paper", "--unresolved")
    assert (result.exit_code, "can't be read" in result.stderr) == (1, True)


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
