"""The reference venue's books, and what busts, corrections and late fees do to them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.orders import Order

from .books import BookExecution, BookOrder, Fees
from .market import ACCOUNT, new_exchange
from .profile import ReferenceProfile

if TYPE_CHECKING:
    from .server import ReferenceServer

_ZERO = Decimal(0)


class Ledger:
    """Orders, executions and positions as they are; `bust`, `correct` and `set_fees` change them.

    Neither faults nor delays touch what `orders`, `executions` and `positions` return.
    """

    def __init__(self, profile: ReferenceProfile, host: ReferenceServer) -> None:
        self.profile = profile
        self._host = host
        self._epoch = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew, knowing nothing; ids of before are not given again."""
        self._epoch += 1
        self.exchange = new_exchange(self._host.clock_ns(), self._epoch)
        self.exchange.drain()
        self._count = 0
        self._orders: dict[str, BookOrder] = {}
        self._by_exchange: dict[str, BookOrder] = {}
        self._by_token: dict[str, list[BookOrder]] = {}
        self._executions: list[BookExecution] = []
        self._by_id: dict[str, BookExecution] = {}
        #: What busts and corrections moved, by currency or asset.
        self._moved: dict[str, Decimal] = {}

    # --- the truth ------------------------------------------------------------------------------------

    def orders(self) -> list[BookOrder]:
        """Return every order, oldest first."""
        return list(self._orders.values())

    def order(self, order_id: str) -> BookOrder | None:
        """Return an order by id."""
        return self._orders.get(order_id)

    def named(self, token: str) -> list[BookOrder]:
        """Return the orders of a token, oldest first."""
        return self._by_token.get(token, [])

    def executions(self) -> list[BookExecution]:
        """Return every execution, busts and corrections included, in the order they were booked."""
        return list(self._executions)

    def late_fees(self, since_ns: int, until_ns: int) -> list[BookExecution]:
        """Return the executions whose fees became known after them, in this span, in the order they did."""
        rows = [
            (row.fees_from_ns, row.number, row)
            for row in self._executions
            if row.fees_from_ns is not None and max(since_ns, row.at_ns + 1) <= row.fees_from_ns <= until_ns
        ]
        return [row for _, _, row in sorted(rows, key=lambda row: row[:2])]

    def positions(self) -> dict[str, Decimal]:
        """Return the units held by symbol."""
        account, rows = self.exchange.account(ACCOUNT), {}
        for symbol, market in self.exchange.markets.items():
            rows[symbol] = LEDGER.add(account.balance(market.base).total, self._moved.get(market.base, _ZERO))
        return rows

    def books(self) -> dict[str, tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]]:
        """Return each instrument's bids and asks as (price, quantity), best first, our orders included."""
        rows = {}
        for symbol in self.exchange.markets:
            book = self.exchange.order_book(symbol)
            assert book is not None
            rows[symbol] = (
                [(level.price, level.quantity) for level in book.bids],
                [(level.price, level.quantity) for level in book.asks],
            )
        return rows

    def balances(self) -> list[dict[str, Any]]:
        """Return each currency's total, what is held for open orders and what is free."""
        return [
            {
                "currency": row.currency,
                "total": LEDGER.add(row.total, moved),
                "held": row.held,
                "available": LEDGER.add(row.available, moved),
            }
            for row in self.exchange.balances(ACCOUNT)
            for moved in [self._moved.get(row.currency, _ZERO)]
        ]

    # --- booking ---

    def _book(self, terms: Order, token: str | None) -> BookOrder:
        self._count += 1
        now, number = self._host.now(), self._count
        order = BookOrder(number, f"R{self._epoch}-{number}", token, terms, self._host.clock_ns(), now, now)
        self._orders[order.id] = order
        if token is not None:
            self._by_token.setdefault(token, []).append(order)
        return order

    def _unbook(self, order: BookOrder) -> None:
        """Forget an order that was refused at the door: it leaves no trace and burns no token."""
        del self._orders[order.id]
        if order.token is not None:
            self._by_token[order.token].remove(order)

    def _add(
        self, order: BookOrder, quantity: Decimal, price: Decimal, fees: Fees, liquidity: str, *,
        kind: Literal["trade", "bust"] = "trade", corrects: BookExecution | None = None,
    ) -> BookExecution:  # fmt: skip
        number, now_ns, at = len(self._executions) + 1, self._host.clock_ns(), self._host.now()
        if corrects is not None and self.profile.correction_lookback:
            at = corrects.executed_at
        execution = BookExecution(
            number, f"T{self._epoch}-{number}", order, quantity, price, fees, self._fees_from(now_ns),
            "final", liquidity, now_ns, at, kind, corrects,
        )  # fmt: skip
        self._executions.append(execution)
        self._by_id[execution.id] = execution
        order.fills.append(execution)
        order.count(execution)
        self._host.executed(execution)
        return execution

    def _fees_from(self, now_ns: int) -> int | None:
        timing = self.profile.fee_timing
        if timing == "never":
            return None
        late = self.profile.fee_delay if timing in ("seconds", "next_day") else 0
        return now_ns + round(late * 1_000_000_000)

    # --- what a test may do ---

    def _alive(self, execution_id: str) -> BookExecution:
        execution = self._by_id.get(execution_id)
        if execution is None or execution.void or execution.kind == "bust":
            raise InvalidInput(f"{execution_id} is no execution that stands.")
        return execution

    def _take_back(self, execution: BookExecution, sign: int) -> None:
        """Move units, money and fees of an execution back (-1), or forth (1)."""
        signed = LEDGER.multiply(execution.quantity, Decimal(sign * execution.order.terms.side.sign))
        market = self.exchange.market(execution.order.terms.symbol)
        moves = [(market.base, signed), (market.quote, -LEDGER.multiply(signed, execution.price))]
        moves += [(fee["currency"], fee["amount"] * -sign) for fee in execution.fees]
        for currency, amount in moves:
            self._moved[currency] = LEDGER.add(self._moved.get(currency, _ZERO), amount)

    def bust(self, execution_id: str) -> BookExecution:
        """Take an execution back: less is filled, and the order stays as final as it was."""
        old = self._alive(execution_id)
        old.void = True
        self._take_back(old, -1)
        refund: Fees = [{**fee, "amount": -fee["amount"]} for fee in old.fees]
        new = self._add(old.order, -old.quantity, old.price, refund, old.liquidity, kind="bust", corrects=old)
        new.void = True
        self._touched(old.order)
        return new

    def correct(
        self, execution_id: str, *, quantity: Decimal | str | None = None, price: Decimal | str | None = None
    ) -> BookExecution:
        """Put another trade in an execution's place, with another quantity or price."""
        old = self._alive(execution_id)
        old.void = True
        self._take_back(old, -1)
        old.order.count(old, -1)
        new = self._add(
            old.order,
            old.quantity if quantity is None else Decimal(quantity),
            old.price if price is None else Decimal(price),
            old.fees, old.liquidity, corrects=old,
        )  # fmt: skip
        self._take_back(new, 1)
        self._touched(old.order)
        return new

    def _touched(self, order: BookOrder) -> None:
        order.updated = self._host.now()
        self._host.order_changed(order)

    def set_fees(
        self, execution_id: str, amount: Decimal | str, currency: str = "USD", *, status: str = "final"
    ) -> BookExecution:
        """Say now what an execution's fee is."""
        execution = self._by_id.get(execution_id)
        if execution is None:
            raise InvalidInput(f"there is no execution {execution_id}.")
        execution.fees = [{"currency": currency, "amount": Decimal(amount)}]
        execution.fee_status, execution.fees_from_ns = status, self._host.clock_ns()
        return execution
