"""Where the paper market comes from: the generator, a bundled recording, or files of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from mts1b_brokers_core.foundation import AssetClass, Clock, ConfigurationError, Instrument, InvalidInput
from mts1b_brokers_core.foundation.errors import nearest
from mts1b_brokers_core.platform.clock import RealClock, SteppedClock, from_ns
from mts1b_simulator import (
    DEFAULT_INSTRUMENTS,
    SAMPLES,
    MarketEvent,
    Recording,
    merge,
    read_recording,
    sample,
    spot,
    synthetic_market,
    us_share,
)

from .settings import PaperSettings

#: Where simulated time begins when the generator runs as fast as the program computes.
_GENERATOR_START = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PaperMarket:
    """A market to trade on: what is listed, what happens when, by which clock, and what it is in words.

    `events` takes what tells the exchange's time (ns, UTC), asked when the first event is wanted.
    `end` is the time of the last event (UTC), None for a market without end; `problems` name rows of
    the recordings by kind: unreadable, left out, or used but doubtful.
    """

    instruments: tuple[Instrument, ...]
    events: Callable[[Callable[[], int]], Iterable[MarketEvent]]
    clock: Clock
    words: str
    end: datetime | None = None
    problems: Mapping[str, Sequence[str]] = field(default_factory=dict)


def market_for(settings: PaperSettings, clock: Clock | None) -> PaperMarket:
    """Build the market that the settings describe. Raises `ConfigurationError` or `RecordingError`."""
    if settings.recordings:
        files = [(symbol, path) for symbol, paths in settings.recordings.items() for path in paths]
        own = [read_recording(path, symbol) for symbol, path in files]
        return _recorded(settings, own, "your own recordings", clock)
    if settings.data == "generator":
        return _generated(settings, clock)
    if settings.data not in SAMPLES:
        names = ["generator", *SAMPLES]
        close = nearest(settings.data, names, most=1)
        raise ConfigurationError(
            f"there is no market data {settings.data!r}; there is {', '.join(names)}.",
            next_step=f"did you mean {close[0]}?" if close else "use `recordings` for files of your own",
        )
    return _recorded(settings, sample(settings.data), f"recording {settings.data}", clock)


def _generated(settings: PaperSettings, clock: Clock | None) -> PaperMarket:
    if clock is None:
        real = settings.pace in (None, "real")
        clock = RealClock() if real else _simulated(_GENERATOR_START, settings)
    listed = tuple(_hours(row, settings.market_hours or False) for row in DEFAULT_INSTRUMENTS)
    return PaperMarket(
        instruments=listed,
        events=partial(_synthetic, settings.seed),
        clock=clock,
        words=f"generator seed {settings.seed}",
    )


def _recorded(
    settings: PaperSettings, recordings: Sequence[Recording], words: str, clock: Clock | None
) -> PaperMarket:
    if not recordings:
        raise InvalidInput("no recording was given.", next_step="name at least one file for each symbol")
    first = min(recording.events[0].ts_ns for recording in recordings)
    last = max(recording.events[-1].ts_ns for recording in recordings)
    hours = settings.market_hours is not False
    return PaperMarket(
        instruments=tuple(
            _hours(_listed(symbol), hours) for symbol in dict.fromkeys(row.symbol for row in recordings)
        ),
        events=lambda now_ns: merge(*recordings),
        clock=clock or _simulated(from_ns(first), settings),
        words=f"{words}, {from_ns(first):%Y-%m-%d %H:%M} to {from_ns(last):%Y-%m-%d %H:%M} UTC",
        end=from_ns(last),
        problems=_by_kind(recordings),
    )


def _by_kind(recordings: Sequence[Recording]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for recording in recordings:
        for problem in recording.problems:
            found.setdefault(str(problem.kind), []).append(f"{recording.path.name}: {problem}")
    return found


def _synthetic(seed: int, now_ns: Callable[[], int]) -> Iterator[MarketEvent]:
    yield from synthetic_market(seed, start_ns=now_ns())


def _simulated(start: datetime, settings: PaperSettings) -> SteppedClock:
    pace = settings.pace
    speed = None if pace in (None, "fast") else 1.0 if pace == "real" else pace
    assert not isinstance(speed, str)
    return SteppedClock(start, auto=True, speed=speed)


def _listed(symbol: str) -> Instrument:
    known = {row.symbol: row for row in DEFAULT_INSTRUMENTS}
    if symbol in known:
        return known[symbol]
    if symbol.count("-") == 1:
        return spot(symbol, symbol)
    if "-" in symbol or "@" in symbol:
        raise InvalidInput(
            f"{symbol} is neither a pair nor a share.", next_step="name recordings like ETH-USD or IBM"
        )
    # Shares of other listings quote to the hundredth of a cent below the whole cent, e.g. BAC in 2013.
    return us_share(symbol, symbol, "XNYS").model_copy(update={"price_increment": Decimal("0.0001")})


def _hours(instrument: Instrument, keep: bool) -> Instrument:
    if keep or instrument.asset_class is not AssetClass.EQUITY:
        return instrument
    return instrument.evolve(sessions=())
