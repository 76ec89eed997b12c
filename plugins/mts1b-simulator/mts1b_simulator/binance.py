"""A Binance combined stream, one frame a line: `<receive ns> <json>`; depth, best bid and ask, trades.

Depth frames are joined to the REST snapshot by update id, as the venue prescribes; where an id is missing
what the book held is forgotten, because a book with a hole can't be trusted; levels stated later are.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NamedTuple

from mts1b_brokers_core.foundation.errors import InvalidInput, RecordingError
from mts1b_brokers_core.foundation.instruments import parse_symbol
from mts1b_brokers_core.foundation.orders import Side

from .csv_rows import BadRow, ProblemKind, Rows, ascending, price, size
from .feeds import DeltaEvent, MarketEvent, PriceLevel, QuoteEvent, SnapshotEvent, TradeEvent

_QUOTES = (
    "USDT",
    "USDC",
    "FDUSD",
    "BUSD",
    "TUSD",
    "USD",
    "EUR",
    "GBP",
    "TRY",
    "BRL",
    "JPY",
    "BTC",
    "ETH",
    "BNB",
)


class _Frame(NamedTuple):
    line: int
    ns: int
    data: dict[str, Any]


class _Depth(NamedTuple):
    line: int
    first: int
    last: int
    bids: tuple[PriceLevel, ...]
    asks: tuple[PriceLevel, ...]


def read_depth(rows: Rows, first: str, symbol: str | None, *, quotes: bool) -> tuple[str, list[MarketEvent]]:
    """Read the frames, the first line included; return the symbol and the events in order of receipt."""
    frames: list[_Frame] = []
    for line in rows.also(first):
        try:
            frames.append(_frame(line, rows.line))
        except BadRow as error:
            rows.problem(str(error), text=line)
    kept = ascending([frame.ns for frame in frames], strictly=False)
    for place in sorted(set(range(len(frames))) - set(kept)):
        rows.problem("the stamp is out of order", kind=ProblemKind.LEFT_OUT, at=frames[place].line)
    reader = _Reader(symbol, rows, quotes)
    for place in kept:
        try:
            reader.take(frames[place])
        except BadRow as error:
            rows.problem(str(error), at=frames[place].line)
    if reader.waiting:
        rows.problem(
            f"{len(reader.waiting)} depth frames had no snapshot to follow",
            kind=ProblemKind.LEFT_OUT, at=reader.waiting[0].line,
        )  # fmt: skip
    return reader.symbol or "", reader.events


class _Reader:
    def __init__(self, symbol: str | None, rows: Rows, quotes: bool) -> None:
        try:
            self.symbol = str(parse_symbol(symbol)) if symbol else None
        except InvalidInput as error:
            raise RecordingError(error.message, next_step=error.next_step) from None
        self.events: list[MarketEvent] = []
        #: Depth frames before the first snapshot.
        self.waiting: list[_Depth] = []
        self._rows = rows
        self._quotes = quotes
        self._native: str | None = None
        self._last_id: int | None = None
        self._joined = False
        self._trades: set[int] = set()

    def take(self, frame: _Frame) -> None:
        """Read one frame."""
        ns, data = frame.ns, frame.data
        if "s" in data and not self._known(data["s"]):
            raise BadRow(f"it is about {data['s']}, not {self._native}")
        if "lastUpdateId" in data:
            self._snapshot(ns, data)
        elif "U" in data and "u" in data:
            self._depth(
                ns,
                _Depth(frame.line, _int(data, "U"), _int(data, "u"), _levels(data, "b"), _levels(data, "a")),
            )
        elif data.get("e") == "trade":
            self._trade(ns, data)
        elif "b" in data and "a" in data:
            self._best(frame.line, ns, data)
        else:
            raise BadRow(f"a frame of an unknown kind: {sorted(data)[:8]}")

    def _known(self, native: object) -> bool:
        if self._native is None:
            self._native = str(native)
            self.symbol = self.symbol or _symbol(self._native)
        return native == self._native

    def _snapshot(self, ns: int, data: dict[str, Any]) -> None:
        last_id = _int(data, "lastUpdateId")
        event = SnapshotEvent(
            ns, self._name(), f"depth:{last_id}", _levels(data, "bids"), _levels(data, "asks")
        )
        self.events.append(event)
        self._last_id, self._joined = last_id, False
        waiting, self.waiting = self.waiting, []
        for depth in waiting:
            self._depth(ns, depth)

    def _depth(self, ns: int, depth: _Depth) -> None:
        if depth.last < depth.first:
            raise BadRow(f"depth ids run backwards, from {depth.first} to {depth.last}")
        if self._last_id is None:
            self.waiting.append(depth)
            return
        if depth.last <= self._last_id:
            if self._joined:
                raise BadRow(f"depth ids up to {depth.last} were seen already")
            return  # the snapshot holds it
        if depth.first > self._last_id + 1:
            self._rows.problem(
                f"depth ids jump from {self._last_id} to {depth.first}: what the book held is forgotten",
                kind=ProblemKind.DOUBTFUL, at=depth.line,
            )  # fmt: skip
            # Every level stated from here on is true again; those of before can't be trusted.
            self.events.append(SnapshotEvent(ns, self._name(), f"depth lost after {self._last_id}", (), ()))
        self.events.append(DeltaEvent(ns, self._name(), f"depth:{depth.last}", depth.bids, depth.asks))
        self._last_id, self._joined = depth.last, True

    def _trade(self, ns: int, data: dict[str, Any]) -> None:
        trade_id = _int(data, "t")
        if trade_id in self._trades:
            raise BadRow(f"trade id {trade_id} was seen already")
        buyer_made = data.get("m")
        side = (Side.SELL if buyer_made else Side.BUY) if isinstance(buyer_made, bool) else None
        event = TradeEvent(
            ns, self._name(), f"trade:{trade_id}",
            price("p", str(data.get("p", ""))), size("q", str(data.get("q", ""))), side,
        )  # fmt: skip
        self._trades.add(trade_id)
        self.events.append(event)

    def _best(self, line: int, ns: int, data: dict[str, Any]) -> None:
        values = [price("b", str(data["b"])), size("B", str(data.get("B", "")))]
        values += [price("a", str(data["a"])), size("A", str(data.get("A", "")))]
        if values[0] > values[2]:
            what = f"the quotes are crossed: bid {values[0]} above ask {values[2]}"
            kind = ProblemKind.DOUBTFUL if self._quotes else ProblemKind.LEFT_OUT
            self._rows.problem(what, kind=kind, at=line)
        if self._quotes:
            self.events.append(QuoteEvent(ns, self._name(), f"best:{data.get('u', ns)}", *values))

    def _name(self) -> str:
        if self.symbol is None:
            raise BadRow(
                "no frame so far says which symbol it is about; name it: read_recording(path, symbol)"
            )
        return self.symbol


def _frame(line: str, number: int) -> _Frame:
    head, _, rest = line.partition(" ")
    if not head.isdigit():
        raise BadRow("it doesn't begin with the receive time in nanoseconds")
    try:
        frame = json.loads(rest, parse_float=Decimal)
    except ValueError as error:
        raise BadRow(f"it is not whole JSON ({error})") from None
    data = frame.get("data", frame) if isinstance(frame, dict) else None
    if not isinstance(data, dict):
        raise BadRow("the frame is not an object")
    return _Frame(number, int(head), data)


def _int(data: dict[str, Any], name: str) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRow(f"{name} is {value!r}, not a whole number")
    return value


def _levels(data: dict[str, Any], name: str) -> tuple[PriceLevel, ...]:
    rows = data.get(name)
    if not isinstance(rows, list):
        raise BadRow(f"{name} is not a list of levels")
    found: list[PriceLevel] = []
    for row in rows:
        if not isinstance(row, list) or len(row) < 2:
            raise BadRow(f"{name} holds {row!r}, not a price and a size")
        found.append((price(f"{name} price", str(row[0])), size(f"{name} size", str(row[1]))))
    return tuple(found)


def _symbol(native: str) -> str:
    for quote in _QUOTES:
        if native.endswith(quote) and len(native) > len(quote):
            return f"{native[: -len(quote)]}-{quote}"
    raise BadRow(f"{native!r} can't be split into base and quote; name it: read_recording(path, 'BTC-USDT')")
