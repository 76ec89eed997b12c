"""`mts mts1b-brokers`: the commands of this component, each in a module of its own, loaded when called."""

from __future__ import annotations

import click

from .groups import LazyGroup
from .logs import log_options

#: The entry-point group by which a plugin adds its own subcommands.
COMMANDS = "mts1b.brokers.commands"

_HERE = "mts1b_brokers_core.cli"

_BUILTIN = {
    "list": (
        f"{_HERE}.listing:list_command",
        "List the installed brokers, the unusable ones with cause and remedy.",
    ),
    "why": (f"{_HERE}.listing:why_command", "Say why a broker can or can't be used, with the traceback."),
    "info": (
        f"{_HERE}.info:info_command",
        "Show what a broker can do, how safe its orders are, and its settings.",
    ),
    "test": (
        f"{_HERE}.health:test_command",
        "Check that a broker can be reached and used; nothing is ordered.",
    ),
    "config": (f"{_HERE}.configuration:config_command", "Show settings and where each one comes from."),
    "credentials": (
        f"{_HERE}.credentials:credentials_group",
        "Store an instance's secrets, and see where they are kept; values are never shown.",
    ),
    "positions": (f"{_HERE}.account:positions_command", "List what is held."),
    "orders": (f"{_HERE}.orders:orders_command", "List the open orders and those whose outcome is unknown."),
    "instruments": (f"{_HERE}.account:instruments_command", "List what can be traded."),
    "buy": (f"{_HERE}.trade:buy_command", "Place a buy order."),
    "sell": (f"{_HERE}.trade:sell_command", "Place a sell order."),
    "cancel": (f"{_HERE}.orders:cancel_command", "Cancel an order."),
    "halt": (
        f"{_HERE}.halting:halt_command",
        "Deny new orders in every process of an instance; cancels pass.",
    ),
    "resume": (f"{_HERE}.halting:resume_command", "Allow orders again after a halt."),
    "demo": (
        f"{_HERE}.demo.command:demo",
        "Trade recorded market data through the paper broker; no account needed.",
    ),
}


def _version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from mts1b_brokers_core._version import __version__

    from .listing import plugin_api

    click.echo(f"mts1b-brokers-core {__version__}, plugin API {plugin_api()}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    builtin=_BUILTIN,
    extensions=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Show the version of this component.",
)  # fmt: skip
@log_options
def brokers() -> None:
    """One small interface to every broker; each broker an installable package."""
