"""The recordings that come with this package: one crypto day and two days of a share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from mts1b_brokers_core.foundation.errors import InvalidInput

from .feeds import MarketEvent, merge
from .recordings import Recording, read_recording

#: The samples by name: symbol, and the files that make it up, quotes first.
SAMPLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "crypto-day": ("BTC-USD", ("btc-usd_1m_quotes_2017-12-17.csv.gz", "btc-usd_1m_trades_2017-12-17.csv.gz")),
    "equity-days": ("AAPL", ("aapl_1m_quotes_2014-06-05.csv.gz", "aapl_1m_trades_2014-06-05.csv.gz")),
}


def sample(name: str) -> tuple[Recording, ...]:
    """Return a sample's recordings, quotes first. Raises `InvalidInput`, listing the names there are."""
    if name not in SAMPLES:
        raise InvalidInput(f"no sample {name!r} among {', '.join(SAMPLES)}.")
    symbol, names = SAMPLES[name]
    folder = Path(str(files(__package__) / "data"))
    return tuple(read_recording(folder / file, symbol) for file in names)


def sample_feed(*names: str) -> Iterator[MarketEvent]:
    """Return the events of samples as one feed, ascending in time."""
    return merge(*(recording for name in names for recording in sample(name)))
