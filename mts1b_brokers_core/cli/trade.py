"""`buy` and `sell`: say what would happen, ask, place, and give one of the four answers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import render
from .failures import FAILED
from .options import Target, complete_name, target_options
from .session import answer_no, asked, meant, run
from .terminal import Look, Spinner

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient
    from mts1b_brokers_core.foundation.orders import Order
    from mts1b_brokers_core.runtime.opening import Resolved

    from .estimate import Estimate
    from .placing import Placed

_TIFS = ("day", "gtc", "ioc", "fok", "opg", "cls")


@dataclass(frozen=True, slots=True)
class Terms:
    """What was asked on the command line."""

    words: tuple[str, ...]
    price: str | None
    stop: str | None
    tif: str | None
    post_only: bool
    quote_quantity: str | None
    key: str | None
    wait: tuple[str, float] | None
    yes: bool
    allow_adjust: tuple[str, ...]


def _options(function: Any) -> Any:
    """Add the options of an order."""
    for option in reversed(
        [
            click.argument(
                "words", nargs=-1, metavar="[NAME] SYMBOL [QUANTITY]", shell_complete=complete_name
            ),
            click.option("--price", metavar="P", help="Limit price; without it a market order."),
            click.option("--stop", metavar="P", help="Stop price: the order waits until it is reached."),
            click.option("--tif", type=click.Choice(_TIFS), help="Time in force.  [default: gtc]"),
            click.option("--post-only", is_flag=True, help="Refuse to take liquidity."),
            click.option(
                "--quote-quantity", metavar="AMOUNT", help="Spend an amount, instead of a QUANTITY."
            ),
            click.option(
                "--allow-adjust",
                multiple=True,
                type=click.Choice(["price", "quantity"]),
                help="Round what doesn't fit the instrument instead of refusing; repeatable.",
            ),
            click.option(
                "--key", metavar="KEY", help="Idempotency key; how far it keeps one order one, `info` says."
            ),
            click.option(
                "--wait",
                nargs=2,
                type=(click.Choice(["final", "filled"]), click.FloatRange(min=0)),
                metavar="final|filled SECONDS",
                help="Wait until the order is final or filled, and show its fills.",
            ),
            click.option(
                "--yes", is_flag=True, help="Don't ask, for scripts. At live it replaces nothing else."
            ),
        ]
    ):
        function = option(function)
    return function


_HELP = """

    Exits with 0 where the venue confirmed the order, also where what --wait asked for did not come, which
    is said; 1 where it was denied, rejected or not placed, or closing the broker failed, 2 where the command
    line or the configuration is wrong, 3 where the outcome is unknown: it may be live, and what to do next is
    said.

    At live, `--environment live` must be given here, on the command line.
    """


@click.command(name="buy", help=f"Buy QUANTITY of SYMBOL.{_HELP}", short_help="Place a buy order.")
@_options
@target_options()
@click.pass_context
def buy_command(ctx: click.Context, /, target: Target, **given: Any) -> None:
    """Place a buy order."""
    _trade(ctx, target, "buy", Terms(**given))


@click.command(name="sell", help=f"Sell QUANTITY of SYMBOL.{_HELP}", short_help="Place a sell order.")
@_options
@target_options()
@click.pass_context
def sell_command(ctx: click.Context, /, target: Target, **given: Any) -> None:
    """Place a sell order."""
    _trade(ctx, target, "sell", Terms(**given))


def _trade(ctx: click.Context, target: Target, side: str, terms: Terms) -> None:
    from mts1b_brokers_core.runtime.opening import Opening

    from .answers import code_of, tell
    from .estimate import estimate
    from .placing import place

    target, symbol, quantity = _places(target, terms)
    order = _order(side, symbol, quantity, terms)
    request = target.request()
    resolved, environment = meant(target, request, yes=terms.yes, to="place the order")

    async def session() -> Placed | None:
        label = f"{resolved.instance}: {side} {symbol}"
        placed: Placed | None = None
        try:
            async with Spinner(f"{label}: opening") as spinner, Opening(request) as broker:
                _check_halt(broker, order, resolved, environment)
                found = await estimate(broker, order)
                spinner.stop()
                if await _agreed(broker, order, found, environment, resolved.instance, terms):
                    placed = await place(broker, order, terms.wait, label)
        except Exception as error:
            if placed is None:
                raise
            return placed.troubled(error)
        return placed

    placed = run(session())
    if placed is None:
        answer_no(target, "not placed")
        ctx.exit(FAILED)
    tell(target, placed, resolved.instance)
    if code := code_of(placed):
        ctx.exit(code)


def _check_halt(broker: VenueClient, order: Order, resolved: Resolved, environment: str) -> None:
    """Obey the halt flag for adapters that don't watch it themselves."""
    from mts1b_brokers_core.execution.ownership import Halt
    from mts1b_brokers_core.foundation.errors import OrderDenied
    from mts1b_brokers_core.runtime.state import journal_path

    if hasattr(broker, "halted"):
        return
    given = resolved.found.get(("state_path",))
    path = Path(str(given.value)).expanduser() if given else journal_path(resolved.instance, environment)
    if (reason := Halt(path).reason()) is not None:
        raise OrderDenied(
            f"trading is halted: {reason}.", reason="halted", order=order, broker=broker.name,
            next_step=f"`mts mts1b-brokers resume {resolved.instance}` once it is safe",
        )  # fmt: skip


def _places(target: Target, terms: Terms) -> tuple[Target, str, str | None]:
    """Tell NAME, SYMBOL and QUANTITY apart by their number."""
    words = list(terms.words)
    wanted = 1 if terms.quote_quantity is not None else 2
    if len(words) == wanted + 1 and target.broker is None:
        target = target.named(words.pop(0))
    if len(words) != wanted:
        what = "SYMBOL" if wanted == 1 else "SYMBOL QUANTITY"
        also = " (--quote-quantity takes QUANTITY's place)" if wanted == 1 else ""
        raise click.UsageError(f"expected [NAME] {what}{also}, got {len(terms.words)} words.")
    return target, words[0], None if wanted == 1 else words[1]


def _order(side: str, symbol: str, quantity: str | None, terms: Terms) -> Order:
    from mts1b_brokers_core.foundation.orders import Order

    kinds = {
        (False, False): "market", (True, False): "limit", (False, True): "stop", (True, True): "stop_limit",
    }  # fmt: skip
    kind = kinds[terms.price is not None, terms.stop is not None]
    fields: dict[str, Any] = {
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "quote_quantity": terms.quote_quantity,
        "order_type": kind,
        "limit_price": terms.price,
        "stop_price": terms.stop,
        "time_in_force": terms.tif or "gtc",
        "post_only": terms.post_only,
        "allow_adjust": frozenset(terms.allow_adjust),
    }
    return Order(**fields, **({"idempotency_key": terms.key} if terms.key else {}))


# --- asking ------------------------------------------------------------------------------------------


async def _agreed(
    broker: VenueClient, order: Order, found: Estimate, environment: str, instance: str, terms: Terms
) -> bool:
    """Say what is about to happen, on stderr, and ask unless told not to."""
    from mts1b_brokers_core.checks.words import money, number

    look = Look.of(sys.stderr)

    def amount(value: Any, currency: str | None) -> str:
        if value is None:
            return "unknown"
        return f"about {money(value, currency) if currency else number(value)}"

    where = look.paint(environment.upper(), "red", bold=True) if environment == "live" else environment
    account = getattr(broker, "account_id", None)
    where = f"{where}, account {account}" if account else where
    click.echo(
        f"{instance} ({where}): {render.terms(order, found.currency)}; "
        f"value {amount(found.value, found.currency)}, fee {amount(found.fee, found.fee_currency)}",
        err=True,
        color=look.colour,
    )
    for warning in found.warnings:
        click.echo(f"  note: {warning}", err=True)
    return terms.yes or await asked("Place this order? [y/N] ")
