"""Hooks are asked of one plugin by name, or of every observer off the order path."""

from __future__ import annotations

import inspect
import threading
import types
from datetime import UTC, datetime
from typing import Any

import pytest

from mts1b_brokers_core import hookimpl
from mts1b_brokers_core.foundation.errors import PluginUnusable
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.plugin import BrokerPlugin, Run, Services, SimulatorOptions
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.plugins import facade as facade_module
from mts1b_brokers_core.plugins import hookspecs
from mts1b_brokers_core.plugins.facade import Facade, PluginRefused

EVENT = BrokerEvent(kind=EventKind.LINK_UP, at=datetime(2026, 1, 2, tzinfo=UTC))


def plugin(**hooks: Any) -> Any:
    module = types.ModuleType("some_plugin")
    for name, function in hooks.items():
        function.__name__ = name
        setattr(module, name, hookimpl(function))
    return module


def test_hooks_of_one_plugin_are_asked_by_name_and_may_take_fewer_arguments() -> None:
    facade = Facade()
    facade.add("a", plugin(mts1b_broker_settings=lambda: BrokerSettings, mts1b_broker_checks=lambda: ["a"]))
    facade.add("b", plugin(mts1b_broker_checks=lambda settings: [settings]))
    settings = BrokerSettings()
    assert facade.settings_model("a") is BrokerSettings
    assert facade.checks("a", settings) == ["a"]
    assert facade.checks("b", settings) == [settings]
    assert facade.checks("c", settings) == ()
    assert facade.redaction_patterns("a") == ()
    with pytest.raises(PluginUnusable, match="b: mts1b_broker_settings: it implements no"):
        facade.settings_model("b")
    with pytest.raises(PluginUnusable, match="mts1b_broker_simulator"):
        facade.simulator("a", SimulatorOptions())


def test_wrong_answers_are_named() -> None:
    facade = Facade()
    facade.add(
        "a",
        plugin(
            mts1b_broker_settings=lambda: dict,
            mts1b_broker_create=lambda services: types.SimpleNamespace(name="x"),
        ),
    )
    with pytest.raises(
        PluginUnusable, match=r"returned <class 'dict'>, expected a subclass of BrokerSettings"
    ):
        facade.settings_model("a")
    with pytest.raises(PluginUnusable, match=r"SimpleNamespace, which lacks __aenter__, .*submit"):
        facade.create("a", BrokerSettings(), Services("a", "paper"))


def test_a_refused_plugin_leaves_no_trace() -> None:
    facade = Facade()
    hooks = set(vars(facade._manager.hook))
    bad = plugin(mts1b_evnt=lambda event: None, mts1b_broker_settings=lambda: BrokerSettings)
    for _ in range(2):
        with pytest.raises(PluginRefused, match="mts1b_evnt, which is no hook") as caught:
            facade.add("bad", bad)
        assert "mts1b_event" in caught.value.next_step
    assert set(vars(facade._manager.hook)) == hooks
    assert facade.plugin("bad") is None
    assert not facade.has("bad", "mts1b_broker_settings")
    facade.add("bad", plugin(mts1b_broker_settings=lambda: BrokerSettings))
    assert facade.settings_model("bad") is BrokerSettings


def test_one_module_under_two_names_is_refused() -> None:
    facade, module = Facade(), plugin(mts1b_broker_settings=lambda: BrokerSettings)
    facade.add("a", module)
    with pytest.raises(PluginRefused):
        facade.add("b", module)
    assert facade.settings_model("a") is BrokerSettings


def test_observers_see_every_event_in_order_whatever_another_observer_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facade, seen, threads = Facade(), [], set()

    def failing(event: BrokerEvent) -> None:
        raise RuntimeError("secret words")

    def watching(event: BrokerEvent) -> None:
        seen.append(event.seq)
        threads.add(threading.current_thread().name)

    facade.add("failing", plugin(mts1b_event=failing))
    facade.add("watching", plugin(mts1b_event=watching))
    for number in range(100):
        facade.emit(EVENT.evolve(seq=number))
    assert facade.flush()
    assert seen == list(range(100))
    assert threads == {"mts1b-observers"}
    assert facade.failures["failing", "mts1b_event"] == "RuntimeError('secret words')"
    assert [record.getMessage() for record in caplog.records] == [
        "mts1b_event of plugin failing raised RuntimeError"
    ]


def test_nothing_is_queued_or_started_where_nobody_listens() -> None:
    facade = Facade()
    facade.emit(EVENT)
    assert facade._worker is None
    assert facade._queue.empty()
    assert facade.flush()


def test_a_slow_observer_costs_events_not_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facade_module, "QUEUE_LIMIT", 10)
    facade, gate, began = Facade(), threading.Event(), threading.Event()

    def slow(event: BrokerEvent) -> None:
        began.set()
        gate.wait(5)

    facade.add("slow", plugin(mts1b_event=slow))
    facade.emit(EVENT)
    assert began.wait(5)
    for _ in range(15):
        facade.emit(EVENT)
    assert facade.dropped == 5
    gate.set()
    assert facade.flush()


def test_a_started_runtime_is_told_to_all_and_to_those_loaded_later() -> None:
    facade, told = Facade(), []
    run = Run(("fund-a",))
    facade.add("early", plugin(mts1b_runtime_started=lambda run: told.append(("early", run))))

    def failing(run: Run) -> None:
        raise RuntimeError

    facade.add("failing", plugin(mts1b_runtime_started=failing))
    facade.started(run)
    facade.add("late", plugin(mts1b_runtime_started=lambda run: told.append(("late", run))))
    facade.ended(run)
    facade.add("after", plugin(mts1b_runtime_started=lambda run: told.append(("after", run))))
    assert told == [("early", run), ("late", run)]
    assert ("failing", "mts1b_runtime_started") in facade.failures


def test_every_hook_is_documented_in_one_sentence_and_reachable_through_the_facade() -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("mts1b_")]
    assert len(hooks) == 8
    assert set(hooks) == hookspecs.HOOKS
    source = inspect.getsource(facade_module)
    for name in hooks:
        doc = getattr(hookspecs, name).__doc__
        assert doc.endswith(".")
        assert "\n" not in doc
        assert f'"{name}"' in source
    assert {hook for required in hookspecs.REQUIRED.values() for hook in required} <= hookspecs.HOOKS


def test_the_typed_protocol_of_a_plugin_has_the_required_hooks() -> None:
    for name in hookspecs.REQUIRED["broker"]:
        ours = list(inspect.signature(getattr(hookspecs, name)).parameters)
        assert ["self", *ours] == list(inspect.signature(getattr(BrokerPlugin, name)).parameters)
