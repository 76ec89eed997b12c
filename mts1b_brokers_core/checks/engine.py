"""Runs the checks against one broker: opens it, asks, puts each failure on the line it belongs to."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

from mts1b_brokers_core.foundation import BrokerProtocol, Check, CheckResult, CheckState, errors
from mts1b_brokers_core.platform.clock import RealClock

from .failing import explain_failure
from .probes import QUESTIONS, Probe, Question

#: Seconds that opening, and each check, may take.
OPENING_LIMIT, CHECK_LIMIT = 60.0, 20.0

Listener = Callable[[CheckResult], None]
#: Gives a plugin's own checks for the opened broker, or, for None, those that could not be run.
Extra = Callable[[BrokerProtocol | None], Sequence[Check]]


@dataclass(slots=True)
class Report:
    """All results of one broker, in order."""

    results: list[CheckResult] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many checks failed; those that could not run because of it are not counted."""
        return sum(result.state is CheckState.FAILED for result in self.results)

    @property
    def passed(self) -> bool:
        """True where every check ran and none failed."""
        return all(row.state not in (CheckState.FAILED, CheckState.NOT_RUN) for row in self.results)


async def run_checks(
    opening: AbstractAsyncContextManager[BrokerProtocol], *, extra: Extra | None = None,
    symbol: str | None = None, listener: Listener | None = None, tracebacks: bool = False,
) -> Report:  # fmt: skip
    """Open a broker, ask core's questions and then the plugin's own; nothing is ordered or changed.

    `extra` gives the plugin's checks. `listener` hears of each result at once. A failure is a result,
    never an exception; `tracebacks` adds the traceback to its evidence.
    """
    run = _Run(extra or (lambda _: ()), listener or (lambda _: None), tracebacks)
    clock, stack = RealClock(), AsyncExitStack()
    start = clock.monotonic()
    try:
        async with clock.timeout(OPENING_LIMIT):
            broker = await stack.enter_async_context(opening)
    except Exception as error:  # noqa: BLE001 - whatever keeps a broker from opening is what the test is to tell
        run.not_opened(_unless_late(error, OPENING_LIMIT))
        return run.report
    try:
        await run.ask(Probe(broker, symbol, clock.monotonic() - start))
    finally:
        try:
            await stack.aclose()
        except Exception as error:  # noqa: BLE001 - a broker that can't close is a finding too
            run.fail("close", "closing", error)
    return run.report


@dataclass(slots=True)
class _Run:
    own: Extra
    listener: Listener
    tracebacks: bool
    report: Report = field(default_factory=Report)
    lost: set[str] = field(default_factory=set)

    def add(self, result: CheckResult) -> None:
        if result.state is CheckState.FAILED:
            self.lost.add(result.name)
            cause = result.cause or "the plugin's own check says no more"
            result = result.evolve(cause=cause, cure=result.cure or "see the documentation of this broker")
        self.report.results.append(result)
        self.listener(result)

    def fail(self, name: str, title: str, error: Exception) -> None:
        word, cause, cure = explain_failure(error)
        evidence: dict[str, object] = {"error": type(error).__name__}
        if choices := getattr(error, "choices", ()):
            evidence["choices"] = list(choices)
        if self.tracebacks:
            evidence["traceback"] = "".join(traceback.format_exception(error))
        self.add(CheckResult(
            name=name, title=title, state=CheckState.FAILED, text=word, cause=cause, cure=cure,
            evidence=evidence,
        ))  # fmt: skip

    def not_run(self, question: Question, because: str) -> None:
        titles = {row.name: row.failed for row in QUESTIONS}
        text, evidence = f"not run: {titles[because]} (above)", {"because": because}
        self.add(question.answer(CheckState.NOT_RUN, text, evidence=evidence))

    def not_opened(self, error: Exception) -> None:
        """Put what kept the broker from opening on its line: all before was fine, nothing after it runs."""
        line = "api"
        if isinstance(error, errors.AuthenticationError | errors.PermissionDenied):
            line = "auth"
        elif isinstance(error, errors.AccountNotChosen):
            line = "account"
        reached = {"api": "the venue answered", "auth": "the login was accepted"}
        for question in self._questions(None):
            if question.name == line:
                self.fail(question.name, question.failed, error)
            elif self.lost:
                self.not_run(question, line)
            else:
                self.add(question.answer(CheckState.OK, reached[question.name]))

    async def ask(self, probe: Probe) -> None:
        for question in self._questions(probe.broker):
            missing = next((name for name in question.needs if name in self.lost), None)
            if missing is not None:
                self.not_run(question, missing)
                continue
            try:
                async with probe.real.timeout(CHECK_LIMIT):
                    result = await question.ask(probe)
            except Exception as error:  # noqa: BLE001 - one check's failure must not cost the others
                self.fail(question.name, question.failed, _unless_late(error, CHECK_LIMIT))
            else:
                self.add(result)

    def _questions(self, broker: BrokerProtocol | None) -> Iterator[Question]:
        """Yield core's questions, then the plugin's checks; a plugin that fails to give them is a finding."""
        yield from QUESTIONS
        own: Sequence[Check] = ()
        try:
            own = self.own(broker)
        except Exception as error:  # noqa: BLE001 - somebody else's code
            self.fail("checks", "its own checks", error)
        yield from map(_own_question, own)


def _own_question(check: Check) -> Question:
    return Question(check.name, check.name, check.name, ("api",), lambda probe: check.run(probe.broker))


def _unless_late(error: Exception, limit: float) -> Exception:
    """Put words to a time-out that says nothing."""
    if isinstance(error, TimeoutError) and not str(error):
        return TimeoutError(f"no answer within {limit:g} s")
    return error
