"""Credential files only their owner may read, and a keyring only where it is safe."""

# ruff: noqa: ASYNC240 - small files, and nobody else waits for the loop
from __future__ import annotations

import importlib.machinery
import json
import os
import stat
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mts1b_brokers_core.platform import keyring as keyring_module
from mts1b_brokers_core.platform import security
from mts1b_brokers_core.platform.credentials import (
    CredentialError,
    CredentialsAbsent,
    CredentialStoreUnavailable,
    FileSource,
    _toml,
    file_sources,
)
from mts1b_brokers_core.platform.keyring import KeyringSource
from mts1b_brokers_core.platform.security import redact


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_secrets", {})
    monkeypatch.setattr(security, "_known", None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kraken.toml"
    path.write_text('api_key = "key-of-kraken"\npin = 123456\nempty = ""\ntrading_mode = "live"\n')
    path.chmod(0o600)
    return path


async def test_a_file_of_ours_is_read_and_its_values_are_registered(file: Path) -> None:
    source = FileSource(file.parent)
    assert await source.read("kraken") == {
        "api_key": "key-of-kraken",
        "pin": "123456",
        "trading_mode": "live",
    }
    assert redact("key-of-kraken 123456 live") == "[redacted] [redacted] live"
    assert source.condition("kraken") == "mode 0600"
    assert await source.read("other") is None
    with pytest.raises(CredentialsAbsent, match="not there"):
        await source.fetch("other")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o666, 0o644, 0o620, 0o601])
async def test_a_file_that_others_may_read_is_refused_with_the_cure(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(CredentialError, match=f"mode {mode:04o}, expected 0600") as caught:
        await FileSource(file.parent).read("kraken")
    assert caught.value.next_step.startswith(f"chmod 600 {file}")
    assert "key-of-kraken" not in str(caught.value)


async def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(CredentialError, match="belongs to user"):
        await FileSource(file.parent).read("kraken")


@pytest.mark.parametrize(("mode", "allowed"), [(0o400, True), (0o440, True), (0o444, False), (0o460, False)])
async def test_systemds_folder_may_hold_files_of_root(
    file: Path, monkeypatch: pytest.MonkeyPatch, mode: int, allowed: bool
) -> None:
    file.chmod(mode)
    if file.stat().st_uid == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    environ = {"CREDENTIALS_DIRECTORY": str(file.parent), "MTS1B_CREDENTIALS_DIR": str(file.parent / "mine")}
    systemd, mine = file_sources(environ)
    assert (systemd.name, mine.place("a")) == ("systemd", str(file.parent / "mine" / "a.toml"))
    if allowed:
        assert (await systemd.fetch("kraken"))["api_key"] == "key-of-kraken"
    else:
        with pytest.raises(CredentialError, match="may be read by others"):
            await systemd.fetch("kraken")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('api_key = "hush-hush', r"is not TOML \(at .*\)"),
        ("api_key = 1.5", "api_key in .* is a float, expected text"),
        ("[deep]\napi_key = 'hush-hush'", "deep in .* is a dict, expected text"),
        ("api_key = true", "is a bool"),
    ],
)
async def test_a_file_that_makes_no_sense_is_an_error_without_its_words(
    file: Path, text: str, problem: str
) -> None:
    file.write_text(text)
    with pytest.raises(CredentialError, match=problem) as caught:
        await FileSource(file.parent).fetch("kraken")
    assert "hush" not in str(caught.value)


async def test_what_can_not_be_read_is_named(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(CredentialError, match="not UTF-8"):
        await FileSource(file.parent).fetch("kraken")
    (file.parent / "folder.toml").mkdir()
    with pytest.raises(CredentialError, match="Is a directory"):
        await FileSource(file.parent).fetch("folder")


async def test_writing_adds_to_what_is_there_and_only_we_may_read_it(tmp_path: Path) -> None:
    source = FileSource(tmp_path / "new")
    before = os.umask(0)
    try:
        place = Path(await source.write("kraken", {"api_key": "k", "note": '-----BEGIN\n"x"\\\x7f'}))
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    await source.write("kraken", {"api_key": "new"})
    assert await source.read("kraken") == {"api_key": "new", "note": '-----BEGIN\n"x"\\\x7f'}
    assert [path.name for path in place.parent.iterdir()] == ["kraken.toml"]


async def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CredentialError, match=r"can't be written|can't be read"):
        await FileSource(tmp_path / "file").write("kraken", {"api_key": "hush-hush"})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_file(value: str) -> None:
    assert tomllib.loads(f"x = {_toml(value)}")["x"] == value


# --- the keyring ---------------------------------------------------------------------------------------


class Ring:
    """A keyring of the operating system's, or of a kind that must not be used."""

    def __init__(self, priority: float = 5.0) -> None:
        self.priority, self.held = priority, {}  # type: tuple[float, dict[tuple[str, str], str]]
        self.locked = False

    def _open(self) -> None:
        if self.locked:
            raise KeyringLocked("hush-hush could not be stored")

    def get_password(self, service: str, name: str) -> str | None:
        self._open()
        return self.held.get((service, name))

    def set_password(self, service: str, name: str, text: str) -> None:
        self._open()
        self.held[service, name] = text


class KeyringError(Exception):
    pass


class KeyringLocked(KeyringError):
    pass


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the package `keyring` one that has the given backend."""

    def install(chosen: Any) -> Any:
        package, errors = types.ModuleType("keyring"), types.ModuleType("keyring.errors")
        package.__spec__ = importlib.machinery.ModuleSpec("keyring", None)
        package.get_keyring, errors.KeyringError = lambda: chosen, KeyringError  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "keyring", package)
        monkeypatch.setitem(sys.modules, "keyring.errors", errors)
        return chosen

    return install


async def test_the_keyring_holds_one_entry_for_an_instance(ring: Any) -> None:
    backend, source = ring(Ring()), KeyringSource()
    assert source.idle == ""
    assert await source.read("kraken") is None
    await source.write("kraken", {"api_key": "key-of-kraken"})
    await source.write("kraken", {"api_secret": "secret-of-kraken"})
    assert await source.read("kraken") == {"api_key": "key-of-kraken", "api_secret": "secret-of-kraken"}
    assert list(backend.held) == [("mts1b-brokers", "kraken")]
    assert redact("secret-of-kraken") == "[redacted]"


@pytest.mark.parametrize("priority", [0, 0.5])
async def test_a_keyring_that_is_not_safe_is_refused(ring: Any, priority: float) -> None:
    backend, source = ring(Ring(priority)), KeyringSource()
    assert f"priority {priority:g}" in source.idle
    with pytest.raises(CredentialStoreUnavailable, match="no safe keyring"):
        await source.write("kraken", {"api_key": "hush-hush"})
    assert backend.held == {}


async def test_of_several_the_safe_one_is_used(ring: Any) -> None:
    plain, safe = Ring(0.5), Ring(5)
    ring(types.SimpleNamespace(backends=[plain, safe], priority=10))
    await KeyringSource().write("kraken", {"api_key": "k"})
    assert (len(plain.held), len(safe.held)) == (0, 1)


async def test_a_locked_keyring_is_unavailable_and_says_no_value(ring: Any) -> None:
    backend = ring(Ring())
    backend.locked = True
    with pytest.raises(CredentialStoreUnavailable, match="refused: KeyringLocked") as caught:
        await KeyringSource().write("kraken", {"api_key": "hush-hush"})
    assert "hush" not in str(caught.value)
    assert caught.value.repeat_is_safe


async def test_an_entry_of_somebody_else_is_not_taken(ring: Any) -> None:
    backend = ring(Ring())
    for text in ("hush-hush", json.dumps(["hush-hush"])):
        backend.held["mts1b-brokers", "kraken"] = text
        with pytest.raises(CredentialError) as caught:
            await KeyringSource().read("kraken")
        assert "hush" not in str(caught.value)


def test_without_the_package_the_keyring_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "find_spec", lambda name: None)
    assert KeyringSource().idle == "not installed: pip install 'mts1b-brokers-core[keyring]'"


async def test_the_real_package_without_a_keyring_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keyring")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    import keyring.core

    before = keyring.get_keyring()
    keyring.core.init_backend()
    try:
        assert "keyring.backends.fail has priority 0" in KeyringSource().idle
    finally:
        keyring.set_keyring(before)
