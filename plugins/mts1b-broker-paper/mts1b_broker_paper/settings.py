"""What can be set about a paper broker."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mts1b_brokers_core.foundation import BrokerSettings, Currency, NotNegative, Symbol


class PaperSettings(BrokerSettings):
    """The paper broker's settings; money in the currency named, times in milliseconds or seconds."""

    data: str = Field(
        default="generator",
        description="Where the market comes from: generator, or a recording that ships with it: "
        "crypto-day, equity-days.",
        examples=["generator", "crypto-day"],
    )
    recordings: dict[Symbol, tuple[Path, ...]] = Field(
        default_factory=dict,
        description="Market data files of your own by symbol; they take the place of `data`.",
        examples=[{"IBM": ["IBM_1m_quotes.csv.gz", "IBM_1m_trades.csv.gz"]}],
    )
    seed: int = Field(default=7, description="Seed of the generator and of random latencies.")
    pace: Literal["real", "fast"] | None = Field(
        default=None,
        description="real: a second takes a second; fast: as fast as the program computes. Default: real for "
        "the generator, fast for recordings.",
    )
    cash: dict[Currency, NotNegative] = Field(
        default_factory=lambda: {"USD": Decimal(100_000)},
        description="What the account opens with, by currency or asset; only a new account takes it.",
    )
    fill_model: Literal["trade_through", "touch"] = Field(
        default="trade_through",
        description="When a resting order fills: trade_through needs prints beyond its queue; touch is "
        "optimistic.",
    )
    submit_latency: Annotated[int, Field(ge=0)] = Field(
        default=50, description="Milliseconds until a new order reaches the exchange."
    )
    cancel_latency: Annotated[int, Field(ge=0)] = Field(
        default=50, description="Milliseconds until a cancel or replace reaches the exchange."
    )
    report_latency: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Milliseconds until what happened at the exchange reaches us."
    )
    market_hours: bool | None = Field(
        default=None,
        description="Refuse equity orders outside trading hours. Default: no for the generator, whose market "
        "never closes; yes for recordings.",
    )
    memory: bool = Field(default=False, description="Keep nothing: no journal and no account on disk.")
