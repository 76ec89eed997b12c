"""The venue's books, whatever happens to them: the judge of every other test must not err."""

from __future__ import annotations

import contextlib
from collections import Counter
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mts1b_simulator.reference import ReferenceProfile, ReferenceServer
from mts1b_simulator.wire import Declined

OPENING = {"BTC-USD": Decimal(10_000), "ETH-USD": Decimal(100_000), "AAPL": Decimal(1_000_000)}
PRICES = {"BTC-USD": (90_000, 110_000), "ETH-USD": (3_000, 5_000), "AAPL": (150, 250)}
STEPS = st.sampled_from(["place", "place", "place", "fill", "fill", "cancel", "replace", "bust", "correct"])


class Life:
    """Random commands to a venue that no wire is in front of."""

    def __init__(self, profile: ReferenceProfile, seed: int) -> None:
        self.server = ReferenceServer(profile)
        self.venue = self.server.venue
        self.draw = Random(seed)

    def place(self) -> None:
        symbol = self.draw.choice(list(OPENING))
        low, high = PRICES[symbol]
        body = {
            "symbol": symbol, "side": self.draw.choice(["buy", "sell"]),
            "type": self.draw.choice(["limit", "market"]), "quantity": str(self.draw.randint(1, 9)),
            "time_in_force": self.draw.choice(["gtc", "ioc"]),
        }  # fmt: skip
        if body["type"] == "limit":
            body["limit_price"] = str(self.draw.randint(low, high))
        self.venue.place(body, expires_ns=None)

    def fill(self) -> None:
        self.venue.fill_some(self.draw)

    def _open(self) -> Any:
        return self.draw.choice([order for order in self.venue.orders() if order.is_open] or [None])

    def cancel(self) -> None:
        if (order := self._open()) is not None:
            self.venue.cancel(order)

    def replace(self) -> None:
        if (order := self._open()) is not None:
            with contextlib.suppress(Declined):  # less than is filled already
                self.venue.replace(order, {"quantity": str(self.draw.randint(1, 9))})

    def _standing(self) -> Any:
        rows = [row for row in self.venue.executions() if not row.void]
        return self.draw.choice(rows) if rows else None

    def bust(self) -> None:
        if (row := self._standing()) is not None:
            assert self.venue.bust(row.id).quantity == -row.quantity

    def correct(self) -> None:
        if (row := self._standing()) is not None:
            self.venue.correct(row.id, price=row.price + 1)


@settings(max_examples=40)
@given(
    steps=st.lists(STEPS, min_size=5, max_size=60), seed=st.integers(0, 2**32),
    replace=st.sampled_from(["same_id", "new_id"]), meaning=st.sampled_from(["total", "remaining"]),
)  # fmt: skip
def test_orders_executions_positions_and_cash_always_agree(
    steps: list[str], seed: int, replace: Any, meaning: Any
) -> None:
    life = Life(ReferenceProfile(replace=replace, replace_quantity=meaning), seed)
    for step in steps:
        getattr(life, step)()
    venue = life.venue
    held, cash = Counter(OPENING), Decimal(10) ** 9
    for order in venue.orders():
        standing = [row for row in order.fills if not row.void]
        assert sum((row.quantity for row in standing), Decimal(0)) == order.filled_quantity
        assert sum((row.quantity * row.price for row in standing), Decimal(0)) == order.filled_value
        assert order.terms.quantity is None or order.filled_quantity <= order.terms.quantity
        for row in standing:
            held[order.terms.symbol] += row.quantity * order.terms.side.sign
            cash -= row.quantity * row.price * order.terms.side.sign
            cash -= sum(fee["amount"] for fee in row.fees)
    assert venue.positions() == dict(held)
    usd = next(row for row in venue.balances() if row["currency"] == "USD")
    assert usd["total"] == cash
    booked = venue.executions()
    assert [row.number for row in booked] == list(range(1, len(booked) + 1))
    # What is told sums to the same: busts are negative, a trade that corrects another stands in its place.
    replaced = {row.corrects for row in booked if row.kind == "trade"}
    told = Counter(OPENING)
    for row in booked:
        if row not in replaced:
            told[row.order.terms.symbol] += row.quantity * row.order.terms.side.sign
    assert dict(told) == dict(held)


def test_two_thousand_orders_leave_the_market_uncrossed() -> None:
    life = Life(ReferenceProfile(), 1)
    for _ in range(2_000):
        life.place()
    for bids, asks in life.venue.books().values():
        assert bids[0][0] < asks[0][0]
    assert len(life.venue.orders()) == 2_000


@pytest.mark.parametrize("fees", ["order_level", "seconds"])
def test_forgetting_begins_anew_with_other_ids(fees: Any) -> None:
    life = Life(ReferenceProfile(fee_timing=fees), 1)
    for _ in range(20):
        life.place()
    before = {order.id for order in life.venue.orders()}
    life.venue.forget()
    assert (life.venue.orders(), life.venue.executions(), life.venue.positions()) == ([], [], OPENING)
    for _ in range(20):
        life.place()
    assert not before & {order.id for order in life.venue.orders()}
