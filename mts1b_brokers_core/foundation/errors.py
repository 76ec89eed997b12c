"""Every error the library raises, as one tree.

An error says which broker and which operation, what was wrong, what to do next, and whether
repeating the same call is safe (`repeat_is_safe`): true only where a repeat cannot place a second
order, cancel something else or lose data.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .orders import Order

Certainty = Literal["proven", "probable"]


def nearest(word: str, choices: Iterable[str], *, most: int = 3) -> list[str]:
    """Return the choices most like `word`, best first; empty where none is close."""
    return difflib.get_close_matches(word, list(choices), n=most, cutoff=0.5)


class BrokerError(Exception):
    """Base of all errors of this library.

    `message` says what was wrong and what was expected, `next_step` what to do now.
    """

    #: A stable word for programs; here the class's own name (`OrderNotPlaced` is `order_not_placed`), while
    #: a class that an adapter derives keeps the word of the error it is.
    code = "error"
    default_next_step = ""
    default_repeat_is_safe = False

    def __init_subclass__(cls) -> None:
        if cls.__module__ == __name__ and "code" not in vars(cls):
            cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()

    def __init__(
        self,
        message: str,
        *,
        broker: str | None = None,
        operation: str | None = None,
        next_step: str | None = None,
        repeat_is_safe: bool | None = None,
    ) -> None:
        self.message = message
        self.broker = broker
        self.operation = operation
        self.next_step = self.default_next_step if next_step is None else next_step
        self.repeat_is_safe = self.default_repeat_is_safe if repeat_is_safe is None else repeat_is_safe
        super().__init__(message)

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.broker, self.operation) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} Next: {self.next_step}" if self.next_step else text

    def located(self, *, broker: str | None = None, operation: str | None = None) -> BrokerError:
        """Fill in the broker and operation where they are not known yet, and return the same error."""
        self.broker = self.broker or broker
        self.operation = self.operation or operation
        return self


# --- what the caller wrote -------------------------------------------------------------------------


class InvalidInput(BrokerError, ValueError):
    """A value is not what the field means: wrong type, range, form or combination."""

    default_repeat_is_safe = True
    #: The dotted names of the fields that were wrong, where a model was being built.
    fields: tuple[str, ...] = ()

    @classmethod
    def from_validation(
        cls, model: str, errors: Sequence[Any], known: Iterable[str], secret: Iterable[str] = ()
    ) -> InvalidInput:
        """Turn pydantic's list of problems into one error that names fields, values and cures.

        The values of the `secret` fields are not shown.
        """
        known, secret = list(known), frozenset(secret)
        raised = [row.get("ctx", {}).get("error") for row in errors]
        text = " ".join(
            _problem(model, row, why, known, secret) for row, why in zip(errors, raised, strict=True)
        )
        first = next((why for why in raised if isinstance(why, InvalidInput)), None)
        cure = first.next_step if first else "correct the fields named and build it again"
        problem = (type(first) if first else cls)(text, next_step=cure)
        problem.fields = tuple(".".join(map(str, row["loc"])) for row in errors if row["loc"])
        return problem


def _problem(model: str, row: Any, raised: object, known: list[str], secret: frozenset[str]) -> str:
    place = ".".join(str(part) for part in row["loc"])
    name = f"{model}.{place}" if place else model
    if isinstance(raised, BrokerError):
        return f"{name}: {raised.message}"
    if row["type"] == "missing":
        return f"{name} is missing."
    if row["type"] == "extra_forbidden":
        close = nearest(place, known, most=1)
        return f"{name} is not a field{f'; did you mean {close[0]}?' if close else '.'}"
    text = str(row["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if not row["loc"]:  # a rule over several fields: its input is the whole model, secrets included
        return f"{name}: {text.rstrip('.')}."
    got = f"a {type(row['input']).__name__}" if row["loc"][0] in secret else repr(row["input"])
    return f"{name}: got {got}, expected {text.rstrip('.')}."


class NaiveDatetime(InvalidInput):
    """A time without a time zone, which could mean any of two dozen moments."""

    default_next_step = "pass an aware time, e.g. datetime.now(timezone.utc) instead of datetime.utcnow()"


class MalformedSymbol(InvalidInput):
    """A symbol text that follows none of the known forms."""

    default_next_step = (
        "write SYMBOL or SYMBOL@MIC: BTC-USD, AAPL, BRK.B, AAPL261218C00200000, ESZ6; see `instruments`"
    )


class UnknownInstrument(InvalidInput):
    """A well-formed symbol that this broker does not list."""


class RecordingError(InvalidInput):
    """A market-data recording that can't be read, or rows of it that make no sense."""


# --- configuration -----------------------------------------------------------------------------------


class ConfigurationError(BrokerError):
    """Something must be chosen, corrected or supplied before the broker can be opened; among `choices`."""

    default_repeat_is_safe = True

    def __init__(self, message: str, *, choices: Sequence[str] = (), **context: Any) -> None:
        super().__init__(message, **context)
        self.choices = tuple(choices)


class EnvironmentNotChosen(ConfigurationError):
    """No environment was named, and live money is never reached by default."""


class AmbiguousInstrument(ConfigurationError):
    """More than one instrument answers to the symbol; `choices` lists them as SYMBOL@MIC."""


class AccountNotChosen(ConfigurationError):
    """The login has several accounts and none was named; `choices` lists them."""


class UnknownSetting(ConfigurationError):
    """A configuration key that no setting answers to."""


class UnknownInstance(ConfigurationError, KeyError):
    """No broker instance of this name is configured."""


# --- state files -------------------------------------------------------------------------------------


class StateError(BrokerError):
    """The state file under a broker can't be used; nothing in it was changed."""


class StateCorrupted(StateError):
    """The state file is damaged or is not one of ours."""


class StateLocked(StateError):
    """Another process owns the state; the error names it."""

    default_repeat_is_safe = True


class StateTooNew(StateError):
    """A newer release wrote the state file."""


class StateMismatch(StateError):
    """The state file belongs to another broker, environment or account."""


class StateUnwritable(StateError):
    """The state file could not be written: disk full, read-only, or gone."""


# --- orders: the four answers ------------------------------------------------------------------------


class OrderError(BrokerError):
    """An order command that did not end in a confirmation; carries the order as far as it is known."""

    def __init__(self, message: str, *, order: Order | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.order = order


class OrderDenied(OrderError):
    """Denied by us: nothing reached the venue's order system. `reason` is a stable short word."""

    default_repeat_is_safe = True

    def __init__(self, message: str, *, reason: str = "denied", **context: Any) -> None:
        super().__init__(message, **context)
        self.reason = reason


class UnsupportedCapability(BrokerError):
    """The broker, or its adapter, does not offer this; `capability` names it."""

    code = "unsupported"
    default_repeat_is_safe = True
    default_next_step = "see the broker's capability page, or `mts mts1b-brokers info NAME`"

    def __init__(self, message: str, *, capability: str = "", **context: Any) -> None:
        super().__init__(message, **context)
        self.capability = capability


class OrderUnsupported(OrderDenied, UnsupportedCapability):
    """Order terms this broker does not take in this combination."""

    def __init__(self, message: str, *, reason: str = "unsupported", **context: Any) -> None:
        super().__init__(message, reason=reason, **context)


class IdempotencyConflict(OrderDenied):
    """The idempotency key is already used for an order with other terms."""

    default_next_step = "use a new idempotency key for a different order"


class OrderRejected(OrderError):
    """Rejected by the venue on the order's own terms; `reason` is normalised, `words` are the venue's."""

    def __init__(self, message: str, *, reason: str = "other", words: str = "", **context: Any) -> None:
        super().__init__(message, **context)
        self.reason = reason
        self.words = words


class OrderNotPlaced(OrderError):
    """The order is not at the venue: proven, or only probable.

    Where absence is proven a repeat with the same key is safe; where it is probable the caller may
    accept the risk with `submit(order, accept_duplicate_risk=True)`.
    """

    def __init__(
        self, message: str, *, certainty: Certainty, retry_after: float | None = None, **context: Any
    ) -> None:
        context.setdefault("repeat_is_safe", certainty == "proven")
        super().__init__(message, **context)
        self.certainty = certainty
        self.retry_after = retry_after


class OutcomeUnknown(OrderError):
    """The order may be live: the venue's answer is missing or can't be trusted.

    `await error.resolved()` waits for the verdict and returns the order, or raises what was found.
    """

    default_next_step = "await error.resolved(), or look at broker.unresolved(); don't send another order"

    def __init__(
        self, message: str, *, resolve: Callable[[], Awaitable[Order]] | None = None, **context: Any
    ) -> None:
        super().__init__(message, **context)
        self._resolve = resolve

    async def resolved(self) -> Order:
        """Wait for the verdict: return the confirmed order or raise what the resolver found."""
        if self._resolve is None:
            raise self
        return await self._resolve()


class OrderNotFound(OrderError):
    """No order of this broker and account has the id."""

    default_repeat_is_safe = True


class WaitTimeout(BrokerError, TimeoutError):
    """A wait ended before what it waited for; the order itself was not touched."""

    default_repeat_is_safe = True


# --- the venue ---------------------------------------------------------------------------------------


class VenueError(BrokerError):
    """The venue answered, but not with what was asked for."""


class AuthenticationError(VenueError):
    """The venue does not accept the credentials."""


class PermissionDenied(VenueError):
    """The credentials are good but may not do this."""

    code = "permission"


class RateLimited(VenueError):
    """The venue asks for fewer requests; `retry_after` is in seconds, or None where it didn't say."""

    def __init__(self, message: str, *, retry_after: float | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.retry_after = retry_after


class VenueUnavailable(VenueError):
    """The venue can't be reached or is closed for maintenance."""


class NotSent(VenueUnavailable):
    """The request failed before its first byte left: the venue can't have seen it."""

    default_repeat_is_safe = True


class ReplyLost(VenueUnavailable):
    """The request was sent, in whole or in part, and its reply is missing, cut short or not HTTP."""


class UnreadableReply(VenueError):
    """The venue's reply does not have the documented form; `words` is its redacted text."""

    def __init__(self, message: str, *, words: str = "", **context: Any) -> None:
        super().__init__(message, **context)
        self.words = words


# --- plugins and life cycle --------------------------------------------------------------------------


class PluginError(BrokerError):
    """A plugin can't be used."""


class BrokerNotInstalled(PluginError):
    """No installed distribution provides a broker of this name."""


class PluginUnusable(PluginError):
    """The plugin is installed but unusable; `state` and `cause` say why."""

    def __init__(self, message: str, *, state: str = "", cause: str = "", **context: Any) -> None:
        super().__init__(message, **context)
        self.state = state
        self.cause = cause


class BrokerClosed(BrokerError):
    """The broker object is not open: not opened yet, closed, or used from another event loop."""

    default_next_step = "open it with `async with open_broker(...)`; a closed broker is not reopened"


class BrokerFailed(BrokerError):
    """A background task of the broker crashed; its streams end with this error."""

    default_next_step = "close this broker, read the cause, and open a new one: the journal keeps every order"
