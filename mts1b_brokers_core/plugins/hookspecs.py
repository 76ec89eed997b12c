"""The hooks a plugin may implement; keyword arguments, of which an implementation may take fewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:  # a plugin's module marks its hooks when it is imported, and needs none of these for it
    from mts1b_brokers_core.foundation import BrokerEvent, BrokerProtocol, BrokerSettings
    from mts1b_brokers_core.foundation import plugin as contract

#: The name under which plugins mark their hooks.
PROJECT = "mts1b_brokers"

#: Marks a function as the implementation of the hook of the same name.
hookimpl = HookimplMarker(PROJECT)
_hookspec = HookspecMarker(PROJECT)


@_hookspec
def mts1b_broker_settings() -> type[BrokerSettings]:  # type: ignore[empty-body]
    """Return the settings model of the broker; asked of one plugin."""


@_hookspec
def mts1b_broker_create(settings: Any, services: contract.Services) -> BrokerProtocol:  # type: ignore[empty-body]
    """Build the broker object from its settings, without input or output; asked of one plugin."""


@_hookspec
def mts1b_broker_checks(settings: Any) -> Sequence[contract.Check]:  # type: ignore[empty-body]
    """Return health checks to run after core's own; asked of one plugin, optional."""


@_hookspec
def mts1b_broker_simulator(options: contract.SimulatorOptions) -> contract.SimulatorServer:  # type: ignore[empty-body]
    """Build the venue's simulator, not started yet; asked of one plugin, optional."""


@_hookspec
def mts1b_redaction_patterns() -> Sequence[contract.RedactionPattern]:  # type: ignore[empty-body]
    """Return patterns of what must never be printed; asked of one plugin at load, optional."""


@_hookspec
def mts1b_credential_sources() -> Sequence[contract.CredentialSource]:  # type: ignore[empty-body]
    """Return places that credentials come from; asked after core's own, of the group `mts1b.credentials`."""


@_hookspec(historic=True)
def mts1b_runtime_started(run: contract.Run) -> None:
    """Learn that a runtime started, at once or when the plugin is loaded later; asked of every plugin."""


@_hookspec
def mts1b_event(event: BrokerEvent) -> None:
    """Observe one event, on a thread of its own, off the order path; asked of every plugin."""


#: The hooks a plugin must implement for each thing its manifest says it provides.
REQUIRED = {
    "broker": ("mts1b_broker_settings", "mts1b_broker_create"),
    "simulator": ("mts1b_broker_simulator",),
}

#: Every hook there is.
HOOKS = frozenset(name for name in list(globals()) if name.startswith("mts1b_"))
