"""`test`: is this broker usable, and if not, why and what helps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import jsontext, render
from .failures import FAILED, wants_traceback
from .options import Target, name_argument, only_name, target_options
from .session import run
from .terminal import Look, Spinner, out

if TYPE_CHECKING:
    from mts1b_brokers_core.checks.engine import Report
    from mts1b_brokers_core.foundation.plugin import Check, CheckResult
    from mts1b_brokers_core.foundation.protocols import BrokerProtocol
    from mts1b_brokers_core.runtime.config import Config


@click.command(name="test")
@name_argument
@click.option(
    "--symbol", metavar="SYMBOL", help="What to ask a price for; by default something that is listed."
)
@target_options()
@click.pass_context
def test_command(ctx: click.Context, target: Target, name: str | None, symbol: str | None) -> None:
    """Check that a broker can be reached and used; nothing is ordered or changed.

    Without a NAME every configured instance is tested, or the only installed broker. Exits with 1 where
    a check failed, with the cause and the cure under its line.
    """
    target = target.named(name)
    config = target.load()
    if symbol is not None:
        _check_symbol(symbol)
    names = [target.broker] if target.broker else sorted(config.instances) or [only_name(config)]
    reports = {one: _test(target.named(one), config, symbol, alone=len(names) == 1) for one in names}
    failed = sum(report.failed for report in reports.values())
    passed = all(report.passed for report in reports.values())
    if target.as_json:
        rows = [{"broker": one, **dict(row)} for one, report in reports.items() for row in report.results]
        from mts1b_brokers_core.platform.security import redact

        rows = [redact(row) for row in rows]
        jsontext.emit({"passed": passed, "failed": failed, "checks": rows})
    else:
        total = sum(len(report.results) for report in reports.values())
        click.echo(render.verdict_line(failed, total, out()))
    if not passed:
        ctx.exit(FAILED)


def _check_symbol(symbol: str) -> None:
    from mts1b_brokers_core.foundation.instruments import parse_symbol

    parse_symbol(symbol)


def _test(target: Target, config: Config, symbol: str | None, *, alone: bool) -> Report:
    """Test one broker, telling each result at once.

    What keeps the test from beginning (a wrong setting, say) ends the command where one broker is
    tested, and is a failed line of its own where several are.
    """
    from mts1b_brokers_core.checks.engine import Report, run_checks
    from mts1b_brokers_core.foundation.errors import BrokerError
    from mts1b_brokers_core.foundation.plugin import CheckResult, CheckState
    from mts1b_brokers_core.runtime.opening import Opening, complete

    request = target.request(config)
    look = out()
    try:
        resolved = run(complete(request))
        environment = resolved.environment()
        settings = None if resolved.served(environment) else resolved.settings(environment)
    except BrokerError as error:
        if alone:
            raise
        result = CheckResult(
            name="configuration", title="configuration", state=CheckState.FAILED,
            text=error.code.replace("_", " "), cause=error.message,
            cure=error.next_step or "correct the configuration",
        )  # fmt: skip
        if not target.as_json:
            _show(request.name, result, look)
        return Report([result])

    def extra(broker: BrokerProtocol | None) -> Sequence[Check]:
        known = settings or getattr(broker, "settings", None)
        plugins, name = resolved.registry.facade, resolved.record.name
        return plugins.checks(name, known) if known is not None else ()

    instance = resolved.instance

    async def session() -> Report:
        async with Spinner(f"{instance}: testing") as spinner:

            def tell(result: CheckResult) -> None:
                if not target.as_json:
                    spinner.clear()
                    _show(instance, result, look)

            return await run_checks(
                Opening(request), extra=extra, symbol=symbol, listener=tell, tracebacks=wants_traceback()
            )

    return run(session(), prints=True)


def _show(name: str, result: CheckResult, look: Look) -> None:
    from mts1b_brokers_core.platform.security import redact

    for line in render.check_lines(name, result, look):
        click.echo(redact(line), color=look.colour)
    if trace := result.evidence.get("traceback"):
        click.echo(redact(trace), err=True)
