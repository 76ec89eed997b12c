"""Replay of a recorded depth stream without orders, decoding excluded; run it by hand.

    python tests/benchmarks/bench_replay.py FILE      (a Binance combined stream)

Exits with 1 where it is slower than a thousand times real time.
"""

from __future__ import annotations

import gc
import sys
import time

from mts1b_simulator import ExchangeConfig, SimulatedExchange, read_recording, spot


def main() -> int:
    recording = read_recording(sys.argv[1])
    span = (recording.events[-1].ts_ns - recording.events[0].ts_ns) / 1e9
    levels = sum(len(getattr(event, "bids", ())) + len(getattr(event, "asks", ())) for event in recording)
    best = span
    for _ in range(3):
        exchange = SimulatedExchange(ExchangeConfig((spot(recording.symbol, "replayed", lot="0.00001"),)))
        gc.collect()
        begun = time.perf_counter()
        for event in recording:
            exchange.apply(event)
        best = min(best, time.perf_counter() - begun)
    print(f"{len(recording):,} events, {levels:,} levels, {span:.0f} s recorded")
    print(f"replayed in {best:.3f} s, {span / best:,.0f} x real time, budget 1,000")
    return int(span / best < 1_000)


if __name__ == "__main__":
    sys.exit(main())
