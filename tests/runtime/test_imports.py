"""What an import costs, as structure: which modules are loaded, not how long it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mts1b_brokers_core
import mts1b_brokers_core.foundation as foundation

HEAVY = ("httpx", "tenacity", "structlog", "click", "rich", "sqlite3", "asyncio", "platformdirs", "pluggy")


def loaded_after(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(run.stdout))


def test_a_bare_import_loads_nothing_but_itself() -> None:
    extra = loaded_after("import mts1b_brokers_core") - loaded_after("import __future__, typing, importlib")
    assert {name for name in extra if not name.startswith("mts1b_brokers_core")} == set()


def test_errors_load_no_pydantic() -> None:
    assert "pydantic" not in loaded_after("from mts1b_brokers_core import BrokerError")


def test_the_nouns_load_nothing_heavy() -> None:
    loaded = loaded_after("from mts1b_brokers_core import Order, Fill, BrokerProtocol, require, Money, Quote")
    assert not loaded & (set(HEAVY) - (loaded_after("from pydantic import BaseModel") & set(HEAVY)))


def test_the_plugin_marker_loads_nothing_heavy() -> None:
    loaded = loaded_after("from mts1b_brokers_core import hookimpl, installed_brokers")
    assert not loaded & {"httpx", "tenacity", "structlog", "click", "rich", "sqlite3", "asyncio"}


def test_every_public_name_resolves_without_the_network_or_the_terminal() -> None:
    code = "import mts1b_brokers_core as m\nfor name in m.__all__: getattr(m, name)"
    assert not loaded_after(code) & {"httpx", "tenacity", "structlog", "click", "rich"}


def test_the_root_has_at_most_sixty_names_and_each_is_what_it_says() -> None:
    names = mts1b_brokers_core.__all__
    assert len(names) == len(set(names)) <= 60
    assert set(mts1b_brokers_core._HOMES) <= set(names)
    assert set(names) <= set(dir(mts1b_brokers_core))
    assert all(getattr(mts1b_brokers_core, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'Ordr'"):
        _ = mts1b_brokers_core.Ordr  # type: ignore[attr-defined]


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(mts1b_brokers_core.__file__).parents[1] / "pyproject.toml").read_text())
    assert mts1b_brokers_core.__version__ == project["project"]["version"]


def test_foundation_gives_every_public_name_of_its_modules() -> None:
    files = {file.stem for file in Path(foundation.__file__).parent.glob("[!_]*.py")}
    assert set(foundation._MODULES) == files
    for module in foundation._MODULES:
        home = __import__(f"{foundation.__name__}.{module}", fromlist=["*"])
        assert getattr(foundation, module) is home
        public = {name for name in vars(home) if not name.startswith("_")}
        assert public <= set(dir(foundation)), module
        defined = {name for name in public if getattr(vars(home)[name], "__module__", "") == home.__name__}
        assert defined, module
        assert all(getattr(foundation, name) is vars(home)[name] for name in defined - {"T"}), module
    with pytest.raises(AttributeError, match="no attribute 'Ordr'"):
        _ = foundation.Ordr  # type: ignore[attr-defined]
    assert not hasattr(foundation, "_exact")


def test_a_name_of_foundation_loads_no_more_than_it_stands_on() -> None:
    assert "pydantic" not in loaded_after(
        "from mts1b_brokers_core.foundation import StateLocked, Clock, uuid7"
    )
    loaded = loaded_after("from mts1b_brokers_core.foundation import Instrument")
    assert "mts1b_brokers_core.foundation.orders" not in loaded
