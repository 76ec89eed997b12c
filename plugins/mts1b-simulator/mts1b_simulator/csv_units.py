"""Rows of a table in another unit than those around them (cents for units, say): found and left out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from .csv_rows import ProblemKind, Rows

#: How many times another price one is that looks like a hundredth or a hundredfold of it.
_LEAST, _MOST = 66, 150


class Row(NamedTuple):
    """A row of a table: its line, its stamp, and its numbers: open, high, low, close, size, once or twice."""

    line: int
    start_ns: int
    values: tuple[Decimal, ...]


def leave_out_wrong_units(ordered: list[Row], rows: Rows, price: Callable[[Row], Decimal]) -> list[Row]:
    """Return the rows without those whose price is a hundredfold off those both before and after them.

    Nothing is repaired. Where the price doesn't come back it may be a split, and stays.
    """
    whole = [row for row in ordered if not _mixes(row, rows)]
    runs = _runs(whole, price)
    count: Counter[int] = Counter()
    for level, run in runs:
        count[level] += len(run)
    usual = max(count, key=lambda level: count[level], default=0)
    kept: list[Row] = []
    for place, (_, run) in enumerate(runs):
        around = [runs[at][0] for at in (place - 1, place + 1) if 0 <= at < len(runs)]
        if around != [usual, usual]:
            kept += run
            continue
        before = price(runs[place - 1][1][-1])
        for row in run:
            what = f"price {price(row)} after {before}, and back: a wrong unit; the row is left out"
            rows.problem(what, kind=ProblemKind.LEFT_OUT, at=row.line)
    return kept


def _mixes(row: Row, rows: Rows) -> bool:
    high, low = row.values[1], row.values[2]
    if not _hundredfold(high, low):
        return False
    what = f"high {high} beside low {low}: a wrong unit; the row is left out"
    rows.problem(what, kind=ProblemKind.LEFT_OUT, at=row.line)
    return True


def _runs(ordered: list[Row], price: Callable[[Row], Decimal]) -> list[tuple[int, list[Row]]]:
    """Split the rows where the price jumps a hundredfold; return each run with its level."""
    level = 0
    runs = [(level, ordered[:1])] if ordered else []
    for before, row in itertools.pairwise(ordered):
        close, last = price(row), price(before)
        step = _hundredfold(close, last) - _hundredfold(last, close)
        if step:
            level += step
            runs.append((level, []))
        runs[-1][1].append(row)
    return runs


def _hundredfold(one: Decimal, other: Decimal) -> bool:
    return _LEAST * other <= one <= _MOST * other
