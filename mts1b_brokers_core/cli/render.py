"""Tables and lines: what a person reads; nothing in here decides anything."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from .terminal import Look, out

if TYPE_CHECKING:
    from mts1b_brokers_core.foundation.orders import Fill, Order
    from mts1b_brokers_core.foundation.plugin import CheckResult

_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, whether numbers in it are aligned right, whether a narrow terminal may fold it."""

    title: str
    right: bool = False
    fold: bool = False


def columns(spec: str) -> list[Column]:
    """Read columns from text: `name  price>  cause~`; `>` aligns right, `~` may fold."""
    names = re.split(r"  +", spec)
    return [Column(name.rstrip(">~"), name.endswith(">"), name.endswith("~")) for name in names]


def table(spec: str, rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Write rows under their titles: as aligned text in a pipe, with rich on a terminal.

    On a terminal a column in which no row has anything is left out, and rows that are wider than the
    terminal are written one field a line, because an id that is cut short is of no use.
    """
    heads, cells = columns(spec), [[cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(empty)
    elif (look := out()).terminal and look.unicode:
        _on_terminal(heads, cells, look)
    else:
        for line in aligned(heads, cells):
            click.echo(line)


def aligned(heads: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the table as lines of text, every column as wide as its widest cell."""
    lines = [[head.title for head in heads], *cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(heads))]
    return [
        "  ".join(
            text.rjust(width) if head.right else text.ljust(width)
            for text, width, head in zip(line, widths, heads, strict=True)
        ).rstrip()
        for line in lines
    ]


#: What rich puts between columns, and the least a folding column may have.
_GAP, _LEAST = 3, 24


def _on_terminal(heads: list[Column], cells: list[list[str]], look: Look) -> None:
    used = [index for index in range(len(heads)) if any(row[index] != _NOTHING for row in cells)]
    heads, cells = [heads[index] for index in used], [[row[index] for index in used] for row in cells]
    if not heads:
        return
    widths = [
        max(len(row[index]) for row in [[head.title for head in heads], *cells])
        for index in range(len(heads))
    ]
    needed = [min(width, _LEAST) if head.fold else width for width, head in zip(widths, heads, strict=True)]
    if sum(needed) + _GAP * (len(heads) - 1) <= shutil.get_terminal_size().columns:
        _rich_table(heads, cells, look)
        return
    title = max(len(head.title) for head in heads)
    for number, row in enumerate(cells):
        if number:
            click.echo()
        for head, text in zip(heads, row, strict=True):
            if text != _NOTHING:
                click.echo(f"{look.paint(head.title.ljust(title), 'cyan')}  {text}", color=look.colour)


def _rich_table(heads: Sequence[Column], cells: Sequence[Sequence[str]], look: Look) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for head in heads:
        grid.add_column(
            head.title,
            justify="right" if head.right else "left",
            overflow="fold",
            no_wrap=not head.fold,
            ratio=1 if head.fold else None,
        )
    for row in cells:
        grid.add_row(*[Text(text, style=_STYLES.get(text, "")) for text in row])
    Console(no_color=not look.colour, highlight=False).print(grid)


#: Words that carry a colour wherever they stand alone in a cell.
_STYLES = {
    "ready": "green", "loaded": "green", "native": "green", "emulated": "yellow", "unsupported": "dim",
    "failed": "red", "bad-metadata": "red", "bad-manifest": "red", "incompatible": "red", "conflict": "red",
    "denied": "yellow", "unknown": "bold red", "rejected": "red", "live": "bold red", "halted": "bold red",
}  # fmt: skip


def cell(value: Any) -> str:
    """Write one value as a cell."""
    if value is None or value == "":
        return _NOTHING
    if isinstance(value, Decimal):
        from mts1b_brokers_core.checks.words import number

        return number(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or _NOTHING
    return " ".join(str(value).split())


# --- checks ------------------------------------------------------------------------------------------

#: As wide as the longest of core's own titles and two spaces.
_TITLE = 18

_MARKS = {  # state: mark, mark without unicode, colour
    "ok": ("✓", "OK", "green"),
    "warning": ("!", "!", "yellow"),
    "failed": ("✗", "FAIL", "red"),
    "not_applicable": ("–", "-", "bright_black"),
    "not_run": ("–", "-", "bright_black"),
}


def check_lines(name: str, result: CheckResult, look: Look) -> list[str]:
    """Return a check's line, and under a failure or a warning its cause and its cure."""
    fine, plain, colour = _MARKS[result.state]
    mark = fine if look.unicode else plain.ljust(4)
    title = result.title.ljust(_TITLE) if len(result.title) < _TITLE else f"{result.title}  "
    text = result.text if look.unicode else result.text.replace("–", "-")
    lines = [f"{look.paint(mark, colour)} {name}: {title}{text}".rstrip()]
    for word, words in (("cause:", result.cause), ("cure:", result.cure)):
        if words:
            lines.append(f"    {word.ljust(6)} {' '.join(words.split())}")
    return lines


def verdict_line(failed: int, total: int, look: Look) -> str:
    """Return the last line of a test."""
    if failed:
        return look.paint(f"{failed} OF {total} CHECKS FAILED", "red", bold=True)
    return look.paint("ALL CHECKS PASSED", "green", bold=True)


# --- orders ------------------------------------------------------------------------------------------


def terms(order: Order, currency: str | None) -> str:
    """Say an order's terms in a phrase: `buy 0.01 BTC-USD limit @ $95,000.00 gtc post_only`."""
    from mts1b_brokers_core.checks.words import money, number

    def price(value: Decimal) -> str:
        return money(value, currency) if currency else number(value)

    if order.quantity is not None:
        what = f"{order.side} {number(order.quantity)} {order.symbol}"
    else:
        assert order.quote_quantity is not None
        what = f"{order.side} {order.symbol} for {price(order.quote_quantity)}"
    words = [what, order.order_type.replace("_", "-")]
    if order.limit_price is not None:
        words.append(f"@ {price(order.limit_price)}")
    if order.stop_price is not None:
        words.append(f"stop {price(order.stop_price)}")
    words.append(str(order.time_in_force))
    words += ["post-only"] if order.post_only else []
    return " ".join(words)


ORDER_COLUMNS = (
    "order id  status  side  quantity>  symbol  type  price>  stop>  tif  filled>  average>  created"
)


def order_row(order: Order) -> list[Any]:
    """Return an order as a row under `ORDER_COLUMNS`."""
    size = order.quantity if order.quantity is not None else f"{order.quote_quantity} quote"
    return [
        order.order_id, order.status, order.side, size, order.symbol, order.order_type, order.limit_price,
        order.stop_price, order.time_in_force, order.filled_quantity, order.average_price,
        order.created_at or order.submitted_at,
    ]  # fmt: skip


FILL_COLUMNS = "seq>  fill id  side  quantity>  symbol  price>  fees  executed"


def fill_row(fill: Fill) -> list[Any]:
    """Return a fill as a row under `FILL_COLUMNS`."""
    fees = " + ".join(map(str, fill.fees)) if fill.fees is not None else f"({fill.fee_status})"
    return [
        fill.seq or None, fill.fill_id, fill.side, fill.quantity, fill.symbol, fill.price, fees,
        fill.executed_at,
    ]  # fmt: skip
