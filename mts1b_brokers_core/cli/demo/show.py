"""What the demo prints: tables for people, one document for programs."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from mts1b_brokers_core.foundation.base import plain
from mts1b_brokers_core.foundation.orders import Side

from .run import Book, Optimism

_CENT = Decimal("0.01")


def money(value: Decimal) -> str:
    """Return an amount to the cent, for people; the exact one is in the JSON."""
    return f"{value.quantize(_CENT, rounding=ROUND_HALF_EVEN):,}"


def show(console: Console, book: Book) -> None:
    """Print one instance's orders, fills, fees, positions and result."""
    about = "; ".join(book.metadata[key] for key in ("data", "fill_model") if key in book.metadata)
    console.print(f"\n[bold]{book.instance}[/bold]  {book.symbol}  {about}", highlight=False)
    console.print(_orders(book))
    console.print(_fills(book))
    if book.positions:
        console.print(_positions(book))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="italic", box=None, pad_edge=False)
    for column in columns:
        right = column in ("quantity", "price", "stop", "filled", "average", "fee", "value", "profit")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    return table


def _orders(book: Book) -> Table:
    table = _table(
        "orders", "time (UTC)", "side", "quantity", "type", "price", "stop", "status", "filled", "average"
    )
    for order in book.orders:
        at = order.submitted_at or order.created_at
        table.add_row(
            f"{at:%H:%M:%S}" if at else "",
            str(order.side),
            _plain(order.quantity),
            str(order.order_type),
            _plain(order.limit_price),
            _plain(order.stop_price),
            str(order.status),
            _plain(order.filled_quantity),
            "" if order.average_price is None else money(order.average_price),
        )
    return table


def _fills(book: Book) -> Table:
    table = _table("fills", "time (UTC)", "side", "quantity", "price", "fee", "liquidity", "why")
    for fill in book.fills:
        fees = " + ".join(f"{money(fee.amount)} {fee.currency}" for fee in fill.fees or ())
        table.add_row(
            f"{fill.executed_at:%H:%M:%S}",
            str(fill.side),
            plain(fill.quantity),
            plain(fill.price),
            fees,
            str(fill.liquidity or ""),
            fill.evidence.get("rule", ""),
        )
    return table


def _positions(book: Book) -> Table:
    table = _table("positions", "symbol", "quantity", "average", "value", "profit")
    for row in book.positions:
        table.add_row(
            row.symbol,
            plain(row.quantity),
            "" if row.average_price is None else money(row.average_price),
            "" if row.market_value is None else money(row.market_value),
            "" if row.unrealized_pnl is None else money(row.unrealized_pnl),
        )
    return table


def show_result(console: Console, books: list[Book]) -> None:
    """Print profit and loss of all instances, and what a hopeful fill model would have claimed."""
    table = Table(title="result", title_justify="left", title_style="italic", box=None, pad_edge=False)
    for column in ("instance", "orders", "fills", "bought", "sold", "fees", "start", "end", "profit"):
        table.add_column(column, justify="left" if column == "instance" else "right", no_wrap=True)
    for book in books:
        table.add_row(
            book.instance,
            str(len(book.orders)),
            str(len(book.fills)),
            plain(book.traded(Side.BUY).normalize()),
            plain(book.traded(Side.SELL).normalize()),
            " + ".join(f"{money(fee.amount)} {fee.currency}" for fee in book.fees) or "none",
            money(book.start_equity),
            money(book.end_equity),
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
                f"{hopeful.fills} fills instead of {used.fills}, and {_signed(beyond, code)} at the end.",
                highlight=False,
            )


def _signed(value: Decimal, currency: str) -> str:
    sign = "+" if value > 0 else ""
    return f"{sign}{money(value)} {currency}"


def _plain(value: Decimal | None) -> str:
    return "" if value is None else plain(value)


def document(books: list[Book], files: list[str]) -> dict[str, Any]:
    """Return everything as plain data; amounts are exact text, and no identifier is random."""
    return {"instances": [_instance(book) for book in books], "files": files}


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
        "orders": [
            order.model_dump(
                mode="json",
                exclude={"order_id", "idempotency_key", "parent_order_id"},
                exclude_defaults=True,
            )
            for order in book.orders
        ],
        "fills": [
            fill.model_dump(mode="json", exclude={"order_id"}, exclude_defaults=True) for fill in book.fills
        ],
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
