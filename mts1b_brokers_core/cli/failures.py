"""How a run ends: the exit code, and words (or JSON) for whatever went wrong.

0 done; 1 refused, failed or not placed; 2 the command line or the configuration is wrong; 3 the
outcome of an order is unknown; 130 interrupted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mts1b_brokers_core.foundation.errors import BrokerError

#: What a group called without a command raises; click before 8.2 has none and only prints.
_JUST_HELP: tuple[type[BaseException], ...] = tuple(
    kind for kind in [getattr(click.exceptions, "NoArgsIsHelpError", None)] if kind is not None
)

OK, FAILED, USAGE, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 130


def ended(call: Callable[[], Any], *, as_json: bool) -> int:
    """Run a command and return its exit code; nothing escapes but the interpreter's own exits."""
    _never_stumble_over_a_character()
    try:
        code = _ended(call, as_json=as_json)
        if sys.stdout is not None:  # as it is where the caller closed it
            sys.stdout.flush()
    except OSError as error:  # from writing the output: `_ended` lets no other pass
        output_lost(error)
        return FAILED
    return code


def _ended(call: Callable[[], Any], *, as_json: bool) -> int:
    try:
        result = call()
    except click.ClickException as error:
        return _usage(error, as_json=as_json)
    except click.Abort:
        return _interrupted(as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last door before a person: no traceback passes it
        return _reported(error, as_json=as_json)
    return result if isinstance(result, int) else OK


def wants_traceback() -> bool:
    """True where the person asked to see tracebacks."""
    return os.environ.get("MTS1B_TRACEBACK", "") not in ("", "0")


def exit_code(error: BaseException) -> int:
    """Return the exit code an error of ours ends a run with."""
    from mts1b_brokers_core.foundation import errors

    if isinstance(error, errors.OutcomeUnknown):
        return UNKNOWN
    wrong_input = (errors.ConfigurationError, errors.InvalidInput, errors.BrokerNotInstalled)
    return USAGE if isinstance(error, wrong_input) else FAILED


def describe(error: BrokerError) -> dict[str, Any]:
    """Return an error as data: the common fields, and those its kind adds."""
    from mts1b_brokers_core.platform.security import redact

    fields: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "broker": error.broker,
        "operation": error.operation,
        "next_step": next_step(error),
        "repeat_is_safe": error.repeat_is_safe,
    }
    for name in ("reason", "words", "certainty", "retry_after", "choices", "capability", "cause", "order"):
        value = getattr(error, name, None)
        if value not in (None, "", ()):
            fields[name] = value
    return redact(fields)


def show_traceback(error: BaseException) -> None:
    """Write an error's traceback to stderr, without the secrets its words may hold."""
    import traceback

    from mts1b_brokers_core.platform.security import redact

    click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)


def next_step(error: BrokerError) -> str:
    """Return what to do next in the words of the command line."""
    choices = getattr(error, "choices", ())
    if error.code == "account_not_chosen" and choices:
        return f"name one: --account {' or --account '.join(choices)}"
    text = error.next_step.replace("pass environment=...", "pass --environment NAME")
    return re.sub(r"allow_adjust=\{'(\w+)'\}", r"--allow-adjust \1", text)


def output_lost(error: OSError, answer: str = "") -> None:
    """Say that the output can't be written, unless its reader merely went away, and write no more of it.

    `answer` is what must be known all the same.
    """
    with suppress(OSError):
        if not isinstance(error, BrokenPipeError):
            complain(f"the output can't be written: {error.strerror or error}")
            if answer:
                click.echo(answer, err=True)
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_of_output(error: Exception) -> bool:
    """True where the error was raised by what writes our output, not by a file or a connection."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    writer = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return isinstance(error, OSError) and writer.partition(".")[0] in ("click", "rich")


def _reported(error: Exception, *, as_json: bool) -> int:
    if _is_of_output(error):
        raise error
    from mts1b_brokers_core.foundation.errors import BrokerError

    if wants_traceback():
        show_traceback(error)
    if isinstance(error, BrokerError):
        fields, code = describe(error), exit_code(error)
    else:
        fields, code = _unexpected(error), FAILED
    if as_json:
        from .jsontext import emit

        emit({"error": fields})
        return code
    where = ": ".join(part for part in (fields.get("broker"), fields.get("operation")) if part)
    message = f"{where}: {fields['message']}" if where else fields["message"]
    complain(message, fields["next_step"])
    return code


def _unexpected(error: Exception) -> dict[str, Any]:
    from mts1b_brokers_core.platform.security import redact

    text = " ".join(redact(str(error)).split())
    return {
        "code": "unexpected",
        "message": f"{type(error).__name__}: {text}" if text else type(error).__name__,
        "next_step": "run it again with MTS1B_TRACEBACK=1 to see where, and report it",
        "repeat_is_safe": False,
    }


def complain(message: str, next_step: str = "") -> None:
    """Say on stderr what was wrong and what to do."""
    from mts1b_brokers_core.platform.security import redact

    from .terminal import Look

    message, next_step = redact(message), redact(next_step)
    look = Look.of(sys.stderr)
    click.echo(f"{look.paint('error:', 'red')} {message}", err=True, color=look.colour)
    if next_step:
        click.echo(f"  next: {next_step}", err=True)


def _usage(error: click.ClickException, *, as_json: bool) -> int:
    if as_json and not isinstance(error, _JUST_HELP):
        from .jsontext import emit

        step = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            step = f"{error.ctx.command_path} --help"
        fields = {
            "code": "usage",
            "message": error.format_message(),
            "next_step": step,
            "repeat_is_safe": True,
        }
        emit({"error": fields})
    else:
        error.show()
    return error.exit_code


def _interrupted(*, as_json: bool) -> int:
    with suppress(OSError):
        if as_json:
            from .jsontext import emit

            fields = {
                "code": "interrupted",
                "message": "interrupted",
                "next_step": "",
                "repeat_is_safe": False,
            }
            emit({"error": fields})
        else:
            click.echo("Interrupted.", err=True)
    return INTERRUPTED


def _never_stumble_over_a_character() -> None:
    """Let what the output's encoding lacks appear as an escape instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with suppress(ValueError, OSError):
                reconfigure(errors="backslashreplace")
