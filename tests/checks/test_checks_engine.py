"""The checks against brokers that offer little, answer late, or lie about what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from mts1b_brokers_core.checks import probes
from mts1b_brokers_core.checks.engine import Report, run_checks
from mts1b_brokers_core.checks.failing import explain_failure
from mts1b_brokers_core.checks.words import amount, milliseconds, money, number
from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.accounts import KeyPermissions
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.market_data import Quote
from mts1b_brokers_core.foundation.plugin import CheckResult, CheckState, Connection

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Bare:
    """The contract and nothing more."""

    name = "bare"

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def submit(self, order: Any) -> Any:
        raise AssertionError("a test places no order")

    async def cancel(self, order_id: str) -> bool:
        raise AssertionError("a test cancels nothing")

    async def get_open_orders(self) -> list[Any]:
        return []

    async def get_positions(self) -> list[Any]:
        return []

    async def stream_fills(self) -> AsyncIterator[Any]:
        return
        yield


async def report_of(broker: Any, **more: Any) -> dict[str, CheckResult]:
    report = await run_checks(broker, **more)
    return {row.name: row for row in report.results}


class Waiting(Bare):
    """Its fill stream waits, and tells how it was read."""

    read: dict[str, Any]

    async def stream_fills(self, since: int | None = None, consumer: str = "default") -> AsyncIterator[Any]:
        import asyncio

        self.read = {"since": since, "consumer": consumer}
        await asyncio.Event().wait()
        yield


async def test_what_is_not_offered_is_not_applicable() -> None:
    rows = await report_of(Waiting())
    assert {name: row.state for name, row in rows.items()} == {
        "api": "ok", "auth": "ok", "account": "not_applicable", "order_book": "not_applicable",
        "time_skew": "not_applicable", "stream": "not_applicable",
    }  # fmt: skip
    assert rows["account"].text == "not applicable: not offered"
    assert rows["auth"].text == "accepted: open orders were read"
    assert rows["stream"].text == "not applicable: no WebSocket is used (fill stream OK)"


async def test_reading_the_fill_stream_acknowledges_nothing() -> None:
    broker = Waiting()
    await report_of(broker)
    assert broker.read["since"] == 0


async def test_a_fill_stream_that_ends_at_once_is_a_failure() -> None:
    rows = await report_of(Bare())
    assert rows["stream"].state is CheckState.FAILED
    assert "no fill would ever be seen" in rows["stream"].cause


async def test_a_check_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Waiting):
        async def get_open_orders(self) -> list[Any]:
            import asyncio

            return await asyncio.Future()

    monkeypatch.setattr("mts1b_brokers_core.checks.engine.CHECK_LIMIT", 0.05)
    rows = await report_of(Silent())
    assert (rows["auth"].state, rows["auth"].cause) == ("failed", "no answer within 0.05 s")
    assert rows["stream"].state is CheckState.NOT_RUN
    assert rows["stream"].evidence == {"because": "auth"}


class Quoting(Waiting):
    """Quotes in euro, streams over a WebSocket, and holds a key that may do too much."""

    may = KeyPermissions(can_view=True, can_trade=True, can_transfer=True)
    connection = Connection(
        endpoint="https://venue.example", stream="wss://venue.example", credentials="key ...42"
    )
    silent = False

    async def get_instruments(self, query: str | None = None) -> list[Instrument]:
        row = Instrument(
            symbol="XBT-EUR", asset_class="crypto", quote="EUR",
            price_increment="0.1", quantity_increment="1",
        )  # fmt: skip
        return [] if query else [row]

    async def get_quote(self, symbol: str) -> Quote:
        return Quote(symbol=symbol, bid="85000.1", ask="85000.2", at=NOON)

    async def get_key_permissions(self) -> KeyPermissions:
        return self.may

    async def stream_market_data(self, symbols: Any, kinds: Any = ()) -> AsyncIterator[Any]:
        import asyncio

        if self.silent:
            await asyncio.Event().wait()
        yield await self.get_quote(symbols[0])


async def test_a_venue_over_a_wire() -> None:
    rows = await report_of(Quoting())
    assert rows["api"].text.startswith("https://venue.example, ")
    assert rows["order_book"].text == "XBT-EUR bid=85,000.10 EUR, ask=85,000.20 EUR"
    assert rows["order_book"].evidence["source"] == "quote"
    assert rows["stream"].state is CheckState.OK
    assert rows["stream"].text.startswith("wss://venue.example, first message after ")
    assert "first_message_ms" in rows["stream"].evidence


@pytest.mark.parametrize(
    ("may", "cause"),
    [
        ({"can_transfer": True}, "the key may also move funds away"),
        ({"can_trade": False}, "the key may not trade: every order will be refused"),
        ({"expires_at": NOON}, "the key expires at 2026-12-01T12:00:00+00:00"),
        ({}, ""),
    ],
)
async def test_what_the_key_may_do_is_judged(may: dict[str, Any], cause: str) -> None:
    broker = Quoting()
    broker.may = KeyPermissions(**{"can_view": True, "can_trade": True, "can_transfer": False, **may})
    row = (await report_of(broker))["auth"]
    assert (row.state, row.cause) == ("warning" if cause else "ok", cause)
    assert row.text.startswith("key ...42, may view")


async def test_a_silent_stream_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FIRST_MESSAGE", 0.05)
    broker = Quoting()
    broker.silent = True
    row = (await report_of(broker))["stream"]
    assert row.state is CheckState.WARNING
    assert row.cause == "no market data for XBT-EUR came within 0.05 s"


async def test_the_symbol_asked_for_is_asked_for() -> None:
    rows = await report_of(Quoting(), symbol="ETH-EUR")
    assert rows["order_book"].text.startswith("ETH-EUR bid=85,000.10 EUR")


async def test_a_plugin_that_fails_to_give_its_checks_is_a_finding() -> None:
    def extra(broker: object) -> list[Any]:
        raise LookupError("no checks")

    rows = await report_of(Waiting(), extra=extra)
    assert rows["checks"].cause == "LookupError: no checks"


async def test_a_plugins_checks_are_not_run_where_nothing_was_opened() -> None:
    class Own:
        name = "own"

    @asynccontextmanager
    async def closed() -> AsyncIterator[Any]:
        raise errors.VenueUnavailable("down.")
        yield

    heard: list[str] = []
    report = await run_checks(
        closed(), extra=lambda broker: [Own()], listener=lambda row: heard.append(row.name), tracebacks=True
    )
    assert heard == ["api", "auth", "account", "order_book", "time_skew", "stream", "own"]
    assert report.results[-1].state is CheckState.NOT_RUN
    assert "VenueUnavailable" in report.results[0].evidence["traceback"]
    assert (report.passed, report.failed) == (False, 1)


def test_an_empty_report_is_no_failure() -> None:
    assert Report().passed


@pytest.mark.parametrize(
    ("error", "word", "cure"),
    [
        (errors.RateLimited("slow down.", retry_after=3), "rate limited", "wait 3 seconds"),
        (errors.PermissionDenied("read-only key."), "permission", "give the key the permission"),
        (errors.UnreadableReply("no price."), "unreadable reply", "upgrade the plugin"),
        (errors.StateCorrupted("damaged."), "state corrupted", "look at the state file"),
        (errors.UnknownInstrument("no such."), "unknown instrument", "correct what the cause names"),
        (OSError(5, "Input/output error"), "no connection", "check the network"),
        (TimeoutError(), "no answer", "check the network"),
        (RuntimeError(), "unexpected error", "report it"),
    ],
)  # fmt: skip
def test_no_failure_goes_without_a_cure(error: Exception, word: str, cure: str) -> None:
    why = explain_failure(error)
    assert (why.word, bool(why.cause)) == (word, True)
    assert cure in why.cure


def test_amounts_are_exact_and_readable() -> None:
    assert amount(Decimal("100000"), "USD") == "$100,000.00"
    assert amount(Decimal("-0.125"), "USD") == "-$0.125"
    assert money(Decimal("1E+3"), "EUR") == "1,000.00 EUR"
    assert money(Decimal("0.50000000"), "BTC") == "0.5 BTC"
    assert number(Decimal("0.00000001")) == "0.00000001"
    assert milliseconds(-0.0124) == "-12ms"
