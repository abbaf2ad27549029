"""Our side of one conversation with the venue.

Rule of this room: no socket, no clock, no log. Frames and time are handed in; events and
requests are handed back. A Session lives as long as its connection and is never reset: the
next connection gets a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from kfws.errors import KfwsError, Unreachable, Unwelcome
from kfws.errors import Refused as AllRefused
from kfws.protocol import wire
from kfws.protocol.auth import Credentials, signature
from kfws.protocol.events import (
    BinaryFrame,
    Broken,
    Data,
    Event,
    Kind,
    Notice,
    Refused,
    Subscribed,
)
from kfws.protocol.feeds import FEEDS, SNAPSHOT_SUFFIX, base_name

__all__ = ["Session", "Subscription"]

# The venue allows 100 requests a second and connection, and nobody has seen what it does
# above that (protocol page, section 8).
REQUESTS_PER_S = 90
SECOND_NS = 1_000_000_000
CHALLENGE_DEADLINE_NS = 10 * SECOND_NS

# The venue's texts, matched by their beginnings (protocol page, section 6). Its documentation
# has an `error` twin for two of them.
INVALID_PRODUCT = ("Couldn't subscribe to invalid product", "Invalid product id")
INVALID_FEED = ("Couldn't subscribe to invalid feed", "Invalid feed")
UNAUTHENTICATED = "Failed to subscribe to authenticated feed"
ALREADY_SUBSCRIBED = "Already subscribed to feed"
NOT_SUBSCRIBED = "Not subscribed to feed"


@dataclass(frozen=True, slots=True)
class Subscription:
    """The wish to have a feed, of one product where the feed has products."""

    feed: str
    product: str | None = None
    quiet: bool = False
    """Not asked for by the user: the heartbeat that shows that the venue lives."""

    @property
    def is_private(self) -> bool:
        feed = FEEDS.get(self.feed)
        return feed is not None and feed.private

    def __str__(self) -> str:
        return self.feed if self.product is None else f"{self.feed} {self.product}"


State = Literal["queued", "waiting", "active", "refused", "left"]


@dataclass(frozen=True, slots=True)
class _Request:
    event: Literal["subscribe", "unsubscribe", "challenge"]
    subscription: Subscription


# One challenge serves the whole connection, so there is one request for it; it is no feed.
_CHALLENGE = _Request("challenge", Subscription("challenge"))


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a wire feed name says of its messages."""

    feed: str
    kind: Kind
    needs_product: bool
    needs_seq: bool
    quiet: bool


class Session:
    """Asks for what is wanted, reads what comes, keeps account of what was answered.

    ``wanted`` are the subscriptions, in the order in which they are asked for. ``verdict`` is
    set when the conversation cannot go on: the key was refused, the challenge stayed away, or
    nothing is left of what was wanted.
    """

    def __init__(
        self, wanted: Sequence[Subscription], credentials: Credentials | None = None
    ) -> None:
        if credentials is None and any(each.is_private for each in wanted):
            raise ValueError("private feeds need credentials")
        self.states: dict[Subscription, State] = {}
        self.verdict: KfwsError | None = None
        self._credentials = credentials
        self._shapes = dict(_shapes(wanted))
        self._queue: deque[_Request] = deque()
        self._waiting: deque[_Request] = deque()
        self._sent_at: deque[int] = deque(maxlen=REQUESTS_PER_S)
        self._signature: wire.Signature | None = None
        self._challenge_due: int | None = None
        self._key_worked = False
        self._challenges = 0
        self._suspects: list[Subscription] = []
        self._refusals: list[str] = []
        self._verdicts: list[Event] = []
        for each in wanted:
            self.subscribe(each)

    # What we want

    def subscribe(self, subscription: Subscription) -> None:
        """Asks for a feed, private ones once a challenge is signed."""
        self.states[subscription] = "queued"
        if subscription.is_private and self._signature is None:
            self._want_challenge()
        else:
            self._queue.append(_Request("subscribe", subscription))

    def unsubscribe(self, subscription: Subscription) -> None:
        """Gives a feed up."""
        self.states[subscription] = "left"
        self._queue.append(_Request("unsubscribe", subscription))

    def outgoing(self, now_ns: int) -> list[str]:
        """The requests that are due, at most 90 in any second; to be sent in this order."""
        due: list[str] = []
        while self._queue and now_ns >= self._may_send_at():
            request = self._queue.popleft()
            self._sent_at.append(now_ns)
            self._waiting.append(request)
            due.append(self._text(request))
            if request is _CHALLENGE:
                self._challenge_due = now_ns + CHALLENGE_DEADLINE_NS
            elif request.event == "subscribe":
                self.states[request.subscription] = "waiting"
        return due

    def next_at(self) -> int | None:
        """When ``outgoing`` or ``tick`` has something to do, in ns; None: only after a frame."""
        moments = [self._challenge_due] if self._challenge_due is not None else []
        if self._queue:
            moments.append(self._may_send_at())
        return min(moments, default=None)

    def tick(self, now_ns: int) -> None:
        """Time passed: is anything overdue?"""
        if self._challenge_due is not None and now_ns >= self._challenge_due:
            self._challenge_due = None
            self.verdict = Unreachable(
                "the venue did not answer the request for a challenge within 10 s",
                hint="try again; public feeds need no challenge",
            )

    def _may_send_at(self) -> int:
        full = len(self._sent_at) == REQUESTS_PER_S
        return self._sent_at[0] + SECOND_NS if full else 0

    def _text(self, request: _Request) -> str:
        subscription = request.subscription
        if request is _CHALLENGE and self._credentials is not None:
            return wire.challenge(self._credentials.key)
        build = wire.subscribe if request.event == "subscribe" else wire.unsubscribe
        signed = self._signature if subscription.is_private else None
        return build(subscription.feed, subscription.product, signed)

    def _want_challenge(self) -> None:
        if _CHALLENGE not in self._queue and _CHALLENGE not in self._waiting:
            self._challenges += 1
            # Ahead of the subscriptions: it takes a round trip of its own.
            self._queue.appendleft(_CHALLENGE)

    # What comes

    def receive(self, frames: Iterable[bytes], received_ns: int) -> list[Event]:
        """One event per frame, in order. ``received_ns``: when the read that brought them began."""
        events: list[Event] = []
        append, shapes, read = events.append, self._shapes, wire.read_typed
        for payload in frames:
            try:
                head = read(payload)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # read_typed is strict about types that nothing depends on.
                events += self._judge(payload, received_ns)
                continue
            shape = shapes.get(head.feed)
            if (
                shape is None
                or head.event
                or type(payload) is BinaryFrame
                or not payload.isascii()
                or (shape.needs_product and head.product_id is None)
                or (shape.needs_seq and head.seq is None)
            ):
                events += self._judge(payload, received_ns)
                continue
            append(
                Data(
                    payload,
                    received_ns,
                    shape.feed,
                    shape.kind,
                    head.product_id,
                    head.seq,
                    head.time or head.timestamp,
                    shape.quiet,
                )
            )
        return events

    def _judge(self, payload: bytes, received_ns: int) -> list[Event]:
        """The event of a frame that is not plain data of a known feed, and what follows from it."""
        if isinstance(payload, BinaryFrame):
            return [Broken(payload=payload, received_ns=received_ns, reason="binary frame")]
        head = wire.read_head(payload)
        if isinstance(head, str):
            return [Broken(payload=payload, received_ns=received_ns, reason=head)]
        if head.event:
            event = self._control(head.event, payload, received_ns)
            verdicts, self._verdicts = self._verdicts, []
            return [event, *verdicts]
        return [self._data(head, payload, received_ns)]

    def _data(self, head: wire.Head, payload: bytes, received_ns: int) -> Event:
        shape = self._shapes.get(head.feed) or _shape_of_unknown(head.feed)
        reason = ""
        if not head.feed:
            reason = "neither event nor feed"
        elif shape.needs_product and head.product_id is None:
            reason = "no product_id"
        elif shape.needs_seq and head.seq is None:
            reason = "no seq"
        if reason:
            return Broken(payload=payload, received_ns=received_ns, reason=reason)
        return Data(
            payload,
            received_ns,
            shape.feed,
            shape.kind,
            head.product_id,
            head.seq,
            head.time or head.timestamp,
            shape.quiet,
        )

    def _control(self, event: str, payload: bytes, received_ns: int) -> Event:
        fields = wire.read_control(payload)
        payload = wire.redact(payload)
        text = fields.get("message")
        message = text if isinstance(text, str) else ""
        refused: list[_Request] = []
        match event:
            case "subscribed":
                return self._on_subscribed(fields, payload, received_ns)
            case "unsubscribed" | "unsubscribed_failed":
                self._settle("unsubscribe", fields)
            case "subscribed_failed":
                refused = self._settle("subscribe", fields)
                message = message or event
            case "challenge":
                self._on_challenge(message)
            case "alert" | "error":
                refused = self._on_alert(message, received_ns)
        if not refused:
            return Notice(payload=payload, received_ns=received_ns, event=event, message=message)
        first, *more = (self._refuse(each.subscription, message, received_ns) for each in refused)
        first.payload = payload
        self._verdicts += more
        return first

    # Answers. They carry no id: a positive one is matched by feed and product, a refusal that
    # names nothing belongs to the oldest waiting request, since replies come in request order.

    def _on_subscribed(self, fields: dict[str, Any], payload: bytes, received_ns: int) -> Event:
        settled = self._settle("subscribe", fields)
        for request in settled:
            self._activate(request.subscription, received_ns)
        return Subscribed(
            payload=payload,
            received_ns=received_ns,
            feed=_feed_of(fields),
            products=tuple(_products_of(fields)),
            quiet=any(each.subscription.quiet for each in settled),
        )

    def _activate(self, subscription: Subscription, received_ns: int) -> None:
        # Given up while the acknowledgement was on its way: it stays given up.
        if self.states[subscription] == "waiting":
            self.states[subscription] = "active"
        if subscription.is_private:
            self._key_worked = True
            self._judge_suspects(received_ns)

    def _settle(self, event: str, fields: dict[str, Any]) -> list[_Request]:
        """Takes the requests that an answer names out of the waiting ones."""
        feed = _feed_of(fields)
        products = {each.lower() for each in _products_of(fields)}
        settled = [
            request
            for request in self._waiting
            if request.event == event
            and request.subscription.feed == feed
            and (not products or (request.subscription.product or "").lower() in products)
        ]
        # An answer that names no product answers one request.
        settled = settled if products else settled[:1]
        for request in settled:
            self._waiting.remove(request)
        return settled

    def _oldest(self, event: str, *, private: bool = False, product: str = "") -> list[_Request]:
        """Takes the oldest waiting request that fits out of the waiting ones: one or none."""
        for request in self._waiting:
            subscription = request.subscription
            if (
                request.event == event
                and (subscription.is_private or not private)
                and (not product or (subscription.product or "").lower() == product.lower())
            ):
                self._waiting.remove(request)
                return [request]
        return []

    def _on_challenge(self, message: str) -> None:
        if _CHALLENGE not in self._waiting or self._credentials is None or not message:
            return  # nobody asked, or nothing was said: a Notice, and the deadline stands
        self._waiting.remove(_CHALLENGE)
        self._challenge_due = None
        self._signature = signature(self._credentials, message)
        for subscription, state in self.states.items():
            if subscription.is_private and state == "queued":
                self._queue.append(_Request("subscribe", subscription))

    def _on_alert(self, message: str, received_ns: int) -> list[_Request]:
        """The requests that an alert refuses: one or none."""
        if message.startswith(UNAUTHENTICATED):
            failed = self._oldest("subscribe", private=True)
            if self._key_worked:
                return failed
            self._suspects += [each.subscription for each in failed]
            self._judge_suspects(received_ns)
        elif message.startswith(INVALID_PRODUCT):
            named = message.split("`")[1] if message.count("`") >= 2 else ""
            return self._oldest("subscribe", product=named)
        elif message.startswith(INVALID_FEED):
            return self._oldest("subscribe")
        elif message.startswith(ALREADY_SUBSCRIBED):
            for request in self._oldest("subscribe"):
                self._activate(request.subscription, received_ns)
        elif message.startswith(NOT_SUBSCRIBED):
            self._oldest("unsubscribe")
        return []

    def _refuse(self, subscription: Subscription, message: str, received_ns: int) -> Refused:
        self.states[subscription] = "refused"
        if not subscription.quiet:
            self._refusals.append(f"{subscription}: {message}")
        states = [state for each, state in self.states.items() if not each.quiet]
        if states and all(state == "refused" for state in states):
            self._nothing_is_left()
        return Refused(
            payload=None,
            received_ns=received_ns,
            feed=subscription.feed,
            product=subscription.product,
            message=message,
            quiet=subscription.quiet,
        )

    def _nothing_is_left(self) -> None:
        shown = "; ".join(self._refusals[:3])
        more = len(self._refusals) - 3
        self.verdict = AllRefused(
            f"the venue refused {shown}" + (f"; and {more} more" if more > 0 else ""),
            hint="look at the spelling; `kfws feeds` lists the feeds",
        )

    # Every fault of authentication gives the same alert, whether key, signature, challenge or
    # permission is to blame. If another private feed is acknowledged on this connection, the
    # feed is refused; if none is, even with a second challenge, the key is.

    def _judge_suspects(self, received_ns: int) -> None:
        if not self._suspects or self._private_unanswered():
            return
        suspects, self._suspects = self._suspects, []
        if self._key_worked:
            self._verdicts += [
                self._refuse(each, UNAUTHENTICATED, received_ns) for each in suspects
            ]
        elif self._challenges == 1:
            self.states.update(dict.fromkeys(suspects, "queued"))
            self._signature = None
            self._want_challenge()
        else:
            self.verdict = Unwelcome(
                f"the venue refused the API key for {', '.join(map(str, suspects))}: "
                "key refused or lacks permission",
                hint="is it a key for Kraken Futures, for this environment, with read access?",
            )

    def _private_unanswered(self) -> bool:
        return any(
            each.event == "subscribe" and each.subscription.is_private
            for each in (*self._queue, *self._waiting)
        )


def _shapes(wanted: Sequence[Subscription]) -> Iterable[tuple[str, _Shape]]:
    quiet = {each.feed for each in wanted if each.quiet}
    for feed in FEEDS.values():
        kinds: tuple[tuple[str, Kind], ...] = (("", "delta"), (SNAPSHOT_SUFFIX, "snapshot"))
        for suffix, kind in kinds:
            yield (
                feed.name + suffix,
                _Shape(
                    feed=feed.name,
                    kind=kind,
                    needs_product="product_id" in feed.needs,
                    # The numbers of a trade_snapshot stand in its entries.
                    needs_seq="seq" in feed.needs and (feed.name, kind) != ("trade", "snapshot"),
                    quiet=feed.name in quiet,
                ),
            )


def _shape_of_unknown(name: str) -> _Shape:
    feed, is_snapshot = base_name(name)
    kind: Kind = "snapshot" if is_snapshot else "delta"
    return _Shape(feed, kind, needs_product=False, needs_seq=False, quiet=False)


def _feed_of(fields: dict[str, Any]) -> str:
    feed = fields.get("feed")
    # An older documentation page prints "subscribed " with a trailing space; be as patient here.
    return feed.strip() if isinstance(feed, str) else ""


def _products_of(fields: dict[str, Any]) -> list[str]:
    products = fields.get("product_ids")
    return (
        [each for each in products if isinstance(each, str)] if isinstance(products, list) else []
    )
