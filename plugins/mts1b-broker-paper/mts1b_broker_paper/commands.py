"""`mts mts1b-brokers paper ...`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import click

from mts1b_brokers_core import BrokerError, open_broker

if TYPE_CHECKING:
    from .reset import Reset


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def paper() -> None:
    """Look after paper accounts."""


@paper.command(short_help="Archive a paper account and begin a new one.")
@click.argument("name", default="paper")
@click.option("--config", type=click.Path(dir_okay=False), help="Configuration file.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def reset(name: str, config: str | None, yes: bool, as_json: bool) -> None:
    """Archive the account of NAME (an instance, or paper) and begin a new one.

    Orders, fills and balances of the old account are kept, numbered, in the same file; its journal is
    put aside beside it. Nothing may have the account open meanwhile.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is here to confirm; pass --yes.")
        click.confirm(f"Archive the paper account of {name} and begin a new one?", abort=True)
    try:
        done = asyncio.run(_reset(name, config))
    except BrokerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps({"epoch": done.epoch, "archived_journal": str(done.journal)}))
        return
    click.echo(f"account {name} begins anew as epoch {done.epoch}; its old journal is {done.journal}")


async def _reset(name: str, config: str | None) -> Reset:
    from .client import PaperClient

    async with open_broker(name, config=config) as broker:
        pass
    if not isinstance(broker, PaperClient):
        raise click.UsageError(f"{name} is not a paper broker.")
    return broker.reset()
