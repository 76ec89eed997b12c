"""Pure functions between the venue's payloads and our nouns; its words for things as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from mts1b_brokers_core.execution.port import (
    Ack,
    CancelResult,
    Execution,
    FeeAmendment,
    Final,
    NoSuch,
    NotPlaced,
    OrderRef,
    OrderView,
    PlaceResult,
    Refused,
    Rejected,
    Taken,
    Terms,
    Ticket,
    Unknown,
    Unreadable,
    VenueProfile,
)
from mts1b_brokers_core.execution.rows import translated
from mts1b_brokers_core.foundation import (
    Account,
    Balance,
    FeeStatus,
    FillKind,
    Instrument,
    InvalidInput,
    Liquidity,
    Money,
    NaiveDatetime,
    OrderStatus,
    OrderType,
    Position,
    Quote,
    Side,
    TimeInForce,
)
from mts1b_brokers_core.foundation.base import plain

from .wire import (
    ReferenceAccount,
    ReferenceBalance,
    ReferenceExecution,
    ReferenceFee,
    ReferenceInstrument,
    ReferenceMoney,
    ReferenceOrder,
    ReferencePosition,
    ReferenceQuote,
    error_of,
    says_not_found,
)

T = TypeVar("T")

#: What a status of the venue means, and whether the venue itself has decided about the order by then.
STATUSES = {
    "accepted": (OrderStatus.PENDING_NEW, False),
    "open": (OrderStatus.NEW, True),
    "partially_filled": (OrderStatus.PARTIALLY_FILLED, True),
    "pending_cancel": (OrderStatus.PENDING_CANCEL, True),
    "filled": (OrderStatus.FILLED, True),
    "cancelled": (OrderStatus.CANCELED, True),
    "rejected": (OrderStatus.REJECTED, True),
    "expired": (OrderStatus.EXPIRED, True),
}

#: Refusals of an order or a change for what it is, in the words that all brokers share; any other that
#: comes with 422 is "other".
REASONS = {
    "insufficient_funds": "insufficient_funds",
    "unknown_symbol": "unknown_symbol",
    "bad_price": "price_increment",
    "bad_quantity": "quantity_increment",
    "post_only": "post_only_would_take",
    "market_closed": "market_closed",
    "final": "order_final",
    "not_working": "not_working",
}

#: Refusals that say nothing about the order, and the seconds after which it may pass; refused logins and
#: permissions are others, which only a person can cure.
NOT_PLACED = {
    "clock": 0.0,  # the refusal's own Date header corrected our idea of the venue's time
    "too_late": 0.0,  # each attempt has a deadline of its own
    "rate_limited": 1.0,  # documented as not executed
}

FEE_STATUSES = {"final": FeeStatus.FINAL, "estimated": FeeStatus.ESTIMATED, "pending": FeeStatus.PENDING}

Fields = dict[str, str | bool | None]

#: What a replace can change here.
CHANGEABLE = frozenset({"limit_price", "stop_price", "quantity"})


# --- values --------------------------------------------------------------------------------------------


def moment(text: str) -> datetime:
    """Read a time; one without a zone is refused."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise NaiveDatetime(f"got {text} without a time zone, expected an aware time.")
    return time.astimezone(UTC)


def text_of(value: str | int | Decimal | datetime) -> str:
    """Write a value as the venue does."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise NaiveDatetime(f"got {value.isoformat()} without a time zone, expected an aware time.")
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return plain(value) if isinstance(value, Decimal) else str(value)


def number(text: str) -> Decimal:
    """Read a number; NaN and the infinities are none."""
    value = Decimal(text)
    if not value.is_finite():
        raise InvalidInput(f"got {text}, expected a finite number.")
    return value


def _number(text: str | None) -> Decimal | None:
    return None if text is None else number(text)


def _money(rows: list[ReferenceMoney]) -> tuple[Money, ...]:
    return tuple(Money(amount=row["amount"], currency=row["currency"]) for row in rows)


def _known(kind: Callable[[str], T], word: str | None) -> T | None:
    """Read a descriptive word; one we don't know is no reason to lose the row."""
    try:
        return None if word is None else kind(word)
    except ValueError:
        return None


# --- from the venue ------------------------------------------------------------------------------------


def view_of(row: ReferenceOrder) -> OrderView:
    """Show an order. A status that is not in the table is an error: nothing is guessed about an order."""
    status, decided = STATUSES[row["status"]]
    return OrderView(
        ref=OrderRef(row["id"], row["client_order_id"]),
        status=status,
        raw_status=row["status"],
        terms=Terms(
            symbol=row["symbol"],
            side=Side(row["side"]),
            quantity=_number(row["quantity"]),
            quote_quantity=_number(row["quote_quantity"]),
            order_type=_known(OrderType, row["type"]),
            limit_price=_number(row["limit_price"]),
            stop_price=_number(row["stop_price"]),
            time_in_force=_known(TimeInForce, row["time_in_force"]),
        ),
        decided=decided,
        cumulative_quantity=number(row["filled_quantity"]),
        average_price=_number(row["average_price"]),
        cumulative_fees=None if row["fees"] is None else _money(row["fees"]),
        reason=REASONS.get(row["reason"] or "", row["reason"]),
        created=moment(row["created"]),
        updated=moment(row["updated"]),
        replaced_by=row["replaced_by"],
    )


def view_in(reply: Mapping[str, Any]) -> OrderView:
    """Show the order that a reply is about."""
    return view_of(reply["order"])


def time_in(reply: Mapping[str, Any]) -> datetime:
    """Return the time that a reply tells."""
    return moment(reply["time"])


def session_in(reply: Mapping[str, Any]) -> str:
    """Return the session that a reply opens."""
    return str(reply["session"])


def execution_of(row: ReferenceExecution, profile: VenueProfile) -> Execution:
    """Report an execution; a bust is the trade it takes back, with a negative quantity."""
    kind, quantity, fees = FillKind(row["kind"]), number(row["quantity"]), row["fees"]
    unknown_fee = FeeStatus.UNAVAILABLE if profile.fee_timing == "never" else FeeStatus.PENDING
    return Execution(
        fill_id=fill_id_of(row["id"], row["order_id"], profile),
        ref=OrderRef(row["order_id"], row["client_order_id"]),
        symbol=row["symbol"],
        side=Side(row["side"]),
        quantity=-abs(quantity) if kind is FillKind.BUST else quantity,
        price=number(row["price"]),
        executed_at=moment(row["executed_at"]),
        fees=None if fees is None else _money(fees),
        fee_status=unknown_fee if fees is None else FeeStatus.FINAL,
        liquidity=_known(Liquidity, row["liquidity"]),
        kind=kind,
        corrects=fill_id_of(row["corrects"], row["order_id"], profile),
        source="reference",
    )


def amendment_of(row: ReferenceFee, profile: VenueProfile) -> FeeAmendment:
    """Report a fee that became known after its fill."""
    fill_id = fill_id_of(row["execution_id"], row["order_id"], profile)
    return FeeAmendment(fill_id or "", _money(row["fees"]), FEE_STATUSES[row["status"]])


def fill_id_of(name: str | None, order_id: str, profile: VenueProfile) -> str | None:
    """Return an execution's id, which some venues make unique only within the order."""
    return f"{order_id}:{name}" if name and profile.fill_identity == "composite" else name


def instrument_of(row: ReferenceInstrument) -> Instrument:
    """Return an instrument; limits that the venue leaves out don't exist there."""
    given = {
        name: value for name, value in row.items() if value is not None and name in Instrument.model_fields
    }
    return Instrument.model_validate(given)


def position_of(row: ReferencePosition, account_id: str) -> Position:
    """Return a position."""
    return Position(
        symbol=row["symbol"],
        quantity=row["quantity"],
        available=row["available"],
        average_price=row["average_price"],
        market_price=row["market_price"],
        currency=row["currency"],
        account_id=account_id,
    )


def account_of(row: ReferenceAccount, broker: str, environment: str) -> Account:
    """Return an account."""
    return Account(
        account_id=row["id"],
        broker=broker,
        environment=environment,
        name=row.get("name", ""),
        currency=row.get("currency", "USD"),
    )


def balance_of(row: ReferenceBalance, account_id: str) -> Balance:
    """Return a balance."""
    return Balance(
        currency=row["currency"],
        total=row["total"],
        available=row["available"],
        held=row["held"],
        account_id=account_id,
    )


def quote_of(row: ReferenceQuote) -> Quote:
    """Return the best bid and ask."""
    return Quote(
        symbol=row["symbol"],
        bid=row["bid"],
        ask=row["ask"],
        bid_size=row["bid_size"],
        ask_size=row["ask_size"],
        at=moment(row["time"]),
        source="reference",
    )


# --- to the venue, and its answers ---------------------------------------------------------------------


def order_fields(ticket: Ticket, deadline: datetime | None = None) -> Fields:
    """Return a new order as the venue wants it; `deadline` is in the venue's time."""
    order = ticket.order
    return {
        "symbol": order.symbol,
        "side": order.side,
        "type": order.order_type,
        "quantity": _optional(order.quantity),
        "quote_quantity": _optional(order.quote_quantity),
        "limit_price": _optional(order.limit_price),
        "stop_price": _optional(order.stop_price),
        "time_in_force": order.time_in_force,
        "post_only": order.post_only or None,
        "client_order_id": ticket.token,
        "deadline": _optional(deadline),
    }


def change_fields(ticket: Ticket) -> Fields:
    """Return what is to change, as fitted to the instrument, under the token of the change."""
    given = ticket.changes.given() if ticket.changes else {}
    changed = {name: _optional(getattr(ticket.order, name)) for name in sorted(CHANGEABLE & given.keys())}
    return {**changed, "client_order_id": ticket.token}


def _optional(value: Decimal | datetime | None) -> str | None:
    return None if value is None else text_of(value)


def placed(status: int, reply: Any) -> PlaceResult:
    """Say what the answer to a new order, or to a change, means."""
    if status in (200, 201):
        view = translated(reply, view_in)
        return Unknown(view.cause) if isinstance(view, Unreadable) else Ack(view.ref, view)
    code, words = error_of(reply)
    if status in (401, 403) or code in NOT_PLACED:
        return NotPlaced(words, NOT_PLACED.get(code))
    if code in REASONS or (status == 422 and code):
        return Rejected(REASONS.get(code, "other"), words)
    return Unknown(f"{status} {code}: {words}")


def canceled(status: int, reply: Any) -> CancelResult:
    """Say what the answer to a cancel means."""
    code, words = error_of(reply)
    if status == 202:
        return Taken()
    if status == 404 and says_not_found(reply):
        return NoSuch()
    if code == "final":
        view = translated(reply, view_in)
        return Final(None if isinstance(view, Unreadable) else view)
    return Refused(words) if status in (401, 403, 422) else Unknown(f"{status} {code}: {words}")
