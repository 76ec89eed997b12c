"""The typed face of the plugin manager; nothing else in the core touches it."""

from __future__ import annotations

import inspect
import logging
import queue
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pluggy

from mts1b_brokers_core.foundation import BrokerEvent, BrokerProtocol, BrokerSettings, PluginUnusable
from mts1b_brokers_core.foundation import plugin as contract

from . import hookspecs
from .records import PluginRefused

_log = logging.getLogger("mts1b.brokers.plugins")

#: How many events may wait for slow observers; beyond it the newest are dropped and counted.
QUEUE_LIMIT = 10_000

_Impls = Mapping[str, pluggy.HookImpl]


class Facade:
    """Registers plugin modules and calls their hooks, each with its own types."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._table: dict[tuple[str, str], pluggy.HookImpl] = {}
        self._observers: tuple[str, ...] = ()
        self._runs: list[contract.Run] = []
        self._queue: queue.SimpleQueue[BrokerEvent | threading.Event] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
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
            cause = str(error).replace("\n", " ")
            raise PluginRefused(cause, next_step="correct the hook's signature") from None
        callers = self._manager.get_hookcallers(plugin) or []
        found = {caller.name: caller.get_hookimpls() for caller in callers}
        impls = {hook: impl for hook, all_ in found.items() for impl in all_ if impl.plugin is plugin}
        objection = next(_objections(plugin, impls, provides), None)
        if objection is not None:
            self._manager.unregister(name=name)
            for misspelt in impls.keys() - hookspecs.HOOKS:
                delattr(self._manager.hook, misspelt)
            raise PluginRefused(objection[0], next_step=objection[1])
        self._table |= {(hook, name): impl for hook, impl in impls.items()}
        if "mts1b_event" in impls:
            self._observers = (*self._observers, name)
            if self._worker is None:
                self._worker = threading.Thread(target=self._observe, name="mts1b-observers", daemon=True)
                self._worker.start()
        for run in self._runs:
            self._tell(name, "mts1b_runtime_started", run=run)

    # --- one plugin --------------------------------------------------------------------------------

    def plugin(self, name: str) -> object:
        """Return the registered plugin of a name, or None."""
        return self._manager.get_plugin(name)

    def has(self, name: str, hook: str) -> bool:
        """True where the plugin implements the hook."""
        return (hook, name) in self._table

    def _ask(self, name: str, hook: str, **given: Any) -> Any:
        impl = self._table.get((hook, name))
        if impl is None:
            raise _unusable(name, hook, f"it implements no {hook}")
        return impl.function(*[given[argument] for argument in impl.argnames])

    def _ask_if(self, name: str, hook: str, **given: Any) -> Sequence[Any]:
        found: Sequence[Any] = self._ask(name, hook, **given) if self.has(name, hook) else ()
        return found

    def settings_model(self, name: str) -> type[BrokerSettings]:
        """Return the plugin's settings model. Raises `PluginUnusable`."""
        model = self._ask(name, "mts1b_broker_settings")
        if not (isinstance(model, type) and issubclass(model, BrokerSettings)):
            cause = f"mts1b_broker_settings returned {model!r}, expected a subclass of BrokerSettings"
            raise _unusable(name, "settings", cause)
        return model

    def create(self, name: str, settings: BrokerSettings, services: contract.Services) -> BrokerProtocol:
        """Return the plugin's broker object, not opened. Raises `PluginUnusable` where it isn't one."""
        broker = self._ask(name, "mts1b_broker_create", settings=settings, services=services)
        if not isinstance(broker, BrokerProtocol):
            words = ("__aenter__", "__aexit__", *(word for word in vars(BrokerProtocol) if word[0] != "_"))
            lacking = ", ".join(word for word in words if not hasattr(broker, word))
            cause = f"mts1b_broker_create returned {type(broker).__name__}, which lacks {lacking}"
            raise _unusable(name, "create", cause)
        return broker

    def checks(self, name: str, settings: BrokerSettings) -> Sequence[contract.Check]:
        """Return the plugin's own health checks; none where it has none."""
        return self._ask_if(name, "mts1b_broker_checks", settings=settings)

    def simulator(self, name: str, options: contract.SimulatorOptions) -> contract.SimulatorServer:
        """Return the venue's simulator, not started. Raises `PluginUnusable` where the plugin has none."""
        server: contract.SimulatorServer = self._ask(name, "mts1b_broker_simulator", options=options)
        return server

    def redaction_patterns(self, name: str) -> Sequence[contract.RedactionPattern]:
        """Return what the plugin wants redacted; nothing where it doesn't say. Raises `PluginUnusable`."""
        found = self._ask_if(name, "mts1b_redaction_patterns")
        return _each(name, "mts1b_redaction_patterns", found, re.Pattern, "a compiled pattern")

    def credential_sources(self, name: str) -> Sequence[contract.CredentialSource]:
        """Return the plugin's places of credentials. Raises `PluginUnusable`."""
        found = self._ask(name, "mts1b_credential_sources")
        return _each(name, "mts1b_credential_sources", found, contract.CredentialSource, "a CredentialSource")

    # --- every plugin ------------------------------------------------------------------------------

    def started(self, run: contract.Run) -> None:
        """Tell every plugin that a runtime started, those that are loaded later when they are."""
        self._runs.append(run)
        for name, _ in self._manager.list_name_plugin():
            self._tell(name, "mts1b_runtime_started", run=run)

    def ended(self, run: contract.Run) -> None:
        """Stop telling plugins loaded later about a run that is over."""
        if run in self._runs:
            self._runs.remove(run)

    def _tell(self, name: str, hook: str, **given: Any) -> None:
        """Call a hook where the plugin has it; what it raises is kept and reaches nobody."""
        try:
            if self.has(name, hook):
                self._ask(name, hook, **given)
        except Exception as error:  # noqa: BLE001 - an observer's failure must not reach orders or other observers
            if (name, hook) not in self.failures:
                _log.warning("%s of plugin %s raised %s", hook, name, type(error).__name__)
            self.failures[name, hook] = repr(error)

    def listened(self) -> bool:
        """Tell whether any observer takes events."""
        return bool(self._observers)

    def emit(self, event: BrokerEvent) -> None:
        """Queue an event for the observers and return at once; it costs nothing where nobody listens."""
        if self._observers:
            if self._queue.qsize() < QUEUE_LIMIT:
                self._queue.put(event)
            else:
                self.dropped += 1

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until the events queued so far were observed; False where `timeout` seconds were too few."""
        if self._worker is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout)

    def _observe(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            for name in self._observers:
                self._tell(name, "mts1b_event", event=item)


def _each(name: str, hook: str, found: Any, kind: type, words: str) -> Sequence[Any]:
    for row in found:
        if not isinstance(row, kind):
            raise _unusable(name, hook, f"{hook} returned {type(row).__name__}, expected {words}")
    rows: Sequence[Any] = found
    return rows


def _unusable(name: str, operation: str, cause: str) -> PluginUnusable:
    return PluginUnusable(f"{cause}.", broker=name, operation=operation, state="failed", cause=cause)


def _objections(plugin: object, impls: _Impls, provides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each reason why a registered plugin can't stay, and what its author must do."""
    known = ", ".join(sorted(hookspecs.HOOKS))
    for hook, impl in impls.items():
        if hook not in hookspecs.HOOKS and not impl.optionalhook:
            yield f"it implements {hook}, which is no hook", f"the hooks are {known}"
        if inspect.iscoroutinefunction(impl.function) or inspect.isasyncgenfunction(impl.function):
            yield f"its {hook} is async, which would never be awaited", f"make {hook} a plain def"
        if impl.hookwrapper or impl.wrapper:
            yield f"its {hook} is a wrapper", f"implement {hook} plainly"
    for hook in sorted(hookspecs.HOOKS - impls.keys()):
        if inspect.isfunction(getattr(plugin, hook, None)):
            yield f"its {hook} lacks the @hookimpl mark", "decorate it with @hookimpl"
    missing = [hook for what in provides for hook in hookspecs.REQUIRED.get(what, ()) if hook not in impls]
    if missing:
        yield f"it implements no {missing[0]}", f"implement {', '.join(missing)}"
