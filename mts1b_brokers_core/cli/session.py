"""Opening a broker for one command: with a sign of life, and with warnings a person can read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import jsontext
from .failures import wants_traceback
from .options import Target
from .terminal import Spinner

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient
    from mts1b_brokers_core.runtime.opening import Request, Resolved

T = TypeVar("T")


def with_broker(target: Target, label: str, work: Callable[[VenueClient], Awaitable[T]]) -> T:
    """Open the broker, do the work, close it; after two seconds a terminal shows the label."""
    from mts1b_brokers_core.runtime.opening import Opening

    request = target.request()

    async def session() -> T:
        async with Spinner(f"{request.name}: {label}"), Opening(request) as broker:
            return await work(broker)

    return run(session())


def meant(target: Target, request: Request, *, yes: bool, to: str) -> tuple[Resolved, str]:
    """Return what an order command is for, and the environment.

    Raises `UsageError` where live is not said on the command line, or nobody is there to be asked.
    """
    from mts1b_brokers_core.runtime.opening import complete

    resolved = run(complete(request))
    environment = resolved.environment()
    if environment == "live" and target.environment != "live":
        raise click.UsageError(
            f"{resolved.instance} trades live; say so: --environment live. --yes doesn't replace it."
        )
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(f"there is no terminal to ask on; pass --yes to {to} unasked.")
    return resolved, environment


async def asked(question: str) -> bool:
    """Ask on the terminal while the broker goes on working; anything but yes is no."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    click.echo(question, nl=False, err=True)

    def read() -> None:
        if not answer.done():
            answer.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin.fileno(), read)
    try:
        return (await answer).strip().lower() in ("y", "yes")
    finally:
        loop.remove_reader(sys.stdin.fileno())


def answer_no(target: Target, what: str) -> None:
    """Say that nothing was done because a person said no."""
    message = f"{what}: the answer was no"
    if target.as_json:
        fields = {"code": "not_agreed", "message": message, "repeat_is_safe": True}
        jsontext.emit({"error": {**fields, "next_step": ""}})
    else:
        click.echo(f"{message.capitalize()}.", err=True)


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
