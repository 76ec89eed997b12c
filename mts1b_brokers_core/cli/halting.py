"""`halt` and `resume`: the flag in the state folder that every process of an instance obeys.

The broker is not opened and its plugin not imported, so both work while a strategy runs, and while
nothing else does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import jsontext
from .options import Target, name_argument, only_name, records, target_options

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.ownership import Halt
    from mts1b_brokers_core.runtime.config import Config

_ENVIRONMENT = click.option(
    "--environment",
    metavar="NAME",
    help="Only there; by default wherever the instance may trade.",
)


@click.command(name="halt")
@name_argument
@click.option("--reason", default="halted by hand", show_default=True, help="Why; every denial repeats it.")
@_ENVIRONMENT
@target_options(opening=False)
def halt_command(target: Target, name: str | None, reason: str) -> None:
    """Deny new orders and changes in every process of an instance until `resume`; cancels pass.

    An adapter that keeps no journal (see `info`) doesn't watch the flag: only this command line obeys it
    there, and strategies that use it must be stopped by themselves.
    """
    rows = []
    for where, flag in _flags(target.named(name)):
        flag.set(reason)
        rows.append({**where, "halted": reason})
    _tell(target, rows, "halted: {halted}; new orders are denied, cancels pass")


@click.command(name="resume")
@name_argument
@_ENVIRONMENT
@target_options(opening=False)
def resume_command(target: Target, name: str | None) -> None:
    """Allow orders again after a halt.

    Where several environments are halted for different reasons, --environment must say which is meant.
    """
    found = [(where, flag, flag.reason()) for where, flag in _flags(target.named(name))]
    halted = [row for row in found if row[2] is not None]
    if len({reason for _, _, reason in halted}) > 1:
        each = "; ".join(f"{where['environment']}: {reason}" for where, _, reason in halted)
        raise click.UsageError(f"halted for different reasons ({each}); name one with --environment.")
    rows = []
    for where, flag, was in halted or found:
        flag.clear()
        rows.append({**where, "halted": None, "was": was})
    _tell(target, rows, "trading is allowed" if halted else "was not halted")


def _tell(target: Target, rows: list[dict[str, Any]], words: str) -> None:
    if target.as_json:
        jsontext.emit({"instances": rows})
        return
    for row in rows:
        was = row.get("was")
        before = f" (was: {was})" if was else ""
        click.echo(f"{row['instance']} ({row['environment']}): {words.format(**row)}{before}")


def _flags(target: Target) -> list[tuple[dict[str, Any], Halt]]:
    """Return the flag of every environment meant, each with the words for it.

    Without --environment all count that are configured, that the manifest names, or that have a
    journal: a halt must not miss the one that trades.
    """
    from mts1b_brokers_core.execution.ownership import Halt

    config = target.load()
    instance = _instance(target.broker or only_name(config), config)
    chosen = target.environment
    named = _given(instance, "state_path", config)
    if named:
        path = Path(named).expanduser()
        return [({"instance": instance, "environment": chosen or "any", "journal": str(path)}, Halt(path))]
    journals = _journals(instance, [chosen] if chosen else _environments(instance, config))
    if not journals:
        raise click.UsageError(f"no environment of {instance} is known; name it with --environment.")
    return [
        ({"instance": instance, "environment": environment, "journal": str(path)}, Halt(path))
        for environment, path in journals.items()
    ]


def _instance(name: str, config: Config) -> str:
    """Return the instance a name means: a configured one, or that of an installed broker."""
    if name in config.instances or _given(name, "broker", config):
        return name
    for record in records(config):
        if name in record.words:
            return record.name
    from mts1b_brokers_core.runtime.state import state_folder

    if (state_folder() / name).is_dir():
        return name
    from mts1b_brokers_core.plugins.registry import registry

    return registry(config.policy).get(name).name


def _given(instance: str, key: str, config: Config) -> str | None:
    """Return a setting from variable or file, without loading the plugin that would type it."""
    from mts1b_brokers_core.runtime.settings import variable

    value = os.environ.get(variable(instance, key)) or config.instances.get(instance, {}).get(key)
    return None if value is None else str(value)


def _environments(instance: str, config: Config) -> list[str]:
    from mts1b_brokers_core.runtime.state import state_folder

    broker = _given(instance, "broker", config) or instance
    declared = [
        environment
        for record in records(config)
        if broker in record.words
        for environment in (record.head.environments if record.head else ())
    ]
    journals = sorted((state_folder() / instance).glob("*.journal"))
    given = _given(instance, "environment", config)
    return list(dict.fromkeys([*([given] if given else []), *declared, *(path.stem for path in journals)]))


def _journals(instance: str, environments: list[str]) -> dict[str, Path]:
    from mts1b_brokers_core.runtime.state import journal_path

    return {environment: journal_path(instance, environment) for environment in environments}
