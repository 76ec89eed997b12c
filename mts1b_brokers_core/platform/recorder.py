"""The flight recorder: what went over the wire, as lines of JSON without secrets, and its one reader."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import RecordingError

from .security import redact

_log = logging.getLogger("mts1b_brokers")

FORMAT = "mts1b-recording"
VERSION = 1

Direction = Literal["out", "in"]
Kind = Literal["request", "response", "message", "open", "close", "error"]

_exchanges = itertools.count(1)


def next_exchange() -> int:
    """Return a number for one request and its response, or for one socket and its messages."""
    return next(_exchanges)


@dataclass(frozen=True, slots=True)
class Frame:
    """One piece of traffic.

    `channel` is http, ws or tcp. `head` holds method, target or status, and headers as `header:NAME`.
    """

    direction: Direction
    channel: str
    kind: Kind
    exchange: int
    head: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Recorded(Frame):
    """A frame as a recording holds it, with the time it was written, aware UTC."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Header:
    """A recording's first line: where its payloads come from, and under which licence they may be kept."""

    version: int
    source: str
    licence: str


#: Takes each frame as it passes; the http and websocket clients build frames only for a tap.
Tap = Callable[[Frame], None]


class Recorder:
    """A tap that appends redacted frames to a file of mode 0600, one a line; a crash costs at most the last.

    Raises `RecordingError` when built on a file that is not a recording or can't be opened. While it
    records it never raises: the first failure is logged and ends the recording.
    """

    def __init__(self, path: Path, clock: Clock, *, source: str = "", licence: str = "") -> None:
        self._path = path
        self._clock = clock
        self._fd: int | None = None
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._fd).st_size:
                read_header(path)
                _cut_incomplete_line(self._fd)
            else:
                head = {"format": FORMAT, "version": VERSION, "source": source, "licence": licence}
                self._write(head)
            os.fchmod(self._fd, 0o600)
        except OSError as error:
            self.close()
            raise _problem(path, f"can't be written: {error.strerror}") from error
        except RecordingError:
            self.close()
            raise

    def __call__(self, frame: Frame) -> None:
        """Write one frame."""
        if self._fd is None:
            return
        try:
            self._write({"at": self._clock.now().isoformat(timespec="microseconds"), **_line(frame)})
        # Whoever sends an order must not fail because it could not be written down; nor go unredacted.
        except Exception as error:  # noqa: BLE001
            self.close()
            _log.error("%s: the recording ends here: %s", self._path, error)

    def close(self) -> None:
        """Close the file; later frames are left out."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, row: Mapping[str, object]) -> None:
        assert self._fd is not None
        line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
        if os.write(self._fd, line) != len(line):
            raise OSError("a line could not be written whole")


def read_header(path: Path) -> Header:
    """Return a recording's first line. Raises `RecordingError`."""
    with path.open("rb") as file:
        return _header(path, file.readline())


def read_recording(path: Path) -> Iterator[Recorded]:
    """Iterate over a recording's frames; a last line that a crash cut off is logged and left out.

    Raises `RecordingError`, with the number of the line, for what is not one.
    """
    with path.open("rb") as file:
        _header(path, file.readline())
        for number, line in enumerate(file, 2):
            if not line.endswith(b"\n"):
                _log.warning("%s: line %d was cut off while it was written", path, number)
                return
            try:
                yield _recorded(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _problem(path, f"line {number} is not a frame: {error!r}") from error


def _header(path: Path, line: bytes) -> Header:
    try:
        row = json.loads(line)
        ours, header = row["format"] == FORMAT, Header(row["version"], row["source"], row["licence"])
    except (ValueError, KeyError, TypeError) as error:
        raise _problem(path, "line 1 is not a recording's header") from error
    if not ours or header.version != VERSION:
        raise _problem(
            path, f"line 1 announces {row['format']} {header.version}, expected {FORMAT} {VERSION}"
        )
    return header


def _line(frame: Frame) -> dict[str, object]:
    head = {name: _head_value(name, value) for name, value in frame.head.items()}
    row: dict[str, object] = {
        "direction": frame.direction, "channel": frame.channel, "kind": frame.kind,
        "exchange": frame.exchange, "head": head,
    }  # fmt: skip
    try:
        row["body"] = redact(frame.body.decode("utf-8"))
    except UnicodeDecodeError:
        row |= {"body": base64.b64encode(redact(frame.body)).decode("ascii"), "encoding": "base64"}
    return row


def _head_value(name: str, value: str) -> str:
    """Redact by the header's own name, which the prefix would hide."""
    return redact({name.removeprefix("header:"): value})[name.removeprefix("header:")]


def _recorded(row: Any) -> Recorded:
    at, body, encoding = datetime.fromisoformat(row["at"]), row["body"], row.get("encoding")
    if at.tzinfo is None or row["direction"] not in get_args(Direction) or row["kind"] not in get_args(Kind):
        raise ValueError("a time without zone, an unknown direction or an unknown kind")
    if encoding not in (None, "base64"):
        raise ValueError(f"the encoding {encoding!r}")
    return Recorded(
        direction=row["direction"],
        channel=str(row["channel"]),
        kind=row["kind"],
        exchange=int(row["exchange"]),
        head={str(name): str(value) for name, value in row["head"].items()},
        body=base64.b64decode(body, validate=True) if encoding else body.encode("utf-8"),
        at=at.astimezone(UTC),
    )


def _cut_incomplete_line(fd: int) -> None:
    """Take away what a crash left of its last line, so that the next one begins where it ought to."""
    size = end = os.fstat(fd).st_size
    while end:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(fd, end)


def _problem(path: Path, what: str) -> RecordingError:
    return RecordingError(
        f"{path}: {what}.", next_step="name a file of its own, or a recording made by this library"
    )
