"""`mts mts1b-brokers simulate NAME`: a venue on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mts1b_brokers_core.foundation.plugin import SimulatorOptions, SimulatorServer

#: The venue this package brings itself; every other name is a broker plugin's.
REFERENCE = "reference"


@click.command(short_help="Serve a venue's simulator on this machine until Ctrl-C.")
@click.argument("name")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--seed", default=0, show_default=True, help="Seed of everything that is drawn.")
@click.option("--tls", is_flag=True, help="Serve over TLS, with a throwaway certificate.")
@click.option(
    "--fault", "faults", multiple=True, metavar="KIND[:ARGUMENT][:WHEN]",
    help="Let something go wrong; WHEN is next, nth=N or a rate such as 0.05. Repeatable.",
)  # fmt: skip
@click.option("--profile", help="What kind of venue the reference venue is.")
@click.option("--set", "extra", multiple=True, metavar="NAME=VALUE", help="What else the simulator takes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def simulate(
    name: str, host: str, port: int, seed: int, tls: bool, faults: tuple[str, ...], profile: str | None,
    extra: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Serve the simulator of NAME, a broker or `reference`, and print how it is reached.

    The credentials printed are throwaway ones, made for this run.
    """
    from mts1b_brokers_core.foundation.plugin import SimulatorOptions

    given = dict(_pair(text) for text in extra)
    if profile is not None:
        given["profile"] = profile
    options = SimulatorOptions(host, port, seed, tls, faults, given)
    server = _build(name, options)
    about = {"simulator": name}
    asyncio.run(serve(server, f"The simulator of {name} is running", about, as_json=as_json))
    applied = Counter(row.fault.kind for row in getattr(getattr(server, "faults", None), "applied", ()))
    if applied and not as_json:
        click.echo("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(applied.items())))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"got --set {text}, expected --set NAME=VALUE.")
    return name, value


def _build(name: str, options: SimulatorOptions) -> SimulatorServer:
    if name == REFERENCE:
        from mts1b_simulator.reference import ReferenceServer

        return ReferenceServer.from_options(options)
    from mts1b_brokers_core.plugins.registry import registry

    plugins = registry()
    record = plugins.get(name)
    plugins.load(record)
    return plugins.facade.simulator(record.name, options)


async def serve(server: SimulatorServer, said: str, about: Mapping[str, str], *, as_json: bool) -> None:
    """Run a server until Ctrl-C (or SIGTERM), and print how it is reached."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    try:
        await server.start()
        _tell(server, said, about, as_json)
        await over.wait()
    finally:
        await server.stop()


def _tell(server: SimulatorServer, said: str, about: Mapping[str, str], as_json: bool) -> None:
    settings = dict(server.settings)
    if as_json:
        click.echo(json.dumps({**about, "settings": settings}))
        return
    click.echo(f"{said}; Ctrl-C ends it.\n")
    width = max(map(len, settings), default=0)
    for key, value in settings.items():
        click.echo(f"  {key:<{width}}  {value}")
