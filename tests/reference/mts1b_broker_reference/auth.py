"""Signing: every private request carries an HMAC over exactly the bytes that are sent."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Generator
from datetime import datetime

import httpx
from pydantic import SecretStr

from mts1b_brokers_core.foundation import UnreadableReply
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_brokers_core.platform.http import decode_json

from .wire import error_of

#: What the stream's login signs; it is a request of its own kind.
STREAM_LOGIN = ("GET", b"/v1/stream", b"")


class Signer:
    """One key's signatures; `venue_now` tells the venue's time, which the timestamps must follow."""

    def __init__(self, key: SecretStr, secret: SecretStr, venue_now: Callable[[], datetime]) -> None:
        self.key = key.get_secret_value()
        self._secret = secret.get_secret_value().encode()
        self._venue_now = venue_now
        #: The session of an exclusive login, once there is one.
        self.session: str | None = None

    def signed(self, method: str, target: bytes, body: bytes, at: datetime | None = None) -> tuple[str, str]:
        """Return timestamp (milliseconds since 1970) and signature, as of a time at the venue or now."""
        timestamp = str(to_ns(at or self._venue_now()) // 1_000_000)
        message = timestamp.encode() + method.encode() + target + body
        return timestamp, hmac.new(self._secret, message, hashlib.sha256).hexdigest()

    def headers(
        self, method: str, target: bytes, body: bytes = b"", at: datetime | None = None
    ) -> dict[str, str]:
        """Return the headers of a signed request; `target` is the raw path with its query."""
        timestamp, signature = self.signed(method, target, body, at)
        headers = {"X-Key": self.key, "X-Timestamp": timestamp, "X-Signature": signature}
        return headers if self.session is None else headers | {"X-Session": self.session}


class SignedAuth(httpx.Auth):
    """Signs what goes through the client, each repeat anew.

    A signature refused for its time is made once more: the refusal's own Date header told the venue's.
    """

    requires_request_body = True
    requires_response_body = True

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign one request."""
        response = yield self._signed(request)
        if response.status_code == httpx.codes.UNAUTHORIZED and _says_clock(response.content):
            yield self._signed(request)

    def _signed(self, request: httpx.Request) -> httpx.Request:
        target = request.url.raw_path
        request.headers.update(self._signer.headers(request.method, target, request.content))
        return request


def _says_clock(body: bytes) -> bool:
    try:
        return error_of(decode_json(body))[0] == "clock"
    except UnreadableReply:
        return False
