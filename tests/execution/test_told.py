"""What an error or an event tells: its reason, its order, the venue's words, and what to do next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scripted import (
    MANIFEST,
    PROFILE,
    REJECTED,
    Quoting,
    Replaceable,
    Scripted,
    Venue,
    answers,
    buy,
    comes_late,
    eventually,
    fails,
    loses_reply,
    settle,
    take,
    waits,
)

from mts1b_brokers_core.execution.adapter import VenueAdapter
from mts1b_brokers_core.execution.journal import State
from mts1b_brokers_core.execution.port import (
    Absent,
    Coverage,
    Final,
    Found,
    Inconclusive,
    Link,
    Listing,
    NoSuch,
    NotPlaced,
    OrderRef,
    OrderView,
    Refused,
    TokenRule,
    Trigger,
    Unknown,
    Unreadable,
)
from mts1b_brokers_core.execution.reads import ReadsInstruments
from mts1b_brokers_core.execution.rows import paged
from mts1b_brokers_core.foundation.capabilities import Capabilities, parse_capabilities
from mts1b_brokers_core.foundation.errors import (
    BrokerError,
    ConfigurationError,
    EnvironmentNotChosen,
    IdempotencyConflict,
    InvalidInput,
    OrderDenied,
    OrderError,
    OrderNotFound,
    OrderNotPlaced,
    OrderRejected,
    OrderUnsupported,
    OutcomeUnknown,
    UnreadableReply,
    VenueError,
)
from mts1b_brokers_core.foundation.events import BrokerEvent, EventKind
from mts1b_brokers_core.foundation.instruments import Instrument
from mts1b_brokers_core.foundation.orders import Order, OrderChanges, OrderStatus
from mts1b_brokers_core.foundation.plugin import Services
from mts1b_brokers_core.foundation.settings import BrokerSettings
from mts1b_brokers_core.platform.clock import SteppedClock
from mts1b_brokers_core.platform.ratelimit import Limit

PRICE = OrderChanges(limit_price="99")
OTHER = OrderChanges(quantity="2")


async def error(kind: type[BrokerError], work: Any, *words: str) -> Any:
    with pytest.raises(kind) as caught:
        await work
    for word in words:
        assert word in caught.value.message
    return caught.value


def events(venue: Venue, kind: EventKind) -> list[BrokerEvent]:
    return [event for event in venue.events if event.kind is kind]


def attempts(broker: Any, order: Order) -> list[Any]:
    found: list[Any] = broker._login.attempts(order.idempotency_key)
    return found


def changing(clock: SteppedClock, **profile: Any) -> tuple[Venue, Replaceable]:
    venue = Venue(clock, replace(PROFILE, replace="same_id", **profile))
    broker = venue.client(kind=Replaceable)
    assert isinstance(broker, Replaceable)
    return venue, broker


# --- changes -------------------------------------------------------------------------------------


async def test_a_change_that_is_denied_says_why_and_what_to_do(clock: SteppedClock) -> None:
    venue, broker = changing(clock)
    async with broker:
        placed = await broker.submit(buy())
        told = await error(OrderNotFound, broker.replace("nope", PRICE), "no order nope was placed here.")
        assert told.next_step == "use an order_id of yours"
        told = await error(InvalidInput, broker.replace(placed.order_id, OrderChanges()))
        assert told.next_step == "give a price or a quantity"
        venue.fill("V1", "0.5")
        await settle()
        told = await error(OrderDenied, broker.replace(placed.order_id, OrderChanges(quantity="0.4")))
        assert (told.reason, told.next_step) == ("quantity", "cancel the rest instead")
        assert told.order.filled_quantity == Decimal("0.5")
        venue.fill("V1", "0.5")
        await settle()
        told = await error(OrderDenied, broker.replace(placed.order_id, PRICE), "the order is filled")
        assert (told.reason, told.next_step) == ("not_working", "submit a new order")
        assert told.order.status is OrderStatus.FILLED


async def test_an_unanswered_order_cannot_be_changed(clock: SteppedClock) -> None:
    venue, broker = changing(clock)
    venue.place_next.append(comes_late)
    venue.find_next.append(Inconclusive("down"))
    async with broker:
        order = buy()
        await error(OutcomeUnknown, broker.submit(order))
        await error(OrderDenied, broker.replace(order.order_id, PRICE), "the order is unknown and can't be")


async def test_a_quantity_that_means_the_rest_names_what_is_unsupported(clock: SteppedClock) -> None:
    venue, broker = changing(clock, replace_quantity="remaining")
    async with broker:
        placed = await broker.submit(buy())
        venue.fill("V1", "0.5")
        await settle()
        told = await error(OrderUnsupported, broker.replace(placed.order_id, OrderChanges(quantity="3")))
        assert told.capability == "replace quantity of a partly filled order"
        assert told.order.order_id == placed.order_id


async def test_a_change_carries_what_became_of_it(clock: SteppedClock) -> None:
    venue, broker = changing(clock)
    async with broker:
        placed = await broker.submit(buy())
        venue.replace_next.append(answers(REJECTED))
        told = await error(
            OrderRejected, broker.replace(placed.order_id, PRICE, idempotency_key="r1"),
            "the venue refused the change: EOrder:Insufficient funds.",
        )  # fmt: skip
        assert (told.reason, told.words) == ("insufficient_funds", "EOrder:Insufficient funds")
        assert (told.order, told.next_step) == (placed, "the order works on as it was")
        told = await error(OrderRejected, broker.replace(placed.order_id, PRICE, idempotency_key="r1"))
        assert (told.reason, told.words) == ("other", "EOrder:Insufficient funds")
        told = await error(
            IdempotencyConflict, broker.replace(placed.order_id, OTHER, idempotency_key="r1"),
            "other changes",
        )  # fmt: skip
        assert (told.reason, told.order) == ("idempotency_conflict", placed)

        venue.replace_next.append(answers(NotPlaced("throttled", retry_after=2.0)))
        told = await error(
            OrderNotPlaced, broker.replace(placed.order_id, PRICE, idempotency_key="r2"),
            "the change was not made: throttled",
        )  # fmt: skip
        assert (told.certainty, told.retry_after, told.repeat_is_safe) == ("proven", 2.0, False)
        assert (told.order, told.next_step) == (placed, "replace again under a new key")
        told = await error(OrderNotPlaced, broker.replace(placed.order_id, PRICE, idempotency_key="r2"))
        assert told.retry_after is None

        venue.replace_next.append(answers(Unknown("504")))
        told = await error(OutcomeUnknown, broker.replace(placed.order_id, PRICE), "is not known: 504.")
        assert (told.order, told.next_step) == (placed, "read the order; repeat only what it does not show")
        venue.replace_next.append(answers(Unknown("504")))
        venue.read_next.append(TimeoutError("nor this"))
        words = "504; reading the order failed too: nor this"
        await error(OutcomeUnknown, broker.replace(placed.order_id, PRICE), words)
        causes = [(tried.outcome, tried.cause) for tried in attempts(broker, placed)[1:]]
        assert causes == [
            ("rejected", "EOrder:Insufficient funds"), ("not_placed", "throttled"), ("unknown", "504"),
            ("unknown", words),
        ]  # fmt: skip


async def test_a_change_is_told_with_its_order_and_its_ticket_says_what_is_sent(clock: SteppedClock) -> None:
    venue, broker = changing(clock)
    async with broker:
        placed = await broker.submit(buy())
        await clock.advance(1)
        changed = await broker.replace(placed.order_id, OrderChanges(limit_price="99", quantity="2"))
        (event,) = events(venue, EventKind.REPLACED)
        assert (event.message, event.order) == ("limit_price, quantity", changed)
        ticket = venue.placed[-1]
        assert (ticket.account_id, ticket.attempt, ticket.t0) == ("A1", 2, clock.now())
        assert ticket.changes == OrderChanges(limit_price="99", quantity="2")
        assert ticket.token not in (None, venue.placed[0].token)
        assert [ticket.order.limit_price, ticket.order.quantity] == [99, 2]


async def test_a_second_change_meanwhile_is_denied(clock: SteppedClock) -> None:
    venue, broker = changing(clock)
    async with broker:
        placed = await broker.submit(buy())
        gate = asyncio.Event()
        venue.replace_next.append(waits(gate, answers(REJECTED)))
        task = asyncio.create_task(broker.replace(placed.order_id, PRICE))
        await settle()
        told = await error(
            OrderDenied, broker.replace(placed.order_id, PRICE), "another change of this order"
        )
        assert (told.reason, told.order) == ("replace_under_way", placed)
        assert told.next_step == "repeat once it is answered"
        gate.set()
        await error(OrderRejected, task)


class Counting(Replaceable):
    """An adapter that says what its operations take of the limits."""

    def cost(self, operation: str, order: Order | None) -> Mapping[str, float]:
        return {"orders": 1.0} if operation in ("place", "replace") else {}


async def test_a_change_and_an_order_take_of_the_limit_and_whoever_waits_is_told(clock: SteppedClock) -> None:
    limit = Limit("orders", "token_bucket", 2, 10, reserve=0)
    venue = Venue(clock, replace(PROFILE, replace="same_id", limits=(limit,)))
    broker = venue.client(kind=Counting)
    assert isinstance(broker, Counting)
    async with broker:
        placed = await broker.submit(buy())
        await broker.replace(placed.order_id, PRICE)
        task = asyncio.create_task(broker.submit(buy()))
        await settle()
        assert len(venue.placed) == 2
        await clock.advance(6)
        await task
        (event,) = events(venue, EventKind.LIMITER_WAIT)
        assert (event.message, event.detail["priority"]) == ("orders", "submit")
        assert set(event.detail) == {"seconds", "priority"}
        assert 5 <= float(event.detail["seconds"]) <= 6


# --- orders --------------------------------------------------------------------------------------


async def test_an_order_for_another_account_is_denied(venue: Venue) -> None:
    async with venue.client() as broker:
        order = buy(account_id="B2")
        told = await error(
            OrderDenied, broker.submit(order), "the order is for account B2, this broker trades A1."
        )
        assert (told.reason, told.order) == ("account", order)
        assert told.next_step == "open the broker with that account, or leave account_id out"
        assert (await broker.submit(buy(account_id="A1"))).account_id == "A1"


async def test_a_key_used_for_other_terms_is_a_conflict(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy(idempotency_key="k1"))
        other = buy("2", idempotency_key="k1")
        told = await error(IdempotencyConflict, broker.submit(other), "'k1' was used for an order with other")
        assert (told.reason, told.order) == ("idempotency_conflict", other)
        told = await error(OrderDenied, broker.submit(buy("2", order_id=placed.order_id)), placed.order_id)
        assert told.reason == "order_id_taken"
        assert told.next_step == "build a new order, or copy it with a new order_id as well"


async def test_an_order_that_was_not_placed_says_how_sure_that_is_and_what_may_be_done(venue: Venue) -> None:
    venue.place_next.extend([comes_late, fails(TimeoutError("cut"))])
    absent = Absent(Coverage(("history",)))
    venue.find_next.append(absent)
    async with venue.client() as broker:
        told = await error(
            OrderNotPlaced, broker.submit(buy()),
            "the order is not at the venue (probable): TimeoutError: no reply",
        )  # fmt: skip
        assert (told.certainty, told.retry_after) == ("probable", None)
        cure = "look at the account; submit again with accept_duplicate_risk=True if it lacks it"
        assert told.next_step == cure
        venue.place_next.clear()
        venue.place_next.append(answers(NotPlaced("expired token")))
        told = await error(OrderNotPlaced, broker.submit(buy()), "(proven): expired token")
        assert told.next_step == "submit it again with the same key"


async def test_a_rejection_without_words_gives_its_reason(venue: Venue) -> None:
    venue.place_next.append(answers(replace(REJECTED, words="")))
    async with venue.client() as broker:
        told = await error(
            OrderRejected, broker.submit(buy()), "the venue refused the order: insufficient_funds."
        )
        assert (told.reason, told.words) == ("insufficient_funds", "")
        assert told.next_step == "change the order and submit it under a new key"


async def test_a_request_and_its_outcome_are_observed_under_the_key(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        (sent,), (outcome,) = events(venue, EventKind.REQUEST_SENT), events(venue, EventKind.OUTCOME)
        assert sent.detail == {"operation": "submit", "key": placed.idempotency_key}
        assert outcome.detail == {**sent.detail, "outcome": "confirmed"}
        (tried,) = attempts(broker, placed)
        assert (tried.outcome, tried.cause, tried.kind) == ("confirmed", "", "new")


async def test_what_a_bracket_without_a_tradable_instrument_is_told(venue: Venue) -> None:
    venue.listed = (venue.listed[0].model_copy(update={"tradable": False}),)
    async with venue.client() as broker:
        await error(OrderDenied, broker.submit(buy()), "BTC-USD is not tradable now.")


# --- cancels -------------------------------------------------------------------------------------


async def test_a_cancel_says_what_the_venue_said(venue: Venue) -> None:
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        venue.cancel_next.append(Refused("too busy"))
        told = await error(
            VenueError, broker.cancel(placed.order_id), "the venue refused to cancel: too busy."
        )
        assert told.repeat_is_safe
        assert told.next_step == "read the order again; a cancel of a working order may be repeated"
        venue.cancel_next.append(NoSuch())
        told = await error(OrderNotFound, broker.cancel(placed.order_id), "the venue knows no order V1.")
        assert told.order.order_id == placed.order_id
        assert told.next_step == "use order_id or broker_order_id of an order of this account"
        venue.cancel_next.extend([TimeoutError("a"), TimeoutError("b"), TimeoutError("c")])
        told = await error(
            OutcomeUnknown, broker.cancel(placed.order_id),
            "the cancel was sent 3 times without an answer: TimeoutError: c.",
        )  # fmt: skip
        assert told.repeat_is_safe
        assert told.next_step == "cancel again: repeating a cancel is harmless"
        assert told.order.order_id == placed.order_id
        venue.cancel_next.append(Final())
        assert not await broker.cancel("V1")


async def test_a_cancel_of_what_is_unknown_is_kept_and_says_so(venue: Venue) -> None:
    venue.place_next.append(comes_late)
    venue.find_next.extend([Inconclusive("down")] * 3)
    async with venue.client() as broker:
        order = buy()
        await error(OutcomeUnknown, broker.submit(order))
        told = await error(OutcomeUnknown, broker.cancel(order.order_id), "the moment it is found")
        assert (told.operation, told.order.order_id) == ("cancel", order.order_id)
        assert venue.canceled == []


# --- verdicts and a person's word ----------------------------------------------------------------


async def test_a_verdict_leaves_its_evidence_with_key_and_attempt(venue: Venue) -> None:
    venue.place_next.append(loses_reply())
    async with venue.client() as broker:
        placed = await broker.submit(buy())
        record = broker._login.record(placed.idempotency_key)
        assert record is not None
        assert (record.words, record.certainty) == ("found as V1: new", None)
        (tried,) = attempts(broker, placed)
        assert (tried.outcome, tried.cause) == ("confirmed", "found as V1: new")
        assert placed.submitted_at == venue.opened


async def test_fills_that_cannot_be_read_are_told(venue: Venue) -> None:
    venue.place_next.append(loses_reply())
    venue.find_next.append(
        Found((OrderView(OrderRef("V1"), OrderStatus.NEW, cumulative_quantity=Decimal(1)),))
    )
    async with venue.client() as broker:
        venue.read_next.append(ConnectionResetError("reset"))
        await broker.submit(buy())
        messages = [event.message for event in events(venue, EventKind.UNREADABLE)]
        assert "executions of V1: reset" in messages


async def test_what_a_person_says_is_kept_as_evidence(venue: Venue) -> None:
    venue.place_next.extend([loses_reply(), loses_reply()])
    venue.find_next.extend([Inconclusive("busy")] * 2)
    async with venue.client() as broker:
        first, second = buy(idempotency_key="k1"), buy("2", idempotency_key="k2")
        await error(OutcomeUnknown, broker.submit(first))
        await error(OutcomeUnknown, broker.submit(second))
        told = await error(
            OrderError, broker.resolve("k1", "V2"), "V2 is another order: quantity 2 instead of 1."
        )
        assert told.next_step == "name the venue order that has this order's terms, or none"
        assert told.order.order_id == first.order_id
        told = await error(OrderNotFound, broker.resolve("k1", "V9"), "the venue knows no order V9.")
        assert told.order.order_id == first.order_id
        left = await broker.resolve("k1", "V1")
        record = broker._login.record("k1")
        assert record is not None
        assert (record.words, record.state, left.broker_order_id) == ("by hand: V1", State.CONFIRMED, "V1")
        (tried,) = attempts(broker, first)
        assert (tried.outcome, tried.cause) == ("confirmed", "by hand: V1")
        (event,) = events(venue, EventKind.RESOLVED)
        assert (event.message, event.order_id) == ("V1", first.order_id)
        told = await error(
            OrderError, broker.resolve("k1", "V1"), "'k1' is no open question: it is confirmed."
        )
        assert told.next_step == "see outcome(key)"
        await broker.resolve("k2")
        record = broker._login.record("k2")
        assert record is not None
        assert (record.words, record.certainty) == ("by hand: not at the venue", "probable")


# --- streams, links, life ------------------------------------------------------------------------


async def test_the_link_is_told_in_the_venues_words(venue: Venue) -> None:
    async with venue.client():
        venue.push(Link(up=False, words="maintenance"))
        venue.push(Link(up=True, words="back"))
        await settle()
        assert [event.message for event in events(venue, EventKind.LINK_DOWN)] == ["maintenance"]
        assert [event.message for event in events(venue, EventKind.LINK_UP)] == ["back"]
        venue.push(Unreadable("{garbled", "ValueError: no JSON"))
        await settle()
        (event,) = events(venue, EventKind.UNREADABLE)
        assert (event.message, event.detail) == ("ValueError: no JSON", {"words": "{garbled"})


@pytest.mark.parametrize("durable", [True, False])
async def test_a_reader_of_events_goes_on_where_it_was(venue: Venue, file: Path, durable: bool) -> None:
    async with venue.client(file if durable else None) as broker:
        await broker.submit(buy())
        await settle()
        count = len(await take(broker.stream_events(since=0), 1))
        assert count == 1
        seen = await take(broker.stream_events(consumer="a"), 1)
        venue.fill("V1", "0.1")
        venue.fill("V1", "0.2")
        await take(broker.stream_fills(), 2)
        again = await take(broker.stream_events(consumer="a"), 2)
        assert again[0] == seen[0]  # not acknowledged: nobody asked for the next one
        (after,) = await take(broker.stream_events(consumer="a"), 1)
        assert after == again[1]
        assert await take(broker.stream_events(consumer="b"), 1) == seen
        assert await take(broker.stream_events(since=0), 1) == seen
        (fill,) = await take(broker.stream_fills(), 1)
        assert fill.fill_id == "E2"
        told = await error(InvalidInput, take(broker.stream_fills(since=9), 1), "since=9 is beyond")
        assert "logged here, 2." in told.message


async def test_each_operation_says_which_it_was(venue: Venue) -> None:
    async with venue.client(kind=Quoting) as broker:
        for name, work in [
            ("wait_for", broker.wait_for("nope")),
            ("outcome", broker.outcome("nope")),
            ("resolve", broker.resolve("nope")),
            ("cancel", broker.cancel("nope")),
        ]:
            told = await error(BrokerError, work)
            assert (told.operation, told.broker) == (name, "scripted")
        assert repr(broker) == (
            "Quoting(scripted, simulator, scripted, account=A1, journal=memory, "
            "guarantee=this process only, open)"
        )
    assert repr(broker).endswith("closed)")


async def test_the_venues_clock_is_told_where_it_is_off(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client() as broker:
        before = clock.now()
        server = before + timedelta(seconds=2)
        for told in (before, server):
            broker.skew.observe(sent=before, received=before, server=told, resolution=0.001)
        (event,) = events(venue, EventKind.SKEW)
        assert set(event.detail) == {"seconds", "uncertainty"}
        assert event.detail["seconds"] == f"{broker.skew.offset.total_seconds():.3f}"
        assert event.detail["uncertainty"] == f"{broker.skew.uncertainty:.3f}"


async def test_an_attempt_of_an_equal_order_in_doubt_is_denied_by_the_first_ones_key(
    clock: SteppedClock,
) -> None:
    venue = Venue(clock, replace(PROFILE, token=TokenRule("none")))
    venue.place_next.append(comes_late)
    venue.find_next.append(Inconclusive("down"))
    async with venue.client(kind=Scripted) as broker:
        await error(OutcomeUnknown, broker.submit(buy(idempotency_key="k1")))
        second = buy(idempotency_key="k2")
        told = await error(OrderDenied, broker.submit(second), "its twin, key 'k1', is not known yet")
        assert (told.reason, told.order.order_id) == ("twin_unresolved", second.order_id)
        assert "orders --unresolved" in told.next_step


# --- rarer ends ----------------------------------------------------------------------------------


async def test_a_halt_between_the_claim_of_a_change_and_its_write_denies_it(clock: SteppedClock) -> None:
    venue, broker = changing(clock)
    async with broker:
        placed = await broker.submit(buy())
        run = broker._journal.store.run

        async def halting(work: Any, then: Any = None) -> Any:
            broker._halt.set("enough")
            return await run(work, then)

        broker._journal.store.run = halting  # type: ignore[method-assign]
        await error(OrderDenied, broker.replace(placed.order_id, PRICE), "trading is halted: enough")
        broker._journal.store.run = run  # type: ignore[method-assign]
        await broker.resume()
        assert len(venue.placed) == 1
        assert [(tried.outcome, tried.cause) for tried in attempts(broker, placed)[1:]] == [
            ("not_placed", "trading is halted: enough.")
        ]
        assert (await broker.replace(placed.order_id, PRICE)).limit_price == 99


async def test_an_order_that_settled_while_a_change_was_lost_is_asked_about(
    clock: SteppedClock,
) -> None:
    venue, broker = changing(clock)

    async def fills_meanwhile(venue: Venue, ticket: Any) -> Any:
        venue.fill("V1", "1")
        await settle()
        venue.read_next.append(TimeoutError("down"))
        raise TimeoutError("cut")

    async with broker:
        placed = await broker.submit(buy())
        venue.replace_next.append(fills_meanwhile)
        told = await error(OutcomeUnknown, broker.replace(placed.order_id, PRICE))
        assert (told.order.status, told.order.settled) == (OrderStatus.FILLED, False)
        assert not (await broker.outcome(placed.idempotency_key)).settled


async def test_a_lost_frame_is_announced_with_how_much_it_was(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(reconcile_every=60) as broker:
        await broker.submit(buy())
        venue.fill("V1", "0.5", push=False)
        await clock.advance(61)
        await settle()
        (gap,) = events(venue, EventKind.GAP_OPEN)
        assert gap.message == "1 executions that the stream did not bring"
        (closed,) = events(venue, EventKind.GAP_CLOSED)
        assert closed.message == "read again with overlap"


async def test_a_listing_that_goes_in_a_circle_names_the_cursor() -> None:
    async def page(cursor: str | None) -> tuple[list[int], str | None]:
        return [1], "c7"

    with pytest.raises(UnreadableReply, match="round in a circle") as caught:
        await paged(page)
    assert caught.value.words == "'c7'"


def test_a_manifest_is_read_beside_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "told_adapter"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "capabilities.toml").write_text(MANIFEST.replace('note = ""', 'note = "für alle"'), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    adapter: Any = type("Told", (VenueAdapter,), {"__module__": "told_adapter.client"})
    capabilities = adapter.read_capabilities()
    assert capabilities.name == "scripted"
    assert "für alle" in repr(capabilities.orders)
    lost: Any = type("Lost", (VenueAdapter,), {"__module__": "no_such_package_at_all"})
    with pytest.raises(ConfigurationError, match="Lost has no package") as caught:
        lost.read_capabilities()
    assert "beside its __init__.py" in str(caught.value.next_step)


@pytest.mark.parametrize(("choices", "chosen"), [(["live"], None), (["simulator"], "simulator")])
def test_only_an_environment_that_is_not_live_goes_without_saying(
    venue: Venue, choices: list[str], chosen: str | None
) -> None:
    class One(Scripted):
        @classmethod
        def read_capabilities(cls) -> Capabilities:
            return parse_capabilities(
                MANIFEST.replace('["simulator", "live"]', str(choices).replace("'", '"'))
            )

    if chosen is None:
        with pytest.raises(EnvironmentNotChosen) as caught:
            One(venue, BrokerSettings(), None)  # type: ignore[arg-type]
        assert caught.value.next_step == "choose one, e.g. environment='live'"
        assert caught.value.broker == "scripted"
    else:
        assert One(venue, BrokerSettings(), None).environment == chosen  # type: ignore[arg-type]


async def test_a_gap_is_announced_in_the_words_of_what_opened_it(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(reconcile_every=60) as broker:
        await broker.submit(buy())
        venue.push(Link(up=False, words="maintenance"))
        await settle()
        assert [event.message for event in events(venue, EventKind.GAP_OPEN)] == ["maintenance"]
        venue.push(Link(up=True))
        await settle()
        assert len(events(venue, EventKind.GAP_CLOSED)) == 1
        venue.read_next.extend([ConnectionResetError("reset")] * 3)
        await clock.advance(70)
        await settle()
        assert [event.message for event in events(venue, EventKind.GAP_OPEN)] == ["maintenance", "reset"]


async def test_news_without_names_lets_everything_be_read_and_news_with_names_only_those(
    venue: Venue,
) -> None:
    async with venue.client() as broker:
        await broker.submit(buy())
        venue.calls.clear()
        venue.push(Trigger((OrderRef("V1"),)))
        await settle()
        assert venue.calls == ["executions_of", "read"]
        venue.calls.clear()
        venue.push(Trigger())
        await settle()
        assert venue.calls == ["executions", "read"]


async def test_an_end_is_released_after_its_wait_and_not_before(venue: Venue, clock: SteppedClock) -> None:
    async with venue.client(settle_wait=10) as broker:
        placed = await broker.submit(buy())
        venue.hidden.add("E1")
        venue.fill("V1", "0.5", push=False)
        venue.push(venue.end("V1"))
        await settle()
        await clock.advance(9)
        await settle()
        assert (await broker.outcome(placed.idempotency_key)).status is OrderStatus.PARTIALLY_FILLED
        await clock.advance(1)
        await settle()
        order = await broker.outcome(placed.idempotency_key)
        assert (order.status, order.fills_pending) == (OrderStatus.CANCELED, True)


# --- two brokers on one journal ------------------------------------------------------------------


async def test_what_one_writes_the_other_reads_and_takes_over(clock: SteppedClock, file: Path) -> None:
    venue = Venue(clock)
    one, two = venue.client(file), venue.client(file)
    await one.__aenter__()
    await two.__aenter__()
    try:
        assert (one._leader.leads, two._leader.leads) == (True, False)
        placed = await one.submit(buy())
        reading = asyncio.create_task(take(two.stream_fills(since=0), 1))
        final = asyncio.create_task(two.wait_for(placed.order_id))
        await settle()
        await one._login.ingest.observe([venue.fill("V1", "1", push=False)])
        await clock.advance(1)
        (fill,) = await reading
        assert (fill.fill_id, fill.seq) == ("E1", 1)
        assert (await final).status is OrderStatus.FILLED
        assert await two.cancel(placed.order_id) is False
        await clock.advance(10)
        assert not two._leader.leads
        await one.close()
        await clock.advance(10)
        await eventually(lambda: two._leader.leads)
        await eventually(lambda: venue.calls.count("executions") == 2)  # what happened meanwhile
    finally:
        await one.close()
        await two.close()


async def test_what_is_asked_for_is_handed_to_the_venue(venue: Venue) -> None:
    asked: list[str | None] = []

    class Asking(ReadsInstruments, Scripted):
        async def instruments(self, query: str | None) -> Listing[Instrument]:
            asked.append(query)
            return await super().instruments(query)

    async with Asking(venue, BrokerSettings(), Services("told", "simulator", venue.clock)) as broker:
        assert [row.symbol for row in await broker.get_instruments("btc")] == ["BTC-USD"]
        assert await broker.get_instruments("eth") == []
        assert [row.symbol for row in await broker.get_instruments()] == ["BTC-USD"]
    assert asked == ["btc", "eth", None]
