"""`open_broker` in both forms, what it hands to the plugin, and how it fails."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from mts1b_brokers_core import BrokerNotInstalled, open_broker
from mts1b_brokers_core.foundation.errors import (
    BrokerError,
    ConfigurationError,
    PluginUnusable,
    StateUnwritable,
    VenueUnavailable,
)
from mts1b_brokers_core.platform.clock import RealClock
from mts1b_brokers_core.runtime.state import journal_path, state_folder

SIMULATED = """
from pydantic import SecretStr as _SecretStr

class Server:
    settings = {"api_key": "throwaway", "ratio": 0.75}
    async def start(self):
        LOG.append("server started")
    async def stop(self):
        LOG.append("server stopped")

@hookimpl
def mts1b_broker_simulator(options):
    return Server()
"""


def log_of(name: str) -> list[Any]:
    log: list[Any] = sys.modules[f"mts1b_broker_{name}.plugin"].LOG  # type: ignore[attr-defined]
    return log


async def test_the_context_form_opens_and_closes(site: Any) -> None:
    site.broker("zeta")
    async with open_broker("zeta", account="U1") as broker:
        assert broker.settings.account == "U1"
        assert broker.settings.environment == "paper"
        assert log_of("zeta") == [("open", "zeta")]
    assert log_of("zeta") == [("open", "zeta"), ("close", "zeta")]


async def test_the_awaited_form_leaves_closing_to_close(site: Any) -> None:
    site.broker("zeta")
    broker = await open_broker("zeta")
    await broker.close()
    await broker.close()
    assert log_of("zeta") == [("open", "zeta"), ("close", "zeta")]


async def test_a_brokers_own_close_is_left_alone(site: Any, plugin_code: str) -> None:
    own = "class Client:\n    async def close(self):\n        LOG.append('own')\n"
    site.broker("zeta", plugin_code.replace("class Client:\n", own))
    broker = await open_broker("zeta")
    assert "close" not in vars(broker)
    await broker.close()
    assert log_of("zeta") == [("open", "zeta"), "own"]


async def test_a_broker_that_takes_no_attributes_says_so_when_awaited(site: Any, plugin_code: str) -> None:
    slots = "class Client:\n    __slots__ = ('settings', 'services', 'name', 'orders')\n"
    site.broker("zeta", plugin_code.replace("class Client:\n", slots))
    async with open_broker("zeta") as broker:
        assert broker.name == "zeta"
    with pytest.raises(BrokerError, match="open it with `async with"):
        await open_broker("zeta")
    assert log_of("zeta")[-1] == ("close", "zeta")


async def test_services_carry_instance_clock_state_and_events(site: Any, tmp_path: Path) -> None:
    site.broker("zeta")
    clock = RealClock()
    async with open_broker("zeta", instance="fund-a", clock=clock, gates={"read_only": True}) as broker:
        services = broker.services
        assert (services.instance, services.environment, services.clock) == ("fund-a", "paper", clock)
        assert services.state_path == tmp_path / "state" / "fund-a" / "paper.journal"
        assert stat.S_IMODE(services.state_path.parent.stat().st_mode) == 0o700
        assert services.read_only
        services.emit(None)
    async with open_broker("zeta", state_path=tmp_path / "mine" / "x.journal") as broker:
        assert broker.services.state_path == tmp_path / "mine" / "x.journal"


async def test_a_state_path_may_begin_at_home(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.broker("zeta")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    async with open_broker("zeta", state_path="~/trading/x.journal") as broker:
        at_home = tmp_path / "home" / "trading" / "x.journal"
        assert (broker.services.state_path, broker.settings.state_path) == (at_home, at_home)
        assert at_home.parent.is_dir()


def test_no_two_environments_and_no_two_instances_share_a_journal(
    plain_machine: None, tmp_path: Path
) -> None:
    paths = {journal_path(i, e) for i in ("a", "b", "a-b") for e in ("live", "paper", "simulator")}
    assert len(paths) == 9
    assert state_folder() == tmp_path / "state"
    assert state_folder({}).name == "mts1b"
    for instance, environment in (("../a", "live"), ("a", "../live"), ("", "live"), ("a/b", "live")):
        with pytest.raises(ConfigurationError):
            journal_path(instance, environment)


async def test_a_state_folder_that_cant_be_made_is_named(site: Any, tmp_path: Path) -> None:
    site.broker("zeta")
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnwritable, match=r"zeta: open: the state folder .* can't be made"):
        await open_broker("zeta", state_path=tmp_path / "file" / "x")


async def test_the_simulator_is_started_with_its_own_credentials_and_stopped(
    site: Any, plugin_code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = plugin_code.replace("api_key: SecretStr | None = None", "api_key: SecretStr") + SIMULATED
    site.broker("zeta", code, head='provides = ["broker", "simulator"]', environments='["live"]')
    monkeypatch.setenv("MTS1B_BROKERS__ZETA__API_KEY", "the real key")
    async with open_broker("zeta", environment="simulator") as broker:
        assert broker.settings.api_key.get_secret_value() == "throwaway"
        assert broker.settings.ratio == 0.75
        assert broker.services.state_path is None
    opened = ["server started", ("open", "zeta"), ("close", "zeta"), "server stopped"]
    assert log_of("zeta") == opened
    broker = await open_broker("zeta", environment="simulator", ratio=0.5)
    assert broker.settings.ratio == 0.5
    await broker.close()
    assert log_of("zeta") == opened * 2


async def test_a_broker_that_fails_to_open_stops_its_simulator(site: Any, plugin_code: str) -> None:
    failing = (
        "from mts1b_brokers_core import VenueUnavailable\n"
        + plugin_code.replace(
            'LOG.append(("open", self.name))', "raise VenueUnavailable('closed for the day.')"
        )
        + SIMULATED
    )
    site.broker("zeta", failing, head='provides = ["broker", "simulator"]', environments='["live"]')
    with pytest.raises(VenueUnavailable, match="zeta: open: closed for the day"):
        await open_broker("zeta", environment="simulator")
    assert log_of("zeta") == ["server started", "server stopped"]


async def test_a_strange_error_keeps_its_type_and_gains_a_note(site: Any, plugin_code: str) -> None:
    site.broker("zeta", plugin_code.replace("return Client(settings, services)", "raise KeyError('x')"))
    with pytest.raises(KeyError) as caught:
        await open_broker("zeta")
    assert caught.value.__notes__ == ["zeta: open"]


async def test_what_create_returns_must_keep_the_contract(site: Any, plugin_code: str) -> None:
    site.broker("zeta", plugin_code.replace("async def cancel", "async def cancle"))
    with pytest.raises(PluginUnusable, match="returned Client, which lacks cancel"):
        await open_broker("zeta")


async def test_errors_name_the_broker_and_an_opening_serves_once(site: Any) -> None:
    opening = open_broker("nothing-of-the-kind")
    assert repr(opening) == "Opening(nothing-of-the-kind)"
    with pytest.raises(BrokerNotInstalled) as caught:
        await opening
    assert (caught.value.broker, caught.value.operation) == ("nothing-of-the-kind", "find")
    with pytest.raises(ConfigurationError, match="used already"):
        await opening
