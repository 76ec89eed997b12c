"""Which distributions may be used: allow and deny lists, preferences, strictness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mts1b_brokers_core.foundation.errors import ConfigurationError, UnknownSetting, nearest

from ._metadata import canonical

_KEYS = ("allow", "deny", "prefer", "strict")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user decided about plugins, by distribution name.

    `allow` None allows all; `prefer` names, for a broker claimed twice, the distribution that gets it;
    `strict` raises where a plugin is unusable instead of listing it.
    """

    allow: frozenset[str] | None = None
    deny: frozenset[str] = frozenset()
    prefer: tuple[tuple[str, str], ...] = ()
    strict: bool = False

    def preferred(self, broker: str) -> str | None:
        """Return the distribution preferred for a broker's name, or None."""
        return dict(self.prefer).get(broker)


def policy_from(environ: Mapping[str, str], table: Mapping[str, Any], place: str = "") -> Policy:
    """Read the policy from `MTS1B_BROKERS_ALLOW`, `_DENY`, `_STRICT` and, below them, the `[registry]` table.

    Raises `UnknownSetting` and `ConfigurationError`.
    """
    for key in table:
        if key not in _KEYS:
            cure = f"write {' or '.join(nearest(key, _KEYS, most=1) or _KEYS)}"
            raise UnknownSetting(f"registry.{key} in {place} is no setting.", next_step=cure)
    allow, deny = (_names(environ, table, key, place) for key in ("allow", "deny"))
    return Policy(allow, deny or frozenset(), _preferences(table, place), _strict(environ, table, place))


def _names(
    environ: Mapping[str, str], table: Mapping[str, Any], key: str, place: str
) -> frozenset[str] | None:
    variable = environ.get(f"MTS1B_BROKERS_{key.upper()}", "").strip()
    listed = variable.split(",") if variable else table.get(key)
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ConfigurationError(f"registry.{key} in {place} is not a list of distribution names.")
    return frozenset(canonical(name.strip()) for name in listed if name.strip())


def _preferences(table: Mapping[str, Any], place: str) -> tuple[tuple[str, str], ...]:
    prefer = table.get("prefer", {})
    if not isinstance(prefer, Mapping) or not all(isinstance(value, str) for value in prefer.values()):
        raise ConfigurationError(f"registry.prefer in {place} is not a table of broker = distribution.")
    return tuple(sorted((broker, canonical(value)) for broker, value in prefer.items()))


def _strict(environ: Mapping[str, str], table: Mapping[str, Any], place: str) -> bool:
    variable = environ.get("MTS1B_BROKERS_STRICT", "").strip().lower()
    if variable:
        if variable not in {"1", "true", "yes", "0", "false", "no"}:
            raise ConfigurationError(f"MTS1B_BROKERS_STRICT is {variable!r}, expected 1 or 0.")
        return variable in {"1", "true", "yes"}
    strict = table.get("strict", False)
    if not isinstance(strict, bool):
        raise ConfigurationError(f"registry.strict in {place} is {strict!r}, expected true or false.")
    return strict
