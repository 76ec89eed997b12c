"""Everything as one JSON document: decimals and times as text, secrets never."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import click


def plain_data(value: Any) -> Any:
    """Turn our nouns into what JSON knows; a decimal keeps exactly the digits it holds."""
    from pydantic import BaseModel, SecretBytes, SecretStr

    if isinstance(value, (SecretStr, SecretBytes)):
        return "***"
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, BaseModel):
        return {name: plain_data(getattr(value, name)) for name in type(value).model_fields}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_data(row) for key, row in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain_data, value))
    if isinstance(value, (list, tuple)):
        return [plain_data(row) for row in value]
    return str(value)


def emit(document: Mapping[str, Any]) -> None:
    """Write the document to standard output."""
    click.echo(json.dumps(plain_data(document), indent=2))
