"""What mutmut found, by module: killed, survived, rate; exit status 1 below 90 % or where any hasn't run.

`--markdown` prints the table of docs/mutation.md, `--survivors` the names for `mutmut show`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

WANTED = 90.0
#: mutmut's exit codes: a test failed, pytest itself did, or the time was up.
KILLED = {1, 3, 24, -24, 36, 152, 255}
RESULTS = Path("mutants/mts1b_brokers_core/execution")


def results(folder: Path) -> dict[str, dict[str, int | None]]:
    """Return the exit code of each mutant, by module; None is one that hasn't run."""
    read = {file: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.py.meta"))}
    return {file.name.removesuffix(".py.meta"): meta["exit_code_by_key"] for file, meta in read.items()}


def word(code: int | None) -> str:
    """Say what an exit code means; a mutant that no test reaches survives."""
    return "left" if code is None else "killed" if code in KILLED else "survived"


def main(arguments: list[str]) -> int:
    found = results(RESULTS)
    if "--survivors" in arguments:
        names = (key for rows in found.values() for key, code in rows.items() if word(code) == "survived")
        print(*names, sep="\n")
        return 0
    form = "| {} | {} | {} | {} |" if "--markdown" in arguments else "{:16} {:>8} {:>8} {:>8}"
    print(form.format("module", "killed", "survived", "rate"))
    if "--markdown" in arguments:
        print("|---|---|---|---|")
    total: Counter[str] = Counter()
    for module, rows in found.items():
        counted = Counter(map(word, rows.values()))
        total += counted
        if rows:
            print(form.format(module, *columns(counted)))
    print(form.format("all", *columns(total)))
    if not total or total["left"]:
        print(f"{total['left']} mutants haven't run: `hatch run mutants:run` goes on with them.")
        return 1
    return 0 if rate(total) >= WANTED else 1


def columns(counted: Counter[str]) -> tuple[str, ...]:
    left = f" (+{counted['left']})" if counted["left"] else ""
    return str(counted["killed"]), f"{counted['survived']}{left}", f"{rate(counted):.1f} %"


def rate(counted: Counter[str]) -> float:
    return 100 * counted["killed"] / max(1, counted["killed"] + counted["survived"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
