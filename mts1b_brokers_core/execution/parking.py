"""What can't be attributed yet: executions of an order that may be ours, and fees before their fill."""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from . import journal
from .journal import State
from .port import Execution, FeeAmendment

_adapter: Any = cache(TypeAdapter)
#: States of orders that may be at the venue under an id we don't know.
_UNBOUND = (State.SENDING, State.UNKNOWN, State.AMBIGUOUS)


def could_own(connection: sqlite3.Connection, account_id: str, seen: Execution) -> bool:
    """Tell whether an order whose venue id isn't known yet may be the one that was executed."""
    return any(
        row.account_id == account_id
        and not row.order.broker_order_ids
        and any(
            bool(order.legs) or (order.symbol, order.side) == (seen.symbol, seen.side)
            for order in (row.order, *row.order.attached)
        )
        for row in journal.unsettled(connection, _UNBOUND)
    )


def park(connection: sqlite3.Connection, account_id: str, seen: Execution, until_ns: int) -> None:
    """Keep an execution for later; one that is kept already stays as it is."""
    body = _adapter(Execution).dump_json(seen).decode()
    values = (account_id, seen.fill_id, until_ns, body)
    connection.execute("INSERT OR IGNORE INTO parked VALUES (?, ?, ?, ?)", values)


def parked(connection: sqlite3.Connection) -> list[tuple[Execution, int]]:
    """Return what is kept, with the time until which it waits."""
    rows = connection.execute("SELECT body, until_ns FROM parked").fetchall()
    return [(_adapter(Execution).validate_json(body), until_ns) for body, until_ns in rows]


def unpark(connection: sqlite3.Connection, account_id: str, fill_id: str | None) -> None:
    """Keep an execution no longer."""
    connection.execute("DELETE FROM parked WHERE account_id = ? AND fill_id = ?", (account_id, fill_id))


def hold_fee(connection: sqlite3.Connection, account_id: str, amendment: FeeAmendment) -> None:
    """Keep a fee until its fill is logged; a later one replaces it."""
    body = _adapter(FeeAmendment).dump_json(amendment).decode()
    values = (account_id, amendment.fill_id, body)
    connection.execute("INSERT OR REPLACE INTO early_fees VALUES (?, ?, ?)", values)


def early_fee(connection: sqlite3.Connection, account_id: str, fill_id: str) -> FeeAmendment | None:
    """Take out the fee that came before its fill, where one did."""
    row = connection.execute(
        "DELETE FROM early_fees WHERE account_id = ? AND fill_id = ? RETURNING body", (account_id, fill_id)
    ).fetchone()
    if row is None:
        return None
    early: FeeAmendment = _adapter(FeeAmendment).validate_json(row[0])
    return early
