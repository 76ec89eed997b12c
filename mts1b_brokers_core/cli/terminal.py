"""What the output can show: colours, characters, and a sign of life while something takes long."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import click

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True)
class Look:
    """How to write to one stream."""

    terminal: bool
    colour: bool
    unicode: bool

    @classmethod
    def of(cls, stream: TextIO) -> Look:
        """Judge a stream: colours only on a terminal that has them and where NO_COLOR is not set."""
        dumb = os.environ.get("TERM", "") in ("dumb", "")
        try:
            terminal = stream.isatty()
        except ValueError:
            terminal = False
        try:
            "✓✗–".encode(getattr(stream, "encoding", None) or "ascii")
            unicode = not (terminal and dumb) and os.environ.get("TERM") != "dumb"
        except (UnicodeEncodeError, LookupError):
            unicode = False
        colour = terminal and not dumb and not os.environ.get("NO_COLOR")
        return cls(terminal, colour, unicode)

    def paint(self, text: str, colour: str, *, bold: bool = False) -> str:
        """Colour a text where colours are shown."""
        return click.style(text, fg=colour, bold=bold or None) if self.colour else text


def out() -> Look:
    """How to write to standard output."""
    return Look.of(sys.stdout)


class Spinner:
    """Shows on a terminal what is being waited for, once it has taken two seconds; silent in a pipe."""

    AFTER, EVERY = 2.0, 0.1

    def __init__(self, label: str) -> None:
        self._label = label
        self._look = Look.of(sys.stderr)
        self._task: asyncio.Task[None] | None = None
        self._shown = False

    async def __aenter__(self) -> Self:
        if self._look.terminal and os.environ.get("TERM", "") not in ("dumb", ""):
            import asyncio

            self._task = asyncio.create_task(self._spin(), name="spinner")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _spin(self) -> None:
        from mts1b_brokers_core.platform.clock import RealClock

        clock = RealClock()
        start = clock.monotonic()
        await clock.sleep(self.AFTER)
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if self._look.unicode else "|/-\\"
        turn = 0
        while True:
            seconds = f"{clock.monotonic() - start:.0f} s"
            sys.stderr.write(f"\r\x1b[2K{frames[turn % len(frames)]} {self._label} ({seconds})")
            sys.stderr.flush()
            self._shown = True
            turn += 1
            await clock.sleep(self.EVERY)

    def stop(self) -> None:
        """Take the line away for good."""
        if self._task is not None:
            self._task.cancel()
        self.clear()

    def clear(self) -> None:
        """Take the line away, so that something else can be written."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False
