"""`mts`: one command for every component that is installed; each is loaded when it is called."""

from __future__ import annotations

from typing import Any

import click

from .groups import LazyGroup

#: The entry-point group of components.
COMPONENTS = "mts.components"


def _version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from .extensions import installed

    for name, row in installed(COMPONENTS).items():
        click.echo(f"{name} {row.version}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    extensions=COMPONENTS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Completion in bash: eval "$(_MTS_COMPLETE=bash_source mts)"; zsh and fish likewise.',
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Show the version of each component.",
)  # fmt: skip
def mts() -> None:
    """Trade by program: the command line of the installed mts components."""


def main(**options: Any) -> None:
    """Run `mts`."""
    mts.main(prog_name="mts", **options)
