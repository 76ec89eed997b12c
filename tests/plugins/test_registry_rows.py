"""Every way in which a plugin can be unusable is a row with cause and remedy, while the others work."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mts1b_brokers_core.foundation.errors import BrokerNotInstalled, PluginUnusable
from mts1b_brokers_core.plugins.policy import Policy
from mts1b_brokers_core.plugins.records import PluginState, Record
from mts1b_brokers_core.plugins.registry import Registry, installed_brokers, registry


def row(name: str, registry: Registry) -> Record:
    (found,) = [record for record in registry.records() if record.name == name]
    return found


@pytest.fixture
def good(site: Any) -> Any:
    site.broker("goodone")
    return site


def assert_good_works(plugins: Registry) -> None:
    assert plugins.load(plugins.get("goodone")) is sys.modules["mts1b_broker_goodone.plugin"]


def test_a_sound_plugin_is_listed_without_import_and_loaded_on_first_use(good: Any) -> None:
    plugins = Registry()
    record = row("goodone", plugins)
    assert (record.state, record.version, record.distribution) == ("ready", "1.0", "mts1b-broker-goodone")
    assert "mts1b_broker_goodone" not in sys.modules
    assert record.capabilities.environments == ("paper",)
    assert "mts1b_broker_goodone" not in sys.modules
    assert record.plugin is sys.modules["mts1b_broker_goodone.plugin"]
    assert record.state is PluginState.LOADED
    assert plugins.load(record) is record.plugin
    assert row("goodone", plugins) is record


BROKEN_HEADS = {
    "no manifest": (None, "has no capabilities.toml", "ship capabilities.toml"),
    "bad TOML": ("schema = = 1", "not TOML", "correct capabilities.toml"),
    "bad value": ('schema = 1\nname = "BAD NAME"\ndistribution = "x"\napi = "1.0"', "ManifestHead.name", ""),
    "missing key": ('schema = 1\nname = "badone"', "ManifestHead.distribution is missing", ""),
    "other name": (
        'schema = 1\nname = "other"\ndistribution = "mts1b-broker-badone"\napi = "1.0"',
        "the manifest's name is other, the entry point's badone",
        "give both the same name",
    ),
    "other distribution": (
        'schema = 1\nname = "badone"\ndistribution = "somebody-elses"\napi = "1.0"',
        "speaks of somebody-elses, installed is mts1b-broker-badone",
        "correct `distribution`",
    ),
}


@pytest.mark.parametrize("case", BROKEN_HEADS)
def test_a_bad_manifest_is_a_row(good: Any, case: str) -> None:
    manifest, cause, remedy = BROKEN_HEADS[case]
    package = good.package("mts1b_broker_badone", manifest=manifest)
    assert package.exists()
    good.info("mts1b-broker-badone", "[mts1b.brokers]\nbadone = mts1b_broker_badone.plugin\n")
    plugins = Registry()
    record = row("badone", plugins)
    assert record.state is PluginState.BAD_MANIFEST
    assert cause in record.cause
    assert remedy in record.remedy
    assert "mts1b_broker_badone" not in sys.modules
    with pytest.raises(PluginUnusable, match=r"badone: .*bad-manifest") as caught:
        plugins.get("badone")
    assert caught.value.state == "bad-manifest"
    assert_good_works(plugins)


def test_a_manifest_that_is_wrong_below_its_head_says_so_when_it_is_read(good: Any) -> None:
    good.broker("badrows", head='[[orders]]\nasset = ["moon"]\n')
    plugins = Registry()
    record = row("badrows", plugins)
    assert record.state is PluginState.READY
    with pytest.raises(PluginUnusable, match="asset"):
        _ = record.capabilities
    assert record.state is PluginState.BAD_MANIFEST


@pytest.mark.parametrize(
    ("api", "schema", "cause"),
    [
        ("2.0", 1, "it needs plugin API 2.0, this core has 1.0"),
        ("1.9", 1, "it needs plugin API 1.9, this core has 1.0"),
        ("1.0", 2, "its manifest has schema 2, this core reads 1"),
    ],
)
def test_a_plugin_of_another_api_is_a_row(good: Any, api: str, schema: int, cause: str) -> None:
    head = f'schema = {schema}\nname = "future"\ndistribution = "mts1b-broker-future"\napi = "{api}"\n'
    good.broker("future", manifest=head)
    plugins = Registry()
    record = row("future", plugins)
    assert (record.state, record.cause) == (PluginState.INCOMPATIBLE, cause)
    assert record.remedy.startswith("pip install --upgrade")
    assert_good_works(plugins)


FAILING = {
    "raises": ("raise ValueError('no luck')", "ValueError: no luck"),
    "exits": ("raise SystemExit(3)", "it ended the program (SystemExit 3)"),
    "dependency": ("import no_such_library_here", "its dependency no_such_library_here is missing"),
    "own module": ("from mts1b_broker_failing import wire_x", "cannot import name"),
    "own submodule": (
        "import mts1b_broker_failing.wire_y",
        "its own module mts1b_broker_failing.wire_y is",
    ),
    "misspelt hook": (
        "from mts1b_brokers_core import hookimpl\n@hookimpl\ndef mts1b_broker_crate(settings): ...",
        "it implements mts1b_broker_crate, which is no hook",
    ),
    "unmarked hook": ("def mts1b_event(event): ...", "its mts1b_event lacks the @hookimpl mark"),
    "async hook": (
        "from mts1b_brokers_core import hookimpl\n@hookimpl\nasync def mts1b_event(event): ...",
        "its mts1b_event is async",
    ),
    "wrong argument": (
        "from mts1b_brokers_core import hookimpl\n@hookimpl\ndef mts1b_event(evnt): ...",
        "evnt",
    ),
    "wrapper": (
        "from mts1b_brokers_core import hookimpl\n@hookimpl(wrapper=True)\ndef mts1b_event(): yield",
        "its mts1b_event is a wrapper",
    ),
}


def test_entry_points_that_are_no_text_are_a_row_of_their_distribution(good: Any) -> None:
    good.info("typing_extensions_x", "", version="4.16.0").joinpath("entry_points.txt").write_bytes(
        b"[a]\n\xff"
    )
    record = row("typing-extensions-x", Registry())
    assert (record.distribution, record.version) == ("typing-extensions-x", "4.16.0")
    assert record.state is PluginState.BAD_METADATA
    assert record.cause.startswith("its metadata can't be read: 'utf-8'")
    assert record.remedy.endswith("pip uninstall typing-extensions-x")
    assert_good_works(Registry())


@pytest.mark.parametrize("case", FAILING)
def test_a_plugin_that_fails_to_load_is_a_row(good: Any, case: str, plugin_code: str) -> None:
    code, cause = FAILING[case]
    good.broker("failing", plugin_code + "\n" + code)
    plugins = Registry()
    record = row("failing", plugins)
    assert record.state is PluginState.READY
    with pytest.raises(PluginUnusable, match="failing: load: ") as caught:
        _ = record.plugin
    assert record.state is PluginState.FAILED
    assert cause in record.cause
    assert record.remedy
    assert caught.value.next_step == record.remedy
    assert row("failing", plugins) is record
    assert_good_works(plugins)


def test_a_plugin_without_its_required_hooks_fails(good: Any) -> None:
    good.broker("empty", "VALUE = 1\n")
    plugins = Registry()
    with pytest.raises(PluginUnusable, match="it implements no mts1b_broker_settings"):
        plugins.load(plugins.get("empty"))


def test_the_traceback_of_a_failed_import_is_kept_and_strict_raises_from_it(
    good: Any, plugin_code: str
) -> None:
    good.broker("failing", plugin_code + "\nraise ValueError('no luck')")
    plugins = Registry()
    with pytest.raises(PluginUnusable):
        plugins.load(plugins.get("failing"))
    assert "plugin.py" in row("failing", plugins).traceback
    strict = Registry(Policy(strict=True))
    with pytest.raises(PluginUnusable) as caught:
        strict.load(strict.get("failing"))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_load_is_tried_again_once_what_was_missing_is_there(good: Any, plugin_code: str) -> None:
    good.broker("later", "import later_library\n" + plugin_code)
    plugins = Registry()
    with pytest.raises(PluginUnusable, match="its dependency later_library is missing"):
        plugins.load(plugins.get("later"))
    (good.folder / "later_library.py").write_text("")
    plugins.load(plugins.get("later"))
    assert row("later", plugins).state is PluginState.LOADED


def test_loading_prints_to_stderr_and_leaves_path_and_arguments(
    good: Any, plugin_code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good.broker(
        "loud", "import sys\nprint('hello')\nsys.path.insert(0, '/x')\nsys.argv[:] = ['y']\n" + plugin_code
    )
    path, argv = list(sys.path), list(sys.argv)
    plugins = Registry()
    plugins.load(plugins.get("loud"))
    assert (sys.path, sys.argv) == (path, argv)
    assert capsys.readouterr() == ("", "hello\n")


def test_two_distributions_that_claim_one_name_are_both_refused_until_one_is_preferred(good: Any) -> None:
    for distribution in ("fork-a", "fork-b"):
        good.broker("twice", distribution=distribution)
    plugins = Registry()
    rows = [record for record in plugins.records() if record.name == "twice"]
    assert [record.state for record in rows] == [PluginState.CONFLICT] * 2
    assert "fork-a and fork-b both claim the name twice" in rows[0].cause
    assert "registry.prefer.twice" in rows[0].remedy
    with pytest.raises(PluginUnusable, match="both claim"):
        plugins.get("twice")
    assert_good_works(plugins)

    preferring = Registry(Policy(prefer=(("twice", "fork-b"),)))
    assert preferring.get("twice").distribution == "fork-b"
    assert {r.distribution: r.state for r in preferring.records() if r.name == "twice"} == {
        "fork-a": PluginState.CONFLICT,
        "fork-b": PluginState.READY,
    }
    denying = Registry(Policy(deny=frozenset({"fork-a"})))
    assert denying.get("twice").distribution == "fork-b"


def test_an_alias_answers_and_a_clash_of_aliases_is_a_conflict(good: Any) -> None:
    good.broker("first", head='aliases = ["nickname"]')
    assert Registry().get("nickname").name == "first"
    good.broker("nickname")
    plugins = Registry()
    assert {row(name, plugins).state for name in ("first", "nickname")} == {PluginState.CONFLICT}
    assert_good_works(plugins)
    alias_loses = Registry(Policy(prefer=(("nickname", "mts1b-broker-nickname"),)))
    assert alias_loses.get("nickname").name == "nickname"
    assert alias_loses.get("first").usable


def test_deny_and_allow_work_by_distribution_and_before_import(good: Any) -> None:
    good.broker("other")
    denied = Registry(Policy(deny=frozenset({"mts1b-broker-other"})))
    assert row("other", denied).state is PluginState.DENIED
    assert_good_works(denied)
    allowed = Registry(Policy(allow=frozenset({"mts1b-broker-goodone"})))
    assert "not on the allow list" in row("other", allowed).cause
    with pytest.raises(PluginUnusable, match="denied"):
        allowed.get("other")
    assert "mts1b_broker_other" not in sys.modules


def test_the_variables_set_the_policy(good: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    good.broker("other")
    monkeypatch.setenv("MTS1B_BROKERS_DENY", "MTS1B_Broker.other, x")
    (record,) = [record for record in installed_brokers() if record.name == "other"]
    assert record.state is PluginState.DENIED
    monkeypatch.setenv("MTS1B_BROKERS_STRICT", "1")
    installed_brokers()  # what the user denied is no defect
    good.package("mts1b_broker_badone", manifest=None)
    good.info("mts1b-broker-badone", "[mts1b.brokers]\nbadone = mts1b_broker_badone.plugin\n")
    with pytest.raises(PluginUnusable, match="badone"):
        installed_brokers()


def test_a_namespace_package_and_a_single_module_are_refused(good: Any) -> None:
    (good.folder / "mts1b_broker_space").mkdir()
    (good.folder / "mts1b_broker_space" / "plugin.py").write_text("")
    (good.folder / "mts1b_broker_single.py").write_text("")
    good.info("mts1b-broker-space", "[mts1b.brokers]\nspace = mts1b_broker_space.plugin\n")
    good.info("mts1b-broker-single", "[mts1b.brokers]\nsingle = mts1b_broker_single\n")
    good.info("mts1b-broker-gone", "[mts1b.brokers]\ngone = mts1b_broker_gone.plugin\n")
    plugins = Registry()
    assert "namespace package" in row("space", plugins).cause
    assert "single module" in row("single", plugins).cause
    assert "not on the path" in row("gone", plugins).cause
    assert_good_works(plugins)


def test_an_unknown_broker_names_the_nearest_and_the_install(good: Any) -> None:
    with pytest.raises(BrokerNotInstalled) as caught:
        registry().get("godone")
    text = str(caught.value)
    assert "did you mean goodone?" in text
    assert "pip install mts1b-broker-godone" in text
    assert caught.value.broker == "godone"
    for name in ("x; rm -rf ~", "--index-url=http://h", "a b", ""):
        with pytest.raises(BrokerNotInstalled) as caught:
            registry().get(name)
        assert "pip" not in caught.value.next_step


def test_what_is_installed_meanwhile_is_found_without_a_restart(good: Any) -> None:
    plugins = Registry()
    with pytest.raises(BrokerNotInstalled):
        plugins.get("newcomer")
    good.broker("newcomer")
    assert plugins.get("newcomer").usable


def test_a_record_reads_in_one_line(good: Any) -> None:
    assert repr(row("goodone", Registry())) == "Record(goodone mts1b-broker-goodone 1.0 ready)"
