"""L: a whole day at a broker, at debug level: nothing that it leaves behind holds a secret in any form."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
import traceback
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from failure_kit import Site, Start, event_of, fills_of, resting, until

from mts1b_brokers_core import (
    AuthenticationError,
    EventKind,
    Order,
    OrderNotPlaced,
    Side,
    open_broker,
)
from mts1b_brokers_core.platform import security
from mts1b_brokers_core.platform.keyring import KeyringSource
from mts1b_brokers_core.platform.logging import get_logger
from mts1b_simulator.reference import Key
from mts1b_simulator.wire import faults

#: With every character that one encoding or another writes differently.
KEY = 'kEy+/=of&the%failures~7Qz"x'
SECRET = 'sEcret+/=of&the%failures~9Zw"y\\z'
WRONG = 'wRong+/=of&the%failures~3Kv"u'
#: What is left where a value is taken to end too early.
PIECES = ("failures~7Qz", "failures~9Zw", "failures~3Kv")


def forms(secret: str) -> set[str]:
    """Return how a secret may be written: as it is, quoted, escaped, and encoded."""
    raw = secret.encode()
    return {
        secret, quote(secret, ""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1],
        repr(secret)[1:-1], base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), raw.hex(),
    }  # fmt: skip


def told(error: BaseException) -> str:
    """Return all that an error shows of itself."""
    return "".join([*traceback.format_exception(error), repr(error), str(error.args), str(vars(error))])


def found(texts: Iterable[str], *secrets: str) -> list[str]:
    """Return where a secret is seen, with what is around it."""
    return [
        text[max(0, text.find(form) - 120) : text.find(form) + 160]
        for text in texts
        for secret in secrets
        for form in forms(secret)
        if form in text
    ]


def files(folder: Path) -> list[str]:
    """Return what is in the files a broker wrote."""
    return [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def _nothing_registered(plain_machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_secrets", {})
    monkeypatch.setattr(security, "_known", None)
    monkeypatch.setattr(KeyringSource, "idle", "no keyring in this test")
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["native_dedupe", "exclusive_login"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def site(start: Start, kind: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A venue whose key has these secrets, which lie in the credential file."""
    async with start(kind) as site:
        access = site.server.access
        access.key = Key(KEY, SECRET, frozenset({"read", "trade"}))
        access._keys[KEY] = access.key
        folder = tmp_path / "config" / "mts1b" / "credentials"
        folder.mkdir(parents=True)
        file = folder / "reference.toml"
        file.write_text(
            f'api_key = {json.dumps(KEY)}\napi_secret = {json.dumps(SECRET)}\ntrading_mode = "sandbox"\n'
        )
        file.chmod(0o600)
        yield site


def given(site: Site) -> dict[str, Any]:
    """Return the settings that are no secret."""
    return {name: value for name, value in site.settings.items() if not name.startswith("api_")}


async def test_no_secret_is_in_logs_errors_reprs_files_or_recordings(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Debug output, and errors passed on with their request, showed keys and signatures."""
    # binance/binance-connector-rust#91, joaquinbejar/alpaca-rs#75, openalgo#1855
    caplog.set_level(logging.DEBUG)
    state = tmp_path / "state"
    seen: list[str] = []
    options = {**given(site), "record": state / "frames.jsonl", "reconcile_every": 0.1, "resend_within": 0.3}
    async with open_broker("reference", **options) as broker:
        logging.getLogger("mts1b_brokers").debug("signing with %s", SECRET)
        get_logger("mts1b_brokers.reference").info("sent", extra={"X-Key": KEY, "headers": {"a": [SECRET]}})
        await event_of(broker, EventKind.LINK_UP)
        order = await broker.submit(resting())
        for fault in (faults.ErrorAfter(500), faults.Garbage(), faults.DropReply(), faults.Status429()):
            site.server.faults.next(fault, "POST /v1/orders")
            (answer,) = await asyncio.gather(broker.submit(resting()), return_exceptions=True)
            seen.append(told(answer) if isinstance(answer, BaseException) else repr(answer))
        for wrong in (resting("1000000"), Order.market("NO-SUCH", Side.BUY, "1"), resting(price="0.001")):
            (answer,) = await asyncio.gather(broker.submit(wrong), return_exceptions=True)
            seen.append(told(answer) if isinstance(answer, BaseException) else repr(answer))
        # A venue that repeats what it was sent in its own words.
        site.server.faults.next(faults.ExpiredCredential(), "POST /v1/orders")
        with pytest.raises(OrderNotPlaced) as expired:
            await broker.submit(resting())
        seen.append(told(expired.value))
        await until(lambda: site.held(order).status == "open")
        site.fill(order, "0.5")
        fills = await fills_of(broker, 1)
        site.server.cut_streams()
        await event_of(broker, EventKind.LINK_UP, 2)
        seen += [repr(fills), str(await broker.get_open_orders()), str(await broker.get_positions())]
        logging.getLogger("httpx").info("GET https://venue/v1?signature=%s&api_key=%s", SECRET, KEY)
        for name in ("settings", "_services", "_signer", "_http", "_stream", "recorder", "limiter", "skew"):
            held = getattr(broker, name)
            seen += [repr(held), str(held)]
        seen += [repr(broker), str(broker), repr(vars(broker))]
    with pytest.raises(AuthenticationError) as refused:
        await open_broker("reference", **{**options, "record": None}, api_secret=WRONG)
    seen.append(told(refused.value))
    seen += [str(vars(record)) for record in caplog.records] + [caplog.text, *capfd.readouterr()]
    seen += [repr(event) for event in site.events]
    written = files(state)
    sessions = list(site.server.access._sessions)
    assert len(written) >= 2
    assert len(caplog.records) > 2
    assert any("signing with [redacted]" in text for text in seen)
    assert found([*seen, *written], KEY, SECRET, WRONG, *PIECES, *sessions) == []


def environment(tmp_path: Path) -> dict[str, str]:
    """Return what another process of ours is told of this machine."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "COLUMNS": "300"}
    return {**env, "MTS1B_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}


async def output_of(tmp_path: Path, *words: str) -> str:
    """Run a program of this environment and return all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    printed, _ = await process.communicate()
    return printed.decode()


@pytest.mark.parametrize("kind", ["native_dedupe"], indirect=True)
async def test_the_command_line_shows_no_secret_at_its_most_talkative(site: Site, tmp_path: Path) -> None:
    """What a program says about its configuration at debug level held the key in full."""
    # openalgo#1855
    rows = [f"{name} = {json.dumps(str(value))}" for name, value in given(site).items()]
    config = tmp_path / "config" / "mts1b" / "brokers.toml"
    config.write_text("\n".join(["[brokers.reference]", 'environment = "sandbox"', *rows]) + "\n")
    talk = ("-m", "mts1b_brokers_core", "-vv")
    target = ("reference", "--config", str(config))
    wanted = {
        ("config", *target, "--explain"): "api_secret",
        ("test", *target): "reference",
    }
    printed = await asyncio.gather(*(output_of(tmp_path, *talk, *words) for words in wanted))
    for text, word in zip(printed, wanted.values(), strict=True):
        assert word in text, text
    assert found([*printed, *files(tmp_path / "state")], KEY, SECRET, *PIECES) == []


FAILING = """
import pytest
from mts1b_brokers_core import Order, Side, open_broker

async def work(settings):
    async with open_broker("reference", **settings) as broker:
        order = await broker.submit(Order.limit("BTC-USD", Side.BUY, "0.5", price="90000"))
        assert broker is None, (broker, order, broker.settings)

async def test_an_assertion_fails():
    await work(SETTINGS)

async def test_a_login_is_refused():
    async with open_broker("reference", **SETTINGS, api_secret=open("wrong").read()) as broker:
        pass

async def test_an_order_is_refused():
    async with open_broker("reference", **SETTINGS) as broker:
        await broker.submit(Order.limit("BTC-USD", Side.BUY, "1000000", price="90000"))
"""


@pytest.mark.parametrize("kind", ["native_dedupe"], indirect=True)
async def test_a_failing_test_shows_no_secret(site: Site, tmp_path: Path) -> None:
    """The report of a test that failed printed the client, and with it the key."""
    # joaquinbejar/alpaca-rs#75
    (tmp_path / "wrong").write_text(WRONG)
    settings = {name: str(value) for name, value in given(site).items()}
    (tmp_path / "test_failing.py").write_text(f"SETTINGS = {settings!r}\n{FAILING}")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    words = ("-m", "pytest", "-vv", "--log-level=debug", "-p", "no:cacheprovider", "test_failing.py")
    text = await output_of(tmp_path, *words)
    assert "3 failed" in text, text
    assert "bad_signature" in text
    assert "insufficient_funds" in text
    assert found([text], KEY, SECRET, WRONG, *PIECES) == []
