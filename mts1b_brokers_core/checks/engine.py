"""Runs the checks against one broker: opens it, asks, puts each failure on the line it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

from mts1b_brokers_core.foundation.errors import AccountNotChosen, AuthenticationError, PermissionDenied
from mts1b_brokers_core.foundation.plugin import Check, CheckResult, CheckState
from mts1b_brokers_core.foundation.protocols import BrokerProtocol
from mts1b_brokers_core.platform.clock import RealClock

from .failing import explain_failure, traceback_of
from .probes import BY_NAME, QUESTIONS, Probe

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
    opening: AbstractAsyncContextManager[BrokerProtocol],
    *,
    extra: Extra | None = None,
    symbol: str | None = None,
    listener: Listener | None = None,
    tracebacks: bool = False,
) -> Report:
    """Open a broker, ask core's questions and then the plugin's own; nothing is ordered or changed.

    `extra` gives the plugin's checks. `listener` hears of each result at once. A failure is a result,
    never an exception; `tracebacks` adds the traceback to its evidence.
    """
    run = _Run(extra, listener, tracebacks)
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
            run.failure(CheckResult(name="close", title="closing", state=CheckState.OK), error)
    return run.report


class _Run:
    def __init__(self, extra: Extra | None, listener: Listener | None, tracebacks: bool) -> None:
        self.report = Report()
        self._extra = extra
        self._listener = listener
        self._tracebacks = tracebacks
        self._lost: set[str] = set()

    def add(self, result: CheckResult) -> None:
        self.report.results.append(result)
        if self._listener is not None:
            self._listener(result)

    def failure(self, base: CheckResult, error: Exception) -> None:
        why = explain_failure(error)
        evidence = {**base.evidence, "error": type(error).__name__}
        if choices := getattr(error, "choices", ()):
            evidence["choices"] = list(choices)
        if self._tracebacks:
            evidence["traceback"] = traceback_of(error)
        self._lost.add(base.name)
        self.add(base.evolve(
            state=CheckState.FAILED, text=why.word, cause=why.cause, cure=why.cure, evidence=evidence,
        ))  # fmt: skip

    def not_opened(self, error: Exception) -> None:
        """Put what kept the broker from opening on its line: all before was fine, nothing after it runs."""
        line = "api"
        if isinstance(error, AuthenticationError | PermissionDenied):
            line = "auth"
        elif isinstance(error, AccountNotChosen):
            line = "account"
        reached = {"api": "the venue answered", "auth": "the login was accepted"}
        for question in QUESTIONS:
            if question.name == line:
                self.failure(question.answer(CheckState.FAILED, ""), error)
            elif not self._lost:
                self.add(question.answer(CheckState.OK, reached[question.name]))
            else:
                self.add(self._not_run(question.answer(CheckState.NOT_RUN, ""), line))
        for check in self._own(None):
            row = CheckResult(name=check.name, title=check.name, state=CheckState.NOT_RUN)
            self.add(self._not_run(row, line))

    @staticmethod
    def _not_run(row: CheckResult, because: str) -> CheckResult:
        return row.evolve(text=f"not run: {BY_NAME[because].failed} (above)", evidence={"because": because})

    async def ask(self, probe: Probe) -> None:
        for question in QUESTIONS:
            missing = next((name for name in question.needs if name in self._lost), None)
            if missing is not None:
                self.add(self._not_run(question.answer(CheckState.NOT_RUN, ""), missing))
                continue
            try:
                async with probe.real.timeout(CHECK_LIMIT):
                    result = await question.ask(probe)
            except Exception as error:  # noqa: BLE001 - one check's failure must not cost the others
                self.failure(question.answer(CheckState.FAILED, ""), _unless_late(error, CHECK_LIMIT))
            else:
                self._keep(result)
        for check in self._own(probe.broker):
            if "api" in self._lost:
                row = CheckResult(name=check.name, title=check.name, state=CheckState.NOT_RUN)
                self.add(self._not_run(row, "api"))
                continue
            try:
                async with probe.real.timeout(CHECK_LIMIT):
                    result = await check.run(probe.broker)
            except Exception as error:  # noqa: BLE001 - as above, and this is somebody else's code
                row = CheckResult(name=check.name, title=check.name, state=CheckState.FAILED)
                self.failure(row, _unless_late(error, CHECK_LIMIT))
            else:
                self._keep(result)

    def _own(self, broker: BrokerProtocol | None) -> Sequence[Check]:
        """Return the plugin's checks; a plugin that fails to give them is a finding."""
        if self._extra is None:
            return ()
        try:
            return self._extra(broker)
        except Exception as error:  # noqa: BLE001 - somebody else's code
            self.failure(CheckResult(name="checks", title="its own checks", state=CheckState.OK), error)
            return ()

    def _keep(self, result: CheckResult) -> None:
        if result.state is CheckState.FAILED:
            self._lost.add(result.name)
            question = BY_NAME.get(result.name)
            title = question.failed if question else result.title
            cause = result.cause or "the plugin's own check says no more"
            cure = result.cure or "see the documentation of this broker"
            result = result.evolve(title=title, cause=cause, cure=cure)
        self.add(result)


def _unless_late(error: Exception, limit: float) -> Exception:
    """Put words to a time-out that says nothing."""
    if isinstance(error, TimeoutError) and not str(error):
        return TimeoutError(f"no answer within {limit:g} s")
    return error
