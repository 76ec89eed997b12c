"""The machine's clock is stepped an hour while trading: no absence is proven early, and no fill is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from death_judge import differences, logged
from death_venue import SHORT, VenueProcess, venue_of
from death_victim import Facts, Scene, order_for, place
from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core import OutcomeUnknown
from mts1b_brokers_core.platform.clock import RealClock
from mts1b_simulator.wire import faults

SCENE = Scene("resting", ("rest", "buy"))
HOUR = 3600.0
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "back"])


class SteppedWall(RealClock):
    """Real time whose wall clock somebody sets; what never steps goes on."""

    off = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.off)

    def now_ns(self) -> int:
        return super().now_ns() + round(self.off * 1e9)


async def until(broker: ReferenceClient, true: Callable[[], object]) -> None:
    """Wait until something holds, at most five seconds."""
    async with asyncio.timeout(5):
        while not true():
            await broker.clock.sleep(0.01)


@STEPS
@pytest.mark.parametrize(
    "profile", ["while_open_deadline_short", "timestamp_limit_short", "token_not_unique"]
)
async def test_no_absence_is_proven_by_a_clock_that_was_set(
    profile: str, step: float, tmp_path: Path
) -> None:
    """The request lands just before the venue would refuse it, and our clock says that it is long past."""
    clock = SteppedWall()
    with venue_of(profile) as venue:
        venue.ask("fault", faults.DelayBeyond(SHORT * 0.6), "POST /v1/orders")
        async with venue.client(tmp_path / "journal", clock, resend_within=0) as broker:
            place_one = broker.place

            async def place_and_step(ticket: object) -> object:
                result = await place_one(ticket)  # type: ignore[arg-type]
                clock.off = step
                return result

            broker.place = place_and_step  # type: ignore[method-assign, assignment]
            order, proven = order_for(0, SCENE), False
            try:
                await broker.submit(order)
            except OutcomeUnknown:
                pass
            except Exception as error:  # noqa: BLE001 - which answer it was is what is asked
                proven = getattr(error, "certainty", None) == "proven"
            assert not proven
            await until(broker, lambda: venue.books().orders)
            await until(broker, lambda: broker._login.record(order.idempotency_key).order.broker_order_id)  # type: ignore[union-attr]
            assert (await broker.outcome(order.idempotency_key)).broker_order_id
        assert len(venue.books().orders) == 1


@STEPS
@pytest.mark.parametrize(
    "profile", ["native_dedupe", "while_open_deadline_short", "cumulative_fills", "no_client_id"]
)
async def test_a_clock_that_is_set_back_and_forth_loses_nothing(
    profile: str, step: float, tmp_path: Path
) -> None:
    clock, world, path = SteppedWall(), Facts(tmp_path / "world"), tmp_path / "journal"
    with venue_of(profile) as venue:
        venue.ask("market", True)
        async with venue.client(tmp_path / "journal", clock) as broker:
            for number in range(12):
                clock.off = (0, step, 0, -step)[number // 3 % 4]
                world.add(asked=number)
                placed = await place(broker, order_for(number, SCENE), risk=True)
                assert placed is not None
                await foreign(venue, broker)
            clock.off = 0.0
            venue.ask("market", False)
            await until(broker, lambda: not lost(venue, broker, path))
            assert broker._state == "open"
        assert len(venue.books().orders) == 24
    world.close()


def lost(venue: VenueProcess, broker: ReferenceClient, path: Path) -> list[str]:
    """Say what the log lacks."""
    cumulative = broker.profile.fill_identity == "cumulative"
    return differences(venue.books(), logged(path), cumulative=cumulative)


async def foreign(venue: VenueProcess, broker: ReferenceClient) -> None:
    """Let somebody else trade in the account while our stream is cut."""
    venue.ask("cut")
    venue.ask("by_hand", {"symbol": "ETH-USD", "side": "buy", "quantity": "0.5"})


@STEPS
async def test_a_fill_nobody_else_knows_of_is_found_after_the_clock_was_set(
    step: float, tmp_path: Path
) -> None:
    """Nothing was ever filled: how far back to read is told by the clock alone."""
    clock = SteppedWall()
    with venue_of("native_dedupe") as venue:
        async with venue.client(tmp_path / "journal", clock, reconcile_every=0.1) as broker:
            clock.off = step
            read = broker.executions
            seen = 0

            async def counted(*values: object) -> object:
                nonlocal seen
                seen += 1
                return await read(*values)  # type: ignore[arg-type]

            broker.executions = counted  # type: ignore[method-assign, assignment]
            await until(broker, lambda: seen > 2)
            venue.ask("down")
            venue.ask("by_hand", {"symbol": "ETH-USD", "side": "buy", "quantity": "0.5"})
            venue.ask("up")
            await until(broker, lambda: logged(tmp_path / "journal"))
            (fill,) = logged(tmp_path / "journal")
            assert fill.quantity == Decimal("0.5")


@STEPS
async def test_a_deadline_is_told_by_the_venues_clock(step: float, tmp_path: Path) -> None:
    """The venue's own clock is an hour off; it takes what comes in time and refuses what doesn't."""
    with venue_of("while_open_deadline_short") as venue:
        venue.ask("shift", step)
        async with venue.client(tmp_path / "journal", resend_within=1.0) as broker:
            placed = await broker.submit(order_for(0, SCENE))
            assert placed.broker_order_id == venue.books().orders[0].id
            venue.ask("fault", faults.DelayBeyond(SHORT + 0.5), "POST /v1/orders")
            with pytest.raises(OutcomeUnknown):  # an hour between the clocks is no proof of anything
                await broker.submit(order_for(2, SCENE))
            venue.ask("wait", 1.0)
            assert [row.id for row in venue.books().orders] == [placed.broker_order_id]
            (open_one,) = await broker.unresolved()
            assert "not in orders by token" in str(open_one.reason)
            venue.ask("fault", faults.DelayBeyond(SHORT / 3), "POST /v1/orders")
            assert (await broker.submit(order_for(4, SCENE))).broker_order_id == venue.books().orders[1].id
