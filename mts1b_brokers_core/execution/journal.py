"""The journal: every order key, attempt, binding, fill and event of one broker instance, in one file.

The file remembers whose it is. Work on it runs in transactions of the store; the functions here that
take a `connection` run inside one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import StateError, StateMismatch
from mts1b_brokers_core.foundation.orders import Order
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_brokers_core.platform.sqlite import SqliteStore

from .bodies import body_of, order_of
from .logrows import FileRows, MemoryRows, Rows
from .merge import NOTHING_LOGGED, Logged
from .port import OrderRef, Ticket
from .schema import APPLICATION_ID, MIGRATIONS

P = ParamSpec("P")
T = TypeVar("T")


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
    """One key's row; `certainty` says how sure the absence of an order that was not placed is."""

    key: str
    fingerprint: str
    account_id: str
    state: State
    order: Order
    logged: Logged = NOTHING_LOGGED
    certainty: str | None = None
    reason: str | None = None
    words: str | None = None
    cancel_wanted: bool = False


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
        #: The log's rows where no file holds them.
        self.memory = MemoryRows() if path is None else None
        #: Why an outcome could not be written, where that happened: nothing more may be sent.
        self.stopped: StateError | None = None
        #: Answers that could not be written, by key; they are given again as long as we live.
        self.unwritten: dict[str, Record] = {}

    def rows(self, connection: sqlite3.Connection) -> Rows:
        """Return the log's rows as a connection sees them."""
        return FileRows(connection) if self.memory is None else self.memory

    def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *values: P.args, **named: P.kwargs
    ) -> T:
        """Ask one of this module's questions of what is committed: `read(get, key)`."""
        return self.store.read(lambda connection: query(connection, *values, **named))

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
    "SELECT key, fingerprint, account_id, state, body, logged, certainty, reason, words, cancel_wanted"
    " FROM orders"
)


_ATTEMPT = "SELECT key, n, kind, token, t0_ns, not_after_ns, owner, outcome, cause, body FROM attempts"


def _record(row: tuple[Any, ...]) -> Record:
    key, mark, account_id, state, body, logged, certainty, reason, words, cancel_wanted = row
    return Record(
        key, mark, account_id, State(state), order_of(body), Logged.parse(logged), certainty, reason, words,
        bool(cancel_wanted),
    )  # fmt: skip


def get(connection: sqlite3.Connection, key: str) -> Record | None:
    """Return the row of a key."""
    row = connection.execute(f"{_RECORD} WHERE key = ?", (key,)).fetchone()
    return None if row is None else _record(row)


_NAMED = "SELECT key FROM names WHERE account_id = ? AND name = ?"


def named(connection: sqlite3.Connection, account_id: str, name: str, *kinds: Name) -> Record | None:
    """Return the row that a name stands for: ours first, then the venue's id, then a token."""
    among = f" AND kind IN ({_marks(kinds)})" if kinds else ""
    row = connection.execute(f"{_NAMED}{among} ORDER BY kind LIMIT 1", (account_id, name, *kinds)).fetchone()
    return None if row is None else get(connection, row[0])


def at_venue(connection: sqlite3.Connection, account_id: str, ref: OrderRef) -> Record | None:
    """Return the row of an order the venue speaks of; our own ids are not the venue's words."""
    record = None
    if ref.broker_order_id:
        record = named(connection, account_id, ref.broker_order_id, Name.VENUE)
    if record is None and ref.token:
        record = named(connection, account_id, ref.token, Name.TOKEN, Name.CHANGE)
    return record


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def unsettled(connection: sqlite3.Connection, states: Iterable[State]) -> list[Record]:
    """Return the rows in these states that are not settled, oldest first."""
    wanted = tuple(states)
    rows = connection.execute(
        f"{_RECORD} WHERE settled = 0 AND state IN ({_marks(wanted)}) ORDER BY created_ns", wanted
    )
    return [_record(row) for row in rows.fetchall()]


def attempts(connection: sqlite3.Connection, key: str, *, kind: str | None = None) -> list[Attempt]:
    """Return a key's attempts, oldest first; of one kind where it is given."""
    rows = connection.execute(f"{_ATTEMPT} WHERE key = ? ORDER BY n", (key,))
    return [Attempt(*row) for row in rows.fetchall() if kind in (None, row[2])]


def tried_again(connection: sqlite3.Connection, since_ns: int) -> list[tuple[Record, Attempt]]:
    """Return the attempts since a time that were followed by one that placed the order."""
    query = "SELECT DISTINCT key FROM attempts WHERE t0_ns >= ? AND kind = 'new' AND n > 1"
    found = []
    for (key,) in connection.execute(query, (since_ns,)).fetchall():
        record, tries = get(connection, key), attempts(connection, key, kind="new")
        if record is not None and record.state is State.CONFIRMED:
            found += [(record, tried) for tried in tries[:-1] if tried.outcome == State.NOT_PLACED]
    return found


def add_name(connection: sqlite3.Connection, account_id: str, name: str, kind: Name, key: str) -> bool:
    """Let a name stand for a key; the first binding stays: False where that is another key's."""
    added = connection.execute(
        "INSERT OR IGNORE INTO names VALUES (?, ?, ?, ?)", (account_id, name, kind, key)
    ).rowcount
    if added:
        return True
    holder = connection.execute(f"{_NAMED} AND kind = ?", (account_id, name, kind)).fetchone()
    return bool(holder[0] == key)


def claim(connection: sqlite3.Connection, wanted: Record, ticket: Ticket, owner: str) -> bool:
    """Write key and attempt before anything is sent; False where somebody else's row was first.

    Raises `IdTaken` where the order id stands for another key.
    """
    key, order, body, now_ns = wanted.key, wanted.order, body_of(wanted.order), to_ns(ticket.t0)
    if ticket.attempt == 1:
        taken = _insert(connection, wanted, body, now_ns)
        if taken and not add_name(connection, wanted.account_id, order.order_id, Name.OURS, key):
            raise IdTaken(order.order_id)
    else:
        taken = connection.execute(
            "UPDATE orders SET state = ?, body = ?, certainty = NULL, updated_ns = ?"
            " WHERE key = ? AND state = ? AND cancel_wanted = 0"
            " AND (SELECT max(n) FROM attempts WHERE key = ?) = ?",
            (wanted.state, body, now_ns, key, State.NOT_PLACED, key, ticket.attempt - 1),
        ).rowcount
    if taken:
        add_attempt(connection, key, ticket, "new", owner, body)
    return bool(taken)


class IdTaken(Exception):
    """An order id that stands for another order already."""


def adopt(connection: sqlite3.Connection, found: Record, now_ns: int) -> Record | None:
    """Write a row for an order the venue holds as part of another; None where its key or id is used."""
    if not _insert(connection, found, body_of(found.order), now_ns):
        return None
    add_name(connection, found.account_id, found.order.order_id, Name.OURS, found.key)
    return found


def _insert(connection: sqlite3.Connection, row: Record, body: str, now_ns: int) -> int:
    values = (row.key, row.order.order_id, row.account_id, row.fingerprint, row.state, body)
    return connection.execute(
        "INSERT OR IGNORE INTO orders (key, order_id, account_id, fingerprint, state, body, created_ns,"
        " updated_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, now_ns, now_ns),
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


def open_changes(connection: sqlite3.Connection, key: str) -> list[Attempt]:
    """Return the changes of an order that are under way, or may have been made: it is not known."""
    tries = attempts(connection, key)
    return [tried for tried in tries if tried.kind != "new" and tried.outcome in (None, State.UNKNOWN)]


def doubted(connection: sqlite3.Connection, key: str) -> bool:
    """Tell whether a change of an order may have been made: only a sight of the order tells."""
    return any(tried.outcome == State.UNKNOWN for tried in open_changes(connection, key))


def abandon_changes(connection: sqlite3.Connection, is_dead: Callable[[str], bool]) -> None:
    """Let the changes whose owner died before their answer be in doubt: a sight of the order tells."""
    query = f"{_ATTEMPT} WHERE kind != 'new' AND outcome IS NULL"
    for tried in [Attempt(*row) for row in connection.execute(query).fetchall()]:
        if is_dead(tried.owner):
            finish_attempt(connection, tried.key, tried.n, str(State.UNKNOWN), "its process ended")


def finish_attempt(connection: sqlite3.Connection, key: str, n: int, outcome: str, cause: str) -> None:
    """Write how an attempt ended."""
    connection.execute(
        "UPDATE attempts SET outcome = ?, cause = ? WHERE key = ? AND n = ?", (outcome, cause, key, n)
    )


def put(connection: sqlite3.Connection, was: Record, now: Record, now_ns: int) -> Record:
    """Write a key's new row, and bind the venue ids its order has by now: none that is another key's.

    Returns the row as it was written.
    """
    order = now.order
    if (ids := order.broker_order_ids) != was.order.broker_order_ids:
        ours = tuple(name for name in ids if add_name(connection, now.account_id, name, Name.VENUE, now.key))
        if ours != ids:
            name = order.broker_order_id if order.broker_order_id in ours else (*ours, None)[0]
            order = order.evolve(broker_order_ids=ours, broker_order_id=name)
            now = replace(now, order=order)
    stands = (now.state, body_of(order), order.is_final, order.settled)
    answer = (now.certainty, now.reason, now.words)
    connection.execute(
        "UPDATE orders SET state = ?, body = ?, final = ?, settled = ?, logged = ?,"
        " certainty = ?, reason = ?, words = ?, updated_ns = ? WHERE key = ?",
        (*stands, now.logged.text(), *answer, now_ns, now.key),
    )
    return now


def want_cancel(connection: sqlite3.Connection, key: str) -> Record | None:
    """Remember that a cancel is wanted: no further attempt is made, and it is sent once an id is bound."""
    connection.execute("UPDATE orders SET cancel_wanted = 1 WHERE key = ?", (key,))
    return get(connection, key)


def twin(connection: sqlite3.Connection, account_id: str, mark: str, key: str) -> Record | None:
    """Return another key's order with equal terms of which it is not known whether the venue has it."""
    row = connection.execute(
        f"{_RECORD} WHERE settled = 0 AND fingerprint = ? AND account_id = ? AND key != ?"
        f" AND state IN ({_marks(UNRESOLVED)}) LIMIT 1",
        (mark, account_id, key, *UNRESOLVED),
    ).fetchone()
    return None if row is None else _record(row)
