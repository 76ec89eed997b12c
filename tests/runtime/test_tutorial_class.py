"""A class that only has the contract's methods is as welcome as one that derives from ours.

`hatch run types:check` runs `mypy --strict` over that class.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mts1b_brokers_core import BrokerProtocol, NaiveDatetime, Order, Side, open_broker, require
from mts1b_brokers_core.foundation.errors import UnsupportedCapability
from mts1b_brokers_core.foundation.protocols import SupportsQuotes

TUTORIAL = Path(__file__).with_name("tutorial_client.py")
PLUGIN = """
from mts1b_brokers_core import BrokerSettings, hookimpl
from .client import KrakenClient

@hookimpl
def mts1b_broker_settings():
    return BrokerSettings

@hookimpl
def mts1b_broker_create(settings):
    return KrakenClient()
"""


@pytest.fixture
def kraken(site: Any) -> Any:
    site.broker("kraken", PLUGIN, distribution="my-kraken", environments='["live", "paper"]')
    (site.folder / "my_kraken" / "client.py").write_text(TUTORIAL.read_text())
    return site


async def test_it_is_discovered_opened_and_trades(kraken: Any) -> None:
    async with open_broker("kraken", environment="paper") as broker:
        assert isinstance(broker, BrokerProtocol)
        assert type(broker).__name__ == "KrakenClient"
        order = await broker.submit(Order.limit("BTC-USD", Side.BUY, "0.01", price="96000"))
        assert (order.broker_order_id, order.status) == ("K-1", "new")
        assert order.submitted_at is not None
        assert [fill.fill_id async for fill in broker.stream_fills()] == ["F-K-1"]
        assert await broker.get_open_orders() == [order]
        assert await broker.cancel(order.order_id)
        with pytest.raises(UnsupportedCapability, match="kraken: quotes: quotes is not offered"):
            require(broker, SupportsQuotes)


async def test_awaited_it_keeps_its_type_and_gets_a_close(kraken: Any) -> None:
    broker = await open_broker("kraken", environment="paper")
    assert type(broker).__name__ == "KrakenClient"
    await broker.submit(Order.market("BTC-USD", Side.BUY, "1"))
    await broker.close()
    assert await broker.get_open_orders() == []


def test_a_time_without_a_zone_is_refused() -> None:
    order = Order.market("BTC-USD", Side.BUY, "1")
    naive = datetime(2026, 1, 2)  # noqa: DTZ001 - what datetime.utcnow() gives
    with pytest.raises(NaiveDatetime, match=r"instead of datetime\.utcnow"):
        order.model_copy(update={"submitted_at": naive})
