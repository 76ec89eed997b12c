"""Vault's KV version 2, by token and by AppRole, against a real OpenBao."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from mts1b_brokers_core.platform.clock import RealClock, SteppedClock
from mts1b_brokers_core.platform.credentials import (
    CredentialConflict,
    CredentialError,
    CredentialsAbsent,
    CredentialsDenied,
    CredentialStoreUnavailable,
)
from mts1b_brokers_core.platform.security import redact
from mts1b_brokers_core.platform.vault import VaultSource

VALUES = {"api_key": "key-of-kraken", "api_secret": "secret-of-kraken", "trading_mode": "live"}


def source_of(environ: dict[str, str], clock: Any = None) -> VaultSource:
    return VaultSource(environ, clock or RealClock())


def token_of(source: VaultSource) -> str:
    assert source._login is not None
    return source._login.token


def no_secret_in(error: BaseException, *more: str) -> None:
    for secret in ("key-of-kraken", "secret-of-kraken", *more):
        assert secret not in f"{error} {error!r} {error.__dict__}"


async def test_a_token_reads_the_instances_secret(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    source = source_of(bao.environ(bao.new_token("kraken", ttl="1h")))
    assert await source.read("kraken") == VALUES
    assert 3500 < source.lease <= 3600
    assert source.condition("kraken").startswith("login good for 3")
    assert redact("secret-of-kraken live") == "[redacted] live"
    assert redact(token_of(source)) == "[redacted]"


async def test_a_root_token_does_not_end(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    source = source_of(bao.environ())
    await source.fetch("kraken")
    assert source.condition("kraken") == "login does not end"


async def test_a_role_logs_in_once_for_many_reads(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    environ = bao.role("kraken", token_ttl="1h")
    source = source_of(environ)
    assert await source.read("kraken") == VALUES
    first = token_of(source)
    await source.read("kraken")
    assert token_of(source) == first
    assert 3500 < source.lease <= 3600
    assert redact(f"{environ['VAULT_SECRET_ID']} {first}") == "[redacted] [redacted]"


async def test_nothing_there_and_a_deleted_version_are_absent(bao: Any) -> None:
    source = source_of(bao.environ())
    with pytest.raises(CredentialsAbsent, match="nothing there"):
        await source.fetch("nobody")
    bao.put("gone", **VALUES)
    bao.ask("DELETE", "secret/data/mts1b/brokers/gone")
    with pytest.raises(CredentialsAbsent, match=r"deleted at 20\d\d-"):
        await source.fetch("gone")
    assert await source.read("gone") is None


async def test_a_forbidden_path_names_the_policy_that_is_needed(bao: Any) -> None:
    bao.put("coinbase", **VALUES)
    for environ in (bao.role("kraken"), bao.environ(bao.new_token("kraken"))):
        with pytest.raises(CredentialsDenied, match="read secret/mts1b/brokers/coinbase") as caught:
            await source_of(environ).fetch("coinbase")
        rule = 'path "secret/data/mts1b/brokers/coinbase" { capabilities = ["read"] }'
        assert rule in caught.value.next_step
        no_secret_in(caught.value, *environ.values())


async def test_a_wrong_secret_id_and_a_wrong_token_are_denied(bao: Any) -> None:
    environ = {**bao.role("kraken"), "VAULT_SECRET_ID": "0000-wrong-secret-id"}
    with pytest.raises(CredentialsDenied, match="VAULT_ROLE_ID with VAULT_SECRET_ID") as caught:
        await source_of(environ).fetch("kraken")
    no_secret_in(caught.value, "0000-wrong-secret-id")
    with pytest.raises(CredentialsDenied) as caught:
        await source_of(bao.environ("wrong-token")).fetch("kraken")
    no_secret_in(caught.value, "wrong-token")


async def test_no_engine_and_one_of_version_1_are_configuration_errors(bao: Any) -> None:
    source = source_of(bao.environ())
    with pytest.raises(CredentialError, match="no engine at nowhere/"):
        await source.fetch_path("nowhere/kraken")
    bao.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    bao.ask("POST", "old/data/kraken", {"api_key": "key-of-kraken"})
    with pytest.raises(CredentialError, match="not in a KV version 2 engine") as caught:
        await source.fetch_path("old/kraken")
    no_secret_in(caught.value)


async def test_a_token_that_ended_is_denied_and_a_role_logs_in_again(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    given, environ = bao.environ(bao.new_token("kraken")), bao.role("kraken", token_ttl="1h")
    by_token, by_role = source_of(given), source_of(environ)
    for source in (by_token, by_role):
        await source.fetch("kraken")
        bao.ask("POST", "auth/token/revoke", {"token": token_of(source)})
    with pytest.raises(CredentialsDenied, match="the token has ended"):
        await by_token.fetch("kraken")
    ended = token_of(by_role)
    assert await by_role.read("kraken") == VALUES
    assert token_of(by_role) != ended
    assert redact(ended) == ended  # of no use to anybody, and no longer searched for


async def test_a_lease_that_ran_out_on_the_server_is_followed_by_a_login(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    clock = SteppedClock(datetime(2026, 1, 1, tzinfo=UTC))
    source = source_of(bao.role("kraken", token_ttl="1s", token_max_ttl="1s"), clock)
    await source.fetch("kraken")
    ended = token_of(source)
    while bao.knows(ended):
        assert source.lease == 1.0
    assert await source.read("kraken") == VALUES
    assert token_of(source) != ended


async def test_a_lease_that_ran_out_by_our_clock_is_followed_by_a_login(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    clock = SteppedClock(datetime(2026, 1, 1, tzinfo=UTC))
    source = source_of(bao.role("kraken", token_ttl="600s"), clock)
    await source.fetch("kraken")
    ended = token_of(source)
    await clock.advance(601)
    assert source.lease < 0
    assert await source.read("kraken") == VALUES
    assert (token_of(source) != ended, source.lease) == (True, 600.0)


async def test_the_last_third_of_a_lease_renews_it(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    clock = SteppedClock(datetime(2026, 1, 1, tzinfo=UTC))
    source = source_of(bao.role("kraken", token_ttl="600s", token_max_ttl="2h"), clock)
    await source.fetch("kraken")
    first = token_of(source)
    await clock.advance(350)
    await source.fetch("kraken")
    assert source.lease == pytest.approx(250)
    await clock.advance(100)
    await source.fetch("kraken")
    assert (token_of(source), source.lease) == (first, pytest.approx(600))
    about = bao.ask("POST", "auth/token/lookup", {"token": first})["data"]
    assert about["last_renewal_time"] > 0


async def test_a_lease_that_can_not_be_filled_again_is_replaced(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    clock = SteppedClock(datetime(2026, 1, 1, tzinfo=UTC))
    environ = bao.role("kraken", token_ttl="600s", token_max_ttl="600s")
    source = source_of(environ, clock)
    await source.fetch("kraken")
    first = token_of(source)
    bao.ask("POST", "auth/approle/role/kraken", {"token_ttl": "60s", "token_max_ttl": "60s"})
    bao.ask("POST", "auth/token/revoke", {"token": first})
    await clock.advance(450)
    assert await source.read("kraken") == VALUES
    assert token_of(source) != first


async def test_a_token_given_is_renewed_but_never_replaced(bao: Any) -> None:
    bao.put("kraken", **VALUES)
    clock = SteppedClock(datetime(2026, 1, 1, tzinfo=UTC))
    token = bao.new_token("kraken", ttl="600s")
    source = source_of({**bao.environ(token), **bao.role("other")}, clock)
    await source.fetch("kraken")
    await clock.advance(500)
    await source.fetch("kraken")
    assert (token_of(source), source.lease) == (token, pytest.approx(600, abs=2))


async def test_a_sealed_server_and_none_at_all_are_unavailable(sealed: str) -> None:
    for address, words in ((sealed, "sealed or not initialised"), ("http://127.0.0.1:1", "can't be reached")):
        for login in (
            {"VAULT_TOKEN": "a-token"},
            {"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": "a-secret-id"},
        ):
            with pytest.raises(CredentialStoreUnavailable, match=words) as caught:
                await source_of({"VAULT_ADDR": address, **login}).fetch("kraken")
            assert caught.value.repeat_is_safe
            no_secret_in(caught.value, "a-token", "a-secret-id")


async def test_behind_tls_only_a_server_that_is_vouched_for_is_asked(behind_tls: dict[str, str]) -> None:
    source = source_of(behind_tls)
    await source.write("kraken", VALUES)
    assert await source.read("kraken") == VALUES
    for authority in ({}, {"VAULT_CACERT": "/no/such/file"}):
        unknown = {name: value for name, value in behind_tls.items() if name != "VAULT_CACERT"} | authority
        with pytest.raises(CredentialStoreUnavailable, match="can't be reached") as caught:
            await source_of(unknown).fetch("kraken")
        no_secret_in(caught.value, "token-behind-tls")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "http://127.0.0.1:1"}, "neither VAULT_TOKEN nor"),
        (
            {"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_ROLE_ID": "r", "VAULT_TOKEN": ""},
            "neither VAULT_TOKEN nor",
        ),
    ],
)
async def test_without_a_login_it_can_not_be_asked(environ: dict[str, str], words: str) -> None:
    source = source_of(environ)
    assert words in source.idle
    with pytest.raises(CredentialError, match=words):
        await source.fetch("kraken")


async def test_writing_adds_to_the_secret_and_to_a_deleted_one(bao: Any) -> None:
    source = source_of(bao.environ())
    await source.write("fresh", {"api_key": "k"})
    await source.write("fresh", {"api_secret": "s", "api_key": "new"})
    assert await source.read("fresh") == {"api_key": "new", "api_secret": "s"}
    bao.ask("DELETE", "secret/data/mts1b/brokers/fresh")
    await source.write("fresh", {"api_key": "again"})
    assert await source.read("fresh") == {"api_key": "again"}


async def test_a_change_in_between_is_a_conflict_and_stays(bao: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bao.put("kraken", api_key="theirs")
    source = source_of(bao.environ())
    read = source._read

    async def overtaken(path: str) -> Any:
        found = await read(path)
        bao.put("kraken", api_key="overtook")
        return found

    monkeypatch.setattr(source, "_read", overtaken)
    with pytest.raises(CredentialConflict, match="changed meanwhile"):
        await source.write("kraken", {"api_key": "ours"})
    monkeypatch.undo()
    assert await source_of(bao.environ()).read("kraken") == {"api_key": "overtook"}


async def test_hvac_reads_what_was_written(bao: Any) -> None:
    hvac = pytest.importorskip("hvac")
    await source_of(bao.environ()).write("interop", VALUES)
    client = hvac.Client(url=bao.address, token=bao.token)
    found = client.secrets.kv.v2.read_secret_version(
        path="mts1b/brokers/interop", raise_on_deleted_version=True
    )
    assert found["data"]["data"] == VALUES


def test_a_source_shows_no_token(bao: Any) -> None:
    source = source_of(bao.environ("hush-token"))
    asyncio.run(_ignored(source))
    assert "hush-token" not in repr(source) + repr(source._login)


async def _ignored(source: VaultSource) -> None:
    with pytest.raises(CredentialsDenied):
        await source.fetch("kraken")
