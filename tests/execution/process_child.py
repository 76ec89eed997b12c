"""A process that trades on the scripted venue of another one: it does as its standard input says."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from scripted import Scripted, Venue, buy

from mts1b_brokers_core.foundation.errors import OrderError
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.platform.clock import RealClock


class Remote(Scripted):
    """The adapter: hands every operation to the process that has the venue."""

    address = ""

    async def _ask(self, operation: str, *values: Any) -> Any:
        reader, writer = await asyncio.open_unix_connection(self.address)
        try:
            writer.write(pickle.dumps((operation, values)))
            writer.write_eof()
            return pickle.loads(await reader.read())
        finally:
            writer.close()
            await writer.wait_closed()

    async def frames(self) -> AsyncIterator[Any]:
        while True:
            yield await self._ask("frame")


def _hand_on(name: str) -> Any:
    async def operation(self: Remote, *values: Any) -> Any:
        return await self._ask(name, *values)

    return operation


for name in (
    "place",
    "cancel_one",
    "find",
    "read",
    "open_orders",
    "positions",
    "executions",
    "executions_of",
):
    setattr(Remote, name, _hand_on(name))


async def obey(address: str, journal: Path) -> None:
    """Do what each line says, and say how it ended."""
    Remote.address = address
    services = Services("scripted", "simulator", RealClock(), journal)
    broker = Remote(Venue(RealClock()), BrokerSettings(resend_within=0.4), services)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with broker:
        say(leads=broker._leader.leads)
        async for line in lines:
            word, *rest = json.loads(line)
            try:
                say(answer=await done(broker, word, *rest))
            except OrderError as error:
                say(error=type(error).__name__, reason=getattr(error, "reason", None))


async def done(broker: Remote, word: str, *rest: str) -> Any:
    if word == "submit":
        orders = [buy(idempotency_key=key) for key in rest]
        placed = await asyncio.gather(*(broker.submit(order) for order in orders))
        return {order.idempotency_key: order.broker_order_id for order in placed}
    if word == "halt":
        return await broker.halt(*rest)
    if word == "fills":
        seen = broker.stream_fills(since=0)
        return [(await anext(seen)).fill_id for _ in range(int(rest[0]))]
    raise ValueError(word)


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(obey(sys.argv[1], Path(sys.argv[2])))
