"""`hatch run death`: kills processes at every arrow of an order's and a fill's way; exits 1 on a miss."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from death_run import ARROWS, MAIN, Verdict, cells, run


def main() -> int:
    """Run them all, print the table, and say what didn't agree."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=0, help="seed of the market and of what goes wrong")
    options.add_argument("--arrow", default="", help="only arrows whose words or point contain this")
    options.add_argument("--profile", choices=MAIN, action="append", help="only this kind of venue")
    options.add_argument("--keep", action="store_true", help="leave the journals of what was missed")
    given = options.parse_args()
    folder, done = Path(tempfile.mkdtemp(prefix="death-")), []
    wanted = tuple(row for row in ARROWS if given.arrow in row.words or given.arrow in row.point)
    print(f"{'arrow':<40} {'profile':<26} {'kills':>5} {'keys':>5} {'fills':>5} {'open':>4}  verdict")
    for number, (arrow, profile) in enumerate(cells(wanted, tuple(given.profile or MAIN))):
        place = folder / str(number)
        told = run(arrow, profile, place, seed=given.seed + number)
        done.append(told)
        _tell(told)
        if not (told.misses and given.keep):
            shutil.rmtree(place)
        elif told.misses:
            print(f"    kept in {place}")
    if not any(folder.iterdir()):
        folder.rmdir()
    missed = [row for row in done if row.misses]
    kills = Counter({row.arrow.words: 0 for row in done})
    for row in done:
        kills[row.arrow.words] += row.kills
    print("\nkills by arrow: " + ", ".join(f"{words} {count}" for words, count in kills.items()))
    died, keys = sum(kills.values()), sum(row.keys for row in done)
    print(f"{died} kills, {keys} keys, {len(missed)} of {len(done)} missed")
    return bool(missed)


def _tell(row: Verdict) -> None:
    counts = f"{row.kills:>5} {row.keys:>5} {row.fills:>5} {row.open:>4}"
    verdict = "missed" if row.misses else "agrees"
    print(f"{row.arrow.words:<40} {row.profile:<26} {counts}  {verdict} ({row.seconds:.1f} s)", flush=True)
    for words in row.misses:
        print(f"    {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
