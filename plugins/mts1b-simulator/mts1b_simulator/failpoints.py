"""Named points at which a test can have the process killed: MTS1B_FAILPOINT=name:N kills at the Nth pass.

The variable is read once. Where it is not set, `armed` is False and each point costs one look at it.
"""

from __future__ import annotations

import os
import signal

#: The points there are, in the order a command passes them.
POINTS = (
    "command.before",
    "command.after",
    "state.before_write",
    "state.before_commit",
    "state.after_write",
    "report.before",
    "report.after",
    "reply.before",
)

_name, _, _count = os.environ.get("MTS1B_FAILPOINT", "").partition(":")
#: True where a point was named.
armed = bool(_name)
_left = int(_count or 1) if armed else 0


def hit(name: str) -> None:
    """Pass a point; the process dies here by SIGKILL where this is the pass that was asked for."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
