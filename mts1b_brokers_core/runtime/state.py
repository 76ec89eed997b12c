"""Where a broker instance keeps its state: one file for each instance and environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mts1b_brokers_core.foundation.errors import StateUnwritable

from .config import check_instance


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the state folder: `MTS1B_STATE_DIR`, else the user's own."""
    named = environ.get("MTS1B_STATE_DIR")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_state_path

    return user_state_path("mts1b")


def journal_path(instance: str, environment: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the journal's file; no two environments of an instance, and no two instances, share one."""
    check_instance(instance)
    check_instance(environment)
    return state_folder(environ) / instance / f"{environment}.journal"


def prepare(path: Path) -> Path:
    """Make the folder a state file lies in, for its owner only. Raises `StateUnwritable`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StateUnwritable(
            f"the state folder {path.parent} can't be made: {error.strerror or error}.",
            next_step="choose another with MTS1B_STATE_DIR or state_path",
        ) from None
    return path
