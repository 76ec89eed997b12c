"""Instruments to start with: two spot pairs that trade around the clock and two shares of New York."""

from __future__ import annotations

from datetime import time
from decimal import Decimal

from mts1b_brokers_core.foundation.instruments import AssetClass, Instrument, TradingSession

_NEW_YORK = "America/New_York"
#: The New York sessions: pre-market, regular, post-market.
US_EQUITY_SESSIONS = (
    TradingSession(name="pre", timezone=_NEW_YORK, start=time(4), end=time(9, 30)),
    TradingSession(name="regular", timezone=_NEW_YORK, start=time(9, 30), end=time(16)),
    TradingSession(name="post", timezone=_NEW_YORK, start=time(16), end=time(20)),
)


def spot(symbol: str, name: str, *, tick: str = "0.01", lot: str = "0.00000001") -> Instrument:
    """Return a spot pair BASE-QUOTE that trades around the clock, at least 1 of its quote currency."""
    base, quote = symbol.split("-")
    return Instrument(
        symbol=symbol,
        asset_class=AssetClass.CRYPTO,
        base=base,
        quote=quote,
        native_symbol=symbol,
        name=name,
        price_increment=Decimal(tick),
        quantity_increment=Decimal(lot),
        min_quantity=Decimal(lot),
        min_notional=Decimal(1),
    )


def us_share(symbol: str, name: str, market: str) -> Instrument:
    """Return a share listed in New York: cents, whole shares, three sessions on weekdays."""
    return Instrument(
        symbol=symbol,
        asset_class=AssetClass.EQUITY,
        market=market,
        base=symbol,
        quote="USD",
        native_symbol=symbol,
        name=name,
        price_increment=Decimal("0.01"),
        quantity_increment=Decimal(1),
        min_quantity=Decimal(1),
        sessions=US_EQUITY_SESSIONS,
    )


BTC_USD = spot("BTC-USD", "Bitcoin")
ETH_USD = spot("ETH-USD", "Ether")
AAPL = us_share("AAPL", "Apple Inc.", "XNAS")
SPY = us_share("SPY", "SPDR S&P 500 ETF Trust", "ARCX")
#: What a simulated exchange lists where nothing else is said.
DEFAULT_INSTRUMENTS = (BTC_USD, ETH_USD, AAPL, SPY)
