"""Where the log's rows are kept: in the journal's file, or as they are where there is none."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import Fill, FillKind

#: One row: an execution, or an event that is none; its offset is its place.
Entry = Fill | BrokerEvent


class Rows(Protocol):
    """The rows of the log, by offset, and its executions by their names; writes belong in a transaction."""

    def newest(self) -> tuple[int, int]:
        """Return the last row's offset and seq, zeroes where there is none."""

    def offset_of(self, seq: int) -> tuple[int, int]:
        """Return offset and seq of the last execution up to a seq."""

    def after(self, offset: int, most: int) -> Sequence[Entry]:
        """Return the rows after an offset."""

    def fee_open(self, account_id: str, fill_id: str) -> bool | None:
        """Tell whether a logged execution's fees are not known yet; None where it isn't logged."""

    def void(self, account_id: str, fill_id: str) -> bool:
        """Mark an execution as taken back; False where it is already."""

    def is_void(self, account_id: str, fill_id: str) -> bool:
        """True where an execution was taken back."""

    def fill(self, account_id: str, fill_id: str) -> Fill | None:
        """Return an execution as it was logged, or None where it wasn't."""

    def fills_at(self, account_id: str, broker_order_id: str) -> list[Fill]:
        """Return the executions logged of one venue order, oldest first."""

    def unpaid_since(self) -> datetime | None:
        """Return when the first execution happened whose fees are not known yet, None without one."""

    def last_fill(self) -> Fill | None:
        """Return the execution logged last."""

    def add(self, offset: int, seq: int, entry: Entry) -> None:
        """Add the next row."""

    def amend(self, fill: Fill) -> None:
        """Write a logged execution anew."""


class FileRows:
    """Rows as text in the journal's table, over one of its connections."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _one(self, query: str, *values: object) -> Any:
        return self._connection.execute(query, values).fetchone()

    def newest(self) -> tuple[int, int]:
        """Return the last row's offset and seq, zeroes where there is none."""
        return self._one('SELECT "offset", seq FROM log ORDER BY "offset" DESC LIMIT 1') or (0, 0)

    def offset_of(self, seq: int) -> tuple[int, int]:
        """Return offset and seq of the last execution up to a seq."""
        query = (
            'SELECT "offset", seq FROM log WHERE seq <= ? AND fill_id IS NOT NULL ORDER BY seq DESC LIMIT 1'
        )
        return self._one(query, seq) or (0, 0)

    def after(self, offset: int, most: int) -> Sequence[Entry]:
        """Return the rows after an offset."""
        query = 'SELECT kind, body FROM log WHERE "offset" > ? ORDER BY "offset" LIMIT ?'
        rows = self._connection.execute(query, (offset, most)).fetchall()
        return [
            (Fill if kind in _EXECUTIONS else BrokerEvent).model_validate_json(body) for kind, body in rows
        ]

    def fee_open(self, account_id: str, fill_id: str) -> bool | None:
        """Tell whether a logged execution's fees are not known yet; None where it isn't logged."""
        row = self._one("SELECT fee_open FROM log WHERE account_id = ? AND fill_id = ?", account_id, fill_id)
        return None if row is None else bool(row[0])

    def void(self, account_id: str, fill_id: str) -> bool:
        """Mark an execution as taken back; False where it is already."""
        values = (account_id, fill_id)
        return bool(self._connection.execute("INSERT OR IGNORE INTO voided VALUES (?, ?)", values).rowcount)

    def is_void(self, account_id: str, fill_id: str) -> bool:
        """True where an execution was taken back."""
        query = "SELECT 1 FROM voided WHERE account_id = ? AND fill_id = ?"
        return self._one(query, account_id, fill_id) is not None

    def fill(self, account_id: str, fill_id: str) -> Fill | None:
        """Return an execution as it was logged, or None where it wasn't."""
        row = self._one("SELECT body FROM log WHERE account_id = ? AND fill_id = ?", account_id, fill_id)
        return Fill.model_validate_json(row[0]) if row else None

    def fills_at(self, account_id: str, broker_order_id: str) -> list[Fill]:
        """Return the executions logged of one venue order, oldest first."""
        rows = self._connection.execute(
            "SELECT body FROM log WHERE broker_order_id = ? AND account_id = ? AND fill_id IS NOT NULL"
            ' ORDER BY "offset"',
            (broker_order_id, account_id),
        )
        return [Fill.model_validate_json(row[0]) for row in rows.fetchall()]

    def unpaid_since(self) -> datetime | None:
        """Return when the first execution happened whose fees are not known yet, None without one."""
        row = self._one('SELECT body FROM log WHERE fee_open = 1 ORDER BY "offset" LIMIT 1')
        return Fill.model_validate_json(row[0]).executed_at if row else None

    def last_fill(self) -> Fill | None:
        """Return the execution logged last."""
        row = self._one('SELECT body FROM log WHERE fill_id IS NOT NULL ORDER BY "offset" DESC LIMIT 1')
        return Fill.model_validate_json(row[0]) if row else None

    def add(self, offset: int, seq: int, entry: Entry) -> None:
        """Add the next row."""
        fill = entry if isinstance(entry, Fill) else None
        values = (
            offset, seq, kind_of(entry), entry.account_id, fill and fill.fill_id, entry.broker_order_id,
            entry.model_dump_json(), fill is not None and fill.fees is None,
        )  # fmt: skip
        self._connection.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def amend(self, fill: Fill) -> None:
        """Write a logged execution anew."""
        self._connection.execute(
            "UPDATE log SET body = ?, fee_open = ? WHERE account_id = ? AND fill_id = ?",
            (fill.model_dump_json(), fill.fees is None, fill.account_id, fill.fill_id),
        )


class MemoryRows:
    """Rows kept as they are; what a transaction adds counts once it is committed."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._fills: dict[tuple[str | None, str], Fill] = {}
        self._at: defaultdict[tuple[str | None, str | None], list[str]] = defaultdict(list)
        #: Where each execution stands, by seq from 1.
        self._places: list[int] = []
        self._voided: dict[tuple[str, str], None] = {}
        self._committed = (0, 0, 0)
        self._amended: list[Fill] = []

    def commit(self) -> None:
        """Keep what was added."""
        self._committed = len(self._entries), len(self._places), len(self._voided)
        self._amended.clear()

    def roll_back(self) -> None:
        """Drop what was added since the last commit, and undo what was amended."""
        for fill in reversed(self._amended):
            self._write(fill)
        self._amended.clear()
        entries, fills, voided = self._committed
        for entry in self._entries[entries:]:
            if isinstance(entry, Fill):
                del self._fills[entry.account_id, entry.fill_id]
                self._at[entry.account_id, entry.broker_order_id].pop()
        del self._entries[entries:], self._places[fills:]
        for name in list(self._voided)[voided:]:
            del self._voided[name]

    def newest(self) -> tuple[int, int]:
        """Return the last row's offset and seq, zeroes where there is none."""
        return len(self._entries), len(self._places)

    def offset_of(self, seq: int) -> tuple[int, int]:
        """Return offset and seq of the last execution up to a seq."""
        last = min(seq, len(self._places))
        return (self._places[last - 1], last) if last > 0 else (0, 0)

    def after(self, offset: int, most: int) -> Sequence[Entry]:
        """Return the rows after an offset."""
        return self._entries[offset : offset + most]

    def fee_open(self, account_id: str, fill_id: str) -> bool | None:
        """Tell whether a logged execution's fees are not known yet; None where it isn't logged."""
        fill = self._fills.get((account_id, fill_id))
        return None if fill is None else fill.fees is None

    def void(self, account_id: str, fill_id: str) -> bool:
        """Mark an execution as taken back; False where it is already."""
        if (account_id, fill_id) in self._voided:
            return False
        self._voided[account_id, fill_id] = None
        return True

    def is_void(self, account_id: str, fill_id: str) -> bool:
        """True where an execution was taken back."""
        return (account_id, fill_id) in self._voided

    def fill(self, account_id: str, fill_id: str) -> Fill | None:
        """Return an execution as it was logged, or None where it wasn't."""
        return self._fills.get((account_id, fill_id))

    def fills_at(self, account_id: str, broker_order_id: str) -> list[Fill]:
        """Return the executions logged of one venue order, oldest first."""
        return [self._fills[account_id, name] for name in self._at.get((account_id, broker_order_id), ())]

    def unpaid_since(self) -> datetime | None:
        """Return when the first execution happened whose fees are not known yet, None without one."""
        return next((fill.executed_at for fill in self._fills.values() if fill.fees is None), None)

    def last_fill(self) -> Fill | None:
        """Return the execution logged last."""
        if not self._places:
            return None
        entry = self._entries[self._places[-1] - 1]
        return entry if isinstance(entry, Fill) else None

    def add(self, offset: int, seq: int, entry: Entry) -> None:
        """Add the next row."""
        self._entries.append(entry)
        if isinstance(entry, Fill):
            self._places.append(offset)
            self._fills[entry.account_id, entry.fill_id] = entry
            self._at[entry.account_id, entry.broker_order_id].append(entry.fill_id)

    def amend(self, fill: Fill) -> None:
        """Write a logged execution anew."""
        self._amended.append(self._fills[fill.account_id, fill.fill_id])
        self._write(fill)

    def _write(self, fill: Fill) -> None:
        self._fills[fill.account_id, fill.fill_id] = fill
        self._entries[self._places[fill.seq - 1] - 1] = fill


_EXECUTIONS = (EventKind.FILL, EventKind.BUST)


def kind_of(entry: Entry) -> EventKind:
    """Return what kind of event a row is."""
    if isinstance(entry, BrokerEvent):
        return entry.kind
    return EventKind.BUST if entry.kind is FillKind.BUST else EventKind.FILL


def event_of(entry: Entry, offset: int) -> BrokerEvent:
    """Return a row as the event that tells of it."""
    if isinstance(entry, BrokerEvent):
        return entry
    return BrokerEvent.trusted(
        kind=kind_of(entry), broker=entry.broker, at=entry.recorded_at or entry.executed_at, seq=entry.seq,
        offset=offset, account_id=entry.account_id, order_id=entry.order_id,
        broker_order_id=entry.broker_order_id, idempotency_key=None, order=None, fill=entry, message="",
        detail={},
    )  # fmt: skip
