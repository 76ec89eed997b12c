"""Opening one broker: from a name to an object that takes orders."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import BrokerError, ConfigurationError
from mts1b_brokers_core.foundation.plugin import Services, SimulatorOptions
from mts1b_brokers_core.foundation.protocols import BrokerProtocol
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.plugins.records import Record
from mts1b_brokers_core.plugins.registry import Registry, registry

from .config import Config, ConfigSource, check_instance, load_config
from .environment import SIMULATOR, choose_environment
from .settings import Given, Path_, SettingRow, broker_of, build, explain_rows, gather, variable
from .state import journal_path, prepare

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks to be opened."""

    name: str
    instance: str | None = None
    config: ConfigSource = field(default=None, repr=False)  # this and what follows may hold secrets
    clock: Clock | None = None
    arguments: Mapping[str, object] = field(default_factory=dict, repr=False)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A request with its plugin found and loaded, and the values given for each setting."""

    request: Request
    config: Config
    registry: Registry
    record: Record
    instance: str
    model: type[BrokerSettings]
    found: Mapping[Path_, Given]

    def environment(self) -> str:
        """Return the environment chosen. Raises `EnvironmentNotChosen`, `ConfigurationError`."""
        given = self.found.get(("environment",))
        return choose_environment(
            None if given is None else given.value,
            declared=self.record.head.environments if self.record.head else (),
            offered=self.record.environments,
            instance=self.instance,
            hint=variable(self.instance, "environment"),
        )

    def settings(self, environment: str, simulator: Mapping[str, object] | None = None) -> BrokerSettings:
        """Return the typed settings; the simulator's own come before variables and file."""
        found = self.found if simulator is None else _gather(self, simulator)
        settings = build(self.model, self.instance, found)
        path = settings.state_path.expanduser() if settings.state_path else None
        return settings.evolve(environment=environment, state_path=path)

    def state(self, settings: BrokerSettings, environment: str, *, throwaway: bool) -> Path | None:
        """Return the journal's file, or None (in memory) where the venue is thrown away at the end."""
        if settings.state_path is not None:
            return prepare(settings.state_path)
        if throwaway:
            return None
        return prepare(journal_path(self.instance, environment, self.request.environ))


def resolve(request: Request) -> Resolved:
    """Find the instance, its plugin and its settings; loads the plugin and nothing else.

    Raises `BrokerNotInstalled`, `PluginUnusable`, `ConfigurationError`, `UnknownSetting`.
    """
    config = load_config(request.config, request.environ)
    plugins = registry(config.policy)
    instance, record = _named(request, config, plugins)
    plugins.load(record)
    model = plugins.facade.settings_model(record.name)
    found = gather(model, instance, config, request.environ, request.arguments)
    return Resolved(request, config, plugins, record, instance, model, found)


def _gather(resolved: Resolved, simulator: Mapping[str, object]) -> Mapping[Path_, Given]:
    model, instance, request = resolved.model, resolved.instance, resolved.request
    return gather(model, instance, resolved.config, request.environ, request.arguments, simulator)


def _named(request: Request, config: Config, plugins: Registry) -> tuple[str, Record]:
    """Return instance and plugin; a name is an instance's where one is configured, else a broker's."""
    name, environ = request.name, request.environ
    if request.instance is None and (name in config.instances or environ.get(variable(name, "broker"))):
        return check_instance(name), plugins.get(broker_of(name, config, environ))
    record = plugins.get(name)
    instance = check_instance(request.instance or record.name)
    if instance in config.instances or environ.get(variable(instance, "broker")):
        configured = broker_of(instance, config, environ)
        if configured != record.name and plugins.get(configured) is not record:
            raise ConfigurationError(
                f"the instance {instance} is configured for {configured}, not for {record.name}.",
                broker=instance,
                operation="open",
                next_step=f"open {configured!r}, or pass another instance=",
            )
    return instance, record


def explain(
    name: str, *, config: ConfigSource = None, instance: str | None = None, **settings: Any
) -> list[SettingRow]:
    """List every setting of an instance: its value (secrets redacted) and where it came from."""
    resolved = resolve(Request(name, instance, config, arguments=settings))
    return explain_rows(resolved.model, resolved.found)


class Opening:
    """A broker about to be opened: `async with` it, or await it and `close()` the broker yourself.

    What comes out is typed as the `VenueClient` that adapters derive from; of a class that implements
    `BrokerProtocol` by itself only that part is there, and `close`.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._stack = AsyncExitStack()
        self._used = False

    def __repr__(self) -> str:
        return f"Opening({self.request.name})"

    async def __aenter__(self) -> VenueClient:
        broker, _ = await self._open()
        return cast("VenueClient", broker)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    def __await__(self) -> Generator[Any, None, VenueClient]:
        return self._awaited().__await__()

    async def _awaited(self) -> VenueClient:
        broker, served = await self._open()
        if served or not hasattr(broker, "close"):
            try:
                _give_close(broker, self._stack.aclose)
            except BrokerError:
                await self._stack.aclose()
                raise
        return cast("VenueClient", broker)

    async def _open(self) -> tuple[BrokerProtocol, bool]:
        if self._used:
            raise ConfigurationError(
                "this opening was used already.", next_step="call open_broker again"
            ).located(broker=self.request.name, operation="open")
        self._used = True
        where = self.request.instance or self.request.name
        try:
            async with AsyncExitStack() as stack:
                opened = await _open(self.request, stack)
                self._stack = stack.pop_all()
                return opened
        except BrokerError as error:
            error.located(broker=where, operation="open")
            raise
        except Exception as error:
            error.add_note(f"{where}: open")
            raise


async def _open(request: Request, stack: AsyncExitStack) -> tuple[BrokerProtocol, bool]:
    """Open the broker on the stack; also say whether a simulator was started for it."""
    resolved = resolve(request)
    facade, name = resolved.registry.facade, resolved.record.name
    environment = resolved.environment()
    served = environment == SIMULATOR and facade.has(name, "mts1b_broker_simulator")
    given: Mapping[str, object] | None = None
    if served:
        server = facade.simulator(name, SimulatorOptions())
        await server.start()
        stack.push_async_callback(server.stop)
        given = server.settings
    settings = resolved.settings(environment, given)
    services = Services(
        instance=resolved.instance,
        environment=environment,
        clock=request.clock,
        state_path=resolved.state(settings, environment, throwaway=served),
        emit=facade.emit,
        read_only=settings.gates.read_only,
    )
    broker = facade.create(name, settings, services)
    return await stack.enter_async_context(broker), served


def _give_close(broker: object, close: Callable[[], Awaitable[None]]) -> None:
    """Give the object itself a `close` that leaves its context; its type stays as it is."""
    try:
        object.__setattr__(broker, "close", close)
    except AttributeError:
        raise BrokerError(
            f"a {type(broker).__name__} has no close and takes no attributes.",
            operation="open",
            next_step="open it with `async with open_broker(...)`",
        ) from None


def open_broker(
    name: str,
    *,
    environment: str | None = None,
    config: ConfigSource = None,
    state_path: str | Path | None = None,
    clock: Clock | None = None,
    instance: str | None = None,
    **settings: Any,
) -> Opening:
    """Open a broker by its name, or by the name of a configured instance.

    `async with open_broker("paper") as broker:` closes it at the end; `broker = await
    open_broker("paper")` leaves that to `await broker.close()`. `settings` are the plugin's own and
    come before environment variables and the configuration file. Raises, when entered or awaited,
    `BrokerNotInstalled`, `PluginUnusable`, `EnvironmentNotChosen`, `UnknownSetting`, `ConfigurationError`.
    """
    arguments = {"environment": environment, "state_path": state_path, **settings}
    return Opening(Request(name, instance, config, clock, arguments))
