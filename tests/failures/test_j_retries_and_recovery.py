"""J: what goes wrong in the parts that were written to put things right."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from failure_kit import Rewritten, Start, event_of, resting, until
from scripted import Venue, buy, take

from mts1b_brokers_core import (
    EventKind,
    OrderNotPlaced,
    OrderRejected,
    OrderStatus,
)
from mts1b_brokers_core.foundation.errors import NotSent, ReplyLost
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.retry import with_retry
from mts1b_simulator.wire import faults


async def test_the_callers_key_makes_the_token_on_the_wire(start: Start) -> None:
    """The client id that was passed never reached the wire: each call got a fresh one."""
    # ccxt: coinbase createOrder with clientOrderId
    async with start("token_not_unique") as site:
        tokens = []
        for number in (1, 2):
            folder = site.journal.with_name(f"journal {number}.sqlite")
            async with site.broker(state_path=folder) as broker:
                await broker.submit(resting(idempotency_key="mine"))
                await broker.submit(resting(idempotency_key=f"another {number}"))
        tokens = [body["client_order_id"] for body in site.server.sent()]
        assert tokens[0] == tokens[2]
        assert len(set(tokens)) == 3


@pytest.mark.parametrize("error", [ReplyLost("the reply was lost"), TimeoutError()], ids=["lost", "time-out"])
async def test_a_retry_decorator_around_submit_sends_no_second_order(start: Start, error: Exception) -> None:
    """A retry policy around everything repeated whatever timed out, each time with a new nonce."""
    # nautilus: Kraken REST; GCT: DefaultRetryPolicy; alpaca-py: 504 for POST
    async with start("token_not_unique") as site, site.broker(resend_within=0) as broker:
        calls = 0

        @with_retry(retries=3, backoff=0.01)
        async def place() -> Any:
            nonlocal calls
            calls += 1
            await broker.submit(resting(idempotency_key="k"))
            raise error

        with pytest.raises(type(error)):
            await place()
        assert (calls, site.server.count("POST /v1/orders")) == (1, 1)


async def test_a_retry_decorator_repeats_what_never_left(clock: SteppedClock) -> None:
    """Only what can't have had an effect may be repeated without asking."""
    calls = 0

    @with_retry(retries=2, backoff=0.0, clock=clock)
    async def place() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise NotSent("no connection")
        return calls

    assert await place() == 3


async def test_a_recovery_that_itself_fails_leaves_the_order_unknown_and_goes_on(start: Start) -> None:
    """The way back after a 500 read a field that wasn't there, and the open order was marked as failed."""
    # hummingbot: Kraken, recovery after 5xx
    async with start("while_open_deadline") as site, site.broker(resend_within=5) as broker:
        script = site.server.faults
        script.when(faults.LoseFrame(), "orders")  # the stream doesn't help
        script.next(faults.ErrorAfter(500), "POST /v1/orders")
        script.next(faults.ErrorBefore(500), "GET /v1/orders/by_token")
        script.next(Rewritten(lambda status, body: (status, {"open": {}})), "GET /v1/orders/by_token")
        order = await broker.submit(resting())
        assert [held.id for held in site.orders()] == [order.broker_order_id]
        assert order.status is OrderStatus.NEW
        assert site.server.count("GET /v1/orders/by_token") == 2


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"quantity": "1000000"}, "insufficient_funds"),
        ({"price": "110000", "post_only": True}, "post_only_would_take"),
    ],
    ids=["funds", "post-only"],
)
async def test_a_refusal_is_a_rejection_without_an_id(
    start: Start, terms: dict[str, Any], reason: str
) -> None:
    """A refused order came back open, with "UNKNOWN" for its id."""
    # hummingbot: Coinbase
    async with start() as site, site.broker() as broker:
        with pytest.raises(OrderRejected) as refused:
            await broker.submit(resting(**terms))
        order = refused.value.order
        assert order is not None
        assert (refused.value.reason, order.status) == (reason, OrderStatus.REJECTED)
        assert (order.broker_order_id, order.broker_order_ids) == (None, ())
        assert await broker.get_open_orders() == site.orders() == []


async def test_a_status_nobody_has_heard_of_fails_no_order(start: Start) -> None:
    """Any status that the client didn't know meant failed, while the order worked on."""
    # StockSharp: Schwab

    def unheard_of(status: int, body: Any) -> tuple[int, Any]:
        body["orders"][0]["status"] = "awaiting_ur_out"
        return status, body

    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting())
        site.server.faults.next(Rewritten(unheard_of), lambda request: request.label == "GET /v1/orders")
        assert await broker.get_open_orders() == []
        (told,) = [event for event in site.events if event.kind is EventKind.UNREADABLE]
        assert "awaiting_ur_out" in told.message
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.NEW


async def test_a_reply_with_a_status_nobody_has_heard_of_is_looked_up(start: Start) -> None:
    """The order was acknowledged with a new word, and was taken for refused."""
    # StockSharp: Schwab

    def unheard_of(status: int, body: Any) -> tuple[int, Any]:
        body["order"]["status"] = "awaiting_ur_out"
        return status, body

    async with start() as site, site.broker() as broker:
        site.server.faults.next(Rewritten(unheard_of), "POST /v1/orders")
        order = await broker.submit(resting())
        assert (order.status, order.broker_order_id) == (OrderStatus.NEW, site.orders()[0].id)


async def test_a_reader_that_is_slow_or_late_misses_nothing(venue: Venue) -> None:
    """A queue of a hundred slots dropped what came while it was full."""
    # lumibot: CustomStream
    async with venue.client() as broker:
        await broker.submit(buy("900"))
        slow = broker.stream_fills(consumer="slow")
        for _ in range(450):
            venue.fill("V1", "1")
        await until(lambda: len(venue.logged()) == 450)
        first = await take(slow, 10)
        for _ in range(450):
            venue.fill("V1", "1")
        await until(lambda: len(venue.logged()) == 900)
        rest = await take(slow, 890)
        late = await take(broker.stream_fills(consumer="late"), 900)
        assert [fill.seq for fill in (*first, *rest)] == list(range(1, 901))
        assert [fill.fill_id for fill in late] == [f"E{n}" for n in range(1, 901)]


async def test_a_link_that_falls_resets_no_order(start: Start) -> None:
    """When the connection closed, all that was known of orders and fills was wiped."""
    # ib_async: connectionClosed
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting())
        site.fill(order, "0.2")
        await until(lambda: site.logged())
        await event_of(broker, EventKind.LINK_UP)
        site.server.maintain(60)
        await event_of(broker, EventKind.LINK_DOWN)
        held = await broker.outcome(order.idempotency_key)
        assert (held.status, held.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.2"))
        assert held.broker_order_id == order.broker_order_id


async def test_what_is_only_probably_absent_is_never_sent_again_by_itself(venue: Venue) -> None:
    """The recovery found nothing, sent the order again, and the first one arrived after all."""

    # GCT: DefaultRetryPolicy
    async def nothing(venue: Venue, ticket: Any) -> Any:
        venue.late.append(ticket)
        raise TimeoutError

    venue.place_next.append(nothing)
    async with venue.client() as broker:
        order = buy()
        with pytest.raises(OrderNotPlaced) as absent:
            await broker.submit(order)
        assert (absent.value.certainty, absent.value.repeat_is_safe) == ("probable", False)
        with pytest.raises(OrderNotPlaced):
            await broker.submit(order)
        assert len(venue.placed) == 1
        row = venue.land()
        venue.push(venue.view(row))
        await until(lambda: EventKind.LATE in venue.kinds())
        assert (await broker.submit(order)).broker_order_id == row.id
        assert len(venue.book) == len(venue.placed) == 1
