"""Command groups that load a command when it is called, and end every run politely."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from .extensions import Extension, installed

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class PoliteGroup(click.Group):
    """A group whose runs end in an exit code and words for people, never in a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit; with `standalone_mode=False` return or raise as click does."""
        words = list(sys.argv[1:] if args is None else args)

        def call() -> Any:
            return super(PoliteGroup, self).main(
                words, prog_name, complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return call()
        from .failures import ended

        sys.exit(ended(call, as_json="--json" in words))


class LazyGroup(PoliteGroup):
    """A group of built-in commands and of those that distributions add.

    `builtin` maps a command to its place, `module:attribute`, and its line of help, so that help and
    completion load nothing.
    """

    def __init__(
        self,
        *args: Any,
        builtin: Mapping[str, tuple[str, str]] | None = None,
        extensions: str | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self._builtin = builtin or {}
        self._group = extensions

    def _extensions(self) -> dict[str, Extension]:
        found = installed(self._group) if self._group else {}
        return {name: row for name, row in found.items() if name not in self._builtin}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names: built-in ones in their own order, then those added."""
        return [*self._builtin, *self._extensions()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name in self._builtin:
            import importlib

            module, _, attribute = self._builtin[cmd_name][0].partition(":")
            command = getattr(importlib.import_module(module), attribute)
            assert isinstance(command, click.Command)
            return command
        extension = self._extensions().get(cmd_name)
        return None if extension is None else extension.load()

    def _short_help(self) -> list[tuple[str, str]]:
        rows = [(name, text) for name, (_, text) in self._builtin.items()]
        return rows + [(name, row.summary) for name, row in self._extensions().items()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' section without loading any."""
        rows = self._short_help()
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names and options without loading any command."""
        from click.shell_completion import CompletionItem

        rows = [
            CompletionItem(name, help=text)
            for name, text in self._short_help()
            if name.startswith(incomplete)
        ]
        return rows + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command called; an unknown one is answered with the nearest."""
        name = args[0]
        known = self.list_commands(ctx)
        if name in known or ctx.resilient_parsing or name.startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        close = get_close_matches(name, known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the commands are {', '.join(known)}."
        raise click.UsageError(f"No such command {name!r}; {hint}", ctx)
