"""`VenueClient`: a broker made of an adapter's short list of operations and core's mechanisms."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, final

from mts1b_brokers_core.foundation import errors
from mts1b_brokers_core.foundation.accounts import Account
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.orders import Fill, Order, OrderChanges, OrderStatus, Position
from mts1b_brokers_core.foundation.plugin import Connection, Services
from mts1b_brokers_core.foundation.protocols import SupportsQuotes
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.platform.clock import RealClock
from mts1b_brokers_core.platform.ratelimit import Limiter, Priority
from mts1b_brokers_core.platform.recorder import Recorder
from mts1b_brokers_core.platform.skew import ClockSkew

from . import door, journal
from .adapter import VenueAdapter
from .cancellation import Cancellation
from .eventlog import EventLog
from .gates import Gatekeeper
from .ingest import Ingest
from .instruments import InstrumentCache
from .intake import Intake
from .journal import Journal, State
from .login import Login
from .lookups import Lookups
from .ownership import Halt, Leader, Owner
from .port import Guarantee, OrderRef, PlaceResult, Ticket, guarantee_of
from .replacing import Replacement
from .resolver import Resolver
from .submission import Submission

_log = logging.getLogger("mts1b_brokers")

#: Seconds between looks at what other processes wrote; every so many of them, at who owns the login.
_FOLLOW_EVERY, _LEAD_EVERY = 0.1, 5


class VenueClient(VenueAdapter):
    """A `BrokerProtocol` over one login; an adapter derives from it and supplies the port's operations.

    Settings are keywords of the adapter's own constructor; `services` come from the runtime. Without a
    journal path the journal is in memory, and `guarantee` says so. One object serves one event loop and
    is not reopened.
    """

    def __init__(self, settings: BrokerSettings, services: Services | None = None) -> None:
        self.settings = settings
        self.capabilities = self.read_capabilities()
        self._services = services or Services(self.capabilities.name, self._environment_of(settings))
        self.clock: Clock = self._services.clock or RealClock()
        path = settings.state_path or self._services.state_path
        self._journal = Journal(path, self.clock)
        self._owner = Owner(None if path is None else path.with_name(f"{path.name}.owners"))
        self._halt = Halt(path)
        self._leader = Leader(path)
        #: What an adapter's transport asks before each request, and tells of the venue's clock and frames.
        self.limiter = Limiter(self.profile.limits, self.clock, on_wait=self._limited)
        self.skew = ClockSkew(self.clock)
        self.skew.on_change = self._skewed
        self.recorder: Recorder | None = None
        told = (self._services.emit, self._services.listened)
        self._event_log = EventLog(self._journal, self.name, self.clock, *told)
        self._state: Literal["new", "opening", "open", "closed", "failed"] = "new"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writes: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._account: Account | None = None
        self._connected = False
        self._started_at: datetime = self.clock.now()
        self._login: Login
        self._lookups: Lookups
        self._resolver: Resolver
        self._submission: Submission
        self._cancellation: Cancellation
        self._intake: Intake
        self._replacement: Replacement | None

    def _environment_of(self, settings: BrokerSettings) -> str:
        """Return the environment chosen; live is never taken for granted."""
        choices = self.capabilities.environments
        if settings.environment is None and (len(choices) != 1 or "live" in choices):
            name, cure = self.capabilities.name, f"choose one, e.g. environment={choices[-1]!r}"
            why = f"no environment was named; {name} has {', '.join(choices)}."
            raise errors.EnvironmentNotChosen(why, broker=name, next_step=cure)
        return settings.environment or choices[0]

    @property
    def connection(self) -> Connection:
        """How the venue is reached, in words."""
        return Connection(endpoint=self.profile.venue)

    # --- the contract ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The instance's name, by default the broker's."""
        return self._services.instance

    @property
    def environment(self) -> str:
        """Where orders go."""
        return self._services.environment

    @property
    def account_id(self) -> str:
        """The account traded. Raises `BrokerClosed` before opening."""
        self._check_open()
        assert self._account is not None
        return self._account.account_id

    @property
    def guarantee(self) -> Guarantee:
        """How far one idempotency key means one venue order."""
        return guarantee_of(self.profile, durable=self._journal.store.durable)

    @final
    async def submit(self, order: Order, *, accept_duplicate_risk: bool = False) -> Order:
        """Place the order and return it as the venue acknowledged it.

        Raises `OrderDenied` (by us, nothing sent), `OrderRejected` (by the venue), `OrderNotPlaced`, or
        `OutcomeUnknown` (it may be live). The same idempotency key again gives the stored answer.
        """
        with self.operation("submit"):
            return await self._submission.submit(order, accept_duplicate_risk=accept_duplicate_risk)

    @final
    async def cancel(self, order_id: str) -> bool:
        """Cancel by our id or the venue's: True where it was taken, False where the order was final.

        Raises `OrderNotFound`, `OutcomeUnknown`, or `VenueError` where the venue refuses.
        """
        # What else failed keeps no cancel back.
        with self.operation("cancel", failed=True), self.unless_closed():
            if not order_id.strip():  # at some venues the path without an id cancels everything
                raise errors.OrderNotFound("no order id was given.", next_step="give the id of one order")
            return await self._cancellation.cancel(order_id)

    @final
    async def get_open_orders(self) -> list[Order]:
        """Return the orders the venue works; those placed elsewhere carry the venue's id as theirs."""
        with self.operation("get_open_orders"):
            listing = await self.open_orders(self.account_id)
            self._intake.report(listing.unreadable)
            await self._login.ingest.observe(listing.rows)
            orders, odd = await self._lookups.orders_of(listing.rows)
            self._intake.report(odd)
            return orders

    @final
    async def get_positions(self) -> list[Position]:
        """Return what is held."""
        with self.operation("get_positions"):
            listing = await self.positions(self.account_id)
            self._intake.report(listing.unreadable)
            return [row.evolve(broker=self.name) for row in listing.rows]

    @final
    def stream_fills(self, since: int | None = None, consumer: str = "default") -> AsyncIterator[Fill]:
        """Iterate over executions: after `since` (a seq), or after what `consumer` has acknowledged.

        Asking for the next fill acknowledges the one before, so a crash redelivers at most one.
        """
        self._check_open()
        return self._event_log.fills(since=since, consumer=consumer)

    @final
    def stream_events(
        self, since: int | None = None, consumer: str = "default"
    ) -> AsyncIterator[BrokerEvent]:
        """Iterate over everything logged: fills, busts, status changes, gaps, halts."""
        self._check_open()
        return self._event_log.events(since=since, consumer=consumer)

    async def wait_for(
        self,
        order: Order | str,
        until: Literal["filled", "final"] = "final",
        *,
        timeout: float | None = None,
    ) -> Order:
        """Wait until the order is final, or filled; `timeout` in seconds cancels nothing.

        Raises `WaitTimeout`, or `OrderError` where "filled" was wanted and it ended otherwise, or
        where it is found not to be at the venue.
        """
        with self.operation("wait_for"):
            record = self._login.find(order if isinstance(order, str) else order.order_id)
            order_id = str(order) if record is None else record.order.order_id
            try:
                async with self.clock.timeout(timeout):
                    bell = self._event_log.bell
                    while not (reached := self._reached(order_id, until)):
                        bell = await bell.told_of(order_id)
                    return reached
            except TimeoutError:
                record = self._login.find(order_id)
                what = record.order if record else order_id
                why = f"{what} was not {until} within {timeout} s; it was not cancelled."
                raise errors.WaitTimeout(why, next_step="wait again, or cancel the order") from None

    def _reached(self, order_id: str, until: Literal["filled", "final"]) -> Order | None:
        """Return the order where it got as far as wanted, None where it may yet; raise where it won't."""
        self._check_open()
        record = self._login.find(order_id)
        if record is None:
            raise errors.OrderNotFound(f"no order {order_id} was placed here.")
        if record.state is State.NOT_PLACED:
            return self._submission.answer(record)
        order = record.order
        if order.is_final and until == "filled" and order.status is not OrderStatus.FILLED:
            why, cure = f"{order} ended without being filled.", "look at its status and reason"
            raise errors.OrderError(why, order=order, next_step=cure)
        return order if order.is_final else None

    async def outcome(self, idempotency_key: str) -> Order:
        """Return the answer the journal holds for a key, or raise it; nothing is sent or asked.

        Raises `OrderNotFound` where the key was never used here.
        """
        with self.operation("outcome"):
            record = self._submission.stored(idempotency_key)
            if record is None:
                raise errors.OrderNotFound(f"the key {idempotency_key!r} was never used here.")
            return self._submission.answer(record)

    def holds(self, idempotency_key: str) -> bool:
        """True where the key was used here, or is being used; reads the journal, asks nobody."""
        self._check_open()
        return self._submission.holds(idempotency_key)

    async def unresolved(self) -> list[Order]:
        """Return the orders that may be live although nothing confirms it, oldest first.

        `reason` is the evidence so far, in words.
        """
        self._check_open()
        rows = self._journal.read(journal.unsettled, journal.UNRESOLVED)
        return [row.order.evolve(reason=row.words or str(row.state)) for row in rows]

    async def resolve(self, idempotency_key: str, broker_order_id: str | None = None) -> Order:
        """Settle an open question by a person's word: which venue order it is, or None that it isn't there.

        Raises `OrderNotFound` for a key or venue order nobody knows, `OrderError` where the order is no
        open question or the venue order is another's.
        """
        with self.operation("resolve"):
            record = self._submission.stored(idempotency_key)
            if record is None:
                why = f"the key {idempotency_key!r} was never used here."
                raise errors.OrderNotFound(why, next_step="take a key of unresolved()")
            return (await self._resolver.by_hand(record, broker_order_id)).order

    @property
    def lookups(self) -> Lookups:
        """The journal's knowledge of what the venue shows; for an adapter's own reads."""
        self._check_open()
        return self._lookups

    @property
    def halted(self) -> str | None:
        """Why trading is halted, or None."""
        return self._halt.reason()

    async def halt(self, reason: str) -> None:
        """Deny submits and replaces until `resume`, in every process of the state folder; cancels pass."""
        with self.operation("halt"):
            self._halt.set(reason)
            await self._event_log.note(EventKind.HALTED, reason)

    async def resume(self) -> None:
        """Allow trading again."""
        with self.operation("resume"):
            self._halt.clear()
            await self._event_log.note(EventKind.RESUMED)

    def _limited(self, name: str, seconds: float, priority: Priority) -> None:
        self._event_log.observed(
            EventKind.LIMITER_WAIT, name, seconds=f"{seconds:.3f}", priority=priority.name.lower()
        )

    def _skewed(self, skew: ClockSkew) -> None:
        offset, uncertainty = f"{skew.offset.total_seconds():.3f}", f"{skew.uncertainty:.3f}"
        self._event_log.observed(EventKind.SKEW, seconds=offset, uncertainty=uncertainty)

    # --- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise errors.BrokerClosed(
                f"this broker object was opened before and is {self._state}.", broker=self.name
            )
        self._state = "opening"
        self._loop = asyncio.get_running_loop()
        try:
            with self.operation("open", opening=True):
                await self._open()
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong first is what must be told
                await self._tear_down()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish the writes under way (at most `close_timeout` seconds), stop, and close the journal.

        What is not answered by then stays in the journal as unknown and is asked about at the next start.
        As long again the adapter may take to disconnect. Whoever stops waiting for it doesn't stop it, and
        who closes again waits for the same end.
        """
        if self._closing is None:
            if self._state in ("closed", "new"):
                self._state = "closed"
                return
            self._state = "closed"
            self._closing = asyncio.get_running_loop().create_task(self._close(), name=f"{self.name}: close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            if self._writes:
                async with self.clock.timeout(self.settings.close_timeout):
                    await asyncio.wait(set(self._writes))
        except TimeoutError:
            _log.warning("%s: closing with %d writes unanswered", self.name, len(self._writes))
        finally:
            await self._tear_down()

    async def _open(self) -> None:
        self._journal.store.open()
        self._owner.begin()
        self._lead(must=self.profile.login == "exclusive")
        if self.settings.record is not None:
            self.recorder = Recorder(self.settings.record, self.clock, source=self.capabilities.name)
        self._connected = True
        await self.connect()
        self._account = await self._choose_account()
        environment, venue = self.environment, self.profile.venue
        account_id = self._account.account_id
        await self._journal.claim_identity(venue=venue, environment=environment, account_id=account_id)
        self._assemble(f"{venue}\x1f{environment}\x1f{account_id}", account_id)
        if environment == "live" and not self.settings.gates.any:
            _log.warning("%s trades live without any gate; see gates in the settings", self.name)
        self._state = "open"
        if self._leader.leads:
            await self._take_in(opening=True)
        if self._journal.store.durable and self.profile.login == "shared":
            self._run(self._follow(), "follower")

    def _lead(self, *, must: bool = False) -> bool:
        """Own the login where nobody else does. Raises `StateLocked` where that is a `must`."""
        try:
            self._leader.take(f"the login of {self.name}")
        except errors.StateLocked:
            if must:
                raise
        return self._leader.leads

    async def _take_in(self, *, opening: bool = False) -> None:
        """Take in what the venue says; only the process that owns the login does.

        Whoever opens is told where the venue can't be read. One that takes over reads until it can.
        """
        self._run(self._intake.read(), "reader")
        if opening:
            await self._intake.settle_the_past()
        if self.profile.fill_source != "poll":
            self._run(self._intake.pump(), "frames")
            self._run(self._intake.merge(), "merging")
        if not self.connection.in_process:
            self._run(self._intake.reconcile(), "reconciliation")
            self._run(self._intake.watch(), "late orders")
        if not opening:
            try:
                await self._intake.settle_the_past()
            except (OSError, TimeoutError, errors.VenueError):
                self._intake.want_everything()

    async def _follow(self) -> None:
        """See what other processes write, and own the login once nobody else does."""
        store, version, turn = self._journal.store, -1, 0
        while True:
            await self.clock.sleep(_FOLLOW_EVERY)
            if (now := store.version) != version:
                version = now
                self._event_log.look_again()
            turn += 1
            if not self._leader.leads and turn % _LEAD_EVERY == 0 and self._lead():
                try:
                    await self._take_in()
                except BaseException:
                    self._leader.end()  # another process may manage
                    raise

    def _assemble(self, scope: str, account_id: str) -> None:
        quotes = self.get_quote if isinstance(self, SupportsQuotes) else None
        login = self._login = Login(
            port=self, broker=self.name, account_id=account_id, scope=scope, clock=self.clock,
            capabilities=self.capabilities, journal=self._journal, log=self._event_log, owner=self._owner,
            ingest=Ingest(self._event_log, self.profile, account_id, park_max=self.settings.park_max),
            instruments=InstrumentCache(self.instruments, self.clock),
            gates=Gatekeeper(self.settings.gates, self._halt, quotes),
            limiter=self.limiter, skew=self.skew, spawn=self._write,
            held_elsewhere=self._services.held_elsewhere,
        )  # fmt: skip
        self._lookups = Lookups(login)
        self._resolver = Resolver(login, self._run)
        within = self.settings.resend_within
        self._submission = Submission(login, self._resolver, resend_within=within)
        self._cancellation = Cancellation(login, self._resolver)
        self._replacement = Replacement(login, self) if isinstance(self, ReplacingClient) else None
        self._intake = Intake(
            login, self._resolver, since=self._started_at, settle_wait=self.settings.settle_wait,
            every=self.settings.reconcile_every, run=self._run,
        )  # fmt: skip

    async def _choose_account(self) -> Account:
        rows = (await self.accounts()).rows
        ids = [row.account_id for row in rows]
        wanted = self.settings.account
        if wanted is None and len(rows) == 1:
            return rows[0]
        for row in rows:
            if row.account_id == wanted:
                return row
        what = f"no account {wanted} in this login" if wanted else "the login has several accounts"
        why = f"{what}: {', '.join(ids) or 'none at all'}."
        raise errors.AccountNotChosen(why, choices=ids, next_step="set account to one of them")

    # --- tasks ----------------------------------------------------------------------------------

    def _write(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a write the broker owns: its result goes to whoever waits, its failure only to them."""
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return task

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio doesn't complain where nobody waits any more

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run background work whose crash makes the broker failed."""
        assert self._loop is not None
        task = self._loop.create_task(work, name=f"{self.name}: {name}")
        self._background.add(task)
        task.add_done_callback(lambda _: self._ended(task, name))
        return task

    def _ended(self, task: asyncio.Task[None], name: str) -> None:
        self._background.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._state != "open" or (error is None and not task.cancelled()):
            return
        self._state = "failed"
        # While nobody closes, a cancellation is as much an end as a crash: nothing takes its place.
        why = f"{name} was cancelled." if error is None else f"{name} ended: {error}"
        failure = errors.BrokerFailed(why, broker=self.name, operation="background")
        failure.__cause__ = error
        _log.error("%s", failure, exc_info=error)
        self._event_log.observed(EventKind.FAILED, why if error is None else str(error))
        self._event_log.fail(failure)

    async def _tear_down(self) -> None:
        self._state = "closed"
        tasks = [*self._background, *self._writes]
        for task in tasks:
            task.cancel()
        try:
            async with self.clock.timeout(self.settings.close_timeout):
                if tasks:
                    await asyncio.wait(tasks)
                if self._connected:
                    await self.disconnect()
        except TimeoutError:
            _log.warning("%s: disconnecting did not end in time and was cut off", self.name)
        finally:
            self._event_log.close()
            self._leader.end()
            self._owner.end()
            self._journal.store.close()
            if self.recorder is not None:
                self.recorder.close()

    def _check_open(self) -> None:
        if self._state == "failed":
            self._event_log.check()
        if self._state != "open":
            raise errors.BrokerClosed(f"this broker is {_WORDS[self._state]}.", broker=self.name)
        if self._loop is not _running_loop():
            raise errors.BrokerClosed("this broker belongs to another event loop.", broker=self.name)

    @contextlib.contextmanager
    def operation(self, operation: str, *, opening: bool = False, failed: bool = False) -> Iterator[None]:
        """See that the broker is open, then tell passing errors where they happened; for adapters too.

        `failed` lets the operation pass where a background task has failed.
        """
        if not (opening or (failed and self._state == "failed")):
            self._check_open()
        try:
            yield
        except errors.BrokerError as error:
            if error.broker == self.capabilities.name:  # the transport's word, which knows no instances
                error.broker = self.name
            error.located(broker=self.name, operation=operation)
            raise

    @contextlib.contextmanager
    def unless_closed(self) -> Iterator[None]:
        """Raise `OutcomeUnknown` where a write is cut off because the broker closes, not its caller."""
        try:
            yield
        except asyncio.CancelledError:
            if self._state != "closed" or door.being_cancelled():
                raise
            why, cure = "the broker was closed before the venue answered.", "open it again and read the order"
            raise errors.OutcomeUnknown(why, next_step=cure) from None

    def __repr__(self) -> str:
        account = self._account.account_id if self._account else "not opened"
        where = self._journal.store.path or "memory"
        return (
            f"{type(self).__name__}({self.name}, {self.environment}, {self.connection.endpoint}, "
            f"account={account}, journal={where}, guarantee={self.guarantee}, {self._state})"
        )


_WORDS = {"new": "not open yet", "opening": "still opening", "closed": "closed", "failed": "failed"}


class ReplacingClient:
    """The mixin for adapters whose venue can change a working order: supply `replace_one`."""

    _replacement: Replacement | None

    async def replace_one(self, ref: OrderRef, ticket: Ticket) -> PlaceResult:
        """Ask for one change, once."""
        raise errors.ConfigurationError("the adapter mixes in ReplacingClient but supplies no replace_one.")

    async def replace(
        self, order_id: str, changes: OrderChanges, *, idempotency_key: str | None = None
    ) -> Order:
        """Change price, stop or total quantity of a working order; our order id stays.

        Raises like `submit`; `OrderNotFound` for an id that was not placed here.
        """
        assert isinstance(self, VenueClient)
        with self.operation("replace"), self.unless_closed():
            assert self._replacement is not None
            work = self._replacement.replace(order_id, changes, idempotency_key)
            return await asyncio.shield(self._write(work))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
