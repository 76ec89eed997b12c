"""The venue: latency and the races that follow, reports, reads, market data, and a failing disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from mts1b_brokers_core.foundation.errors import (
    BrokerClosed,
    BrokerFailed,
    InvalidInput,
    StateUnwritable,
    UnknownInstrument,
)
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, OrderStatus, Side
from mts1b_brokers_core.platform.clock import SteppedClock, from_ns
from mts1b_simulator import (
    BTC_USD,
    ConstantDelay,
    ExchangeConfig,
    FeeRule,
    InProcessVenue,
    Latency,
    MarketEvent,
    QuoteEvent,
    RecordedDelay,
    Refusal,
    ReportKind,
    SimulatedExchange,
    TradeEvent,
    UniformDelay,
    VenueState,
    VenueStatus,
    sample_feed,
    spot,
    synthetic_market,
)

BUY, SELL = Side.BUY, Side.SELL
START = 1_767_625_200_000_000_000
MS = 1_000_000
COIN = spot("COIN-USD", "Coin", lot="0.01")


def quote(ms: int, bid: str, ask: str, size: str = "10") -> QuoteEvent:
    return QuoteEvent(
        START + ms * MS, "COIN-USD", f"q{ms}", Decimal(bid), Decimal(size), Decimal(ask), Decimal(size)
    )


def trade(ms: int, price: str, size: str) -> TradeEvent:
    return TradeEvent(START + ms * MS, "COIN-USD", f"t{ms}", Decimal(price), Decimal(size))


@asynccontextmanager
async def open_venue(
    feed: Iterable[MarketEvent] | None = None, *, state: VenueState | None = None, **more: Any
) -> AsyncIterator[InProcessVenue]:
    clock = SteppedClock(from_ns(START), auto=True)
    accounts = {"a": {"USD": Decimal(10_000), "COIN": Decimal(10)}}
    exchange = SimulatedExchange(ExchangeConfig((COIN, BTC_USD), accounts, (FeeRule(),)), start_ns=START)
    venue = InProcessVenue(exchange, feed, clock, state, **more)
    await venue.start()
    try:
        yield venue
    finally:
        await venue.stop()


def ms_since(venue: InProcessVenue, ns: int | None = None) -> float:
    return ((venue.clock.now_ns() if ns is None else ns) - START) / MS


async def test_a_submit_takes_fifty_milliseconds_by_default() -> None:
    async with open_venue([quote(0, "99", "100"), quote(40, "109", "110"), quote(90, "119", "120")]) as venue:
        reply = await venue.submit(Order.market("COIN-USD", BUY, "1"), "t")
        assert ms_since(venue) == 50
        fills = await venue.fills_of([reply.order.venue_order_id])
        assert [fill.price for fill in fills] == [110]  # what was displayed when it arrived


async def test_a_fill_can_overtake_a_cancel_in_flight() -> None:
    async with open_venue([quote(0, "99", "101"), trade(120, "98", "1"), quote(500, "99", "101")]) as venue:
        reply = await venue.submit(Order.limit("COIN-USD", BUY, "1", price="99"), "t")
        await venue.clock.sleep(0.03)
        answer = await venue.cancel(reply.order.venue_order_id)  # leaves at 80 ms, arrives at 130 ms
        assert (answer.outcome, answer.order and answer.order.status) == ("final", OrderStatus.FILLED)


async def test_a_cancel_that_arrives_first_wins() -> None:
    async with open_venue([quote(0, "99", "101"), trade(131, "98", "1"), quote(500, "99", "101")]) as venue:
        reply = await venue.submit(Order.limit("COIN-USD", BUY, "1", price="99"), "t")
        await venue.clock.sleep(0.03)
        assert (await venue.cancel(reply.order.venue_order_id)).taken
        await venue.clock.sleep(1)
        assert await venue.fills_since() == []


async def test_each_leg_has_its_own_delay_and_recorded_ones_repeat() -> None:
    latency = Latency(RecordedDelay([10 * MS, 30 * MS]), ConstantDelay(5 * MS), ConstantDelay(100 * MS))
    async with open_venue(latency=latency) as venue:
        seen: list[tuple[str, float]] = []

        async def read() -> None:
            async for report in venue.reports(0):
                seen.append((str(report.kind), ms_since(venue)))

        reader = asyncio.create_task(read())
        times = []
        for number in range(3):
            reply = await venue.submit(Order.limit("COIN-USD", BUY, "1", price="9"), f"t{number}")
            times.append(ms_since(venue))
        await venue.cancel(reply.order.venue_order_id)
        assert times == [110, 240, 350]
        assert ms_since(venue) == 455
        assert reply.order.created_ns == START + 250 * MS
        await venue.stop()
        await reader
        assert seen == [("new", 110), ("new", 240), ("new", 350), ("canceled", 455)]


def test_uniform_delays_stay_in_bounds_and_repeat_under_a_seed() -> None:
    first, second = UniformDelay(5, 9, seed=3), UniformDelay(5, 9, seed=3)
    drawn = [first.next_ns() for _ in range(200)]
    assert drawn == [second.next_ns() for _ in range(200)]
    assert set(drawn) == {5, 6, 7, 8, 9}
    for broken in (lambda: ConstantDelay(-1), lambda: UniformDelay(9, 5), lambda: RecordedDelay([])):
        with pytest.raises(ValueError, match="delay"):
            broken()


async def test_giving_up_the_wait_does_not_stop_the_order() -> None:
    async with open_venue() as venue:
        task = asyncio.create_task(venue.submit(Order.limit("COIN-USD", BUY, "1", price="9"), "t"))
        await venue.clock.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await venue.clock.sleep(0.1)
        found = await venue.order_by_token("t")
        assert found is not None
        assert found.status is OrderStatus.NEW


async def test_reports_come_in_order_and_a_late_reader_can_begin_anywhere() -> None:
    feed = [quote(0, "99", "100"), trade(200, "98", "1"), quote(300, "99", "100")]
    async with open_venue(feed) as venue:
        await venue.submit(Order.limit("COIN-USD", BUY, "1", price="99"), "t")
        await venue.clock.sleep(1)
        await venue.submit(Order.limit("COIN-USD", BUY, "1", price="9"), "u")
        await venue.stop()
        rows = [report async for report in venue.reports(0)]
        assert [(row.sequence, row.kind) for row in rows] == [
            (1, ReportKind.NEW), (2, ReportKind.FILL), (3, ReportKind.NEW),
        ]  # fmt: skip
        assert rows[1].fill is not None
        assert rows[1].order is not None
        assert (rows[1].fill.trade_id, rows[1].order.status, rows[1].at_ns) == (
            "T1-1", OrderStatus.FILLED, START + 200 * MS,
        )  # fmt: skip
        assert [report.sequence async for report in venue.reports(2)] == [3]


async def test_a_reader_too_slow_for_the_buffer_is_told_what_it_lost() -> None:
    async with open_venue(report_buffer=4, latency=Latency.none()) as venue:
        for number in range(10):
            await venue.submit(Order.limit("COIN-USD", BUY, "1", price="9"), f"t{number}")
        await venue.stop()
        rows = [(row.sequence, str(row.kind)) async for row in venue.reports(0)]
        assert rows == [(6, "gap"), (7, "new"), (8, "new"), (9, "new"), (10, "new")]


async def test_the_reads_agree_with_each_other() -> None:
    feed = [
        quote(0, "99", "100"),
        trade(10, "100", "2"),
        trade(61_000, "99", "1"),
        quote(130_000, "99", "100"),
    ]
    async with open_venue(feed) as venue:
        await venue.clock.sleep(0.02)
        bought = await venue.submit(Order.market("COIN-USD", BUY, "1"), "t")
        resting = await venue.submit(Order.limit("COIN-USD", BUY, "2", price="90"), "u")
        assert [row.token for row in await venue.open_orders()] == ["u"]
        assert [row.token for row in await venue.orders_since()] == ["t", "u"]
        assert [row.token for row in await venue.orders_since(resting.order.created_ns)] == ["u"]
        assert await venue.order(bought.order.venue_order_id) == await venue.order_by_token("t")
        assert await venue.order("S7-7") is None
        balances = {row.currency: (row.total, row.held) for row in await venue.balances("a")}
        assert balances == {"USD": (9_900, 180), "COIN": (11, 0)}
        assert [(row.symbol, row.quantity) for row in await venue.positions("a")] == [("COIN-USD", 11)]
        assert [row.symbol for row in await venue.instruments()] == ["COIN-USD", "BTC-USD"]
        now = await venue.quote("COIN-USD")
        assert now is not None
        assert (now.bid, now.ask, now.ask_size) == (99, 100, 9)
        assert await venue.quote("BTC-USD") is None
        assert [row.price for row in await venue.trades("COIN-USD")] == [100]
        await venue.clock.sleep(125)
        bars = await venue.bars("COIN-USD", timedelta(minutes=1))
        assert [(row.open, row.close, row.volume) for row in bars] == [(100, 100, 2), (99, 99, 1)]
        merged = await venue.bars("COIN-USD", timedelta(minutes=2))
        assert [(row.high, row.low, row.volume) for row in merged] == [(100, 99, 3)]
        with pytest.raises(ValueError, match="can't be made"):
            await venue.bars("COIN-USD", timedelta(seconds=7))
        assert (await venue.fee_schedule("a")).tiers[0].taker_rate == 0
        assert await venue.now() == venue.clock.now()
        replaced = await venue.replace(resting.order.venue_order_id, OrderChanges(limit_price="91"))
        assert replaced.accepted
        assert await venue.cancel_all() == (resting.order.venue_order_id,)
        with pytest.raises(UnknownInstrument, match="did you mean COIN-USD"):
            await venue.quote("COIN-USDT")


async def test_market_data_ends_with_the_recording_and_the_venue_says_so() -> None:
    feed = [quote(0, "99", "100"), trade(10, "100", "2"), quote(20, "98", "99")]
    async with open_venue(feed) as venue:
        rows = venue.market_data(["COIN-USD"], ["quote", "trade", "book"])
        seen = [type(row).__name__ async for row in rows]
        assert seen == ["Trade", "Quote", "OrderBook"]
        assert venue.status is VenueStatus.ENDED
        refused = await venue.submit(Order.market("COIN-USD", BUY, "1"), "t")
        assert refused.reason is Refusal.RECORDING_ENDED
        assert [row async for row in venue.market_data(["COIN-USD"])] == []


async def test_an_order_expires_at_its_moment_without_any_market_event() -> None:
    async with open_venue() as venue:
        ends = from_ns(START) + timedelta(seconds=10)
        order = Order.limit("COIN-USD", BUY, "1", price="9", time_in_force="gtd", expires_at=ends)
        await venue.submit(order, "t")
        reports = venue.reports(1)
        report = await anext(reports)
        assert (report.kind, venue.clock.now()) == (ReportKind.EXPIRED, ends)


async def test_a_whole_recorded_day_runs_and_gives_the_same_numbers_twice(tmp_path: Path) -> None:
    async def run(state: VenueState | None) -> list[str]:
        events = list(sample_feed("crypto-day"))
        clock = SteppedClock(from_ns(events[0].ts_ns - 1), auto=True)
        exchange = SimulatedExchange(ExchangeConfig((BTC_USD,)), start_ns=clock.now_ns())
        venue = InProcessVenue(exchange, events, clock, state)
        await venue.start()
        for number in range(40):
            await clock.sleep(1_000)
            now = await venue.quote("BTC-USD")
            assert now is not None
            assert now.bid is not None
            order = (
                Order.limit("BTC-USD", BUY, "0.01", price=now.bid)
                if number % 2
                else Order.market("BTC-USD", BUY, "0.01")
            )
            await venue.submit(
                order.model_copy(update={"order_id": f"o{number}", "idempotency_key": f"o{number}"}),
                f"t{number}",
            )
        await clock.sleep(86_400)
        assert venue.status is VenueStatus.ENDED
        fills = await venue.fills_since()
        await venue.stop()
        return [repr(fill) for fill in fills]

    first = await run(None)
    assert len(first) > 20
    assert await run(None) == first
    assert await run(VenueState(tmp_path / "venue.db")) == first


async def test_a_failed_write_stops_the_venue_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "venue.db"
    state = VenueState(path)
    async with open_venue(state=state) as venue:
        kept = await venue.submit(Order.limit("COIN-USD", BUY, "1", price="9"), "kept")
        assert kept.accepted

        async def full(rows: object) -> None:
            raise StateUnwritable("disk full")

        state.save = full  # type: ignore[method-assign]
        reports = venue.reports()
        with pytest.raises(StateUnwritable):
            await venue.submit(Order.limit("COIN-USD", BUY, "1", price="9"), "lost")
        assert venue.status is VenueStatus.FAILED
        for call in (
            venue.open_orders,
            lambda: venue.cancel(kept.order.venue_order_id),
            lambda: anext(reports),
        ):
            with pytest.raises(StateUnwritable):
                await call()
    async with open_venue(state=VenueState(path)) as venue:
        assert [row.token for row in await venue.open_orders()] == ["kept"]


async def test_a_feed_that_breaks_fails_the_venue_with_its_cause() -> None:
    def broken() -> Iterable[MarketEvent]:
        yield quote(0, "99", "100")
        yield quote(10, "99", "100")
        raise RuntimeError("torn tape")

    async with open_venue(broken()) as venue:
        await venue.clock.sleep(1)
        with pytest.raises(BrokerFailed, match="torn tape"):
            await venue.quote("COIN-USD")


async def test_a_read_that_can_give_nothing_says_so_at_once() -> None:
    async with open_venue() as venue:
        for kinds, hint in ((("qoute",), "quote"), (("quote", "candles"), "quote, trade, book, bar")):
            with pytest.raises(InvalidInput, match=hint):
                venue.market_data(["COIN-USD"], kinds)
        with pytest.raises(InvalidInput, match="at least one kind"):
            venue.market_data(["COIN-USD"], ())
        for number in (0, -1):
            for call in (
                venue.order_book("COIN-USD", number),
                venue.trades("COIN-USD", number),
                venue.bars("COIN-USD", timedelta(minutes=1), limit=number),
            ):
                with pytest.raises(InvalidInput, match=f"{number}.*1 or more"):
                    await call


async def test_a_venue_that_is_not_running_says_so() -> None:
    async with open_venue() as venue:
        with pytest.raises(BrokerClosed, match="starts once"):
            await venue.start()
        await venue.stop()
        with pytest.raises(BrokerClosed, match="stopped"):
            await venue.submit(Order.market("COIN-USD", BUY, "1"), "t")


async def test_the_generator_drives_a_venue() -> None:
    async with open_venue(islice(synthetic_market(3, start_ns=START), 4_000)) as venue:
        await venue.clock.sleep(5)
        reply = await venue.submit(Order.market("BTC-USD", BUY, "0.01"), "t")
        assert (reply.order.status, reply.order.filled_quantity) == (OrderStatus.FILLED, Decimal("0.01"))
