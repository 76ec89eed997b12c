"""Several real processes on one journal: one venue order per key, one that leads, all of one mind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from scripted import Script, Scripted, Venue, first, waits

from mts1b_brokers_core.platform.clock import RealClock

KEYS = [f"k{number}" for number in range(6)]


class Served:
    """The venue, served to other processes, and those processes."""

    def __init__(self, folder: Path) -> None:
        self.venue = Venue(RealClock())
        self.folder = folder
        self.address = str(folder / "venue")
        self.children: list[Child] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            operation, values = pickle.loads(await reader.read())
            ours = getattr(Scripted, operation, None)
            answer = await (ours(self, *values) if ours else self.venue.frames.get())
            writer.write(pickle.dumps(answer))
            await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _visible(self) -> Any:
        return self.venue.fills

    async def start(self, count: int) -> list[Child]:
        """Start processes one after the other, so that the first leads."""
        for _ in range(count):
            child = Child(await self._spawn())
            self.children.append(child)
            child.leads = (await child.hear())["leads"]
        return self.children

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, Path(__file__).with_name("process_child.py"), self.address,
            self.folder / "state" / "journal.db",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip


class Child:
    """One process, and what it says."""

    leads = False

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def hear(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(6):
            return json.loads(await self.process.stdout.readline())

    def tell(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")

    async def ask(self, *words: str) -> Any:
        self.tell(*words)
        return await self.hear()

    async def end(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(served.answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(accept, served.address)
    yield served
    for child in served.children:
        await child.end()
    server.close()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def test_four_processes_share_keys_a_leader_and_a_halt(served: Served) -> None:
    venue = served.venue
    children = await served.start(4)
    assert [child.leads for child in children] == [True, False, False, False]

    for child in children:
        child.tell("submit", *KEYS)
    answers = [(await child.hear())["answer"] for child in children]
    assert all(answer == answers[0] for answer in answers)
    assert sorted(answers[0]) == KEYS
    assert sorted(row.order.idempotency_key for row in venue.book.values()) == KEYS

    leader, *others = children
    venue.fill("V1", "0.5")
    assert (await others[0].ask("fills", "1"))["answer"] == ["E1"]  # a follower reads what the leader wrote
    leader.process.kill()
    await leader.process.wait()
    venue.fill("V1", "0.5", push=False)
    venue.fill("V2", "1", push=False)
    for child in others:
        assert (await child.ask("fills", "3"))["answer"] == ["E1", "E2", "E3"]

    await others[0].ask("halt", "enough")
    for child in others:
        assert await child.ask("submit", "k9") == {"error": "OrderDenied", "reason": "halted"}
    assert (await others[2].ask("submit", "k0"))["answer"] == {"k0": answers[0]["k0"]}
    assert len(venue.book) == len(KEYS)


async def test_a_leader_that_is_stopped_is_not_dead(served: Served) -> None:
    venue = served.venue
    leader, other = await served.start(2)
    gate, sent = asyncio.Event(), asyncio.Event()
    slow: Script = first(lambda ticket: sent.set(), waits(gate))
    venue.place_next.append(slow)
    leader.tell("submit", "k0")
    await sent.wait()
    leader.process.send_signal(signal.SIGSTOP)
    gate.set()
    # The order is at the venue by now, but only the stopped process may say so: nobody sends it again.
    assert (await other.ask("submit", "k0"))["error"] == "OutcomeUnknown"
    assert (await other.ask("submit", "k1"))["answer"]["k1"]
    leader.process.send_signal(signal.SIGCONT)
    answer = (await leader.hear())["answer"]
    assert (await other.ask("submit", "k0"))["answer"] == answer
    assert sorted(row.order.idempotency_key for row in venue.book.values()) == ["k0", "k1"]
    assert len(venue.placed) == 2
