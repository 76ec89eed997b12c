"""The journal's questions and writes, each inside one transaction of a journal in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from scripted import Venue, buy

from mts1b_brokers_core.execution import journal
from mts1b_brokers_core.execution.bodies import body_of, fingerprint, order_of
from mts1b_brokers_core.execution.journal import IdTaken, Journal, Name, Record, State
from mts1b_brokers_core.execution.merge import Logged, Part
from mts1b_brokers_core.execution.port import OrderRef, Ticket
from mts1b_brokers_core.foundation.errors import StateMismatch
from mts1b_brokers_core.foundation.orders import OrderChanges, OrderStatus
from mts1b_brokers_core.platform.clock import to_ns

T0 = to_ns(Venue.opened)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    store = Journal(None).store
    store.open()
    yield store.run_now(lambda connection: connection)
    store.close()


def record(key: str = "k1", state: State = State.SENDING, *, mark: str = "m1", account: str = "A1") -> Record:
    return Record(key, mark, account, state, buy(idempotency_key=key, order_id=f"our-{key}"))


def ticket(row: Record, attempt: int = 1, token: str | None = "t1", minutes: int = 0) -> Ticket:
    return Ticket(row.order, row.account_id, token, attempt, Venue.opened + timedelta(minutes=minutes))


def claimed(
    connection: sqlite3.Connection, row: Record, token: str | None = None, minutes: int = 0
) -> Record:
    assert journal.claim(connection, row, ticket(row, token=token, minutes=minutes), "me")
    return row


def stored(connection: sqlite3.Connection, was: Record, **now: object) -> Record:
    row = replace(was, **now)  # type: ignore[arg-type]
    journal.put(connection, was, row, T0)
    return row


def keys(rows: list[Record]) -> list[str]:
    return [row.key for row in rows]


def test_a_claim_is_the_row_its_attempt_and_its_names(connection: sqlite3.Connection) -> None:
    row = record()
    sent = replace(ticket(row), not_after=Venue.opened + timedelta(seconds=10))
    assert journal.claim(connection, row, sent, "me")
    assert journal.get(connection, "k1") == row
    (tried,) = journal.attempts(connection, "k1")
    assert (tried.key, tried.n, tried.kind, tried.token, tried.owner) == ("k1", 1, "new", "t1", "me")
    assert (tried.t0_ns, tried.not_after_ns) == (T0, T0 + 10_000_000_000)
    assert (tried.outcome, tried.cause, order_of(tried.body)) == (None, None, row.order)
    assert journal.named(connection, "A1", "our-k1") == row
    assert journal.named(connection, "A1", "t1", Name.TOKEN) == row
    assert journal.named(connection, "A2", "our-k1") is None
    assert journal.get(connection, "k2") is None


def test_a_key_is_claimed_once(connection: sqlite3.Connection) -> None:
    claimed(connection, record())
    assert not journal.claim(connection, record(mark="m2"), ticket(record()), "another")
    found = journal.get(connection, "k1")
    assert found is not None
    assert found.fingerprint == "m1"
    assert [tried.owner for tried in journal.attempts(connection, "k1")] == ["me"]


def test_an_order_id_that_stands_for_another_key_is_refused(connection: sqlite3.Connection) -> None:
    row = claimed(connection, record())
    other = replace(record("k2"), order=row.order.evolve(idempotency_key="k2"))
    journal.add_name(connection, "A1", "alias", Name.OURS, "k1")
    again = replace(other, order=other.order.evolve(order_id="alias"))
    with pytest.raises(IdTaken, match="alias"):
        journal.claim(connection, again, ticket(again), "me")


@pytest.mark.parametrize(
    ("state", "attempt", "wanted", "taken"),
    [
        (State.NOT_PLACED, 2, False, True),
        (State.NOT_PLACED, 3, False, False),
        (State.NOT_PLACED, 2, True, False),
        (State.UNKNOWN, 2, False, False),
    ],
)
def test_a_further_attempt_needs_an_absence_and_nobody_who_cancels(
    connection: sqlite3.Connection, state: State, attempt: int, wanted: bool, taken: bool
) -> None:
    row = stored(connection, claimed(connection, record()), state=state, certainty="proven")
    if wanted:
        noted = journal.want_cancel(connection, "k1")
        assert noted is not None
        assert noted.cancel_wanted
    again = replace(row, state=State.SENDING, order=row.order.evolve(status=OrderStatus.UNKNOWN))
    assert journal.claim(connection, again, ticket(again, attempt, "t2", 1), "me") is taken
    assert len(journal.attempts(connection, "k1")) == (2 if taken else 1)
    found = journal.get(connection, "k1")
    assert found is not None
    if taken:
        assert (found.state, found.certainty, found.order) == (State.SENDING, None, again.order)
    else:
        assert (found.state, found.certainty) == (state, "proven")


def test_all_of_a_row_comes_back(connection: sqlite3.Connection) -> None:
    row = claimed(connection, record())
    bound = row.order.evolve(broker_order_id="V1", broker_order_ids=("V0", "V1"), status=OrderStatus.CANCELED)
    logged = Logged({"V1": Part(Decimal("0.1"), Decimal(10))})
    told = {"state": State.CONFIRMED, "certainty": "c", "reason": "r", "words": "w"}
    now = stored(connection, row, order=bound, logged=logged, **told)
    assert journal.get(connection, "k1") == now
    assert journal.at_venue(connection, "A1", OrderRef("V0")) == now
    assert journal.at_venue(connection, "A1", OrderRef("V1")) == now
    assert journal.named(connection, "A1", "V1", Name.TOKEN) is None
    marks = connection.execute("SELECT final, settled, created_ns, updated_ns FROM orders").fetchone()
    assert marks == (1, 0, T0, T0)
    later = replace(now, order=bound.evolve(settled=True))
    journal.put(connection, now, later, T0 + 5)
    marks = connection.execute("SELECT final, settled, created_ns, updated_ns FROM orders").fetchone()
    assert marks == (1, 1, T0, T0 + 5)
    assert journal.get(connection, "nobody") is None
    assert journal.want_cancel(connection, "nobody") is None


def test_our_own_id_is_meant_before_the_venues_and_that_before_a_token(
    connection: sqlite3.Connection,
) -> None:
    for key in ("k1", "k2", "k3", "k4"):
        claimed(connection, record(key))
    for key, kind in (("k4", Name.CHANGE), ("k3", Name.TOKEN), ("k2", Name.VENUE), ("k1", Name.OURS)):
        assert journal.add_name(connection, "A1", "same", kind, key)
        found = journal.named(connection, "A1", "same")
        assert found is not None
        assert found.key == key
    seen = journal.at_venue(connection, "A1", OrderRef("same"))
    assert seen is not None
    assert seen.key == "k2"
    seen = journal.at_venue(connection, "A1", OrderRef("other", "same"))
    assert seen is not None
    assert seen.key == "k3"
    assert journal.at_venue(connection, "A1", OrderRef("our-k1", "our-k1")) is None
    assert journal.at_venue(connection, "A1", OrderRef()) is None


def test_a_name_stays_the_first_ones(connection: sqlite3.Connection) -> None:
    claimed(connection, record("k1"))
    claimed(connection, record("k2"))
    assert journal.add_name(connection, "A1", "V1", Name.VENUE, "k1")
    assert journal.add_name(connection, "A1", "V1", Name.VENUE, "k1")
    assert not journal.add_name(connection, "A1", "V1", Name.VENUE, "k2")
    assert journal.add_name(connection, "A2", "V1", Name.VENUE, "k2")
    assert journal.add_name(connection, "A1", "V1", Name.TOKEN, "k2")


def test_what_is_not_settled_is_listed_by_state_and_age(connection: sqlite3.Connection) -> None:
    for minutes, key in ((3, "late"), (1, "early"), (2, "sent"), (4, "done")):
        row = claimed(connection, record(key), minutes=minutes)
        state = State.SENDING if key == "sent" else State.UNKNOWN
        settled = row.order.evolve(settled=key == "done")
        stored(connection, row, state=state, order=settled)
    assert keys(journal.unsettled(connection, [State.UNKNOWN])) == ["early", "late"]
    assert keys(journal.unsettled(connection, (State.UNKNOWN, State.SENDING))) == ["early", "sent", "late"]
    assert journal.unsettled(connection, [State.CONFIRMED]) == []


def test_a_twin_is_another_keys_equal_order_in_doubt(connection: sqlite3.Connection) -> None:
    row = claimed(connection, record("k1"))

    def twin(account: str = "A1", mark: str = "m1", key: str = "k2") -> str | None:
        found = journal.twin(connection, account, mark, key)
        return None if found is None else found.key

    assert twin() == "k1"
    assert (twin(account="A2"), twin(mark="m2"), twin(key="k1")) == (None, None, None)
    for state in State:
        now = stored(connection, row, state=state)
        assert twin() == ("k1" if state in journal.UNRESOLVED else None)
    stored(connection, now, state=State.UNKNOWN, order=row.order.evolve(settled=True))
    assert twin() is None


def test_attempts_that_another_one_followed(connection: sqlite3.Connection) -> None:
    row = claimed(connection, record())
    journal.finish_attempt(connection, "k1", 1, str(State.NOT_PLACED), "not there")
    row = stored(connection, row, state=State.NOT_PLACED)
    assert journal.tried_again(connection, 0) == []
    assert journal.claim(connection, replace(row, state=State.SENDING), ticket(row, 2, "t2", 5), "me")
    assert journal.tried_again(connection, 0) == []  # not placed yet
    row = stored(connection, row, state=State.CONFIRMED)
    second = T0 + 5 * 60 * 1_000_000_000
    for since in (0, second):
        ((found, tried),) = journal.tried_again(connection, since)
        assert (found, tried.n, tried.outcome, tried.cause) == (row, 1, "not_placed", "not there")
    assert journal.tried_again(connection, second + 1) == []
    for n in (3, 4):  # changes are no attempts to place it
        sent = replace(ticket(row, n, None), changes=OrderChanges(limit_price=Decimal(101)))
        journal.add_attempt(connection, "k1", sent, f"replace:{n}", "me", "{}")
        journal.finish_attempt(connection, "k1", n, str(State.NOT_PLACED), "no")
    assert [tried.n for _, tried in journal.tried_again(connection, 0)] == [1]
    journal.finish_attempt(connection, "k1", 1, str(State.UNKNOWN), "")
    assert journal.tried_again(connection, 0) == []


def test_changes_are_attempts_of_their_own_kind(connection: sqlite3.Connection) -> None:
    row = claimed(connection, record(), token="t1")
    changes = OrderChanges(limit_price=Decimal(101))
    for n, (owner, outcome) in enumerate([("alive", None), ("dead", None), ("dead", State.CONFIRMED)], 2):
        sent = replace(ticket(row, n, f"c{n}"), changes=changes)
        if n > 2:  # one is under way at a time
            journal.finish_attempt(connection, "k1", n - 1, str(State.UNKNOWN), "cut")
        journal.add_attempt(connection, "k1", sent, f"replace:{n}", owner, changes.model_dump_json())
        if outcome is not None:
            journal.finish_attempt(connection, "k1", n, str(outcome), "")
    assert [tried.n for tried in journal.attempts(connection, "k1", kind="new")] == [1]
    assert [tried.n for tried in journal.attempts(connection, "k1")] == [1, 2, 3, 4]
    assert [tried.n for tried in journal.open_changes(connection, "k1")] == [2, 3]
    assert journal.doubted(connection, "k1")
    assert not journal.doubted(connection, "k2")
    found = journal.named(connection, "A1", "c2", Name.CHANGE)
    assert found is not None
    assert found.key == "k1"
    assert journal.named(connection, "A1", "c2", Name.TOKEN) is None


@pytest.mark.parametrize(("owner", "outcome"), [("dead", "unknown"), ("alive", None)])
def test_a_change_whose_owner_died_is_in_doubt(
    connection: sqlite3.Connection, owner: str, outcome: str | None
) -> None:
    row = claimed(connection, record())
    sent = replace(ticket(row, 2, None), changes=OrderChanges(limit_price=Decimal(101)))
    journal.add_attempt(connection, "k1", sent, "replace:r1", owner, "{}")
    journal.abandon_changes(connection, lambda name: name == "dead")
    placed, changed = journal.attempts(connection, "k1")
    assert (placed.outcome, changed.outcome) == (None, outcome)
    assert changed.cause == ("its process ended" if outcome else None)
    assert journal.doubted(connection, "k1") is (outcome is not None)


def test_a_child_is_adopted_once(connection: sqlite3.Connection) -> None:
    child = record("k1.1", State.CONFIRMED)
    assert journal.adopt(connection, child, T0) == child
    assert journal.get(connection, "k1.1") == child
    assert journal.named(connection, "A1", "our-k1.1") == child
    assert journal.adopt(connection, child, T0) is None


async def test_a_journal_is_one_venues_environments_and_accounts() -> None:
    memory = Journal(None)
    memory.store.open()
    ours = {"venue": "v", "environment": "live", "account_id": "A1"}
    await memory.claim_identity(**ours)
    await memory.claim_identity(**ours)
    for name in ours:
        with pytest.raises(StateMismatch, match="belongs to"):
            await memory.claim_identity(**{**ours, name: "another"})
    assert memory.read(journal.get, "k1") is None
    memory.store.close()


def test_a_body_holds_all_of_an_order_and_terms_have_one_fingerprint() -> None:
    order = buy(idempotency_key="k1", status=OrderStatus.NEW)
    body = body_of(order)
    assert order_of(body) == order
    assert order_of(body.replace("k1", "k2")).idempotency_key == "k2"  # one that was never written here
    for _ in range(1100):
        body_of(buy())
    assert order_of(body) == order
    mark = fingerprint(order, "A1")
    assert mark == fingerprint(order.evolve(order_id="another", account_id="A1"), "A2")
    assert mark != fingerprint(order, "A2")
    assert mark != fingerprint(order.evolve(quantity=Decimal(2)), "A1")
    assert len(mark) == 64
