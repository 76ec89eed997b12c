"""Every hook has its heading, with its exact arguments, in the documentation."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from mts1b_brokers_core.foundation.capabilities import parse_capabilities
from mts1b_brokers_core.plugins import hookspecs

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_each_hook_is_documented_with_its_arguments() -> None:
    hooks = {name: function for name, function in vars(hookspecs).items() if name.startswith("mts1b_")}
    wanted = {
        f"{name}({', '.join(inspect.signature(function).parameters)})" for name, function in hooks.items()
    }
    assert wanted == set(re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE))
    assert len(wanted) == 8


def test_the_manifest_shown_can_be_read() -> None:
    shown = re.findall(r"^```toml\n(schema.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    manifest = parse_capabilities(shown)
    assert manifest.name == "kraken"
    assert manifest.unknown_keys == ()
