"""The four answers to an order, in words, as JSON and as exit codes."""

from __future__ import annotations

import sys
from typing import Any

import click

from mts1b_brokers_core.checks.words import number
from mts1b_brokers_core.foundation.errors import BrokerError, OrderNotPlaced

from . import jsontext, render
from .failures import (
    FAILED,
    OK,
    USAGE,
    describe,
    exit_code,
    next_step,
    output_lost,
    show_traceback,
    wants_traceback,
)
from .options import Target
from .placing import Placed, unknown_next_step
from .terminal import Look

_ANSWERS = {  # the error's code: the answer in a word
    "order_rejected": "REJECTED by the venue",
    "order_not_placed": "NOT PLACED",
    "outcome_unknown": "UNKNOWN, the order may be live",
}


def code_of(placed: Placed) -> int:
    """Return the exit code of the answer."""
    if placed.refusal is not None:
        return exit_code(placed.refusal)
    assert placed.order is not None
    if placed.order.status == "rejected":
        return FAILED
    return OK if placed.after is None else FAILED


def tell(target: Target, placed: Placed, instance: str) -> None:
    """Print the answer; an output that takes it no more changes nothing about it or its exit code."""
    try:
        if placed.refusal is not None:
            _refused(target, placed, instance)
        else:
            _confirmed(target, placed)
    except OSError as error:
        output_lost(error, _in_a_line(placed))


def _in_a_line(placed: Placed) -> str:
    order, error = placed.order, placed.refusal
    if order is not None:
        return f"confirmed: order id {order.order_id}, at the venue {order.broker_order_id} [{order.status}]"
    assert error is not None
    return f"{_answer(error)}: {describe(error)['message']}"


def _answer(error: BrokerError) -> str:
    denied = "not placed" if exit_code(error) == USAGE else "DENIED, nothing was sent"
    answer = _ANSWERS.get(error.code, denied)
    return f"{answer} ({error.certainty})" if isinstance(error, OrderNotPlaced) else answer


def _confirmed(target: Target, placed: Placed) -> None:
    order = placed.order
    assert order is not None
    if target.as_json:
        document: dict[str, Any] = {
            "order": order, "fills": placed.fills, "answered_before": placed.answered_before,
        }  # fmt: skip
        if placed.wait is not None:
            document["wait"] = placed.wait
        if placed.warning:
            document["warning"] = placed.warning
        if placed.after is not None:
            document["error"] = describe(placed.after)
        jsontext.emit(document)
        return
    word = "REJECTED by the venue" if order.status == "rejected" else "confirmed"
    filled = ""
    if order.filled_quantity:
        at = f" at {number(order.average_price)} on average" if order.average_price is not None else ""
        filled = f", {number(order.filled_quantity)}{at}"
    click.echo(f"{word}: {render.terms(order, None)} [{order.status}{filled}]")
    click.echo(f"  order id {order.order_id}, at the venue {order.broker_order_id}")
    if placed.answered_before:
        click.echo("  this key was used before: the answer is that order's, nothing new was placed")
    if order.reason:
        click.echo(f"  reason: {order.reason}")
    for row in order.adjustments:
        click.echo(f"  {row.field}: asked {row.asked}, sent {row.sent}: {row.reason}")
    if placed.fills:
        click.echo()
        render.table(render.FILL_COLUMNS, map(render.fill_row, placed.fills), empty="")
    if placed.warning:
        click.echo(f"warning: {placed.warning}", err=True)
    if placed.after is not None:
        click.echo(f"error: the order is confirmed, but closing failed: {placed.after.message}", err=True)


def _refused(target: Target, placed: Placed, instance: str) -> None:
    error = placed.refusal
    assert error is not None
    if wants_traceback():
        show_traceback(error)
    where = f" --environment {target.environment}" if target.environment else ""
    follow_up = _follow_up(placed, f"mts mts1b-brokers orders {instance}{where}")
    if target.as_json:
        order = getattr(error, "order", None) or placed.asked
        jsontext.emit({"error": {**describe(error), "next_step": follow_up, "order": order}})
        return
    look, said = Look.of(sys.stderr), describe(error)
    click.echo(
        f"{look.paint(_answer(error), 'red', bold=True)}: {said['message']}", err=True, color=look.colour
    )
    words = said.get("words", "")
    if words and words not in said["message"]:
        click.echo(f"  the venue's words: {words}", err=True)
    if follow_up:
        click.echo(f"  next: {follow_up}", err=True)


def _follow_up(placed: Placed, orders: str) -> str:
    error, key = placed.refusal, placed.asked.idempotency_key
    assert error is not None
    if error.code == "outcome_unknown":
        return unknown_next_step(key, orders, repeatable=placed.repeatable)
    if error.code == "order_not_placed" and getattr(error, "certainty", "") == "proven":
        return f"the same command with --key {key} tries again"
    if error.code == "order_not_placed":
        return f"its absence is only probable: look with `{orders} --all` first"
    return next_step(error)
