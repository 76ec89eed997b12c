"""Beginning a paper account anew: the old one is archived, never deleted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mts1b_simulator import SimulatedExchange, VenueState


@dataclass(frozen=True, slots=True)
class Reset:
    """What a reset did: the epoch that begins, and where the old epoch's journal lies now."""

    epoch: int
    journal: Path


def reset_account(journal: Path, venue: Path, present: SimulatedExchange, fresh: SimulatedExchange) -> Reset:
    """Archive the venue's epoch and put the client's journal aside. Raises `StateError`.

    The journal is put aside first. Killed in between, the account goes on with an empty journal, and a
    second reset finishes what this one began; nothing is deleted either way.
    """
    state = VenueState(venue)
    state.open(present)
    try:
        epoch = state.epochs()[-1].number
        aside = journal.with_name(f"{journal.name}.epoch-{epoch}")
        for suffix in ("", "-wal", "-shm"):
            part = journal.with_name(journal.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        state.reset(fresh)
    finally:
        state.close()
    return Reset(epoch + 1, aside)
