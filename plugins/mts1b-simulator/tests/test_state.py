"""State that survives: killed at every step nothing acknowledged is lost, and nothing happens twice."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mts1b_brokers_core.foundation.errors import StateCorrupted, StateLocked, StateMismatch, StateTooNew
from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_simulator import DEFAULT_INSTRUMENTS, ExchangeConfig, FeeRule, SimulatedExchange, VenueState, spot
from mts1b_simulator.failpoints import POINTS
from mts1b_simulator.settlement import needs

PROGRAM = Path(__file__).parent / "venue_process.py"
START = 1_767_625_200_000_000_000
COIN = spot("COIN-USD", "Coin", lot="0.01")
BUY = Side.BUY


def run(path: Path, failpoint: str = "") -> tuple[int, list[list[str]]]:
    environment = {**os.environ, "MTS1B_FAILPOINT": failpoint}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, [line.split() for line in done.stdout.splitlines()]


def opened(path: Path) -> SimulatedExchange:
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        from venue_process import open_exchange
    finally:
        sys.path.pop(0)
    exchange: SimulatedExchange = open_exchange()
    state = VenueState(path)
    state.open(exchange)
    state.close()
    return exchange


def audit(exchange: SimulatedExchange) -> None:
    """The money is what the fills say, the holds are what open orders need, and no token is there twice."""
    usd, coin = Decimal(10_000), Decimal(10)
    for fill in exchange.fills_since():
        usd -= fill.quantity * fill.price * fill.side.sign + fill.fee.amount
        coin += fill.quantity * fill.side.sign
    balances = {row.currency: row for row in exchange.balances("a")}
    assert (balances["USD"].total, balances["COIN"].total) == (usd, coin)
    held = sum(order.hold["USD"] for order in exchange.desk.open.values())
    assert balances["USD"].held == Decimal(held).scaleb(-exchange.digits["USD"])
    assert all(order.hold == needs(order) for order in exchange.desk.open.values())
    tokens = Counter(order.token for order in exchange.orders_since())
    assert set(tokens.values()) <= {1}
    for order in exchange.orders_since():
        fills = exchange.fills_of([order.venue_order_id])
        assert sum(fill.quantity for fill in fills) == order.filled_quantity <= (order.terms.quantity or 0)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step_nothing_is_lost_or_doubled(tmp_path: Path, point: str, count: int) -> None:
    path = tmp_path / "venue.db"
    code, said = run(path, f"{point}:{count}")
    assert code == -signal.SIGKILL, "the point was not passed that often"
    exchange = opened(path)
    audit(exchange)
    for row in said:
        if row[0] == "ACK":
            order = exchange.order_by_token(row[1])
            assert order is not None
            assert order.venue_order_id == row[2]
        elif row[0] == "FILL":
            fills = {fill.trade_id: fill for fill in exchange.fills_since()}
            assert (fills[row[1]].token, fills[row[1]].quantity) == (row[2], Decimal(row[3]))
        elif row[0] == "GONE":
            order = exchange.order_by_token(row[1])
            assert order is not None
            assert order.status == "canceled"
    code, again = run(path)
    assert (code, again[-1]) == (0, ["END"])
    told = {row[1]: row[2] for row in said if row[0] == "ACK"}
    assert all(row[2] == told[row[1]] for row in again if row[0] == "ACK" and row[1] in told)
    after = opened(path)
    audit(after)
    assert sorted(order.token for order in after.orders_since()) == sorted(f"k{n}" for n in range(10))


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    state = VenueState(tmp_path / "venue.db")
    state.open(exchange())
    other = VenueState(tmp_path / "venue.db")
    with pytest.raises(StateLocked, match=rf"process {os.getpid()}"):
        other.open(exchange())
    state.close()
    assert other.open(exchange())
    other.close()


def exchange(*instruments: Any, **more: Any) -> SimulatedExchange:
    values: dict[str, Any] = {"accounts": {"a": {"USD": Decimal(1_000)}}, "fees": (FeeRule(),)} | more
    return SimulatedExchange(ExchangeConfig(instruments or (COIN,), **values), start_ns=START)


def saved(path: Path, source: SimulatedExchange) -> VenueState:
    """Write an exchange's changes as the venue does."""
    state = VenueState(path)
    state.open(source)
    return state


async def test_reset_archives_the_epoch_and_begins_anew(tmp_path: Path) -> None:
    first = exchange()
    state = saved(tmp_path / "venue.db", first)
    first.submit(Order.limit("COIN-USD", BUY, "1", price="9"), "t")
    await state.save(state.encode(first, first.drain()))
    fresh = exchange()
    assert state.reset(fresh) == 2
    reply = fresh.submit(Order.limit("COIN-USD", BUY, "2", price="9"), "t")
    assert (reply.duplicate, reply.order.venue_order_id) == (False, "S2-1")
    await state.save(state.encode(fresh, fresh.drain()))
    assert [(row.number, row.closed_ns is None) for row in state.epochs()] == [(1, False), (2, True)]
    state.close()
    again = exchange()
    state = VenueState(tmp_path / "venue.db")
    assert state.open(again)
    assert [order.terms.quantity for order in again.orders_since()] == [2]
    state.close()
    connection = sqlite3.connect(tmp_path / "venue.db")
    kept = connection.execute("SELECT epoch, token FROM orders ORDER BY epoch").fetchall()
    connection.close()
    assert kept == [(1, "t"), (2, "t")]


async def test_orders_come_back_to_where_they_waited(tmp_path: Path, make_lab: Any) -> None:
    path = tmp_path / "venue.db"
    lab = make_lab(instruments=(COIN,))
    state = saved(path, lab.exchange)
    lab.depth([(99, 3)], [(101, 3)])
    first, second = lab.limit(BUY, 1, 100), lab.limit(BUY, 1, 100)
    stop = lab.submit(Order.stop("COIN-USD", Side.SELL, "1", stop_price="90"))
    gone = lab.limit(BUY, 1, 50)
    lab.exchange.cancel(gone.order.venue_order_id)
    before = [lab.order(row) for row in (first, second, stop, gone)]
    await state.save(state.encode(lab.exchange, lab.exchange.drain()))
    state.close()
    lab = make_lab(instruments=(COIN,))
    state = VenueState(path)
    assert state.open(lab.exchange)
    assert [lab.order(row) for row in (first, second, stop, gone)] == before
    lab.depth([(100, 4)], [(101, 3)])  # everything displayed now stands before us
    lab.trade(100, 5, after=1_000_000)
    assert (lab.fills(first), lab.fills(second)) == ([("1", "100")], [])
    lab.trade(90, "0.5")
    assert lab.order(stop).triggered
    new = lab.submit(Order.limit("COIN-USD", BUY, "1", price="40"), "new")
    assert new.order.venue_order_id == "S1-5"
    state.close()


def test_a_file_of_something_else_a_newer_one_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "venue.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(StateCorrupted):
        VenueState(path).open(exchange())
    path.unlink()
    state = VenueState(path)
    state.open(exchange())
    state.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StateTooNew):
        VenueState(path).open(exchange())


async def test_a_state_of_other_settings_is_refused_and_more_instruments_are_welcome(tmp_path: Path) -> None:
    path = tmp_path / "venue.db"
    source = exchange()
    state = saved(path, source)
    source.submit(Order.limit("COIN-USD", BUY, "1", price="9"), "t")
    await state.save(state.encode(source, source.drain()))
    state.close()
    finer = spot("COIN-USD", "Coin", tick="0.001", lot="0.01")
    for other in (
        exchange(finer),
        exchange(fees=(FeeRule(minimum=Decimal(1)),)),
        exchange(DEFAULT_INSTRUMENTS[0]),
    ):
        with pytest.raises(StateMismatch):
            VenueState(path).open(other)
    with pytest.raises(StateMismatch, match="account 'a'"):
        VenueState(path).open(exchange(accounts={"b": {"USD": Decimal(1)}}))
    state = VenueState(path)
    assert state.open(exchange(COIN, *DEFAULT_INSTRUMENTS, fill_model="touch"))
    state.close()


async def test_holds_that_belong_to_no_order_are_found_out(tmp_path: Path) -> None:
    path = tmp_path / "venue.db"
    source = exchange()
    state = saved(path, source)
    source.submit(Order.limit("COIN-USD", BUY, "1", price="9"), "t")
    await state.save(state.encode(source, source.drain()))
    state.close()
    with sqlite3.connect(path) as connection:
        body = json.loads(connection.execute("SELECT body FROM accounts").fetchone()[0])
        body["held"]["USD"] += 1
        connection.execute("UPDATE accounts SET body = ?", (json.dumps(body),))
    connection.close()
    with pytest.raises(StateCorrupted, match="holds of account a"):
        VenueState(path).open(exchange())


def test_each_epoch_of_a_file_has_an_identity_of_its_own(tmp_path: Path) -> None:
    path, names = tmp_path / "venue.db", []
    for _ in range(2):
        state = VenueState(path)
        assert state.identity == ""
        state.open(exchange())
        names.append(state.identity)
        state.close()
    assert names[0] == names[1]
    assert re.fullmatch("[0-9a-f]{8}", names[0])
    state = VenueState(path)
    state.open(exchange())
    state.reset(exchange())
    names.append(state.identity)
    state.close()
    path.unlink()
    state = VenueState(path)
    state.open(exchange())
    names.append(state.identity)
    state.close()
    assert len(set(names)) == 3
    memory = VenueState(None)
    memory.open(exchange())
    assert memory.identity == ""
    memory.close()


def test_an_emptied_file_is_damaged_and_not_new(tmp_path: Path) -> None:
    path = tmp_path / "venue.db"
    path.touch()
    for _ in range(2):
        with pytest.raises(StateCorrupted, match="0 bytes") as raised:
            VenueState(path).open(exchange())
        assert "restore a backup" in raised.value.next_step
        assert path.stat().st_size == 0


async def test_an_order_that_takes_from_bars_comes_back_as_one_until_it_is_left_behind(
    tmp_path: Path, make_lab: Any
) -> None:
    lab = make_lab(instruments=(COIN,))
    state = saved(tmp_path / "venue.db", lab.exchange)

    async def again() -> tuple[Any, VenueState]:
        await state.save(state.encode(lab.exchange, lab.exchange.drain()))
        state.close()
        fresh = make_lab(instruments=(COIN,))
        opened = VenueState(tmp_path / "venue.db")
        assert opened.open(fresh.exchange)
        return fresh, opened

    lab.bar(99, 100, 1000)
    order = lab.limit(BUY, 3, 110)
    lab, state = await again()
    lab.bar(99, 104, 40)  # 2.5 % are 1
    lab, state = await again()
    lab.bar(111, 112, 40)  # away from it
    lab, state = await again()
    lab.bar(100, 112, 40)
    fills = lab.exchange.fills_of([order.order.venue_order_id])
    assert [(row.price, row.liquidity) for row in fills] == [(104, "taker"), (110, "maker")]
    state.close()
