"""How the simulator behind `environment="simulator"` is told what to be."""

from __future__ import annotations

import pytest

from mts1b_brokers_core import Order, Side, open_broker
from mts1b_brokers_core.foundation.errors import BrokerError, InvalidInput
from mts1b_brokers_core.foundation.plugin import SimulatorOptions


def test_texts_become_options() -> None:
    given = {"seed": "7", "faults": "drop_reply:0.1 lose_frame:next", "tls": "yes", "profile": "x"}
    options = SimulatorOptions.from_texts(given)
    assert (options.seed, options.tls, options.extra) == (7, True, {"profile": "x"})
    assert options.faults == ("drop_reply:0.1", "lose_frame:next")


@pytest.mark.parametrize("given", [{"seed": "seven"}, {"tls": "maybe"}])
def test_texts_that_mean_nothing_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="expected a whole number and yes or no"):
        SimulatorOptions.from_texts(given)


async def test_the_simulator_started_is_the_one_described() -> None:
    simulator = {"profile": "cumulative_fills", "faults": "drop_reply:next"}
    async with open_broker("reference", environment="simulator", simulator=simulator) as broker:
        assert broker.profile.fill_identity == "cumulative"
        order = await broker.submit(Order.market("BTC-USD", Side.BUY, "0.01"))
        assert (await broker.wait_for(order, "filled", timeout=10)).filled_quantity == order.quantity


async def test_a_fault_that_does_not_exist_is_named() -> None:
    with pytest.raises(BrokerError, match="there is no fault 'drop_rply'"):
        async with open_broker("reference", environment="simulator", simulator={"faults": "drop_rply"}):
            pass
