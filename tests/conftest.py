"""Throwaway installed distributions, and a machine without settings of its own."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import importlib_metadata  # noqa: F401 - it puts its finder on the path once, which `site` must not take back
import pytest

PLUGIN = '''
from mts1b_brokers_core import BrokerSettings, hookimpl
from mts1b_brokers_core.foundation import Exact
from pydantic import SecretStr

LOG = []

class Settings(BrokerSettings):
    """What this broker takes."""
    api_key: SecretStr | None = None
    api_pin: str = ""
    fee: Exact | None = None
    ratio: float = 0.5

class Client:
    def __init__(self, settings, services):
        self.settings, self.services = settings, services
        self.name = services.instance
        self.orders = []
    async def __aenter__(self):
        LOG.append(("open", self.name))
        return self
    async def __aexit__(self, kind, error, trace):
        LOG.append(("close", self.name))
    async def submit(self, order):
        self.orders.append(order)
        return order.model_copy(update={"broker_order_id": "1", "status": "new"})
    async def cancel(self, order_id):
        return False
    async def get_open_orders(self):
        return []
    async def get_positions(self):
        return []
    async def stream_fills(self):
        return
        yield

@hookimpl
def mts1b_broker_settings():
    return Settings

@hookimpl
def mts1b_broker_create(settings, services):
    return Client(settings, services)
'''


class Site:
    """A folder on the path into which distributions are laid as an installer lays them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        sys.path.insert(0, str(folder))

    def info(
        self, distribution: str, entry_points: str, version: str = "1.0", folder: Path | None = None
    ) -> Path:
        """Write the dist-info of a distribution."""
        info = (folder or self.folder) / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points)
        return info

    def package(
        self, name: str, plugin: str = PLUGIN, manifest: str | None = "", folder: Path | None = None
    ) -> Path:
        """Write a package with a plugin module and, unless None, a manifest."""
        package = (folder or self.folder) / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text(textwrap.dedent(plugin))
        if manifest is not None:
            (package / "capabilities.toml").write_text(manifest)
        return package

    def broker(
        self,
        name: str,
        plugin: str = PLUGIN,
        *,
        distribution: str | None = None,
        head: str = "",
        manifest: str | None = None,
        environments: str = '["paper"]',
        api: str = "1.0",
        version: str = "1.0",
        folder: Path | None = None,
    ) -> str:
        """Install a broker plugin; returns its distribution."""
        distribution = distribution or f"mts1b-broker-{name}"
        package = distribution.replace("-", "_")
        text = manifest if manifest is not None else (
            f'schema = 1\nname = "{name}"\ndistribution = "{distribution}"\napi = "{api}"\n'
            f"environments = {environments}\n{head}\n"
        )  # fmt: skip
        self.package(package, plugin, text, folder)
        self.info(distribution, f"[mts1b.brokers]\n{name} = {package}.plugin\n", version, folder)
        return distribution

    def zipped(self, name: str) -> str:
        """Install a broker plugin as a zip on the path."""
        staging = self.folder / "staging"
        distribution = self.broker(name, folder=staging)
        archive = self.folder / f"{name}.zip"
        with zipfile.ZipFile(archive, "w") as bundle:
            for file in sorted(staging.rglob("*")):
                bundle.write(file, file.relative_to(staging))
        sys.path.insert(0, str(archive))
        return distribution


@pytest.fixture
def plain_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without configuration, variables or state."""
    for name in list(os.environ):
        if name.startswith("MTS1B_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MTS1B_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def site(plain_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site folder on the path; what it holds is forgotten afterwards."""
    from mts1b_brokers_core.plugins import registry

    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    monkeypatch.setattr(registry, "_registries", {})
    yield Site(tmp_path / "site")
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def plugin_code() -> str:
    """The source of a plugin that works."""
    return PLUGIN


@pytest.fixture
def most_seconds() -> int | None:
    """After how many seconds a test is ended; a folder whose tests wait for things says its own."""
    return None


@pytest.fixture(autouse=True)
def _not_forever(most_seconds: int | None) -> Iterator[None]:
    """End a test that waits for what never comes."""
    if most_seconds is None:
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise AssertionError("the test did not end")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(most_seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
