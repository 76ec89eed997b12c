"""`mts mts1b-brokers demo`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click


@click.command(short_help="Trade recorded market data through the paper broker; no account needed.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the equity-curve picture.",
)
@click.option(
    "--fill-model",
    type=click.Choice(["trade_through", "touch"]),
    default="trade_through",
    show_default=True,
    help="When a resting order fills; touch is what hopeful paper brokers do.",
)
@click.option("--all", "everything", is_flag=True, help="Print every order and fill, not only the latest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def demo(output: Path, fill_model: str, everything: bool, as_json: bool) -> None:
    """Start a small order management system and trade one strategy on recorded market data.

    A crypto day and an equity day run side by side through two instances of the paper broker, with
    market orders, resting limits and stops. The same run gives the same numbers every time.
    """
    import asyncio
    import json

    from rich.console import Console

    from .picture import equity_svg
    from .run import run_demo
    from .show import document, show, show_result

    with _writing(f"the folder {output} can't be made"):
        output.mkdir(parents=True, exist_ok=True)
    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 110
    with errors.status("trading ...") as status:
        latest: dict[str, datetime] = {}

        def progress(instance: str, at: datetime) -> None:
            shown = latest.get(instance)
            if shown is None or (at - shown).total_seconds() >= 900:
                latest[instance] = at
                status.update(
                    "trading  " + "  ".join(f"{name} {when:%H:%M}" for name, when in latest.items())
                )

        books = asyncio.run(run_demo(fill_model, progress))
    picture = output / "equity.svg"
    curves = {f"{book.instance}: {book.symbol}": book.curve for book in books}
    with _writing(f"{picture} can't be written"):
        picture.write_text(equity_svg("Equity", curves, books[0].currency), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(document(books, [str(picture)]), indent=2))
        return
    for book in books:
        show(console, book, None if everything else 8)
    show_result(console, books)
    console.print(f"\nequity curve: {picture}", highlight=False)


@contextmanager
def _writing(problem: str) -> Iterator[None]:
    from mts1b_brokers_core.foundation.errors import BrokerError

    try:
        yield
    except OSError as error:
        text = f"{problem}: {error.strerror or error}."
        raise BrokerError(text, next_step="name another folder with --output") from error
