"""The reference venue behind its wire: its books, its rules, and what a test may do to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, Side
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_simulator.changes import Changes
from mts1b_simulator.orders import Refusal, ReportKind, VenueFill
from mts1b_simulator.wire import Declined

from .books import WORDS, BookExecution, BookOrder, Fees
from .ledger import Ledger
from .market import ACCOUNT, refill

#: The exchange's refusals in this venue's words; the others go by their own.
_CODES = {
    Refusal.PRICE_INCREMENT: "bad_price",
    Refusal.QUANTITY_INCREMENT: "bad_quantity",
    Refusal.MIN_QUANTITY: "bad_quantity",
    Refusal.MAX_QUANTITY: "bad_quantity",
    Refusal.MIN_NOTIONAL: "bad_quantity",
    Refusal.MAX_NOTIONAL: "bad_quantity",
    Refusal.QUANTITY_BELOW_FILLED: "bad_quantity",
    Refusal.POST_ONLY_WOULD_TAKE: "post_only",
}
_TERMS = (
    "symbol", "side", "quantity", "quote_quantity", "limit_price", "stop_price", "time_in_force",
    "post_only", "expires_at",
)  # fmt: skip
_CHANGES = ("quantity", "limit_price", "stop_price")
_ZERO = Decimal(0)


class ReferenceVenue(Ledger):
    """Takes orders as its profile has it; `orders`, `executions` and `positions` are the truth.

    `fill`, `bust`, `correct` and `set_fees` do to the books what a test wants done.
    """

    # --- placing --------------------------------------------------------------------------------------

    def place(self, body: Mapping[str, Any], *, expires_ns: int | None) -> BookOrder:
        """Take an order, or return the one its token names. Raises `Declined`.

        `expires_ns` (venue time) is from when what carried the order is too old.
        """
        profile = self.profile
        self._check_not_late(body, expires_ns)
        token = body.get("client_order_id") if profile.unique != "none" else None
        if token is not None:
            known = self._check_token(token)
            if known is not None:
                return known
        order = self._book(_order_of(body), token)
        if profile.undecided:
            self._host.order_changed(order)
            self._host.later(profile.undecided, lambda: self._decide(order))
            return order
        return self._admit(order)

    def _admit(self, order: BookOrder) -> BookOrder:
        words = self._decide(order)
        if order.status == "rejected":
            self._unbook(order)
            raise Declined(422, order.reason or "rejected", words)
        return order

    def _check_not_late(self, body: Mapping[str, Any], expires_ns: int | None) -> None:
        now = self._host.now()
        if self.profile.not_after == "deadline" and body.get("deadline") is not None:
            deadline = _moment(body["deadline"])
            if now > deadline:
                raise Declined(409, "too_late", f"the deadline {body['deadline']} has passed")
        elif expires_ns is not None and to_ns(now) > expires_ns:
            raise Declined(409, "too_late", f"the {self.profile.not_after} is too old for an order")

    def _check_token(self, token: Any) -> BookOrder | None:
        profile = self.profile
        if not isinstance(token, str) or not 0 < len(token) <= profile.longest_token:
            raise Declined(422, "bad_token", f"a client_order_id has 1 to {profile.longest_token} characters")
        known = self.named(token)
        if profile.unique == "while_open":
            known = [order for order in known if order.is_open]
        if not known or profile.unique == "no":
            return None
        if profile.dedupes:
            return known[0]
        raise Declined(409, "duplicate_token", f"{token} names {known[0].id} already")

    def _decide(self, order: BookOrder) -> str:
        """Let the exchange see an order, unless it ended meanwhile; return what it says of it."""
        if not order.is_open or self._orders.get(order.id) is not order:
            return ""
        self.exchange.advance(self._host.clock_ns())
        reply = self.exchange.submit(order.terms, order.id, account_id=ACCOUNT)
        order.exchange_id = reply.order.venue_order_id
        self._by_exchange[order.exchange_id] = order
        if reply.reason is not None:
            order.reason = _CODES.get(reply.reason, str(reply.reason))
        self._settle()
        return reply.words

    # --- cancelling and replacing ---------------------------------------------------------------------

    def cancel(self, order: BookOrder) -> None:
        """Take a cancel. Raises `Declined` where the order is final."""
        if not order.is_open:
            raise Declined(409, "final", f"{order.id} is {order.status} already")
        if order.cancelling:
            return
        order.cancelling, order.updated = True, self._host.now()
        if self.profile.cancel_delay:
            self._host.order_changed(order)
            self._host.later(self.profile.cancel_delay, lambda: self._end(order, "cancelled"))
        else:
            self._end(order, "cancelled")

    def _end(self, order: BookOrder, status: str) -> None:
        if not order.is_open or self._orders.get(order.id) is not order:
            return
        if order.exchange_id is None:
            order.status, order.updated = status, self._host.now()
            self._host.order_changed(order)
            return
        self.exchange.advance(self._host.clock_ns())
        self.exchange.cancel(order.exchange_id)
        self._settle()

    def replace(self, order: BookOrder, body: Mapping[str, Any]) -> BookOrder:
        """Change an order, in place or by another that takes its place. Raises `Declined`."""
        profile = self.profile
        if profile.replace == "none":
            raise Declined(422, "unsupported", "orders can't be changed here")
        if not order.is_open:
            raise Declined(409, "final", f"{order.id} is {order.status} already")
        if order.exchange_id is None or order.cancelling:
            raise Declined(409, "not_working", f"{order.id} can't be changed now")
        changes = _checked(
            lambda: OrderChanges(**{name: body[name] for name in _CHANGES if body.get(name) is not None})
        )
        token = body.get("client_order_id") if profile.unique != "none" else None
        if token is not None and self._check_token(token) is not None:
            return self.named(token)[0]
        if profile.replace == "new_id":
            return self._replace_by_another(order, changes, token)
        if changes.quantity is not None and profile.replace_quantity == "remaining":
            changes = changes.model_copy(
                update={"quantity": LEDGER.add(changes.quantity, order.filled_quantity)}
            )
        self.exchange.advance(self._host.clock_ns())
        reply = self.exchange.replace(order.exchange_id, changes)
        if reply.reason is not None:
            raise Declined(422, _CODES.get(reply.reason, str(reply.reason)), reply.words)
        assert reply.order is not None
        order.terms = reply.order.terms
        if token is not None:
            self._by_token.setdefault(token, []).append(order)
        self._settle()
        return order

    def _replace_by_another(self, order: BookOrder, changes: OrderChanges, token: str | None) -> BookOrder:
        """Place the order as changed, then cancel the old one; refused, the old one stays."""
        given, terms = changes.given(), order.terms
        quantity = given.get("quantity")
        if terms.quantity is not None:
            if quantity is None:
                quantity = LEDGER.subtract(terms.quantity, order.filled_quantity)
            elif self.profile.replace_quantity == "total":
                quantity = LEDGER.subtract(quantity, order.filled_quantity)
            if quantity <= 0:
                raise Declined(422, "bad_quantity", "as much is filled already")
            given["quantity"] = quantity
        fresh = self._book(_checked(lambda: terms.model_copy(update=given)), token)
        fresh.replaces = order.id
        self._admit(fresh)
        order.replaced_by = fresh.id
        self._end(order, "cancelled")
        return fresh

    # --- what happened at the exchange ----------------------------------------------------------------

    def advance(self) -> None:
        """Let orders expire that are due."""
        self.exchange.advance(self._host.clock_ns())
        self._settle()

    def _settle(self) -> None:
        """Book what the exchange did, and tell of it."""
        changes: Changes = self.exchange.drain()
        taken: set[str] = set()
        for report in changes.reports:
            assert report.order is not None
            order = self._by_exchange[report.order.venue_order_id]
            order.status, order.updated = WORDS[report.order.status], self._host.now()
            if report.order.reason is not None and order.reason is None:
                order.reason = _CODES.get(report.order.reason, str(report.order.reason))
            if report.kind is ReportKind.REJECTED and not self.profile.undecided:
                continue  # refused at the door: nobody is told but the sender
            if report.fill is not None:
                self._execute(order, report.fill)
                if report.fill.liquidity == "taker":
                    taken.add(order.terms.symbol)
            self._host.order_changed(order)
        for symbol in taken:
            refill(self.exchange, symbol)

    def _execute(self, order: BookOrder, fill: VenueFill) -> None:
        fees: Fees = [{"currency": fill.fee_currency, "amount": fill.fee_amount}]
        self._add(order, fill.quantity, fill.price, fees, str(fill.liquidity))

    # --- what a test may do ---------------------------------------------------------------------------

    def fill(
        self, order_id: str, quantity: Decimal | str, price: Decimal | str | None = None
    ) -> BookExecution:
        """Fill part of a resting order, at its limit or at a better price. Raises `InvalidInput`."""
        order = self._orders.get(order_id)
        if order is None or order.exchange_id is None:
            raise InvalidInput(f"{order_id} is no order at the exchange.")
        self.exchange.advance(self._host.clock_ns())
        self.exchange.fill(order.exchange_id, Decimal(quantity), None if price is None else Decimal(price))
        self._settle()
        return self._executions[-1]

    def fill_some(self, draw: random.Random) -> BookExecution | None:
        """Fill a random part of a random resting order, up to all of it; None where none rests."""
        resting = [order for order in self.exchange.desk.open.values() if order.level is not None]
        if not resting:
            return None
        working = draw.choice(resting)
        lots = draw.randint(1, working.remaining)
        return self.fill(self._by_exchange[working.order_id].id, working.market.lots.decimal(lots))


def _order_of(body: Mapping[str, Any]) -> Order:
    given = {name: body[name] for name in _TERMS if body.get(name) is not None}
    if given.get("side") not in tuple(Side):
        raise Declined(422, "bad_order", "side is buy or sell")
    order: Order = _checked(lambda: Order(order_type=body.get("type", "market"), **given))
    return order


def _checked(build: Callable[[], Any]) -> Any:
    try:
        return build()
    except InvalidInput as error:
        raise Declined(422, "bad_order", error.message) from None


def _moment(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise Declined(400, "bad_request", f"got {text!r:.60}, expected a time as ISO 8601") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
