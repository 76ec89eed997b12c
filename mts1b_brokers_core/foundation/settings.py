"""What can be set about a broker instance; each plugin's settings model derives from `BrokerSettings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from .base import Model, Positive
from .instruments import Symbol

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Gates(Model):
    """The limits an order must pass before anything is sent; all off unless set."""

    read_only: bool = Field(False, description="Deny every submit and replace; cancels pass.")
    symbols: tuple[Symbol, ...] = Field((), description="Trade only these symbols; empty allows all.")
    max_order_quantity: Positive | None = Field(
        None, description="Largest quantity of one order, in units of the instrument."
    )
    max_order_value: Positive | None = Field(
        None, description="Largest value of one order, in quote currency."
    )
    price_collar: Positive | None = Field(
        None,
        description="Largest distance of a limit price from a fresh quote on the losing side, as a fraction "
        "(0.05 is 5 %).",
    )
    max_orders_per_minute: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Most submits and replaces in any 60 seconds."
    )

    @property
    def any(self) -> bool:
        """True where at least one gate is set."""
        return self != Gates()


class BrokerSettings(Model):
    """The settings every broker has."""

    environment: str | None = Field(
        None, description="Where orders go: live, the venue's sandbox or paper, or simulator."
    )
    account: str | None = Field(None, description="The account to trade, where the login has several.")
    state_path: Path | None = Field(None, description="The journal's file; by default in the state folder.")
    resend_within: Seconds = Field(
        10.0, description="Seconds a submit waits for the resolver, and may itself try again."
    )
    settle_wait: Seconds = Field(
        5.0, description="Seconds a terminal status waits for the order's last fills."
    )
    reconcile_every: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        30.0, description="Seconds between reads that find what the venue's stream lost."
    )
    park_max: Seconds = Field(
        60.0, description="Seconds a fill of an unknown order waits for the order it may belong to."
    )
    close_timeout: Seconds = Field(5.0, description="Seconds closing waits for writes under way.")
    record: Path | None = Field(
        None, description="Record every frame that comes and goes, secrets left out, in this file."
    )
    simulator: dict[str, str] = Field(
        default_factory=dict,
        description="How the simulator is started, where it is: seed, faults (several at spaces), tls, and "
        "what the venue's own takes.",
    )
    gates: Gates = Field(default_factory=Gates, description="Limits on what may be submitted.")
