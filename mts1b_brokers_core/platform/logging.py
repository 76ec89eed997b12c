"""Loggers whose lines never hold a secret, over structlog and onto the standard library's logging.

Nothing in here configures logging: that is for the program, as `mts` does for itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, MutableMapping
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from .security import redact

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

_Event = MutableMapping[str, Any]


class RedactingFilter(logging.Filter):
    """Takes the secrets out of records, whoever wrote them: out of the message and a traceback's text."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record and let it pass."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # arguments that don't fit the message
            text = f"{record.msg} {record.args!r}"
        record.msg, record.args = redact(text), ()
        if record.exc_info and record.exc_info[0]:
            trace = logging.Formatter().formatException(record.exc_info)
            clean = redact(trace)
            if clean != trace:  # whoever formats it would take the words from the exception itself
                record.exc_info, record.exc_text = None, clean
        return True


#: The filter every logger of this library has.
REDACTING = RedactingFilter()


def get_logger(name: str) -> BoundLogger:
    """Return the logger of a name: `.info("message", extra={...})`, `.info("message", order_id=...)`.

    Lines go to the standard library's logger of the same name as `message field=value ...`, the fields
    also as the record's attribute `fields`. Secrets are redacted, by value and by the field's name.
    """
    logging.getLogger(name).addFilter(REDACTING)
    return cast("BoundLogger", _Lazy(name))


class _Lazy:
    """Becomes the logger at its first line, so that a module may have one and not pay for structlog."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        if method.startswith("__"):
            raise AttributeError(method)
        found = getattr(_bound(self._name), method)
        setattr(self, method, found)
        return found

    def __repr__(self) -> str:
        return f"get_logger({self._name!r})"


def _bound(name: str) -> BoundLogger:
    import structlog
    from structlog.stdlib import PositionalArgumentsFormatter, filter_by_level

    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[filter_by_level, PositionalArgumentsFormatter(), _flat, _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return cast("BoundLogger", logger.bind())


def _flat(logger: Any, method: str, event: _Event) -> _Event:
    """Lift what `extra` holds to the level of the other fields, which keep their names."""
    extra = event.pop("extra", None)
    if isinstance(extra, Mapping):
        for key, value in extra.items():
            event[f"{key}_" if key in event else str(key)] = value
    elif extra is not None:
        event["extra"] = extra
    return event


def _to_record(logger: Any, method: str, event: _Event) -> tuple[tuple[str], dict[str, Any]]:
    """Hand a line on as the standard library takes it."""
    message = str(event.pop("event", ""))
    given = {key: event.pop(key) for key in ("exc_info", "stack_info", "stacklevel") if key in event}
    fields = redact({key: plain(value) for key, value in event.items()})
    text = " ".join((message, *(f"{key}={_word(value)}" for key, value in fields.items())))
    return (text,), {"stacklevel": _FRAMES, **given, "extra": {"fields": fields, "event": redact(message)}}


#: How many frames of structlog lie between the caller and the standard library's logger.
_FRAMES = 4


def plain(value: Any) -> Any:
    """Return a field's value as JSON knows it: decimals and times as text, anything unknown by its repr."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(held) for held in value]
    return repr(value)


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text and not set(text) & set(' \t\r\n="') else json.dumps(text)
