"""Several recordings of the same feeds as one stream, by the arbiter of the redundant stream.

Time is that of the tapes. Each recording counts as one connection, whatever it was made of.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kfws.errors import UsageError
from kfws.protocol.events import (
    Broken,
    Closed,
    Data,
    Duplicate,
    Event,
    Gap,
    Notice,
    Opened,
    Refused,
    Report,
    Restart,
    Subscribed,
)
from kfws.sources.aligning import Alignment
from kfws.sources.arbiter import Arbiter
from kfws.tapes.files import Reader
from kfws.tapes.recordings import Account, Step, interleave

__all__ = ["Merging", "TapeLeg"]

Key = tuple[str, str | None]

# Recorders' clocks differ, and so does the way from the venue: so long a missing message is
# looked for on the other tapes.
WAIT_NS = 10_000_000_000
TICK_NS = 250_000_000
# A tape that begins later may repeat what others said by clocks that are ahead of its own.
RECENT = 256
BATCH = 512
# Reconnects are told by the numbers and the connections; these by the recorder alone.
TOLD_ALONE = ("takeover", "suspended", "slow-reader")


class Merging:
    """The events of the one stream. What is said of it is complete when ``batches`` ended.

    ``batches`` raises OutputError for what cannot be read, UsageError for a tape that was filtered.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers
        self._arbiter = Arbiter(wait_ns=WAIT_NS, resync=False, recent=RECENT)
        self._alignment = Alignment()
        self._legs: dict[int, TapeLeg] = {}
        self._numbers = itertools.count(1)
        self._open: dict[Key, Gap] = {}
        """Outages to the end of a recording, of streams that no other tape goes on with."""
        self.broken = 0
        """Lines that are no line of a tape or no message; they are left out."""
        self.at_ns = 0
        self._given = 0

    @property
    def copies(self) -> int:
        """Messages that were left out because another tape, or the same one, had them too."""
        came = sum(leg.messages for leg in self._legs.values())
        return came - self._given - self.left_out.total()

    @property
    def left_out(self) -> Counter[str]:
        """By feed: messages without numbers that only one tape has, and in no place that the
        tapes prove."""
        return self._alignment.left_out

    @property
    def absent(self) -> list[str]:
        """Sentences about files that should be before others, and are not."""
        return [each for leg in self._legs.values() for each in leg.absent]

    def batches(self) -> Iterator[tuple[int, list[Event]]]:
        """Bytes read so far, and what is next of the one stream."""
        ticked_ns = 0
        out: list[Event] = []
        for number, reader, step in interleave(self._readers):
            leg = self._legs.get(number)
            if leg is None:
                leg = self._legs[number] = TapeLeg(self._numbers)
            self.at_ns = max(self.at_ns, step.at_ns)
            given: list[Event] = []
            if self.at_ns - ticked_ns >= TICK_NS:
                ticked_ns = self.at_ns
                given = self._arbiter.tick(self.at_ns)
            said = [*self._said(leg, reader, step)]
            given += self._arbiter.receive(number, said, self.at_ns)
            out += self._alignment.take(number, said, given, self.at_ns)
            if len(out) >= BATCH:
                yield self._position, self._heed(out)
                out = []
        # All recordings ended: that is no outage, unless a recorder told of one.
        ends = self._arbiter.end(self.at_ns)
        ends = [each for each in ends if not (isinstance(each, Gap) and _is_open(each))]
        out += self._alignment.take(0, (), ends, self.at_ns)
        out += self._alignment.end(self.at_ns)
        yield self._position, [*self._heed(out), *self._open.values()]

    @property
    def _position(self) -> int:
        return sum(each.position for each in self._readers)

    def _heed(self, out: list[Event]) -> list[Event]:
        for event in out:
            if type(event) is Data:
                self._given += 1
                outage = self._open.get((event.feed, event.product)) if self._open else None
                if outage is not None and (event.seq or 0) >= (outage.first or 0):
                    del self._open[event.feed, event.product]
        return out

    def _said(self, leg: TapeLeg, reader: Reader, step: Step) -> Iterable[Event]:
        leg.turn_to(reader.path)
        if step.event is None and not step.frames:
            self.broken += 1
            return []
        if step.event is None:
            events = leg.frames(step)
            self.broken += sum(isinstance(each, Broken) for each in events)
            return [each for each in events if not isinstance(each, Broken)]
        if isinstance(step.event, Report) and step.event.name == "header":
            _refuse_filtered(reader, step.event)
        elif isinstance(step.event, Gap) and _is_open(step.event):
            self._open[step.event.feed, step.event.product] = step.event
        return leg.own(step.event)


def _is_open(gap: Gap) -> bool:
    """Whether it reaches from a number on to the end of a recording."""
    return gap.first is not None and gap.last is None


def _refuse_filtered(reader: Reader, header: Report) -> None:
    chosen = header.fields.get("filter")
    if isinstance(chosen, dict) and chosen.get("where"):
        raise UsageError(
            f"{reader.path} was recorded with --where: what it lacks may never have been missing",
            hint="merge tapes that hold all that came",
        )


class TapeLeg:
    """One recording as one connection of the arbiter."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.messages = 0
        self._numbers = numbers
        self._account = Account(goes_back=True)
        self._connection: int | None = None
        self._acknowledged: set[Key] = set()

    @property
    def absent(self) -> list[str]:
        return self._account.absent

    def turn_to(self, path: Path) -> None:
        """Whose words come next."""
        self._account.turn_to(path)

    def frames(self, step: Step) -> list[Event]:
        """A tape may begin in the middle of a connection: so it is opened and subscribed."""
        events: list[Event] = []
        for event in self._account.frames(step.frames, step.at_ns):
            if isinstance(event, Data):
                events += self._standing(event)
            self.messages += isinstance(event, (Data, Duplicate))
            if isinstance(event, (Data, Gap, Restart, Broken)):
                events.append(event)
        return events

    def _standing(self, data: Data) -> Iterator[Event]:
        if self._connection is None:
            yield self._opened(data.received_ns, "tape")
        key = data.feed, data.product
        if key not in self._acknowledged:
            self._acknowledged.add(key)
            yield Subscribed(
                payload=None,
                received_ns=data.received_ns,
                feed=data.feed,
                products=() if data.product is None else (data.product,),
            )

    def _opened(self, at_ns: int, url: str) -> Opened:
        self._connection = next(self._numbers)
        return Opened(received_ns=at_ns, connection=self._connection, url=url)

    def own(self, event: Event) -> list[Event]:
        """What the arbiter has to know of one of the recorder's own events."""
        found = self._account.own(event)
        match event:
            case Opened() if self._connection is None:
                return [*found, self._opened(event.received_ns, event.url)]
            case Closed() if self._connection is not None and not self._account.is_connected:
                return [*found, self._closed(event.received_ns, event.code, event.reason)]
            case Report(name="header") if self._connection is not None:
                if not self._account.is_connected:
                    return [*found, self._closed(event.received_ns, 1006, "the recording ended")]
            case Subscribed():
                self._acknowledged |= {(event.feed, each) for each in event.products or (None,)}
                return [*found, event]
            case Gap(cause=cause) if cause in TOLD_ALONE:
                return [*found, event]
            case Restart() | Refused() | Notice() | Broken():
                return [*found, event]
        return found

    def _closed(self, at_ns: int, code: int, reason: str) -> Closed:
        connection, self._connection = self._connection or 0, None
        self._acknowledged.clear()
        return Closed(received_ns=at_ns, connection=connection, code=code, reason=reason)
