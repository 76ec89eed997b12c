"""Requests as they came in and replies as they go out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from mts1b_brokers_core.foundation.base import plain

if TYPE_CHECKING:
    from .faults import RequestFault


class Declined(Exception):
    """Raised in a handler to answer with an error: the server words it as its venue does."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclass
class Request:
    """One request: the raw target with its query, header names in lower case, the body's bytes.

    `params` are the path's parameters, unquoted; `fault` is what will happen to it, if anything. It arrived
    at `arrived_ns` of the machine's time (ns), which is long ago where it is `late`: delayed on its way.
    `admitted` is whatever the server's `admit` found out about it.
    """

    method: str
    target: bytes
    headers: Mapping[str, str]
    body: bytes = b""
    params: dict[str, str] = field(default_factory=dict)
    fault: RequestFault | None = None
    arrived_ns: int = 0
    late: bool = False
    admitted: Any = None

    @property
    def label(self) -> str:
        """Method and path, as faults match them and the log names them."""
        return f"{self.method} {self.path}"

    @cached_property
    def path(self) -> str:
        """The raw path without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")

    @cached_property
    def query(self) -> dict[str, str]:
        """The query; of a name given twice the last one counts."""
        return dict(parse_qsl(self.target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))

    def json(self) -> dict[str, Any]:
        """Return the body as an object, its numbers exact; a body that is none is declined with 400."""
        try:
            data = json.loads(self.body or b"{}", parse_float=Decimal)
        except ValueError:
            raise Declined(400, "bad_request", "the body is not JSON") from None
        if not isinstance(data, dict):
            raise Declined(400, "bad_request", "the body is not a JSON object")
        return data


@dataclass(slots=True)
class Reply:
    """One reply; length, type and date are added when it is sent."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, data: Any, **headers: str) -> Reply:
        """Build a reply from data."""
        return cls(status, encode(data).encode(), headers)


def iso(moment: datetime) -> str:
    """Write a time as ISO 8601 in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON here")


_encoder = json.JSONEncoder(separators=(",", ":"), default=_plain)


def encode(data: Any) -> str:
    """Write JSON: exact numbers as text, times as ISO 8601."""
    text: str = _encoder.encode(data)
    return text
