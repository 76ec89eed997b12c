"""From an exception to a cause and a cure: no failing line goes without either."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from mts1b_brokers_core.foundation.errors import (
    AccountNotChosen,
    AuthenticationError,
    BrokerError,
    PermissionDenied,
    RateLimited,
    StateError,
    UnreadableReply,
    VenueUnavailable,
)

_CURES: tuple[tuple[type[BaseException], str], ...] = (
    (AuthenticationError, "check this instance's credentials: `mts mts1b-brokers config NAME --explain`"),
    (PermissionDenied, "give the key the permission, or use another key"),
    (AccountNotChosen, "name the account: --account, or `account` in the configuration"),
    (RateLimited, "wait a minute, then run this test again"),
    (VenueUnavailable, "check the network and the venue's status page, then run this test again"),
    (UnreadableReply, "the venue changed its replies: upgrade the plugin, or report it to its authors"),
    (StateError, "look at the state file named, or choose another with MTS1B_STATE_DIR"),
    (OSError, "check the network and the venue's address, then run this test again"),
    (BrokerError, "correct what the cause names, then run this test again"),
)
_UNEXPECTED = "report it to the plugin's authors; MTS1B_TRACEBACK=1 shows where it happened"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: a short `word`, the cause, the cure."""

    word: str
    cause: str
    cure: str


def explain_failure(error: BaseException) -> Failure:
    """Say what an exception means to the person who ran the check."""
    cure = next((words for kind, words in _CURES if isinstance(error, kind)), _UNEXPECTED)
    if isinstance(error, BrokerError):
        if isinstance(error, RateLimited) and error.retry_after is not None:
            cure = f"wait {error.retry_after:g} seconds, then run this test again"
        return Failure(error.code.replace("_", " "), error.message, error.next_step or cure)
    if isinstance(error, OSError):
        cause = error.strerror or str(error) or type(error).__name__
        return Failure("no answer" if isinstance(error, TimeoutError) else "no connection", cause, cure)
    return Failure("unexpected error", f"{type(error).__name__}: {error}".rstrip(": "), cure)


def traceback_of(error: BaseException) -> str:
    """Return an exception's traceback as text."""
    return "".join(traceback.format_exception(error))
