"""Every type the plugin hooks mention."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from .base import Model
from .clock import Clock
from .errors import InvalidInput
from .events import BrokerEvent
from .protocols import BrokerProtocol
from .settings import BrokerSettings


@dataclass(frozen=True, slots=True)
class Services:
    """What the runtime hands to a broker it creates.

    `instance` is the configured name, `state_path` the journal's file (None keeps it in memory),
    `clock` is None where the broker may choose its own, `emit` takes events for observers, which
    need not be made while `listened` says that there are none;
    `held_elsewhere` names the other instance of the same hub that holds an idempotency key, if one does.
    """

    instance: str
    environment: str
    clock: Clock | None = None
    state_path: Path | None = None
    emit: Callable[[BrokerEvent], None] | None = None
    read_only: bool = False
    held_elsewhere: Callable[[str], str | None] | None = None
    listened: Callable[[], bool] = lambda: True


class Connection(Model):
    """How a broker object reaches its venue, in words for people and data for programs."""

    endpoint: str
    transport: str = "http"
    credentials: str = ""
    stream: str | None = None

    @property
    def in_process(self) -> bool:
        """True where no wire is involved."""
        return self.transport == "in process"


class CheckState(StrEnum):
    """How a health check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"
    NOT_RUN = "not_run"


class CheckResult(Model):
    """One line of `mts mts1b-brokers test`: the verdict, what it rests on, and the cure where it failed."""

    name: str
    title: str
    state: CheckState
    text: str = ""
    evidence: dict[str, Any] = Field(default_factory=dict)
    cause: str = ""
    cure: str = ""


@runtime_checkable
class Check(Protocol):
    """A health check a plugin adds after core's own."""

    @property
    def name(self) -> str:
        """A stable short name."""

    async def run(self, broker: BrokerProtocol) -> CheckResult:
        """Check an opened broker."""


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """How to start a plugin's simulator: where it listens, its seed, the faults, and what else it takes."""

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    tls: bool = False
    faults: Sequence[str] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_texts(cls, given: Mapping[str, str]) -> SimulatorOptions:
        """Read options from texts by name; unknown ones are the venue's own. Raises `InvalidInput`."""
        rest = dict(given)
        seed, faults, tls = rest.pop("seed", "0"), rest.pop("faults", ""), rest.pop("tls", "no")
        if not seed.isdecimal() or tls not in ("yes", "no"):
            raise InvalidInput(
                f"got seed={seed!r} and tls={tls!r}, expected a whole number and yes or no.",
                next_step="correct the setting `simulator`",
            )
        return cls(seed=int(seed), tls=tls == "yes", faults=tuple(faults.split()), extra=rest)


@runtime_checkable
class SimulatorServer(Protocol):
    """A running local server that speaks the venue's protocol."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings with which the broker reaches this server, throwaway credentials included."""

    async def start(self) -> None:
        """Start listening."""

    async def stop(self) -> None:
        """Stop and free the port."""


@runtime_checkable
class CredentialSource(Protocol):
    """A place credentials come from."""

    @property
    def name(self) -> str:
        """The source's name as error messages and `config --explain` show it."""

    async def read(self, instance: str) -> Mapping[str, str] | None:
        """Return the instance's secrets by name, or None where this source has none."""


@dataclass(frozen=True, slots=True)
class Run:
    """One start of the runtime: which instances are configured."""

    instances: tuple[str, ...]


class BrokerPlugin(Protocol):
    """The hooks a broker plugin must implement; a module fits (`_: BrokerPlugin = plugin`)."""

    def mts1b_broker_settings(self) -> type[BrokerSettings]:
        """Return the settings model."""

    def mts1b_broker_create(self, settings: Any, services: Services) -> BrokerProtocol:
        """Build the broker object; no input or output yet."""


RedactionPattern = re.Pattern[str]
