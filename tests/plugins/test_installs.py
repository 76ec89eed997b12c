"""Plugins are found however they were installed, and one damaged distribution never hides the others."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mts1b_brokers_core.foundation.capabilities import parse_capabilities
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.manifest import ManifestHead, parse_head
from mts1b_brokers_core.plugins._metadata import group_lines, malformed_line, scan
from mts1b_brokers_core.plugins.records import PluginState
from mts1b_brokers_core.plugins.registry import Registry

FINDER = """
import sys
from importlib.util import spec_from_file_location
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == {package!r}:
            root = {root!r}
            return spec_from_file_location(name, root + "/__init__.py", submodule_search_locations=[root])
        return None
sys.meta_path.append(Finder)
"""


def loads(plugins: Registry, name: str) -> bool:
    return plugins.load(plugins.get(name)) is not None


def test_a_wheel_and_a_target_folder(site: Any, tmp_path: Path) -> None:
    site.broker("wheeled")
    other = tmp_path / "target"
    site.broker("targeted", folder=other)
    sys.path.append(str(other))
    plugins = Registry()
    assert loads(plugins, "wheeled")
    assert loads(plugins, "targeted")


def test_an_editable_install_by_a_path_file_sees_edits(site: Any, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    site.broker("edited", folder=checkout)
    info = next(checkout.glob("*.dist-info"))
    info.rename(site.folder / info.name)
    sys.path.append(str(checkout))  # what the .pth line does
    plugins = Registry()
    assert plugins.get("edited").capabilities.environments == ("paper",)
    manifest = checkout / "mts1b_broker_edited" / "capabilities.toml"
    manifest.write_text(manifest.read_text().replace("paper", "sandbox"))
    plugins.records()
    assert plugins.get("edited").environments == ("sandbox",)
    assert plugins.get("edited").capabilities.environments == ("sandbox",)
    assert loads(plugins, "edited")


def test_an_editable_install_by_a_finder(site: Any, tmp_path: Path) -> None:
    checkout = tmp_path / "src-layout"
    site.broker("found", folder=checkout)
    info = next(checkout.glob("*.dist-info"))
    info.rename(site.folder / info.name)
    root = str(checkout / "mts1b_broker_found")
    (site.folder / "__editable___found_finder.py").write_text(
        FINDER.format(package="mts1b_broker_found", root=root)
    )
    __import__("__editable___found_finder")
    plugins = Registry()
    assert plugins.get("found").state is PluginState.READY
    assert "mts1b_broker_found" not in sys.modules
    assert loads(plugins, "found")


def test_a_zip_on_the_path(site: Any) -> None:
    site.zipped("zipped")
    plugins = Registry()
    assert plugins.get("zipped").version == "1.0"
    assert loads(plugins, "zipped")


def test_of_a_distribution_found_twice_the_first_counts(site: Any, tmp_path: Path) -> None:
    site.broker("double", version="2.0")
    site.broker("double", version="1.0", folder=tmp_path / "behind")
    sys.path.append(str(tmp_path / "behind"))
    rows = [record for record in Registry().records() if record.name == "double"]
    assert [record.version for record in rows] == ["2.0"]


def test_what_an_interrupted_uninstall_left_behind_is_ignored(site: Any) -> None:
    site.info("~broker-half", "[mts1b.brokers]\nhalf = mts1b_broker_half.plugin\n")
    assert all(record.name != "half" for record in Registry().records())


def test_a_malformed_file_of_a_stranger_is_a_row_with_the_culprit_and_the_repair(site: Any) -> None:
    site.broker("goodone")
    site.info("stranger", "[console_scripts]\nbroken line\n")
    with pytest.raises((TypeError, AttributeError)):
        importlib.metadata.entry_points()
    plugins = Registry()
    (row,) = [record for record in plugins.records() if record.name == "stranger"]
    assert row.state is PluginState.BAD_METADATA
    assert "malformed at 'broken line'" in row.cause
    assert str(site.folder) in row.cause
    assert row.remedy == "pip install --force-reinstall --no-deps stranger, or pip uninstall stranger"
    assert loads(plugins, "goodone")


def test_a_malformed_file_of_a_plugin_and_one_that_is_no_text_are_rows(site: Any) -> None:
    site.broker("goodone")
    site.info("mts1b-broker-torn", "[mts1b.brokers]\ntorn\n")
    site.info("mts1b-broker-noise", "").joinpath("entry_points.txt").write_bytes(b"\xff\xfe[")
    site.info("mts1b-broker-odd", "[mts1b.brokers]\nodd = 9 lives!\n")
    plugins = Registry()
    states = {record.name: record for record in plugins.records() if record.state is PluginState.BAD_METADATA}
    assert {"mts1b-broker-torn", "odd"} <= states.keys()
    assert "names no module" in states["odd"].cause
    assert any("can't be read" in record.cause for record in states.values())
    assert loads(plugins, "goodone")


def test_a_malformed_file_does_not_stop_a_fresh_process_whose_first_model_is_ours(site: Any) -> None:
    site.broker("goodone", environments='["paper"]')
    site.info("stranger", "[console_scripts]\nbroken line\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from mts1b_brokers_core import installed_brokers\n"
        "from mts1b_brokers_core.plugins.registry import registry\n"
        "rows = {row.name: row for row in installed_brokers()}\n"
        "assert rows['stranger'].state == 'bad-metadata', rows\n"
        "assert rows['goodone'].capabilities.environments == ('paper',)\n"
        "registry().load(rows['goodone'])\n"
        "from mts1b_brokers_core import Order, Side\n"
        "print(Order.market('BTC-USD', Side.BUY, '1').quantity)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(site.folder)], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == ("1\n", "")


def test_two_hundred_brokers_are_listed_and_none_is_imported(site: Any) -> None:
    for number in range(200):
        site.broker(f"many-{number}")
    for number in range(50):
        site.info(f"unrelated-{number}", "[console_scripts]\nrun = unrelated:main\n")
    before = set(sys.modules)
    rows = [record for record in Registry().records() if record.name.startswith("many-")]
    assert len(rows) == 200
    assert all(record.state is PluginState.READY and record.head is not None for record in rows)
    assert set(sys.modules) == before


def test_a_listing_loads_neither_pydantic_nor_the_hooks(site: Any) -> None:
    site.broker("goodone")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from mts1b_brokers_core import installed_brokers\n"
        "(row,) = [row for row in installed_brokers() if row.name == 'goodone']\n"
        "print(row.state, row.environments, {'pydantic', 'pluggy'} & set(sys.modules))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(site.folder)], capture_output=True, text=True, check=True
    )
    assert run.stdout == "ready ('paper',) set()\n"


HEAD = 'schema = 1\nname = "kraken"\ndistribution = "d"\napi = "1.0"\n'


@pytest.mark.parametrize(
    ("more", "read"),
    [
        ("", {}),
        ('aliases = ["a-b", "c"]', {"aliases": ("a-b", "c")}),
        (
            'provides = ["broker", "checks"]\nenvironments = ["live", "paper"]',
            {"provides": ("broker", "checks"), "environments": ("live", "paper")},
        ),
        ('conformance = "1.2"', {"conformance": "1.2"}),
        ("unknown_key = 3", {}),
    ],
)
def test_a_head_is_read_up_to_the_first_table(more: str, read: dict[str, Any]) -> None:
    head = parse_head(f"{HEAD}{more}\n[[orders]]\nx = =")
    assert head == ManifestHead(name="kraken", distribution="d", api="1.0", schema_version=1, **read)


WRONG_HEADS = {
    "schema": ("true", '"1"', "1.5"),
    "name": ('"Bad"', f'"{"a" * 65}"', "3", '""', '"a-"', '"a\\n"', '["kraken"]'),
    "distribution": ("3", '""'),
    "api": ('"1"', '"1.0.0"', "1.0", '"1.0\\n"'),
    "conformance": ('"x"',),
    "aliases": ('"abc"', '["B"]', "[1]"),
    "provides": ('["moon"]', '"broker"', '["brokers"]'),
    "environments": ('"live"', "[1]", '[""]'),
}


@pytest.mark.parametrize(("key", "value"), [(key, row) for key, rows in WRONG_HEADS.items() for row in rows])
def test_a_head_that_is_wrong_names_the_key_and_what_is_expected(key: str, value: str) -> None:
    lines = [line for line in HEAD.splitlines() if not line.startswith(f"{key} ")]
    text = "\n".join([*lines, f"{key} = {value}", "[operations]"])
    with pytest.raises(
        InvalidInput, match=rf"^ManifestHead\.{key}: got .*, expected .*\. Next: correct"
    ) as caught:
        parse_head(text)
    assert caught.value.next_step == "correct capabilities.toml"
    with pytest.raises(InvalidInput, match=rf"ManifestHead\.{key}"):
        parse_capabilities(text)


def test_all_that_is_wrong_with_a_head_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_head('name = "X"\napi = "1.0"')
    assert caught.value.message.startswith(
        "ManifestHead.schema is missing. ManifestHead.distribution is missing. ManifestHead.name: got 'X'"
    )


def test_a_whole_manifest_has_its_head_its_tables_and_what_nobody_knows() -> None:
    rows = (
        '[[orders]]\nasset = ["crypto"]\ntype = ["limit"]\ntif = ["gtc"]\n'
        'levl = 1\nlevel = "native"\nside = "venue"\nnote = ""\n'
    )
    able = parse_capabilities(f"{HEAD}aliass = []\n{rows}[operations]\nreplce = {{}}\n")
    assert (able.name, able.environments, len(able.orders)) == ("kraken", ("live",), 1)
    assert able.unknown_keys == (
        "aliass (did you mean aliases?)",
        "orders[0].levl (did you mean level?)",
        "operations.replce (did you mean replace?)",
    )
    assert "OrderClaim" not in repr(able)
    with pytest.raises(InvalidInput, match=r"orders\.0\.level: got 'natve'"):
        parse_capabilities(HEAD + rows.replace("native", "natve"))


def test_a_head_without_its_keys_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"ManifestHead\.api is missing"):
        parse_head('schema = 1\nname = "kraken"\ndistribution = "d"')


def test_entry_point_text_is_read_as_installers_write_it() -> None:
    text = "# note\n[other]\nx = y\n\n[mts1b.brokers]\n a = b.c \n; = z\n[tail]\nq=r"
    assert malformed_line(text) is None
    assert list(group_lines(text, "mts1b.brokers")) == [("a", "b.c"), (";", "z")]
    assert malformed_line("[a]\nb\n") == "b"


def test_the_scan_reads_versions_from_folders(site: Any) -> None:
    site.info("mts1b-broker-v", "[mts1b.brokers]\nv = v.plugin\n", "1.2.3rc1+local.4")
    (entry,) = [entry for entry in scan("mts1b.brokers") if entry.name == "v"]
    assert (entry.distribution, entry.version, entry.value) == (
        "mts1b-broker-v",
        "1.2.3rc1+local.4",
        "v.plugin",
    )
