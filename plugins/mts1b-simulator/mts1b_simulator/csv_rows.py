"""Lines of a recording with their numbers, and the problems found among them."""

from __future__ import annotations

import decimal
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from mts1b_brokers_core.platform.clock import to_ns


class ProblemKind(StrEnum):
    """How bad it is: the row makes no sense, could be read but is not to be trusted, or is used but odd."""

    UNREADABLE = "unreadable"
    LEFT_OUT = "left_out"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with a row: its line in the file (the first is 1), in words and as a kind."""

    line: int
    what: str
    kind: ProblemKind = ProblemKind.UNREADABLE
    text: str = ""

    @property
    def used(self) -> bool:
        """True where the row is among the events all the same."""
        return self.kind is ProblemKind.DOUBTFUL

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}"


class BadRow(Exception):
    """A row that makes no sense; the text says why."""


class CutShort(Exception):
    """The packed data ends before its end."""


class Rows:
    """Iterates over numbered lines of text and collects problems."""

    def __init__(self, source: Callable[[], Iterator[bytes]]) -> None:
        self._lines = source()
        self.line = 0
        self.problems: list[RowProblem] = []

    def __iter__(self) -> Iterator[str]:
        while True:
            text = self._next()
            if text is None:
                return
            if text:
                yield text

    def _next(self) -> str | None:
        try:
            raw = next(self._lines, None)
        except CutShort as error:
            # zlib hands out whole lines only, so what was read before is good
            self.problem(
                f"the file is cut short or damaged in its compression here ({error})", at=self.line + 1
            )
            return None
        if raw is None:
            return None
        self.line += 1
        try:
            return raw.decode("utf-8-sig" if self.line == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            self.problem("it is not UTF-8 text", text=repr(raw[:60]))
            return ""

    def first(self) -> str | None:
        """Return the first line that isn't blank, or None."""
        return next(iter(self), None)

    def also(self, first: str) -> Iterator[str]:
        """Iterate over a first line that was read already, and then the rest."""
        yield first
        yield from self

    def problem(
        self, what: str, *, kind: ProblemKind = ProblemKind.UNREADABLE, text: str = "", at: int | None = None
    ) -> None:
        """Note what is wrong with the present line."""
        self.problems.append(RowProblem(self.line if at is None else at, what, kind, text[:200]))


def ascending(stamps: Sequence[int], *, strictly: bool) -> list[int]:
    """Return the places of a longest ascending run through the stamps.

    So one stray stamp, however far ahead, costs itself and not the rows behind it. Of several such runs
    it is the one that begins first; of equal stamps the first is kept where they must ascend `strictly`.
    """
    find = bisect_left if strictly else bisect_right
    tails: list[int] = []  # the greatest stamp (negated) that begins a run of each length, from the end
    longest = [0] * len(stamps)  # the longest run that begins at each place
    for place in range(len(stamps) - 1, -1, -1):
        value = -stamps[place]
        length = find(tails, value)
        if length == len(tails):
            tails.append(value)
        else:
            tails[length] = value
        longest[place] = length + 1
    run: list[int] = []
    wanted = len(tails)
    for place, length in enumerate(longest):
        if length != wanted:
            continue
        last = stamps[run[-1]] if run else None
        if last is None or last < stamps[place] or (last == stamps[place] and not strictly):
            run.append(place)
            wanted -= 1
    return run


def number(name: str, text: str) -> Decimal:
    """Read a number that must be finite. Raises `BadRow`."""
    if not text:
        raise BadRow(f"{name} is missing")
    try:
        value = Decimal(text)
    except decimal.InvalidOperation:
        value = None
    if value is None or not value.is_finite() or "_" in text:
        raise BadRow(f"{name} is {text!r}, not a number")
    return value


def price(name: str, text: str) -> Decimal:
    """Read a price, which must be above zero. Raises `BadRow`."""
    value = number(name, text)
    if value <= 0:
        raise BadRow(f"{name} is {text}, not above zero")
    return value


def size(name: str, text: str) -> Decimal:
    """Read a quantity, which can't be negative. Raises `BadRow`."""
    value = number(name, text)
    if value < 0:
        raise BadRow(f"{name} is {text}, below zero")
    return value


def stamp(text: str) -> tuple[int, int | None]:
    """Read a moment: nanoseconds since 1970 UTC, and the UTC offset it was written in (seconds).

    A bare date has no offset and means 00:00 UTC. Raises `BadRow`, also for a time without zone.
    """
    if not text:
        raise BadRow("the stamp is missing")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRow(f"the stamp {text!r} is not a date or time") from None
    if moment.tzinfo is None:
        if len(text) > 10:
            raise BadRow(f"the stamp {text!r} has no time zone")
        return to_ns(moment.replace(tzinfo=UTC)), None
    offset = moment.utcoffset()
    assert offset is not None
    return to_ns(moment), int(offset.total_seconds())
