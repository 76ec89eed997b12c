"""One small async interface to every broker; each broker an installable package.

Every name here is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy

if TYPE_CHECKING:  # the same names again, for type checkers and editors
    # fmt: off
    # isort: off
    from .foundation.accounts import Account, Balance
    from .foundation.base import Money
    from .foundation.capabilities import Capabilities, Operation
    from .foundation.clock import Clock
    from .foundation.errors import (
        AuthenticationError, BrokerClosed, BrokerError, BrokerFailed, BrokerNotInstalled,
        ConfigurationError, EnvironmentNotChosen, IdempotencyConflict, InvalidInput, NaiveDatetime,
        OrderDenied, OrderError, OrderNotFound, OrderNotPlaced, OrderRejected, OrderUnsupported,
        OutcomeUnknown, PluginUnusable, RateLimited, StateError, UnknownSetting, UnsupportedCapability,
        VenueError, VenueUnavailable, WaitTimeout,
    )
    from .foundation.events import BrokerEvent, EventKind
    from .foundation.instruments import AssetClass, Instrument
    from .foundation.market_data import Bar, OrderBook, Quote, Trade
    from .foundation.orders import (
        Fill, Leg, Order, OrderChanges, OrderStatus, OrderType, Position, PositionEffect, Side, TimeInForce,
    )
    from .foundation.protocols import BrokerProtocol, require
    from .foundation.settings import BrokerSettings, Gates
    from .execution.client import VenueClient
    from .plugins.hookspecs import hookimpl
    from .plugins.registry import installed_brokers
    from .runtime.hub import BrokerHub
    from .runtime.opening import open_broker
    # isort: on
    # fmt: on
    __version__: str

_HOMES = {
    "foundation.accounts": "Account Balance",
    "foundation.base": "Money",
    "foundation.capabilities": "Capabilities Operation",
    "foundation.clock": "Clock",
    "foundation.errors": (
        "AuthenticationError BrokerClosed BrokerError BrokerFailed BrokerNotInstalled ConfigurationError "
        "EnvironmentNotChosen IdempotencyConflict InvalidInput NaiveDatetime OrderDenied OrderError "
        "OrderNotFound OrderNotPlaced OrderRejected OrderUnsupported OutcomeUnknown PluginUnusable "
        "RateLimited StateError UnknownSetting UnsupportedCapability VenueError VenueUnavailable "
        "WaitTimeout"
    ),
    "foundation.events": "BrokerEvent EventKind",
    "foundation.instruments": "AssetClass Instrument",
    "foundation.market_data": "Bar OrderBook Quote Trade",
    "foundation.orders": (
        "Fill Leg Order OrderChanges OrderStatus OrderType Position PositionEffect Side TimeInForce"
    ),
    "foundation.protocols": "BrokerProtocol require",
    "foundation.settings": "BrokerSettings Gates",
    "execution.client": "VenueClient",
    "plugins.hookspecs": "hookimpl",
    "plugins.registry": "installed_brokers",
    "runtime.hub": "BrokerHub",
    "runtime.opening": "open_broker",
    "_version": "__version__",
}

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

if not TYPE_CHECKING:  # so that type checkers notice a misspelt name
    __getattr__ = lazy(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
