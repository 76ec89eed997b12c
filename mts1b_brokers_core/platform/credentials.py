"""Where credentials come from: files that only their owner may read, and what every source has in common."""

from __future__ import annotations

import json
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from mts1b_brokers_core.foundation.errors import BrokerError, ConfigurationError

from .security import register_secret

#: The key of a credential that says for which environment it is good; it is no secret.
TRADING_MODE = "trading_mode"


class CredentialError(ConfigurationError):
    """Credentials are missing, can't be read, or are not what the broker takes; no value is ever shown."""

    code = "credentials"


class CredentialsAbsent(CredentialError):
    """A source that can be asked has nothing for the instance; its message is the reason."""

    #: The version that was deleted, where the source counts versions.
    version = 0


class CredentialsDenied(CredentialError):
    """The source does not let us read or write the instance's credentials."""


class CredentialConflict(CredentialError):
    """Somebody else changed the credentials between reading and writing them; nothing was written."""

    default_next_step = "run it again: it begins with what is there now"


class CredentialStoreUnavailable(BrokerError):
    """The place credentials are kept in can't be reached or is sealed; asking again later is safe."""

    code = "credentials_unavailable"
    default_repeat_is_safe = True


class Source(ABC):
    """A place of ours; it is a `CredentialSource`, and says why where it has nothing."""

    name: str

    #: True where looking may make it ask a person for something.
    asks_its_owner = False

    @property
    def idle(self) -> str:
        """Why it can't be asked at all, in words; empty where it can."""
        return ""

    @abstractmethod
    def place(self, instance: str) -> str:
        """Say where an instance's credentials lie, as messages show it."""

    @abstractmethod
    async def fetch(self, instance: str) -> Mapping[str, str]:
        """Return an instance's credentials. Raises `CredentialsAbsent`, `CredentialError`."""

    @abstractmethod
    async def write(self, instance: str, values: Mapping[str, str]) -> str:
        """Add values to what is there, and return where they went. Raises `CredentialError`."""

    def condition(self, instance: str) -> str:
        """Say how what was read is kept, in words."""
        return ""

    async def read(self, instance: str) -> Mapping[str, str] | None:
        """Return an instance's credentials, or None where there are none."""
        try:
            return await self.fetch(instance)
        except CredentialsAbsent:
            return None


def checked(data: object, place: str) -> dict[str, str]:
    """Return what a source holds as text by name, registered as secret. Raises `CredentialError`."""
    if not isinstance(data, Mapping):
        raise CredentialError(f"{place} holds no names with values.", next_step="store key = value pairs")
    found: dict[str, str] = {}
    for name, value in data.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            cure = f"store {name} as text"
            raise CredentialError(
                f"{name} in {place} is a {type(value).__name__}, expected text.", next_step=cure
            )
        if name != TRADING_MODE:
            register_secret(str(value))
        found[str(name)] = str(value)
    return {name: value for name, value in found.items() if value}


class FileSource(Source):
    """`<instance>.toml` in a folder; read only where nobody else can, unless systemd put it there."""

    def __init__(self, folder: Path, *, name: str = "file", writable: bool = True) -> None:
        self.folder, self.name, self._writable = folder, name, writable

    def place(self, instance: str) -> str:
        """Say which file it is."""
        return str(self.folder / f"{instance}.toml")

    async def fetch(self, instance: str) -> Mapping[str, str]:
        """Read the file after checking whose it is and who else may read it."""
        import tomllib

        place = self.place(instance)
        try:
            return checked(tomllib.loads(self._text(Path(place))), place)
        except tomllib.TOMLDecodeError as error:
            where = str(error).rpartition("(")[2].rstrip(")")  # its other words may quote the file
            raise CredentialError(f"{place} is not TOML ({where}).", next_step="correct that line") from None

    def condition(self, instance: str) -> str:
        """Say the file's mode."""
        return f"mode {stat.S_IMODE(Path(self.place(instance)).stat().st_mode):04o}"

    def _text(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                self._check(path, os.fstat(file.fileno()))
                return file.read().decode()
        except FileNotFoundError:
            raise CredentialsAbsent("not there") from None
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "it is not UTF-8 text"
            cure = "make it a readable file"
            raise CredentialError(f"{path} can't be read: {cause}.", next_step=cure) from None

    def _check(self, path: Path, found: os.stat_result) -> None:
        mode, ours = stat.S_IMODE(found.st_mode), found.st_uid == os.geteuid()
        if not stat.S_ISREG(found.st_mode):
            raise CredentialError(f"{path} is not a file.", next_step="name a file")
        if (
            not self._writable
        ):  # systemd's own folder, owned by root; a right of our user's alone shows as the group's
            ours, mode = ours or found.st_uid == 0, mode & ~0o040
        if not ours:
            cure = f"chown it to the user of this process, or run as its owner: ls -l {path}"
            raise CredentialError(f"{path} belongs to user {found.st_uid}, not to us.", next_step=cure)
        if mode & 0o077:
            raise CredentialError(
                f"{path} may be read by others (mode {mode:04o}, expected 0600).",
                next_step=f"chmod 600 {path}, and replace the credentials if others use this machine",
            )

    async def write(self, instance: str, values: Mapping[str, str]) -> str:
        """Write the file anew, whole or not at all, mode 0600."""
        both = {**(await self.read(instance) or {}), **values}
        path = Path(self.place(instance))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _replace(path, "".join(f"{name} = {_toml(value)}\n" for name, value in both.items()))
        except OSError as error:
            problem = f"{path} can't be written: {error.strerror or error}."
            raise CredentialError(problem, next_step="choose another place with --to") from None
        return str(path)


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _toml(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def default_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of credential files: `MTS1B_CREDENTIALS_DIR`, else the user's own."""
    if named := environ.get("MTS1B_CREDENTIALS_DIR"):
        return Path(named).expanduser()
    from platformdirs import user_config_path

    return user_config_path("mts1b") / "credentials"


def file_sources(environ: Mapping[str, str]) -> list[Source]:
    """Return the folders that may hold credential files: systemd's where it gave us one, and the user's."""
    given = environ.get("CREDENTIALS_DIRECTORY")
    systemd = [FileSource(Path(given), name="systemd", writable=False)] if given else []
    return [*systemd, FileSource(default_folder(environ))]
