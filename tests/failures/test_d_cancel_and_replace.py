"""D: cancels and changes race with fills, and what is final stays final."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from failure_kit import Meanwhile, Start, event_of, fills_of, resting
from scripted import Venue, buy, settle

from mts1b_brokers_core import (
    EventKind,
    OrderChanges,
    OrderDenied,
    OrderNotFound,
    OrderStatus,
    OutcomeUnknown,
)
from mts1b_brokers_core.execution.port import CancelResult, Inconclusive, OrderRef, Refused, Taken
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_simulator.reference import PROFILES
from mts1b_simulator.wire import faults


async def test_an_order_pending_cancel_for_hours_is_shown_so_and_can_be_asked_again(
    venue: Venue, clock: SteppedClock
) -> None:
    """Orders were pending_cancel for hours, and clients called them cancelled or forgot them."""
    # alpaca-py#400, alpacahq/Alpaca-API#111, #199
    async with venue.client() as broker:
        order = await broker.submit(buy())
        venue.cancel_next.extend([Taken(), Taken()])
        venue.book["V1"].status = OrderStatus.PENDING_CANCEL
        assert await broker.cancel(order.order_id) is True
        await clock.advance(3 * 3600)
        held = await broker.outcome(order.idempotency_key)
        assert (held.status, held.cancel_requested) == (OrderStatus.PENDING_CANCEL, True)
        assert await broker.cancel(order.order_id) is True
        assert len(venue.canceled) == 2
        venue.push(venue.end("V1"))
        await settle()
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.CANCELED


async def test_a_cancel_of_what_is_gone_is_answered_once_and_ends(start: Start) -> None:
    """A cancel of a filled or unknown order was repeated for ever, or stopped the whole program."""
    # Lean.Brokerages.TradeStation#92
    async with start() as site, site.broker(settle_wait=0.2) as broker:
        order = await broker.submit(resting())
        await event_of(broker, EventKind.LINK_UP)
        site.server.faults.when(faults.LoseFrame(), "orders")
        site.server.faults.when(faults.LoseFrame(), "executions")
        site.fill(order, "0.5")
        assert await broker.cancel(order.order_id) is False
        with pytest.raises(OrderNotFound):
            await broker.cancel("R-999")
        assert site.server.count("DELETE") == 2
        after = await broker.wait_for(order, "filled", timeout=5)
        assert after.filled_quantity == Decimal("0.5")
        assert await broker.cancel(order.order_id) is False  # known by now: nothing is sent
        assert site.server.count("DELETE") == 2


async def test_an_order_pending_cancel_may_still_fill(start: Start) -> None:
    """A fill after the cancel was asked for didn't fit the expected order of states, and was refused."""
    # scmhub/ibsync#23
    slow = replace(PROFILES["native_dedupe"], cancel_delay=60.0)
    async with start(slow) as site, site.broker() as broker:
        order = await broker.submit(resting())
        assert await broker.cancel(order.order_id) is True
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.PENDING_CANCEL
        site.fill(order, "0.2")
        site.fill(order, "0.3")
        after = await broker.wait_for(order, "filled", timeout=5)
        assert (after.status, after.filled_quantity) == (OrderStatus.FILLED, Decimal("0.5"))
        assert sum(fill.quantity for fill in await fills_of(broker, 2)) == Decimal("0.5")


async def test_a_cancel_that_failed_reopens_no_final_order(venue: Venue) -> None:
    """A cancel was refused because the order had ended, and its error path set it back to open."""
    # betcode-org/flumine#451
    async with venue.client() as broker:
        order = await broker.submit(buy())
        working = venue.view("V1")

        def too_late(ref: OrderRef) -> CancelResult:
            venue.fill("V1", "1")
            return Refused("not an open order")

        venue.cancel_next.append(too_late)
        assert await broker.cancel(order.order_id) is False
        await settle()
        venue.push(working)
        await settle()
        after = await broker.outcome(order.idempotency_key)
        assert (after.status, after.filled_quantity) == (OrderStatus.FILLED, Decimal(1))


async def test_a_fill_between_asking_and_changing_does_not_overfill(start: Start) -> None:
    """The rest was computed, a fill landed, and the order that took its place bought too much."""
    # nautilus: developer guide on cancel-replace venues
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting("0.5"))
        site.server.faults.next(Meanwhile(lambda: site.fill(order, "0.3")), "PATCH")
        changed = await broker.replace(order.order_id, OrderChanges(quantity=Decimal("0.4")))
        assert changed.quantity == Decimal("0.4")  # the new total, whatever has filled meanwhile
        assert site.held(order).terms.quantity == Decimal("0.4")
        site.fill(order, "0.1")
        after = await broker.wait_for(order, "filled", timeout=5)
        assert after.filled_quantity == Decimal("0.4")


async def test_where_a_change_names_the_rest_a_partly_filled_order_is_not_resized(start: Start) -> None:
    """The venue took the quantity for the rest, the client meant the total: far too much was held."""
    # nautilus: developer guide on cancel-replace venues
    async with start("no_client_id") as site, site.broker() as broker:
        order = await broker.submit(resting("0.5"))
        site.fill(order, "0.3")
        await fills_of(broker, 1)
        with pytest.raises(OrderDenied) as denied:
            await broker.replace(order.order_id, OrderChanges(quantity=Decimal("0.4")))
        assert denied.value.reason == "unsupported"
        assert site.server.count("PATCH") == 0
        # A new price alone is harmless: what remains, remains.
        changed = await broker.replace(order.order_id, OrderChanges(limit_price=Decimal(91000)))
        old, new = site.orders()
        assert (changed.broker_order_id, new.terms.quantity) == (new.id, Decimal("0.2"))
        site.fill(changed, "0.2")
        after = await broker.wait_for(order, "filled", timeout=5)
        assert (after.filled_quantity, old.filled_quantity + new.filled_quantity) == (Decimal("0.5"),) * 2


async def test_a_change_whose_reply_is_lost_is_read_not_repeated(start: Start) -> None:
    """The reply to a change was lost, it was sent again, and two orders took the place of one."""
    # nautilus: developer guide on cancel-replace venues
    async with start("no_client_id") as site, site.broker(reconcile_every=0.2) as broker:
        order = await broker.submit(resting("0.5"))
        site.server.faults.next(faults.DropReply(), "PATCH")
        with pytest.raises(OutcomeUnknown):
            await broker.replace(order.order_id, OrderChanges(limit_price=Decimal(91000)))
        await event_of(broker, EventKind.REPLACED)
        changed, (_, new) = await broker.outcome(order.idempotency_key), site.orders()
        assert (changed.broker_order_id, changed.limit_price) == (new.id, Decimal(91000))
        assert site.server.count("PATCH") == 1
        assert await broker.cancel(order.order_id) is True
        assert not new.is_open


async def test_a_cancel_asked_for_while_the_order_is_in_doubt_is_sent_when_it_is_found(
    venue: Venue, clock: SteppedClock
) -> None:
    """A cancel of an order without an id was dropped, and the order came to life afterwards."""
    # ib_async#66, erdewit/ib_insync#130

    async def lost(venue: Venue, ticket: object) -> object:
        venue.accept(ticket)  # type: ignore[arg-type]
        raise TimeoutError

    venue.place_next.append(lost)  # type: ignore[arg-type]
    venue.find_next.extend([Inconclusive("busy")] * 2)
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as unknown:
            await broker.submit(buy())
        assert unknown.value.order is not None
        with pytest.raises(OutcomeUnknown):
            await broker.cancel(unknown.value.order.order_id)
        assert venue.canceled == []
        await clock.advance(1)
        assert [ref.broker_order_id for ref in venue.canceled] == ["V1"]
        assert len(venue.placed) == 1


async def test_a_cancel_answered_by_something_in_between_is_read_and_repeated(start: Start) -> None:
    """Any answer to a cancel that was no error counted as a cancel that worked."""
    # Lean.Brokerages.TradeStation#92
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting())
        site.server.faults.next(faults.ErrorBefore(200), "DELETE")  # never gets to the venue
        site.server.faults.next(faults.ErrorBefore(502), "DELETE")
        assert await broker.cancel(order.order_id) is True
        assert site.held(order).status == "cancelled"
        assert site.server.count("DELETE") == 1


async def test_a_cancel_that_nobody_answers_is_unknown_and_the_order_stays_as_it_is(start: Start) -> None:
    """A cancel without an answer was taken for done, and the order worked on."""
    # Lean.Brokerages.TradeStation#92, alpacahq/Alpaca-API#111
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting())
        site.server.faults.when(faults.ErrorBefore(200), "DELETE")
        with pytest.raises(OutcomeUnknown) as unknown:
            await broker.cancel(order.order_id)
        assert unknown.value.repeat_is_safe
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.NEW
        site.server.faults.clear()
        assert await broker.cancel(order.order_id) is True
