"""A simulated exchange that fills orders no better than the market would have.

`SimulatedExchange` is the synchronous core, `InProcessVenue` the venue around it, `VenueState` its file.
Feeds come from `read_recording`, `synthetic_market` or anything that yields market events.
"""

from .accounts import BalanceView, PositionView
from .book import Book, SelfTradePolicy
from .csv_rows import ProblemKind, RowProblem
from .exchange import ExchangeConfig, SimulatedExchange
from .feeds import BarEvent, DeltaEvent, MarketEvent, QuoteEvent, SnapshotEvent, TradeEvent, merge
from .fees import CRYPTO_FEES, DEFAULT_FEES, EQUITY_FEES, FeeRule, VolumeTier
from .fill_models import FILL_MODELS, FillModel
from .generator import DEFAULT_SHAPES, MarketShape, synthetic_market
from .instruments import AAPL, BTC_USD, DEFAULT_INSTRUMENTS, ETH_USD, SPY, spot, us_share
from .latency import ConstantDelay, Latency, RecordedDelay, UniformDelay
from .orders import (
    CancelReply,
    Refusal,
    ReplaceReply,
    Report,
    ReportKind,
    SubmitReply,
    VenueFill,
    VenueOrder,
)
from .recordings import Recording, read_recording
from .report import OptimismReport, optimism_report
from .samples import SAMPLES, sample, sample_feed
from .state import Epoch, VenueState
from .venue import InProcessVenue, VenueStatus

__all__ = [
    "AAPL",
    "BTC_USD",
    "CRYPTO_FEES",
    "DEFAULT_FEES",
    "DEFAULT_INSTRUMENTS",
    "DEFAULT_SHAPES",
    "EQUITY_FEES",
    "ETH_USD",
    "FILL_MODELS",
    "SAMPLES",
    "SPY",
    "BalanceView",
    "BarEvent",
    "Book",
    "CancelReply",
    "ConstantDelay",
    "DeltaEvent",
    "Epoch",
    "ExchangeConfig",
    "FeeRule",
    "FillModel",
    "InProcessVenue",
    "Latency",
    "MarketEvent",
    "MarketShape",
    "OptimismReport",
    "PositionView",
    "ProblemKind",
    "QuoteEvent",
    "RecordedDelay",
    "Recording",
    "Refusal",
    "ReplaceReply",
    "Report",
    "ReportKind",
    "RowProblem",
    "SelfTradePolicy",
    "SimulatedExchange",
    "SnapshotEvent",
    "SubmitReply",
    "TradeEvent",
    "UniformDelay",
    "VenueFill",
    "VenueOrder",
    "VenueState",
    "VenueStatus",
    "VolumeTier",
    "merge",
    "optimism_report",
    "read_recording",
    "sample",
    "sample_feed",
    "spot",
    "synthetic_market",
    "us_share",
]
