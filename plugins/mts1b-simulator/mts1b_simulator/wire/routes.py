"""Which handler answers which request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from .messages import Declined, Reply, Request

if TYPE_CHECKING:
    from .websocket import Socket

#: Answers a request; None cuts its connection.
Handler = Callable[[Request], Reply | Awaitable[Reply | None] | None]


class Receiver(Protocol):
    """What a venue does with one connection's messages."""

    def received(self, data: Any) -> None:
        """Take one message (text or bytes), or from TCP whatever bytes came."""

    def closed(self) -> None:
        """Learn that the connection is gone."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A WebSocket: `admit` may decline the request by raising, `open` makes the connection's receiver."""

    open: Callable[[Socket, Request], Receiver]
    admit: Callable[[Request], None] | None = None


class Routes:
    """A table of methods and path patterns such as `/v1/orders/{id}`; plain ones come before patterns."""

    def __init__(self) -> None:
        self._plain: dict[str, Handler | Upgrade] = {}
        self._table: dict[int, list[tuple[str, list[str], Handler | Upgrade]]] = {}

    def add(self, method: str, pattern: str, handler: Handler | Upgrade) -> None:
        """Answer a method on a pattern."""
        parts = pattern.split("/")
        if "{" not in pattern:
            self._plain.setdefault(f"{method} {pattern}", handler)
        self._table.setdefault(len(parts), []).append((method, parts, handler))

    def find(self, request: Request) -> Handler | Upgrade:
        """Return the handler and set the request's parameters. Raises `Declined` (404, 405)."""
        plain = self._plain.get(request.label)
        if plain is not None:
            return plain
        parts = request.path.split("/")
        known = False
        for method, pattern, handler in self._table.get(len(parts), ()):
            pairs = list(zip(pattern, parts, strict=True))
            if all(want == got or (want[:1] == "{" and got) for want, got in pairs):
                if method == request.method:
                    request.params = {w[1:-1]: unquote(g) for w, g in pairs if w[:1] == "{"}
                    return handler
                known = True
        if known:
            raise Declined(405, "bad_method", f"{request.method} is not offered on {request.path}")
        raise Declined(404, "not_found", f"there is no {request.path}")
