"""Log lines hold no secrets, whoever wrote them, and reach the logging the program set up."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_brokers_core.platform import security
from mts1b_brokers_core.platform.logging import RedactingFilter, get_logger
from mts1b_brokers_core.platform.security import register_secret

SECRET = "s3cr3t/of+the=venue"


@pytest.fixture(autouse=True)
def _one_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_secrets", {})
    monkeypatch.setattr(security, "_known", None)
    register_secret(SECRET)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG, "mts1b_brokers.tested")
    return get_logger("mts1b_brokers.tested")


def test_extra_is_flattened_and_numbers_stay_exact(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    log.info(
        "order sent",
        extra={"quantity": Decimal("1E-8"), "side": Side.BUY, "at": datetime(2026, 1, 2, tzinfo=UTC)},
        order_id="o-1",
    )
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("mts1b_brokers.tested", "INFO")
    assert record.getMessage() == (
        "order sent order_id=o-1 quantity=0.00000001 side=buy at=2026-01-02T00:00:00+00:00"
    )
    assert record.event == "order sent"
    assert record.fields["quantity"] == "0.00000001"
    assert record.pathname == __file__


def test_values_and_names_that_are_secret_are_redacted(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    log.warning(
        f"refused {SECRET}",
        extra={"headers": {"X-Signature": "abc", "Accept": "a"}, SECRET: 1, "api_key": "k"},
        note=[SECRET, SecretStr(SECRET)], body=SECRET.encode(),
    )  # fmt: skip
    record = caplog.records[0]
    assert SECRET not in str(record.__dict__)
    assert record.fields == {
        "note": ["[redacted]", "SecretStr('**********')"],
        "body": "b'[redacted]'",
        "headers": {"X-Signature": "[redacted]", "Accept": "a"},
        "[redacted]": 1,
        "api_key": "[redacted]",
    }
    assert record.getMessage().startswith("refused [redacted] note=")


def test_an_exception_is_logged_without_its_secret(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError(f"bad key {SECRET}")
    except ValueError:
        log.exception("failed")
    assert "ValueError: bad key [redacted]" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in str(caplog.records[0].__dict__)


def test_an_innocent_exception_stays_whole(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("no price")
    except ValueError:
        log.error("failed", exc_info=True)
    assert caplog.records[0].exc_info is not None
    assert "ValueError: no price" in caplog.text


def test_records_of_the_standard_librarys_logger_of_the_name_are_redacted_too(
    log: Any, caplog: pytest.LogCaptureFixture
) -> None:
    plain = logging.getLogger("mts1b_brokers.tested")
    plain.info("sent %s to %s", SECRET, "there")
    plain.info("%d", SECRET)
    assert [record.getMessage() for record in caplog.records] == [
        "sent [redacted] to there", "%d ('[redacted]',)",
    ]  # fmt: skip


def test_a_filter_on_a_handler_redacts_what_others_log(capsys: pytest.CaptureFixture[str]) -> None:
    handler, other = logging.StreamHandler(sys.stderr), logging.getLogger("somebody_else")
    handler.addFilter(RedactingFilter())
    other.addHandler(handler)
    try:
        other.warning("GET https://venue/?signature=%s", "abcdef")
    finally:
        other.removeHandler(handler)
    assert capsys.readouterr().err == "GET https://venue/?signature=[redacted]\n"


def test_fields_keep_the_message_and_odd_extras_are_kept(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    log.info("a", extra={"event": "b", "level": "c"}, level=1)
    log.info("100 %", extra="not a mapping", x='say "hi"')
    log.info("order %s", 5)
    log.bind(account="A1").info("bound")
    assert [record.getMessage() for record in caplog.records] == [
        "a level=1 event_=b level_=c", '100 % x="say \\"hi\\"" extra="not a mapping"', "order 5",
        "bound account=A1",
    ]  # fmt: skip


def test_a_level_that_is_off_renders_nothing(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Explosive:
        def __repr__(self) -> str:
            raise AssertionError("rendered")

    caplog.set_level(logging.WARNING, "mts1b_brokers.tested")
    log.debug("quiet", extra={"x": Explosive()})
    assert caplog.records == []


async def test_tasks_may_log_at_once(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def work(number: int) -> None:
        log.bind(task=number).info("ordered", order=Order.market("BTC-USD", "buy", "1"))

    await asyncio.gather(work(1), work(2))
    assert [record.fields["task"] for record in caplog.records] == [1, 2]
    assert 'order="Order(buy 1 BTC-USD market' in caplog.text


def test_having_a_logger_costs_no_structlog_and_configures_nothing() -> None:
    code = (
        "import sys, logging, json\n"
        "from mts1b_brokers_core.platform.logging import get_logger\n"
        "log = get_logger('mts1b_brokers.x')\n"
        "before = 'structlog' in sys.modules\n"
        "log.info('unseen'); log.warning('seen', a=1)\n"
        "import structlog\n"
        "print(json.dumps([before, logging.getLogger().handlers, structlog.is_configured()]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [False, [], False]
    assert run.stderr == "seen a=1\n"
