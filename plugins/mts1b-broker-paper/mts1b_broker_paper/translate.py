"""Pure functions between the simulated exchange's records and the port's."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from mts1b_brokers_core.execution.port import (
    Ack,
    CancelResult,
    Decoded,
    Execution,
    Final,
    Link,
    NoSuch,
    OrderRef,
    OrderView,
    PlaceResult,
    Rejected,
    Taken,
    Terms,
)
from mts1b_brokers_core.foundation import Balance, FeeStatus, Position
from mts1b_brokers_core.foundation.base import LEDGER
from mts1b_brokers_core.platform.clock import from_ns
from mts1b_simulator import (
    BalanceView,
    CancelReply,
    PositionView,
    ReplaceReply,
    Report,
    ReportKind,
    SubmitReply,
    VenueFill,
    VenueOrder,
)


def ref_of(order: VenueOrder) -> OrderRef:
    """Name an order by the exchange's id and our token."""
    return OrderRef(order.venue_order_id, order.token)


def view_of(order: VenueOrder) -> OrderView:
    """Show an order as the exchange had it."""
    terms = order.terms
    return OrderView(
        ref=ref_of(order),
        status=order.status,
        raw_status=str(order.status),
        terms=Terms(
            symbol=terms.symbol,
            side=terms.side,
            quantity=terms.quantity,
            quote_quantity=terms.quote_quantity,
            order_type=terms.order_type,
            limit_price=terms.limit_price,
            stop_price=terms.stop_price,
            time_in_force=terms.time_in_force,
        ),
        cumulative_quantity=order.filled_quantity,
        average_price=order.average_price(),
        cumulative_fees=order.fees,
        reason=order.words or (str(order.reason) if order.reason else None),
        created=from_ns(order.created_ns),
        updated=from_ns(order.updated_ns),
    )


def execution_of(fill: VenueFill) -> Execution:
    """Report a fill; the exchange's trade id is its identity, and its fee is final."""
    return Execution(
        fill_id=fill.trade_id,
        ref=OrderRef(fill.venue_order_id, fill.token),
        symbol=fill.symbol,
        side=fill.side,
        quantity=fill.quantity,
        price=fill.price,
        executed_at=from_ns(fill.at_ns),
        fees=(fill.fee,),
        fee_status=FeeStatus.FINAL,
        liquidity=fill.liquidity,
        source="simulator",
        evidence=fill.evidence,
    )


def decoded(report: Report) -> Sequence[Decoded]:
    """Say what an execution report tells; a refusal is told by the reply alone."""
    if report.kind is ReportKind.GAP:
        return [Link(up=True, data_lost=True, words=f"reports up to {report.sequence} were lost")]
    if report.kind is ReportKind.REJECTED:
        return []
    items: list[Decoded] = []
    if report.fill is not None:
        items.append(execution_of(report.fill))
    if report.order is not None:
        items.append(view_of(report.order))
    return items


def placed(reply: SubmitReply | ReplaceReply) -> PlaceResult:
    """Turn the answer to a submit or replace into the port's."""
    if reply.accepted and reply.order is not None:
        return Ack(ref_of(reply.order), view_of(reply.order))
    return Rejected(str(reply.reason or "other"), reply.words)


def canceled(reply: CancelReply) -> CancelResult:
    """Turn the answer to a cancel into the port's."""
    if reply.taken:
        return Taken()
    if reply.outcome == "final":
        return Final(view_of(reply.order) if reply.order is not None else None)
    return NoSuch()


def balance_of(row: BalanceView, account_id: str) -> Balance:
    """Return a balance as a noun."""
    return Balance(
        currency=row.currency,
        total=row.total,
        available=row.available,
        held=row.held,
        account_id=account_id,
    )


def position_of(row: PositionView, price: Decimal | None, account_id: str) -> Position:
    """Return a position with its worth at a price, in its quote currency."""
    value = profit = None
    if price is not None:
        value = LEDGER.multiply(row.quantity, price)
        if row.average_price is not None:
            profit = LEDGER.subtract(value, LEDGER.multiply(row.quantity, row.average_price))
    return Position(
        symbol=row.symbol,
        quantity=row.quantity,
        available=row.available,
        average_price=row.average_price,
        market_price=price,
        market_value=value,
        unrealized_pnl=profit,
        currency=row.currency,
        account_id=account_id,
    )
