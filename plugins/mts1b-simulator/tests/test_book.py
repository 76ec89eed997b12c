"""The book: price-time priority, constant-time cancel, displayed depth among orders."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mts1b_simulator.book import Book, RestingOrder, SelfTradePolicy


def order(name: str, side: int, price: int, lots: int, owner: str | None = None) -> RestingOrder:
    return RestingOrder(name, side, price, lots, owner)


def test_an_order_that_comes_back_to_its_level_stands_last() -> None:
    book = Book()
    first, second = order("1", 1, 10, 1), order("2", 1, 10, 1)
    book.rest(first)
    book.rest(second)
    book.cancel(first)
    book.rest(first)
    taker = order("3", -1, 10, 2)
    assert [trade.maker for trade in book.add(taker).trades] == [second, first]
    assert book.best_bid() is None


def test_cancelled_orders_do_not_pile_up_in_a_level_that_lives_on() -> None:
    book = Book()
    book.rest(order("stays", 1, 10, 1))
    for number in range(10_000):
        passing = order(str(number), 1, 10, 1)
        book.rest(passing)
        assert book.cancel(passing)
    assert len(book.bids.levels[10].orders) < 100
    assert not book.cancel(passing)


def test_depth_that_came_first_trades_first_and_depth_that_came_later_waits() -> None:
    book = Book()
    book.show(-1, 10, 5, "early")
    book.rest(order("ours", -1, 10, 2))
    book.show(-1, 11, 5, "other")
    trades = book.take(order("t", 1, 0, 6), None).trades
    assert [(trade.event_id, trade.quantity) for trade in trades] == [("early", 5), ("", 1)]
    book.show(-1, 10, 5, "late")
    trades = book.take(order("t", 1, 0, 2), None).trades
    assert [(trade.event_id, trade.quantity) for trade in trades] == [("", 1), ("late", 1)]


class BookMachine(RuleBasedStateMachine):
    """Compares every match with a list sorted by price and arrival."""

    @initialize(policy=st.sampled_from(list(SelfTradePolicy)))
    def start(self, policy: SelfTradePolicy) -> None:
        self.book, self.policy = Book(), policy
        self.model: list[list[object]] = []  # [order, arrival]
        self.arrival = 0
        self.names = 0

    def _expected(self, taker: RestingOrder, limit: int | None) -> list[tuple[str, int, int]]:
        rows = sorted(
            (row for row in self.model if row[0].side != taker.side),  # type: ignore[attr-defined]
            key=lambda row: (row[0].price * taker.side, row[1]),  # type: ignore[attr-defined]
        )
        left, found = taker.remaining, []
        for maker, _ in rows:
            assert isinstance(maker, RestingOrder)
            if not left or (limit is not None and (maker.price - limit) * taker.side > 0):
                break
            if maker.owner == taker.owner:
                if self.policy is SelfTradePolicy.CANCEL_OLDEST:
                    continue
                break
            lots = min(left, maker.remaining)
            found.append((maker.order_id, maker.price, lots))
            left -= lots
        return found

    def _send(self, side: int, price: int | None, lots: int, owner: str) -> None:
        self.names += 1
        taker = order(str(self.names), side, price or 0, lots, owner)
        planned = [*self.book.takeable(taker, price, self.policy)]
        expected = self._expected(taker, price)
        taken = self.book.take(taker, price, self.policy)
        assert [(t.maker.order_id, t.price, t.quantity) for t in taken.trades if t.maker] == expected
        assert sum(lots for _, lots in planned) >= sum(t.quantity for t in taken.trades)
        if taker.remaining and not taken.stopped:
            assert sum(lots for _, lots in planned) == sum(t.quantity for t in taken.trades)
            if price is not None:
                self.book.rest(taker)
                self.arrival += 1
                self.model.append([taker, self.arrival])
        self.model = [row for row in self.model if row[0].level is not None]  # type: ignore[attr-defined]

    @rule(
        side=st.sampled_from([1, -1]),
        price=st.integers(95, 105),
        lots=st.integers(1, 9),
        owner=st.sampled_from("ab"),
    )
    def limit(self, side: int, price: int, lots: int, owner: str) -> None:
        self._send(side, price, lots, owner)

    @rule(side=st.sampled_from([1, -1]), lots=st.integers(1, 20), owner=st.sampled_from("ab"))
    def market(self, side: int, lots: int, owner: str) -> None:
        self._send(side, None, lots, owner)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.model:
            row = data.draw(st.sampled_from(self.model))
            self.model.remove(row)
            assert self.book.cancel(row[0])  # type: ignore[arg-type]

    @rule(data=st.data())
    def reduce(self, data: st.DataObject) -> None:
        rows = [row[0] for row in self.model if row[0].remaining > 1]  # type: ignore[attr-defined]
        if rows:
            chosen = data.draw(st.sampled_from(rows))
            self.book.reduce(chosen, data.draw(st.integers(1, chosen.remaining - 1)))

    @invariant()
    def never_crossed_and_totals_right(self) -> None:
        if not hasattr(self, "book"):
            return
        bid, ask = self.book.best_bid(), self.book.best_ask()
        assert bid is None or ask is None or bid < ask
        for side in (1, -1):
            shown = dict(self.book.levels(side, 100))
            expected: dict[int, int] = {}
            for row in self.model:
                maker = row[0]
                assert isinstance(maker, RestingOrder)
                if maker.side == side:
                    expected[maker.price] = expected.get(maker.price, 0) + maker.remaining
            assert shown == expected
            assert list(shown) == sorted(shown, key=lambda price: -price * side)


TestBookMachine = BookMachine.TestCase
