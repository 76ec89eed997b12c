"""When a resting order fills, as named models. None uses a print's or a quote's size twice.

`trade_through` is the default. `touch` is what most paper brokers do and is here to be compared with.
Models that guess a queue (`queue`, `probabilistic`) belong here as further classes in `FILL_MODELS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from mts1b_brokers_core.foundation.errors import InvalidInput, nearest

if TYPE_CHECKING:
    from .working import WorkingOrder

#: How long displayed depth must have stood still before it counts as later than every print seen.
SETTLED_NS = 1_000_000_000


class FillModel(Protocol):
    """Decides how much of what traded or was displayed outside reaches a resting order of ours."""

    name: ClassVar[str]
    #: True where an opposite quote at or through the limit fills it, up to the size displayed.
    fills_on_quotes: ClassVar[bool]
    #: True where a bar that only touches the limit fills it.
    fills_on_bar_touch: ClassVar[bool]

    def reach(
        self, order: WorkingOrder, *, through: bool, printed: int, taken: int, now_ns: int
    ) -> int | None:
        """Return how many lots of a print reach the order, or None where its queue is not known.

        The print is at the order's price or `through` it, `printed` lots of which earlier orders of
        ours have `taken`. The order's queue is moved on as a side effect.
        """
        ...


class TradeThrough:
    """Fills on prints only, bounded by their size, once the queue displayed at acceptance has traded.

    A print strictly through the limit passes the queue. Displayed depth that shrank ahead of us counts
    as gone only after standing still for a second, because a feed may show it before the print.
    """

    name: ClassVar[str] = "trade_through"
    fills_on_quotes: ClassVar[bool] = False
    fills_on_bar_touch: ClassVar[bool] = False

    def reach(
        self, order: WorkingOrder, *, through: bool, printed: int, taken: int, now_ns: int
    ) -> int | None:
        """Return how many lots of a print reach the order, or None where its queue is not known."""
        if through:
            order.ahead = 0
            return printed - taken
        if order.ahead is None:
            return None
        level = order.level
        assert level is not None
        if (
            level.displayed is not None
            and level.displayed < order.ahead
            and now_ns - level.touched_ns >= SETTLED_NS
        ):
            order.ahead = level.displayed
        ahead = order.ahead
        order.ahead = max(0, ahead - (printed - taken))
        return max(0, printed - taken - ahead)


class Touch:
    """Fills as soon as the price is touched, by a print or an opposite quote, in front of every queue."""

    name: ClassVar[str] = "touch"
    fills_on_quotes: ClassVar[bool] = True
    fills_on_bar_touch: ClassVar[bool] = True

    def reach(
        self, order: WorkingOrder, *, through: bool, printed: int, taken: int, now_ns: int
    ) -> int | None:
        """Return the print's lots that earlier orders of ours left."""
        return printed - taken


FILL_MODELS: dict[str, type[FillModel]] = {model.name: model for model in (TradeThrough, Touch)}


def fill_model(name: str) -> FillModel:
    """Return the model of that name. Raises `InvalidInput`, listing the names there are."""
    try:
        return FILL_MODELS[name]()
    except KeyError:
        close = nearest(name, FILL_MODELS, most=1)
        hint = f"did you mean {close[0]}?" if close else "expected one of them."
        raise InvalidInput(f"no fill model {name!r} among {', '.join(sorted(FILL_MODELS))}; {hint}") from None
