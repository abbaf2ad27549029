"""What is on tapes, and what is missing there: by number, by interval, by byte.

The audit is the recorder's own (``protocol/sequence.py``), made anew from the tape; what the
recorder said at the time is compared with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from kfws.errors import OutputError
from kfws.protocol.delays import Delays
from kfws.protocol.events import (
    Broken,
    Data,
    Duplicate,
    Event,
    Gap,
    Report,
    Restart,
    Subscribed,
    describe,
)
from kfws.protocol.feeds import FEEDS
from kfws.protocol.sequence import numbers_of
from kfws.tapes import line
from kfws.tapes.files import Damage, Reader, no_tape
from kfws.tapes.recordings import CONTINUED, Account, Step, interleave

__all__ = ["Audit", "Stream", "Tape"]

Key = tuple[str, str | None]

# Of each stream so many gaps are listed; beyond that they are counted.
GAPS_KEPT = 10_000
LINES_KEPT = 100
SAY_EVERY = 4096
SET_BACK_NS = line.AHEAD_NS


@dataclass(slots=True)
class Tape:
    """One file."""

    path: str
    bytes: int
    recording: int = 0
    """Which of the recordings it belongs to, from 1 on; 0: it has no line."""
    compression: str | None = None
    frames: int = 0
    """Compressed frames that are whole, their checksums right."""
    damages: list[Damage] = field(default_factory=list)
    """Where compressed frames are damaged: bytes from, and up to."""
    lines: int = 0
    messages: int = 0
    broken: int = 0
    """Lines that are no line of a tape, no JSON object or no message; torn ones inside too."""
    broken_lines: list[int] = field(default_factory=list)
    """The numbers of the first hundred, from 1 on."""
    torn_bytes: int = 0
    """Length of a last line without line end."""
    is_cut: bool = False
    """Whether the file ends within a compressed frame."""
    ended: bool = False
    """Whether the last line says that the recording was stopped, or goes on in another file."""
    filter: Any = None
    """What was left out while recording."""
    set_back: int = 0
    """How often the clock went back by more than 15 s."""
    lost: int = 0
    """Messages fewer than it says of itself: they were written, and are not there any more."""
    connections: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    events: Counter[str] = field(default_factory=Counter)
    """The stream's own events, by name."""

    @property
    def is_torn(self) -> bool:
        return bool(self.torn_bytes or self.is_cut)


@dataclass(slots=True)
class Stream:
    """A feed of a product, as one recording holds it."""

    recording: int
    feed: str
    product: str | None
    auditable: bool = True
    messages: int = 0
    snapshots: int = 0
    first_ns: int = 0
    last_ns: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    missing: int = 0
    """Messages that never came and that nothing else holds."""
    healed: int = 0
    """Messages that never came, but that a snapshot lists."""
    unprovable: int = 0
    """Intervals for which nobody can prove that nothing is missing."""
    untold: int = 0
    """Missing messages of which the recorder said nothing."""
    duplicates: int = 0
    steps_back: int = 0
    """Messages behind one with a higher number that came all the same."""
    restarts: int = 0
    """How often the venue counted anew."""
    delay_p50_ms: int | None = None
    delay_p99_ms: int | None = None
    gaps: list[Gap] = field(default_factory=list)
    gaps_more: int = 0
    """Gaps beyond those that are listed."""

    @property
    def is_numbered(self) -> bool:
        """Whether its numbers prove what is missing."""
        row = FEEDS.get(self.feed)
        return row is not None and row.numbered

    @property
    def verdict(self) -> str:
        """What can be said of its completeness."""
        if self.missing:
            return "incomplete"
        if not self.auditable:
            return "not auditable"
        if self.unprovable or self.restarts or not self.messages:
            return "unprovable"
        return "complete" if self.is_numbered else "no outage"

    def add(self, gap: Gap) -> None:
        """One gap more."""
        if gap.missing is None:
            self.unprovable += 1
        elif gap.healed:
            self.healed += gap.missing
        else:
            self.missing += gap.missing
        if len(self.gaps) < GAPS_KEPT:
            self.gaps.append(gap)
        else:
            self.gaps_more += 1


class Audit:
    """Tapes, and what they hold.

    ``run`` reads them and gives now and then how many bytes it has read; after it ``tapes``
    and ``streams`` stand, and ``faults`` of the files that are no tapes, behind those that were
    there before. Raises OutputError for what cannot be read any more.
    """

    def __init__(self, paths: Sequence[Path], faults: Sequence[OutputError] = ()) -> None:
        self.tapes: list[Tape] = []
        self.faults = [*faults]
        self._readers: list[Reader] = []
        self._recordings: dict[int, _Recording] = {}
        for path in paths:
            tape = Tape(str(path), path.stat().st_size)
            self.tapes.append(tape)
            self._readers.append(Reader(path, damages=tape.damages))

    @property
    def streams(self) -> list[Stream]:
        """By feed, product and recording."""
        found = [each for of in self._recordings.values() for each in of.streams.values()]
        return sorted(found, key=lambda each: (each.feed, each.product or "", each.recording))

    def run(self) -> Iterator[int]:
        """Bytes read so far, of all files together."""
        tapes = dict(zip(self._readers, self.tapes, strict=True))
        for count, (number, reader, step) in enumerate(interleave(self._readers)):
            if number not in self._recordings:
                self._recordings[number] = _Recording(number)
            self._recordings[number].take(tapes[reader], step)
            if count % SAY_EVERY == 0:
                yield sum(each.position for each in self._readers)
        for reader, tape in tapes.items():
            _finish(tape, reader)
            if _is_no_tape(tape, reader):
                self.tapes.remove(tape)
                self.faults.append(no_tape(reader.path))
        for recording in self._recordings.values():
            recording.end()

    # What it adds up to

    @property
    def messages(self) -> int:
        return sum(each.messages for each in self.tapes)

    @property
    def missing(self) -> int:
        return sum(each.missing for each in self.streams)

    @property
    def lost_inside(self) -> int:
        """Broken lines, damaged frames, messages that are gone: what was there once."""
        return sum(each.broken + len(each.damages) + each.lost for each in self.tapes)

    @property
    def lost(self) -> int:
        """Messages that the tapes say they have, and have not."""
        return sum(each.lost for each in self.tapes)

    @property
    def verdict(self) -> str:
        """The worst that is to be said of any stream."""
        if self.lost_inside:
            return "incomplete"
        verdicts = {each.verdict for each in self.streams}
        if not self.messages and "incomplete" not in verdicts:
            return "nothing to audit"
        worst = ("incomplete", "not auditable", "unprovable", "no outage")
        return next((each for each in worst if each in verdicts), "complete")

    def report(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {
            "verdict": self.verdict,
            "missing": self.missing,
            "lost_inside": self.lost_inside,
            "unread": [each.message for each in self.faults],
            "tapes": [_fields(each, but=()) for each in self.tapes],
            "streams": [
                {**_fields(each, but=("gaps",)), "verdict": each.verdict} for each in self.streams
            ],
            "gaps": [
                {"recording": stream.recording, **_described(gap)}
                for stream in self.streams
                for gap in stream.gaps
            ],
        }


def _fields(row: Tape | Stream, *, but: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__ if name not in but}


def _described(gap: Gap) -> dict[str, Any]:
    fields = describe(gap) or {}
    return {key: value for key, value in fields.items() if key not in ("kfws", "at_ns")}


def _finish(tape: Tape, reader: Reader) -> None:
    tape.compression, tape.frames = reader.compression, reader.frames
    tape.torn_bytes, tape.is_cut = len(reader.torn), reader.is_cut
    tape.ended = tape.ended and not tape.is_torn


def _is_no_tape(tape: Tape, reader: Reader) -> bool:
    return tape.broken == tape.lines > 0 or (not tape.lines and not line.is_begun(reader.torn))


class _Recording:
    """What one recorder wrote: its streams, and what follows from their numbers."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.streams: dict[Key, Stream] = {}
        self._account = Account(goes_back=True)
        self._tape: Tape | None = None
        self._frame_ns = 0
        self._snapshots_pass = True
        self._auditable = True
        self._delays: dict[Key, Delays] = {}
        self._here: Counter[str] = Counter()
        """Of each tape, the lines since its last header that are messages or broken."""
        self._told: dict[Key, list[Gap]] = {}
        self._subscribed: dict[Key, None] = {}

    def take(self, tape: Tape, step: Step) -> None:
        """What the tape says next."""
        tape.recording = self.number
        if tape is not self._tape:
            self._tape = tape
            self._account.turn_to(Path(tape.path))
        tape.lines += len(step.frames) or 1
        if step.event is None:
            self._here[tape.path] += len(step.frames) or 1
        if not step.frames and step.event is None:
            _count_broken(tape, step.line)
            return
        tape.first_ns = min(step.at_ns, tape.first_ns or step.at_ns)
        tape.last_ns = max(step.at_ns, tape.last_ns or 0)
        if step.event is None:
            # What --redundancy or merge held back a moment stands behind what came after it.
            tape.set_back += step.at_ns < self._frame_ns - SET_BACK_NS
            self._frame_ns = step.at_ns
            self._frames(tape, step)
        else:
            self._own(tape, step.event)

    def _frames(self, tape: Tape, step: Step) -> None:
        tape.ended = False
        for event in self._account.frames(step.frames, step.at_ns):
            match event:
                case Data():
                    tape.messages += 1
                    self._message(event)
                case Duplicate():
                    tape.messages += 1
                    self._stream(event.feed, event.product).duplicates += 1
                case Broken():
                    _count_broken(tape, step.line + step.frames.index(event.payload))
                case _:
                    self._judge([event])
        # Once per batch, as while recording; a snapshot's time is that of its last change.
        if type(event) is Data and event.venue_ms is not None and event.kind == "delta":
            delays = self._delays.setdefault((event.feed, event.product), Delays())
            delays.add(event.received_ns // 1_000_000 - event.venue_ms)

    def _message(self, data: Data) -> None:
        stream = self._stream(data.feed, data.product)
        if not stream.messages:
            stream.first_ns = data.received_ns
        stream.messages += 1
        stream.last_ns = data.received_ns
        numbers: Sequence[int] = [] if data.seq is None else [data.seq]
        if data.kind == "snapshot":
            stream.snapshots += 1
            numbers = numbers or sorted(numbers_of(data))
        if not numbers:
            return
        if stream.first_seq is None:
            stream.first_seq = numbers[0]
        if stream.last_seq is None or numbers[-1] >= stream.last_seq or not stream.is_numbered:
            stream.last_seq = numbers[-1]
        else:
            stream.steps_back += data.kind == "delta"

    def _stream(self, feed: str, product: str | None) -> Stream:
        stream = self.streams.get((feed, product))
        if stream is None:
            stream = Stream(self.number, feed, product, auditable=self._auditable)
            self.streams[feed, product] = stream
        return stream

    # What is missing

    def _own(self, tape: Tape, event: Event) -> None:
        name = (describe(event) or {"kfws": "subscribed"})["kfws"]
        tape.events[name] += 1
        tape.connections += name == "opened"
        tape.ended = name in ("totals", CONTINUED)
        self._judge(self._account.own(event))
        match event:
            case Report(name="header", fields=fields):
                self._here[tape.path] = 0
                self._begin(tape, fields)
            case Report(fields={line.MESSAGES_HERE: int(said)}):
                tape.lost += max(0, said - self._here[tape.path])
            case Subscribed():
                keys = [(event.feed, product) for product in event.products or (None,)]
                self._subscribed |= dict.fromkeys(keys)
            case Gap():
                told = self._told.setdefault((event.feed, event.product), [])
                told += [event] if len(told) < GAPS_KEPT else []
            case Restart():
                self._restart(event)

    def _begin(self, tape: Tape, header: dict[str, Any]) -> None:
        tape.filter = chosen = header.get("filter")
        chosen = chosen if isinstance(chosen, dict) else {}
        self._auditable = self._auditable and not chosen.get("where")
        if (chosen.get("snapshots") is not False) != self._snapshots_pass:
            self._snapshots_pass = not self._snapshots_pass
            self._account = Account(snapshots_pass=self._snapshots_pass, goes_back=True)

    def _judge(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Gap) and self._auditable:
                self._stream(event.feed, event.product).add(event)
            elif isinstance(event, Restart) and self._auditable:
                self._restart(event)

    def _restart(self, event: Restart) -> None:
        stream = self._stream(event.feed, event.product)
        stream.restarts += 1
        stream.last_seq = None

    def end(self) -> None:
        """All is read: what is open is missing; what the recorder said is compared."""
        self._judge(self._account.lost(self._account.at_ns))
        self._add_silent()
        for key, told in self._told.items():
            self._compare(self._stream(*key), told)
        for key, stream in self.streams.items():
            if not self._told.get(key):
                stream.untold = stream.missing
            delays = self._delays.get(key, Delays())
            stream.delay_p50_ms, stream.delay_p99_ms = delays.percentile(50), delays.percentile(99)

    def _add_silent(self) -> None:
        """What was subscribed to and gave nothing is a stream all the same."""
        heard = {feed for feed, _ in self.streams}
        for feed, product in self._subscribed:
            # Without a product all of them are meant.
            if product is not None or feed not in heard:
                self._stream(feed, product)

    def _compare(self, stream: Stream, told: list[Gap]) -> None:
        found = _Spans(stream.gaps, stream)
        for gap in told:
            same = found.meeting(gap)
            if same is not None:
                same.cause = gap.cause
            elif not stream.auditable or _is_news(stream, gap):
                stream.add(gap)
        if stream.is_numbered and stream.auditable:
            spans = _Spans([each for each in told if each.last is not None], stream)
            stream.untold = sum(spans.uncovered(gap) for gap in found.gaps if not gap.healed)


class _Spans:
    """Gaps of a stream by what they span: numbers where these prove something, else time."""

    def __init__(self, gaps: Iterable[Gap], stream: Stream) -> None:
        self._is_numbered = stream.is_numbered
        self.gaps = sorted(gaps, key=self._span)
        self._begins = [self._span(each)[0] for each in self.gaps]

    def _span(self, gap: Gap) -> tuple[float, float]:
        if not self._is_numbered or gap.first is None:
            return gap.from_ns, gap.to_ns
        return gap.first, inf if gap.last is None else gap.last

    def meeting(self, gap: Gap) -> Gap | None:
        """One that says the same of a part of the same span."""
        first, last = self._span(gap)
        at = bisect_right(self._begins, last) - 1
        if at < 0 or self._span(self.gaps[at])[1] < first:
            return None
        same = self.gaps[at]
        return same if (same.missing is None) == (gap.missing is None) else None

    def uncovered(self, gap: Gap) -> int:
        """How many numbers of a gap are in none of these."""
        first, last = self._span(gap)
        count = 0
        # Those that begin ahead of it may reach into it: one of them, as a rule.
        at = max(0, bisect_right(self._begins, first) - 1)
        while at < len(self.gaps) and self._begins[at] <= last:
            begin, end = self._span(self.gaps[at])
            count += max(0, int(begin - first))
            first = max(first, end + 1)
            at += 1
        return count + max(0, int(last - first + 1))


def _is_news(stream: Stream, told: Gap) -> bool:
    """Whether the tape itself cannot show a gap of which the recorder told.

    Numbers between those on the tape prove themselves; numbers outside, intervals that no
    reconnect explains, and what a slow reader dropped are known from the recorder alone.
    """
    if not stream.is_numbered or told.first is None:
        return True
    if stream.first_seq is None or stream.last_seq is None:
        return True
    if told.last is None:
        return told.first > stream.last_seq
    return not stream.restarts and (told.last < stream.first_seq or told.first > stream.last_seq)


def _count_broken(tape: Tape, number: int) -> None:
    tape.broken += 1
    if len(tape.broken_lines) < LINES_KEPT:
        tape.broken_lines.append(number)
