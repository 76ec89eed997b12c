"""One installed plugin as a row, and the verdicts on it: pure functions from a record to a cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from mts1b_brokers_core.foundation.errors import InvalidInput, PluginError, PluginUnusable
from mts1b_brokers_core.foundation.manifest import ManifestHead, parse_head

from ._metadata import Entry, canonical
from .manifest import FILE, ManifestMissing, read_manifest
from .policy import Policy

if TYPE_CHECKING:
    from mts1b_brokers_core.foundation.capabilities import Capabilities

    from .registry import Registry


class PluginState(StrEnum):
    """What became of an installed plugin; only `ready` and `loaded` ones can be used."""

    BAD_METADATA = "bad-metadata"
    DENIED = "denied"
    BAD_MANIFEST = "bad-manifest"
    INCOMPATIBLE = "incompatible"
    CONFLICT = "conflict"
    FAILED = "failed"
    READY = "ready"
    LOADED = "loaded"


class Verdict(NamedTuple):
    """Why a plugin is not usable, and what to do about it."""

    state: PluginState
    cause: str = ""
    remedy: str = ""


class PluginRefused(PluginError):
    """A module that can't serve as a plugin: `next_step` says what its author must do."""


class Record:
    """One installed plugin: who ships it, whether it can be used, and if not, why and what to do.

    `head` is the manifest's head, None where it could not be read. `capabilities` and `plugin` are
    read and imported when first asked for; both raise `PluginUnusable` where that can't be.
    """

    def __init__(self, entry: Entry, registry: Registry) -> None:
        self.entry = entry
        self.distribution, self.version, self.name, self.value, _ = entry
        self.name = self.name or self.distribution
        self.apply(Verdict(PluginState.READY))
        self.traceback = ""
        self.head: ManifestHead | None = None
        self._registry = registry
        self._manifest = ""

    def __repr__(self) -> str:
        why = f": {self.cause}" if self.cause else ""
        return f"Record({self.name} {self.distribution} {self.version} {self.state}{why})"

    @property
    def usable(self) -> bool:
        """True where the plugin can be opened."""
        return self.state in (PluginState.READY, PluginState.LOADED)

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments the manifest offers, the venue's simulator included where the plugin ships one."""
        if self.head is None:
            return ()
        own = self.head.environments
        return own if "simulator" in own or "simulator" not in self.head.provides else (*own, "simulator")

    @property
    def words(self) -> tuple[str, ...]:
        """The name and the aliases it answers to."""
        return tuple(dict.fromkeys((self.name, *(self.head.aliases if self.head else ()))))

    def apply(self, verdict: Verdict) -> None:
        """Set the row to a verdict."""
        self.state, self.cause, self.remedy = verdict

    def read_head(self) -> Verdict | None:
        """Read the manifest's head anew and say why it can't be used, or None where it can."""
        self.head = None
        try:
            self._manifest = read_manifest(self.value)
            self.head = parse_head(self._manifest)
        except (ManifestMissing, InvalidInput) as error:
            cause = error.message.rstrip(".")
            return Verdict(PluginState.BAD_MANIFEST, cause, error.next_step or f"correct {FILE}")
        return judge_head(self.head, self)

    @property
    def capabilities(self) -> Capabilities:
        """The whole manifest. Raises `PluginUnusable` where it can't be read."""
        from mts1b_brokers_core.foundation.capabilities import parse_capabilities  # a listing needs none

        if self.head is None:
            raise self.unusable("capabilities")
        try:
            return parse_capabilities(self._manifest)
        except InvalidInput as error:
            self.apply(Verdict(PluginState.BAD_MANIFEST, error.message, f"correct {FILE}"))
            raise self.unusable("capabilities") from None

    @property
    def plugin(self) -> object:
        """The plugin's module, imported on first use. Raises `PluginUnusable` where that fails."""
        return self._registry.load(self)

    def unusable(self, operation: str) -> PluginUnusable:
        """Return the error that says why this plugin can't be used."""
        return PluginUnusable(
            f"the plugin of {self.distribution} {self.version} is {self.state}: {self.cause}.",
            broker=self.name, operation=operation, state=str(self.state), cause=self.cause,
            next_step=self.remedy or f"see `mts mts1b-brokers why {self.name}`",
        )  # fmt: skip


# --- verdicts: from a record to the reason why not ----------------------------------------------------


def judge_entry(entry: Entry, policy: Policy) -> Verdict | None:
    """Refuse what the installer's own files say wrongly, and what the user denied or did not allow."""
    who = entry.distribution
    if entry.problem:
        remedy = f"pip install --force-reinstall --no-deps {who}, or pip uninstall {who}"
        return Verdict(PluginState.BAD_METADATA, entry.problem, remedy)
    kind, word = ("deny", "on") if who in policy.deny else ("allow", "not on")
    if kind == "allow" and (policy.allow is None or who in policy.allow):
        return None
    remedy = f"change MTS1B_BROKERS_{kind.upper()} or registry.{kind} in the configuration"
    return Verdict(PluginState.DENIED, f"{who} is {word} the {kind} list", remedy)


def judge_head(head: ManifestHead, record: Record) -> Verdict | None:
    """Refuse a manifest that speaks of another plugin, or a plugin made for another plugin API."""
    if head.name != record.name:
        cause = f"the manifest's name is {head.name}, the entry point's {record.name}"
        return Verdict(PluginState.BAD_MANIFEST, cause, "give both the same name")
    if canonical(head.distribution) != record.distribution:
        cause = f"the manifest speaks of {head.distribution}, installed is {record.distribution}"
        return Verdict(PluginState.BAD_MANIFEST, cause, f"correct `distribution` in {FILE}")
    if cause := head.incompatibility() or "":
        remedy = f"pip install --upgrade {record.distribution} mts1b-brokers-core"
        return Verdict(PluginState.INCOMPATIBLE, cause, remedy)
    return None


def judge_conflicts(records: Iterable[Record], policy: Policy) -> Iterator[tuple[Record, Verdict]]:
    """Refuse every plugin of several that claim one name or alias.

    A preference settles it: the preferred distribution gets the name, and a plugin that claimed it
    only as an alias merely loses the alias.
    """
    for word, claimants in _claims(records).items():
        names = " and ".join(sorted(record.distribution for record in claimants))
        preferred = policy.preferred(word)
        winners = [record for record in claimants if record.distribution == preferred]
        for record in claimants if len(claimants) > 1 else ():
            if len(winners) != 1 or (record not in winners and record.name == word):
                remedy = f'uninstall one, or set registry.prefer.{word} = "<distribution>"'
                cause = f"{names} both claim the name {word}"
                yield record, Verdict(PluginState.CONFLICT, cause, remedy)


def names_of(records: Iterable[Record], policy: Policy) -> Mapping[str, Record]:
    """Map every name and alias of the records that can be loaded, or tried again, to its record."""
    standing = (record for record in records if record.usable or record.state is PluginState.FAILED)
    return {
        word: next((row for row in rows if row.distribution == policy.preferred(word)), rows[0])
        for word, rows in _claims(standing).items()
    }


def _claims(records: Iterable[Record]) -> dict[str, list[Record]]:
    claims: dict[str, list[Record]] = {}
    for record in records:
        for word in record.words:
            claims.setdefault(word, []).append(record)
    return claims
