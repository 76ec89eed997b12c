"""How long a message travels: constant, uniform under a seed, or a recorded list played in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from mts1b_brokers_core.foundation.errors import InvalidInput

MILLISECOND = 1_000_000


class Delay(Protocol):
    """One leg's delays."""

    def next_ns(self) -> int:
        """Return the next message's delay in nanoseconds."""
        ...


class ConstantDelay:
    """The same delay for every message, in nanoseconds."""

    def __init__(self, ns: int) -> None:
        self._ns = _not_negative(ns)

    def next_ns(self) -> int:
        """Return the delay in nanoseconds."""
        return self._ns


class UniformDelay:
    """A delay drawn evenly between two bounds (nanoseconds, both included), always the same under a seed."""

    def __init__(self, low_ns: int, high_ns: int, *, seed: int = 0) -> None:
        self._low, self._high = _not_negative(low_ns), high_ns
        if high_ns < low_ns:
            raise InvalidInput(f"a delay between {low_ns} and {high_ns} ns has its bounds swapped.")
        self._random = Random(seed)  # noqa: S311 - a simulation must repeat itself

    def next_ns(self) -> int:
        """Return the next delay in nanoseconds."""
        return self._random.randint(self._low, self._high)


class RecordedDelay:
    """Delays measured elsewhere, in nanoseconds, played in order and from the start again."""

    def __init__(self, delays_ns: Sequence[int]) -> None:
        if not delays_ns:
            raise InvalidInput("a recorded delay needs at least one measurement.")
        self._delays = tuple(_not_negative(ns) for ns in delays_ns)
        self._next = 0

    def next_ns(self) -> int:
        """Return the next delay in nanoseconds."""
        delay = self._delays[self._next % len(self._delays)]
        self._next += 1
        return delay


@dataclass(frozen=True, slots=True)
class Latency:
    """The three legs: submit and replace to the venue, cancel to the venue, reports and replies back."""

    submit: Delay = field(default_factory=lambda: ConstantDelay(50 * MILLISECOND))
    cancel: Delay = field(default_factory=lambda: ConstantDelay(50 * MILLISECOND))
    report: Delay = field(default_factory=lambda: ConstantDelay(0))

    @classmethod
    def none(cls) -> Latency:
        """Return legs without any delay."""
        return cls(ConstantDelay(0), ConstantDelay(0), ConstantDelay(0))


def _not_negative(ns: int) -> int:
    if ns < 0:
        raise InvalidInput(f"a delay of {ns} ns is negative.")
    return ns
