"""Repeating what failed, where a repeat is safe; nothing is loaded or paid for until something fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import BrokerError

P = ParamSpec("P")
T = TypeVar("T")

LONGEST = 30.0
#: Statuses that turn a request away unread, whatever it asks for.
UNREAD = frozenset({401, 403, 429})

#: What the running scope has done that a repeat would do a second time.
_done: ContextVar[list[str] | None] = ContextVar("mts1b_attempt_did", default=None)


def took_effect(what: str) -> None:
    """Note that a request that changes something went out: the function around it isn't repeated."""
    if (done := _done.get()) is not None:
        done.append(what)


@contextmanager
def effects() -> Iterator[list[str]]:
    """Collect what the block does that a repeat would do a second time; a block around it learns it too."""
    done: list[str] = []
    token = _done.set(done)
    try:
        yield done
    finally:
        _done.reset(token)
        for what in done:
            took_effect(what)


def with_retry(
    *, retries: int, backoff: float, clock: Clock | None = None
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Decorate an async function: repeat it up to `retries` times where its error says `repeat_is_safe`.

    `backoff` is the first wait in seconds; the longest wait doubles with each repeat up to 30 s, and each is
    drawn at random below it, but never shorter than the error's own `retry_after`. A function that had a
    POST, PUT, PATCH or DELETE go out before it failed is not repeated, whatever the error says, unless the
    venue turned that away unread (401, 403, 429). Raises the last error.
    """

    def decorate(call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @wraps(call)
        async def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
            async def once() -> T:
                with effects() as done:
                    try:
                        return await call(*args, **kwargs)
                    except BrokerError as error:
                        if done:
                            error.repeat_is_safe = False
                        raise

            try:
                return await once()
            except BrokerError as error:
                if not error.repeat_is_safe or retries < 1:
                    raise
                failed = error
            return await again(
                once, failed, lambda e: e.repeat_is_safe, retries=retries, backoff=backoff, clock=clock
            )

        return attempt

    return decorate


async def again(
    call: Callable[[], Awaitable[T]],
    failed: BrokerError,
    repeatable: Callable[[BrokerError], bool],
    *,
    retries: int,
    backoff: float,
    clock: Clock | None,
) -> T:
    """Call once more, up to `retries` times, after a first call that `failed`; raises the last error."""
    from tenacity import (
        AsyncRetrying,
        RetryCallState,
        retry_if_exception,
        stop_after_attempt,
        wait_random_exponential,
    )

    if clock is None:
        from .clock import RealClock

        clock = RealClock()
    spread = wait_random_exponential(multiplier=backoff, max=LONGEST)
    first = [failed]

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(spread(state), getattr(error, "retry_after", None) or 0.0)

    async def attempt() -> T:
        if first:  # tenacity's first attempt is the one that has failed already
            raise first.pop()
        return await call()

    return await AsyncRetrying(
        sleep=clock.sleep,
        stop=stop_after_attempt(retries + 1),
        wait=wait,
        retry=retry_if_exception(lambda error: isinstance(error, BrokerError) and repeatable(error)),
        reraise=True,
    )(attempt)
