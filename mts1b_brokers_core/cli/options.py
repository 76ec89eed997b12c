"""The options every command takes, and what they choose."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .logs import log_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from mts1b_brokers_core.plugins.records import Record
    from mts1b_brokers_core.runtime.config import Config
    from mts1b_brokers_core.runtime.opening import Request, Resolved

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """What the common options say: which broker or instance, where, and with which settings."""

    broker: str | None = None
    environment: str | None = None
    config: Path | None = None
    account: str | None = None
    settings: tuple[str, ...] = ()
    as_json: bool = False

    def named(self, name: str | None) -> Target:
        """Return the target with a name given as an argument. Raises `UsageError` where two disagree."""
        if name is not None and self.broker is not None and name != self.broker:
            raise click.UsageError(f"{name} and --broker {self.broker} name two brokers; name one.")
        return replace(self, broker=name or self.broker)

    def load(self) -> Config:
        """Read the configuration."""
        from mts1b_brokers_core.runtime.config import load_config

        return load_config(self.config)

    def request(self, config: Config | None = None) -> Request:
        """Return what is to be opened; without a name the only broker there is."""
        from mts1b_brokers_core.runtime.opening import Request

        config = config or self.load()
        arguments = {**nested(self.settings), **self._arguments()}
        return Request(self.broker or only_name(config), None, config, None, arguments)

    def _arguments(self) -> dict[str, str]:
        given = {"environment": self.environment, "account": self.account}
        return {name: value for name, value in given.items() if value is not None}

    def broker_meant(self, config: Config) -> str:
        """Return the broker's name: that of the instance named, or the only one there is."""
        from mts1b_brokers_core.runtime.settings import broker_of

        return broker_of(self.broker or only_name(config), config, os.environ)

    def resolve(self) -> Resolved:
        """Find the broker's plugin and settings; nothing is opened."""
        from mts1b_brokers_core.runtime.opening import resolve

        return resolve(self.request())


def only_name(config: Config) -> str:
    """Return the one broker that can be meant where none was named. Raises `UsageError`."""
    names = sorted(config.instances) or [record.name for record in records(config) if record.usable]
    if len(names) == 1:
        return names[0]
    if not names:
        raise click.UsageError("no broker is installed; install one: pip install mts1b-broker-paper")
    raise click.UsageError(f"there are several brokers: {', '.join(names)}; name one with --broker.")


def records(config: Config) -> tuple[Record, ...]:
    """Return the rows of the registry; nothing is imported."""
    from mts1b_brokers_core.plugins.registry import registry

    return registry(config.policy).records()


def nested(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Turn `gates.read_only=true` into nested settings; a value in brackets is a TOML list."""
    tree: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        path = key.strip().replace("-", "_").split(".")
        if not equals or not all(path):
            raise click.UsageError(f"--set {key}: expected key=value, e.g. --set gates.read_only=true.")
        table = tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise click.UsageError(f"--set {key}: {part} was set to a value before.")
        table[path[-1]] = _value(key, text.strip())
    return tree


def _value(key: str, text: str) -> Any:
    if not text.startswith("["):
        return text
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise click.UsageError(f'--set {key}: a list is written ["A", "B"].') from None


# --- the options themselves ----------------------------------------------------------------------------


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete instances and installed brokers, from the configuration and the manifests only."""
    from click.shell_completion import CompletionItem

    try:
        config = Target(config=ctx.params.get("config")).load()
        rows = records(config)
    except Exception:  # noqa: BLE001 - a completion that fails offers nothing; the command itself will say why
        return []
    found: dict[str, str] = dict.fromkeys(config.instances, f"instance in {config.place}")
    for record in rows:
        for word in record.words if record.usable else ():
            found.setdefault(word, f"{record.distribution} {record.version}")
    return [
        CompletionItem(name, help=text) for name, text in sorted(found.items()) if name.startswith(incomplete)
    ]


def complete_environment(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the environments of the broker named, from its manifest."""
    from click.shell_completion import CompletionItem

    try:
        config = Target(config=ctx.params.get("config")).load()
        wanted = Target(ctx.params.get("broker") or ctx.params.get("name")).broker_meant(config)
        found = [word for record in records(config) if wanted in record.words for word in record.environments]
    except Exception:  # noqa: BLE001 - as above
        return []
    return [CompletionItem(word) for word in found if word.startswith(incomplete)]


_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
_CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="The configuration file, instead of the user's own.",
)
_BROKER = click.option(
    "--broker",
    metavar="NAME",
    shell_complete=complete_name,
    help="An instance of the configuration, or an installed broker.",
)
_OPENING = (
    click.option(
        "--environment",
        metavar="NAME",
        shell_complete=complete_environment,
        help="Where: live, the venue's sandbox or paper, or simulator.",
    ),
    click.option("--account", metavar="ID", help="The account, where the login has several."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any setting, e.g. gates.read_only=true; repeatable. Secrets belong in the environment.",
    ),
)


def target_options(*, opening: bool = True, broker: bool = True) -> Callable[[F], F]:
    """Add the common options to a command, which receives them as one `target`."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            fields: Mapping[str, Any] = {name: given.pop(name) for name in list(given) if name in _FIELDS}
            return function(*args, target=Target(**fields), **given)

        wrapped: Any = log_options(call)
        options = [*([_BROKER] if broker else []), *(_OPENING if opening else ()), _CONFIG, _JSON]
        for option in reversed(options):
            wrapped = option(wrapped)
        result: F = wrapped
        return result

    return decorate


_FIELDS = frozenset(Target.__dataclass_fields__)

#: A broker as the command's argument, where it takes nothing else.
name_argument = click.argument("name", required=False, metavar="[NAME]", shell_complete=complete_name)
