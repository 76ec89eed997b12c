"""What a process does until it is killed: trades under numbered keys and keeps what it was told on disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from death_venue import TwinBeside, VenueProcess
from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core import (
    Fill,
    Order,
    OrderChanges,
    OrderDenied,
    OrderNotFound,
    OrderNotPlaced,
    OrderRejected,
    OrderStatus,
    OutcomeUnknown,
    Side,
)
from mts1b_brokers_core.execution.journal import State
from mts1b_brokers_core.platform.failpoints import failpoint
from mts1b_simulator.wire import faults

#: What one life trades where nobody kills it; reaching the end means that the point was never passed.
KEYS_IN_A_LIFE = 16
_LONGEST_LIFE = 25
_POST = "POST /v1/orders"
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
KINDS = ("buy", "rest", "cancel", "sell", "replace", "reject")


@dataclass(frozen=True)
class Scene:
    """What goes on while the process trades: which orders, and which faults meet their requests."""

    name: str
    kinds: tuple[str, ...] = KINDS
    fault: Any = None
    rate: float = 0.6
    #: Whether an absence that is only probable may be answered by sending again.
    risk: bool = True


SCENES = {
    scene.name: scene
    for scene in (
        Scene("plain"),
        Scene("refused", ("reject", "buy")),
        Scene("throttled", fault=faults.Status429(0.02)),
        Scene("lost reply", fault=faults.DropReply(), rate=1.0),
        Scene("lost request", fault=faults.DropRequest()),
        Scene("late arrival", ("rest", "buy", "sell"), fault=faults.DelayBeyond(0.3), risk=False),
        Scene("double arrival", ("rest", "buy"), fault=faults.DelayBeyond(0.3), rate=0.5),
        Scene("slow answer", ("hasty cancel",), fault=faults.Delay(0.15), rate=1.0),
        Scene("cancels", ("cancel",)),
        Scene("changes", ("replace",)),
        Scene("slow change", ("replace",)),
        Scene("twins", ("twin", "buy"), fault=TwinBeside(), rate=1.0),
    )
}


def set_scene(venue: VenueProcess, scene: Scene) -> None:
    """Let the venue behave as the scene has it."""
    venue.ask("clear")
    if scene.fault is not None:
        venue.ask("fault", scene.fault, _POST, scene.rate)
    if scene.name == "slow change":
        venue.ask("fault", faults.DropReply(), "PATCH /v1/orders", 0.7)


def order_for(number: int, scene: Scene) -> Order:
    """Return the order of a key: its quantity is no other key's, so that terms alone tell whose it is."""
    kind, key = kind_of(number, scene), f"k-{number}"
    quantity = Decimal("0.01") + Decimal(number) * Decimal("0.00000001")
    if kind in ("buy", "sell"):
        side = Side.BUY if kind == "buy" else Side.SELL
        return Order.market("BTC-USD", side, quantity, idempotency_key=key)
    if kind == "reject":
        return Order.limit("BTC-USD", Side.BUY, quantity, price="110000", post_only=True, idempotency_key=key)
    return Order.limit("BTC-USD", Side.BUY, quantity, price="90000", idempotency_key=key)


def kind_of(number: int, scene: Scene) -> str:
    return scene.kinds[number % len(scene.kinds)]


class Facts:
    """An append-only file of what the world outside remembers, each on disk before the next happens."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def add(self, **fact: Any) -> None:
        os.write(self._file, json.dumps(fact).encode() + b"\n")
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def facts(path: Path) -> list[dict[str, Any]]:
    """Read the facts."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def trade(venue: VenueProcess, folder: Path, scene: Scene, **settings: Any) -> None:
    """Live one life."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_LONGEST_LIFE)
    asyncio.run(_trade(venue, folder, scene, settings))


async def _trade(venue: VenueProcess, folder: Path, scene: Scene, settings: dict[str, Any]) -> None:
    told = facts(folder / "world")
    asked = [fact["asked"] for fact in told if "asked" in fact]
    answered = {fact["answered"] for fact in told if "answered" in fact}
    world = Facts(folder / "world")
    async with venue.client(folder / "journal", **settings) as broker:
        reading = [asyncio.create_task(keep(broker, folder)), asyncio.create_task(hear(broker, world))]
        for number in [number for number in asked[-2:] if number not in answered]:
            await _order(broker, number, scene, world)
        first = max(asked, default=-1) + 1
        for number in range(first, first + KEYS_IN_A_LIFE):
            world.add(asked=number)
            await _order(broker, number, scene, world)
        for task in reading:
            task.cancel()


async def _order(broker: ReferenceClient, number: int, scene: Scene, world: Facts) -> None:
    order, kind = order_for(number, scene), kind_of(number, scene)
    if kind == "twin":
        placed = await _with_a_twin(broker, order)
    elif kind == "hasty cancel":
        placed = await _cancel_at_once(broker, order, scene)
    else:
        placed = await place(broker, order, risk=scene.risk)
    world.add(answered=number, id=placed.broker_order_id if placed else None)
    if placed is None or placed.is_final:
        return
    try:
        if kind == "cancel":
            await broker.cancel(placed.order_id)
        elif kind == "replace" and broker.profile.replace != "none":
            key = f"change-{number}"
            while (await broker.get_order(placed.order_id)).status is OrderStatus.PENDING_NEW:
                await broker.clock.sleep(0.01)
            await broker.replace(
                placed.order_id, OrderChanges(limit_price=Decimal(91_000)), idempotency_key=key
            )
    except (OrderDenied, OrderRejected, OrderNotPlaced, OutcomeUnknown, OrderNotFound):
        return  # it may have filled meanwhile, or what became of it is not known


async def place(broker: ReferenceClient, order: Order, *, risk: bool, tries: int = 8) -> Order | None:
    """Submit until it is answered; None where it was refused, is absent, or isn't known."""
    accept = False
    for _ in range(tries):
        try:
            return await broker.submit(order, accept_duplicate_risk=accept)
        except OrderNotPlaced as error:
            accept = risk and error.certainty == "probable"
            if error.certainty == "probable" and not risk:
                return None
        except OrderDenied as error:
            if error.reason not in ("twin_unresolved", "too_late"):
                raise
        except (OrderRejected, OutcomeUnknown):
            return None
    return None


async def _cancel_at_once(broker: ReferenceClient, order: Order, scene: Scene) -> Order | None:
    """Cancel an order whose submit is under way."""
    placing = asyncio.create_task(place(broker, order, risk=scene.risk, tries=1))
    while broker._login.find(order.order_id) is None and not placing.done():
        await broker.clock.sleep(0.002)
    with contextlib.suppress(OutcomeUnknown, OrderNotFound):
        await broker.cancel(order.order_id)
    return await placing


async def _with_a_twin(broker: ReferenceClient, order: Order) -> Order | None:
    """Have an equal order placed by somebody else beside ours, and say which of the two is ours."""
    placed = await place(broker, order, risk=False)
    record = broker._login.record(order.idempotency_key)
    if record is None or record.state is not State.AMBIGUOUS:
        return placed
    rows = (await broker.get_orders(since=_LONG_AGO, limit=1000)).rows
    first = next(row for row in rows if row.quantity == order.quantity)
    return await broker.resolve(order.idempotency_key, first.broker_order_id)


async def keep(broker: ReferenceClient, folder: Path) -> None:
    """Keep every fill with a state of our own, from where that state ends."""
    state = folder / "state"
    last = max((fact["seq"] for fact in facts(state)), default=0)
    own = Facts(state)
    try:
        async for fill in broker.stream_fills(since=last):
            failpoint("consumer.received")
            own.add(**told_of(fill))
            failpoint("consumer.stored")
    finally:
        own.close()


async def hear(broker: ReferenceClient, world: Facts) -> None:
    """Read as a consumer whom the broker reminds of where it was."""
    async for fill in broker.stream_fills():
        world.add(heard=fill.seq, fill=fill.fill_id)


def told_of(fill: Fill) -> dict[str, Any]:
    return {
        "seq": fill.seq, "fill": fill.fill_id, "symbol": fill.symbol,
        "units": str(fill.quantity * fill.side.sign),
    }  # fmt: skip
