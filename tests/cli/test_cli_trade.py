"""Orders from the command line: asked first, never at live by a slip, one of four answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Document = Callable[..., Any]
BUY = ("buy", "toy", "BTC-USD", "0.01")


def test_without_a_terminal_nothing_is_placed_unasked(mts: Any) -> None:
    result = mts(*BUY, text="y\n")
    assert result.exit_code == 2
    assert "pass --yes" in result.stderr
    assert result.stdout == ""


def test_a_limit_order_is_announced_and_confirmed(mts: Any) -> None:
    result = mts(*BUY, "--price", "95000", "--post-only", "--yes")
    assert result.exit_code == 0
    assert result.stderr == (
        "toy (paper, account TOY-1): buy 0.01 BTC-USD limit @ $95,000.00 gtc post-only; "
        "value about $950.00, fee about $0.475\n"
    )
    first, second = result.stdout.splitlines()
    assert first == "confirmed: buy 0.01 BTC-USD limit @ 95,000 gtc post-only [new]"
    assert second.endswith(", at the venue V1")


def test_a_market_order_is_valued_at_the_side_it_takes(mts: Any) -> None:
    assert "value about $951.20, fee about $0.9512" in mts(*BUY, "--yes").stderr
    sell = mts("sell", "BTC-USD", "0.01", "--broker", "toy", "--yes")
    assert "sell 0.01 BTC-USD market gtc; value about $951.00, fee about $0.951" in sell.stderr


def test_waiting_shows_the_fills(mts: Any, document: Document) -> None:
    result = mts(*BUY, "--yes", "--wait", "filled", "5")
    assert "[filled, 0.01 at 95,120 on average]" in result.stdout
    assert result.stdout.splitlines()[-1].split() == [
        "1", "F1", "buy", "0.01", "BTC-USD", "95,120", "0.95", "USD", "2026-12-01", "12:00:00Z",
    ]  # fmt: skip
    found = document(*BUY, "--yes", "--wait", "final", "5")
    assert found["order"]["status"] == "filled"
    assert found["order"]["quantity"] == "0.01"
    assert found["order"]["submitted_at"] == "2026-12-01T12:00:00Z"
    assert [fill["price"] for fill in found["fills"]] == ["95120"]


def test_an_amount_takes_the_place_of_a_quantity(document: Document) -> None:
    order = document("buy", "BTC-USD", "--quote-quantity", "50", "--yes")["order"]
    assert (order["quantity"], order["quote_quantity"]) == (None, "50")


def test_the_terms_arrive(document: Document) -> None:
    order = document(
        *BUY, "--price", "95000.10", "--stop", "94000", "--tif", "day", "--key", "my-key", "--yes"
    )["order"]
    assert (order["order_type"], order["limit_price"], order["stop_price"]) == (
        "stop_limit",
        "95000.10",
        "94000",
    )
    assert (order["time_in_force"], order["idempotency_key"]) == ("day", "my-key")


ANSWERS = {  # fault: (exit code, words, code)
    "denied": (1, "DENIED, nothing was sent: 0.001 is below the minimum 0.01.", "order_denied"),
    "rejected": (
        1,
        "REJECTED by the venue: not enough funds.\n  the venue's words: Insufficient USD",
        "order_rejected",
    ),
    "not_placed": (1, "NOT PLACED (proven): the token had expired.", "order_not_placed"),
    "maybe_placed": (1, "NOT PLACED (probable): no trace of it.", "order_not_placed"),
    "unknown": (3, "UNKNOWN, the order may be live: no reply within 10 s.", "outcome_unknown"),
    "submit_crash": (3, "UNKNOWN, the order may be live: BrokenPipeError", "outcome_unknown"),
    "submit_venue": (3, "UNKNOWN, the order may be live: 502 Bad Gateway", "outcome_unknown"),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_the_four_answers_have_words_and_codes(mts: Any, document: Document, fault: str) -> None:
    code, words, name = ANSWERS[fault]
    result = mts(*BUY, "--yes", "--set", f"fault={fault}")
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""
    error = document(*BUY, "--yes", "--set", f"fault={fault}", "--key", "k1", code=code)["error"]
    assert error["code"] == name
    assert error["repeat_is_safe"] is (fault in ("denied", "not_placed"))
    assert error["order"]["idempotency_key"] == "k1"
    if code == 3:
        assert "place no other before you have looked" in error["next_step"]
        assert "mts mts1b-brokers orders toy" in result.stderr


JOURNAL = """class Toy:
    async def outcome(self, key):
        if ANSWER is not None:
            raise ANSWER
        return Order.limit("BTC-USD", "buy", "1", price="1", broker_order_id="V7", status="new")
"""


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ("errors.OrderNotFound('never used.')", 1, "DENIED, nothing was sent: ZeroDivisionError: division"),
        ("errors.OrderRejected('no funds.')", 1, "REJECTED by the venue: no funds."),
        ("errors.OutcomeUnknown('no reply.')", 3, "UNKNOWN, the order may be live: no reply."),
        ("errors.StateUnwritable('disk full.')", 3, "UNKNOWN, the order may be live: ZeroDivisionError"),
        ("KeyError('x')", 3, "UNKNOWN, the order may be live: ZeroDivisionError"),
        ("None", 0, "at the venue V7"),
    ],
)
def test_after_a_crash_the_journal_says_whether_anything_was_sent(
    mts: Any, toys: Any, answer: str, code: int, words: str
) -> None:
    package = toys.folder / "mts1b_broker_toy" / "plugin.py"
    text = package.read_text().replace("class Toy:\n", f"ANSWER = {answer}\n\n{JOURNAL}")
    package.write_text(text.replace("BrokenPipeError(32, 'Broken pipe')", "").replace(
        'BrokenPipeError(32, "Broken pipe")', 'ZeroDivisionError("division by zero")'
    ))  # fmt: skip
    result = mts(*BUY, "--yes", "--set", "fault=submit_crash")
    assert result.exit_code == code, result.output
    assert words in result.output


def test_a_key_is_only_recommended_where_it_protects(
    mts: Any, toys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = toys.folder / "mts1b_broker_toy" / "plugin.py"
    package.write_text(
        package.read_text().replace("class Toy:\n", "class Toy:\n    guarantee = 'resolver, proven'\n")
    )
    result = mts(*BUY, "--yes", "--set", "fault=unknown", "--key", "k2")
    assert "the same command with --key k2 asks what became of it, and places no second one" in result.stderr


def test_a_key_that_was_used_before_says_so(mts: Any, document: Document) -> None:
    words = (*BUY, "--yes", "--key", "k3", "--set", "fault=known")
    assert "  this key was used before: the answer is that order's" in mts(*words).stdout
    assert document(*words)["answered_before"] is True
    assert document(*BUY, "--yes")["answered_before"] is False


def test_an_adjustment_is_allowed_by_an_option(document: Document) -> None:
    order = document(*BUY, "--yes", "--allow-adjust", "quantity", "--allow-adjust", "price")["order"]
    assert order["allow_adjust"] == ["price", "quantity"]


def test_what_goes_wrong_after_the_confirmation_takes_nothing_back(mts: Any, document: Document) -> None:
    wait = (*BUY, "--yes", "--wait", "filled", "1")
    late = mts(*wait, "--set", "fault=late")
    assert late.exit_code == 0
    assert late.stdout.startswith("confirmed: ")
    assert "warning: not filled within 1.0 s; it was not cancelled." in late.stderr
    timed_out = document(*wait, "--set", "fault=late")
    assert (timed_out["wait"], "error" in timed_out) == ("timed out", False)
    assert timed_out["warning"] == "not filled within 1.0 s; it was not cancelled."
    assert document(*wait)["wait"] == "done"
    assert "wait" not in document(*BUY, "--yes")
    failed = document(*wait, "--set", "fault=wait_crash")
    assert (failed["order"]["broker_order_id"], failed["wait"]) == ("V1", "failed")
    assert failed["warning"] == "ZeroDivisionError: division by zero"
    assert mts(*wait, "--set", "fault=wait_crash").stdout.startswith("confirmed: ")
    closing = document(*BUY, "--yes", "--set", "fault=closing", code=1)
    assert closing["order"]["broker_order_id"] == "V1"
    assert closing["error"]["message"] == "the disk is full."


def test_the_help_names_the_codes_there_are(mts: Any) -> None:
    text = " ".join(mts("buy", "--help").stdout.split())
    assert "0 where the venue confirmed the order" in text
    assert " 4 " not in text


def test_a_fill_at_once_is_shown_without_waiting_for_more(mts: Any, document: Document) -> None:
    found = document(*BUY, "--yes", "--set", "fault=at_once")
    assert (found["order"]["status"], [fill["fill_id"] for fill in found["fills"]]) == ("filled", ["F1"])
    assert "F1" in mts(*BUY, "--yes", "--set", "fault=at_once").stdout
    assert document(*BUY, "--yes")["fills"] == []


def test_live_must_be_said_on_the_command_line(
    mts: Any, monkeypatch: pytest.MonkeyPatch, document: Document
) -> None:
    monkeypatch.setenv("MTS1B_BROKERS__TOY__ENVIRONMENT", "live")
    result = mts(*BUY, "--yes")
    assert result.exit_code == 2
    assert "toy trades live; say so: --environment live. --yes doesn't replace it." in result.stderr
    assert document(*BUY, "--yes", code=2)["error"]["code"] == "usage"
    assert "toy (LIVE, account TOY-1)" in mts(*BUY, "--yes", "--environment", "live").stderr


def test_a_halt_is_obeyed_for_an_adapter_that_does_not_watch_it(mts: Any, document: Document) -> None:
    mts("halt", "toy", "--reason", "too wild")
    error = document(*BUY, "--yes", code=1)["error"]
    assert (error["code"], error["reason"]) == ("order_denied", "halted")
    assert "trading is halted: too wild." in mts(*BUY, "--yes").stderr
    assert mts("cancel", "V1").exit_code == 0


def test_cancel_tells_taken_from_final(mts: Any, document: Document) -> None:
    taken = mts("cancel", "toy", "V1")
    assert (taken.exit_code, taken.stdout) == (0, "canceled: toy took the cancel of V1\n")
    final = mts("cancel", "V0")
    assert final.exit_code == 1
    assert "V0 was final already" in final.stdout
    assert document("cancel", "V0", code=1)["canceled"] is False
    assert document("cancel", "toy", "nope", code=1)["error"]["code"] == "order_not_found"
