"""The nouns and the contract: no input or output here. Each name is imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mts1b_brokers_core._lazy import lazy

if TYPE_CHECKING:
    from .accounts import *  # noqa: F403
    from .base import *  # noqa: F403
    from .capabilities import *  # noqa: F403
    from .clock import *  # noqa: F403
    from .errors import *  # noqa: F403
    from .events import *  # noqa: F403
    from .ids import *  # noqa: F403
    from .instruments import *  # noqa: F403
    from .market_data import *  # noqa: F403
    from .orders import *  # noqa: F403
    from .plugin import *  # noqa: F403
    from .protocols import *  # noqa: F403
    from .settings import *  # noqa: F403

_HOMES = {
    "accounts": "Balance Account FeeTier FeeSchedule KeyPermissions OrderPreview",
    "base": (
        "LEDGER decimal_from_float Exact Positive NotNegative UtcTime Currency Identifier Model plain Money"
    ),
    "capabilities": (
        "PLUGIN_API MANIFEST_SCHEMA Level Operation Instruction OperationClaim OrderClaim ManifestHead "
        "Capabilities instructions_of describe_terms parse_head parse_capabilities"
    ),
    "clock": "wall_clock_ns Clock",
    "errors": (
        "Certainty nearest BrokerError InvalidInput NaiveDatetime MalformedSymbol UnknownInstrument "
        "RecordingError ConfigurationError EnvironmentNotChosen AmbiguousInstrument AccountNotChosen "
        "UnknownSetting UnknownInstance StateError StateCorrupted StateLocked StateTooNew StateMismatch "
        "StateUnwritable OrderError OrderDenied UnsupportedCapability OrderUnsupported "
        "IdempotencyConflict OrderRejected OrderNotPlaced OutcomeUnknown OrderNotFound WaitTimeout "
        "VenueError AuthenticationError PermissionDenied RateLimited VenueUnavailable UnreadableReply "
        "PluginError BrokerNotInstalled PluginUnusable BrokerClosed BrokerFailed"
    ),
    "events": "EventKind BrokerEvent",
    "ids": "uuid7",
    "instruments": (
        "AssetClass Rounding SymbolText parse_symbol Symbol PriceBand TradingSession Instrument round_to"
    ),
    "market_data": "Quote BookLevel OrderBook Trade Bar",
    "orders": (
        "Side OrderType TimeInForce OrderStatus PositionEffect Session TriggerBy Contingency Leg "
        "Adjustment Adjustable TERMS Order child_key OrderChanges FillKind FeeStatus Liquidity AccountFee "
        "Fill Position"
    ),
    "plugin": (
        "Services Connection CheckState CheckResult Check SimulatorOptions SimulatorServer "
        "CredentialSource Run BrokerPlugin RedactionPattern"
    ),
    "protocols": (
        "Page BrokerProtocol SupportsReplace SupportsCancelAll SupportsBatch SupportsPreview "
        "SupportsOrderById SupportsOrderByKey SupportsOrderHistory SupportsFillHistory SupportsEvents "
        "SupportsAccount SupportsInstruments SupportsQuotes SupportsOrderBook SupportsBars "
        "SupportsMarketData SupportsFeeSchedule SupportsServerTime SupportsKeyPermissions "
        "SupportsDeadMansSwitch PROTOCOLS require"
    ),
    "settings": "Gates BrokerSettings",
}

__all__ = [name for names in _HOMES.values() for name in names.split()]

if not TYPE_CHECKING:  # so that type checkers notice a misspelt name
    __getattr__ = lazy(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
