"""The settings of one instance, gathered from argument, environment and file, and where each came from."""

from __future__ import annotations

import json
import logging
import re
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter, ValidationError

from mts1b_brokers_core.foundation.errors import ConfigurationError, InvalidInput, UnknownSetting, nearest
from mts1b_brokers_core.foundation.settings import BrokerSettings

from .config import Config

PREFIX = "MTS1B_BROKERS__"
REDACTED = "***"

_SECRET_WORDS = re.compile(r"secret|password|passphrase|token|credential|private|(^|_)(api_?)?key$|(^|_)pin$")

SourceKind = Literal["argument", "simulator", "environment", "file", "credentials", "default"]
Path_ = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """One value somebody gave: `place` is the words by which a message names where."""

    path: Path_
    value: object = field(repr=False)  # may be a secret
    kind: SourceKind
    place: str


#: The strongest value given for each setting.
Found = Mapping[Path_, Given]


class SettingRow(NamedTuple):
    """One setting as `config --explain` shows it; secrets are redacted."""

    field: str
    value: str
    source: str
    kind: SourceKind
    description: str


def variable(instance: str, *path: str) -> str:
    """Return the name of the environment variable for a setting of an instance."""
    return PREFIX + "__".join(part.replace("-", "_").upper() for part in (instance, *path))


def broker_of(instance: str, config: Config, environ: Mapping[str, str]) -> str:
    """Return the broker an instance uses: the key `broker`, by default the instance's own name."""
    listed = config.instances.get(instance, {}).get("broker", instance)
    value = environ.get(variable(instance, "broker")) or listed
    if isinstance(value, str):
        return value
    raise ConfigurationError(f"brokers.{instance}.broker in {config.place} is {value!r}, expected a name.")


def gather(
    model: type[BrokerSettings], instance: str, config: Config, environ: Mapping[str, str],
    arguments: Mapping[str, object],
) -> dict[Path_, Given]:  # fmt: skip
    """Collect what was given, the strongest source of each setting first. Raises `UnknownSetting`."""
    table = {key: value for key, value in config.instances.get(instance, {}).items() if key != "broker"}

    def in_file(path: Path_) -> str:
        return f"{path[-1]} in {config.place} [{'.'.join(('brokers', instance, *path[:-1]))}]"

    found: dict[Path_, Given] = {}
    for given in (
        *flat(model, arguments, "argument", lambda path: f"the argument {'.'.join(path)}"),
        *_variables(model, instance, environ),
        *flat(model, table, "file", in_file),
    ):
        found.setdefault(given.path, given)
    return found


def secret_fields(model: type[BrokerSettings]) -> dict[str, bool]:
    """Return the secrets a broker takes, those typed so, by name: True where it can't do without."""
    return {
        name: info.is_required()
        for name, info in model.model_fields.items()
        if any(kind in (SecretStr, SecretBytes) for kind in (info.annotation, *get_args(info.annotation)))
    }


def keep_secret(model: type[BrokerSettings], found: Found) -> None:
    """Register every secret that was given, wherever it came from, so that nothing shows it."""
    secrets = secret_fields(model)
    values = [text_of(given.value) for path, given in found.items() if path[0] in secrets]
    if any(values):
        from mts1b_brokers_core.platform.logging import REDACTING
        from mts1b_brokers_core.platform.security import register_secret

        for name in ("mts1b_brokers", "httpx"):  # httpx logs each address, signature and all
            logging.getLogger(name).addFilter(REDACTING)
        for value in values:
            register_secret(value)


def text_of(value: object) -> str:
    """Return the text of a value that was given, also of a secret one; nothing where it is no text."""
    found = value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else value
    if isinstance(found, bytes):
        return found.decode("utf-8", "surrogateescape")
    return found if isinstance(found, str) else ""


def build(model: type[BrokerSettings], instance: str, found: Found) -> BrokerSettings:
    """Make the typed settings. Raises `ConfigurationError` naming field and place; no secret is shown."""
    values: dict[str, Any] = {}
    for path, given in found.items():
        table = values
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = given.value
    try:
        return model.model_validate(values)
    except InvalidInput as error:
        fields = [f"{field}." for field in error.fields]
        given_by = {f"{'.'.join(path)}.": given.place for path, given in found.items()}
        wrong = {place for start, place in given_by.items() if any(name.startswith(start) for name in fields)}
        cure = error.next_step
        if wrong:
            cure = f"correct {' and '.join(sorted(wrong))}"
        elif error.fields:
            missing = " and ".join(variable(instance, *name.split(".")) for name in error.fields)
            cure = f"set {missing}, or the key in the file"
        text = error.message
        for path, given in found.items():
            if is_secret(path[-1], None):
                text = text.replace(repr(given.value), REDACTED)
        raise ConfigurationError(text, broker=instance, operation="settings", next_step=cure) from None


def explain_rows(model: type[BaseModel], found: Found, prefix: Path_ = ()) -> list[SettingRow]:
    """List every setting as it was given, secrets redacted, and where it came from; wrong values too."""
    rows: list[SettingRow] = []
    for name, info in model.model_fields.items():
        path, inner = (*prefix, name), _model_in(info.annotation)
        given = found.get(path)
        if inner is not None and given is None:
            rows += explain_rows(inner, found, path)
            continue
        if given is None:
            default = "missing" if info.is_required() else info.get_default(call_default_factory=True)
            given = Given(path, default, "default", "default")
        hidden = given.kind != "default" and is_secret(name, info.annotation)
        text = REDACTED if hidden else _text(given.value)
        rows.append(SettingRow(".".join(path), text, given.place, given.kind, info.description or ""))
    return rows


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_text(item)}" for name, item in value.items()) or "none"
    if isinstance(value, tuple | list | set | frozenset):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def is_secret(name: str, annotation: object) -> bool:
    """True where a setting is a secret by its type or looks like one by its name."""
    kinds = (annotation, *get_args(annotation))
    return any(kind in (SecretStr, SecretBytes) for kind in kinds) or bool(_SECRET_WORDS.search(name.lower()))


def _variables(model: type[BrokerSettings], instance: str, environ: Mapping[str, str]) -> list[Given]:
    """Read what variables give; the keys of a mapping, each a variable of its own, come together."""
    found: dict[Path_, Given] = {}
    prefix = variable(instance) + "__"
    for name in sorted(environ):
        words = name.removeprefix(prefix).split("__")
        path = tuple(map(str.lower, words))
        if not name.startswith(prefix) or not environ[name] or path == ("broker",):  # empty counts as absent
            continue
        holder: type[BaseModel] = model
        kind: object = model
        place = name
        for depth, word in enumerate(path):
            rows = [get_args(row)[1] for row in _alternatives(kind) if get_origin(row) is dict]
            if inner := _model_in(kind):
                holder, kind = inner, _annotation(inner, word, name)
            elif rows and depth == len(path) - 1:
                kind, path, place = rows[0], path[:-1], f"{variable(instance, *path[:-1])}*"
            else:
                problem = f"{name} is no setting: {path[depth - 1]} has no keys of its own."
                raise UnknownSetting(problem, next_step=f"set {path[depth - 1]}")
        value = _from_text(kind, environ[name])
        if place != name:
            others = found[path].value if path in found else {}
            value = {**others, words[-1]: value} if isinstance(others, dict) else others
        given = flat(holder, {path[-1]: value}, "environment", lambda _: place, path[:-1])  # noqa: B023
        found |= {row.path: row for row in given}
    return list(found.values())


def flat(
    model: type[BaseModel], values: Mapping[str, object], kind: SourceKind, place: Callable[[Path_], str],
    prefix: Path_ = (),
) -> Iterator[Given]:  # fmt: skip
    """Yield what nested values give, setting by setting. Raises `UnknownSetting`."""
    for key, value in values.items():
        path = (*prefix, key)
        inner = _model_in(_annotation(model, key, place(path)))
        if inner is not None and isinstance(value, BaseModel):
            value = {name: getattr(value, name) for name in value.model_fields_set}
        if inner is not None and isinstance(value, Mapping):
            yield from flat(inner, value, kind, place, path)
        elif value is not None:
            yield Given(path, value, kind, place(path))


def _annotation(model: type[BaseModel], key: str, place: str) -> object:
    """Return the declared type of a setting. Raises `UnknownSetting` with the nearest right key."""
    fields = model.model_fields
    if key in fields:
        return fields[key].annotation
    close = nearest(key, [*fields, "broker"] if issubclass(model, BrokerSettings) else fields)
    keys = f"the keys are {', '.join(sorted(fields))}"
    hint = f"did you mean {' or '.join(close)}?" if close else keys
    raise UnknownSetting(f"{place} is no setting.", next_step=hint)


def _alternatives(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _model_in(annotation: object) -> type[BaseModel] | None:
    kinds = (kind for kind in _alternatives(annotation) if isinstance(kind, type))
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def _from_text(annotation: Any, text: str) -> object:
    """Return a text as it is where the setting takes it so, else read as JSON, else split at commas."""
    with suppress(ValidationError):
        TypeAdapter(annotation).validate_python(text)
        return text
    if text[0] in "[{":
        with suppress(ValueError):
            return json.loads(text, parse_float=Decimal)
    if any(get_origin(kind) in (tuple, list, set, frozenset) for kind in _alternatives(annotation)):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
