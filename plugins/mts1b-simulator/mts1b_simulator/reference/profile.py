"""What kind of venue the reference venue is, and ready-made kinds by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class VenueLimit:
    """How many requests a login may make: a bucket that refills over `per` seconds, or a window that long."""

    capacity: int
    per: float
    kind: Literal["token_bucket", "fixed_window"] = "token_bucket"
    tells_retry_after: bool = True


@dataclass(frozen=True, slots=True)
class ReferenceProfile:
    """The properties on which order safety depends, as the venue really has them; times in seconds.

    `unique` is how far a client order id's uniqueness reaches, `dedupes` returns the first order for a
    known one. `not_after` names what makes the venue refuse a late order, `not_after_seconds` how old a
    timestamp or a session may be. `visibility` is how long accepted orders and executions stay hidden
    from every read, `undecided` how long an order stays accepted before the exchange sees it,
    `cancel_delay` how long it stays pending_cancel. `lookup_window` and `fill_window` are how far back
    orders (open ones apart) and executions can be read. `fee_delay` is when late fees become known.
    With `correction_lookback` a bust or correction is dated as the execution it concerns, so that only
    looking back finds it; without, it has its own time.
    """

    unique: Literal["forever", "while_open", "no", "none"] = "forever"
    dedupes: bool = False
    longest_token: int = 36
    not_after: Literal["none", "deadline", "timestamp", "credential"] = "none"
    not_after_seconds: float = 30.0
    visibility: float = 0.0
    undecided: float = 0.0
    cancel_delay: float = 0.0
    lookup_window: float | None = None
    fill_identity: Literal["native", "composite", "content", "cumulative"] = "native"
    fill_source: Literal["push", "trigger", "poll"] = "push"
    fill_window: float | None = None
    correction_lookback: float = 0.0
    fee_timing: Literal["with_fill", "seconds", "next_day", "order_level", "never"] = "with_fill"
    fee_delay: float = 1.0
    replace: Literal["same_id", "new_id", "none"] = "same_id"
    replace_quantity: Literal["total", "remaining"] = "total"
    cancel_by: Literal["venue_id", "token"] = "venue_id"
    login: Literal["shared", "exclusive"] = "shared"
    limit: VenueLimit | None = None
    heartbeat: float = 1.0


_DAY = 86_400.0
#: Ready-made kinds; the last seven have the properties of a venue of that name.
PROFILES: dict[str, ReferenceProfile] = {
    "native_dedupe": ReferenceProfile(dedupes=True),
    "while_open_deadline": ReferenceProfile(unique="while_open", not_after="deadline"),
    "timestamp_limit": ReferenceProfile(
        not_after="timestamp", fill_identity="content", fill_source="poll", fee_timing="order_level",
        replace="none",
    ),
    "token_not_unique": ReferenceProfile(
        unique="no", fill_identity="composite", fill_source="trigger", cancel_by="venue_id",
    ),
    "no_client_id": ReferenceProfile(
        unique="none", fill_identity="composite", fill_source="trigger", replace="new_id",
        replace_quantity="remaining", fee_timing="seconds",
    ),
    "cumulative_fills": ReferenceProfile(
        unique="no", fill_identity="cumulative", fee_timing="next_day", fee_delay=_DAY,
    ),
    "late_fees_corrections": ReferenceProfile(fee_timing="seconds", correction_lookback=_DAY),
    "exclusive_login": ReferenceProfile(login="exclusive", undecided=0.05, cancel_by="token"),
}  # fmt: skip
PROFILES |= {
    "coinbase": replace(PROFILES["native_dedupe"], not_after="credential", not_after_seconds=120.0),
    "kraken": PROFILES["while_open_deadline"],
    "robinhood": PROFILES["timestamp_limit"],
    "tradier": PROFILES["cumulative_fills"],
    "schwab": PROFILES["no_client_id"],
    "ibkr": replace(PROFILES["late_fees_corrections"], unique="no", login="exclusive", lookup_window=_DAY),
    "moomoo": replace(
        PROFILES["token_not_unique"], undecided=0.05, fill_identity="native", fee_timing="order_level"
    ),
}
