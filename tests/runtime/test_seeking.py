"""Secrets that nobody gave are sought in their places, one after another, and each knows its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mts1b_brokers_core import open_broker
from mts1b_brokers_core.foundation.errors import (
    BrokerError,
    ConfigurationError,
    EnvironmentNotChosen,
    PluginUnusable,
    UnknownSetting,
)
from mts1b_brokers_core.platform import security
from mts1b_brokers_core.platform.credentials import CredentialError
from mts1b_brokers_core.platform.keyring import KeyringSource
from mts1b_brokers_core.platform.security import redact
from mts1b_brokers_core.runtime.opening import Request, Resolved, complete

SAFE = """
from mts1b_brokers_core import hookimpl

ASKED = []

class Safe:
    name = "our-safe"
    async def read(self, instance):
        ASKED.append(instance)
        if instance == "broken":
            raise RuntimeError("hush-hush")
        return {"api_secret": "secret-of-the-safe"} if instance == "zeta" else None

@hookimpl
def mts1b_credential_sources():
    return [Safe()]
"""


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_secrets", {})
    monkeypatch.setattr(security, "_patterns", ())
    monkeypatch.setattr(security, "_known", None)
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(KeyringSource, "idle", "no keyring in this test")


@pytest.fixture
def zeta(site: Any, plugin_code: str) -> Any:
    """A broker that needs a key and its secret, and takes a passphrase."""
    needs = "api_key: SecretStr\n    api_secret: SecretStr\n    passphrase: SecretStr | None = None"
    site.broker(
        "zeta",
        plugin_code.replace("api_key: SecretStr | None = None", needs),
        environments='["live", "paper"]',
    )
    return site


@pytest.fixture
def folder(plain_machine: None, tmp_path: Path) -> Path:
    """Where credential files are by default."""
    path = tmp_path / "config" / "mts1b" / "credentials"
    path.mkdir(parents=True)
    return path


def keep(folder: Path, text: str, name: str = "zeta", mode: int = 0o600) -> Path:
    file = folder / f"{name}.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def seek(name: str = "zeta", **arguments: object) -> Resolved:
    return asyncio.run(complete(Request(name, arguments=arguments)))


def places(resolved: Resolved) -> dict[str, str]:
    return {".".join(path): given.place for path, given in resolved.found.items()}


WHOLE = 'api_key = "key-in-file"\napi_secret = "secret-in-file"\n'


def test_argument_before_environment_before_the_credential_file(
    zeta: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = keep(folder, WHOLE + 'passphrase = "words-in-file"')
    monkeypatch.setenv("MTS1B_BROKERS__ZETA__API_SECRET", "secret-in-variable")
    resolved = seek(environment="paper", api_key=SecretStr("key-as-argument"))
    settings = resolved.settings("paper")
    assert settings.api_key.get_secret_value() == "key-as-argument"
    assert settings.api_secret.get_secret_value() == "secret-in-variable"
    assert settings.passphrase.get_secret_value() == "words-in-file"
    assert places(resolved) == {
        "environment": "the argument environment", "api_key": "the argument api_key",
        "api_secret": "MTS1B_BROKERS__ZETA__API_SECRET", "passphrase": str(file),
    }  # fmt: skip
    shown = redact("key-as-argument secret-in-variable words-in-file")
    assert shown == "[redacted] [redacted] [redacted]"
    rows = {row.field: row for row in resolved.explain()}
    assert (rows["passphrase"].value, rows["passphrase"].source) == ("***", str(file))
    assert rows["passphrase"].kind == "credentials"


def test_systemds_file_comes_before_the_users(
    zeta: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "systemd"
    theirs.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(theirs))
    keep(theirs, 'api_key = "key-of-systemd"')
    keep(folder, WHOLE)
    settings = seek(environment="paper").settings("paper")
    assert settings.api_key.get_secret_value() == "key-of-systemd"
    assert settings.api_secret.get_secret_value() == "secret-in-file"


def test_what_is_missing_is_one_error_that_lists_every_place(zeta: Any, folder: Path) -> None:
    keep(folder, 'api_key = "key-in-file"')
    with pytest.raises(CredentialError) as caught:
        seek(environment="paper")
    assert caught.value.broker == "zeta"
    for words in (
        "api_secret is missing", "MTS1B_BROKERS__ZETA__API_SECRET", "brokers.toml",
        "zeta.toml: no api_secret and no passphrase", "secret/mts1b/brokers/zeta: VAULT_ADDR is not set",
        "no keyring in this test",
    ):  # fmt: skip
        assert words in caught.value.message
    assert "credentials set zeta" in caught.value.next_step
    assert "key-in-file" not in str(caught.value)


def test_a_file_that_others_may_read_ends_the_search(zeta: Any, folder: Path) -> None:
    keep(folder, WHOLE, mode=0o644)
    with pytest.raises(CredentialError, match=r"zeta: credentials: .*mode 0644"):
        seek(environment="paper")


@pytest.mark.parametrize(
    ("key", "nearest"), [("api_secert", "api_secret"), ("trading_mod", "trading_mode"), ("ratio", "api_")]
)
def test_an_unknown_key_is_named_with_the_nearest(zeta: Any, folder: Path, key: str, nearest: str) -> None:
    keep(folder, f'{WHOLE}{key} = "hush-hush"')
    with pytest.raises(UnknownSetting, match=f"{key} in .*zeta.toml") as caught:
        seek(environment="paper")
    assert nearest in caught.value.next_step
    assert "hush-hush" not in str(caught.value)


def test_a_credential_chooses_the_environment_where_nobody_did(zeta: Any, folder: Path) -> None:
    keep(folder, WHOLE)
    with pytest.raises(EnvironmentNotChosen):
        seek().environment()
    file = keep(folder, f'{WHOLE}trading_mode = "live"')
    resolved = seek()
    assert resolved.environment() == "live"
    assert places(resolved)["environment"] == str(file)
    assert seek(environment="live").environment() == "live"


def test_a_credential_of_another_environment_is_refused(zeta: Any, folder: Path) -> None:
    keep(folder, f'{WHOLE}trading_mode = "live"')
    with pytest.raises(
        CredentialError, match=r"are for live; the argument environment chose paper"
    ) as caught:
        seek(environment="paper")
    assert "choose the environment live" in caught.value.next_step
    keep(folder, f'{WHOLE}trading_mode = "prod"')
    with pytest.raises(CredentialError, match="is 'prod'; there are live, paper"):
        seek()


def test_without_an_environment_the_choice_comes_before_the_credentials(zeta: Any, folder: Path) -> None:
    with pytest.raises(EnvironmentNotChosen):
        seek()


def test_an_optional_secret_may_be_missing_but_not_unreadable(site: Any, folder: Path) -> None:
    site.broker("zeta")
    assert seek().settings("paper").api_key is None
    keep(folder, 'api_key = "key-in-file"')
    assert seek().settings("paper").api_key.get_secret_value() == "key-in-file"
    keep(folder, 'api_key = "key-in-file"', mode=0o644)
    with pytest.raises(CredentialError, match="mode 0644"):
        seek()


def test_vault_that_is_down_stops_only_who_needs_it(
    zeta: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", "token-of-vault")
    with pytest.raises(BrokerError, match="can't be reached") as caught:
        seek(environment="paper")
    assert (caught.value.code, caught.value.broker) == ("credentials_unavailable", "zeta")
    keep(folder, WHOLE)
    assert seek(environment="paper").settings("paper").passphrase is None
    assert "can't be reached" in caplog.text


def test_the_keyring_is_left_alone_where_only_an_optional_secret_is_missing(
    zeta: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def fetch(self: KeyringSource, instance: str) -> dict[str, str]:
        asked.append(instance)
        return {"api_key": "key-in-ring", "api_secret": "secret-in-ring"}

    monkeypatch.setattr(KeyringSource, "idle", "")
    monkeypatch.setattr(KeyringSource, "fetch", fetch)
    assert places(seek(environment="paper"))["api_key"] == "keyring mts1b-brokers/zeta"
    keep(folder, WHOLE)
    seek(environment="paper")
    assert asked == ["zeta"]


def test_plugins_add_places_which_are_asked_last(zeta: Any, folder: Path) -> None:
    zeta.package("our_safe", SAFE, None)
    zeta.info("our-safe", "[mts1b.credentials]\nsafe = our_safe.plugin\n")
    keep(folder, 'api_key = "key-in-file"')
    resolved = seek(environment="paper")
    assert resolved.settings("paper").api_secret.get_secret_value() == "secret-of-the-safe"
    assert places(resolved)["api_secret"] == "our-safe zeta"
    assert redact("secret-of-the-safe") == "[redacted]"
    with pytest.raises(CredentialError, match="our-safe failed with RuntimeError") as caught:
        asyncio.run(complete(Request("zeta", "broken", arguments={"environment": "paper"})))
    assert "hush-hush" not in str(caught.value)
    with pytest.raises(CredentialError, match="our-safe other: nothing there"):
        asyncio.run(complete(Request("zeta", "other", arguments={"environment": "paper"})))
    seek(environment="paper", api_key="a-key", api_secret="a-secret", passphrase="words")
    assert sys.modules["our_safe.plugin"].ASKED == ["zeta", "broken", "other"]


def test_a_plugin_of_places_that_is_wrong_or_denied(
    zeta: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeta.package("our_safe", SAFE.replace("return [Safe()]", "return ['a word']"), None)
    zeta.info("our-safe", "[mts1b.credentials]\nsafe = our_safe.plugin\n")
    with pytest.raises(PluginUnusable, match="returned str, expected a CredentialSource"):
        seek(environment="paper")
    monkeypatch.setenv("MTS1B_BROKERS_DENY", "our-safe")
    with pytest.raises(CredentialError, match="api_key and api_secret are missing"):
        seek(environment="paper")


def test_a_plugins_patterns_are_registered_when_it_is_loaded(site: Any, plugin_code: str) -> None:
    hook = "\nimport re\n@hookimpl\ndef mts1b_redaction_patterns():\n    return [{0}]\n"
    site.broker("zeta", plugin_code + hook.format(r"re.compile(r'U\d{7}')"))
    site.broker("eta", plugin_code + hook.format("'U1'"))
    seek()
    assert redact("account U1234567") == "account [redacted]"
    with pytest.raises(PluginUnusable, match="returned str, expected a compiled pattern"):
        seek("eta")


def test_the_simulator_brings_its_own_and_nothing_is_sought(
    site: Any, plugin_code: str, folder: Path
) -> None:
    needs = plugin_code.replace("api_key: SecretStr | None = None", "api_key: SecretStr")
    served = needs + "\n@hookimpl\ndef mts1b_broker_simulator(options):\n    raise NotImplementedError\n"
    site.broker("zeta", served, head='provides = ["broker", "simulator"]', environments='["live"]')
    keep(folder, "not TOML")
    assert seek(environment="simulator").environment() == "simulator"
    with pytest.raises(CredentialError, match="not TOML"):
        seek(environment="live")


def test_a_wrong_value_is_named_without_it(zeta: Any, folder: Path) -> None:
    keep(folder, WHOLE)
    with pytest.raises(ConfigurationError) as caught:
        seek(environment="paper", ratio="key-in-file").settings("paper")
    assert "ratio" in str(caught.value)


async def test_an_opened_broker_has_what_was_found(zeta: Any, folder: Path) -> None:
    keep(folder, f'{WHOLE}trading_mode = "paper"')
    async with open_broker("zeta") as broker:
        assert broker.settings.api_secret.get_secret_value() == "secret-in-file"
        assert broker.services.environment == "paper"
        assert "in-file" not in repr(broker.settings)


def test_a_broker_without_secrets_costs_nothing() -> None:
    code = (
        "import asyncio, sys\n"
        "from mts1b_brokers_core.runtime.opening import Request, complete\n"
        "asyncio.run(complete(Request('paper')))\n"
        "names = ('httpx', 'keyring', 'structlog', 'mts1b_brokers_core.platform.credentials',"
        " 'mts1b_brokers_core.platform.security')\n"
        "print([name for name in names if name in sys.modules])"
    )
    pytest.importorskip("mts1b_broker_paper")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
