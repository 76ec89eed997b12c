"""One commit's worth of what the venue reports, merged into the orders it concerns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from mts1b_brokers_core.foundation.base import LEDGER, Money, plain
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.orders import FeeStatus, Fill, FillKind, Order, OrderStatus
from mts1b_brokers_core.platform.clock import to_ns

from . import journal, parking
from .eventlog import Appender
from .fees import shares
from .journal import OPEN_QUESTIONS, Record, State
from .merge import Part, add_fees, apply, left_behind, less_fees, mean, negated, with_fills
from .named import fields_of, identified
from .port import Execution, FeeAmendment, OrderRef, OrderView, VenueProfile
from .replaced import change_seen
from .sound import changed, contradiction
from .writing import bind_children, tell

#: How far ahead of every clock a time may be that dates a view; one further ahead would make all others old.
_AHEAD = timedelta(seconds=60)
_FOR_A_PERSON = (State.AMBIGUOUS, State.DUPLICATE)
Name = tuple[str, str | None, str | None]
_NO_REF = OrderRef()


@dataclass(slots=True)
class Ingested:
    """What one call changed.

    `held` are terminal views kept back until their fills are here, `past` the keys of those that no longer
    count, `lacking` all orders of which the venue counts more than is logged, by key; `reread` orders whose
    own count has to be read, and `fills` when the executions happened that were new.
    """

    orders: dict[str, Order] = field(default_factory=dict)
    held: dict[str, OrderView] = field(default_factory=dict)
    past: set[str] = field(default_factory=set)
    lacking: dict[str, OrderRef] = field(default_factory=dict)
    reread: list[OrderRef] = field(default_factory=list)
    fills: list[datetime] = field(default_factory=list)
    #: What contradicts the log: the cause, and the words that do.
    odd: list[tuple[str, str]] = field(default_factory=list)
    parked: bool = False


@dataclass(slots=True)
class _Row:
    """One order while it is merged: as it was read, and as it stands."""

    was: Record
    now: Record
    #: Fills logged but not counted to the order yet.
    waiting: list[Fill] = field(default_factory=list)
    #: How much more can fill before an event tells of it; None where that has to be worked out anew.
    room: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every commit: whose orders, at which kind of venue, and how long executions may wait.

    `exceeding` names what contradicts the log and was told of already.
    """

    account_id: str
    profile: VenueProfile
    park: timedelta
    exceeding: set[str] = field(default_factory=set)


class Books:
    """Merges what is seen; each order is read once and written once, in `close`.

    `overtaken` is given where orders were read by id: the keys of those that changed since they were asked.
    """

    def __init__(
        self, log: Appender, rules: Rules, *, release: bool = False, venue_now: datetime | None = None,
        overtaken: Container[str] | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        self._account_id, self._profile, self._park = rules.account_id, rules.profile, rules.park
        self._exceeding = rules.exceeding
        #: True where executions come with ids that are unique.
        self._named = rules.profile.fill_identity == "native"
        self._release = release
        self._overtaken = overtaken
        self._latest = max(filter(None, (log.now, venue_now))) + _AHEAD
        self._rows: dict[str, _Row] = {}
        self._keys: dict[Name, str | None] = {}
        self._bound_here: dict[tuple[str, str | None], str] = {}
        self._alike: Counter[str] = Counter()
        self._children: list[tuple[str, Sequence[OrderRef]]] = []
        self.result = Ingested()

    def close(self) -> Ingested:
        """Write every order that changed."""
        self.merge()
        for row in self._rows.values():
            if row.now is not row.was:
                row.now = journal.put(self._log.connection, row.was, row.now, self._log.now_ns)
                if row.now.key in self.result.orders:
                    self.result.orders[row.now.key] = row.now.order
        for key, refs in self._children:
            record = journal.get(self._log.connection, key)
            assert record is not None
            bind_children(self._log, record, refs)
        return self.result

    def _become(self, row: _Row, now: Record, *, settle: bool) -> None:
        if now.order.broker_order_ids is not row.now.order.broker_order_ids:
            self._bound_here |= {(now.account_id, name): now.key for name in now.order.broker_order_ids}
        row.now, row.room = tell(self._log, row.now, now, settle=settle), None
        self.result.orders[now.key] = row.now.order

    def merge(self) -> None:
        """Count every fill that waits to its order."""
        for row in self._rows.values():
            if row.waiting:
                self._merge(row, _NO_REF)

    def _at(self, account: str, ref: OrderRef) -> _Row | None:
        row = self._find(account, ref)
        if row is not None and row.waiting:
            self._merge(row, _NO_REF)
        return row

    def _find(self, account: str, ref: OrderRef) -> _Row | None:
        name = (account, ref.broker_order_id, ref.token)
        key = self._bound_here.get(name[:2]) or self._keys.get(name, "")
        if key == "":
            record = journal.at_venue(self._log.connection, account, ref)
            key = self._keys[name] = record.key if record else None
            if record is not None and record.key not in self._rows:
                self._rows[record.key] = _Row(record, record)
        return None if key is None else self._rows[key]

    # --- executions -----------------------------------------------------------------------------

    def execution(self, seen: Execution, *, parked: bool = False) -> None:
        """Log one execution, unless it is logged, and count it to its order."""
        if self._profile.fill_identity == "cumulative" and not seen.derived:
            self.result.reread.append(seen.ref)  # the order's own count is the one authority
            return
        if not self._named or seen.fill_id is None or seen.kind is FillKind.BUST:
            seen = identified(seen, self._profile.fill_identity, self._alike)
        account = seen.account_id or self._account_id
        if seen.kind is FillKind.BUST and seen.corrects:
            self.result.reread.append(seen.ref)
            self._take_back(account, seen.corrects, seen)
            return
        fill_id = str(seen.fill_id)
        fee_open = self._log.rows.fee_open(account, fill_id)
        if fee_open is not None:
            self._compare(account, seen)
            if fee_open and seen.fees is not None:
                self.amend(FeeAmendment(fill_id, seen.fees, seen.fee_status, account))
            return
        row = self._find(account, seen.ref)
        if row is not None and (why := contradiction(seen, row.now.order)) is not None:
            raise InvalidInput(f"{why}.")
        fields = fields_of(seen, row.now if row else None, account)
        if row is None and not parked and parking.could_own(self._log.connection, account, seen):
            self.result.parked = True
            parking.park(self._log.connection, account, seen, to_ns(self._log.now + self._park))
            return
        void = self._log.rows.is_void(account, fill_id)
        if row is not None and not void and self._exceeds(row, seen):
            return
        if seen.corrects:
            self._take_back(account, seen.corrects, None)
        if not void:
            self._add(fields, row, seen.ref, account)

    def _compare(self, account: str, seen: Execution) -> None:
        """Tell, once, of an execution that comes again as another one."""
        fill = self._log.rows.fill(account, str(seen.fill_id))
        row = self._find(account, seen.ref)
        why = changed(seen, fill, row.now.order.broker_order_ids if row else ()) if fill else None
        if why is not None and why not in self._exceeding:
            self._exceeding.add(why)
            self.result.odd.append((why, repr(seen)))

    def _exceeds(self, row: _Row, seen: Execution) -> bool:
        """Refuse an execution whose id is our own making where it would fill more than was ordered."""
        asked = row.now.order.quantity
        if self._profile.fill_identity != "content" or asked is None:
            return False
        if row.waiting:
            self._merge(row, _NO_REF)
        if LEDGER.add(row.now.logged.quantity, seen.quantity) <= asked:
            return False
        why = f"{plain(seen.quantity)} more would be above the {plain(asked)} ordered; {seen.fill_id} is held"
        if seen.fill_id not in self._exceeding:  # each reading shows it again
            self._exceeding.add(str(seen.fill_id))
            self._log.event(EventKind.SUM_EXCEEDED, row.now.order, why)
        return True

    def _add(self, fields: dict[str, Any], row: _Row | None, ref: OrderRef, account: str) -> None:
        fill = self._log.fill(fields)
        self.result.fills.append(fill.executed_at)
        if row is not None:
            row.waiting.append(fill)
            if not _may_wait(row, fill):
                self._merge(row, ref)
        if self._profile.fee_timing != "with_fill":
            early = parking.early_fee(self._log.connection, account, fill.fill_id)
            if early is not None:
                self.amend(early)

    def _merge(self, row: _Row, ref: OrderRef) -> None:
        """Count the fills that wait to their order."""
        fills, row.waiting = row.waiting, []
        record = _reopened(row.now) if row.now.state is State.REJECTED else row.now
        logged = record.logged.with_fills(fills)
        merged = with_fills(record.order, fills, logged.total)
        order, state = self._bound(record, merged, ref, None)
        # A fill proves that the venue took the order, whatever we knew before.
        if state is None and record.state in OPEN_QUESTIONS:
            state = State.CONFIRMED
        self._late(record, order)
        asked = None if order.legs else order.quantity
        if asked is not None and logged.quantity > asked and record.key not in self._exceeding:
            self._exceeding.add(record.key)
            why = f"{plain(logged.quantity)} filled, above the {plain(asked)} ordered"
            self._log.event(EventKind.SUM_EXCEEDED, order, why)
        now = replace(record, order=order, logged=logged, state=state or record.state)
        if busted := fills[-1].kind is FillKind.BUST:
            self.result.past.add(record.key)
        # Where only a view of the order tells its fees, one is read before it is settled.
        self._become(row, now, settle=not busted and self._profile.fee_timing != "order_level")

    def _take_back(self, account: str, corrects: str, bust: Execution | None) -> None:
        """Log the opposite of an execution; of one that isn't logged, see that it never is."""
        if not self._log.rows.void(account, corrects):
            return
        old = self._log.rows.fill(account, corrects)
        if old is None:
            row = self._at(account, bust.ref) if bust else None
            if row is not None and bust is not None:  # what the venue counted before may have included it
                order = row.now.order
                filled = max(row.now.logged.quantity, LEDGER.add(order.filled_quantity, bust.quantity))
                self.result.past.add(row.now.key)
                if filled < order.filled_quantity:
                    now = replace(row.now, order=order.evolve(filled_quantity=filled))
                    self._become(row, now, settle=False)
            return
        ref = OrderRef(old.broker_order_id)
        told = bust or Execution(
            f"{corrects}:bust", ref, old.symbol, old.side, -old.quantity, old.price, old.executed_at,
            source=old.source, derived=True,
        )  # fmt: skip
        back = replace(
            told, ref=ref, symbol=old.symbol, side=old.side, quantity=-old.quantity, price=old.price,
            kind=FillKind.BUST, corrects=corrects, leg=old.leg, fee_status=old.fee_status,
            fees=told.fees or _taken_back(old.fees),
        )  # fmt: skip
        row = self._at(account, ref)
        self._add(fields_of(back, row.now if row else None, account), row, ref, account)

    # --- orders ---------------------------------------------------------------------------------

    def view(self, view: OrderView) -> None:
        """Merge one order view into the order it shows, where that is one of ours."""
        if view.updated is not None and view.updated > self._latest:
            view = replace(view, updated=None)
        account = view.account_id or self._account_id
        row = self._at(account, view.ref)
        before = row.now.order.updated_at if row else None
        if row is not None and row.now.state is State.REJECTED:
            if view.status.final and not view.cumulative_quantity:
                return
            row.now = _reopened(row.now)
        if row is not None and row.now.state not in _FOR_A_PERSON:
            record = row.now  # bound first: what is logged of the id already counts before any cut
            order, state = self._bound(record, record.order, view.ref, view.replaced_by)
            if order is not record.order:
                now = replace(record, order=order, state=state or record.state)
                self._become(row, now, settle=record.order.settled)
        told = view
        if self._profile.fill_identity == "cumulative" and view.cumulative_quantity is not None:
            if self._outdated(view, row, account):
                if row is not None and view.cumulative_quantity > self._logged_of(row.now, view):
                    self._ask_again(view)
                view = replace(view, cumulative_quantity=None, average_price=None, cumulative_fees=None)
            self._cut(view, row, account)
        if row is None or row.now.state in _FOR_A_PERSON:
            return
        self._show(row, view, told)
        if view.cumulative_fees is not None and self._profile.fee_timing == "order_level":
            self._allocate(row, view, account, before)
        if view.children and row.now.order.attached:
            self._children.append((row.now.key, [OrderRef(child) for child in view.children]))

    def _show(self, row: _Row, view: OrderView, told: OrderView) -> None:
        """Merge what a view shows; it has no count where the one the venue `told` is outdated."""
        record, outdated = row.now, view is not told
        renames = self._profile.replace == "new_id"
        order = change_seen(self._log, record, record.order, view, renames=renames)
        shown = self._ready(record, view)
        if outdated and record.key in self.result.held:
            self.result.held[record.key] = told
        lacks = outdated or self._lacks(record, view)
        logged = record.logged.total if view.updated is not None or self._busted(record, view) else None
        order = apply(order, self._over_chain(record, shown), logged=logged, reopens=self._profile.reopens)
        if shown is view and order.is_final and lacks:
            order = order.evolve(fills_pending=True)
        elif shown is view and order.fills_pending and view.cumulative_quantity is not None:
            order = order.evolve(fills_pending=False)
        state = _state_seen(record, view)
        if state is not None:
            self._late(record, order)
        counted = view.cumulative_quantity in (None, self._logged_of(record, view))
        counted = counted and not (lacks or self._unproven(record, view))
        if self._profile.fee_timing == "order_level" and view.cumulative_fees is None:
            counted = counted and not record.logged.quantity
        ends = order.is_final and not order.settled and counted
        if order is not record.order or state is not None or ends:
            now = replace(record, order=order, state=state or record.state)
            self._become(row, now, settle=counted or order.settled)

    def _outdated(self, view: OrderView, row: _Row | None, account: str) -> bool:
        """Tell whether a count is older than what was seen already.

        A higher one is news whatever its date, once the venue was asked for it: it may be from before a bust.
        """
        name = view.ref.broker_order_id or (row.now.order.broker_order_id if row else None)
        if view.updated is None or name is None:
            return False
        if row is not None and row.now.order.broker_order_ids == (name,):
            told, logged = row.now.order.updated_at, self._logged_of(row.now, view)
            if told is None or view.updated >= told or view.cumulative_quantity == logged:
                return False
            if not self._answers(row) or (view.cumulative_quantity or 0) < logged:
                return True
        # Of one of several ids, too: what is told of the others says nothing of this one.
        fills = self._log.rows.fills_at(account, name)
        told = max((fill.executed_at for fill in fills if fill.kind is FillKind.BUST), default=None)
        return told is not None and view.updated < told

    def _answers(self, row: _Row | None) -> bool:
        """Tell whether an order was asked for since it last changed: its count is news whatever its date."""
        return self._overtaken is not None and row is not None and row.now.key not in self._overtaken

    def _cut(self, view: OrderView, row: _Row | None, account: str) -> None:
        """Make the execution that lies between what is logged of a venue order and what it counts."""
        name = view.ref.broker_order_id or (row.now.order.broker_order_id if row else None)
        count, average, terms = view.cumulative_quantity, view.average_price, view.terms
        if name is None or count is None:
            return
        if row is None and (terms.symbol is None or terms.side is None):
            return
        known = row.now.order if row else None
        if row is not None:
            logged, told = row.now.logged.of(name), row.now.order.updated_at
        else:
            logged, told = self._logged_at(account, name)
        change = LEDGER.subtract(count, logged.quantity)
        stale = row is None and view.updated is not None and told is not None and view.updated < told
        fell = change < 0 and not _newer(view, told)
        if fell and view.updated == told and self._answers(row):
            fell = False  # two changes within one tick of the venue's clock
        if not change or stale or fell or (average is None and count):
            return
        value = LEDGER.multiply(average or Decimal(0), count)
        price = mean(Part(change, LEDGER.subtract(value, logged.value))) or Decimal(0)
        if average and price * average <= 0:
            # An average that the venue rounds can leave a last cut without a sensible price of its own.
            price = average
        fees = less_fees(view.cumulative_fees, self._fees_at(row, account, name)) if row else None
        if self._profile.fee_timing != "with_fill" and not any(fee.amount for fee in fees or ()):
            fees = None  # not known yet
        cut = Execution(
            fill_id=self._cut_id(account, f"{name}:{plain(logged.quantity)}-{plain(count)}"),
            ref=OrderRef(name, view.ref.token),
            symbol=known.symbol if known else str(terms.symbol),
            side=known.side if known else (terms.side or Order.model_fields["side"].default),
            quantity=change, price=price, fees=fees,
            fee_status=FeeStatus.FINAL if fees else FeeStatus.PENDING,
            kind=FillKind.TRADE if change > 0 else FillKind.BUST,
            executed_at=view.updated or self._log.now, account_id=account, source="order", derived=True,
        )  # fmt: skip
        young = (view.created or view.updated or self._log.now) + self._park > self._log.now
        if row is None and young and parking.could_own(self._log.connection, account, cut):
            return  # its count is cut once it is known whose it is
        self._add(fields_of(cut, row.now if row else None, account), row, cut.ref, account)

    def _logged_at(self, account: str, broker_order_id: str) -> tuple[Part, datetime | None]:
        """Return how much is logged of somebody else's order, and of which moment the last of it is."""
        total, at = Part(), None
        for fill in self._log.rows.fills_at(account, broker_order_id):
            total, at = total.plus(Part.of(fill)), fill.executed_at
        return total, at

    def _fees_at(self, row: _Row, account: str, name: str) -> tuple[Money, ...] | None:
        """Return the fees that are known of one of an order's venue ids."""
        if len(row.now.order.broker_order_ids) < 2:
            return row.now.order.fees
        fees: tuple[Money, ...] | None = None
        for fill in self._log.rows.fills_at(account, name):
            fees = add_fees(fees, fill.fees)
        return fees

    def _busted(self, record: Record, view: OrderView) -> bool:
        """Tell whether an order counts more than the venue and the log because something was taken back."""
        count = view.cumulative_quantity
        if count is None or count >= record.order.filled_quantity:
            return False
        return self._was_busted(record, view)

    def _was_busted(self, record: Record, view: OrderView) -> bool:
        name = view.ref.broker_order_id or record.order.broker_order_id or ""
        return any(fill.kind is FillKind.BUST for fill in self._log.rows.fills_at(record.account_id, name))

    def _cut_id(self, account: str, name: str) -> str:
        """Return a cut's id; after a bust the same bounds can come again."""
        made, n = name, 1
        while self._log.rows.fee_open(account, made) is not None:
            n += 1
            made = f"{name}#{n}"
        return made

    def _ready(self, record: Record, view: OrderView) -> OrderView:
        """Return the view as it may be shown: an end waits until the fills before it are logged."""
        if not self._lacks(record, view):
            self.result.lacking.pop(record.key, None)
            if self._unproven(record, view):
                self.result.held[record.key] = view
                self._ask_again(view)
            elif view.status.final:
                self.result.past.add(record.key)
            return view
        self.result.lacking[record.key] = view.ref
        if (view.cumulative_quantity or 0) <= self._logged_of(record, view):
            self._ask_again(view)
        ended = record.order.is_final  # what is shown already needs no holding
        if not view.status.final or ended or self._release or left_behind(record.order, view):
            return view
        self.result.held[record.key] = view
        return replace(view, status=OrderStatus.PARTIALLY_FILLED, raw_status="")

    def _logged_of(self, record: Record, view: OrderView) -> Decimal:
        return record.logged.of(view.ref.broker_order_id or record.order.broker_order_id).quantity

    def _lacks(self, record: Record, view: OrderView) -> bool:
        """Tell whether a view says more than is logged: by its count, or by calling the order filled."""
        logged, asked = self._logged_of(record, view), _asked(record.order, view)
        if (view.cumulative_quantity or 0) > logged:
            return True
        if view.status is not OrderStatus.FILLED or asked is None or logged >= asked:
            return False
        # A count below what was ordered that is logged in full is the venue's word after a bust, seen or not.
        return not view.cumulative_quantity and not self._was_busted(record, view)

    def _unproven(self, record: Record, view: OrderView) -> bool:
        """Tell whether an end shows no count: executions that nobody has seen may precede it."""
        if not view.status.final or view.cumulative_quantity is not None or left_behind(record.order, view):
            return False
        full = view.status is OrderStatus.FILLED and _asked(record.order, view) is not None
        return not self._release and not full and not record.order.settled

    def _ask_again(self, view: OrderView) -> None:
        if view.ref not in self.result.reread:
            self.result.reread.append(view.ref)

    def _over_chain(self, record: Record, view: OrderView) -> OrderView:
        """Return a view whose count includes what the order's earlier venue ids filled."""
        count, name = view.cumulative_quantity, view.ref.broker_order_id
        if count is None or (len(record.logged.parts) < 2 and name in (None, *record.logged.parts)):
            return view
        rest = LEDGER.subtract(record.logged.quantity, self._logged_of(record, view))
        return (
            replace(view, cumulative_quantity=LEDGER.add(count, rest), average_price=None) if rest else view
        )

    def _late(self, record: Record, order: Order) -> None:
        if record.state is State.NOT_PLACED:
            why = "an order that was taken for absent or refused is at the venue"
            self._log.event(EventKind.LATE, order, why)

    def _bound(
        self, record: Record, order: Order, ref: OrderRef, replaced_by: str | None
    ) -> tuple[Order, State | None]:
        """Bind a venue id; one more id that nothing links to the first is a second order under the key."""
        new, known = ref.broker_order_id, order.broker_order_ids
        if new is None or new in known:
            return order, None
        if not known or replaced_by in known:
            return apply(order, OrderView(OrderRef(new), OrderStatus.UNKNOWN)), None
        if journal.open_changes(self._log.connection, record.key):  # it may be the changed order's own id
            current = OrderRef(order.broker_order_id)
            order = apply(order, OrderView(current, OrderStatus.UNKNOWN, replaced_by=new))
            if order.status is OrderStatus.CANCELED:  # that was the end of the id left behind
                working = OrderStatus.PARTIALLY_FILLED if order.filled_quantity else OrderStatus.NEW
                order = order.evolve(status=working, raw_status=None)
            return order, None
        order = order.evolve(broker_order_ids=(*known, new))
        self._log.event(EventKind.DUPLICATE, order, f"{new} beside {order.broker_order_id}, under one key")
        return order, State.DUPLICATE

    # --- fees -----------------------------------------------------------------------------------

    def amend(self, amendment: FeeAmendment) -> None:
        """Write a fee that became known, or changed, after its fill; one that is early waits for it."""
        account = amendment.account_id or self._account_id
        fill = self._log.rows.fill(account, amendment.fill_id)
        if fill is None:
            parking.hold_fee(self._log.connection, account, amendment)
            return
        if (fill.fees, fill.fee_status) == (amendment.fees, amendment.fee_status):
            return
        amended = fill.evolve(fees=amendment.fees, fee_status=amendment.fee_status)
        self._log.amend(amended)
        row = self._at(account, OrderRef(fill.broker_order_id))
        if row is not None:
            fees = add_fees(less_fees(row.now.order.fees, fill.fees), amendment.fees)
            row.now = replace(row.now, order=row.now.order.evolve(fees=fees))
        self._log.event(
            EventKind.FEE_AMENDED, row.now.order if row else None, _words(amendment.fees),
            fill_id=fill.fill_id, seq=str(fill.seq), status=str(amendment.fee_status),
        )  # fmt: skip
        if self._log.rows.is_void(account, fill.fill_id):
            for back in self._log.rows.fills_at(account, fill.broker_order_id or ""):
                opposite = back.fees == _taken_back(fill.fees)
                if opposite and back.kind is FillKind.BUST and back.corrects == fill.fill_id:
                    fees = negated(amendment.fees)
                    self.amend(FeeAmendment(back.fill_id, fees, amendment.fee_status, account))

    def _allocate(self, row: _Row, view: OrderView, account: str, before: datetime | None) -> None:
        """Share what an order's fees have grown by among its fills that have none, or else the last."""
        name = view.ref.broker_order_id or row.now.order.broker_order_id or ""
        grown = less_fees(view.cumulative_fees, self._fees_at(row, account, name)) or ()
        fell = any(fee.amount < 0 for fee in grown) and not _newer(view, before)
        if fell or not any(fee.amount for fee in grown):
            return
        found = self._log.rows.fills_at(account, name)
        bare = [fill for fill in found if fill.fees is None] or found[-1:]
        for fill, share in zip(bare, shares(grown, bare), strict=True):
            total = add_fees(fill.fees, share) or ()
            self.amend(FeeAmendment(fill.fill_id, total, FeeStatus.ALLOCATED, account))


def _may_wait(row: _Row, fill: Fill) -> bool:
    """Tell whether counting a fill can wait for the next ones, because no event tells of it by itself."""
    if row.room is None:
        row.room = _room(row.now)
    row.room = LEDGER.subtract(row.room, fill.quantity)
    known = fill.broker_order_id in row.now.order.broker_order_ids
    return row.room > 0 and fill.kind is FillKind.TRADE and known


def _room(record: Record) -> Decimal:
    """Return how much more can fill before an event tells of it; nothing where the next fill does."""
    order = record.order
    working = record.state is State.CONFIRMED and order.status is OrderStatus.PARTIALLY_FILLED
    if not working or order.quantity is None:
        return Decimal(0)
    return LEDGER.subtract(order.quantity, record.logged.quantity)


def _asked(order: Order, view: OrderView) -> Decimal | None:
    """Return what an order fills in full; None where its own quantity doesn't tell."""
    if order.legs or len(order.broker_order_ids) > 1:
        return None
    return order.quantity if view.terms.quantity is None else view.terms.quantity


def _newer(view: OrderView, told: datetime | None) -> bool:
    """Tell whether a count that fell is news and no stale sight."""
    return view.updated is not None and told is not None and view.updated > told


def _taken_back(fees: tuple[Money, ...] | None) -> tuple[Money, ...] | None:
    return negated(fees) if fees else None


def _words(fees: Sequence[Money]) -> str:
    return " + ".join(map(repr, fees))


def _reopened(record: Record) -> Record:
    """Return a refused order's row as that of an open question: the venue works or filled it after all."""
    order = record.order.evolve(status=None, raw_status=None, reason=None)
    return replace(record, state=State.NOT_PLACED, order=order, reason=None, words=None)


def _state_seen(record: Record, view: OrderView) -> State | None:
    """Return the state that a sight of the order brings its key to, or None where it stays."""
    if record.state not in OPEN_QUESTIONS:
        return None
    if not view.decided:
        return State.UNKNOWN
    return State.REJECTED if view.status is OrderStatus.REJECTED else State.CONFIRMED
