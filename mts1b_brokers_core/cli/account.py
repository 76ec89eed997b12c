"""`positions` and `instruments`: what is held, and what can be traded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import jsontext, render
from .options import Target, complete_name, name_argument, records, target_options
from .session import with_broker

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient
    from mts1b_brokers_core.foundation.instruments import Instrument


@click.command(name="positions")
@name_argument
@target_options()
def positions_command(target: Target, name: str | None) -> None:
    """List what is held: quantities in units, negative when short; money in the currency shown."""

    async def work(broker: VenueClient) -> dict[str, Any]:
        return {**whereabouts(broker), "positions": await broker.get_positions()}

    found = with_broker(target.named(name), "reading positions", work)
    if target.as_json:
        jsontext.emit(found)
        return
    render.table(
        "symbol  quantity>  available>  average>  market>  value>  unrealized>  realized>  currency",
        [
            [
                row.symbol, row.quantity, row.available, row.average_price, row.market_price,
                row.market_value, row.unrealized_pnl, row.realized_pnl, row.currency,
            ]
            for row in found["positions"]
        ],
        empty=f"{found['broker']} holds nothing.",
    )  # fmt: skip


def whereabouts(broker: object) -> dict[str, Any]:
    """Return broker, environment and account as far as the broker says them."""
    return {
        "broker": getattr(broker, "name", None),
        "environment": getattr(broker, "environment", None),
        "account": getattr(broker, "account_id", None),
    }


@click.command(name="instruments")
@click.argument("words", nargs=-1, metavar="[NAME] [QUERY]", shell_complete=complete_name)
@target_options()
def instruments_command(target: Target, words: tuple[str, ...]) -> None:
    """List what can be traded; QUERY matches symbol or name.

    A single word is a broker where one is called so, else a QUERY to the only broker there is.
    """
    from mts1b_brokers_core.foundation.protocols import SupportsInstruments, require

    target, query = _name_and_query(target, words)
    query = query and _symbol_or_same(query)

    async def work(broker: VenueClient) -> list[Instrument]:
        return await require(broker, SupportsInstruments).get_instruments(query)

    found = with_broker(target, "reading instruments", work)
    if target.as_json:
        jsontext.emit({"query": query, "instruments": found})
        return
    render.table(
        "symbol  class  market  quote  price step>  quantity step>  least>  least value>  tradable  name",
        [
            [
                row.symbol, row.asset_class, row.market, row.quote, row.price_increment,
                row.quantity_increment, row.min_quantity, row.min_notional,
                "yes" if row.tradable else "no", row.native_symbol,
            ]
            for row in found
        ],
        empty="Nothing is listed." if query is None else f"Nothing matches {query}.",
    )  # fmt: skip


def _name_and_query(target: Target, words: tuple[str, ...]) -> tuple[Target, str | None]:
    if len(words) > 2 or (len(words) == 2 and target.broker is not None):
        raise click.UsageError("expected [NAME] [QUERY].")
    if len(words) == 2:
        return target.named(words[0]), words[1]
    if len(words) == 1 and target.broker is None and is_broker(target, words[0]):
        return target.named(words[0]), None
    return target, (words[0] if words else None)


def _symbol_or_same(query: str) -> str:
    """Write what reads as a symbol the way instruments are listed, `BTC/USD` as `BTC-USD`; leave the rest."""
    from mts1b_brokers_core.foundation.errors import MalformedSymbol
    from mts1b_brokers_core.foundation.instruments import parse_symbol

    try:
        return str(parse_symbol(query.upper() if "/" in query else query))
    except MalformedSymbol:
        return query


def is_broker(target: Target, word: str) -> bool:
    """True where the word is an instance's or an installed broker's name."""
    config = target.load()
    return word in config.instances or any(word in record.words for record in records(config))
