"""Named points at which a test can have the process die, as a power cut would end it.

`MTS1B_FAILPOINT=name` kills the process with SIGKILL the first time it reaches that point, `name:3` the
third time. Where none is named, passing a point costs one comparison.
"""

from __future__ import annotations

import os
import signal

_name, _left = "", 0


def arm(text: str) -> None:
    """Name the point to die at, as the variable would: `name` or `name:N`; an empty text disarms."""
    global _name, _left
    _name, _, nth = text.partition(":")
    _left = int(nth or 1)


def failpoint(name: str) -> None:
    """Pass a point; the process dies here where this is the pass that was asked for."""
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("MTS1B_FAILPOINT", ""))
