"""The promise as a state machine: callers, a venue and restarts in any order, against a small model of it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scripted import (
    DEADLINE,
    PROFILE,
    REJECTED,
    Replaceable,
    Row,
    Scripted,
    Venue,
    accepted,
    answers,
    buy,
    comes_late,
    fails,
    loses_reply,
    settle,
)

from mts1b_brokers_core.execution.journal import State
from mts1b_brokers_core.execution.port import Inconclusive, NotPlaced, TokenRule
from mts1b_brokers_core.foundation.errors import (
    BrokerError,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
    UnsupportedCapability,
)
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import Fill, Order, OrderChanges, OrderStatus
from mts1b_brokers_core.platform.clock import SteppedClock

T = TypeVar("T")

SEED = 20_260_701
PROFILES = {
    "deadline": replace(DEADLINE, replace="same_id", not_after_seconds=2.0),
    "probable": replace(PROFILE, replace="same_id"),
    "dedupes": replace(PROFILE, token=TokenRule("forever", dedupes=True)),
}
REPLIES = {
    "taken": accepted,
    "refused": answers(REJECTED),
    "not sent": fails(ConnectionRefusedError()),
    "throttled": answers(NotPlaced("throttled", retry_after=0.5)),
    "nothing arrives": fails(TimeoutError()),
    "reply lost": loses_reply(),
    "comes late": comes_late,
}
KEYS = st.sampled_from(["k0", "k1", "k2"])


class Promise(RuleBasedStateMachine):
    """What callers were told, and what the venue really did."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # In memory where there is such a folder: what is proved here is the order of events, not a disk.
        memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.clock = SteppedClock(Venue.opened)
        self.venue = Venue(self.clock)
        self.broker: Scripted
        self.orders: dict[str, Order] = {}
        #: Keys whose caller took the risk of a second order, or of which a person said what isn't true.
        self.risked: set[str] = set()
        self.answers: defaultdict[str, set[str]] = defaultdict(set)
        self.started = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # --- life ---------------------------------------------------------------------------------

    @precondition(lambda self: not self.started)
    @rule(kind=st.sampled_from(sorted(PROFILES)))
    def begins(self, kind: str) -> None:
        self.started = True
        self.venue.profile = PROFILES[kind]
        self.run(self.opened())

    async def opened(self) -> None:
        kind = Scripted if self.venue.profile.replace == "none" else Replaceable
        self.broker = self.venue.client(Path(self.folder.name) / "journal.db", kind=kind, resend_within=5)
        await self.broker.__aenter__()
        await self.quiet()

    async def closed(self) -> None:
        """Close as a process that ends does: what is being written may stay unanswered."""
        closing = asyncio.create_task(self.broker.close())
        while not closing.done():
            await settle(5)
            await self.clock.advance(1)
        await closing

    async def quiet(self) -> None:
        """Let everything that is under way go as far as it can without time passing."""
        for _ in range(2):
            await settle(15)
            await self.broker._journal.store.run(lambda connection: None)
        await settle(5)

    async def passing(self, seconds: float) -> None:
        for _ in range(max(1, int(seconds / 2))):
            await self.clock.advance(min(2.0, seconds))
            await self.quiet()

    @precondition(lambda self: self.started)
    @rule()
    def restarts(self) -> None:
        async def work() -> None:
            await self.closed()
            await self.opened()

        self.run(work())

    @precondition(lambda self: self.started)
    @rule(seconds=st.sampled_from([0.3, 3, 12]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.passing(seconds))

    # --- callers ------------------------------------------------------------------------------

    @precondition(lambda self: self.started)
    @rule(
        key=KEYS,
        replies=st.lists(st.sampled_from(sorted(REPLIES)), min_size=2, max_size=2),
        blind=st.integers(0, 2),
        patience=st.sampled_from([0, 1, 4]),
        risk=st.booleans(),
    )
    def submits(self, key: str, replies: list[str], blind: int, patience: int, risk: bool) -> None:
        order = self.orders.setdefault(key, buy("1", idempotency_key=key))
        self.venue.place_next.extend(REPLIES[reply] for reply in replies)
        self.venue.find_next.extend([Inconclusive("busy")] * blind)
        if risk:
            self.risked.add(key)

        async def work() -> None:
            task = asyncio.create_task(self.broker.submit(order, accept_duplicate_risk=risk))
            await self.quiet()
            for _ in range(patience):
                if not task.done():
                    await self.passing(2)
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.told(key, task)

        self.run(work())
        self.venue.place_next.clear()
        self.venue.find_next.clear()

    async def told(self, key: str, answer: asyncio.Task[Order]) -> None:
        """Remember an answer that is for good."""
        try:
            order = await answer
        except OrderRejected:
            self.answers[key].add("rejected")
        except BrokerError:
            return
        else:
            assert order.broker_order_id in self.venue.book
            self.answers[key].add("confirmed")

    @precondition(lambda self: self.orders)
    @rule(key=KEYS)
    def asks(self, key: str) -> None:
        async def work() -> None:
            if key in self.orders:
                await self.told(key, asyncio.create_task(self.broker.outcome(key)))

        self.run(work())

    @precondition(lambda self: self.orders)
    @rule(key=KEYS)
    def cancels(self, key: str) -> None:
        async def work() -> None:
            if key in self.orders:
                with contextlib.suppress(BrokerError):
                    await self.broker.cancel(self.orders[key].order_id)
            await self.quiet()

        self.run(work())

    @precondition(lambda self: self.orders)
    @rule(key=KEYS, price=st.sampled_from(["101", "102"]), lost=st.booleans())
    def replaces(self, key: str, price: str, lost: bool) -> None:
        async def work() -> None:
            if key in self.orders and isinstance(self.broker, Replaceable):
                if lost:
                    self.venue.replace_next.append(fails(TimeoutError()))
                with contextlib.suppress(BrokerError, UnsupportedCapability):
                    await self.broker.replace(self.orders[key].order_id, OrderChanges(limit_price=price))
            await self.quiet()

        self.run(work())
        self.venue.replace_next.clear()

    @precondition(lambda self: self.orders)
    @rule(key=KEYS, there=st.booleans())
    def a_person_resolves(self, key: str, there: bool) -> None:
        rows = [row.id for row in self.rows_of(key)]

        async def work() -> None:
            with contextlib.suppress(BrokerError):
                await self.broker.resolve(key, rows[-1] if there and rows else None)
                self.risked.add(key)

        self.run(work())

    # --- the venue ----------------------------------------------------------------------------

    def working(self, pick: int) -> Row | None:
        """Return one of the orders the venue works: no strategy draws it, as a thread has a say in it."""
        rows = [row for row in self.venue.book.values() if not row.status.final]
        return rows[pick % len(rows)] if rows else None

    @precondition(lambda self: self.orders)
    @rule(pick=st.integers(0, 5), quantity=st.sampled_from(["0.25", "0.5"]), push=st.booleans())
    def fills(self, pick: int, quantity: str, push: bool) -> None:
        row = self.working(pick)
        if row is not None and row.filled + Decimal(quantity) <= 1:
            self.venue.fill(row, quantity, push=push)
        self.run(self.quiet())

    @precondition(lambda self: self.orders)
    @rule(pick=st.integers(0, 5), status=st.sampled_from([OrderStatus.CANCELED, OrderStatus.EXPIRED]))
    def ends(self, pick: int, status: OrderStatus) -> None:
        row = self.working(pick)
        if row is not None:
            self.venue.push(self.venue.end(row, status))
        self.run(self.quiet())

    @precondition(lambda self: self.orders)
    @rule()
    def lands(self) -> None:
        ticket = self.venue.late[0] if self.venue.late else None
        if ticket is not None and ticket.not_after is not None and self.clock.now() >= ticket.not_after:
            self.venue.late.pop(0)  # the venue keeps its word
        elif ticket is not None:
            self.venue.push(self.venue.view(self.venue.land()))
        self.run(self.quiet())

    # --- the promise --------------------------------------------------------------------------

    def rows_of(self, key: str) -> list[Row]:
        """Return the venue's orders of a key, those that a replace left behind not counted."""
        rows = [row for row in self.venue.book.values() if row.order.idempotency_key == key]
        return [row for row in rows if row.replaced_by is None]

    @invariant()
    def one_key_is_one_order_unless_announced_or_risked(self) -> None:
        announced = {e.idempotency_key for e in self.venue.events if e.kind is EventKind.DUPLICATE}
        for key in self.orders:
            if len(self.rows_of(key)) > 1:
                assert key in self.risked | announced

    @invariant()
    def answers_never_contradict_each_other(self) -> None:
        assert all(len(kinds) == 1 for kinds in self.answers.values())
        if self.started:
            for key, kinds in self.answers.items():
                record = self.broker._login.record(key)
                assert record is not None
                after = (State.CONFIRMED, State.DUPLICATE) if "confirmed" in kinds else (State.REJECTED,)
                assert record.state in after

    @invariant()
    def no_execution_is_logged_twice(self) -> None:
        fills = [event.fill for event in self.venue.events if event.fill is not None]
        assert len({fill.fill_id for fill in fills}) == len(fills)
        assert [fill.seq for fill in fills] == list(range(1, len(fills) + 1))

    def teardown(self) -> None:
        try:
            if self.started:
                self.run(self.agree())
        finally:
            if self.started:
                self.run(self.closed())
            self.loop.close()
            self.folder.cleanup()

    async def agree(self) -> None:
        """After a catch-up nothing is missing, and every fill is its order's."""
        await self.passing(32)
        await self.broker._intake.compare()
        await self.quiet()
        logged: list[Fill] = []
        if self.venue.fills:
            async for fill in self.broker.stream_fills(since=0):
                logged.append(fill)
                if len(logged) == len(self.venue.fills):
                    break
        assert {fill.fill_id for fill in logged} == {seen.fill_id for seen in self.venue.fills}
        for key, order in self.orders.items():
            if "rejected" in self.answers[key]:
                continue  # the answer stays, so an attempt that lands after it is nobody's order
            ids = {row.id for row in self.venue.book.values() if row.order.idempotency_key == key}
            filled = sum(
                (seen.quantity for seen in self.venue.fills if seen.ref.broker_order_id in ids), Decimal(0)
            )
            with contextlib.suppress(OrderNotPlaced, OrderRejected, OutcomeUnknown):
                assert (await self.broker.outcome(key)).filled_quantity == filled
            ours = [fill.quantity for fill in logged if fill.order_id == order.order_id]
            assert sum(ours, Decimal(0)) == filled


TestPromise = seed(SEED)(Promise.TestCase)
TestPromise.settings = settings(
    max_examples=35,
    stateful_step_count=20,
    phases=(Phase.generate,),
    deadline=None,
    derandomize=False,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
print(f"test_promise_machine: seed {SEED}")
