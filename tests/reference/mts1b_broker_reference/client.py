"""The reference venue as a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx

from mts1b_brokers_core import VenueClient
from mts1b_brokers_core.execution.client import ReplacingClient
from mts1b_brokers_core.execution.port import (
    CancelResult,
    Coverage,
    Decoded,
    FeeAmendment,
    FindResult,
    Found,
    Inconclusive,
    Listing,
    OrderRef,
    OrderView,
    PlaceResult,
    Rejected,
    Seen,
    Ticket,
)
from mts1b_brokers_core.execution.reads import (
    ReadsAccount,
    ReadsInstruments,
    ReadsOrderById,
    ReadsOrderByKey,
)
from mts1b_brokers_core.execution.rows import listing, meant, paged
from mts1b_brokers_core.foundation import (
    Account,
    Balance,
    ConfigurationError,
    Instrument,
    Order,
    Page,
    Position,
    Quote,
    Services,
)
from mts1b_brokers_core.foundation.plugin import Connection
from mts1b_brokers_core.platform.http import decode_json, http_client, raise_for, raw_request, send_raw
from mts1b_brokers_core.platform.security import register_secret
from mts1b_brokers_core.platform.websocket import Item, WebSocket

from .auth import SignedAuth, Signer
from .profiles import LIMIT, profile_named
from .settings import ReferenceSettings
from .stream import ReferenceStream
from .translate import (
    CHANGEABLE,
    account_of,
    amendment_of,
    balance_of,
    canceled,
    change_fields,
    execution_of,
    instrument_of,
    order_fields,
    placed,
    position_of,
    quote_of,
    session_in,
    text_of,
    time_in,
    view_in,
    view_of,
)
from .wire import encoded, order_path, page_of, quoted, rows_of, says_not_found

#: How far before an attempt its order may be dated: what our clock and the venue's may differ by.
_EARLIER = timedelta(seconds=10)


class ReferenceClient(
    ReplacingClient, ReadsOrderById, ReadsOrderByKey, ReadsInstruments, ReadsAccount, VenueClient
):
    """A broker at the reference venue; keywords are the fields of `ReferenceSettings`."""

    settings: ReferenceSettings

    def __init__(
        self, settings: ReferenceSettings | None = None, *, services: Services | None = None, **keywords: Any
    ) -> None:
        settings = ReferenceSettings(**keywords) if settings is None else settings.model_copy(update=keywords)
        self.profile = profile_named(settings.profile, settings.requests_per_second)
        super().__init__(settings, services)
        self._opened = AsyncExitStack()
        self._http: httpx.AsyncClient
        self._signer: Signer
        self._stream: ReferenceStream

    # --- the port -------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Learn the venue's time, log in, and prepare the stream."""
        settings = self.settings
        if not (settings.base_url and settings.ws_url):
            raise ConfigurationError(
                "base_url and ws_url are not set.", next_step="set both, or choose environment='simulator'"
            )
        register_secret(settings.api_key)
        register_secret(settings.api_secret)
        self._signer = Signer(settings.api_key, settings.api_secret, self.skew.venue_now)
        self._http = http_client(
            "reference", base_url=settings.base_url, timeout=settings.timeout, auth=SignedAuth(self._signer),
            clock=self.clock, limiter=self.limiter, cost=self._cost_of, tap=self.recorder, skew=self.skew,
            on_reply=self._heed, ca_file=settings.ca_file,
        )  # fmt: skip
        self._opened.push_async_callback(self._http.aclose)
        await self._server_time()
        if self.profile.login == "exclusive":
            self._signer.session = meant(self._reply(await self._http.post("/v1/session")), session_in)
        self._stream = ReferenceStream(self._signer, self.profile)

    async def disconnect(self) -> None:
        """Close what was opened, last first."""
        await self._opened.aclose()

    @property
    def connection(self) -> Connection:
        """How the venue is reached."""
        settings = self.settings
        return Connection(
            endpoint=settings.base_url or "no address",
            credentials="key and secret" if settings.api_key.get_secret_value() else "no key",
            stream=settings.ws_url or None,
        )

    def cost(self, operation: str, order: Order | None) -> Mapping[str, float]:
        """Return what a request takes: the same, whatever it asks."""
        return {LIMIT: 1.0} if self.profile.limits else {}

    async def frames(self) -> AsyncIterator[Sequence[Item]]:
        """Iterate over batches of what arrived together."""
        socket = WebSocket(
            self.settings.ws_url, self.clock, hello=self._stream.hello, silent_after=5.0, heartbeats=True,
            tap=self.recorder, ca_file=self.settings.ca_file,
        )  # fmt: skip
        self._opened.push_async_callback(socket.close)
        async for batch in socket.batches():
            yield batch

    def decode(self, frame: Sequence[Item]) -> Sequence[Decoded]:
        """Say what a batch tells."""
        return [item for one in frame for item in self._stream.decode(one)]

    async def place(self, ticket: Ticket) -> PlaceResult:
        """Send one order, signed as of the attempt: from there the venue's own time limits count."""
        deadline = None
        if self.profile.not_after == "deadline" and ticket.not_after is not None:
            deadline = self._venue_time(ticket.not_after)
        body = encoded(order_fields(ticket, deadline))
        return placed(*await self._command("POST", "/v1/orders", body, at=ticket.t0))

    async def cancel_one(self, ref: OrderRef) -> CancelResult:
        """Ask for one cancel."""
        by_token = self.profile.cancel_by == "token" and ref.token is not None
        path = order_path(None if by_token else ref.broker_order_id, ref.token)
        return canceled(*await self._command("DELETE", path))

    async def replace_one(self, ref: OrderRef, ticket: Ticket) -> PlaceResult:
        """Ask for one change; what can't be changed here is refused with nothing sent."""
        given = ticket.changes.given() if ticket.changes else {}
        if self.profile.replace == "none" or not given.keys() <= CHANGEABLE:
            return Rejected("unsupported", f"this venue can't change {', '.join(sorted(given))}")
        path = order_path(ref.broker_order_id, ref.token)
        return placed(*await self._command("PATCH", path, encoded(change_fields(ticket)), at=ticket.t0))

    async def find(self, ticket: Ticket) -> FindResult:
        """Ask for the orders of the token; without one, for its symbol's since shortly before the attempt."""
        if ticket.token is None:
            since = self._venue_time(ticket.t0) - _EARLIER
            seen = await self._orders(status="all", since=since, symbol=ticket.order.symbol)
        else:
            reply = await self._order(OrderRef(token=ticket.token))
            rows = [] if reply is None else rows_of(reply, "orders")
            seen = listing(rows, view_of, Coverage(("orders by token",)))
        if seen.unreadable:
            return Inconclusive(seen.unreadable[0].cause)
        return Found(seen.rows, seen.coverage)

    async def read(self, refs: Sequence[OrderRef]) -> Listing[OrderView]:
        """Read orders by id; those the venue doesn't know are left out."""
        replies = [await self._order(ref) for ref in refs]
        known = [reply for reply in replies if reply is not None]
        return listing(known, view_in, Coverage(("orders by id",)))

    async def open_orders(self, account_id: str) -> Listing[OrderView]:
        """List the orders the venue works."""
        return await self._orders(status="open")

    async def executions(
        self, account_id: str, since: datetime | None, until: datetime | None
    ) -> Listing[Seen]:
        """List executions in a window, or where the venue shows none, the orders changed in it."""
        if self.profile.fill_identity == "cumulative":
            return await self._orders(status="all", since=since)
        rows = await self._pages("executions", since=since, until=until)
        return listing(
            rows, partial(execution_of, profile=self.profile), Coverage(("executions",), since, until)
        )

    async def executions_of(self, refs: Sequence[OrderRef]) -> Listing[Seen]:
        """List executions of some orders, or where the venue shows none, the orders."""
        if self.profile.fill_identity == "cumulative":
            return await self.read(refs)
        rows = [row for ref in refs for row in await self._pages("executions", order_id=ref.broker_order_id)]
        return listing(rows, partial(execution_of, profile=self.profile), Coverage(("executions by order",)))

    async def fees(self, account_id: str, since: datetime | None) -> Listing[FeeAmendment]:
        """List the fees that became known after their fills."""
        meaning = partial(amendment_of, profile=self.profile)
        return listing(await self._pages("fees", since=since), meaning, Coverage(("fees",), since))

    async def positions(self, account_id: str) -> Listing[Position]:
        """List what is held."""
        meaning = partial(position_of, account_id=account_id)
        return listing(await self._rows("positions"), meaning, Coverage(("positions",)))

    async def instruments(self, query: str | None) -> Listing[Instrument]:
        """List what can be traded."""
        return listing(await self._pages("instruments"), instrument_of, Coverage(("instruments",)))

    async def accounts(self) -> Listing[Account]:
        """List the login's accounts."""
        meaning = partial(account_of, broker=self.name, environment=self.environment)
        return listing(await self._rows("accounts"), meaning, Coverage(("accounts",)))

    # --- what it can do besides -----------------------------------------------------------------

    async def get_orders(
        self, *, since: datetime, cursor: str | None = None, limit: int = 100
    ) -> Page[Order]:
        """Return orders created at or after `since`, oldest first, a page at a time."""
        with self.operation("get_orders"):
            reply = await self._get("/v1/orders", status="all", since=since, cursor=cursor, limit=limit)
            page, following = page_of(reply, "orders")
            views = listing(page, view_of, Coverage(("orders",)))
            # The venue's `since` is about changes: it may list orders that are older.
            created = [view for view in views.rows if view.created is None or view.created >= since]
            rows, odd = await self.lookups.orders_of(created)
            return Page(tuple(rows), following, tuple(row.cause for row in (*views.unreadable, *odd)))

    async def get_account(self) -> Account:
        """Return the account with its balances."""
        account = await super().get_account()
        return account.evolve(balances=tuple(await self.get_balances()))

    async def get_balances(self) -> list[Balance]:
        """Return total, available and held of each currency."""
        with self.operation("get_balances"):
            meaning = partial(balance_of, account_id=self.account_id)
            return [meant(row, meaning) for row in await self._rows("balances")]

    async def get_quote(self, symbol: str) -> Quote:
        """Return the best bid and ask."""
        with self.operation("get_quote"):
            return meant(await self._get(f"/v1/quotes/{quoted(symbol)}"), quote_of)

    async def get_server_time(self) -> datetime:
        """Return the venue's time, aware UTC."""
        with self.operation("get_server_time"):
            return await self._server_time()

    # --- requests -------------------------------------------------------------------------------

    async def _command(
        self, method: str, path: str, body: bytes = b"", at: datetime | None = None
    ) -> tuple[int, Any]:
        """Send a command once, signed over exactly these bytes; return the status and what came with it.

        `at` is the time by our clock that it is signed with, by default now.
        """
        target = path.encode("ascii")
        headers = self._signer.headers(method, target, body, at and self._venue_time(at))
        request = raw_request(
            method, self.settings.base_url + path, target=target, headers=headers, body=body
        )
        response = await send_raw(self._http, request)
        return response.status_code, decode_json(response.content)

    async def _get(self, path: str, **query: Any) -> Any:
        """Read something. Raises a `VenueError` where the venue answers with anything else."""
        given = {name: text_of(value) for name, value in query.items() if value is not None}
        return self._reply(await self._http.get(path, params=given))

    async def _order(self, ref: OrderRef) -> Any | None:
        """Read one order; None only where the venue itself says that there is none."""
        response = await self._http.get(order_path(ref.broker_order_id, ref.token))
        if response.status_code == httpx.codes.NOT_FOUND and says_not_found(decode_json(response.content)):
            return None
        return self._reply(response)

    def _reply(self, response: httpx.Response) -> Any:
        raise_for(response)
        return decode_json(response.content)

    async def _orders(self, **query: Any) -> Listing[OrderView]:
        return listing(
            await self._pages("orders", **query), view_of, Coverage(("orders",), query.get("since"))
        )

    async def _rows(self, name: str, **query: Any) -> list[Any]:
        return rows_of(await self._get(f"/v1/{name}", **query), name)

    async def _pages(self, name: str, **query: Any) -> list[Any]:
        """Read a listing to its end."""

        async def page(cursor: str | None) -> tuple[list[Any], str | None]:
            return page_of(await self._get(f"/v1/{name}", **query, cursor=cursor), name)

        return await paged(page)

    def _heed(self, response: httpx.Response) -> None:
        """Tell the limiter what a reply says of the allowance that is left."""
        remaining, reset = (response.headers.get(f"X-Limit-{name}") for name in ("Remaining", "Reset"))
        if remaining is not None and self.profile.limits:
            seconds = None if reset is None else float(reset)
            self.limiter.reported(LIMIT, remaining=float(remaining), reset_in=seconds)

    async def _server_time(self) -> datetime:
        """Ask for the venue's time, and learn how far ours is from it."""
        sent = self.clock.now()
        server = meant(await self._get("/v1/time"), time_in)
        self.skew.observe(sent=sent, received=self.clock.now(), server=server, resolution=0.001)
        return server

    def _cost_of(self, request: httpx.Request) -> Mapping[str, float]:
        return self.cost(request.method, None)

    def _venue_time(self, ours: datetime) -> datetime:
        return ours + self.skew.offset
