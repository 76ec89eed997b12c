"""Several brokers at once: what is configured is opened, and one that fails never stops the others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from mts1b_brokers_core.foundation import Clock, Order, Run, errors
from mts1b_brokers_core.plugins.registry import Registry, registry

from .config import Config, ConfigSource, load_config
from .opening import Opening, Request
from .settings import broker_of

if TYPE_CHECKING:
    from mts1b_brokers_core.execution.client import VenueClient

HubState = Literal["opening", "ready", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """How one configured instance stands; `error` is None unless it failed, `remedy` says what to do."""

    instance: str
    broker: str
    state: HubState
    error: BaseException | None = None
    remedy: str = ""

    def __str__(self) -> str:
        why = f": {self.error}" if self.error is not None else ""
        return f"{self.instance} ({self.broker}): {self.state}{why}"


class BrokerHub:
    """The brokers of one configuration, opened by `async with BrokerHub.from_config(path) as hub:`.

    `hub[instance]` is the opened broker; iterating gives the names of all configured instances,
    `hub.ready` the opened ones. Use `hub.submit` where one idempotency key must mean one order over
    all instances.
    """

    def __init__(self, config: Config, environ: Mapping[str, str], clock: Clock | None = None) -> None:
        self._config, self._environ, self._clock = config, environ, clock
        self._registry: Registry = registry(config.policy)
        self._run = Run(tuple(config.instances))
        self._brokers: dict[str, VenueClient] = {}
        self._status: dict[str, InstanceStatus] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._leave = asyncio.Event()
        self._keys: dict[str, str] = {}

    @classmethod
    def from_config(
        cls, source: ConfigSource = None, *, clock: Clock | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:  # fmt: skip
        """Read a configuration file or mapping, by default the user's own file; nothing is opened yet.

        Raises `ConfigurationError`, `UnknownSetting` where the file as a whole can't be used.
        """
        return cls(load_config(source, environ), environ, clock)

    # --- opening and closing -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._registry.facade.started(self._run)
        loop = asyncio.get_running_loop()
        opened = {instance: loop.create_future() for instance in self._config.instances}
        self._tasks = [
            loop.create_task(self._serve(instance, ready), name=f"mts1b-hub-{instance}")
            for instance, ready in opened.items()
        ]
        try:
            await asyncio.gather(*opened.values())
        except BaseException:
            for task in self._tasks:
                task.cancel()
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        problems = await self._close()
        if problems and error is None:
            raise ExceptionGroup("brokers that did not close cleanly", problems)

    async def _serve(self, instance: str, ready: asyncio.Future[None]) -> None:
        """Hold one broker open from its own task: some must be left in the task that entered them."""
        broker = self._config.instances[instance].get("broker", instance)
        self._status[instance] = InstanceStatus(instance, str(broker), "opening")
        try:
            name = broker_of(instance, self._config, self._environ)
            elsewhere = partial(self._held_elsewhere, instance)
            request = Request(name, instance, self._config, self._clock, {}, self._environ, elsewhere)
            async with Opening(request) as opened:
                self._brokers[instance] = opened
                self._status[instance] = InstanceStatus(instance, name, "ready")
                ready.set_result(None)
                await self._leave.wait()
        except Exception as error:
            next_step = getattr(error, "next_step", "")
            self._status[instance] = InstanceStatus(instance, str(broker), "failed", error, next_step)
            if ready.done():
                raise
        else:
            self._status[instance] = InstanceStatus(instance, name, "closed")
        finally:
            self._brokers.pop(instance, None)
            if not ready.done():
                ready.set_result(None)

    async def _close(self) -> list[Exception]:
        self._leave.set()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._registry.facade.ended(self._run)
        await asyncio.to_thread(self._registry.facade.flush)
        return [problem for problem in ended if isinstance(problem, Exception)]

    # --- looking -------------------------------------------------------------------------------------

    @property
    def status(self) -> list[InstanceStatus]:
        """One row for every configured instance, in the configuration's order."""
        return [self._status[name] for name in self._config.instances if name in self._status]

    @property
    def ready(self) -> dict[str, VenueClient]:
        """The opened brokers by instance."""
        return dict(self._brokers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._config.instances)

    def __len__(self) -> int:
        return len(self._config.instances)

    def __contains__(self, instance: object) -> bool:
        return instance in self._config.instances

    def __getitem__(self, instance: str) -> VenueClient:
        """Return an opened broker. Raises `UnknownInstance`, `BrokerFailed` from what kept it closed."""
        broker = self._brokers.get(instance)
        if broker is not None:
            return broker
        if instance not in self._config.instances:
            close = errors.nearest(instance, self._config.instances)
            have = ", ".join(self._config.instances) or "none"
            raise errors.UnknownInstance(
                f"no instance {instance!r} is configured in {self._config.place}; there are: {have}.",
                next_step=f"did you mean {' or '.join(close)}?" if close else f"add [brokers.{instance}]",
                operation="find",
            )  # fmt: skip
        row = self._status.get(instance)
        if row is None or row.error is None:
            raise errors.BrokerClosed("the hub is not open.", broker=instance, operation="find")
        cause = row.error.message if isinstance(row.error, errors.BrokerError) else repr(row.error)
        raise errors.BrokerFailed(
            f"it could not be opened: {cause}", broker=instance, operation="find", next_step=row.remedy
        ) from row.error

    def __repr__(self) -> str:
        return f"BrokerHub({', '.join(f'{row.instance}: {row.state}' for row in self.status)})"

    # --- routing -------------------------------------------------------------------------------------

    async def submit(self, instance: str, order: Order, **options: Any) -> Order:
        """Submit to one instance; a key that another instance holds is refused before anything is sent.

        `options` go to the broker's own `submit`. Raises what that raises, and `IdempotencyConflict`.
        """
        broker = self[instance]
        keys = (order.idempotency_key, *(child.idempotency_key for child in order.attached))
        for key in keys:
            if holder := self._held_elsewhere(instance, key):
                why = f"the idempotency key {key!r} belongs to an order at {holder}."
                context: dict[str, Any] = {"broker": instance, "operation": "submit", "order": order}
                raise errors.IdempotencyConflict(why, reason="duplicate_key", **context)
        claimed = [key for key in keys if key not in self._keys]
        self._keys.update(dict.fromkeys(claimed, instance))
        free = hasattr(broker, "holds")  # then its journal answers for the key from now on
        try:
            return await broker.submit(order, **options)
        except errors.OrderDenied:  # nothing was sent
            free = True
            raise
        finally:
            for key in claimed if free else ():
                self._keys.pop(key, None)

    def _held_elsewhere(self, instance: str, key: str) -> str | None:
        """Name the other instance that holds a key, or None; brokers with a journal ask this too."""
        for other, broker in self._brokers.items():
            if other != instance and hasattr(broker, "holds") and broker.holds(key):
                return other
        holder = self._keys.get(key)
        return None if holder == instance else holder
