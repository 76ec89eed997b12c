"""Answers and rows that speak of another order than the one asked about, and answers that are none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from scripted import PROFILE, Replaceable, Row, Scripted, Venue, buy, fails, loses_reply

from mts1b_brokers_core.execution import journal
from mts1b_brokers_core.execution.journal import Journal, Record, State
from mts1b_brokers_core.execution.port import (
    Ack,
    CancelResult,
    FindResult,
    Found,
    Listing,
    OrderRef,
    OrderView,
    PlaceResult,
    Ticket,
    TokenRule,
    listed,
    row_of,
)
from mts1b_brokers_core.foundation.errors import OrderNotFound, OutcomeUnknown
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import OrderChanges, OrderStatus, OrderType
from mts1b_brokers_core.platform.clock import SteppedClock

TOKENLESS = replace(PROFILE, token=TokenRule("none"))


class Unfiltered(Scripted):
    """The adapter of a venue that ignores which orders were asked for."""

    async def read(self, refs: Sequence[OrderRef]) -> Listing[OrderView]:
        return listed([self.venue.view(row) for row in self.venue.book.values()], "orders")


async def names_the_first(venue: Venue, ticket: Ticket) -> PlaceResult:
    venue.accept(ticket)
    return Ack(OrderRef("V1", ticket.token))


async def shows_another_id(venue: Venue, ticket: Ticket) -> PlaceResult:
    ack = venue.ack(venue.accept(ticket))
    assert ack.echo is not None
    return replace(ack, echo=replace(ack.echo, ref=OrderRef("V99")))


async def shows_another_token(venue: Venue, ticket: Ticket) -> PlaceResult:
    ack = venue.ack(venue.accept(ticket))
    assert ack.echo is not None
    return replace(ack, echo=replace(ack.echo, ref=OrderRef("V2", "another")))


@pytest.mark.parametrize("script", [names_the_first, shows_another_id, shows_another_token])
async def test_an_acknowledgement_of_another_order_is_looked_up_first(venue: Venue, script: Any) -> None:
    async with venue.client() as broker:
        assert (await broker.submit(buy())).broker_order_id == "V1"
        venue.place_next.append(script)
        second = await broker.submit(buy("2"))
        assert (second.broker_order_ids, len(venue.found)) == (("V2",), 1)


async def test_without_a_token_the_row_of_the_id_acknowledged_counts(clock: SteppedClock) -> None:
    venue = Venue(clock, TOKENLESS)
    async with venue.client(kind=Unfiltered) as broker:
        for count in (1, 2):
            venue.place_next.append(bare)
            assert (await broker.submit(buy(str(count)))).broker_order_ids == (f"V{count}",)
        venue.end("V1")
        venue.cancel_next.extend([TimeoutError(), TimeoutError(), TimeoutError()])
        with pytest.raises(OutcomeUnknown):
            await broker.cancel("V2")
        assert (await broker.lookups.order("V2")).status is OrderStatus.NEW
        with pytest.raises(OrderNotFound):
            await broker.lookups.order("V7")


async def bare(venue: Venue, ticket: Ticket) -> PlaceResult:
    return Ack(OrderRef(venue.accept(ticket).id))


async def test_a_change_acknowledged_as_another_keys_order_is_not_known(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(PROFILE, replace="new_id"))
    async with venue.client(kind=Replaceable) as broker:
        assert isinstance(broker, Replaceable)
        await broker.submit(buy())
        second = await broker.submit(buy("2"))
        venue.replace_next.append(names_the_first)
        with pytest.raises(OutcomeUnknown, match="the order of the key"):
            await broker.replace(second.order_id, OrderChanges(limit_price=Decimal(99)))
        assert (await broker.outcome(second.idempotency_key)).broker_order_ids == ("V2",)


def test_the_row_asked_for_is_told_by_its_id_and_else_by_its_token() -> None:
    def row(broker_order_id: str | None, token: str | None = None) -> OrderView:
        return OrderView(OrderRef(broker_order_id, token), OrderStatus.NEW)

    first, second, nameless, tokened = row("V1", "t"), row("V2"), row(None), row(None, "t")
    rows = listed([nameless, first, second, tokened], "orders")
    assert row_of(rows, OrderRef("V2")) is second
    assert row_of(rows, OrderRef(None, "t")) is first
    assert row_of(rows, OrderRef("V3", "t")) is tokened
    assert row_of(rows, OrderRef("V3")) is None
    assert row_of(rows, OrderRef()) is None


def test_an_id_that_is_another_keys_is_not_bound() -> None:
    memory = Journal(None)
    memory.store.open()
    first, second = buy(), buy()
    rows = [Record(order.idempotency_key, "m", "A1", State.SENDING, order) for order in (first, second)]
    at = Venue.opened

    def work(connection: Any) -> tuple[str, ...]:
        for row, ids in zip(rows, (("V1",), ("V1", "V2")), strict=True):
            journal.claim(connection, row, Ticket(row.order, "A1", None, 1, at), "me")
            bound = row.order.evolve(broker_order_ids=ids, broker_order_id="V1")
            written = journal.put(connection, row, replace(row, order=bound), 1)
            assert written.order.broker_order_ids == ids[-1:]
        found = journal.get(connection, second.idempotency_key)
        assert found is not None
        assert found.order.broker_order_id == "V2"
        return found.order.broker_order_ids

    assert memory.store.run_now(work) == ("V2",)
    memory.store.close()


async def test_a_row_that_describes_no_order_costs_only_itself(venue: Venue) -> None:
    venue.book["X1"] = Row("X1", None, buy("3"))
    venue.book["X2"] = Row("X2", None, buy("5"))
    async with venue.client(kind=Terse) as broker:
        rows = await broker.get_open_orders()
        assert [(row.order_id, row.order_type) for row in rows] == [("X2", OrderType.LIMIT)]
        assert venue.kinds().count(EventKind.UNREADABLE) == 1


class Terse(Scripted):
    """An adapter that leaves out each order's type, and of X1 its symbol."""

    async def open_orders(self, account_id: str) -> Listing[OrderView]:
        seen = await super().open_orders(account_id)
        rows = [replace(view, terms=replace(view.terms, order_type=None)) for view in seen.rows]
        rows[0] = replace(rows[0], terms=replace(rows[0].terms, symbol=None))
        return replace(seen, rows=tuple(rows))


async def test_a_sight_whose_time_has_no_zone_tells_nothing(venue: Venue) -> None:
    naive = datetime(2026, 7, 1)  # noqa: DTZ001
    async with venue.client() as broker:
        order = buy()
        venue.place_next.append(loses_reply())
        venue.find_next.append(Found((OrderView(OrderRef("V1"), OrderStatus.NEW, created=naive),)))
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order)
        (listed_,) = await broker.unresolved()
        assert "no zone" in str(listed_.reason)


# --- answers that are none -----------------------------------------------------------------------


class Broken(Scripted):
    """An adapter whose cancel and look-up answer with nothing, or are cut off by themselves."""

    cut = False

    async def cancel_one(self, ref: OrderRef) -> CancelResult:
        return self._nothing()  # type: ignore[no-any-return]

    async def find(self, ticket: Ticket) -> FindResult:
        return self._nothing()  # type: ignore[no-any-return]

    def _nothing(self) -> Any:
        if self.cut:
            raise asyncio.CancelledError


class CutOff(Broken):
    cut = True


@pytest.mark.parametrize("kind", [Broken, CutOff])
async def test_what_is_no_answer_leaves_the_question_open(venue: Venue, kind: type[Scripted]) -> None:
    async with venue.client(kind=kind) as broker:
        placed = await broker.submit(buy())
        with pytest.raises(OutcomeUnknown):
            await broker.cancel(placed.order_id)
        venue.place_next.append(loses_reply())
        with pytest.raises(OutcomeUnknown):
            await broker.submit(buy("2"))
        (order,) = await broker.unresolved()
        assert str(order.reason).startswith("inconclusive: ")


async def test_a_look_that_hangs_ends_by_itself(clock: SteppedClock) -> None:
    venue = Venue(clock)

    class Hanging(Scripted):
        async def find(self, ticket: Ticket) -> FindResult:
            await asyncio.Event().wait()
            raise AssertionError

    async with venue.client(kind=Hanging) as broker:
        venue.place_next.append(fails(TimeoutError("no reply")))
        task = asyncio.create_task(broker.submit(buy()))
        await clock.advance(30)
        with pytest.raises(OutcomeUnknown):
            await task
        (order,) = await broker.unresolved()
        assert str(order.reason).startswith("inconclusive: TimeoutError")
