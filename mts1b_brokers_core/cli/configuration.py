"""`config`: which instances there are, and for one of them every setting and where it came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from . import jsontext, render
from .failures import describe, next_step
from .options import Target, name_argument, target_options
from .session import run


@click.command(name="config")
@name_argument
@click.option("--explain", is_flag=True, help="Say what each setting means, too.")
@target_options()
def config_command(target: Target, name: str | None, explain: bool) -> None:
    """Show the settings of NAME with the source of each, secrets redacted; without NAME, all instances."""
    target = target.named(name)
    if target.broker is None:
        if explain:
            raise click.UsageError("--explain needs a NAME.")
        _instances(target)
    else:
        _one(target, explain=explain)


def _instances(target: Target) -> None:
    config = target.load()
    there = Path(config.place).is_file()
    rows = [
        {
            "instance": name,
            "broker": values.get("broker", name),
            "environment": values.get("environment"),
            "account": values.get("account"),
        }
        for name, values in config.instances.items()
    ]
    if target.as_json:
        jsontext.emit({"path": config.place, "exists": there, "instances": rows})
        return
    click.echo(f"{config.place}{'' if there else ' (not there yet)'}\n")
    render.table(
        "instance  broker  environment  account",
        [list(row.values()) for row in rows],
        empty="No instance is configured; every installed broker can be used by its own name.",
    )


def _one(target: Target, *, explain: bool) -> None:
    resolved = target.resolve()
    sought = run(resolved.credentials())
    rows = replace(resolved, found=sought.found).explain()
    if target.as_json:
        fields: list[dict[str, Any]] = [
            {
                "field": row.field,
                "value": row.value,
                "source": row.source,
                "kind": row.kind,
                "meaning": row.description,
            }
            for row in rows
        ]
        document = {"instance": resolved.instance, "broker": resolved.record.name, "settings": fields}
        jsontext.emit(document | ({"problem": describe(sought.problem)} if sought.problem else {}))
        return
    record = resolved.record
    click.echo(f"{resolved.instance}: {record.name} ({record.distribution} {record.version})")
    cells = [[row.field, row.value, row.source, *([row.description] if explain else [])] for row in rows]
    render.table(
        f"setting  value  source{'  meaning~' if explain else ''}", cells, empty="It has no settings."
    )
    if sought.problem is not None:
        click.echo(
            f"\ncredentials: {describe(sought.problem)['message']}\n  next: {next_step(sought.problem)}"
        )
