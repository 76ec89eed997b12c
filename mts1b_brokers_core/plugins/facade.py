"""The typed face of the plugin manager; nothing else in the core touches it."""

from __future__ import annotations

import inspect
import logging
import queue
import threading
from collections.abc import Sequence
from typing import Any

import pluggy

from mts1b_brokers_core.foundation.errors import PluginUnusable
from mts1b_brokers_core.foundation.events import BrokerEvent
from mts1b_brokers_core.foundation.plugin import (
    Check,
    RedactionPattern,
    Run,
    Services,
    SimulatorOptions,
    SimulatorServer,
)
from mts1b_brokers_core.foundation.protocols import BrokerProtocol
from mts1b_brokers_core.foundation.settings import BrokerSettings

from . import hookspecs

_log = logging.getLogger("mts1b.brokers.plugins")

#: How many events may wait for slow observers; beyond it the newest are dropped and counted.
QUEUE_LIMIT = 10_000


class PluginRefused(Exception):
    """A module that can't serve as a plugin; the message says why, `remedy` what its author must do."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.remedy = remedy


class Facade:
    """Registers plugin modules and calls their hooks, each with its own types."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._table: dict[tuple[str, str], pluggy.HookImpl] = {}
        self._observers: list[tuple[str, pluggy.HookImpl]] = []
        self._runs: list[Run] = []
        self._queue: queue.SimpleQueue[BrokerEvent | threading.Event] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()
        #: Events that slow observers made us drop.
        self.dropped = 0
        #: What each observing hook raised last, by (plugin, hook).
        self.failures: dict[tuple[str, str], str] = {}

    # --- registering -------------------------------------------------------------------------------

    def add(self, name: str, plugin: object, provides: Sequence[str] = ()) -> None:
        """Register a plugin, or leave no trace of it. Raises `PluginRefused`."""
        try:
            self._manager.register(plugin, name=name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginRefused(str(error).replace("\n", " "), "correct the hook's signature") from None
        impls = self._implementations(plugin)
        refusal = _refusal(plugin, impls, provides)
        if refusal is not None:
            self._manager.unregister(name=name)
            self._forget_unknown_hooks()
            raise refusal
        self._table |= {(hook, name): impl for hook, impl in impls.items() if hook in hookspecs.ONE_PLUGIN}
        if "mts1b_event" in impls:
            self._observers = [*self._observers, (name, impls["mts1b_event"])]
        for run in self._runs:
            self._tell_started(name, run)

    def _implementations(self, plugin: object) -> dict[str, pluggy.HookImpl]:
        callers = self._manager.get_hookcallers(plugin) or []
        return {
            caller.name: impl
            for caller in callers
            for impl in caller.get_hookimpls()
            if impl.plugin is plugin
        }

    def _forget_unknown_hooks(self) -> None:
        relay = self._manager.hook
        for hook, caller in list(vars(relay).items()):
            if isinstance(caller, pluggy.HookCaller) and not caller.has_spec() and not caller.get_hookimpls():
                delattr(relay, hook)

    # --- one plugin --------------------------------------------------------------------------------

    def plugin(self, name: str) -> object | None:
        """Return the registered plugin of a name, or None."""
        plugin: object | None = self._manager.get_plugin(name)
        return plugin

    def has(self, name: str, hook: str) -> bool:
        """True where the plugin implements the hook that is asked of one plugin."""
        return (hook, name) in self._table

    def _ask(self, name: str, hook: str, **given: Any) -> Any:
        impl = self._table.get((hook, name))
        if impl is None:
            cause = f"it implements no {hook}"
            raise PluginUnusable(f"{cause}.", broker=name, operation=hook, state="failed", cause=cause)
        return impl.function(*[given[argument] for argument in impl.argnames])

    def settings_model(self, name: str) -> type[BrokerSettings]:
        """Return the plugin's settings model. Raises `PluginUnusable`."""
        model = self._ask(name, "mts1b_broker_settings")
        if not (isinstance(model, type) and issubclass(model, BrokerSettings)):
            cause = f"mts1b_broker_settings returned {model!r}, expected a subclass of BrokerSettings"
            raise PluginUnusable(f"{cause}.", broker=name, operation="settings", state="failed", cause=cause)
        return model

    def create(self, name: str, settings: BrokerSettings, services: Services) -> BrokerProtocol:
        """Return the plugin's broker object, not opened. Raises `PluginUnusable` where it isn't one."""
        broker = self._ask(name, "mts1b_broker_create", settings=settings, services=services)
        if not isinstance(broker, BrokerProtocol):
            lacking = [word for word in _contract() if not hasattr(broker, word)]
            cause = f"mts1b_broker_create returned {type(broker).__name__}, which lacks {', '.join(lacking)}"
            raise PluginUnusable(f"{cause}.", broker=name, operation="create", state="failed", cause=cause)
        return broker

    def checks(self, name: str, settings: BrokerSettings) -> Sequence[Check]:
        """Return the plugin's own health checks; none where it has none."""
        if not self.has(name, "mts1b_broker_checks"):
            return ()
        checks: Sequence[Check] = self._ask(name, "mts1b_broker_checks", settings=settings)
        return checks

    def simulator(self, name: str, options: SimulatorOptions) -> SimulatorServer:
        """Return the venue's simulator, not started. Raises `PluginUnusable` where the plugin has none."""
        server: SimulatorServer = self._ask(name, "mts1b_broker_simulator", options=options)
        return server

    def redaction_patterns(self, name: str) -> Sequence[RedactionPattern]:
        """Return what the plugin wants redacted; nothing where it doesn't say."""
        if not self.has(name, "mts1b_redaction_patterns"):
            return ()
        patterns: Sequence[RedactionPattern] = self._ask(name, "mts1b_redaction_patterns")
        return patterns

    # --- every plugin ------------------------------------------------------------------------------

    def started(self, run: Run) -> None:
        """Tell every plugin that a runtime started, those that are loaded later when they are."""
        self._runs.append(run)
        for name, _ in self._manager.list_name_plugin():
            self._tell_started(name, run)

    def ended(self, run: Run) -> None:
        """Stop telling plugins loaded later about a run that is over."""
        if run in self._runs:
            self._runs.remove(run)

    def _tell_started(self, name: str, run: Run) -> None:
        plugin = self._manager.get_plugin(name)
        for impl in self._manager.hook.mts1b_runtime_started.get_hookimpls():
            if impl.plugin is plugin:
                self._call(name, "mts1b_runtime_started", impl, run=run)

    def _call(self, name: str, hook: str, impl: pluggy.HookImpl, **given: Any) -> None:
        try:
            impl.function(*[given[argument] for argument in impl.argnames])
        except Exception as error:  # noqa: BLE001 - an observer's failure must not reach orders or other observers
            if (name, hook) not in self.failures:
                _log.warning("%s of plugin %s raised %s", hook, name, type(error).__name__)
            self.failures[name, hook] = repr(error)

    def emit(self, event: BrokerEvent) -> None:
        """Queue an event for the observers and return at once; it costs nothing where nobody listens."""
        if not self._observers:
            return
        if self._queue.qsize() >= QUEUE_LIMIT:
            self.dropped += 1
            return
        self._queue.put(event)
        if self._worker is None:
            self._start_worker()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until the events queued so far were observed; False where `timeout` seconds were too few."""
        if self._worker is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout)

    def _start_worker(self) -> None:
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(target=self._observe, name="mts1b-observers", daemon=True)
                self._worker.start()

    def _observe(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            for name, impl in self._observers:
                self._call(name, "mts1b_event", impl, event=item)


def _refusal(
    plugin: object, impls: dict[str, pluggy.HookImpl], provides: Sequence[str]
) -> PluginRefused | None:
    """Say why a registered plugin can't stay, or None where it can."""
    known = _hook_names()
    for hook, impl in impls.items():
        if hook not in known and not impl.optionalhook:
            return PluginRefused(
                f"it implements {hook}, which is no hook", f"the hooks are {', '.join(sorted(known))}"
            )
        if inspect.iscoroutinefunction(impl.function) or inspect.isasyncgenfunction(impl.function):
            return PluginRefused(
                f"its {hook} is async, which would never be awaited", f"make {hook} a plain def"
            )
        if impl.hookwrapper or impl.wrapper:
            return PluginRefused(f"its {hook} is a wrapper", f"implement {hook} plainly")
    unmarked = [hook for hook in known - impls.keys() if inspect.isfunction(getattr(plugin, hook, None))]
    if unmarked:
        return PluginRefused(f"its {unmarked[0]} lacks the @hookimpl mark", "decorate it with @hookimpl")
    missing = [hook for what in provides for hook in hookspecs.REQUIRED.get(what, ()) if hook not in impls]
    if missing:
        return PluginRefused(f"it implements no {missing[0]}", f"implement {', '.join(missing)}")
    return None


def _hook_names() -> set[str]:
    return {name for name in vars(hookspecs) if name.startswith("mts1b_")}


def _contract() -> tuple[str, ...]:
    return (
        "name", "__aenter__", "__aexit__",
        "submit", "cancel", "get_open_orders", "get_positions", "stream_fills",
    )  # fmt: skip
