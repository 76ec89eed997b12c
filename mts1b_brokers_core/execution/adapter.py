"""What an adapter supplies, as abstract methods; and where its manifest is read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mts1b_brokers_core.foundation.accounts import Account
from mts1b_brokers_core.foundation.capabilities import Capabilities, parse_capabilities
from mts1b_brokers_core.foundation.errors import ConfigurationError
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.orders import Position

from .port import (
    CancelResult,
    Decoded,
    Execution,
    FindResult,
    Listing,
    OrderRef,
    OrderView,
    PlaceResult,
    Ticket,
    VenueProfile,
)


class VenueAdapter(ABC):
    """The port's operations, which each adapter translates for its venue."""

    profile: VenueProfile

    @classmethod
    def read_capabilities(cls) -> Capabilities:
        """Read the manifest beside the adapter's top-level package; override where there is none."""
        package = cls.__module__.partition(".")[0]
        spec = None if package == "__main__" else find_spec(package)
        if spec is None or spec.origin is None or spec.loader is None:
            raise ConfigurationError(
                f"{cls.__name__} has no package whose capabilities.toml could be read.",
                next_step="put the adapter into a package with a capabilities.toml beside its __init__.py",
            )
        file = Path(spec.origin).with_name("capabilities.toml")
        return parse_capabilities(spec.loader.get_data(str(file)).decode("utf-8"))  # type: ignore[attr-defined]

    @abstractmethod
    async def connect(self) -> None:
        """Log in and prepare."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Let go of everything `connect` took."""

    @abstractmethod
    def frames(self) -> AsyncIterator[Any]:
        """Iterate over raw frames as they arrive."""

    @abstractmethod
    def decode(self, frame: Any) -> Sequence[Decoded]:
        """Turn one frame into what it says; pure."""

    @abstractmethod
    async def place(self, ticket: Ticket) -> PlaceResult:
        """Send one order, once."""

    @abstractmethod
    async def cancel_one(self, ref: OrderRef) -> CancelResult:
        """Ask for one cancel, once."""

    @abstractmethod
    async def find(self, ticket: Ticket) -> FindResult:
        """Look for the order of an attempt in every source the venue has."""

    @abstractmethod
    async def read(self, refs: Sequence[OrderRef]) -> Listing[OrderView]:
        """Read orders by id."""

    @abstractmethod
    async def open_orders(self, account_id: str) -> Listing[OrderView]:
        """List the orders the venue works."""

    @abstractmethod
    async def positions(self, account_id: str) -> Listing[Position]:
        """List what is held."""

    @abstractmethod
    async def executions(
        self, account_id: str, since: datetime | None, until: datetime | None
    ) -> Listing[Execution]:
        """List executions in a window."""

    @abstractmethod
    async def executions_of(self, refs: Sequence[OrderRef]) -> Listing[Execution]:
        """List executions of these orders."""

    @abstractmethod
    async def instruments(self, query: str | None) -> Listing[Instrument]:
        """List instruments, all or those that match."""

    @abstractmethod
    async def accounts(self) -> Listing[Account]:
        """List the login's accounts."""
