"""What an order needs while it is open, and what moves when it fills. Integer ledger units throughout."""

from __future__ import annotations

from collections.abc import Iterable

from mts1b_brokers_core.foundation.orders import Liquidity, OrderStatus

from .book import BUY
from .changes import Recorder
from .orders import ReportKind, VenueFill
from .sessions import DAY_NS
from .units import from_units
from .working import WorkingOrder


def needs(order: WorkingOrder, quantity: int | None = None, cap: int | None = None) -> dict[str, int]:
    """Return what must be reserved for what remains of an order, fees included, by currency.

    A buy reserves its value at the limit (or stop) price, a sell the units; the fee is reckoned at the
    dearer rate. What the order itself brings in pays its fee first.
    """
    market, meter = order.market, order.market.meter
    lots = (order.quantity if quantity is None else quantity) - order.filled
    price = order.cap if cap is None else cap
    if lots <= 0:
        return {}
    value, units = lots * price * market.value_unit, lots * market.lot_units
    basis = units if meter.in_base else abs(value)
    rate = order.maker_rate if order.post_only else order.dearest_rate
    dearest = max(0, meter.numerator(basis, lots, rate))
    fee = max(0, meter.total(order.fee_numerator + dearest) - order.fee_charged)
    if order.side == BUY:
        paid, amount, received, income = market.quote, max(0, value), market.base, units
    else:
        paid, amount, received, income = market.base, units, market.quote, max(0, value)
    held = {paid: amount}
    if meter.currency == received:
        if fee > income:
            held[received] = fee - income
    else:
        held[meter.currency] = held.get(meter.currency, 0) + fee
    return held


def outlay(order: WorkingOrder, plan: Iterable[tuple[int, int]]) -> dict[str, int]:
    """Return what taking a plan of (price, lots) would cost by currency, net of what it brings in."""
    market, meter = order.market, order.market.meter
    value = lots_taken = 0
    for price, lots in plan:
        value += price * lots
        lots_taken += lots
    value *= market.value_unit
    units = lots_taken * market.lot_units
    numerator = meter.numerator(units if meter.in_base else abs(value), lots_taken, order.taker_rate)
    fee = meter.total(order.fee_numerator + numerator) - order.fee_charged
    flows = {market.quote: 0, market.base: 0, meter.currency: 0}
    flows[market.quote] += value * order.side
    flows[market.base] -= units * order.side
    flows[meter.currency] += fee
    return {currency: amount for currency, amount in flows.items() if amount > 0}


_new = tuple.__new__  # the named tuple's own constructor costs twice as much


class Settlement:
    """Moves money and units for each fill, keeps holds right, and records it."""

    __slots__ = ("_model", "_recorder")

    def __init__(self, recorder: Recorder, model: str) -> None:
        self._recorder = recorder
        self._model = model

    def hold(self, order: WorkingOrder, amounts: dict[str, int]) -> None:
        """Reserve these amounts for the order in place of what it held."""
        order.account.hold(amounts, order.hold)
        order.hold = amounts

    def fill(
        self,
        order: WorkingOrder,
        price: int,
        lots: int,
        liquidity: Liquidity,
        now_ns: int,
        evidence: dict[str, str],
    ) -> None:
        """Fill an order: both sides of the exchange of money, the fee, the hold, the report."""
        market, account, meter = order.market, order.account, order.market.meter
        value, units = price * lots * market.value_unit, lots * market.lot_units
        rate = order.maker_rate if liquidity is Liquidity.MAKER else order.taker_rate
        order.fee_numerator += meter.numerator(units if meter.in_base else abs(value), lots, rate)
        charged = meter.total(order.fee_numerator)
        fee = charged - order.fee_charged
        order.fee_charged = charged
        order.filled += lots
        order.value += value
        total, base, quote, side = account.total, market.base, market.quote, order.side
        account.traded(
            market.instrument.symbol,
            quote,
            now_ns // DAY_NS,
            units * side,
            value=value,
            held_before=total[base],
        )
        total[base] += units * side
        total[quote] -= value * side
        total[meter.currency] -= fee
        account.dirty = True
        assert total[base] >= 0 <= total[quote], "an account was overdrawn"
        assert total[meter.currency] >= 0, "an account was overdrawn by a fee"
        done = order.filled >= order.quantity
        order.status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        order.updated_ns = now_ns
        if order.hold:
            self.hold(order, {} if done else needs(order))
        recorder = self._recorder
        number = recorder.next_trade()
        evidence["model"] = self._model
        fill = _new(VenueFill, (
            f"T{recorder.epoch}-{number}", number, order.order_id, order.token, account.account_id,
            market.instrument.symbol, order.terms.side,
            market.lots.decimal(lots), market.ticks.decimal(price),
            from_units(fee, market.fee_digits), meter.currency, liquidity, now_ns, evidence,
        ))  # fmt: skip
        recorder.filled(fill)
        recorder.report(ReportKind.FILL, order, now_ns, fill)
