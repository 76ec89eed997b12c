"""What a broker can do, as data: the manifest `capabilities.toml`, read from text by a pure function."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from .base import Model
from .errors import InvalidInput, OrderUnsupported, nearest
from .instruments import AssetClass
from .orders import Contingency, Order, OrderType, PositionEffect, Session, TimeInForce

#: The version of the plugin contract (hooks, protocols, capability keys) this core speaks.
PLUGIN_API = (1, 0)
#: The manifest format this core reads.
MANIFEST_SCHEMA = 1

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+$")]


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
    max_legs: int = Field(default=1, ge=1)

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


class ManifestHead(Model):
    """The keys before the first table: all that a listing reads."""

    schema_version: int = Field(alias="schema")
    name: Name
    distribution: str
    api: Version
    conformance: Version = "1.0"
    aliases: tuple[Name, ...] = ()
    provides: tuple[Literal["broker", "simulator", "checks"], ...] = ("broker",)
    environments: tuple[str, ...] = ("live",)

    def incompatibility(self) -> str | None:
        """Say why this core can't run the plugin, or None where it can."""
        if self.schema_version != MANIFEST_SCHEMA:
            return f"its manifest has schema {self.schema_version}, this core reads {MANIFEST_SCHEMA}"
        major, minor = (int(part) for part in self.api.split("."))
        if major != PLUGIN_API[0] or minor > PLUGIN_API[1]:
            ours = ".".join(map(str, PLUGIN_API))
            return f"it needs plugin API {self.api}, this core has {ours}"
        return None


class Capabilities(ManifestHead):
    """The whole manifest of one broker."""

    orders: tuple[OrderClaim, ...] = ()
    operations: dict[Operation, OperationClaim] = Field(default_factory=dict)
    unknown_keys: tuple[str, ...] = ()

    repr_fields = ("name", "distribution", "api", "provides", "environments")

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
            offered = sorted(
                {f"{t} {f}" for row in self.orders if asset in row.asset for t in row.type for f in row.tif}
            )
            raise OrderUnsupported(
                f"{terms} is not offered.",
                order=order,
                capability=terms,
                next_step=f"choose among {', '.join(offered)}"
                if offered
                else f"no {asset} orders are offered",
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
        words.append(f"{len(order.legs)} legs")
    return " ".join(words)


_HEAD_KEYS = frozenset(field.alias or name for name, field in ManifestHead.model_fields.items())
_CLAIM_KEYS = frozenset(OrderClaim.model_fields)
_OPERATION_KEYS = frozenset(OperationClaim.model_fields)


def parse_head(text: str) -> ManifestHead:
    """Read only the keys before the first table. Raises `InvalidInput`."""
    lines = []
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            break
        lines.append(line)
    data = _toml("\n".join(lines))
    known = {key: value for key, value in data.items() if key in _HEAD_KEYS}
    return _plain_head(known) or ManifestHead.model_validate(known)


_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_VERSION = re.compile(r"[0-9]+\.[0-9]+")
_PROVIDES = frozenset({"broker", "simulator", "checks"})


def _plain_head(data: dict[str, Any]) -> ManifestHead | None:
    """Take a head that is obviously right without the model's own build; None leaves the verdict to it.

    pydantic reads the entry points of everything installed before it builds its first model, which
    would double the cost of a listing.
    """
    lists = {key: data[key] for key in ("aliases", "provides", "environments") if key in data}
    texts = [data.get(key, "1.0") for key in ("name", "distribution", "api", "conformance")]
    plain = (
        {"schema", "name", "distribution", "api"} <= data.keys()
        and type(data["schema"]) is int
        and all(type(text) is str for text in texts)
        and all(type(row) is list and all(type(word) is str for word in row) for row in lists.values())
    )
    if not plain or not _well_formed([texts[0], *lists.get("aliases", ())], texts[2:]):
        return None
    if not _PROVIDES.issuperset(lists.get("provides", ())):
        return None
    given: dict[str, Any] = data | {key: tuple(row) for key, row in lists.items()}
    return ManifestHead.model_construct(**given)


def _well_formed(names: list[str], versions: list[str]) -> bool:
    return all(len(name) <= 64 and _NAME.fullmatch(name) for name in names) and all(
        _VERSION.fullmatch(version) for version in versions
    )


def parse_capabilities(text: str) -> Capabilities:
    """Read a whole manifest; `unknown_keys` lists what this core doesn't know. Raises `InvalidInput`."""
    data = _toml(text)
    unknown: list[str] = []
    head = _known(data, _HEAD_KEYS | {"orders", "operations"}, "", unknown)
    orders = [
        _known(row, _CLAIM_KEYS, f"orders[{index}].", unknown)
        for index, row in enumerate(data.get("orders", []))
    ]
    operations = {
        name: _known(row, _OPERATION_KEYS, f"operations.{name}.", unknown)
        for name, row in _known(data.get("operations", {}), set(Operation), "operations.", unknown).items()
    }
    return Capabilities.model_validate(
        {**head, "orders": orders, "operations": operations, "unknown_keys": tuple(unknown)}
    )


def _known(
    data: Any, known: frozenset[str] | set[str] | set[Operation], at: str, unknown: list[str]
) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise InvalidInput(f"the manifest's {at.rstrip('.') or 'text'} is not a table.")
    names = {str(name) for name in known}
    for key in data.keys() - names:
        close = nearest(key, names, most=1)
        unknown.append(f"{at}{key}" + (f" (did you mean {close[0]}?)" if close else ""))
    return {key: value for key, value in data.items() if key in names}


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(
            f"the manifest is not TOML: {error}.", next_step="correct capabilities.toml"
        ) from None
