"""Which distributions may be used: allow and deny lists, preferences, strictness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mts1b_brokers_core.foundation.errors import ConfigurationError, UnknownSetting, nearest

from ._metadata import canonical

_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "allow": (lambda value: value is None or _all_text(value, list), "a list of distribution names"),
    "deny": (lambda value: value is None or _all_text(value, list), "a list of distribution names"),
    "prefer": (lambda value: _all_text(value, Mapping), "a table of broker = distribution"),
    "strict": (lambda value: isinstance(value, bool), "true or false"),
}
_SWITCH = {"": None, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


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
    for key, value in table.items():
        if key not in _FORMS:
            cure = f"write {' or '.join(nearest(key, _FORMS, most=1) or _FORMS)}"
            raise UnknownSetting(f"registry.{key} in {place} is no setting.", next_step=cure)
        fits, form = _FORMS[key]
        if not fits(value):
            raise ConfigurationError(f"registry.{key} in {place} is {value!r}, not {form}.")
    allow, deny = (
        _names(environ.get(f"MTS1B_BROKERS_{key.upper()}", ""), table.get(key)) for key in ("allow", "deny")
    )
    prefer = sorted((broker, canonical(value)) for broker, value in table.get("prefer", {}).items())
    switch = environ.get("MTS1B_BROKERS_STRICT", "").strip().lower()
    if switch not in _SWITCH:
        raise ConfigurationError(f"MTS1B_BROKERS_STRICT is {switch!r}, expected 1 or 0.")
    on = _SWITCH[switch]
    return Policy(allow, deny or frozenset(), tuple(prefer), table.get("strict", False) if on is None else on)


def _names(variable: str, listed: list[str] | None) -> frozenset[str] | None:
    names = variable.split(",") if variable.strip() else listed
    return None if names is None else frozenset(canonical(name.strip()) for name in names if name.strip())


def _all_text(value: Any, kind: type) -> bool:
    rows = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, kind) and all(isinstance(row, str) for row in rows)
