"""The reference venue on the wire."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from mts1b_brokers_core.foundation.clock import Clock
from mts1b_brokers_core.foundation.errors import InvalidInput, nearest
from mts1b_brokers_core.foundation.plugin import SimulatorOptions
from mts1b_brokers_core.platform.clock import to_ns
from mts1b_simulator.wire import Declined, HttpServer, Reply, Request, Upgrade

from .access import Access, Granted, RequestLimit
from .books import BookExecution, BookOrder
from .market import ACCOUNT
from .paging import page
from .profile import PROFILES, ReferenceProfile
from .stream import CHANNELS, Stream
from .venue import ReferenceVenue

_PUBLIC = ("GET /v1/time", "GET /v1/instruments", "GET /v1/quotes/")


class ReferenceServer(HttpServer):
    """Serves a `ReferenceVenue` of some profile; `venue` is its books, never subject to faults.

    `fill_every` lets random parts of resting orders fill, that many seconds apart, by the seed. Raises
    `InvalidInput` for a profile that isn't there.
    """

    def __init__(
        self, profile: ReferenceProfile | str = "native_dedupe", *, host: str = "127.0.0.1", port: int = 0,
        seed: int = 0, tls: bool = False, faults: Sequence[str] = (), clock: Clock | None = None,
        fill_every: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(SimulatorOptions(host, port, seed, tls, faults), clock=clock)
        self.profile_name = profile if isinstance(profile, str) else "custom"
        self.profile = profile_named(profile) if isinstance(profile, str) else profile
        self.access = Access(self.profile, lambda: self.shift // timedelta(microseconds=1) * 1000)
        self.streams: set[Stream] = set()
        self._limit = None if self.profile.limit is None else RequestLimit(self.profile.limit)
        self._fill_every = fill_every
        self._random = random.Random(seed)  # noqa: S311 - a run must repeat itself
        self.venue = ReferenceVenue(self.profile, self)
        self._route()

    @classmethod
    def from_options(cls, options: SimulatorOptions, *, clock: Clock | None = None) -> ReferenceServer:
        """Build one as the command line and the runtime do: `extra` may hold `profile` and `fill_every`."""
        unknown = options.extra.keys() - {"profile", "fill_every"}
        if unknown:
            raise InvalidInput(
                f"the reference venue takes no {', '.join(sorted(unknown))}.",
                next_step="choose among profile, fill_every",
            )
        every = options.extra.get("fill_every")
        return cls(
            options.extra.get("profile", "native_dedupe"), host=options.host, port=options.port,
            seed=options.seed, tls=options.tls, faults=options.faults, clock=clock,
            fill_every=None if every is None else _seconds(every),
        )  # fmt: skip

    async def start(self) -> None:
        """Start listening."""
        await super().start()
        if self._fill_every is not None:
            self.spawn(self._fill_now_and_then(self._fill_every))

    async def _fill_now_and_then(self, seconds: float) -> None:
        while True:
            await self.clock.sleep(seconds)
            self.venue.fill_some(self._random)

    def restarted(self, *, keep: bool) -> None:
        """Lose orders, executions and sessions, unless they are kept."""
        if not keep:
            self.venue.forget()
            self.access.forget()

    @property
    def settings(self) -> Mapping[str, str]:
        """Addresses, throwaway credentials and the profile's name, as a client's settings have them."""
        return {
            **super().settings,
            "ws_url": f"{self.ws_url}/v1/stream",
            "api_key": self.access.key.name,
            "api_secret": self.access.key.secret,
            "profile": self.profile_name,
        }

    # --- for the venue --------------------------------------------------------------------------------

    def clock_ns(self) -> int:
        """Return the machine's time (ns)."""
        return self.clock.now_ns()

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something after that many seconds; what the venue forgot meanwhile is its business."""

        async def wait() -> None:
            await self.clock.sleep(seconds)
            work()

        self.spawn(wait())

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels this profile offers."""
        if self.profile.fill_source == "trigger":
            return ("orders", "triggers")
        return ("orders",) if self.profile.fill_identity == "cumulative" else CHANNELS

    def order_changed(self, order: BookOrder) -> None:
        """Tell subscribers of an order; a trigger waits until the order can be read."""
        self._tell("orders", "order", lambda: order.show(self.clock_ns()))
        row = {"order_id": order.id, "client_order_id": order.token}
        trigger = partial(self._tell, "triggers", "trigger", lambda: row)
        if self.profile.visibility and "triggers" in self.channels:
            self.later(self.profile.visibility, trigger)
        else:
            trigger()

    def executed(self, execution: BookExecution) -> None:
        """Tell subscribers of an execution."""
        self._tell("executions", "execution", lambda: execution.show(self.profile, self.clock_ns()))

    def _tell(self, channel: str, kind: str, data: Callable[[], Any]) -> None:
        listeners = [stream for stream in self.streams if channel in stream.channels]
        if listeners and channel in self.channels:
            row = data()
            for stream in listeners:
                stream.send(channel, kind, row)

    # --- requests -------------------------------------------------------------------------------------

    def _route(self) -> None:
        add = self.routes.add
        add("GET", "/v1/time", lambda request: Reply.json(200, {"time": self.now()}))
        add("POST", "/v1/session", self._session)
        add("GET", "/v1/accounts", self._accounts)
        add("GET", "/v1/instruments", self._instruments)
        add("GET", "/v1/quotes/{symbol}", self._quote)
        add("GET", "/v1/positions", self._positions)
        add("GET", "/v1/balances", lambda request: Reply.json(200, {"balances": self.venue.balances()}))
        add("POST", "/v1/orders", self._place)
        add("GET", "/v1/orders", self._orders)
        add("GET", "/v1/orders/by_token/{token}", self._by_token)
        add("DELETE", "/v1/orders/by_token/{token}", self._cancel)
        for method, handler in (("GET", self._order), ("DELETE", self._cancel), ("PATCH", self._replace)):
            add(method, "/v1/orders/{id}", handler)
        add("GET", "/v1/executions", self._executions)
        add("GET", "/v1/fees", self._fees)
        add("GET", "/v1/stream", Upgrade(partial(Stream, self), self._admit_stream))

    def admit(self, request: Request) -> None:
        """Let a request pass limits and signature."""
        if self._limit is not None and not request.late and not self._limit.take(self.clock.monotonic()):
            wait = self._limit.reset_in(self.clock.monotonic())
            told = {"Retry-After": str(math.ceil(wait))} if self._limit.limit.tells_retry_after else {}
            raise Declined(429, "rate_limited", "too many requests; this one was not executed", **told)
        if request.path != "/v1/stream" and not request.label.startswith(_PUBLIC):
            request.admitted = self.access.admit(request)
        self.venue.advance()

    def dress(self, request: Request, reply: Reply) -> None:
        """Add the date, and what is left of the limit."""
        super().dress(request, reply)
        if self._limit is not None:
            reply.headers["X-Limit-Remaining"] = str(self._limit.remaining)
            reply.headers["X-Limit-Reset"] = f"{self._limit.reset_in(self.clock.monotonic()):.3f}"

    def _admit_stream(self, request: Request) -> None:
        if self.profile.fill_source == "poll":
            raise Declined(404, "no_stream", "this venue has no stream")

    def _session(self, request: Request) -> Reply:
        granted: Granted = request.admitted
        session = self.access.open_session(granted.key, self.clock_ns())
        if self.profile.login == "exclusive":
            for stream in list(self.streams):
                if stream.logged_in:
                    stream.end("session_taken", "another login took the session over")
        return Reply.json(201, {"session": session.id})

    # --- reads ----------------------------------------------------------------------------------------

    def _accounts(self, request: Request) -> Reply:
        return Reply.json(200, {"accounts": [{"id": ACCOUNT, "name": "Main", "currency": "USD"}]})

    def _instruments(self, request: Request) -> Reply:
        listed = list(enumerate(market.instrument for market in self.venue.exchange.markets.values()))
        rows, following = page(listed, lambda row: (row[0],), request.query)
        shown = [row.model_dump(include=_INSTRUMENT_FIELDS) for _, row in rows]
        return Reply.json(200, {"instruments": shown, "next": following})

    def _quote(self, request: Request) -> Reply:
        symbol = request.params["symbol"]
        if symbol not in self.venue.exchange.markets:
            raise Declined(404, "unknown_symbol", f"{symbol} is not listed")
        (bid, bid_size), (ask, ask_size) = (side[0] for side in self.venue.books()[symbol])
        row = {"symbol": symbol, "bid": bid, "ask": ask, "bid_size": bid_size, "ask_size": ask_size}
        return Reply.json(200, {**row, "time": self.now()})

    def _positions(self, request: Request) -> Reply:
        rows = [
            {
                "symbol": symbol, "quantity": quantity, "available": None, "average_price": None,
                "market_price": None, "currency": self.venue.exchange.market(symbol).quote,
            }
            for symbol, quantity in self.venue.positions().items()
            if quantity
        ]  # fmt: skip
        return Reply.json(200, {"positions": rows})

    def _seen(self, at_ns: int) -> bool:
        """True where something of that moment shows in reads by now."""
        return self.clock_ns() - at_ns >= self.profile.visibility * 1e9

    def _within(self, at_ns: int, window: float | None) -> bool:
        return window is None or self.clock_ns() - at_ns <= window * 1e9

    def _orders(self, request: Request) -> Reply:
        query, since = request.query, _moment(request.query, "since")
        open_only = query.get("status", "all") == "open"
        rows = [
            order
            for order in self.venue.orders()
            if self._seen(order.created_ns)
            and (
                order.is_open
                or (not open_only and self._within(order.created_ns, self.profile.lookup_window))
            )
            and (since is None or order.updated >= since)
            and query.get("symbol", order.terms.symbol) == order.terms.symbol
        ]
        shown, following = page(rows, lambda order: (order.number,), query)
        now_ns = self.clock_ns()
        return Reply.json(200, {"orders": [order.show(now_ns) for order in shown], "next": following})

    def _order(self, request: Request) -> Reply:
        order = self.venue.order(request.params["id"])
        if order is None or not self._seen(order.created_ns):
            raise Declined(404, "not_found", f"there is no order {request.params['id']}")
        return Reply.json(200, {"order": order.show(self.clock_ns())})

    def _by_token(self, request: Request) -> Reply:
        token, window = request.params["token"], self.profile.lookup_window
        rows = [
            order.show(self.clock_ns())
            for order in self.venue.named(token)
            if self._seen(order.created_ns) and (order.is_open or self._within(order.created_ns, window))
        ]
        if not rows:
            raise Declined(404, "not_found", f"no order is named {token}")
        return Reply.json(200, {"order": rows[-1], "orders": rows})

    def _executions(self, request: Request) -> Reply:
        query, profile, now_ns = request.query, self.profile, self.clock_ns()
        if profile.fill_identity == "cumulative":
            raise Declined(404, "no_executions", "this venue shows no executions, only orders")
        since, until = _moment(query, "since"), _moment(query, "until")
        order = self.venue.order(query["order_id"]) if "order_id" in query else None
        rows = [
            row
            for row in (order.fills if order is not None else self.venue.executions())
            if self._seen(row.at_ns)
            and self._within(row.at_ns, profile.fill_window)
            and (since is None or row.executed_at >= since)
            and (until is None or row.executed_at < until)
            and query.get("order_id", row.order.id) == row.order.id
        ]
        shown, following = page(rows, lambda row: (row.number,), query)
        return Reply.json(
            200, {"executions": [row.show(profile, now_ns) for row in shown], "next": following}
        )

    def _fees(self, request: Request) -> Reply:
        """List the fees that became known after their executions."""
        since, now_ns = _moment(request.query, "since"), self.clock_ns()
        since_ns = 0 if since is None else to_ns(since - self.shift)
        listed = self.venue.late_fees(since_ns, now_ns) if self.profile.fill_identity != "cumulative" else []
        listed = [row for row in listed if self._seen(row.at_ns)]
        shown, following = listed, None
        if request.query.keys() & {"cursor", "limit"}:
            shown, following = page(listed, lambda row: (row.fees_from_ns or 0, row.number), request.query)
        rows = [
            {
                "execution_id": row.shown_id(self.profile), "order_id": row.order.id, "fees": row.fees,
                "status": row.fee_status,
            }
            for row in shown
        ]  # fmt: skip
        return Reply.json(200, {"fees": rows, "next": following})

    # --- commands -------------------------------------------------------------------------------------

    def _place(self, request: Request) -> Reply:
        granted: Granted = request.admitted
        order = self.venue.place(request.json(), expires_ns=granted.expires_ns)
        return Reply.json(201, {"order": order.show(self.clock_ns())})

    def _named(self, request: Request) -> BookOrder:
        """Return the order a command names; the venue knows it before any read shows it."""
        if "token" not in request.params:
            order = self.venue.order(request.params["id"])
        else:
            orders = self.venue.named(request.params["token"])
            order = next(
                (order for order in reversed(orders) if order.is_open), orders[-1] if orders else None
            )
        if order is None:
            raise Declined(404, "not_found", "there is no such order")
        return order

    def _cancel(self, request: Request) -> Reply:
        by = "token" if "token" in request.params else "venue_id"
        if by != self.profile.cancel_by:
            raise Declined(422, "cancel_by", f"orders are cancelled by {self.profile.cancel_by} here")
        order = self._named(request)
        try:
            self.venue.cancel(order)
        except Declined as error:
            shown = {
                "error": {"code": error.code, "message": error.message},
                "order": order.show(self.clock_ns()),
            }
            return Reply.json(error.status, shown)
        return Reply.json(202, {"order": order.show(self.clock_ns())})

    def _replace(self, request: Request) -> Reply:
        order = self.venue.replace(self._named(request), request.json())
        return Reply.json(200, {"order": order.show(self.clock_ns())})


_INSTRUMENT_FIELDS = {
    "symbol", "asset_class", "name", "base", "quote", "price_increment", "quantity_increment",
    "min_quantity", "min_notional", "tradable", "market",
}  # fmt: skip


def profile_named(name: str) -> ReferenceProfile:
    """Return a profile by name. Raises `InvalidInput` with the names."""
    try:
        return PROFILES[name]
    except KeyError:
        close = ", ".join(nearest(name, PROFILES))
        raise InvalidInput(
            f"there is no profile {name!r}" + (f"; did you mean {close}?" if close else "."),
            next_step=f"choose one of {', '.join(PROFILES)}",
        ) from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"got {text!r} for fill_every, expected seconds.") from None


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    if not query.get(name):
        return None
    try:
        moment = datetime.fromisoformat(query[name].replace(" ", "+"))
    except ValueError:
        raise Declined(400, "bad_request", f"{name} is a time as ISO 8601") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
