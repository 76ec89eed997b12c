"""B: what happens while nobody listens, or is lost on the way, arrives all the same, and once."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from failure_kit import Start, event_of, fills_of, passing, resting, until
from scripted import PROFILE, Replaceable, TellingFees, Venue, buy, settle, take

from mts1b_brokers_core import EventKind, Money, Order, OrderChanges, OrderStatus, Side
from mts1b_brokers_core.execution.port import FeeAmendment
from mts1b_brokers_core.foundation.orders import FeeStatus
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_simulator.wire import faults


async def test_fills_and_cancels_during_an_outage_arrive_after_it(start: Start) -> None:
    """After a reported loss of the link, executions and cancels that still came were dropped for good."""
    # Lean.Brokerages.InteractiveBrokers#249, bitfinexcom/bitfinex-api-node#247, erdewit/ib_insync#130
    async with start() as site, site.broker() as broker:
        filled, part, canceled = [await broker.submit(resting()) for _ in range(3)]
        await event_of(broker, EventKind.LINK_UP)
        site.server.maintain(0.4)
        site.fill(filled, "0.5")
        site.fill(part, "0.1")
        site.server.venue.cancel(site.held(canceled))
        after = await broker.wait_for(filled, "filled", timeout=5)
        assert after.filled_quantity == Decimal("0.5")
        assert (await broker.wait_for(canceled, timeout=5)).status is OrderStatus.CANCELED
        assert (await broker.outcome(part.idempotency_key)).filled_quantity == Decimal("0.1")
        await until(lambda: EventKind.GAP_CLOSED in site.kinds())
        gaps = [kind for kind in site.kinds() if kind in (EventKind.GAP_OPEN, EventKind.GAP_CLOSED)]
        assert gaps == [EventKind.GAP_OPEN, EventKind.GAP_CLOSED]
        assert [fill.seq for fill in await fills_of(broker, 2)] == [1, 2]


async def test_one_lost_fill_of_a_stream_whose_heartbeats_go_on_is_found(
    start: Start, clock: SteppedClock
) -> None:
    """The stream looked healthy, heartbeats and all, and one fill never came: nobody ever asked for it."""
    # Lean.Brokerages.TradeStation#94, #95, #101
    async with start(clock=clock) as site, site.broker(reconcile_every=30) as broker:
        order = await broker.submit(resting())
        # At the start, and when the link is up.
        await until(lambda: site.server.count("GET /v1/executions") == 2)
        # Nothing follows it on its channels whose number could tell of it.
        site.server.faults.when(faults.LoseFrame(), "executions")
        site.server.faults.when(faults.LoseFrame(), "orders")
        site.fill(order, "0.5")
        await passing(clock, enough=lambda: EventKind.GAP_CLOSED in site.kinds())
        after = await broker.outcome(order.idempotency_key)
        assert (after.status, after.filled_quantity) == (OrderStatus.FILLED, Decimal("0.5"))
        assert site.kinds().count(EventKind.GAP_OPEN) == 1
        assert EventKind.LINK_DOWN not in site.kinds()
        assert site.server.faults.applied


async def test_a_replayed_fill_of_a_bracket_leg_is_counted_once(venue: Venue) -> None:
    """After a reconnect the replayed fill of a child was counted a second time in its bracket."""
    # nautilus#4991
    async with venue.client() as broker:
        exit_ = Order.limit("BTC-USD", Side.SELL, "1", price="120")
        stop = Order.stop("BTC-USD", Side.SELL, "1", stop_price="90")
        order = await broker.submit(buy(attached=(exit_, stop), contingency="otoco"))
        venue.fill("V1", "1")
        child = venue.fill("V2", "0.4", "120")
        await settle()
        for _ in range(3):
            venue.push(child, venue.view("V2"))
            await settle()
        assert [fill.fill_id for fill in venue.logged()] == ["E1", "E2"]
        leg = await broker.lookups.order(exit_.order_id)
        assert leg.filled_quantity == Decimal("0.4")
        assert (await broker.outcome(order.idempotency_key)).filled_quantity == 1


async def test_a_terminal_status_does_not_hide_a_fill_that_comes_after_it(venue: Venue) -> None:
    """The word that an order was over closed its books, and the fill that came next was thrown away."""
    # nautilus#4991, scmhub/ibsync#23
    async with venue.client() as broker:
        order = await broker.submit(buy())
        seen = venue.fill("V1", "0.4", push=False)
        venue.hidden.add(seen.fill_id)
        venue.push(venue.end("V1"))
        await settle()
        waiting = await broker.outcome(order.idempotency_key)
        assert not waiting.is_final  # its last fill comes first
        venue.push(seen)
        await settle()
        after = await broker.outcome(order.idempotency_key)
        assert (after.status, after.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.4"))
        kinds = [kind for kind in venue.kinds() if kind in (EventKind.FILL, EventKind.SETTLED)]
        assert kinds == [EventKind.FILL, EventKind.SETTLED]


async def test_an_older_frame_overwrites_nothing(venue: Venue, clock: SteppedClock) -> None:
    """A late "accepted" took an order back to working, and an old leg's took its newer id away."""
    # nautilus#4991
    venue.profile, venue.telling = replace(PROFILE, replace="new_id"), True
    async with venue.client(kind=Replaceable) as broker:
        order = await broker.submit(buy())
        old = venue.view("V1")
        await clock.advance(1)
        assert isinstance(broker, Replaceable)
        await broker.replace(order.order_id, OrderChanges(limit_price=Decimal(99)))
        await clock.advance(1)
        venue.fill("V2", "1")
        await settle()
        venue.push(replace(old, updated=venue.opened), replace(venue.view("V1"), updated=venue.opened))
        venue.push(replace(venue.view("V2"), status=OrderStatus.NEW, cumulative_quantity=Decimal(0)))
        await settle()
        after = await broker.outcome(order.idempotency_key)
        assert (after.status, after.broker_order_id) == (OrderStatus.FILLED, "V2")
        assert (after.filled_quantity, after.limit_price) == (Decimal(1), Decimal(99))


@pytest.mark.parametrize("fault", [faults.HalfOpen(), faults.SilentSocket()], ids=lambda fault: fault.kind)
async def test_a_link_that_is_mute_without_a_close_is_cut_and_made_anew(
    start: Start, clock: SteppedClock, fault: Any
) -> None:
    """A socket stayed connected and said nothing for hours; no close ever came, and fills were missed."""
    # alpaca-py#740, coinbase/coinbase-pro-node#104, #200, deepentropy/ibx#113
    async with start(clock=clock) as site, site.broker(reconcile_every=9999) as broker:
        order = await broker.submit(resting())
        await until(lambda: EventKind.LINK_UP in site.kinds())
        site.server.faults.next(fault, "executions")
        site.fill(order, "0.5")
        await passing(clock, enough=lambda: site.logged() and site.kinds().count(EventKind.LINK_UP) == 2)
        assert site.kinds().count(EventKind.LINK_UP) == 2
        assert EventKind.LINK_DOWN in site.kinds()
        assert [fill.quantity for fill in site.logged()] == [Decimal("0.5")]


async def test_a_venue_that_drops_each_connection_is_not_stormed(start: Start, clock: SteppedClock) -> None:
    """The client reconnected every ten milliseconds, until the venue answered with 429 for good."""
    # alpaca-py#740
    async with start(clock=clock) as site, site.broker(reconcile_every=9999):
        await until(lambda: EventKind.LINK_UP in site.kinds())
        site.server.faults.when(faults.CutSocket())
        site.server.cut_streams()
        await passing(clock, 120, step=0.5)
        assert 3 <= site.server.count("GET /v1/stream") <= 30


async def test_executions_are_enough_without_any_order_status(start: Start) -> None:
    """Status messages aren't guaranteed to come; an order that waited for one was never filled."""
    # pysystemtrade#188
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting())
        await event_of(broker, EventKind.LINK_UP)
        site.server.faults.when(faults.LoseFrame(), "orders")
        site.fill(order, "0.2")
        site.fill(order, "0.3")
        after = await broker.wait_for(order, "filled", timeout=5)
        assert (after.status, after.filled_quantity) == (OrderStatus.FILLED, Decimal("0.5"))


async def test_recent_trades_sent_again_at_each_connect_are_not_new(start: Start) -> None:
    """A venue sends its last trades again at each connect, and each time they were new fills."""
    # bitrich-info/xchange-stream#498
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting())
        for quantity in ("0.1", "0.2"):
            site.fill(order, quantity)
        await until(lambda: len(site.logged()) == 2)
        await event_of(broker, EventKind.LINK_UP)
        for count in (2, 3):
            site.server.cut_streams()
            await event_of(broker, EventKind.LINK_UP, count)
            for execution in site.server.venue.executions():
                site.server.executed(execution)
        site.fill(order, "0.2")
        fills = await fills_of(broker, 3)
        assert [fill.quantity for fill in fills] == [Decimal("0.1"), Decimal("0.2"), Decimal("0.2")]
        assert [fill.seq for fill in fills] == [1, 2, 3]
        assert len({fill.fill_id for fill in fills}) == 3


@pytest.mark.parametrize("kind", ["timestamp_limit", "token_not_unique"])
async def test_nobody_has_to_poll_for_fills_himself(start: Start, kind: str) -> None:
    """Where a venue pushes nothing, or only hints, each user had to write a loop that asked."""
    # openalgo#811
    async with start(kind) as site, site.broker() as broker:
        order = await broker.submit(resting())
        site.fill(order, "0.5")
        (fill,) = await fills_of(broker, 1)
        assert (fill.order_id, fill.quantity) == (order.order_id, Decimal("0.5"))


async def test_a_commission_that_comes_before_its_execution_is_kept(venue: Venue) -> None:
    """A commission named an execution that wasn't known yet, and was lost with it."""
    # Lean.Brokerages.InteractiveBrokers#249
    venue.profile = replace(PROFILE, fee_timing="seconds")
    async with venue.client(kind=TellingFees) as broker:
        order = await broker.submit(buy())
        fee = (Money(amount="0.35", currency="USD"),)
        venue.push(FeeAmendment("E1", fee, FeeStatus.FINAL))
        await settle()
        venue.push(replace(venue.fill("V1", "1", push=False), fees=None))
        await settle()
        (fill,) = await take(broker.stream_fills(since=0), 1)
        assert (fill.fees, fill.fee_status) == (fee, FeeStatus.FINAL)
        assert (await broker.outcome(order.idempotency_key)).fees == fee


async def test_a_fill_before_the_reply_to_its_order_is_the_orders(venue: Venue) -> None:
    """A fill that overtook the reply belonged to nobody, and the order stayed pending."""

    # erdewit/ib_insync#130, ib_async#66
    async def fills_first(venue: Venue, ticket: Any) -> Any:
        row = venue.accept(ticket)
        venue.fill(row, "1")
        await settle()
        return venue.ack(row)

    venue.place_next.append(fills_first)
    async with venue.client() as broker:
        order = await broker.submit(buy())
        await settle()
        assert [fill.order_id for fill in venue.logged()] == [order.order_id]
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.FILLED
