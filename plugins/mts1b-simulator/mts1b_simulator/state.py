"""The venue's own durable state: orders, fills, accounts and counters of each epoch, in one SQLite file.

It belongs to the venue as a real venue's database does; the client's journal is another file, and
neither reads the other. Displayed depth is not kept: after a restart our orders stand behind everything.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mts1b_brokers_core.foundation.errors import StateCorrupted
from mts1b_brokers_core.platform.sqlite import Lock, SqliteStore

from . import failpoints
from .changes import Changes
from .exchange import SimulatedExchange
from .storage import fill_body, order_body, restore, settings_of

#: Marks the file as a simulated venue's ("mtsv").
APPLICATION_ID = 0x6D747376

MIGRATIONS = (
    """
    CREATE TABLE epochs (
        number INTEGER PRIMARY KEY, identity TEXT NOT NULL, opened_ns INTEGER NOT NULL, closed_ns INTEGER,
        settings TEXT NOT NULL, counters TEXT NOT NULL
    );
    CREATE TABLE accounts (
        epoch INTEGER NOT NULL REFERENCES epochs, account_id TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (epoch, account_id)
    );
    CREATE TABLE orders (
        epoch INTEGER NOT NULL REFERENCES epochs, number INTEGER NOT NULL, token TEXT NOT NULL,
        body TEXT NOT NULL, PRIMARY KEY (epoch, number), UNIQUE (epoch, token)
    );
    CREATE TABLE fills (
        epoch INTEGER NOT NULL REFERENCES epochs, number INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (epoch, number)
    );
    """,
)


@dataclass(slots=True)
class Rows:
    """One write, as it will stand in the file."""

    epoch: int
    counters: str
    orders: list[tuple[int, int, str, str]]
    fills: list[tuple[int, int, str]]
    accounts: list[tuple[int, str, str]]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of the venue: from its opening balances to the reset that closed it (ns, UTC)."""

    number: int
    opened_ns: int
    closed_ns: int | None


class VenueState:
    """The state file of one venue, owned by one process; `path` None keeps it in memory.

    Every failure is a `StateError`: locked by another process (named), damaged, too new, of another
    kind, or written under other settings.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = None if path is None else Lock(path.with_name(path.name + ".lock"))
        self._store = SqliteStore(
            path, kind=APPLICATION_ID, migrations=MIGRATIONS, what="a simulated venue's state"
        )
        self._open = False
        #: The present epoch's random name (8 hex digits), so that a file that was lost, emptied or replaced
        #: shows; "" before it is open and in memory.
        self.identity = ""

    @property
    def durable(self) -> bool:
        """True where a file holds the state."""
        return self._store.durable

    def open(self, exchange: SimulatedExchange) -> bool:
        """Open the file, bring the exchange to what it holds; False where it was new. Raises `StateError`."""
        if self._lock is not None:
            self._lock.acquire("the simulated venue's state")
        try:
            self._refuse_emptied()
            self._store.open()
            self._open = True
            found = self._store.run_now(_load)
            if found is None:
                self._begin(exchange, 1)
                return False
            restore(exchange, found)
            self.identity = found["identity"] if self.durable else ""
        except BaseException:
            self.close()
            raise
        return True

    def _refuse_emptied(self) -> None:
        if self.path is not None and self.path.is_file() and not self.path.stat().st_size:
            raise StateCorrupted(
                f"{self.path} is there but holds 0 bytes: what the venue kept is lost. It was left as it is.",
                next_step="restore a backup; or delete the file to begin anew, without what it held",
            )

    def _begin(self, exchange: SimulatedExchange, number: int) -> None:
        exchange.recorder.epoch = number
        identity = secrets.token_hex(4)
        opened = (number, identity, exchange.now_ns, json.dumps(settings_of(exchange)), _counters(exchange))
        rows = self.encode(exchange, Changes())
        rows.accounts = [(number, a.account_id, json.dumps(a.dump())) for a in exchange.accounts.values()]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE epochs SET closed_ns = ? WHERE closed_ns IS NULL", (exchange.now_ns,))
            connection.execute(
                "INSERT INTO epochs (number, identity, opened_ns, settings, counters) VALUES (?, ?, ?, ?, ?)",
                opened,
            )
            _write(connection, rows)

        self._store.run_now(work)
        self.identity = identity if self.durable else ""

    def reset(self, exchange: SimulatedExchange) -> int:
        """Archive the present epoch under its number and begin the next with a fresh exchange, in one commit.

        Call it while no venue runs on the state; returns the new epoch's number. Raises `StateError`.
        """
        number = self.epochs()[-1].number + 1
        self._begin(exchange, number)
        return number

    def epochs(self) -> list[Epoch]:
        """Return every epoch, oldest first; the last one is current."""
        rows = self._store.run_now(
            lambda c: c.execute("SELECT number, opened_ns, closed_ns FROM epochs ORDER BY number").fetchall()
        )
        return [Epoch(*row) for row in rows]

    def encode(self, exchange: SimulatedExchange, changes: Changes) -> Rows:
        """Take down what changed as it is at this moment."""
        epoch = exchange.recorder.epoch
        accounts = [account for account in exchange.accounts.values() if account.dirty]
        rows = Rows(
            epoch,
            _counters(exchange),
            [(epoch, order.number, order.token, order_body(order)) for order in changes.orders.values()],
            [(epoch, fill.sequence, fill_body(fill)) for fill in changes.fills],
            [(epoch, account.account_id, json.dumps(account.dump())) for account in accounts],
        )
        for account in accounts:
            account.dirty = False
        return rows

    async def save(self, rows: Rows) -> None:
        """Write one change and return once it is durable. Raises `StateError`."""
        failpoints.hit("state.before_write")
        await self._store.run(lambda connection: _write(connection, rows))
        failpoints.hit("state.after_write")

    def close(self) -> None:
        """Finish writing and give the file and its lock back."""
        self._store.close()
        self._open = False
        if self._lock is not None:
            self._lock.release()


def _counters(exchange: SimulatedExchange) -> str:
    recorder = exchange.recorder
    return json.dumps({
        "orders": recorder.order_count,
        "trades": recorder.trade_count,
        "reports": recorder.report_count,
        "now_ns": exchange.now_ns,
        "arrivals": {symbol: market.book.arrivals for symbol, market in exchange.markets.items()},
    })  # fmt: skip


def _write(connection: sqlite3.Connection, rows: Rows) -> None:
    connection.execute("UPDATE epochs SET counters = ? WHERE number = ?", (rows.counters, rows.epoch))
    connection.executemany(
        "INSERT INTO orders (epoch, number, token, body) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (epoch, number) DO UPDATE SET body = excluded.body",
        rows.orders,
    )
    connection.executemany("INSERT INTO fills (epoch, number, body) VALUES (?, ?, ?)", rows.fills)
    connection.executemany(
        "INSERT INTO accounts (epoch, account_id, body) VALUES (?, ?, ?) "
        "ON CONFLICT (epoch, account_id) DO UPDATE SET body = excluded.body",
        rows.accounts,
    )
    failpoints.hit("state.before_commit")


def _load(connection: sqlite3.Connection) -> dict[str, Any] | None:
    row = connection.execute(
        "SELECT number, settings, counters, identity FROM epochs ORDER BY number DESC"
    ).fetchone()
    if row is None:
        return None
    epoch = row[0]

    def bodies(table: str, order: str) -> list[Any]:
        found = connection.execute(
            f"SELECT body FROM {table} WHERE epoch = ? ORDER BY {order}",  # noqa: S608 - names of our own
            (epoch,),
        )
        return [json.loads(body) for (body,) in found]

    try:
        return {
            "epoch": epoch,
            "identity": row[3],
            "settings": json.loads(row[1]),
            "counters": json.loads(row[2]),
            "accounts": bodies("accounts", "account_id"),
            "orders": bodies("orders", "number"),
            "fills": bodies("fills", "number"),
        }
    except ValueError as error:
        raise StateCorrupted(
            f"the venue's state holds a row that is not JSON: {error}.",
            next_step="move the file aside (keep it) or restore a backup",
        ) from error
