"""`list` and `why`: what is installed, and why something can't be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import jsontext, render
from .failures import FAILED
from .options import Target, complete_name, records, target_options

#: The level of a plugin for which no evidence is at hand.
UNVERIFIED = "unverified"


@click.command(name="list")
@click.option(
    "--load", is_flag=True, help="Import each plugin, in a process of its own, and show what fails."
)
@click.option("--strict", is_flag=True, help="Exit with 1 if a plugin is unusable.")
@target_options(opening=False, broker=False)
@click.pass_context
def list_command(ctx: click.Context, target: Target, load: bool, strict: bool) -> None:
    """List the installed brokers, the unusable ones with cause and remedy; no plugin is imported."""
    rows = [_row(record) for record in records(target.load())]
    if load:
        _load([row for row in rows if row["usable"]], target.config)
    if target.as_json:
        jsontext.emit({"plugin_api": plugin_api(), "brokers": rows})
    else:
        render.table(
            "name  version  state  level  environments  plugin API  distribution",
            [_cells(row) for row in rows],
            empty="No broker is installed; install one: pip install mts1b-broker-paper",
        )
        for row in rows:
            if row["cause"]:
                click.echo(f"\n{row['name']}: {row['cause']}\n  remedy: {row['remedy'] or 'none known'}")
        click.echo(f"\nThis core speaks plugin API {plugin_api()}.")
    if strict and any(not row["usable"] and row["state"] != "denied" for row in rows):
        ctx.exit(FAILED)


def plugin_api() -> str:
    """Return the version of the plugin contract this core speaks."""
    from mts1b_brokers_core.foundation.manifest import PLUGIN_API

    return ".".join(map(str, PLUGIN_API))


def _row(record: Any) -> dict[str, Any]:
    return {
        "name": record.name,
        "aliases": list(record.words[1:]),
        "distribution": record.distribution,
        "version": record.version,
        "state": str(record.state),
        "usable": record.usable,
        "loaded": str(record.state) == "loaded",
        "level": UNVERIFIED,
        "environments": list(record.environments),
        "plugin_api": record.head.api if record.head else None,
        "cause": record.cause,
        "remedy": record.remedy,
        "traceback": "",
    }


def _load(rows: list[dict[str, Any]], config: Path | None) -> None:
    """Load each plugin in a process of its own, several at once, and note what became of it."""
    import asyncio

    from mts1b_brokers_core.platform.security import redact

    from .probe import load_apart
    from .session import run
    from .terminal import Spinner

    async def session() -> None:
        async with Spinner("loading plugins"):
            work = [asyncio.to_thread(load_apart, row["name"], config) for row in rows]
            for row, loaded in zip(rows, await asyncio.gather(*work), strict=True):
                usable = loaded["state"] == "loaded"
                row |= {**redact(loaded), "loaded": usable, "usable": usable}

    run(session())


def _cells(row: dict[str, Any]) -> list[Any]:
    state = "ready (not loaded)" if row["state"] == "ready" else row["state"]
    level, api = f"*{row['level']}*", row["plugin_api"]
    return [row["name"], row["version"], state, level, row["environments"], api, row["distribution"]]


@click.command(name="why")
@click.argument("name", required=False, metavar="[NAME]", shell_complete=complete_name)
@target_options(opening=False)
@click.pass_context
def why_command(ctx: click.Context, target: Target, name: str | None) -> None:
    """Say why a broker can or can't be used: its plugin is loaded in a process of its own.

    Exits with 1 where it can't be used.
    """
    from mts1b_brokers_core.plugins.registry import registry

    target = target.named(name)
    if target.broker is None:
        raise click.UsageError("name a broker; see `list`.", ctx)
    config = target.load()
    word = target.broker_meant(config)
    found = [record for record in records(config) if word in record.words]
    rows = [_row(record) for record in found or [registry(config.policy).get(word)]]
    _load([row for row in rows if row["usable"]], target.config)
    if target.as_json:
        jsontext.emit({"brokers": rows})
    else:
        for row in rows:
            _explain(row)
    if not any(row["usable"] for row in rows):
        ctx.exit(FAILED)


def _explain(row: dict[str, Any]) -> None:
    click.echo(f"{row['name']} ({row['distribution']} {row['version']}): {row['state']}")
    if row["usable"]:
        click.echo("It loads without trouble.")
    if row["cause"]:
        click.echo(f"  cause:  {row['cause']}\n  remedy: {row['remedy'] or 'none known'}")
    if row["traceback"]:
        click.echo(f"\n{row['traceback'].rstrip()}")
