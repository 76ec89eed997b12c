"""From an exception to a cause and a cure: no failing line goes without either."""

from __future__ import annotations

from typing import NamedTuple

from mts1b_brokers_core.foundation import errors

_CURES = {
    errors.AuthenticationError: "check the instance's credentials: `mts mts1b-brokers config NAME --explain`",
    errors.PermissionDenied: "give the key the permission, or use another key",
    errors.AccountNotChosen: "name the account: --account, or `account` in the configuration",
    errors.RateLimited: "wait a minute, then run this test again",
    errors.VenueUnavailable: "check the network and the venue's status page, then run this test again",
    errors.UnreadableReply: "the venue changed its replies: upgrade the plugin, or report it to its authors",
    errors.StateError: "look at the state file named, or choose another with MTS1B_STATE_DIR",
    OSError: "check the network and the venue's address, then run this test again",
    errors.BrokerError: "correct what the cause names, then run this test again",
    BaseException: "report it to the plugin's authors; MTS1B_TRACEBACK=1 shows where it happened",
}


class Failure(NamedTuple):
    """Why something failed: a short `word`, the cause, the cure."""

    word: str
    cause: str
    cure: str


def explain_failure(error: BaseException) -> Failure:
    """Say what an exception means to the person who ran the check."""
    cure = next(words for kind, words in _CURES.items() if isinstance(error, kind))
    if isinstance(error, errors.BrokerError):
        if isinstance(error, errors.RateLimited) and error.retry_after is not None:
            cure = f"wait {error.retry_after:g} seconds, then run this test again"
        return Failure(error.code.replace("_", " "), error.message, error.next_step or cure)
    if isinstance(error, OSError):
        cause = error.strerror or str(error) or type(error).__name__
        return Failure("no answer" if isinstance(error, TimeoutError) else "no connection", cause, cure)
    return Failure("unexpected error", f"{type(error).__name__}: {error}".rstrip(": "), cure)
