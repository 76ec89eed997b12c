"""The simulated exchange as a venue in this process: commands travel, state is written, answers go out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import BrokerClosed, BrokerError, BrokerFailed
from mts1b_brokers_core.foundation.orders import Order, OrderChanges

from . import failpoints
from .changes import Changes
from .commands import CancelAllCommand, CancelCommand, Command, ReplaceCommand, Reply, SubmitCommand
from .exchange import SimulatedExchange
from .feeds import BarEvent, MarketEvent, TradeEvent
from .history import History, bar_of, trade_of
from .latency import Delay, Latency
from .orders import CancelReply, ReplaceReply, Report, SubmitReply
from .reads import VenueReads
from .state import VenueState
from .streams import Channel, MarketData, ReportLog, check_kinds


class VenueStatus(StrEnum):
    """Where the venue stands: `ended` still answers, but its recording is over."""

    NEW = "new"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    STOPPED = "stopped"


class InProcessVenue(VenueReads):
    """Runs an exchange, its feed and its state on one clock, and answers as a venue does.

    A command takes the submit or cancel leg to arrive, is carried out at that moment, written down where
    there is a `state`, and only then answered and reported, after the report leg. One event loop.
    `report_buffer` bounds what is kept for slow report readers.
    """

    def __init__(
        self, exchange: SimulatedExchange, feed: Iterable[MarketEvent] | None, clock: Clock,
        state: VenueState | None = None, *, latency: Latency | None = None, report_buffer: int = 65_536,
    ) -> None:  # fmt: skip
        self.exchange = exchange
        self.clock = clock
        self.status = VenueStatus.NEW
        self._feed: Iterator[MarketEvent] = iter(feed if feed is not None else ())
        self._endless = feed is None
        self._head: MarketEvent | None = None
        self._state = state
        self._latency = latency or Latency()
        self._log = ReportLog(report_buffer)
        self._channels: list[tuple[frozenset[str], frozenset[str], Channel[MarketData]]] = []
        self._history = {symbol: History(symbol) for symbol in exchange.markets}
        self._error: BrokerError | None = None
        self._resume_ns = 0
        self._pump: asyncio.Task[None] | None = None
        self._asleep_until_ns = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writes: deque[asyncio.Task[None]] = deque()
        self._outbox: deque[tuple[int, list[Report]]] = deque()

    # --- life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the state, come back to what it holds, and begin the feed. Raises `StateError`."""
        if self.status is not VenueStatus.NEW:
            raise BrokerClosed(f"the venue is {self.status}; it starts once.")
        if self._state is not None and self._state.open(self.exchange):
            # Prints up to here were used or passed by before: they only rebuild the quotes.
            self._resume_ns = self.exchange.now_ns
            self._log.last = self.exchange.recorder.report_count
        self.status = VenueStatus.RUNNING
        self._next_event()
        self._advance()
        self._wake_pump()

    async def stop(self) -> None:
        """Stop the feed, finish what is being written, end all readers; harmless when stopped already."""
        if self.status is VenueStatus.STOPPED:
            return
        failed = self.status is VenueStatus.FAILED
        self.status = VenueStatus.STOPPED
        tasks = [*self._tasks, *([self._pump] if self._pump else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._writes, return_exceptions=True)
        if self._outbox:
            self._log.publish(report for _, batch in self._outbox for report in batch)
        self._close_readers(self._error if failed else None)
        if self._state is not None:
            self._state.close()

    def _close_readers(self, error: BaseException | None) -> None:
        self._log.close(error)
        for _, _, channel in self._channels:
            channel.close(error)

    def _fail(self, error: BaseException) -> None:
        """Stop answering for good: what was acknowledged is safe, nothing more will be."""
        if self._error is not None:
            return
        if not isinstance(error, BrokerError):
            failure = BrokerFailed(f"the simulated venue stopped: {error!r}.")
            failure.__cause__ = error
            error = failure
        self._error, self.status = error, VenueStatus.FAILED
        self._close_readers(error)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self.status not in (VenueStatus.RUNNING, VenueStatus.ENDED):
            raise BrokerClosed(f"the simulated venue is {self.status}.")

    # --- time ------------------------------------------------------------------------------------------

    def _next_event(self) -> None:
        self._head = next(self._feed, None)
        if self._head is None and not self._endless and self.status is VenueStatus.RUNNING:
            self.status = VenueStatus.ENDED
            self.exchange.end_recording()
            for _, _, channel in self._channels:
                channel.close()

    def _advance(self) -> None:
        """Let everything due by now happen, in its order, and see that it is written and reported."""
        now_ns, exchange = self.clock.now_ns(), self.exchange
        try:
            while (event := self._head) is not None and event.ts_ns <= now_ns:
                if event.ts_ns > self._resume_ns:
                    exchange.apply(event)
                else:
                    exchange.observe(event)
                self._publish(event)
                self._next_event()
            exchange.advance(now_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may go on trading here
            self._fail(error)
            return
        changes = exchange.drain()
        if changes:
            self._commit(changes)
        due_ns = self._due_ns()
        if due_ns is not None and due_ns < self._asleep_until_ns:
            self._wake_pump()

    def _due_ns(self) -> int | None:
        due = [ns for ns in (self._head and self._head.ts_ns, self.exchange.next_due_ns) if ns is not None]
        return min(due, default=None)

    def _wake_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self._asleep_until_ns = _NEVER
        self._pump = asyncio.get_running_loop().create_task(self._run(), name="simulated-venue")

    async def _run(self) -> None:
        while self._error is None and (due_ns := self._due_ns()) is not None:
            self._asleep_until_ns = due_ns
            await self._until(due_ns)
            self._asleep_until_ns = 0
            self._advance()
        self._asleep_until_ns = _NEVER

    async def _until(self, ns: int) -> None:
        while (left := ns - self.clock.now_ns()) > 0:
            await self.clock.sleep(left / 1e9)

    # --- writing and reporting -------------------------------------------------------------------------

    def _commit(self, changes: Changes) -> None:
        """Write changes, then report them; without durable state at once."""
        state = self._state
        if state is None:
            self._report(changes.reports)
            return
        rows = state.encode(self.exchange, changes)
        hold = self.clock.hold()
        hold.__enter__()  # the clock must not jump while the store's thread works

        async def write() -> None:
            try:
                if self._error is not None:
                    return
                await state.save(rows)
                self._report(changes.reports)
            except Exception as error:  # noqa: BLE001 - a lost write ends the venue, whatever lost it
                self._fail(error)
            finally:
                hold.__exit__(None, None, None)
                self._writes.remove(task)

        task = asyncio.get_running_loop().create_task(write(), name="simulated-venue-write")
        self._writes.append(task)

    def _report(self, reports: list[Report]) -> None:
        if not reports:
            return
        delay = self._latency.report.next_ns()
        if not delay and not self._outbox:
            self._send_out(reports)
            return
        last = self._outbox[-1][0] if self._outbox else 0
        self._outbox.append((max(last, self.clock.now_ns() + delay), reports))
        if len(self._outbox) == 1:
            self._spawn(self._deliver())

    async def _deliver(self) -> None:
        while self._outbox:
            await self._until(self._outbox[0][0])
            self._send_out(self._outbox.popleft()[1])

    def _send_out(self, reports: list[Report]) -> None:
        failpoints.hit("report.before")
        self._log.publish(reports)
        failpoints.hit("report.after")

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _written(self) -> None:
        """Wait until all that happened so far is safe; only then may it be told."""
        if self._writes:
            await asyncio.shield(self._writes[-1])  # they end in their order
        self._check()

    # --- commands ----------------------------------------------------------------------------------------

    async def submit(self, order: Order, token: str, *, account_id: str | None = None) -> SubmitReply:
        """Place an order under a token that names it for good. Raises `StateError` where it can't be kept."""
        reply = await self._carry(SubmitCommand(0, order, token, account_id), self._latency.submit)
        assert isinstance(reply, SubmitReply)
        return reply

    async def cancel(self, venue_order_id: str) -> CancelReply:
        """Cancel an order: a fill may come first while the request travels."""
        reply = await self._carry(CancelCommand(0, venue_order_id), self._latency.cancel)
        assert isinstance(reply, CancelReply)
        return reply

    async def replace(self, venue_order_id: str, changes: OrderChanges) -> ReplaceReply:
        """Change an order; the same id goes on."""
        reply = await self._carry(ReplaceCommand(0, venue_order_id, changes), self._latency.submit)
        assert isinstance(reply, ReplaceReply)
        return reply

    async def cancel_all(self, symbol: str | None = None, account_id: str | None = None) -> tuple[str, ...]:
        """Cancel all open orders, or those of a symbol or account; return the ids taken."""
        reply = await self._carry(CancelAllCommand(0, symbol, account_id), self._latency.cancel)
        assert isinstance(reply, tuple)
        return reply

    async def _carry(self, command: Command, delay: Delay) -> Reply:
        """Let a command travel, arrive, be written down and answered.

        A caller who gives up stops nothing: the command arrives all the same.
        """
        self._check()
        failpoints.hit("command.before")
        command.arrival_ns = self.clock.now_ns() + delay.next_ns()
        self.exchange.send(command)
        try:
            await self._arrive(command.arrival_ns)
        except asyncio.CancelledError:
            if command.reply is None and self._error is None:
                self._spawn(self._arrive(command.arrival_ns))
            raise
        self._check()
        await self._written()
        back = self._latency.report.next_ns()
        if back:
            await self._until(self.clock.now_ns() + back)
        failpoints.hit("reply.before")
        assert command.reply is not None
        return command.reply

    async def _arrive(self, ns: int) -> None:
        if ns > self.clock.now_ns():
            await self._until(ns)
        else:
            await self.clock.sleep(0)
        if self.status in (VenueStatus.RUNNING, VenueStatus.ENDED):
            self._advance()
            failpoints.hit("command.after")

    async def _read(self) -> SimulatedExchange:
        """Come to the present, and to nothing that is not yet safe."""
        self._check()
        self._advance()
        await self._written()
        return self.exchange

    # --- streams -----------------------------------------------------------------------------------------

    def reports(self, after: int | None = None) -> AsyncIterator[Report]:
        """Iterate over execution reports after a sequence number, or from now on.

        Ends when the venue stops; raises what made it fail. A reader slower than the buffer gets one
        `gap` report in place of those it lost.
        """
        return self._log.read(self._log.last if after is None else after)

    @property
    def last_report(self) -> int:
        """The sequence number of the last report sent out."""
        return self._log.last

    def market_data(
        self, symbols: Sequence[str], kinds: Sequence[str] = ("quote", "trade")
    ) -> AsyncIterator[MarketData]:
        """Iterate over quotes, trades, books (`book`) and bars (`bar`) from now on, until the feed ends.

        A reader more than 10,000 entries behind loses the oldest. Raises `UnknownInstrument`, `InvalidInput`.
        """
        check_kinds(kinds)
        for symbol in symbols:
            self.exchange.market(symbol)
        channel: Channel[MarketData] = Channel(10_000)
        if self.status in (VenueStatus.RUNNING, VenueStatus.NEW):
            self._channels.append((frozenset(symbols), frozenset(kinds), channel))
        else:
            channel.close(self._error)
        return channel.read()

    def _publish(self, event: MarketEvent) -> None:
        symbol = event.symbol
        if isinstance(event, (TradeEvent, BarEvent)) and symbol in self._history:
            self._history[symbol].add(event)
        for symbols, kinds, channel in self._channels:
            if symbol in symbols:
                for entry in self._entries(event, kinds):
                    channel.put(entry)

    def _entries(self, event: MarketEvent, kinds: frozenset[str]) -> Iterator[MarketData]:
        if isinstance(event, TradeEvent):
            if "trade" in kinds:
                yield trade_of(event)
        elif isinstance(event, BarEvent):
            if "bar" in kinds:
                yield bar_of(event)
        else:
            if "quote" in kinds and (quote := self.exchange.quote(event.symbol)) is not None:
                yield quote
            if "book" in kinds and (book := self.exchange.order_book(event.symbol)) is not None:
                yield book


_NEVER = 1 << 62
