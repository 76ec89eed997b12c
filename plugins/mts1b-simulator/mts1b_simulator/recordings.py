"""Recorded market data as market events: the format is told from the content, bad rows are told apart.

A row that makes no sense is left out and reported with its line number; it never costs the rows around
it. What isn't a recording at all raises `RecordingError`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mts1b_brokers_core.foundation.errors import RecordingError

from .binance import read_depth
from .csv_rows import CutShort, RowProblem, Rows
from .csv_tables import read_table
from .feeds import MarketEvent

#: The formats there are, as `Recording.format` names them.
FORMATS = ("bars", "quotes", "yahoo", "binance-l2")
_NEXT = "give a CSV with a header of bars, of quotes or of Yahoo, or a Binance combined stream as ndjson"


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file held: events ascending in time, and a problem for each row left out or doubtful."""

    path: Path
    format: str
    symbol: str
    events: tuple[MarketEvent, ...]
    problems: tuple[RowProblem, ...] = field(default=())

    def __iter__(self) -> Iterator[MarketEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


def read_recording(
    path: str | Path, symbol: str | None = None, *, interval_ns: int | None = None, quotes: bool = False
) -> Recording:
    """Read a recording, plain or gzip. Raises `RecordingError` where nothing in it is readable.

    `symbol` names the instrument; a CSV doesn't say which it is, a Binance stream does. `interval_ns` is
    the length of a bar, by default told from the stamps. `quotes` adds a Binance stream's best bid and
    ask to its depth.
    """
    path = Path(path)
    lines = Rows(_lines(path))
    first = lines.first()
    if first is None:
        raise _unreadable(path, "it is empty" if not lines.problems else str(lines.problems[0]))
    if _is_stream(first):
        found = read_depth(lines, first, symbol, quotes=quotes)
        return _finished(path, "binance-l2", found[0], found[1], lines)
    table = read_table(first, lines, symbol, interval_ns, lambda why: _unreadable(path, why))
    return _finished(path, table[0], table[1], table[2], lines)


def _finished(path: Path, kind: str, symbol: str, events: list[MarketEvent], lines: Rows) -> Recording:
    if not events:
        worst = f", the first: {lines.problems[0]}" if lines.problems else ""
        raise _unreadable(path, f"not one row is readable ({len(lines.problems)} problems{worst})")
    lines.problems.sort(key=lambda problem: problem.line)
    return Recording(path, kind, symbol, tuple(events), tuple(lines.problems))


def _is_stream(line: str) -> bool:
    head, _, rest = line.partition(" ")
    return line.startswith("{") or (head.isdigit() and rest.lstrip().startswith("{"))


def _unreadable(path: Path, why: str) -> RecordingError:
    return RecordingError(f"{path} is not a recording that can be read: {why}.", next_step=_NEXT)


def _lines(path: Path) -> Callable[[], Iterator[bytes]]:
    """Return what iterates over the file's lines, unpacked where it is gzip by its content."""

    def open_and_read() -> Iterator[bytes]:
        try:
            with path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                yield from gzip.GzipFile(fileobj=raw) if packed else raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CutShort(str(error)) from error
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error

    return open_and_read
