"""Placing one order, so that whatever happens ends in one of the four answers and never in a guess."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from mts1b_brokers_core.foundation.errors import (
    AuthenticationError,
    BrokerClosed,
    BrokerError,
    ConfigurationError,
    InvalidInput,
    OrderDenied,
    OrderNotFound,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
    PermissionDenied,
    UnsupportedCapability,
    WaitTimeout,
)
from mts1b_brokers_core.foundation.orders import Fill, Order
from mts1b_brokers_core.foundation.protocols import SupportsFillHistory
from mts1b_brokers_core.platform.clock import RealClock

from .terminal import Spinner

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient

#: Errors from a submit that prove nothing was placed, also where an adapter raises them by itself.
NOT_PLACED = (
    OrderDenied, OrderRejected, OrderNotPlaced, UnsupportedCapability, InvalidInput, ConfigurationError,
    AuthenticationError, PermissionDenied, BrokerClosed,
)  # fmt: skip

#: Seconds to wait for fills that the order says there are.
_FILLS = 2.0
#: How much earlier than the order to look for its fills: the venue's clock may differ from ours.
_MARGIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Placed:
    """How it ended: the order, or the refusal; `after` is what went wrong in closing once it was confirmed.

    `wait` is how a wait ended (done, timed out, failed), None where none was asked for; `warning` says why.
    """

    asked: Order
    order: Order | None = None
    refusal: BrokerError | None = None
    fills: tuple[Fill, ...] = ()
    after: BrokerError | None = None
    wait: str | None = None
    warning: str = ""
    #: Whether submitting the same key again is a question, never a second order.
    repeatable: bool = False

    @property
    def answered_before(self) -> bool:
        """True where the key was used before and the order is that earlier one."""
        return self.order is not None and self.order.order_id != self.asked.order_id

    def troubled(self, error: Exception) -> Placed:
        """Return the same answer with what went wrong after it: it takes nothing back."""
        if self.order is None or self.after is not None:
            return self
        return replace(self, after=_worded(error))


async def place(broker: VenueClient, order: Order, wait: tuple[str, float] | None, label: str) -> Placed:
    """Submit, wait where that is wanted, and collect what has filled by then."""
    if wait is not None and not hasattr(broker, "wait_for"):
        raise UnsupportedCapability(
            "waiting for an order is not offered.", broker=broker.name, operation="wait_for",
            next_step="leave --wait out, and look with `orders`",
        )  # fmt: skip
    reader = _FillReader(broker)
    try:
        confirmed = await _submit(broker, order, label)
        if isinstance(confirmed, BrokerError):
            return Placed(order, refusal=confirmed, repeatable=repeatable(broker))
        if wait is None:
            known = await reader.of(confirmed) if confirmed.filled_quantity else ()
            return Placed(order, confirmed, fills=known)
        return await _waited(broker, order, confirmed, wait, reader, label)
    finally:
        await reader.close()


def repeatable(broker: VenueClient) -> bool:
    """True where a later process that submits the same key gets this order's answer, not a second order."""
    guarantee = getattr(broker, "guarantee", None)
    return guarantee is not None and guarantee != "this process only"


def unknown_next_step(key: str, orders: str, *, repeatable: bool) -> str:
    """Say how to find out about an order of unknown outcome; `orders` is the command that lists them."""
    if repeatable:
        return (
            f"the same command with --key {key} asks what became of it, and places no second one; `{orders}`"
        )
    return f"place no other before you have looked at the venue itself and with `{orders}`"


async def _submit(broker: VenueClient, order: Order, label: str) -> Order | BrokerError:
    """Submit and return the order or the refusal; what proves nothing is `OutcomeUnknown`."""
    try:
        async with Spinner(f"{label}: placing"):
            return await broker.submit(order)
    except asyncio.CancelledError:
        how = unknown_next_step(
            order.idempotency_key, f"mts mts1b-brokers orders {broker.name}", repeatable=repeatable(broker)
        )
        click.echo(f"interrupted while the order was on its way: it may be live.\n  next: {how}", err=True)
        raise
    except (OutcomeUnknown, *NOT_PLACED) as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever else a submit dies of, the order may have left by then
        return await _after_crash(broker, order, error)


async def _after_crash(broker: VenueClient, order: Order, error: Exception) -> Order | BrokerError:
    """Ask the journal, where there is one, what a submit that crashed had come to; else it is unknown."""
    if hasattr(broker, "outcome"):
        try:
            return await broker.outcome(order.idempotency_key)
        except OrderNotFound:  # the key is claimed before anything is sent, and this one never was
            return _worded(error)
        except (OutcomeUnknown, *NOT_PLACED) as answer:
            if not isinstance(answer, BrokerClosed):
                return answer
        except Exception:  # noqa: BLE001, S110 - a journal that can't be read knows nothing
            pass
    unknown = OutcomeUnknown(_worded(error).message, order=order, broker=broker.name, operation="submit")
    unknown.__cause__ = error
    return unknown


async def _waited(
    broker: VenueClient,
    asked: Order,
    confirmed: Order,
    wait: tuple[str, float],
    reader: _FillReader,
    label: str,
) -> Placed:
    until, seconds = wait
    order, how, warning = confirmed, "done", ""
    try:
        async with Spinner(f"{label}: waiting until {until}"):
            order = await broker.wait_for(
                confirmed, "filled" if until == "filled" else "final", timeout=seconds
            )
    except BrokerError as error:
        how, warning = "timed out" if isinstance(error, WaitTimeout) else "failed", error.message
        if hasattr(broker, "outcome"):
            with suppress(BrokerError):
                order = await broker.outcome(confirmed.idempotency_key)
    except Exception as error:  # noqa: BLE001 - the order is confirmed: nothing later may hide that
        how, warning = "failed", _worded(error).message
    except asyncio.CancelledError:
        ids = f"order id {confirmed.order_id}, at the venue {confirmed.broker_order_id}"
        click.echo(f"confirmed: {ids}; interrupted while waiting, nothing was cancelled.", err=True)
        raise
    return Placed(asked, order, fills=await reader.of(order), wait=how, warning=warning)


def _worded(error: Exception) -> BrokerError:
    return error if isinstance(error, BrokerError) else BrokerError(f"{type(error).__name__}: {error}")


class _FillReader:
    """Finds an order's fills: in the broker's history, or in its stream, read from before the submit."""

    def __init__(self, broker: VenueClient) -> None:
        self._history = broker if isinstance(broker, SupportsFillHistory) else None
        self._clock = RealClock()
        self._streamed: list[Fill] = []
        self._task: asyncio.Task[None] | None = None
        if self._history is None:
            self._task = asyncio.create_task(self._read(broker), name="fills of the order")

    async def _read(self, broker: VenueClient) -> None:
        read: Any = broker.stream_fills
        begins = "since" in inspect.signature(read).parameters
        # From a place that is named, so that nothing is acknowledged for anybody.
        async for fill in read(since=0) if begins else read():
            self._streamed.append(fill)

    async def of(self, order: Order) -> tuple[Fill, ...]:
        """Return the order's fills, waiting a moment until they add up to what it says."""
        names = {order.order_id, order.broker_order_id, *order.broker_order_ids}
        found: tuple[Fill, ...] = ()
        with suppress(TimeoutError, BrokerError):
            async with self._clock.timeout(_FILLS):
                while True:
                    rows = self._streamed if self._history is None else await self._past(self._history, order)
                    found = tuple(row for row in rows if row.order_id in names)
                    if sum((row.quantity for row in found), Decimal(0)) >= order.filled_quantity:
                        break
                    await self._clock.sleep(0.02)
        return found

    async def _past(self, history: SupportsFillHistory, order: Order) -> list[Fill]:
        began = order.submitted_at or order.created_at or self._clock.now()
        rows: list[Fill] = []
        cursor = None
        while True:
            page = await history.get_fills(since=began - _MARGIN, cursor=cursor)
            rows += page.rows
            cursor = page.cursor
            if cursor is None:
                return rows

    async def close(self) -> None:
        """Stop reading."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()
