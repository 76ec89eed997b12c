"""A flight recording as a server: what the venue said then, to whoever asks the same again."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import RecordingError
from mts1b_brokers_core.foundation.plugin import SimulatorOptions
from mts1b_brokers_core.platform.recorder import Recorded, read_recording
from mts1b_brokers_core.platform.security import REDACTED, redact

from .http import HttpServer
from .messages import Declined, Reply, Request
from .routes import Handler, Routes, Upgrade
from .websocket import Socket

#: Methods whose last reply may be given again: they change nothing.
_READS = ("GET", "HEAD")
#: Headers that are about a reply's way here, and not about the reply.
_OF_THE_WAY = {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}
#: Dates, times and seconds (or finer) since 1970: whoever asks again asks at another time.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?|1\d{9}(\.\d+)?|1\d{12}|1\d{15}|1\d{18}")
#: How the end of a socket is recorded where the venue said goodbye.
_GOODBYE = re.compile(r".*?: (?P<code>\d+), [^(]*(?:\((?P<words>.*)\))?", re.DOTALL)


@dataclass(slots=True)
class Exchange:
    """One recorded request: how it began, and how it ended, None where the recording ends first."""

    words: str
    request: Recorded
    end: Recorded | None = None
    #: Where in the recording that was.
    begun: int = 0
    ended: int = 0
    played: bool = False
    #: True where nobody asked for it when it was its turn: nothing waits for it any more.
    waived: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One frame of a socket, where in the recording it is, and how many messages had been sent by then."""

    frame: Recorded
    at: int
    sent: int


@dataclass(slots=True)
class Stream:
    """One recorded socket; `played` counts its steps."""

    words: str
    steps: list[Step] = field(default_factory=list)
    sent: int = 0
    #: True where the client itself ended it.
    left: bool = False
    begun: bool = False
    played: int = 0


class ReplayServer(HttpServer):
    """Plays a recording to a client that does again what the recorded one did; who asks is not checked.

    A request is known by method, path and query, without the parameters that the recording doesn't show;
    moments in the query may differ. The first of a line gets its first recorded reply, and so on; a read
    beyond the last, or before messages that had come before it then, gets the last again; a write beyond
    the last, and what was never recorded, is refused with 404 and noted in `unmatched`. Bodies that differ
    are answered all the same and noted in `differences`. What was cut or timed out then is cut.

    The nth socket of a line gets what the nth recorded one got, each message once the client has done what
    the recorded one had done by then: sent as much, and asked for as much. Where it asks for nothing
    recorded for `patience` seconds, the message comes all the same, and reads that were left out are
    passed over; each time in vain halves that. Text is sent as text, what is not UTF-8 as bytes.

    Raises `RecordingError` for what is no recording of HTTP and WebSockets, or holds nothing.
    """

    def __init__(
        self, path: Path, options: SimulatorOptions | None = None, *, clock: Clock | None = None,
        patience: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(options, clock=clock)
        self.path = path
        #: Requests and sockets that were not recorded, or not as often, each with what was expected.
        self.unmatched: list[str] = []
        #: Bodies that were not as recorded, field by field.
        self.differences: list[str] = []
        self._tape = Tape(path)
        self.routes = _Recorded(self)
        self._patience = patience
        self._turn = asyncio.Event()
        self._players: set[Player] = set()
        self._waiting = 0
        self._left = self._tape.incoming
        self._finished = asyncio.Event()
        if not self._left:
            self._finished.set()

    @property
    def settings(self) -> Mapping[str, str]:
        """How the server is reached; `ws_url` names the first recorded socket."""
        first = self._tape.streams[0].words.partition("?")[0] if self._tape.streams else ""
        return {**super().settings, "ws_url": f"{self.ws_url}{first}"}

    @property
    def writes(self) -> list[str]:
        """The recorded requests that are no reads, in order, with their bodies; redacted."""
        rows = [row for row in self._tape.exchanges if row.request.head["method"] not in _READS]
        return [redact(f"{row.words} {row.request.body.decode('utf-8', 'replace')}".rstrip()) for row in rows]

    @property
    def unplayed(self) -> list[str]:
        """What was recorded and has not been asked for yet, in order."""
        rows = [row.words for row in self._tape.exchanges if row.end is not None and not row.played]
        left = [(row.words, len(row.steps) - row.played) for row in self._tape.streams]
        return rows + [f"{words}: {count} of its frames" for words, count in left if count]

    async def finished(self) -> None:
        """Wait until every recorded incoming frame was played."""
        await self._finished.wait()

    async def quiet(self, seconds: float) -> None:
        """Wait until no recorded frame was played, and none had to wait, for so long."""
        seen = -1
        while seen != self._left or self._waiting:
            seen = self._left
            await self.clock.sleep(seconds)

    def dress(self, request: Request, reply: Reply) -> None:
        """Leave the reply as it was, without a date of today."""

    # --- requests -------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply | None:
        """Answer a request as it was answered then, after the messages that had come before the answer."""
        row = self._chosen(request, self._tape.alike(request))
        if not row.played:
            row.played = True
            self.went_on(played=row.end is not None)
            await self._patiently(lambda: self._due() > row.ended)
        if differing := ", ".join(_differences(row.request.body, request.body)):
            self.differences.append(redact(f"{row.words}: {differing}"))
        end = row.end
        if end is None or not _told(row):
            return None
        headers = {name.removeprefix("header:").title(): value for name, value in end.head.items()}
        kept = {
            name: value for name, value in headers.items() if name.lower() not in _OF_THE_WAY | {"status"}
        }
        return Reply(int(end.head["status"]), end.body, kept)

    def _chosen(self, request: Request, rows: list[Exchange]) -> Exchange:
        """Return the recorded exchange that a request repeats; reads never go back. Raises `Declined`."""
        coming = [row for row in rows if not row.played]
        if request.method not in _READS:
            if not coming:
                raise self._unknown(request, len(rows))
            return coming[0]
        played = [at for at, row in enumerate(rows) if row.played]
        due = self._due()
        now = [row for row in rows[played[-1] + 1 if played else 0 :] if row.begun < due]
        if now:
            return next((row for row in now if not row.waived), now[-1])
        before = [rows[at] for at in played]
        if not (before or coming):
            raise self._unknown(request, 0)
        return next((row for row in reversed(before) if _told(row)), before[-1]) if before else coming[0]

    def _due(self) -> float:
        """Return where in the recording the next frame of an open socket is."""
        return min((player.due for player in self._players), default=math.inf)

    def _unknown(self, request: Request, count: int, as_what: str = "") -> Declined:
        coming = [row.words for row in self._tape.exchanges if not row.played][:3]
        words = redact(f"{request.method} {request.target.decode('latin-1')}")
        times = {0: "never", 1: "once"}.get(count, f"{count} times")
        told = f"{words}: recorded {as_what}{times}; expected {' or '.join(coming) or 'nothing more'}"
        self.unmatched.append(told)
        return Declined(404, "not_recorded", told)

    # --- sockets --------------------------------------------------------------------------------------

    def next_stream(self, request: Request) -> Stream | None:
        """Return the recorded socket that a new one is, None where all of its line were played."""
        return next((row for row in self._tape.sockets(request) if not row.begun), None)

    def open(self, socket: Socket, request: Request) -> Player:
        """Play a socket."""
        stream = self.next_stream(request)
        assert stream is not None
        player = Player(self, socket, stream)
        self._players.add(player)
        return player

    def left(self, player: Player) -> None:
        """Let go of a socket that is gone."""
        self._players.discard(player)

    def refuse_socket(self, request: Request) -> Reply | None:
        """Cut a socket that could not be opened then, and refuse one that never was."""
        stream = self.next_stream(request)
        if stream is None:
            raise self._unknown(request, len(self._tape.sockets(request)), "as a socket ")
        stream.begun = True
        return None

    # --- turns ----------------------------------------------------------------------------------------

    def went_on(self, *, played: bool) -> None:
        """Let those who wait look again: the client did what the recorded one had done."""
        self._turn.set()
        self._turn = asyncio.Event()
        self._left -= played
        if not self._left:
            self._finished.set()

    async def may_follow(self, step: Step, player: Player) -> None:
        """Wait until the client has done what came before a step, or seems not to be about to."""
        ready = lambda: player.heard >= step.sent and self._tape.asked_for() >= step.at  # noqa: E731
        if not await self._patiently(ready):
            self._tape.waive(step.at)

    async def _patiently(self, ready: Callable[[], bool]) -> bool:
        """Wait for something; False where nothing recorded happens for too long."""
        self._waiting += 1
        try:
            while not ready():
                async with self.clock.timeout(self._patience):
                    await self._turn.wait()
        except TimeoutError:
            self._patience /= 2
            return False
        finally:
            self._waiting -= 1
        return True


class Player:
    """One open socket: sends what the recorded one got."""

    def __init__(self, server: ReplayServer, socket: Socket, stream: Stream) -> None:
        self.heard = 0
        self._server, self._socket, self._stream = server, socket, stream
        stream.begun = True
        self._task = server.spawn(self._play())

    def received(self, data: Any) -> None:
        """Count a message."""
        self.heard += 1
        if self.heard <= self._stream.sent:
            self._server.went_on(played=False)

    def closed(self) -> None:
        """End with the connection."""
        self._task.cancel()
        self._server.left(self)

    @property
    def due(self) -> float:
        """Where in the recording its next frame is."""
        steps, played = self._stream.steps, self._stream.played
        return steps[played].at if played < len(steps) else math.inf

    async def _play(self) -> None:
        for step in self._stream.steps:
            await self._server.may_follow(step, self)
            self._stream.played += 1
            if step.frame.kind == "message":
                self._socket.send(_message(step.frame.body))
            elif not self._stream.left:
                self._end(step.frame.body.decode("utf-8", "replace"))
            self._server.went_on(played=True)

    def _end(self, words: str) -> None:
        said = _GOODBYE.fullmatch(words)
        if said is None:
            self._socket.abort()
        else:
            self._socket.close(int(said["code"]), said["words"] or "")


class _Recorded(Routes):
    """Every method of every path leads to the tape."""

    def __init__(self, server: ReplayServer) -> None:
        super().__init__()
        self._server = server

    def find(self, request: Request) -> Handler | Upgrade:
        if request.headers.get("upgrade", "").lower() != "websocket":
            return self._server.answer
        stream = self._server.next_stream(request)
        return self._server.refuse_socket if stream is None or _failed(stream) else Upgrade(self._server.open)


class Tape:
    """A recording, sorted into requests and sockets. Raises `RecordingError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.exchanges: list[Exchange] = []
        self.streams: list[Stream] = []
        #: What stands where the recording shows a secret: parameters by name, paths by pattern.
        self._hidden: set[str] = set()
        self._paths: dict[str, re.Pattern[str]] = {}
        open_exchanges: dict[int, Exchange] = {}
        open_streams: dict[int, Stream] = {}
        try:
            frames = list(read_recording(path))
        except OSError as error:
            raise self._problem(f"can't be read: {error.strerror}") from None
        self._length = len(frames)
        for at, frame in enumerate(frames):
            try:
                if frame.channel == "http":
                    self._take_http(frame, at, open_exchanges)
                elif frame.channel == "ws":
                    self._take_ws(frame, at, open_streams)
                else:
                    raise self._problem(f"holds {frame.channel} frames, which can't be replayed")
            except (KeyError, ValueError) as error:
                if isinstance(error, RecordingError):
                    raise
                what = f"its frame {at + 1}, a {frame.kind} of {frame.channel}, doesn't fit: {error!r}"
                raise self._problem(what) from None
        if not (self.exchanges or self.streams):
            raise self._problem("holds no frames: there is nothing to replay")
        self._by_line: dict[str, list[Exchange]] = {}
        for row in self.exchanges:
            method = row.request.head["method"]
            for line in {
                self._line(method, row.words.partition(" ")[2], exact=exact) for exact in (True, False)
            }:
                self._by_line.setdefault(line, []).append(row)
        self._sockets: dict[str, list[Stream]] = {}
        for stream in self.streams:
            self._sockets.setdefault(self._line("", stream.words), []).append(stream)
        self._next = 0

    def _take_http(self, frame: Recorded, at: int, open_exchanges: dict[int, Exchange]) -> None:
        if frame.kind == "request":
            target = self._target(frame.head["target"])
            row = open_exchanges[frame.exchange] = Exchange(
                f"{frame.head['method']} {target}", frame, begun=at
            )
            self.exchanges.append(row)
        else:
            row = open_exchanges.pop(frame.exchange)
            row.end, row.ended = frame, at
            if _told(row):
                int(frame.head["status"])

    def _take_ws(self, frame: Recorded, at: int, open_streams: dict[int, Stream]) -> None:
        if frame.kind == "open":
            stream = open_streams[frame.exchange] = Stream(self._target(frame.head["target"]))
            self.streams.append(stream)
            return
        stream = open_streams[frame.exchange]
        if frame.direction == "in":
            stream.steps.append(Step(frame, at, stream.sent))
        elif frame.kind == "close":
            stream.left = True
        else:
            stream.sent += 1

    def _target(self, url: str) -> str:
        """Return path and query of a recorded address, and remember what it hides."""
        _, slashes, rest = url.partition("://")
        if not slashes:
            raise ValueError(f"the address {url}")
        target = rest[rest.index("/") :] if "/" in rest else "/"
        path, _, query = target.partition("?")
        if REDACTED in path:
            self._paths[path] = re.compile("[^/]*".join(map(re.escape, path.split(REDACTED))))
        self._hidden |= {
            name for name, value in parse_qsl(query, keep_blank_values=True) if REDACTED in value
        }
        return target

    def _line(self, method: str, target: str, *, exact: bool = False) -> str:
        """Return what two requests that are the same have in common."""
        path, _, query = target.partition("?")
        path = next((known for known, like in self._paths.items() if like.fullmatch(path)), path)
        pairs = [
            f"{name}={'(a moment)' if not exact and _MOMENT.fullmatch(value) else value}"
            for name, value in sorted(parse_qsl(query, keep_blank_values=True))
            if name not in self._hidden
        ]
        return f"{method} {path} {'&'.join(pairs)}"

    def alike(self, request: Request) -> list[Exchange]:
        """Return the recorded exchanges of a request's line, to the letter if there are any."""
        target = request.target.decode("latin-1")
        lines = [self._line(request.method, target, exact=exact) for exact in (True, False)]
        return next((self._by_line[line] for line in lines if line in self._by_line), [])

    def sockets(self, request: Request) -> list[Stream]:
        """Return the recorded sockets of a request's line."""
        return self._sockets.get(self._line("", request.target.decode("latin-1")), [])

    def asked_for(self) -> int:
        """Return up to where in the recording everything was asked for again, or waived."""
        rows = self.exchanges
        while self._next < len(rows) and (rows[self._next].played or rows[self._next].waived):
            self._next += 1
        return rows[self._next].begun if self._next < len(rows) else self._length

    def waive(self, at: int) -> None:
        """Wait no more for what had been asked for by then."""
        for row in self.exchanges[self._next :]:
            if row.begun < at:
                row.waived = True

    @property
    def incoming(self) -> int:
        """How many incoming frames there are."""
        answers = sum(row.end is not None for row in self.exchanges)
        return answers + sum(len(row.steps) for row in self.streams)

    def _problem(self, what: str) -> RecordingError:
        return RecordingError(
            f"{self._path}: {what}.", next_step="name a file that a broker wrote with record=FILE"
        )


def _told(row: Exchange) -> bool:
    """True where the venue answered at all."""
    return row.end is not None and row.end.kind == "response"


def _failed(stream: Stream) -> bool:
    """True where a recorded socket was never open."""
    return not (stream.steps or stream.sent)


def _message(body: bytes) -> str | bytes:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body


def _differences(recorded: bytes, given: bytes) -> Iterator[str]:
    """Name the fields that differ, except what the recording hides and moments."""
    if recorded == given:
        return
    then, now = _fields(recorded), _fields(given)
    for name in {**then, **now}:
        before, after = then.get(name, "nothing"), now.get(name, "nothing")
        moments = _MOMENT.fullmatch(before) and _MOMENT.fullmatch(after)
        if before != after and REDACTED not in before and not moments:
            yield f"{name or 'the body'} is {after}, was {before}"


def _fields(body: bytes) -> dict[str, str]:
    """Return a body's fields as text, whether it is JSON or a form; any other is one field without a name."""
    text = body.decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except ValueError:
        pairs = parse_qsl(text, keep_blank_values=True) if "=" in text else [("", text)]
        return dict(pairs)
    if not isinstance(data, dict):
        return {"": json.dumps(data)}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in data.items()}
