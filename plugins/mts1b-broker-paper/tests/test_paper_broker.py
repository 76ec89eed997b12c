"""The paper broker as its user meets it: durable, exclusive, honest about what it is."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from mts1b_broker_paper.client import PaperClient
from mts1b_broker_paper.settings import PaperSettings
from mts1b_brokers_core import (
    ConfigurationError,
    InvalidInput,
    NaiveDatetime,
    Order,
    OrderChanges,
    OrderDenied,
    OrderNotFound,
    OrderRejected,
    OrderUnsupported,
    Side,
    StateError,
    UnsupportedCapability,
    open_broker,
)
from mts1b_brokers_core.foundation.capabilities import Operation
from mts1b_brokers_core.foundation.errors import (
    RecordingError,
    StateCorrupted,
    StateLocked,
    StateMismatch,
    StateUnwritable,
)
from mts1b_brokers_core.foundation.protocols import PROTOCOLS

DAY = datetime(2026, 1, 5, tzinfo=UTC)


def quick(**settings: object) -> PaperClient:
    """A broker that keeps nothing and runs as fast as the program."""
    return PaperClient(memory=True, pace="fast", **settings)


async def test_a_market_order_fills_at_once_and_holdings_add_up() -> None:
    async with quick() as broker:
        before = (await broker.get_account()).balance("USD")
        order = await broker.submit(Order.market("BTC-USD", Side.BUY, "0.02"))
        order = await broker.wait_for(order, "filled", timeout=10)
        fills = [await anext(broker.stream_fills(since=seq)) for seq in range(1)]
        account = await broker.get_account()
        assert before is not None
        spent = sum(
            (fill.price * fill.quantity + fill.fees[0].amount for fill in fills if fill.fees), Decimal(0)
        )
        usd, btc = account.balance("USD"), account.balance("BTC")
        assert usd is not None
        assert btc is not None
        assert btc.total == Decimal("0.02")
        assert usd.total == before.total - spent
        assert usd.held == 0
        assert order.settled
        assert fills[0].evidence["model"] == "trade_through"


async def test_what_it_claims_is_what_it_offers() -> None:
    async with quick() as broker:
        offered = {operation for operation in Operation if isinstance(broker, PROTOCOLS[operation])}
        assert offered == set(broker.capabilities.claimed)


@pytest.mark.parametrize(
    ("order", "error", "reason"),
    [
        (Order.limit("BTC-USD", Side.BUY, "0.01", price="96000.001"), OrderDenied, "price"),
        (Order.limit("BTC-USD", Side.BUY, "0.000000001", price="96000"), OrderDenied, "quantity"),
        (Order.limit("BTC-USD", Side.BUY, "0.00001", price="5"), OrderDenied, "notional"),
        (Order.limit("BTC-USD", Side.BUY, "100", price="96000"), OrderRejected, "insufficient_funds"),
        (Order.market("BTC-USD", Side.SELL, "0.01"), OrderRejected, "insufficient_funds"),
        (
            Order.limit("BTC-USD", Side.BUY, "0.01", price="999000", post_only=True),
            OrderRejected,
            "post_only_would_take",
        ),
        (
            Order.bracket("BTC-USD", Side.BUY, "0.01", take_profit="99000", stop_loss="90000"),
            OrderUnsupported,
            "unsupported",
        ),
        (Order.market("BTC-USD", Side.BUY, "0.01", time_in_force="opg"), OrderUnsupported, "unsupported"),
    ],
)
async def test_a_bad_order_is_refused_with_its_reason(
    order: Order, error: type[OrderDenied | OrderRejected], reason: str
) -> None:
    async with quick() as broker:
        with pytest.raises(error) as caught:
            await broker.submit(order)
        assert caught.value.reason == reason
        assert caught.value.next_step
        assert caught.value.broker == "paper"
        assert await broker.get_open_orders() == []
        assert await broker.get_positions() == []


async def test_orders_holdings_and_fills_survive_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "paper.journal"
    async with open_broker("paper", state_path=state) as broker:
        resting = await broker.submit(Order.limit("BTC-USD", Side.BUY, "0.01", price="50000"))
        bought = await broker.submit(Order.market("ETH-USD", Side.BUY, "0.5"))
        await broker.wait_for(bought, "filled", timeout=10)
        account = await broker.get_account()
        fill = await anext(broker.stream_fills())
    async with open_broker("paper", state_path=state) as broker:
        assert [order.order_id for order in await broker.get_open_orders()] == [resting.order_id]
        assert (await broker.get_account()).balances == account.balances
        again = await anext(broker.stream_fills())
        assert (again.fill_id, again.seq) == (fill.fill_id, fill.seq)
        stored = await broker.submit(bought.model_copy(update={"order_id": "retry"}))
        assert stored.broker_order_id == bought.broker_order_id
        assert await broker.cancel(resting.order_id) is True
        held = (await broker.get_account()).balance("USD")
        assert held is not None
        assert held.held == 0


async def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    state = tmp_path / "paper.journal"
    script = (
        "import asyncio, sys\nfrom mts1b_brokers_core import open_broker\n"
        "async def main():\n"
        f"    async with open_broker('paper', state_path={str(state)!r}):\n"
        "        pass\n"
        "asyncio.run(main())\n"
    )
    async with open_broker("paper", state_path=state):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stderr=asyncio.subprocess.PIPE
        )
        _, words = await child.communicate()
    assert child.returncode == 1
    assert b"StateLocked" in words
    assert f"process {os.getpid()}".encode() in words
    async with open_broker("paper", state_path=state) as broker:
        assert await broker.get_positions() == []


async def test_the_same_program_gives_the_same_fills_with_and_without_a_file(tmp_path: Path) -> None:
    async def run(**settings: object) -> list[tuple[object, ...]]:
        async with PaperClient(pace="fast", seed=11, **settings) as broker:
            resting = await broker.submit(Order.limit("BTC-USD", Side.BUY, "0.5", price="95990"))
            for _ in range(5):
                await broker.submit(Order.market("ETH-USD", Side.BUY, "0.3"))
            await broker.clock.sleep(120)
            await broker.cancel(resting.order_id)
            page = await broker.get_fills(since=DAY)
            return [(f.fill_id, f.price, f.quantity, f.executed_at, f.evidence) for f in page.rows]

    first = await run(memory=True)
    assert len(first) >= 5
    assert await run(memory=True) == first
    assert await run(state_path=tmp_path / "a.journal") == first


async def test_a_durable_account_goes_on_where_its_recording_was(tmp_path: Path) -> None:
    state = tmp_path / "paper.journal"

    async def morning() -> PaperClient:
        return PaperClient(state_path=state, data="crypto-day")

    async with await morning() as broker:
        feed = broker.stream_market_data(["BTC-USD"], ("quote",))
        for _ in range(300):
            await anext(feed)
        order = await broker.submit(Order.market("BTC-USD", Side.BUY, "0.1"))
        await broker.wait_for(order, "final", timeout=600)
        stopped = await broker.get_server_time()
    async with await morning() as broker:
        assert await broker.get_server_time() >= stopped
        again = await broker.submit(Order.market("BTC-USD", Side.SELL, "0.05"))
        again = await broker.wait_for(again, "filled", timeout=600)
        assert again.submitted_at is not None
        assert again.submitted_at >= stopped
        quote = await anext(broker.stream_market_data(["BTC-USD"], ("quote",)))
        assert quote.at >= stopped  # type: ignore[union-attr]


async def test_a_fast_generator_goes_on_from_the_accounts_time(tmp_path: Path) -> None:
    state = tmp_path / "paper.journal"
    async with PaperClient(state_path=state, pace="fast") as broker:
        await broker.clock.sleep(3600)
        await broker.submit(Order.market("BTC-USD", Side.BUY, "0.1"))
        stopped = await broker.get_server_time()
    async with PaperClient(state_path=state, pace="fast") as broker:
        assert timedelta(0) <= await broker.get_server_time() - stopped < timedelta(seconds=5)
        order = await broker.submit(Order.market("BTC-USD", Side.SELL, "0.1"))
        assert (await broker.wait_for(order, "filled", timeout=60)).settled


def lose(venue: Path, *, emptied: bool) -> None:
    for file in venue.parent.glob(f"{venue.name}*"):
        file.unlink()
    if emptied:
        venue.touch()


@pytest.mark.parametrize("harm", ["removed", "emptied"])
async def test_an_exchange_whose_file_was_lost_is_not_taken_for_the_old_one(
    tmp_path: Path, harm: str
) -> None:
    state = tmp_path / "paper.journal"
    async with PaperClient(state_path=state, pace="fast") as broker:
        await broker.submit(Order.market("BTC-USD", Side.BUY, "0.001"))
    lose(state.with_name("paper.journal.venue"), emptied=harm == "emptied")
    with pytest.raises((StateMismatch, StateCorrupted)) as caught:
        async with PaperClient(state_path=state, pace="fast"):
            pass
    assert caught.value.next_step


@pytest.mark.parametrize("call", ["get_orders", "get_fills"])
async def test_history_refuses_what_makes_no_page(call: str) -> None:
    async with quick() as broker:
        page = getattr(broker, call)
        with pytest.raises(NaiveDatetime):
            await page(since=datetime(2026, 1, 5))  # noqa: DTZ001 - that is the point
        with pytest.raises(InvalidInput, match="limit"):
            await page(since=DAY, limit=0)
        with pytest.raises(InvalidInput, match="cursor"):
            await page(since=DAY, cursor="abc")
        with pytest.raises(NaiveDatetime):
            await broker.get_bars("BTC-USD", interval=timedelta(minutes=1), start=datetime(2026, 1, 5))  # noqa: DTZ001


async def test_no_file_for_a_symbol_is_said_so() -> None:
    with pytest.raises(InvalidInput, match="no recording"):
        quick(recordings={"IBM": []})


async def test_what_is_kept_is_kept_from_others(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with PaperClient(state_path=folder / "paper.journal", pace="fast"):
        files = [file for file in folder.rglob("*") if file.is_file()]
        assert len(files) >= 4
        assert {file.stat().st_mode & 0o077 for file in files} == {0}
        assert {place.stat().st_mode & 0o077 for place in [folder, *folder.glob("*/")]} == {0}


async def test_reset_archives_the_account_and_begins_anew(tmp_path: Path) -> None:
    state = tmp_path / "paper.journal"
    broker = PaperClient(state_path=state, pace="fast")
    async with broker:
        await broker.submit(Order.market("BTC-USD", Side.BUY, "0.02"))
        await broker.submit(Order.limit("BTC-USD", Side.BUY, "0.02", price="50000"))
    done = broker.reset()
    assert done.epoch == 2
    assert done.journal.exists()
    async with PaperClient(state_path=state, pace="fast") as fresh:
        assert await fresh.get_positions() == []
        assert await fresh.get_open_orders() == []
        usd = (await fresh.get_account()).balance("USD")
        assert usd is not None
        assert usd.total == 100_000
        order = await fresh.submit(Order.market("BTC-USD", Side.BUY, "0.01"))
        assert order.broker_order_id not in (None, "")


async def test_an_account_in_memory_has_nothing_to_reset() -> None:
    broker = quick()
    async with broker:
        pass
    with pytest.raises(UnsupportedCapability, match="memory"):
        broker.reset()


async def test_replace_keeps_our_id_and_changes_the_rest() -> None:
    async with quick() as broker:
        order = await broker.submit(Order.limit("AAPL", Side.BUY, 10, price="100"))
        changed = await broker.replace(order.order_id, OrderChanges(limit_price="101", quantity=20))
        assert changed.order_id == order.order_id
        assert (changed.limit_price, changed.quantity) == (Decimal(101), Decimal(20))
        assert (await broker.get_order(order.order_id)).limit_price == 101
        with pytest.raises(OrderNotFound):
            await broker.replace("nobody", OrderChanges(quantity=1))


async def test_cancel_all_takes_what_is_open_and_answers_with_our_ids() -> None:
    async with quick() as broker:
        orders = [await broker.submit(Order.limit("AAPL", Side.BUY, 1, price="100")) for _ in range(3)]
        other = await broker.submit(Order.limit("BTC-USD", Side.BUY, "0.01", price="50000"))
        assert await broker.cancel_all("AAPL") == [order.order_id for order in orders]
        assert [row.order_id for row in await broker.get_open_orders()] == [other.order_id]


async def test_history_comes_in_pages() -> None:
    async with quick() as broker:
        for _ in range(5):
            await broker.submit(Order.market("ETH-USD", Side.BUY, "0.01"))
        seen: list[str] = []
        cursor = None
        while True:
            page = await broker.get_orders(since=DAY, cursor=cursor, limit=2)
            seen += [order.order_id for order in page.rows]
            cursor = page.cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 5
        assert [fill.seq for fill in (await broker.get_fills(since=DAY)).rows] == [1, 2, 3, 4, 5]


async def test_market_data_is_offered_and_bars_are_built() -> None:
    async with quick() as broker:
        quote = await broker.get_quote("BTC-USD")
        book = await broker.get_order_book("BTC-USD", 5)
        assert book.best_bid is not None
        assert quote.bid == book.best_bid.price
        feed = broker.stream_market_data(["BTC-USD"])
        first = await anext(feed)
        assert first.symbol == "BTC-USD"
        await broker.clock.sleep(180)
        bars = await broker.get_bars("BTC-USD", interval=timedelta(minutes=1))
        assert len(bars) >= 2
        assert all(bar.low <= bar.open <= bar.high for bar in bars)
        assert (await broker.get_fee_schedule()).tiers


async def test_the_account_says_what_it_is() -> None:
    async with quick(seed=3) as broker:
        account = await broker.get_account()
        assert account.metadata["data"] == "generator seed 3"
        assert account.metadata["fill_model"] == "trade_through"
        assert account.metadata["ends"] == "never"
        assert "seed 3" in repr(broker)
    async with quick(data="equity-days") as broker:
        ends = (await broker.get_account()).metadata["ends"]
        assert datetime.fromisoformat(ends) == datetime(2014, 6, 7, tzinfo=UTC)


async def test_a_recording_has_an_end_and_says_so() -> None:
    async with quick(data="crypto-day") as broker:
        seen = [row async for row in broker.stream_market_data(["BTC-USD"], ("quote",))]
        assert len(seen) > 1_000
        with pytest.raises(OrderRejected) as caught:
            await broker.submit(Order.market("BTC-USD", Side.BUY, "0.01"))
        assert caught.value.reason == "recording_ended"


async def test_an_unknown_recording_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="crypto-day"):
        quick(data="cripto-day")


def bars(tmp_path: Path, *rows: str) -> Path:
    file = tmp_path / "bars.csv.gz"
    file.write_bytes(gzip.compress("\n".join(["ts,open,high,low,close,volume", *rows, ""]).encode()))
    return file


async def test_bad_rows_of_a_recording_are_reported_and_cost_nothing_else(tmp_path: Path) -> None:
    good = [f"2024-01-02T15:{minute:02}:00Z,100,101,99,100.5,1000" for minute in range(10)]
    bad = ["2024-01-02T15:20:00Z,100,nonsense,99,100,5", "not a row at all"]
    broker = quick(recordings={"IBM": [bars(tmp_path, *good, *bad)]})
    async with broker:
        account = await broker.get_account()
        assert account.metadata["unreadable_count"] == "2"
        assert "nonsense" in account.metadata["unreadable_rows"]
        seen = [row async for row in broker.stream_market_data(["IBM"], ("bar",))]
        assert len(seen) >= 9


async def test_a_file_that_is_no_recording_says_what_to_give(tmp_path: Path) -> None:
    file = tmp_path / "notes.csv"
    file.write_text("dear diary,\n", encoding="utf-8")
    with pytest.raises(RecordingError) as caught:
        quick(recordings={"IBM": [file]})
    assert caught.value.next_step


async def test_a_full_disk_denies_and_loses_nothing(tmp_path: Path) -> None:
    """The child may write 3 MB to any file; then each write fails as on a full disk."""
    state = tmp_path / "paper.journal"
    script = f"""
import asyncio, json, resource, signal
from pathlib import Path
from mts1b_broker_paper.client import PaperClient
from mts1b_brokers_core import BrokerError, Order, Side

async def main():
    placed, error = [], None
    async with PaperClient(state_path=Path({str(state)!r}), pace="fast", submit_latency=0) as broker:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        for number in range(3000):
            order = Order.limit("BTC-USD", Side.BUY, "0.001", price="50000", idempotency_key=f"k-{{number}}")
            try:
                placed.append((await broker.submit(order)).idempotency_key)
            except BrokerError as failure:
                error = failure
                break
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        found = {{"placed": placed, "code": error and error.code, "next": error and error.next_step}}
        print(json.dumps(found))

try:
    asyncio.run(main())
except BrokerError:
    pass
"""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, words = await child.communicate()
    lines = [line for line in out.decode().splitlines() if line.startswith("{")]
    assert lines, words.decode()
    found = json.loads(lines[0])
    assert found["code"] in ("order_denied", "outcome_unknown", "broker_failed")
    assert found["next"]
    assert len(found["placed"]) > 20
    async with PaperClient(state_path=state, pace="fast") as broker:
        orders = await broker.venue.orders_since()
        ours = {(await broker.outcome(key)).broker_order_id for key in found["placed"]}
        assert ours <= {order.venue_order_id for order in orders}
        assert len(ours) == len(found["placed"])


async def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(StateUnwritable) as caught:
        async with PaperClient(state_path=file / "paper.journal"):
            pass
    assert caught.value.next_step


async def test_another_venues_file_is_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "paper.journal"
    state.with_name("paper.journal.venue").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(StateError):
        async with PaperClient(state_path=state):
            pass
    assert state.with_name("paper.journal.venue").read_bytes().endswith(b"x" * 100)


async def test_the_lock_error_is_typed_in_process_too(tmp_path: Path) -> None:
    state = tmp_path / "paper.journal"
    async with PaperClient(state_path=state):
        with pytest.raises(StateLocked, match=str(os.getpid())):
            async with PaperClient(state_path=state):
                pass


def test_settings_are_described() -> None:
    fields = PaperSettings.model_fields
    assert all(field.description for field in fields.values())


async def test_fees_latency_and_pace_are_the_users_to_set() -> None:
    fees = [{"tiers": [{"maker": "0", "taker": "0.001"}], "minimum": "0.5"}]
    async with PaperClient(memory=True, pace=86_400, fees=fees, submit_latency=[20, 80]) as broker:
        sent = broker.clock.now()
        order = await broker.submit(Order.market("BTC-USD", Side.BUY, "0.01"))
        took = (broker.clock.now() - sent).total_seconds()
        fill = await anext(broker.stream_fills(since=0))
        assert 0.02 <= took <= 0.081
        assert fill.fees is not None
        assert fill.fees[0].amount == fill.price * fill.quantity * Decimal("0.001")
        assert (await broker.get_account()).metadata["pace"] == "86400.0"
        assert order.is_final


async def test_a_setting_that_makes_no_sense_is_named() -> None:
    with pytest.raises(InvalidInput, match="fill_model"):
        quick(fill_model="hopeful")
    with pytest.raises(InvalidInput, match="did you mean fill_model"):
        quick(fil_model="touch")
    with pytest.raises(InvalidInput, match="float"):
        quick(cash={"USD": 0.1})


async def test_reads_say_where_they_failed() -> None:
    async with quick() as broker:
        for call in (
            broker.get_quote("NOPE"),
            broker.get_order_book("NOPE"),
            broker.get_bars("BTC-USD", interval=timedelta(0)),
            broker.get_orders(since=DAY, limit=0),
        ):
            with pytest.raises(InvalidInput) as caught:
                await call
            assert caught.value.broker == "paper"
            assert str(caught.value.operation).startswith("get_")
        with pytest.raises(InvalidInput, match="quote"):
            broker.stream_market_data(["BTC-USD"], ("quotes",))


@pytest.mark.parametrize(
    ("order", "cure", "not_cure"),
    [
        (Order.limit("BTC-USD", Side.BUY, "0.01", price="-5"), "change the price", "allow"),
        (Order.limit("BTC-USD", Side.BUY, "0.01", price="9.001"), "allow_adjust={'price'}", "quantity"),
        (Order.limit("BTC-USD", Side.BUY, "0.00001", price="5"), "the quantity or the price", "notional"),
        (Order.market("AAPL", Side.BUY, 1, asset_class="crypto"), "that asset class", "did you mean"),
    ],
)
async def test_the_cure_offered_is_one_that_helps(order: Order, cure: str, not_cure: str) -> None:
    async with quick() as broker:
        with pytest.raises((OrderDenied, InvalidInput)) as caught:
            await broker.submit(order)
        assert cure in caught.value.next_step
        assert not_cure not in caught.value.next_step
