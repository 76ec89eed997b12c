"""One file, three sources, and every value knows where it came from."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mts1b_brokers_core.foundation.errors import (
    BrokerError,
    BrokerNotInstalled,
    ConfigurationError,
    EnvironmentNotChosen,
    UnknownSetting,
)
from mts1b_brokers_core.runtime.config import load_config
from mts1b_brokers_core.runtime.opening import Request, resolve
from mts1b_brokers_core.runtime.settings import is_secret, variable

FILE = """
[brokers.fund-a]
broker = "zeta"
environment = "paper"
account = "U1"
fee = 0.1
ratio = 0.25
resend_within = 2.5

[brokers.fund-a.gates]
max_order_value = 1000.10
symbols = ["BTC-USD"]

[brokers.zeta]
account = "plain"
"""


@pytest.fixture
def zeta(site: Any) -> Any:
    site.broker("zeta", head='aliases = ["zed"]', environments='["live", "paper"]')
    return site


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "brokers.toml"
    path.write_text(FILE)
    return path


def settings_of(name: str, environment: str = "paper", **request: Any) -> Any:
    resolved = resolve(Request(name, **request))
    return resolved.settings(environment)


def test_numbers_reach_the_settings_exactly(zeta: Any, file: Path) -> None:
    settings = settings_of("fund-a", config=file)
    assert (settings.fee, settings.gates.max_order_value) == (Decimal("0.1"), Decimal("1000.10"))
    assert str(settings.gates.max_order_value) == "1000.10"
    assert (settings.ratio, settings.resend_within) == (0.25, 2.5)
    assert settings.gates.symbols == ("BTC-USD",)
    assert settings.account == "U1"


def test_argument_comes_before_environment_before_file(
    zeta: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTS1B_BROKERS__FUND_A__ACCOUNT", "U2")
    monkeypatch.setenv("MTS1B_BROKERS__FUND_A__GATES__MAX_ORDER_VALUE", "5.50")
    monkeypatch.setenv("MTS1B_BROKERS__FUND_A__GATES__SYMBOLS", "ETH-USD, BTC-USD")
    monkeypatch.setenv("MTS1B_BROKERS__FUND_A__API_KEY", "hush")
    monkeypatch.setenv("MTS1B_BROKERS__FUND_A__FEE", "")
    settings = settings_of("fund-a", config=file)
    assert settings.account == "U2"
    assert settings.api_key == SecretStr("hush")
    assert settings.fee == Decimal("0.1")
    assert settings.gates.max_order_value == Decimal("5.50")
    assert settings.gates.symbols == ("ETH-USD", "BTC-USD")
    assert settings_of("fund-a", config=file, arguments={"account": "U3"}).account == "U3"


@pytest.fixture
def broad(site: Any, plugin_code: str) -> None:
    """A broker whose settings have the forms that a variable's text can't show by itself."""
    site.broker("broad", plugin_code.replace("    ratio: float = 0.5", BROAD))


BROAD = """    ratio: float = 0.5
    latency: Exact | tuple[Exact, Exact] = "1"
    cash: dict[str, Exact] = {}
    files: dict[str, tuple[str, ...]] | None = None
    rules: tuple[dict[str, Exact], ...] = ()
    word: str = ""
    names: set[str] | None = None"""

TEXTS = {  # variable: (text, setting, value)
    "LATENCY": ("20", "latency", Decimal(20)),
    "LATENCY ": ("20, 60", "latency", (Decimal(20), Decimal(60))),
    "LATENCY  ": ("[20.10, 60]", "latency", (Decimal("20.10"), Decimal(60))),
    "CASH": ('{"USD":"5"}', "cash", {"USD": Decimal(5)}),
    "CASH ": ('{"USD": 0.10, "BTC": 1e-8}', "cash", {"USD": Decimal("0.10"), "BTC": Decimal("1E-8")}),
    "CASH__USD": ("5.50", "cash", {"USD": Decimal("5.50")}),
    "FILES__IBM": ("a.csv, b.csv", "files", {"IBM": ("a.csv", "b.csv")}),
    "FILES__IBM ": ('["a,1.csv"]', "files", {"IBM": ("a,1.csv",)}),
    "RULES": ('[{"maker": 0.001}]', "rules", ({"maker": Decimal("0.001")},)),
    "WORD": ("[not json", "word", "[not json"),
    "WORD ": ('{"a": 1}', "word", '{"a": 1}'),
    "NAMES": ("a,b,", "names", {"a", "b"}),
    "GATES": ('{"max_order_value": 1000.10}', "gates", None),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_variables_text_is_read_by_the_form_of_its_setting(
    broad: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    text, setting, value = TEXTS[name]
    monkeypatch.setenv(f"MTS1B_BROKERS__BROAD__{name.strip()}", text)
    found = getattr(settings_of("broad"), setting)
    if value is None:
        assert str(found.max_order_value) == "1000.10"
    else:
        assert (found, str(found)) == (value, str(value))


def test_keys_of_a_mapping_come_together_and_each_names_its_place(
    broad: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTS1B_BROKERS__BROAD__CASH__USD", "5")
    monkeypatch.setenv("MTS1B_BROKERS__BROAD__CASH__BTC", "0.1")
    config = {"brokers": {"broad": {"cash": {"USD": "1", "EUR": "2"}}}}
    assert settings_of("broad", config=config).cash == {"USD": Decimal(5), "BTC": Decimal("0.1")}
    (row,) = [row for row in resolve(Request("broad")).explain() if row.field == "cash"]
    assert (row.value, row.kind) == ("BTC=0.1, USD=5", "environment")
    monkeypatch.setenv("MTS1B_BROKERS__BROAD__CASH__BTC", "much")
    with pytest.raises(ConfigurationError, match="got 'much'") as caught:
        settings_of("broad")
    assert caught.value.next_step == "correct MTS1B_BROKERS__BROAD__CASH*"
    monkeypatch.setenv("MTS1B_BROKERS__BROAD__CASH__BTC", "1")
    monkeypatch.setenv("MTS1B_BROKERS__BROAD__CASH", '{"USD": "7"')
    with pytest.raises(ConfigurationError, match="CASH"):
        settings_of("broad")


def test_explain_names_the_source_of_every_field_and_redacts(
    zeta: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTS1B_BROKERS__FUND_A__API_KEY", "hush")
    monkeypatch.setenv("MTS1B_BROKERS__FUND_A__API_PIN", "9876")
    rows = {
        row.field: row
        for row in resolve(Request("fund-a", config=file, arguments={"account": "U3"})).explain()
    }
    assert (rows["account"].value, rows["account"].kind) == ("U3", "argument")
    assert (rows["api_key"].value, rows["api_key"].source) == ("***", "MTS1B_BROKERS__FUND_A__API_KEY")
    assert rows["api_pin"].value == "***"
    assert rows["fee"].source == f"fee in {file} [brokers.fund-a]"
    assert rows["gates.max_order_value"].source == f"max_order_value in {file} [brokers.fund-a.gates]"
    assert (rows["close_timeout"].value, rows["close_timeout"].source) == ("5.0", "default")
    assert rows["gates.read_only"].description.startswith("Deny every submit")
    assert "hush" not in repr(rows)
    assert "9876" not in repr(rows)


def test_the_instance_is_the_brokers_name_unless_one_is_configured(zeta: Any, file: Path) -> None:
    assert resolve(Request("zeta", config=file)).found["account",].value == "plain"
    assert resolve(Request("zed", config=file)).instance == "zeta"
    assert resolve(Request("zeta", instance="fund-a", config=file)).found["account",].value == "U1"
    assert resolve(Request("zeta", instance="other", config=file)).found == {}


def test_an_instance_configured_for_another_broker_is_refused(zeta: Any, file: Path) -> None:
    zeta.broker("eta")
    with pytest.raises(ConfigurationError, match="fund-a is configured for zeta, not for eta"):
        resolve(Request("eta", instance="fund-a", config=file))


def test_an_instance_may_live_in_variables_alone(zeta: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTS1B_BROKERS__FUND_B__BROKER", "zeta")
    monkeypatch.setenv("MTS1B_BROKERS__FUND_B__ENVIRONMENT", "paper")
    resolved = resolve(Request("fund-b"))
    assert (resolved.record.name, resolved.instance, resolved.environment()) == ("zeta", "fund-b", "paper")


WRONG_KEYS = {
    "acount = 1": ("acount in FILE [brokers.zeta]", "did you mean account"),
    "gates.max_order = 1": ("max_order in FILE [brokers.zeta.gates]", "max_order_"),
    "account.name = 'x'": ("got {'name': 'x'}", "correct account in FILE"),
}


@pytest.mark.parametrize("line", WRONG_KEYS)
def test_a_wrong_key_in_the_file_names_the_place_and_the_right_key(
    zeta: Any, tmp_path: Path, line: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f"[brokers.zeta]\n{line}\n")
    problem, cure = WRONG_KEYS[line]
    with pytest.raises(ConfigurationError) as caught:
        settings_of("zeta", config=path)
    text = str(caught.value).replace(str(path), "FILE")
    assert problem in text
    assert cure in text


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("MTS1B_BROKERS__ZETA__API_KEYY", "did you mean api_key"),
        ("MTS1B_BROKERS__ZETA__GATES__READONLY", "did you mean read_only"),
        ("MTS1B_BROKERS__ZETA__ACCOUNT__NAME", "set account"),
    ],
)
def test_a_wrong_variable_is_named(zeta: Any, monkeypatch: pytest.MonkeyPatch, name: str, cure: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(UnknownSetting, match=f"{name} is no setting") as caught:
        settings_of("zeta")
    assert cure in caught.value.next_step


def test_a_wrong_argument_is_named(zeta: Any) -> None:
    with pytest.raises(UnknownSetting, match="the argument acount is no setting"):
        resolve(Request("zeta", arguments={"acount": "x"}))


def test_wrong_types_name_the_place_and_hide_secrets(zeta: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTS1B_BROKERS__ZETA__FEE", "a lot")
    with pytest.raises(ConfigurationError, match=r"Settings\.fee: got 'a lot'") as caught:
        settings_of("zeta")
    assert caught.value.next_step == "correct MTS1B_BROKERS__ZETA__FEE"
    assert (caught.value.broker, caught.value.operation) == ("zeta", "settings")
    monkeypatch.delenv("MTS1B_BROKERS__ZETA__FEE")
    mapping = {"brokers": {"zeta": {"api_key": 443322, "api_pin": 776655, "fee": 0.5}}}
    with pytest.raises(ConfigurationError) as caught:
        settings_of("zeta", config=mapping)
    assert "443322" not in str(caught.value)
    assert "776655" not in str(caught.value)
    request = Request("zeta", config=mapping, arguments={"api_key": "998877"})
    everything = repr((request, resolve(request), load_config(mapping)))
    assert not [secret for secret in ("443322", "776655", "998877") if secret in everything]
    assert "float 0.5" in str(caught.value)


def test_a_missing_setting_says_where_to_put_it(site: Any, plugin_code: str) -> None:
    site.broker("zeta", plugin_code.replace("api_key: SecretStr | None = None", "api_key: SecretStr"))
    with pytest.raises(ConfigurationError, match=r"Settings\.api_key is missing") as caught:
        settings_of("zeta")
    assert caught.value.next_step == "set MTS1B_BROKERS__ZETA__API_KEY, or the key in the file"
    (row,) = [row for row in resolve(Request("zeta")).explain() if row.field == "api_key"]
    assert (row.value, row.source) == ("missing", "default")


def test_a_file_that_was_named_must_exist(
    plain_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_config().instances == {}
    with pytest.raises(ConfigurationError, match="named by the argument does not exist"):
        load_config(tmp_path / "absent.toml")
    monkeypatch.setenv("MTS1B_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(ConfigurationError, match="named by MTS1B_CONFIG does not exist"):
        load_config()
    (tmp_path / "absent.toml").write_text("[brokers.a]\n")
    assert set(load_config().instances) == {"a"}


def test_the_users_own_file_is_read_where_none_is_named(plain_machine: None, tmp_path: Path) -> None:
    own = tmp_path / "config" / "mts1b" / "brokers.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[brokers.mine]\n")
    assert set(load_config().instances) == {"mine"}


BAD_FILES = {
    b"[brokers": "is not TOML",
    b"\xff\xfe": "is not UTF-8",
    b"brokers = 3": "brokers in FILE is not a table",
    b"brokers.a = 3": "brokers.a in FILE is not a table",
    b"[brokers.Fund_A]": "instance name 'Fund_A' in FILE is not of the form",
    b"[broker.a]": "[broker] in FILE is no table we know. Next: write [brokers]",
    b"[registry]\ndenny = []": "registry.denny in FILE is no setting. Next: write deny",
    b"[registry]\nallow = [1]": "registry.allow in FILE is [1], not a list of distribution names",
    b"[registry.prefer]\na = 1": "registry.prefer in FILE is {'a': 1}, not a table of broker",
    b"[registry]\ndeny = 'x'": "registry.deny in FILE is 'x', not a list of distribution names",
    b"[registry]\nstrict = 'x'": "registry.strict in FILE is 'x', not true or false",
    b"[registry]\nprefer = 'x'": "registry.prefer in FILE is 'x', not a table of",
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_bad_file_is_named(plain_machine: None, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert BAD_FILES[content] in str(caught.value).replace(str(path), "FILE")
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_config(tmp_path)


def test_the_registry_table_decides_what_may_be_loaded(zeta: Any, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "denying.toml"
    path.write_text(
        "[registry]\ndeny = ['mts1b-broker-zeta']\n[registry.prefer]\nzeta = 'MTS1B_broker_zeta'\n"
    )
    assert load_config(path).policy.preferred("zeta") == "mts1b-broker-zeta"
    with pytest.raises(BrokerError, match="on the deny list"):
        resolve(Request("zeta", config=path))
    monkeypatch.setenv("MTS1B_BROKERS_DENY", "something-else")
    assert resolve(Request("zeta", config=path)).record.name == "zeta"
    monkeypatch.setenv("MTS1B_BROKERS_STRICT", "perhaps")
    with pytest.raises(ConfigurationError, match="MTS1B_BROKERS_STRICT is 'perhaps'"):
        load_config(path)


def test_an_unknown_broker_in_the_file_is_named(zeta: Any) -> None:
    with pytest.raises(BrokerNotInstalled, match="zetta"):
        resolve(Request("fund-a", config={"brokers": {"fund-a": {"broker": "zetta"}}}))
    with pytest.raises(ConfigurationError, match="expected a name"):
        resolve(Request("fund-a", config={"brokers": {"fund-a": {"broker": 3}}}))


def test_the_environment_is_chosen_never_guessed(zeta: Any) -> None:
    with pytest.raises(EnvironmentNotChosen) as caught:
        resolve(Request("zeta")).environment()
    assert "there are live, paper" in str(caught.value)
    assert "MTS1B_BROKERS__ZETA__ENVIRONMENT" in str(caught.value)
    with pytest.raises(ConfigurationError, match="'lve' is not offered; there are live, paper"):
        resolve(Request("zeta", arguments={"environment": "lve"})).environment()
    assert resolve(Request("zeta", arguments={"environment": "live"})).environment() == "live"


@pytest.mark.parametrize(("environments", "chosen"), [('["paper"]', "paper"), ('["live"]', None)])
def test_the_only_environment_is_taken_unless_it_is_live(
    site: Any, environments: str, chosen: str | None
) -> None:
    site.broker("single", environments=environments)
    resolved = resolve(Request("single"))
    if chosen is None:
        with pytest.raises(EnvironmentNotChosen):
            resolved.environment()
    else:
        assert resolved.environment() == chosen


def test_what_looks_like_a_secret_is_one() -> None:
    for name in (
        "api_secret",
        "password",
        "api_key",
        "apikey",
        "key",
        "totp_pin",
        "refresh_token",
        "private_pem",
    ):
        assert is_secret(name, str), name
    for name in ("account", "environment", "symbols", "keyboard", "spinning", "monkey"):
        assert not is_secret(name, str), name
    assert is_secret("plain", SecretStr | None)
    assert variable("fund-a", "gates", "read_only") == "MTS1B_BROKERS__FUND_A__GATES__READ_ONLY"
