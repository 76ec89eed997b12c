"""A venue's rate limits, obeyed before it has to refuse: data in, permits out, the urgent first.

Every limit is kept as how full it is. A token bucket and a decaying counter drain evenly; a fixed window and
a sliding log forget each request when its window has passed. Where a fixed window begins is the venue's
secret until it says when it ends, and whatever fits any window of that length fits the venue's too.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import Literal
from weakref import WeakKeyDictionary

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import ConfigurationError

from .clock import RealClock

#: We go this much slower than allowed: requests that left on time may catch each other up on the way.
_SPARE = 0.01
#: Parts of a capacity that are rounding, not excess.
_ROUNDING = 1e-9
#: How long a request may be under way, in seconds, or a twentieth of a window where that is less.
_UNDER_WAY = 0.5
#: The shortest wait, in seconds: clocks count nanoseconds, and a wait they round to nothing is no wait.
_SHORTEST = 1e-6
#: The longest penalty, in seconds: one that lasts is told again by the next refusal.
LONGEST_PENALTY = 300.0
#: How long a penalty holds cancels back, in seconds: an order that can't be taken back costs more than one.
_CANCELS_HELD = 1.0

Cost = Mapping[str, float]


class Priority(IntEnum):
    """Who goes first when not all can go."""

    CANCEL = 0
    RESOLVER = 1
    SUBMIT = 2
    FILLS = 3
    OTHER = 4


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit as the venue states it.

    `per` is in seconds: the length of the window, or the time in which a full bucket or counter drains.
    `reserve` is the part of the capacity that only cancels may use. Where a limit counts in windows, other
    requests never get that part of the rate either; a bucket keeps it full and gives them the whole rate.
    """

    name: str
    kind: Literal["token_bucket", "fixed_window", "sliding_log", "decaying"]
    capacity: float
    per: float
    scope: Literal["login", "account", "symbol", "address"] = "login"
    reserve: float = 0.1

    def __post_init__(self) -> None:
        if self.capacity <= 0 or self.per <= 0 or not 0 <= self.reserve < 1:
            raise ConfigurationError(
                f"limit {self.name!r}: capacity and per must be above 0, and reserve from 0 to below 1.",
                next_step="correct the limit",
            )


#: Until when nothing passes: cancels, and the rest.
_Shut = tuple[float, float]
_OPEN: _Shut = (-inf, -inf)


def _longer(shut: _Shut, now: float, seconds: float) -> _Shut:
    return max(shut[0], now + min(seconds, _CANCELS_HELD)), max(shut[1], now + seconds)


class _Level:
    """How full one limit is."""

    __slots__ = ("at", "cancels", "capacity", "common", "level", "limit", "rate", "shut", "slack")

    def __init__(self, limit: Limit, capacity: float, now: float) -> None:
        self.limit = limit
        self.level = 0.0
        #: The part of the level that used the reserve; a bucket fills the reserve again by itself.
        self.cancels = 0.0
        self.at = now
        self.shut = _OPEN
        self.resize(capacity)

    def resize(self, capacity: float) -> None:
        self.capacity = capacity
        self.common = capacity * (1 - self.limit.reserve)
        self.slack = capacity * _ROUNDING
        self.rate = capacity / self.limit.per * (1 - _SPARE)

    def delay(self, cost: float, priority: Priority, now: float) -> float:
        """Return the seconds until the cost fits; infinite where it never will."""
        self.refresh(now)
        if priority and cost <= self.common:
            excess = self.level - self.cancels + cost - self.common
        else:  # also where it would never fit beside the reserve: then it may have all, once all is free
            excess = self.level + cost - self.capacity
            if cost > self.capacity:
                return inf
        wait = self.drained(excess, now) if excess > self.slack else 0.0
        return wait if now >= self.shut[1] else max(wait, self.shut[priority > 0] - now)

    def refresh(self, now: float) -> None:
        """Forget what time has freed."""
        level = self.level - (now - self.at) * self.rate
        self.level = level if level > 0.0 else 0.0
        self.at = now

    def drained(self, excess: float, now: float) -> float:
        """Return the seconds until that much is free."""
        return excess / self.rate

    def take(self, cost: float, priority: Priority, now: float) -> None:
        """Add a cost."""
        self.level += cost

    def give(self, cost: float, priority: Priority, taken_at: float, now: float) -> None:
        """Take a cost back, less what may have drained of it since: never more than was left of it."""
        self.refresh(now)
        self.level = max(0.0, self.level - max(0.0, cost - (now - taken_at) * self.rate))

    def add_foreign(self, cost: float, now: float, reset_in: float | None) -> None:
        """Count what others have used."""
        self.level += cost


class _Log(_Level):
    """The costs of a window, each with the time it was taken and whether for a cancel."""

    __slots__ = ("all_cancels", "entries", "resets_at", "window")

    def __init__(self, limit: Limit, capacity: float, now: float) -> None:
        self.entries: deque[tuple[float, float, bool]] = deque()
        self.window = limit.per * (1 + _SPARE)
        self.resets_at = inf
        self.all_cancels = 0.0
        super().__init__(limit, capacity, now)

    def refresh(self, now: float) -> None:
        horizon = now - self.window + _ROUNDING
        if now >= self.resets_at:
            # What left just before the end may arrive after it, and counts for the new window.
            under_way = min(_UNDER_WAY, self.limit.per / 20)
            horizon, self.resets_at = max(horizon, self.resets_at - under_way), inf
        entries = self.entries
        while entries and entries[0][0] <= horizon:
            self._less(entries.popleft())
        if not entries:
            self.level = self.all_cancels = 0.0
        self.cancels = min(self.all_cancels, self.capacity - self.common)

    def _less(self, entry: tuple[float, float, bool]) -> None:
        self.level -= entry[1]
        if entry[2]:
            self.all_cancels -= entry[1]

    def drained(self, excess: float, now: float) -> float:
        freed_at = now
        for moment, cost, _ in self.entries:
            freed_at = moment + self.window
            excess -= cost
            if excess <= self.slack:
                break
        return max(_SHORTEST, min(freed_at, self.resets_at) - now)

    def take(self, cost: float, priority: Priority, now: float) -> None:
        self.level += cost
        if not priority:
            self.all_cancels += cost
        self.entries.append((now, cost, not priority))

    def give(self, cost: float, priority: Priority, taken_at: float, now: float) -> None:
        with suppress(ValueError):  # its window has passed
            entry = (taken_at, cost, not priority)
            self.entries.remove(entry)
            self._less(entry)

    def add_foreign(self, cost: float, now: float, reset_in: float | None) -> None:
        if reset_in is not None and self.limit.kind == "fixed_window":
            self.resets_at = now + reset_in * (1 + _SPARE)
        if cost > 0:
            self.take(cost, Priority.OTHER, now)


class Permit:
    """What one request took of its limits."""

    __slots__ = ("_at", "_limiter", "_priority", "_taken")

    def __init__(
        self, limiter: Limiter, taken: Sequence[tuple[_Level, float]], priority: Priority, at: float
    ) -> None:
        self._limiter = limiter
        self._taken = taken
        self._priority = priority
        self._at = at

    def refund(self) -> None:
        """Give back what a request that was never sent had taken; harmless when repeated."""
        taken, self._taken = self._taken, ()
        now = self._limiter._now()
        for level, weight in taken:
            level.give(weight, self._priority, self._at, now)
        self._limiter._serve()


class _Inside:
    """What `prioritised` says to the code it surrounds."""

    __slots__ = ("prepaid", "priority")

    def __init__(self, priority: Priority, prepaid: Permit | None) -> None:
        self.priority = priority
        self.prepaid = prepaid


_inside: ContextVar[_Inside] = ContextVar("_inside")


@contextmanager
def prioritised(priority: Priority, *, prepaid: Permit | None = None) -> Iterator[None]:
    """Give the requests made inside a priority; the first of them travels on the `prepaid` permit."""
    token = _inside.set(_Inside(priority, prepaid))
    try:
        yield
    finally:
        _inside.reset(token)


class _Waiter:
    __slots__ = ("blocked_by", "future", "needs", "order", "priority")

    def __init__(self, needs: list[tuple[_Level, float]], priority: Priority, order: int) -> None:
        self.needs = needs
        self.priority = priority
        self.order = (priority, order)
        self.future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        #: Every limit it had to wait for: kept free for it from then on, so that it can't be starved.
        self.blocked_by: dict[_Level, None] = {}


#: What all limiters of the process share, by clock: limits on the address they call from.
_addresses: WeakKeyDictionary[Clock, dict[tuple[str, str], _Level]] = WeakKeyDictionary()
_REAL = RealClock()


class Limiter:
    """Lets requests pass as fast as all limits allow, and no faster.

    Waiters are served by priority, then in the order they came; one that waits for a limit is not overtaken
    on it by its equals, while requests that don't touch that limit pass. `address` names the network
    address that calls: limits of that scope are shared by all limiters of the process that name the same.
    `on_wait` is told the limit, the seconds waited and the priority.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        clock: Clock,
        *,
        address: str = "",
        on_wait: Callable[[str, float, Priority], None] | None = None,
    ) -> None:
        self._limits = {limit.name: limit for limit in limits}
        self._capacities = {limit.name: limit.capacity for limit in limits}
        self._levels: dict[str, dict[tuple[str, ...], _Level]] = {name: {} for name in self._limits}
        self._clock = clock
        self._now = clock.monotonic
        self._address = address
        self._on_wait = on_wait
        self._shut = _OPEN
        self._penalties: dict[str, _Shut] = {}
        #: The limits that have one counter, whoever asks.
        self._fixed = {
            limit.name: self._level(limit.name, "", "", clock.monotonic())
            for limit in limits
            if limit.scope in ("login", "address")
        }
        #: Waiters by priority and by what they need; only the first of each can be next.
        self._queues: dict[tuple[object, ...], deque[_Waiter]] = {}
        self._arrivals = 0
        self._pacer: asyncio.Task[None] | None = None
        self._wakes_at = inf

    async def acquire(
        self, cost: Cost, *, priority: Priority | None = None, account: str = "", symbol: str = ""
    ) -> Permit:
        """Take the cost, by limit name, of all its limits at once; wait until that is possible.

        Raises `ConfigurationError` for an unknown limit, and for a cost above a capacity.
        """
        inside = _inside.get(None)
        if inside is not None:
            if inside.prepaid is not None:
                permit, inside.prepaid = inside.prepaid, None
                return permit
            if priority is None:
                priority = inside.priority
        elif priority is None:
            priority = Priority.OTHER
        now = self._now()
        needs: list[tuple[_Level, float]] = []
        free = not self._queues and now >= self._shut[priority > 0]
        for name, weight in cost.items():
            if weight > 0:
                level = self._fixed.get(name) or self._level(name, account, symbol, now)
                needs.append((level, weight))
                free = free and not level.delay(weight, priority, now)
        if free:
            return self._take(needs, priority, now)
        return await self._wait(needs, priority, now)

    async def _wait(self, needs: list[tuple[_Level, float]], priority: Priority, since: float) -> Permit:
        for level, weight in needs:
            if weight > level.capacity:
                raise _never(level, weight)
        self._arrivals += 1
        waiter = _Waiter(needs, priority, self._arrivals)
        key = (priority, *(level for level, _ in needs))
        self._queues.setdefault(key, deque()).append(waiter)
        self._serve()
        try:
            permit = await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled() and not waiter.future.exception():
                waiter.future.result().refund()
            self._serve()
            raise
        if self._on_wait is not None and (waited := self._now() - since) > 0:
            names = [level.limit.name for level in waiter.blocked_by]
            self._on_wait(names[0] if names else "", waited, priority)
        return permit

    def reported(
        self,
        name: str,
        *,
        remaining: float | None = None,
        reset_in: float | None = None,
        capacity: float | None = None,
        account: str | None = None,
        symbol: str | None = None,
    ) -> None:
        """Learn what the venue says of a limit; from then on no more passes than it says remains.

        `reset_in` is the seconds until a fixed window ends. It may say less than we think is left, because
        others use the same login; when it says more, some of our requests are still on their way, and what
        we think stays. Without `account` and `symbol` it is said of all of the limit's counters.
        """
        now = self._now()
        if capacity is not None:
            self._capacities[self._limit(name).name] = capacity
        for level in self._known(name, account, symbol, now):
            if capacity is not None:
                level.resize(capacity)
            level.refresh(now)
            foreign = 0.0 if remaining is None else max(0.0, level.capacity - remaining - level.level)
            level.add_foreign(foreign, now, reset_in)
        self._serve()

    def penalise(self, seconds: float, name: str | None = None) -> None:
        """Let nothing that counts for the limit pass for so many seconds; None: nothing at all.

        Cancels wait for one second at most. More than `LONGEST_PENALTY` is cut to that; what is no time is
        left out.
        """
        if not 0 < seconds < inf:
            return
        now, seconds = self._now(), min(seconds, LONGEST_PENALTY)
        if name is None:
            self._shut = _longer(self._shut, now, seconds)
            return
        self._penalties[name] = _longer(self._penalties.get(self._limit(name).name, _OPEN), now, seconds)
        for level in self._known(name, None, None, now):
            level.shut = _longer(level.shut, now, seconds)

    def _known(self, name: str, account: str | None, symbol: str | None, now: float) -> list[_Level]:
        if account is None and symbol is None and self._limit(name).scope in ("account", "symbol"):
            return list(self._levels[name].values())
        return [self._level(name, account or "", symbol or "", now)]

    def _level(self, name: str, account: str, symbol: str, now: float) -> _Level:
        limit = self._limit(name)
        scope, levels = limit.scope, self._levels[name]
        key = () if scope in ("login", "address") else (account,) if scope == "account" else (account, symbol)
        level = levels.get(key)
        if level is None:
            level = levels[key] = self._shared(limit, now) if scope == "address" else self._new(limit, now)
        return level

    def _limit(self, name: str) -> Limit:
        try:
            return self._limits[name]
        except KeyError:
            raise ConfigurationError(
                f"There is no limit named {name!r}; there are {', '.join(self._limits) or 'none'}.",
                next_step="correct the request's cost",
                choices=tuple(self._limits),
            ) from None

    def _shared(self, limit: Limit, now: float) -> _Level:
        # All real clocks show one time; simulated ones each their own.
        clock = _REAL if isinstance(self._clock, RealClock) else self._clock
        known = _addresses.setdefault(clock, {})
        return known.setdefault((limit.name, self._address), self._new(limit, now))

    def _new(self, limit: Limit, now: float) -> _Level:
        kind = _Log if limit.kind in ("fixed_window", "sliding_log") else _Level
        made = kind(limit, self._capacities[limit.name], now)
        made.shut = self._penalties.get(limit.name, _OPEN)
        return made

    def _take(self, needs: Sequence[tuple[_Level, float]], priority: Priority, now: float) -> Permit:
        for level, weight in needs:
            level.take(weight, priority, now)
        return Permit(self, needs, priority, now)

    def _serve(self) -> None:
        """Let pass whoever can, in order, and see to it that the next one is woken in time."""
        if not self._queues:
            return
        now = self._now()
        self._arm(now, self._pass(now))

    def _pass(self, now: float) -> float:
        """Let pass whoever can, and return the seconds until somebody else may."""
        kept: set[_Level] = set()
        soonest = inf
        heads = [(queue[0].order, key, queue) for key, queue in self._queues.items()]
        heapq.heapify(heads)
        while heads:
            _, key, queue = heapq.heappop(heads)
            waiter = queue[0]
            if not waiter.future.done() and (delay := self._blocked(waiter, kept, now)) is not None:
                soonest = min(soonest, delay)
                continue
            if not waiter.future.done():
                waiter.future.set_result(self._take(waiter.needs, waiter.priority, now))
            queue.popleft()
            if queue:
                heapq.heappush(heads, (queue[0].order, key, queue))
            else:
                del self._queues[key]
        return soonest

    def _blocked(self, waiter: _Waiter, kept: set[_Level], now: float) -> float | None:
        """Return how long the waiter must wait for sure, or None where it may pass now (or has failed)."""
        wait = max(0.0, self._shut[waiter.priority > 0] - now)
        behind = False
        for level, weight in waiter.needs:
            delay = level.delay(weight, waiter.priority, now)
            if delay == inf:  # the capacity has shrunk below it while it waited
                waiter.future.set_exception(_never(level, weight))
                return None
            if delay > 0:
                waiter.blocked_by[level] = None
                wait = max(wait, delay)
            elif level in kept:
                waiter.blocked_by[level] = None
                behind = True
        if not wait and not behind:
            return None
        kept.update(waiter.blocked_by)
        return wait or inf

    def _arm(self, now: float, delay: float) -> None:
        if self._pacer is not None:
            if self._wakes_at <= now + delay and self._queues:
                return
            self._pacer.cancel()
            self._pacer = None
        if self._queues and delay < inf:
            self._wakes_at = now + delay
            self._pacer = asyncio.get_running_loop().create_task(self._pace(delay), name="limiter")

    async def _pace(self, delay: float) -> None:
        await self._clock.sleep(max(delay, _SHORTEST))
        self._pacer = None
        self._serve()


def _never(level: _Level, weight: float) -> ConfigurationError:
    return ConfigurationError(
        f"A request costs {weight:g} of the limit {level.limit.name!r}, whose capacity is "
        f"{level.capacity:g}: it would wait for ever.",
        next_step="split the request, or correct the limit's capacity",
    )
