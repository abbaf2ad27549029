"""Tapes, played again: the same events at the same distances, or faster.

Messages go through a Session as live ones do. What else happened stands on the tape in the
stream's own objects, and comes from there. The numbers are counted all the same: what is
missing and nobody named, as on a damaged tape, is named here.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from kfws.errors import KfwsError
from kfws.protocol.events import (
    Broken,
    Closed,
    Data,
    Event,
    Gap,
    Report,
    Subscribed,
)
from kfws.protocol.feeds import FEEDS
from kfws.tapes.files import Damage, Reader, last_ns, place_of
from kfws.tapes.recordings import CONTINUED, Account, Step, interleave
from kfws.tapes.tape import Tape

__all__ = ["Pace", "Replay"]

Key = tuple[str, str | None]
Say = Callable[[str, str], None]
"""Told a word for machines and a sentence for people."""

# Events in one batch; between batches the loop looks at signals and keys.
BATCH = 512
# Ranges of numbers that a tape named, of each stream: more than are ever looked for at once.
NAMED_KEPT = 256
# What a run says of itself: the run that plays the tape says its own.
FRAMING = frozenset({"header", "totals", CONTINUED})


# ── time ──


class Pace:
    """When it is time for what was recorded at a moment; ``speed`` None: at once.

    Times are seconds of any clock that only goes forward, moments those of the tapes, in ns.
    """

    def __init__(self, speed: float | None = 1.0) -> None:
        self.speed = speed
        self.is_paused = False
        self.is_stepping = False
        self._anchor: tuple[float, int] | None = None
        """A time, and the moment that was due then. All waits are from there, so that being
        late once makes nothing late that comes behind."""

    @property
    def is_free(self) -> bool:
        """Whether all is due at once."""
        return self.speed is None and not self.is_paused

    def wait_s(self, moment_ns: int, now: float) -> float:
        """How long until it is due; for ever while paused."""
        if self.is_paused:
            return 0.0 if self.is_stepping else math.inf
        if self.speed is None:
            return 0.0
        if self._anchor is None:
            self._anchor = now, moment_ns
        at, from_ns = self._anchor
        return at + (moment_ns - from_ns) / 1e9 / self.speed - now

    def pause(self, now: float) -> None:
        """Stands still, at once."""
        if self._anchor is not None and self.speed is not None and not self.is_paused:
            at, from_ns = self._anchor
            self._anchor = now, from_ns + round((now - at) * self.speed * 1e9)
        self.is_paused = True

    def go_on(self, now: float) -> None:
        """Plays on from where it stands."""
        self.is_paused = self.is_stepping = False
        if self._anchor is not None:
            self._anchor = now, self._anchor[1]

    def step(self, now: float) -> None:
        """Lets the next message through, and stands still behind it."""
        self.pause(now)
        self.is_stepping = True

    def stepped(self, moment_ns: int, now: float) -> None:
        """The message that was stepped to is through."""
        self.is_stepping = False
        self._anchor = now, moment_ns


# ── what a recording says ──


class _Recording:
    """What one recorder wrote, in events, and what is missing there that it did not name."""

    def __init__(self) -> None:
        self._account = Account()
        self._is_filtered = False
        self._named: dict[Key, deque[tuple[int, float]]] = {}

    def turn_to(self, path: Path) -> None:
        """Whose words come next."""
        self._account.turn_to(path)

    def take_absent(self) -> list[str]:
        """Sentences about files that should be before others, each once."""
        absent, self._account.absent = self._account.absent, []
        return absent

    def receive(self, step: Step) -> list[Event]:
        """The events of one step of its tapes."""
        if step.frames:
            events = self._account.frames(step.frames, step.at_ns)
            for event in events:
                if type(event) is not Data:
                    return self._checked(events)
            return events
        own = step.event
        if own is None:
            return [Broken(payload=step.broken, received_ns=step.at_ns, reason="no line of a tape")]
        if isinstance(own, Gap) and own.first is not None:
            last = math.inf if own.last is None else own.last
            named = self._named.setdefault((own.feed, own.product), deque(maxlen=NAMED_KEPT))
            named.append((own.first, last))
        found = self._checked(self._account.own(own))
        if isinstance(own, Report) and own.name in FRAMING:
            self._is_filtered |= own.fields.get("filter") is not None
            return found
        return [*found, own]

    def end(self) -> list[Event]:
        """What is still open when its tapes end."""
        return self._checked(self._account.lost(self._account.at_ns))

    def _checked(self, events: list[Event]) -> list[Event]:
        """The events, but of gaps what is missing for sure and was not named."""
        found: list[Event] = []
        for event in events:
            if not isinstance(event, Gap):
                found.append(event)
            elif event.missing is not None and not event.healed and not self._is_filtered:
                found += self._unnamed(event)
        return found

    def _unnamed(self, gap: Gap) -> Iterator[Gap]:
        if gap.first is None or gap.last is None:
            return
        first = gap.first
        for begin, end in sorted(self._named.get((gap.feed, gap.product), ())):
            if first < begin <= gap.last:
                yield _part(gap, first, begin - 1)
            if begin <= gap.last:
                first = max(first, int(min(end, gap.last)) + 1)
        if first <= gap.last:
            yield _part(gap, first, gap.last)


def _part(gap: Gap, first: int, last: int) -> Gap:
    return msgspec.structs.replace(gap, first=first, last=last, missing=last - first + 1)


# ── the source ──


class Replay:
    """Tapes as a source of batches of events, side by side where they overlap in time.

    ``feeds`` and ``products`` (any case) say what is passed on; empty: all. Played are the
    moments from ``from_ns`` on and before ``to_ns``. ``say`` is told of tapes that are torn or
    damaged, or hold the same stream twice. ``events`` may be iterated once.
    """

    def __init__(
        self,
        tapes: Sequence[Tape],
        *,
        say: Say,
        pace: Pace | None = None,
        feeds: Iterable[str] = (),
        products: Iterable[str] = (),
        from_ns: int | None = None,
        to_ns: int | None = None,
    ) -> None:
        self.pace = pace or Pace()
        self.on_failure: Callable[[KfwsError], None] | None = None
        self.left_out: Counter[str] = Counter()
        """Messages of each feed that was not asked for."""
        self._say = say
        self._feeds = frozenset(feeds)
        self._products = frozenset(each.lower() for each in products)
        self._from_ns = from_ns or 0
        self._to_ns = math.inf if to_ns is None else to_ns
        self._tapes = [tape for tape in tapes if tape.first_ns < self._to_ns]
        first_ns = min((each.first_ns for each in tapes), default=0)
        self._begin_ns = self._moment_ns = max(self._from_ns, first_ns)
        self._readers: list[Reader] = []
        self._damages: list[list[Damage]] = []
        """Of each reader, what is not told yet."""
        self._recordings: defaultdict[int, _Recording] = defaultdict(_Recording)
        self._streams: dict[Key, int] = {}
        """Which recording brings a stream."""
        self._told_twice: set[Key] = set()
        self._wake = asyncio.Event()
        self._is_left = False

    def now_ns(self) -> int:
        """The moment that is being played: the clock of whoever shows or writes it."""
        return self._moment_ns

    @property
    def share(self) -> float:
        """How much has been played, from 0 to 1: of the time, or of the bytes where the tapes
        do not tell in short when they end."""
        if self._end_ns is not None and self._end_ns > self._begin_ns:
            played = (self._moment_ns - self._begin_ns) / (self._end_ns - self._begin_ns)
        else:
            read = sum(reader.position for reader in self._readers)
            played = read / max(1, sum(tape.size for tape in self._tapes))
        return min(1.0, played)

    @cached_property
    def _end_ns(self) -> int | None:
        ends = last_ns(self._tapes[-1].path) if self._tapes else None
        return ends if ends is None else int(min(ends, self._to_ns))

    @property
    def buffered(self) -> int:
        """Nothing waits: it is read when it is due."""
        return 0

    # What a person does

    def toggle(self) -> None:
        """Pauses, or plays on."""
        (self.pace.go_on if self.pace.is_paused else self.pace.pause)(_now())
        self._wake.set()

    def step(self) -> None:
        """Plays the next message and stands still."""
        self.pace.step(_now())
        self._wake.set()

    def leave(self) -> None:
        """Ends the replay here."""
        self._is_left = True
        self._wake.set()

    # Events

    async def events(self) -> AsyncGenerator[list[Event]]:
        """Batches of events, each when it is due. Raises OutputError for what cannot be read."""
        batch: list[Event] = []
        for moment_ns, events in self._moments():
            if len(batch) >= BATCH or (batch and self._is_early(moment_ns)):
                yield batch
                batch = []
                await asyncio.sleep(0)
            if self._is_early(moment_ns):
                await self._until(moment_ns)
            if self._is_left:
                return
            self._moment_ns = moment_ns
            batch += events
            if self.pace.is_stepping and any(type(event) is Data for event in events):
                self.pace.stepped(moment_ns, _now())
        yield batch

    def rest(self, patience_s: float | None = None) -> Iterator[list[Event]]:
        """Nothing comes but by ``events``."""
        return iter(())

    def _is_early(self, moment_ns: int) -> bool:
        return not self.pace.is_free and self.pace.wait_s(moment_ns, _now()) > 0

    async def _until(self, moment_ns: int) -> None:
        while not self._is_left and (wait_s := self.pace.wait_s(moment_ns, _now())) > 0:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), None if wait_s == math.inf else wait_s)
            except TimeoutError:
                pass

    def _moments(self) -> Iterator[tuple[int, list[Event]]]:
        """What was recorded, step by step, and its moment."""
        moment_ns = self._moment_ns
        last = Step(0, 0, [])
        for number, path, step in self._steps():
            # A clock that was set back does not change the order of what is on a tape.
            if step.at_ns > moment_ns:
                moment_ns = step.at_ns
            if moment_ns >= self._to_ns:
                break
            if step.at_ns < self._from_ns:
                continue
            if step.event is None:
                yield moment_ns, self._wanted(self._recordings[number].receive(step))
            elif step.event != last.event:
                self._look_at_streams(number, step.event)
                recording = self._recordings[number]
                recording.turn_to(path)
                yield moment_ns, self._wanted(recording.receive(step))
                for sentence in recording.take_absent():
                    self._say("absent", sentence)
            last = step
        ends = [event for each in self._recordings.values() for event in each.end()]
        yield moment_ns, self._wanted(ends)

    def _steps(self) -> Iterator[tuple[int, Path, Step]]:
        for tape in self._tapes:
            start = self._start(tape)
            if start is not None:
                self._damages.append([])
                self._readers.append(Reader(tape.path, start=start, damages=self._damages[-1]))
        for number, reader, step in interleave(self._readers):
            self._tell_damages()
            yield number, reader.path, step
        self._tell_damages()
        for reader in self._readers:
            self._tell_if_torn(reader)

    def _start(self, tape: Tape) -> int | None:
        """Where to begin to read a tape; None where it ends before that."""
        if tape.first_ns >= self._from_ns:
            return 0
        return place_of(tape.path, self._from_ns)

    def _tell_damages(self) -> None:
        if not any(self._damages):
            return
        for reader, damages in zip(self._readers, self._damages, strict=True):
            for damage in damages:
                what = f"bytes {damage.start:,} to {damage.end:,} cannot be read"
                self._say("damaged", f"{reader.path} is damaged: {what}; played on behind them")
            damages.clear()

    def _tell_if_torn(self, reader: Reader) -> None:
        if reader.torn:
            what = f"within a line: its end of {len(reader.torn):,} B is left out"
            self._say("torn", f"{reader.path} ends {what}")
        elif reader.is_cut:
            what = "within a compressed frame: what was recorded last may be missing"
            self._say("torn", f"{reader.path} ends {what}")

    def _look_at_streams(self, number: int, event: Event) -> None:
        """Two recordings of one stream are played as they are: every message comes twice."""
        if isinstance(event, Closed):
            self._streams = {key: held for key, held in self._streams.items() if held != number}
        elif isinstance(event, Subscribed):
            for product in event.products or (None,):
                key = event.feed, product
                if self._streams.setdefault(key, number) != number and key not in self._told_twice:
                    self._told_twice.add(key)
                    what = f"two recordings of {event.feed} {product or ''}".rstrip()
                    hint = "its messages come twice; `kfws merge` makes one tape of them"
                    self._say("twice", f"{what} overlap: {hint}")

    # What is passed on

    def _wanted(self, events: list[Event]) -> list[Event]:
        if not self._feeds and not self._products:
            return events
        return [event for event in events if self._wants(event)]

    def _wants(self, event: Event) -> bool:
        feed = getattr(event, "feed", None)
        if feed is None:
            return True
        if self._feeds and feed not in self._feeds:
            self.left_out[feed] += type(event) is Data
            return False
        if not self._products or (feed in FEEDS and FEEDS[feed].private):
            return True  # which orders and fills are about a product is not said here
        if isinstance(event, Subscribed):
            return any(each.lower() in self._products for each in event.products)
        product = getattr(event, "product", None)
        return product is None or product.lower() in self._products


def _now() -> float:
    return asyncio.get_running_loop().time()
