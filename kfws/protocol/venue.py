"""Kraken's side of a conversation, for the simulator and the tests.

Rule of this room: no socket, no clock, no randomness. A ``Market`` says what there is to
send, a ``Conversation`` takes the texts of one connection and gives the answers in order.
Where documentation and recordings of the live venue disagree, this is the recorded venue:
nearly every failure is an ``alert``, and no answer carries a request id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import orjson

from kfws.protocol.auth import sign_challenge
from kfws.protocol.feeds import FEEDS, Feed

__all__ = ["Conversation", "Market", "Publication", "Venue"]

REQUESTS_PER_SECOND = 100
"""The venue's documented limit per connection."""

CHALLENGES_KEPT = 64
"""More than any client asks for on one connection; a bound all the same."""


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One data frame and the stream that it belongs to."""

    feed: str
    product: str | None
    """None for heartbeats and private feeds; on ``fills`` the product of the fill."""
    payload: bytes


class Market(Protocol):
    """What a Venue needs of the market behind it."""

    @property
    def products(self) -> Sequence[str]:
        """The ids that can be subscribed to, spelled as they are listed."""
        ...

    @property
    def feeds(self) -> Container[str]:
        """The names of the feeds that can be had."""
        ...

    def snapshot(self, feed: str, product: str | None, now_ms: int) -> list[bytes]:
        """The frames right after an acknowledgement, at the venue's time ``now_ms``.

        Asked of every feed: one that has no first frame gives an empty list. ``product``
        is None on feeds without products, and on ``fills`` without a filter.
        """
        ...


class Venue:
    """What all connections share: the market, the accounts, the source of challenges.

    ``accounts`` maps an API key to its secret in base64. ``new_challenge`` gives a UUID.
    """

    def __init__(
        self, market: Market, accounts: Mapping[str, str], new_challenge: Callable[[], str]
    ) -> None:
        self.market = market
        self.accounts = accounts
        self.new_challenge = new_challenge
        self._spelling = {product.lower(): product for product in market.products}

    def converse(self) -> Conversation:
        """A new connection."""
        return Conversation(self)

    def spelled(self, product: str) -> str | None:
        """The listed spelling of an id typed in any case; None for what cannot be had.

        Index and reference ids (``in_``, ``rr_``) are not tradeable and so not listed.
        """
        return self._spelling.get(product.lower())

    def signed_by_account(self, request: Mapping[str, Any]) -> bool:
        """Whether the signature of a private request belongs to one of the accounts."""
        key, challenge = request.get("api_key"), request.get("original_challenge")
        if not isinstance(key, str) or not isinstance(challenge, str):
            return False
        secret = self.accounts.get(key)
        signed = request.get("signed_challenge")
        return secret is not None and signed == sign_challenge(secret, challenge)


class Conversation:
    """The venue's memory of one connection."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._held: set[tuple[str, str | None]] = set()
        self._requested_at: deque[int] = deque(maxlen=REQUESTS_PER_SECOND)
        # A new one per request; each is good until the connection closes.
        self._challenges: deque[str] = deque(maxlen=CHALLENGES_KEPT)

    @property
    def held(self) -> frozenset[tuple[str, str | None]]:
        """What is subscribed to, as (feed, product); the product is None where there is none."""
        return frozenset(self._held)

    def opened(self) -> list[bytes]:
        """The venue speaks first."""
        return [_encode({"event": "info", "version": 1})]

    def receive(self, text: str | bytes, now_ms: int) -> list[bytes]:
        """The answers to one message of the client, in order; never raises for what it holds."""
        if not self._within_limit(now_ms):
            # The reaction to too many requests is unknown; no recording has one. The text is
            # invented, and says so here.
            return [_alert("Rate limit exceeded")]
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            return [_error("Json Error")]
        if not isinstance(request, dict):
            return [_alert("Bad websocket message")]
        match request.get("event"):
            case "subscribe":
                return self._subscribe(request, now_ms)
            case "unsubscribe":
                return self._unsubscribe(request)
            case "challenge":
                return [self._challenge(request)]
            case _:
                # A JSON ping too: the venue wants WebSocket ping frames.
                return [_alert("Bad websocket message")]

    def wants(self, feed: str, product: str | None) -> bool:
        """Whether a publication belongs to this connection."""
        # (feed, None) is held of feeds without products, and of fills without a filter.
        return (feed, product) in self._held or (feed, None) in self._held

    def select(self, publications: Iterable[Publication]) -> list[bytes]:
        """The payloads that belong to this connection, in their order."""
        held = self._held
        return [
            each.payload
            for each in publications
            if (each.feed, each.product) in held or (each.feed, None) in held
        ]

    def _within_limit(self, now_ms: int) -> bool:
        recent = self._requested_at
        if len(recent) == REQUESTS_PER_SECOND and now_ms - recent[0] < 1000:
            return False
        recent.append(now_ms)
        return True

    def _challenge(self, request: dict[str, Any]) -> bytes:
        if not isinstance(request.get("api_key"), str):
            return _error("Json Error")  # the documented answer to a malformed request
        # Any key gets one: nothing is checked before it is used.
        self._challenges.append(self._venue.new_challenge())
        return _encode({"event": "challenge", "message": self._challenges[-1]})

    def _subscribe(self, request: dict[str, Any], now_ms: int) -> list[bytes]:
        feed = self._feed(request)
        if feed is None:
            return [_alert("Couldn't subscribe to invalid feed")]
        if feed.private and not self._is_signed(request):
            return [_alert("Failed to subscribe to authenticated feed")]
        products = _products(feed, request)
        if products is None:
            # What the live venue says to missing products is unknown; this is the documented
            # error for products that are wrong.
            return [_error("Invalid product id")]
        answers = []
        for typed in products:
            answers += self._hold(feed, typed, now_ms)
        return answers

    def _hold(self, feed: Feed, typed: str | None, now_ms: int) -> list[bytes]:
        product = None if typed is None else self._venue.spelled(typed)
        if product is None and typed is not None:
            return [_alert(f"Couldn't subscribe to invalid product `{typed}`")]
        if (feed.name, product) in self._held:
            # The wording promises a second snapshot; so far nobody has recorded one.
            answer = _alert("Already subscribed to feed, re-requesting")
        else:
            self._held.add((feed.name, product))
            answer = _acknowledge("subscribed", feed.name, product)
        return [answer, *self._venue.market.snapshot(feed.name, product, now_ms)]

    def _unsubscribe(self, request: dict[str, Any]) -> list[bytes]:
        feed = self._feed(request)
        if feed is None:
            return [_alert("Not subscribed to feed")]
        if feed.private and not self._is_signed(request):
            return [_alert("Failed to subscribe to authenticated feed")]
        products = _products(feed, request)
        if products is None:
            return [_error("Invalid product id")]
        return [self._let_go(feed, typed) for typed in products]

    def _let_go(self, feed: Feed, typed: str | None) -> bytes:
        """Without a product everything of the feed goes: fills held with a filter, too."""
        product = None if typed is None else self._venue.spelled(typed)
        if typed is None:
            gone = {held for held in self._held if held[0] == feed.name}
        else:
            gone = {(feed.name, product)} & self._held
        if not gone:
            return _alert("Not subscribed to feed")
        self._held -= gone
        return _acknowledge("unsubscribed", feed.name, product)

    def _feed(self, request: dict[str, Any]) -> Feed | None:
        name = request.get("feed")
        if not isinstance(name, str) or name not in self._venue.market.feeds:
            return None
        return FEEDS.get(name)

    def _is_signed(self, request: dict[str, Any]) -> bool:
        given_here = request.get("original_challenge") in self._challenges
        return given_here and self._venue.signed_by_account(request)


def _products(feed: Feed, request: dict[str, Any]) -> Sequence[str | None] | None:
    """The products asked for; ``[None]`` where the feed is one whole; None if they are wrong."""
    typed = request.get("product_ids")
    if feed.products == "none" or (feed.products == "optional" and not typed):
        return [None]
    if not isinstance(typed, list) or not typed:
        return None
    return typed if all(isinstance(product, str) for product in typed) else None


def _acknowledge(event: str, feed: str, product: str | None) -> bytes:
    """Bare on private feeds, as recorded: the documented echo of key and challenge is not live."""
    products = {} if product is None else {"product_ids": [product]}
    return _encode({"event": event, "feed": feed, **products})


def _alert(message: str) -> bytes:
    return _encode({"event": "alert", "message": message})


def _error(message: str) -> bytes:
    return _encode({"event": "error", "message": message})


_encode = orjson.dumps
