"""What the reference venue trades, and the standing liquidity it trades against."""

from __future__ import annotations

from decimal import Decimal

from mts1b_simulator.exchange import ExchangeConfig, SimulatedExchange
from mts1b_simulator.feeds import SnapshotEvent
from mts1b_simulator.fees import FeeRule, VolumeTier
from mts1b_simulator.instruments import AAPL, BTC_USD, ETH_USD

ACCOUNT = "main"
#: Shares trade around the clock here, so that a test means the same at any hour.
INSTRUMENTS = (BTC_USD, ETH_USD, AAPL.model_copy(update={"sessions": ()}))
#: Middle, distance of the levels, and size of each, by symbol: five levels a side.
_STANDING = {
    "BTC-USD": (Decimal(100_000), Decimal(5), Decimal(50)),
    "ETH-USD": (Decimal(4_000), Decimal(1), Decimal(1_000)),
    "AAPL": (Decimal(200), Decimal("0.05"), Decimal(10_000)),
}
_OPENING = {
    "USD": Decimal(10) ** 9, "BTC": Decimal(10_000), "ETH": Decimal(100_000), "AAPL": Decimal(1_000_000),
}  # fmt: skip
_FEES = (FeeRule((VolumeTier(maker=Decimal("0.001"), taker=Decimal("0.002")),)),)
#: Displayed depth stands for good: nothing here feeds it.
_NEVER_STALE = 1 << 62


def new_exchange(start_ns: int, epoch: int) -> SimulatedExchange:
    """Return an exchange with one rich account and its books filled."""
    config = ExchangeConfig(INSTRUMENTS, {ACCOUNT: _OPENING}, _FEES, stale_after_ns=_NEVER_STALE)
    exchange = SimulatedExchange(config, start_ns=start_ns, epoch=epoch)
    for symbol in _STANDING:
        refill(exchange, symbol)
    return exchange


def refill(exchange: SimulatedExchange, symbol: str) -> None:
    """Bring an instrument's displayed depth back to what it was."""
    middle, step, size = _STANDING[symbol]
    bids = tuple((middle - step * level, size) for level in range(1, 6))
    asks = tuple((middle + step * level, size) for level in range(1, 6))
    exchange.apply(SnapshotEvent(exchange.now_ns, symbol, "standing", bids, asks))
