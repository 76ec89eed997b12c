"""Which instrument an order means, and whether its terms can be sent as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

from mts1b_brokers_core.foundation.base import plain
from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import AmbiguousInstrument, OrderDenied, UnknownInstrument, nearest
from mts1b_brokers_core.foundation.instruments import AssetClass, Instrument, Rounding, parse_symbol
from mts1b_brokers_core.foundation.orders import Adjustment, Order, Side

from .port import Listing

Load = Callable[[str | None], Awaitable[Listing[Instrument]]]


#: How many seconds what was read of the instruments holds.
_TTL = 3600.0


class InstrumentCache:
    """The venue's instruments, read once and again when they are older than an hour."""

    def __init__(self, load: Load, clock: Clock) -> None:
        self._load = load
        self._clock = clock
        self._rows: dict[str, list[Instrument]] = {}
        self._read_at: float | None = None
        self._reads = 0
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Read again, once for all who ask meanwhile. Raises `OrderDenied` where that fails."""
        reads = self._reads
        async with self._reading:
            if self._reads == reads:
                await self._read()

    async def _read(self) -> None:
        try:
            listing = await self._load(None)
        # Whatever kept them from us, the order was not sent.
        except Exception as error:
            why, cure = (
                f"the venue's instruments could not be read: {error}",
                "repeat it once it can be reached",
            )
            raise OrderDenied(why, reason="instruments", next_step=cure) from error
        self._reads += 1
        rows: dict[str, list[Instrument]] = {}
        for row in listing.rows:
            rows.setdefault(parse_symbol(row.symbol).symbol, []).append(row)
        self._rows, self._read_at = rows, self._clock.monotonic()

    async def fitted(self, order: Order, instrument: Instrument) -> tuple[Order, Instrument]:
        """Return the order as it can be sent. Raises `OrderDenied`, having read the instruments again."""
        try:
            return fit_tree(order, instrument), instrument
        except OrderDenied:
            await self.refresh()  # the venue may have changed its increments meanwhile
        instrument = await self.find(order.symbol, order.asset_class)
        return fit_tree(order, instrument), instrument

    async def find(self, symbol: str, asset: AssetClass | None = None) -> Instrument:
        """Return the one instrument meant. Raises `UnknownInstrument` or `AmbiguousInstrument`."""
        if self._read_at is None or self._clock.monotonic() - self._read_at >= _TTL:
            await self.refresh()
        wanted = parse_symbol(symbol)
        found = [
            row
            for row in self._rows.get(wanted.symbol, [])
            if (wanted.market is None or row.market == wanted.market)
            and (asset is None or row.asset_class is asset)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            choices = [f"{row.key} ({row.asset_class})" for row in found]
            raise AmbiguousInstrument(
                f"{symbol} means more than one instrument.",
                choices=[row.key for row in found],
                next_step=f"write one of {', '.join(choices)}, or give the asset_class",
            )
        if there := [f"{row.key} ({row.asset_class})" for row in self._rows.get(wanted.symbol, [])]:
            why = f"{symbol} is listed here only as {', '.join(there)}."
            raise UnknownInstrument(why, next_step="give that asset class or market, or none")
        close = " or ".join(nearest(wanted.symbol, self._rows))
        cure = f"did you mean {close}?" if close else "see `instruments`"
        raise UnknownInstrument(f"{symbol} is not listed here.", next_step=cure)


def fit_tree(order: Order, instrument: Instrument) -> Order:
    """Return the order and what is attached to it as they can be sent. Raises `OrderDenied`."""
    sent = fit(order, instrument)
    if not order.attached:
        return sent
    return sent.evolve(attached=tuple(fit(child, instrument) for child in order.attached))


#: The terms that an instrument's increments and limits measure, with what a caller may allow of each.
_MEASURED = (("limit_price", "price"), ("stop_price", "price"), ("quantity", "quantity"))


def fit(order: Order, instrument: Instrument) -> Order:
    """Return the order as it can be sent: unchanged, or adjusted as the caller allowed.

    Raises `OrderDenied` where a term doesn't fit and may not be adjusted.
    """
    changes: dict[str, Decimal] = {}
    adjusted: list[Adjustment] = []
    # Rounded away from the market, so that an adjusted limit is never worse for the caller than asked.
    passive = Rounding.FLOOR if order.side is Side.BUY else Rounding.CEILING
    for name, kind in _MEASURED:
        asked = getattr(order, name)
        problem_of = instrument.price_problem if kind == "price" else instrument.quantity_problem
        if asked is None or (problem := problem_of(asked)) is None:
            continue
        by_price = kind == "price"
        sent_as = instrument.round_price(asked, passive) if by_price else instrument.round_quantity(asked)
        if problem_of(sent_as):
            raise _denied(order, problem, kind, f"change the {kind}")
        if kind not in order.allow_adjust:
            raise _denied(order, problem, kind, f"change the {kind}, or allow it: allow_adjust={{{kind!r}}}")
        changes[name] = sent_as
        adjusted.append(Adjustment(field=name, asked=plain(asked), sent=plain(sent_as), reason=problem))
    sent = order.evolve(**changes, adjustments=tuple(adjusted)) if adjusted else order
    if (value := _value(sent, instrument)) and (problem := instrument.notional_problem(value)):
        raise _denied(order, problem, "notional", "change the quantity or the price")
    return sent


def _value(order: Order, instrument: Instrument) -> Decimal | None:
    if order.quote_quantity is not None:
        return order.quote_quantity
    price = order.limit_price if order.limit_price is not None else order.stop_price
    if order.quantity is None or price is None:
        return None
    return instrument.notional(order.quantity, price)


def _denied(order: Order, problem: str, kind: str, cure: str) -> OrderDenied:
    return OrderDenied(f"{order.symbol}: {problem}.", reason=kind, order=order, next_step=cure)
