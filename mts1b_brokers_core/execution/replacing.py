"""How a working order is changed in place: the same door as placing one."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.ids import uuid7
from mts1b_brokers_core.foundation.orders import Order, OrderChanges
from mts1b_brokers_core.platform.failpoints import failpoint
from mts1b_brokers_core.platform.ratelimit import Priority, prioritised

from . import door, journal
from .eventlog import Appender
from .gates import denied
from .instruments import fit
from .journal import Record, State
from .login import Login
from .outcomes import meaning_of
from .port import Ack, NotPlaced, OrderRef, PlaceResult, Rejected, Replacing, Ticket, Unknown
from .replaced import changed
from .tokens import venue_token
from .writing import write_record


class Replacement:
    """The one way to change an order; our order id stays over the chain of venue ids."""

    def __init__(self, login: Login, replacing: Replacing) -> None:
        self._login = login
        self._replacing = replacing
        self._under_way: dict[tuple[str, str], tuple[str, asyncio.Task[Order]]] = {}

    async def replace(self, order_id: str, changes: OrderChanges, idempotency_key: str | None) -> Order:
        """Change price, stop or total quantity of a working order and return it as changed.

        Who asks for the same change under the same key while it is under way shares its answer.
        """
        record = self._login.find(order_id)
        if record is None:
            raise errors.OrderNotFound(
                f"no order {order_id} was placed here.", next_step="use an order_id of yours"
            )
        key, body = idempotency_key or uuid7(), changes.model_dump_json()
        name = record.key, key
        if name not in self._under_way:
            task = self._login.spawn(self._replace(record, changes, key))
            self._under_way[name] = body, task
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        asked, task = self._under_way[name]
        if asked != body:
            raise _conflict(record.order)
        return await asyncio.shield(task)

    async def _replace(self, record: Record, changes: OrderChanges, key: str) -> Order:
        login = self._login
        tries = login.attempts(record.key)
        for tried in tries:
            if tried.kind == f"replace:{key}":
                if tried.body != changes.model_dump_json():
                    raise _conflict(record.order)
                return _answer(
                    record.order, State(tried.outcome or State.UNKNOWN), tried.cause or "no answer"
                )
        wanted = await self._prepare(record, changes)
        permit = await door.allowed(login, "replace", wanted)
        ticket = Ticket(
            order=wanted,
            account_id=login.account_id,
            token=venue_token(key, login.scope, login.port.profile.token),
            attempt=len(tries) + 1,
            t0=login.clock.now(),
            changes=changes,
        )
        try:
            await self._claim(record, ticket, changes, key)
        except errors.OrderDenied:
            door.refund(permit)
            raise
        failpoint("replace.claimed")
        try:
            door.check_still_wanted(login, record.order, ticket)
        except errors.OrderDenied as denial:
            door.refund(permit)
            await self._conclude(record, ticket, changes, NotPlaced(denial.message))
            raise
        ref = OrderRef(record.order.broker_order_id)
        with prioritised(Priority.SUBMIT, prepaid=permit):
            result = await door.sent(login.clock, lambda: self._replacing.replace_one(ref, ticket))
        failpoint("replace.answered")
        if isinstance(result, Unknown):
            result = await self._read_back(ref, ticket, result.cause)
        order, result = await self._conclude(record, ticket, changes, result)
        return _answer(order, *meaning_of(result), result)

    async def _prepare(self, record: Record, changes: OrderChanges) -> Order:
        login, order, given = self._login, record.order, changes.given()
        login.gates.check_journal(login.journal.stopped, order)
        if not given:
            raise errors.InvalidInput("nothing to change was given.", next_step="give a price or a quantity")
        if record.state is not State.CONFIRMED or order.is_final:
            stands = order.status or record.state
            why = f"the order is {stands} and can't be changed."
            raise denied(order, "not_working", why, "submit a new order")
        if changes.quantity is not None and order.filled_quantity:
            if login.port.profile.replace_quantity == "remaining":
                raise errors.OrderUnsupported(
                    "this venue can't change the quantity of a partly filled order.",
                    capability="replace quantity of a partly filled order",
                    order=order,
                )
            if changes.quantity <= order.filled_quantity:
                filled = f"the {order.filled_quantity} already filled"
                why = f"the new total {changes.quantity} is not above {filled}."
                raise denied(order, "quantity", why, "cancel the rest instead")
        wanted = order.model_copy(update=given)
        instrument = await login.instruments.find(order.symbol, order.asset_class)
        login.capabilities.require(wanted, instrument.asset_class)
        wanted = fit(wanted, instrument)
        await login.gates.check(wanted, instrument)
        return wanted

    async def _claim(self, record: Record, ticket: Ticket, changes: OrderChanges, key: str) -> None:
        owner, kind, body = self._login.owner, f"replace:{key}", changes.model_dump_json()

        def work(connection: sqlite3.Connection) -> None:
            under_way = [row for row in journal.open_changes(connection, record.key) if row.outcome is None]
            if any(not owner.is_dead(row.owner) for row in under_way):
                raise _under_way(record.order)
            journal.add_attempt(connection, record.key, ticket, kind, owner.name, body)

        try:
            await door.claim(self._login, record.order, ticket, work)
        except sqlite3.IntegrityError:
            raise _under_way(record.order) from None

    async def _read_back(self, ref: OrderRef, ticket: Ticket, cause: str) -> PlaceResult:
        """Return what the order itself tells of a change whose reply is missing."""
        try:
            view = await door.look(self._login, ref, Priority.RESOLVER)
        # A reading that fails in any way says nothing about the change.
        except Exception as error:  # noqa: BLE001
            return Unknown(f"{cause}; reading the order failed too: {error}")
        if view is None or view.terms.quantity is None or view.terms.contradicts(ticket.order):
            return Unknown(cause)
        return Ack(view.ref, view)

    async def _conclude(
        self, record: Record, ticket: Ticket, changes: OrderChanges, result: PlaceResult
    ) -> tuple[Order, PlaceResult]:
        """Write the outcome; return the order with it, and the answer as far as it is believed."""

        def after(order: Order) -> Order:
            return changed(order, ticket, changes, result) if isinstance(result, Ack) else order

        def write(log: Appender) -> tuple[Order, PlaceResult]:
            nonlocal result
            result = door.believed(log.connection, record, result)
            outcome, cause = meaning_of(result)
            journal.finish_attempt(log.connection, record.key, ticket.attempt, str(outcome), cause)
            was = journal.get(log.connection, record.key)
            assert was is not None
            if not isinstance(result, Ack):
                # An order that settled meanwhile is read once more where the change may have been made.
                doubt = isinstance(result, Unknown) and was.order.settled
                return (write_record(log, was, was, settle=False).order if doubt else was.order), result
            order = write_record(log, was, replace(was, order=after(was.order))).order
            log.event(EventKind.REPLACED, order, ", ".join(sorted(changes.given())))
            failpoint("replace.uncommitted")
            return order, result

        return await door.conclude(self._login, write, lambda: (after(record.order), result))


def _answer(order: Order, outcome: State, cause: str, result: PlaceResult | None = None) -> Order:
    """Return the order as changed, or raise what became of the change."""
    if outcome is State.CONFIRMED:
        return order
    if outcome is State.REJECTED:
        reason = result.reason if isinstance(result, Rejected) else "other"
        why, cure = f"the venue refused the change: {cause}.", "the order works on as it was"
        raise errors.OrderRejected(why, reason=reason, words=cause, order=order, next_step=cure)
    if outcome is State.NOT_PLACED:
        raise errors.OrderNotPlaced(
            f"the change was not made: {cause}",
            certainty="proven",
            retry_after=result.retry_after if isinstance(result, NotPlaced) else None,
            order=order,
            repeat_is_safe=False,
            next_step="replace again under a new key",
        )
    why = f"whether the change was made is not known: {cause}."
    cure = "read the order; repeat only what it does not show"
    raise errors.OutcomeUnknown(why, order=order, next_step=cure)


def _conflict(order: Order) -> errors.IdempotencyConflict:
    why = "the key was used for other changes."
    return errors.IdempotencyConflict(why, reason="idempotency_conflict", order=order)


def _under_way(order: Order) -> errors.OrderDenied:
    why = "another change of this order is under way."
    return denied(order, "replace_under_way", why, "repeat once it is answered")
