"""The journal: every order key, attempt, binding, fill and event of one broker instance, in one file.

The file remembers whose it is. Work on it runs in transactions of the store; the functions here that
take a `connection` run inside one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import StateMismatch
from mts1b_brokers_core.foundation.orders import Fill, Order
from mts1b_brokers_core.platform.sqlite import SqliteStore

from .merge import Logged
from .port import Ticket

APPLICATION_ID = 0x4D54534A  # "MTSJ"

MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE orders (
        key TEXT PRIMARY KEY,
        order_id TEXT NOT NULL,
        account_id TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        state TEXT NOT NULL,
        certainty TEXT,
        reason TEXT,
        words TEXT,
        cancel_wanted INTEGER NOT NULL DEFAULT 0,
        final INTEGER NOT NULL DEFAULT 0,
        settled INTEGER NOT NULL DEFAULT 0,
        logged_quantity TEXT NOT NULL DEFAULT '0',
        logged_value TEXT NOT NULL DEFAULT '0',
        body TEXT NOT NULL,
        created_ns INTEGER NOT NULL,
        updated_ns INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX orders_unsettled ON orders (state, created_ns) WHERE settled = 0;
    CREATE INDEX orders_created ON orders (created_ns);
    CREATE TABLE names (
        account_id TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
        PRIMARY KEY (account_id, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE attempts (
        key TEXT NOT NULL,
        n INTEGER NOT NULL,
        kind TEXT NOT NULL,
        token TEXT,
        t0_ns INTEGER NOT NULL,
        not_after_ns INTEGER,
        owner TEXT NOT NULL,
        body TEXT NOT NULL,
        outcome TEXT,
        cause TEXT,
        PRIMARY KEY (key, n)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX attempts_t0 ON attempts (t0_ns);
    CREATE TABLE log (
        "offset" INTEGER PRIMARY KEY,
        seq INTEGER NOT NULL,
        kind TEXT NOT NULL,
        account_id TEXT,
        fill_id TEXT,
        broker_order_id TEXT,
        body TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX log_fills ON log (account_id, fill_id) WHERE fill_id IS NOT NULL;
    CREATE INDEX log_seq ON log (seq);
    CREATE INDEX log_order ON log (broker_order_id) WHERE fill_id IS NOT NULL;
    CREATE TABLE consumers (
        name TEXT NOT NULL, stream TEXT NOT NULL, "offset" INTEGER NOT NULL, PRIMARY KEY (name, stream)
    ) STRICT, WITHOUT ROWID;
    """,
)


class State(StrEnum):
    """Where a key stands; see the state machine of the execution room's documentation."""

    SENDING = "sending"
    UNKNOWN = "unknown"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    NOT_PLACED = "not_placed"
    AMBIGUOUS = "ambiguous"
    DUPLICATE = "duplicate"


#: States whose orders may be live although nothing confirms it.
UNRESOLVED = (State.SENDING, State.UNKNOWN, State.AMBIGUOUS, State.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Record:
    """One key's row."""

    key: str
    fingerprint: str
    state: State
    order: Order
    account_id: str
    certainty: str | None
    reason: str | None
    words: str | None
    cancel_wanted: bool
    settled: bool
    logged: Logged


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at sending under a key."""

    key: str
    n: int
    kind: str
    token: str | None
    t0_ns: int
    not_after_ns: int | None
    owner: str
    outcome: str | None
    cause: str | None
    body: str


def fingerprint(order: Order) -> str:
    """Return a digest of the terms: equal for a true retry, whatever its order id."""
    text = json.dumps(order.terms(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """The store of one broker instance, in a file or in memory."""

    def __init__(self, path: Path | None, clock: Clock | None = None) -> None:
        self.store = SqliteStore(
            path, kind=APPLICATION_ID, migrations=MIGRATIONS, what="a broker's journal", clock=clock
        )

    @property
    def durable(self) -> bool:
        """True where a file holds the journal."""
        return self.store.durable

    def open(self) -> None:
        """Open the file and bring it to the present version. Raises `StateError`."""
        self.store.open()

    def close(self) -> None:
        """Write what is queued and close the file."""
        self.store.close()

    async def claim_identity(self, *, venue: str, environment: str, account_id: str) -> None:
        """Make the file this venue's, environment's and account's. Raises `StateMismatch` for another's."""
        ours = {"venue": venue, "environment": environment, "account": account_id}

        def work(connection: sqlite3.Connection) -> dict[str, str]:
            connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", ours.items())
            return dict(connection.execute("SELECT name, value FROM meta").fetchall())

        found = await self.store.run(work)
        for name, value in ours.items():
            if found[name] != value:
                raise StateMismatch(
                    f"{self.store.path} belongs to {name} {found[name]!r}, not {value!r}.",
                    next_step="choose another state_path, or open the one it belongs to",
                )


# --- inside a transaction ----------------------------------------------------------------------------

_RECORD = (
    "SELECT key, fingerprint, state, body, account_id, certainty, reason, words, cancel_wanted, settled,"
    " logged_quantity, logged_value FROM orders"
)


def _record(row: tuple[Any, ...]) -> Record:
    return Record(
        key=row[0],
        fingerprint=row[1],
        state=State(row[2]),
        order=Order.model_validate_json(row[3]),
        account_id=row[4],
        certainty=row[5],
        reason=row[6],
        words=row[7],
        cancel_wanted=bool(row[8]),
        settled=bool(row[9]),
        logged=Logged(Decimal(row[10]), Decimal(row[11])),
    )


def get(connection: sqlite3.Connection, key: str) -> Record | None:
    """Return the row of a key."""
    row = connection.execute(f"{_RECORD} WHERE key = ?", (key,)).fetchone()
    return None if row is None else _record(row)


def named(connection: sqlite3.Connection, account_id: str, name: str) -> Record | None:
    """Return the row that an id of ours, an id of the venue's, or a token stands for."""
    row = connection.execute(
        "SELECT key FROM names WHERE account_id = ? AND name = ?", (account_id, name)
    ).fetchone()
    return None if row is None else get(connection, row[0])


def unsettled(connection: sqlite3.Connection, states: Iterable[State]) -> list[Record]:
    """Return the rows in these states that are not settled, oldest first."""
    wanted = tuple(states)
    marks = ",".join("?" * len(wanted))
    rows = connection.execute(
        f"{_RECORD} WHERE settled = 0 AND state IN ({marks}) ORDER BY created_ns",
        wanted,
    )
    return [_record(row) for row in rows.fetchall()]


def attempts(connection: sqlite3.Connection, key: str) -> list[Attempt]:
    """Return a key's attempts, oldest first."""
    rows = connection.execute(
        "SELECT key, n, kind, token, t0_ns, not_after_ns, owner, outcome, cause, body FROM attempts"
        " WHERE key = ? ORDER BY n",
        (key,),
    )
    return [Attempt(*row) for row in rows.fetchall()]


def add_name(connection: sqlite3.Connection, account_id: str, name: str, kind: str, key: str) -> None:
    """Let a name stand for a key; the first binding of a name stays."""
    connection.execute("INSERT OR IGNORE INTO names VALUES (?, ?, ?, ?)", (account_id, name, kind, key))


def claim(
    connection: sqlite3.Connection, order: Order, print_of: str, ticket: Ticket, owner: str, now_ns: int,
    not_after_ns: int | None,
) -> bool:  # fmt: skip
    """Write key and attempt before anything is sent; False where somebody else's row was first."""
    body = order.model_dump_json()
    key = order.idempotency_key
    if ticket.attempt == 1:
        taken = connection.execute(
            "INSERT OR IGNORE INTO orders (key, order_id, account_id, fingerprint, state, body, created_ns,"
            " updated_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (key, order.order_id, ticket.account_id, print_of, State.SENDING, body, now_ns, now_ns),
        ).rowcount
        add_name(connection, ticket.account_id, order.order_id, "order", key)
        for child in order.attached:
            add_name(connection, ticket.account_id, child.order_id, "child", key)
    else:
        taken = connection.execute(
            "UPDATE orders SET state = ?, body = ?, certainty = NULL, updated_ns = ?"
            " WHERE key = ? AND state = ? AND (SELECT max(n) FROM attempts WHERE key = ?) = ?",
            (State.SENDING, body, now_ns, key, State.NOT_PLACED, key, ticket.attempt - 1),
        ).rowcount
    if not taken:
        return False
    add_attempt(connection, key, ticket, "new", owner, now_ns, not_after_ns)
    return True


def add_attempt(
    connection: sqlite3.Connection, key: str, ticket: Ticket, kind: str, owner: str, now_ns: int,
    not_after_ns: int | None,
) -> None:  # fmt: skip
    """Write one attempt, with what is about to be sent."""
    body = ticket.changes.model_dump_json() if ticket.changes else ticket.order.model_dump_json()
    connection.execute(
        "INSERT INTO attempts (key, n, kind, token, t0_ns, not_after_ns, owner, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (key, ticket.attempt, kind, ticket.token, now_ns, not_after_ns, owner, body),
    )
    if ticket.token:
        add_name(connection, ticket.account_id, ticket.token, "token", key)


def finish_attempt(connection: sqlite3.Connection, key: str, n: int, outcome: str, cause: str) -> None:
    """Write how an attempt ended."""
    connection.execute(
        "UPDATE attempts SET outcome = ?, cause = ? WHERE key = ? AND n = ?", (outcome, cause, key, n)
    )


def put(
    connection: sqlite3.Connection,
    record: Record,
    now_ns: int,
    *,
    order: Order,
    state: State | None = None,
    logged: Logged | None = None,
    certainty: str | None = None,
    reason: str | None = None,
    words: str | None = None,
) -> None:
    """Write a key's new state and order, and bind the venue ids it has by now."""
    totals = logged or record.logged
    connection.execute(
        "UPDATE orders SET state = ?, body = ?, final = ?, settled = ?, logged_quantity = ?,"
        " logged_value = ?, certainty = ?, reason = ?, words = ?, updated_ns = ? WHERE key = ?",
        (
            state or record.state,
            order.model_dump_json(),
            order.is_final,
            order.settled,
            str(totals.quantity),
            str(totals.value),
            certainty,
            reason or record.reason,
            words or record.words,
            now_ns,
            record.key,
        ),
    )
    for broker_order_id in order.broker_order_ids:
        add_name(connection, record.account_id, broker_order_id, "venue", record.key)


def want_cancel(connection: sqlite3.Connection, key: str) -> None:
    """Remember that a cancel is wanted: no further attempt is made, and it is sent once an id is bound."""
    connection.execute("UPDATE orders SET cancel_wanted = 1 WHERE key = ?", (key,))


def set_certainty(connection: sqlite3.Connection, key: str, certainty: str) -> None:
    """Write how sure an absence is."""
    connection.execute("UPDATE orders SET certainty = ? WHERE key = ?", (certainty, key))


def page(
    connection: sqlite3.Connection, since_ns: int, after: tuple[int, str], limit: int
) -> list[tuple[int, Record]]:
    """Return orders created since a time, oldest first, after the (time, key) the last page ended with."""
    rows = connection.execute(
        "SELECT created_ns, key FROM orders WHERE created_ns >= ? AND (created_ns, key) > (?, ?)"
        " ORDER BY created_ns, key LIMIT ?",
        (since_ns, *after, limit),
    ).fetchall()
    found = [(created, get(connection, key)) for created, key in rows]
    return [(created, record) for created, record in found if record is not None]


def last_fill(connection: sqlite3.Connection) -> Fill | None:
    """Return the execution logged last."""
    row = connection.execute(
        'SELECT body FROM log WHERE fill_id IS NOT NULL ORDER BY "offset" DESC LIMIT 1'
    ).fetchone()
    return Fill.model_validate_json(row[0]) if row else None


def logged_fill(connection: sqlite3.Connection, account_id: str, fill_id: str) -> Fill | None:
    """Return an execution as it was logged, or None where it wasn't."""
    row = connection.execute(
        "SELECT body FROM log WHERE account_id = ? AND fill_id = ?", (account_id, fill_id)
    ).fetchone()
    return Fill.model_validate_json(row[0]) if row else None
