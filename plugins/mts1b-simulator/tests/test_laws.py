"""The laws that hold whatever traders and markets do, and the same log for the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mts1b_brokers_core.foundation.instruments import Rounding
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, Side
from mts1b_simulator import (
    BarEvent,
    DeltaEvent,
    ExchangeConfig,
    FeeRule,
    MarketEvent,
    QuoteEvent,
    SelfTradePolicy,
    SimulatedExchange,
    SnapshotEvent,
    TradeEvent,
    VolumeTier,
    spot,
)
from mts1b_simulator.settlement import needs
from mts1b_simulator.units import to_units

COIN = spot("COIN-USD", "Coin", lot="0.01").model_copy(update={"min_notional": "0"})
OPENING = {"USD": Decimal(3_000), "COIN": Decimal(30), "FEE": Decimal(5)}
RULES = (
    FeeRule(
        (VolumeTier(Decimal("0.0013"), Decimal("0.0027")),), rounding=Rounding.UP, increment=Decimal("0.01")
    ),
    FeeRule((VolumeTier(Decimal("-0.0002"), Decimal("0.0005")),), currency="base"),
    FeeRule((VolumeTier(Decimal("0.001"), Decimal("0.001")),), currency="FEE", conversion=Decimal("0.25")),
    FeeRule(
        per_unit=Decimal("0.005"), minimum=Decimal("0.5"), increment=Decimal("0.01"), rounding=Rounding.UP
    ),
)
prices = st.integers(9_900, 10_100).map(lambda cents: Decimal(cents) / 100)
sizes = st.integers(1, 500).map(lambda lots: Decimal(lots) / 100)
sides = st.sampled_from(list(Side))


class ExchangeMachine(RuleBasedStateMachine):
    """Two accounts and a market do what they like; the books must balance after every step."""

    @initialize(
        fees=st.sampled_from(RULES), model=st.sampled_from(["trade_through", "touch"]),
        policy=st.sampled_from(list(SelfTradePolicy)), deep=st.booleans(),
    )  # fmt: skip
    def start(self, fees: FeeRule, model: str, policy: SelfTradePolicy, deep: bool) -> None:
        config = ExchangeConfig((COIN,), {"a": OPENING, "b": OPENING}, (fees,), model, policy)
        self.exchange = SimulatedExchange(config)
        self.deep, self.count = deep, 0
        self.sizes: dict[str, Decimal] = {}
        self.used: dict[str, Decimal] = defaultdict(Decimal)
        self.seen = 0

    def _apply(self, event: MarketEvent) -> None:
        self.exchange.apply(event)

    def _next(self) -> tuple[int, str]:
        self.count += 1
        return self.exchange.now_ns + 700_000_000, f"e{self.count}"

    @rule(bid=prices, spread=st.integers(0, 30), size=sizes)
    def quote(self, bid: Decimal, spread: int, size: Decimal) -> None:
        ns, name = self._next()
        ask = bid + Decimal(spread) / 100
        self.sizes[name] = size
        if self.deep:
            bids = tuple((bid - Decimal(i) / 10, size) for i in range(3))
            asks = tuple((ask + Decimal(i) / 10, size) for i in range(3))
            self.sizes[name] = size * 6
            self._apply(SnapshotEvent(ns, "COIN-USD", name, bids, asks))
        else:
            self.sizes[name] = size * 2
            self._apply(QuoteEvent(ns, "COIN-USD", name, bid, size, ask, size))

    @rule(price=prices, size=st.one_of(st.just(Decimal(0)), sizes), side=sides)
    def level(self, price: Decimal, size: Decimal, side: Side) -> None:
        if self.deep:
            ns, name = self._next()
            self.sizes[name] = size
            row = ((price, size),)
            self._apply(
                DeltaEvent(
                    ns, "COIN-USD", name, row if side is Side.BUY else (), row if side is Side.SELL else ()
                )
            )

    @rule(price=prices, size=sizes)
    def trade(self, price: Decimal, size: Decimal) -> None:
        ns, name = self._next()
        self.sizes[name] = size
        self._apply(TradeEvent(ns, "COIN-USD", name, price, size))

    @rule(low=prices, rise=st.integers(0, 200), size=sizes)
    def bar(self, low: Decimal, rise: int, size: Decimal) -> None:
        ns, name = self._next()
        self.sizes[name] = size
        high = low + Decimal(rise) / 100
        self._apply(BarEvent(ns, "COIN-USD", name, ns - 700_000_000, low, high, low, high, size))

    @rule(
        kind=st.sampled_from(["limit", "limit", "limit", "market", "quote", "stop", "stop_limit"]),
        side=sides, size=sizes, price=prices, force=st.sampled_from(["gtc", "ioc", "fok", "day"]),
        account=st.sampled_from("ab"), post_only=st.booleans(),
    )  # fmt: skip
    def submit(
        self, kind: str, side: Side, size: Decimal, price: Decimal, force: str, account: str, post_only: bool
    ) -> None:
        self.count += 1
        if kind == "limit":
            post_only = post_only and force in ("gtc", "day")
            order = Order.limit("COIN-USD", side, size, price=price, time_in_force=force, post_only=post_only)
        elif kind == "market":
            order = Order.market("COIN-USD", side, size, time_in_force=force)
        elif kind == "quote":
            order = Order.market("COIN-USD", side, quote_quantity=size * 100)
        elif kind == "stop":
            order = Order.stop("COIN-USD", side, size, stop_price=price)
        else:
            order = Order.stop_limit("COIN-USD", side, size, stop_price=price, price=price)
        self.exchange.submit(order, f"t{self.count}", account_id=account)

    @rule(data=st.data(), size=sizes, price=prices, what=st.sampled_from(["size", "price", "both"]))
    def replace(self, data: st.DataObject, size: Decimal, price: Decimal, what: str) -> None:
        rows = self.exchange.open_orders()
        if rows:
            changes = {"quantity": size} if what != "price" else {}
            row = data.draw(st.sampled_from(rows))
            if what != "size" and row.terms.limit_price is not None:
                changes["limit_price"] = price
            if changes:
                self.exchange.replace(row.venue_order_id, OrderChanges(**changes))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        rows = self.exchange.open_orders()
        if rows:
            assert self.exchange.cancel(data.draw(st.sampled_from(rows)).venue_order_id).taken

    @rule(hours=st.integers(1, 13))
    def wait(self, hours: int) -> None:
        self.exchange.advance(self.exchange.now_ns + hours * 3_600_000_000_000)

    @invariant()
    def cash_and_holdings_are_conserved_to_the_last_digit(self) -> None:
        if not hasattr(self, "exchange"):
            return
        expected = {account: defaultdict(Decimal, OPENING) for account in "ab"}
        for fill in self.exchange.fills_since():
            books, sign = expected[fill.account_id], fill.side.sign
            books["COIN"] += sign * fill.quantity
            books["USD"] -= sign * fill.quantity * fill.price
            books[fill.fee.currency] -= fill.fee.amount
        for account in "ab":
            found = {row.currency: row.total for row in self.exchange.balances(account)}
            assert found == {currency: amount for currency, amount in expected[account].items() if amount}

    @invariant()
    def holds_are_what_open_orders_need_and_nothing_is_overdrawn(self) -> None:
        if not hasattr(self, "exchange"):
            return
        wanted: dict[tuple[str, str], int] = defaultdict(int)
        for order in self.exchange.desk.open.values():
            assert order.hold == needs(order)
            for currency, amount in order.hold.items():
                wanted[order.owner or "", currency] += amount
        for account in "ab":
            for row in self.exchange.balances(account):
                assert row.available >= 0
                assert to_units(row.held, self.exchange.digits[row.currency]) == wanted[account, row.currency]

    @invariant()
    def no_order_overfills_and_statuses_tell_the_truth(self) -> None:
        if not hasattr(self, "exchange"):
            return
        for order in self.exchange.orders_since():
            fills = self.exchange.fills_of([order.venue_order_id])
            assert sum(fill.quantity for fill in fills) == order.filled_quantity
            if order.terms.quantity is not None:
                assert order.filled_quantity <= order.terms.quantity
                assert (order.filled_quantity == order.terms.quantity) == (order.status == "filled")

    @invariant()
    def no_size_is_used_twice_and_no_limit_is_broken(self) -> None:
        if not hasattr(self, "exchange"):
            return
        fills = self.exchange.fills_since()
        for fill in fills[self.seen :]:
            order = self.exchange.order(fill.venue_order_id)
            assert order is not None
            if order.terms.limit_price is not None:
                assert fill.price * fill.side.sign <= order.terms.limit_price * fill.side.sign
            event = fill.evidence.get("market_event")
            if event is not None:
                self.used[event] += fill.quantity
                assert self.used[event] <= self.sizes[event], event
        self.seen = len(fills)

    @invariant()
    def our_orders_never_cross_each_other_or_the_published_book(self) -> None:
        if not hasattr(self, "exchange"):
            return
        book = self.exchange.markets["COIN-USD"].book
        if book.bids.keys and book.asks.keys:
            assert book.bids.keys[-1] < -book.asks.keys[-1]
        shown = self.exchange.order_book("COIN-USD")
        if shown and shown.bids and shown.asks and not book.crossed:
            assert shown.bids[0].price <= shown.asks[0].price


TestExchangeMachine = ExchangeMachine.TestCase


def digest_in_process(seed: int, hash_seed: str) -> str:
    folder = str(Path(__file__).parent)
    code = (
        f"import sys; sys.path.insert(0, {folder!r})\nfrom run_of_seed import digest\nprint(digest({seed}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("seed", [1, 2])
def test_one_seed_is_one_log_in_any_process(seed: int) -> None:
    first, second = (digest_in_process(seed, hash_seed) for hash_seed in ("0", "4242"))
    assert len(first) == 64
    assert first == second


def test_another_seed_is_another_log() -> None:
    assert digest_in_process(1, "0") != digest_in_process(2, "0")
