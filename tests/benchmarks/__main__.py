"""`hatch run bench`: runs every benchmark, here and beside the plugins; exits with 1 on a missed budget."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run them one after the other, so that they don't disturb each other."""
    files = [*ROOT.glob("tests/benchmarks/bench_*.py"), *ROOT.glob("plugins/*/tests/benchmarks/bench_*.py")]
    missed = []
    for file in sorted(files):
        print(f"\n{file.relative_to(ROOT)}", flush=True)
        if subprocess.run([sys.executable, str(file)], check=False).returncode:
            missed.append(file.name)
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nall budgets met")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
