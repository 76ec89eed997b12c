"""Writes the table of brokers into README.md from what the plugins declare: `python docs/broker_table.py`."""

from __future__ import annotations

import sys
from pathlib import Path

from mts1b_brokers_core.foundation.capabilities import Capabilities, parse_capabilities

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- brokers: written by docs/broker_table.py -->\n", "<!-- end of brokers -->"


def table(manifests: list[Capabilities]) -> str:
    """Return one row a broker: how to install it, where it trades, what it takes, and its level."""
    rows = ["| broker | install | environments | orders | level |", "|---|---|---|---|---|"]
    for manifest in sorted(manifests, key=lambda row: row.name):
        types = dict.fromkeys(str(kind) for claim in manifest.orders for kind in claim.type)
        assets = dict.fromkeys(str(kind) for claim in manifest.orders for kind in claim.asset)
        rows.append(
            f"| {manifest.name} | `pip install {manifest.distribution}` | {', '.join(manifest.environments)} "
            f"| {', '.join(assets)}: {', '.join(types)} | *unverified* |"
        )
    return "\n".join([*rows, ""])


def written(readme: str, manifests: list[Capabilities]) -> str:
    """Return the README with its table renewed."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{table(manifests)}{END}{tail}"


def declared() -> list[Capabilities]:
    """Read the manifests of the plugins in this repository."""
    files = sorted((ROOT / "plugins").glob("*/*/capabilities.toml"))
    return [parse_capabilities(file.read_text(encoding="utf-8")) for file in files]


if __name__ == "__main__":
    file = ROOT / "README.md"
    now = file.read_text(encoding="utf-8")
    new = written(now, declared())
    file.write_text(new, encoding="utf-8")
    sys.stdout.write("README.md is up to date\n" if new == now else "README.md was renewed\n")
