"""A: an answer that is missing or odd is not a no, and one key is never two orders."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from failure_kit import Rewritten, Start, at_once, resting
from scripted import Venue, buy, settle

from mts1b_brokers_core import OrderNotFound, OrderNotPlaced, OrderStatus, OutcomeUnknown
from mts1b_brokers_core.execution.port import Absent, Coverage, NoSuch
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_simulator.reference import PROFILES
from mts1b_simulator.wire import faults

#: Kinds of venue that differ in how an order can be looked up.
KINDS = (
    "native_dedupe", "while_open_deadline", "timestamp_limit", "token_not_unique", "no_client_id",
    "cumulative_fills",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_an_order_that_filled_at_once_after_a_lost_reply_is_found_in_history(
    start: Start, kind: str
) -> None:
    """Look-ups that saw only the open orders never found an order that had filled meanwhile."""
    # ccxt#2599, ccxt#1880
    async with start(kind) as site, site.broker() as broker:
        site.server.faults.next(faults.DropReply(), "POST /v1/orders")
        order = await broker.wait_for(await broker.submit(at_once()), "filled", timeout=5)
        (held,) = site.orders()
        assert (order.broker_order_id, order.filled_quantity) == (held.id, Decimal(10))
        assert await broker.unresolved() == []


@pytest.mark.parametrize("kind", ["native_dedupe", "no_client_id"])
async def test_a_time_out_after_the_venue_took_it_places_no_second_order(start: Start, kind: str) -> None:
    """Time-outs were counted as failures: whoever tried again held twice as much."""
    # scrtlabs/catalyst#317, AlbatrossAutomated/blue_collar_gdax#1, hummingbot#493
    async with start(kind) as site, site.broker(timeout=0.25) as broker:
        site.server.faults.next(faults.HangBeyond(0.0), "POST /v1/orders")
        order = await broker.submit(resting())
        again = await broker.submit(order)
        assert [held.id for held in site.orders()] == [order.broker_order_id] == [again.broker_order_id]
        assert site.server.count("POST /v1/orders") == 1


@pytest.mark.parametrize(
    "fault",
    [
        faults.DropReply(),
        faults.ErrorBefore(500),
        faults.ErrorAfter(504),
        faults.Truncated(),
        faults.Garbage(),
    ],
    ids=lambda fault: fault.kind,
)  # fmt: skip
async def test_no_layer_below_repeats_the_post_of_an_order(start: Start, fault: Any) -> None:
    """A retry inside the HTTP client, blind to the method, sent the order again for every lost answer."""
    # bennycode/trading-signals#1178
    async with start("token_not_unique") as site, site.broker(resend_within=0.5) as broker:
        site.server.faults.when(fault, "POST /v1/orders")
        (answer,) = await asyncio.gather(broker.submit(resting()), return_exceptions=True)
        if isinstance(answer, BaseException):
            assert isinstance(answer, OrderNotPlaced)
            assert (answer.certainty, answer.repeat_is_safe) == ("probable", False)
        assert len(site.server.faults.applied) == 1
        assert len(site.orders()) <= 1


async def test_one_key_from_two_processes_and_after_a_restart_is_one_wire_order(start: Start) -> None:
    """Loops that tried again, and a second process beside them, multiplied the order."""
    # yubing744/trading-gpt#94, TraderAlice/OpenAlice#91
    # A venue that takes every token as often as it comes: nothing but the journal prevents a second order.
    async with start("token_not_unique") as site:
        child = await site.child("the one", 25)
        async with site.broker() as broker:
            child.tell("go")
            order = resting(idempotency_key="the one")
            ours = await asyncio.gather(*(broker.submit(order) for _ in range(50)))
            theirs = await child.hear()
            assert await child.end() == 0
        async with site.broker() as broker:
            again = await broker.submit(resting(idempotency_key="the one"))
        (held,) = site.orders()
        assert {row.broker_order_id for row in ours} | set(theirs) | {again.broker_order_id} == {held.id}
        assert site.server.count("POST /v1/orders") == 1


async def test_a_caller_that_keeps_trying_with_new_order_ids_places_one_order(venue: Venue) -> None:
    """An agent that built its stop anew for each try ended with as many stops as tries."""
    # yubing744/trading-gpt#94
    async with venue.client() as broker:
        tries = [await broker.submit(buy(idempotency_key="stop of 3 July")) for _ in range(20)]
        assert {row.broker_order_id for row in tries} == {"V1"}
        assert len(venue.placed) == 1


async def test_an_order_that_left_the_open_list_is_not_declared_rejected(
    venue: Venue, clock: SteppedClock
) -> None:
    """A fast fill was gone from the open orders; after five looks at them it was declared rejected."""

    # nautilus#3870
    async def fills_at_once(venue: Venue, ticket: Any) -> Any:
        venue.fill(venue.accept(ticket), "1", push=False)
        raise TimeoutError

    venue.place_next.append(fills_at_once)
    only_open = Absent(Coverage(("open orders",), complete=False))
    venue.find_next.extend([only_open] * 6)
    async with venue.client() as broker:
        with pytest.raises(OutcomeUnknown) as unknown:
            await broker.submit(buy())
        for _ in range(5):
            await clock.advance(30)
        order = await unknown.value.resolved()
        assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, Decimal(1))
        assert len(venue.found) == 7
        told = {event.order.status for event in venue.events if event.order}
        assert OrderStatus.REJECTED not in told


async def test_what_is_not_visible_yet_is_not_absent(start: Start) -> None:
    """A venue shows an accepted order only after a while; looked for at once, it seemed not to exist."""
    # nautilus#3870
    slow = replace(PROFILES["token_not_unique"], visibility=0.4)
    async with start(slow) as site, site.broker(profile="token_not_unique", resend_within=3.0) as broker:
        broker.profile = replace(broker.profile, visibility=0.6)
        site.server.faults.next(faults.DropReply(), "POST /v1/orders")
        order = await broker.submit(resting())
        assert [held.id for held in site.orders()] == [order.broker_order_id]


async def test_a_cancel_that_finds_nothing_says_nothing_about_fills(venue: Venue) -> None:
    """ "Never placed, cancelled or filled" came back for a cancel, was read as gone, and was bought again."""
    # enarjord/passivbot#514
    async with venue.client() as broker:
        order = await broker.submit(buy())
        seen = venue.fill("V1", "1", push=False)
        row = venue.book.pop("V1")
        venue.cancel_next.append(NoSuch())
        with pytest.raises(OrderNotFound):
            await broker.cancel(order.order_id)
        held = await broker.outcome(order.idempotency_key)
        assert (held.status, held.is_final) == (OrderStatus.NEW, False)
        assert (await broker.submit(order)).broker_order_id == "V1"  # bought again: the stored answer
        venue.book["V1"] = row
        venue.push(seen)
        await settle()
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.FILLED
        assert len(venue.placed) == 1


async def test_a_reply_that_names_another_order_binds_nothing(start: Start) -> None:
    """The reply's reference can name another order, such as a child that was just triggered."""
    # studerw/td-ameritrade-client#54
    async with start("token_not_unique") as site, site.broker() as broker:
        other = await broker.submit(selling())
        row = site.orders()[0].show(site.server.clock_ns())
        named = Rewritten(lambda status, body: (status, {"order": _plain(row)}))
        site.server.faults.next(named, "POST /v1/orders")
        order = await broker.submit(resting())
        first, second = site.orders()
        assert (other.broker_order_id, order.broker_order_id) == (first.id, second.id)
        assert order.broker_order_ids == (second.id,)


def selling() -> Any:
    from mts1b_brokers_core import Order, Side

    return Order.limit("BTC-USD", Side.SELL, "0.2", price="120000")


def _plain(row: Any) -> Any:
    import json

    from mts1b_simulator.wire import encode

    return json.loads(encode(row))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (201, {}), (201, {"order": None}), (200, []), (200, None), (422, {}), (422, {"error": {}}),
        (400, {"error": {"message": "no code"}}), (422, {"error": {"code": 0}}),
    ],
    ids=str,
)  # fmt: skip
async def test_a_reply_that_lacks_its_code_is_not_a_rejection(start: Start, status: int, body: Any) -> None:
    """A reply without the field that says yes or no was read as a no, while the order worked."""
    # ginlix-ai/LangAlpha#405
    async with start() as site, site.broker() as broker:
        site.server.faults.next(Rewritten(lambda *_: (status, body)), "POST /v1/orders")
        order = await broker.submit(resting())
        assert [held.id for held in site.orders()] == [order.broker_order_id]
        assert order.status is OrderStatus.NEW


async def test_a_request_swallowed_in_a_burst_ends_in_a_verdict(start: Start) -> None:
    """One of a burst of orders was dropped without a word, and its caller waited for ever."""
    # Lean.Brokerages.InteractiveBrokers#93
    async with start("token_not_unique") as site, site.broker(timeout=0.3, resend_within=1.0) as broker:
        site.server.faults.next(faults.HangBeyond(3600), "POST /v1/orders", nth=3)
        orders = [resting() for _ in range(5)]
        answers = await asyncio.gather(*map(broker.submit, orders), return_exceptions=True)
        lost = [row for row in answers if isinstance(row, BaseException)]
        assert len(site.orders()) == 4
        assert [type(row) for row in lost] == [OrderNotPlaced]
        assert "probable" in str(lost[0])


async def test_a_token_the_venue_knows_already_is_looked_up_not_rejected(start: Start) -> None:
    """After a restart the venue said "duplicate order id", and the order was reported as failed."""
    # erdewit/ib_insync#308, erdewit/ib_insync#80, wboayue/rust-ibapi#350
    async with start("late_fees_corrections") as site:
        async with site.broker() as broker:
            first = await broker.submit(resting(idempotency_key="k"))
        for file in site.journal.parent.glob("journal*"):
            if file.is_file():
                file.unlink()
        async with site.broker() as broker:
            again = await broker.submit(resting(idempotency_key="k"))
        assert site.server.count("POST /v1/orders") == 2
        assert [held.id for held in site.orders()] == [first.broker_order_id] == [again.broker_order_id]
