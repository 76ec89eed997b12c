"""How many pushed fills a second reach `stream_fills()`, beside ccxt.pro, and picows with msgspec alone: once
for decoding and counting, once for an exact fill on an async iterator, which is what we and ccxt.pro do.

One server process sends prebuilt executions in Kraken's form, of 50 orders of ours; the contenders work in
turn, each in a process of its own.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from peers import Worker, environment, interleaved

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
ROUNDS = 5
FILLS = 20_480
FRAME = (
    '{"channel":"executions","type":"update","data":[{"order_id":"O%(o)d","exec_id":"T%(n)d",'
    '"exec_type":"trade","trade_id":%(n)d,"symbol":"BTC-USD","side":"buy","last_qty":0.01250000,'
    '"last_price":64123.1,"liquidity_ind":"t","cost":801.53875,"order_status":"partially_filled",'
    '"order_type":"limit","fees":[{"asset":"USD","qty":1.28246}],'
    '"timestamp":"2026-07-01T12:00:00.123456+00:00"}],"sequence":%(n)d}'
)
OURS = (
    "picows + msgspec, decoded",
    "picows + msgspec, fills",
    "log in memory",
    "durable log",
    "SQLite alone",
)
#: Ours, beside whom, how many times as fast it must at least be (None: stated), and why.
BUDGETS = [
    ("log in memory", "ccxt.pro", 5.0),
    ("log in memory", "picows + msgspec, fills", 0.3),
    ("log in memory", "picows + msgspec, decoded", None),
    ("durable log", "SQLite alone", None),
]


def main() -> int:
    """Print each rate, and each ratio beside its budget."""
    peers = environment(["ccxt", "msgspec"], beside=[str(ROOT)])
    with ExitStack() as stack:
        server = stack.enter_context(Worker(sys.executable, HERE / "peers_ws_server.py", FRAME))
        port = server.line().strip()
        python = sys.executable if isinstance(peers, str) else peers[0]
        rows = [(name, python) for name in (OURS if isinstance(peers, str) else (*OURS, "ccxt.pro"))]
        workers = {
            name: stack.enter_context(Worker(python, HERE / "peers_fills.py", name, port))
            for name, python in rows
        }
        figures = interleaved(workers, ROUNDS, dict.fromkeys(workers, FILLS))
    took = {name: statistics.median(times) for name, times in figures.items()}
    print(f"all on one interpreter: {peers if isinstance(peers, str) else peers[1]}")
    for name, value in took.items():
        print(f"{name:26} {1e6 / value:10,.0f} fills/s  {value:6.2f} us")
    missed = False
    for ours, other, budget in BUDGETS:
        what = f"{ours} / {other}"
        if other not in took:
            print(f"{what:44} not measured: {peers}")
            continue
        ratio = took[other] / took[ours]
        if budget is None:
            print(f"{what:44} {ratio:5.2f}  stated")
            continue
        missed = missed or ratio < budget
        print(f"{what:44} {ratio:5.2f}  budget {budget:4.2f}  {'ok' if ratio >= budget else 'MISSED'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
