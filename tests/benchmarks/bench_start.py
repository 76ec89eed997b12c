"""What starting costs, beside the floor it stands on: whole processes, in turn, medians.

The floor of an import is `from pydantic import BaseModel`: `import pydantic` alone defers most of itself.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15

BARE = "pass"
PYDANTIC = "from pydantic import BaseModel"
CORE = "import mts1b_brokers_core"
NAMES = "import mts1b_brokers_core as core\nfor name in core.__all__: getattr(core, name)"
CLICK = (
    "import click\n@click.group()\ndef main(): pass\n"
    "@main.command()\ndef hello(): 'Say hello.'\nmain(['--help'], standalone_mode=False)"
)
HELP = "import sys\nsys.argv = ['mts', '--help']\nfrom mts1b_brokers_core.cli.umbrella import main\nmain()"
#: In one process and in turn: reading all entry points, and listing the brokers among them.
LISTING = """
import statistics, time
import importlib_metadata
from mts1b_brokers_core.plugins.policy import Policy
from mts1b_brokers_core.plugins.registry import Registry

def read():
    return sum(len(row.entry_points) for row in importlib_metadata.distributions())

def listing():
    assert len(Registry(Policy()).records()) >= 200

times = {read: [], listing: []}
for _ in range(15):
    for work in times:
        begin = time.perf_counter()
        work()
        times[work].append(time.perf_counter() - begin)
print(*(statistics.median(row[1:]) * 1000 for row in times.values()))
"""


def once(script: str) -> float:
    """Return the seconds one process takes."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def medians(scripts: list[str]) -> list[float]:
    """Return each script's median milliseconds, run in turn, less a bare interpreter's."""
    times: list[list[float]] = [[] for _ in (BARE, *scripts)]
    for script in (BARE, *scripts):
        once(script)
    for _ in range(ROUNDS):
        for index, script in enumerate((BARE, *scripts)):
            times[index].append(once(script))
    bare, *rest = (statistics.median(row) * 1000 for row in times)
    return [value - bare for value in rest]


def crowd(folder: Path) -> None:
    """Write 200 brokers among 300 other distributions."""
    for number in range(500):
        name = f"crowd-broker-{number}" if number < 200 else f"crowd-other-{number}"
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
        )
        package = name.replace("-", "_")
        group = "mts1b.brokers" if number < 200 else "console_scripts"
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {package}.plugin\n", encoding="utf-8")
        if number < 200:
            (folder / package).mkdir()
            (folder / package / "__init__.py").write_text("", encoding="utf-8")
            (folder / package / "capabilities.toml").write_text(
                f'schema = 1\nname = "{name}"\ndistribution = "{name}"\napi = "1.0"\n', encoding="utf-8"
            )


def main() -> int:
    """Print each ratio beside its budget."""
    core, floor, names = medians([CORE, PYDANTIC, NAMES])
    help_page, click_page = medians([HELP, CLICK])
    with tempfile.TemporaryDirectory() as folder:
        crowd(Path(folder))
        prefix = f"import sys; sys.path.insert(0, {folder!r})\n"
        done = subprocess.run(
            [sys.executable, "-c", prefix + LISTING], check=True, capture_output=True, text=True
        )
        reading, listing = (float(word) for word in done.stdout.split())
    rows = [
        ("bare import / pydantic", core, floor, 1.3),
        ("every public name / pydantic", names, floor, 2.2),
        ("mts --help / hello-world of click", help_page, click_page, 1.5),
        ("listing 200 among 500 / reading entry points", listing, reading, 2.0),
    ]
    for what, took, base, budget in rows:
        verdict = "ok" if took <= budget * base else "MISSED"
        print(f"{what:46} {took:7.1f} ms / {base:6.1f} ms = {took / base:5.2f}  budget {budget}  {verdict}")
    return int(any(took > budget * base for _, took, base, budget in rows))


if __name__ == "__main__":
    sys.exit(main())
