"""`orders` and `cancel`: what is working, what is unknown, and taking it back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from . import jsontext, render
from .account import whereabouts
from .failures import FAILED
from .options import Target, complete_name, name_argument, target_options
from .session import answer_no, asked, meant, run, with_broker

if TYPE_CHECKING:
    from pathlib import Path

    from mts1b_brokers_core.execution.client import VenueClient
    from mts1b_brokers_core.foundation.orders import Order

_DURATION = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _since(ctx: click.Context, param: click.Parameter, text: str | None) -> datetime | timedelta | None:
    """Read a time, aware or taken as UTC, or how long ago it was."""
    if text is None:
        return None
    ago = _DURATION.fullmatch(text.strip())
    try:
        if ago:
            return timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time; write 2026-12-01, 2026-12-01T09:30:00Z or 36h.", ctx, param
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class _OrdersCommand(click.Command):
    """`orders`, and below it `orders resolve`, although a broker's name may stand where that does."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["resolve"]:
            return resolve_command.make_context(f"{info_name} resolve", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(name="orders", cls=_OrdersCommand)
@name_argument
@click.option("--all", "history", is_flag=True, help="Past orders too, those of the last 7 days.")
@click.option(
    "--since", callback=_since, metavar="TIME", help="Past orders too, from a time (UTC) or 36h ago on."
)
@click.option("--unresolved", is_flag=True, help="Only those whose outcome is unknown, with the evidence.")
@target_options()
def orders_command(
    target: Target, name: str | None, history: bool, since: datetime | timedelta | None, unresolved: bool
) -> None:
    """List the open orders, and those whose outcome is unknown: they may be live.

    --unresolved reads them in the journal: the venue may be down, the login in use.

    `orders resolve [NAME] KEY` settles one of the latter by a person's word.
    """
    if unresolved:
        _list_unresolved(target.named(name))
        return
    start = since if since is not None else timedelta(days=7) if history else None

    async def work(broker: VenueClient) -> dict[str, Any]:
        unresolved = await broker.unresolved() if hasattr(broker, "unresolved") else []
        rows = await (broker.get_open_orders() if start is None else _past(broker, start))
        return {**whereabouts(broker), "orders": rows, "unresolved": unresolved}

    found = with_broker(target.named(name), "reading orders", work)
    if target.as_json:
        jsontext.emit(found)
        return
    kind = "open orders" if start is None else "orders in that time"
    render.table(
        render.ORDER_COLUMNS,
        map(render.order_row, found["orders"]),
        empty=f"{found['broker']} has no {kind}.",
    )
    if found["unresolved"]:
        click.echo("\nThe outcome of these is unknown; they may be live:\n")
        render.table(render.ORDER_COLUMNS, map(render.order_row, found["unresolved"]), empty="")


def _in_doubt(target: Target) -> dict[str, Any]:
    """Return the orders in doubt: of the journal, which needs no venue, or of a broker that keeps none."""
    from mts1b_brokers_core.runtime.doubts import journal_of, read_doubts

    resolved = target.resolve()
    path = journal_of(resolved)
    if path is None:
        return with_broker(target, "reading orders", _ask_for_doubts)
    account, doubts = read_doubts(path)
    rows = [
        {"key": row.key, "state": row.state, "since": row.since, "evidence": row.evidence, "order": row.order}
        for row in doubts
    ]
    where = {"broker": resolved.instance, "environment": resolved.environment(), "account": account}
    return {**where, "unresolved": rows}


async def _ask_for_doubts(broker: VenueClient) -> dict[str, Any]:
    from mts1b_brokers_core.foundation.errors import UnsupportedCapability

    if not hasattr(broker, "unresolved"):
        raise UnsupportedCapability("this broker keeps no journal.", broker=broker.name)
    rows = [
        {
            "key": order.idempotency_key, "state": order.status,
            "since": order.submitted_at or order.created_at, "evidence": order.reason, "order": order,
        }
        for order in await broker.unresolved()
    ]  # fmt: skip
    return {**whereabouts(broker), "unresolved": rows}


def _list_unresolved(target: Target) -> None:
    found = _in_doubt(target)
    if target.as_json:
        jsontext.emit(found)
        return
    render.table(
        "key  state  since  order~  evidence~",
        [
            [row["key"], row["state"], row["since"], render.terms(row["order"], None), row["evidence"]]
            for row in found["unresolved"]
        ],
        empty=f"{found['broker']} has no order whose outcome is unknown.",
    )


@click.command(name="resolve")
@click.argument("words", nargs=-1, required=True, metavar="[NAME] KEY", shell_complete=complete_name)
@click.option("--order", "broker_order_id", metavar="ID", help="It is this order of the venue's.")
@click.option("--none", "absent", is_flag=True, help="It is not at the venue.")
@click.option("--yes", is_flag=True, help="Don't ask, for scripts. At live it replaces nothing else.")
@target_options()
@click.pass_context
def resolve_command(
    ctx: click.Context,
    target: Target,
    words: tuple[str, ...],
    broker_order_id: str | None,
    absent: bool,
    yes: bool,
) -> None:
    """Settle an order whose outcome is unknown by your word: look at the venue first. It is logged.

    After --none the same key may be submitted again, which makes two orders where you were mistaken. Where
    the venue can't be reached, --none is written on your word alone. At live, `--environment live` must be
    given here, on the command line.
    """
    if len(words) > 2:
        raise click.UsageError("expected [NAME] KEY.", ctx)
    if absent is (broker_order_id is not None):
        raise click.UsageError("say what it is: --order ID or --none.", ctx)
    target, key = target.named(words[0] if len(words) == 2 else None), words[-1]
    if not key.strip():
        raise click.UsageError("KEY is empty.", ctx)
    told = f"order {broker_order_id}" if broker_order_id else "not at the venue"
    found = _resolve(target, key, broker_order_id, told, yes=yes)
    if found is None:
        answer_no(target, "nothing written")
        ctx.exit(FAILED)
    elif target.as_json:
        jsontext.emit(found)
    else:
        click.echo(f"resolved: {key} is {told}")


def _resolve(
    target: Target, key: str, broker_order_id: str | None, told: str, *, yes: bool
) -> dict[str, Any] | None:
    """Write the word down, None where the person thought better of it."""
    from mts1b_brokers_core.foundation.errors import UnsupportedCapability, VenueError
    from mts1b_brokers_core.runtime.doubts import check_key, journal_of, settle_as_absent, unknown_key

    offline = target.resolve()
    offline.environment()
    path = journal_of(offline)
    if path is not None:
        check_key(path, offline.instance, key)
    environment = meant(target, target.request(), yes=yes, to="settle it")[1]
    instance, opened = offline.instance, False

    async def agreed() -> bool:
        click.echo(f"{instance} ({environment}): the key {key} is {told}", err=True)
        return yes or await asked("Write this down for good? [y/N] ")

    async def work(broker: VenueClient) -> dict[str, Any] | None:
        nonlocal opened
        opened = True
        if not hasattr(broker, "resolve"):
            raise UnsupportedCapability("this broker keeps no journal.", broker=broker.name)
        if hasattr(broker, "holds") and not broker.holds(key):
            raise unknown_key(instance, key)
        if not await agreed():
            return None
        order = await broker.resolve(key, broker_order_id)
        return {**whereabouts(broker), "key": key, "order": order}

    async def without_venue(path: Path) -> dict[str, Any] | None:
        if not await agreed():
            return None
        order = await settle_as_absent(path, instance, key)
        where = {"broker": instance, "environment": environment, "account": order.account_id}
        return {**where, "key": key, "order": order}

    try:
        return with_broker(target, "resolving", work)
    except (VenueError, OSError) as error:
        if opened or path is None or broker_order_id is not None:
            raise
        click.echo(f"warning: the venue can't be asked, so that your word alone counts: {error}", err=True)
        return run(without_venue(path))


async def _past(broker: VenueClient, since: datetime | timedelta) -> list[Order]:
    from mts1b_brokers_core.foundation.protocols import SupportsOrderHistory, require
    from mts1b_brokers_core.platform.clock import RealClock

    reader = require(broker, SupportsOrderHistory)
    start = since if isinstance(since, datetime) else getattr(broker, "clock", RealClock()).now() - since
    rows: list[Order] = []
    cursor = None
    while True:
        page = await reader.get_orders(since=start, cursor=cursor)
        rows += page.rows
        for text in page.unreadable:
            click.echo(f"warning: unreadable row: {text}", err=True)
        cursor = page.cursor
        if cursor is None:
            return rows


@click.command(name="cancel")
@click.argument("words", nargs=-1, required=True, metavar="[NAME] ID", shell_complete=complete_name)
@target_options()
@click.pass_context
def cancel_command(ctx: click.Context, target: Target, words: tuple[str, ...]) -> None:
    """Cancel an order by our id or the venue's.

    Exits with 0 where the venue took the cancel, 1 where the order was final already, 3 where the
    outcome is unknown.
    """
    if len(words) > 2:
        raise click.UsageError("expected [NAME] ID.", ctx)
    order_id = words[-1]
    target = target.named(words[0] if len(words) == 2 else None)

    async def work(broker: VenueClient) -> dict[str, Any]:
        taken = await broker.cancel(order_id)
        return {**whereabouts(broker), "order_id": order_id, "canceled": taken}

    found = with_broker(target, "cancelling", work)
    if target.as_json:
        jsontext.emit(found)
    elif found["canceled"]:
        click.echo(f"canceled: {found['broker']} took the cancel of {order_id}")
    else:
        click.echo(f"not canceled: {order_id} was final already (filled, canceled, rejected or expired)")
    if not found["canceled"]:
        ctx.exit(FAILED)
