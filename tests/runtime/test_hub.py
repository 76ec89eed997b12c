"""The hub opens what is configured; one that fails never stops the others, and no key serves twice."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from mts1b_brokers_core import BrokerHub, IdempotencyConflict, Order, OrderDenied, Side
from mts1b_brokers_core.foundation.errors import (
    BrokerClosed,
    BrokerFailed,
    ConfigurationError,
    UnknownInstance,
)
from mts1b_brokers_core.plugins.registry import registry

OBSERVER = """
@hookimpl
def mts1b_event(event):
    LOG.append(("event", event))

@hookimpl
def mts1b_runtime_started(run):
    LOG.append(("started", run.instances))
"""
JOURNALLED = """
_Plain = Client

class Client(_Plain):
    def holds(self, key):
        return any(order.idempotency_key == key for order in self.orders)
"""
CONFIG = {
    "brokers": {
        "fund-a": {"broker": "zeta"},
        "fund-b": {"broker": "zeta", "account": "U2"},
        "absent": {"broker": "no-such-broker"},
        "unset": {"broker": "livewire"},
        "broken": {"broker": "breaks"},
    }
}
ORDER = Order.limit("BTC-USD", Side.BUY, "1", price="10", idempotency_key="k1")


def log_of(name: str) -> list[Any]:
    log: list[Any] = sys.modules[f"mts1b_broker_{name}.plugin"].LOG  # type: ignore[attr-defined]
    return log


@pytest.fixture
def brokers(site: Any, plugin_code: str) -> Any:
    site.broker("zeta", plugin_code + OBSERVER)
    site.broker("livewire", environments='["live"]')
    site.broker(
        "breaks", plugin_code.replace('LOG.append(("open", self.name))', "raise RuntimeError('boom')")
    )
    return site


async def test_each_instance_is_ready_or_says_why_not(brokers: Any) -> None:
    async with BrokerHub.from_config(CONFIG) as hub:
        assert {row.instance: row.state for row in hub.status} == {
            "fund-a": "ready", "fund-b": "ready", "absent": "failed", "unset": "failed", "broken": "failed",
        }  # fmt: skip
        rows = {row.instance: row for row in hub.status}
        assert "pip install mts1b-broker-no-such-broker" in rows["absent"].remedy
        assert "MTS1B_BROKERS__UNSET__ENVIRONMENT" in rows["unset"].remedy
        assert isinstance(rows["broken"].error, RuntimeError)
        assert str(rows["fund-a"]) == "fund-a (zeta): ready"
        assert list(hub) == list(CONFIG["brokers"])
        assert len(hub) == 5
        assert sorted(hub.ready) == ["fund-a", "fund-b"]
        assert "fund-a" in hub
        assert "fund-z" not in hub
        assert hub["fund-b"].settings.account == "U2"
        assert repr(hub).startswith("BrokerHub(fund-a: ready, fund-b: ready, absent: failed")
        with pytest.raises(BrokerFailed, match="unset: find: it could not be opened: no environment"):
            hub["unset"]
        with pytest.raises(BrokerFailed, match="boom") as caught:
            hub["broken"]
        assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(UnknownInstance, match="did you mean fund-a") as missing:
            hub["fund-aa"]
        assert isinstance(missing.value, KeyError)
    assert [row.state for row in hub.status][:2] == ["closed", "closed"]
    with pytest.raises(BrokerClosed):
        hub["fund-a"]
    assert {entry for entry in log_of("zeta") if entry[0] == "close"} == {
        ("close", "fund-a"),
        ("close", "fund-b"),
    }


async def test_a_hub_that_is_not_open_says_so(brokers: Any) -> None:
    hub = BrokerHub.from_config(CONFIG)
    with pytest.raises(BrokerClosed, match="the hub is not open"):
        hub["fund-a"]
    with pytest.raises(ConfigurationError):
        BrokerHub.from_config({"brookers": {}})


async def test_everything_is_closed_when_the_block_fails(brokers: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with BrokerHub.from_config(CONFIG):
            raise ZeroDivisionError
    assert ("close", "fund-a") in log_of("zeta")
    assert ("close", "fund-b") in log_of("zeta")


async def test_opening_happens_at_once_and_an_interrupted_start_closes_what_was_open(
    site: Any, plugin_code: str
) -> None:
    waits = plugin_code.replace(
        'LOG.append(("open", self.name))',
        "import asyncio; LOG.append(('begin', self.name)); await asyncio.Event().wait()",
    )
    site.broker("waits", waits)
    site.broker("zeta")
    hub = BrokerHub.from_config(
        {"brokers": {"zeta": {}, "w1": {"broker": "waits"}, "w2": {"broker": "waits"}}}
    )
    starting = asyncio.create_task(hub.__aenter__())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert log_of("waits") == [("begin", "w1"), ("begin", "w2")]
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert log_of("zeta") == [("open", "zeta"), ("close", "zeta")]
    assert hub.ready == {}


async def test_each_broker_is_entered_and_left_in_one_task(site: Any, plugin_code: str) -> None:
    grouped = plugin_code.replace(
        'LOG.append(("open", self.name))',
        "import asyncio; self.group = asyncio.TaskGroup(); await self.group.__aenter__()",
    ).replace('LOG.append(("close", self.name))', "await self.group.__aexit__(kind, error, trace)")
    site.broker("grouped", grouped)
    async with BrokerHub.from_config({"brokers": {"grouped": {}}}) as hub:
        assert [row.state for row in hub.status] == ["ready"]


async def test_a_broker_that_fails_to_close_is_reported_after_all_are_closed(
    site: Any, plugin_code: str
) -> None:
    site.broker("zeta")
    site.broker(
        "stuck", plugin_code.replace('LOG.append(("close", self.name))', "raise RuntimeError('stuck')")
    )
    with pytest.raises(ExceptionGroup, match="did not close cleanly") as caught:
        async with BrokerHub.from_config({"brokers": {"stuck": {}, "zeta": {}}}):
            pass
    assert [repr(error) for error in caught.value.exceptions] == ["RuntimeError('stuck')"]
    assert ("close", "zeta") in log_of("zeta")


async def test_events_and_the_start_reach_observers(brokers: Any) -> None:
    async with BrokerHub.from_config(CONFIG) as hub:
        hub["fund-a"].services.emit("an event")
    assert ("started", tuple(CONFIG["brokers"])) in log_of("zeta")
    assert ("event", "an event") in log_of("zeta")
    assert registry(hub._config.policy).facade._runs == []


async def test_a_key_belongs_to_one_instance(brokers: Any) -> None:
    async with BrokerHub.from_config(CONFIG) as hub:
        assert (await hub.submit("fund-a", ORDER)).broker_order_id == "1"
        with pytest.raises(
            IdempotencyConflict, match=r"fund-b: submit: the idempotency key 'k1' .* at fund-a"
        ):
            await hub.submit("fund-b", ORDER)
        assert hub["fund-b"].orders == []
        await hub.submit("fund-a", ORDER)
        bracket = Order.bracket(
            "BTC-USD", Side.BUY, "1", take_profit="12", stop_loss="8", idempotency_key="k2"
        )
        await hub.submit("fund-b", bracket)
        child = ORDER.model_copy(update={"idempotency_key": bracket.attached[0].idempotency_key})
        with pytest.raises(IdempotencyConflict):
            await hub.submit("fund-a", child)
        with pytest.raises(UnknownInstance):
            await hub.submit("fund-z", ORDER)


async def test_a_key_that_was_denied_is_free_again(site: Any, plugin_code: str) -> None:
    denying = (
        "if order.tag == 'deny':\n            raise OrderDenied('no.')\n        self.orders.append(order)"
    )
    code = "from mts1b_brokers_core import OrderDenied\n" + plugin_code
    site.broker("zeta", code.replace("self.orders.append(order)", denying))
    config = {"brokers": {"fund-a": {"broker": "zeta"}, "fund-b": {"broker": "zeta"}}}
    async with BrokerHub.from_config(config) as hub:
        with pytest.raises(OrderDenied):
            await hub.submit("fund-a", ORDER.model_copy(update={"tag": "deny"}))
        await hub.submit("fund-b", ORDER)
        assert [len(hub[name].orders) for name in hub] == [0, 1]


async def test_the_journals_of_the_others_are_asked_and_nothing_is_kept_twice(
    site: Any, plugin_code: str
) -> None:
    site.broker("zeta", plugin_code + JOURNALLED)
    config = {"brokers": {"fund-a": {"broker": "zeta"}, "fund-b": {"broker": "zeta"}}}
    async with BrokerHub.from_config(config) as hub:
        await hub["fund-a"].submit(ORDER)  # past the hub
        rejected = ORDER.model_copy(update={"idempotency_key": "k2", "tag": "rejected"})
        await hub["fund-a"].submit(rejected)
        for order in (ORDER, rejected):
            with pytest.raises(IdempotencyConflict):
                await hub.submit("fund-b", order)
        await hub.submit("fund-b", ORDER.model_copy(update={"idempotency_key": "k3"}))
        assert hub._keys == {}


async def test_two_submits_at_once_under_one_key_reach_one_instance(site: Any, plugin_code: str) -> None:
    site.broker("zeta", plugin_code + JOURNALLED)
    config = {"brokers": {"fund-a": {"broker": "zeta"}, "fund-b": {"broker": "zeta"}}}
    async with BrokerHub.from_config(config) as hub:
        answers = await asyncio.gather(
            hub.submit("fund-a", ORDER), hub.submit("fund-b", ORDER), return_exceptions=True
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["IdempotencyConflict", "Order"]
        assert sum(len(hub[name].orders) for name in hub) == 1
