"""What may be asked of the exchange, as records that can be sent, delayed and played again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mts1b_brokers_core.foundation.orders import Order, OrderChanges

from .orders import CancelReply, ReplaceReply, SubmitReply

Reply: TypeAlias = SubmitReply | CancelReply | ReplaceReply | tuple[str, ...]


@dataclass(slots=True)
class SubmitCommand:
    """Place an order under a token."""

    arrival_ns: int
    order: Order
    token: str
    account_id: str | None = None
    reply: Reply | None = None


@dataclass(slots=True)
class CancelCommand:
    """Cancel an order by the exchange's id."""

    arrival_ns: int
    venue_order_id: str
    reply: Reply | None = None


@dataclass(slots=True)
class ReplaceCommand:
    """Change an order by the exchange's id."""

    arrival_ns: int
    venue_order_id: str
    changes: OrderChanges
    reply: Reply | None = None


@dataclass(slots=True)
class CancelAllCommand:
    """Cancel every open order, or those of a symbol or account; the reply is their ids."""

    arrival_ns: int
    symbol: str | None = None
    account_id: str | None = None
    reply: Reply | None = None


Command: TypeAlias = SubmitCommand | CancelCommand | ReplaceCommand | CancelAllCommand
