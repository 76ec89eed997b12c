"""The door every request passes, and what is kept beside it: each part alone."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import Venue, buy

from mts1b_brokers_core.execution import door, journal, parking
from mts1b_brokers_core.execution.journal import Journal, Record, State
from mts1b_brokers_core.execution.ownership import Leader, Owner
from mts1b_brokers_core.execution.port import (
    Ack,
    Execution,
    FeeAmendment,
    NotPlaced,
    OrderRef,
    PlaceResult,
    Ticket,
    Unknown,
)
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    NotSent,
    OrderDenied,
    PermissionDenied,
    StateError,
    StateLocked,
)
from mts1b_brokers_core.foundation.orders import FeeStatus, Order, Side
from mts1b_brokers_core.platform.clock import RealClock, SteppedClock
from mts1b_brokers_core.platform.http import http_client
from mts1b_brokers_core.platform.ratelimit import Priority
from mts1b_brokers_core.platform.retry import took_effect

ORDER = buy()
TICKET = Ticket(ORDER, "A1", "t1", 1, Venue.opened)


def gates(halted: bool = False) -> Any:
    def check_halt(order: Order) -> None:
        if halted:
            raise OrderDenied("halted", order=order)

    return SimpleNamespace(check_halt=check_halt)


def raising(error: BaseException) -> Callable[[], Awaitable[PlaceResult]]:
    async def write() -> PlaceResult:
        raise error

    return write


# --- before and at the write ---------------------------------------------------------------------


def test_the_last_look_refuses_what_is_halted_or_comes_too_late(clock: SteppedClock) -> None:
    login: Any = SimpleNamespace(gates=gates(), clock=clock)
    door.check_still_wanted(login, ORDER, TICKET)
    door.check_still_wanted(login, ORDER, replace(TICKET, not_after=Venue.opened + timedelta(microseconds=1)))
    with pytest.raises(OrderDenied, match="passed while it was journalled") as caught:
        door.check_still_wanted(login, ORDER, replace(TICKET, not_after=Venue.opened))
    assert (caught.value.reason, caught.value.order) == ("too_late", ORDER)
    assert caught.value.next_step == "submit it again with the same key"
    with pytest.raises(OrderDenied, match="halted"):
        door.check_still_wanted(SimpleNamespace(gates=gates(True), clock=clock), ORDER, TICKET)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (AuthenticationError("expired"), NotPlaced("expired")),
        (PermissionDenied("may not trade"), NotPlaced("may not trade")),
        (NotSent("no connection"), NotPlaced("no connection", retry_after=0.25)),
        (
            ConnectionRefusedError(111, "refused"),
            NotPlaced("no connection was made: [Errno 111] refused", retry_after=0.25),
        ),
        (TimeoutError("slow"), Unknown("TimeoutError: slow")),
        (KeyError("id"), Unknown("KeyError: 'id'")),
        (
            asyncio.CancelledError("closed"),
            Unknown("ConnectionAbortedError: what waited for the answer was cut off: closed"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_a_write_raises_has_its_meaning(
    clock: SteppedClock, error: BaseException, result: PlaceResult
) -> None:
    assert await door.sent(clock, raising(error)) == result


@pytest.mark.parametrize(
    "error",
    [AuthenticationError("401"), PermissionDenied("403"), NotSent("no"), ConnectionRefusedError("no")],
)
async def test_no_follow_up_that_fails_proves_that_what_went_out_before_it_did_nothing(
    clock: SteppedClock, error: Exception
) -> None:
    async def write() -> PlaceResult:
        took_effect("POST")
        raise error

    result = await door.sent(clock, write)
    assert isinstance(result, Unknown)
    assert result.cause.startswith("a POST had gone out before: ")


@pytest.mark.parametrize(("status", "proven"), [(201, False), (409, False), (500, False), (401, True)])
async def test_over_the_wire_only_a_post_turned_away_unread_proves_that_nothing_was_placed(
    status: int, proven: bool
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, http_client("x", base_url=base, retries=0) as client:

        async def write() -> PlaceResult:
            await client.post("/orders", content=b"")
            await client.get("/orders/1")
            raise AssertionError

        assert isinstance(await door.sent(RealClock(), write), NotPlaced if proven else Unknown)
        # The same request alone, to nobody, never left.
        assert isinstance(await door.sent(RealClock(), write), NotPlaced)


async def test_a_write_that_never_answers_is_unknown_after_a_minute(clock: SteppedClock) -> None:
    async def write() -> PlaceResult:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    task = asyncio.create_task(door.sent(clock, write))
    await clock.advance(59)
    assert not task.done()
    await clock.advance(1)
    assert isinstance(await task, Unknown)


async def test_a_write_that_answers_with_nothing_known_is_unknown(clock: SteppedClock) -> None:
    async def write() -> PlaceResult:
        return None  # type: ignore[return-value]

    assert await door.sent(clock, write) == Unknown("the adapter answered with NoneType")


async def test_what_a_write_answers_is_handed_on_and_its_own_cancelling_passes(
    clock: SteppedClock,
) -> None:
    ack = Ack(OrderRef("V1"))

    async def answers() -> PlaceResult:
        return ack

    assert await door.sent(clock, answers) is ack
    assert not door.being_cancelled()
    never = asyncio.Event()

    async def waits() -> PlaceResult:
        await never.wait()
        return ack

    task = asyncio.create_task(door.sent(clock, waits))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_the_limits_take_is_asked_for_once_and_can_be_given_back() -> None:
    asked: list[Any] = []

    given_back: list[str] = []
    permit: Any = SimpleNamespace(refund=lambda: given_back.append("permit"))

    async def acquire(cost: Any, **more: Any) -> Any:
        asked.append((cost, more))
        return permit

    def cost(operation: str, order: Order) -> dict[str, float]:
        return {"orders": 1.0} if (operation, order) == ("place", ORDER) else {}

    login: Any = SimpleNamespace(
        port=SimpleNamespace(cost=cost), limiter=SimpleNamespace(acquire=acquire), account_id="A1"
    )
    assert await door.allowed(login, "place", ORDER) is permit
    more = {"priority": Priority.SUBMIT, "account": "A1", "symbol": "BTC-USD"}
    assert asked == [({"orders": 1.0}, more)]
    assert await door.allowed(login, "replace", ORDER) is None
    assert len(asked) == 1
    door.refund(None)
    door.refund(permit)
    assert given_back == ["permit"]


async def test_what_can_not_be_journalled_is_denied_and_what_is_has_passed_the_rate() -> None:
    memory = Journal(None)
    memory.store.open()
    seen: list[Any] = []

    def check_rate(connection: sqlite3.Connection, now_ns: int, order: Order) -> None:
        seen.append((now_ns, order))

    login: Any = SimpleNamespace(journal=memory, gates=SimpleNamespace(check_rate=check_rate))
    assert await door.claim(login, ORDER, TICKET, lambda connection: connection.total_changes) == 0
    assert seen == [(int(Venue.opened.timestamp()) * 1_000_000_000, ORDER)]
    memory.store.close()
    with pytest.raises(OrderDenied, match="the attempt could not be journalled: ") as caught:
        await door.claim(login, ORDER, TICKET, lambda connection: None)
    assert (caught.value.reason, caught.value.order) == ("journal", ORDER)
    assert isinstance(caught.value.__cause__, StateError)
    assert caught.value.next_step == caught.value.__cause__.next_step


async def test_an_outcome_that_can_not_be_written_is_told_and_stops_what_follows() -> None:
    error = StateError("full")

    async def transact(write: Callable[[Any], str]) -> str:
        return write("log")

    async def fails(write: Callable[[Any], str]) -> str:
        raise error

    login: Any = SimpleNamespace(
        log=SimpleNamespace(transact=transact), journal=SimpleNamespace(stopped=None)
    )
    assert await door.conclude(login, lambda log: f"written by {log}", lambda: "not") == "written by log"
    assert login.journal.stopped is None
    login.log.transact = fails
    assert (
        await door.conclude(login, lambda log: "written", lambda: "told all the same") == "told all the same"
    )
    assert login.journal.stopped is error


# --- parked executions and early fees ------------------------------------------------------------


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    store = Journal(None).store
    store.open()
    yield store.run_now(lambda connection: connection)
    store.close()


SEEN = Execution(
    "E1", OrderRef("V1"), "BTC-USD", Side.BUY, Decimal("0.5"), Decimal(100), Venue.opened,
    fees=(Money(amount="0.1", currency="USD"),), evidence={"raw": "1"},
)  # fmt: skip


def test_a_parked_execution_comes_back_whole(connection: sqlite3.Connection) -> None:
    parking.park(connection, "A1", SEEN, 5)
    parking.park(connection, "A1", replace(SEEN, price=Decimal(7)), 9)  # the first stays
    parking.park(connection, "A2", SEEN, 7)
    assert parking.parked(connection) == [(SEEN, 5), (SEEN, 7)]
    parking.unpark(connection, "A1", "E2")
    assert len(parking.parked(connection)) == 2
    parking.unpark(connection, "A1", "E1")
    assert parking.parked(connection) == [(SEEN, 7)]


def test_an_early_fee_is_taken_out_once_and_the_last_one_counts(connection: sqlite3.Connection) -> None:
    first = FeeAmendment("E1", (Money(amount="0.1", currency="USD"),), FeeStatus.ESTIMATED)
    last = replace(first, fee_status=FeeStatus.FINAL, account_id="A1")
    parking.hold_fee(connection, "A1", first)
    parking.hold_fee(connection, "A1", last)
    assert parking.early_fee(connection, "A2", "E1") is None
    assert parking.early_fee(connection, "A1", "E2") is None
    assert parking.early_fee(connection, "A1", "E1") == last
    assert parking.early_fee(connection, "A1", "E1") is None


@pytest.mark.parametrize(
    ("state", "order", "could"),
    [
        (State.SENDING, ORDER, True),
        (State.UNKNOWN, ORDER, True),
        (State.AMBIGUOUS, ORDER, True),
        (State.CONFIRMED, ORDER, False),
        (State.NOT_PLACED, ORDER, False),
        (State.UNKNOWN, ORDER.evolve(broker_order_ids=("V9",)), False),
        (State.UNKNOWN, Order.limit("BTC-USD", Side.SELL, "1", price="100"), False),
        (State.UNKNOWN, Order.limit("ETH-USD", Side.BUY, "1", price="100"), False),
        (
            State.UNKNOWN,
            Order.bracket("BTC-USD", Side.SELL, "1", price="100", take_profit="90", stop_loss="110"),
            True,  # its children buy
        ),
    ],
)
def test_only_an_unbound_order_of_like_terms_could_own_an_execution(
    connection: sqlite3.Connection, state: State, order: Order, could: bool
) -> None:
    row = Record(order.idempotency_key, "m", "A1", State.SENDING, order)
    assert journal.claim(connection, row, replace(TICKET, order=order), "me")
    journal.put(connection, row, replace(row, state=state), 1)
    assert parking.could_own(connection, "A1", SEEN) is could
    assert not parking.could_own(connection, "A2", SEEN)


# --- who owns what -------------------------------------------------------------------------------


def test_an_owner_lives_as_long_as_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "owners"
    mine, another = Owner(folder), Owner(folder)
    assert another.is_dead(mine.name)  # it hasn't begun
    mine.begin()
    assert not another.is_dead(mine.name)
    assert not mine.is_dead(mine.name)
    another.begin()
    assert not mine.is_dead(another.name)
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [f"{mine.name}.lock", f"{another.name}.lock"]
    )
    another.end()
    assert mine.is_dead(another.name)
    assert [file.name for file in folder.iterdir()] == [f"{mine.name}.lock"]
    mine.end()
    assert list(folder.iterdir()) == []


def test_a_newcomer_clears_away_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    (tmp_path / "dead.lock").touch()
    (tmp_path / "living.lock").touch()
    held = os.open(tmp_path / "living.lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    owner = Owner(tmp_path)
    assert (owner.is_dead("dead"), owner.is_dead("living"), owner.is_dead("nobody")) == (True, False, True)
    owner.begin()
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"living.lock", f"{owner.name}.lock"}
    owner.end()
    os.close(held)


def test_in_memory_there_are_no_others() -> None:
    owner = Owner(None)
    owner.begin()
    assert not owner.is_dead(owner.name)
    assert owner.is_dead("another")
    owner.end()


def test_one_leads_at_a_time(tmp_path: Path) -> None:
    first, second = Leader(tmp_path / "journal.db"), Leader(tmp_path / "journal.db")
    assert [first.leads, second.leads] == [False, False]
    first.take("the login of fund-a")
    first.take("the login of fund-a")
    assert [first.leads, second.leads] == [True, False]
    assert (tmp_path / "journal.db.leader").exists()
    with pytest.raises(StateLocked, match="the login of fund-b"):
        second.take("the login of fund-b")
    first.end()
    assert [first.leads, second.leads] == [False, False]
    second.take()
    assert [first.leads, second.leads] == [False, True]
    second.end()
    alone, led = Leader(None), list[bool]()
    for act in (alone.take, alone.end):
        act()
        led.append(alone.leads)
    assert led == [True, False]
