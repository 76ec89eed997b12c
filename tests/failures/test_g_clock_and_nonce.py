"""G: times and numbers that a venue refuses are no verdict on an order, and are put right by measuring."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from math import inf
from typing import Any

import pytest
from failure_kit import Rewritten, Start, event_of, fills_of, resting, until
from scripted import Venue, answers, buy

from mts1b_brokers_core import EventKind, OrderNotPlaced, OrderStatus, VenueError
from mts1b_brokers_core.execution.port import NotPlaced
from mts1b_brokers_core.platform.clock import RealClock, SteppedClock
from mts1b_brokers_core.platform.skew import ClockSkew
from mts1b_simulator.wire import faults


class Wall(RealClock):
    """The machine's time, whose wall clock somebody sets."""

    by = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.by

    def now_ns(self) -> int:
        return super().now_ns() + self.by // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize("ahead", [-120.0, 120.0])
async def test_a_timestamp_called_expired_is_cured_by_the_measured_skew(start: Start, ahead: float) -> None:
    """Each request was refused as too old, for as long as the two clocks were apart."""
    # whittlem/pycryptobot#565, coinbase/coinbase-pro-node#222, bennycode/coinbase-pro-node#354
    async with start("token_not_unique") as site, site.broker(reconcile_every=9999) as broker:
        first = await broker.submit(resting())
        site.server.shift_clock(ahead)
        second = await broker.submit(resting())
        assert [held.id for held in site.orders()] == [first.broker_order_id, second.broker_order_id]
        assert site.server.count("POST /v1/orders") <= 3  # one refusal at most, and nothing in a loop
        assert abs(broker.skew.offset.total_seconds() - ahead) < 1.5
        assert EventKind.SKEW in site.kinds()


@pytest.mark.parametrize(("kind", "hours"), [("while_open_deadline", 1), ("no_client_id", -1)])
async def test_our_own_clock_set_while_we_trade_costs_no_order_and_no_fill(
    start: Start, kind: str, hours: int
) -> None:
    """The machine's clock was set, and from then on requests were refused or deadlines long past."""
    # coinbase/coinbase-pro-node#222
    wall = Wall()
    async with start(kind) as site:
        site.clock = wall
        async with site.broker(reconcile_every=0.2, resend_within=3) as broker:
            order = await broker.submit(resting())
            await event_of(broker, EventKind.LINK_UP)
            wall.by = timedelta(hours=hours)
            site.server.faults.next(faults.DropReply(), "POST /v1/orders", nth=2)
            second = await broker.submit(resting("0.25"))
            assert [held.id for held in site.orders()] == [order.broker_order_id, second.broker_order_id]
            site.fill(order, "0.5")
            (fill,) = await fills_of(broker, 1)
            assert (fill.order_id, fill.quantity) == (order.order_id, Decimal("0.5"))
            assert EventKind.FAILED not in site.kinds()


async def test_a_clock_set_between_two_readings_does_not_end_the_broker(start: Start) -> None:
    """A jump of the venue's clock made each request in the background an authentication error."""
    # ccxt#253, ccxt#5110
    async with start() as site, site.broker(reconcile_every=0.1) as broker:
        order = await broker.submit(resting())
        await event_of(broker, EventKind.LINK_UP)
        site.server.shift_clock(3600)
        site.fill(order, "0.5")
        await until(lambda: EventKind.SKEW in site.kinds())
        assert (await broker.wait_for(order, "filled", timeout=5)).filled_quantity == Decimal("0.5")
        assert len(await broker.get_positions()) >= 1


async def test_an_invalid_nonce_burns_no_key(venue: Venue) -> None:
    """A nonce out of order was counted as a refused order, or sent again until the key was banned."""
    # veox/python3-krakenex#21, ccxt#253, nothingisdead/npm-kraken-api#13, knowm/XChange#1347
    venue.place_next.extend([answers(NotPlaced("EAPI:Invalid nonce", retry_after=None))] * 2)
    order = buy()
    async with venue.client(resend_within=10) as broker:
        for tries in (1, 2):
            with pytest.raises(OrderNotPlaced, match="Invalid nonce") as error:
                await broker.submit(order)
            assert (error.value.certainty, error.value.repeat_is_safe) == ("proven", True)
            assert len(venue.placed) == tries  # once for each call, and never in a loop
        assert (await broker.submit(order)).status is OrderStatus.NEW
        assert await broker.unresolved() == []


async def test_requests_at_once_are_each_signed_for_themselves(start: Start) -> None:
    """Concurrent requests shared one number, or overtook each other, and were refused."""
    # veox/python3-krakenex#21, btcpayserver/btcTransmuter#37
    async with start() as site, site.broker() as broker:
        orders = await asyncio.gather(*(broker.submit(resting()) for _ in range(20)))
        await asyncio.gather(*(broker.cancel(order.order_id) for order in orders))
        assert len({order.broker_order_id for order in orders}) == len(site.orders()) == 20
        signed = [row.headers["x-signature"] for row in site.server.asked if row.method != "GET"]
        assert len(signed) == 40
        assert site.server.count("POST /v1/orders") == 20


async def test_a_request_beyond_its_window_is_refused_by_the_venue_and_proven_absent(start: Start) -> None:
    """Hardly any exchange client set a time after which the venue itself refuses a late request."""
    # ccxt#27057
    async with start("while_open_deadline") as site, site.broker(resend_within=3) as broker:
        broker.profile = replace(broker.profile, not_after_seconds=0.2)
        site.server.faults.next(faults.DelayBeyond(0.6), "POST /v1/orders")
        order = await broker.submit(resting())
        await until(lambda: site.server.count("POST /v1/orders") == 2)  # the first one has landed by now
        assert [held.id for held in site.orders()] == [order.broker_order_id]


def test_a_time_that_is_not_known_is_never_nonsense(clock: SteppedClock) -> None:
    """Before the first answer about the time, NaN went into the timestamps."""
    # whittlem/pycryptobot#565
    skew = ClockSkew(clock)
    assert (skew.known, skew.offset, skew.uncertainty) == (False, timedelta(0), inf)
    assert skew.venue_now() == clock.now()


@pytest.mark.parametrize("time", ["NaN", None, "2026-07-01T12:00:00", 17, {}], ids=repr)
async def test_a_venue_that_tells_no_sensible_time_is_not_traded_with(start: Start, time: Any) -> None:
    """A time that was none was taken as it came, and went into every request."""
    # whittlem/pycryptobot#565
    async with start() as site:
        site.server.faults.next(Rewritten(lambda *_: (200, {"time": time})), "GET /v1/time")
        with pytest.raises(VenueError):
            async with site.broker():
                pass
        assert {row.method for row in site.server.asked} == {"GET"}
