"""Vault from the settings and from the command line, against a real OpenBao."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mts1b_brokers_core import open_broker
from mts1b_brokers_core.foundation.errors import UnknownSetting
from mts1b_brokers_core.platform.credentials import CredentialError, CredentialsDenied
from mts1b_brokers_core.platform.security import redact
from mts1b_brokers_core.runtime.credentials import vault_source
from mts1b_brokers_core.runtime.opening import Request, complete


@pytest.fixture
def zeta(site: Any, plugin_code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    needs = "api_key: SecretStr\n    api_secret: SecretStr"
    site.broker(
        "zeta",
        plugin_code.replace("api_key: SecretStr | None = None", needs),
        environments='["live", "paper"]',
    )
    for name in ("VAULT_TOKEN", "VAULT_ROLE_ID", "VAULT_SECRET_ID", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MTS1B_BROKERS_ALLOW", "mts1b-broker-zeta")
    return site


@pytest.fixture
def by_role(bao: Any, zeta: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in bao.role("zeta", token_ttl="1h").items():
        monkeypatch.setenv(name, value)
    return bao


def seek(**arguments: object) -> Any:
    return asyncio.run(complete(Request("zeta", arguments=arguments)))


def mts(*words: str, text: str = "") -> Result:
    from mts1b_brokers_core.cli.component import brokers

    return CliRunner().invoke(brokers, list(words), input=text, prog_name="mts mts1b-brokers")


def test_a_broker_opens_with_what_vault_has_where_the_secret_says(by_role: Any) -> None:
    by_role.put("zeta", api_key="key-in-vault", api_secret="secret-in-vault", trading_mode="paper")

    async def session() -> tuple[str, str, str]:
        async with open_broker("zeta") as broker:
            settings = broker.settings
            return settings.api_key.get_secret_value(), broker.services.environment, repr(settings)

    key, environment, shown = asyncio.run(session())
    assert (key, environment) == ("key-in-vault", "paper")
    assert "in-vault" not in shown
    assert seek().found["api_secret",].place == "vault secret/mts1b/brokers/zeta"
    login = vault_source(os.environ)._login
    assert login is not None
    assert vault_source(os.environ)._login is login  # one login for the process
    with pytest.raises(CredentialError, match="are for paper; the argument environment chose live"):
        seek(environment="live")
    by_role.put("zeta", api_key="key-in-vault", api_secrt="secret-in-vault")
    with pytest.raises(UnknownSetting, match="api_secrt in vault secret/mts1b/brokers/zeta"):
        seek(environment="live")


def test_a_reference_is_read_from_vault(by_role: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    by_role.put("zeta", key="key-in-vault", word="secret-in-vault")
    path = "vault:secret/mts1b/brokers/zeta"
    monkeypatch.setenv("MTS1B_BROKERS__ZETA__API_KEY", f"{path}#key")
    resolved = seek(environment="paper", api_secret=f"{path}#word")
    settings = resolved.settings("paper")
    assert settings.api_key.get_secret_value() == "key-in-vault"
    assert settings.api_secret.get_secret_value() == "secret-in-vault"
    assert resolved.found["api_key",].place == f"MTS1B_BROKERS__ZETA__API_KEY, {path}#key"
    assert redact("key-in-vault secret-in-vault") == "[redacted] [redacted]"
    with pytest.raises(UnknownSetting, match="has no field wrod") as caught:
        seek(environment="paper", api_secret=f"{path}#wrod")
    assert "did you mean word" in caught.value.next_step
    with pytest.raises(
        CredentialsDenied, match=r"the argument api_secret refers to vault secret/other: .*read"
    ):
        seek(environment="paper", api_secret="vault:secret/other#word")


def test_the_command_line_writes_shows_and_checks(
    bao: Any, zeta: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_ADDR", bao.address)
    bao.policy("writer", "create")
    bao.ask("DELETE", "secret/metadata/mts1b/brokers/zeta")
    bao.policy("zeta", "create", "update", "read")
    token = bao.ask("POST", "auth/token/create", {"policies": ["zeta"], "ttl": "1h"})["auth"]["client_token"]
    monkeypatch.setenv("VAULT_TOKEN", token)
    words = ["--field", "api_key=-", "--field", "api_secret=-", "--field", "trading_mode=paper"]
    stored = mts(
        "credentials", "set", "zeta", "--to", "vault", *words, text="key-in-vault\nsecret-in-vault\n"
    )
    assert stored.exit_code == 0, stored.output
    assert "stored api_key, api_secret, trading_mode in vault secret/mts1b/brokers/zeta" in stored.output
    shown = mts("credentials", "show", "zeta")
    checked = mts("credentials", "check", "zeta", "--json")
    assert "login good for 3" in shown.output
    report = json.loads(checked.output)
    vault = next(row for row in report["places"] if row["source"] == "vault")
    assert (vault["state"], vault["names"], vault["trading_mode"]) == (
        "found", ["api_key", "api_secret"], "paper",
    )  # fmt: skip
    assert (report["complete"], report["environment"]) == (True, "paper")
    for said in (stored, shown, checked):
        assert not any(secret in said.output for secret in ("key-in-vault", "secret-in-vault", token))
    hvac = pytest.importorskip("hvac")
    found = hvac.Client(url=bao.address, token=bao.token).secrets.kv.v2.read_secret_version(
        path="mts1b/brokers/zeta", raise_on_deleted_version=True
    )
    assert found["data"]["data"]["api_secret"] == "secret-in-vault"


def test_a_sealed_vault_is_one_line_and_exit_1(
    sealed: str, zeta: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_ADDR", sealed)
    monkeypatch.setenv("VAULT_TOKEN", "some-token-of-mine")
    result = mts("positions", "zeta", "--environment", "paper")
    assert result.exit_code == 1
    assert "zeta: credentials: Vault is sealed or not initialised" in result.output
    assert "next: unseal it" in result.output
    assert "some-token-of-mine" not in result.output
