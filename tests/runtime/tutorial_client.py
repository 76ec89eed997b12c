"""A broker as a beginner writes it: a plain class with the methods of the contract, derived from nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from types import TracebackType

from mts1b_brokers_core.foundation.orders import Fill, Order, Position
from mts1b_brokers_core.foundation.protocols import BrokerProtocol


@dataclass
class KrakenClient:
    """Talks to a broker that fills everything at once."""

    name: str = "kraken"
    _orders: dict[str, Order] = field(default_factory=dict)

    async def __aenter__(self) -> KrakenClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._orders.clear()

    async def submit(self, order: Order) -> Order:
        """Place the order."""
        placed = order.model_copy(
            update={
                "broker_order_id": f"K-{len(self._orders) + 1}",
                "status": "new",
                "submitted_at": datetime.now(timezone.utc),  # noqa: UP017 - as most people write it
            }
        )
        self._orders[placed.order_id] = placed
        return placed

    async def cancel(self, order_id: str) -> bool:
        """Cancel the order."""
        return self._orders.pop(order_id, None) is not None

    async def get_open_orders(self) -> list[Order]:
        """Return the working orders."""
        return list(self._orders.values())

    async def get_positions(self) -> list[Position]:
        """Return what is held."""
        return []

    async def stream_fills(self) -> AsyncIterator[Fill]:
        """Iterate over fills."""
        for order in list(self._orders.values()):
            yield Fill(
                fill_id=f"F-{order.broker_order_id}",
                order_id=order.order_id,
                symbol=order.symbol,
                side=order.side,
                quantity=order.quantity or Decimal(1),
                price=order.limit_price or Decimal(1),
                executed_at=datetime.now(timezone.utc),  # noqa: UP017
            )


_: BrokerProtocol = KrakenClient()
