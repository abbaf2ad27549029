"""What a full buffer drops (``--on-full drop-oldest``), by stream: nothing of it unnamed.

Deltas go, and their numbers are named as gaps. Of the snapshots among them the newest is kept:
without it a book would stay stale for as long as its reader is slow. So what waits here is
bounded by the number of streams, however long nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterable

from kfws.protocol.events import Beat, Data, Event, Gap, Notice, Restart, Resync, Stale
from kfws.protocol.sequence import gap_of

__all__ = ["Shedding"]

# So many of the venue's answers are kept while nobody reads; it may say the same for hours.
OTHERS_MOST = 1000


class _Stream:
    """What is to be said of one stream: up to its newest snapshot, and since."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.stale: Stale | None = None
        self.resync: Resync | None = None
        self.restarts: list[Restart] = []
        self.snapshot: Data | None = None
        self.since: list[Event] = []

    def drop(self, data: Data, now_ns: int) -> None:
        if data.kind == "snapshot":
            self._fold(now_ns)
            self.snapshot = data
        elif (gap := self.open_gap) is not None and _follows(gap, data.seq):
            gap.last, gap.to_ns = data.seq, data.received_ns
            gap.missing = (gap.missing or 0) + 1
        else:
            self.since.append(_gap(data, data.seq, now_ns))

    @property
    def open_gap(self) -> Gap | None:
        """The last one since the snapshot, with nothing behind it but that its book is stale."""
        for event in reversed(self.since):
            if isinstance(event, Gap):
                return event
        return None

    def _fold(self, now_ns: int) -> None:
        """A snapshot came: what was to be said since the one before, in short."""
        if self.snapshot is not None:
            # It stands for a state: its number came before, with a delta.
            self._add(_gap(self.snapshot, None, now_ns))
        for event in self.since:
            if isinstance(event, Gap):
                self._add(event)
            elif isinstance(event, Stale):
                self.stale = self.stale or event
            elif isinstance(event, Resync):
                self.resync = event
            elif isinstance(event, Restart):
                self.restarts = [*self.restarts[-9:], event]
        self.since = []

    def _add(self, gap: Gap) -> None:
        for other in reversed(self.gaps):
            if other.cause == gap.cause == "slow-reader" and _follows(other, gap.first):
                other.last, other.to_ns = gap.last, gap.to_ns
                other.missing = (other.missing or 0) + (gap.missing or 0)
                return
        self.gaps.append(gap)

    def events(self) -> list[Event]:
        kept = (*self.gaps, *self.restarts, self.stale, self.resync, self.snapshot, *self.since)
        return [each for each in kept if each is not None]


class Shedding:
    """Takes the events of frames that are not passed on; gives what is to be said instead."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str | None], _Stream] = {}
        self._others: list[Event] = []
        self._left_out = 0

    def shed(self, events: Iterable[Event], now_ns: int) -> None:
        """Drops the messages among them; answers of the venue and our own events are kept."""
        for event in events:
            if isinstance(event, Data):
                self._of(event).drop(event, now_ns)
            elif isinstance(event, Beat):
                pass
            elif isinstance(event, (Gap, Stale, Resync, Restart)):
                self._of(event).since.append(event)
            elif len(self._others) < OTHERS_MOST:
                self._others.append(event)
            else:
                self._left_out += 1

    def open_gaps(self) -> list[Gap]:
        """The last gap of each stream that no snapshot has followed yet."""
        gaps = [each.open_gap for each in self._streams.values()]
        return [each for each in gaps if each is not None]

    @property
    def is_empty(self) -> bool:
        """Whether ``take`` gives nothing: looked at with each batch."""
        return not (self._streams or self._others or self._left_out)

    def take(self, now_ns: int) -> list[Event]:
        """All that is to be said by now, each stream in its order."""
        streams, self._streams = self._streams, {}
        others, self._others = self._others, []
        if self._left_out:
            what = f"{self._left_out} answers and duplicates more came while nobody read"
            others.append(Notice(payload=None, received_ns=now_ns, event="alert", message=what))
            self._left_out = 0
        return [*others, *(event for each in streams.values() for event in each.events())]

    def _of(self, event: Data | Gap | Stale | Resync | Restart) -> _Stream:
        return self._streams.setdefault((event.feed, event.product), _Stream())


def _follows(gap: Gap, seq: int | None) -> bool:
    """Whether a dropped message belongs to a run of dropped ones."""
    if gap.cause != "slow-reader" or gap.missing is None:
        return False
    return gap.last is None if seq is None else gap.last == seq - 1


def _gap(data: Data, seq: int | None, now_ns: int) -> Gap:
    at_ns = data.received_ns
    return gap_of((data.feed, data.product), now_ns, seq, seq, 1, "slow-reader", at_ns, at_ns)
