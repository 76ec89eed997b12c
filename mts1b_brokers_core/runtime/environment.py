"""Choosing where orders go; live is never reached by default."""

from __future__ import annotations

from mts1b_brokers_core.foundation.errors import ConfigurationError, EnvironmentNotChosen

#: The environment in which the runtime starts the venue's simulator itself.
SIMULATOR = "simulator"
LIVE = "live"


def choose_environment(
    asked: object, *, declared: tuple[str, ...], offered: tuple[str, ...], instance: str, hint: str
) -> str:
    """Return the environment asked for, or the only one there is where that isn't live.

    `declared` is what the manifest lists, `offered` adds the simulator where the plugin ships one,
    `hint` is the variable by which the user may choose. Raises `EnvironmentNotChosen`, `ConfigurationError`.
    """
    choices = ", ".join(offered)
    if asked is None:
        if len(declared) == 1 and declared[0] != LIVE:
            return declared[0]
        raise EnvironmentNotChosen(
            f"no environment was chosen; there are {choices}.",
            broker=instance,
            operation="open",
            next_step=f"pass environment=..., set {hint}, or `environment` in the configuration",
        )
    if asked not in offered:
        raise ConfigurationError(
            f"the environment {asked!r} is not offered; there are {choices}.",
            broker=instance,
            operation="open",
            next_step=f"choose among {choices}",
        )
    return str(asked)
