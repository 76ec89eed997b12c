"""Holds journal, fill log and consumers against the venue's own books, when all is over."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from death_venue import Books, VenueOrder, VenueProcess
from death_victim import Scene, facts, keep, kind_of, order_for, place
from mts1b_broker_reference.client import ReferenceClient

from mts1b_brokers_core.execution import journal
from mts1b_brokers_core.execution.journal import State
from mts1b_brokers_core.foundation import Fill, FillKind, Order

#: Seconds until everything that heals by itself must have healed.
_PATIENCE = 8.0
_ROUNDING = Decimal("1e-12")


def logged(path: Path) -> list[Fill]:
    """Return the fill log as it lies on disk."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute('SELECT body FROM log WHERE fill_id IS NOT NULL ORDER BY "offset"')
        return [Fill.model_validate_json(row[0]) for row in rows]


def _cumulative(broker: ReferenceClient) -> bool:
    return broker.profile.fill_identity == "cumulative"


async def _say(venue: VenueProcess, broker: ReferenceClient, order: Order) -> None:
    """Be the person who says which of two equal orders is ours."""
    record = broker._login.record(order.idempotency_key)
    if record is not None and record.state is State.AMBIGUOUS:
        first = next(row for row in venue.books().orders if row.quantity == order.quantity)
        await broker.resolve(order.idempotency_key, first.id)


async def complaints(
    venue: VenueProcess, broker: ReferenceClient, path: Path, scene: Scene, asked: list[int], patience: float
) -> list[str]:
    """Say where journal and log are not as the venue's books are, once what heals by itself has healed."""
    waited = 0.0
    while True:
        busy = venue.ask("fill_all")
        books, fills = venue.books(), logged(path)
        found = differences(books, fills, cumulative=_cumulative(broker))
        found += fee_differences(books, fills, broker)
        found += _keys(broker, books, scene, asked)
        if waited > patience or not (found or busy):
            return found
        waited += 0.03
        await broker.clock.sleep(0.03)


async def judge(
    venue: VenueProcess, folder: Path, scene: Scene, *, patience: float = _PATIENCE
) -> tuple[list[str], dict[str, int]]:
    """Open the journal once more, ask for every key again, and say what doesn't agree."""
    path, state = folder / "journal", folder / "state"
    venue.ask("clear")
    venue.ask("market", False)
    asked = sorted({fact["asked"] for fact in facts(folder / "world") if "asked" in fact})
    async with venue.client(path, reconcile_every=0.2) as broker:
        reading = asyncio.create_task(keep(broker, folder))
        for number in asked:
            await place(broker, order_for(number, scene), risk=scene.risk, tries=4)
            await _say(venue, broker, order_for(number, scene))
        misses = await complaints(venue, broker, path, scene, asked, patience)
        books, fills = venue.books(), logged(path)
        while fills and len(facts(state)) < len(fills) and not reading.done():
            await broker.clock.sleep(0.02)
        reading.cancel()
        misses += _numbers(fills, facts(state), facts(folder / "world"))
        misses += await _positions(broker, books, fills, facts(state))
        open_ones = {row.idempotency_key: row.reason for row in await broker.unresolved()}
        misses += [f"{key} is open without evidence" for key, why in open_ones.items() if not why]
        failed = broker._event_log._failure
        misses += [f"the broker failed: {failed}"] if failed else []
    return misses, {"keys": len(asked), "fills": len(fills), "open": len(open_ones)}


def differences(books: Books, fills: Sequence[Fill], *, cumulative: bool) -> list[str]:
    """Say where the log's executions that stand are not the books'."""
    taken_back = {fill.corrects for fill in fills if fill.kind is FillKind.BUST}
    ours: dict[str, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    units: dict[str, Decimal] = defaultdict(Decimal)
    value: dict[str, Decimal] = defaultdict(Decimal)
    for fill in fills:
        name = str(fill.broker_order_id)
        units[name] += fill.quantity
        value[name] += fill.quantity * fill.price
        if fill.kind is FillKind.TRADE and fill.fill_id not in taken_back:
            ours[name].append((fill.quantity, fill.price))
    found = [f"{name} is in the log only" for name in units.keys() - {row.id for row in books.orders}]
    for row in books.orders:
        if units[row.id] != row.filled or abs(value[row.id] - row.value) > _ROUNDING * (1 + row.value):
            found.append(f"{row.id}: {units[row.id]} logged, {row.filled} filled")
        elif not cumulative and tuple(sorted(ours[row.id])) != row.stands:
            found.append(f"{row.id}: {sorted(ours[row.id])} stand in the log, {row.stands} at the venue")
    return found


def fee_differences(books: Books, fills: Sequence[Fill], broker: ReferenceClient) -> list[str]:
    """Say where the fees known differ; where the venue doesn't tell them yet, none may be claimed."""
    timing = broker.profile.fee_timing
    paid: dict[str, Decimal] = defaultdict(Decimal)
    for fill in fills:
        paid[str(fill.broker_order_id)] += sum((fee.amount for fee in fill.fees or ()), Decimal(0))
    if timing in ("next_day", "never"):
        return [f"{fill.fill_id} claims a fee" for fill in fills if fill.fees is not None]
    return [
        f"{row.id}: fees {paid[row.id]}, {row.fees} at the venue"
        for row in books.orders
        if abs(paid[row.id] - row.fees) > _ROUNDING
    ]


def _keys(broker: ReferenceClient, books: Books, scene: Scene, asked: list[int]) -> list[str]:
    """Each key has at most one order tree at the venue, and the journal knows which one it is."""
    trees: dict[Decimal, list[VenueOrder]] = defaultdict(list)
    for row in books.orders:
        if row.replaces is None:
            trees[row.quantity].append(row)
    found = []
    for number in asked:
        order = order_for(number, scene)
        assert order.quantity is not None
        roots = trees.pop(order.quantity, [])
        key, record = order.idempotency_key, broker._login.record(order.idempotency_key)
        announced = scene.name == "double arrival" and record is not None and record.state is State.DUPLICATE
        if len(roots) > (2 if kind_of(number, scene) == "twin" else 1) and not announced:
            found.append(f"{key} has {len(roots)} orders: {', '.join(row.id for row in roots)}")
        if record is None:
            found.append(f"{key} is not in the journal, with {len(roots)} orders at the venue")
            continue
        known = record.state in (State.CONFIRMED, State.REJECTED)
        if known and roots and sum(row.id in record.order.broker_order_ids for row in roots) != 1:
            found.append(f"{key} is {record.state} as {record.order.broker_order_ids}, not {roots[0].id}")
        if record.state is State.NOT_PLACED and roots:
            found.append(f"{key} is not placed, with {roots[0].id} at the venue")
        if record.state is State.CONFIRMED and not roots:
            found.append(f"{key} is confirmed, and not at the venue")
        if known and roots and not record.order.is_final:
            found.append(f"{key} is {record.order.status}, {roots[0].status} at the venue")
        if record.state is State.CONFIRMED and record.order.is_final and not record.order.settled:
            found.append(f"{key} is final and not settled")
        if announced and {row.id for row in roots} != set(record.order.broker_order_ids):
            found.append(f"{key} is known as {record.order.broker_order_ids} of {[row.id for row in roots]}")
        if record.state in journal.UNRESOLVED and not announced:
            found.append(f"{key} is {record.state}: {record.words}")
    return found + [f"{row.id} is nobody's" for rows in trees.values() for row in rows]


def _numbers(fills: Sequence[Fill], own: list[dict[str, Any]], world: list[dict[str, Any]]) -> list[str]:
    """The log is dense, each id is there once, and no consumer was told otherwise, or anything twice."""
    found = []
    if [fill.seq for fill in fills] != list(range(1, len(fills) + 1)):
        found.append("the log's numbers have gaps")
    if twice := [name for name, n in Counter(fill.fill_id for fill in fills).items() if n > 1]:
        found.append(f"twice in the log: {twice}")
    by_seq = {fill.seq: fill.fill_id for fill in fills}
    if [row["seq"] for row in own] != list(by_seq):
        found.append("a consumer that kept since=seq has others than the log")
    told = [(row["seq"], row["fill"]) for row in own]
    told += [(row["heard"], row["fill"]) for row in world if "heard" in row]
    found += [f"{seq} was told as {name}" for seq, name in told if by_seq.get(seq) != name]
    heard = [row["heard"] for row in world if "heard" in row]
    if heard and set(heard) != set(range(1, max(heard) + 1)):
        found.append("a named consumer missed a fill")
    return found


async def _positions(
    broker: ReferenceClient, books: Books, fills: Sequence[Fill], own: list[dict[str, Any]]
) -> list[str]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    kept: dict[str, Decimal] = defaultdict(Decimal)
    for fill in fills:
        sums[fill.symbol] += fill.quantity * fill.side.sign
    for row in own:
        kept[row["symbol"]] += Decimal(row["units"])
    opening = {"BTC-USD": Decimal(10_000), "ETH-USD": Decimal(100_000), "AAPL": Decimal(1_000_000)}
    rows = await broker.get_positions()
    shown = {row.symbol: row.quantity - opening[row.symbol] for row in rows}
    found = []
    for what, held in (("log", sums), ("consumer", kept), ("broker", shown)):
        if {symbol: units for symbol, units in held.items() if units} != books.held:
            found.append(f"positions by the {what} are {dict(held)}, {books.held} at the venue")
    return found
