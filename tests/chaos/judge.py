"""The judge: compares what the broker says with the venue's own books, and explains each difference."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mts1b_brokers_core.execution.journal import Attempt, Record, State
from mts1b_brokers_core.execution.port import Guarantee
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import Fill, FillKind, Order
from mts1b_simulator.reference import BookExecution, BookOrder

from .flow import Plan
from .kinds import Kind
from .venue import WatchedVenue

_WORKING = ("new", "partially_filled")
_STATUS = {"open": "new", "cancelled": "canceled", "accepted": "pending_new"}
#: How far a value that was cut out of rounded averages may be from the venue's, as a share.
_ROUNDED = Decimal("1E-15")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: whose, and all that is known about it."""

    what: str
    key: str = ""
    broker_order_id: str = ""
    history: tuple[str, ...] = ()

    def __str__(self) -> str:
        whose = " ".join(filter(None, (self.key, self.broker_order_id)))
        return "\n      ".join([f"{whose}: {self.what}" if whose else self.what, *self.history])


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the broker has to say for itself once everything has come to rest."""

    records: dict[str, Record]
    attempts: dict[str, list[Attempt]]
    fills: list[Fill]
    events: list[BrokerEvent]
    positions: dict[str, Decimal]
    opening: dict[str, Decimal]


class Judge:
    """Goes through the books once; `findings` is what is wrong, `duplicates` what the promise allows."""

    def __init__(self, kind: Kind, venue: WatchedVenue, flow: Sequence[Plan], told: Evidence) -> None:
        self._kind = kind
        self._venue = venue
        self._flow = flow
        self._told = told
        self.findings: list[Finding] = []
        self.duplicates = self.announced = 0
        self._bound_to = {
            name: key for key, record in told.records.items() for name in record.order.broker_order_ids
        }
        self._key_of = {
            row.id: key for key, ids in venue.made.items() for name in ids for row in venue.chain(name)
        }

    def judge(self) -> list[Finding]:
        """Look at everything."""
        for plan in self._flow:
            self._key(plan)
        made = {
            row.id for ids in self._venue.made.values() for name in ids for row in self._venue.chain(name)
        }
        for order in self._venue.venue.orders():
            if order.id not in made:
                self._find("an order at the venue that no key's request made", order_id=order.id)
        self._numbers()
        self._executions()
        self._sums()
        return self.findings

    def _find(self, what: str, key: str = "", order_id: str = "") -> None:
        self.findings.append(Finding(what, key, order_id, tuple(self._history(key, order_id))))

    def _history(self, key: str, order_id: str) -> list[str]:
        key = key or self._key_of.get(order_id, "")
        lines: list[str] = []
        record = self._told.records.get(key)
        if record is not None:
            lines.append(
                f"journal: {record.state} {record.certainty or ''} {record.words or ''} {record.order}"
            )
            order = record.order
            lines.append(
                f"  ids {order.broker_order_ids}, logged {record.logged.quantity}, settled={order.settled},"
                f" fills_pending={order.fills_pending}, cancel_wanted={record.cancel_wanted}"
            )
        lines += [
            f"attempt {row.n} {row.kind} token={row.token}: {row.outcome} {row.cause}"
            for row in self._told.attempts.get(key, ())
        ]
        lines += [f"told: {words}" for plan in self._flow if plan.key == key for words in plan.told]
        lines += [f"venue: {words}" for words in (self._venue.story_of(key) if key else ())]
        ids = {
            order_id,
            *(row.id for name in self._venue.made.get(key, ()) for row in self._venue.chain(name)),
        }
        for name in sorted(ids - {""}):
            if (held := self._venue.venue.order(name)) is not None:
                lines.append(
                    f"book: {name} {held.status} filled {held.filled_quantity} price {held.terms.limit_price}"
                )
                lines += [
                    f"  {row.id} {row.kind} {row.quantity} @{row.price}{' void' if row.void else ''}"
                    for row in held.fills
                ]
        lines += [f"log: {row}" for row in self._told.fills if row.broker_order_id in ids]
        lines += [
            f"event {row.offset}: {row.kind} {row.message}"
            for row in self._told.events
            if row.idempotency_key == key and key
        ]
        return lines

    # --- orders ---------------------------------------------------------------------------------------

    def _key(self, plan: Plan) -> None:
        record, made = self._told.records.get(plan.key), self._venue.made.get(plan.key, [])
        held = [order for name in made if (order := self._venue.venue.order(name)) is not None]
        live = [order for order in held if order.status != "rejected"]
        if self._kind.guarantee is Guarantee.FINGERPRINT and len(live) > 1:
            # Without tokens one of them may stand for another key's equal order, which was told of it.
            live = [order for order in live if self._bound_to.get(order.id, plan.key) == plan.key]
        if record is None:
            if live or not all(words.startswith("denied") for words in plan.told):
                self._find("the journal doesn't know the key", plan.key)
            return
        if len(live) > 1:
            self._duplicate(plan, record, live)
        elif record.state is State.DUPLICATE:
            self._find("called a duplicate, and the venue has no two orders of it", plan.key)
        if record.state is State.CONFIRMED:
            self._confirmed(plan, record, live or held)  # taken first, and refused later
        elif record.state is State.REJECTED or record.state is State.NOT_PLACED:
            if live:
                self._find(f"{record.state} ({record.certainty}), and the venue has it", plan.key, live[0].id)
        elif record.state is State.AMBIGUOUS:
            if self._kind.guarantee is not Guarantee.FINGERPRINT:
                self._find("ambiguous where tokens tell orders apart", plan.key)
            elif not record.words:
                self._find("ambiguous without evidence", plan.key)
        elif record.state is not State.DUPLICATE:
            self._find(f"still {record.state} although the venue answers", plan.key)
        if plan.accepted and not held:
            self._find("accepted, said the broker, and the venue has no such order", plan.key)
        self._canceled(plan, live)

    def _duplicate(self, plan: Plan, record: Record, live: list[BookOrder]) -> None:
        """Two orders of one key: only where the caller took the risk of it, and then announced."""
        risk = plan.dares and self._kind.guarantee in (Guarantee.RESOLVER_PROBABLE, Guarantee.FINGERPRINT)
        names = ", ".join(order.id for order in live)
        if not risk:
            self._find(f"{len(live)} orders at the venue, {names}; the guarantee allows one", plan.key)
            return
        self.duplicates += len(live) - 1
        told = [row for row in self._told.events if row.idempotency_key == plan.key]
        loud = {EventKind.DUPLICATE, EventKind.LATE} & {row.kind for row in told}
        if not loud and record.state not in (State.DUPLICATE, State.AMBIGUOUS):
            self._find(f"{len(live)} orders at the venue, {names}, and nobody was told", plan.key)
        elif record.state is State.DUPLICATE and {row.id for row in live} - set(
            record.order.broker_order_ids
        ):
            self._find(f"a duplicate of which not all orders are bound: {names}", plan.key)
        else:
            self.announced += len(live) - 1

    def _confirmed(self, plan: Plan, record: Record, live: list[BookOrder]) -> None:
        order = record.order
        bound = [held for name in order.broker_order_ids if (held := self._venue.venue.order(name))]
        if not bound:
            self._find("confirmed without an order at the venue", plan.key)
            return
        ours = {row.id for held in live for row in self._venue.chain(held.id)}
        strange = [held for held in bound if held.id not in ours]
        if strange and self._kind.guarantee is Guarantee.FINGERPRINT:
            # Without tokens an equal order may stand for another: that is all that is promised there.
            strange = [held for held in strange if not self._equal(held, plan)]
            live = [row for row in (self._venue.venue.order(name) for name in order.broker_order_ids) if row]
            ours = {row.id for held in live[:1] for row in self._venue.chain(held.id)}
        if strange:
            self._find(f"bound to {strange[0].id}, which is another key's order", plan.key, strange[0].id)
            return
        if len(live) == 1 and (lost := ours - set(order.broker_order_ids)):
            self._find(f"{', '.join(sorted(lost))} is its order, too, and isn't bound", plan.key)
            return
        self._state(plan, record, order, self._venue.chain(bound[0].id))

    def _equal(self, held: BookOrder, plan: Plan) -> bool:
        root = held
        while root.replaces is not None:
            earlier = self._venue.venue.order(root.replaces)
            assert earlier is not None
            root = earlier
        return (root.terms.symbol, root.terms.side, root.terms.quantity, root.terms.limit_price) == (
            plan.order.symbol, plan.order.side, plan.order.quantity, plan.order.limit_price,
        )  # fmt: skip

    def _state(self, plan: Plan, record: Record, order: Order, chain: list[BookOrder]) -> None:
        last, filled = chain[-1], sum((row.filled_quantity for row in chain), Decimal(0))
        if order.broker_order_id != last.id:
            self._find(f"stands for {order.broker_order_id}, at the venue it is {last.id} now", plan.key)
        theirs = _STATUS.get(last.status, last.status)
        same = order.status == theirs or (order.status in _WORKING and theirs in _WORKING)
        if not same:
            self._find(f"is {order.status} here and {last.status} at the venue", plan.key, last.id)
        if (order.filled_quantity, record.logged.quantity) != (filled, filled):
            self._find(
                f"filled {order.filled_quantity}, logged {record.logged.quantity}, and {filled} at the venue",
                plan.key, last.id,
            )  # fmt: skip
        for name in ("symbol", "side", "order_type", "limit_price", "quote_quantity"):
            here, there = getattr(order, name), getattr(last.terms, name)
            if here != there:
                self._find(f"{name} is {here} here and {there} at the venue", plan.key, last.id)
        if order.is_final and not order.settled and not self._may_be_unsettled(plan, chain):
            self._find("final and adding up, and not settled", plan.key, last.id)
        if self._kind.ours.fee_timing == "order_level":
            here, there = _by_currency(order.fees), _by_currency(last.fees(self._venue.clock_ns()))
            if here != there:
                self._find(f"fees {dict(here)} here and {dict(there)} at the venue", plan.key, last.id)

    def _may_be_unsettled(self, plan: Plan, chain: list[BookOrder]) -> bool:
        """Tell what keeps an order from being settled: a bust, or a change that may show under a new id.

        The latter is waited for longer than any run lasts: a venue need not link the two at once.
        """
        tries = self._told.attempts.get(plan.key, ())
        doubted = any(row.kind != "new" and row.outcome == State.UNKNOWN for row in tries)
        if doubted and self._kind.ours.replace == "new_id" and chain[-1].status == "cancelled":
            return True
        return any(row.void for held in chain for row in held.fills)

    def _canceled(self, plan: Plan, live: list[BookOrder]) -> None:
        ends = [self._venue.chain(order.id)[-1] for order in live]
        if plan.canceled is None or len(live) > 1 or self._kind.guarantee is Guarantee.FINGERPRINT:
            return  # nothing claimed, or of one of several orders, or of an equal order
        if plan.canceled and not all(order.status == "cancelled" for order in ends):
            self._find(f"cancel said True, and the order is {ends[0].status}", plan.key, ends[0].id)
        if not plan.canceled and any(order.is_open for order in ends):
            self._find("cancel said False, and the order works", plan.key, ends[0].id)

    # --- fills ----------------------------------------------------------------------------------------

    def _numbers(self) -> None:
        numbers = [fill.seq for fill in self._told.fills]
        if numbers != list(range(1, len(numbers) + 1)):
            gaps = [n for n, (a, b) in enumerate(zip([0, *numbers], numbers, strict=False)) if b != a + 1]
            self._find(f"seq is not dense: first off at place {gaps[0]}")
        names = Counter((fill.account_id, fill.fill_id) for fill in self._told.fills)
        for (_, name), times in names.items():
            if times > 1:
                self._find(f"the execution {name} was logged {times} times")

    def _executions(self) -> None:
        """Each execution that stands is logged once; one taken back is logged with its bust, or never."""
        if self._kind.ours.fill_identity == "cumulative":
            self._cuts()
            return
        profile, logged = self._venue.profile, defaultdict[Any, list[Fill]](list)
        for fill in self._told.fills:
            logged[self._name(fill)].append(fill)
        for row in self._venue.venue.executions():
            if row.kind == "bust":
                continue
            found = logged.pop(_content(row) if profile.fill_identity == "content" else _id(row, profile), [])
            trades = [fill for fill in found if fill.kind is FillKind.TRADE]
            busts = [fill for fill in found if fill.kind is FillKind.BUST]
            alike = sum(1 for other in row.order.fills if _content(other) == _content(row))
            wanted = alike if profile.fill_identity == "content" else 1
            right = len(trades) == len(busts) <= 1 if row.void else len(trades) == wanted and not busts
            if not right:
                stands = "taken back" if row.void else "standing"
                words = f"{row.id}, {stands}, is logged {len(trades)} times, its bust {len(busts)} times"
                self._find(words, order_id=row.order.id)
            if profile.fill_identity == "content":
                continue
            for fill in found:
                self._same(row, fill)
        for name, found in logged.items():
            if self._kind.ours.fill_identity == "content" and any(
                name == _content(row) for row in self._venue.venue.executions()
            ):
                continue
            self._find(
                f"{found[0]} was logged, and the venue has no {name}", order_id=str(found[0].broker_order_id)
            )

    def _name(self, fill: Fill) -> Any:
        if self._venue.profile.fill_identity == "content":
            return (fill.broker_order_id, fill.quantity, fill.price, fill.executed_at)
        return fill.corrects if fill.kind is FillKind.BUST else fill.fill_id

    def _same(self, row: BookExecution, fill: Fill) -> None:
        sign = -1 if fill.kind is FillKind.BUST else 1
        here = (fill.broker_order_id, fill.symbol, fill.side, fill.quantity * sign, fill.price)
        there = (row.order.id, row.order.terms.symbol, row.order.terms.side, row.quantity, row.price)
        if here != there:
            self._find(f"{row.id} is {there} at the venue and {here} in the log", order_id=row.order.id)
        key = self._key_of.get(row.order.id, "")
        record = self._told.records.get(key)
        if self._kind.guarantee is not Guarantee.FINGERPRINT and record is not None and (
            fill.order_id not in (record.order.order_id, row.order.id)
        ):  # fmt: skip
            self._find(f"{row.id} is attributed to {fill.order_id}", order_id=row.order.id)
        if self._kind.ours.fee_timing in ("with_fill", "seconds"):
            known, shown = _by_currency(row.fees), _by_currency(fill.fees)
            if fill.fees is None or {name: amount * sign for name, amount in known.items()} != dict(shown):
                self._find(f"{row.id} costs {dict(known)}, in the log {fill.fees}", order_id=row.order.id)

    def _cuts(self) -> None:
        """Where fills are cut out of counts, quantity and value of each order have to add up."""
        sums: defaultdict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
        for fill in self._told.fills:
            row = sums[str(fill.broker_order_id)]
            row[0] += fill.quantity
            row[1] += fill.quantity * fill.price
        for order in self._venue.venue.orders():
            quantity, value = sums.pop(order.id, [Decimal(0), Decimal(0)])
            off = abs(value - order.filled_value)
            if quantity != order.filled_quantity or off > _ROUNDED * max(order.filled_value, Decimal(1)):
                self._find(
                    f"logged {quantity} worth {value}, at the venue {order.filled_quantity} worth"
                    f" {order.filled_value}",
                    order_id=order.id,
                )
        for name in sums:
            self._find("fills of an order that the venue doesn't have", order_id=name)

    def _sums(self) -> None:
        moved: defaultdict[str, Decimal] = defaultdict(Decimal)
        for fill in self._told.fills:
            moved[fill.symbol] += fill.quantity * fill.side.sign
        for symbol, held in self._venue.venue.positions().items():
            summed = self._told.opening[symbol] + moved[symbol]
            if not summed == held == self._told.positions.get(symbol, Decimal(0)):
                shown = self._told.positions.get(symbol)
                self._find(f"{symbol}: {held} at the venue, {summed} by the fills, {shown} by get_positions")


def _content(row: BookExecution) -> Any:
    return (row.order.id, row.quantity, row.price, row.executed_at)


def _id(row: BookExecution, profile: Any) -> str:
    shown = row.shown_id(profile)
    return f"{row.order.id}:{shown}" if profile.fill_identity == "composite" else str(shown)


def _by_currency(fees: Any) -> Counter[str]:
    sums: Any = Counter()
    for fee in fees or ():
        currency, amount = (
            (fee["currency"], fee["amount"]) if isinstance(fee, dict) else (fee.currency, fee.amount)
        )
        sums[currency] += amount
    return Counter({name: amount for name, amount in sums.items() if amount})
