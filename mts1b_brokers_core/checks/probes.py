"""What core asks of every broker: six questions, each answered with what the answer rests on."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mts1b_brokers_core.foundation import (
    BrokerSettings,
    CheckResult,
    CheckState,
    Clock,
    Connection,
    protocols,
)
from mts1b_brokers_core.foundation.instruments import Instrument, parse_symbol
from mts1b_brokers_core.platform.clock import RealClock

from .words import amount, milliseconds, money

#: Seconds by which the venue's clock may differ before it is worth a warning, and before orders suffer.
SKEW_WARNING, SKEW_FAILURE = 1.0, 5.0
#: Seconds to wait for the first message of a market data stream.
FIRST_MESSAGE = 10.0
#: Seconds in which a fill stream that can't run says so.
FILL_STREAM = 0.05

_PREFERRED = ("BTC-USD", "AAPL", "SPY", "EUR-USD")


class Probe:
    """An opened broker under test, and what the checks learn about it."""

    def __init__(self, broker: protocols.BrokerProtocol, symbol: str | None, opened_in: float) -> None:
        self.broker = broker
        self.opened_in = opened_in
        self.real = RealClock()
        own = getattr(broker, "clock", None)
        self.clock: Clock = own if isinstance(own, Clock) else self.real
        stated = getattr(broker, "connection", None)
        self.connection = stated if isinstance(stated, Connection) else None
        self._symbol = symbol

    async def symbol(self) -> tuple[str, Instrument | None] | None:
        """Return what to ask a price for: the symbol named, one the gates allow, or one that is listed."""
        settings = getattr(self.broker, "settings", None)
        allowed = settings.gates.symbols if isinstance(settings, BrokerSettings) else ()
        wanted = (self._symbol,) if self._symbol else (allowed or _PREFERRED)
        if not isinstance(self.broker, protocols.SupportsInstruments):
            return (wanted[0], None) if wanted is not _PREFERRED else None
        for symbol in wanted:
            rows = await self.broker.get_instruments(parse_symbol(symbol).symbol)
            found = [row for row in rows if symbol in (row.symbol, row.key)]
            if found:
                return (found[0].symbol if len(found) == 1 else found[0].key), found[0]
        if wanted is not _PREFERRED:
            return wanted[0], None
        tradable = [row for row in await self.broker.get_instruments(None) if row.tradable]
        return (tradable[0].symbol, tradable[0]) if tradable else None


@dataclass(frozen=True, slots=True)
class Question:
    """One of core's checks; `needs` names those without which it can't be asked."""

    name: str
    passed: str
    failed: str
    needs: tuple[str, ...]
    ask: Callable[[Probe], Awaitable[CheckResult]]

    def answer(self, state: CheckState, text: str, **more: Any) -> CheckResult:
        """Build this question's result under the right title."""
        wrong = state in (CheckState.FAILED, CheckState.NOT_RUN, CheckState.NOT_APPLICABLE)
        title = self.failed if wrong else self.passed
        return CheckResult(name=self.name, title=title, state=state, text=text, **more)


def _result(
    name: str, text: str, evidence: dict[str, Any], cause: str = "", cure: str = "",
    state: CheckState | None = None,
) -> CheckResult:  # fmt: skip
    """Answer a question: well, with a warning where there is a cause, or as `state` says."""
    state = state or (CheckState.WARNING if cause else CheckState.OK)
    question = next(question for question in QUESTIONS if question.name == name)
    return question.answer(state, text, evidence=evidence, cause=cause, cure=cure)


def _not_applicable(name: str, why: str = "not offered", **evidence: Any) -> CheckResult:
    return _result(name, f"not applicable: {why}", evidence, state=CheckState.NOT_APPLICABLE)


async def ask_api(probe: Probe) -> CheckResult:
    """Reach the venue, and measure how long one question takes where there is a cheap one."""
    link = probe.connection
    evidence: dict[str, Any] = {"opened_in_ms": round(probe.opened_in * 1000, 1)}
    if isinstance(probe.broker, protocols.SupportsServerTime):
        start = probe.real.monotonic()
        evidence["server_time"] = await probe.broker.get_server_time()
        evidence["round_trip_ms"] = round((probe.real.monotonic() - start) * 1000, 1)
    if link is None:
        return _result("api", f"opened in {milliseconds(probe.opened_in)}", evidence)
    evidence |= {"endpoint": link.endpoint, "transport": link.transport}
    if not link.in_process:
        took = evidence.get("round_trip_ms", evidence["opened_in_ms"])
        return _result("api", f"{link.endpoint}, {round(took)}ms", evidence)
    said = link.endpoint.startswith("in process")
    return _result("api", link.endpoint if said else f"in process, {link.endpoint}", evidence)


async def ask_auth(probe: Probe) -> CheckResult:
    """Make a request that only a good credential may make, and read what else the credential may do."""
    evidence: dict[str, Any] = {"open_orders": len(await probe.broker.get_open_orders())}
    stated = probe.connection.credentials if probe.connection else ""
    text = stated or "accepted: open orders were read"
    if not isinstance(probe.broker, protocols.SupportsKeyPermissions):
        return _result("auth", text, evidence)
    may = evidence["permissions"] = await probe.broker.get_key_permissions()
    words = [word for word, given in (("view", may.can_view), ("trade", may.can_trade)) if given]
    cause = cure = ""
    if not may.can_trade:
        cause = "the key may not trade: every order will be refused"
        cure = "allow trading, or use another key"
    elif may.can_transfer:
        cause, cure = "the key may also move funds away", "use a key without that permission"
    elif may.expires_at is not None and (may.expires_at - probe.clock.now()).days < 7:
        cause, cure = f"the key expires at {may.expires_at.isoformat()}", "make a new key in time"
    return _result("auth", f"{text}, may {' and '.join(words) or 'do nothing'}", evidence, cause, cure)


async def ask_account(probe: Probe) -> CheckResult:
    """Read the account and its balances."""
    if not isinstance(probe.broker, protocols.SupportsAccount):
        return _not_applicable("account")
    account = await probe.broker.get_account()
    held = sorted(account.balances, key=lambda row: (row.currency != account.currency, row.currency))
    rows = [row for row in held if row.total or row is held[0]]
    shown = [f"{row.currency}={amount(row.total, row.currency)}" for row in rows[:4]]
    more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
    return _result("account", ", ".join(shown) + more or "no balances", {"account": account})


async def ask_order_book(probe: Probe) -> CheckResult:
    """Read the best prices of one symbol, from the book or else from a quote."""
    broker = probe.broker
    if not isinstance(broker, protocols.SupportsOrderBook | protocols.SupportsQuotes):
        return _not_applicable("order_book")
    found = await probe.symbol()
    if found is None:
        return _not_applicable("order_book", "no instrument to ask for")
    symbol, instrument = found
    if isinstance(broker, protocols.SupportsOrderBook):
        book = await broker.get_order_book(symbol, 1)
        bid = book.best_bid.price if book.best_bid else None
        ask = book.best_ask.price if book.best_ask else None
        at, source = book.at, "order book"
    else:
        quote = await broker.get_quote(symbol)
        bid, ask, at, source = quote.bid, quote.ask, quote.at, "quote"
    currency = instrument.quote if instrument else symbol.partition("@")[0].rpartition("-")[2]
    shown = ["none" if price is None else money(price, currency) for price in (bid, ask)]
    evidence = {"symbol": symbol, "bid": bid, "ask": ask, "at": at, "source": source}
    cause = cure = ""
    if bid is None or ask is None:
        cause, cure = "one side of the book is empty", "ask again in trading hours, or for another --symbol"
    elif bid > ask:
        cause, cure = "the bid is above the ask", "trade nothing on this feed until the prices uncross"
    return _result("order_book", f"{symbol} bid={shown[0]}, ask={shown[1]}", evidence, cause, cure)


async def ask_time(probe: Probe) -> CheckResult:
    """Compare clocks: the least disturbed of three samples, taken against the middle of its round trip."""
    if not isinstance(probe.broker, protocols.SupportsServerTime):
        return _not_applicable("time_skew")
    samples: list[dict[str, Any]] = []
    for _ in range(3):
        before, start = probe.clock.now(), probe.real.monotonic()
        server = await probe.broker.get_server_time()
        after, trip = probe.clock.now(), probe.real.monotonic() - start
        drift = (server - (before + (after - before) / 2)).total_seconds()
        times = {"drift_ms": round(drift * 1000, 3), "trip_ms": round(trip * 1000, 3)}
        samples.append({"server_time": server, **times})
    best = min(samples, key=lambda sample: sample["trip_ms"])
    drift = best["drift_ms"] / 1000
    evidence = {"drift_ms": best["drift_ms"], "within_ms": best["trip_ms"] / 2, "samples": samples}
    cause = cure = ""
    if abs(drift) > SKEW_WARNING:
        way = "behind" if drift > 0 else "ahead of"
        cause = f"this machine's clock is {abs(drift):.1f} s {way} the venue's"
        cure = "set the clock: `timedatectl set-ntp true`, or `chronyc makestep`"
    state = CheckState.FAILED if abs(drift) > SKEW_FAILURE else None
    return _result("time_skew", f"drift={milliseconds(drift)}", evidence, cause, cure, state)


async def ask_stream(probe: Probe) -> CheckResult:
    """Start the fill stream, and where market data is pushed wait for its first message."""
    await _try_fill_stream(probe)
    evidence: dict[str, Any] = {"fill_stream": "running"}
    link, fine = probe.connection, "(fill stream OK)"
    if link is None or link.stream is None:
        why = "in process" if link and link.in_process else "no WebSocket is used"
        return _not_applicable("stream", f"{why} {fine}", **evidence)
    evidence["endpoint"] = link.stream
    found = await probe.symbol() if isinstance(probe.broker, protocols.SupportsMarketData) else None
    if found is None or not isinstance(probe.broker, protocols.SupportsMarketData):
        return _result("stream", f"{link.stream} {fine}", evidence)
    start = probe.real.monotonic()
    stream = probe.broker.stream_market_data([found[0]])
    try:
        async with probe.real.timeout(FIRST_MESSAGE):
            await anext(stream)
    except TimeoutError:
        cause = f"no market data for {found[0]} came within {FIRST_MESSAGE:g} s"
        cure = "ask again in trading hours, or for another --symbol"
        return _result("stream", f"{link.stream} {fine}", evidence, cause, cure)
    finally:
        await _closed(stream)
    took = probe.real.monotonic() - start
    evidence["first_message_ms"] = round(took * 1000, 1)
    return _result("stream", f"{link.stream}, first message after {milliseconds(took)} {fine}", evidence)


async def _try_fill_stream(probe: Probe) -> None:
    """Read fills for a moment; raises what the stream dies of, where it doesn't wait for them as it should.

    Where the stream can begin at a place it is told to, it acknowledges nothing; at most one row is read.
    """
    read: Any = probe.broker.stream_fills
    stream = read(since=0) if "since" in inspect.signature(read).parameters else read()
    first = asyncio.ensure_future(anext(stream))
    try:
        await probe.real.sleep(FILL_STREAM)
        if first.done():
            first.result()
    except StopAsyncIteration:
        raise RuntimeError("the fill stream ended at once: no fill would ever be seen") from None
    finally:
        first.cancel()
        await asyncio.wait([first])
        await _closed(stream)


async def _closed(stream: AsyncIterator[Any]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


QUESTIONS = (
    Question("api", "API reachable", "API unreachable", (), ask_api),
    Question("auth", "auth OK", "auth", ("api",), ask_auth),
    Question("account", "account info OK", "account info", ("api", "auth"), ask_account),
    Question("order_book", "order book OK", "order book", ("api",), ask_order_book),
    Question("time_skew", "time skew OK", "time skew", ("api",), ask_time),
    Question("stream", "WebSocket stream", "WebSocket stream", ("api", "auth"), ask_stream),
)
