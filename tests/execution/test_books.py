"""One commit's worth of what the venue reports: what it leaves in the log, the orders and the result."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from scripted import PROFILE, Venue, buy

from mts1b_brokers_core.execution import journal, parking
from mts1b_brokers_core.execution.books import Books, Ingested, Rules
from mts1b_brokers_core.execution.eventlog import Appender
from mts1b_brokers_core.execution.journal import Journal, Name, Record, State
from mts1b_brokers_core.execution.logrows import MemoryRows
from mts1b_brokers_core.execution.port import (
    Execution,
    FeeAmendment,
    OrderRef,
    OrderView,
    Terms,
    Ticket,
    VenueProfile,
)
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import (
    FeeStatus,
    Fill,
    FillKind,
    Liquidity,
    Order,
    OrderChanges,
    OrderStatus,
    Side,
)
from mts1b_brokers_core.platform.clock import to_ns

NOW = Venue.opened + timedelta(hours=1)
CUMULATIVE = replace(PROFILE, fill_identity="cumulative")
BY_ORDER = replace(PROFILE, fee_timing="order_level")
TERMS = Terms(symbol="BTC-USD", side=Side.BUY, quantity=Decimal(10), limit_price=Decimal(100))
TEN = buy("10", idempotency_key="k1", order_id="mine", status=OrderStatus.NEW).evolve(
    broker_order_id="V1", broker_order_ids=("V1",), account_id="A1", broker="fund-a"
)


def usd(amount: str) -> tuple[Money, ...]:
    return (Money(amount=amount, currency="USD"),)


def trade(name: str, quantity: str = "1", price: str = "100", by: str = "V1", **more: Any) -> Execution:
    seen = Execution(
        name, OrderRef(by), "BTC-USD", Side.BUY, Decimal(quantity), Decimal(price), Venue.opened,
        fees=usd("0.1"), source="push",
    )  # fmt: skip
    return replace(seen, **more)


def view(status: OrderStatus = OrderStatus.NEW, by: str | None = "V1", **more: Any) -> OrderView:
    for name in ("cumulative_quantity", "average_price"):
        if name in more:
            more[name] = Decimal(more[name])
    return OrderView(OrderRef(by), status, **{"terms": TERMS, **more})


class Desk:
    """A journal in memory with one order, and its log."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.rows = MemoryRows()
        self.profile: VenueProfile = PROFILE
        self.exceeding: set[str] = set()
        self.log: Appender
        self.events: list[BrokerEvent] = []

    def place(self, order: Order = TEN, state: State = State.CONFIRMED) -> None:
        key = order.idempotency_key
        row = Record(key, "m", "A1", State.SENDING, order.evolve(broker_order_ids=(), broker_order_id=None))
        assert journal.claim(self.connection, row, Ticket(row.order, "A1", f"t-{key}", 1, Venue.opened), "me")
        refused: dict[str, Any] = {"reason": "odd", "words": "no"} if state is State.REJECTED else {}
        journal.put(self.connection, row, replace(row, state=state, order=order, **refused), 1)

    def see(
        self, *items: Execution | OrderView | FeeAmendment, release: bool = False, **more: Any
    ) -> Ingested:
        """Take in what is seen in one commit."""
        self.log = Appender(self.connection, self.rows, "fund-a", to_ns(NOW))
        rules = Rules("A1", self.profile, timedelta(seconds=30), self.exceeding)
        books = Books(self.log, rules, release=release)
        for item in items:
            if isinstance(item, Execution):
                books.execution(item, **more)
            elif isinstance(item, OrderView):
                books.view(item)
            else:
                books.amend(item)
        result = books.close()
        self.rows.commit()
        self.events = [entry for entry in self.log.entries if isinstance(entry, BrokerEvent)]
        return result

    @property
    def order(self) -> Order:
        return self.record.order

    @property
    def record(self) -> Record:
        found = journal.get(self.connection, "k1")
        assert found is not None
        return found

    def fills(self, by: str = "V1") -> list[Fill]:
        return self.rows.fills_at("A1", by)

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]


@pytest.fixture
def empty() -> Iterator[Desk]:
    store = Journal(None).store
    store.open()
    yield Desk(store.run_now(lambda connection: connection))
    store.close()


@pytest.fixture
def desk(empty: Desk) -> Desk:
    empty.place()
    return empty


def amounts(fills: Sequence[Fill]) -> list[tuple[str, Decimal, Decimal]]:
    return [(fill.fill_id, fill.quantity, fill.price) for fill in fills]


# --- executions ----------------------------------------------------------------------------------


def test_executions_are_logged_once_and_counted_once(desk: Desk) -> None:
    result = desk.see(trade("E1", "2"), trade("E2", "3", "110"), trade("E1", "2"))
    assert result.fills == [Venue.opened] * 2
    assert [desk.order.filled_quantity, desk.order.average_price, desk.order.fees] == [5, 106, usd("0.2")]
    assert result.orders == {"k1": desk.order}
    assert (result.lacking, result.held, result.past, result.reread) == ({}, {}, set(), [])
    assert [fill.order_id for fill in desk.fills()] == ["mine", "mine"]
    assert desk.see(trade("E2", "3", "110")) == Ingested()
    assert desk.kinds() == []


def test_each_change_of_status_is_told_and_what_lies_between_is_not(desk: Desk) -> None:
    desk.see(trade("E1", "1"), trade("E2", "1"), trade("E3", "7"), trade("E4", "1"))
    assert [(event.kind, event.message) for event in desk.events] == [
        (EventKind.STATUS, "partially_filled"), (EventKind.STATUS, "filled"), (EventKind.SETTLED, ""),
    ]  # fmt: skip
    kinds = ["fill" if isinstance(entry, Fill) else entry.kind for entry in desk.log.entries]
    assert kinds == ["fill", "status", "fill", "fill", "fill", "status", "settled"]
    assert desk.order.settled


def test_an_execution_of_another_account_is_that_ones(desk: Desk) -> None:
    desk.see(trade("E1", account_id="A2"))
    assert desk.order.filled_quantity == 0
    (fill,) = desk.rows.fills_at("A2", "V1")
    assert (fill.account_id, fill.order_id) == ("A2", "V1")
    assert len(desk.see(trade("E1")).fills) == 1


def test_a_cumulative_venues_executions_are_only_a_reason_to_read(desk: Desk) -> None:
    desk.profile = CUMULATIVE
    result = desk.see(trade("E1"))
    assert (result.reread, result.fills, desk.fills()) == ([OrderRef("V1")], [], [])
    assert len(desk.see(trade("V1:0-1", derived=True)).fills) == 1


def test_a_known_execution_brings_only_the_fee_it_lacked(desk: Desk) -> None:
    desk.profile = replace(PROFILE, fee_timing="seconds")
    desk.see(trade("E1", fees=None))
    assert desk.order.fees is None
    desk.see(trade("E1", fees=usd("0.2"), fee_status=FeeStatus.FINAL))
    assert [desk.order.fees, desk.fills()[0].fee_status] == [usd("0.2"), FeeStatus.FINAL]
    (event,) = desk.events
    assert (event.kind, event.message, event.order_id) == (EventKind.FEE_AMENDED, "0.2 USD", "mine")
    assert event.detail == {"fill_id": "E1", "seq": "1", "status": "final"}
    desk.see(trade("E1", fees=usd("0.9"), fee_status=FeeStatus.FINAL))
    assert desk.order.fees == usd("0.2")


def test_an_order_of_which_nothing_was_known_is_confirmed_by_a_fill(empty: Desk) -> None:
    empty.place(
        TEN.evolve(status=OrderStatus.UNKNOWN, broker_order_id=None, broker_order_ids=()), State.UNKNOWN
    )
    empty.see(trade("E1", ref=OrderRef("V1", "t-k1")))
    assert (empty.record.state, empty.order.broker_order_id) == (State.CONFIRMED, "V1")
    assert empty.fills()[0].order_id == "mine"


@pytest.mark.parametrize("state", [State.NOT_PLACED, State.REJECTED])
def test_what_was_taken_for_absent_or_refused_is_late(empty: Desk, state: State) -> None:
    status = OrderStatus.REJECTED if state is State.REJECTED else None
    gone = TEN.evolve(status=status, reason="odd", raw_status="NO", broker_order_id=None, broker_order_ids=())
    empty.place(gone, state)
    empty.see(trade("E1", ref=OrderRef("V1", "t-k1")))
    assert (empty.record.state, empty.order.status) == (State.CONFIRMED, OrderStatus.PARTIALLY_FILLED)
    assert [empty.record.reason, empty.record.words, empty.order.filled_quantity] == [None, None, 1]
    assert empty.order.raw_status is None
    late = empty.events[0]
    assert (late.kind, late.order_id) == (EventKind.LATE, "mine")
    assert late.message == "an order that was taken for absent or refused is at the venue"


def test_an_execution_that_may_be_an_unknown_orders_is_parked(empty: Desk) -> None:
    empty.place(
        TEN.evolve(status=OrderStatus.UNKNOWN, broker_order_id=None, broker_order_ids=()), State.UNKNOWN
    )
    seen = trade("E1", by="V7")
    assert len(empty.see(seen).fills) == 0
    assert parking.parked(empty.connection) == [(seen, to_ns(NOW + timedelta(seconds=30)))]
    assert len(empty.see(seen, parked=True).fills) == 1
    assert [fill.order_id for fill in empty.fills("V7")] == ["V7"]


def test_more_than_was_ordered_is_held_where_ids_are_our_own(desk: Desk) -> None:
    desk.profile = replace(PROFILE, fill_identity="content")
    desk.see(trade("E1", "4"), trade("E2", "6.5"))
    (event,) = [event for event in desk.events if event.kind is EventKind.SUM_EXCEEDED]
    assert event.message == "6.5 more would be above the 10 ordered; E2 is held"
    assert (event.order_id, desk.exceeding) == ("mine", {"E2"})
    assert len(desk.see(trade("E2", "6.5")).fills) == 0
    assert desk.kinds() == []
    assert len(desk.see(trade("E3", "6")).fills) == 1
    assert desk.order.filled_quantity == 10
    desk.profile = PROFILE
    assert len(desk.see(trade("E4", "1")).fills) == 1  # the venue's own id is its word


def test_a_second_venue_order_under_one_key_is_told(desk: Desk) -> None:
    desk.see(trade("E1", ref=OrderRef("V2", "t-k1")))
    assert (desk.record.state, desk.order.broker_order_ids) == (State.DUPLICATE, ("V1", "V2"))
    assert desk.order.broker_order_id == "V1"
    (event,) = [event for event in desk.events if event.kind is EventKind.DUPLICATE]
    assert event.message == "V2 beside V1, under one key"


# --- busts and corrections -----------------------------------------------------------------------


def test_a_bust_has_all_of_what_it_takes_back(desk: Desk) -> None:
    fields: dict[str, Any] = {"leg": 1, "liquidity": Liquidity.TAKER, "fee_status": FeeStatus.FINAL}
    desk.see(trade("E1", "2", "101", **fields))
    told = trade(
        "B1", "-9", "7", kind=FillKind.BUST, corrects="E1", fees=None, symbol="X", side=Side.SELL,
        executed_at=Venue.opened + timedelta(seconds=5), source="sweep",
    )  # fmt: skip
    result = desk.see(told)
    assert (result.reread, result.past) == ([OrderRef("V1")], {"k1"})
    assert result.fills == [told.executed_at]
    back = desk.fills()[1]
    assert (back.fill_id, back.kind, back.corrects) == ("B1", FillKind.BUST, "E1")
    assert [back.quantity, back.price, back.symbol, back.side] == [-2, 101, "BTC-USD", Side.BUY]
    assert (back.leg, back.fee_status, back.fees) == (1, FeeStatus.FINAL, usd("-0.1"))
    assert (back.executed_at, back.source, back.order_id) == (told.executed_at, "sweep", "mine")
    assert [desk.order.filled_quantity, desk.order.fees] == [0, usd("0.0")]
    assert len(desk.see(told).fills) == 0


def test_a_busts_own_fees_count_before_the_opposite_of_the_trades(desk: Desk) -> None:
    desk.see(trade("E1"), trade("B1", "-1", kind=FillKind.BUST, corrects="E1", fees=usd("-0.07")))
    assert [fill.fees for fill in desk.fills()] == [usd("0.1"), usd("-0.07")]


def test_a_correction_takes_back_at_the_time_and_from_the_source_of_the_first(desk: Desk) -> None:
    desk.see(trade("E1", "2", "101", executed_at=Venue.opened + timedelta(seconds=3)))
    desk.see(trade("E2", "2", "99", corrects="E1"))
    _, back, right = desk.fills()
    assert amounts([back, right]) == [("E1:bust", Decimal(-2), Decimal(101)), ("E2", Decimal(2), Decimal(99))]
    assert (back.executed_at, back.source, back.derived) == (
        Venue.opened + timedelta(seconds=3),
        "push",
        True,
    )
    assert (back.corrects, right.corrects, right.derived) == ("E1", "E1", False)
    assert [desk.order.filled_quantity, desk.order.average_price] == [2, 99]


def test_a_bust_of_what_was_never_logged_lowers_only_the_venues_count(desk: Desk) -> None:
    desk.see(trade("E1", "1"), view(OrderStatus.PARTIALLY_FILLED, cumulative_quantity="4"))
    assert desk.order.filled_quantity == 4
    bust = trade("B1", "-2", kind=FillKind.BUST, corrects="E9")
    result = desk.see(bust)
    assert (desk.order.filled_quantity, result.past, result.fills) == (Decimal(2), {"k1"}, [])
    desk.see(replace(bust, corrects="E8", quantity=Decimal(-9)))
    assert desk.order.filled_quantity == 1  # never below what is logged
    assert len(desk.see(trade("E9", "2")).fills) == 0
    assert desk.see(replace(bust, corrects="E7", ref=OrderRef("X1"))).past == set()


def test_a_bust_of_what_was_never_logged_settles_nothing(desk: Desk) -> None:
    desk.see(view(OrderStatus.CANCELED, cumulative_quantity="2"), release=True)
    desk.see(trade("B1", "-2", kind=FillKind.BUST, corrects="E9"))
    assert [desk.order.filled_quantity, desk.order.settled] == [0, False]
    desk.see(view(OrderStatus.CANCELED, cumulative_quantity="0"))
    assert desk.order.settled


# --- views ---------------------------------------------------------------------------------------


def test_an_end_waits_for_its_fills_unless_it_is_released(desk: Desk) -> None:
    ended = view(OrderStatus.CANCELED, cumulative_quantity="2", raw_status="GONE")
    result = desk.see(ended)
    assert result.held == {"k1": ended}
    assert result.lacking == {"k1": OrderRef("V1")}
    assert [desk.order.status, desk.order.raw_status] == [OrderStatus.PARTIALLY_FILLED, None]
    result = desk.see(ended, release=True)
    assert (desk.order.status, desk.order.fills_pending, desk.order.raw_status) == ("canceled", True, "GONE")
    assert (result.held, result.past) == ({}, set())
    result = desk.see(trade("E1", "2"), ended)
    assert (desk.order.settled, desk.order.fills_pending) == (True, False)
    assert (result.past, result.lacking) == ({"k1"}, {})


def test_somebody_elses_view_changes_nothing(desk: Desk) -> None:
    assert desk.see(view(by="X1"), view(account_id="A2")) == Ingested()
    assert desk.events == []


def test_a_view_brings_an_open_question_its_answer(empty: Desk) -> None:
    bare = TEN.evolve(status=OrderStatus.UNKNOWN, broker_order_id=None, broker_order_ids=())
    empty.place(bare, State.UNKNOWN)
    named = OrderRef("V1", "t-k1")
    empty.see(replace(view(OrderStatus.PENDING_NEW, decided=False), ref=named))
    assert (empty.record.state, empty.order.broker_order_id) == (State.UNKNOWN, "V1")
    empty.see(replace(view(), ref=named))
    assert (empty.record.state, empty.order.status) == (State.CONFIRMED, OrderStatus.NEW)


def test_a_rejection_seen_is_one(empty: Desk) -> None:
    bare = TEN.evolve(status=OrderStatus.UNKNOWN, broker_order_id=None, broker_order_ids=())
    empty.place(bare, State.UNKNOWN)
    refused = replace(view(OrderStatus.REJECTED), ref=OrderRef("V1", "t-k1"))
    empty.see(refused)
    assert (empty.record.state, empty.order.status) == (State.REJECTED, OrderStatus.REJECTED)
    assert empty.see(refused).orders == {}
    empty.see(replace(refused, status=OrderStatus.NEW))
    assert (empty.record.state, empty.order.status) == (State.CONFIRMED, OrderStatus.NEW)
    (late,) = [event for event in empty.events if event.kind is EventKind.LATE]
    assert late.order_id == "mine"


def test_what_an_earlier_id_filled_counts_beside_the_current_one(desk: Desk) -> None:
    desk.profile = replace(PROFILE, replace="new_id")
    desk.see(trade("E1", "2"), view(OrderStatus.CANCELED, replaced_by="V2"))
    assert (desk.order.broker_order_id, desk.order.broker_order_ids) == ("V2", ("V1", "V2"))
    desk.see(view(OrderStatus.PARTIALLY_FILLED, by="V2", cumulative_quantity="3", average_price="99"))
    assert [desk.order.filled_quantity, desk.order.average_price] == [5, 100]  # the average is V2's alone
    result = desk.see(trade("E2", "3", "99", by="V2"))
    assert (desk.order.filled_quantity, result.lacking) == (Decimal(5), {})
    desk.see(view(OrderStatus.PARTIALLY_FILLED, by="V2", cumulative_quantity="4"))
    assert desk.order.filled_quantity == 6


def test_a_new_id_while_a_change_is_open_is_the_changed_orders(desk: Desk) -> None:
    sent = Ticket(TEN, "A1", "c1", 2, Venue.opened, changes=OrderChanges(limit_price=Decimal(99)))
    journal.add_attempt(desk.connection, "k1", sent, "replace:r1", "me", '{"limit_price":"99"}')
    assert journal.named(desk.connection, "A1", "c1", Name.CHANGE) is not None
    desk.see(replace(view(by="V2"), ref=OrderRef("V2", "c1")))
    assert (desk.record.state, desk.order.broker_order_id) == (State.CONFIRMED, "V2")
    assert EventKind.DUPLICATE not in desk.kinds()


def test_a_change_ends_the_id_left_behind_and_not_the_order(empty: Desk) -> None:
    for number, filled in ((1, Decimal(0)), (2, Decimal(3))):
        key = f"k{number}"
        order = TEN.evolve(
            idempotency_key=key, order_id=f"mine{number}", status=OrderStatus.CANCELED,
            filled_quantity=filled, broker_order_id=f"V{number}", broker_order_ids=(f"V{number}",),
            raw_status="GONE",
        )  # fmt: skip
        empty.place(order)
        sent = Ticket(
            order, "A1", f"c{number}", 2, Venue.opened, changes=OrderChanges(limit_price=Decimal(99))
        )
        journal.add_attempt(empty.connection, key, sent, "replace:r1", "me", '{"limit_price":"99"}')
        empty.see(replace(view(), ref=OrderRef(f"N{number}", f"c{number}")))
        found = journal.get(empty.connection, key)
        assert found is not None
        assert found.order.broker_order_id == f"N{number}"
        assert found.order.status is (OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW)


def test_children_that_a_view_names_are_bound(empty: Desk) -> None:
    tree = Order.bracket("BTC-USD", Side.BUY, "10", price="100", take_profit="110", stop_loss="90")
    bracket = TEN.evolve(attached=tree.attached)
    empty.place(bracket)
    empty.see(view(children=("V2", "V3")))
    for child, name in zip(bracket.attached, ("V2", "V3"), strict=True):
        found = journal.get(empty.connection, child.idempotency_key)
        assert found is not None
        assert found.order.broker_order_id == name


# --- counts that fills are cut from --------------------------------------------------------------


def counted(count: str, average: str | None, second: int = 0, **more: Any) -> OrderView:
    price = {} if average is None else {"average_price": average}
    at = Venue.opened + timedelta(seconds=second)
    return view(OrderStatus.PARTIALLY_FILLED, cumulative_quantity=count, updated=at, **price, **more)


def test_a_cut_has_what_the_view_says_of_it(desk: Desk) -> None:
    desk.profile = CUMULATIVE
    desk.see(
        counted("2", "100", cumulative_fees=usd("0.2")), counted("5", "106", 7, cumulative_fees=usd("0.3"))
    )
    first, second = desk.fills()
    assert amounts([first, second]) == [
        ("V1:0-2", Decimal(2), Decimal(100)), ("V1:2-5", Decimal(3), Decimal(110)),
    ]  # fmt: skip
    assert [first.fees, second.fees] == [usd("0.2"), usd("0.1")]
    assert (first.fee_status, first.kind) == (FeeStatus.FINAL, FillKind.TRADE)
    assert (second.executed_at, second.source, second.derived) == (
        Venue.opened + timedelta(seconds=7), "order", True,
    )  # fmt: skip
    assert (second.symbol, second.side, second.order_id, second.account_id) == (
        "BTC-USD", Side.BUY, "mine", "A1",
    )  # fmt: skip
    assert desk.order.filled_quantity == 5


def test_a_cut_of_which_no_time_is_known_is_of_now_and_without_fees_its_are_pending(desk: Desk) -> None:
    desk.profile = CUMULATIVE
    desk.see(view(OrderStatus.PARTIALLY_FILLED, cumulative_quantity="2", average_price="100"))
    (fill,) = desk.fills()
    assert (fill.executed_at, fill.fees, fill.fee_status) == (NOW, None, FeeStatus.PENDING)
    desk.profile = replace(CUMULATIVE, fee_timing="seconds")
    desk.see(view(OrderStatus.NEW, cumulative_quantity="3", average_price="100", cumulative_fees=usd("0")))
    assert desk.fills()[1].fees is None  # nothing is not known yet, and not zero
    desk.see(view(OrderStatus.NEW, cumulative_quantity="4", average_price="100", cumulative_fees=usd("0.4")))
    assert desk.fills()[2].fees == usd("0.4")


@pytest.mark.parametrize(
    ("second", "cut"),
    [
        (counted("2", None, 9), False),
        (counted("2", "100", 5), False),
        (counted("1", "100", 5), False),  # fell, but no later
        (counted("1", "100", 9), True),
        (counted("3", "100", 4), False),  # older than what was seen
        (counted("3", "100", 5), True),
    ],
)
def test_what_is_older_or_lacks_its_price_cuts_nothing(desk: Desk, second: OrderView, cut: bool) -> None:
    desk.profile = CUMULATIVE
    desk.see(counted("2", "100", 5))
    desk.see(second)
    assert len(desk.fills()) == 1 + cut


def test_a_count_that_fell_is_a_bust_and_its_bounds_may_come_again(desk: Desk) -> None:
    desk.profile = CUMULATIVE
    for second, count in enumerate(("2", "0", "2", "0", "2")):
        desk.see(counted(count, "100" if count != "0" else None, second))
    assert [fill.fill_id for fill in desk.fills()] == ["V1:0-2", "V1:2-0", "V1:0-2#2", "V1:2-0#2", "V1:0-2#3"]
    kinds = [fill.kind for fill in desk.fills()]
    assert kinds == [FillKind.TRADE, FillKind.BUST, FillKind.TRADE, FillKind.BUST, FillKind.TRADE]
    assert desk.order.filled_quantity == 2


def test_a_rounded_average_leaves_no_senseless_price(desk: Desk) -> None:
    desk.profile = CUMULATIVE
    desk.see(counted("9", "100", 1), counted("9.001", "99", 2))
    assert [fill.price for fill in desk.fills()] == [100, 99]


def test_somebody_elses_count_is_cut_where_it_says_what_it_is_of(desk: Desk) -> None:
    desk.profile = CUMULATIVE
    theirs = counted("2", "100", by="X1")
    for lacking in ({"symbol": None}, {"side": None}):
        desk.see(replace(theirs, terms=replace(TERMS, **lacking)))
    assert desk.fills("X1") == []
    desk.see(theirs, counted("3", "110", 5, by="X1"), counted("9", "100", 2, by="X1"))
    assert amounts(desk.fills("X1")) == [
        ("X1:0-2", Decimal(2), Decimal(100)), ("X1:2-3", Decimal(1), Decimal(130)),
    ]  # fmt: skip
    assert {(fill.order_id, fill.side, fill.fees) for fill in desk.fills("X1")} == {("X1", Side.BUY, None)}


def test_a_young_count_that_may_be_ours_is_cut_later(empty: Desk) -> None:
    empty.profile = CUMULATIVE
    empty.place(
        TEN.evolve(status=OrderStatus.UNKNOWN, broker_order_id=None, broker_order_ids=()), State.UNKNOWN
    )
    young = view(by="V7", cumulative_quantity="1", average_price="100", created=NOW - timedelta(seconds=29))
    empty.see(young)
    assert empty.fills("V7") == []
    empty.see(replace(young, created=NOW - timedelta(seconds=30)))
    assert len(empty.fills("V7")) == 1


# --- fees ----------------------------------------------------------------------------------------


def test_a_fee_is_amended_once_and_follows_to_the_bust(desk: Desk) -> None:
    desk.profile = replace(PROFILE, fee_timing="seconds")
    early = FeeAmendment("E1", usd("0.2"), FeeStatus.ESTIMATED)
    desk.see(early)
    assert desk.events == []
    desk.see(trade("E1", fees=None))
    assert (desk.order.fees, desk.fills()[0].fee_status) == (usd("0.2"), FeeStatus.ESTIMATED)
    desk.see(replace(early, fee_status=FeeStatus.FINAL))
    assert [event.detail["status"] for event in desk.events] == ["final"]
    assert desk.see(replace(early, fee_status=FeeStatus.FINAL)).orders == {}
    assert desk.events == []
    desk.see(trade("B1", "-1", kind=FillKind.BUST, corrects="E1", fees=None))
    desk.see(FeeAmendment("E1", usd("0.3"), FeeStatus.FINAL, "A1"))
    assert [(fill.fees, fill.fee_status) for fill in desk.fills()] == [
        (usd("0.3"), FeeStatus.FINAL), (usd("-0.3"), FeeStatus.FINAL),
    ]  # fmt: skip
    assert desk.order.fees == usd("0.0")
    assert [event.detail["fill_id"] for event in desk.events] == ["E1", "B1"]


def test_an_orders_fee_is_shared_among_its_fills_and_an_older_one_takes_nothing_back(desk: Desk) -> None:
    desk.profile = BY_ORDER
    desk.see(trade("E1", "1", fees=None), trade("E2", "3", fees=None))
    result = desk.see(counted("4", "100", 1, cumulative_fees=usd("0.4")))
    assert [(fill.fees, fill.fee_status) for fill in desk.fills()] == [
        (usd("0.1"), FeeStatus.ALLOCATED), (usd("0.3"), FeeStatus.ALLOCATED),
    ]  # fmt: skip
    assert result.fills == []
    desk.see(counted("4", "100", 3, cumulative_fees=usd("0.5")))
    assert [fill.fees for fill in desk.fills()] == [usd("0.1"), usd("0.4")]
    desk.see(counted("4", "100", 3, cumulative_fees=usd("0.2")))
    assert desk.order.fees == usd("0.5")
    desk.see(counted("4", "100", 4, cumulative_fees=usd("0.2")))
    assert desk.order.fees == usd("0.2")
    desk.see(counted("4", "100", 5, cumulative_fees=usd("0.2")))
    assert desk.events == []


def test_where_only_views_tell_fees_one_is_read_before_an_order_settles(desk: Desk) -> None:
    desk.profile = BY_ORDER
    desk.see(trade("E1", "10", fees=None))
    assert (desk.order.status, desk.order.settled) == (OrderStatus.FILLED, False)
    desk.see(view(OrderStatus.FILLED, cumulative_quantity="10"))
    assert not desk.order.settled
    desk.see(view(OrderStatus.FILLED, cumulative_quantity="10", cumulative_fees=usd("0.4")))
    assert (desk.order.settled, desk.order.fees) == (True, usd("0.4"))


# --- what is less usual --------------------------------------------------------------------------


def test_a_view_by_token_alone_is_cut_and_paid_under_the_orders_id(desk: Desk) -> None:
    desk.profile = replace(CUMULATIVE, fee_timing="order_level")
    named: dict[str, Any] = {"ref": OrderRef(None, "t-k1"), "terms": Terms()}
    desk.see(replace(counted("2", "100", 1), **named))
    assert amounts(desk.fills()) == [("V1:0-2", Decimal(2), Decimal(100))]
    desk.see(replace(counted("2", "100", 2, cumulative_fees=usd("0.2")), **named))
    assert desk.fills()[0].fees == usd("0.2")
    nobody = replace(counted("2", "100", 3), ref=OrderRef(None, "t-nobody"))
    assert desk.see(nobody).fills == []


def test_a_cut_is_of_the_orders_own_symbol_and_side_where_a_view_shows_none(empty: Desk) -> None:
    empty.profile = CUMULATIVE
    empty.place(TEN.evolve(side=Side.SELL))
    empty.see(replace(counted("2", "100"), terms=Terms()))
    theirs = counted("2", "100", by="X1")
    empty.see(replace(theirs, terms=replace(TERMS, side=Side.SELL)))
    for name in ("V1", "X1"):
        (fill,) = empty.fills(name)
        assert (fill.symbol, fill.side) == ("BTC-USD", Side.SELL)


def test_part_of_a_unit_is_cut_as_well(desk: Desk) -> None:
    desk.profile = CUMULATIVE
    desk.see(counted("0.5", "100", 1), counted("0.75", "100", 1))
    assert [fill.quantity for fill in desk.fills()] == [Decimal("0.5"), Decimal("0.25")]


@pytest.mark.parametrize(
    ("first", "second", "price"),
    [
        (("9", "100"), ("10", "90"), "90"),  # its own would be nothing
        (("1", "0.5"), ("2", "0.75"), "1"),
        (("1", "-2"), ("2", "-3"), "-4"),
    ],
)
def test_a_cut_has_a_price_of_its_own_where_that_makes_sense(
    desk: Desk, first: tuple[str, str], second: tuple[str, str], price: str
) -> None:
    desk.profile = CUMULATIVE
    desk.see(counted(*first, 1), counted(*second, 2))
    assert desk.fills()[1].price == Decimal(price)


def test_no_fee_is_nothing_where_the_venue_tells_them_with_the_fill(desk: Desk) -> None:
    desk.profile = CUMULATIVE
    desk.see(counted("2", "100", cumulative_fees=usd("0")))
    assert desk.fills()[0].fees == usd("0")


def test_a_fee_that_came_before_its_cut_is_taken_out(desk: Desk) -> None:
    desk.profile = replace(CUMULATIVE, fee_timing="seconds")
    desk.see(FeeAmendment("V1:0-2", usd("0.3"), FeeStatus.FINAL))
    desk.see(counted("2", "100"))
    assert (desk.fills()[0].fees, desk.order.fees) == (usd("0.3"), usd("0.3"))


CHAIN = TEN.evolve(broker_order_id="V2", broker_order_ids=("V1", "V2"))


def test_each_id_of_a_chain_pays_for_itself(empty: Desk) -> None:
    empty.profile = CUMULATIVE
    empty.place(CHAIN)
    empty.see(counted("2", "100", 1, cumulative_fees=usd("0.2")))
    empty.see(counted("1", "100", 2, by="V2", cumulative_fees=usd("0.1")))
    empty.see(counted("2", "100", 3, by="V2", cumulative_fees=usd("0.15")))
    empty.see(counted("3", "100", 4, by="V2", cumulative_fees=usd("0.2")))
    assert [fill.fees for fill in empty.fills("V2")] == [usd("0.1"), usd("0.05"), usd("0.05")]
    assert [empty.order.filled_quantity, empty.order.fees] == [5, usd("0.4")]


def test_a_count_of_a_chains_id_from_before_its_bust_is_not_believed(empty: Desk) -> None:
    empty.profile = CUMULATIVE
    empty.place(CHAIN)
    empty.see(counted("3", "100", 1, by="V2"), counted("1", "100", 9, by="V2"))
    assert empty.order.filled_quantity == 1
    empty.see(counted("3", None, 8, by="V2"))
    assert empty.order.filled_quantity == 1
    empty.see(counted("3", None, 9, by="V2"))
    assert empty.order.filled_quantity == 3


def test_a_trade_alone_outdates_no_count_of_a_chains_id(empty: Desk) -> None:
    empty.profile = CUMULATIVE
    empty.place(CHAIN)
    empty.see(counted("1", "100", 9, by="V2"))
    empty.see(counted("3", None, 8, by="V2"))
    assert empty.order.filled_quantity == 3


def test_a_fee_in_a_second_currency_is_shared_though_the_first_stays(desk: Desk) -> None:
    desk.profile = BY_ORDER
    desk.see(trade("E1", "1", fees=None), counted("1", "100", 1, cumulative_fees=usd("0.4")))
    both = (*usd("0.4"), Money(amount="0.01", currency="BTC"))
    desk.see(counted("1", "100", 1, cumulative_fees=both))
    assert desk.order.fees == (Money(amount="0.01", currency="BTC"), *usd("0.4"))


def test_a_fee_of_what_was_taken_back_follows_to_its_own_opposite_alone(desk: Desk) -> None:
    desk.profile = replace(PROFILE, fee_timing="seconds")
    desk.see(
        trade("E1", fees=usd("0.2")), trade("E3", fees=usd("0.2")), trade("R1", fees=usd("-0.2")),
        trade("E2", corrects="E1", fees=usd("0.5")),
        trade("B3", "-1", kind=FillKind.BUST, corrects="E3", fees=usd("-0.2")),
    )  # fmt: skip
    both = (Money(amount="0.01", currency="BTC"), *usd("0.3"))
    desk.see(FeeAmendment("E1", both, FeeStatus.FINAL))
    fees = {fill.fill_id: fill.fees for fill in desk.fills()}
    assert fees == {
        "E1": both, "E3": usd("0.2"), "R1": usd("-0.2"), "E1:bust": tuple(-fee for fee in both),
        "E2": usd("0.5"), "B3": usd("-0.2"),
    }  # fmt: skip
    assert [event.message for event in desk.events] == ["0.01 BTC + 0.3 USD", "-0.01 BTC + -0.3 USD"]


def test_all_of_this_holds_for_a_row_of_another_account(desk: Desk) -> None:
    desk.profile = replace(PROFILE, fee_timing="seconds")
    seen = trade("E1", account_id="A2", fees=None)
    desk.see(seen)
    desk.see(replace(seen, fees=usd("0.2"), fee_status=FeeStatus.FINAL))
    desk.see(FeeAmendment("B1", usd("-0.3"), FeeStatus.FINAL, "A2"))  # before its bust
    desk.see(trade("B1", "-1", kind=FillKind.BUST, corrects="E1", account_id="A2", fees=None))
    assert [fill.fees for fill in desk.rows.fills_at("A2", "V1")] == [usd("0.2"), usd("-0.3")]
    desk.see(FeeAmendment("B1", usd("-0.2"), FeeStatus.FINAL, "A2"))
    desk.see(FeeAmendment("E1", usd("0.4"), FeeStatus.FINAL, "A2"))
    assert [fill.fees for fill in desk.rows.fills_at("A2", "V1")] == [usd("0.4"), usd("-0.4")]
    assert (desk.order.fees, desk.fills()) == (None, [])


def test_the_fill_that_completes_an_order_is_told_before_what_follows_it(desk: Desk) -> None:
    desk.see(trade("E1", "1"))
    desk.see(trade("E2", "4"), trade("E3", "5"), trade("X1", by="X1"))
    kinds = ["fill" if isinstance(entry, Fill) else entry.kind for entry in desk.log.entries]
    assert kinds == ["fill", "fill", "status", "settled", "fill"]


@pytest.mark.parametrize(
    ("reopens", "becomes"),
    [((), OrderStatus.EXPIRED), ((OrderStatus.EXPIRED,), OrderStatus.NEW)],
)
def test_an_end_that_the_venue_takes_back_is_none(
    empty: Desk, reopens: tuple[OrderStatus, ...], becomes: OrderStatus
) -> None:
    empty.profile = replace(PROFILE, reopens=frozenset(reopens))
    empty.place(TEN.evolve(status=OrderStatus.EXPIRED))
    empty.see(view())
    assert empty.order.status is becomes
