"""What an instance's journal holds in doubt, without its broker: the venue may be down, the login in use."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.orders import Order

from .opening import Resolved
from .state import journal_path

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.login import Login

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Doubt:
    """An order that may be live although nothing confirms it; `evidence` is what is known, in words."""

    key: str
    state: str
    since: datetime | None
    order: Order
    evidence: str


def journal_of(resolved: Resolved) -> Path | None:
    """Return the journal's file, None where there is none. Raises `EnvironmentNotChosen`."""
    environment, given = resolved.environment(), resolved.found.get(("state_path",))
    if given is not None and given.value is not None:
        path = Path(str(given.value)).expanduser()
    elif resolved.served(environment):
        return None
    else:
        path = journal_path(resolved.instance, environment, resolved.environ)
    return path if path.is_file() else None


def read_doubts(path: Path) -> tuple[str | None, list[Doubt]]:
    """Return the account a journal is of, and its orders in doubt, oldest first; nothing is written.

    Raises `StateError` for a file that can't be read, or is no journal of this release.
    """
    from mts1b_brokers_core.execution import journal

    def work(connection: sqlite3.Connection) -> tuple[str | None, list[Doubt]]:
        account = connection.execute("SELECT value FROM meta WHERE name = 'account'").fetchone()
        return account and account[0], [
            Doubt(
                row.key, str(row.state), row.order.submitted_at or row.order.created_at,
                row.order.evolve(reason=row.words or str(row.state)), row.words or str(row.state),
            )
            for row in journal.unsettled(connection, journal.UNRESOLVED)
        ]  # fmt: skip

    return _read(path, work)


def check_key(path: Path, instance: str, key: str) -> None:
    """Raise `OrderNotFound` where a journal doesn't hold the key; nothing is written."""
    from mts1b_brokers_core.execution import journal

    if _read(path, lambda connection: journal.get(connection, key)) is None:
        raise unknown_key(instance, key)


def unknown_key(instance: str, key: str) -> errors.OrderNotFound:
    """Return the error for a key that was never used."""
    return errors.OrderNotFound(
        f"the key {key!r} was never used here.", broker=instance, operation="resolve",
        next_step=f"`mts mts1b-brokers orders {instance} --unresolved` lists the keys in doubt",
    )  # fmt: skip


async def settle_as_absent(path: Path, instance: str, key: str) -> Order:
    """Write a person's word that an order in doubt is not at the venue, without asking the venue.

    Raises `StateLocked` where a process runs that owns the login, `OrderNotFound`, and `OrderError` where
    the order is no open question.
    """
    from mts1b_brokers_core.execution import journal
    from mts1b_brokers_core.execution.eventlog import EventLog
    from mts1b_brokers_core.execution.ownership import Leader, Owner
    from mts1b_brokers_core.execution.resolver import Resolver
    from mts1b_brokers_core.platform.clock import RealClock

    clock = RealClock()
    book = journal.Journal(path, clock)
    owner, leader = Owner(path.with_name(f"{path.name}.owners")), Leader(path)
    try:
        leader.take(f"the login of {instance}")
        owner.begin()
        book.store.open()
        record = book.read(journal.get, key)
        if record is None:
            raise unknown_key(instance, key)
        # All that a word needs that names no venue order.
        login = SimpleNamespace(journal=book, log=EventLog(book, instance, clock), owner=owner)
        resolver = Resolver(cast("Login", login), cast("Any", None))
        return (await resolver.by_hand(record, None)).order
    except errors.BrokerError as error:
        error.located(broker=instance, operation="resolve")
        raise
    finally:
        book.store.close()
        owner.end()
        leader.end()


def _read(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    from mts1b_brokers_core.execution.schema import APPLICATION_ID, MIGRATIONS

    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")  # one view of the file, whoever writes meanwhile
            kind = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (kind, version) != (APPLICATION_ID, len(MIGRATIONS)):
                raise errors.StateError(
                    f"{path} is no journal of this release (version {version}, not {len(MIGRATIONS)}).",
                    next_step="open the broker once, which brings an older one up to date",
                )
            return work(connection)
    except sqlite3.Error as error:
        raise errors.StateError(
            f"{path} can't be read: {error}.", next_step="check the file and its folder's permissions"
        ) from error
