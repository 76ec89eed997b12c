"""The journal: every order key, attempt, binding, fill and event of one broker instance, in one file.

The file remembers whose it is. Work on it runs in transactions of the store; the functions here that
take a `connection` run inside one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import StateError, StateMismatch
from mts1b_brokers_core.foundation.orders import Fill, Order
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_brokers_core.platform.sqlite import SqliteStore

from .bodies import body_of, order_of
from .merge import Logged
from .port import OrderRef, Ticket
from .schema import APPLICATION_ID, MIGRATIONS


class Name(IntEnum):
    """Whose word a name is; where one text is several of them, the first of these is meant."""

    OURS = 0
    VENUE = 1
    TOKEN = 2
    CHANGE = 3  # the token of a replace


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
#: States that a sight of the order at the venue ends.
OPEN_QUESTIONS = (State.SENDING, State.UNKNOWN, State.NOT_PLACED)


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


class Journal:
    """The store of one broker instance, in a file or in memory."""

    def __init__(self, path: Path | None, clock: Clock | None = None) -> None:
        self.store = SqliteStore(
            path, kind=APPLICATION_ID, migrations=MIGRATIONS, what="a broker's journal", clock=clock
        )
        #: Why an outcome could not be written, where that happened: nothing more may be sent.
        self.stopped: StateError | None = None

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
        order=order_of(row[3]),
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


_NAMED = "SELECT key FROM names WHERE account_id = ? AND name = ?"


def named(connection: sqlite3.Connection, account_id: str, name: str, *kinds: Name) -> Record | None:
    """Return the row that a name stands for: ours first, then the venue's id, then a token."""
    wanted = kinds or tuple(Name)
    row = connection.execute(
        f"{_NAMED} AND kind IN ({_marks(wanted)}) ORDER BY kind LIMIT 1",
        (account_id, name, *wanted),
    ).fetchone()
    return None if row is None else get(connection, row[0])


def at_venue(connection: sqlite3.Connection, account_id: str, ref: OrderRef) -> Record | None:
    """Return the row of an order the venue speaks of; our own ids are not the venue's words."""
    for name, kinds in (
        (ref.broker_order_id, (Name.VENUE,)),
        (ref.token, (Name.TOKEN, Name.CHANGE)),
    ):
        if name and (record := named(connection, account_id, name, *kinds)) is not None:
            return record
    return None


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def unsettled(connection: sqlite3.Connection, states: Iterable[State]) -> list[Record]:
    """Return the rows in these states that are not settled, oldest first."""
    wanted = tuple(states)
    rows = connection.execute(
        f"{_RECORD} WHERE settled = 0 AND state IN ({_marks(wanted)}) ORDER BY created_ns",
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


def add_name(connection: sqlite3.Connection, account_id: str, name: str, kind: Name, key: str) -> bool:
    """Let a name stand for a key; the first binding stays: False where that is another key's."""
    added = connection.execute(
        "INSERT OR IGNORE INTO names VALUES (?, ?, ?, ?)", (account_id, name, kind, key)
    ).rowcount
    if added:
        return True
    holder = connection.execute(f"{_NAMED} AND kind = ?", (account_id, name, kind)).fetchone()
    return bool(holder[0] == key)


def claim(
    connection: sqlite3.Connection, order: Order, print_of: str, ticket: Ticket, owner: str, now_ns: int
) -> bool:
    """Write key and attempt before anything is sent; False where somebody else's row was first.

    Raises `IdTaken` where the order id stands for another key.
    """
    body = body_of(order)
    key = order.idempotency_key
    if ticket.attempt == 1:
        taken = _insert(connection, order, print_of, ticket.account_id, State.SENDING, body, now_ns)
        if taken and not add_name(connection, ticket.account_id, order.order_id, Name.OURS, key):
            raise IdTaken(order.order_id)
    else:
        taken = connection.execute(
            "UPDATE orders SET state = ?, body = ?, certainty = NULL, updated_ns = ?"
            " WHERE key = ? AND state = ? AND cancel_wanted = 0"
            " AND (SELECT max(n) FROM attempts WHERE key = ?) = ?",
            (State.SENDING, body, now_ns, key, State.NOT_PLACED, key, ticket.attempt - 1),
        ).rowcount
    if taken:
        add_attempt(connection, key, ticket, "new", owner, body)
    return bool(taken)


class IdTaken(Exception):
    """An order id that stands for another order already."""


def adopt(
    connection: sqlite3.Connection, order: Order, print_of: str, account_id: str, now_ns: int
) -> Record | None:
    """Write a row for an order the venue holds as part of another; None where its key or id is used."""
    key = order.idempotency_key
    if not _insert(connection, order, print_of, account_id, State.CONFIRMED, order.model_dump_json(), now_ns):
        return None
    add_name(connection, account_id, order.order_id, Name.OURS, key)
    return get(connection, key)


def _insert(
    connection: sqlite3.Connection, order: Order, print_of: str, account_id: str, state: State, body: str,
    now_ns: int,
) -> int:  # fmt: skip
    return connection.execute(
        "INSERT OR IGNORE INTO orders (key, order_id, account_id, fingerprint, state, body, created_ns,"
        " updated_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (order.idempotency_key, order.order_id, account_id, print_of, state, body, now_ns, now_ns),
    ).rowcount


def add_attempt(
    connection: sqlite3.Connection, key: str, ticket: Ticket, kind: str, owner: str, body: str
) -> None:
    """Write one attempt, with what is about to be sent."""
    not_after_ns = None if ticket.not_after is None else to_ns(ticket.not_after)
    connection.execute(
        "INSERT INTO attempts (key, n, kind, token, t0_ns, not_after_ns, owner, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (key, ticket.attempt, kind, ticket.token, to_ns(ticket.t0), not_after_ns, owner, body),
    )
    if ticket.token:
        name = Name.TOKEN if ticket.changes is None else Name.CHANGE
        add_name(connection, ticket.account_id, ticket.token, name, key)


def replacing_owners(connection: sqlite3.Connection, key: str) -> list[str]:
    """Return who sent the changes of an order that have no outcome yet."""
    rows = connection.execute(
        "SELECT owner FROM attempts WHERE key = ? AND kind != 'new' AND outcome IS NULL", (key,)
    )
    return [row[0] for row in rows.fetchall()]


def being_replaced(connection: sqlite3.Connection, key: str) -> bool:
    """True where a replace is under way, or its outcome is not known: a new venue id may be its own."""
    row = connection.execute(
        "SELECT 1 FROM attempts WHERE key = ? AND kind != 'new' AND coalesce(outcome, 'unknown') = 'unknown'",
        (key,),
    ).fetchone()
    return row is not None


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
) -> Record:
    """Write a key's new state and order, bind the venue ids it has by now, and return the row."""
    updated = replace(
        record,
        order=order,
        state=state or record.state,
        settled=order.settled,
        logged=logged or record.logged,
        certainty=certainty if state is not None else record.certainty,
        reason=reason or record.reason,
        words=words or record.words,
    )
    connection.execute(
        "UPDATE orders SET state = ?, body = ?, final = ?, settled = ?, logged_quantity = ?,"
        " logged_value = ?, certainty = ?, reason = ?, words = ?, updated_ns = ? WHERE key = ?",
        (
            updated.state,
            body_of(order),
            order.is_final,
            order.settled,
            str(updated.logged.quantity),
            str(updated.logged.value),
            updated.certainty,
            updated.reason,
            updated.words,
            now_ns,
            record.key,
        ),
    )
    if order.broker_order_ids != record.order.broker_order_ids:
        for broker_order_id in order.broker_order_ids:
            add_name(connection, record.account_id, broker_order_id, Name.VENUE, record.key)
    return updated


def want_cancel(connection: sqlite3.Connection, key: str) -> Record | None:
    """Remember that a cancel is wanted: no further attempt is made, and it is sent once an id is bound."""
    connection.execute("UPDATE orders SET cancel_wanted = 1 WHERE key = ?", (key,))
    return get(connection, key)


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
