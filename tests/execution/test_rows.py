"""Rows and pages: what has a meaning is kept, what has none is told, and nothing ends early or never."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mts1b_brokers_core.execution.port import Coverage, Unreadable
from mts1b_brokers_core.execution.rows import listing, meant, paged, translated
from mts1b_brokers_core.foundation.base import Money
from mts1b_brokers_core.foundation.errors import UnreadableReply

COVERAGE = Coverage(("rows",))
#: What a venue may answer with in place of a row.
anything: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({"n": "1"}) | st.just({})
)


def number(row: dict[str, str]) -> Decimal:
    return Decimal(row["n"])


@given(st.lists(anything | st.builds(lambda n: {"n": str(n)}, st.integers())))
def test_a_bad_row_never_costs_the_others(rows: list[dict[str, str]]) -> None:
    good = [Decimal(row["n"]) for row in rows if isinstance(row, dict) and "n" in row]
    read = listing(rows, number, COVERAGE)
    assert (list(read.rows), read.coverage) == (good, COVERAGE)
    assert len(read.unreadable) == len(rows) - len(good)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({}, "KeyError: 'n'"),
        (None, "TypeError: "),
        ({"n": "much"}, "InvalidOperation: "),
        ({"n": None}, "TypeError: "),
    ],
)
def test_what_is_wrong_is_named_with_the_row(row: dict[str, str], cause: str) -> None:
    read = translated(row, number)
    assert isinstance(read, Unreadable)
    assert read.cause.startswith(cause)
    assert read.words == repr(row)
    with pytest.raises(UnreadableReply, match="makes no sense: ") as failure:
        meant(row, number)
    assert failure.value.words == repr(row)


def test_a_noun_that_refuses_its_fields_is_a_bad_row() -> None:
    bad = {"amount": "NaN", "currency": "USD"}
    assert isinstance(translated(bad, Money.model_validate), Unreadable)
    assert meant({"amount": "1", "currency": "USD"}, Money.model_validate).amount == 1


def test_a_long_row_is_quoted_in_part() -> None:
    read = translated({"x": "y" * 10_000}, number)
    assert isinstance(read, Unreadable)
    assert len(read.words) == 500


def test_a_mistake_of_the_adapter_is_not_the_rows() -> None:
    def mistaken(row: object) -> None:
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        translated({}, mistaken)


@given(st.lists(st.lists(st.integers(), max_size=3), min_size=1, max_size=5))
async def test_pages_are_read_to_the_last(pages: list[list[int]]) -> None:
    asked: list[str | None] = []

    async def page(cursor: str | None) -> tuple[Sequence[int], str | None]:
        asked.append(cursor)
        number = int(cursor or 0)
        return pages[number], str(number + 1) if number + 1 < len(pages) else None

    assert await paged(page) == [row for rows in pages for row in rows]
    assert asked == [None, *map(str, range(1, len(pages)))]


async def test_pages_that_go_round_end_in_an_error() -> None:
    async def page(cursor: str | None) -> tuple[Sequence[int], str | None]:
        return [1], {None: "a", "a": "b", "b": "a"}[cursor]

    with pytest.raises(UnreadableReply, match="circle"):
        await paged(page)


async def test_a_page_that_fails_fails_the_listing() -> None:
    async def page(cursor: str | None) -> tuple[Sequence[int], str | None]:
        if cursor:
            raise UnreadableReply("no list here.")
        return [1], "a"

    with pytest.raises(UnreadableReply, match="no list"):
        await paged(page)
