"""C: a restart invents nothing, forgets nothing, and says where the venue and we differ."""

from __future__ import annotations

import asyncio
import signal
import socket
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from failure_kit import Rewritten, Site, Start, at_once, event_of, fills_of, resting, until
from scripted import PROFILE, Venue, buy, settle

from mts1b_brokers_core import EventKind, Fill, OrderNotPlaced, OrderStatus, OutcomeUnknown
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_simulator.wire import Request, faults

#: Kinds of venue whose executions are known by different means.
KINDS = ("native_dedupe", "timestamp_limit", "no_client_id", "cumulative_fills", "late_fees_corrections")


async def everything(site: Site, count: int) -> list[Fill]:
    """Open the broker once more, and return its fills from the first on."""
    async with site.broker() as broker:
        await broker.get_open_orders()
        return await fills_of(broker, count, since=0)


@pytest.mark.parametrize("kind", KINDS)
async def test_restarts_double_no_fill_and_change_no_id(start: Start, kind: str) -> None:
    """Synthetic fills got other ids in each run, and replayed ones raised errors or piled up."""
    # nautilus#3878, #3046, #3176
    async with start(kind) as site:
        async with site.broker() as broker:
            order = await broker.submit(resting())
            site.fill(order, "0.2")
            await fills_of(broker, 1)
            site.fill(order, "0.3")
            first = await fills_of(broker, 2, since=0)
        site.events.clear()
        for _ in range(3):
            assert [row.fill_id for row in await everything(site, 2)] == [row.fill_id for row in first]
        assert site.logged() == []  # nothing new was logged by any of the restarts
        assert sum(row.quantity for row in first) == Decimal("0.5")


async def test_a_restart_invents_no_fill_to_explain_a_position(start: Start) -> None:
    """At a warm start an opposite fill was made up to fit the position, and the strategy thought it flat."""
    # nautilus#4736, nautilus#3104
    async with start() as site:
        for _ in range(2):
            async with site.broker() as broker:
                held = {row.symbol: row.quantity for row in await broker.get_positions()}
                await broker.get_open_orders()
                assert held["AAPL"] == Decimal(1_000_000)  # from before any fill that we know
        async with site.broker() as broker:
            order = await broker.wait_for(await broker.submit(at_once("1")), "filled", timeout=5)
        before = len(site.logged())
        async with site.broker() as broker:
            held = {row.symbol: row.quantity for row in await broker.get_positions()}
            assert (held["AAPL"], order.filled_quantity) == (Decimal(1_000_001), Decimal(1))
        assert before == len(site.logged()) == len(site.server.venue.executions()) == 1


async def test_a_working_order_outlives_a_restart_whatever_the_fills_add_up_to(start: Start) -> None:
    """Because the fills didn't rebuild the position, a working order was dropped at the start."""
    # nautilus#5000
    async with start() as site:
        async with site.broker() as broker:
            order = await broker.submit(resting())
        site.server.venue.place(
            {"symbol": "BTC-USD", "side": "sell", "type": "market", "quantity": "3"}, expires_ns=None
        )
        async with site.broker() as broker:
            assert [row.order_id for row in await broker.get_open_orders()] == [order.order_id]
            assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.NEW


async def test_an_inferred_fill_never_stands_beside_the_real_one(venue: Venue) -> None:
    """A fill inferred from a count raced the real one, and the order was filled twice over."""
    # nautilus#3493
    async with venue.client() as broker:
        order = await broker.submit(buy())
        seen = venue.fill("V1", "1", push=False)
        venue.push(venue.view("V1"))  # the count comes first
        await settle()
        venue.push(seen)
        await settle()
        assert [fill.fill_id for fill in venue.logged()] == ["E1"]
        assert (await broker.outcome(order.idempotency_key)).filled_quantity == 1


async def test_of_a_venue_that_counts_only_its_counts_make_fills(clock: SteppedClock) -> None:
    """The same fill came as a count and as an execution, from two sources that both were believed."""
    # nautilus#3493
    venue = Venue(clock, replace(PROFILE, fill_identity="cumulative"))
    async with venue.client() as broker:
        order = await broker.submit(buy())
        seen = venue.fill("V1", "1")
        venue.push(seen)
        await settle()
        (fill,) = venue.logged()
        assert (fill.derived, fill.fill_id, fill.quantity) == (True, "V1:0-1", Decimal(1))
        assert (await broker.outcome(order.idempotency_key)).filled_quantity == 1


async def test_a_count_without_its_fills_is_told_and_mended(venue: Venue, clock: SteppedClock) -> None:
    """A difference between the venue's count and the fills went into the log file, and that was all."""
    # BYTEX-TRADE/bytex#30
    async with venue.client(settle_wait=5) as broker:
        order = await broker.submit(buy())
        seen = venue.fill("V1", "1", push=False)
        venue.hidden.add(seen.fill_id)
        venue.push(venue.view("V1"))
        await settle()
        await clock.advance(6)
        told = await broker.outcome(order.idempotency_key)
        assert (told.status, told.fills_pending, told.settled) == (OrderStatus.FILLED, True, False)
        venue.hidden.clear()
        await clock.advance(31)
        after = await broker.outcome(order.idempotency_key)
        assert (after.fills_pending, after.settled) == (False, True)
        assert [fill.fill_id for fill in venue.logged()] == ["E1"]


async def test_no_name_resolution_says_nothing_about_orders(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name resolution was down, and orders with ids of the exchange were marked as failed."""
    # hummingbot#8457
    async with start() as site:
        here = {
            name: str(value).replace("127.0.0.1", "localhost")
            for name, value in site.settings.items()
            if name in ("base_url", "ws_url")
        }
        async with site.broker(**here, reconcile_every=0.1, resend_within=0) as broker:
            order = await broker.submit(resting())
            await event_of(broker, EventKind.LINK_UP)

            async def nobody(*words: Any, **options: Any) -> Any:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

            with monkeypatch.context() as down:
                down.setattr(asyncio.get_running_loop(), "getaddrinfo", nobody)
                await site.server.restart(keep=True)
                site.fill(order, "0.2")
                await event_of(broker, EventKind.GAP_OPEN)
                unsent = resting(idempotency_key="while it was down")
                with pytest.raises(OrderNotPlaced) as error:
                    await broker.submit(unsent)
                assert (error.value.certainty, error.value.repeat_is_safe) == ("proven", True)
                with pytest.raises(OutcomeUnknown):
                    await broker.cancel(order.order_id)
                assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.NEW
            assert (await broker.submit(unsent)).status is OrderStatus.NEW
            (fill,) = await fills_of(broker, 1)
            assert fill.order_id == order.order_id
            after = await broker.outcome(order.idempotency_key)
            assert (after.status, after.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.2"))


async def test_orders_of_a_forgotten_journal_are_listed_under_the_venues_ids(start: Start) -> None:
    """After a restart the list of open orders was empty, or held orders without an id."""
    # hummingbot#1357, #3374, freqtrade#8913, lumibot#395
    async with start() as site:
        async with site.broker() as broker:
            order = await broker.submit(resting())
        async with site.broker(state_path=site.journal.with_name("another.sqlite")) as broker:
            (found,) = await broker.get_open_orders()
            assert found.order_id == found.broker_order_id == order.broker_order_id
            assert await broker.cancel(found.order_id) is True


@pytest.mark.parametrize("kind", KINDS)
async def test_an_earlier_fill_is_never_attached_to_a_later_order(start: Start, kind: str) -> None:
    """A look a few seconds back gave the fill of an earlier stop to the position opened after it."""
    # freqtrade#13399
    async with start(kind) as site:
        async with site.broker() as broker:
            first = await broker.submit(resting())
            site.fill(first, "0.5")
            await broker.wait_for(first, "filled", timeout=5)
        async with site.broker(resend_within=2) as broker:
            site.server.faults.next(faults.DropReply(), "POST /v1/orders")
            second = await broker.submit(resting())  # equal in all its terms
            assert second.broker_order_id == site.orders()[1].id
            assert (second.status, second.filled_quantity) == (OrderStatus.NEW, Decimal(0))
            assert [fill.order_id for fill in await fills_of(broker, 1, since=0)] == [first.order_id]


async def test_an_equal_order_that_filled_before_is_not_taken_for_one_that_never_arrived(
    start: Start,
) -> None:
    """Where orders have no names, an equal one of minutes ago was taken for the one that was lost."""
    # freqtrade#13399
    async with start("no_client_id") as site, site.broker(resend_within=0.3) as broker:
        first = await broker.submit(resting())
        site.fill(first, "0.5")
        await broker.wait_for(first, "filled", timeout=5)
        site.server.faults.next(faults.DropRequest(), "POST /v1/orders")
        with pytest.raises(OrderNotPlaced) as error:
            await broker.submit(resting())
        assert error.value.certainty == "probable"
        assert len(site.orders()) == 1


@pytest.mark.parametrize("point", ["submit.claimed", "submit.answered"])
async def test_killed_between_any_two_steps_no_order_is_invisible(start: Start, point: str) -> None:
    """What was meant was written down only after the reply: dying in between left an order nobody knew."""
    # gistrec/trade-lab#6
    async with start("token_not_unique") as site:
        child = await site.child("k", 1, failpoint=f"{point}:1")
        child.tell("go")
        assert await child.hear() is None
        assert await child.end() == -signal.SIGKILL
        sent = len(site.orders())
        assert sent == (0 if point == "submit.claimed" else 1)
        async with site.broker(resend_within=0.3) as broker:
            if sent:
                assert (await broker.outcome("k")).broker_order_id == site.orders()[0].id
            same = resting(idempotency_key="k")
            order = await broker.submit(same, accept_duplicate_risk=True)
            assert [held.id for held in site.orders()] == [order.broker_order_id]
            assert await broker.unresolved() == []


async def test_an_order_missing_from_every_list_is_not_cancelled(start: Start) -> None:
    """Orders that a broad list left out were taken for cancelled, while they worked at the venue."""

    # Lumiwealth/lumibot#1066
    def list_of_orders(request: Request) -> bool:
        return request.label == "GET /v1/orders"

    async with start() as site, site.broker(reconcile_every=0.1) as broker:
        order = await broker.submit(resting())
        await event_of(broker, EventKind.LINK_UP)
        empty = Rewritten(lambda *_: (200, {"orders": [], "next": None}))
        site.server.faults.when(empty, list_of_orders)
        gone = Rewritten(lambda *_: (404, {"error": {"code": "not_found", "message": "no such order"}}))
        site.server.faults.when(gone, "GET /v1/orders/")
        assert await broker.get_open_orders() == []
        asked = site.server.count("GET /v1/orders/")
        await until(lambda: site.server.count("GET /v1/orders/") > asked + 2)
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.NEW
        site.server.faults.clear()
        assert [row.order_id for row in await broker.get_open_orders()] == [order.order_id]
        assert await broker.cancel(order.order_id) is True
