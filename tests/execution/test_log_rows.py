"""The log's rows: a file's and a memory's answer every question alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mts1b_brokers_core.execution.journal import Journal
from mts1b_brokers_core.execution.logrows import Entry, FileRows, MemoryRows, Rows, event_of, kind_of
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import Fill, FillKind, Side

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
FEE = (Money(amount="0.1", currency="USD"),)


@pytest.fixture(params=["file", "memory"])
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    if request.param == "memory":
        yield MemoryRows()
        return
    store = Journal(None).store  # its tables are a file's
    store.open()
    yield FileRows(store.run_now(lambda connection: connection))
    store.close()


def fill(seq: int, *, by: str | None = "V1", account: str = "A1", minute: int = 0, paid: bool = True) -> Fill:
    return Fill(
        seq=seq, fill_id=f"E{seq}", order_id="mine", broker_order_id=by, account_id=account, broker="b",
        symbol="BTC-USD", side=Side.BUY, quantity=1, price=100, executed_at=NOON + timedelta(minutes=minute),
        fees=FEE if paid else None,
    )  # fmt: skip


def event(seq: int) -> BrokerEvent:
    return BrokerEvent(kind=EventKind.STATUS, broker="b", at=NOON, seq=seq, account_id="A1")


def test_an_empty_log_has_nothing(rows: Rows) -> None:
    assert rows.newest() == (0, 0)
    assert rows.offset_of(5) == (0, 0)
    assert list(rows.after(0, 10)) == []
    assert rows.fee_open("A1", "E1") is None
    assert (rows.fill("A1", "E1"), rows.last_fill(), rows.unpaid_since()) == (None, None, None)
    assert rows.fills_at("A1", "V1") == []
    assert not rows.is_void("A1", "E1")


def test_rows_are_found_by_offset_and_executions_by_seq(rows: Rows) -> None:
    one, told, two, said = fill(1), event(1), fill(2, by="V2"), event(2)
    entries: list[Entry] = [one, told, two, said]
    for offset, entry in enumerate(entries, start=1):
        rows.add(offset, entry.seq or 0, entry)
    assert rows.newest() == (4, 2)
    assert [rows.offset_of(seq) for seq in (0, 1, 2, 9)] == [(0, 0), (1, 1), (3, 2), (3, 2)]
    assert list(rows.after(0, 10)) == [one, told, two, said]
    assert list(rows.after(1, 2)) == [told, two]
    assert list(rows.after(4, 2)) == []
    assert rows.last_fill() == two
    assert rows.fill("A1", "E1") == one
    assert rows.fill("A2", "E1") is None


def test_executions_are_found_by_venue_order_and_account(rows: Rows) -> None:
    three = [fill(1), fill(2, by="V2"), fill(3), fill(4, account="A2"), fill(5, by=None)]
    for offset, entry in enumerate(three, start=1):
        rows.add(offset, offset, entry)
    assert [row.fill_id for row in rows.fills_at("A1", "V1")] == ["E1", "E3"]
    assert [row.fill_id for row in rows.fills_at("A1", "V2")] == ["E2"]
    assert [row.fill_id for row in rows.fills_at("A2", "V1")] == ["E4"]


def test_a_fee_is_open_until_it_is_amended(rows: Rows) -> None:
    later, earlier, paid = fill(1, minute=5, paid=False), fill(2, minute=1, paid=False), fill(3)
    entries: list[Entry] = [later, event(1), earlier, paid]
    for offset, entry in enumerate(entries, start=1):
        rows.add(offset, entry.seq or 0, entry)
    assert [rows.fee_open("A1", name) for name in ("E1", "E2", "E3", "E4")] == [True, True, False, None]
    assert rows.unpaid_since() == later.executed_at  # the one that was logged first
    amended = later.evolve(fees=FEE)
    rows.amend(amended)
    assert rows.fill("A1", "E1") == amended
    assert (rows.fee_open("A1", "E1"), rows.fee_open("A1", "E2")) == (False, True)
    assert rows.unpaid_since() == earlier.executed_at
    assert list(rows.after(0, 1)) == [amended]
    assert rows.fills_at("A1", "V1") == [amended, earlier, paid]
    assert rows.newest() == (4, 3)


def test_an_execution_is_taken_back_once_and_for_its_account_alone(rows: Rows) -> None:
    assert rows.void("A1", "E1")
    assert not rows.void("A1", "E1")
    assert rows.is_void("A1", "E1")
    assert not rows.is_void("A2", "E1")
    assert not rows.is_void("A1", "E2")


def test_what_a_memory_has_not_kept_is_dropped() -> None:
    rows = MemoryRows()
    rows.add(1, 1, fill(1, paid=False))
    rows.void("A1", "E1")
    rows.commit()
    rows.amend(fill(1))
    rows.amend(fill(1).evolve(source="again"))
    rows.add(2, 1, event(1))
    rows.add(3, 2, fill(2))
    rows.void("A1", "E2")
    rows.roll_back()
    assert rows.newest() == (1, 1)
    assert list(rows.after(0, 9)) == [fill(1, paid=False)]
    assert rows.fill("A1", "E1") == fill(1, paid=False)
    assert rows.fill("A1", "E2") is None
    assert rows.fills_at("A1", "V1") == [fill(1, paid=False)]
    assert (rows.is_void("A1", "E1"), rows.is_void("A1", "E2")) == (True, False)
    assert rows.last_fill() == fill(1, paid=False)
    rows.amend(fill(1))
    rows.commit()
    rows.roll_back()
    assert rows.fill("A1", "E1") == fill(1)


def test_a_fill_is_told_as_the_event_it_is() -> None:
    taken_back = fill(2).evolve(kind=FillKind.BUST, recorded_at=NOON + timedelta(hours=1))
    assert [kind_of(row) for row in (fill(1), taken_back, event(1))] == ["fill", "bust", "status"]
    told = event_of(taken_back, 7)
    assert (told.kind, told.seq, told.offset, told.fill) == (EventKind.BUST, 2, 7, taken_back)
    assert (told.at, told.broker, told.account_id) == (NOON + timedelta(hours=1), "b", "A1")
    assert (told.order_id, told.broker_order_id) == ("mine", "V1")
    assert (told.order, told.message, told.detail, told.idempotency_key) == (None, "", {}, None)
    assert event_of(fill(1), 3).at == NOON
    said = event(1)
    assert event_of(said, 3) is said
