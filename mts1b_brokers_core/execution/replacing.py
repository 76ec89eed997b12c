"""How a working order is changed in place: the same door as placing one."""

from __future__ import annotations

import sqlite3

from mts1b_brokers_core.foundation.capabilities import Capabilities
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import (
    IdempotencyConflict,
    InvalidInput,
    OrderDenied,
    OrderNotFound,
    OrderNotPlaced,
    OrderRejected,
    OrderUnsupported,
    OutcomeUnknown,
    StateError,
)
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.ids import uuid7
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, OrderStatus
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_brokers_core.platform.failpoints import failpoint

from . import journal
from .eventlog import Appender, EventLog
from .gates import Gatekeeper
from .instruments import InstrumentCache, fit
from .journal import Attempt, Journal, Record, State
from .lookups import Lookups
from .merge import apply
from .ownership import Owner
from .port import (
    Ack,
    NotPlaced,
    OrderRef,
    OrderView,
    PlaceResult,
    Rejected,
    Replacing,
    Ticket,
    Unknown,
    VenuePort,
)
from .tokens import venue_token
from .writing import write_order


class Replacement:
    """The one way to change an order; our order id stays over the chain of venue ids."""

    def __init__(
        self,
        port: VenuePort,
        replacing: Replacing,
        journal_: Journal,
        log: EventLog,
        lookups: Lookups,
        *,
        scope: str,
        account_id: str,
        capabilities: Capabilities,
        instruments: InstrumentCache,
        gates: Gatekeeper,
        owner: Owner,
        clock: Clock,
    ) -> None:
        self._port = port
        self._replacing = replacing
        self._journal = journal_
        self._log = log
        self._lookups = lookups
        self._scope = scope
        self._account_id = account_id
        self._capabilities = capabilities
        self._instruments = instruments
        self._gates = gates
        self._owner = owner
        self._clock = clock

    async def replace(self, order_id: str, changes: OrderChanges, idempotency_key: str | None) -> Order:
        """Change price, stop or total quantity of a working order and return it as changed."""
        record = self._lookups.find(order_id)
        if record is None:
            raise OrderNotFound(f"no order {order_id} was placed here.", next_step="use an order_id of yours")
        key = idempotency_key or uuid7()
        tries = self._journal.store.read(lambda connection: journal.attempts(connection, record.key))
        earlier = [attempt for attempt in tries if attempt.kind == f"replace:{key}"]
        if earlier:
            return self._stored(record, earlier[-1], changes)
        wanted = await self._prepare(record, changes)
        ticket = Ticket(
            order=wanted,
            account_id=self._account_id,
            token=venue_token(key, self._scope, self._port.profile.token),
            attempt=len(tries) + 1,
            t0=self._clock.now(),
            changes=changes,
        )
        await self._claim(record, ticket, key)
        failpoint("replace.claimed")
        await self._check_still_wanted(record, ticket)
        result = await self._send(OrderRef(record.order.broker_order_id), ticket)
        failpoint("replace.answered")
        return await self._settle(record, ticket, result)

    def _stored(self, record: Record, attempt: Attempt, changes: OrderChanges) -> Order:
        if attempt.body != changes.model_dump_json():
            raise IdempotencyConflict(
                "the key was used for other changes.", reason="idempotency_conflict", order=record.order
            )
        if attempt.outcome == "confirmed":
            return record.order
        if attempt.outcome == "rejected":
            raise OrderRejected(f"the venue refused the change: {attempt.cause}.", order=record.order)
        if attempt.outcome == "not_placed":
            raise OrderNotPlaced(
                f"the change was not made: {attempt.cause}", certainty="proven", order=record.order,
                repeat_is_safe=False, next_step="replace again under a new key",
            )  # fmt: skip
        raise OutcomeUnknown(
            f"whether the change was made is not known: {attempt.cause}.", order=record.order
        )

    async def _prepare(self, record: Record, changes: OrderChanges) -> Order:
        order = record.order
        self._gates.check_journal(self._journal.stopped, order)
        given = changes.given()
        if not given:
            raise InvalidInput("nothing to change was given.", next_step="give a price or a quantity")
        if record.state is not State.CONFIRMED or order.is_final:
            raise OrderDenied(
                f"the order is {order.status or record.state} and can't be changed.",
                reason="not_working",
                order=order,
                next_step="submit a new order",
            )
        if (
            changes.quantity is not None
            and order.filled_quantity
            and self._port.profile.replace_quantity == "remaining"
        ):
            raise OrderUnsupported(
                "this venue can't change the quantity of a partly filled order.",
                capability="replace quantity of a partly filled order",
                order=order,
            )
        if changes.quantity is not None and changes.quantity <= order.filled_quantity:
            raise OrderDenied(
                f"the new total {changes.quantity} is not above the {order.filled_quantity} already filled.",
                reason="quantity",
                order=order,
                next_step="cancel the rest instead",
            )
        wanted = order.model_copy(update=given)
        instrument = await self._instruments.find(order.symbol, order.asset_class)
        self._capabilities.require(wanted, instrument.asset_class)
        wanted = fit(wanted, instrument)
        await self._gates.check(wanted, instrument)
        return wanted

    async def _claim(self, record: Record, ticket: Ticket, key: str) -> None:
        assert ticket.changes is not None
        body = ticket.changes.model_dump_json()

        def work(connection: sqlite3.Connection) -> None:
            self._gates.check_rate(connection, to_ns(ticket.t0), record.order)
            open_by = journal.replacing_owners(connection, record.key)
            if any(not self._owner.is_dead(owner) for owner in open_by):
                raise _under_way(record)
            journal.add_attempt(connection, record.key, ticket, f"replace:{key}", self._owner.name, body)

        try:
            await self._journal.store.run(work)
        except sqlite3.IntegrityError:
            raise _under_way(record) from None
        except StateError as error:
            raise OrderDenied(
                f"the attempt could not be journalled: {error.message}",
                reason="journal",
                order=record.order,
                next_step=error.next_step,
            ) from error

    async def _check_still_wanted(self, record: Record, ticket: Ticket) -> None:
        """Look once more at the halt, after the commit and before the write."""
        try:
            self._gates.check_halt(record.order)
        except OrderDenied as denial:
            await self._conclude(record, ticket, NotPlaced(denial.message))
            raise

    async def _send(self, ref: OrderRef, ticket: Ticket) -> PlaceResult:
        try:
            return await self._replacing.replace_one(ref, ticket)
        # Whatever an adapter or its transport raises, bytes may have left; reading the order tells.
        except Exception as error:  # noqa: BLE001
            cause = f"{type(error).__name__}: {error}"
        try:
            listing = await self._port.read([ref])
        except Exception as error:  # noqa: BLE001
            return Unknown(f"{cause}; reading the order failed too: {error}")
        for view in listing.rows:
            if view.terms.contradicts(ticket.order) is None and view.terms.quantity is not None:
                return Ack(view.ref, view)
        return Unknown(cause)

    async def _conclude(self, record: Record, ticket: Ticket, result: PlaceResult) -> Order:
        """Write the outcome; where that fails the caller still gets it, and nothing more is sent."""
        outcome, cause = _named(result)

        def work(connection: sqlite3.Connection, log: Appender) -> Order:
            journal.finish_attempt(connection, record.key, ticket.attempt, outcome, cause)
            current = journal.get(connection, record.key)
            assert current is not None
            if not isinstance(result, Ack):
                return current.order
            order = _changed(current.order, ticket, result)
            order = write_order(connection, log, current, order, logged=current.logged).order
            log.event(
                EventKind.REPLACED, order, ", ".join(sorted(ticket.changes.given())) if ticket.changes else ""
            )
            return order

        try:
            return await self._log.transact(work)
        except StateError as error:
            self._journal.stopped = error
            return _changed(record.order, ticket, result) if isinstance(result, Ack) else record.order

    async def _settle(self, record: Record, ticket: Ticket, result: PlaceResult) -> Order:
        order = await self._conclude(record, ticket, result)
        cause = _named(result)[1]
        if isinstance(result, Ack):
            return order
        if isinstance(result, Rejected):
            raise OrderRejected(
                f"the venue refused the change: {result.words}.",
                reason=result.reason,
                words=result.words,
                order=order,
                next_step="the order works on as it was",
            )
        if isinstance(result, NotPlaced):
            raise OrderNotPlaced(
                f"the change was not made: {cause}", certainty="proven", retry_after=result.retry_after,
                order=order, repeat_is_safe=False, next_step="replace again under a new key",
            )  # fmt: skip
        raise OutcomeUnknown(
            f"whether the change was made is not known: {cause}.",
            order=order,
            next_step="read the order; repeat only what it does not show",
        )


def _under_way(record: Record) -> OrderDenied:
    return OrderDenied(
        "another change of this order is under way.",
        reason="replace_under_way",
        order=record.order,
        next_step="repeat once it is answered",
    )


def _named(result: PlaceResult) -> tuple[str, str]:
    if isinstance(result, Ack):
        return "confirmed", ""
    if isinstance(result, Rejected):
        return "rejected", result.words
    if isinstance(result, NotPlaced):
        return "not_placed", result.cause
    return "unknown", result.cause


def _changed(order: Order, ticket: Ticket, ack: Ack) -> Order:
    given = ticket.changes.given() if ticket.changes else {}
    sent = {name: getattr(ticket.order, name) for name in given}
    order = order.evolve(**sent, adjustments=ticket.order.adjustments)
    new_id = ack.ref.broker_order_id
    view = ack.echo or OrderView(ack.ref, order.status or OrderStatus.NEW)
    if new_id and order.broker_order_id and new_id != order.broker_order_id:
        order = apply(order, OrderView(OrderRef(order.broker_order_id), view.status, replaced_by=new_id))
    return apply(order, view)
