"""How a key's new row is written and told, and what a change leaves of an order: each in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from scripted import Venue, buy

from mts1b_brokers_core.execution import journal
from mts1b_brokers_core.execution.eventlog import Appender
from mts1b_brokers_core.execution.journal import Journal, Record, State
from mts1b_brokers_core.execution.logrows import MemoryRows
from mts1b_brokers_core.execution.merge import Logged, Part
from mts1b_brokers_core.execution.port import Ack, OrderRef, OrderView, Terms, Ticket
from mts1b_brokers_core.execution.replaced import change_seen, changed
from mts1b_brokers_core.execution.writing import bind_children, tell, write_record
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import Adjustment, FillKind, Order, OrderChanges, OrderStatus, Side
from mts1b_brokers_core.platform.clock import to_ns

NOW = to_ns(Venue.opened)
ORDER = buy("2", idempotency_key="k1", status=OrderStatus.NEW).evolve(
    broker_order_id="V1", broker_order_ids=("V1",), account_id="A1"
)
NAMELESS = ORDER.evolve(broker_order_id=None, broker_order_ids=(), status=OrderStatus.UNKNOWN)


@pytest.fixture
def log() -> Iterator[Appender]:
    store = Journal(None).store
    store.open()
    yield Appender(store.run_now(lambda connection: connection), MemoryRows(), "fund-a", NOW)
    store.close()


def row(order: Order = ORDER, state: State = State.CONFIRMED, **more: Any) -> Record:
    return Record("k1", "m1", "A1", state, order, **more)


def claimed(log: Appender, record: Record) -> Record:
    ticket = Ticket(record.order, "A1", None, 1, Venue.opened)
    assert journal.claim(log.connection, record, ticket, "me")
    return record


def told(log: Appender) -> list[tuple[EventKind, str]]:
    return [(entry.kind, entry.message) for entry in log.entries if isinstance(entry, BrokerEvent)]


def fill(log: Appender, quantity: str = "1", *, by: str = "V1", order_id: str = "V1") -> None:
    log.fill(
        {
            "fill_id": f"E{len(log.entries)}", "kind": FillKind.TRADE, "corrects": None, "account_id": "A1",
            "order_id": order_id, "broker_order_id": by, "symbol": "BTC-USD", "leg": None, "side": Side.BUY,
            "quantity": Decimal(quantity), "price": Decimal(100), "fees": None, "fee_status": "pending",
            "account_fee": None, "liquidity": None, "executed_at": Venue.opened, "source": "",
            "derived": False, "evidence": {},
        }
    )  # fmt: skip


# --- events --------------------------------------------------------------------------------------


def test_an_event_names_its_order_and_its_place(log: Appender) -> None:
    log.event(EventKind.GAP_OPEN, None, "lost", since="1")
    fill(log)
    log.event(EventKind.STATUS, ORDER, "new")
    first, _, last = log.entries
    assert isinstance(first, BrokerEvent)
    assert isinstance(last, BrokerEvent)
    assert (first.kind, first.message, first.detail) == (EventKind.GAP_OPEN, "lost", {"since": "1"})
    assert (first.broker, first.at, first.seq, first.offset) == ("fund-a", Venue.opened, 0, 1)
    names = (first.order, first.order_id, first.account_id, first.broker_order_id, first.idempotency_key)
    assert names == (None, None, None, None, None)
    assert (last.seq, last.offset, last.order, last.fill) == (1, 3, ORDER, None)
    assert (last.order_id, last.account_id) == (ORDER.order_id, "A1")
    assert (last.broker_order_id, last.idempotency_key) == ("V1", "k1")
    assert (log.first, log.rows.newest()) == (1, (3, 1))
    (logged,) = log.rows.fills_at("A1", "V1")
    assert (logged.seq, logged.broker, logged.recorded_at) == (1, "fund-a", Venue.opened)


def test_nothing_new_tells_nothing(log: Appender) -> None:
    assert tell(log, row(), row()) == row()
    assert (told(log), log.bound, log.cancels_due) == ([], False, [])


def test_a_status_is_told_once_in_its_word(log: Appender) -> None:
    tell(log, row(), row(ORDER.evolve(status=OrderStatus.PENDING_CANCEL)))
    assert told(log) == [(EventKind.STATUS, "pending_cancel")]


def test_an_absence_is_told_though_the_status_has_no_word(log: Appender) -> None:
    was = row(NAMELESS, State.UNKNOWN)
    now = tell(log, was, replace(was, state=State.NOT_PLACED, certainty="probable"))
    assert (told(log), now.certainty) == ([(EventKind.STATUS, "not_placed")], "probable")
    tell(log, now, now)
    assert len(log.entries) == 1
    found = tell(log, now, replace(now, state=State.CONFIRMED))
    assert found.certainty is None


@pytest.mark.parametrize(
    ("filled", "logged", "settle", "state", "settled", "pending"),
    [
        ("1", "1", True, State.CONFIRMED, True, False),
        ("1", "0.5", True, State.CONFIRMED, False, True),
        ("1", "1", False, State.CONFIRMED, False, False),
        ("1", "1", True, State.DUPLICATE, False, False),
    ],
)
def test_an_ended_order_settles_where_its_fills_add_up(
    log: Appender, filled: str, logged: str, settle: bool, state: State, settled: bool, pending: bool
) -> None:
    ended = ORDER.evolve(status=OrderStatus.CANCELED, filled_quantity=Decimal(filled), fills_pending=True)
    sums = Logged({"V1": Part(Decimal(logged), Decimal(1))})
    now = tell(log, row(), row(ended, state, logged=sums), settle=settle)
    assert (now.order.settled, now.order.fills_pending) == (settled, pending)
    kinds = [kind for kind, _ in told(log)]
    assert kinds == [EventKind.STATUS] + [EventKind.SETTLED] * settled
    again = tell(log, now, now, settle=settle)
    assert again == now
    assert len(log.entries) == len(kinds)


def test_an_order_whose_change_is_in_doubt_does_not_settle(log: Appender) -> None:
    was = claimed(log, row())
    ticket = Ticket(ORDER, "A1", None, 2, Venue.opened, changes=OrderChanges(quantity=3))
    journal.add_attempt(log.connection, "k1", ticket, "replace:r1", "me", '{"quantity":"3"}')
    journal.finish_attempt(log.connection, "k1", 2, str(State.UNKNOWN), "cut")
    ended = replace(was, order=ORDER.evolve(status=OrderStatus.CANCELED))
    assert not tell(log, was, ended).order.settled
    settled = replace(ended, order=ended.order.evolve(settled=True))
    assert tell(log, settled, settled).order.settled  # it stays what it was


@pytest.mark.parametrize(
    ("was", "now", "due"),
    [
        ((State.UNKNOWN, NAMELESS), (State.CONFIRMED, ORDER), True),
        ((State.UNKNOWN, NAMELESS), (State.UNKNOWN, ORDER), True),
        ((State.UNKNOWN, ORDER), (State.UNKNOWN, ORDER), False),
        ((State.UNKNOWN, NAMELESS), (State.UNKNOWN, NAMELESS), False),
        ((State.CONFIRMED, ORDER), (State.CONFIRMED, ORDER), False),
        ((State.UNKNOWN, NAMELESS), (State.NOT_PLACED, NAMELESS), False),
        ((State.UNKNOWN, NAMELESS), (State.CONFIRMED, ORDER.evolve(status=OrderStatus.CANCELED)), False),
    ],
)
def test_a_cancel_that_was_wanted_is_due_once_the_order_is_found_working(
    log: Appender, was: tuple[State, Order], now: tuple[State, Order], due: bool
) -> None:
    before, after = row(was[1], was[0], cancel_wanted=True), row(now[1], now[0], cancel_wanted=True)
    tell(log, before, after)
    assert [order.idempotency_key for order in log.cancels_due] == ["k1"] * due
    tell(log, replace(before, cancel_wanted=False), replace(after, cancel_wanted=False))
    assert len(log.cancels_due) == due


def test_a_first_binding_is_no_event_and_a_further_one_is(log: Appender) -> None:
    tell(log, row(NAMELESS), row(NAMELESS.evolve(broker_order_id="V1", broker_order_ids=("V1",))))
    assert (told(log), log.bound) == ([], True)
    tell(log, row(), row(ORDER.evolve(broker_order_ids=("V1", "V2"))))
    assert told(log) == [(EventKind.BOUND, "V2")]


def test_what_was_logged_of_an_id_before_it_was_ours_is_counted(log: Appender) -> None:
    fill(log, "0.5")
    fill(log, "0.75")
    fill(log, "0.1", order_id="somebody")
    fill(log, "0.2", by="V2", order_id="V2")
    early = Logged({"": Part(Decimal("0.25"), Decimal(25))})
    was = row(NAMELESS, State.UNKNOWN, logged=early)
    now = tell(log, was, row(ORDER, logged=early))
    assert [now.order.filled_quantity, now.logged.quantity] == [Decimal("1.5"), Decimal("1.5")]
    assert now.logged.parts == {"V1": Part(Decimal("1.5"), Decimal(150))}
    assert now.order.status is OrderStatus.PARTIALLY_FILLED
    kinds = told(log)
    assert kinds == [(EventKind.BOUND, "V1"), (EventKind.STATUS, "partially_filled")]
    bound = log.entries[-2]
    assert isinstance(bound, BrokerEvent)
    assert bound.detail == {"fills": "2"}
    assert tell(log, now, now) == now


def test_a_row_is_written_as_it_is_told(log: Appender) -> None:
    was = claimed(log, row())
    ended = replace(was, order=ORDER.evolve(status=OrderStatus.CANCELED))
    assert not write_record(log, was, ended, settle=False).order.settled
    now = write_record(log, was, ended)
    assert now.order.settled
    assert journal.get(log.connection, "k1") == now


# --- a bracket's children ------------------------------------------------------------------------


def test_children_are_orders_of_their_own(log: Appender) -> None:
    tree = Order.bracket("BTC-USD", Side.BUY, "1", price="100", take_profit="110", stop_loss="90")
    parent = tree.evolve(
        account_id="A1", broker="fund-a", created_at=Venue.opened, submitted_at=Venue.opened + timedelta(1)
    )
    keys = [child.idempotency_key for child in parent.attached]
    record = Record(parent.idempotency_key, "m", "A1", State.CONFIRMED, parent)
    bind_children(log, record, [OrderRef("V2"), OrderRef("V3"), OrderRef("V4")])
    for key, name, child in zip(keys, ("V2", "V3"), parent.attached, strict=True):
        found = journal.get(log.connection, key)
        assert found is not None
        assert (found.state, found.account_id) == (State.CONFIRMED, "A1")
        order = found.order
        assert (order.order_id, order.broker_order_id, order.status) == (child.order_id, name, "new")
        assert (order.account_id, order.broker) == ("A1", "fund-a")
        assert (order.created_at, order.submitted_at) == (parent.created_at, parent.submitted_at)
        assert journal.at_venue(log.connection, "A1", OrderRef(name)) == found
        assert found.fingerprint
    before = len(log.entries)
    bind_children(log, record, [OrderRef("V2"), OrderRef("V3")])
    assert len(log.entries) == before
    bind_children(log, record, [OrderRef("V8")])
    found = journal.get(log.connection, keys[0])
    assert found is not None
    assert found.order.broker_order_ids == ("V2", "V8")


# --- changes -------------------------------------------------------------------------------------

CHANGES = OrderChanges(limit_price=Decimal(101), quantity=Decimal(3))
ADJUSTED = Adjustment(field="limit_price", asked="101.001", sent="101", reason="increment")
SENT = Ticket(
    ORDER.evolve(limit_price=Decimal("101.00"), quantity=Decimal(3), adjustments=(ADJUSTED,)),
    "A1", None, 2, Venue.opened, changes=CHANGES,
)  # fmt: skip
SHOWN = Terms(symbol="BTC-USD", limit_price=Decimal(101), quantity=Decimal(3))


def test_a_change_that_was_taken_leaves_what_was_sent() -> None:
    left = changed(ORDER, SENT, CHANGES, Ack(OrderRef("V1")))
    assert [left.limit_price, left.quantity, left.adjustments] == [101, 3, (ADJUSTED,)]
    assert (left.broker_order_ids, left.status) == (("V1",), OrderStatus.NEW)
    echo = OrderView(OrderRef("V1"), OrderStatus.PENDING_REPLACE, "WAIT")
    left = changed(ORDER, SENT, CHANGES, Ack(OrderRef("V1"), echo))
    assert (left.status, left.raw_status) == (OrderStatus.PENDING_REPLACE, "WAIT")
    only_price = changed(ORDER, SENT, OrderChanges(limit_price=Decimal(101)), Ack(OrderRef("V1")))
    assert [only_price.limit_price, only_price.quantity] == [101, 2]


def test_a_change_takes_no_pending_cancel_away() -> None:
    wanted = ORDER.evolve(status=OrderStatus.PENDING_CANCEL)
    assert changed(wanted, SENT, CHANGES, Ack(OrderRef("V1"))).status is OrderStatus.PENDING_CANCEL
    assert changed(ORDER.evolve(status=None), SENT, CHANGES, Ack(OrderRef("V1"))).status is OrderStatus.NEW


def test_a_change_under_a_new_id_leaves_the_old_one_behind() -> None:
    left = changed(ORDER, SENT, CHANGES, Ack(OrderRef("V2")))
    assert (left.broker_order_id, left.broker_order_ids) == ("V2", ("V1", "V2"))
    assert left.status is OrderStatus.NEW
    unbound = changed(NAMELESS, SENT, CHANGES, Ack(OrderRef("V2")))
    assert (unbound.broker_order_id, unbound.broker_order_ids) == ("V2", ("V2",))
    assert changed(ORDER, SENT, CHANGES, Ack(OrderRef())).broker_order_ids == ("V1",)


def lost_change(log: Appender, outcome: State | None = State.UNKNOWN) -> Record:
    record = claimed(log, row())
    body = CHANGES.model_dump_json()
    journal.add_attempt(log.connection, "k1", SENT, "replace:r1", "me", body)
    if outcome is not None:
        journal.finish_attempt(log.connection, "k1", 2, str(outcome), "cut")
    return record


def outcome(log: Appender) -> tuple[str | None, str | None]:
    tried = journal.attempts(log.connection, "k1")[1]
    return tried.outcome, tried.cause


def test_a_sight_with_the_new_terms_confirms_a_lost_change(log: Appender) -> None:
    view = OrderView(OrderRef("V1"), OrderStatus.NEW, terms=SHOWN)
    order = change_seen(log, lost_change(log), ORDER, view, renames=False)
    assert [order.limit_price, order.quantity] == [101, 3]
    assert told(log) == [(EventKind.REPLACED, "limit_price, quantity")]
    assert outcome(log) == ("confirmed", "seen at the venue")


@pytest.mark.parametrize(
    ("terms", "state"),
    [
        (replace(SHOWN, quantity=Decimal(2)), State.UNKNOWN),
        (replace(SHOWN, quantity=None), State.UNKNOWN),
        (SHOWN, None),  # its answer may still come
    ],
)
def test_what_does_not_show_the_change_leaves_it_open(
    log: Appender, terms: Terms, state: State | None
) -> None:
    view = OrderView(OrderRef("V1"), OrderStatus.NEW, terms=terms)
    assert change_seen(log, lost_change(log, state), ORDER, view, renames=False) is ORDER
    assert (told(log), outcome(log)[0]) == ([], state)


def test_terms_that_were_the_orders_already_confirm_no_change(log: Appender) -> None:
    had = ORDER.evolve(limit_price=Decimal(101), quantity=Decimal(3))
    view = OrderView(OrderRef("V1"), OrderStatus.NEW, terms=SHOWN)
    assert change_seen(log, lost_change(log), had, view, renames=False) is had
    assert outcome(log) == ("unknown", "cut")


@pytest.mark.parametrize(
    ("status", "renames", "minutes", "replaced_by", "left"),
    [
        (OrderStatus.CANCELED, False, 0, None, "not_placed"),
        (OrderStatus.FILLED, True, 0, None, "not_placed"),
        (OrderStatus.CANCELED, True, 0, None, "unknown"),
        (OrderStatus.CANCELED, True, 14.99, None, "unknown"),
        (OrderStatus.CANCELED, True, 15, None, "not_placed"),
        (OrderStatus.CANCELED, False, 0, "V2", "unknown"),
        (OrderStatus.NEW, False, 0, None, "unknown"),
    ],
)
def test_an_order_that_ended_as_it_was_is_changed_no_more(
    log: Appender, status: OrderStatus, renames: bool, minutes: float, replaced_by: str | None, left: str
) -> None:
    log.now_ns = NOW + int(minutes * 60 * 1_000_000_000)
    view = OrderView(OrderRef("V1"), status, terms=Terms(quantity=Decimal(2)), replaced_by=replaced_by)
    assert change_seen(log, lost_change(log), ORDER, view, renames=renames) is ORDER
    assert outcome(log) == (left, "the order ended without it" if left == "not_placed" else "cut")
    assert told(log) == []


def test_a_change_under_way_is_left_to_its_owner_though_the_order_ended(log: Appender) -> None:
    view = OrderView(OrderRef("V1"), OrderStatus.CANCELED, terms=Terms(quantity=Decimal(2)))
    change_seen(log, lost_change(log, None), ORDER, view, renames=False)
    assert outcome(log) == (None, None)
