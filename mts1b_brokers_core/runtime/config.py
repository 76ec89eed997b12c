"""The configuration file: named broker instances, and what may be loaded."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from mts1b_brokers_core.foundation.errors import ConfigurationError, UnknownSetting, nearest
from mts1b_brokers_core.plugins.policy import Policy, policy_from

_TABLES = ("brokers", "registry")
_INSTANCE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Config:
    """What is configured: `instances` by name with their raw values, `place` names the source in messages."""

    place: str
    instances: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)  # may hold secrets
    policy: Policy = field(default_factory=Policy)


#: What may name a configuration: a file, a table already read, or nothing for the default file.
ConfigSource = str | os.PathLike[str] | Mapping[str, Any] | Config | None


def load_config(source: ConfigSource = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration: the one given, else the file `MTS1B_CONFIG` names, else the user's own.

    The user's own file (`mts1b/brokers.toml` in the configuration folder) may be absent; a file that
    was named must exist. Raises `ConfigurationError`, `UnknownSetting`.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return _checked(source, "the mapping given", environ)
    if source is not None:
        path, named_by = Path(source).expanduser(), "the argument"
    elif environ.get("MTS1B_CONFIG"):
        path, named_by = Path(environ["MTS1B_CONFIG"]).expanduser(), "MTS1B_CONFIG"
    else:
        path, named_by = default_path(), ""
    return _checked(_read(path, named_by), str(path), environ)


def default_path() -> Path:
    """Return where the user's own configuration file is looked for."""
    from platformdirs import user_config_path

    return user_config_path("mts1b") / "brokers.toml"


def _read(path: Path, named_by: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError:
        if not named_by:
            return {}
        problem, cure = f"named by {named_by} does not exist", "correct the path or create the file"
    except UnicodeDecodeError:
        problem, cure = "is not UTF-8 text", "save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        problem, cure = f"is not TOML: {error}", "correct that line"
    except OSError as error:
        problem, cure = f"can't be read: {error.strerror or error}", "make it a readable file"
    raise ConfigurationError(f"the configuration file {path} {problem}.", next_step=cure)


def _checked(data: Mapping[str, Any], place: str, environ: Mapping[str, str]) -> Config:
    for key in data:
        if key not in _TABLES:
            cure = " or ".join(f"[{word}]" for word in nearest(key, _TABLES, most=1) or _TABLES)
            raise UnknownSetting(f"[{key}] in {place} is no table we know.", next_step=f"write {cure}")
    brokers = _table(data.get("brokers", {}), "brokers", place)
    for name, values in brokers.items():
        _table(values, f"brokers.{name}", place)
        check_instance(name, place)
    registry = _table(data.get("registry", {}), "registry", place)
    return Config(place, brokers, policy_from(environ, registry, place))


def _table(value: object, name: str, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        cure = f"write [{name}] above its keys"
        raise ConfigurationError(f"{name} in {place} is not a table.", next_step=cure)
    return value


def check_instance(name: str, place: str = "") -> str:
    """Return an instance's name. Raises `ConfigurationError` where it can't be a file and variable name."""
    if not _INSTANCE.fullmatch(name):
        where = f" in {place}" if place else ""
        raise ConfigurationError(
            f"the instance name {name!r}{where} is not of the form fund-a.",
            next_step="use small letters, digits and single hyphens, beginning with a letter",
        )
    return name
