"""Laws: in whatever order a venue's true history arrives, the log agrees with the venue's books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import PROFILE, Row, Scripted, Venue, buy, examples

from mts1b_brokers_core.execution.merge import add_fees
from mts1b_brokers_core.execution.port import Decoded, Execution, FeeAmendment, VenueProfile
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import FeeStatus, Fill, OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock

LATE = replace(PROFILE, fee_timing="seconds")
COMPOSITE = replace(LATE, fill_identity="composite")
CUMULATIVE = replace(PROFILE, fill_identity="cumulative")
FIXED = settings(derandomize=True, database=None, max_examples=examples(60), deadline=None)
ORDERS = ("V1", "V2", "X3")  # two of ours, one of somebody else

fills = st.tuples(st.just("fill"), st.integers(0, 2), st.integers(1, 5), st.integers(90, 110))
others = st.tuples(st.sampled_from(["bust", "correct", "fee"]), st.integers(0, 20), st.integers(90, 110))
counted = st.lists(fills | fills | others.filter(lambda act: act[0] == "bust"), min_size=1, max_size=12)
histories = st.lists(fills | fills | others, min_size=1, max_size=12)


@dataclass
class World:
    """A venue that did something, all it ever told of it, and what is true at the end."""

    venue: Venue
    told: list[Decoded] = field(default_factory=list)
    live: list[Execution] = field(default_factory=list)
    fees: dict[str | None, Money] = field(default_factory=dict)

    async def happen(self, history: list[Any]) -> None:
        for act, *values in history:
            await self.venue.clock.advance(1)  # type: ignore[attr-defined]
            getattr(self, act)(*values)
            self.told.extend(self.venue.view(name) for name in ORDERS)

    def fill(self, order: int, quantity: int, price: int) -> None:
        seen = replace(self.venue.fill(ORDERS[order], str(quantity), str(price), push=False), fees=None)
        self.venue.fills[-1] = seen
        self.live.append(seen)
        self.told.append(seen)

    def bust(self, which: int, price: int) -> None:
        if self.live:
            seen = self.live.pop(which % len(self.live))
            self.told.append(self.venue.bust(seen))

    def correct(self, which: int, price: int) -> None:
        if self.live:
            old = self.live.pop(which % len(self.live))
            new = replace(old, fill_id=f"{old.fill_id}.1", price=Decimal(price), corrects=old.fill_id)
            row = self.venue.book[str(old.ref.broker_order_id)]
            row.value += old.quantity * (new.price - old.price)
            row.updated = self.venue.clock.now()
            for known in (self.venue.fills, self.live, self.told):
                known.append(new)

    def fee(self, which: int, amount: int) -> None:
        if self.live:
            seen = self.live[which % len(self.live)]
            known = seen.fill_id in self.fees
            fee = self.fees.setdefault(seen.fill_id, Money(amount=amount, currency="USD"))
            name = str(seen.fill_id)
            if self.venue.profile.fill_identity == "composite":
                name = f"{seen.ref.broker_order_id}:{name}"
            if not known:
                self.told.append(FeeAmendment(name, (fee,), FeeStatus.FINAL))


def world(profile: VenueProfile) -> World:
    venue = Venue(SteppedClock(Venue.opened), profile, telling=True)
    return World(venue)


async def told_in_parts(broker: Scripted, items: list[Decoded], cuts: list[int]) -> None:
    """Let everything arrive in frames of the sizes that are given."""
    while items:
        size = cuts.pop() if cuts else len(items)
        await broker._login.ingest.observe(items[:size])  # type: ignore[arg-type]
        items = items[size:]


async def consume(broker: Scripted, count: int, stops: list[int]) -> list[Fill]:
    """Read by number, stopping and going on where one was, as a reader does that crashes."""
    seen: list[Fill] = []
    while len(seen) < count:
        most = stops.pop() if stops else count
        async for fill in broker.stream_fills(since=seen[-1].seq if seen else 0):
            seen.append(fill)
            if len(seen) == count or (most := most - 1) <= 0:
                break
    return seen


async def play(
    profile: VenueProfile, history: list[Any], shuffle: Callable[[list[Decoded]], list[Decoded]],
    cuts: list[int], check: Callable[[World, Scripted, list[str]], Any], ending: OrderStatus | None,
) -> None:  # fmt: skip
    made = world(profile)
    venue = made.venue
    async with venue.client(reconcile_every=10**6) as broker:
        keys = [(await broker.submit(buy("1000"))).idempotency_key for _ in range(2)]
        venue.book["X3"] = Row("X3", None, buy("1000"))
        await made.happen(history)
        await told_in_parts(broker, shuffle(made.told), cuts)
        if ending:
            await venue.clock.advance(1)  # type: ignore[attr-defined]
            venue.push(*(venue.end(name, ending) for name in ORDERS))
        await broker._intake.compare()
        await venue.clock.advance(10)  # type: ignore[attr-defined]
        await broker._intake.compare()
        await check(made, broker, keys)


async def agrees(made: World, broker: Scripted, keys: list[str]) -> None:
    """Compare the log and its orders with the venue's books."""
    venue, logged = made.venue, made.venue.logged()
    cumulative = venue.cumulative
    assert [fill.seq for fill in logged] == list(range(1, len(logged) + 1))
    assert len({fill.fill_id for fill in logged}) == len(logged)
    for name in ORDERS:
        mine, row = [fill for fill in logged if fill.broker_order_id == name], venue.book[name]
        assert sum(fill.quantity for fill in mine) == row.filled
        value = sum((fill.quantity * fill.price for fill in mine), Decimal(0))
        assert abs(value - row.value) < Decimal("1e-5") if cumulative else value == row.value
    for name, key in zip(ORDERS, keys, strict=False):
        order, row = await broker.outcome(key), venue.book[name]
        assert order.filled_quantity == row.filled
        assert (order.settled, order.fills_pending) == (row.status.final, False)
        if not cumulative:
            known = [
                made.fees[seen.fill_id]
                for seen in made.live
                if seen.fill_id in made.fees and seen.ref.broker_order_id == name
            ]
            total = add_fees(order.fees, (Money(amount=0, currency="USD"),)) or ()
            assert total[0].amount == sum(fee.amount for fee in known)
    settled = [event.order_id for event in venue.events if event.kind is EventKind.SETTLED]
    assert len(settled) <= 2 + venue.kinds().count(EventKind.BUST)


async def each_sees_all(made: World, broker: Scripted, keys: list[str], stops: list[list[int]]) -> None:
    logged = [(fill.seq, fill.fill_id) for fill in made.venue.logged()]
    readers = await asyncio.gather(*(consume(broker, len(logged), [*few]) for few in stops))
    for seen in readers:
        assert [(fill.seq, fill.fill_id) for fill in seen] == logged
    amended = {fill.fill_id: fill.fees for fill in readers[0]}
    for name, fee in made.fees.items():
        if name in amended:
            assert amended[name] == (fee,)


sizes = st.lists(st.integers(1, 6), max_size=20)
endings = st.sampled_from([None, OrderStatus.CANCELED, OrderStatus.EXPIRED])


def arrival(data: st.DataObject) -> Callable[[list[Decoded]], list[Decoded]]:
    """Draw how what is told arrives: in any order, some of it more than once."""

    def shuffle(told: list[Decoded]) -> list[Decoded]:
        again = data.draw(st.lists(st.sampled_from(told), max_size=8))
        return data.draw(st.permutations([*told, *again]))

    return shuffle


@FIXED
@given(histories, sizes, endings, st.sampled_from([LATE, COMPOSITE]), st.data())
def test_the_log_agrees_with_the_venues_books(
    history: list[Any],
    cuts: list[int],
    ending: OrderStatus | None,
    profile: VenueProfile,
    data: st.DataObject,
) -> None:
    asyncio.run(play(profile, history, arrival(data), cuts, agrees, ending))


@FIXED
@given(
    counted,
    sizes,
    endings,
    st.data(),
)
def test_what_is_cut_from_counts_agrees_too(
    history: list[Any], cuts: list[int], ending: OrderStatus | None, data: st.DataObject
) -> None:
    asyncio.run(play(CUMULATIVE, history, arrival(data), cuts, agrees, ending))


@settings(FIXED, max_examples=examples(25))
@given(histories, sizes, st.lists(st.lists(st.integers(1, 5), max_size=6), min_size=1, max_size=3), st.data())
def test_each_reader_sees_all_exactly_once(
    history: list[Any], cuts: list[int], stops: list[list[int]], data: st.DataObject
) -> None:
    async def check(made: World, broker: Scripted, keys: list[str]) -> None:
        await each_sees_all(made, broker, keys, stops)

    asyncio.run(play(LATE, history, arrival(data), cuts, check, None))
