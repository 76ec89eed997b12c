"""The venue on this machine, started with throwaway credentials."""

from __future__ import annotations
