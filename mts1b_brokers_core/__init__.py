"""One small async interface to every broker; each broker an installable package.

Every name here is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy

if TYPE_CHECKING:
    from .execution.client import (
        VenueClient as VenueClient,
    )
    from .foundation.accounts import (
        Account as Account,
    )
    from .foundation.accounts import (
        Balance as Balance,
    )
    from .foundation.base import (
        Money as Money,
    )
    from .foundation.capabilities import (
        Capabilities as Capabilities,
    )
    from .foundation.capabilities import (
        Operation as Operation,
    )
    from .foundation.clock import (
        Clock as Clock,
    )
    from .foundation.errors import (
        AuthenticationError as AuthenticationError,
    )
    from .foundation.errors import (
        BrokerClosed as BrokerClosed,
    )
    from .foundation.errors import (
        BrokerError as BrokerError,
    )
    from .foundation.errors import (
        BrokerFailed as BrokerFailed,
    )
    from .foundation.errors import (
        BrokerNotInstalled as BrokerNotInstalled,
    )
    from .foundation.errors import (
        ConfigurationError as ConfigurationError,
    )
    from .foundation.errors import (
        EnvironmentNotChosen as EnvironmentNotChosen,
    )
    from .foundation.errors import (
        IdempotencyConflict as IdempotencyConflict,
    )
    from .foundation.errors import (
        InvalidInput as InvalidInput,
    )
    from .foundation.errors import (
        NaiveDatetime as NaiveDatetime,
    )
    from .foundation.errors import (
        OrderDenied as OrderDenied,
    )
    from .foundation.errors import (
        OrderError as OrderError,
    )
    from .foundation.errors import (
        OrderNotFound as OrderNotFound,
    )
    from .foundation.errors import (
        OrderNotPlaced as OrderNotPlaced,
    )
    from .foundation.errors import (
        OrderRejected as OrderRejected,
    )
    from .foundation.errors import (
        OrderUnsupported as OrderUnsupported,
    )
    from .foundation.errors import (
        OutcomeUnknown as OutcomeUnknown,
    )
    from .foundation.errors import (
        PluginUnusable as PluginUnusable,
    )
    from .foundation.errors import (
        RateLimited as RateLimited,
    )
    from .foundation.errors import (
        StateError as StateError,
    )
    from .foundation.errors import (
        UnknownSetting as UnknownSetting,
    )
    from .foundation.errors import (
        UnsupportedCapability as UnsupportedCapability,
    )
    from .foundation.errors import (
        VenueError as VenueError,
    )
    from .foundation.errors import (
        VenueUnavailable as VenueUnavailable,
    )
    from .foundation.errors import (
        WaitTimeout as WaitTimeout,
    )
    from .foundation.events import (
        BrokerEvent as BrokerEvent,
    )
    from .foundation.events import (
        EventKind as EventKind,
    )
    from .foundation.instruments import (
        AssetClass as AssetClass,
    )
    from .foundation.instruments import (
        Instrument as Instrument,
    )
    from .foundation.market_data import (
        Bar as Bar,
    )
    from .foundation.market_data import (
        OrderBook as OrderBook,
    )
    from .foundation.market_data import (
        Quote as Quote,
    )
    from .foundation.market_data import (
        Trade as Trade,
    )
    from .foundation.orders import (
        Fill as Fill,
    )
    from .foundation.orders import (
        Leg as Leg,
    )
    from .foundation.orders import (
        Order as Order,
    )
    from .foundation.orders import (
        OrderChanges as OrderChanges,
    )
    from .foundation.orders import (
        OrderStatus as OrderStatus,
    )
    from .foundation.orders import (
        OrderType as OrderType,
    )
    from .foundation.orders import (
        Position as Position,
    )
    from .foundation.orders import (
        PositionEffect as PositionEffect,
    )
    from .foundation.orders import (
        Side as Side,
    )
    from .foundation.orders import (
        TimeInForce as TimeInForce,
    )
    from .foundation.protocols import (
        BrokerProtocol as BrokerProtocol,
    )
    from .foundation.protocols import (
        require as require,
    )
    from .foundation.settings import (
        BrokerSettings as BrokerSettings,
    )
    from .foundation.settings import (
        Gates as Gates,
    )
    from .plugins.hookspecs import (
        hookimpl as hookimpl,
    )
    from .plugins.registry import (
        installed_brokers as installed_brokers,
    )
    from .runtime.hub import (
        BrokerHub as BrokerHub,
    )
    from .runtime.opening import (
        open_broker as open_broker,
    )

    __version__: str

_HOMES = {
    "foundation.accounts": "Account Balance",
    "foundation.base": "Money",
    "foundation.capabilities": "Capabilities Operation",
    "foundation.clock": "Clock",
    "foundation.errors": (
        "AuthenticationError BrokerClosed BrokerError BrokerFailed BrokerNotInstalled "
        "ConfigurationError "
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

__all__ = [name for names in _HOMES.values() for name in names.split()]

if not TYPE_CHECKING:  # so that type checkers notice a misspelt name
    __getattr__ = lazy(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
