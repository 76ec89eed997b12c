"""What a signed order costs over HTTP, beside a raw socket, httpx as it comes, and whole trading libraries.

One stub venue in a process of its own serves all; every contender is a process too, and they work in turn.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import trustme
from peers import Worker, environment, interleaved

HERE = Path(__file__).parent
ROUNDS = 20
ORDERS = 100
OURS = ["raw socket", "order path", "AsyncClient", "httpx"]
PEERS = ["nautilus_trader", "ccxt"]


def main() -> int:
    """Print each figure beside its budget."""
    authority = trustme.CA()
    peers = environment(PEERS, beside=[str(HERE.parents[1])])
    python = sys.executable if isinstance(peers, str) else peers[0]
    # Venue and client each have a core, as they each have a machine in earnest: a scheduler that puts a
    # blocking client onto the venue's own core makes it look twice as fast, and only it.
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    venue_core, client_core = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ca, certificate = Path(folder) / "ca.pem", Path(folder) / "server.pem"
        authority.cert_pem.write_to_path(str(ca))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))

        def start(*words: str, core: int | None) -> Worker:
            script, *arguments = words
            return stack.enter_context(Worker(python, HERE / script, *arguments, core=core))

        plain, secure = start("peers_http_stub.py", str(certificate), core=venue_core).line().split()
        names = [*OURS, *(f"{name}-tls" for name in OURS), "AsyncClient x50", "httpx x50"]
        names += [] if isinstance(peers, str) else PEERS
        workers = {}
        for name in names:
            port = secure if name.endswith("-tls") else plain
            workers[name] = start("peers_http.py", name, port, str(ca), core=client_core)
        # A request that waits for 49 others says little; the means of a few hundred do.
        counts = {name: 300 if name.endswith("x50") else ORDERS for name in workers}
        figures = interleaved(workers, ROUNDS, counts)
    took = {name: statistics.median(times) for name, times in figures.items()}
    print(f"peers: {peers}" if isinstance(peers, str) else f"all: {peers[1]}")
    for name, value in took.items():
        floor = took["raw socket-tls" if name.endswith("-tls") else "raw socket"]
        print(f"{name:22} {value:8.0f} us  {value / floor:6.2f} x raw socket")
    budgets: list[tuple[str, str, str, float]] = []
    for kind in ("", "-tls"):
        budgets += [
            (f"order path{kind} / raw socket", f"order path{kind}", f"raw socket{kind}", 2.5),
            (f"AsyncClient{kind} / raw socket", f"AsyncClient{kind}", f"raw socket{kind}", 4.0),
            (f"AsyncClient{kind} / httpx", f"AsyncClient{kind}", f"httpx{kind}", 1.0),
        ]
    budgets += [
        ("50 at once: AsyncClient / httpx", "AsyncClient x50", "httpx x50", 1 / 10),
        ("order path / nautilus_trader", "order path", "nautilus_trader", 1.0),
        ("order path / ccxt", "order path", "ccxt", 1 / 2.5),
    ]
    missed = False
    for what, ours, other, budget in budgets:
        if other not in took:
            print(f"{what:36} not measured")
            continue
        ratio = took[ours] / took[other]
        missed = missed or ratio > budget
        print(f"{what:36} {ratio:6.3f}  budget {budget:5.3f}  {'ok' if ratio <= budget else 'MISSED'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
