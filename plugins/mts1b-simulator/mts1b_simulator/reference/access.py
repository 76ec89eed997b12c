"""Who may do what: keys, signatures, sessions and request limits, checked as a venue checks them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from mts1b_simulator.wire import Declined, Request

from .profile import ReferenceProfile, VenueLimit

_SECOND_NS = 1_000_000_000
#: How far a timestamp may be from the venue's time, unless the profile takes older ones.
_TOLERANCE = 5.0


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its secret and what it may do (`read`, `trade`)."""

    name: str
    secret: str
    scopes: frozenset[str]

    def signs(self, signature: str, message: bytes) -> bool:
        """True where the signature is this key's over the message."""
        right = hmac.new(self.secret.encode(), message, hashlib.sha256).hexdigest()
        return hmac.compare_digest(right.encode(), signature.encode())


@dataclass(slots=True)
class LoginSession:
    """One session, from when to when it was good (ns of the machine's time)."""

    id: str
    key: str
    began_ns: int
    ended_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """A request let in; from `expires_ns` (venue time) on, what carried it is too old for an order."""

    key: Key
    expires_ns: int | None


class Access:
    """The keys and sessions of one venue. `offset_ns` tells the venue's time minus the machine's."""

    def __init__(self, profile: ReferenceProfile, offset_ns: Callable[[], int]) -> None:
        self._profile = profile
        self._offset_ns = offset_ns
        self.key = _new_key("read", "trade")
        self.read_only_key = _new_key("read")
        self._keys = {key.name: key for key in (self.key, self.read_only_key)}
        self._sessions: dict[str, LoginSession] = {}

    def forget(self) -> None:
        """Lose all sessions; keys stay."""
        self._sessions.clear()

    def check(self, key: str, timestamp: str, signature: str, message: bytes, at_ns: int) -> tuple[Key, int]:
        """Return the key and when it signed (ns, venue time), or raise `Declined` with 401."""
        known = self._keys.get(key)
        if known is None or not known.signs(signature, timestamp.encode() + message):
            raise Declined(401, "bad_signature", "the key is unknown or the signature is not its own")
        if not timestamp.isdecimal():
            raise Declined(401, "clock", "the timestamp is not milliseconds since 1970")
        signed_ns = int(timestamp) * 1_000_000
        late = (at_ns + self._offset_ns() - signed_ns) / _SECOND_NS
        limit = self._profile.not_after_seconds if self._profile.not_after == "timestamp" else _TOLERANCE
        if not -_TOLERANCE <= late <= limit:
            raise Declined(401, "clock", f"the timestamp is {late:.3f} s from the venue's time")
        return known, signed_ns

    def admit(self, request: Request) -> Granted:
        """Let a signed request in as of when it arrived. Raises `Declined` (401, 403)."""
        headers, profile = request.headers, self._profile
        key, signed_ns = self.check(
            headers.get("x-key", ""),
            headers.get("x-timestamp", ""),
            headers.get("x-signature", ""),
            request.method.encode() + request.target + request.body,
            request.arrived_ns,
        )
        opening = request.label == "POST /v1/session"
        session = None if opening else self.session(headers.get("x-session"), request.arrived_ns)
        scope = "read" if request.method == "GET" or opening else "trade"
        if scope not in key.scopes:
            raise Declined(403, "scope", f"the key may not {scope}")
        if profile.not_after not in ("timestamp", "credential"):
            return Granted(key, None)
        began_ns = signed_ns
        if session is not None and profile.not_after == "credential":
            began_ns = session.began_ns + self._offset_ns()
        return Granted(key, began_ns + round(profile.not_after_seconds * _SECOND_NS))

    def session(self, named: str | None, at_ns: int) -> LoginSession | None:
        """Return the session named, None where none is needed. Raises `Declined` (401)."""
        if named is None and self._profile.login == "shared":
            return None
        session = self._sessions.get(named or "")
        if session is None:
            raise Declined(401, "no_session", "open a session first: POST /v1/session")
        if session.ended_ns is not None and session.ended_ns <= at_ns:
            raise Declined(401, "session_taken", "another login took the session over")
        if self._profile.not_after == "credential":
            age = (at_ns - session.began_ns) / _SECOND_NS
            if age > self._profile.not_after_seconds:
                raise Declined(401, "expired", "the session has expired")
        return session

    def open_session(self, key: Key, now_ns: int) -> LoginSession:
        """Open a session; with an exclusive login it ends those before it."""
        if self._profile.login == "exclusive":
            for other in self._sessions.values():
                if other.ended_ns is None:
                    other.ended_ns = now_ns
        session = LoginSession(secrets.token_hex(8), key.name, now_ns)
        self._sessions[session.id] = session
        return session


def _new_key(*scopes: str) -> Key:
    return Key(f"key-{secrets.token_hex(6)}", secrets.token_hex(24), frozenset(scopes))


class RequestLimit:
    """What is left of a login's requests; time in seconds, from anywhere."""

    def __init__(self, limit: VenueLimit) -> None:
        self.limit = limit
        self._left = float(limit.capacity)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take one request; False where none is left."""
        limit = self.limit
        if self._at is None:
            self._at = now
        if limit.kind == "fixed_window":
            if now - self._at >= limit.per:
                self._at, self._left = now - (now - self._at) % limit.per, float(limit.capacity)
        else:
            refilled = (now - self._at) * limit.capacity / limit.per
            self._at, self._left = now, min(float(limit.capacity), self._left + refilled)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def remaining(self) -> int:
        """How many requests are left right now."""
        return int(self._left)

    def reset_in(self, now: float) -> float:
        """Return the seconds until all are available, or, with none left in a bucket, until one is."""
        if self._at is None:
            return 0.0
        if self.limit.kind == "fixed_window":
            return max(0.0, self._at + self.limit.per - now)
        wanted = 1.0 if self._left < 1 else float(self.limit.capacity)
        return (wanted - self._left) * self.limit.per / self.limit.capacity
