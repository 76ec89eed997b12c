"""F: a credential that is refused, expired or taken over is said by name, and never costs an order."""

from __future__ import annotations

from typing import Any

import pytest
from failure_kit import Start, event_of, fills_of, resting, until

from mts1b_brokers_core import (
    AuthenticationError,
    BrokerFailed,
    EventKind,
    OrderNotPlaced,
    OrderStatus,
)
from mts1b_brokers_core.foundation import StateLocked
from mts1b_brokers_core.platform.recorder import read_recording
from mts1b_simulator.wire import Frame, faults


def revoke(server: Any) -> None:
    """Let the venue know the key no more."""
    server.access._keys.clear()


async def test_a_key_that_died_while_we_run_is_said_by_name_and_ends_the_streams(start: Start) -> None:
    """A dead refresh token left a client that ran on without data, and without any error."""
    # tylerebowers/Schwabdev#95, #40, #27, alexgolec/schwab-py#112
    async with start() as site, site.broker(reconcile_every=0.1) as broker:
        order = await broker.submit(resting())
        revoke(site.server)
        with pytest.raises(BrokerFailed) as failed:
            await fills_of(broker, 1)
        assert isinstance(failed.value.__cause__, AuthenticationError)
        assert failed.value.next_step
        assert EventKind.FAILED in site.kinds()
        with pytest.raises(BrokerFailed):
            await broker.submit(order)


async def test_a_read_with_a_dead_key_is_an_authentication_error(start: Start) -> None:
    """A refused key came back as an empty list, or as some error of the transport."""
    # tylerebowers/Schwabdev#95
    async with start() as site, site.broker() as broker:
        revoke(site.server)
        with pytest.raises(AuthenticationError) as error:
            await broker.get_positions()
        assert (error.value.broker, error.value.operation) == ("reference", "get_positions")
        assert error.value.next_step


@pytest.mark.parametrize("times", [1, 3])
async def test_an_order_refused_for_its_credential_is_not_rejected_and_may_be_sent_again(
    start: Start, times: int
) -> None:
    """Valid tokens were refused at random and accepted the next time; the orders counted as rejected."""
    # coinbase/coinbase-advanced-py#132, #19, QuantConnect/Lean#9318
    async with start("token_not_unique") as site, site.broker() as broker:
        order = resting()
        for _ in range(times):
            site.server.faults.next(faults.ExpiredCredential(), "POST /v1/orders")
            with pytest.raises(OrderNotPlaced) as error:
                await broker.submit(order)
            assert (error.value.certainty, error.value.repeat_is_safe) == ("proven", True)
        assert (await broker.submit(order)).status is OrderStatus.NEW
        assert len(site.orders()) == 1


async def test_a_credential_refused_for_a_cancel_leaves_the_order_as_it_was(start: Start) -> None:
    """A cancel failed for an expired token, and the order was shown as cancelled or as failed."""
    # QuantConnect/Lean#9318
    async with start() as site, site.broker() as broker:
        order = await broker.submit(resting())
        site.server.faults.next(faults.ExpiredCredential(), "DELETE")
        with pytest.raises(Exception, match="expired"):
            await broker.cancel(order.order_id)
        assert (await broker.outcome(order.idempotency_key)).status is OrderStatus.NEW
        assert await broker.cancel(order.order_id) is True


async def test_one_refused_reading_in_the_background_does_not_end_the_broker(start: Start) -> None:
    """One failed refresh ended live trading, although the next one would have worked."""
    # QuantConnect/Lean#9318, coinbase/coinbase-advanced-py#132
    async with start() as site, site.broker(reconcile_every=0.1) as broker:
        order = await broker.submit(resting())
        await event_of(broker, EventKind.LINK_UP)
        site.server.faults.next(faults.ExpiredCredential(), "GET /v1/executions")
        await until(lambda: site.server.faults.applied)
        read = site.server.count("GET /v1/executions")
        await until(
            lambda: site.server.count("GET /v1/executions") > read or EventKind.FAILED in site.kinds()
        )
        assert EventKind.FAILED not in site.kinds()
        site.fill(order, "0.5")
        await fills_of(broker, 1)


async def test_an_exclusive_login_taken_by_another_is_told_at_once(start: Start) -> None:
    """A second process took the session; the first went on with a stale one and saw nothing."""
    # lumibot#1114
    async with start("exclusive_login") as site, site.broker() as first:
        order = await first.submit(resting())
        await event_of(first, EventKind.LINK_UP)
        async with site.broker(state_path=None):
            with pytest.raises(BrokerFailed, match="another login"):
                await fills_of(first, 1)
        assert site.held(order).is_open


async def test_an_order_sent_with_a_session_that_was_taken_is_proven_not_placed(start: Start) -> None:
    """With a stale session it stayed unclear whether the order had been placed."""
    # lumibot#1114
    async with start("exclusive_login") as site, site.broker(reconcile_every=9999) as first:
        await event_of(first, EventKind.LINK_UP)
        site.server.cut_streams()  # nobody is told by the stream
        site.server.faults.when(faults.CutSocket())
        site.server.access.open_session(site.server.access.key, site.server.clock_ns())
        with pytest.raises(OrderNotPlaced) as error:
            await first.submit(resting())
        assert error.value.certainty == "proven"
        assert site.orders() == []


async def test_two_processes_of_one_state_folder_never_share_an_exclusive_login(start: Start) -> None:
    """Two processes renewed one token file in turn, and each made the other's session stale."""
    # lumibot#1114
    async with start("exclusive_login") as site, site.broker() as first:
        sessions = site.server.count("POST /v1/session")
        with pytest.raises(StateLocked, match="the login of reference"):
            async with site.broker():
                pass
        assert site.server.count("POST /v1/session") == sessions == 1
        assert (await first.submit(resting())).broker_order_id


async def test_each_reconnect_says_a_fresh_hello(start: Start) -> None:
    """A reconnect after a day sent the login of the first connect, whose token had long expired."""
    # knowm/XChange#4740
    async with start() as site:
        record = site.journal.with_name("frames.jsonl")
        async with site.broker(record=record) as broker:
            await event_of(broker, EventKind.LINK_UP)
            for count in (2, 3):
                # What was signed before would be refused by now.
                site.server.shift_clock(60.0 * count)
                await broker.get_server_time()
                site.server.cut_streams()
                await event_of(broker, EventKind.LINK_UP, count)
        sent = [row.body for row in read_recording(record) if (row.channel, row.direction) == ("ws", "out")]
        logins = [body for body in sent if b'"login"' in body]
        assert len(logins) == len(set(logins)) == 3


async def test_a_subscription_that_is_not_confirmed_is_no_link(start: Start) -> None:
    """A wrong verb or id in the subscription left an activity stream that was up, and silent."""
    # alexgolec/schwab-py#117, tylerebowers/Schwabdev#14

    def confirmation(frame: Frame) -> bool:
        return frame.label == "executions" and b'"subscribed"' in bytes(str(frame.data), "latin-1")

    async with start() as site, site.broker(reconcile_every=0.2) as broker:
        site.server.faults.when(faults.LoseFrame(), confirmation)
        site.server.cut_streams()
        order = await broker.submit(resting())
        site.server.faults.when(faults.LoseFrame(), "executions")
        await until(lambda: site.server.faults.applied)
        site.fill(order, "0.5")
        (fill,) = await fills_of(broker, 1)
        assert fill.order_id == order.order_id
        links = [kind for kind in site.kinds() if kind in (EventKind.LINK_UP, EventKind.LINK_DOWN)]
        assert links == [] or links[-1] is EventKind.LINK_DOWN
