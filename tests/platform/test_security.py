"""Redaction: no form of a registered secret survives, secret-looking names hide values, other text stays."""

import base64
import json
import re
from decimal import Decimal
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from mts1b_brokers_core.platform import security
from mts1b_brokers_core.platform.security import REDACTED, redact, register_pattern, register_secret

_secret = st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=40).filter(
    lambda text: text.strip() == text and text not in REDACTED
)


@pytest.fixture(autouse=True)
def _only_this_test(monkeypatch):
    _forget_all(monkeypatch)


def _forget_all(monkeypatch):
    monkeypatch.setattr(security, "_secrets", {})
    monkeypatch.setattr(security, "_patterns", ())
    monkeypatch.setattr(security, "_known", None)


def _forms(secret):
    whole = base64.b64encode(secret.encode()).decode()
    urlsafe = whole.replace("+", "-").replace("/", "_")
    return {
        secret, quote(secret), quote(secret, ""), quote_plus(secret), whole, urlsafe,
        json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1],
    }  # fmt: skip


@given(secret=_secret, before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_form_of_a_registered_secret_survives(secret, before, after):
    with pytest.MonkeyPatch.context() as patch:
        _forget_all(patch)
        register_secret(secret)
        for form in _forms(secret):
            for found in (
                redact(before + form + after),
                redact({"note": [form, (form, before)]}),
                redact({form: 1}),
                redact((before + form + after).encode("utf-8", "surrogatepass")),
            ):
                seen = found.decode("utf-8", "surrogatepass") if isinstance(found, bytes) else str(found)
                assert not any(bad in seen for bad in _forms(secret))


@given(secret=_secret, user=st.text(st.characters(codec="ascii"), max_size=8))
def test_a_secret_encoded_together_with_a_user_name_does_not_survive(secret, user):
    with pytest.MonkeyPatch.context() as patch:
        _forget_all(patch)
        register_secret(secret)
        encoded = base64.b64encode(f"{user}:{secret}".encode()).decode()
        shown = redact(f"sent {encoded} to the venue")
        assert encoded not in shown
        kept = re.fullmatch(r"sent (.*)\[redacted\].* to the venue", shown)
        assert kept is not None
        assert len(kept[1]) <= len(encoded) - len(secret)


@given(text=st.text(st.characters(codec="ascii", exclude_characters="=:"), max_size=60))
def test_text_without_secrets_is_unchanged(text):
    with pytest.MonkeyPatch.context() as patch:
        _forget_all(patch)
        register_secret("Zq9-never-in-the-text-\u20ac")
        if "eyj" not in text.lower() and "-----begin" not in text.lower() and "bearer" not in text.lower():
            assert redact(text) == text
            assert redact(text.encode()) == text.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"api_key": "k1", "qty": "2"}', '{"api_key": "[redacted]", "qty": "2"}'),
        (r'{"body": "{\"secret\": \"a\"}"}', r'{"body": "{\"secret\": \"[redacted]\"}"}'),
        ('{"secret": "", "x": ""}', '{"secret": "", "x": ""}'),
        ("(b'Set-Cookie', b'sid=1')", "(b'Set-Cookie', b'[redacted]')"),
        ('{"otp": 123456}', '{"otp": "[redacted]"}'),
        ('{"passphrase": "a\\"b", "x": 1}', '{"passphrase": "[redacted]", "x": 1}'),
        ("{'privateKey': b'k1'}", "{'privateKey': b'[redacted]'}"),
        ("Settings(api_key='k 1', x=2)", "Settings(api_key='[redacted]', x=2)"),
        ("GET /v1?signature=ab%2F&n=1", "GET /v1?signature=[redacted]&n=1"),
        ("https://h/cb?code=ab12&state=3", "https://h/cb?code=[redacted]&state=3"),
        ("proxy http://me:pw@host:1/", "proxy http://me:[redacted]@host:1/"),
        ('{"token": ["a}]", "b"], "x": [1]}', '{"token": "[redacted]", "x": [1]}'),
        ('{"private_key": {"d": {"n": 1}, "e": "]"}, "x": {}}', '{"private_key": "[redacted]", "x": {}}'),
        (r'{"b": "{\"token\": [\"a\\\"]\", 1], \"x\": 1}"}',
         r'{"b": "{\"token\": \"[redacted]\", \"x\": 1}"}'),
        ("{'token': ['a', 'b'], 'x': 1}", "{'token': '[redacted]', 'x': 1}"),
        ('{"secret": ["cut off', '{"secret": "[redacted]"'),
        ('{"a": 1, "b_secret": []}', '{"a": 1, "b_secret": "[redacted]"}'),
        ("client_secret: ab12", "client_secret: [redacted]"),
        ("api_key: abcdefghijklmnopqrst\nx: 1", "api_key: [redacted]\nx: 1"),
        ("password: hunter2", "password: [redacted]"),
        ("wss://h/ws?listenKey=ab&n=1", "wss://h/ws?listenKey=[redacted]&n=1"),
        ("sessionid=ab; pwd=cd", "sessionid=[redacted]; pwd=[redacted]"),
        ("Authorization: Basic YTpi\nHost: h", "Authorization: [redacted]\nHost: h"),
        ("CB-ACCESS-SIGN: abcd Accept: */*", "CB-ACCESS-SIGN: [redacted] Accept: */*"),
        ("API-Key: k1", "API-Key: [redacted]"),
        ("sent bearer abcdefghijklmnopqrstuv", "sent bearer [redacted]"),
        ("a eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.c2ln b", "a [redacted] b"),
        ("-----BEGIN EC PRIVATE KEY-----\nab\n-----END EC PRIVATE KEY-----\nrest", "[redacted]\nrest"),
        ("-----BEGIN PRIVATE KEY-----\\ncut off", "[redacted]"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_in_text_is_hidden(text, shown):
    assert redact(text) == shown
    assert redact(redact(text)) == shown
    assert redact(text.encode()) == shown.encode()


@pytest.mark.parametrize(
    "text",
    [
        "no token: log in again",
        "the idempotency key k-1: bought 3",
        "set api_key in the file, or MTS1B_BROKERS_X_API_KEY",
        '{"page_token": "c1", "key": "k1", "design": "d", "session": "regular"}',
        "https://127.0.0.1:8200/v1/time?limit=5",
        "bearer of bad news",
        "reference.api_secret: Field required",
        '{"trading_session_id": "2", "tokens": ["a"]}',
    ],
)
def test_words_about_secrets_stay(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "name",
    re.split(
        " +",
        "authorization Proxy-Authorization X-Signature api-key API_KEY apiKey api_secret secret token"
        " access_token refreshToken passphrase Set-Cookie password private_key CB-ACCESS-SIGN API-Sign X-Key"
        " X-Session secret_id otp",
    ),
)
def test_names_that_hide_their_value(name):
    assert redact({name: "ab", name.encode(): b"ab"}) == {name: REDACTED, name.encode(): REDACTED.encode()}
    assert redact([(name, "ab")]) == [(name, REDACTED)]
    assert redact({name: {"deep": "ab"}}) == {name: REDACTED}


@pytest.mark.parametrize(
    "name",
    ["key", "symbol", "page_token", "secret_path", "token_ttl", "design", "index_key", "client_order_id"],
)
def test_names_that_do_not(name):
    assert redact({name: "ab"}) == {name: "ab"}


def test_shapes_are_kept_and_other_values_are_left_alone():
    register_secret(SecretStr("hunter2-and-more"))
    value = {
        "a": ["x hunter2-and-more", Decimal("1.10")], "b": ("hunter2-and-more", 2, 3),
        "c": {"hunter2-and-more"}, "d": bytearray(b"hunter2-and-more"), "token": None, "password": "",
        "secret": False,
    }  # fmt: skip
    assert redact(value) == {
        "a": ["x [redacted]", Decimal("1.10")], "b": ("[redacted]", 2, 3), "c": {"[redacted]"},
        "d": bytearray(b"[redacted]"), "token": None, "password": "",
        "secret": False,
    }  # fmt: skip
    assert redact(b"\xff\x00hunter2-and-more\xfe") == b"\xff\x00[redacted]\xfe"


def test_each_line_of_a_key_is_a_secret():
    register_secret("-----BEGIN KEY-----\nMHcCAQEEIBkgAbCdEf\nAwEHoUQDQgAEzzzzzz\n-----END KEY-----\n")
    assert redact("line MHcCAQEEIBkgAbCdEf, AwEHoUQDQgAEzzzzzz") == "line [redacted], [redacted]"


def test_patterns_hide_their_group_or_the_whole():
    register_pattern(re.compile(r"acct (?P<secret>\d+)"))
    register_pattern(re.compile(r"U\d{7}"))
    register_pattern(re.compile(r"(?P<token>z*)(?P<number>\d*)q"))
    assert redact("acct 55 and U1234567, zz1q") == "acct [redacted] and [redacted], [redacted]"


def test_short_and_forgotten_values_are_not_searched_for():
    register_secret("abcde")
    register_secret("expired-token-1")
    assert redact("abcde expired-token-1") == "abcde [redacted]"
    security.forget_secret("expired-token-1")
    assert redact("abcde expired-token-1") == "abcde expired-token-1"


def test_secrets_that_overlap_what_replaces_others():
    register_secret("abcdef")
    register_secret("[redacted]-tail")
    assert redact("abcdef-tail") == REDACTED


@pytest.mark.parametrize("secret", ["abc&def;ghi'jk", 'abcdef"ghi\\jk', "abc def, (ghi)"])
def test_a_secret_that_holds_what_ends_a_value_is_hidden_whole(secret):
    register_secret(secret)
    assert redact(f"GET /x?signature={secret}&a=1") == f"GET /x?signature={REDACTED}&a=1"
    assert redact(f"token={secret}") == f"token={REDACTED}"
    assert redact(f'{{"api_key": {json.dumps(secret)}, "b": 1}}') == f'{{"api_key": "{REDACTED}", "b": 1}}'
