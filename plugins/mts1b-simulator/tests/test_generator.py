"""The synthetic market is a market: same for a seed, never crossed, in time, conserving its own depth."""

from __future__ import annotations

from itertools import islice

import pytest

from mts1b_simulator import (
    DEFAULT_SHAPES,
    DeltaEvent,
    ExchangeConfig,
    SimulatedExchange,
    SnapshotEvent,
    TradeEvent,
    synthetic_market,
)

START = 1_767_625_200_000_000_000


def test_the_same_seed_gives_the_same_stream() -> None:
    first, second, other = (list(islice(synthetic_market(seed, start_ns=START), 2_000)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_a_markets_stream_does_not_depend_on_its_neighbours() -> None:
    alone = list(islice(synthetic_market(5, start_ns=START, shapes=DEFAULT_SHAPES[:1]), 500))
    among = (
        e for e in synthetic_market(5, start_ns=START) if e.symbol == DEFAULT_SHAPES[0].instrument.symbol
    )
    assert list(islice(among, 500)) == alone


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_stream_makes_sense(seed: int) -> None:
    instruments = tuple(shape.instrument for shape in DEFAULT_SHAPES)
    exchange = SimulatedExchange(ExchangeConfig(instruments), start_ns=START)
    last, trades = 0, 0
    for event in islice(synthetic_market(seed, start_ns=START), 8_000):
        assert event.ts_ns >= last
        last = event.ts_ns
        if isinstance(event, TradeEvent):
            trades += 1
            book = exchange.order_book(event.symbol, 1)
            assert book is not None
            best = book.asks[0] if event.side == "buy" else book.bids[0]
            assert (event.price, event.quantity <= best.quantity) == (best.price, True)
        exchange.apply(event)
        if isinstance(event, (SnapshotEvent, DeltaEvent)):
            book = exchange.order_book(event.symbol, 20)
            assert book is not None
            assert (len(book.bids), len(book.asks)) == (10, 10)
            assert book.bids[0].price < book.asks[0].price
    assert trades > 1_000
