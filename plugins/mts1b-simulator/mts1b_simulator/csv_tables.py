"""Tables of bars and of quotes: one row a minute, second or day, stamped at its start."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from decimal import Decimal

from mts1b_brokers_core.foundation.errors import InvalidInput, RecordingError
from mts1b_brokers_core.foundation.instruments import parse_symbol

from .csv_rows import BadRow, ProblemKind, Rows, ascending, price, size, stamp
from .csv_units import Row, leave_out_wrong_units
from .feeds import BarEvent, MarketEvent, QuoteEvent

_OHLC = ("open", "high", "low", "close")
_BARS = (*_OHLC, "volume")
_QUOTES = (*(f"{side}_{part}" for side in ("bid", "ask") for part in (*_OHLC, "size")),)
_STAMPS = ("ts", "date", "datetime")
#: The lengths a bar may have, in nanoseconds: 1 s to 1 d.
_LENGTHS = tuple(
    seconds * 1_000_000_000 for seconds in (1, 5, 10, 15, 30, 60, 300, 900, 1800, 3600, 14_400, 86_400)
)
#: A close this many times the one before, or less than its inverse, is told: a wrong unit or a split.
_JUMP = 10


def read_table(
    header: str,
    rows: Rows,
    symbol: str | None,
    interval_ns: int | None,
    unreadable: Callable[[str], RecordingError],
) -> tuple[str, str, list[MarketEvent]]:
    """Read a table after its header; return format, symbol and events. Raises `RecordingError`."""
    columns = [name.strip().lower() for name in _split(header)]
    kind, wanted = _kind(columns)
    if kind is None:
        raise unreadable(f"its first line is neither a known header nor a stream frame: {header[:80]!r}")
    if symbol is None:
        raise RecordingError(
            "a table doesn't say which instrument it is about.",
            next_step="name it: read_recording(path, 'BTC-USD')",
        )
    try:
        symbol = str(parse_symbol(symbol))
    except InvalidInput as error:
        raise RecordingError(error.message, next_step=error.next_step) from None
    at = next(columns.index(name) for name in _STAMPS if name in columns)
    places = [columns.index(name) for name in wanted]
    found: list[Row] = []
    offset: int | None = None
    for line in rows:
        try:
            row, row_offset = _read(line, rows.line, len(columns), at, places, kind)
        except BadRow as error:
            rows.problem(str(error), text=line)
            continue
        if found and offset != row_offset:
            rows.problem(
                f"the UTC offset changes from {_hours(offset)} to {_hours(row_offset)}",
                kind=ProblemKind.DOUBTFUL,
            )
        offset = row_offset
        found.append(row)
    ordered = _in_order(found, rows)
    width = interval_ns or _interval(ordered, columns[at] == "date")
    ordered = leave_out_wrong_units(ordered, rows, _middle if kind == "quotes" else _close)
    if kind == "quotes":
        _tell_crossed(ordered, rows)
    else:
        _tell_jumps(ordered, rows)
    make = _quote if kind == "quotes" else _bar
    return kind, symbol, [make(symbol, kind, row, width) for row in ordered]


def _kind(columns: list[str]) -> tuple[str | None, tuple[str, ...]]:
    if not any(name in columns for name in _STAMPS):
        return None, ()
    if all(name in columns for name in _QUOTES):
        return "quotes", _QUOTES
    if all(name in columns for name in _BARS):
        return ("yahoo" if "adj close" in columns else "bars"), _BARS
    return None, ()


def _split(line: str) -> list[str]:
    return next(csv.reader([line]), [])


def _hours(offset: int | None) -> str:
    if offset is None:
        return "none"
    minutes = abs(offset) // 60
    return f"{'-' if offset < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def _read(
    line: str, number: int, width: int, at: int, places: list[int], kind: str
) -> tuple[Row, int | None]:
    cells = [cell.strip() for cell in _split(line)]
    if len(cells) != width:
        raise BadRow(f"it has {len(cells)} columns, the header {width}")
    start_ns, offset = stamp(cells[at])
    names = _QUOTES if kind == "quotes" else _BARS
    values = tuple(
        (size if name.endswith(("size", "volume")) else price)(name, cells[place])
        for name, place in zip(names, places, strict=True)
    )
    if kind == "quotes":
        _check_bar(values[:4], "bid ")
        _check_bar(values[5:9], "ask ")
    else:
        _check_bar(values, "")
    return Row(number, start_ns, values), offset


def _check_bar(values: tuple[Decimal, ...], what: str) -> None:
    opened, high, low, close = values[:4]
    if high < low:
        raise BadRow(f"{what}high {high} is below {what}low {low}")
    for name, value in (("open", opened), ("close", close)):
        if not low <= value <= high:
            raise BadRow(f"{what}{name} {value} lies outside {what}low {low} and {what}high {high}")


def _in_order(found: list[Row], rows: Rows) -> list[Row]:
    """Return the rows ascending, each stamp once; a file kept newest first is turned round as a whole."""
    falls = sum(after.start_ns < before.start_ns for before, after in itertools.pairwise(found))
    if len(found) > 1 and 2 * falls > len(found) - 1:
        rows.problem(
            "the rows run from newest to oldest; they were turned round",
            kind=ProblemKind.DOUBTFUL, at=found[0].line,
        )  # fmt: skip
        found = found[::-1]
    kept = ascending([row.start_ns for row in found], strictly=True)
    ordered = [found[place] for place in kept]
    lines = {row.start_ns: row.line for row in ordered}
    for place in sorted(set(range(len(found))) - set(kept)):
        row = found[place]
        same = lines.get(row.start_ns)
        what = f"the stamp repeats that of line {same}" if same else "the stamp is out of order"
        rows.problem(what, kind=ProblemKind.LEFT_OUT, at=row.line)
    return ordered


def _close(row: Row) -> Decimal:
    return row.values[3]


def _middle(row: Row) -> Decimal:
    return (row.values[3] + row.values[8]) / 2


def _tell_crossed(ordered: list[Row], rows: Rows) -> None:
    """Tell crossed quotes; they stay, so that nothing trades on the quote before."""
    for row in ordered:
        bid, ask = row.values[3], row.values[8]
        if bid > ask:
            what = f"the quotes are crossed: bid {bid} above ask {ask}; nothing fills until the next quote"
            rows.problem(what, kind=ProblemKind.DOUBTFUL, at=row.line)


def _tell_jumps(ordered: list[Row], rows: Rows) -> None:
    for before, row in itertools.pairwise(ordered):
        close, last = row.values[3], before.values[3]
        if close >= last * _JUMP or last >= close * _JUMP:
            what = f"close {close} after {last}: a wrong unit, or a split?"
            rows.problem(what, kind=ProblemKind.DOUBTFUL, at=row.line)


def _interval(ordered: list[Row], dated: bool) -> int:
    """Tell a bar's length: the greatest usual one that fits between and divides all stamps."""
    steps = [after.start_ns - before.start_ns for before, after in itertools.pairwise(ordered)]
    if dated or not steps:
        return _LENGTHS[-1] if dated else 60_000_000_000
    least = min(steps)
    fitting = [width for width in _LENGTHS if width <= least and all(step % width == 0 for step in steps)]
    return fitting[-1] if fitting else least


def _bar(symbol: str, kind: str, row: Row, width: int) -> MarketEvent:
    opened, high, low, close, volume = row.values
    return BarEvent(
        row.start_ns + width, symbol, f"{kind}:{row.line}", row.start_ns, opened, high, low, close, volume
    )


def _quote(symbol: str, kind: str, row: Row, width: int) -> MarketEvent:
    """Return the quote a row closes with: the only moment for which its sizes are recorded."""
    values = row.values
    return QuoteEvent(
        row.start_ns + width, symbol, f"{kind}:{row.line}", values[3], values[4], values[8], values[9]
    )
