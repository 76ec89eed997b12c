"""The optimism report: the same orders and market, another model, side by side."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from mts1b_brokers_core.foundation.orders import Order, OrderChanges, Side
from mts1b_simulator import (
    ExchangeConfig,
    FeeRule,
    QuoteEvent,
    SimulatedExchange,
    TradeEvent,
    optimism_report,
    spot,
)
from mts1b_simulator.commands import SubmitCommand

SECOND = 1_000_000_000
COIN = spot("COIN-USD", "Coin", lot="0.01")


def test_touch_claims_what_the_queue_did_not_give(make_lab: Any) -> None:
    start = SECOND
    config = ExchangeConfig((COIN,), {"a": {"USD": Decimal(1_000), "COIN": Decimal(5)}}, (FeeRule(),))
    exchange = SimulatedExchange(config, start_ns=start)
    commands = exchange.record_commands()
    events: list[Any] = [
        QuoteEvent(2 * SECOND, "COIN-USD", "q1", Decimal(100), Decimal(50), Decimal(102), Decimal(50)),
        TradeEvent(4 * SECOND, "COIN-USD", "t1", Decimal(100), Decimal(2)),
        TradeEvent(6 * SECOND, "COIN-USD", "t2", Decimal(110), Decimal(1)),
        TradeEvent(99 * SECOND, "COIN-USD", "later", Decimal(1), Decimal(100)),
    ]
    exchange.apply(events[0])
    exchange.advance(3 * SECOND)
    queued = exchange.submit(Order.limit("COIN-USD", Side.BUY, "2", price="100"), "queued")
    exchange.submit(Order.market("COIN-USD", Side.BUY, "1"), "taker")
    exchange.apply(events[1])
    exchange.advance(5 * SECOND)
    exchange.replace(queued.order.venue_order_id, OrderChanges(limit_price="99"))
    exchange.apply(events[2])
    exchange.advance(7 * SECOND)
    exchange.cancel_all()
    report = optimism_report(exchange, commands, events)
    assert [(row.token, row.used.filled, row.claimed.filled) for row in report.orders] == [
        ("queued", 0, 2), ("taker", 1, 1),
    ]  # fmt: skip
    assert [row.token for row in report.differing] == ["queued"]
    assert (report.used.fills, report.claimed.fills) == (1, 2)
    assert report.worth_claimed_beyond == {"USD": Decimal(20)}  # two coins at 100 that are worth 110
    text = "\n".join(report.lines())
    assert "trade_through" in text
    assert "touch claims 20.00 USD more" in text
    assert exchange.order_by_token("queued").filled_quantity == 0  # type: ignore[union-attr]


def test_commands_in_flight_are_played_at_the_moment_they_arrived() -> None:
    config = ExchangeConfig((COIN,), {"a": {"USD": Decimal(1_000)}}, (FeeRule(),))
    exchange = SimulatedExchange(config)
    commands = exchange.record_commands()
    quotes = [
        QuoteEvent(ns, "COIN-USD", f"q{ns}", Decimal(99), Decimal(5), Decimal(100 + ns), Decimal(5))
        for ns in (1, 5, 9)
    ]
    exchange.send(SubmitCommand(7, Order.market("COIN-USD", Side.BUY, "1"), "t"))
    for event in quotes:
        exchange.apply(event)
    report = optimism_report(exchange, commands, quotes, model="trade_through")
    assert report.differing == ()
    assert report.orders[0].used.average_price == 105
