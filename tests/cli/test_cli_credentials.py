"""`credentials set/show/check`, and log lines on request: names, places and cures, never a value."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mts1b_brokers_core.cli.component import brokers
from mts1b_brokers_core.platform import security
from mts1b_brokers_core.platform.keyring import KeyringSource

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
SECRETS = ("key-of-the-toy", "word-of-the-toy")


LOGGING = """async def __aenter__(self):
        from mts1b_brokers_core.platform.logging import get_logger
        import logging
        key = self.settings.api_key.get_secret_value()
        get_logger('mts1b_brokers.bad').debug('opened', extra={'key': key})
        logging.getLogger('mts1b_brokers').info('plain %s', key)
        try:
            raise ValueError(key)
        except ValueError:
            logging.getLogger('other').exception('odd')
"""


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_secrets", {})
    monkeypatch.setattr(security, "_known", None)
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(KeyringSource, "idle", "no keyring in this test")


@pytest.fixture
def bear(toys: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A toy that needs a key and a word."""
    needs = 'api_key: SecretStr = Field(description="Its key.")\n    api_secret: SecretStr = Field()\n'
    code = TOY.replace(
        'api_key: SecretStr | None = Field(default=None, description="The toy\'s key.")\n', needs
    )
    assert code != TOY
    toys.broker("other", code, environments='["paper", "live"]')
    monkeypatch.setenv("MTS1B_BROKERS__OTHER__ENVIRONMENT", "paper")
    return "other"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "mts1b" / "credentials" / "other.toml"


def unseen(text: str) -> str:
    assert not any(secret in text for secret in SECRETS), text
    return text


def test_set_reads_standard_input_and_show_and_check_tell_names_only(
    mts: Callable[..., Any], bear: str, file: Path
) -> None:
    stored = mts("credentials", "set", bear, text="key-of-the-toy\nword-of-the-toy\n")
    assert stored.exit_code == 0, stored.output
    assert unseen(stored.output) == f"other: stored api_key, api_secret in {file}\n"
    assert file.read_text() == 'api_key = "key-of-the-toy"\napi_secret = "word-of-the-toy"\n'
    shown = mts("credentials", "show", bear)
    assert f"api_secret  yes     {file}" in unseen(shown.output)
    assert "mode 0600" in shown.output
    assert "VAULT_ADDR is not set" in shown.output
    checked = mts("credentials", "check", bear)
    assert checked.exit_code == 0
    assert unseen(checked.output).endswith("other: complete, for paper (MTS1B_BROKERS__OTHER__ENVIRONMENT)\n")


def test_one_field_is_added_and_the_others_stay(mts: Callable[..., Any], bear: str, file: Path) -> None:
    mts("credentials", "set", bear, text="key-of-the-toy\nword-of-the-toy\n")
    words = ["--field", "api_secret=-", "--field", "trading_mode=paper"]
    assert mts("credentials", "set", bear, *words, text="another-word\n").exit_code == 0
    assert file.read_text().splitlines() == [
        'api_key = "key-of-the-toy"', 'api_secret = "another-word"', 'trading_mode = "paper"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "text", "problem"),
    [
        (["--field", "api_key=hush"], "", "never taken from the command line; write --field api_key=-"),
        (["--field", "api_kay=-"], "hush\n", "api_kay in what was given is no secret it takes"),
        (["--field", "api_key=-"], "", "api_key: nothing was given"),
        (["--field", "trading_mode=prod"], "", "'prod'; there are paper, live"),
        (["--to", "vault"], "hush1\nhush2\n", "VAULT_ADDR is not set"),
        (["--to", "keyring"], "hush1\nhush2\n", "no keyring in this test"),
        (["--file", "-"], "api_key = hush", "is not TOML"),
        (["--file", "-"], '{"api_key": hush', "is not JSON (at line 1, column 13)"),
        (["--file", "-"], 'api_key = ["hush"]', "is a list, expected text"),
    ],
)
def test_set_refuses_and_says_no_value(
    mts: Callable[..., Any], bear: str, file: Path, words: list[str], text: str, problem: str
) -> None:
    result = mts("credentials", "set", bear, *words, text=text)
    assert result.exit_code in (1, 2)
    assert problem in result.output.replace("\n", " ")
    assert "hush" not in result.output.replace("api_key=hush", "")
    assert not file.exists()


def test_set_reads_a_file_and_json_tells_the_names(
    document: Callable[..., Any], bear: str, tmp_path: Path
) -> None:
    given = tmp_path / "new.toml"
    given.write_text('api_key = "key-of-the-toy"\napi_secret = "word-of-the-toy"\n')
    stored = document("credentials", "set", bear, "--file", str(given))
    assert (stored["instance"], stored["stored"]) == ("other", ["api_key", "api_secret"])
    shown = document("credentials", "show", bear)
    assert [(row["field"], row["needed"], row["source"]) for row in shown["secrets"]] == [
        ("api_key", True, stored["place"]), ("api_secret", True, stored["place"]),
    ]  # fmt: skip
    assert [(row["source"], row["state"]) for row in shown["places"]] == [
        ("file", "found"), ("vault", "not set up"), ("keyring", "not set up"),
    ]  # fmt: skip
    checked = document("credentials", "check", bear)
    assert (checked["complete"], checked["environment"], checked["problem"]) == (True, "paper", None)
    unseen(json.dumps([stored, shown, checked]))


def test_check_fails_with_the_cause_and_the_cure(
    mts: Callable[..., Any], document: Callable[..., Any], bear: str, file: Path
) -> None:
    missing = mts("credentials", "check", bear)
    assert missing.exit_code == 1
    assert "api_key and api_secret are missing" in missing.output
    mts("credentials", "set", bear, text="key-of-the-toy\nword-of-the-toy\n")
    file.chmod(0o644)
    refused = mts("credentials", "check", bear)
    assert refused.exit_code == 1
    assert f"next: chmod 600 {file}" in unseen(refused.output)
    report = document("credentials", "check", bear, code=1)
    assert report["problem"]["code"] == "credentials"
    assert report["places"][0]["state"] == "failed"


def test_check_says_that_a_credential_is_for_another_environment(
    mts: Callable[..., Any], document: Callable[..., Any], bear: str
) -> None:
    words = ["--field", "api_key=-", "--field", "api_secret=-", "--field", "trading_mode=live"]
    assert mts("credentials", "set", bear, *words, text="key-of-the-toy\nword-of-the-toy\n").exit_code == 0
    report = document("credentials", "check", bear, code=1)
    assert "are for live; MTS1B_BROKERS__OTHER__ENVIRONMENT chose paper" in report["problem"]["message"]
    assert document("credentials", "check", bear, "--environment", "live")["environment"] == "live"


def test_config_shows_the_place_of_what_was_found_and_what_is_missing(
    mts: Callable[..., Any], document: Callable[..., Any], bear: str, file: Path
) -> None:
    assert "credentials: api_key and api_secret are missing" in mts("config", bear).output
    mts("credentials", "set", bear, text="key-of-the-toy\nword-of-the-toy\n")
    shown = mts("config", bear, "--explain")
    assert shown.exit_code == 0
    assert str(file) in unseen(shown.output)
    rows = {row["field"]: row for row in document("config", bear)["settings"]}
    assert (rows["api_key"]["value"], rows["api_key"]["kind"]) == ("***", "credentials")


def test_commands_that_open_use_what_was_found(mts: Callable[..., Any], bear: str) -> None:
    refused = mts("positions", bear)
    assert (refused.exit_code, "are missing. Looked in:" in refused.output) == (2, True)
    mts("credentials", "set", bear, text="key-of-the-toy\nword-of-the-toy\n")
    assert "BTC-USD" in mts("positions", bear).output
    assert mts("test", bear).exit_code == 0
    assert mts("buy", bear, "BTC-USD", "0.01", "--yes").exit_code == 0


def test_a_live_credential_does_not_make_an_order_live_unasked(
    mts: Callable[..., Any], bear: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--field", "api_key=-", "--field", "api_secret=-", "--field", "trading_mode=live"]
    monkeypatch.delenv("MTS1B_BROKERS__OTHER__ENVIRONMENT")
    mts("credentials", "set", bear, *words, text="key-of-the-toy\nword-of-the-toy\n")
    order = ["buy", bear, "BTC-USD", "0.01", "--yes"]
    refused = mts(*order)
    assert (refused.exit_code, "trades live; say so" in refused.output) == (2, True)
    assert mts(*order, "--environment", "live").exit_code == 0


def test_a_broker_without_secrets_says_so(mts: Callable[..., Any], toys: Any) -> None:
    bare = TOY.replace(
        '    api_key: SecretStr | None = Field(default=None, description="The toy\'s key.")\n', ""
    )
    toys.broker("bad", bare)
    assert "bad takes no secrets" in mts("credentials", "set", "bad").output
    assert "bad takes no secrets" in mts("credentials", "show", "bad").output
    assert "bad: complete" in mts("credentials", "check", "bad").output


def test_an_error_of_a_third_party_is_printed_without_the_secret(
    mts: Callable[..., Any], document: Callable[..., Any], toys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = TOY.replace("async def __aenter__(self):\n", (
        "async def __aenter__(self):\n"
        "        raise RuntimeError(f'GET /?signature=abc with {self.settings.api_key.get_secret_value()}')\n"
    ))  # fmt: skip
    toys.broker("bad", code)
    monkeypatch.setenv("MTS1B_BROKERS__BAD__API_KEY", "key-of-the-toy")
    result = mts("positions", "bad")
    assert "RuntimeError: GET /?signature=[redacted] with [redacted]" in unseen(result.output)
    unseen(json.dumps(document("positions", "bad", code=1)))
    unseen(mts("test", "bad").output)
    monkeypatch.setenv("MTS1B_TRACEBACK", "1")
    shown = CliRunner().invoke(brokers, ["positions", "bad"]).output
    assert "Traceback" in unseen(shown)


def test_log_lines_are_shown_on_request_without_secrets(
    toys: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mts(*words: str) -> Any:
        return CliRunner().invoke(brokers, list(words))

    code = TOY.replace("async def __aenter__(self):\n", LOGGING)
    toys.broker("bad", code)
    monkeypatch.setenv("MTS1B_BROKERS__BAD__API_KEY", "key-of-the-toy")
    before = list(logging.getLogger().handlers)
    loud = mts("positions", "bad", "-vv")
    assert "opened" in unseen(loud.stderr)
    assert "key=[redacted]" in loud.stderr.replace("\x1b[0m", "")
    assert "plain [redacted]" in loud.stderr
    assert loud.stderr.count("ValueError: [redacted]") == 1
    assert "opened" not in mts("positions", "bad", "-v").stderr
    assert "opened" in mts("--log-level", "debug", "positions", "bad").stderr
    quiet = mts("--log-level", "error", "positions", "bad")
    assert "plain" not in quiet.stderr
    assert logging.getLogger().handlers == before
    assert "plain [redacted]" in caplog.messages  # as a program that embeds the library sees it
    monkeypatch.setenv("MTS1B_LOG_FORMAT", "json")
    monkeypatch.setenv("MTS1B_LOG_LEVEL", "debug")
    lines = [json.loads(line) for line in mts("positions", "bad").stderr.splitlines()]
    opened = next(line for line in lines if line["event"] == "opened")
    assert (opened["level"], opened["logger"], opened["key"]) == ("debug", "mts1b_brokers.bad", "[redacted]")
    odd = next(line for line in lines if line["event"] == "odd")
    assert "ValueError: [redacted]" in odd["exception"]
