"""Tapes as recordings: what one recorder wrote, file after file, and several of them by time.

A recording is audited as a run is: by the same Session and Sequences, driven by the tape's
own words instead of a connection.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kfws.protocol import wire
from kfws.protocol.events import (
    Closed,
    Data,
    Event,
    Opened,
    Report,
    Restart,
    Silent,
    Subscribed,
    restore,
)
from kfws.protocol.feeds import base_name
from kfws.protocol.sequence import Sequences
from kfws.protocol.session import Session
from kfws.tapes import line
from kfws.tapes.files import Reader, first_ns
from kfws.tapes.line import Frame
from kfws.tapes.names import OPEN

__all__ = ["CONTINUED", "Account", "Step", "data_of", "header_of", "interleave", "steps"]

CONTINUED = "continued"
"""The last event of a file that is followed by another one of the same run."""

# Gaps are judged late: a message that came late while recording is on the tape all the same,
# however late the recorder itself looked.
TICK_NS = 10_000_000_000


# So many lines between a header and the first message behind it are held until that is read.
HEAD_MOST = 1000


class Step(NamedTuple):
    """What a tape says at one moment: frames that came together, one event, or a broken line."""

    at_ns: int
    line: int
    """Number of the first line, from 1 on."""
    frames: list[bytes]
    event: Event | None = None
    """Of the stream's own; None of frames, and of a line that is neither."""
    broken: bytes = b""
    """Such a line."""


def steps(reader: Reader) -> Iterator[Step]:
    """A tape step by step, in its order. A broken line has the moment of the line before it,
    and what stands between a header and the first message behind it is no later than that."""
    at_ns = number = 0
    head: list[Step] = []
    for batch in reader.batches():
        frames: list[bytes] = []
        for text in batch:
            number += 1
            try:
                found = line.read(text)
                event = None if isinstance(found, Frame) else restore(found)
            except ValueError:
                found, event = None, None
            if head and (isinstance(found, Frame) or len(head) == HEAD_MOST):
                yield from _in_time(head, found.received_ns if isinstance(found, Frame) else None)
                head = []
            if isinstance(found, Frame) and (not frames or found.received_ns == at_ns):
                at_ns = found.received_ns
                frames.append(found.payload)
                continue
            if frames:
                yield Step(at_ns, number - len(frames), frames)
                frames = []
            if isinstance(found, Frame):
                at_ns = found.received_ns
                frames.append(found.payload)
                continue
            if event is not None:
                at_ns = moment_of(event)
            step = Step(at_ns, number, [], event, text if event is None else b"")
            if head or _is_header(event):
                head.append(step)
            else:
                yield step
        if frames:
            yield Step(at_ns, number + 1 - len(frames), frames)
    yield from head


def _is_header(event: Event | None) -> bool:
    return isinstance(event, Report) and event.name == "header"


def _in_time(head: list[Step], message_ns: int | None) -> Iterator[Step]:
    """With a moment that was far ahead of the message's set back to it: the clock was wrong when
    the run began, and time shall not stand still for all that comes."""
    for step in head:
        if message_ns is not None and step.at_ns > message_ns + line.AHEAD_NS:
            event = step.event and msgspec.structs.replace(step.event, received_ns=message_ns)
            step = step._replace(at_ns=message_ns, event=event)
        yield step


def data_of(payload: bytes, received_ns: int) -> Data | None:
    """The message of a recorded frame, without judging it; None if it is none."""
    data = wire.read_typed(payload) or wire.read_head(payload)
    if not isinstance(data, Data) or not data.feed:
        return None
    data.payload, data.received_ns = payload, received_ns
    data.feed, is_snapshot = base_name(data.feed)
    data.kind = "snapshot" if is_snapshot else "delta"
    data.venue_ms = data.venue_ms or data.timestamp
    return data


def header_of(path: Path) -> dict[str, Any]:
    """What a tape says of itself in its first line; nothing where it does not."""
    first = next(steps(Reader(path, damages=[])), None)
    event = first.event if first is not None else None
    return event.fields if isinstance(event, Report) and event.name == "header" else {}


def moment_of(event: Event) -> int:
    """When an event of a tape was: all of them have ``received_ns``."""
    at_ns: int = event.received_ns  # type: ignore[attr-defined]
    return at_ns


# ── several recordings by time ──


class _Recorder:
    """Who wrote one file after the other."""

    def __init__(self, number: int, path: Path) -> None:
        self.number = number
        self.path = path
        self.at_ns = 0


def interleave(readers: Sequence[Reader]) -> Iterator[tuple[int, Reader, Step]]:
    """The steps of several tapes by time, each with the number of its recording.

    A tape that begins when another has ended goes on with that recording: the one whose file
    name is the most like its own. Tapes that overlap are of different recordings.
    """
    begins = {reader: first_ns(reader.path) or 0 for reader in readers}
    pending = sorted(readers, key=lambda each: (begins[each], each.path), reverse=True)
    free: list[_Recorder] = []
    heap: list[tuple[int, int, Step, Reader, Iterator[Step]]] = []
    recorders: dict[Reader, _Recorder] = {}
    numbers = itertools.count(1)
    while heap or pending:
        if pending and (not heap or heap[0][0] > begins[pending[-1]]):
            reader = pending.pop()
            recorder = recorders[reader] = _recorder(reader.path, free, numbers)
            rest = steps(reader)
        else:
            _, number, step, reader, rest = heapq.heappop(heap)
            yield number, reader, step
            recorder = recorders[reader]
        others = [begins[each] for each in pending[-1:]] + [each[0] for each in heap[:1]]
        until = min(others, default=inf)
        for step in rest:
            # A clock that was set back does not change the order of a tape.
            at_ns = recorder.at_ns = max(recorder.at_ns, step.at_ns)
            if at_ns > until:
                heapq.heappush(heap, (at_ns, recorder.number, step, reader, rest))
                break
            yield recorder.number, reader, step
        else:
            free.append(recorder)


def _recorder(path: Path, free: list[_Recorder], numbers: Iterator[int]) -> _Recorder:
    """Who wrote this tape: the free one whose last is called the most like it, else another."""
    if not free:
        return _Recorder(next(numbers), path)
    found = max(free, key=lambda each: _alike(each.path, path))
    free.remove(found)
    found.path = path
    return found


def _alike(path: Path, other: Path) -> int:
    """How many characters of the names are the same at the beginning."""
    pairs = zip(str(path), str(other), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


# ── one recording ──


class Account:
    """What a recording proves: the audit of a run, made from its tape.

    ``frames`` and ``own`` take what the tape says in its order and give what follows from it:
    the messages, and gaps, duplicates and restarts ahead of them. ``goes_back``: tapes that
    follow each other by time may overlap by number, if clocks were wrong.
    """

    def __init__(self, *, snapshots_pass: bool = True, goes_back: bool = False) -> None:
        self._sequences = Sequences(snapshots_pass=snapshots_pass, goes_back=goes_back)
        self._session = Session([], sequences=self._sequences, resync=False)
        self._connections: set[int] = set()
        self._was_lost = False
        self._continued_ns: int | None = None
        self._path: Path | None = None
        self._previous = ""
        """Name of the file before this one: what a file that goes on with another says is
        compared with it."""
        self.absent: list[str] = []
        """Sentences about files that should be before others, and are not."""
        self._ticked_ns = 0
        self.at_ns = 0
        """The latest moment so far."""
        self._frame_ns = 0

    def turn_to(self, path: Path) -> None:
        """Whose words come next."""
        if path is not self._path:
            self._previous = self._path.name.removesuffix(OPEN) if self._path else ""
            self._path = path

    @property
    def is_connected(self) -> bool:
        """Whether a connection stands, or may have stood when the tape began."""
        return bool(self._connections) or not self._was_lost

    def frames(self, payloads: list[bytes], at_ns: int) -> list[Event]:
        """Frames that came together."""
        self.at_ns = max(self.at_ns, at_ns)
        self._frame_ns = at_ns
        self._was_lost = False
        events: list[Event] = []
        if self.at_ns - self._ticked_ns >= TICK_NS:
            self._ticked_ns = self.at_ns
            events = self._sequences.tick(self.at_ns, self.at_ns)
        return [*events, *self._session.receive(payloads, at_ns)]

    def own(self, event: Event) -> list[Event]:
        """One of the stream's own events."""
        at_ns = moment_of(event)
        self.at_ns = max(self.at_ns, at_ns)
        continued_ns, self._continued_ns = self._continued_ns, None
        match event:
            case Report(name=name) if name == CONTINUED:
                self._continued_ns = at_ns
            case Report(name="header", fields=fields):
                # Another file of the same run; else whoever wrote is gone, and said nothing, or
                # a file between the two is.
                named = fields.get("continues")
                is_gone = bool(named and self._previous and named != self._previous)
                if continued_ns == at_ns:
                    is_gone = False  # it was moved away (logrotate), and this took its place
                if is_gone and self._path is not None:
                    which = f"another {named}" if named == self._path.name else named
                    self.absent.append(f"{self._path} goes on with {which}, which is not here")
                if is_gone or (continued_ns is None and not named):
                    return self.lost(at_ns)
                self._connections.clear()  # those that stand are told again
            case Opened():
                self._connections.add(event.connection)
                self._was_lost = False
            case Closed():
                self._connections.discard(event.connection)
                # With --redundancy others may stand; the recorder told what was lost then.
                return [] if self._connections else self.lost(at_ns)
            case Subscribed():
                # At the head of a file stands what was acknowledged long ago.
                heard_ns = max(at_ns, self._frame_ns)
                return [
                    gap
                    for product in event.products or (None,)
                    for gap in self._sequences.acknowledged(event.feed, product, heard_ns)
                ]
            case Silent(feed=feed) if feed != "heartbeat":
                self._sequences.doubt(feed, event.product)
            case Restart():
                self._sequences.restarted(event.feed, event.product)
        return []

    def lost(self, at_ns: int) -> list[Event]:
        """There is no connection any more, or no recorder; nothing can be late now."""
        self._connections.clear()
        self._was_lost = True
        return self._sequences.lost(self._frame_ns, max(at_ns, self._frame_ns), "outage")
