"""The hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mts1b_brokers_core import hookimpl

if TYPE_CHECKING:
    from mts1b_brokers_core.foundation import BrokerProtocol, BrokerSettings, Services

    from .settings import PaperSettings


@hookimpl
def mts1b_broker_settings() -> type[BrokerSettings]:
    """Return the settings model."""
    from .settings import PaperSettings

    return PaperSettings


@hookimpl
def mts1b_broker_create(settings: PaperSettings, services: Services) -> BrokerProtocol:
    """Build the paper broker."""
    from .client import PaperClient

    return PaperClient(settings, services=services)
