"""Erasing: a user's or a record's values leave the database for good, in small transactions, and a receipt says so.

Each step can be done again, so an erasure that was killed goes on where it is begun again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt

from syncd.store.erasures import ErasedFeed, Erasure, ErasureOperator

# Places of a log a part, fewer where the feed is locked meanwhile; how long to rest after each, as a share of its time.
AT_ONCE, LOCKED_AT_ONCE, REST = 5000, 250, 0.5
TYPE = "syncd-erasure+jwt"


class BadReceipt(ValueError):
    """It is no receipt, or not one of this server's."""


async def perform(operator: ErasureOperator, ordinal: int, what: str, rest: float = REST) -> Erasure:
    """Does all that is left of an erasure of a "user" or a "record". What is known of it."""
    if what == "record":
        feed = await operator.bury(ordinal)
        if feed.upto is not None:
            await _through(feed, rest, lambda after: operator.clean_record(ordinal, feed, after, AT_ONCE))
        await operator.clean_beside(ordinal)
    else:
        await operator.clean_letters(ordinal)
        clients = await operator.clients(ordinal)
        feeds = await operator.feeds(ordinal, clients)
        for feed in feeds:
            await _through(feed, rest, _cleaning(operator, ordinal, feed, clients))
        # What others wrote meanwhile may carry along a value that still stood.
        for feed in feeds:
            grown = feed._replace(upto=await operator.head(feed))
            await _through(grown, rest, _cleaning(operator, ordinal, grown, clients), after=feed.upto or 0)
    return await operator.end(ordinal)


def _cleaning(operator: ErasureOperator, ordinal: int, feed: ErasedFeed, clients: list[str]) -> Any:
    return lambda after: operator.clean_user(ordinal, feed, clients, after, LOCKED_AT_ONCE)


async def _through(feed: ErasedFeed, rest: float, clean: Any, after: int = 0) -> None:
    while after < (feed.upto or 0):
        begun = time.monotonic()
        after = await clean(after)
        await asyncio.sleep((time.monotonic() - begun) * rest)


def receipt(erasure: Erasure, key: bytes) -> str:
    """What was erased and when, with counts and no values, signed with the key for receipts: a JWT that is no token."""
    facts = erasure.facts()
    claims = {"iat": int(erasure.done or 0), "erasure": facts}
    return jwt.encode(claims, key, algorithm="HS256", headers={"typ": TYPE})


def read_receipt(text: str, key: bytes) -> dict[str, Any]:
    """The facts of a receipt. Raises BadReceipt."""
    try:
        if jwt.get_unverified_header(text).get("typ") != TYPE:
            raise BadReceipt("it is no receipt of an erasure")
        claims = jwt.decode(text, key, algorithms=["HS256"], options={"verify_iat": False})
    except jwt.InvalidTokenError as wrong:
        raise BadReceipt(str(wrong)) from None
    facts: dict[str, Any] = claims["erasure"]
    return facts
