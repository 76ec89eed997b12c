"""What a look-up means for an order whose answer is missing: each arrow, as a pure function."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from scripted import DEADLINE, DEDUPES, PROFILE, Venue, buy

from mts1b_brokers_core.execution.journal import State
from mts1b_brokers_core.execution.port import (
    Absent,
    Coverage,
    FindResult,
    Found,
    Inconclusive,
    OrderRef,
    OrderView,
    Terms,
    Ticket,
    TokenRule,
    VenueProfile,
)
from mts1b_brokers_core.execution.verdict import Asked, Verdict, after, by_hand, verdict
from mts1b_brokers_core.foundation.errors import ConfigurationError
from mts1b_brokers_core.foundation.orders import Order, OrderStatus, OrderType, Side

TOKEN = "t1"
ORDER = buy(status=OrderStatus.UNKNOWN)
TERMS = Terms(symbol="BTC-USD", side=ORDER.side, quantity=ORDER.quantity, limit_price=ORDER.limit_price)
OTHER = replace(TERMS, limit_price=ORDER.limit_price * 2 if ORDER.limit_price else None)
TICKET = Ticket(ORDER, "A1", TOKEN, 1, Venue.opened)
NAMELESS = replace(TICKET, token=None)
NO_TOKENS = replace(PROFILE, token=TokenRule("none"))
LONG_AGO = Asked(age=3600, oldest=3600, slack=0)
ALL = Coverage(("open orders", "history"))


def sight(name: str = "V1", token: str | None = TOKEN, terms: Terms = TERMS, **more: Any) -> OrderView:
    return OrderView(OrderRef(name, token), **{"status": OrderStatus.NEW, "terms": terms, **more})


def told(
    found: FindResult,
    ticket: Ticket = TICKET,
    asked: Asked = LONG_AGO,
    profile: VenueProfile = PROFILE,
    taken: str | None = None,
) -> Verdict:
    return verdict(ticket, found, asked, profile, lambda view: view.ref.broker_order_id == taken)


def test_the_order_found_by_token_is_the_keys() -> None:
    manual, another = sight("V8", None), sight("V9", "t9")
    seen = told(Found((manual, another, sight()), ALL))
    assert (seen.state, seen.ids) == (State.CONFIRMED, ("V1",))


def test_a_refused_order_is_rejected() -> None:
    assert told(Found((sight(status=OrderStatus.REJECTED),))).state is State.REJECTED


def test_an_undecided_order_is_unknown_and_bound() -> None:
    seen = told(Found((sight(status=OrderStatus.PENDING_NEW, decided=False),)))
    assert (seen.state, seen.ids) == (State.UNKNOWN, ("V1",))
    assert after(ORDER, seen).broker_order_id == "V1"


def test_our_token_on_other_terms_is_unknown_and_binds_nothing() -> None:
    seen = told(Found((sight(terms=OTHER),)))
    assert (seen.state, seen.ids) == (State.UNKNOWN, ("V1",))
    assert seen.evidence == "V1 was found, but limit_price 200 instead of 100"
    assert after(ORDER, seen).broker_order_id is None


def test_one_order_that_two_sources_show_is_one_order() -> None:
    assert told(Found((sight(), sight(status=OrderStatus.FILLED)))).state is State.CONFIRMED


def test_two_orders_under_one_token_are_duplicates_and_both_are_tracked() -> None:
    seen = told(Found((sight("V1"), sight("V2"))))
    assert seen.state is State.DUPLICATE
    left = after(ORDER, seen)
    assert (left.broker_order_id, left.broker_order_ids) == ("V1", ("V1", "V2"))
    nameless = told(Found((sight("", "t1"), replace(sight("", "t1"), ref=OrderRef(None, TOKEN)))))
    assert after(ORDER, nameless).broker_order_id is None


def test_two_orders_that_fit_without_a_token_are_ambiguous() -> None:
    seen = told(Found((sight("V1", None), sight("V2", None))), NAMELESS, profile=NO_TOKENS)
    assert (seen.state, seen.ids) == (State.AMBIGUOUS, ("V1", "V2"))
    assert "V1, V2" in seen.evidence
    assert after(ORDER, seen).broker_order_ids == ()
    assert told(Found((sight("V1", None), sight("V2", None)))).state is State.AMBIGUOUS


@pytest.mark.parametrize(
    ("view", "fits"),
    [
        (sight(token=None), True),
        (sight(token=None, terms=OTHER), False),
        (sight(token=None, created=Venue.opened - timedelta(seconds=3)), False),
        (sight(token=None, created=Venue.opened - timedelta(seconds=2)), True),
        (sight("V7", None), False),  # bound to another key
    ],
)
@pytest.mark.parametrize(("ticket", "profile"), [(TICKET, PROFILE), (NAMELESS, NO_TOKENS)])
def test_without_a_token_terms_age_and_bindings_tell(
    view: OrderView, fits: bool, ticket: Ticket, profile: VenueProfile
) -> None:
    asked = replace(LONG_AGO, slack=2.0)
    seen = told(Found((view,), ALL), ticket, asked, profile, taken="V7")
    assert seen.state is (State.CONFIRMED if fits else State.NOT_PLACED)
    # Without the coverage of the look-up, orders of others prove nothing.
    seen = told(Found((view,)), ticket, asked, profile, taken="V7")
    assert seen.state is (State.CONFIRMED if fits else State.UNKNOWN)


def test_an_order_in_units_is_none_for_an_amount() -> None:
    amount = Order.market("BTC-USD", Side.BUY, quote_quantity=500, idempotency_key="k1")
    spent = replace(NAMELESS, order=amount)
    in_units = Terms(symbol="BTC-USD", side=Side.BUY, quantity=Decimal(5), order_type=OrderType.MARKET)
    of_amount = replace(in_units, quantity=None, quote_quantity=Decimal(500))
    assert told(Found((sight(token=None, terms=in_units),), ALL), spent).state is State.NOT_PLACED
    assert told(Found((sight(token=None, terms=of_amount),), ALL), spent).state is State.CONFIRMED
    units = replace(NAMELESS, order=Order.market("BTC-USD", Side.BUY, 5, idempotency_key="k1"))
    assert told(Found((sight(token=None, terms=of_amount),), ALL), units).state is State.NOT_PLACED
    unsized = replace(in_units, quantity=None)
    for ticket in (spent, units):
        assert told(Found((sight(token=None, terms=unsized),), ALL), ticket).state is State.CONFIRMED


def test_an_order_with_a_token_of_somebody_elses_is_ours_only_where_we_have_none() -> None:
    assert told(Found((sight("V9", "t9"),), ALL)).state is State.NOT_PLACED
    assert told(Found((sight("V9", "t9"),), ALL), NAMELESS, profile=NO_TOKENS).state is State.CONFIRMED


def test_the_evidence_says_what_was_seen() -> None:
    undecided = sight(status=OrderStatus.PENDING_NEW, raw_status="WAITING", decided=False)
    assert told(Found((undecided,))).evidence == "found as V1, not decided by the venue: WAITING"
    assert told(Found((sight(),))).evidence == "found as V1: new"
    assert told(Found(())).evidence == "the look-up showed only other orders, and not what it covers"


def test_the_evidence_says_what_was_read_and_why_that_is_not_more() -> None:
    read = "open orders, history"
    slow, short = replace(PROFILE, visibility=2.0), replace(PROFILE, lookup_window=60.0)
    partly = replace(ALL, complete=False)
    assert absence(0, coverage=partly).evidence == f"not found, but {read} was not read completely"
    assert absence(0, DEDUPES).evidence == f"not in {read}; the venue dedupes the token"
    assert absence(61, short).evidence == f"not in {read}, which reach back 60 s only"
    assert absence(9, DEADLINE).evidence == f"not in {read} yet; the venue may still take it"
    assert absence(10, DEADLINE).evidence == f"not in {read} after the venue stopped taking it"
    assert absence(1, slow).evidence == f"not in {read} yet"
    assert absence(2, slow).evidence == f"not in {read}; it could still arrive"


def absence(age: float, profile: VenueProfile = PROFILE, coverage: Coverage = ALL, **more: Any) -> Verdict:
    asked = Asked(**{"age": age, "oldest": age, "slack": 0.0, "window": profile.not_after_seconds, **more})
    return told(Absent(coverage), asked=asked, profile=profile)


def test_an_absence_is_only_as_sure_as_what_was_read() -> None:
    assert told(Inconclusive("page 2 failed")).evidence == "inconclusive: page 2 failed"
    assert absence(3600, coverage=replace(ALL, complete=False)).state is State.UNKNOWN
    late = replace(ALL, since=Venue.opened + timedelta(microseconds=1))
    assert absence(3600, coverage=late).state is State.UNKNOWN
    assert absence(3600, coverage=replace(ALL, since=Venue.opened)).certainty == "probable"


@pytest.mark.parametrize(
    ("sources", "read", "words"),
    [
        ((), (), "names no source"),
        (("open orders", "history"), ("open orders",), "history was not read"),
        (("open orders", "history"), (), "history, open orders was not read"),
    ],
)
@pytest.mark.parametrize("profile", [PROFILE, DEADLINE, DEDUPES])
def test_an_absence_needs_every_source_that_the_venue_has(
    profile: VenueProfile, sources: tuple[str, ...], read: tuple[str, ...], words: str
) -> None:
    profile = replace(profile, sources=frozenset(sources))
    verdict = absence(3600, profile, Coverage(read))
    assert (verdict.state, verdict.certainty) == (State.UNKNOWN, None)
    assert words in verdict.evidence
    assert absence(3600, profile, Coverage(("more", "history", "open orders"))).state is State.NOT_PLACED


@pytest.mark.parametrize(
    ("not_after", "seconds"), [("deadline", None), ("timestamp", 0.0), ("credential", -1.0), ("none", 5.0)]
)
def test_a_time_limit_of_the_venues_has_a_length(not_after: Any, seconds: float | None) -> None:
    with pytest.raises(ConfigurationError, match="not_after is"):
        replace(PROFILE, not_after=not_after, not_after_seconds=seconds)


def test_an_absence_is_proven_once_the_venue_refuses_the_request_by_itself() -> None:
    slow = replace(DEADLINE, visibility=2.0)
    assert absence(11.9, slow).state is State.UNKNOWN
    assert absence(12.0, slow).certainty == "proven"
    assert absence(12.9, slow, slack=1.0).state is State.UNKNOWN
    assert absence(13.0, slow, slack=1.0).certainty == "proven"
    assert absence(0, DEDUPES).certainty == "proven"


def test_elsewhere_an_absence_is_probable_once_it_could_be_seen() -> None:
    slow = replace(PROFILE, visibility=2.0)
    assert absence(1.9, slow).state is State.UNKNOWN
    assert (absence(2.0, slow).state, absence(2.0, slow).certainty) == (State.NOT_PLACED, "probable")
    only_while_open = replace(DEDUPES, token=TokenRule("while_open", dedupes=True))
    assert absence(0, only_while_open).certainty == "probable"


@pytest.mark.parametrize("profile", [PROFILE, DEADLINE])
def test_an_order_that_may_be_older_than_the_sources_reach_stays_unknown(profile: VenueProfile) -> None:
    short = replace(profile, lookup_window=60.0)
    assert absence(60, short).state is State.NOT_PLACED
    assert absence(30, short, oldest=61.0).state is State.UNKNOWN


def test_an_absent_order_has_no_venue_id() -> None:
    bound = ORDER.evolve(broker_order_id="V1", broker_order_ids=("V1",))
    for left in (after(bound, absence(3600)), after(bound, absence(3600, DEADLINE)), by_hand(bound, None)):
        assert (left.broker_order_id, left.broker_order_ids) == (None, ())
    word = bound.evolve(raw_status="QUEUED")
    assert (after(word, absence(3600)).status, after(word, absence(3600)).raw_status) == ("unknown", None)
    assert (after(word, absence(3600, DEADLINE)).status, by_hand(word, None).status) == (None, None)


def test_a_persons_word_overrules_the_id_that_was_bound_first() -> None:
    both = ORDER.evolve(broker_order_id="V1", broker_order_ids=("V1", "V2"))
    left = by_hand(both, sight("V2"))
    assert (left.broker_order_id, left.broker_order_ids) == ("V2", ("V1", "V2"))
    assert left.status is OrderStatus.NEW
    bare = by_hand(ORDER, sight("V3", replaced_by="V4"))
    assert (bare.broker_order_id, bare.broker_order_ids) == ("V3", ("V3",))
    three = by_hand(both, sight("V3"))
    assert (three.broker_order_id, three.broker_order_ids) == ("V3", ("V1", "V2", "V3"))


def test_an_order_whose_answer_is_still_missing_has_lost_the_venues_word() -> None:
    left = after(ORDER.evolve(status=OrderStatus.NEW, raw_status="OPEN"), told(Inconclusive("cut off")))
    assert (left.status, left.raw_status) == (OrderStatus.UNKNOWN, None)
