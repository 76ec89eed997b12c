"""`info`: what a broker can do, how far its idempotency reaches, and its settings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click

from . import jsontext, render
from .listing import UNVERIFIED, plugin_api
from .options import Target, name_argument, target_options
from .terminal import out

if TYPE_CHECKING:
    from mts1b_brokers_core.foundation.capabilities import Capabilities
    from mts1b_brokers_core.plugins.records import Record


@click.command(name="info")
@name_argument
@target_options(opening=False)
def info_command(target: Target, name: str | None) -> None:
    """Show what a broker can do, how safe its orders are, and its settings with their defaults.

    What a broker does not list it does not offer. The plugin is loaded for its settings; nothing is opened.
    """
    from mts1b_brokers_core.plugins.registry import registry

    target = target.named(name)
    config = target.load()
    plugins = registry(config.policy)
    record = plugins.get(target.broker_meant(config))
    plugins.load(record)
    found = _gathered(record, plugins.facade.settings_model(record.name))
    if target.as_json:
        jsontext.emit(found)
    else:
        _show(found)


def _gathered(record: Record, model: Any) -> dict[str, Any]:
    able: Capabilities = record.capabilities
    guarantee, why = _guarantee(record)
    return {
        "name": record.name,
        "aliases": list(record.words[1:]),
        "distribution": record.distribution,
        "version": record.version,
        "level": UNVERIFIED,
        "environments": list(record.environments),
        "plugin_api": {"needed": able.api, "core": plugin_api()},
        "guarantee": guarantee,
        "guarantee_note": why,
        "orders": [dict(row) for row in able.orders],
        "operations": [{"operation": name, **dict(row)} for name, row in sorted(able.operations.items())],
        "unknown_manifest_keys": list(able.unknown_keys),
        "settings": [
            dict(zip(("field", "default", "description"), row, strict=True)) for row in _settings(model)
        ],
    }


def _guarantee(record: Record) -> tuple[str | None, str]:
    """Compute the guarantee from the profile of the adapter's class; the class is found, never built."""
    from mts1b_brokers_core.execution.client import VenueClient
    from mts1b_brokers_core.execution.port import VenueProfile, guarantee_of

    adapter = _adapter(record)
    if adapter is None:
        return None, "its class is not found without opening it"
    profile = getattr(adapter, "profile", None)
    if isinstance(profile, VenueProfile):
        return str(
            guarantee_of(profile, durable=True)
        ), "with a journal on disk, as this command line opens it"
    if issubclass(adapter, VenueClient):
        return None, "it depends on the settings"
    return None, "this adapter keeps no journal: one key may become two orders"


def _adapter(record: Record) -> type | None:
    """Return the adapter's class from its `client` module, or from the plugin module itself."""
    plugin = record.value.partition(":")[0]
    package = plugin.partition(".")[0]
    for name in (f"{package}.client", plugin):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for found in vars(module).values():
            if isinstance(found, type) and found.__module__ == name and hasattr(found, "get_open_orders"):
                return found
    return None


def _settings(model: Any) -> list[tuple[str, str, str]]:
    from mts1b_brokers_core.runtime.settings import explain_rows

    return [(row.field, row.value, row.description) for row in explain_rows(model, {})]


def _show(found: dict[str, Any]) -> None:
    look = out()

    def title(text: str) -> None:
        click.echo(f"\n{look.paint(text, 'cyan', bold=True)}", color=look.colour)

    also = f", also {', '.join(found['aliases'])}" if found["aliases"] else ""
    click.echo(f"{found['name']}{also}: {found['distribution']} {found['version']}, *{found['level']}*")
    click.echo(f"environments: {', '.join(found['environments']) or 'none'}")
    api = found["plugin_api"]
    click.echo(f"plugin API: needs {api['needed']}, this core speaks {api['core']}")
    click.echo(f"one key, one order: {found['guarantee'] or 'not known'} ({found['guarantee_note']})")
    title("Orders")
    render.table(
        "asset  type  time in force  instructions  level  side  note~",
        [_order_cells(row) for row in found["orders"]],
        empty="The manifest lists none.",
    )
    title("Operations")
    render.table(
        "operation  level  side  note~",
        [[row["operation"], row["level"], row["side"], row["note"]] for row in found["operations"]],
        empty="The manifest lists none.",
    )
    if found["unknown_manifest_keys"]:
        click.echo(f"keys this core doesn't know: {', '.join(found['unknown_manifest_keys'])}")
    title("Settings")
    render.table(
        "setting  default  meaning~",
        [[row["field"], row["default"], row["description"]] for row in found["settings"]],
        empty="It has none.",
    )


def _order_cells(row: dict[str, Any]) -> list[Any]:
    extras = [*row["instructions"]]
    extras += [f"session={word}" for word in row["sessions"] if word != "regular"]
    extras += [f"effect={word}" for word in row["position_effect"] if word != "auto"]
    extras += [f"attached={word}" for word in row["attached"]]
    extras += [f"up to {row['max_legs']} legs"] if row["max_legs"] else []
    return [row["asset"], row["type"], row["tif"], extras, row["level"], row["side"], row["note"]]
