"""Our side of one conversation with the venue.

Rule of this room: no socket, no clock, no log. Frames and time are handed in; events and
requests are handed back. A Session lives as long as its connection and is never reset: the
next connection gets a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from kfws.errors import KfwsError, Unreachable, Unwelcome
from kfws.errors import Refused as AllRefused
from kfws.protocol import wire
from kfws.protocol.auth import Credentials, signature
from kfws.protocol.events import (
    BINARY,
    Beat,
    BinaryFrame,
    Broken,
    Data,
    Event,
    Gap,
    Kind,
    Notice,
    Refused,
    Resync,
    Silent,
    Stale,
    Subscribed,
)
from kfws.protocol.feeds import FEEDS, SNAPSHOT_SUFFIX, base_name
from kfws.protocol.sequence import Sequences, Track

__all__ = ["Session", "Subscription"]

SECOND_NS = 1_000_000_000
# The venue allows 100 requests a second and connection, and nobody has seen what it does
# above that (protocol page, section 8). Evenly spaced, so that no network can bunch them.
REQUEST_EVERY_NS = SECOND_NS // 90
REQUESTS_AT_ONCE = 8
ANSWER_DEADLINE_NS = 10 * SECOND_NS
SNAPSHOT_DEADLINE_NS = 10 * SECOND_NS
# Sides may cross for an instant between two changes; a book that stays so is wrong.
CROSSED_FOR_NS = 5 * SECOND_NS
LOOK_AT_BOOKS_EVERY_NS = SECOND_NS // 4
BOOKS_AT_ONCE = 20
# What gives nothing is asked for again, but not over and over.
ASKED_AGAIN_EVERY_NS = 600 * SECOND_NS
# While the venue's engine is away each request is answered with an alert.
OUTAGE_WAITS_S = (1, 2, 4, 8, 16, 32, 60)
# A key that worked and is refused: the venue is the likelier culprit.
KEY_WAITS_S = (5, 15, 60, 300)
# A snapshot from before the gap: the venue's node is behind.
RESYNC_WAITS_S = (1, 2, 4, 8, 16, 32, 60)

# The venue's texts, matched by their beginnings (protocol page, section 6). Its documentation
# has an `error` twin for two of them.
INVALID_PRODUCT = ("Couldn't subscribe to invalid product", "Invalid product id")
INVALID_FEED = ("Couldn't subscribe to invalid feed", "Invalid feed")
UNAUTHENTICATED = "Failed to subscribe to authenticated feed"
ALREADY_SUBSCRIBED = "Already subscribed to feed"
NOT_SUBSCRIBED = "Not subscribed to feed"
OUTAGE = "Trading engine unavailable"


class Subscription(msgspec.Struct, frozen=True):
    """The wish to have a feed, of one product where the feed has products."""

    feed: str
    product: str | None = None
    quiet: bool = False
    """Not asked for by the user: the heartbeat that shows that the venue lives."""

    @property
    def is_private(self) -> bool:
        feed = FEEDS.get(self.feed)
        return feed is not None and feed.private

    def is_same(self, other: Subscription) -> bool:
        """Whether it wishes for the same; ids are compared in any case (protocol page,
        section 7)."""
        mine, theirs = (self.product or "").lower(), (other.product or "").lower()
        return (self.feed, mine, self.quiet) == (other.feed, theirs, other.quiet)

    def __str__(self) -> str:
        return self.feed if self.product is None else f"{self.feed} {self.product}"


State = Literal["queued", "waiting", "active", "refused", "left"]


class _Request(msgspec.Struct, frozen=True):
    event: Literal["subscribe", "unsubscribe", "challenge"]
    subscription: Subscription


# One challenge serves the whole connection, so there is one request for it; it is no feed.
_CHALLENGE = _Request("challenge", Subscription("challenge"))


class _Shape(msgspec.Struct, frozen=True):
    """What a wire feed name says of its messages."""

    feed: str
    kind: Kind
    needs_product: bool
    needs_seq: bool
    quiet: bool
    is_plain: bool
    """Whether the next number, or none, is all that there is to look at."""


class _Hold:
    """A time to wait that grows each time it is wanted. Wanted where there is no clock."""

    def __init__(self, waits_s: Sequence[int]) -> None:
        self._waits_s = waits_s
        self.times = 0
        """How often it was waited for."""
        self._is_wanted = False
        self._until: int | None = None

    @property
    def moments(self) -> list[int]:
        """When it ends; now where it has not begun; nothing where none is wanted."""
        if self._is_wanted:
            return [0]
        return [] if self._until is None else [self._until]

    @property
    def is_on(self) -> bool:
        """Whether ``moments`` has any."""
        return self._is_wanted or self._until is not None

    def want(self) -> None:
        """From the next look on, unless one lasts already."""
        self._is_wanted = self._until is None

    def lasts(self, now_ns: int) -> bool:
        if self._is_wanted:
            wait_s = self._waits_s[min(self.times, len(self._waits_s) - 1)]
            self._until = now_ns + wait_s * SECOND_NS
            self.times += 1
            self._is_wanted = False
        if self._until is not None and now_ns >= self._until:
            self._until = None
        return self._until is not None

    def ended(self, now_ns: int) -> bool:
        """Whether it was wanted and is over: true once."""
        return self.is_on and not self.lasts(now_ns)

    def reset(self) -> None:
        self.times = 0


class Session:
    """Asks for what is wanted, reads what comes, keeps account of what was answered.

    ``wanted`` are the subscriptions, in the order in which they are asked for. ``sequences``
    outlives the connection. ``key_worked``: on an earlier connection of this run. ``resync``:
    whether a book with a gap is asked for anew. ``may_grow``: more may be wanted later, so no
    refusal of feeds, products or the key ends the conversation. ``read``: ``wire.decode_typed``, or
    one that remembers, where several sessions hear the same.

    ``verdict`` is set when the conversation cannot go on: the key was refused, the challenge
    stayed away, or nothing is left of what was wanted.
    """

    def __init__(
        self,
        wanted: Sequence[Subscription],
        credentials: Credentials | None = None,
        *,
        sequences: Sequences | None = None,
        key_worked: bool = False,
        resync: bool = True,
        may_grow: bool = False,
        read: Callable[[bytes], Data] = wire.decode_typed,
    ) -> None:
        if credentials is None and any(each.is_private for each in wanted):
            raise ValueError("private feeds need credentials")
        self.states: dict[Subscription, State] = {}
        self.verdict: KfwsError | None = None
        self.beats = False
        """Whether a heartbeat came on this connection."""
        self.key_worked = key_worked
        self.has_answers = True
        """Whether something came since this was unset that may make a request possible, or a
        deadline nearer: all but the next messages of their streams."""
        self._read = read
        self._credentials = credentials
        self._sequences = sequences or Sequences()
        self._resync = resync
        self._may_grow = may_grow
        self._shapes = dict(_shapes(wanted))
        self._streams = {
            name: self._sequences.tracks.setdefault(name, {})
            for name, shape in self._shapes.items()
            if shape.is_plain
        }
        self._queue: deque[_Request] = deque()
        self._waiting: dict[_Request, int] = {}
        """What was sent and not answered, and when, in the order of sending."""
        self._slot = 0
        """When the next request may leave."""
        self._given_up: set[Subscription] = set()
        """What was unsubscribed from for good, until the venue says so as well."""
        self._signature: wire.Signature | None = None
        self._secrets: list[bytes] = []
        if credentials is not None:
            self._learn_secrets([credentials.key, credentials.secret])
        self._worked_here = False
        self._challenges = 0
        self._suspects: list[Subscription] = []
        self._refusals: list[str] = []
        self._verdicts: list[Event] = []
        self._outage = _Hold(OUTAGE_WAITS_S)
        self._key_fault = _Hold(KEY_WAITS_S)
        self._crossed_at: dict[Subscription, int] = {}
        self._look_at_books_at = 0
        self._unlooked_books: list[str | None] = []
        self._stale: dict[Subscription, tuple[int, int]] = {}
        """Since when, and up to which number, a book is not to be trusted."""
        self._asks: dict[Subscription, _Hold] = {}
        """Books whose snapshot was too old, and when they are asked for again."""
        self._active_at: dict[Subscription, int] = {}
        self._snapshots: dict[Subscription, int | None] = {}
        """The number of the last snapshot; None where it has none."""
        self._asked_again_at: dict[Subscription, int] = {}
        for each in wanted:
            self.subscribe(each)

    # What we want

    def subscribe(self, subscription: Subscription) -> None:
        """Asks for a feed, private ones once a challenge is signed."""
        self.states[subscription] = "queued"
        shape = self._shapes.get(subscription.feed)
        if shape is not None and shape.quiet != subscription.quiet:
            self._shapes[subscription.feed] = replace(shape, quiet=subscription.quiet)
        if subscription.is_private and self._signature is None:
            self._want_challenge()
        else:
            self._queue.append(_Request("subscribe", subscription))

    def unsubscribe(self, subscription: Subscription) -> None:
        """Gives a feed up. What was counted of it is forgotten with the venue's answer."""
        self.states[subscription] = "left"
        if subscription.is_private and self._signature is None:
            return  # nothing private was asked for yet, nor could this be signed
        self._given_up.add(subscription)
        self._queue.append(_Request("unsubscribe", subscription))

    def ask_again(self, subscription: Subscription) -> None:
        """Gives a feed up and asks for it anew, which brings its snapshot."""
        self._snapshots.pop(subscription, None)
        self._active_at.pop(subscription, None)
        self._queue.append(_Request("unsubscribe", subscription))
        self.subscribe(subscription)

    def outgoing(self, now_ns: int) -> list[str]:
        """The requests that are due, 90 a second; to be sent in this order.

        ``now_ns`` is of any clock that only goes forward, here as in ``tick``.
        """
        due: list[str] = []
        if self._outage.lasts(now_ns):
            return []
        self._slot = max(self._slot, now_ns - REQUESTS_AT_ONCE * REQUEST_EVERY_NS)
        while self._queue and now_ns >= self._slot:
            self._slot += REQUEST_EVERY_NS
            request = self._queue.popleft()
            self._waiting[request] = now_ns
            due.append(self._text(request))
            if request.event == "subscribe" and self.states[request.subscription] != "left":
                self.states[request.subscription] = "waiting"
        return due

    @property
    def is_idle(self) -> bool:
        """Whether ``outgoing`` gives nothing and ``next_at`` knows no moment: almost always."""
        holds = self._outage.is_on or self._key_fault.is_on
        return not (
            self._queue or self._waiting or self._asks or holds or self._sequences.is_waiting
        )

    def next_at(self) -> int | None:
        """When ``outgoing`` or ``tick`` has something to do, in ns; None: only after a frame."""
        moments = [sent + ANSWER_DEADLINE_NS for sent in self._waiting.values()]
        moments += self._key_fault.moments
        moments += [moment for again in self._asks.values() for moment in again.moments]
        moments += self._sequences.moments
        if self._queue:
            moments.append(max(self._slot, *self._outage.moments, 0))
        return min(moments, default=None)

    def tick(
        self, now_ns: int, wall_ns: int, *, heard_all: bool = True, behind_ns: int = 0
    ) -> list[Event]:
        """Time passed: what is overdue? ``wall_ns``: now, on the clock of ``received_ns``.

        Without ``heard_all`` frames wait unread, and nothing can be said to be overdue. A number
        that is missing may wait among what came in the last ``behind_ns``.
        """
        if not heard_all:
            self._be_patient(now_ns)
            return []
        events = self._sequences.tick(now_ns - behind_ns, wall_ns)
        self._after(events)
        if self._key_fault.ended(now_ns):
            self._want_challenge()
        for subscription, again in self._asks.items():
            if again.ended(now_ns):
                self.ask_again(subscription)
        for request, sent in list(self._waiting.items()):
            if now_ns - sent >= ANSWER_DEADLINE_NS:
                events += self._unanswered(request, wall_ns)
        if self.beats:
            events += self._silent(now_ns, wall_ns)
        if now_ns >= self._look_at_books_at:
            self._look_at_books_at = now_ns + LOOK_AT_BOOKS_EVERY_NS
            events += self._crossed(now_ns, wall_ns)
        return events

    def _be_patient(self, now_ns: int) -> None:
        """Nothing was heard for a while because nobody listened: deadlines begin anew."""
        self._waiting = dict.fromkeys(self._waiting, now_ns)
        self._active_at = dict.fromkeys(self._active_at, now_ns)

    def _unanswered(self, request: _Request, wall_ns: int) -> list[Event]:
        del self._waiting[request]
        subscription = request.subscription
        if request is _CHALLENGE:
            self.verdict = Unreachable(
                "the venue did not answer the request for a challenge within 10 s",
                hint="try again; public feeds need no challenge",
            )
            return []
        if request.event == "unsubscribe" or self.states[subscription] != "waiting":
            return []
        if self._track(subscription) is not None:
            self.states[subscription] = "active"  # its messages are acknowledgement enough
            return []
        self.states[subscription] = "queued"
        if subscription.is_private:
            self._judge_suspects(wall_ns, waiting=False)
        if not subscription.is_private or self._signature is not None:
            self._queue.append(request)
        return [_silent(subscription, "no answer in 10 s", wall_ns), *self._take_verdicts()]

    def _silent(self, now_ns: int, wall_ns: int) -> list[Event]:
        """Acknowledged, on a connection that lives, and yet nothing comes."""
        events: list[Silent] = []
        for subscription, state in self.states.items():
            feed = FEEDS.get(subscription.feed)
            if state != "active" or feed is None or subscription.quiet:
                continue
            since = now_ns - self._active_at.setdefault(subscription, now_ns)
            reason = ""
            if feed.snapshot and subscription not in self._snapshots:
                if since >= SNAPSHOT_DEADLINE_NS:
                    reason = "no snapshot in 10 s"
            elif feed.silent_after_s is not None:
                after_ns = int(feed.silent_after_s * SECOND_NS)
                track = self._track(subscription)
                quiet_ns = since if track is None else wall_ns - track.at_ns
                if min(quiet_ns, since) >= after_ns:
                    reason = f"silent for {feed.silent_after_s:g} s"
            last = self._asked_again_at.get(subscription)
            if reason and (last is None or now_ns - last >= ASKED_AGAIN_EVERY_NS):
                self._asked_again_at[subscription] = now_ns
                events.append(_silent(subscription, reason, wall_ns))
        for event in events:
            self._sequences.doubt(event.feed, event.product)
            self.ask_again(Subscription(event.feed, event.product))
        return list(events)

    def _track(self, subscription: Subscription) -> Track | None:
        return self._sequences.tracks.get(subscription.feed, {}).get(subscription.product)

    def _text(self, request: _Request) -> str:
        subscription = request.subscription
        if request is _CHALLENGE and self._credentials is not None:
            return wire.challenge(self._credentials.key)
        build = wire.subscribe if request.event == "subscribe" else wire.unsubscribe
        signed = self._signature if subscription.is_private else None
        return build(subscription.feed, subscription.product, signed)

    def _want_challenge(self) -> None:
        """A signature is needed, or a new one; what waits for it is asked when it is there."""
        self._signature = None
        for subscription in self.states:
            request = _Request("subscribe", subscription)
            if subscription.is_private and request in self._queue:
                self._queue.remove(request)
        if _CHALLENGE not in self._queue and _CHALLENGE not in self._waiting:
            self._challenges += 1
            # Ahead of the subscriptions: it takes a round trip of its own.
            self._queue.appendleft(_CHALLENGE)

    # What comes

    def receive(self, frames: Sequence[bytes], received_ns: int) -> list[Event]:
        """One event per frame, in order. ``received_ns``: when the read that brought them began."""
        events: list[Event] = []
        append, streams, read = events.append, self._streams, self._read
        if self._secrets:
            frames = [self._without_secrets(each) for each in frames]
        are_plain = wire.are_plain(frames)
        if (
            read is not wire.decode_typed
            and max(map(len, frames), default=0) > wire.REMEMBERED_BYTES
        ):
            read = wire.decode_typed
        for payload in frames:
            try:
                data = read(payload)
                track = streams[data.feed][data.product]
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
                # decode_typed is strict about types that nothing depends on.
                events += self._judge(payload, received_ns)
                continue
            seq = data.seq
            # The common case: this is the next message of its stream. No number is waited for
            # where seq is None or 0, so these are looked at below.
            if not ((seq and seq == track.next) or track.is_free) or not (
                are_plain or wire.is_plain(payload)
            ):
                events += self._judge(payload, received_ns)
                continue
            if data.payload:
                data = replace(data)  # another connection's copy, see wire.remembering
            data.payload = payload
            data.received_ns = track.at_ns = received_ns
            if not data.venue_ms:
                data.venue_ms = data.timestamp
            track.venue_ms = data.venue_ms
            if not track.is_free:
                track.next = seq + 1  # type: ignore[operator]  # it is no None, see above
                levels = track.levels.get(data.side)
                if levels is not None:
                    levels[data.price] = data.qty
            append(data)
        return events

    def _without_secrets(self, payload: bytes) -> bytes:
        """What the venue echoes of our key and signatures, wherever it stands, as asterisks."""
        for secret in self._secrets:
            if secret in payload:
                kind = type(payload)
                payload = kind(payload.replace(secret, b"*" * len(secret)))
        return payload

    def _learn_secrets(self, texts: Iterable[str]) -> None:
        for text in texts:
            plain = text.encode()
            self._secrets += dict.fromkeys([plain, plain.replace(b"/", b"\\/")])

    def _look(self, data: Data) -> list[Event]:
        """The message, if it is one that did not come before, behind what is to be said of it."""
        passes, events = self._sequences.look(data)
        if data.feed == "book":
            self._fold(data)
        if data.kind == "snapshot":
            events += self._on_snapshot(data)
        else:
            self._after(events)
        return [*events, data] if passes else events

    def _fold(self, data: Data) -> None:
        """The rare ways of a book's message; a change that is next in line is folded at once."""
        if not self._resync:
            return
        track = self._sequences.tracks["book"][data.product]  # it was looked at, so it stands
        if data.kind == "snapshot":
            track.levels = {"buy": _levels(data, "bids"), "sell": _levels(data, "asks")}
            return
        if data.side in track.levels:
            track.levels[data.side][data.price] = data.qty

    def _crossed(self, now_ns: int, wall_ns: int) -> list[Event]:
        """Books whose best bid has been at or above the best ask for too long.

        Some of them at each look, in turn: hundreds at once would hold up what comes.
        """
        events: list[Event] = []
        if not self._unlooked_books:
            self._unlooked_books = list(self._sequences.tracks["book"])
        for product in self._unlooked_books[-BOOKS_AT_ONCE:]:
            book = Subscription("book", product)
            track = self._track(book)
            if track is None or not _is_crossed(track):
                self._crossed_at.pop(book, None)
                continue
            since = self._crossed_at.setdefault(book, now_ns)
            active = self.states.get(book) == "active" and book not in self._stale
            if active and now_ns - since >= CROSSED_FOR_NS:
                del self._crossed_at[book]
                self._stale[book] = wall_ns - CROSSED_FOR_NS, 0
                self.ask_again(book)
                events.append(Stale(received_ns=wall_ns, feed="book", product=product))
        del self._unlooked_books[-BOOKS_AT_ONCE:]
        return events

    def _on_snapshot(self, data: Data) -> list[Event]:
        subscription = Subscription(data.feed, data.product)
        self._snapshots[subscription] = data.seq
        if subscription not in self._stale:
            return []
        since_ns, last = self._stale[subscription]
        if (data.seq or 0) < last:
            again = self._asks.setdefault(subscription, _Hold(RESYNC_WAITS_S))
            again.want()
            reason = f"its snapshot ({data.seq}) is older than the gap (up to {last})"
            return [_silent(subscription, reason, data.received_ns)] if again.times == 0 else []
        del self._stale[subscription]
        self._asks.pop(subscription, None)
        return [
            Resync(
                received_ns=data.received_ns,
                feed=data.feed,
                product=data.product,
                seq=data.seq,
                stale_ns=data.received_ns - since_ns,
            )
        ]

    def dropped(self, gaps: Sequence[Gap]) -> list[Event]:
        """Messages were dropped for want of room; what follows from that."""
        events: list[Event] = [*gaps]
        self._after(events)
        return events[len(gaps) :]

    def _after(self, events: list[Event]) -> None:
        """A book with a gap is stale until its next snapshot, which is asked for at once."""
        for gap in list(events):
            if not isinstance(gap, Gap) or gap.feed != "book" or not self._resync:
                continue
            book = Subscription(gap.feed, gap.product)
            if self.states.get(book) != "active" or book in self._stale:
                continue
            last = gap.last or 0
            if (self._snapshots.get(book) or -1) >= last:
                continue  # whole again by now
            self._stale[book] = gap.from_ns, last
            self.ask_again(book)
            events.append(Stale(received_ns=gap.received_ns, feed=gap.feed, product=gap.product))

    def _take_verdicts(self) -> list[Event]:
        verdicts, self._verdicts = self._verdicts, []
        return verdicts

    def _judge(self, payload: bytes, received_ns: int) -> list[Event]:
        """The event of a frame that is not plain data of a known feed, and what follows from it."""
        self.has_answers = True
        if isinstance(payload, BinaryFrame):
            return [Broken(payload=payload, received_ns=received_ns, reason=BINARY)]
        head = wire.read_head(payload)
        if isinstance(head, str):
            shown = wire.redact(payload) if self._secrets else payload
            return [Broken(payload=shown, received_ns=received_ns, reason=head)]
        if isinstance(head, wire.Control):
            event = self._control(head, payload, received_ns)
            return [event, *self._take_verdicts()]
        return self._data(head, payload, received_ns)

    def _data(self, data: Data, payload: bytes, received_ns: int) -> list[Event]:
        shape = self._shapes.get(data.feed) or _shape_of_unknown(data.feed)
        reason = ""
        if not data.feed:
            reason = "neither event nor feed"
        elif shape.needs_product and data.product is None:
            reason = "no product_id"
        elif shape.needs_seq and data.seq is None:
            reason = "no seq"
        if reason:
            return [Broken(payload=payload, received_ns=received_ns, reason=reason)]
        if shape.feed == "heartbeat":
            self.beats = True
        if shape.quiet:
            return [Beat(payload=payload, received_ns=received_ns)]
        data.payload, data.received_ns = payload, received_ns
        data.feed, data.kind = shape.feed, shape.kind
        data.venue_ms = data.venue_ms or data.timestamp
        return self._look(data)

    def _control(self, control: wire.Control, payload: bytes, received_ns: int) -> Event:
        event, fields = control
        payload = wire.redact(payload)
        text = fields.get("message")
        message = text if isinstance(text, str) else ""
        refused: list[_Request] = []
        quiet = False
        match event:
            case "subscribed":
                return self._on_subscribed(fields, payload, received_ns)
            case "unsubscribed" | "unsubscribed_failed":
                quiet = self._on_unsubscribed(fields)
            case "subscribed_failed":
                refused = self._settle("subscribe", fields)
                if "feed" not in fields:
                    refused = self._oldest("subscribe")
                message = message or "it gives no reason"
            case "challenge":
                self._on_challenge(message)
            case "alert" | "error":
                refused = self._on_alert(message, received_ns)
        if not refused:
            return Notice(
                payload=payload,
                received_ns=received_ns,
                event=event,
                message=message,
                quiet=quiet,
            )
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
        feed, products = _feed_of(fields), _products_of(fields)
        quiet = any(each.subscription.quiet for each in settled)
        for product in (*products,) or (None,):
            if not quiet:
                self._verdicts += self._sequences.acknowledged(feed, product, received_ns)
        return Subscribed(
            payload=payload,
            received_ns=received_ns,
            feed=feed,
            products=tuple(products),
            quiet=quiet,
        )

    def _on_unsubscribed(self, fields: dict[str, Any]) -> bool:
        """Whether the answer concerns only us."""
        settled = [each.subscription for each in self._settle("unsubscribe", fields)]
        for subscription in self._given_up.intersection(settled):
            self._given_up.remove(subscription)
            self._sequences.forget(subscription.feed, subscription.product)
            self._stale.pop(subscription, None)
            self._snapshots.pop(subscription, None)
            self._active_at.pop(subscription, None)
        return any(each.quiet for each in settled)

    def _activate(self, subscription: Subscription, received_ns: int) -> None:
        # Given up while the acknowledgement was on its way: it stays given up.
        if self.states[subscription] in ("waiting", "queued"):
            self.states[subscription] = "active"
        self._outage.reset()
        if subscription.is_private:
            self.key_worked = self._worked_here = True
            self._key_fault.reset()
            self._judge_suspects(received_ns)

    def _settle(self, event: str, fields: dict[str, Any]) -> list[_Request]:
        """Takes the requests that an answer names out of the waiting ones.

        And out of the queue: what is to be asked again may be answered late.
        """
        feed = _feed_of(fields)
        products = {each.lower() for each in _products_of(fields)}
        settled = [
            request
            for request in (*self._waiting, *self._queue)
            if request.event == event
            and request.subscription.feed == feed
            and (
                not products
                or request.subscription.product is None
                or request.subscription.product.lower() in products
            )
        ]
        # An answer that names no product answers one request.
        settled = settled if products else settled[:1]
        for request in settled:
            if self._waiting.pop(request, None) is None:
                self._queue.remove(request)
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
                del self._waiting[request]
                return [request]
        return []

    def _on_challenge(self, message: str) -> None:
        if _CHALLENGE not in self._waiting or self._credentials is None or not message:
            return  # nobody asked, or nothing was said: a Notice, and the deadline stands
        del self._waiting[_CHALLENGE]
        self._signature = signature(self._credentials, message)
        self._learn_secrets([message, self._signature["signed_challenge"]])
        for subscription, state in self.states.items():
            if subscription.is_private and state == "queued":
                self._queue.append(_Request("subscribe", subscription))

    def _on_alert(self, message: str, received_ns: int) -> list[_Request]:
        """The requests that an alert refuses: one or none."""
        if message.startswith(UNAUTHENTICATED):
            failed = self._oldest("subscribe", private=True)
            if self._worked_here:
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
        elif message.startswith(OUTAGE):
            self._hold_back()
        return []

    def _hold_back(self) -> None:
        """The engine is away: what was asked is asked again, after a while."""
        again = [each for each in self._waiting if each.event != "unsubscribe"]
        for request in again:
            del self._waiting[request]
            if request is not _CHALLENGE:
                self.states[request.subscription] = "queued"
        self._queue.extendleft(reversed(again))
        self._outage.want()

    def _refuse(self, subscription: Subscription, message: str, received_ns: int) -> Refused:
        self.states[subscription] = "refused"
        if not subscription.quiet:
            self._refusals.append(f"{subscription}: {message}")
        states = [state for each, state in self.states.items() if not each.quiet]
        if not self._may_grow and states and all(state == "refused" for state in states):
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
        of_feeds = any(text in each for each in self._refusals for text in INVALID_FEED)
        more = len(self._refusals) - 3
        self.verdict = AllRefused(
            f"the venue refused {shown}" + (f"; and {more} more" if more > 0 else ""),
            hint="`kfws feeds` lists the feeds" if of_feeds else "look at the spelling",
        )

    # Every fault of authentication gives the same alert, whether key, signature, challenge or
    # permission is to blame. If another private feed is acknowledged on this connection, the
    # feed is refused; if none is, even with a second challenge, the key is.

    def _judge_suspects(self, received_ns: int, *, waiting: bool = True) -> None:
        """``waiting``: for answers to come to the other private requests."""
        if not self._suspects or (waiting and self._private_unanswered()):
            return
        suspects, self._suspects = self._suspects, []
        if self._worked_here or (self._may_grow and self._challenges > 1 and not self.key_worked):
            self._verdicts += [
                self._refuse(each, UNAUTHENTICATED, received_ns) for each in suspects
            ]
        elif self._challenges == 1:
            self.states.update(dict.fromkeys(suspects, "queued"))
            self._want_challenge()
        elif self.key_worked:
            self.states.update(dict.fromkeys(suspects, "queued"))
            self._key_fault.want()
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


def _levels(snapshot: Data, side: str) -> dict[float, float]:
    """Sizes by price of one side of a snapshot, as far as it makes sense."""
    listed = snapshot.message.get(side)
    pairs = [
        (each.get("price"), each.get("qty"))
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
    ]
    return {
        float(price): float(qty)
        for price, qty in pairs
        if isinstance(price, (int, float)) and isinstance(qty, (int, float))
    }


def _is_crossed(track: Track) -> bool:
    """Whether the best bid stands at or above the best ask; forgets levels that are gone."""
    for levels in track.levels.values():
        for price in [price for price, qty in levels.items() if qty <= 0]:
            del levels[price]
    bids, asks = track.levels.get("buy"), track.levels.get("sell")
    return bool(bids and asks and max(bids) >= min(asks))


def _silent(subscription: Subscription, reason: str, wall_ns: int) -> Silent:
    return Silent(
        received_ns=wall_ns,
        feed=subscription.feed,
        product=subscription.product,
        reason=reason,
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
                    is_plain=kind == "delta"
                    and not feed.identified_by
                    and feed.name != "heartbeat",
                ),
            )


def _shape_of_unknown(name: str) -> _Shape:
    feed, is_snapshot = base_name(name)
    kind: Kind = "snapshot" if is_snapshot else "delta"
    return _Shape(
        feed,
        kind,
        needs_product=False,
        needs_seq=False,
        quiet=False,
        is_plain=False,
    )


def _feed_of(fields: dict[str, Any]) -> str:
    feed = fields.get("feed")
    # An older documentation page prints "subscribed " with a trailing space; be as patient here.
    return feed.strip() if isinstance(feed, str) else ""


def _products_of(fields: dict[str, Any]) -> list[str]:
    products = fields.get("product_ids")
    return (
        [each for each in products if isinstance(each, str)] if isinstance(products, list) else []
    )
