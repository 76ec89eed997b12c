"""The venue's client order id, made from the caller's key."""

from __future__ import annotations

import hashlib
import uuid

from .port import TokenRule

_CHUNK = 9
_NAMESPACE = uuid.UUID("6c1b7a52-6d9d-5f2e-9a34-0e6c7a0b3f11")


def venue_token(key: str, scope: str, rule: TokenRule) -> str | None:
    """Return the token for a key: the same key and scope always give the same one.

    `scope` names venue, environment and account, so that equal keys of two accounts don't meet. None
    where the venue takes no client ids.
    """
    if rule.unique == "none":
        return None
    text = f"{scope}\x1f{key}"
    if rule.form == "uuid5":
        return str(uuid.uuid5(_NAMESPACE, text))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest())
    base, length = len(rule.alphabet), min(rule.longest, 36)
    chunk, digits = base**_CHUNK, ""
    while len(digits) < length:  # a chunk fits a machine word, whose division is quick
        number, part = divmod(number, chunk)
        for _ in range(_CHUNK):
            part, digit = divmod(part, base)
            digits += rule.alphabet[digit]
    return digits[:length]
