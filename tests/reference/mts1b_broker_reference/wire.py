"""The venue's payloads, spelled as the venue spells them. Decimals and times are text; null is None."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict
from urllib.parse import quote

from mts1b_brokers_core.foundation import UnreadableReply


class ReferenceMoney(TypedDict):
    """An amount of one currency."""

    currency: str
    amount: str


class ReferenceOrder(TypedDict):
    """An order; `fees` are null until known, `client_order_id` is null where the venue takes no tokens."""

    id: str
    client_order_id: str | None
    symbol: str
    side: str
    type: str
    quantity: str | None
    quote_quantity: str | None
    limit_price: str | None
    stop_price: str | None
    time_in_force: str
    status: str
    filled_quantity: str
    average_price: str | None
    fees: list[ReferenceMoney] | None
    reason: str | None
    created: str
    updated: str
    replaces: str | None
    replaced_by: str | None


class ReferenceExecution(TypedDict):
    """An execution; `corrects` names the one it takes back or replaces, `id` is null where there are none."""

    id: str | None
    order_id: str
    client_order_id: str | None
    symbol: str
    side: str
    quantity: str
    price: str
    fees: list[ReferenceMoney] | None
    liquidity: str | None
    executed_at: str
    kind: str
    corrects: str | None


class ReferenceFee(TypedDict):
    """The fee of an execution, once it is known."""

    execution_id: str | None
    order_id: str
    fees: list[ReferenceMoney]
    status: str


class ReferenceTrigger(TypedDict):
    """Something happened to an order."""

    order_id: str
    client_order_id: str | None


class ReferencePosition(TypedDict):
    """What is held of a symbol."""

    symbol: str
    quantity: str
    available: str | None
    average_price: str | None
    market_price: str | None
    currency: str | None


class ReferenceBalance(TypedDict):
    """What is held of a currency."""

    currency: str
    total: str
    available: str
    held: str


class ReferenceAccount(TypedDict):
    """An account of the login."""

    id: str
    name: NotRequired[str]
    currency: NotRequired[str]


class ReferenceInstrument(TypedDict):
    """An instrument with its increments and limits."""

    symbol: str
    asset_class: str
    name: NotRequired[str]
    base: NotRequired[str | None]
    quote: str
    price_increment: str
    quantity_increment: str
    min_quantity: NotRequired[str | None]
    min_notional: NotRequired[str | None]
    tradable: NotRequired[bool]


class ReferenceQuote(TypedDict):
    """The best bid and ask."""

    symbol: str
    bid: str | None
    ask: str | None
    bid_size: str | None
    ask_size: str | None
    time: str


class ReferenceFrame(TypedDict):
    """A message of the stream; `seq` counts each channel's messages on one connection."""

    channel: str
    seq: int
    type: str
    data: Any


def encoded(fields: Mapping[str, str | bool | None]) -> bytes:
    """Return a request's body; fields without a value are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given, separators=(",", ":")).encode()


def quoted(part: str) -> str:
    """Return a part of a path: whatever it holds, it stays one part."""
    return quote(part, safe="")


def order_path(broker_order_id: str | None, token: str | None) -> str:
    """Return the path of one order, by the venue's id or else by token."""
    if broker_order_id is not None:
        return f"/v1/orders/{quoted(broker_order_id)}"
    return f"/v1/orders/by_token/{quoted(token or '')}"


def error_of(reply: Any) -> tuple[str, str]:
    """Return an error's code and words; no code where the reply is not of the documented form."""
    error = reply.get("error") if isinstance(reply, dict) else None
    if isinstance(error, dict) and isinstance(error.get("code"), str):
        return error["code"], str(error.get("message", ""))
    return "", f"{reply!r:.300}"


def says_not_found(reply: Any) -> bool:
    """Tell the venue's own "there is no such order" from a 404 of something in between."""
    return error_of(reply)[0] == "not_found"


def rows_of(reply: Any, name: str) -> list[Any]:
    """Return the rows of a listing. Raises `UnreadableReply` where the reply has none of that name."""
    rows = reply.get(name) if isinstance(reply, dict) else None
    if not isinstance(rows, list):
        raise UnreadableReply(f"the reply has no list of {name}.", words=f"{reply!r:.300}")
    return rows


def page_of(reply: Any, name: str) -> tuple[list[Any], str | None]:
    """Return a page's rows and the cursor of the next, None on the last. Raises `UnreadableReply`.

    A reply without that mark may be cut short: it doesn't count as the last page.
    """
    rows = rows_of(reply, name)
    if "next" not in reply:
        raise UnreadableReply(f"the list of {name} has no end mark.", words=f"{reply!r:.300}")
    return rows, reply["next"]
