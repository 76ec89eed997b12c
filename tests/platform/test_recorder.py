"""The flight recorder: what is written is read back, minus secrets, whatever happened to the file."""

from __future__ import annotations

import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mts1b_brokers_core.foundation.errors import RecordingError
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.recorder import (
    Frame,
    Recorder,
    next_exchange,
    read_header,
    read_recording,
)
from mts1b_brokers_core.platform.security import REDACTED, register_secret

START = datetime(2026, 3, 2, 14, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(START)


def a_frame(body: bytes = b"hello", **head: str) -> Frame:
    return Frame("out", "http", "request", next_exchange(), head, body)


def record(path: Path, clock: SteppedClock, *frames: Frame) -> None:
    recorder = Recorder(path, clock, source="loopback", licence="CC0-1.0")
    for frame in frames:
        recorder(frame)
    recorder.close()


words = st.text(max_size=40)
frames = st.builds(
    Frame,
    direction=st.sampled_from(["out", "in"]),
    channel=st.sampled_from(["http", "ws", "tcp"]),
    kind=st.sampled_from(["request", "response", "message", "open", "close", "error"]),
    exchange=st.integers(0, 10**9),
    head=st.dictionaries(st.sampled_from(["method", "target", "status", "header:Date", "header:X-Y"]), words),
    body=st.one_of(st.binary(max_size=60), words.map(str.encode)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(frames, max_size=6))
def test_what_is_written_is_read_back(tmp_path: Path, clock: SteppedClock, seen: list[Frame]) -> None:
    path = tmp_path / "law.jsonl"
    path.unlink(missing_ok=True)
    record(path, clock, *seen)
    read = list(read_recording(path))
    names = ("direction", "channel", "kind", "exchange", "head", "body")
    assert [[getattr(row, name) for name in names] for row in read] == [
        [getattr(row, name) for name in names] for row in seen
    ]
    assert all(row.at == START for row in read)


@pytest.mark.parametrize("body", [b'{"key": "hunter-2-hunter"}', b"\xff\xfe hunter-2-hunter \xff"])
def test_secrets_are_in_no_part_of_a_line(tmp_path: Path, clock: SteppedClock, body: bytes) -> None:
    register_secret("hunter-2-hunter")
    path = tmp_path / "secret.jsonl"
    target = "https://x.test/v1/orders?signature=abcdef123456&symbol=BTC-USD"
    frame = a_frame(
        body, target=target, **{"header:Authorization": "Bearer deadbeefcafe", "header:Date": "today"}
    )
    record(path, clock, frame)
    (row,) = read_recording(path)
    for secret in (b"hunter-2-hunter", b"abcdef123456", b"deadbeefcafe"):
        assert secret not in path.read_bytes()
        assert secret not in row.body
    assert REDACTED.encode() in row.body
    assert row.head["header:Date"] == "today"
    assert "symbol=BTC-USD" in row.head["target"]


def test_a_token_that_arrives_in_a_reply_is_not_kept(tmp_path: Path, clock: SteppedClock) -> None:
    path = tmp_path / "token.jsonl"
    record(path, clock, a_frame(b'{"access_token": "unseen-before-1234", "expires_in": 3600}'))
    (row,) = read_recording(path)
    assert b"unseen-before-1234" not in row.body
    assert b"3600" in row.body


def test_text_is_readable_and_the_file_is_for_its_owner_alone(tmp_path: Path, clock: SteppedClock) -> None:
    path = tmp_path / "wide.jsonl"
    path.touch(0o644)
    record(path, clock, a_frame('{"price": "1.10", "note": "naïve"}'.encode()), a_frame(b"\x80\x81"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    header, text, binary = map(json.loads, path.read_text().splitlines())
    assert header == {"format": "mts1b-recording", "version": 1, "source": "loopback", "licence": "CC0-1.0"}
    assert text["body"] == '{"price": "1.10", "note": "naïve"}'
    assert text["at"] == "2026-03-02T14:30:00.123456+00:00"
    assert (binary["encoding"], binary["body"]) == ("base64", "gIE=")
    assert read_header(path).licence == "CC0-1.0"


def test_a_second_recorder_goes_on_in_the_same_file(tmp_path: Path, clock: SteppedClock) -> None:
    path = tmp_path / "again.jsonl"
    record(path, clock, a_frame(b"one"))
    record(path, clock, a_frame(b"two"))
    assert [row.body for row in read_recording(path)] == [b"one", b"two"]


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_crash_costs_the_last_line_only(
    tmp_path: Path, clock: SteppedClock, caplog: pytest.LogCaptureFixture, left: int
) -> None:
    path = tmp_path / "cut.jsonl"
    record(path, clock, a_frame(b"one"), a_frame(b"x" * 200_000))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + lines[2][:left])
    with caplog.at_level(logging.WARNING):
        assert [row.body for row in read_recording(path)] == [b"one"]
    assert "line 3 was cut off" in caplog.text
    record(path, clock, a_frame(b"three"))
    assert [row.body for row in read_recording(path)] == [b"one", b"three"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"not json", "line 3 is not a frame"),
        (b"[]", "line 3 is not a frame"),
        (b'{"at": "2026-03-02T14:30:00", "direction": "out"}', "line 3 is not a frame"),
    ],
)
def test_garbage_is_named_by_its_line(tmp_path: Path, clock: SteppedClock, line: bytes, says: str) -> None:
    path = tmp_path / "garbage.jsonl"
    record(path, clock, a_frame(b"one"))
    path.write_bytes(path.read_bytes() + line + b"\n")
    rows = read_recording(path)
    assert next(rows).body == b"one"
    with pytest.raises(RecordingError, match=says):
        next(rows)


@pytest.mark.parametrize(
    "content", [b"precious words\n", b'{"format": "mts1b-recording", "version": 2}\n', b"{}"]
)
def test_a_file_that_is_no_recording_is_left_as_it_is(
    tmp_path: Path, clock: SteppedClock, content: bytes
) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="line 1"):
        Recorder(path, clock)
    assert path.read_bytes() == content
    with pytest.raises(RecordingError, match="line 1"):
        list(read_recording(path))


def test_a_folder_that_is_not_there_is_said_at_once(tmp_path: Path, clock: SteppedClock) -> None:
    with pytest.raises(RecordingError, match="can't be written"):
        Recorder(tmp_path / "nowhere" / "x.jsonl", clock)


def test_a_full_disk_never_reaches_whoever_sends(
    tmp_path: Path, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path / "full.jsonl", clock)
    assert recorder._fd is not None
    with open("/dev/full", "wb", buffering=0) as full:
        os.dup2(full.fileno(), recorder._fd)
    with caplog.at_level(logging.ERROR):
        recorder(a_frame(b"one"))
        recorder(a_frame(b"two"))
    assert caplog.text.count("the recording ends here") == 1
