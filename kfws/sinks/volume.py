"""The files of one output that follow each other: of all it gets, or of one feed and product."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any, Literal, NamedTuple, Protocol

from kfws.errors import DiskFull, InUse, OutputError
from kfws.protocol.events import Closed, Data, Event, Opened, Report, Subscribed
from kfws.protocol.feeds import NUMBERED
from kfws.protocol.sequence import gap_of
from kfws.sinks.file import FileSink, cannot_write, rename
from kfws.tapes import names
from kfws.tapes.files import Compression
from kfws.tapes.line import MESSAGES_HERE
from kfws.tapes.names import OPEN, Template

__all__ = ["ALL", "Encoder", "Keeping", "Key", "Story", "Tell", "Volume", "moment"]

ALL = "all"
"""The ``{product}`` of what concerns no single one."""

ROOM_BYTES = 64 << 10
"""With less a disk would be full again at once."""

Tell = Callable[[str, str], None]
"""Gets a code and a sentence for a person."""


class Encoder(Protocol):
    """Batches of events → bytes."""

    def encode(self, events: Sequence[Event]) -> bytes | bytearray: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How an output is kept. Lengths of time in nanoseconds, sizes in bytes; None: not at all."""

    template: Template
    feeds: tuple[str, ...] = ("",)
    compression: Compression | None = None
    overwrite: bool = False
    is_tape: bool = False
    rotate_ns: int | None = None
    rotate_bytes: int | None = None
    sync_ns: int | None = 1_000_000_000
    """How long lines wait to be forced to disk; 0: not at all; None: until the file is
    complete."""
    keep_ns: int | None = None
    keep_bytes: int | None = None
    on_disk_full: Literal["exit", "wait"] = "exit"
    held_bytes: int = 16 << 20
    """How many lines wait in memory for room on the disk; more are lost, and named."""

    @property
    def rotates(self) -> bool:
        return self.rotate_ns is not None or self.rotate_bytes is not None

    @property
    def splits(self) -> bool:
        return bool({"feed", "product"} & self.template.fields)


class Key(NamedTuple):
    """What the files of a volume have in common; empty where their names do not say it."""

    feed: str
    product: str

    def is_concerned_by(self, event: Event) -> bool:
        """Whether an event that names a feed or products, or neither, is about these files."""
        feed = getattr(event, "feed", None)
        product = getattr(event, "product", None)
        products = getattr(event, "products", (product,) if product else ())
        return (not self.feed or feed is None or feed == self.feed) and (
            not self.product or not products or self.product in products
        )


class Story:
    """What a file that begins now must say of what came before: the run's header, which
    connections stand, and what is subscribed to."""

    def __init__(self) -> None:
        self.header: Report | None = None
        self._connections: dict[int, Opened] = {}
        self._subscribed: dict[tuple[str, tuple[str, ...]], Subscribed] = {}

    def see(self, events: Sequence[Event]) -> None:
        for event in [each for each in events if type(each) is not Data]:
            match event:
                case Opened():
                    self._connections[event.connection] = event
                case Closed():
                    self._connections.pop(event.connection, None)
                    if not self._connections:
                        self._subscribed.clear()
                case Subscribed(quiet=False):
                    self._subscribed[event.feed, event.products] = event

    def of(self, key: Key) -> list[Event]:
        events: list[Event] = [*self._connections.values(), *self._subscribed.values()]
        return [event for event in events if key.is_concerned_by(event)]


class Volume:
    """One file after the other. ``begin`` writes the head of a file where none has begun,
    ``finish`` its end; ``write`` does both as its size demands. All raise OutputError."""

    def __init__(
        self, keeping: Keeping, key: Key, encoder: Encoder, story: Story, tell: Tell
    ) -> None:
        self._keeping = keeping
        self._key = key
        self._encoder = encoder
        self._story = story
        self._tell = tell
        self._columns = bytes(encoder.encode([]))
        """What each csv begins with."""
        self._file: FileSink | None = None
        self._path: Path | None = None
        """The file that is being written; while it rests it is not open."""
        self._final: Path | None = None
        self._previous: str | None = None
        self._number = 0
        self._messages = 0
        """Since the last header, but for those that a full disk cost."""
        self._began_ns = 0
        self._size = 0
        self._is_torn = False
        self._unwritten = b""
        self._want: _Want | None = None
        self._has_finished = False
        self.has_begun = False

    @property
    def is_open(self) -> bool:
        return self._file is not None

    @property
    def size(self) -> int:
        """Bytes of the file that is being written."""
        if self._path is None:
            return 0
        return self._file.size if self._file is not None else self._size

    @property
    def lines_lost(self) -> int:
        return self._unwritten.count(b"\n") + (self._want.lines if self._want else 0)

    def forget_finished(self) -> bool:
        """Whether a file was finished since this was asked last."""
        finished, self._has_finished = self._has_finished, False
        return finished

    def hand_over(self) -> int | None:
        descriptor = self._file.hand_over() if self._file is not None else None
        if descriptor is not None:
            self._file = self._path = None
        return descriptor

    # ── one file ──

    def open(self, now_ns: int) -> None:
        """A file without a line yet; nothing where there is one."""
        if self._file is not None:
            return
        if self._path is not None:
            file = FileSink(
                self._path,
                compression=self._keeping.compression,
                append=not self._is_torn,
                own=self._is_torn,
            )
        else:
            file = self._named(now_ns)
        file.open()
        self._file, self._path = file, file.path
        if file.torn_bytes:
            self._tell(
                "torn",
                f"{file.path} was torn: its end of {file.torn_bytes:,} B is in "
                f"{file.torn_path} now, its whole lines stay",
            )

    def _named(self, now_ns: int) -> FileSink:
        """The next file of the volume."""
        keeping, (feed, product) = self._keeping, self._key
        if self._number == 0:
            self._number = keeping.template.highest(feed or keeping.feeds[0], product)
            if keeping.rotates:
                self._keep_second_writer_out()
        self._number += 1
        path = keeping.template.path(feed, product, now_ns, self._number)
        if path.parent != keeping.template.folder:
            _make_folder(path.parent)
        if not keeping.rotates:
            return FileSink(
                path,
                compression=keeping.compression,
                overwrite=keeping.overwrite,
                tape=keeping.is_tape,
            )
        self._final = names.free(path)
        return FileSink(names.opened(self._final), compression=keeping.compression)

    def _keep_second_writer_out(self) -> None:
        """What a crash left of this volume has been taken up, so what is open is another's."""
        feeds = (self._key.feed,) if self._key.feed else self._keeping.feeds
        template = self._keeping.template
        for path in template.found(feeds, product=self._key.product, ending=OPEN):
            raise InUse(f"another program writes to {path}", hint="end it, or choose another name")

    def begin(self, at_ns: int) -> None:
        """The head of a file: what it needs to be understood by itself. ``at_ns``: the moment
        of what it begins with; files stand in the order of these moments."""
        if self.has_begun:
            return
        self.has_begun = True
        now_ns = self._began_ns = max(at_ns, self._began_ns + 1)
        self._messages = 0
        head = self._columns
        if self._keeping.is_tape:
            head = bytes(self._encoder.encode([*self._header(now_ns), *self._story.of(self._key)]))
        self._put(head, (), now_ns)

    def _header(self, now_ns: int) -> Iterator[Event]:
        header = self._story.header
        if header is None:
            return
        if self._previous is None:
            yield header
        else:
            fields = header.fields | {"continues": self._previous}
            yield Report(received_ns=now_ns, name="header", fields=fields)

    def write(self, events: Sequence[Event], now_ns: int) -> None:
        """A batch. A file that has its size ends ahead of it."""
        most = self._keeping.rotate_bytes
        if most is not None and self._messages and self.size >= most and events:
            at_ns = moment(events[0])
            if self.finish(at_ns):
                self.begin(at_ns)
        last = events[-1] if events and self._keeping.is_tape else None
        if type(last) is not Report or last.name != "totals":
            self._take(events, now_ns)
            return
        try:
            self._take(events[:-1], now_ns)
        except OutputError:
            self._unwritten += self._encoder.encode([last])
            raise
        self._take([self._end(last.received_ns, last.name, last.fields)], now_ns)

    def _take(self, events: Sequence[Event], now_ns: int) -> None:
        self._messages += sum([type(event) is Data for event in events])
        self._put(bytes(self._encoder.encode(events)), events, now_ns)

    def _end(self, at_ns: int, name: str, fields: dict[str, Any]) -> Report:
        """The last line of a run in a file. It counts the messages since the header, so that
        whoever reads the tape knows when there were more."""
        here = self._messages - (self._want.lost if self._want else 0)
        return Report(received_ns=at_ns, name=name, fields=fields | {MESSAGES_HERE: here})

    def sync(self, now_ns: int) -> None:
        """Forces what was written to disk."""
        if self._file is not None:
            self._attempt(partial(self._file.sync, now_ns))

    def rest(self) -> None:
        """Closes the file until there is more for it."""
        if self._file is not None and self._attempt(self._file.close):
            self._size, self._file = self._file.size, None

    def finish(self, now_ns: int) -> bool:
        """Completes the file; there will be another. False: there was none, or the disk is full."""
        if not self.has_begun or self._want is not None:
            return False
        if self._keeping.is_tape:
            self._put(bytes(self._encoder.encode([self._end(now_ns, "continued", {})])), (), now_ns)
        return self._complete()

    def reopen(self, now_ns: int) -> bool:
        """Whether the file ends here since it was moved or deleted, or is one of a rotation; what
        comes next goes to a new one under the name that it had."""
        if self._path is None or not (self._keeping.rotates or self._was_moved(self._path)):
            return False
        if self._file is None and not self._keeping.rotates:
            # It rests, and whatever took its place is not ours to end.
            self._path, self.has_begun = None, False
            return True
        return self.finish(now_ns)

    def _was_moved(self, path: Path) -> bool:
        return self._file.was_moved if self._file is not None else not path.exists()

    def _complete(self) -> bool:
        if self._want is not None or not self._attempt(self._close):
            if self._want is not None:
                self._want.is_end = True
            return False
        self._previous = self._path.name if self._path is not None else None
        self._file = self._path = self._final = None
        self._has_finished, self.has_begun = True, False
        return True

    def _close(self) -> None:
        if self._file is not None:
            self._file.close(self._final)
            self._path = self._file.path
        elif self._path is not None and self._final is not None:
            try:
                self._path = rename(self._path, self._final)
            except OSError as error:
                raise cannot_write(self._path, error) from error

    def close(self, now_ns: int) -> None:
        """Completes the file; there will be no other. Nothing is left where nothing was written."""
        if self._want is not None:
            self.try_again(now_ns, is_last=True)
        if self._want is not None:
            raise self._want.error
        if self.has_begun:
            self._complete()
        elif self._file is not None:
            self._file.close()
            if self._final is not None:
                self._file.path.unlink(missing_ok=True)
            self._file = None

    # ── a disk that is full ──

    def _put(self, text: bytes, events: Sequence[Event], now_ns: int) -> None:
        if self._want is not None:
            self._want.add(text, events, self._encoder)
        elif text:
            self._attempt(partial(self._store, text, now_ns), text)

    def _store(self, text: bytes, now_ns: int) -> None:
        self.open(now_ns)
        assert self._file is not None  # noqa: S101  # it was opened
        self._file.write(text, now_ns)

    def _attempt(self, step: Callable[[], object], text: bytes = b"") -> bool:
        """Whether the step succeeded. Where it did not, all that is in no file is kept: to be
        written when there is room, or to be counted. ``text`` is what the step would write."""
        try:
            step()
            return True
        except OutputError as error:
            unwritten = self._file.unwritten if self._file is not None else text
            if self._file is not None:
                self._size, self._is_torn = self._file.size, self._file.is_torn
                self._file = None
            if self._keeping.on_disk_full == "exit" or not isinstance(error, DiskFull):
                self._unwritten += unwritten
                self.has_begun = False  # there is no file any more that could be completed
                raise
            if self._want is None:
                self._tell("disk-full", f"{error.message}; waiting for room (--on-disk-full wait)")
                folder = self._path.parent if self._path else self._keeping.template.folder
                self._want = _Want(error, folder, self._keeping.held_bytes)
            self._want.held = bytearray(unwritten)
            return False

    def try_again(self, now_ns: int, *, is_last: bool = False) -> None:
        """Looks whether the disk has room again, where it had none."""
        want = self._want
        if want is None or (not is_last and disk_usage(want.folder).free < ROOM_BYTES):
            return
        text = bytes(want.held)
        if not self._attempt(partial(self._store, text, now_ns), text):
            return
        self._want = None
        self._messages -= want.lost
        self._tell("room", f"there is room again: {self._path}; {want.loss}")
        self._put(bytes(self._encoder.encode(want.gaps(now_ns))), (), now_ns)
        if want.is_end:
            self._complete()


def moment(event: Event) -> int:
    """When an event came."""
    at_ns: int = event.received_ns  # type: ignore[attr-defined]  # every kind of event has it
    return at_ns


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


@dataclass(slots=True)
class _Run:
    """Messages in a row that were lost."""

    first: int | None
    last: int | None
    count: int
    from_ns: int
    to_ns: int


@dataclass(slots=True)
class _Want:
    """What a full disk keeps from being written: lines that are held, and messages beyond."""

    error: DiskFull
    folder: Path
    most: int
    """Bytes that may be held."""
    held: bytearray = field(default_factory=bytearray)
    is_end: bool = False
    """Whether the file is complete when this is written."""
    is_losing: bool = False
    runs: dict[tuple[str, str | None, bool], list[_Run]] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        return sum(run.count for runs in self.runs.values() for run in runs)

    @property
    def lines(self) -> int:
        return self.held.count(b"\n") + self.lost

    @property
    def loss(self) -> str:
        if not self.lost:
            return "nothing was lost"
        return f"{self.lost:,} message{'s' if self.lost != 1 else ''} lost, named on the tape"

    def add(self, text: bytes, events: Sequence[Event], encoder: Encoder) -> None:
        """Holds lines as long as there is room in memory; then only what is no message."""
        if not self.is_losing and len(self.held) + len(text) <= self.most:
            self.held += text
            return
        self.is_losing = True
        for event in events:
            if type(event) is Data:
                self._lose(event)
            else:
                self.held += encoder.encode([event])

    def _lose(self, data: Data) -> None:
        numbered = data.feed in NUMBERED and data.kind == "delta"
        seq = data.seq if numbered else None
        runs = self.runs.setdefault((data.feed, data.product, seq is not None), [])
        if runs and (seq is None or seq - 1 == runs[-1].last):
            runs[-1].last, runs[-1].to_ns = seq, data.received_ns
            runs[-1].count += 1
        else:
            runs.append(_Run(seq, seq, 1, data.received_ns, data.received_ns))

    def gaps(self, now_ns: int) -> list[Event]:
        """What was lost, by number where it has one."""
        return [
            gap_of(
                (feed, product),
                now_ns,
                run.first,
                run.last,
                run.count,
                "disk-full",
                run.from_ns,
                run.to_ns,
            )
            for (feed, product, _), runs in self.runs.items()
            for run in runs
        ]
