"""Fees: unknown until told, told late, early, twice, or for a whole order; never zero in their place."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import PROFILE, Scripted, TellingFees, Venue, buy, examples, settle, take

from mts1b_brokers_core.execution.fees import shares
from mts1b_brokers_core.execution.port import FeeAmendment, Listing, listed
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import FeeStatus, Fill, Order, Side
from mts1b_brokers_core.platform.clock import SteppedClock

LATE = replace(PROFILE, fee_timing="seconds")
BY_ORDER = replace(PROFILE, fee_timing="order_level")


def money(amount: str, currency: str = "USD") -> Money:
    return Money(amount=amount, currency=currency)


async def stands(broker: Scripted, order: Order) -> Order:
    await settle()
    return await broker.outcome(order.idempotency_key)


async def test_a_fee_is_unknown_until_told_and_then_told_once(clock: SteppedClock) -> None:
    venue = Venue(clock, LATE)
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.push(replace(venue.fill("V1", "1", push=False), fees=None))
        assert (await stands(broker, placed)).fees is None
        assert [fill.fees for fill in venue.logged()] == [None]
        fee = FeeAmendment("E1", (money("0.2"),), FeeStatus.FINAL)
        venue.push(fee, fee)
        venue.push(fee)
        assert (await stands(broker, placed)).fees == (money("0.2"),)
        (told,) = [event for event in venue.events if event.kind is EventKind.FEE_AMENDED]
        assert told.detail == {"fill_id": "E1", "seq": "1", "status": "final"}
        assert (told.order_id, told.message) == (placed.order_id, "0.2 USD")
        venue.push(FeeAmendment("E1", (money("0.25"), money("0.01", "BTC")), FeeStatus.FINAL))
        assert (await stands(broker, placed)).fees == (money("0.01", "BTC"), money("0.25"))
        (fill,) = await take(broker.stream_fills(since=0), 1)
        assert (fill.seq, fill.fee_status) == (1, FeeStatus.FINAL)
        assert fill.fees == (money("0.25"), money("0.01", "BTC"))


async def test_an_estimate_that_turns_out_right_becomes_final(clock: SteppedClock) -> None:
    venue = Venue(clock, replace(PROFILE, fee_timing="next_day"))
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        seen = venue.fill("V1", "1", push=False)
        venue.push(replace(seen, fee_status=FeeStatus.ESTIMATED))
        await settle()
        venue.push(FeeAmendment("E1", (money("0.1"),), FeeStatus.FINAL))
        assert (await stands(broker, placed)).fees == (money("0.1"),)
        (fill,) = await take(broker.stream_fills(since=0), 1)
        assert fill.fee_status is FeeStatus.FINAL


async def test_a_fee_before_its_fill_waits_for_it_over_a_restart(clock: SteppedClock, file: Path) -> None:
    venue = Venue(clock, LATE)
    async with venue.client(file) as broker:
        placed = await broker.submit(buy("2"))
        older, newer = (FeeAmendment("E1", (money(text),), FeeStatus.FINAL) for text in ("0.2", "0.3"))
        await broker._login.ingest.observe([older])
        await broker._login.ingest.observe([newer, FeeAmendment("E2", (money("0.4"),), FeeStatus.FINAL)])
        assert EventKind.FEE_AMENDED not in venue.kinds()
    venue.fills.append(replace(venue.fill("V1", "1", push=False), fees=None))
    del venue.fills[0]
    async with venue.client(file) as broker:
        (fill,) = await take(broker.stream_fills(), 1)
        assert fill.fees == (money("0.3"),)
        assert (await broker.outcome(placed.idempotency_key)).fees == (money("0.3"),)
        venue.push(replace(venue.fills[0], fill_id="E2"), replace(venue.fills[0], fill_id="E3"))
        fills = await take(broker.stream_fills(since=1), 2)
        assert [fill.fees for fill in fills] == [(money("0.4"),), None]  # taken out once


async def test_an_execution_read_again_brings_its_fee(clock: SteppedClock, file: Path) -> None:
    venue = Venue(clock, LATE)
    async with venue.client(file) as broker:
        placed = await broker.submit(buy())
        seen = venue.fill("V1", "1", push=False)
        venue.push(replace(seen, fees=None))
        await take(broker.stream_fills(consumer="a"), 1)
        await broker._login.ingest.observe([seen])
        await broker._login.ingest.observe([replace(seen, fees=None)])  # an older sight takes nothing away
        (fill,) = await take(broker.stream_fills(since=0), 1)
        assert fill.fees == (money("0.1"),)
        assert (await broker.outcome(placed.idempotency_key)).fees == (money("0.1"),)
        assert venue.kinds().count(EventKind.FEE_AMENDED) == 1


async def test_a_fee_of_somebody_elses_fill(clock: SteppedClock) -> None:
    venue = Venue(clock, LATE)
    async with venue.client() as other:
        await other.submit(buy())
    async with venue.client() as broker:
        venue.push(replace(venue.fill("V1", "1", push=False), fees=None))
        await settle()
        venue.push(FeeAmendment("E1", (money("0.2"),), FeeStatus.FINAL))
        await settle()
        (fill,) = await take(broker.stream_fills(since=0), 1)
        assert (fill.order_id, fill.fees) == ("V1", (money("0.2"),))
        assert venue.events[-1].kind is EventKind.FEE_AMENDED
        assert venue.events[-1].order is None


async def test_fees_that_are_only_listed_are_read_by_reconciliation(clock: SteppedClock) -> None:
    venue = Venue(clock, LATE)
    async with venue.client(kind=TellingFees, reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        venue.push(replace(venue.fill("V1", "1", push=False), fees=None))
        venue.fills.clear()
        await settle()
        venue.amendments.append(FeeAmendment("E1", (money("0.2"),), FeeStatus.FINAL))
        await clock.advance(61)
        assert (await stands(broker, placed)).fees == (money("0.2"),)
        await clock.advance(60)
        assert venue.calls.count("fees") == 2
        assert venue.kinds().count(EventKind.FEE_AMENDED) == 1


class FeesSince(TellingFees):
    """The adapter of a venue that lists fees by when they became known: an hour after the start."""

    async def fees(self, account_id: str, since: datetime | None) -> Listing[FeeAmendment]:
        rows = (await super().fees(account_id, since)).rows
        return listed(rows if since is None or since <= Venue.opened + timedelta(hours=1) else (), "fees")


async def test_fees_that_became_known_while_nobody_looked_are_read(clock: SteppedClock, file: Path) -> None:
    venue = Venue(clock, replace(PROFILE, fee_timing="next_day"))
    async with venue.client(file, kind=FeesSince, reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        venue.push(replace(venue.fill("V1", "1", push=False), fees=None))
        venue.fills.clear()
        await settle()
    await clock.advance(86_400)
    venue.amendments.append(FeeAmendment("E1", (money("0.2"),), FeeStatus.FINAL))
    async with venue.client(file, kind=FeesSince, reconcile_every=60) as broker:
        await clock.advance(61)
        async for event in broker.stream_events():
            if event.kind is EventKind.FEE_AMENDED:
                break
        assert (await stands(broker, placed)).fees == (money("0.2"),)


async def test_an_orders_fee_is_shared_by_value_and_grows(clock: SteppedClock) -> None:
    venue = Venue(clock, BY_ORDER, telling=True)
    async with venue.client() as broker:
        placed = await broker.submit(buy("3"))
        for quantity in ("1", "2"):
            venue.push(replace(venue.fill("V1", quantity, push=False), fees=None))
        venue.book["V1"].fees = (money("0.10"),)
        view = venue.view("V1")
        venue.push(view)
        venue.push(view)
        assert (await stands(broker, placed)).fees == (money("0.10"),)
        fills = await take(broker.stream_fills(since=0), 2)
        assert {fill.fee_status for fill in fills} == {FeeStatus.ALLOCATED}
        assert [fill.fees for fill in fills] == [(money("0.033333333333"),), (money("0.066666666667"),)]
        await clock.advance(1)
        venue.book["V1"].fees, venue.book["V1"].updated = (money("0.12"),), clock.now()
        venue.push(venue.view("V1"))
        venue.push(view)  # an older sight takes nothing back
        assert (await stands(broker, placed)).fees == (money("0.12"),)
        fills = await take(broker.stream_fills(since=0), 2)
        assert sum(fee.amount for fill in fills for fee in fill.fees or ()) == Decimal("0.12")


async def test_an_orders_fee_is_read_though_all_its_fills_came_first(clock: SteppedClock) -> None:
    venue = Venue(clock, BY_ORDER, telling=True)
    async with venue.client(reconcile_every=60) as broker:
        placed = await broker.submit(buy())
        venue.fills[:] = [replace(venue.fill("V1", "1", push=False), fees=None)]
        venue.push(*venue.fills)
        assert (await stands(broker, placed)).settled is False
        await clock.advance(61)
        assert (await stands(broker, placed)).fees is None  # not known at the venue, either
        venue.book["V1"].fees, venue.book["V1"].updated = (money("0.10"),), clock.now()
        await clock.advance(60)
        order = await stands(broker, placed)
        assert (order.fees, order.settled) == ((money("0.10"),), True)


amounts = st.integers(1, 10**9).map(lambda number: Decimal(number).scaleb(-4))
parts = st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)), min_size=1, max_size=8)


@settings(derandomize=True, database=None, max_examples=examples(200), deadline=None)
@given(parts, st.dictionaries(st.sampled_from(["USD", "BTC"]), amounts, min_size=1))
def test_shares_add_up_exactly(rows: list[tuple[int, int]], fees: dict[str, Decimal]) -> None:
    fills = [
        Fill(
            fill_id=f"E{n}", order_id="o", symbol="BTC-USD", side=Side.BUY, quantity=quantity, price=price,
            executed_at=Venue.opened,
        )
        for n, (quantity, price) in enumerate(rows)
    ]  # fmt: skip
    whole = [Money(amount=amount, currency=currency) for currency, amount in fees.items()]
    given_out = shares(whole, fills)
    assert len(given_out) == len(fills)
    for fee in whole:
        assert sum(m.amount for share in given_out for m in share if m.currency == fee.currency) == fee.amount


def test_of_no_fills_nothing_is_shared() -> None:
    assert shares([money("1")], []) == []
