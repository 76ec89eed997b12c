"""Secrets that nobody gave are sought where credentials are kept, each place in its turn."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mts1b_brokers_core.foundation.errors import BrokerError, UnknownSetting, nearest

from .settings import Given, Path_, secret_fields, text_of, variable

if TYPE_CHECKING:  # a broker without secrets needs neither the places nor what they stand on
    from mts1b_brokers_core.foundation.plugin import CredentialSource
    from mts1b_brokers_core.platform.credentials import Source
    from mts1b_brokers_core.platform.vault import VaultSource

    from .opening import Resolved

_log = logging.getLogger("mts1b_brokers")

_REFERENCE = re.compile(r"vault:([^\s#]+)#([\w.-]+)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The settings given and the secrets found; `problem` says what is wrong, or that some are `missing`."""

    found: dict[Path_, Given] = field(repr=False)
    problem: BrokerError | None = None
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What one place holds for an instance: names, never values.

    `state` is "not set up", "nothing", "found" or "failed"; `note` says why, or how it is kept.
    """

    source: str
    place: str
    state: str
    names: tuple[str, ...] = ()
    trading_mode: str | None = None
    note: str = ""
    error: BrokerError | None = None


async def seek(resolved: Resolved) -> Credentials:
    """Follow references to Vault, then ask each place for the secrets that are missing.

    Costs nothing where no secret is missing and nothing refers to Vault.
    """
    search = _Search(resolved, dict(resolved.found))
    try:
        await search.follow_references()
        await search.ask()
    except BrokerError as error:
        return Credentials(search.found, error.located(broker=resolved.instance, operation="credentials"))
    needed = [name for name, is_needed in search.missing().items() if is_needed]
    return Credentials(search.found, search.nothing(needed), True) if needed else Credentials(search.found)


async def survey(resolved: Resolved) -> list[Finding]:
    """Look into every place for the instance, whether something is missing or not."""
    rows = []
    for source in sources(resolved):
        where = source.place(resolved.instance)
        idle = Finding(source.name, where, "not set up", note=source.idle)
        rows.append(idle if source.idle else await _finding(source, resolved, where))
    return rows


async def _finding(source: Source, resolved: Resolved, where: str) -> Finding:
    from mts1b_brokers_core.platform.credentials import TRADING_MODE, CredentialsAbsent

    try:
        values = await source.fetch(resolved.instance)
        search = _Search(resolved, dict(resolved.found))
        search.take(values, where)
    except CredentialsAbsent as absent:
        return Finding(source.name, where, "nothing", note=absent.message)
    except BrokerError as error:
        return Finding(source.name, where, "failed", note=error.message, error=error)
    names = tuple(name for name in values if name != TRADING_MODE)
    mode, kept = values.get(TRADING_MODE), source.condition(resolved.instance)
    return Finding(source.name, where, "found", names, mode, kept)


@dataclass(slots=True)
class _Search:
    """One instance's search: what it has, and where it looked."""

    resolved: Resolved
    found: dict[Path_, Given]
    looked: list[str] = field(default_factory=list)

    def missing(self) -> dict[str, bool]:
        """Return the secrets still missing, True where the broker can't do without."""
        fields = secret_fields(self.resolved.model)
        return {name: needed for name, needed in fields.items() if (name,) not in self.found}

    async def follow_references(self) -> None:
        """Read each value written `vault:path#field` from there."""
        secrets: dict[str, Mapping[str, str]] = {}
        for path, given in self.found.items():
            match = _REFERENCE.fullmatch(text_of(given.value))
            if match is None:
                continue
            place, name = match.groups()
            words = f"{given.place} refers to vault {place}"
            if place not in secrets:
                try:
                    secrets[place] = await vault_source(self.resolved.environ).fetch_path(place)
                except BrokerError as error:
                    error.message = f"{words}: {error.message.rstrip('.')}."
                    raise
            if name not in secrets[place]:
                raise _unknown(f"{words}, which has no field {name}.", name, secrets[place])
            self.found[path] = Given(path, secrets[place][name], given.kind, f"{given.place}, {match[0]}")
        for place, values in secrets.items():
            self.take_mode(values, f"vault {place}")

    async def ask(self) -> None:
        """Ask each place in its turn until nothing is missing. Raises what keeps one from being asked."""
        missing = self.missing()
        if not missing:
            return
        from mts1b_brokers_core.platform import credentials as kept

        instance = self.resolved.instance
        for source in sources(self.resolved):
            enough = not any(missing.values())
            if not missing or (enough and source.asks_its_owner and self._has_some()):
                continue
            where = source.place(instance)
            try:
                if source.idle:
                    raise kept.CredentialsAbsent(source.idle)
                self.take(await source.fetch(instance), where)
                missing = self.missing()
                self.looked.append(f"{where}: no {' and no '.join(missing)}")
            except kept.CredentialsAbsent as absent:
                self.looked.append(f"{where}: {absent.message}")
            except (kept.CredentialStoreUnavailable, kept.CredentialsDenied) as error:
                if not enough:
                    raise
                _log.warning("%s: %s", where, error.message)

    def _has_some(self) -> bool:
        return len(self.missing()) < len(secret_fields(self.resolved.model))

    def nothing(self, needed: list[str]) -> BrokerError:
        """Return the error that says where what is needed was looked for."""
        from mts1b_brokers_core.platform.credentials import CredentialError

        instance, them = self.resolved.instance, "them" if len(needed) > 1 else "it"
        variables = " and ".join(variable(instance, name) for name in needed)
        return CredentialError(
            f"{' and '.join(needed)} {'are' if len(needed) > 1 else 'is'} missing. Looked in: "
            f"{'; '.join([variables, self.resolved.place, *self.looked])}.",
            broker=instance, operation="credentials",
            next_step=f"`mts mts1b-brokers credentials set {instance}` stores {them}; or set {variables}",
        )  # fmt: skip

    def take(self, values: Mapping[str, str], where: str) -> None:
        """Take what is missing from what a place holds. Raises `UnknownSetting`, `CredentialError`."""
        from mts1b_brokers_core.platform.credentials import TRADING_MODE

        fields, missing = secret_fields(self.resolved.model), self.missing()
        for name in values:
            if name not in fields and name != TRADING_MODE:
                raise _unknown(f"{name} in {where} is no secret it takes.", name, [*fields, TRADING_MODE])
        taken = {name: value for name, value in values.items() if name in missing}
        if taken:
            self.take_mode(values, where)
        for name, value in taken.items():
            self.found[name,] = Given((name,), value, "credentials", where)

    def take_mode(self, values: Mapping[str, str], where: str) -> None:
        """Let the credential choose the environment, or refuse one that is for another."""
        from mts1b_brokers_core.platform.credentials import TRADING_MODE, CredentialError

        mode, offered = values.get(TRADING_MODE), self.resolved.record.environments
        chosen = self.found.get(("environment",))
        if mode is None:
            return
        if mode not in offered:
            problem = f"{TRADING_MODE} in {where} is {mode!r}; there are {', '.join(offered)}."
            raise CredentialError(problem, choices=offered, next_step=f"write {' or '.join(offered)}")
        if chosen is not None and chosen.value != mode:
            raise CredentialError(
                f"the credentials in {where} are for {mode}; {chosen.place} chose {chosen.value}.",
                next_step=f"choose the environment {mode}, or use an instance of its own for {chosen.value}",
            )
        self.found["environment",] = chosen or Given(("environment",), mode, "credentials", where)


async def store(resolved: Resolved, place: str, values: Mapping[str, str]) -> str:
    """Add secrets to the place of that name and return where they went.

    Raises `UnknownSetting`, `CredentialError`, `CredentialStoreUnavailable`.
    """
    try:
        search = _Search(resolved, {})
        search.take(values, "what was given")
        search.take_mode(values, "what was given")
        source = next(source for source in sources(resolved) if source.name == place)
        return await source.write(resolved.instance, values)
    except BrokerError as error:
        raise error.located(broker=resolved.instance, operation="credentials") from None


def sources(resolved: Resolved) -> list[Source]:
    """Return every place in its order: files, Vault, the keyring, and those of plugins."""
    from mts1b_brokers_core.platform.credentials import file_sources
    from mts1b_brokers_core.platform.keyring import KeyringSource

    own = [*file_sources(resolved.environ), vault_source(resolved.environ), KeyringSource()]
    return own + [_foreign(source) for source in resolved.registry.credential_sources()]


_vaults: dict[frozenset[tuple[str, str]], VaultSource] = {}


def vault_source(environ: Mapping[str, str]) -> VaultSource:
    """Return the process's one source for a Vault and its login, which it then shares."""
    from mts1b_brokers_core.platform.clock import RealClock
    from mts1b_brokers_core.platform.vault import VaultSource

    key = frozenset((name, value) for name, value in environ.items() if name.startswith("VAULT_"))
    return _vaults.setdefault(key, VaultSource(environ, RealClock()))


def _foreign(source: CredentialSource) -> Source:
    """Return a plugin's source as one of ours: what it raises names its kind, and no value."""
    from mts1b_brokers_core.platform import credentials

    class Foreign(credentials.Source):
        name = source.name

        def place(self, instance: str) -> str:
            return f"{self.name} {instance}"

        async def fetch(self, instance: str) -> Mapping[str, str]:
            try:
                found = await source.read(instance)
            except BrokerError:
                raise
            except Exception as error:  # noqa: BLE001 - somebody else's code, whose words may hold a secret
                problem = f"{self.name} failed with {type(error).__name__}."
                raise credentials.CredentialError(problem, next_step="ask its authors") from None
            if found is None:
                raise credentials.CredentialsAbsent("nothing there")
            return credentials.checked(found, self.place(instance))

        async def write(self, instance: str, values: Mapping[str, str]) -> str:
            raise credentials.CredentialError(
                f"{self.name} can't be written to.", next_step="use its own tools"
            )

    return Foreign()


def _unknown(problem: str, name: str, known: Mapping[str, str] | list[str]) -> UnknownSetting:
    close = nearest(name, known)
    return UnknownSetting(problem, next_step=f"did you mean {' or '.join(close or known)}?")
