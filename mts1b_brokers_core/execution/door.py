"""What placing and changing an order share: journalled first, checked once more, sent once, written down."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.orders import Order
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_brokers_core.platform.failpoints import failpoint
from mts1b_brokers_core.platform.ratelimit import Permit, Priority, prioritised
from mts1b_brokers_core.platform.retry import effects

from . import journal
from .eventlog import Appender
from .gates import denied
from .journal import Name, Record
from .login import Login
from .port import Ack, NotPlaced, OrderRef, OrderView, PlaceResult, Ticket, Unknown, row_of

T = TypeVar("T")

#: Seconds after which to try once more where no connection could be made.
_AFTER_NO_CONNECTION = 0.25
#: The most seconds a write, and a look, is waited for; an adapter's own transport gives up earlier.
WRITE, LOOK = 60.0, 30.0


async def allowed(login: Login, operation: str, order: Order) -> Permit | None:
    """Wait until the venue's limits let one more request pass, before anything is journalled.

    None where the adapter doesn't say what the operation takes: then its transport asks by itself.
    """
    cost = login.port.cost(operation, order)
    if not cost:
        return None
    account, symbol = login.account_id, order.symbol
    return await login.limiter.acquire(cost, priority=Priority.SUBMIT, account=account, symbol=symbol)


def refund(permit: Permit | None) -> None:
    """Give back what a request that wasn't sent had taken."""
    if permit is not None:
        permit.refund()


async def claim(login: Login, order: Order, ticket: Ticket, work: Callable[[sqlite3.Connection], T]) -> T:
    """Commit what must be remembered before anything is sent. Raises `OrderDenied` where that fails."""

    def within_the_rate(connection: sqlite3.Connection) -> T:
        login.gates.check_rate(connection, to_ns(ticket.t0), order)
        done = work(connection)
        failpoint("claim.uncommitted")
        return done

    try:
        return await login.journal.store.run(within_the_rate)
    except errors.StateError as error:
        why = f"the attempt could not be journalled: {error.message}"
        raise denied(order, "journal", why, error.next_step) from error


def check_still_wanted(login: Login, order: Order, ticket: Ticket) -> None:
    """Look once more, after the commit and before the write, at what may have changed meanwhile."""
    login.gates.check_halt(order)
    if ticket.not_after is not None and login.clock.now() >= ticket.not_after:
        why = "the time in which the venue takes the order passed while it was journalled."
        raise denied(order, "too_late", why, "submit it again with the same key")


async def sent(clock: Clock, write: Callable[[], Awaitable[PlaceResult]]) -> PlaceResult:
    """Write once and return what came of it, whatever an adapter or its transport raises."""
    with effects() as done:
        try:
            result = await bounded(clock, WRITE, write())
        except (errors.AuthenticationError, errors.PermissionDenied) as error:
            result = NotPlaced(error.message)
        except errors.NotSent as error:
            result = NotPlaced(error.message, retry_after=_AFTER_NO_CONNECTION)
        except ConnectionRefusedError as error:
            result = NotPlaced(f"no connection was made: {error}", retry_after=_AFTER_NO_CONNECTION)
        # In all other cases bytes may have left: unknown, never "no".
        except Exception as error:  # noqa: BLE001
            return Unknown(f"{type(error).__name__}: {error}")
        else:
            known = isinstance(result, PlaceResult)
            return result if known else Unknown(f"the adapter answered with {type(result).__name__}")
    # What failed is a later request of the same write: the one before it may have placed the order.
    return Unknown(f"a {done[0]} had gone out before: {result.cause}") if done else result


async def bounded(clock: Clock, seconds: float, call: Awaitable[T]) -> T:
    """Wait for an adapter at most so many seconds. Its own cancelling, which isn't ours, is an error."""
    try:
        async with clock.timeout(seconds):
            return await call
    except asyncio.CancelledError as error:
        if being_cancelled():
            raise
        raise ConnectionAbortedError(f"what waited for the answer was cut off: {error}") from None


async def look(login: Login, ref: OrderRef, priority: Priority) -> OrderView | None:
    """Read one order by id; None where the venue doesn't show it. Raises what keeps it from being read."""
    with prioritised(priority):
        return row_of(await bounded(login.clock, LOOK, login.port.read([ref])), ref)


def being_cancelled() -> bool:
    """True where a `CancelledError` is meant for this task, and not for what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def believed(connection: sqlite3.Connection, record: Record, result: PlaceResult) -> PlaceResult:
    """Return a reply, or what one is worth that names the venue order of another key."""
    if isinstance(result, Ack):
        for ref in (result.ref, result.echo.ref if result.echo else result.ref):
            name = ref.broker_order_id
            holder = name and journal.named(connection, record.account_id, name, Name.VENUE)
            if holder and holder.key != record.key:
                return Unknown(f"the venue answered with {name}, the order of the key {holder.key!r}")
    return result


async def conclude(login: Login, write: Callable[[Appender], T], unwritten: Callable[[], T]) -> T:
    """Write an outcome; where that fails the caller still gets it, `unwritten`, and nothing more is sent."""
    try:
        return await login.log.transact(write)
    except errors.StateError as error:
        login.journal.stopped = error
        return unwritten()
