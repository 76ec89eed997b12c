"""Lets the tests of this folder share the kit, and ends one that waits for what never comes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def most_seconds() -> int:
    return 40
