"""What a broker can do, as data: the manifest `capabilities.toml`, read from text by a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from .base import Model
from .errors import InvalidInput, OrderUnsupported, nearest
from .instruments import AssetClass
from .manifest import HEAD_KEYS, ManifestHead, parse_head, parse_toml
from .orders import Contingency, Order, OrderType, PositionEffect, Session, TimeInForce


class Level(StrEnum):
    """How a claim is met: by the venue itself, by the adapter for it, or not at all."""

    NATIVE = "native"
    EMULATED = "emulated"
    UNSUPPORTED = "unsupported"


class Operation(StrEnum):
    """The optional abilities; each is one `Supports*` protocol."""

    REPLACE = "replace"
    CANCEL_ALL = "cancel_all"
    BATCH = "batch"
    PREVIEW = "preview"
    ORDER_BY_ID = "order_by_id"
    ORDER_BY_KEY = "order_by_key"
    ORDER_HISTORY = "order_history"
    FILL_HISTORY = "fill_history"
    EVENT_STREAM = "event_stream"
    ACCOUNT = "account"
    INSTRUMENTS = "instruments"
    QUOTES = "quotes"
    ORDER_BOOK = "order_book"
    BARS = "bars"
    MARKET_DATA_STREAM = "market_data_stream"
    FEE_SCHEDULE = "fee_schedule"
    SERVER_TIME = "server_time"
    KEY_PERMISSIONS = "key_permissions"
    DEAD_MANS_SWITCH = "dead_mans_switch"


class Instruction(StrEnum):
    """What may ride on an order beside type and time in force."""

    POST_ONLY = "post_only"
    REDUCE_ONLY = "reduce_only"
    DISPLAY_QUANTITY = "display_quantity"
    QUOTE_QUANTITY = "quote_quantity"
    TRIGGER_BY = "trigger_by"


class _Claim(Model):
    level: Level
    side: Literal["venue", "adapter"]
    note: str
    source: str = ""


class OperationClaim(_Claim):
    """One row of `[operations]`."""


class OrderClaim(_Claim):
    """One row of `[[orders]]`: every combination of what it lists; what no row lists is unsupported."""

    asset: tuple[AssetClass, ...]
    type: tuple[OrderType, ...]
    tif: tuple[TimeInForce, ...]
    instructions: tuple[Instruction, ...] = ()
    sessions: tuple[Session, ...] = (Session.REGULAR,)
    position_effect: tuple[PositionEffect, ...] = (PositionEffect.AUTO,)
    attached: tuple[Contingency, ...] = ()
    max_legs: int = Field(default=0, ge=0)  # 0: an order of one symbol, no legs

    def covers(self, order: Order, asset: AssetClass) -> bool:
        """True where the row claims this order's terms."""
        return (
            self.level is not Level.UNSUPPORTED
            and asset in self.asset
            and order.order_type in self.type
            and order.time_in_force in self.tif
            and instructions_of(order) <= set(self.instructions)
            and order.session in self.sessions
            and order.position_effect in self.position_effect
            and (order.contingency is None or order.contingency in self.attached)
            and len(order.legs) <= self.max_legs
        )


class ManifestTables(Model):
    """The tables below a manifest's head."""

    orders: tuple[OrderClaim, ...] = ()
    operations: dict[Operation, OperationClaim] = Field(default_factory=dict)


@dataclass(frozen=True)
class Capabilities(ManifestHead):
    """The whole manifest of one broker."""

    orders: tuple[OrderClaim, ...] = field(default=(), repr=False)
    operations: dict[Operation, OperationClaim] = field(default_factory=dict, repr=False)
    unknown_keys: tuple[str, ...] = ()

    @cached_property
    def claimed(self) -> frozenset[Operation]:
        """The operations claimed at any level above unsupported."""
        return frozenset(op for op, row in self.operations.items() if row.level is not Level.UNSUPPORTED)

    def claim_for(self, order: Order, asset: AssetClass) -> OrderClaim | None:
        """Return the first row that covers the order, or None where no row does."""
        return next((row for row in self.orders if row.covers(order, asset)), None)

    def require(self, order: Order, asset: AssetClass) -> OrderClaim:
        """Return the row that covers the order. Raises `OrderUnsupported` where no row does."""
        claim = self.claim_for(order, asset)
        if claim is None:
            terms = describe_terms(order, asset)
            rows = [row for row in self.orders if asset in row.asset]
            offered = sorted({f"{kind} {tif}" for row in rows for kind in row.type for tif in row.tif})
            choose = f"choose among {', '.join(offered)}" if offered else f"no {asset} orders are offered"
            raise OrderUnsupported(
                f"{terms} is not offered.", order=order, capability=terms, next_step=choose
            )
        return claim


def instructions_of(order: Order) -> set[Instruction]:
    """Return the instructions an order carries."""
    carried = {
        Instruction.POST_ONLY: order.post_only,
        Instruction.REDUCE_ONLY: order.reduce_only,
        Instruction.DISPLAY_QUANTITY: order.display_quantity is not None,
        Instruction.QUOTE_QUANTITY: order.quote_quantity is not None,
        Instruction.TRIGGER_BY: order.trigger_by != "default",
    }
    return {name for name, present in carried.items() if present}


def describe_terms(order: Order, asset: AssetClass) -> str:
    """Say an order's terms in the manifest's words."""
    words = [str(asset), str(order.order_type), str(order.time_in_force), *sorted(instructions_of(order))]
    if order.session is not Session.REGULAR:
        words.append(f"session={order.session}")
    if order.position_effect is not PositionEffect.AUTO:
        words.append(f"position_effect={order.position_effect}")
    if order.contingency:
        words.append(f"attached={order.contingency}")
    if order.legs:
        words.append(f"{len(order.legs)} leg{'s' if len(order.legs) > 1 else ''}")
    return " ".join(words)


def parse_capabilities(text: str) -> Capabilities:
    """Read a whole manifest; `unknown_keys` lists what this core doesn't know. Raises `InvalidInput`."""
    head, data = parse_head(text), parse_toml(text)
    unknown: list[str] = []
    _known(data, HEAD_KEYS | {"orders", "operations"}, "", unknown)
    orders = [
        _known(row, OrderClaim.model_fields, f"orders[{index}].", unknown)
        for index, row in enumerate(data.get("orders", []))
    ]
    operations = {
        name: _known(row, OperationClaim.model_fields, f"operations.{name}.", unknown)
        for name, row in _known(data.get("operations", {}), Operation, "operations.", unknown).items()
    }
    tables = ManifestTables(orders=orders, operations=operations)
    return Capabilities(**vars(head), **vars(tables), unknown_keys=tuple(unknown))


def _known(data: Any, known: Iterable[str], at: str, unknown: list[str]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise InvalidInput(f"the manifest's {at.rstrip('.') or 'text'} is not a table.")
    names = {str(name) for name in known}
    for key in data.keys() - names:
        close = nearest(key, names, most=1)
        unknown.append(f"{at}{key}" + (f" (did you mean {close[0]}?)" if close else ""))
    return {key: value for key, value in data.items() if key in names}
