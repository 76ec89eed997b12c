"""Orders as the text the journal holds, and the digest that tells equal ones."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict

from mts1b_brokers_core.foundation.orders import Order

#: Orders by the text they were written as: what is read next is mostly what was written last.
_parsed: OrderedDict[str, Order] = OrderedDict()
_PARSED = 1024


def body_of(order: Order) -> str:
    """Return an order as the text that is stored."""
    body = order.model_dump_json()
    _parsed[body] = order
    if len(_parsed) > _PARSED:
        _parsed.popitem(last=False)
    return body


def order_of(body: str) -> Order:
    """Return the order that a stored text holds."""
    return _parsed.get(body) or Order.model_validate_json(body)


def fingerprint(order: Order, account_id: str) -> str:
    """Return a digest of the terms: equal for a true retry, whatever its order id.

    An order that names no account is one for `account_id`.
    """
    terms = order.terms() | {"account_id": order.account_id or account_id}
    text = json.dumps(terms, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
