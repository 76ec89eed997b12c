"""What a reply leaves of a key's row, reply by reply: pure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from scripted import PROFILE, Venue, buy

from mts1b_brokers_core.execution.journal import Record, State
from mts1b_brokers_core.execution.outcomes import answered, meaning_of
from mts1b_brokers_core.execution.port import (
    Ack,
    Guarantee,
    NotPlaced,
    OrderRef,
    OrderView,
    PlaceResult,
    Rejected,
    Terms,
    Ticket,
    TokenRule,
    Unknown,
    VenueProfile,
    guarantee_of,
    listed,
)
from mts1b_brokers_core.foundation.orders import Adjustment, Order, OrderStatus

ADJUSTED = Adjustment(field="price", asked="100.001", sent="100", reason="not a multiple of the increment")
ORDER = buy()
TICKET = Ticket(ORDER.evolve(adjustments=(ADJUSTED,)), "A1", "t1", 1, Venue.opened)
ACK = Ack(OrderRef("V1", "t1"))
NO, NOTHING, MISSING = Rejected("too_small", "EOrder:min"), NotPlaced("expired token"), Unknown("504")


def row(state: State = State.SENDING, order: Order = ORDER) -> Record:
    return Record("k1", "mark", "A1", state, order)


def left(result: PlaceResult, before: Record | None = None, *reopens: OrderStatus) -> Record:
    return answered(before or row(), TICKET, result, frozenset(reopens))


@pytest.mark.parametrize(
    ("result", "meaning"),
    [
        (ACK, (State.CONFIRMED, "")),
        (NO, (State.REJECTED, "EOrder:min")),
        (NOTHING, (State.NOT_PLACED, "expired token")),
        (MISSING, (State.UNKNOWN, "504")),
    ],
)
def test_each_reply_has_its_meaning_in_state_and_words(
    result: PlaceResult, meaning: tuple[State, str]
) -> None:
    assert meaning_of(result) == meaning
    after = left(result)
    assert after.state is meaning[0]
    assert after.order.account_id == "A1"
    assert after.order.submitted_at == Venue.opened
    assert after.order.adjustments == (ADJUSTED,)


def test_an_acknowledgement_binds_and_works() -> None:
    after = left(ACK)
    assert (after.order.status, after.order.broker_order_id) == (OrderStatus.NEW, "V1")
    assert (after.words, after.certainty, after.reason) == (None, None, None)
    nameless = OrderView(OrderRef(), OrderStatus.PENDING_NEW, "QUEUED")  # the id is in the reply alone
    after = left(Ack(OrderRef("V1"), nameless))
    assert (after.order.status, after.order.raw_status) == (OrderStatus.PENDING_NEW, "QUEUED")
    assert after.order.broker_order_id == "V1"
    named = left(Ack(OrderRef("V1"), OrderView(OrderRef("V2"), OrderStatus.NEW)))
    assert named.order.broker_order_ids == ("V2",)
    filled = OrderView(OrderRef("V1"), OrderStatus.FILLED, "DONE", cumulative_quantity=Decimal(1))
    after = left(Ack(OrderRef("V1"), filled))
    assert [after.order.status, after.order.filled_quantity] == [OrderStatus.NEW, 0]


def test_an_acknowledgement_after_an_end_counts_only_where_the_venue_reopens() -> None:
    ended = row(order=ORDER.evolve(status=OrderStatus.EXPIRED))
    assert left(ACK, ended).order.status is OrderStatus.EXPIRED
    assert left(ACK, ended, OrderStatus.EXPIRED).order.status is OrderStatus.NEW


def test_a_refusal_is_kept_with_reason_and_words() -> None:
    after = left(NO)
    assert (after.order.status, after.order.reason) == (OrderStatus.REJECTED, "too_small")
    assert (after.reason, after.words, after.certainty) == ("too_small", "EOrder:min", None)


def test_what_was_not_placed_is_proven_and_what_is_missing_is_unknown() -> None:
    absent, unknown = left(NOTHING), left(MISSING)
    assert (absent.order.status, absent.certainty, absent.words) == (None, "proven", "expired token")
    assert (unknown.order.status, unknown.certainty, unknown.words) == (OrderStatus.UNKNOWN, None, "504")


def test_a_second_order_under_the_key_is_a_duplicate_and_both_are_tracked() -> None:
    seen = row(State.CONFIRMED, ORDER.evolve(broker_order_id="V1", broker_order_ids=("V1",)))
    twice = left(Ack(OrderRef("V2")), seen)
    assert (twice.state, twice.order.broker_order_ids) == (State.DUPLICATE, ("V1", "V2"))
    assert twice.order.broker_order_id == "V1"
    assert left(ACK, seen).state is State.CONFIRMED


@pytest.mark.parametrize(
    ("state", "result", "becomes"),
    [
        (State.UNKNOWN, NO, State.REJECTED),
        (State.UNKNOWN, NOTHING, State.UNKNOWN),
        (State.UNKNOWN, MISSING, State.UNKNOWN),
        (State.UNKNOWN, ACK, State.CONFIRMED),
        (State.CONFIRMED, NO, State.CONFIRMED),
        (State.CONFIRMED, MISSING, State.CONFIRMED),
        (State.NOT_PLACED, ACK, State.CONFIRMED),
        (State.NOT_PLACED, NO, State.NOT_PLACED),
        (State.DUPLICATE, ACK, State.DUPLICATE),
        (State.DUPLICATE, NO, State.DUPLICATE),
    ],
)
def test_what_was_seen_meanwhile_outweighs_a_mere_no(
    state: State, result: PlaceResult, becomes: State
) -> None:
    before = row(state, ORDER.evolve(status=OrderStatus.NEW, raw_status="OPEN"))
    after = left(result, before)
    assert after.state is becomes
    if becomes is state and state is not State.UNKNOWN:
        assert after == replace(before, order=after.order)
        assert (after.order.status, after.order.raw_status) == (OrderStatus.NEW, "OPEN")
    assert after.order.submitted_at == Venue.opened


# --- the venue, as data --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "durable", "in_memory"),
    [
        (replace(PROFILE, token=TokenRule("forever", dedupes=True)), Guarantee.NATIVE, Guarantee.NATIVE),
        (
            replace(PROFILE, token=TokenRule("while_open", dedupes=True)),
            Guarantee.RESOLVER_PROBABLE,
            Guarantee.THIS_PROCESS,
        ),
        (
            replace(PROFILE, not_after="deadline", not_after_seconds=10.0),
            Guarantee.RESOLVER_PROVEN,
            Guarantee.THIS_PROCESS,
        ),
        (
            replace(PROFILE, token=TokenRule("none"), not_after="deadline", not_after_seconds=10.0),
            Guarantee.FINGERPRINT,
            Guarantee.THIS_PROCESS,
        ),
        (PROFILE, Guarantee.RESOLVER_PROBABLE, Guarantee.THIS_PROCESS),
    ],
)
def test_the_guarantee_follows_from_the_profile_and_the_journal(
    profile: VenueProfile, durable: Guarantee, in_memory: Guarantee
) -> None:
    assert guarantee_of(profile, durable=True) is durable
    assert guarantee_of(profile, durable=False) is in_memory


def test_terms_contradict_only_where_both_sides_say_something() -> None:
    assert Terms().contradicts(ORDER) is None
    assert Terms(symbol="BTC-USD", stop_price=Decimal(5)).contradicts(ORDER) is None
    both = Terms(symbol="BTC-USD", quantity=Decimal(2), limit_price=Decimal(3))
    assert both.contradicts(ORDER) == "quantity 2 instead of 1"


def test_a_plain_listing_is_complete_and_says_from_where() -> None:
    listing = listed([1, 2], "open", "history", as_of=Venue.opened)
    assert listing.rows == (1, 2)
    assert (listing.coverage.sources, listing.coverage.as_of) == (("open", "history"), Venue.opened)
    assert (listing.coverage.complete, listing.coverage.since, listing.unreadable) == (True, None, ())
