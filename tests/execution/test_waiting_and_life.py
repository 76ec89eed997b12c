"""Waiting for an order, asking about keys, and the life of a broker object."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import MANIFEST, REJECTED, Replaceable, Scripted, Venue, answers, buy, fails, settle, waits

from mts1b_brokers_core.execution.client import VenueClient
from mts1b_brokers_core.execution.port import Absent, CancelResult, Coverage, Inconclusive, OrderRef
from mts1b_brokers_core.foundation.errors import (
    AccountNotChosen,
    BrokerClosed,
    BrokerFailed,
    ConfigurationError,
    EnvironmentNotChosen,
    OrderError,
    OrderNotFound,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
    StateMismatch,
    VenueUnavailable,
    WaitTimeout,
)
from mts1b_brokers_core.foundation.orders import OrderChanges, OrderStatus
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.recorder import read_header


async def test_who_waits_for_one_order_looks_only_when_it_is_told_of(venue: Venue) -> None:
    async with venue.client() as broker:
        quiet, busy = [await broker.submit(buy("9", order_id=name)) for name in ("quiet", "busy")]
        reached, looks = broker._reached, Counter[str]()

        def counted(order_id: str, until: Any) -> Any:
            looks[order_id] += 1
            return reached(order_id, until)

        broker._reached = counted  # type: ignore[method-assign]
        waiting = [asyncio.create_task(broker.wait_for(order)) for order in (quiet, busy)]
        await settle()
        looks.clear()
        for _ in range(8):
            venue.fill("V2", "1")
            await settle()
        assert looks["quiet"] == 0 < looks["busy"]
        venue.fill("V1", "9")
        assert (await waiting[0]).status is OrderStatus.FILLED
        waiting[1].cancel()


@pytest.mark.parametrize("until", ["filled", "final"])
async def test_wait_for_a_fill(venue: Venue, until: str) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        waiting = asyncio.create_task(broker.wait_for(placed, until))  # type: ignore[arg-type]
        venue.fill("V1", "0.5")
        await settle()
        assert not waiting.done()
        venue.fill("V1", "0.5")
        assert (await waiting).status is OrderStatus.FILLED
        assert (await broker.wait_for(placed.order_id)).status is OrderStatus.FILLED
        assert (await broker.wait_for("V1", timeout=0)).status is OrderStatus.FILLED


async def test_a_wait_that_ends_cancels_nothing_and_says_so(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        waiting = asyncio.create_task(broker.wait_for(placed, timeout=5))
        await settle()
        await clock.advance(5)
        with pytest.raises(WaitTimeout, match="not final within 5 s; it was not cancelled") as caught:
            await waiting
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.repeat_is_safe
        assert venue.canceled == []


async def test_waiting_for_a_fill_of_an_order_that_ends_otherwise(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        waiting = asyncio.create_task(broker.wait_for(placed, "filled"))
        await settle()
        venue.push(venue.end("V1"))
        with pytest.raises(OrderError, match="ended without being filled") as caught:
            await waiting
        assert caught.value.order is not None
        assert caught.value.order.status is OrderStatus.CANCELED
        assert (await broker.wait_for(placed, "final")).status is OrderStatus.CANCELED


async def test_waiting_for_an_order_that_is_found_not_to_be_there(venue: Venue) -> None:
    venue.place_next.append(fails(TimeoutError()))
    venue.find_next.append(Inconclusive("busy"))
    async with venue.client() as broker:
        order = buy()
        with pytest.raises(OutcomeUnknown) as unknown:
            await broker.submit(order)
        waiting = asyncio.create_task(broker.wait_for(order))
        await settle()
        venue.find_next.append(Absent(Coverage(("history",))))
        with pytest.raises(OrderNotPlaced):
            await unknown.value.resolved()
        with pytest.raises(OrderNotPlaced):
            await waiting


async def test_waiting_ends_when_the_broker_closes(venue: Venue, file: Path) -> None:
    async with venue.client(file) as broker:
        placed = await broker.submit(buy())
        waiting = asyncio.create_task(broker.wait_for(placed))
        await settle()
    with pytest.raises(BrokerClosed):
        await waiting


async def test_waiting_for_what_was_never_placed_here(venue: Venue) -> None:
    async with venue.client() as broker:
        with pytest.raises(OrderNotFound):
            await broker.wait_for("nope")


async def test_cancelling_no_order_asks_the_venue_nothing(venue: Venue) -> None:
    async with venue.client() as broker:
        for nothing in ("", " "):
            with pytest.raises(OrderNotFound, match="no order id was given"):
                await broker.cancel(nothing)
    assert venue.canceled == []


async def test_outcome_of_a_key(venue: Venue) -> None:
    async with venue.client() as broker:
        with pytest.raises(OrderNotFound, match="never used here"):
            await broker.outcome("nope")
        venue.place_next.append(answers(REJECTED))
        order = buy()
        with pytest.raises(OrderRejected):
            await broker.submit(order)
        with pytest.raises(OrderRejected) as caught:
            await broker.outcome(order.idempotency_key)
        assert caught.value.operation == "outcome"


async def test_reads_come_in_our_nouns(venue: Venue) -> None:
    async with venue.client() as other:
        await other.submit(buy())
    async with venue.client() as broker:
        mine = await broker.submit(buy("2"))
        theirs, ours = await broker.get_open_orders()
        assert (theirs.order_id, theirs.broker_order_id, theirs.broker) == ("V1", "V1", "scripted")
        assert ours.order_id == mine.order_id
        venue.fill("V2", "2")
        (position,) = await broker.get_positions()
        assert (position.symbol, position.quantity, position.broker) == ("BTC-USD", 2, "scripted")


# --- life ----------------------------------------------------------------------------------------


async def test_nothing_works_before_opening_or_after_closing(venue: Venue) -> None:
    broker = venue.client()
    for words in ("not open yet", "closed"):
        with pytest.raises(BrokerClosed, match=words):
            await broker.submit(buy())
        with pytest.raises(BrokerClosed):
            await broker.cancel("x")
        with pytest.raises(BrokerClosed):
            await anext(broker.stream_fills())
        with pytest.raises(BrokerClosed):
            await broker.wait_for("x")
        with pytest.raises(BrokerClosed):
            await broker.halt("x")
        with pytest.raises(BrokerClosed):
            _ = broker.account_id
        if words == "not open yet":
            async with broker:
                assert broker.account_id == "A1"
    assert venue.calls[-1] == "disconnect"


async def test_a_broker_is_not_reopened(venue: Venue) -> None:
    broker = venue.client()
    async with broker:
        with pytest.raises(BrokerClosed, match="opened before and is open"):
            await broker.__aenter__()
    with pytest.raises(BrokerClosed, match="opened before and is closed"):
        await broker.__aenter__()


async def test_closing_twice_or_unopened_is_harmless(venue: Venue) -> None:
    broker = venue.client()
    await broker.__aenter__()
    await broker.close()
    await broker.close()
    assert venue.calls.count("disconnect") == 1
    unopened = venue.client()
    await unopened.close()
    assert venue.calls.count("disconnect") == 1
    with pytest.raises(BrokerClosed):
        await unopened.__aenter__()


async def test_a_broker_belongs_to_one_event_loop(venue: Venue) -> None:
    async with venue.client() as broker:

        async def elsewhere() -> None:
            with pytest.raises(BrokerClosed, match="another event loop"):
                await broker.submit(buy())

        await asyncio.to_thread(asyncio.run, elsewhere())
        assert venue.placed == []


async def test_several_accounts_and_none_named(venue: Venue, file: Path) -> None:
    venue.account_ids = ("A1", "A2")
    with pytest.raises(AccountNotChosen, match="A1, A2") as caught:
        await venue.client(file).__aenter__()
    assert caught.value.choices == ("A1", "A2")
    assert venue.calls[-1] == "disconnect"
    async with venue.client(file, account="A2") as broker:
        assert broker.account_id == "A2"
    with pytest.raises(AccountNotChosen, match="no account A3"):
        await venue.client(account="A3").__aenter__()


async def test_accounts_have_tokens_of_their_own(venue: Venue) -> None:
    venue.account_ids = ("A1", "A2")
    order = buy()
    for account in venue.account_ids:
        async with venue.client(account=account) as broker:
            await broker.submit(order)
    assert len({ticket.token for ticket in venue.placed}) == 2


async def test_a_journal_of_another_account_or_environment_is_refused(venue: Venue, file: Path) -> None:
    venue.account_ids = ("A1", "A2")
    async with venue.client(file, account="A1"):
        pass
    with pytest.raises(StateMismatch, match="belongs to account 'A1', not 'A2'"):
        await venue.client(file, account="A2").__aenter__()
    live = Scripted(venue, BrokerSettings(account="A1"), Services("scripted", "live", venue.clock, file))
    with pytest.raises(StateMismatch, match="belongs to environment 'simulator', not 'live'"):
        await live.__aenter__()
    async with venue.client(file, account="A1") as broker:
        assert broker.account_id == "A1"


async def test_a_login_that_fails_leaves_nothing_open(venue: Venue, file: Path) -> None:
    broker = venue.client(file)

    async def refuse() -> None:
        raise VenueUnavailable("maintenance")

    broker.connect = refuse  # type: ignore[method-assign]
    with pytest.raises(VenueUnavailable) as caught:
        await broker.__aenter__()
    assert (caught.value.broker, caught.value.operation) == ("scripted", "open")
    assert list(file.with_name(f"{file.name}.owners").iterdir()) == []
    async with venue.client(file) as again:
        assert again.account_id == "A1"


async def test_errors_and_recordings_name_whom_they_are_of(venue: Venue, tmp_path: Path) -> None:
    recording = tmp_path / "frames.jsonl"
    settings = BrokerSettings(record=recording)
    async with Scripted(venue, settings, Services("fund-b", "simulator", venue.clock)) as broker:
        for told, named in (("scripted", "fund-b"), ("another", "another"), (None, "fund-b")):
            venue.read_next.append(VenueUnavailable("down", broker=told))
            with pytest.raises(VenueUnavailable) as caught, broker.operation("reading"):
                await broker.read([])
            assert (caught.value.broker, caught.value.operation) == (named, "reading")
    # A recording is replayed through the broker's own code, whatever the instance was called.
    assert read_header(recording).source == "scripted"


async def test_live_without_gates_warns(venue: Venue, caplog: pytest.LogCaptureFixture) -> None:
    services = Services("scripted", "live", venue.clock)
    async with Scripted(venue, BrokerSettings(), services):
        assert "without any gate" in caplog.text
    caplog.clear()
    async with Scripted(venue, BrokerSettings(gates={"max_order_quantity": "1"}), services):
        assert caplog.text == ""


def test_live_is_never_taken_for_granted(venue: Venue) -> None:
    with pytest.raises(EnvironmentNotChosen, match="simulator, live"):
        Scripted(venue, BrokerSettings(), None)  # type: ignore[arg-type]
    assert Scripted(venue, BrokerSettings(environment="simulator"), None).environment == "simulator"  # type: ignore[arg-type]
    assert "environments" in MANIFEST


def test_an_adapter_outside_a_package_says_how_to_give_its_manifest() -> None:
    class Notebook(VenueClient):
        __module__ = "__main__"

    with pytest.raises(ConfigurationError, match="no package"):
        Notebook.read_capabilities()


async def test_owners_that_died_are_told_from_those_alive(venue: Venue, file: Path) -> None:
    owners = file.with_name(f"{file.name}.owners")
    async with venue.client(file) as one:
        (owners / "dead.lock").touch()
        async with venue.client(file) as other:
            assert not (owners / "dead.lock").exists()
            assert not other._owner.is_dead(one._owner.name)
            assert not one._owner.is_dead(one._owner.name)
            assert one._owner.is_dead("dead")
            name = other._owner.name
        assert one._owner.is_dead(name)
        assert sorted(path.name for path in owners.iterdir()) == [f"{one._owner.name}.lock"]


# --- ends ----------------------------------------------------------------------------------------


async def test_a_background_task_that_is_cancelled_is_a_failure(venue: Venue) -> None:
    async with venue.client(kind=Cutting) as broker:
        fills = broker.stream_fills()
        waiting = asyncio.ensure_future(anext(fills))
        venue.crash(_Cut())
        with pytest.raises(BrokerFailed, match="frames was cancelled"):
            await waiting
        with pytest.raises(BrokerFailed):
            await broker.submit(buy())


class _Cut(Exception):
    """What the adapter turns into a cancellation."""


class Cutting(Scripted):
    """An adapter whose stream lets a cancellation out, as some libraries do, and that is slow to end."""

    gate: asyncio.Event | None = None

    async def frames(self) -> AsyncIterator[Any]:
        try:
            async for frame in super().frames():
                yield frame
        except _Cut:
            raise asyncio.CancelledError from None

    async def disconnect(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        await super().disconnect()


@pytest.mark.parametrize("change", [False, True])
async def test_closing_tells_whoever_waits_that_the_outcome_is_unknown(
    venue: Venue, clock: SteppedClock, change: bool
) -> None:
    never = asyncio.Event()
    venue.profile = replace(venue.profile, replace="same_id")

    class Stuck(Replaceable):
        async def cancel_one(self, ref: OrderRef) -> CancelResult:
            await never.wait()
            return await super().cancel_one(ref)

    broker = venue.client(kind=Stuck)
    async with broker:
        placed = await broker.submit(buy())
        venue.replace_next.append(waits(never))
        work = broker.replace(placed.order_id, OrderChanges(limit_price="99")) if change else None  # type: ignore[attr-defined]
        asked = asyncio.ensure_future(work or broker.cancel(placed.order_id))
        await settle()
        closing = asyncio.create_task(broker.close())
        await settle()
        await clock.advance(broker.settings.close_timeout)
        await closing
    with pytest.raises(OutcomeUnknown, match="closed before the venue answered") as caught:
        await asked
    assert caught.value.operation == ("replace" if change else "cancel")


async def test_a_disconnect_that_hangs_is_cut_off(venue: Venue, clock: SteppedClock, file: Path) -> None:
    broker = venue.client(file, kind=Cutting)
    assert isinstance(broker, Cutting)
    broker.gate = asyncio.Event()
    await broker.__aenter__()
    closing = asyncio.create_task(broker.close())
    await settle()
    assert not closing.done()
    await clock.advance(broker.settings.close_timeout)
    await closing
    async with venue.client(file) as again:
        assert again._leader.leads


async def test_a_close_that_is_given_up_goes_on(venue: Venue, file: Path) -> None:
    broker = venue.client(file, kind=Cutting)
    assert isinstance(broker, Cutting)
    broker.gate = asyncio.Event()
    await broker.__aenter__()
    closing = asyncio.create_task(broker.close())
    await settle()
    closing.cancel()
    await asyncio.wait([closing])
    second = asyncio.create_task(broker.close())
    await settle()
    assert not second.done()
    broker.gate.set()
    await second
    assert venue.calls.count("disconnect") == 1
    async with venue.client(file) as again:
        assert again._leader.leads


async def test_whoever_takes_over_in_an_outage_reads_when_it_is_over(
    venue: Venue, clock: SteppedClock, file: Path
) -> None:
    leader = venue.client(file)
    await leader.__aenter__()
    placed = await leader.submit(buy())
    async with venue.client(file) as follower:
        assert leader._leader.leads
        await leader.close()
        venue.read_next.extend(OSError("the network is down") for _ in range(8))
        venue.fill("V1", "1", push=False)
        async with asyncio.timeout(6):
            while not follower._leader.leads:
                await clock.advance(0.1)
            waiting = asyncio.create_task(follower.wait_for(placed.order_id))
            while not waiting.done():
                await clock.advance(0.5)
        assert (await waiting).status is OrderStatus.FILLED
    assert not venue.read_next
