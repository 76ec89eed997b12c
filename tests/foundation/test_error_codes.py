"""The words by which programs tell errors apart are a promise; here they stand in full."""

from __future__ import annotations

import re
from pathlib import Path

from mts1b_brokers_core.foundation import errors

README = Path(__file__).parents[2] / "README.md"
CODES = {
    "BrokerError": "error",
    "NotSent": "not_sent",
    "ReplyLost": "reply_lost",
    "InvalidInput": "invalid_input",
    "NaiveDatetime": "naive_datetime",
    "MalformedSymbol": "malformed_symbol",
    "UnknownInstrument": "unknown_instrument",
    "RecordingError": "recording",
    "ConfigurationError": "configuration",
    "EnvironmentNotChosen": "environment_not_chosen",
    "AmbiguousInstrument": "ambiguous_instrument",
    "AccountNotChosen": "account_not_chosen",
    "UnknownSetting": "unknown_setting",
    "UnknownInstance": "unknown_instance",
    "StateError": "state",
    "StateCorrupted": "state_corrupted",
    "StateLocked": "state_locked",
    "StateTooNew": "state_too_new",
    "StateMismatch": "state_mismatch",
    "StateUnwritable": "state_unwritable",
    "OrderError": "order",
    "OrderDenied": "order_denied",
    "UnsupportedCapability": "unsupported",
    "OrderUnsupported": "order_unsupported",
    "IdempotencyConflict": "idempotency_conflict",
    "OrderRejected": "order_rejected",
    "OrderNotPlaced": "order_not_placed",
    "OutcomeUnknown": "outcome_unknown",
    "OrderNotFound": "order_not_found",
    "WaitTimeout": "wait_timeout",
    "VenueError": "venue",
    "AuthenticationError": "authentication",
    "PermissionDenied": "permission",
    "RateLimited": "rate_limited",
    "VenueUnavailable": "venue_unavailable",
    "UnreadableReply": "unreadable_reply",
    "PluginError": "plugin",
    "BrokerNotInstalled": "broker_not_installed",
    "PluginUnusable": "plugin_unusable",
    "BrokerClosed": "broker_closed",
    "BrokerFailed": "broker_failed",
}


def test_every_error_has_its_code() -> None:
    tree = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    ours = {name: kind.code for name, kind in tree.items() if issubclass(kind, errors.BrokerError)}
    assert ours == CODES


def test_the_readme_tells_of_every_answer_what_the_error_itself_says() -> None:
    section = README.read_text(encoding="utf-8").partition("## The four answers")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    head, _, order, *rows = [[cell.strip() for cell in line] for line in lines]
    assert head[2:] == ["a repeat with the same key", "`repeat_is_safe`"]
    assert (order[0], order[3]) == ("an `Order`", "")
    told = {name: safe for name, _, _, safe in rows}
    denied, rejected = errors.OrderDenied("x"), errors.OrderRejected("x")
    unknown = errors.OutcomeUnknown("x")
    proven, probable = (errors.OrderNotPlaced("x", certainty=word) for word in ("proven", "probable"))
    said = {f"`{type(error).__name__}`": error.repeat_is_safe for error in (denied, rejected, unknown)}
    said |= {f"`OrderNotPlaced`, {error.certainty}": error.repeat_is_safe for error in (proven, probable)}
    assert told == {name: "true" if safe else "false" for name, safe in said.items()}
    assert set(re.findall(r"`(\w*[A-Z]\w*)`", section)) <= {"Order", *CODES}


def test_a_derived_error_keeps_the_code_of_what_it_is_unless_it_names_its_own() -> None:
    class KrakenRejected(errors.OrderRejected):
        """An adapter's own."""

    class KrakenBusy(errors.RateLimited):
        """Another, with a word of its own."""

        code = "kraken_busy"

    assert (KrakenRejected.code, KrakenBusy.code) == ("order_rejected", "kraken_busy")


def test_every_error_takes_its_fields_by_name() -> None:
    terms = errors.OrderUnsupported("no.", capability="stop", broker="a")
    assert (terms.reason, terms.capability, terms.broker, terms.order) == ("unsupported", "stop", "a", None)
    assert terms.repeat_is_safe
    account = errors.AccountNotChosen("which?", choices=["U1", "U2"])
    assert account.choices == ("U1", "U2")
    assert errors.UnknownSetting("no.").choices == ()
    probable = errors.OrderNotPlaced("gone.", certainty="probable", retry_after=2.0)
    assert (probable.repeat_is_safe, probable.certainty, probable.retry_after) == (False, "probable", 2.0)
    assert errors.OrderNotPlaced("gone.", certainty="proven").repeat_is_safe
