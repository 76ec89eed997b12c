"""The head of a plugin's manifest, read by hand: a listing of plugins must not wait for pydantic."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from .errors import InvalidInput

#: The version of the plugin contract (hooks, protocols, capability keys) this core speaks.
PLUGIN_API = (1, 0)
#: The manifest format this core reads.
MANIFEST_SCHEMA = 1


@dataclass(frozen=True)
class ManifestHead:
    """The keys before the first table: all that a listing reads; `schema_version` is written `schema`."""

    name: str
    distribution: str
    api: str
    schema_version: int
    conformance: str = "1.0"
    aliases: tuple[str, ...] = ()
    provides: tuple[str, ...] = ("broker",)
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


_NAME = r"(?=.{1,64}$)[a-z][a-z0-9]*(-[a-z0-9]+)*"
_VERSION = r"[0-9]+\.[0-9]+"
#: The form of each key's text, or of each text in its list, and in words what is expected.
_FORMS = {
    "name": (_NAME, "small letters, digits and single hyphens"),
    "distribution": (".+", "a distribution's name"),
    "api": (_VERSION, "a version such as '1.0'"),
    "conformance": (_VERSION, "a version such as '1.0'"),
    "aliases": (_NAME, "a list of names in small letters, digits and single hyphens"),
    "provides": ("broker|simulator|checks", "a list of 'broker', 'simulator' and 'checks'"),
    "environments": (".+", "a list of names"),
}
_LISTS = frozenset({"aliases", "provides", "environments"})
HEAD_KEYS = frozenset({"schema", *_FORMS})


def parse_head(text: str) -> ManifestHead:
    """Read only the keys before the first table. Raises `InvalidInput`."""
    lines = takewhile(lambda line: not line.lstrip().startswith("["), text.splitlines())
    data = parse_toml("\n".join(lines))
    required = ("schema", "name", "distribution", "api")
    problems = [f"ManifestHead.{key} is missing." for key in required if key not in data]
    if type(data.get("schema", 0)) is not int:
        problems.append(f"ManifestHead.schema: got {data['schema']!r}, expected a whole number.")
    given: dict[str, Any] = {key: value for key, value in data.items() if key in _FORMS}
    for key, value in given.items():
        (form, words), is_list = _FORMS[key], isinstance(value, list)
        fits = (isinstance(row, str) and re.fullmatch(form, row) for row in (value if is_list else [value]))
        if is_list != (key in _LISTS) or not all(fits):
            problems.append(f"ManifestHead.{key}: got {value!r}, expected {words}.")
        given[key] = tuple(value) if is_list else value
    if problems:
        raise InvalidInput(" ".join(problems), next_step="correct capabilities.toml")
    return ManifestHead(schema_version=data["schema"], **given)


def parse_toml(text: str) -> dict[str, Any]:
    """Read a manifest's text as TOML. Raises `InvalidInput`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(
            f"the manifest is not TOML: {error}.", next_step="correct capabilities.toml"
        ) from None
