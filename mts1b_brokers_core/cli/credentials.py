"""`credentials`: store the secrets of an instance, and see where they are kept; values are never shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from . import jsontext, render
from .failures import FAILED, describe, next_step
from .groups import PoliteGroup
from .options import Target, complete_name, target_options
from .session import run

if TYPE_CHECKING:
    from mts1b_brokers_core.runtime.credentials import Finding
    from mts1b_brokers_core.runtime.opening import Resolved

PLACES = ("file", "vault", "keyring")

_name = click.argument("name", metavar="NAME", shell_complete=complete_name)


@click.group(name="credentials", cls=PoliteGroup)
def credentials_group() -> None:
    """Store the secrets of an instance, and see where they are kept; values are never shown.

    They are sought in the arguments, in environment variables, in the configuration file, in a file of
    mode 0600, in Vault, in the system's keyring, and where plugins say, in this order.
    """


@credentials_group.command(name="set")
@_name
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=-",
    help="A secret to store: NAME=- asks for it, or reads a line of standard input; by default all that the "
    "broker needs. trading_mode=VALUE says for which environment they are.",
)
@click.option(
    "--file",
    "source",
    type=click.File("rb"),
    help="Read them from a TOML or JSON file, - for standard input.",
)
@click.option("--to", "place", type=click.Choice(PLACES), default="file", show_default=True, help="Where to.")
@target_options(opening=False, broker=False)
def set_command(target: Target, name: str, fields: tuple[str, ...], source: Any, place: str) -> None:
    """Store secrets of NAME; those already there and not named stay.

    Values are read from a prompt that doesn't show them, from standard input or from a file, never from
    the command line, where other users and the shell's history would see them.
    """
    from mts1b_brokers_core.runtime.credentials import store
    from mts1b_brokers_core.runtime.settings import secret_fields

    resolved = target.named(name).resolve()
    known = secret_fields(resolved.model)
    if not known:
        raise click.UsageError(f"{resolved.record.name} takes no secrets.")
    values = _read_file(source) if source is not None else {}
    if not values or fields:
        needed = [field for field, is_needed in known.items() if is_needed]
        values |= _asked(fields or needed or list(known))
    where = run(store(resolved, place, values))
    names = sorted(values)
    if target.as_json:
        jsontext.emit({"instance": resolved.instance, "stored": names, "place": where})
    else:
        click.echo(f"{resolved.instance}: stored {', '.join(names)} in {where}")


def _read_file(source: Any) -> dict[str, str]:
    import json
    import tomllib

    from mts1b_brokers_core.platform.credentials import CredentialError, checked

    name, kind = getattr(source, "name", "<stdin>"), "TOML"
    try:
        text = source.read().decode()
        if text.lstrip().startswith("{"):
            kind = "JSON"
            return checked(json.loads(text), name)
        return checked(tomllib.loads(text), name)
    except (ValueError, OSError) as error:
        # Only the place: the words of an error may quote what is there.
        where = "not text"
        if isinstance(error, json.JSONDecodeError):
            where = f"at line {error.lineno}, column {error.colno}"
        elif isinstance(error, tomllib.TOMLDecodeError):
            where = str(error).rpartition("(")[2].rstrip(")")
        problem = f"{name} is not {kind} ({where})."
        raise CredentialError(problem, next_step='write lines such as api_key = "..."') from None


def _asked(fields: Any) -> dict[str, str]:
    from mts1b_brokers_core.platform.credentials import TRADING_MODE
    from mts1b_brokers_core.platform.security import register_secret

    values: dict[str, str] = {}
    for pair in fields:
        field, _, value = pair.partition("=")
        if field == TRADING_MODE and value not in ("", "-"):
            values[field] = value
            continue
        if value not in ("", "-"):
            cure = f"write --field {field}=- and give it when asked, or on standard input"
            raise click.UsageError(f"a secret is never taken from the command line; {cure}.")
        if sys.stdin.isatty():
            value = click.prompt(
                field, hide_input=field != TRADING_MODE, default="", show_default=False, err=True
            )
        else:
            value = sys.stdin.readline().rstrip("\r\n")
        if not value:
            raise click.UsageError(f"{field}: nothing was given.")
        if field != TRADING_MODE:
            register_secret(value)
        values[field] = value
    return values


@credentials_group.command(name="show")
@_name
@target_options(broker=False)
def show_command(target: Target, name: str) -> None:
    """Show which secrets NAME takes and where each one comes from."""
    from mts1b_brokers_core.runtime.settings import secret_fields

    resolved = target.named(name).resolve()
    sought = run(resolved.credentials())
    needed = secret_fields(resolved.model)
    rows = []
    for field, is_needed in needed.items():
        given = sought.found.get((field,))
        rows.append({"field": field, "needed": is_needed, "source": given.place if given else None})
    findings = run(_survey(resolved))
    if target.as_json:
        jsontext.emit({"instance": resolved.instance, "secrets": rows, "places": list(map(_data, findings))})
        return
    cells = [[row["field"], "yes" if row["needed"] else "no", row["source"]] for row in rows]
    render.table("secret  needed  from~", cells, empty=f"{resolved.record.name} takes no secrets.")
    click.echo()
    _places(findings)


@credentials_group.command(name="check")
@_name
@target_options(broker=False)
@click.pass_context
def check_command(ctx: click.Context, target: Target, name: str) -> None:
    """Check each place of NAME's secrets: reachable, complete, for which environment.

    Exits with 1 where a secret that is needed is missing, or a place that holds some can't be used.
    """
    resolved = target.named(name).resolve()
    findings = run(_survey(resolved))
    sought = run(resolved.credentials())
    problem = sought.problem
    environment = sought.found.get(("environment",))
    if target.as_json:
        jsontext.emit({
            "instance": resolved.instance, "complete": problem is None,
            "environment": environment.value if environment else None,
            "places": list(map(_data, findings)),
            "problem": describe(problem) if problem else None,
        })  # fmt: skip
    else:
        _places(findings)
        for row in findings:
            if row.error is not None and row.error is not problem:
                click.echo(f"{row.source}: {row.error.message}\n  next: {next_step(row.error)}")
        where = f", for {environment.value} ({environment.place})" if environment else ""
        said = f"{problem.message}\n  next: {next_step(problem)}" if problem else f"complete{where}"
        click.echo(f"{resolved.instance}: {said}")
    if problem is not None or any(row.state == "failed" for row in findings):
        ctx.exit(FAILED)


async def _survey(resolved: Resolved) -> list[Finding]:
    from mts1b_brokers_core.runtime.credentials import survey

    return await survey(resolved)


def _places(findings: list[Finding]) -> None:
    rows = [[row.source, row.state, row.names, row.trading_mode, row.note, row.place] for row in findings]
    render.table("source  state  names  mode  note~  place~", rows, empty="There are none.")


def _data(row: Finding) -> dict[str, Any]:
    return {
        "source": row.source, "place": row.place, "state": row.state, "names": list(row.names),
        "trading_mode": row.trading_mode, "note": row.note,
    }  # fmt: skip
