"""Which numbers never came, which came twice: the audit of a stream over its connections.

What each feed allows to be proven, and no more (protocol page, section 9): ``book`` and
``trade`` count every message per product. ``fills`` and ``account_log`` have ids, so a
snapshot that holds the last one seen proves that nothing is missing. Of all others nothing
can be proven, so every outage is named with its interval.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from kfws.protocol.events import LARGEST, Cause, Data, Duplicate, Event, Gap, Restart
from kfws.protocol.feeds import FEEDS, NUMBERED

__all__ = [
    "NEWER_MS",
    "WINDOW",
    "Below",
    "Key",
    "Sequences",
    "Track",
    "gap_of",
    "holes",
    "is_stream",
    "numbers_of",
    "restart_of",
]

Key = tuple[str, str | None]
"""Feed and product: one stream of messages."""

# A number that comes late came all the same: the venue swapped two messages. So long a gap is
# looked at before it is said to be one.
GRACE_NS = 250_000_000
# After an outage trades that are missing may stand in the snapshot, which has so long to come.
SNAPSHOT_NS = 10_000_000_000
# A number so far behind is no duplicate: the venue's counter began anew.
WINDOW = 4096
# Nor is one that is so much younger than the last message; copies are not.
NEWER_MS = 1000
IDS_KEPT = 1000


class Track:
    """Where a stream stands on this connection. Written once per message, hence so small."""

    __slots__ = ("at_ns", "is_free", "levels", "next", "venue_ms")

    def __init__(self, expected: int | None, at_ns: int, *, is_free: bool = False) -> None:
        self.next = expected
        """The number that comes next; None where none is known."""
        self.at_ns = at_ns
        """When the last message came."""
        self.venue_ms: int | None = None
        """The venue's time of the last message, where it has one."""
        self.is_free = is_free
        """Whether there is nothing to look at in a message: no number, no id."""
        self.levels: dict[str, dict[float, float]] = {}
        """Of a book that is looked at: side → price → size, enough to see that it is crossed."""


class _Before(msgspec.Struct):
    """Where a stream stood when its connection was lost."""

    last: int | None
    from_ns: int
    cause: Cause
    last_id: object = None
    """Of streams whose entries have ids."""
    venue_ms: int | None = None
    """The venue's time of the last message, where it has one."""

    def had(self, seq: int, data: Data) -> bool:
        """Whether a message is of before: its number is lower, and its time no later. Behind a
        restart of the venue the time is later."""
        return (
            self.last is not None
            and self.last - WINDOW < seq <= self.last
            and data.venue_ms is not None
            and self.venue_ms is not None
            and data.venue_ms <= self.venue_ms
        )


class _Held(msgspec.Struct):
    """A gap that is not reported yet: its messages may still come."""

    key: Key
    first: int
    last: int
    cause: Cause
    from_ns: int
    to_ns: int
    wait_ns: int
    due: int | None = None
    """On the clock of ``tick``; set by the first tick that sees it."""

    def is_over(self, now: int) -> bool:
        """Whether nothing can come late any more."""
        if self.due is None:
            self.due = now + self.wait_ns
        return now >= self.due


_first = attrgetter("first")


class Below:
    """Of a stream that begins in its middle: what is lower than its first number. Without a
    snapshot none of that is known to have come before."""

    __slots__ = ("_came", "_first")

    def __init__(self, first: int) -> None:
        self._first = first
        self._came: set[int] = set()

    def takes(self, seq: int) -> bool:
        """Whether a number is lower than the first, not by much, and came never before; from
        now on it came."""
        if not self._first - WINDOW <= seq < self._first or seq in self._came:
            return False
        self._came.add(seq)
        return True


class Sequences:
    """What came of each stream, for as long as a run lasts.

    ``tracks`` are of the present connection: feed → product → Track. The Session looks there
    for the common case, the next number, and asks ``look`` about everything else.
    ``snapshots_pass``: whether snapshots are passed on, so that what they list is not lost.
    ``goes_back``: whether what follows an outage may be of before it.
    """

    def __init__(self, *, snapshots_pass: bool = True, goes_back: bool = False) -> None:
        self._goes_back = goes_back
        self.tracks: dict[str, dict[str | None, Track]] = {}
        self._snapshots_pass = snapshots_pass
        self._before: dict[Key, _Before] = {}
        self._held: dict[Key, list[_Held]] = {}
        """By stream, ascending, none within another: a late number is found by halving."""
        self._ids: dict[Key, deque[object]] = {}
        self._due: dict[Key, int | None] = {}
        self._below: dict[Key, Below] = {}
        """Of streams that begin in their middle."""

    # Connections come and go

    def lost(self, last_frame_ns: int, now_ns: int, cause: Cause) -> list[Event]:
        """The connection ended, its last frame came at ``last_frame_ns``; nothing is late now."""
        events = self._report_all(now_ns)
        for feed, tracks in self.tracks.items():
            for product, track in tracks.items():
                last = None if track.next is None else track.next - 1
                self._interrupt((feed, product), last, last_frame_ns, cause, track.venue_ms)
            tracks.clear()
        self._due.clear()
        self._below.clear()
        return events

    def acknowledged(self, feed: str, product: str | None, received_ns: int) -> list[Event]:
        """A subscription stands: a stream without proof goes on behind an unprovable interval."""
        tracks = self.tracks.setdefault(feed, {})
        row = FEEDS.get(feed)
        if product in tracks or (row is not None and row.numbered):
            return []
        self._track((feed, product), None, received_ns)
        if row is not None and row.identified_by:
            self._due[feed, product] = None  # its snapshot may prove that nothing is missing
            return []
        return self._unprovable((feed, product), received_ns)

    def end(self, now_ns: int) -> list[Event]:
        """The run is over: what is still open."""
        events = self._report_all(now_ns)
        for key, before in self._before.items():
            first = None if before.last is None else before.last + 1
            events.append(
                gap_of(key, now_ns, first, None, None, before.cause, before.from_ns, now_ns)
            )
        self._before.clear()
        return events

    def doubt(self, feed: str, product: str | None) -> None:
        """A stream gives nothing though its connection lives: what it held back is not proven.

        Streams that count prove it by their next number.
        """
        row = FEEDS.get(feed)
        if row is not None and row.numbered:
            return
        track = self.tracks.get(feed, {}).pop(product, None)
        if track is not None:
            self._interrupt((feed, product), None, track.at_ns, "venue")

    def forget(self, feed: str, product: str | None) -> None:
        """A stream was given up, in whatever case: when it is wanted again it has no past."""
        wanted = is_stream(feed, product)
        tracks = self.tracks.get(feed, {})
        for each in [each for each in tracks if wanted((feed, each))]:
            del tracks[each]
        for kept in (self._before, self._ids, self._due, self._held, self._below):
            for key in filter(wanted, [*kept]):
                del kept[key]

    def restarted(self, feed: str, product: str | None) -> None:
        """Somebody who knows says that the count begins anew: the next number proves nothing."""
        self.tracks.get(feed, {}).pop(product, None)
        self._before.pop((feed, product), None)

    def _interrupt(
        self, key: Key, last: int | None, from_ns: int, cause: Cause, venue_ms: int | None = None
    ) -> None:
        """Remembers where a stream stood; an outage that goes on keeps its beginning."""
        ids = self._ids.get(key)
        before = _Before(last, from_ns, cause, ids[-1] if ids else None, venue_ms)
        self._before.setdefault(key, before)

    def suspended(self, from_ns: int, to_ns: int) -> list[Event]:
        """We stood still: what cannot be proven is named, numbers will tell of the others."""
        return [
            gap_of((feed, product), to_ns, None, None, None, "suspended", from_ns, to_ns)
            for feed, tracks in self.tracks.items()
            for product in tracks
            if feed not in NUMBERED
        ]

    # Time

    def tick(self, now: int, wall_ns: int) -> list[Event]:
        """Gaps whose time to be filled is over. ``now`` on any clock that only goes forward."""
        due: list[_Held] = []
        for key, gaps in [*self._held.items()]:
            waiting = [each for each in gaps if not each.is_over(now)]
            if len(waiting) < len(gaps):
                due += [each for each in gaps if each.is_over(now)]
                self._keep(key, waiting)
        events = self._report(due, wall_ns)
        for key, moment in list(self._due.items()):
            if moment is None:
                self._due[key] = now + SNAPSHOT_NS
            elif now >= moment:
                del self._due[key]
                events += self._unprovable(key, wall_ns)
        return events

    @property
    def is_waiting(self) -> bool:
        """Whether ``moments`` has any."""
        return bool(self._held or self._due)

    @property
    def moments(self) -> list[int]:
        """When ``tick`` has something to do; 0 is now."""
        moments = [each.due for gaps in self._held.values() for each in gaps]
        return [moment or 0 for moment in (*moments, *self._due.values())]

    # Messages

    def look(self, data: Data) -> tuple[bool, list[Event]]:
        """Whether a message is passed on, and what is to be said before it."""
        row = FEEDS.get(data.feed)
        key = data.feed, data.product
        track = self.tracks.setdefault(data.feed, {}).get(data.product)
        if row is not None and row.numbered:
            if data.kind == "delta":
                return self._delta(key, data, track)
            self._below.pop(key, None)
            if data.feed == "book":
                return True, self._book_snapshot(key, data, track)
            return True, self._trade_snapshot(key, data, track)
        if track is None:
            self._track(key, None, data.received_ns)
        else:
            track.at_ns = data.received_ns
        if row is not None and row.identified_by:
            return True, self._by_id(key, data, row.entries, row.identified_by)
        return True, [] if track else self._unprovable(key, data.received_ns)

    def _track(self, key: Key, expected: int | None, at_ns: int) -> None:
        feed, product = key
        row = FEEDS.get(feed)
        is_free = (
            row is not None
            and not row.numbered
            and not row.identified_by
            and (product is not None or "product_id" not in row.needs)
        )
        self.tracks[feed][product] = Track(expected, at_ns, is_free=is_free)

    def _delta(self, key: Key, data: Data, track: Track | None) -> tuple[bool, list[Event]]:
        seq, at_ns = data.seq, data.received_ns
        assert seq is not None  # noqa: S101  # the Session lets no delta without one pass
        if track is None and (track := self._gone_on(key, seq, data)) is None:
            self._track(key, seq + 1, at_ns)
            self.tracks[key[0]][key[1]].venue_ms = data.venue_ms
            return True, self._first_delta(key, seq, data)
        if track.next is None or seq >= track.next:
            if track.next is not None and seq > track.next:
                self._hold(key, track.next, seq - 1, "venue", track.at_ns, at_ns, GRACE_NS)
            track.next, track.at_ns, track.venue_ms = seq + 1, at_ns, data.venue_ms
            return True, []
        if self._came_late(key, seq):
            return True, []
        if track.next - seq <= WINDOW and not _is_younger(data, track):
            below = self._below.get(key)
            if below is not None and below.takes(seq):
                return True, []
            feed, product = key
            twice = Duplicate(
                payload=data.payload, received_ns=at_ns, feed=feed, product=product, seq=seq
            )
            return False, [twice]
        restart = restart_of(key, track.next - 1, seq, track.at_ns, data)
        track.next, track.at_ns, track.venue_ms = seq + 1, at_ns, data.venue_ms
        self._below.pop(key, None)
        # What is missing of the old count cannot be told from the new one any more.
        return True, [*self._report(self._held.pop(key, []), at_ns), restart]

    def _gone_on(self, key: Key, seq: int, data: Data) -> Track | None:
        """The track as it stood before the outage, where what came last is of before: tapes of
        two machines whose clocks differ follow each other like this."""
        before = self._before.get(key) if self._goes_back else None
        if before is None or before.last is None or not before.had(seq, data):
            return None
        del self._before[key]
        self._track(key, before.last + 1, before.from_ns)
        track = self.tracks[key[0]][key[1]]
        track.venue_ms = before.venue_ms
        return track

    def _first_delta(self, key: Key, seq: int, data: Data) -> list[Event]:
        """The first number on this connection, ahead of its snapshot."""
        at_ns = data.received_ns
        before = self._before.pop(key, None)
        if before is None or before.last is None:
            self._below[key] = Below(seq)
            return []
        if seq == before.last + 1:
            return []
        if seq <= before.last:
            return [restart_of(key, before.last, seq, before.from_ns, data)]
        wait_ns = SNAPSHOT_NS if key[0] == "trade" else GRACE_NS
        self._hold(key, before.last + 1, seq - 1, before.cause, before.from_ns, at_ns, wait_ns)
        return []

    def _book_snapshot(self, key: Key, data: Data, track: Track | None) -> list[Event]:
        """It holds the state after its number, but not the messages that led there."""
        seq, at_ns = data.seq, data.received_ns
        assert seq is not None  # noqa: S101  # as above
        track = track or self._gone_on(key, seq, data)
        before = self._before.pop(key, None)
        last, cause, from_ns = _standing(track, before, "resync")
        if track is not None and last is not None and last - WINDOW < seq < last:
            return []  # deltas came ahead of it
        self._track(key, seq + 1, at_ns)
        if last is None or seq == last:
            return []
        if seq < last:
            held = self._held.pop(key, [])
            return [*self._report(held, at_ns), restart_of(key, last, seq, from_ns, data)]
        return [gap_of(key, at_ns, last + 1, seq, seq - last, cause, from_ns, at_ns)]

    def _trade_snapshot(self, key: Key, data: Data, track: Track | None) -> list[Event]:
        """It lists the last trades: those that are missing among them are known all the same."""
        listed = sorted(numbers_of(data))
        if track is None and listed:
            track = self._gone_on(key, listed[-1], data)
        before = self._before.pop(key, None)
        last, cause, from_ns = _standing(track, before, "venue")
        at_ns = data.received_ns
        if not listed:
            if before is not None:
                self._before[key] = before  # the first trade will tell
            elif track is None:
                self._track(key, None, at_ns)
            return []
        newest = listed[-1]
        if last is not None and track is None and newest < last:
            self._track(key, newest + 1, at_ns)
            return [restart_of(key, last, newest, from_ns, data)]
        missing = self._held.pop(key, [])
        if last is not None and newest > last:
            missing.append(_Held(key, last + 1, newest, cause, from_ns, at_ns, 0))
        self._track(key, max(newest, newest if last is None else last) + 1, at_ns)
        return self._report(missing, at_ns, listed if self._snapshots_pass else ())

    def _by_id(self, key: Key, data: Data, lists: Sequence[str], name: str) -> list[Event]:
        ids = list(_ids(data, lists, name))
        seen = self._ids.setdefault(key, deque(maxlen=IDS_KEPT))
        new = [each for each in ids if each not in seen]
        # Of a snapshot the newest id has to stand last: account logs begin with it.
        seen.extend(reversed(new) if data.feed == "account_log" else new)
        if data.kind == "delta":
            return []
        self._due.pop(key, None)
        before = self._before.pop(key, None)
        if before is None:
            return []
        last = before.last_id
        proven = (last in ids if last is not None else not ids) and self._snapshots_pass
        gap = gap_of(
            key,
            data.received_ns,
            None,
            None,
            len(new) if proven else None,
            before.cause,
            before.from_ns,
            data.received_ns,
        )
        gap.healed_by = "snapshot" if proven else None
        return [gap]

    # Gaps

    def _unprovable(self, key: Key, to_ns: int) -> list[Event]:
        before = self._before.pop(key, None)
        if before is None:
            return []
        return [gap_of(key, to_ns, None, None, None, before.cause, before.from_ns, to_ns)]

    def _hold(
        self, key: Key, first: int, last: int, cause: Cause, from_ns: int, to_ns: int, wait_ns: int
    ) -> None:
        held = _Held(key, first, last, cause, from_ns, to_ns, wait_ns)
        insort(self._held.setdefault(key, []), held, key=_first)

    def _keep(self, key: Key, gaps: list[_Held]) -> None:
        if gaps:
            self._held[key] = gaps
        else:
            del self._held[key]

    def _came_late(self, key: Key, seq: int) -> bool:
        """Takes a number out of the gaps that are held; whether it was in one."""
        gaps = self._held.get(key, [])
        at = bisect_right(gaps, seq, key=_first) - 1
        if at < 0 or seq > gaps[at].last:
            return False
        gaps[at : at + 1] = [
            replace(gaps[at], first=first, last=last)
            for first, last in holes(gaps[at].first, gaps[at].last, [seq])
        ]
        self._keep(key, gaps)
        return True

    def _report_all(self, now_ns: int) -> list[Event]:
        held = [each for gaps in self._held.values() for each in gaps]
        self._held.clear()
        return self._report(sorted(held, key=attrgetter("to_ns")), now_ns)

    def _report(
        self, gaps: Iterable[_Held], now_ns: int, listed: Sequence[int] = ()
    ) -> list[Event]:
        """Gaps as events; what a snapshot lists of them, ascending, is healed."""
        events: list[Event] = []
        for held in gaps:
            begin, end = bisect_left(listed, held.first), bisect_right(listed, held.last)
            known = listed[begin:end]
            lost = holes(held.first, held.last, known)
            for healed_by, ranges in (("snapshot", _runs(known)), (None, lost)):
                for first, last in ranges:
                    gap = gap_of(
                        held.key,
                        now_ns,
                        first,
                        last,
                        last - first + 1,
                        held.cause,
                        held.from_ns,
                        held.to_ns,
                    )
                    gap.healed_by = healed_by
                    events.append(gap)
        return events


def is_stream(feed: str, product: str | None) -> Callable[[Key], bool]:
    """Tells the keys of one stream; products are the same in any case."""
    wanted = feed, (product or "").lower()
    return lambda key: (key[0], (key[1] or "").lower()) == wanted


def holes(first: int, last: int, present: Iterable[int]) -> list[tuple[int, int]]:
    """The ranges of numbers from first to last that are not among the present ones (ascending)."""
    found = []
    for number in present:
        if first < number:
            found.append((first, number - 1))
        first = number + 1
    if first <= last:
        found.append((first, last))
    return found


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as ranges without holes."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


def _is_younger(data: Data, track: Track) -> bool:
    """Whether a message with a number of before is new all the same: its time says so."""
    if data.venue_ms is None or track.venue_ms is None:
        return False
    return data.venue_ms - track.venue_ms > NEWER_MS


def _standing(
    track: Track | None, before: _Before | None, cause: Cause
) -> tuple[int | None, Cause, int]:
    """The last number that came of a stream, why one may be missing since, and since when."""
    if track is not None and track.next is not None:
        return track.next - 1, cause, track.at_ns
    if before is not None:
        return before.last, before.cause, before.from_ns
    return None, cause, 0


def numbers_of(data: Data) -> Iterable[int]:
    """The numbers of the trades that a snapshot lists, as it lists them."""
    trades = data.message.get("trades")
    for trade in trades if isinstance(trades, list) else ():
        seq = trade.get("seq") if isinstance(trade, dict) else None
        if isinstance(seq, int) and not isinstance(seq, bool) and abs(seq) <= LARGEST:
            yield seq


def _ids(data: Data, lists: Sequence[str], name: str) -> Iterable[object]:
    for key in lists:
        value = data.message.get(key)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict) and isinstance(entry.get(name), (str, int)):
                yield entry[name]


def gap_of(
    key: Key,
    at_ns: int,
    first: int | None,
    last: int | None,
    missing: int | None,
    cause: Cause,
    from_ns: int,
    to_ns: int,
) -> Gap:
    """A gap of a stream: numbers from first to last, or an interval where there are none."""
    return Gap(
        received_ns=at_ns,
        feed=key[0],
        product=key[1],
        first=first,
        last=last,
        missing=missing,
        cause=cause,
        from_ns=from_ns,
        to_ns=to_ns,
    )


def restart_of(key: Key, last: int, seq: int, from_ns: int, data: Data) -> Restart:
    """A new count, which begins with ``seq`` and this message."""
    return Restart(
        received_ns=data.received_ns,
        feed=key[0],
        product=key[1],
        last=last,
        seq=seq,
        from_ns=from_ns,
        to_ns=data.received_ns,
        venue_ms=data.venue_ms,
    )
