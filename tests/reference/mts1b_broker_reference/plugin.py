"""The hooks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mts1b_brokers_core import hookimpl

if TYPE_CHECKING:
    from mts1b_brokers_core.foundation import BrokerProtocol, BrokerSettings, Services
    from mts1b_brokers_core.foundation.plugin import SimulatorOptions, SimulatorServer

    from .settings import ReferenceSettings


@hookimpl
def mts1b_broker_settings() -> type[BrokerSettings]:
    """Return the settings model."""
    from .settings import ReferenceSettings

    return ReferenceSettings


@hookimpl
def mts1b_broker_create(settings: ReferenceSettings, services: Services) -> BrokerProtocol:
    """Build the broker."""
    from .client import ReferenceClient

    return ReferenceClient(settings, services=services)


@hookimpl
def mts1b_broker_simulator(options: SimulatorOptions) -> SimulatorServer:
    """Build the venue's simulator."""
    from .simulator import simulator

    return simulator(options)


@hookimpl
def mts1b_redaction_patterns() -> Sequence[re.Pattern[str]]:
    """Return what the venue hands out that opens it: the session of an exclusive login."""
    return [re.compile(r'"session": ?"(?P<secret>[^"]+)"')]
