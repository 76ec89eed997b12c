"""The script of faults: which request or frame meets which, and the log of those that did.

A request's fault is drawn when its headers are read, a frame's when it is about to be sent. `next` hits
exactly one, `when` every one that fits, `random` some of them from a seeded generator: the same seed and
the same requests in the same order meet the same faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from random import Random
from typing import Any, TypeVar

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import InvalidInput, nearest

from .faults import KINDS, Fault, FrameFault, RequestFault
from .frames import Frame
from .messages import Request

F = TypeVar("F", bound=Fault)
#: What a fault hits: text is the beginning of a label (`POST /v1/orders`, a frame's channel).
Match = str | Callable[[Any], bool] | None


@dataclass(frozen=True, slots=True)
class Applied:
    """One fault that happened, the request or frame it hit, and when."""

    fault: Fault
    hit: Request | Frame
    at: datetime

    @property
    def label(self) -> str:
        """What it hit, in words: method and path, or the frame's label."""
        return self.hit.label


class _Rule:
    """One line of the script: a countdown, a rate, or always."""

    def __init__(
        self, choices: Mapping[Fault, float], match: Match, *, nth: int = 0, rate: float | None = None,
        random: Random | None = None,
    ) -> None:  # fmt: skip
        self._faults = list(choices)
        self._weights = list(choices.values())
        self._match, self._left, self._rate, self._random = match, nth, rate, random
        self.spent = False

    def draw(self, hit: Request | Frame, kind: type[F]) -> F | None:
        """Return the fault this one meets, or None."""
        first = self._faults[0]
        if self.spent or not isinstance(first, kind) or not self._fits(hit, first):
            return None
        if self._rate is not None:
            assert self._random is not None
            if self._random.random() >= self._rate:
                return None
            chosen = self._random.choices(self._faults, self._weights)[0]
            assert isinstance(chosen, kind)
            return chosen
        if self._left:
            self._left -= 1
            if self._left:
                return None
            self.spent = True
        return first

    def _fits(self, hit: Request | Frame, fault: Fault) -> bool:
        if isinstance(hit, Frame) and hit.heartbeat and getattr(fault, "spares_heartbeats", False):
            return False
        if self._match is None:
            return True
        return hit.label.startswith(self._match) if isinstance(self._match, str) else self._match(hit)


class Faults:
    """The script of one server; `applied` is the log of what happened, in order."""

    def __init__(self, clock: Clock, seed: int = 0) -> None:
        self._clock = clock
        self._seed = seed
        self._rules: list[_Rule] = []
        self._drawn = 0
        self.applied: list[Applied] = []

    def next(self, fault: Fault, match: Match = None, *, nth: int = 1) -> None:
        """Let a fault hit exactly one: the next that fits, or the nth."""
        if nth < 1:
            raise InvalidInput(f"got nth {nth}, expected 1 for the next or more.")
        self._rules.append(_Rule({fault: 1}, match, nth=nth))

    def when(self, fault: Fault, match: Match = None) -> None:
        """Let a fault hit all that fit, until `clear`."""
        self._rules.append(_Rule({fault: 1}, match))

    def random(self, rate: float, choices: Fault | Mapping[Fault, float], match: Match = None) -> None:
        """Let faults hit this share of what fits; of several one is chosen by its weight.

        Requests and frames are different things: the choices of one call are for either. Raises
        `InvalidInput`.
        """
        weights: Mapping[Fault, float] = choices if isinstance(choices, Mapping) else {choices: 1}
        if not 0 <= rate <= 1:
            raise InvalidInput(f"got a rate of {rate:g}, expected a share from 0 to 1.")
        if len({isinstance(fault, FrameFault) for fault in weights}) != 1:
            raise InvalidInput("faults of requests and of frames were mixed; give each a rate of its own.")
        self._drawn += 1
        random = Random(f"{self._seed}/{self._drawn}")  # noqa: S311 - it must repeat itself
        self._rules.append(_Rule(weights, match, rate=rate, random=random))

    def read(self, texts: Iterable[str]) -> None:
        """Add faults written as `KIND[:ARGUMENT][:WHEN]`; WHEN is `next`, `nth=N` or a rate, else next.

        Raises `InvalidInput` that names the kinds.
        """
        for text in texts:
            fault, when = parse_fault(text)
            if isinstance(when, float):
                self.random(when, fault)
            else:
                self.next(fault, nth=when)

    def clear(self) -> None:
        """Let nothing go wrong any more; the log stays."""
        self._rules.clear()

    def for_request(self, request: Request) -> RequestFault | None:
        """Draw what happens to a request."""
        return self._draw(request, RequestFault) if self._rules else None

    def for_frame(self, frame: Frame) -> FrameFault | None:
        """Draw what happens to a frame."""
        return self._draw(frame, FrameFault) if self._rules else None

    def _draw(self, hit: Request | Frame, kind: type[F]) -> F | None:
        for rule in self._rules:
            fault = rule.draw(hit, kind)
            if fault is not None:
                self._rules = [row for row in self._rules if not row.spent]
                self.applied.append(Applied(fault, hit, self._clock.now()))
                return fault
        return None


def parse_fault(text: str) -> tuple[Fault, float | int]:
    """Read `KIND[:ARGUMENT][:WHEN]`: the fault, and a rate (float) or the how manieth (int).

    Raises `InvalidInput`.
    """
    name, *rest = text.split(":")
    kind = KINDS.get(name)
    if kind is None:
        close = ", ".join(nearest(name, KINDS))
        hint = f"; did you mean {close}?" if close else "."
        raise InvalidInput(
            f"there is no fault {name!r}{hint}", next_step=f"choose one of {', '.join(sorted(KINDS))}"
        )
    given = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    argument = next(iter(given), None)
    required = argument == "seconds"
    values: dict[str, Any] = {}
    if argument is not None and (required or len(rest) > 1):
        if not rest:
            raise InvalidInput(f"{name} needs its {argument}, as in {name}:2.")
        number = _number(rest.pop(0), f"{name}'s {argument}")
        values[argument] = int(number) if argument == "status" else number
    if len(rest) > 1:
        raise InvalidInput(f"got {text!r}, expected KIND[:ARGUMENT][:WHEN].")
    return kind(**values), _when(rest[0]) if rest else 1


def _when(text: str) -> float | int:
    if text == "next":
        return 1
    if text.startswith("nth="):
        if text[4:].isdecimal() and int(text[4:]):
            return int(text[4:])
        raise InvalidInput(f"got {text!r}, expected nth=1 or more.")
    rate = _number(text, "when a fault happens: next, nth=N or a rate;")
    if not 0 <= rate <= 1:
        raise InvalidInput(f"got a rate of {text}, expected a share from 0 to 1.")
    return rate


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"got {text!r} for {what} expected a number.") from None
