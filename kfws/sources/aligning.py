"""Streams without numbers, as several recordings have them: what the leading one lacks.

The rule of this room: of every message that came, it or an equal one is passed on, or it is
counted in ``left_out``. All recordings have a stream in the venue's order. So what one has
ahead of a message that is passed on too was lost to the one that leads, and is passed on.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from kfws.protocol.events import Data, Event
from kfws.protocol.feeds import NUMBERED
from kfws.sources.lines import Line

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
            stream.forget(now_ns)
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

    def end(self, now_ns: int) -> Iterator[Event]:
        """All recordings ended."""
        for stream in self._streams.values():
            yield from stream.end(now_ns)


def _is_led(event: Event) -> TypeGuard[Data]:
    return type(event) is Data and event.feed not in NUMBERED


class _Owed:
    """What was passed on lately, and a recording did not match yet: the moments, by payload."""

    def __init__(self, entries: Iterable[tuple[bytes, list[int]]] = ()) -> None:
        self._entries = OrderedDict((payload, [*moments]) for payload, moments in entries)

    def copy(self) -> _Owed:
        return _Owed(self._entries.items())

    def __contains__(self, payload: bytes) -> bool:
        return payload in self._entries

    def add(self, payload: bytes, now_ns: int) -> None:
        self._entries.setdefault(payload, []).append(now_ns)
        self._entries.move_to_end(payload)

    def match(self, payload: bytes) -> bool:
        """Whether it is a copy; then there is one less to match."""
        moments = self._entries.get(payload)
        if not moments:
            return False
        del moments[0]
        if not moments:
            del self._entries[payload]
        return True

    def forget(self, since_ns: int) -> None:
        while self._entries and next(iter(self._entries.values()))[-1] < since_ns:
            self._entries.popitem(last=False)


class _Stream:
    """Equal messages of a recording are as many: each is matched with one that was passed on."""

    def __init__(self) -> None:
        self.left_out = 0
        self._open: dict[int, Line] = {}
        """Of each recording, what it brought since it last brought what was passed on."""
        self._owed: dict[int, _Owed] = {}
        self._given = _Owed()
        """What was passed on lately; a recording that comes later may bring it too."""
        self._last_ns = 0

    def come(self, leg: int, data: Data) -> None:
        """A recording brought it."""
        if leg not in self._open:
            self._open[leg], self._owed[leg] = Line(), self._given.copy()
        self._open[leg].append(data)

    def whose(self, data: Data) -> int | None:
        """Which recording brought it a while ago."""
        for leg, line in self._open.items():
            if data.payload in line and any(each is data for each in line):
                return leg
        return None

    def give(self, giver: int | None, data: Data, now_ns: int) -> Iterator[Data]:
        """The arbiter passes it on: ahead of it what others have ahead of it."""
        if giver is None:
            return  # it stood ahead of another one, and is here already
        own = self._open[giver]
        if not any(each is data for each in own):
            return
        ahead = own.take_to(lambda each: each is data)
        if self._owed[giver].match(data.payload):
            yield from self._fill(giver, ahead, now_ns)
            return  # it is here already, from another one
        self._leave_out(giver, ahead)  # the arbiter knows of it, and took it for old
        matched = {giver}
        for leg, line in self._open.items():
            if leg != giver and data.payload in line:
                ahead = line.take_to(lambda each: each.payload == data.payload)
                yield from self._fill(leg, ahead, now_ns)
                matched.add(leg)
        self._note(matched, data, now_ns)
        yield data

    def meet(self, leg: int, data: Data, now_ns: int) -> Iterator[Data]:
        """A recording brought what another one had brought before: what it has ahead of it is
        late, since it stands behind it now."""
        line = self._open[leg]
        if data.payload in line and self._owed[leg].match(data.payload):
            ahead = line.take_to(lambda each: each.payload == data.payload)
            yield from self._fill(leg, ahead, now_ns)

    def forget(self, now_ns: int) -> None:
        """What others would have met by now, or what is behind it."""
        since_ns = now_ns - KEPT_NS
        for leg, line in self._open.items():
            while line and line[0].received_ns < since_ns:
                is_copy = line[0].payload in self._owed[leg]
                if not (is_copy or (len(line) > 1 and line[1].received_ns < since_ns)):
                    break
                self._leave_out(leg, [line.popleft()])
        # Behind, so that who was quiet for long still matches what it brought in time.
        for owed in (self._given, *self._owed.values()):
            owed.forget(since_ns)

    def end(self, now_ns: int) -> Iterator[Data]:
        """What came after all that was passed on is next; the rest is left out."""
        last_ns = self._last_ns
        for leg, line in self._open.items():
            self._leave_out(leg, [each for each in line if each.received_ns <= last_ns])
            later = [each for each in line if each.received_ns > last_ns]
            yield from self._fill(leg, later, now_ns)

    def _fill(self, leg: int, ahead: Iterable[Data], now_ns: int) -> Iterator[Data]:
        for data in ahead:
            if not self._owed[leg].match(data.payload):
                self._note({leg}, data, now_ns)
                yield data

    def _note(self, matched: set[int], data: Data, now_ns: int) -> None:
        self._given.add(data.payload, now_ns)
        for leg, owed in self._owed.items():
            if leg not in matched:
                owed.add(data.payload, now_ns)
        self._last_ns = max(self._last_ns, data.received_ns)

    def _leave_out(self, leg: int, ahead: Iterable[Data]) -> None:
        self.left_out += sum(not self._owed[leg].match(each.payload) for each in ahead)
