"""What can be set about a paper broker."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mts1b_brokers_core.foundation import BrokerSettings, Currency, NotNegative, Symbol
from mts1b_simulator import FeeRule, SelfTradePolicy

_Whole = Annotated[int, Field(ge=0)]
Milliseconds = _Whole | tuple[_Whole, _Whole]


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
    pace: Literal["real", "fast"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="real: a second takes a second; fast: as fast as the program computes; a number: that "
        "many simulated seconds a second. Default: real for the generator, fast for recordings.",
        examples=["fast", 60],
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
    fees: tuple[FeeRule, ...] | None = Field(
        default=None,
        description="What trading costs, the first rule that applies. Default: 0.40 % maker and 0.60 % taker "
        "falling with volume for crypto, 0.005 USD a share and at least 1 USD for equities.",
        examples=[[{"tiers": [{"maker": "0.001", "taker": "0.002"}], "minimum": "0.5"}]],
    )
    self_trade: SelfTradePolicy = Field(
        default=SelfTradePolicy.CANCEL_NEWEST,
        description="What happens where two orders of the account would trade with each other.",
    )
    submit_latency: Milliseconds = Field(
        default=50,
        description="Milliseconds until a new order or change reaches the exchange; a pair of numbers is a "
        "range drawn from under the seed.",
        examples=[50, [20, 80]],
    )
    cancel_latency: Milliseconds = Field(
        default=50, description="Milliseconds until a cancel reaches the exchange, likewise."
    )
    report_latency: Milliseconds = Field(
        default=0, description="Milliseconds until what happened at the exchange reaches us, likewise."
    )
    market_hours: bool | None = Field(
        default=None,
        description="Refuse equity orders outside trading hours. Default: no for the generator, whose market "
        "never closes; yes for recordings.",
    )
    memory: bool = Field(default=False, description="Keep nothing: no journal and no account on disk.")
