"""What a client's observers get of each reply: the recording, and whoever heeds what headers tell."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import httpx
import pytest
from http_kit import CLOSE, Server, reply, talking

from mts1b_brokers_core.foundation.errors import ReplyLost
from mts1b_brokers_core.platform.clock import RealClock
from mts1b_brokers_core.platform.http import raw_request, send_raw
from mts1b_brokers_core.platform.recorder import Recorder, read_recording
from mts1b_brokers_core.platform.security import REDACTED


@pytest.fixture(params=[False, True], ids=["lean", "stock"])
def stock(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def left(count: int, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nX-Left: %d\r\nContent-Length: 0\r\n\r\n" % (status, count)


async def test_every_reply_is_told_of_however_it_was_asked_for(stock: bool) -> None:
    told: list[tuple[int, str]] = []

    def heed(response: httpx.Response) -> None:
        told.append((response.status_code, response.headers["X-Left"]))

    server = Server(left(5), left(4, b"503 Busy"), left(3), left(2, b"422 No"), [CLOSE])
    async with talking(server, stock, on_reply=heed, retries=1) as client:
        await client.get("/a")
        await client.get("/b")  # repeated once
        url = str(client.base_url).rstrip("/")
        for _ in range(2):
            request = raw_request("POST", url, target=b"/c", headers={}, body=b"{}")
            if len(told) < 4:
                assert (await send_raw(client, request)).status_code == 422
            else:
                with pytest.raises(ReplyLost):
                    await send_raw(client, request)
    assert told == [(200, "5"), (503, "4"), (200, "3"), (422, "2")]


async def test_a_compressed_secret_is_not_recorded_either(stock: bool, tmp_path: Path) -> None:
    said = json.dumps({"access_token": "s3cr3t-of-the-venue", "expires": 60}).encode()
    packed = gzip.compress(said)
    script = reply(packed, b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed))
    recorder = Recorder(tmp_path / "tape.jsonl", RealClock())
    async with talking(Server(script), stock, tap=recorder) as client:
        assert (await client.get("/token")).json()["access_token"] == "s3cr3t-of-the-venue"
    recorder.close()
    (_, answer) = read_recording(tmp_path / "tape.jsonl")
    assert json.loads(answer.body) == {"access_token": REDACTED, "expires": 60}
    assert "header:Content-Encoding" not in answer.head
