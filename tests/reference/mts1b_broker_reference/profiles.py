"""The kinds of venue that the reference venue can be, by name; its simulator has the same names."""

from __future__ import annotations

from dataclasses import replace

from mts1b_brokers_core.execution.port import TokenRule, VenueProfile
from mts1b_brokers_core.foundation import ConfigurationError
from mts1b_brokers_core.platform.ratelimit import Limit

#: The name of the one limit that there may be: requests of a login.
LIMIT = "requests"

_DAY = 86_400.0
_ANY_TOKEN = TokenRule(unique="no")

PROFILES = {
    "native_dedupe": VenueProfile(
        "reference", TokenRule(unique="forever", dedupes=True), replace="same_id",
    ),
    "while_open_deadline": VenueProfile(
        "reference", TokenRule(unique="while_open"), not_after="deadline", not_after_seconds=30.0,
        replace="same_id",
    ),
    "timestamp_limit": VenueProfile(
        "reference", TokenRule(unique="forever"), not_after="timestamp", not_after_seconds=30.0,
        fill_identity="content", fill_source="poll", fee_timing="order_level",
    ),
    "token_not_unique": VenueProfile(
        "reference", _ANY_TOKEN, fill_identity="composite", fill_source="trigger", replace="same_id",
    ),
    "no_client_id": VenueProfile(
        "reference", TokenRule(unique="none"), fill_identity="composite", fill_source="trigger",
        fee_timing="seconds", replace="new_id", replace_quantity="remaining",
    ),
    "cumulative_fills": VenueProfile(
        "reference", _ANY_TOKEN, fill_identity="cumulative", fee_timing="next_day", replace="same_id",
    ),
    "late_fees_corrections": VenueProfile(
        "reference", TokenRule(unique="forever"), fee_timing="seconds", correction_lookback=_DAY,
        replace="same_id",
    ),
    "exclusive_login": VenueProfile(
        "reference", TokenRule(unique="forever"), login="exclusive", cancel_by="token", replace="same_id",
    ),
}  # fmt: skip
PROFILES |= {
    "coinbase": replace(PROFILES["native_dedupe"], not_after="credential", not_after_seconds=120.0),
    "kraken": PROFILES["while_open_deadline"],
    "robinhood": PROFILES["timestamp_limit"],
    "tradier": PROFILES["cumulative_fills"],
    "schwab": PROFILES["no_client_id"],
    "ibkr": replace(
        PROFILES["late_fees_corrections"], token=_ANY_TOKEN, login="exclusive", lookup_window=_DAY
    ),
    "moomoo": replace(PROFILES["token_not_unique"], fill_identity="native", fee_timing="order_level"),
}


def profile_named(name: str, requests_per_second: int | None = None) -> VenueProfile:
    """Return a profile, with its limit where there is one. Raises `ConfigurationError`."""
    profile = PROFILES.get(name)
    if profile is None:
        raise ConfigurationError(
            f"the reference venue has no profile {name!r}.",
            choices=tuple(PROFILES),
            next_step=f"choose among {', '.join(PROFILES)}",
        )
    if requests_per_second is None:
        return profile
    return replace(profile, limits=(Limit(LIMIT, "token_bucket", requests_per_second, per=1.0),))
