"""The order flow, made of a seed, and the callers who send it: sane users, some of them impatient."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import TypeVar

from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, Side

from .kinds import Kind

T = TypeVar("T")
CALLERS = 50
#: Seconds a caller waits for a verdict before it leaves the question to the journal.
PATIENCE = 40.0
_ROUNDS = 8

#: Middle, distance at which an order rests for sure, and lot, by symbol.
_MARKETS = {
    "BTC-USD": (Decimal(100_000), Decimal(3_000), Decimal("0.001")),
    "ETH-USD": (Decimal(4_000), Decimal(100), Decimal("0.01")),
    "AAPL": (Decimal(200), Decimal(10), Decimal(1)),
}


@dataclass(slots=True)
class Plan:
    """One order and what its caller does with it.

    `copies` submit it at once; `then` is done with what rests; `hasty` cancels while it is still being
    submitted; `dares` says accept_duplicate_risk where an absence is only probable.
    """

    key: str
    order: Order
    copies: int = 1
    then: tuple[str, ...] = ()
    hasty: bool = False
    dares: bool = False
    pause: float = 0.0
    #: What the caller was told, in words, in order.
    told: list[str] = field(default_factory=list)
    #: Whether a cancel was answered True or False.
    canceled: bool | None = None
    accepted: bool = False


def plans(kind: Kind, seed: int, count: int) -> list[Plan]:
    """Return the flow of a seed: the same for each run."""
    draw = Random(f"{seed}/{kind.name}/flow")
    rows: list[Plan] = []
    for n in range(count):
        key = f"k{seed}-{n}"
        twin = rows[-1].order if rows and kind.ours.token.unique == "none" and draw.random() < 0.05 else None
        order = _order(draw, key) if twin is None else twin.model_copy(
            update={"order_id": f"o-{key}", "idempotency_key": key}
        )  # fmt: skip
        plan = Plan(
            key, order, copies=draw.choice((2, 3, 5)) if draw.random() < 0.15 else 1,
            dares=draw.random() < 0.1, pause=draw.random() * 0.3,
        )  # fmt: skip
        if _rests(order):
            plan.then = _then(draw, kind)
            plan.hasty = draw.random() < 0.1
        rows.append(plan)
    return rows


def _order(draw: Random, key: str) -> Order:
    symbol = draw.choice(list(_MARKETS))
    middle, far, lot = _MARKETS[symbol]
    side, names = draw.choice((Side.BUY, Side.SELL)), {"order_id": f"o-{key}", "idempotency_key": key}
    quantity, roll = lot * draw.randint(20, 400), draw.random()
    off = far + Decimal(draw.randint(0, 2000)) / 100 * far / 100
    if roll < 0.04:
        return Order.market(symbol, side, quote_quantity=Decimal(draw.randint(2000, 9000)), **names)
    if roll < 0.3:
        return Order.market(symbol, side, quantity, **names)
    if roll < 0.4:
        price = (middle + side.sign * off).quantize(Decimal("0.01"))
        return Order.limit(symbol, side, quantity, price=price, **names)
    if roll < 0.43:  # refused: it would take
        price = (middle + side.sign * off).quantize(Decimal("0.01"))
        return Order.limit(symbol, side, quantity, price=price, post_only=True, **names)
    price = (middle - side.sign * off).quantize(Decimal("0.01"))
    return Order.limit(symbol, side, quantity, price=price, **names)


def _rests(order: Order) -> bool:
    middle = _MARKETS[order.symbol][0]
    return order.limit_price is not None and (order.limit_price - middle) * order.side.sign < 0


def _then(draw: Random, kind: Kind) -> tuple[str, ...]:
    roll = draw.random()
    if kind.ours.replace != "none" and roll < 0.25:
        return ("replace", "cancel") if roll < 0.18 else ("replace",)
    return ("cancel",) if roll < 0.85 else ()


class Callers:
    """Fifty tasks that work through the flow."""

    def __init__(self, broker: ReferenceClient, flow: Sequence[Plan], seed: int) -> None:
        self._broker = broker
        self._flow = flow
        self._draw = Random(f"{seed}/callers")
        self.counts: Counter[str] = Counter()
        self.left = len(flow)
        #: What callers were told that no caller can act on, by key.
        self.surprises: list[tuple[str, Exception]] = []

    async def run(self) -> None:
        """Place every order, and do with it what was planned."""
        waiting = iter(self._flow)
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._work(waiting))

    async def _work(self, waiting: Iterator[Plan]) -> None:
        for plan in waiting:
            try:
                await self._one(plan)
            # Whatever else a caller is told, alone or in a group: the judge names it, and the others go on.
            except Exception as error:  # noqa: BLE001
                self.surprises.append((plan.key, error))
            finally:
                self.left -= 1

    async def _one(self, plan: Plan) -> None:
        copies = [
            plan.order if n % 2 == 0 else plan.order.model_copy(update={"order_id": f"o-{plan.key}-{n}"})
            for n in range(plan.copies)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._place(plan, copy)) for copy in copies]
            if plan.hasty:
                group.create_task(self._cancel(plan))
        if not any(task.result() for task in tasks) or not plan.then:
            return
        for step in plan.then:
            await self._broker.clock.sleep(plan.pause)
            await (self._cancel(plan) if step == "cancel" else self._replace(plan))

    async def _place(self, plan: Plan, order: Order) -> bool:
        """Submit as a sane user does: again only where that is safe; True where the venue has it."""
        risk = False
        for _ in range(_ROUNDS):
            try:
                await self._submitted(plan, order, risk)
            except errors.OrderNotPlaced as error:
                plan.told.append(f"not placed ({error.certainty}): {error.message}")
                self.counts[f"not placed, {error.certainty}"] += 1
                if plan.hasty:
                    return False
                if error.certainty != "proven":
                    if not plan.dares or risk:
                        return False
                    risk = True
                await self._broker.clock.sleep(min(error.retry_after or 0.1, 1.0))
            except errors.OrderRejected as error:
                plan.told.append(f"rejected: {error.message}")
                self.counts["rejected"] += 1
                return False
            except errors.OutcomeUnknown as error:
                plan.told.append(f"still unknown: {error.message}")
                return False
            except errors.OrderDenied as error:
                plan.told.append(f"denied ({error.reason}): {error.message}")
                self.counts[f"denied, {error.reason}"] += 1
                if error.reason not in ("twin_unresolved", "too_late"):
                    return False
                await self._broker.clock.sleep(0.5)
            else:
                plan.accepted = True
                plan.told.append("accepted")
                return True
        return False

    async def _submitted(self, plan: Plan, order: Order, risk: bool) -> None:
        try:
            await self._broker.submit(order, accept_duplicate_risk=risk)
        except errors.OutcomeUnknown as error:
            plan.told.append(f"unknown: {error.message}")
            self.counts["unknown"] += 1
            try:
                async with self._broker.clock.timeout(PATIENCE):
                    await error.resolved()
            except TimeoutError:
                raise error from None

    async def _cancel(self, plan: Plan) -> None:
        self.counts["cancels"] += 1
        answer = await self._until_told(plan, "cancel", lambda: self._broker.cancel(f"o-{plan.key}"))
        if answer is not None:
            plan.canceled = answer or bool(plan.canceled)

    async def _until_told(self, plan: Plan, what: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        for _ in range(_ROUNDS):
            try:
                answer = await ask()
            except errors.OrderNotFound as error:
                plan.told.append(f"{what}: {error.message}")
                if not plan.hasty:
                    return None
                await self._broker.clock.sleep(0.1)  # not journalled yet
            except (errors.OutcomeUnknown, errors.VenueError) as error:
                plan.told.append(f"{what}: {type(error).__name__}: {error.message}")
                await self._broker.clock.sleep(0.2)
            else:
                plan.told.append(f"{what}: {answer}")
                return answer
        return None

    async def _replace(self, plan: Plan) -> None:
        self.counts["replaces"] += 1
        price = plan.order.limit_price
        assert price is not None
        changes = OrderChanges(limit_price=price - plan.order.side.sign * Decimal(1))
        try:
            await self._broker.replace(f"o-{plan.key}", changes, idempotency_key=f"r-{plan.key}")
        except errors.OrderError as error:
            plan.told.append(f"replace: {type(error).__name__}: {error.message}")
        else:
            plan.told.append("replaced")
