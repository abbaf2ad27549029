"""Streams without numbers, as several recordings have them: what the leading one lacks.

The rule of this room: of every message that came, it or an equal one is passed on, or it is
counted in ``left_out``. All recordings have a stream in the venue's order. So what one has
ahead of a message that is passed on too was lost to the one that leads, and is passed on.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from kfws.protocol.events import Data, Event
from kfws.protocol.feeds import FEEDS

__all__ = ["Alignment"]

Key = tuple[str, str | None]

# Recordings may be apart by half of this, in either direction.
KEPT_NS = 20_000_000_000


class Alignment:
    """Stands behind the arbiter, in the time of the tapes."""

    def __init__(self) -> None:
        self._streams: defaultdict[Key, _Stream] = defaultdict(_Stream)

    @property
    def left_out(self) -> Counter[str]:
        """By feed. Where two recordings have no message in common nobody can say whether they
        lack something, or the venue said something else to each."""
        found: Counter[str] = Counter()
        for (feed, _), stream in self._streams.items():
            found[feed] += stream.left_out
        return +found

    def take(
        self, leg: int, said: Iterable[Event], given: Sequence[Event], now_ns: int
    ) -> Iterator[Event]:
        """What is passed on, where a recording said something and the arbiter gave something."""
        came = [(self._streams[each.feed, each.product], each) for each in said if _is_led(each)]
        for stream, data in came:
            stream.come(leg, data)
        own = {id(data) for _, data in came}
        for event in given:
            if _is_led(event):
                stream = self._streams[event.feed, event.product]
                giver = leg if id(event) in own else stream.whose(event)
                yield from stream.give(giver, event, now_ns)
            else:
                yield event
        for stream, data in came:
            yield from stream.meet(leg, data, now_ns)
            stream.forget(now_ns)

    def end(self, now_ns: int) -> Iterator[Event]:
        """All recordings ended."""
        for stream in self._streams.values():
            yield from stream.end(now_ns)


def _is_led(event: Event) -> TypeGuard[Data]:
    return type(event) is Data and not event.quiet and event.feed not in _NUMBERED


_NUMBERED = frozenset(name for name, feed in FEEDS.items() if feed.numbered)

# Messages by payload, the oldest first; equal ones of one recording together.
Open = OrderedDict[bytes, list[Data]]


class _Stream:
    def __init__(self) -> None:
        self.left_out = 0
        self._open: defaultdict[int, Open] = defaultdict(OrderedDict)
        """Of each recording, what it brought since it last brought what was passed on."""
        self._given: OrderedDict[bytes, tuple[int | None, int]] = OrderedDict()
        """What was passed on lately: from which recording, and when."""
        self._last_ns = 0

    def come(self, leg: int, data: Data) -> None:
        """A recording brought it."""
        self._open[leg].setdefault(data.payload, []).append(data)

    def whose(self, data: Data) -> int | None:
        """Which recording brought it a while ago."""
        for leg, entries in self._open.items():
            if any(each is data for each in entries.get(data.payload, ())):
                return leg
        return None

    def give(self, giver: int | None, data: Data, now_ns: int) -> Iterator[Data]:
        """The arbiter passes it on: ahead of it what others have ahead of it."""
        holders = {leg: each for leg, each in self._open.items() if data.payload in each}
        if data.payload in self._given and self._given[data.payload][0] != giver:
            return  # it is here already, from another one
        for leg, each in holders.items():
            ahead = _ahead(each, data.payload)
            if leg == giver:
                self._leave_out(ahead)  # the arbiter knows of it, and took it for old
            else:
                yield from self._fill(leg, ahead, now_ns)
        self._note(giver, data, now_ns)
        yield data

    def meet(self, leg: int, data: Data, now_ns: int) -> Iterator[Data]:
        """A recording brought what another one had brought before: what it has ahead of it is
        late, since it stands behind it now."""
        if data.payload in self._given and data.payload in self._open[leg]:
            yield from self._fill(leg, _ahead(self._open[leg], data.payload), now_ns)

    def forget(self, now_ns: int) -> None:
        """What others would have met by now, or what is behind it."""
        since_ns = now_ns - KEPT_NS
        while self._given and next(iter(self._given.values()))[1] < since_ns:
            self._given.popitem(last=False)
        for each in self._open.values():
            while len(each) > 1 and _second(each).received_ns < since_ns:
                self._leave_out([each.popitem(last=False)[1]])

    def end(self, now_ns: int) -> Iterator[Data]:
        """What came after all that was passed on is next; the rest is left out."""
        last_ns = self._last_ns
        for leg, each in self._open.items():
            later = [equal for equal in each.values() if equal[0].received_ns > last_ns]
            self._leave_out([equal for equal in each.values() if equal not in later])
            yield from self._fill(leg, later, now_ns)

    def _fill(self, leg: int, ahead: Iterable[list[Data]], now_ns: int) -> Iterator[Data]:
        for data, *_ in ahead:
            if data.payload not in self._given:
                self._note(leg, data, now_ns)
                yield data

    def _note(self, leg: int | None, data: Data, now_ns: int) -> None:
        self._given[data.payload] = leg, now_ns
        self._given.move_to_end(data.payload)
        self._last_ns = max(self._last_ns, data.received_ns)

    def _leave_out(self, ahead: Iterable[list[Data]]) -> None:
        self.left_out += sum(len(each) for each in ahead if each[0].payload not in self._given)


def _second(entries: Open) -> Data:
    return next(itertools.islice(entries.values(), 1, None))[0]


def _ahead(entries: Open, payload: bytes) -> list[list[Data]]:
    """Takes out what is ahead of a message, and the message."""
    found = []
    while (first := entries.popitem(last=False))[0] != payload:
        found.append(first[1])
    return found
