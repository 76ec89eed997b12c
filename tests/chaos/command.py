"""The command line of chaos: what to run, how it is shown, and what is written down."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .kinds import KINDS, RATE, SETTINGS, TIMEOUT
from .run import Result, chaos, watched

REDUCED, FULL = 150, 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 where nothing was missed, 1 where something was."""
    options = _options(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    count = options.orders or (FULL if options.full else REDUCED)
    names = options.profile or list(KINDS)
    print(
        f"chaos: seed {seed}, {count} orders a profile from 50 tasks, {RATE:.0%} of requests meet a fault.\n"
        "One seed gives the same orders and the same fault for the nth request of a sort; times differ.\n"
        f"Times are shortened: {', '.join(f'{name}={value:g}' for name, value in SETTINGS.items())}, "
        f"timeout={TIMEOUT:g}; and where named below.",
        flush=True,
    )
    results = asyncio.run(_all(names, seed, count, options))
    print(table(results))
    for result in results:
        for finding in result.findings[: options.most]:
            print(f"\n  {result.profile}: {finding}")
        if len(result.findings) > options.most:
            print(f"\n  {result.profile}: and {len(result.findings) - options.most} more")
    if options.json is not None:
        options.json.write_text(json.dumps([_plain(row) for row in results], indent=1, default=str) + "\n")
    missed = [row.profile for row in results if not row.passed]
    again = f"  again: python -m tests.chaos --seed {seed} --orders {count}"
    print(f"\nmissed: {', '.join(missed)};{again}" if missed else f"\nnothing missed; seed {seed}")
    return bool(missed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="where the run begins; by default a new one, which is shown")
    parser.add_argument("--profile", action="append", choices=list(KINDS), help="only this one; repeatable")
    parser.add_argument("--orders", type=int, help=f"orders a profile; by default {REDUCED}")
    parser.add_argument("--full", action="store_true", help=f"{FULL} orders a profile")
    parser.add_argument("--json", type=Path, help="write the results here, too")
    parser.add_argument("--only", default="", help="only this kind of fault")
    parser.add_argument("--no-faults", action="store_true", help="nothing goes wrong")
    parser.add_argument("--most", type=int, default=5, help="findings shown of each profile, in full")
    return parser.parse_args(arguments)


async def _all(names: Sequence[str], seed: int, count: int, options: argparse.Namespace) -> list[Result]:
    results = []
    for name in names:
        async with watched() as left:
            result = await chaos(
                KINDS[name], seed, count, only=options.only, faults=not options.no_faults, say=_say
            )
        result.findings += left
        _say("")
        words = "ok" if result.passed else f"{len(result.findings)} missed"
        print(
            f"  {name}: {words}, {result.seconds:.1f} s ({result.scaled or 'nothing else scaled'})",
            flush=True,
        )
        results.append(result)
    return results


def _say(words: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{words[:110]}")
        sys.stderr.flush()


_COLUMNS: dict[str, Callable[[Result], object]] = {
    "profile": lambda row: row.profile,
    "guarantee": lambda row: row.guarantee,
    "orders": lambda row: row.orders,
    "requests": lambda row: row.requests,
    "faulty": lambda row: f"{row.faulty_share:.0%}",
    "unknown": lambda row: row.unknowns,
    "2nd try": lambda row: row.second_attempts,
    "late": lambda row: row.late,
    "dupl./told": lambda row: f"{row.duplicates}/{row.announced}",
    "fills": lambda row: row.fills,
    "busts": lambda row: row.busts,
    "gaps": lambda row: row.gaps,
    "links cut": lambda row: row.links_down,
    "open": lambda row: sum(row.states[name] for name in ("unknown", "sending", "ambiguous", "duplicate")),
    "seconds": lambda row: f"{row.seconds:.0f}",
    "settling": lambda row: f"{row.settling:.0f}",
    "verdict": lambda row: "ok" if row.passed else f"{len(row.findings)} missed",
}


def table(results: Sequence[Result]) -> str:
    """Return the results as text: a line a profile, then the faults by kind."""
    rows = [list(_COLUMNS), *([str(read(row)) for read in _COLUMNS.values()] for row in results)]
    kinds = sorted({kind for row in results for kind in row.faults})
    lines = [*_aligned(rows), "", "faults by kind"]
    return "\n".join(["", *lines, *_aligned([
        ["", *(row.profile for row in results)],
        *([kind, *(str(row.faults[kind]) for row in results)] for kind in kinds),
    ])])  # fmt: skip


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    ]  # fmt: skip


def _plain(result: Result) -> dict[str, Any]:
    row = {field.name: getattr(result, field.name) for field in fields(result)}
    counts = {name: dict(value) for name, value in row.items() if isinstance(value, Counter)}
    return {
        **row,
        **counts,
        "findings": [asdict(found) for found in result.findings],
        "passed": result.passed,
    }
