"""The kinds of venue that are put through chaos, with their times shortened, and what goes wrong there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

from mts1b_broker_reference.profiles import PROFILES as OURS

from mts1b_brokers_core.execution.port import Guarantee, VenueProfile, guarantee_of
from mts1b_simulator.reference import PROFILES as THEIRS
from mts1b_simulator.reference import ReferenceProfile
from mts1b_simulator.wire import faults
from mts1b_simulator.wire.faults import Fault

#: The share of requests of each sort that meet a fault.
RATE = 0.2
#: Seconds after which the client gives an unanswered request up; 20 where nothing is shortened.
TIMEOUT = 2.0
#: The broker's settings, in seconds; as a user has them: 10, 30, 5, 60.
SETTINGS = {"resend_within": 1.0, "reconcile_every": 1.0, "settle_wait": 1.0, "park_max": 5.0}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of venue. `lands` are the seconds after which a delayed request still lands.

    `busts` and `corrections` tell whether the profile can show them.
    """

    name: str
    venue: Mapping[str, Any] = field(default_factory=dict)
    client: Mapping[str, Any] = field(default_factory=dict)
    lands: tuple[float, ...] = (0.4, 1.5)
    busts: bool = True
    corrections: bool = True

    @property
    def theirs(self) -> ReferenceProfile:
        """The kind as the venue is set to it."""
        return changed(THEIRS[self.name], **self.venue)

    @property
    def ours(self) -> VenueProfile:
        """The kind as the adapter knows it."""
        return changed(OURS[self.name], **self.client)

    @property
    def guarantee(self) -> Guarantee:
        """What is promised here, with a journal in a file."""
        return guarantee_of(self.ours, durable=True)

    @property
    def scaled(self) -> str:
        """What was shortened or lengthened, in words."""
        return ", ".join(f"{name}={value:g}" for name, value in {**self.venue, **self.client}.items())


def _limit(seconds: float) -> Mapping[str, float]:
    return {"not_after_seconds": seconds}


KINDS = {
    kind.name: kind
    for kind in (
        Kind("native_dedupe"),
        Kind(
            "while_open_deadline",
            {**_limit(1.5), "visibility": 0.1}, {**_limit(1.5), "visibility": 0.2},
            lands=(0.5, 1.2, 2.5),
        ),
        # The venue looks at the age of reads as well: shorter than this, a busy machine's are too old.
        Kind(
            "timestamp_limit", _limit(3.0), {**_limit(3.0), "poll_every": 0.5},
            lands=(0.5, 2.5, 4.0), busts=False, corrections=False,
        ),
        Kind("token_not_unique", {"visibility": 0.2}, {"visibility": 0.3}, lands=(0.1, 0.6, 2.0)),
        Kind(
            "no_client_id", {"visibility": 0.2, "fee_delay": 0.5}, {"visibility": 0.3}, lands=(0.1, 0.6, 2.0)
        ),
        Kind("cumulative_fills", lands=(0.1, 0.6, 2.0), corrections=False),
        Kind("late_fees_corrections", {"fee_delay": 0.5}, lands=(0.1, 0.6, 2.0)),
        Kind("exclusive_login", lands=(0.1, 0.6, 2.0)),
    )
}  # fmt: skip


def request_faults(kind: Kind) -> dict[Fault, float]:
    """Return what may happen to a request, by weight."""
    late = 2.0 / len(kind.lands)
    return {
        faults.DropRequest(): 1.0, faults.DropReply(): 2.0, faults.Delay(0.05): 0.5, faults.Delay(0.4): 0.5,
        **{faults.DelayBeyond(seconds): late for seconds in kind.lands},
        faults.HangBeyond(kind.lands[-1]): 0.3,
        faults.Status429(): 0.5, faults.Status429(0.2): 0.5,
        faults.ErrorBefore(): 0.5, faults.ErrorAfter(): 1.0, faults.ErrorAfter(502): 0.5,
        faults.Truncated(): 0.6, faults.Garbage(): 0.6,
    }  # fmt: skip


#: What may happen to a frame: how often in a thousand, heartbeats left alone where frames are lost.
FRAME_FAULTS: dict[Fault, float] = {
    faults.LoseFrame(): 20, faults.DuplicateFrame(): 20, faults.ReorderFrames(): 20,
    faults.CutSocket(): 4, faults.SilentSocket(): 1, faults.HalfOpen(): 1,
}  # fmt: skip
