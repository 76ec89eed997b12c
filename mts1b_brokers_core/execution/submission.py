"""How an order is placed: one key, one claim, one write, one of four answers."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass, replace
from datetime import timedelta

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.events import EventKind
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.orders import Order
from mts1b_brokers_core.platform.failpoints import failpoint
from mts1b_brokers_core.platform.ratelimit import Priority, prioritised

from . import door, journal
from .bodies import fingerprint
from .eventlog import Appender
from .gates import denied
from .journal import Name, Record, State
from .login import Login
from .outcomes import answered, meaning_of
from .port import Ack, NotPlaced, PlaceResult, Ticket, Unknown
from .resolver import Resolver
from .tokens import venue_token
from .writing import bind_children, write_record


@dataclass(slots=True)
class _Underway:
    """A submit under way: its terms, its task, and how many callers still wait for it."""

    mark: str
    task: asyncio.Task[Order]
    waiting: int = 0


class Submission:
    """The one way to place an order."""

    def __init__(self, login: Login, resolver: Resolver, *, resend_within: float) -> None:
        self._login = login
        self._resolver = resolver
        self._resend_within = resend_within
        self._inflight: dict[str, _Underway] = {}

    async def submit(self, order: Order, *, accept_duplicate_risk: bool = False) -> Order:
        """Place the order, or give the stored answer of its key. Raises the other three answers.

        The write runs in a task of the broker's: whoever stops waiting for it doesn't cut it.
        """
        key = order.idempotency_key
        mark = fingerprint(order, self._login.account_id)
        running = self._inflight.get(key)
        if running is None:
            self._check_elsewhere(order)
            task = self._login.spawn(self._door(order, mark, accept_duplicate_risk))
            now = self._inflight[key] = _Underway(mark, task)
            task.add_done_callback(lambda _: self._inflight.pop(key, None))
        else:
            if running.mark != mark:
                raise _conflict(order)
            now = running
        now.waiting += 1
        try:
            return await asyncio.shield(now.task)
        except asyncio.CancelledError:
            if not now.task.cancelled() or door.being_cancelled():
                raise
            raise errors.OutcomeUnknown(
                "the broker was closed before the venue answered.",
                order=order,
                next_step="open it again with the same journal: it asks the venue, and outcome(key) tells",
            ) from None
        finally:
            now.waiting -= 1
            if running is not None:
                await self._alias(order)

    def holds(self, key: str) -> bool:
        """True where a key was used here, or is being used."""
        return key in self._inflight or self.stored(key) is not None

    def _check_elsewhere(self, order: Order) -> None:
        ask = self._login.held_elsewhere
        for key in (order.idempotency_key, *(child.idempotency_key for child in order.attached)):
            if ask is not None and (holder := ask(key)):
                why = f"the idempotency key {key!r} belongs to an order at {holder}."
                raise errors.IdempotencyConflict(why, order=order, reason="duplicate_key")

    def stored(self, key: str) -> Record | None:
        """Return what is known of a key."""
        record = self._login.record(key)
        unknown_there = record is None or record.state is State.SENDING
        return self._login.journal.unwritten.get(key, record) if unknown_there else record

    async def _door(self, order: Order, mark: str, accept_risk: bool) -> Order:
        record = self.stored(order.idempotency_key)
        if record is None:
            return await self._attempts(order, mark, first=1)
        return await self._again(record, order, mark, accept_risk)

    async def _again(self, record: Record, order: Order, mark: str, accept_risk: bool) -> Order:
        self._check_same(record, order, mark)
        await self._alias(order)
        # A row being sent that is not in flight here was left behind: by another process, or by an
        # outcome of ours that could not be written.
        tries = self._login.attempts(record.key)
        ours = bool(tries) and tries[-1].owner == self._login.owner.name
        record = await self._resolver.wait(record, self._resend_within, abandoned=ours)
        retry = record.state is State.NOT_PLACED and (record.certainty == "proven" or accept_risk)
        if retry and not record.cancel_wanted:
            held = record.order
            placed_as = order.evolve(order_id=held.order_id, created_at=held.created_at)
            return await self._attempts(placed_as, mark, first=len(self._login.attempts(record.key)) + 1)
        return self.answer(record)

    async def _attempts(self, order: Order, mark: str, *, first: int) -> Order:
        """Try, and once more where the venue provably doesn't have the order and somebody still waits."""
        until = self._login.clock.monotonic() + self._resend_within
        record, result = await self._attempt(order, mark, first, self._resend_within)
        pause = result.retry_after if isinstance(result, NotPlaced) else 0.0
        if pause is not None and self._may_repeat(record, until - pause):
            await self._login.clock.sleep(pause)
            held = self._login.record(record.key) or record
            if self._may_repeat(held, until):
                order = order.evolve(order_id=held.order.order_id, created_at=held.order.created_at)
                left = max(0.0, until - self._login.clock.monotonic())
                record, result = await self._attempt(order, mark, first + 1, left)
        return self.answer(record, result)

    def _may_repeat(self, record: Record, until: float) -> bool:
        running = self._inflight.get(record.key)
        waited_for = running is not None and running.waiting > 0
        absent = record.state is State.NOT_PLACED and record.certainty == "proven"
        free = not record.cancel_wanted and self._login.gates.halted is None
        in_time = self._login.clock.monotonic() < until
        return absent and free and waited_for and in_time and self._login.journal.stopped is None

    def _check_same(self, record: Record, order: Order, mark: str) -> None:
        """Refuse other terms; equal ones are those first asked for, or those that hold by now."""
        if mark not in (record.fingerprint, fingerprint(record.order, self._login.account_id)):
            raise _conflict(order)

    async def _alias(self, order: Order) -> None:
        """Let a retry's own order id stand for the order of its key."""
        name = (self._login.account_id, order.order_id)

        def work(connection: sqlite3.Connection) -> None:
            journal.add_name(connection, *name, Name.OURS, order.idempotency_key)

        with contextlib.suppress(errors.StateError):  # the answer counts, not its second name
            known = self._login.journal.read(journal.named, *name, Name.OURS)
            if known is None and self._login.record(order.idempotency_key) is not None:
                await self._login.journal.store.run(work)

    async def _attempt(
        self, order: Order, mark: str, attempt: int, within: float
    ) -> tuple[Record, PlaceResult | None]:
        order, instrument = await self._prepare(order)
        permit = await door.allowed(self._login, "place", order)
        ticket = self._ticket(order, instrument, attempt)
        order = ticket.order
        claimed = Record(order.idempotency_key, mark, self._login.account_id, State.SENDING, order)
        failpoint("submit.unclaimed")
        try:
            ours = await self._claim(claimed, ticket)
        except errors.OrderDenied:
            door.refund(permit)
            raise
        if not ours:
            door.refund(permit)
            record = self._login.record(claimed.key)
            assert record is not None
            self._check_same(record, order, mark)
            return await self._resolver.wait(record, within), None
        failpoint("submit.claimed")
        try:
            door.check_still_wanted(self._login, order, ticket)
        except errors.OrderDenied as denial:
            door.refund(permit)
            await self._conclude(claimed, ticket, NotPlaced(denial.message))
            raise
        self._login.log.observed(EventKind.REQUEST_SENT, operation="submit", key=claimed.key)
        self._resolver.sent(claimed.key, attempt)
        with prioritised(Priority.SUBMIT, prepaid=permit):
            result = await door.sent(self._login.clock, lambda: self._login.port.place(ticket))
        failpoint("submit.answered")
        return await self._settle(claimed, ticket, result, within)

    async def _prepare(self, order: Order) -> tuple[Order, Instrument | None]:
        login = self._login
        login.gates.check_journal(login.journal.stopped, order)
        if order.account_id not in (None, login.account_id):
            why = f"the order is for account {order.account_id}, this broker trades {login.account_id}."
            raise denied(order, "account", why, "open the broker with that account, or leave account_id out")
        order = order.evolve(account_id=login.account_id, broker=login.broker)
        first = order.legs[0] if order.legs else order
        instrument = await login.instruments.find(first.symbol, first.asset_class)
        for leg in order.legs[1:]:
            await login.instruments.find(leg.symbol, leg.asset_class)
        if not instrument.tradable:
            raise denied(order, "not_tradable", f"{order.symbol} is not tradable now.")
        login.capabilities.require(order, instrument.asset_class)
        if order.legs:
            await login.gates.check(order, None)
            return order, None
        sent, instrument = await login.instruments.fitted(order, instrument)
        await login.gates.check(sent, instrument)
        return sent, instrument

    def _ticket(self, order: Order, instrument: Instrument | None, attempt: int) -> Ticket:
        login, profile = self._login, self._login.port.profile
        t0 = login.clock.now()
        after = profile.not_after_seconds
        # Where the venue dedupes, the same token again is itself the question; elsewhere each attempt
        # after a proven absence needs a token of its own, or a late first request would be taken for it.
        key = order.idempotency_key
        named = key if attempt == 1 or profile.token.dedupes else f"{key}\x1f{attempt}"
        return Ticket(
            order=order.evolve(created_at=t0) if attempt == 1 else order,
            account_id=login.account_id,
            token=venue_token(named, login.scope, profile.token),
            attempt=attempt,
            t0=t0,
            not_after=None if after is None else t0 + timedelta(seconds=after),
            instrument=instrument,
        )

    async def _claim(self, claimed: Record, ticket: Ticket) -> bool:
        owner, nameless = self._login.owner.name, ticket.token is None

        def work(connection: sqlite3.Connection) -> bool:
            # Without a token two equal orders can't be told apart while one of them is in doubt.
            if nameless and (
                twin := journal.twin(connection, claimed.account_id, claimed.fingerprint, claimed.key)
            ):
                why = f"whether the venue has its twin, key {twin.key!r}, is not known yet."
                cure = "wait until that one is answered: `orders --unresolved` lists it"
                raise denied(claimed.order, "twin_unresolved", why, cure)
            return journal.claim(connection, claimed, ticket, owner)

        try:
            return await door.claim(self._login, claimed.order, ticket, work)
        except journal.IdTaken:
            why = f"the order id {claimed.order.order_id} is used by an order of another key."
            cure = "build a new order, or copy it with a new order_id as well"
            raise denied(claimed.order, "order_id_taken", why, cure) from None

    async def _settle(
        self, claimed: Record, ticket: Ticket, result: PlaceResult, within: float
    ) -> tuple[Record, PlaceResult | None]:
        """Write the outcome, wait for the verdict on one that is unknown, and answer."""
        if isinstance(result, Ack):
            result = await self._compared(ticket, result)
        record, result = await self._conclude(claimed, ticket, result)
        failpoint("submit.recorded")
        if self._login.journal.stopped is not None:
            return record, result
        if record.state is State.UNKNOWN:
            return await self._resolver.wait(record, within), result
        self._resolver.answered(claimed.key, ticket.attempt)
        echo = result.echo if isinstance(result, Ack) else None
        if echo is not None and (echo.status.final or echo.cumulative_quantity):
            with contextlib.suppress(errors.StateError):  # the answer stands without it
                record = await self._resolver.catch_up(record, echo)
        return record, result

    async def _compared(self, ticket: Ticket, ack: Ack) -> PlaceResult:
        """Return an acknowledgement that names our order; another order's tells nothing about ours.

        Without a token to tell by, what the venue acknowledged is read before it is believed.
        """
        echo = ack.echo
        if echo is None and ticket.token is None:
            try:
                echo = await door.look(self._login, ack.ref, Priority.RESOLVER)
            # A reading that fails says nothing about the order.
            except Exception as error:  # noqa: BLE001
                return Unknown(f"the order acknowledged could not be read: {error}")
            if echo is None:
                return Unknown(f"the order acknowledged, {ack.ref.broker_order_id}, can't be found")
            ack = replace(ack, echo=echo)
        difference = _strange(ack, ticket) or (echo.terms.contradicts(ticket.order) if echo else None)
        return ack if difference is None else Unknown(f"the venue answered with another order: {difference}")

    async def _conclude(
        self, claimed: Record, ticket: Ticket, result: PlaceResult
    ) -> tuple[Record, PlaceResult]:
        """Write the outcome; return the key's row with it, and the answer as far as it is believed."""
        reopens = self._login.port.profile.reopens

        def write(log: Appender) -> Record:
            nonlocal result
            was = journal.get(log.connection, claimed.key)
            assert was is not None
            result = door.believed(log.connection, was, result)
            now = answered(was, ticket, result, reopens)
            cause = meaning_of(result)[1]
            journal.finish_attempt(log.connection, was.key, ticket.attempt, str(now.state), cause)
            now = write_record(log, was, now)
            if now.state is State.DUPLICATE is not was.state:
                log.event(EventKind.DUPLICATE, now.order, "an earlier attempt arrived as well")
            if isinstance(result, Ack) and now.order.attached:
                bind_children(log, now, result.children)
            failpoint("outcome.uncommitted")
            return now

        def unwritten() -> Record:
            told = self._login.journal.unwritten[claimed.key] = answered(claimed, ticket, result, reopens)
            return told

        record = await door.conclude(self._login, write, unwritten)
        self._login.log.observed(
            EventKind.OUTCOME, operation="submit", key=record.key, outcome=str(record.state)
        )
        return record, result

    def answer(self, record: Record, result: PlaceResult | None = None) -> Order:
        """Return the confirmed order, or raise the answer the journal holds for its key.

        A `result` that came just now adds its cause and the venue's pause.
        """
        order, cause = record.order, (meaning_of(result)[1] if result else "") or record.words or ""
        if record.state is State.CONFIRMED:
            return order
        if record.state is State.REJECTED:
            words = record.words or ""
            why = f"the venue refused the order: {words or record.reason}."
            cure = "change the order and submit it under a new key"
            reason = record.reason or order.reason or "other"
            raise errors.OrderRejected(why, reason=reason, words=words, order=order, next_step=cure)
        if record.state is State.NOT_PLACED:
            proven = record.certainty == "proven"
            if record.cancel_wanted:
                next_step = "nothing: a cancel was asked for, so this key is not sent again"
            elif proven:
                next_step = "submit it again with the same key"
            else:
                next_step = "look at the account; submit again with accept_duplicate_risk=True if it lacks it"
            raise errors.OrderNotPlaced(
                f"the order is not at the venue ({record.certainty}){f': {cause}' if cause else '.'}",
                certainty="proven" if proven else "probable",
                retry_after=result.retry_after if isinstance(result, NotPlaced) else None,
                order=order,
                next_step=next_step,
            )
        raise errors.OutcomeUnknown(
            _UNKNOWN_WORDS.get(record.state, "the venue's answer is missing")
            + (f": {cause}" if cause else "."),
            order=order,
            resolve=lambda: self._resolved(record),
        )

    async def _resolved(self, record: Record) -> Order:
        return self.answer(await self._resolver.wait(self.stored(record.key) or record, None))


_UNKNOWN_WORDS = {
    State.AMBIGUOUS: "more than one venue order fits; a person must say which",
    State.DUPLICATE: "the venue holds more than one order under this key; a person must look",
}


def _strange(ack: Ack, ticket: Ticket) -> str | None:
    """Name what of an acknowledgement doesn't belong together, or isn't the ticket's."""
    refs = [ack.ref] if ack.echo is None else [ack.ref, ack.echo.ref]
    ids = {ref.broker_order_id for ref in refs} - {None}
    tokens = {ref.token for ref in refs} - {None, ticket.token} if ticket.token else set()
    if len(ids) > 1:
        return "its id and that of the terms shown differ"
    return f"its token is {min(map(str, tokens))}" if tokens else None


def _conflict(order: Order) -> errors.IdempotencyConflict:
    return errors.IdempotencyConflict(
        f"the key {order.idempotency_key!r} was used for an order with other terms.",
        reason="idempotency_conflict",
        order=order,
    )
