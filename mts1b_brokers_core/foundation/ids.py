"""Identifiers of our own making."""

from __future__ import annotations

import os

from .clock import wall_clock_ns

_last = 0


def uuid7(now_ns: int | None = None) -> str:
    """Return a new time-ordered identifier as text.

    Later calls in one process sort after earlier ones. Source: RFC 9562 section 5.7, with the
    sub-millisecond part in `rand_a` (method 3 of section 6.2).
    """
    global _last
    ns = wall_clock_ns() if now_ns is None else now_ns
    milliseconds, rest = divmod(ns, 1_000_000)
    stamp = (milliseconds << 12) | (rest * 4096 // 1_000_000)
    if now_ns is None:
        stamp = _last = max(stamp, _last + 1)
    random = int.from_bytes(os.urandom(8)) >> 2
    value = ((stamp >> 12) << 80) | (0x7 << 76) | ((stamp & 0xFFF) << 64) | (0b10 << 62) | random
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
