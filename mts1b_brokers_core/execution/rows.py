"""A venue's rows: what each means, or what is wrong with it; one listing of many pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from mts1b_brokers_core.foundation.errors import UnreadableReply

from .port import Coverage, Listing, Unreadable

Row = TypeVar("Row")
T = TypeVar("T")


def translated(row: Row, meaning: Callable[[Row], T]) -> T | Unreadable:
    """Return what a row means, or what is wrong with it: it never costs the rows beside it."""
    try:
        return meaning(row)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        return Unreadable(words=f"{row!r:.500}", cause=f"{type(error).__name__}: {error}")


def meant(row: Row, meaning: Callable[[Row], T]) -> T:
    """Return what a row means that is asked for alone. Raises `UnreadableReply`."""
    read = translated(row, meaning)
    if isinstance(read, Unreadable):
        raise UnreadableReply(f"the venue's reply makes no sense: {read.cause}.", words=read.words)
    return read


def listing(rows: Iterable[Row], meaning: Callable[[Row], T], coverage: Coverage) -> Listing[T]:
    """Return the rows' meanings, and beside them the rows that have none."""
    read = [translated(row, meaning) for row in rows]
    return Listing(
        tuple(item for item in read if not isinstance(item, Unreadable)),
        coverage,
        tuple(item for item in read if isinstance(item, Unreadable)),
    )


async def paged(page: Callable[[str | None], Awaitable[tuple[Sequence[Row], str | None]]]) -> list[Row]:
    """Return a listing's rows to its end: `page` reads one, by the cursor that the one before it gave.

    The first has none, the last gives None. Raises what `page` raises, and `UnreadableReply` where a cursor
    comes again: what was read by then may not be all.
    """
    rows, cursor = await page(None)
    read, seen = list(rows), set[str]()
    while cursor is not None:
        if cursor in seen:
            raise UnreadableReply("the listing's pages go round in a circle.", words=f"{cursor!r:.300}")
        seen.add(cursor)
        rows, cursor = await page(cursor)
        read += rows
    return read
