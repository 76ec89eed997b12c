"""One installed plugin as a row, and the verdicts on it: pure functions from a record to a cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mts1b_brokers_core.foundation.capabilities import (
    Capabilities,
    ManifestHead,
    parse_capabilities,
    parse_head,
)
from mts1b_brokers_core.foundation.errors import BrokerError, InvalidInput, PluginUnusable

from ._metadata import Entry, canonical
from .manifest import FILE, ManifestMissing, read_manifest
from .policy import Policy

if TYPE_CHECKING:
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

    @property
    def usable(self) -> bool:
        """True where the plugin can be opened."""
        return self in (PluginState.READY, PluginState.LOADED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a plugin is not usable, and what to do about it."""

    state: PluginState
    cause: str
    remedy: str


class Record:
    """One installed plugin: who ships it, whether it can be used, and if not, why and what to do.

    `head` is the manifest's head, None where it could not be read. `capabilities` and `plugin` are
    read and imported when first asked for; both raise `PluginUnusable` where that can't be.
    """

    def __init__(self, entry: Entry, registry: Registry | None = None) -> None:
        self.entry = entry
        self.name = entry.name or entry.distribution
        self.distribution = entry.distribution
        self.version = entry.version
        self.value = entry.value
        self.state = PluginState.READY
        self.cause = ""
        self.remedy = ""
        self.traceback = ""
        self.head: ManifestHead | None = None
        self._registry = registry
        self._manifest: str | BrokerError = ""
        self._capabilities: Capabilities | None = None

    def __repr__(self) -> str:
        why = f": {self.cause}" if self.cause else ""
        return f"Record({self.name} {self.distribution} {self.version} {self.state}{why})"

    @property
    def usable(self) -> bool:
        """True where the plugin can be opened."""
        return self.state.usable

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
        self.state, self.cause, self.remedy = verdict.state, verdict.cause, verdict.remedy

    def read_head(self) -> None:
        """Read the manifest's head anew; what goes wrong is kept for the verdict."""
        self.head = self._capabilities = None
        try:
            self._manifest = read_manifest(self.value)
            self.head = parse_head(self._manifest)
        except (ManifestMissing, InvalidInput) as error:
            self._manifest = error

    @property
    def manifest_problem(self) -> BrokerError | None:
        """What was wrong with the manifest, or None."""
        return self._manifest if isinstance(self._manifest, BrokerError) else None

    @property
    def capabilities(self) -> Capabilities:
        """The whole manifest. Raises `PluginUnusable` where it can't be read."""
        if self._capabilities is None:
            if isinstance(self._manifest, BrokerError) or not self._manifest:
                raise self.unusable("capabilities")
            try:
                self._capabilities = parse_capabilities(self._manifest)
            except InvalidInput as error:
                self.apply(Verdict(PluginState.BAD_MANIFEST, error.message, f"correct {FILE}"))
                raise self.unusable("capabilities") from None
        return self._capabilities

    @property
    def plugin(self) -> object:
        """The plugin's module, imported on first use. Raises `PluginUnusable` where that fails."""
        if self._registry is None:
            raise self.unusable("load")
        return self._registry.load(self)

    def unusable(self, operation: str) -> PluginUnusable:
        """Return the error that says why this plugin can't be used."""
        return PluginUnusable(
            f"the plugin of {self.distribution} {self.version} is {self.state}: {self.cause}.",
            broker=self.name,
            operation=operation,
            next_step=self.remedy or f"see `mts mts1b-brokers why {self.name}`",
            state=str(self.state),
            cause=self.cause,
        )


# --- verdicts: from a record to the reason why not ----------------------------------------------------

Judge = Callable[[Record, Policy], Verdict | None]


def judge_metadata(record: Record, policy: Policy) -> Verdict | None:
    """Refuse what the installer's own files say wrongly."""
    if record.entry.problem:
        return Verdict(PluginState.BAD_METADATA, record.entry.problem, record.entry.remedy)
    return None


def judge_permission(record: Record, policy: Policy) -> Verdict | None:
    """Refuse what the user denied or did not allow."""
    if record.distribution in policy.deny:
        return Verdict(PluginState.DENIED, f"{record.distribution} is on the deny list", _lists("deny"))
    if policy.allow is not None and record.distribution not in policy.allow:
        return Verdict(PluginState.DENIED, f"{record.distribution} is not on the allow list", _lists("allow"))
    return None


def judge_manifest(record: Record, policy: Policy) -> Verdict | None:
    """Refuse a manifest that is missing, unreadable, or speaks of another plugin."""
    problem, head = record.manifest_problem, record.head
    if problem is not None or head is None:
        cause = problem.message.rstrip(".") if problem else "the manifest was not read"
        return Verdict(PluginState.BAD_MANIFEST, cause, (problem and problem.next_step) or f"correct {FILE}")
    if head.name != record.name:
        cause = f"the manifest's name is {head.name}, the entry point's {record.name}"
        return Verdict(PluginState.BAD_MANIFEST, cause, "give both the same name")
    if canonical(head.distribution) != record.distribution:
        cause = f"the manifest speaks of {head.distribution}, installed is {record.distribution}"
        return Verdict(PluginState.BAD_MANIFEST, cause, f"correct `distribution` in {FILE}")
    return None


def judge_api(record: Record, policy: Policy) -> Verdict | None:
    """Refuse a plugin made for another plugin API."""
    cause = record.head.incompatibility() if record.head else None
    if cause is None:
        return None
    remedy = f"pip install --upgrade {record.distribution} mts1b-brokers-core"
    return Verdict(PluginState.INCOMPATIBLE, cause, remedy)


#: In this order; the first verdict counts.
JUDGES: tuple[Judge, ...] = (judge_metadata, judge_permission, judge_manifest, judge_api)


def judge_conflicts(records: Iterable[Record], policy: Policy) -> dict[int, Verdict]:
    """Refuse every plugin of several that claim one name or alias, by `id(record)`.

    A preference settles it: the preferred distribution gets the name, and a plugin that claimed it
    only as an alias merely loses the alias.
    """
    verdicts: dict[int, Verdict] = {}
    for word, claimants in _claims(records).items():
        if len(claimants) < 2:
            continue
        names = " and ".join(sorted(record.distribution for record in claimants))
        preferred = policy.preferred(word)
        winners = [record for record in claimants if record.distribution == preferred]
        for record in claimants:
            if len(winners) != 1 or (record not in winners and record.name == word):
                cause = f"{names} both claim the name {word}"
                remedy = f'uninstall one, or set registry.prefer.{word} = "<distribution>"'
                verdicts[id(record)] = Verdict(PluginState.CONFLICT, cause, remedy)
    return verdicts


def names_of(records: Iterable[Record], policy: Policy) -> Mapping[str, Record]:
    """Map every name and alias of the records that can be loaded, or tried again, to its record."""
    owners: dict[str, Record] = {}
    standing = (record for record in records if record.usable or record.state is PluginState.FAILED)
    for word, claimants in _claims(standing).items():
        preferred = [record for record in claimants if record.distribution == policy.preferred(word)]
        owners[word] = (preferred or claimants)[0]
    return owners


def _claims(records: Iterable[Record]) -> dict[str, list[Record]]:
    claims: dict[str, list[Record]] = {}
    for record in records:
        for word in record.words:
            claims.setdefault(word, []).append(record)
    return claims


def _lists(kind: str) -> str:
    return f"change MTS1B_BROKERS_{kind.upper()} or registry.{kind} in the configuration"
