"""A broker at work over real sockets, at debug level: nothing it leaves behind holds one of its secrets."""

from __future__ import annotations

import base64
import logging
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mts1b_brokers_core import AuthenticationError, BrokerError, Order, open_broker
from mts1b_brokers_core.platform.keyring import KeyringSource
from mts1b_brokers_core.platform.logging import get_logger

pytest.importorskip("mts1b_broker_reference")


@pytest.fixture
async def server(plain_machine: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mts1b_simulator.reference import ReferenceServer

    server = ReferenceServer("native_dedupe")
    await server.start()
    monkeypatch.setattr(KeyringSource, "idle", "no keyring in this test")
    yield server
    await server.stop()


def text_of(error: BaseException) -> str:
    return "".join([*traceback.format_exception(error), repr(error), str(vars(error))])


async def test_log_lines_errors_reprs_and_files_hold_no_secret(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    given = {
        name: getattr(value, "get_secret_value", lambda v=value: v)()
        for name, value in server.settings.items()
    }
    key, secret = str(given.pop("api_key")), str(given.pop("api_secret"))
    folder = tmp_path / "config" / "mts1b" / "credentials"
    folder.mkdir(parents=True)
    file = folder / "reference.toml"
    file.write_text(f'api_key = "{key}"\napi_secret = "{secret}"\ntrading_mode = "sandbox"\n')
    file.chmod(0o600)
    seen: list[str] = []
    async with open_broker("reference", **given, record=tmp_path / "state" / "frames.jsonl") as broker:
        logging.getLogger("mts1b_brokers").debug("signing with %s", secret)
        get_logger("mts1b_brokers.reference").info("headers", extra={"X-Key": key, "note": f"as {secret}"})
        order = await broker.submit(Order.limit("BTC-USD", "buy", "0.01", price="1000"))
        for bad in (
            Order.limit("BTC-USD", "buy", "1000000", price="90000"),
            Order.market("NO-SUCH", "buy", "1"),
        ):
            with pytest.raises(BrokerError) as denied:
                await broker.submit(bad)
            seen.append(text_of(denied.value))
        await broker.cancel(order.order_id)
        logging.getLogger("httpx").info("GET https://venue/v1?signature=%s", "hush-signature")
        seen += [
            repr(broker),
            repr(broker.settings),
            str(broker.settings),
            repr(vars(broker).get("services")),
            repr(order),
        ]
    opening = open_broker("reference", **given, api_secret="a-wrong-secret-of-ours")
    seen.append(repr(opening.request))
    with pytest.raises(AuthenticationError) as refused:
        async with opening as broker:
            await broker.get_positions()
    seen.append(text_of(refused.value))
    file.write_text(f'api_key = "{key}"\napi_secert = "{secret}"\n')
    with pytest.raises(BrokerError) as misspelt:
        await open_broker("reference", **given, environment="sandbox")
    seen += [text_of(misspelt.value), text_of(refused.value)]
    seen += [str(record.__dict__) for record in caplog.records] + [caplog.text, *capfd.readouterr()]
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    seen += [path.read_bytes().decode("latin-1") for path in files]
    assert len(caplog.records) > 2
    assert "frames.jsonl" in {path.name for path in files}
    assert any("signing with [redacted]" in text for text in seen)
    for hidden in (key, secret, "a-wrong-secret-of-ours", "hush-signature"):
        for form in (hidden, quote(hidden, ""), base64.b64encode(hidden.encode()).decode()):
            assert [text for text in seen if form in text] == []
