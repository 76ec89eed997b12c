"""The gates one by one, to the last digit of each limit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scripted import BTC, Venue, buy

from mts1b_brokers_core.execution import journal
from mts1b_brokers_core.execution.gates import Gatekeeper
from mts1b_brokers_core.execution.journal import Journal
from mts1b_brokers_core.execution.ownership import Halt
from mts1b_brokers_core.execution.port import Ticket
from mts1b_brokers_core.foundation.errors import OrderDenied, StateError
from mts1b_brokers_core.foundation.market_data import Quote
from mts1b_brokers_core.foundation.orders import Leg, Order, OrderType, Side
from mts1b_brokers_core.foundation.settings import Gates
from mts1b_brokers_core.platform.clock import to_ns

ASKED: list[str] = []


def keeper(
    bid: str | None = "99", ask: str | None = "101", halt: Halt | None = None, **gates: Any
) -> Gatekeeper:
    async def quote(symbol: str) -> Quote:
        ASKED.append(symbol)
        return Quote(symbol=symbol, bid=bid, ask=ask, at=Venue.opened)

    ASKED.clear()
    return Gatekeeper(Gates(**gates), halt or Halt(None), quote)


def order(side: Side = Side.BUY, quantity: str = "1", price: str | None = "100", **more: Any) -> Order:
    if price is None:
        return Order.market("BTC-USD", side, quantity, **more)
    return Order.limit("BTC-USD", side, quantity, price=price, **more)


def stop(side: Side, price: str, quantity: str = "1") -> Order:
    return Order(symbol="BTC-USD", side=side, quantity=quantity, order_type=OrderType.STOP, stop_price=price)


def amount(side: Side, value: str) -> Order:
    return Order.market("BTC-USD", side, quote_quantity=value)


def spread(*symbols: str, price: str = "5", quantity: str = "2") -> Order:
    legs = tuple(Leg(symbol=symbol, side=Side.BUY) for symbol in symbols)
    return Order(legs=legs, quantity=quantity, order_type=OrderType.LIMIT, limit_price=price)


async def refusal(gates: Gatekeeper, asked: Order, instrument: Any = None) -> OrderDenied:
    with pytest.raises(OrderDenied) as caught:
        await gates.check(asked, instrument)
    assert caught.value.order is asked
    return caught.value


async def test_without_gates_nothing_is_asked() -> None:
    await keeper().check(order(price=None), BTC)
    await keeper().check(spread("AAPL", "MSFT"), None)
    assert ASKED == []


async def test_each_refusal_says_gate_reason_and_cure() -> None:
    denial = await refusal(keeper(read_only=True), order())
    assert (denial.reason, denial.message) == (
        "read_only",
        "gate read_only: this broker is opened read-only.",
    )
    assert denial.next_step == "change the order, or the setting gates.read_only"
    denial = await refusal(keeper(symbols=("ETH-USD", "SOL-USD")), order())
    assert denial.message == "gate symbols: BTC-USD is not among ETH-USD, SOL-USD."
    denial = await refusal(keeper(max_order_quantity="0.5"), order(quantity="0.50001"))
    assert denial.message == "gate max_order_quantity: 0.50001 is above 0.5."
    denial = await refusal(keeper(max_order_value="100"), order(price="100.01"))
    assert denial.message == "gate max_order_value: the value 100.01 is above 100."
    denial = await refusal(keeper(price_collar="0.05"), order(price="106.06"))
    assert denial.message == "gate price_collar: 106.06 is more than 5.00 % beyond 101."
    denial = await refusal(keeper(max_order_quantity="0.5"), amount(Side.BUY, "51"))
    assert denial.message == "gate max_order_quantity: 51 buys more than 0.5."


async def test_every_leg_must_be_among_the_symbols() -> None:
    allowed = keeper(symbols=("AAPL", "MSFT"))
    await allowed.check(spread("AAPL", "MSFT"), None)
    denial = await refusal(allowed, spread("AAPL", "TSLA"))
    assert denial.message == "gate symbols: TSLA is not among AAPL, MSFT."


@pytest.mark.parametrize("gates", [{"max_order_value": "1000"}, {"price_collar": "0.05"}])
async def test_legs_have_no_quote_to_be_measured_by(gates: dict[str, Any]) -> None:
    denial = await refusal(keeper(**gates), spread("AAPL", "MSFT"))
    assert (denial.reason, ASKED) == ("no_quote", [])
    bare = Gatekeeper(Gates(price_collar="0.05"), Halt(None), None)
    assert (await refusal(bare, order())).reason == "no_quote"


async def test_a_quote_that_fails_denies_with_its_cause() -> None:
    async def fails(symbol: str) -> Quote:
        raise TimeoutError("no quote came")

    denial = await refusal(Gatekeeper(Gates(price_collar="0.05"), Halt(None), fails), order())
    assert denial.message == "gate no_quote: a limit needs a quote: no quote came"
    assert isinstance(denial.__cause__, TimeoutError)


@pytest.mark.parametrize(
    ("asked", "passes", "denied", "quotes"),
    [
        (order(), "100", "99.99", 0),
        (order(Side.SELL), "100", "99.99", 1),
        (order(Side.SELL, price="90"), "99", "98.99", 1),  # trades at the bid
        (order(price=None), "101", "100.99", 1),
        (order(Side.SELL, price=None), "99", "98.99", 1),
        (stop(Side.BUY, "120", "2"), "240", "239.99", 1),
        (stop(Side.SELL, "90", "2"), "198", "197.99", 1),
        (amount(Side.BUY, "50"), "50", "49.99", 1),
        (amount(Side.SELL, "50"), "50", "49.99", 1),
    ],
    ids=str,
)
async def test_an_order_is_valued_at_the_price_it_may_trade_at(
    asked: Order, passes: str, denied: str, quotes: int
) -> None:
    await keeper(max_order_value=passes).check(asked, BTC)
    assert len(ASKED) == quotes
    assert (await refusal(keeper(max_order_value=denied), asked, BTC)).reason == "max_order_value"


async def test_a_contracts_multiplier_counts() -> None:
    contract = BTC.model_copy(update={"multiplier": Decimal(50)})
    await keeper(max_order_value="5000").check(order(), contract)
    assert (await refusal(keeper(max_order_value="4999"), order(), contract)).reason == "max_order_value"
    await keeper(max_order_value="100").check(order(), None)


async def test_what_has_no_price_cannot_be_valued() -> None:
    denial = await refusal(keeper(ask=None, max_order_value="1"), order(price=None))
    assert denial.message == "gate max_order_value: there is no price to value the order at."
    await keeper(bid=None, max_order_value="100").check(order(Side.SELL), BTC)  # its own limit is one


@pytest.mark.parametrize(
    ("side", "passes", "denied"), [(Side.BUY, "50.5", "50.51"), (Side.SELL, "49.5", "49.51")]
)
async def test_an_amount_is_measured_in_units_at_the_quote(side: Side, passes: str, denied: str) -> None:
    gates = keeper(max_order_quantity="0.5")
    await gates.check(amount(side, passes), BTC)
    assert (await refusal(gates, amount(side, denied), BTC)).reason == "max_order_quantity"
    await gates.check(order(quantity="0.5"), BTC)
    assert len(ASKED) == 2  # units need none


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        (order(price="106.05"), True),
        (order(price="106.06"), False),
        (order(price="1"), True),
        (order(Side.SELL, price="94.05"), True),
        (order(Side.SELL, price="94.04"), False),
        (order(Side.SELL, price="1000"), True),
        (stop(Side.BUY, "106.05"), True),
        (stop(Side.BUY, "106.06"), False),
        (stop(Side.SELL, "94.04"), False),
        (order(price=None), True),
    ],
    ids=str,
)
async def test_the_collar_ends_at_its_last_digit(asked: Order, fits: bool) -> None:
    gates = keeper(price_collar="0.05")
    if fits:
        await gates.check(asked, BTC)
    else:
        assert (await refusal(gates, asked, BTC)).reason == "price_collar"


async def test_the_collar_needs_the_side_it_compares_with() -> None:
    denial = await refusal(keeper(ask=None, price_collar="0.05"), order())
    assert denial.message == "gate price_collar: there is no quote to compare the price with."
    await keeper(bid=None, price_collar="0.05").check(order(), BTC)
    assert (await refusal(keeper(bid=None, price_collar="0.05"), order(Side.SELL))).reason == "price_collar"


def test_a_halt_says_why_and_how_to_go_on(tmp_path: Path) -> None:
    halt = Halt(tmp_path / "deep" / "journal.db")
    gates = keeper(halt=halt)
    gates.check_halt(order())
    halt.set("disk is failing")
    assert gates.halted == "disk is failing"
    with pytest.raises(OrderDenied, match="trading is halted: disk is failing") as caught:
        gates.check_halt(order().evolve(broker="fund-a"))
    assert caught.value.reason == "halted"
    assert caught.value.next_step == "`mts mts1b-brokers resume fund-a` once it is safe"
    with pytest.raises(OrderDenied, match="halted") as caught:
        gates.check_halt(order())
    assert "resume NAME" in str(caught.value.next_step)


async def test_a_halt_comes_before_every_other_gate() -> None:
    halt = Halt(None)
    halt.set("enough")
    assert (await refusal(keeper(halt=halt, read_only=True), order())).reason == "halted"


def test_an_outcome_that_was_not_written_stops_the_next_order() -> None:
    Gatekeeper.check_journal(None, order())
    with pytest.raises(OrderDenied, match="could not be journalled: full") as caught:
        Gatekeeper.check_journal(StateError("full", next_step="make room"), order())
    assert (caught.value.reason, caught.value.next_step) == ("journal", "make room")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    store = Journal(None).store
    store.open()
    yield store.run_now(lambda connection: connection)
    store.close()


def test_the_rate_is_that_of_the_last_minute(connection: sqlite3.Connection) -> None:
    gates, now = keeper(max_orders_per_minute=2), to_ns(Venue.opened)
    for second in (0, 40):
        at = Venue.opened + timedelta(seconds=second)
        gates.check_rate(connection, to_ns(at), buy())
        journal.add_attempt(connection, f"k{second}", Ticket(buy(), "A1", None, 1, at), "new", "me", "{}")
    for second, wait in ((41, 19), (59, 1)):
        with pytest.raises(OrderDenied, match="2 orders in the last minute is the limit set") as caught:
            gates.check_rate(connection, now + second * 1_000_000_000, buy())
        assert caught.value.reason == "max_orders_per_minute"
        assert caught.value.next_step == f"wait {wait} seconds, or raise the limit"
    gates.check_rate(connection, now + 60_000_000_000, buy())
    with pytest.raises(OrderDenied):
        gates.check_rate(connection, now + 59_999_999_999, buy())
    keeper().check_rate(connection, now, buy())


# --- the halt flag -------------------------------------------------------------------------------


def test_a_flag_without_words_halts_all_the_same(tmp_path: Path) -> None:
    halt, another = Halt(tmp_path / "journal.db"), Halt(tmp_path / "journal.db")
    assert halt.reason() is None
    halt.set(" \n")
    assert another.reason() == "no reason given"
    assert (tmp_path / "journal.db.halt").stat().st_mode & 0o777 == 0o600
    another.clear()
    assert halt.reason() is None
    halt.clear()
    (tmp_path / "journal.db.halt").mkdir()
    assert halt.reason() == "the halt flag can't be read"


def test_a_flag_in_memory_is_this_brokers_alone() -> None:
    halt = Halt(None)
    halt.set("enough")
    assert (halt.reason(), Halt(None).reason()) == ("enough", None)
    halt.clear()
    assert halt.reason() is None
