"""Commands that installed distributions add, found by reading their entry points and nothing else.

A help page must cost hardly more than click itself, and importing a metadata library alone costs a
third of that: where the path consists of folders, as it nearly always does, their entry_points.txt are
read directly. Anything else (a zip on the path) goes through the registry's own scan.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import click

_FOLDER = ".dist-info"


@dataclass(frozen=True)
class Extension:
    """One command of one distribution: `value` says where its click command is, `folder` its metadata."""

    name: str
    value: str
    distribution: str
    version: str
    folder: str = ""

    @cached_property
    def summary(self) -> str:
        """The distribution's one-line description."""
        try:
            with open(os.path.join(self.folder, "METADATA"), encoding="utf-8", errors="replace") as file:
                for line in file:
                    if line.startswith("Summary:"):
                        return line.removeprefix("Summary:").strip()
                    if not line.strip():
                        break
        except OSError:
            pass
        return f"{self.distribution} {self.version}"

    def load(self) -> click.Command:
        """Import the command; whatever prevents that becomes a command that says so when it is called."""
        import importlib

        module, _, attribute = self.value.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute or "main")
            if not isinstance(found, click.Command):
                raise TypeError(f"{self.value} is a {type(found).__name__}, not a click command")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code: it must not hide the other commands
            return _unusable(self, error)
        return found


def _unusable(extension: Extension, error: BaseException) -> click.Command:
    """Return a command that takes anything and reports why the real one can't be had."""
    from mts1b_brokers_core.foundation.errors import PluginUnusable

    def callback(words: tuple[str, ...]) -> None:
        cause = f"{type(error).__name__}: {error}"
        name, package = extension.name, extension.distribution
        raise PluginUnusable(
            f"the command {name} of {package} {extension.version} can't be loaded: {cause}.",
            next_step=f"pip install --force-reinstall {package}, or report it to its authors",
            state="failed",
            cause=cause,
        ) from error

    return click.Command(
        extension.name,
        callback=callback,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
        help=f"{extension.summary} (can't be loaded)",
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )


def installed(group: str) -> dict[str, Extension]:
    """Return the commands of an entry-point group by name; of two with one name the first on the path."""
    if all(os.path.isdir(place) or not os.path.exists(place) for place in sys.path if place):
        rows = _from_folders(group)
    else:
        rows = _from_registry(group)
    found: dict[str, Extension] = {}
    for row in rows:
        found.setdefault(row.name, row)
    return dict(sorted(found.items()))


def _from_folders(group: str) -> Iterator[Extension]:
    from mts1b_brokers_core.plugins._metadata import canonical, group_lines

    seen: set[str] = set()
    for place in sys.path:
        try:
            names = [name for name in os.listdir(place or ".") if name.endswith(_FOLDER)]
        except OSError:
            continue
        for name in sorted(names):
            distribution, _, version = name.removesuffix(_FOLDER).rpartition("-")
            distribution = canonical(distribution)
            if distribution in seen or not distribution or distribution.startswith("~"):
                continue
            seen.add(distribution)
            folder = os.path.join(place or ".", name)
            text = _text(os.path.join(folder, "entry_points.txt"))
            for key, value in group_lines(text, group) if f"[{group}]" in text else ():
                yield Extension(key, value, distribution, version, folder)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _from_registry(group: str) -> Iterator[Extension]:
    from mts1b_brokers_core.plugins._metadata import scan

    for entry in scan(group):
        if not entry.problem:
            yield Extension(entry.name, entry.value, entry.distribution, entry.version)
