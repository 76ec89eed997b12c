"""The network gone for minutes, and a venue restarted with what it knew or without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from death_judge import differences, judge, logged
from death_venue import VenueProcess, venue_of
from death_victim import Facts, Scene, order_for, place
from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core import BrokerError, EventKind, OrderNotFound, OrderStatus
from mts1b_brokers_core.platform.clock import RealClock, to_ns

SCENE = Scene("resting", ("rest", "buy"))


class QuickTime(RealClock):
    """Time that passes sixty times as fast, equally in every process: a minute is a second."""

    speed = 60.0

    def __init__(self) -> None:
        self._began, self._from = datetime.now(UTC), time.monotonic()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self.monotonic())

    def now_ns(self) -> int:
        return to_ns(self.now())

    def monotonic(self) -> float:
        return (time.monotonic() - self._from) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(None if seconds is None else max(0.0, seconds) / self.speed)


async def until(true: Callable[[], object]) -> None:
    """Wait until something holds, at most eight seconds."""
    async with asyncio.timeout(8):
        while not true():
            await RealClock().sleep(0.01)


def kinds(broker: ReferenceClient) -> list[EventKind]:
    """Return what was logged so far, fills aside."""
    rows = broker._event_log._rows(lambda rows: rows.after(0, 100_000))
    return [row.kind for row in rows if isinstance(row.kind, EventKind)]


def gaps(broker: ReferenceClient) -> list[EventKind]:
    return [kind for kind in kinds(broker) if kind in (EventKind.GAP_OPEN, EventKind.GAP_CLOSED)]


def vanished(broker: ReferenceClient) -> list[str | None]:
    """Return the orders of which it was announced that the venue doesn't know them any more."""
    rows = broker._event_log._rows(lambda rows: rows.after(0, 100_000))
    return [row.order_id for row in rows if row.kind is EventKind.GAP_OPEN and row.order_id is not None]


def agrees(venue: VenueProcess, broker: ReferenceClient, path: Path) -> bool:
    cumulative = broker.profile.fill_identity == "cumulative"
    return not differences(venue.books(), logged(path), cumulative=cumulative)


@pytest.mark.parametrize("profile", ["native_dedupe", "no_client_id", "cumulative_fills"])
async def test_the_network_is_gone_for_minutes(profile: str, tmp_path: Path) -> None:
    clock, path, world = QuickTime(), tmp_path / "journal", Facts(tmp_path / "world")
    waits: dict[str, Any] = {"timeout": 20.0, "reconcile_every": 30.0, "silent_after": 30.0}
    with venue_of(profile, clock=clock, heartbeat=5.0) as venue:
        async with venue.client(path, clock, resend_within=0, **waits) as broker:
            for number in range(4):
                world.add(asked=number)
                assert await place(broker, order_for(number, SCENE), risk=True) is not None
            await until(lambda: agrees(venue, broker, path))
            venue.ask("down")
            began = clock.monotonic()
            venue.ask("fill_all")
            venue.ask("by_hand", {"symbol": "ETH-USD", "side": "buy", "quantity": "0.5"})
            await until(lambda: gaps(broker) and gaps(broker)[-1] is EventKind.GAP_OPEN)
            with pytest.raises(BrokerError):
                await broker.submit(order_for(4, SCENE))
            with pytest.raises(BrokerError):
                await broker.get_positions()
            await until(lambda: clock.monotonic() > began + 150)
            assert gaps(broker)[-1] is EventKind.GAP_OPEN
            venue.ask("up")
            await until(lambda: gaps(broker)[-1] is EventKind.GAP_CLOSED)
            await until(lambda: agrees(venue, broker, path))
            world.add(asked=4)
            assert await place(broker, order_for(4, SCENE), risk=True) is not None
            held = {row.symbol: row.quantity for row in await broker.get_positions()}
            assert held["ETH-USD"] == 100_000 + Decimal("0.5")
        assert len(venue.books().orders) == 6


@pytest.mark.parametrize("profile", ["native_dedupe", "while_open_deadline_short", "exclusive_login"])
async def test_a_venue_restarted_with_all_it_knew(profile: str, tmp_path: Path) -> None:
    path, world = tmp_path / "journal", Facts(tmp_path / "world")
    with venue_of(profile) as venue:
        async with venue.client(path) as broker:
            for number in range(8):
                world.add(asked=number)
                if number % 3 == 2:
                    restart = asyncio.create_task(asyncio.to_thread(venue.ask, "restart", True))
                    await place(broker, order_for(number, SCENE), risk=True)
                    await restart
                else:
                    await place(broker, order_for(number, SCENE), risk=True)
            assert broker._state == "open"
        misses, counts = await judge(venue, tmp_path, SCENE)
    assert misses == []
    assert (counts["keys"], counts["open"]) == (8, 0)


async def test_a_venue_restarted_without_anything_it_knew(tmp_path: Path) -> None:
    """What the venue has lost is not shown as working there, can't be cancelled, and isn't sent again."""
    path, clock = tmp_path / "journal", QuickTime()
    with venue_of("native_dedupe", clock=clock, heartbeat=5.0) as venue:
        async with venue.client(
            path, clock, timeout=20.0, reconcile_every=10.0, silent_after=30.0, settle_wait=30.0
        ) as broker:
            resting = await broker.submit(order_for(0, SCENE))
            filled = await broker.wait_for(await broker.submit(order_for(1, SCENE)), "filled", timeout=300)
            venue.ask("restart", False)
            await until(lambda: kinds(broker).count(EventKind.LINK_UP) > 1)
            assert venue.books().orders == ()
            await until(lambda: vanished(broker) == [resting.order_id])
            assert await broker.get_open_orders() == []
            with pytest.raises(OrderNotFound):
                await broker.cancel(resting.order_id)
            with pytest.raises(OrderNotFound):
                await broker.get_order(resting.order_id)
            # The keys keep their answers: a caller that asks again is told what was, and nothing is sent.
            assert (await broker.submit(order_for(0, SCENE))).broker_order_id == resting.broker_order_id
            assert (await broker.outcome("k-1")).status is OrderStatus.FILLED
            assert venue.books().orders == ()
            # Positions are the venue's own, whatever the log adds up to.
            held = {row.symbol: row.quantity for row in await broker.get_positions()}
            assert held["BTC-USD"] == 10_000
            assert sum(fill.quantity for fill in logged(path)) == filled.filled_quantity
            fresh = await broker.submit(order_for(2, SCENE))
            assert fresh.broker_order_id not in (resting.broker_order_id, filled.broker_order_id)
            assert vanished(broker) == [resting.order_id]  # announced once
            assert broker._state == "open"
