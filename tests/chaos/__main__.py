"""`hatch run chaos`: every kind of venue at its worst, and a verdict; exits with 1 on any miss."""

from __future__ import annotations

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
