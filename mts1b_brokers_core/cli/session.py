"""Opening a broker for one command: with a sign of life, and with warnings a person can read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .failures import wants_traceback
from .options import Target
from .terminal import Spinner

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient

T = TypeVar("T")


def with_broker(target: Target, label: str, work: Callable[[VenueClient], Awaitable[T]]) -> T:
    """Open the broker, do the work, close it; after two seconds a terminal shows the label."""
    from mts1b_brokers_core.runtime.opening import Opening

    request = target.request()

    async def session() -> T:
        async with Spinner(f"{request.name}: {label}"), Opening(request) as broker:
            return await work(broker)

    return run(session())


def run(work: Coroutine[Any, Any, T], *, prints: bool = False) -> T:
    """Run asynchronous work to its end.

    Unless the work itself prints, a broken pipe in it is a broken connection: to click, and so to a
    shell, it would mean that nobody reads the output.
    """
    from mts1b_brokers_core.foundation.errors import VenueUnavailable

    with one_line_warnings():
        try:
            return asyncio.run(work)
        except BrokenPipeError as error:
            if prints:
                raise
            raise VenueUnavailable("the connection broke.", next_step="try again") from error


class _OneLine(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name logging calls
        return super().formatException(ei) if wants_traceback() else ""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if wants_traceback() else " ".join(text.split())


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show the library's warnings on stderr, each on one line and without tracebacks."""
    from mts1b_brokers_core.platform.logging import REDACTING

    root = logging.getLogger()
    if root.handlers:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.addFilter(REDACTING)
    handler.setFormatter(_OneLine("%(levelname)s: %(message)s"))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
