"""What happens at a broker, as one kind of record for streams and observers."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Model, UtcTime
from .orders import Fill, Order


class EventKind(StrEnum):
    """The kinds of `BrokerEvent`."""

    FILL = "fill"
    BUST = "bust"
    FEE_AMENDED = "fee_amended"
    STATUS = "status"
    REPLACED = "replaced"
    BOUND = "bound"
    LATE = "late"
    DUPLICATE = "duplicate"
    RESOLVED = "resolved"
    SUM_EXCEEDED = "sum_exceeded"
    SETTLED = "settled"
    GAP_OPEN = "gap_open"
    GAP_CLOSED = "gap_closed"
    HALTED = "halted"
    RESUMED = "resumed"
    REQUEST_SENT = "request_sent"
    OUTCOME = "outcome"
    LIMITER_WAIT = "limiter_wait"
    SKEW = "skew"
    LINK_UP = "link_up"
    LINK_DOWN = "link_down"
    UNREADABLE = "unreadable"
    FAILED = "failed"


class BrokerEvent(Model):
    """One event of one broker instance.

    `seq` is the number of the last execution logged by then, the event's own where it is one: so a
    reader who keeps `seq` misses nothing. `offset` orders all logged events densely; 0 marks an event
    that is only observed, not logged. Times are aware UTC.
    """

    kind: EventKind
    broker: str = ""
    at: UtcTime
    seq: int = 0
    offset: int = 0
    account_id: str | None = None
    order_id: str | None = None
    broker_order_id: str | None = None
    idempotency_key: str | None = None
    order: Order | None = None
    fill: Fill | None = None
    message: str = ""
    detail: dict[str, str] = Field(default_factory=dict)

    repr_fields = ("kind", "broker", "seq", "order_id", "message", "detail")
