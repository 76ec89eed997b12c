"""The plugin as the runtime finds it: what it claims is what it has, and its simulator starts by itself."""

from __future__ import annotations

import pytest
from mts1b_broker_reference import plugin
from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core import InvalidInput, Order, Side, open_broker
from mts1b_brokers_core.foundation.plugin import BrokerPlugin, SimulatorOptions, SimulatorServer
from mts1b_brokers_core.foundation.protocols import PROTOCOLS
from mts1b_simulator.reference import ReferenceServer

_: BrokerPlugin = plugin


def test_it_has_what_it_claims_and_nothing_else() -> None:
    capabilities = ReferenceClient.read_capabilities()
    assert capabilities.unknown_keys == ()
    has = {operation for operation, protocol in PROTOCOLS.items() if issubclass(ReferenceClient, protocol)}
    assert capabilities.claimed == has
    assert capabilities.operations.keys() == PROTOCOLS.keys()


async def test_the_runtime_starts_the_simulator_and_trades_there() -> None:
    async with open_broker("reference", environment="simulator") as broker:
        assert broker.environment == "simulator"
        order = await broker.submit(Order.market("AAPL", Side.BUY, "10"))
        assert (await broker.wait_for(order, "filled", timeout=8)).filled_quantity == 10
        assert (broker.connection.endpoint, broker.connection.in_process) != ("no address", True)


async def test_the_simulator_is_what_the_options_say() -> None:
    options = SimulatorOptions(
        seed=3, tls=True, faults=["drop_reply:next"], extra={"profile": "no_client_id"}
    )
    server = plugin.mts1b_broker_simulator(options)
    assert isinstance(server, ReferenceServer)
    assert isinstance(server, SimulatorServer)
    await server.start()
    try:
        async with ReferenceClient(environment="sandbox", **server.settings) as broker:
            assert broker.profile.token.unique == "none"
            assert broker.connection.endpoint.startswith("https://")
            await broker.submit(Order.market("AAPL", Side.BUY, "10"))
            assert len(server.faults.applied) == 1
    finally:
        await server.stop()
    with pytest.raises(InvalidInput, match="unheard"):
        plugin.mts1b_broker_simulator(SimulatorOptions(extra={"unheard": "of"}))
