"""Named points at which a test can have the process die, as a power cut would end it.

`MTS1B_FAILPOINT=name` kills the process with SIGKILL the first time it reaches that point,
`name:3` the third time. Unset, a point costs one call of an empty function.
"""

from __future__ import annotations

import itertools
import os
import signal

_name, _, _nth = os.environ.get("MTS1B_FAILPOINT", "").partition(":")
_hits = itertools.count(1)


def _armed(name: str) -> None:
    if name == _name and next(_hits) == int(_nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def _unarmed(name: str) -> None: ...


failpoint = _armed if _name else _unarmed
