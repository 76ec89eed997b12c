"""An order as the exchange works it: integers for matching, its holds, and the decimals callers see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mts1b_brokers_core.foundation.orders import Order, OrderStatus, Side

from .accounts import CashAccount
from .book import BUY, SELL, RestingOrder
from .orders import Refusal, VenueOrder
from .units import from_units

if TYPE_CHECKING:
    from .market import Market


class WorkingOrder(RestingOrder):
    """One order from acceptance to its end; `quantity` and `filled` in lots, money in ledger units."""

    __slots__ = (
        "accepted_ns",
        "account",
        "ahead",
        "ahead_at_acceptance",
        "cap",
        "created_ns",
        "dearest_rate",
        "expires_ns",
        "fee_charged",
        "fee_numerator",
        "filled",
        "hold",
        "limit",
        "maker_rate",
        "market",
        "number",
        "post_only",
        "quantity",
        "reason",
        "seen",
        "status",
        "stop",
        "taker_rate",
        "taking",
        "terms",
        "terms_text",
        "token",
        "triggered",
        "updated_ns",
        "value",
        "words",
    )  # fmt: skip

    market: Market
    account: CashAccount

    def __init__(self, number: int, order_id: str, token: str, terms: Order, owner: str, now_ns: int) -> None:
        super().__init__(order_id, BUY if terms.side is Side.BUY else SELL, 0, 0, owner)
        self.number = number
        self.token = token
        self.terms = terms
        #: The terms as they are stored, once they were.
        self.terms_text: str | None = None
        self.quantity = 0
        self.filled = 0
        self.value = 0
        self.limit: int | None = None
        self.stop: int | None = None
        #: The price (ticks) at which the hold is reckoned.
        self.cap = 0
        self.maker_rate = self.taker_rate = self.dearest_rate = 0
        self.post_only = terms.post_only
        #: True for a limit on bars alone that was beyond the last close: it fills as a taker.
        self.taking = False
        self.fee_numerator = 0
        self.fee_charged = 0
        self.hold: dict[str, int] = {}
        self.status: OrderStatus = OrderStatus.PENDING_NEW
        self.triggered = False
        self.reason: Refusal | None = None
        self.words = ""
        #: What the last report told.
        self.seen: VenueOrder | None = None
        self.created_ns = self.updated_ns = self.accepted_ns = now_ns
        self.expires_ns: int | None = None
        #: Displayed lots that stand before it, None where the feed doesn't show them.
        self.ahead: int | None = None
        self.ahead_at_acceptance: int | None = None

    @property
    def open(self) -> bool:
        """True while the exchange works the order."""
        return self.status is OrderStatus.NEW or self.status is OrderStatus.PARTIALLY_FILLED

    def view(self) -> VenueOrder:
        """Return the order as it was last reported, in decimals; nothing of it changes unreported."""
        return self.seen or self.look()

    def look(self) -> VenueOrder:
        """Take down the order as it is now."""
        market: Market | None = getattr(self, "market", None)
        if market is None or not self.filled:
            filled = value = _ZERO
            fee, paid_in = _ZERO, ""
        else:
            filled = market.lots.decimal(self.filled)
            value = from_units(self.value, market.quote_digits)
            fee, paid_in = from_units(self.fee_charged, market.fee_digits), market.meter.currency
        self.seen = _new(VenueOrder, (
            self.order_id, self.token, self.owner or "", self.terms, self.status, filled, value, fee, paid_in,
            self.created_ns, self.updated_ns, self.expires_ns, self.triggered, self.reason, self.words,
        ))  # fmt: skip
        return self.seen


_ZERO = from_units(0, 0)
_new = tuple.__new__  # the named tuple's own constructor costs twice as much
