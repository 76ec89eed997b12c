"""What is installed, in one pass: the only place that reads distribution metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_FOLDER = ".dist-info"
_VALUE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?")


class Entry(NamedTuple):
    """One entry point of one distribution; `problem` says why it can't be read, else it is empty."""

    distribution: str
    version: str
    name: str
    value: str
    problem: str = ""


def canonical(distribution: str) -> str:
    """Return a distribution's name in its canonical form (source: the name normalization specification)."""
    flat = distribution.lower().replace("_", "-").replace(".", "-")
    return re.sub("-+", "-", flat) if "--" in flat else flat


def scan(group: str) -> list[Entry]:
    """List a group's entry points on the whole path, and the distributions whose entry points can't be read.

    Of a distribution found twice the first counts, as it does for imports.
    """
    import importlib_metadata  # takes longer to import than the rest of this room

    found: list[Entry] = []
    seen: set[str] = set()
    for dist in importlib_metadata.distributions():
        name = version = ""
        try:
            name, version = _identity(dist)
            if not name or name.startswith("~") or name in seen:  # "~" is what an interrupted pip leaves
                continue
            seen.add(name)
            text = dist.read_text("entry_points.txt")
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            found.append(_culprit(dist, f"its metadata can't be read: {error}", name, version))
            continue
        broken = malformed_line(text or "")
        if broken is not None:
            found.append(_culprit(dist, f"its entry_points.txt is malformed at {broken!r}", name, version))
            continue
        for key, value in group_lines(text or "", group):
            problem = "" if _VALUE.fullmatch(value) else f"its entry point {key} = {value!r} names no module"
            found.append(Entry(name, version, key, value, problem))
    return found


def _identity(dist: Any) -> tuple[str, str]:
    """Take name and version from the `name-version.dist-info` folder, which costs no parsing."""
    folder = getattr(getattr(dist, "_path", None), "name", "")
    if folder.endswith(_FOLDER):
        name, dash, version = folder.removesuffix(_FOLDER).rpartition("-")
        if dash:
            return canonical(name) if name[0] != "~" else name, version
    return canonical(dist.name or ""), str(dist.version or "")


def _culprit(dist: Any, problem: str, name: str, version: str) -> Entry:
    place = str(getattr(dist, "_path", "")) or "an unnamed place"
    who = name or canonical(place.replace("\\", "/").rpartition("/")[2].removesuffix(_FOLDER))
    return Entry(who, version, "", "", f"{problem} ({place})")


def malformed_line(text: str) -> str | None:
    """Return the first line that makes every reader of entry points raise, or None."""
    for line in text.splitlines():
        if "=" not in line and (bare := line.strip()) and bare[0] != "#" and not _is_header(bare):
            return bare
    return None


def group_lines(text: str, group: str) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of one group of a well-formed entry_points.txt."""
    if group not in text:  # nearly all of what is installed
        return
    inside = False
    for line in map(str.strip, text.splitlines()):
        if _is_header(line):
            inside = line[1:-1].strip() == group
        elif inside and line and line[0] != "#":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _is_header(line: str) -> bool:
    return line.startswith("[") and line.endswith("]")
