"""What changed since the state was last written: the one list that persistence and readers are fed from."""

from __future__ import annotations

from dataclasses import dataclass, field

from .orders import Report, ReportKind, VenueFill
from .working import WorkingOrder


@dataclass(slots=True)
class Changes:
    """Orders, fills and accounts touched, and the reports to send once these are safe."""

    orders: dict[str, WorkingOrder] = field(default_factory=dict)
    fills: list[VenueFill] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.orders or self.fills or self.reports)


_new = tuple.__new__  # the constructors of named tuples cost twice as much, and these are made for each event


class Recorder:
    """Numbers orders, trades and reports, and collects changes until they are drained."""

    __slots__ = (
        "changes",
        "epoch",
        "fills",
        "fills_of",
        "open",
        "order_count",
        "report_count",
        "trade_count",
    )

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.order_count = 0
        self.trade_count = 0
        self.report_count = 0
        self.changes = Changes()
        self.fills: list[VenueFill] = []
        self.fills_of: dict[str, list[VenueFill]] = {}
        #: The orders being worked, oldest first.
        self.open: dict[str, WorkingOrder] = {}

    def next_order(self) -> int:
        """Return the next order number."""
        self.order_count += 1
        return self.order_count

    def next_trade(self) -> int:
        """Return the next trade number."""
        self.trade_count += 1
        return self.trade_count

    def filled(self, fill: VenueFill) -> None:
        """Keep a fill that is new."""
        self.remember(fill)
        self.changes.fills.append(fill)

    def remember(self, fill: VenueFill) -> None:
        """Keep a fill that is known already."""
        self.fills.append(fill)
        self.fills_of.setdefault(fill.venue_order_id, []).append(fill)

    def report(
        self, kind: ReportKind, order: WorkingOrder, now_ns: int, fill: VenueFill | None = None
    ) -> None:
        """Note that an order changed, and report it as it is now."""
        self.report_count += 1
        if order.open:
            self.open[order.order_id] = order
        else:
            self.open.pop(order.order_id, None)
        self.changes.orders[order.order_id] = order
        self.changes.reports.append(_new(Report, (self.report_count, kind, now_ns, order.look(), fill)))

    def changed(self, order: WorkingOrder) -> None:
        """Note that something of an order changed that no report tells."""
        self.changes.orders[order.order_id] = order

    def drain(self) -> Changes:
        """Return what changed and start anew."""
        changes, self.changes = self.changes, Changes()
        return changes
