"""Stand-in until the real one is merged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from mts1b_brokers_core.foundation.clock import Clock


class Priority(IntEnum):
    CANCEL = 0
    RESOLVER = 1
    SUBMIT = 2
    FILLS = 3
    OTHER = 4


@dataclass(frozen=True, slots=True)
class Limit:
    name: str
    kind: Literal["token_bucket", "fixed_window", "sliding_log", "decaying"]
    capacity: float
    per: float
    scope: Literal["login", "account", "symbol", "address"] = "login"
    reserve: float = 0.1


class Permit:
    def refund(self) -> None: ...


class Limiter:
    def __init__(self, limits: Sequence[Limit], clock: Clock, *, on_wait: Callable[[str, float, Priority], None] | None = None) -> None: ...

    async def acquire(self, cost: Mapping[str, float], *, priority: Priority | None = None, account: str = "", symbol: str = "") -> Permit:
        return Permit()


@contextlib.contextmanager
def prioritised(priority: Priority, *, prepaid: Permit | None = None) -> Iterator[None]:
    yield
