"""What the demo prints: tables for people, one document for programs."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from mts1b_brokers_core.foundation.base import plain

from .run import Book, Optimism

T = TypeVar("T")
_CENT = Decimal("0.01")


def money(value: Decimal) -> str:
    """Return an amount to the cent, for people; the exact one is in the JSON."""
    return f"{value.quantize(_CENT, rounding=ROUND_HALF_EVEN):,}"


def units(value: Decimal) -> str:
    """Return a quantity to four decimals, for people."""
    return plain(value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN).normalize() + 0)


def show(console: Console, book: Book, most: int | None) -> None:
    """Print one instance's orders, fills and positions; the latest `most` rows of each."""
    console.print(
        f"\n[bold]{book.instance}[/bold]  {book.symbol}  {book.metadata.get('data', '')}", highlight=False
    )
    console.print(_orders(book, most))
    console.print(_fills(book, most))
    if book.positions:
        console.print(_positions(book))


_RIGHT = frozenset({"quantity", "filled", "average", "fee", "fees", "value", "profit", "orders", "fills"})


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="italic", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left", no_wrap=column != "why")
    return table


def _latest(rows: list[T], most: int | None) -> tuple[list[T], str]:
    if most is None or len(rows) <= most:
        return rows, ""
    return rows[-most:], f" (the last {most} of {len(rows)})"


def _orders(book: Book, most: int | None) -> Table:
    rows, note = _latest(book.orders, most)
    table = _table(f"orders{note}", "time (UTC)", "order", "status", "filled", "average")
    for order in rows:
        at = order.submitted_at or order.created_at
        price = "" if order.limit_price is None else f" @ {plain(order.limit_price)}"
        stop = "" if order.stop_price is None else f" at {plain(order.stop_price)}"
        table.add_row(
            f"{at:%m-%d %H:%M:%S}" if at else "",
            f"{order.side:<4} {units(order.quantity or Decimal(0))} {order.order_type}{price}{stop}",
            str(order.status),
            units(order.filled_quantity),
            "" if order.average_price is None else money(order.average_price),
        )
    return table


def _fills(book: Book, most: int | None) -> Table:
    rows, note = _latest(book.fills, most)
    table = _table(f"fills{note}", "time (UTC)", "fill", "fee", "liquidity", "why")
    for fill in rows:
        table.add_row(
            f"{fill.executed_at:%m-%d %H:%M:%S}",
            f"{fill.side:<4} {units(fill.quantity)} @ {plain(fill.price)}",
            " + ".join(f"{money(fee.amount)} {fee.currency}" for fee in fill.fees or ()),
            str(fill.liquidity or ""),
            fill.evidence.get("rule", ""),
        )
    return table


def _positions(book: Book) -> Table:
    table = _table("positions", "symbol", "quantity", "average", "value", "profit")
    for row in book.positions:
        worth = (row.average_price, row.market_value, row.unrealized_pnl)
        table.add_row(
            row.symbol, units(row.quantity), *("" if value is None else money(value) for value in worth)
        )
    return table


def show_result(console: Console, books: list[Book]) -> None:
    """Print profit and loss of all instances, and what a hopeful fill model would have claimed."""
    table = _table("result", "instance", "orders", "fills", "fees", "equity", "profit")
    for book in books:
        table.add_row(
            book.instance,
            str(len(book.orders)),
            str(len(book.fills)),
            " + ".join(f"{money(fee.amount)} {fee.currency}" for fee in book.fees) or "none",
            f"{money(book.start_equity)} -> {money(book.end_equity)}",
            _signed(book.profit, book.currency),
        )
    console.print()
    console.print(table)
    for book in books:
        if book.optimism is not None:
            used, hopeful = book.optimism.used, book.optimism.claimed
            code = book.currency
            beyond = hopeful.worth.get(code, Decimal(0)) - used.worth.get(code, Decimal(0))
            console.print(
                f"{book.instance}: the hopeful fill model ({book.optimism.other_model}) would have claimed "
                f"{hopeful.fills} fills, not {used.fills}, and {_beyond(beyond, code)}.",
                highlight=False,
            )


def _beyond(value: Decimal, currency: str) -> str:
    if value == 0:
        return "the same profit"
    return f"{money(abs(value))} {currency} {'more' if value > 0 else 'less'} profit"


def _signed(value: Decimal, currency: str) -> str:
    sign = "+" if value > 0 else ""
    return f"{sign}{money(value)} {currency}"


def document(books: list[Book], files: list[str]) -> dict[str, Any]:
    """Return everything as plain data; amounts are exact text, and no identifier is random."""
    return {"instances": [_instance(book) for book in books], "files": files}


_ORDER_FIELDS = {
    "broker_order_id", "symbol", "side", "quantity", "order_type",
    "limit_price", "stop_price", "time_in_force", "status", "reason",
    "filled_quantity", "average_price", "fees", "submitted_at", "updated_at",
}  # fmt: skip


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _instance(book: Book) -> dict[str, Any]:
    return {
        "instance": book.instance,
        "symbol": book.symbol,
        "metadata": book.metadata,
        "currency": book.currency,
        "start_equity": plain(book.start_equity),
        "end_equity": plain(book.end_equity),
        "profit": plain(book.profit),
        "fees": [{"amount": plain(fee.amount), "currency": fee.currency} for fee in book.fees],
        "orders": [_known(order.model_dump(mode="json", include=_ORDER_FIELDS)) for order in book.orders],
        "fills": [_known(row.model_dump(mode="json", exclude={"order_id"})) for row in book.fills],
        "positions": [row.model_dump(mode="json", exclude_none=True) for row in book.positions],
        "refused": book.refused,
        "optimism": _optimism(book.optimism),
    }


def _optimism(report: Optimism | None) -> dict[str, Any] | None:
    if report is None:
        return None
    return {
        name: {"fills": claims.fills, "worth": {code: plain(amount) for code, amount in claims.worth.items()}}
        for name, claims in (("used", report.used), ("hopeful", report.claimed))
    } | {"hopeful_model": report.other_model}
