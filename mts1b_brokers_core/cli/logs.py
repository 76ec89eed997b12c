"""`-v` and `--log-level`: the lines of the library and of others on stderr, without secrets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:  # a help page needs neither
    import logging

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error")


def _verbose(ctx: click.Context, param: click.Parameter, count: int) -> None:
    if count and not ctx.resilient_parsing:
        _configure(ctx, "debug" if count > 1 else "info")


def _level(ctx: click.Context, param: click.Parameter, level: str | None) -> None:
    if level and not ctx.resilient_parsing:
        _configure(ctx, level)


_OPTIONS = (
    click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=_verbose,
        help="Show log lines on stderr; twice for every detail.",
    ),
    click.option(
        "--log-level", type=click.Choice(LEVELS), expose_value=False, callback=_level,
        envvar="MTS1B_LOG_LEVEL", help="The least log level shown; MTS1B_LOG_FORMAT=json writes JSON lines.",
    ),
)  # fmt: skip


def log_options(command: F) -> F:
    """Add the options by which a person asks for log lines."""
    wrapped: Any = command
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


def _configure(ctx: click.Context, level: str) -> None:
    """Show records from the level on until the command ends; of two options the last one counts."""
    import logging

    root, handler = logging.getLogger(), _handler()
    before = root.level

    def undo() -> None:
        root.removeHandler(handler)
        root.setLevel(before)

    for other in [old for old in root.handlers if old.name == _NAME]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level.upper())
    ctx.call_on_close(undo)


#: Tells our own handler from those of an embedding program.
_NAME = "mts"


def _handler() -> logging.Handler:
    import logging
    import os

    import structlog

    from mts1b_brokers_core.platform.logging import REDACTING

    from .terminal import Look

    if os.environ.get("MTS1B_LOG_FORMAT") == "json":
        renderer: Any = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=Look.of(sys.stderr).colour, pad_event_to=0)
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(_NAME)
    handler.addFilter(REDACTING)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[_fields, renderer], keep_exc_info=True)
    )
    return handler


def _fields(logger: Any, method: str, event: Any) -> Any:
    """Turn a record, which the filter has redacted, into what structlog renders."""
    import logging
    from datetime import UTC, datetime

    record = event["_record"]
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    line: dict[str, Any] = {
        "timestamp": at.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": getattr(record, "event", None) or record.getMessage(),
        **getattr(record, "fields", {}),
    }
    trace = record.exc_text
    if record.exc_info and not trace:
        trace = logging.Formatter().formatException(record.exc_info)
    record.exc_info = record.exc_text = None  # or the base class writes it once more
    return line | ({"exception": trace} if trace else {})
