"""What can go wrong on the wire: each kind a small dataclass that does it to a request or a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .frames import Session
from .messages import Reply

if TYPE_CHECKING:
    from .http import Call


class RequestFault:
    """What may happen to a request."""

    kind: ClassVar[str]
    #: True where the connection is cut before the body is read.
    unread: ClassVar[bool] = False

    async def serve(self, call: Call) -> Reply | None:
        """Answer the request; None cuts the connection."""
        return None


class FrameFault:
    """What may happen to a frame, or to the connection as it is sent."""

    kind: ClassVar[str]
    #: True where heartbeats are left alone.
    spares_heartbeats: ClassVar[bool] = True

    def send(self, session: Session, data: str | bytes) -> None:
        """Do it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class DropRequest(RequestFault):
    """The connection is cut before the request is read: the venue never knows of it."""

    kind: ClassVar[str] = "drop_request"
    unread: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DropReply(RequestFault):
    """The venue acts on the request, and the connection is cut before a byte of the reply."""

    kind: ClassVar[str] = "drop_reply"

    async def serve(self, call: Call) -> Reply | None:
        """Act, then cut."""
        await call.handle()
        return None


@dataclass(frozen=True, slots=True)
class Delay(RequestFault):
    """The venue acts on the request, and answers it, after that many seconds."""

    seconds: float
    kind: ClassVar[str] = "delay"

    async def serve(self, call: Call) -> Reply | None:
        """Wait, then act."""
        await call.sleep(self.seconds)
        return await call.handle()


@dataclass(frozen=True, slots=True)
class DelayBeyond(RequestFault):
    """The request lands after that many seconds, though its connection is cut at once."""

    seconds: float
    kind: ClassVar[str] = "delay_beyond"

    async def serve(self, call: Call) -> Reply | None:
        """Cut, and act later."""
        call.later(self.seconds)
        return None


@dataclass(frozen=True, slots=True)
class HangBeyond(RequestFault):
    """The request lands after that many seconds, and is never answered: the client times out."""

    seconds: float
    kind: ClassVar[str] = "hang_beyond"

    async def serve(self, call: Call) -> Reply | None:
        """Say nothing, and act later."""
        call.later(self.seconds)
        await call.gone()
        return None


@dataclass(frozen=True, slots=True)
class Status429(RequestFault):
    """The request is refused as one too many, before it is acted on; `retry_after` in seconds, if told."""

    retry_after: float | None = None
    kind: ClassVar[str] = "status_429"

    async def serve(self, call: Call) -> Reply | None:
        """Refuse."""
        told = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return call.refuse(429, "rate_limited", "too many requests; this one was not executed", **told)


@dataclass(frozen=True, slots=True)
class ErrorBefore(RequestFault):
    """The venue breaks down before it acts on the request, and answers 503."""

    status: int = 503
    kind: ClassVar[str] = "error_before"

    async def serve(self, call: Call) -> Reply | None:
        """Break."""
        return call.refuse(self.status, "unavailable", "the service is unavailable")


@dataclass(frozen=True, slots=True)
class ErrorAfter(RequestFault):
    """The venue acts on the request, then breaks down and answers 503."""

    status: int = 503
    kind: ClassVar[str] = "error_after"

    async def serve(self, call: Call) -> Reply | None:
        """Act, then break."""
        await call.handle()
        return call.refuse(self.status, "unavailable", "the service is unavailable")


@dataclass(frozen=True, slots=True)
class Truncated(RequestFault):
    """The venue acts, and the reply's body is a whole message that holds half of the JSON."""

    kind: ClassVar[str] = "truncated"

    async def serve(self, call: Call) -> Reply | None:
        """Act, then say half of it."""
        reply = await call.handle()
        return reply and Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers)


@dataclass(frozen=True, slots=True)
class Garbage(RequestFault):
    """The venue acts, and something in between answers with a page that is no JSON."""

    kind: ClassVar[str] = "garbage"

    async def serve(self, call: Call) -> Reply | None:
        """Act, then say something else."""
        reply = await call.handle()
        status = 200 if reply is None or reply.status == 101 else reply.status
        return Reply(status, b"<html>\xff\xfe<body>gateway</body>", {"Content-Type": "text/html"})


@dataclass(frozen=True, slots=True)
class ExpiredCredential(RequestFault):
    """The venue says that the credential has expired, before it acts."""

    kind: ClassVar[str] = "expired_credential"

    async def serve(self, call: Call) -> Reply | None:
        """Refuse."""
        return call.refuse(401, "expired", "the credential has expired")


@dataclass(frozen=True, slots=True)
class ClockShift(RequestFault):
    """From this request on the venue's clock is off by that many seconds, to the future or the past."""

    seconds: float
    kind: ClassVar[str] = "clock_shift"

    async def serve(self, call: Call) -> Reply | None:
        """Shift, then act."""
        call.server.shift_clock(self.seconds)
        return await call.handle()


@dataclass(frozen=True, slots=True)
class Maintenance(RequestFault):
    """From this request on everything is refused with 503 and every stream closed, for that many seconds."""

    seconds: float
    kind: ClassVar[str] = "maintenance"

    async def serve(self, call: Call) -> Reply | None:
        """Begin the window."""
        call.server.maintain(self.seconds)
        return call.refuse(503, "maintenance", "the venue is under maintenance")


@dataclass(frozen=True, slots=True)
class RestartKept(RequestFault):
    """The venue goes down before it acts on this request and comes back, on its port, with all it knew."""

    kind: ClassVar[str] = "restart_kept"

    async def serve(self, call: Call) -> Reply | None:
        """Go down."""
        call.server.restart_soon(keep=True)
        return None


@dataclass(frozen=True, slots=True)
class RestartLost(RequestFault):
    """The venue goes down before it acts on this request and comes back, on its port, knowing nothing."""

    kind: ClassVar[str] = "restart_lost"

    async def serve(self, call: Call) -> Reply | None:
        """Go down."""
        call.server.restart_soon(keep=False)
        return None


@dataclass(frozen=True, slots=True)
class DuplicateFrame(FrameFault):
    """The frame is sent twice."""

    kind: ClassVar[str] = "duplicate_frame"

    def send(self, session: Session, data: str | bytes) -> None:
        """Send it twice."""
        session.emit(data)
        session.emit(data)


@dataclass(frozen=True, slots=True)
class ReorderFrames(FrameFault):
    """The frame is sent after the one that follows it."""

    kind: ClassVar[str] = "reorder_frames"

    def send(self, session: Session, data: str | bytes) -> None:
        """Hold it back."""
        session.hold_back(data)


@dataclass(frozen=True, slots=True)
class LoseFrame(FrameFault):
    """The frame is never sent; heartbeats go on."""

    kind: ClassVar[str] = "lose_frame"

    def send(self, session: Session, data: str | bytes) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class HalfOpen(FrameFault):
    """The server stops reading and writing and never closes: no frames, no answers to pings, no FIN."""

    kind: ClassVar[str] = "half_open"
    spares_heartbeats: ClassVar[bool] = False

    def send(self, session: Session, data: str | bytes) -> None:
        """Freeze."""
        session.freeze()


@dataclass(frozen=True, slots=True)
class SilentSocket(FrameFault):
    """No frame comes any more, not even heartbeats, while pings are still answered."""

    kind: ClassVar[str] = "silent_socket"
    spares_heartbeats: ClassVar[bool] = False

    def send(self, session: Session, data: str | bytes) -> None:
        """Fall silent."""
        session.mute()


@dataclass(frozen=True, slots=True)
class CutSocket(FrameFault):
    """The connection is cut instead of the frame being sent."""

    kind: ClassVar[str] = "cut_socket"
    spares_heartbeats: ClassVar[bool] = False

    def send(self, session: Session, data: str | bytes) -> None:
        """Cut."""
        session.abort()


Fault = RequestFault | FrameFault
#: Every kind by the name it has on a command line.
KINDS: dict[str, type[RequestFault] | type[FrameFault]] = {
    kind.kind: kind
    for kind in (
        DropRequest, DropReply, Delay, DelayBeyond, HangBeyond, Status429, ErrorBefore, ErrorAfter, Truncated,
        Garbage, ExpiredCredential, ClockShift, Maintenance, RestartKept, RestartLost, DuplicateFrame,
        ReorderFrames, LoseFrame, HalfOpen, SilentSocket, CutSocket,
    )
}  # fmt: skip
