"""Pages of a listing: a cursor says after which row to go on, so rows added meanwhile move nothing."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from mts1b_simulator.wire import Declined

T = TypeVar("T")
Place = tuple[int, ...]

DEFAULT, MOST = 100, 1_000


def page(
    rows: Iterable[T], place: Callable[[T], Place], query: Mapping[str, str]
) -> tuple[list[T], str | None]:
    """Return one page of rows, which ascend by `place`, and the next cursor. Raises `Declined`."""
    text = query.get("limit", str(DEFAULT))
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise Declined(400, "bad_request", f"limit is a number from 1 to {MOST}")
    limit = int(text)
    after = _read(query["cursor"]) if query.get("cursor") else ()
    left = [row for row in rows if place(row) > after]
    return left[:limit], _write(place(left[limit - 1])) if len(left) > limit else None


def _write(place: Place) -> str:
    return urlsafe_b64encode(":".join(map(str, place)).encode()).decode()


def _read(cursor: str) -> Place:
    try:
        return tuple(map(int, urlsafe_b64decode(cursor).decode().split(":")))
    except ValueError:
        raise Declined(400, "bad_request", "the cursor is none of this venue's") from None
