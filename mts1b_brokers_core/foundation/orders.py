"""Orders, fills and positions, in FIX words."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .base import LEDGER, Currency, Exact, Identifier, Model, Money, NotNegative, Positive, UtcTime, plain
from .errors import InvalidInput
from .ids import uuid7
from .instruments import AssetClass, Symbol, parse_symbol


class Side(StrEnum):
    """Which way the order trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    """How the order is priced."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"


class TimeInForce(StrEnum):
    """How long the order lives. Market and limit on close are market and limit orders with `cls`."""

    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    GTD = "gtd"
    OPG = "opg"
    CLS = "cls"


class OrderStatus(StrEnum):
    """Where the order stands at the venue; an order that was never submitted has none (None)."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    PENDING_CANCEL = "pending_cancel"
    CANCELED = "canceled"
    PENDING_REPLACE = "pending_replace"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        """True where the venue will not work the order any more."""
        return self in _FINAL


_FINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED})


class PositionEffect(StrEnum):
    """Whether the order opens or closes a position; `auto` leaves it to the venue."""

    AUTO = "auto"
    OPEN = "open"
    CLOSE = "close"


class Session(StrEnum):
    """The trading session the order is for."""

    REGULAR = "regular"
    PRE = "pre"
    POST = "post"
    EXTENDED = "extended"


class TriggerBy(StrEnum):
    """The price a stop watches."""

    DEFAULT = "default"
    LAST = "last"
    BID_ASK = "bid_ask"
    MID = "mid"
    MARK = "mark"
    INDEX = "index"


class Contingency(StrEnum):
    """How attached orders hang together."""

    OTO = "oto"
    OCO = "oco"
    OTOCO = "otoco"


class Leg(Model):
    """One leg of a multi-leg order: `ratio` units of the symbol for each unit of the order."""

    symbol: Symbol
    side: Side
    ratio: Positive = Decimal(1)
    position_effect: PositionEffect = PositionEffect.AUTO
    asset_class: AssetClass | None = None


class Adjustment(Model):
    """One difference between what was asked and what was sent, with the reason."""

    field: str
    asked: str
    sent: str
    reason: str


#: What a caller may allow to be adjusted; without it a difference is a denial.
Adjustable = Literal["price", "quantity", "time_in_force", "post_only", "session"]

_LIMIT_PRICED = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_STOP_PRICED = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})

#: The fields that make an order what it is; a retry under the same key must repeat them.
TERMS = (
    "symbol", "asset_class", "side", "quantity", "quote_quantity", "legs", "order_type", "limit_price",
    "stop_price", "trail_amount", "trail_percent", "trail_limit_offset", "trigger_by", "time_in_force",
    "expires_at", "post_only", "reduce_only", "display_quantity", "position_effect", "session",
    "contingency", "account_id",
)  # fmt: skip


# Empty where the order has legs.
_SymbolOrNone = Annotated[
    str, Field(max_length=64), AfterValidator(lambda text: str(parse_symbol(text)) if text else "")
]


class Order(Model):
    """One order: what was asked, and what is known of it.

    Either `symbol`, `side` and one of `quantity` (units) or `quote_quantity` (quote currency); or
    `legs` with a signed net `limit_price` (positive pays). `order_id` is ours, `broker_order_id` the
    venue's, `idempotency_key` the caller's promise that equal keys mean one order. Prices are in
    quote currency, times aware UTC. Raises `InvalidInput` where the terms contradict each other.
    """

    order_id: Identifier = Field(default_factory=uuid7)
    idempotency_key: Identifier = ""
    account_id: str | None = None
    symbol: _SymbolOrNone = ""
    asset_class: AssetClass | None = None
    side: Side = Side.BUY
    quantity: Positive | None = None
    quote_quantity: Positive | None = None
    legs: tuple[Leg, ...] = ()
    order_type: OrderType = OrderType.MARKET
    limit_price: Exact | None = None
    stop_price: Exact | None = None
    trail_amount: Positive | None = None
    trail_percent: Positive | None = None
    trail_limit_offset: NotNegative | None = None
    trigger_by: TriggerBy = TriggerBy.DEFAULT
    time_in_force: TimeInForce = TimeInForce.GTC
    expires_at: UtcTime | None = None
    post_only: bool = False
    reduce_only: bool = False
    display_quantity: Positive | None = None
    position_effect: PositionEffect = PositionEffect.AUTO
    session: Session = Session.REGULAR
    attached: tuple[Order, ...] = ()
    contingency: Contingency | None = None
    allow_adjust: frozenset[Adjustable] = frozenset()
    tag: str = ""

    broker: str | None = None
    broker_order_id: str | None = None
    broker_order_ids: tuple[str, ...] = ()
    parent_order_id: str | None = None
    status: OrderStatus | None = None
    raw_status: str | None = None
    reason: str | None = None
    filled_quantity: NotNegative = Decimal(0)
    average_price: Exact | None = None
    fees: tuple[Money, ...] | None = None
    adjustments: tuple[Adjustment, ...] = ()
    cancel_requested: bool = False
    fills_pending: bool = False
    settled: bool = False
    created_at: UtcTime | None = None
    submitted_at: UtcTime | None = None
    updated_at: UtcTime | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_key(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("idempotency_key"):
            order_id = data.get("order_id")
            order_id = uuid7() if order_id is None else order_id
            return {**data, "order_id": order_id, "idempotency_key": order_id}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problem = _size_problem(self) or _price_problem(self) or _time_problem(self)
        if problem:
            raise InvalidInput(problem)
        return self

    @classmethod
    def market(cls, symbol: str, side: Side, quantity: Any = None, **more: Any) -> Order:
        """Build a market order; pass `quote_quantity=` instead of a quantity to spend an amount."""
        return cls(symbol=symbol, side=side, quantity=quantity, order_type=OrderType.MARKET, **more)

    @classmethod
    def limit(cls, symbol: str, side: Side, quantity: Any = None, *, price: Any, **more: Any) -> Order:
        """Build a limit order at `price` in quote currency."""
        return cls(
            symbol=symbol, side=side, quantity=quantity, order_type=OrderType.LIMIT, limit_price=price, **more
        )

    @classmethod
    def stop(cls, symbol: str, side: Side, quantity: Any, *, stop_price: Any, **more: Any) -> Order:
        """Build a stop order that becomes a market order at `stop_price`."""
        return cls(
            symbol=symbol, side=side, quantity=quantity, order_type=OrderType.STOP,
            stop_price=stop_price, **more,
        )  # fmt: skip

    @classmethod
    def stop_limit(
        cls, symbol: str, side: Side, quantity: Any, *, stop_price: Any, price: Any, **more: Any
    ) -> Order:
        """Build a stop order that becomes a limit order at `price` once `stop_price` is reached."""
        return cls(
            symbol=symbol, side=side, quantity=quantity, order_type=OrderType.STOP_LIMIT,
            limit_price=price, stop_price=stop_price, **more,
        )  # fmt: skip

    @classmethod
    def bracket(
        cls, symbol: str, side: Side, quantity: Any, *, take_profit: Any, stop_loss: Any,
        price: Any = None, stop_loss_limit: Any = None, **more: Any,
    ) -> Order:  # fmt: skip
        """Build an entry with a take-profit limit and a stop-loss attached, one cancelling the other.

        The entry is a market order, or a limit order where `price` is given. The children have ids
        and keys of their own, derived from the entry's, and its account, asset class and session; they
        last as long as an entry that is good for the day or till a date, else until cancelled.
        """
        entry = cls(
            symbol=symbol, side=side, quantity=quantity, limit_price=price,
            order_type=OrderType.MARKET if price is None else OrderType.LIMIT, **more,
        )  # fmt: skip

        lasts = entry.time_in_force in (TimeInForce.DAY, TimeInForce.GTD)

        def child(role: str, kind: OrderType, limit: Any, stop: Any = None) -> Order:
            return cls(
                symbol=symbol, side=entry.side.opposite, quantity=quantity, order_type=kind,
                limit_price=limit, stop_price=stop, idempotency_key=child_key(entry.idempotency_key, role),
                parent_order_id=entry.order_id, position_effect=PositionEffect.CLOSE,
                account_id=entry.account_id, asset_class=entry.asset_class, session=entry.session,
                time_in_force=entry.time_in_force if lasts else TimeInForce.GTC, expires_at=entry.expires_at,
            )  # fmt: skip

        stop_type = OrderType.STOP if stop_loss_limit is None else OrderType.STOP_LIMIT
        profit = child("take-profit", OrderType.LIMIT, take_profit)
        loss = child("stop-loss", stop_type, stop_loss_limit, stop_loss)
        return entry.model_copy(update={"attached": (profit, loss), "contingency": Contingency.OTOCO})

    @property
    def is_final(self) -> bool:
        """True where the venue will not work the order any more."""
        return self.status is not None and self.status.final

    @property
    def remaining_quantity(self) -> Decimal | None:
        """What is not filled yet, in units; None for an order sized in quote currency."""
        return None if self.quantity is None else LEDGER.subtract(self.quantity, self.filled_quantity)

    def terms(self) -> dict[str, Any]:
        """Return what makes the order what it is, as plain data; equal terms mean an equal order."""
        data = self.model_dump(mode="json", include=set(TERMS), exclude_none=True)
        numbers = {name: value for name in data if isinstance(value := getattr(self, name), Decimal)}
        data |= {name: plain(value.normalize(LEDGER)) for name, value in numbers.items()}
        if self.attached:
            data["attached"] = [child.terms() for child in self.attached]
        return data

    def __repr__(self) -> str:
        size = self.quantity or self.quote_quantity or Decimal(0)
        what = plain(size) if self.quantity is not None else f"{plain(size)} quote"
        if self.legs:
            what = f"{what} x {'+'.join(f'{leg.side} {leg.ratio} {leg.symbol}' for leg in self.legs)}"
        else:
            what = f"{self.side} {what} {self.symbol}"
        prices = [f"@{plain(self.limit_price)}"] if self.limit_price is not None else []
        prices += [f"stop {plain(self.stop_price)}"] if self.stop_price is not None else []
        state = str(self.status) if self.status else "not submitted"
        filled = f" filled {plain(self.filled_quantity.normalize(LEDGER))}" if self.filled_quantity else ""
        attached = f" +{len(self.attached)} attached" if self.attached else ""
        text = " ".join([what, str(self.order_type), *prices, str(self.time_in_force)])
        return f"Order({text}{attached} [{state}{filled}] id={self.broker_order_id or self.order_id})"

    __str__ = __repr__


def child_key(key: str, role: str) -> str:
    """Return an attached order's key: the parent's, shortened where needed, and its role."""
    return f"{key[: 127 - len(role)]}:{role}"


def _size_problem(order: Order) -> str | None:
    if order.legs:
        if order.symbol or order.quote_quantity is not None:
            return "an order with legs takes no symbol and no quote_quantity of its own."
        return None if order.quantity is not None else "an order with legs needs a quantity of combinations."
    if not order.symbol:
        return "the symbol is missing."
    if "side" not in order.model_fields_set:
        return "the side is missing: buy or sell."
    if (order.quantity is None) == (order.quote_quantity is None):
        both = "both were given" if order.quantity is not None else "neither was given"
        return f"exactly one of quantity and quote_quantity is expected, {both}."
    if order.display_quantity is not None and order.quantity is not None:
        return "display_quantity is above quantity." if order.display_quantity > order.quantity else None
    return None


def _price_problem(order: Order) -> str | None:
    for name, kinds in (("limit_price", _LIMIT_PRICED), ("stop_price", _STOP_PRICED)):
        wanted, given = order.order_type in kinds, getattr(order, name) is not None
        if wanted and not given:
            return f"a {order.order_type} order needs a {name}."
        if given and not wanted and order.order_type is not OrderType.TRAILING_STOP:
            return f"a {order.order_type} order takes no {name}."
    trails = (order.trail_amount is not None) + (order.trail_percent is not None)
    if order.order_type is OrderType.TRAILING_STOP and trails != 1:
        return "a trailing_stop order needs exactly one of trail_amount and trail_percent."
    if order.order_type is not OrderType.TRAILING_STOP and (trails or order.trail_limit_offset is not None):
        return f"a {order.order_type} order takes no trail."
    if order.post_only and order.order_type in (OrderType.MARKET, OrderType.STOP):
        return f"a {order.order_type} order always takes liquidity and can't be post_only."
    return None


def _time_problem(order: Order) -> str | None:
    if (order.time_in_force is TimeInForce.GTD) != (order.expires_at is not None):
        return "expires_at goes with time_in_force gtd, and only with it."
    if order.post_only and order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
        return f"post_only and {order.time_in_force} contradict each other."
    if order.contingency is not None and not order.attached:
        return "a contingency needs attached orders."
    if order.attached and order.contingency is None:
        return "attached orders need a contingency: oto, oco or otoco."
    keys = [order.idempotency_key, *(child.idempotency_key for child in order.attached)]
    if len(set(keys)) != len(keys):
        return "attached orders need idempotency keys of their own."
    return None


class OrderChanges(Model):
    """What a replace changes; fields left None stay. `quantity` is the new total, fills included."""

    quantity: Positive | None = None
    limit_price: Exact | None = None
    stop_price: Exact | None = None
    trail_amount: Positive | None = None
    trail_percent: Positive | None = None
    time_in_force: TimeInForce | None = None
    expires_at: UtcTime | None = None

    def given(self) -> dict[str, Any]:
        """Return only what was given."""
        return {name: value for name, value in self.__dict__.items() if value is not None}


class FillKind(StrEnum):
    """A trade, or a bust that takes an earlier trade back."""

    TRADE = "trade"
    BUST = "bust"


class FeeStatus(StrEnum):
    """How sure the fee on a fill is."""

    FINAL = "final"
    PENDING = "pending"
    ESTIMATED = "estimated"
    ALLOCATED = "allocated"
    UNAVAILABLE = "unavailable"


class Liquidity(StrEnum):
    """Whether the fill added liquidity to the book or took it."""

    MAKER = "maker"
    TAKER = "taker"


class AccountFee(Model):
    """A fee converted to the account's currency, with the rate used, where it is from and when."""

    amount: Exact
    currency: Currency
    rate: Positive
    rate_source: str
    rate_at: UtcTime


class Fill(Model):
    """One execution as the log holds it.

    `seq` numbers the executions of one broker instance without gaps in the order we learned of them;
    0 means not logged yet. `fill_id` is unique per broker and account. Summing quantities is always
    right: a bust has a negative quantity at the old price. `fees` is None until known, never zero in
    its place. Price in quote currency, times aware UTC.
    """

    seq: Annotated[int, Field(ge=0)] = 0
    fill_id: Identifier
    kind: FillKind = FillKind.TRADE
    corrects: str | None = None
    order_id: str
    broker_order_id: str | None = None
    account_id: str | None = None
    broker: str = ""
    symbol: Symbol
    leg: int | None = None
    side: Side
    quantity: Exact
    price: Exact
    fees: tuple[Money, ...] | None = None
    fee_status: FeeStatus = FeeStatus.PENDING
    account_fee: AccountFee | None = None
    liquidity: Liquidity | None = None
    executed_at: UtcTime
    recorded_at: UtcTime | None = None
    derived: bool = False
    source: str = ""
    evidence: dict[str, str] = Field(default_factory=dict)

    def __repr__(self) -> str:
        fees = " + ".join(map(repr, self.fees)) if self.fees is not None else self.fee_status
        bust = "bust " if self.kind is FillKind.BUST else ""
        return (
            f"Fill({bust}{self.side} {plain(self.quantity)} {self.symbol} @{plain(self.price)} "
            f"fees={fees} seq={self.seq} id={self.fill_id})"
        )

    __str__ = __repr__


class Position(Model):
    """What is held of one instrument: `quantity` in units, negative when short.

    Prices and money are in `currency`; `average_price` is the average cost of what is held.
    """

    symbol: Symbol
    asset_class: AssetClass | None = None
    quantity: Exact
    available: Exact | None = None
    average_price: Exact | None = None
    market_price: Exact | None = None
    market_value: Exact | None = None
    realized_pnl: Exact | None = None
    unrealized_pnl: Exact | None = None
    currency: Currency | None = None
    account_id: str | None = None
    broker: str = ""
    as_of: UtcTime | None = None

    repr_fields = ("symbol", "quantity", "average_price", "market_value", "unrealized_pnl", "currency")
