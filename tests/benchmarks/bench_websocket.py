"""How many frames a second pass the WebSocket, beside picows alone and other clients, on loopback.

One server process sends prebuilt fills of 350 bytes; every contender is a process, and they work in turn.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from peers import Worker, environment, interleaved

HERE = Path(__file__).parent
ROUNDS = 9
FRAMES = 50_000
OURS = ["picows", "picows + msgspec", "batches()", "batches() + msgspec"]
PEERS = ["websockets", "aiohttp"]
#: Ours, beside whom, and how many times as fast it must at least be.
BUDGETS = [
    ("batches()", "picows", 0.3),
    ("batches() + msgspec", "picows + msgspec", 0.5),
    ("batches()", "websockets", 2.0),
    ("batches()", "aiohttp", 1.0),
]


def main() -> int:
    """Print each rate, and each ratio beside its budget."""
    peers = environment(PEERS)
    with ExitStack() as stack:
        server = stack.enter_context(Worker(sys.executable, HERE / "peers_ws_server.py"))
        port = server.line().strip()
        rows = [(name, sys.executable) for name in OURS]
        if not isinstance(peers, str):
            rows += [(name, peers[0]) for name in PEERS]
        workers = {
            name: stack.enter_context(Worker(python, HERE / "peers_ws.py", name, port))
            for name, python in rows
        }
        figures = interleaved(workers, ROUNDS, dict.fromkeys(workers, FRAMES))
    took = {name: statistics.median(times) for name, times in figures.items()}
    print(f"ours on Python {sys.version.split()[0]}; peers: {peers if isinstance(peers, str) else peers[1]}")
    for name, value in took.items():
        print(f"{name:22} {1e6 / value:10,.0f} frames/s  {value:6.2f} us")
    missed = False
    for ours, other, budget in BUDGETS:
        what = f"{ours} / {other}"
        if other not in took:
            print(f"{what:40} not measured: {peers}")
            continue
        ratio = took[other] / took[ours]
        missed = missed or ratio < budget
        print(f"{what:40} {ratio:5.2f}  budget {budget:4.2f}  {'ok' if ratio >= budget else 'MISSED'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
