"""One small async interface to every broker; each broker an installable package.

Every name here is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:  # the same names again, for type checkers and editors
    # fmt: off
    # isort: off
    from .execution.client import VenueClient
    from .foundation import (
        Account, AssetClass, AuthenticationError, Balance, Bar, BrokerClosed, BrokerError, BrokerEvent,
        BrokerFailed, BrokerNotInstalled, BrokerProtocol, BrokerSettings, Capabilities, Clock,
        ConfigurationError, EnvironmentNotChosen, EventKind, Fill, Gates, IdempotencyConflict, Instrument,
        InvalidInput, Leg, Money, NaiveDatetime, Operation, Order, OrderBook, OrderChanges, OrderDenied,
        OrderError, OrderNotFound, OrderNotPlaced, OrderRejected, OrderStatus, OrderType, OrderUnsupported,
        OutcomeUnknown, PluginUnusable, Position, PositionEffect, Quote, RateLimited, Side, StateError,
        TimeInForce, Trade, UnknownSetting, UnsupportedCapability, VenueError, VenueUnavailable,
        WaitTimeout, require,
    )
    from .plugins.hookspecs import hookimpl
    from .plugins.registry import installed_brokers
    from .runtime.hub import BrokerHub
    from .runtime.opening import open_broker
    # isort: on
    # fmt: on

__all__ = [
    "Account", "AssetClass", "AuthenticationError", "Balance", "Bar", "BrokerClosed", "BrokerError",
    "BrokerEvent", "BrokerFailed", "BrokerHub", "BrokerNotInstalled", "BrokerProtocol", "BrokerSettings",
    "Capabilities", "Clock", "ConfigurationError", "EnvironmentNotChosen", "EventKind", "Fill", "Gates",
    "IdempotencyConflict", "Instrument", "InvalidInput", "Leg", "Money", "NaiveDatetime", "Operation",
    "Order", "OrderBook", "OrderChanges", "OrderDenied", "OrderError", "OrderNotFound", "OrderNotPlaced",
    "OrderRejected", "OrderStatus", "OrderType", "OrderUnsupported", "OutcomeUnknown", "PluginUnusable",
    "Position", "PositionEffect", "Quote", "RateLimited", "Side", "StateError", "TimeInForce", "Trade",
    "UnknownSetting", "UnsupportedCapability", "VenueClient", "VenueError", "VenueUnavailable",
    "WaitTimeout", "__version__", "hookimpl", "installed_brokers", "open_broker", "require",
]  # fmt: skip

#: Where a name comes from, where that is not `foundation`.
_HOMES = {
    "VenueClient": "execution.client",
    "hookimpl": "plugins.hookspecs",
    "installed_brokers": "plugins.registry",
    "BrokerHub": "runtime.hub",
    "open_broker": "runtime.opening",
}

if not TYPE_CHECKING:  # so that type checkers notice a misspelt name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES.get(name, 'foundation')}")
        return globals().setdefault(name, getattr(home, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
