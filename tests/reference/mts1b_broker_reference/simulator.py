"""The venue on this machine."""

from __future__ import annotations

from mts1b_brokers_core.foundation.plugin import SimulatorOptions, SimulatorServer
from mts1b_simulator.reference import ReferenceServer


def simulator(options: SimulatorOptions) -> SimulatorServer:
    """Build a server with throwaway credentials; `extra` may name its `profile`. Raises `InvalidInput`."""
    return ReferenceServer.from_options(options)
