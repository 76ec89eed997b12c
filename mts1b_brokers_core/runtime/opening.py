"""Opening one broker: from a name to an object that takes orders."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mts1b_brokers_core.foundation import BrokerProtocol, BrokerSettings, Clock, Services, errors
from mts1b_brokers_core.foundation.plugin import SimulatorOptions
from mts1b_brokers_core.plugins.records import Record
from mts1b_brokers_core.plugins.registry import Registry, registry

from .config import Config, ConfigSource, check_instance, load_config
from .credentials import Credentials, seek
from .settings import (
    Given,
    Path_,
    SettingRow,
    broker_of,
    build,
    explain_rows,
    flat,
    gather,
    keep_secret,
    variable,
)
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
    held_elsewhere: Callable[[str], str | None] | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A request's plugin, found and loaded, and the values given for each setting."""

    registry: Registry
    record: Record
    instance: str
    model: type[BrokerSettings]
    found: dict[Path_, Given]
    place: str
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def environment(self) -> str:
        """Return the environment asked for, or the only one there is where that isn't live.

        Raises `EnvironmentNotChosen`, `ConfigurationError`.
        """
        declared = self.record.head.environments if self.record.head else ()
        offered, given = self.record.environments, self.found.get(("environment",))
        asked, choices = given.value if given else None, ", ".join(offered)
        if asked is None and len(declared) == 1 and declared[0] != "live":
            return declared[0]
        if asked is None:
            where = f"pass environment=..., set {variable(self.instance, 'environment')}"
            raise errors.EnvironmentNotChosen(
                f"no environment was chosen; there are {choices}.", broker=self.instance, operation="open",
                choices=offered, next_step=f"{where}, or `environment` in the configuration",
            )  # fmt: skip
        if asked not in offered:
            raise errors.ConfigurationError(
                f"the environment {asked!r} is not offered; there are {choices}.", broker=self.instance,
                operation="open", choices=offered, next_step=f"choose among {choices}",
            )  # fmt: skip
        return str(asked)

    def served(self, environment: str) -> bool:
        """True where the runtime itself starts the simulator that the plugin ships."""
        ships_one = self.registry.facade.has(self.record.name, "mts1b_broker_simulator")
        return environment == "simulator" and ships_one

    def simulator(self) -> SimulatorOptions:
        """Return how the simulator is to be started. Raises `InvalidInput`."""
        given = self.found.get(("simulator",))
        value = given.value if given is not None else {}
        if not isinstance(value, Mapping):
            raise errors.InvalidInput(
                f"simulator: got {value!r}, expected names and texts.", next_step="write {name = 'text'}"
            )
        return SimulatorOptions.from_texts({str(name): str(text) for name, text in value.items()})

    def settings(self, environment: str, simulator: Mapping[str, object] | None = None) -> BrokerSettings:
        """Return the typed settings; the simulator's own come before variables and file."""
        ours = flat(self.model, simulator or {}, "simulator", lambda path: "the simulator")
        arguments = {path: given for path, given in self.found.items() if given.kind == "argument"}
        found = self.found | {given.path: given for given in ours} | arguments
        keep_secret(self.model, found)
        settings = build(self.model, self.instance, found)
        path = settings.state_path.expanduser() if settings.state_path else None
        return settings.evolve(environment=environment, state_path=path)

    async def credentials(self) -> Credentials:
        """Seek the secrets that were not given; what keeps them from being found is returned, not raised."""
        asked = self.found.get(("environment",))
        if asked is not None and self.served(str(asked.value)):  # the simulator brings its own
            return Credentials(self.found)
        return await seek(self)

    def explain(self) -> list[SettingRow]:
        """List every setting: its value (secrets redacted) and where it came from; nothing is validated."""
        return explain_rows(self.model, self.found)


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
    for pattern in plugins.facade.redaction_patterns(record.name):
        from mts1b_brokers_core.platform.security import register_pattern

        register_pattern(pattern)
    return Resolved(plugins, record, instance, model, found, config.place, request.environ)


async def complete(request: Request) -> Resolved:
    """Find what `resolve` finds, and the secrets that nobody gave where credentials are kept.

    Raises what that raises, and `CredentialError`, `CredentialStoreUnavailable`.
    """
    resolved = resolve(request)
    sought = await resolved.credentials()
    resolved = replace(resolved, found=sought.found)
    if sought.missing:
        resolved.environment()  # where none was chosen, one that needs no credentials may be
    if sought.problem is not None:
        raise sought.problem
    return resolved


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
            raise errors.ConfigurationError(
                f"the instance {instance} is configured for {configured}, not for {record.name}.",
                broker=instance, operation="open",
                next_step=f"open {configured!r}, or pass another instance=",
            )  # fmt: skip
    return instance, record


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

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._stack.__aexit__(*error)

    def __await__(self) -> Generator[Any, None, VenueClient]:
        return self._awaited().__await__()

    async def _awaited(self) -> VenueClient:
        broker, served = await self._open()
        if served or not hasattr(broker, "close"):
            try:  # the object itself gets a `close` that leaves its context; its type stays as it is
                object.__setattr__(broker, "close", self._stack.aclose)
            except AttributeError:
                await self._stack.aclose()
                raise errors.BrokerError(
                    f"a {type(broker).__name__} has no close and takes no attributes.", operation="open",
                    next_step="open it with `async with open_broker(...)`",
                ) from None  # fmt: skip
        return cast("VenueClient", broker)

    async def _open(self) -> tuple[BrokerProtocol, bool]:
        """Open the broker on the stack; also say whether a simulator was started for it."""
        where = self.request.instance or self.request.name
        try:
            if self._used:
                raise errors.ConfigurationError(
                    "this opening was used already.", next_step="call open_broker again"
                )
            self._used = True
            async with AsyncExitStack() as stack:
                opened = await _open(self.request, stack)
                self._stack = stack.pop_all()
                return opened
        except errors.BrokerError as error:
            error.located(broker=where, operation="open")
            raise
        except Exception as error:
            error.add_note(f"{where}: open")
            raise


async def _open(request: Request, stack: AsyncExitStack) -> tuple[BrokerProtocol, bool]:
    resolved = await complete(request)
    facade, name, instance = resolved.registry.facade, resolved.record.name, resolved.instance
    environment = resolved.environment()
    served, given = resolved.served(environment), None
    if served:
        server = facade.simulator(name, resolved.simulator())
        await server.start()
        stack.push_async_callback(server.stop)
        given = server.settings
    settings = resolved.settings(environment, given)
    path = settings.state_path
    if path is None and not served:  # what a simulator knows is gone at its end, so nothing is kept of it
        path = journal_path(instance, environment, request.environ)
    services = Services(
        instance=instance, environment=environment, clock=request.clock, emit=facade.emit,
        state_path=None if path is None else prepare(path), read_only=settings.gates.read_only,
        held_elsewhere=request.held_elsewhere, listened=facade.listened,
    )  # fmt: skip
    broker = facade.create(name, settings, services)
    return await stack.enter_async_context(broker), served


def open_broker(
    name: str, *, environment: str | None = None, config: ConfigSource = None,
    state_path: str | Path | None = None, clock: Clock | None = None, instance: str | None = None,
    **settings: Any,
) -> Opening:  # fmt: skip
    """Open a broker by its name, or by the name of a configured instance.

    `async with open_broker("paper") as broker:` closes it at the end; `broker = await
    open_broker("paper")` leaves that to `await broker.close()`. `settings` are the plugin's own and
    come before environment variables and the configuration file. Raises, when entered or awaited,
    `BrokerNotInstalled`, `PluginUnusable`, `EnvironmentNotChosen`, `UnknownSetting`, `ConfigurationError`.
    """
    arguments = {"environment": environment, "state_path": state_path, **settings}
    return Opening(Request(name, instance, config, clock, arguments))
