"""What is installed and usable: one row for every plugin, each imported only when it is first used."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mts1b_brokers_core.foundation.errors import BrokerNotInstalled, nearest

from ._metadata import Entry, scan
from .policy import Policy, policy_from
from .records import PluginRefused, PluginState, Record, Verdict, judge_conflicts, judge_entry, names_of

if TYPE_CHECKING:
    from mts1b_brokers_core.foundation.plugin import CredentialSource

    from .facade import Facade

#: The entry-point group of broker plugins.
GROUP = "mts1b.brokers"
#: The entry-point group of plugins that say where credentials come from.
CREDENTIALS = "mts1b.credentials"


class Registry:
    """Finds, judges and loads plugins under one policy."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self._records: tuple[Record, ...] = ()
        self._names: Mapping[str, Record] = {}
        self._sources: dict[Entry, Record] = {}
        self._facade: Facade | None = None
        self._lock = threading.RLock()

    @property
    def facade(self) -> Facade:
        """The hooks of the plugins that are loaded; made when first asked for, as a listing needs none."""
        from .facade import Facade

        with self._lock:
            self._facade = self._facade or Facade()
            return self._facade

    def records(self) -> tuple[Record, ...]:
        """Look at the path again and return a row for every plugin, sorted by name; nothing is imported.

        In strict mode an unusable plugin raises `PluginUnusable`.
        """
        with self._lock:
            known = {record.entry: record for record in self._records}
            entries = scan(GROUP)
            if any(not entry.value for entry in entries):
                _let_pydantic_stumble_once()
            fresh = [known.get(entry) or Record(entry, self) for entry in entries]
            self._judge(fresh)
            self._records = tuple(sorted(fresh, key=lambda row: (row.name, row.distribution)))
            self._names = names_of(self._records, self.policy)
        if self.policy.strict:
            for record in self._records:
                if not record.usable and record.state is not PluginState.DENIED:
                    raise record.unusable("list")
        return self._records

    def _judge(self, records: list[Record]) -> None:
        for record in records:
            if record.state not in _SETTLED:
                refusal = judge_entry(record.entry, self.policy) or record.read_head()
                record.apply(refusal or Verdict(PluginState.READY))
        standing = [record for record in records if record.usable or record.state in _SETTLED]
        for record, conflict in list(judge_conflicts(standing, self.policy)):
            if record.state is PluginState.READY:
                record.apply(conflict)

    def get(self, name: str) -> Record:
        """Return the usable plugin that answers to a name or alias.

        Raises `BrokerNotInstalled` with the nearest names, or `PluginUnusable` with the cause.
        """
        if name not in self._names:
            self.records()
        if name in self._names:
            return self._names[name]
        for record in self._records:
            if name in record.words:
                raise record.unusable("find")
        installed = ", ".join(record.name for record in self._records if record.usable)
        close = " or ".join(nearest(name.lower(), self._names))
        install = f"pip install mts1b-broker-{name.lower()}"
        if not _DISTRIBUTION.fullmatch(name):
            install = "name a broker that `mts mts1b-brokers list` shows"
        have = f"installed: {installed}" if installed else "no broker is installed"
        raise BrokerNotInstalled(
            f"no installed distribution provides {name!r} ({have}).", broker=name, operation="find",
            next_step=f"did you mean {close}? Otherwise: {install}" if close else install,
        )  # fmt: skip

    def load(self, record: Record) -> object:
        """Return the plugin's module, importing and registering it on first use. Raises `PluginUnusable`.

        A load that failed is tried again: what was missing may have been installed meanwhile.
        """
        with self._lock:
            if record.state is PluginState.FAILED:
                importlib.invalidate_caches()
            if record.state in (PluginState.READY, PluginState.FAILED):
                self._load(record)
            if record.state is not PluginState.LOADED:
                raise record.unusable("load")
            return self.facade.plugin(record.name)

    def credential_sources(self) -> list[CredentialSource]:
        """Return the places that installed plugins read credentials from. Raises `PluginUnusable`."""
        found: list[CredentialSource] = []
        with self._lock:
            for entry in scan(CREDENTIALS):
                if not entry.value or judge_entry(entry, self.policy) is not None:
                    continue
                record = self._sources.setdefault(entry, Record(entry, self))
                record.name = f"{CREDENTIALS}.{entry.name}"  # a broker's plugin may have the same name
                if record.state is not PluginState.LOADED:
                    self._load(record)
                found += self.facade.credential_sources(record.name)
        return found

    def _load(self, record: Record) -> None:
        provides = record.head.provides if record.head else ()
        module = record.value if ":" in record.value else f"{record.value}:"
        try:
            with _kept_in_hand():
                plugin = pkgutil.resolve_name(module)
                self.facade.add(record.name, plugin, provides)
        except (Exception, SystemExit) as error:
            record.traceback = "" if isinstance(error, PluginRefused) else traceback.format_exc()
            record.apply(_failure(record, error))
            raise record.unusable("load") from error
        record.apply(Verdict(PluginState.LOADED))


#: What may stand in a distribution's name: what a person typed must not become a command that does more.
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,60}[A-Za-z0-9])?")
_SETTLED = (PluginState.LOADED, PluginState.FAILED)


@contextlib.contextmanager
def _kept_in_hand() -> Iterator[None]:
    """Import somebody else's code: its prints go to stderr, path and arguments are as before afterwards."""
    path, argv = list(sys.path), list(sys.argv)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:], sys.argv[:] = path, argv


def _failure(record: Record, error: BaseException) -> Verdict:
    cause, remedy = f"{type(error).__name__}: {error}", f"pip install --force-reinstall {record.distribution}"
    if isinstance(error, PluginRefused):
        cause, remedy = error.message, error.next_step
    elif isinstance(error, ModuleNotFoundError) and error.name:
        if error.name.partition(".")[0] == re.split("[:.]", record.value)[0]:
            cause = f"its own module {error.name} is missing"
        else:
            cause, remedy = f"its dependency {error.name} is missing", f"{remedy} (with its dependencies)"
    elif isinstance(error, SystemExit):
        cause = f"it ended the program (SystemExit {error.code}) while it was imported"
        remedy = f"report it to the authors of {record.distribution}"
    return Verdict(PluginState.FAILED, cause, remedy)


def _let_pydantic_stumble_once() -> None:
    """Take pydantic's failure over an unreadable entry_points.txt here, where it can be listed.

    It reads all entry points when it builds its first model and raises at the first malformed file;
    from then on it goes without its own plugins.
    """
    from mts1b_brokers_core.foundation.base import Money

    with contextlib.suppress(ValueError, TypeError, AttributeError, OSError):
        Money.model_rebuild()


_registries: dict[Policy, Registry] = {}


def registry(policy: Policy | None = None) -> Registry:
    """Return the process's registry for a policy, by default the one that the environment variables give."""
    key = policy_from(os.environ, {}) if policy is None else policy
    return _registries.setdefault(key, Registry(key))


def installed_brokers() -> tuple[Record, ...]:
    """List every installed broker plugin, the unusable ones with cause and remedy; none is imported."""
    return registry().records()
