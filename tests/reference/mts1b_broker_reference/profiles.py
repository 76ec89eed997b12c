"""The kinds of venue that the reference venue can be, by name; its simulator knows the same names."""

from __future__ import annotations

from dataclasses import replace

from mts1b_brokers_core.execution.port import TokenRule, VenueProfile
from mts1b_brokers_core.foundation import ConfigurationError

#: The one limit there is: requests of a login.
LIMIT = "requests"

_BASE = VenueProfile(
    venue="reference",
    token=TokenRule(unique="forever", dedupes=True),
    replace="same_id",
)
_UNIQUE_WHILE_OPEN = TokenRule(unique="while_open")

PROFILES = {
    "native_dedupe": _BASE,
    "while_open_deadline": replace(
        _BASE, token=_UNIQUE_WHILE_OPEN, not_after="deadline", not_after_seconds=5.0, clock_uncertainty=1.0
    ),
    "timestamp_limit": replace(
        _BASE, token=_UNIQUE_WHILE_OPEN, not_after="timestamp", not_after_seconds=5.0, clock_uncertainty=1.0
    ),
    "token_not_unique": replace(_BASE, token=TokenRule(unique="no")),
    "no_client_id": replace(_BASE, token=TokenRule(unique="none"), fill_identity="composite"),
    "cumulative_fills": replace(_BASE, fill_identity="cumulative", fill_source="poll"),
    "late_fees_corrections": replace(_BASE, fee_timing="seconds", correction_lookback=3600.0),
    "exclusive_login": replace(_BASE, login="exclusive"),
}


def profile_named(name: str, *, limited: bool = True) -> VenueProfile:
    """Return a profile, without its limits where they aren't to be kept. Raises `ConfigurationError`."""
    profile = PROFILES.get(name)
    if profile is None:
        raise ConfigurationError(
            f"the reference venue has no profile {name!r}.",
            choices=tuple(PROFILES),
            next_step=f"choose among {', '.join(PROFILES)}",
        )
    return profile if limited else replace(profile, limits=())
