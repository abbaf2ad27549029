"""Several copies of a stream as one: the first copy of a message wins.

Pure: time is handed in. ``book`` and ``trade`` are merged by number, so that nothing that any
connection brought is lost and nothing comes twice. Other feeds have a leading connection;
when it dies, or falls silent while another one delivers, that one takes over, and the interval
is named: nobody can prove what fell into it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from kfws.protocol.events import (
    Cause,
    Closed,
    Data,
    Duplicate,
    Event,
    Gap,
    Notice,
    Opened,
    Refused,
    Restart,
    Resync,
    Stale,
    Subscribed,
)
from kfws.protocol.feeds import NUMBERED
from kfws.protocol.sequence import (
    NEWER_MS,
    WINDOW,
    Below,
    Key,
    gap_of,
    holes,
    is_stream,
    numbers_of,
    restart_of,
)
from kfws.sources.lines import Line

__all__ = ["Arbiter"]

WAIT_NS = 250_000_000
# A leader that has brought nothing while another connection brought so many messages is silent.
MESSAGES_AHEAD = 3
SILENT_NS = 2_000_000_000
# One that brought even a single message this long ago, and the leader nothing since.
LATE_NS = 5_000_000_000
SKEW_NS = 1_000_000_000
# So long a connection's word waits for that of the others.
CLAIM_NS = 60_000_000_000
# Messages of a stream that a connection may be ahead of what is passed on, or behind it: so many
# are remembered, that a takeover gives none of them again.
AHEAD = 256
BEHIND = 4096
# And for connections that come later.
RECENT = 32
# So many messages are held back for one that is missing; then it is missing.
HELD_MOST = 50_000


class _Numbered:
    """A stream whose messages count."""

    __slots__ = (
        *("below", "claims", "due", "epoch", "epochs", "held"),
        *("last", "leg", "next", "snapshot", "stale_ns"),
    )

    def __init__(self) -> None:
        self.next: int | None = None
        """The number that comes next; None before the first message."""
        self.below: Below | None = None
        """Where it began with no snapshot: a number lower than the first may be no copy."""
        self.held: dict[int, Data] = {}
        """Messages that are ahead of one that may still come from another connection."""
        self.snapshot: Data | None = None
        """One that is ahead, held for the same reason."""
        self.due: int | None = None
        self.last: Data | None = None
        """What was passed on last."""
        self.leg = 0
        """Who brought the last message."""
        self.stale_ns: int | None = None
        """Since when its book is not to be trusted; None: it is."""
        self.claims: dict[int, Restart] = {}
        """Connections that saw a lower number that is not low enough to be believed of one."""
        self.epoch = 0
        """How often the venue's counter began anew; and how often each connection saw it."""
        self.epochs: dict[int, int] = {}

    @property
    def at_ns(self) -> int:
        """When what was passed on last came."""
        return 0 if self.last is None else self.last.received_ns

    def age_ms(self, venue_ms: int | None) -> int | None:
        """How much later the venue made a message than that which was passed on last."""
        last = self.last
        if venue_ms is None or last is None or last.venue_ms is None:
            return None
        return venue_ms - last.venue_ms

    def is_past(self, venue_ms: int | None) -> bool:
        """Whether a message is clearly later than all that was passed on."""
        age_ms = self.age_ms(venue_ms)
        return age_ms is not None and age_ms > NEWER_MS


class _Side:
    """What a connection and the one stream have not in common, of a stream without numbers.

    All connections have a stream in the venue's order, and equal messages may follow each
    other: so each that was given is matched by one of the connection's, not by any number.
    """

    __slots__ = ("ahead", "fresh", "owes_from")

    def __init__(self, owes_from: int) -> None:
        self.owes_from = owes_from
        """How many were given before the first that this connection did not bring yet."""
        self.ahead = Line(AHEAD)
        """What it brought, and was not given yet."""
        self.fresh = 0
        """How many messages it brought ahead since the leader's last."""

    def has_brought(self, payload: bytes) -> bool:
        """Whether it brought it ahead; that, and what stands before it, is done with then."""
        if payload not in self.ahead:
            return False
        self.ahead.take_to(lambda each: each.payload == payload)
        return True


class _Led:
    """A stream without numbers."""

    __slots__ = (
        *("_first", "_marks", "_moments", "_places", "_recent", "_trim_at", "_twice"),
        *("at_ns", "given", "is_leaving", "leader", "sides", "venue_ms"),
    )

    def __init__(self, leader: int, at_ns: int, recent: int) -> None:
        self.leader = leader
        self.at_ns = at_ns
        """When the leader's last message came."""
        self.venue_ms = 0
        """The venue's time of the last message that was passed on, where it has one."""
        self.sides: dict[int, _Side] = {}
        """Of each connection but the leader's; the leader's too, when it took over."""
        self.is_leaving = False
        """Whether the leader is about to be let go: who is level with it may lead."""
        self.given = 0
        """How many messages were passed on. The last of them are remembered: by hash (there may be
        many streams, and messages are long; one is taken for another by chance once in 10^15),
        when they came, and where each stands."""
        self._first = 0
        self._marks: deque[int] = deque()
        self._moments: deque[int] = deque()
        self._places: dict[int, int] = {}
        self._twice: set[int] = set()
        """What is remembered more than once; ``_places`` has the last of it."""
        self._recent = recent
        self._trim_at = 2 * recent

    def side(self, leg: int) -> _Side:
        """A connection that is new here may repeat what was given lately."""
        side = self.sides.get(leg)
        if side is None:
            late = sum(moment < self._moments[-1] - LATE_NS for moment in self._moments)
            side = self.sides[leg] = _Side(self._first + late)
        return side

    def is_level(self, side: _Side) -> bool:
        """Whether what a connection brings next follows what was given last."""
        return side.owes_from == self.given and not side.ahead

    def is_last(self, mark: int) -> bool:
        """Whether it is what was given last."""
        return self._marks[-1] == mark

    def repeats(self, side: _Side, mark: int, at_ns: int) -> bool:
        """Whether a message is the connection's copy of what was given; it is matched then."""
        place = self._places.get(mark)
        if place is None or place < side.owes_from:
            return False
        if self._moments[place - self._first] < at_ns - CLAIM_NS:
            return False
        if self._twice and mark in self._twice:
            place = self._first_of(mark, side.owes_from, at_ns - CLAIM_NS)
        side.owes_from = place + 1
        side.fresh = 0
        if side.ahead:
            side.ahead.clear()  # the leader was here before: what came ahead of this is old
        return True

    def _first_of(self, mark: int, owes_from: int, since_ns: int) -> int:
        remembered = zip(itertools.count(self._first), self._marks, self._moments, strict=False)
        return next(
            place
            for place, each, moment in remembered
            if each == mark and place >= owes_from and moment >= since_ns
        )

    def give(self, mark: int, at_ns: int) -> None:
        """It is passed on."""
        if mark in self._places:
            self._twice.add(mark)
        self._places[mark] = self.given
        self._marks.append(mark)
        self._moments.append(at_ns)
        self.given += 1
        if len(self._marks) >= self._trim_at:
            self._trim()

    def _trim(self) -> None:
        """Forgets what no connection owes any more, but for what came last."""
        owed = [each.owes_from for leg, each in self.sides.items() if leg != self.leader]
        first = max(min([*owed, self.given - self._recent]), self.given - BEHIND)
        since_ns = self._moments[-1] - CLAIM_NS
        while self._first < first or self._moments[0] < since_ns:
            mark = self._marks.popleft()
            self._moments.popleft()
            if self._places[mark] == self._first:
                del self._places[mark]
                self._twice.discard(mark)
            self._first += 1
        self._trim_at = len(self._marks) + self._recent

    def turn_to(self, leg: int) -> None:
        """Another connection leads; the one before brought all that was given so far."""
        self.sides[self.leader] = _Side(self.given)
        self.leader, self.is_leaving = leg, False

    @property
    def is_behind(self) -> bool:
        """Whether another connection is well ahead of the leader."""
        return any(each.fresh >= MESSAGES_AHEAD for each in self.sides.values())

    @property
    def late(self) -> Data | None:
        """The first message of others that is clearly younger than the leader's last."""
        for side in self.sides.values():
            for data in side.ahead:
                if data.received_ns > self.at_ns + SKEW_NS:
                    return data
        return None


class Arbiter:
    """Takes the events of each connection in its order, gives those of the one stream.

    ``leg`` numbers the connections that run side by side. ``snapshots_pass`` as in Sequences.
    ``recent``: messages of a stream without numbers that one which comes later may repeat.
    """

    def __init__(
        self,
        *,
        wait_ns: int = WAIT_NS,
        snapshots_pass: bool = True,
        resync: bool = True,
        recent: int = RECENT,
    ) -> None:
        self._wait_ns = wait_ns
        self._recent = recent
        self._snapshots_pass = snapshots_pass
        self._resync = resync
        self.asks: list[tuple[int, Key]] = []
        """Books with a gap, and the leg that is to ask for a new snapshot; the caller empties it.
        One leg at a time: while it asks, the others bring what it misses."""
        self._numbered: dict[Key, _Numbered] = {}
        self._waiting: dict[Key, _Numbered] = {}
        """Streams of which a message was missing when ``next_at`` was asked last, or since."""
        self._led: dict[Key, _Led] = {}
        self._up: dict[int, int] = {}
        """Connections that stand, and since when."""
        self._acknowledged: dict[Key, set[int]] = {}
        self._refused: set[Key] = set()
        self._outage_ns = 0
        """When a connection was last away: what is missing just after is put down to it."""
        self._slow_ns = 0
        """When messages were last dropped for want of room."""
        self.acknowledgements = 0
        """How many subscriptions the venue acknowledged, on all connections."""
        self.swallowed = 0
        """Copies that were not passed on."""
        self.here_ns: int | None = None
        """Our own time, where ``now_ns`` is that of recorders: what is missing is waited for by
        this one, since it may be on its way to us however old it is."""

    def receive(self, leg: int, events: Iterable[Event], now_ns: int) -> list[Event]:
        """What is passed on of a connection's events."""
        out: list[Event] = []
        append, copies = out.append, 0
        key, stream = _NO_KEY, _NO_STREAM
        for event in events:
            if type(event) is not Data:
                self._control(leg, event, now_ns, out)
            elif event.feed in NUMBERED:
                if event.product != key[1] or event.feed != key[0]:  # often of one stream in a row
                    key = event.feed, event.product
                    found = self._numbered.get(key)
                    stream = self._numbered[key] = found or _Numbered()
                seq, following, last = event.seq, stream.next, stream.last
                if (
                    seq is None
                    or following is None
                    or last is None
                    or event.kind == "snapshot"
                    or stream.epochs.get(leg) != stream.epoch
                ):
                    self._number(leg, key, stream, event, now_ns, out)
                elif seq == following and not (stream.held or stream.snapshot):
                    # As in _number, where the rare cases are: the next one of its stream.
                    stream.next = following + 1
                    stream.last = event
                    stream.leg = leg
                    append(event)
                elif (
                    seq < following
                    and stream.below is None
                    and (event.venue_ms or 0) - (last.venue_ms or 0) <= NEWER_MS
                ):
                    copies += 1
                else:
                    self._number(leg, key, stream, event, now_ns, out)
            else:
                self._lead(leg, event, out)
        self.swallowed += copies
        return out

    def tick(self, now_ns: int) -> list[Event]:
        """Messages that nobody brought in time are missing; silent leaders are replaced."""
        out: list[Event] = []
        for key, stream in self._numbered.items():
            if stream.due is not None and self._here(now_ns) >= stream.due:
                self._give_up(key, stream, now_ns, out)
        for key, led in self._led.items():
            silent = led.is_behind and now_ns - led.at_ns > SILENT_NS
            late = led.late
            if silent or (late is not None and now_ns - late.received_ns > LATE_NS):
                self._take_over(key, led, now_ns, out)
        return out

    def _here(self, now_ns: int) -> int:
        return now_ns if self.here_ns is None else self.here_ns

    def next_at(self) -> int | None:
        """When ``tick`` has something to do about a missing message."""
        moments = {key: each.due for key, each in self._waiting.items() if each.due is not None}
        self._waiting = {key: self._waiting[key] for key in moments}
        return min(moments.values(), default=None)

    @property
    def is_waiting(self) -> bool:
        """Whether ``next_at`` may know a moment."""
        return bool(self._waiting)

    def end(self, now_ns: int) -> list[Event]:
        """The run is over: nothing that is held is waited for any longer."""
        out: list[Event] = []
        for key, stream in self._numbered.items():
            while stream.held or stream.snapshot is not None:
                self._give_up(key, stream, now_ns, out)
            if not self._up and stream.next is not None:
                gap = _gap(key, now_ns, stream.next, None, "outage", stream.at_ns)
                out.append(gap)
        for key, led in self._led.items():
            if led.late is not None:
                self._take_over(key, led, now_ns, out)
        return out

    # Numbered streams

    def _number(
        self,
        leg: int,
        key: Key,
        stream: _Numbered,
        data: Data,
        now_ns: int,
        out: list[Event],
    ) -> None:
        if stream.epochs.setdefault(leg, stream.epoch) != stream.epoch:
            self.swallowed += 1  # still of the count before the venue's restart
            return
        if data.kind == "snapshot":
            self._snapshot(leg, key, stream, data, now_ns, out)
            return
        seq = data.seq
        assert seq is not None  # noqa: S101  # the Session lets no delta without one pass
        if stream.next is None or seq == stream.next:
            if stream.last is None:
                stream.below = Below(seq)
            stream.next = seq + 1
            stream.last = data
            stream.leg = leg
            out.append(data)
            if stream.held or stream.snapshot is not None:
                self._release(stream, now_ns, out)
        elif seq < stream.next:
            if stream.is_past(data.venue_ms):
                # No copy of anything: its time is past that of all that the old count gave.
                self._begin_anew(
                    key,
                    stream,
                    restart_of(key, (stream.next or 0) - 1, seq, stream.at_ns, data),
                    now_ns,
                    out,
                    leg=leg,
                )
                self._number(leg, key, stream, data, now_ns, out)
            elif stream.below is not None and stream.below.takes(seq):
                out.append(data)
            else:
                self.swallowed += 1
        else:
            stream.held.setdefault(seq, data)
            self._wait(key, stream, now_ns)
            if len(stream.held) > HELD_MOST:
                self._give_up(key, stream, now_ns, out)

    def _snapshot(
        self, leg: int, key: Key, stream: _Numbered, data: Data, now_ns: int, out: list[Event]
    ) -> None:
        newest = _newest(data)
        stream.below = None
        if stream.next is None and newest is None and stream.last is not None:
            self.swallowed += 1  # both say that there is nothing yet
        elif stream.next is None:
            stream.next = None if newest is None else newest + 1
            stream.last = data
            out.append(data)
        elif stream.stale_ns is not None and newest == stream.next - 1:
            self._end_stale(key, stream, data, out)
            out.append(data)
        elif newest is not None and newest < stream.next - 1 and stream.is_past(data.venue_ms):
            # It lacks what was passed on last, and yet its last change is later than that.
            restart = restart_of(key, stream.next - 1, newest, stream.at_ns, data)
            self._begin_anew(key, stream, restart, now_ns, out, leg=leg)
            self._snapshot(leg, key, stream, data, now_ns, out)
        elif newest is None or newest < stream.next:
            self.swallowed += 1
            if stream.stale_ns is not None:
                # Others are ahead of this leg: the snapshot is older than what was passed on.
                self.asks.append((stream.leg, key))
        else:
            # What it stands for may still come, message by message, from another connection.
            held = stream.snapshot
            if held is None or (_newest(held) or 0) < newest:
                stream.snapshot = data
            self._wait(key, stream, now_ns)

    def _wait(self, key: Key, stream: _Numbered, now_ns: int) -> None:
        """Something is held: it is waited a while for what is missing ahead of it."""
        if stream.due is None:
            stream.due = self._here(now_ns) + self._wait_ns
            self._waiting[key] = stream

    def _end_stale(self, key: Key, stream: _Numbered, data: Data, out: list[Event]) -> None:
        if stream.stale_ns is not None:
            out.append(
                Resync(
                    received_ns=data.received_ns,
                    feed=key[0],
                    product=key[1],
                    seq=data.seq,
                    stale_ns=data.received_ns - stream.stale_ns,
                )
            )
            stream.stale_ns = None

    def _release(self, stream: _Numbered, now_ns: int, out: list[Event]) -> None:
        """Passes on what is held and is next by now, and forgets what came otherwise. What is
        missing behind that is waited for as long as what was missing before."""
        held, following = stream.held, stream.next or 0
        while held and (data := held.pop(following, None)) is not None:
            following += 1
            stream.last = data
            out.append(data)
        stream.next = following
        if stream.snapshot is not None and (_newest(stream.snapshot) or 0) < following:
            stream.snapshot = None
            self.swallowed += 1
        is_waiting = held or stream.snapshot is not None
        stream.due = self._here(now_ns) + self._wait_ns if is_waiting else None

    def _give_up(self, key: Key, stream: _Numbered, now_ns: int, out: list[Event]) -> None:
        """The first message that is waited for did not come."""
        assert stream.next is not None  # noqa: S101  # nothing is held before the first
        first_held = min(stream.held, default=None)
        snapshot, stream.snapshot = stream.snapshot, None
        if snapshot is not None:
            newest = _newest(snapshot) or 0
            present = [each for each in sorted(stream.held) if each <= newest]
            self._pass_snapshot(key, stream, snapshot, newest, present, now_ns, out)
        elif first_held is not None:
            out.append(
                _gap(key, now_ns, stream.next, first_held - 1, self._cause(now_ns), stream.at_ns)
            )
            stream.next = first_held
            if key[0] == "book" and self._resync and stream.stale_ns is None:
                stream.stale_ns = stream.at_ns
                self.asks.append((stream.leg, key))
                out.append(Stale(received_ns=now_ns, feed=key[0], product=key[1]))
        self._release(stream, now_ns, out)

    def _pass_snapshot(
        self,
        key: Key,
        stream: _Numbered,
        snapshot: Data,
        newest: int,
        present: Sequence[int],
        now_ns: int,
        out: list[Event],
    ) -> None:
        """Held messages up to the snapshot's number, the gaps between them, then the snapshot."""
        assert stream.next is not None  # noqa: S101  # as above
        listed = set(numbers_of(snapshot)) if self._snapshots_pass else set()
        for first, last in holes(stream.next, newest, present):
            known = sorted(each for each in listed if first <= each <= last)
            for a, b in holes(first, last, known):
                out.append(_gap(key, now_ns, a, b, self._cause(now_ns), stream.at_ns))
            if known:
                gap = _gap(key, now_ns, known[0], known[-1], self._cause(now_ns), stream.at_ns)
                gap.missing, gap.healed_by = len(known), "snapshot"
                out.append(gap)
        for each in present:
            out.append(stream.held.pop(each))
        self._end_stale(key, stream, snapshot, out)
        out.append(snapshot)
        stream.next = newest + 1
        stream.last = snapshot

    def hand_over(self, leg: int) -> None:
        """A connection is to be let go: each of its streams goes to the first that brings the
        same message as it brought last, so that nothing is between them and no gap is named."""
        for led in self._led.values():
            led.is_leaving |= led.leader == leg

    def forget(self, feed: str, product: str | None) -> None:
        """A stream was given up, in whatever case: when it is wanted again it has no past."""
        wanted = is_stream(feed, product)
        self._refused = {each for each in self._refused if not wanted(each)}
        for kept in (self._numbered, self._waiting, self._led, self._acknowledged):
            for key in filter(wanted, [*kept]):
                del kept[key]

    def is_acknowledged(self, feed: str, product: str | None) -> bool:
        """Whether any connection has a stream by the venue's word."""
        return any(
            map(self._acknowledged.get, filter(is_stream(feed, product), self._acknowledged))
        )

    def covers(self, leg: int, other: int) -> bool:
        """Whether a connection was acknowledged all that another one was."""
        return all(leg in legs for legs in self._acknowledged.values() if other in legs)

    def _cause(self, now_ns: int) -> Cause:
        if now_ns - self._slow_ns < 10 * SILENT_NS:
            return "slow-reader"
        return "outage" if now_ns - self._outage_ns < 10 * SILENT_NS else "venue"

    def _restart(self, leg: int, event: Restart, now_ns: int, out: list[Event]) -> None:
        """A connection saw the count begin anew: so it does for all, each in its time."""
        key = event.feed, event.product
        stream = self._numbered.get(key)
        if stream is None:
            return
        stream.below = None  # what is lower may be of the new count, or a copy
        if stream.epochs.get(leg, stream.epoch) < stream.epoch:
            stream.epochs[leg] = stream.epoch  # others saw it before
            return
        if stream.next is None or event.seq <= stream.next - WINDOW:
            self._begin_anew(key, stream, event, now_ns, out, leg=leg)
            return
        reached = [stream.next - 1, *stream.held, _newest(stream.snapshot) or 0]
        if event.last > max(reached):
            return  # of the count before this one: a connection that came back tells of it late
        if event.seq >= stream.next or (stream.age_ms(event.venue_ms) or 0) < 0:
            return  # lower for this connection, whose messages were behind, but not for all
        fresh = {
            k: v for k, v in stream.claims.items() if event.received_ns - v.received_ns < CLAIM_NS
        }
        stream.claims = fresh | {leg: event}
        self._believe(key, stream, now_ns, out)

    def _believe(self, key: Key, stream: _Numbered, now_ns: int, out: list[Event]) -> None:
        """A number that is a little lower may be that of a connection which lags: its copies
        are swallowed until all agree who were connected all the time, or until the venue's
        times show what is new."""
        witnesses = {each for each, since_ns in self._up.items() if since_ns <= stream.at_ns}
        if stream.claims and not witnesses - stream.claims.keys():
            claims = stream.claims
            first = next(iter(claims.values()))
            self._begin_anew(key, stream, first, now_ns, out)
            if len(claims) > 1:  # what the first to say so brought since was taken for old
                out.append(_gap(key, now_ns, None, None, "venue", stream.at_ns))

    def _begin_anew(
        self,
        key: Key,
        stream: _Numbered,
        event: Restart,
        now_ns: int,
        out: list[Event],
        *,
        leg: int | None = None,
    ) -> None:
        """The count begins anew for all, each in its time: ``leg`` and those who claimed it are
        there."""
        while stream.held or stream.snapshot is not None:
            self._give_up(key, stream, now_ns, out)
        stream.epoch += 1
        for each in stream.claims:
            stream.epochs[each] = stream.epoch
        if leg is not None:
            stream.epochs[leg] = stream.epoch
        stream.claims = {}
        stream.next, stream.due, stream.below = None, None, None
        out.append(event)

    # Streams without numbers

    def _lead(self, leg: int, data: Data, out: list[Event]) -> None:
        key = data.feed, data.product
        led = self._led.get(key)
        if led is None:
            led = self._led[key] = _Led(leg, data.received_ns, self._recent)
            for each in self._acknowledged.get(key, set()) - {leg}:
                led.side(each)
        mark = hash(data.payload)
        side = led.sides.get(leg)
        if led.leader == leg:
            if side is not None and led.repeats(side, mark, data.received_ns):
                self.swallowed += 1  # the leader before gave it
            else:
                self._pass(led, mark, data, out)
            return
        side = side or led.side(leg)
        was_level = led.is_leaving and led.is_level(side)
        is_led = led.leader in self._up
        if led.repeats(side, mark, data.received_ns):
            if led.is_leaving and led.is_last(mark):
                led.turn_to(leg)
        elif was_level:
            led.turn_to(leg)
            self._pass(led, mark, data, out)
            return
        elif not is_led or data.kind != "snapshot":  # else a greeting to this connection alone
            side.ahead.append(data)
            side.fresh += 1
        if is_led:
            self.swallowed += 1
        else:
            self._take_over(key, led, data.received_ns, out)

    def _pass(self, led: _Led, mark: int, data: Data, out: list[Event]) -> None:
        led.give(mark, data.received_ns)
        for leg, side in led.sides.items():
            if side.fresh:
                side.fresh = 0
            if leg == led.leader or side.has_brought(data.payload):
                side.owes_from = led.given  # it brought this, so nothing before it any more
        led.at_ns = data.received_ns
        led.venue_ms = data.venue_ms or 0
        out.append(data)

    def _take_over(self, key: Key, led: _Led, now_ns: int, out: list[Event]) -> None:
        """Another connection leads from here on; what it brought meanwhile is passed on."""
        others = self._acknowledged.get(key, set()) & self._up.keys() - {led.leader}
        if not others:
            return
        gap = _gap(key, now_ns, None, None, "takeover", led.at_ns)
        out.append(gap)
        led.side(min(others))  # one that brought nothing yet may repeat the last
        led.turn_to(min(others))
        waiting = [(side, data) for side in led.sides.values() for data in side.ahead]
        waiting.sort(key=lambda each: each[1].received_ns)
        for side, data in waiting:
            if side.ahead and side.ahead[0] is data:  # else another one's copy was given
                side.ahead.popleft()
                if data.venue_ms is None or data.venue_ms >= led.venue_ms:
                    self._pass_waiting(led, side, data)
                    out.append(data)
        for side in led.sides.values():
            side.fresh = 0
        led.at_ns = now_ns

    def _pass_waiting(self, led: _Led, giver: _Side, data: Data) -> None:
        """As ``_pass``, but what others have ahead of it is to be given as well."""
        led.give(hash(data.payload), data.received_ns)
        for side in led.sides.values():
            if side is giver or side.ahead.remove(data.payload):
                side.owes_from = led.given

    # Everything else

    def _control(self, leg: int, event: Event, now_ns: int, out: list[Event]) -> None:
        match event:
            case Opened():
                self._up[leg] = event.received_ns
                for stream in self._numbered.values():
                    stream.epochs.pop(leg, None)  # a new connection sees the present count
                for led in self._led.values():
                    led.sides.pop(leg, None)
                out.append(event)
            case Closed():
                self._lose(leg, now_ns, out)
                out.append(event)
            case Subscribed(quiet=True):
                out.append(event)
            case Subscribed():
                if self._is_first(leg, event):
                    out.append(event)
            case Refused():
                key = event.feed, event.product
                if key not in self._refused and not self._acknowledged.get(key):
                    self._refused.add(key)
                    out.append(event)
            case Restart():
                self._restart(leg, event, now_ns, out)
            case Gap(cause="slow-reader") if event.feed in NUMBERED:
                self._slow_ns = now_ns  # named when no other connection brings them
            case Gap():
                known = self._led.get((event.feed, event.product))
                if event.feed not in NUMBERED and (known is None or known.leader == leg):
                    out.append(event)
            case Duplicate() | Stale() | Resync():
                self.swallowed += 1
            case Notice():
                if leg == min({leg, *self._up}):
                    out.append(event)
            case _:
                out.append(event)

    def _is_first(self, leg: int, event: Subscribed) -> bool:
        keys: list[Key] = [(event.feed, product) for product in event.products or (None,)]
        holders = [self._acknowledged.setdefault(key, set()) for key in keys]
        first = any(not each for each in holders)
        self.acknowledgements += 1
        for key, each in zip(keys, holders, strict=True):
            each.add(leg)
            led = self._led.get(key)
            if led is not None and led.leader != leg:
                led.side(leg)
        return first

    def _lose(self, leg: int, now_ns: int, out: list[Event]) -> None:
        self._up.pop(leg, None)
        self._outage_ns = now_ns
        for holders in self._acknowledged.values():
            holders.discard(leg)
        for key, stream in self._numbered.items():
            stream.claims.pop(leg, None)
            self._believe(key, stream, now_ns, out)
        for key, led in self._led.items():
            if led.leader == leg:
                self._take_over(key, led, now_ns, out)
            if led.leader in self._up:
                led.sides.pop(leg, None)


_NO_KEY: Key = ("", None)
_NO_STREAM = _Numbered()


def _newest(snapshot: Data | None) -> int | None:
    """The number up to which a snapshot goes; None of an empty list of trades, and of none."""
    if snapshot is None:
        return None
    if snapshot.seq is not None:
        return snapshot.seq
    return max(numbers_of(snapshot), default=None)


def _gap(
    key: Key, now_ns: int, first: int | None, last: int | None, cause: Cause, from_ns: int
) -> Gap:
    missing = None if first is None or last is None else last - first + 1
    return gap_of(key, now_ns, first, last, missing, cause, from_ns, now_ns)
