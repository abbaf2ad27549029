"""One output of ``-o`` as files: one after the other, and side by side.

The rule of this room: a file has its final name when it is complete and not before; whatever
cannot be kept is named on the tape itself. Time is handed in; nothing here knows a loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kfws.errors import InUse, OutputError
from kfws.protocol.events import Data, Event, Gap, Report
from kfws.sinks.file import FileSink
from kfws.sinks.volume import ALL, Encoder, Keeping, Key, Story, Tell, Volume, moment
from kfws.tapes.names import OPEN

__all__ = ["Encoder", "Keeping", "Shelf"]

OPEN_MOST = 200
"""Files that are held open at once: less than the 256 that macOS allows a process, and Linux
allows more. Beyond, each file that goes on costs another that is completed on disk."""

GRACE_NS = 250_000_000
"""A file ends so long after its edge when nothing comes: what came ahead of the edge may
still be on its way through the program, and belongs into it."""

LOOK_EVERY_NS = 1_000_000_000
"""How often a full disk is tried again, and files that are too old are looked for."""


class Shelf:
    """All files of one output. ``tell(code, sentence)`` gets what a person should know.

    ``open`` before the run connects, ``write`` batches, ``tick`` when ``patience_ns`` is over,
    ``close`` at the end. All raise OutputError, after which only ``close`` is called;
    ``lines_lost`` then says how many lines are in no file.
    """

    def __init__(
        self,
        keeping: Keeping,
        encoder: Callable[[str], Encoder],
        tell: Tell = lambda code, sentence: None,
    ) -> None:
        self.name = keeping.template.text
        self._keeping = keeping
        self._encoder = encoder
        self._tell = tell
        self._volumes: OrderedDict[Key, Volume] = OrderedDict()
        """The one that was written last stands last."""
        self._story = Story()
        self._edge_ns: int | None = None
        self._synced_ns = self._looked_ns = 0

        self._lines_lost = 0

    @property
    def lines_lost(self) -> int:
        return self._lines_lost + sum(volume.lines_lost for volume in self._volumes.values())

    def lose(self, events: Sequence[Event]) -> None:
        """Counts what nobody writes any more."""
        encoder = self._encoder(self._keeping.feeds[0])
        self._lines_lost += encoder.encode(events).count(b"\n")

    # ── when ──

    def open(self, now_ns: int) -> None:
        """Takes up what a crash left; opens the file, where there is but one."""
        keeping = self._keeping
        self._synced_ns = self._looked_ns = now_ns
        if keeping.rotate_ns is not None:
            self._edge_ns = _after(now_ns, keeping.rotate_ns)
        folder = keeping.template.folder
        if keeping.template.fields and not folder.is_dir():
            raise OutputError(
                f"cannot write {self.name}: there is no folder {folder}",
                hint=f"make it: mkdir -p {folder}",
            )
        if keeping.rotates:
            self._take_up()
            self._prune(now_ns)
        if not keeping.splits:
            self._volume(Key("", "")).open(now_ns)

    def hand_over(self) -> int | None:
        """The descriptor of a plain FIFO or device, which may block: no more ours. Else None."""
        volume = self._volumes.get(Key("", ""))
        return volume.hand_over() if volume else None

    def write(self, events: Sequence[Event], now_ns: int) -> None:
        """A batch, parted where the edge of a rotation falls into it."""
        edge_ns = self._edge_ns
        if edge_ns is not None and events and moment(events[-1]) >= edge_ns:
            at = next(at for at, each in enumerate(events) if moment(each) >= edge_ns)
            self._write(events[:at], now_ns)
            self._turn(edge_ns, now_ns)
            events = events[at:]
        self._write(events, now_ns)
        if self._keeping.sync_ns == 0:
            self._sync(now_ns)

    def tick(self, now_ns: int) -> None:
        """What is due now: an edge, a sync, another try at a full disk, files that are too old."""
        if self._edge_ns is not None and now_ns >= self._edge_ns + GRACE_NS:
            self._turn(self._edge_ns, now_ns)
        if self._sync_at_ns is not None and now_ns >= self._sync_at_ns:
            self._sync(now_ns)
        if now_ns - self._looked_ns >= LOOK_EVERY_NS:
            self._looked_ns = now_ns
            for volume in self._volumes.values():
                volume.try_again(now_ns)
            self._prune_if_due(now_ns)

    def reopen(self, now_ns: int) -> None:
        """Goes on in new files where the old ones were moved away; all where they rotate."""
        for volume in self._volumes.values():
            if volume.reopen(now_ns) and not self._keeping.splits:
                volume.begin(now_ns)

    @property
    def _sync_at_ns(self) -> int | None:
        """A tenth of the time is left for what is on its way to us, and for the disk."""
        sync_ns = self._keeping.sync_ns
        return self._synced_ns + sync_ns * 9 // 10 if sync_ns else None

    def patience_ns(self, now_ns: int) -> int:
        """How long from now until something may be due."""
        due = [self._looked_ns + LOOK_EVERY_NS]
        if self._edge_ns is not None:
            due.append(self._edge_ns + GRACE_NS)
        if self._sync_at_ns is not None:
            due.append(self._sync_at_ns)
        return max(0, min(due) - now_ns)

    def close(self, now_ns: int) -> None:
        """Completes all files, whatever becomes of one of them."""
        failure: OutputError | None = None
        for volume in self._volumes.values():
            try:
                volume.close(now_ns)
            except OutputError as error:
                failure = failure or error
        self._prune_if_due(now_ns)
        if failure is not None:
            raise failure

    def _sync(self, now_ns: int) -> None:
        self._synced_ns = now_ns
        for volume in self._volumes.values():
            volume.sync(now_ns)

    def _turn(self, edge_ns: int, now_ns: int) -> None:
        """The edge is reached: all files end here. A single file has a successor at once, so
        that a quiet hour is an hour on tape; of many, those that have something to say."""
        keeping = self._keeping
        assert keeping.rotate_ns is not None  # noqa: S101  # there was an edge
        self._edge_ns = _after(max(edge_ns, now_ns - GRACE_NS), keeping.rotate_ns)
        for volume in self._volumes.values():
            if volume.finish(edge_ns) and not keeping.splits:
                volume.begin(self._edge_ns - keeping.rotate_ns)

    # ── which file ──

    def _write(self, events: Sequence[Event], now_ns: int) -> None:
        events = self._without_header(events)
        if self._keeping.splits:
            self._write_apart(events, now_ns)
        elif events or not self._keeping.is_tape:
            volume = self._volume(Key("", ""))
            volume.begin(moment(events[0]) if events else now_ns)
            self._story.see(events)
            volume.write(events, now_ns)

    def _without_header(self, events: Sequence[Event]) -> Sequence[Event]:
        """The header stands at the head of each file, so it is kept."""
        headers = [each for each in events if type(each) is Report and each.name == "header"]
        if not headers:
            return events
        self._story.header = headers[0]
        if not self._keeping.splits:
            self._volume(Key("", "")).begin(headers[0].received_ns)
        return [event for event in events if event not in headers]

    def _write_apart(self, events: Sequence[Event], now_ns: int) -> None:
        parts: dict[Key, list[Event]] = {}
        for event in events:
            for key in self._keys(event):
                # A file begins with the story so far, so it begins before the story goes on.
                self._volume(key).begin(moment(event))
                parts.setdefault(key, []).append(event)
            self._story.see([event])
        failure: OutputError | None = None
        for key, part in parts.items():
            try:
                self._volume(key).write(part, now_ns)
            except OutputError as error:
                failure = failure or error  # the others get what is theirs
        if failure is not None:
            raise failure

    def _keys(self, event: Event) -> list[Key]:
        """Where an event belongs: data, and what is missing of it, have files of their own;
        whatever else is said goes to the files that it concerns."""
        fields = self._keeping.template.fields
        if type(event) is Data or type(event) is Gap:
            own = Key(
                event.feed if "feed" in fields else "",
                (event.product or ALL) if "product" in fields else "",
            )
            if type(event) is Data or event.product is not None:
                return [own]
            return self._concerned(event) or [own]
        return self._concerned(event)

    def _concerned(self, event: Event) -> list[Key]:
        return [
            key
            for key, volume in self._volumes.items()
            if volume.has_begun and key.is_concerned_by(event)
        ]

    def _volume(self, key: Key) -> Volume:
        """The volume, with room made for its file among those that are open."""
        if key not in self._volumes:
            encoder = self._encoder(key.feed or self._keeping.feeds[0])
            self._volumes[key] = Volume(self._keeping, key, encoder, self._story, self._tell)
        volume = self._volumes[key]
        self._volumes.move_to_end(key)
        if len(self._volumes) > OPEN_MOST and not volume.is_open:
            others = [each for each in self._volumes.values() if each.is_open]
            for other in others[: len(others) + 1 - OPEN_MOST]:
                other.rest()
        return volume

    # ── what was there before ──

    def _take_up(self) -> None:
        """Completes what a crash left: whole lines under the final name, the torn rest aside."""
        keeping = self._keeping
        for path in keeping.template.found(keeping.feeds, ending=OPEN):
            file = FileSink(path, compression=keeping.compression, own=True)
            try:
                file.open()
            except InUse:
                if keeping.splits:
                    continue  # of another's feeds and products perhaps; a volume looks closer
                raise
            self._complete(file, path)

    def _complete(self, file: FileSink, path: Path) -> None:
        if file.size:
            file.close(path.with_name(path.name.removesuffix(OPEN)))
        else:
            file.close()
            path.unlink()
        torn = f"; its torn end of {file.torn_bytes:,} B is in {file.torn_path}"
        self._tell(
            "taken-up",
            f"{path} was left by a run that was cut off: "
            f"{f'it is {file.path} now' if file.size else 'there was no whole line in it'}"
            f"{torn if file.torn_bytes else ''}",
        )

    def _prune_if_due(self, now_ns: int) -> None:
        if [volume for volume in self._volumes.values() if volume.forget_finished()]:
            self._prune(now_ns)

    def _prune(self, now_ns: int) -> None:
        """Deletes the oldest complete files that ``--keep`` has no room for."""
        keeping = self._keeping
        if keeping.keep_ns is None and keeping.keep_bytes is None:
            return
        files = sorted(self._complete_files(), reverse=True)
        total = sum(volume.size for volume in self._volumes.values())
        for file in files:  # from the newest on
            total += file.size
            too_old = keeping.keep_ns is not None and now_ns - file.written_ns > keeping.keep_ns
            if too_old or (keeping.keep_bytes is not None and total > keeping.keep_bytes):
                self._delete(file.path)

    def _complete_files(self) -> Iterator[_File]:
        for path in self._keeping.template.found(self._keeping.feeds):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            yield _File(facts.st_mtime_ns, str(path), facts.st_size)

    def _delete(self, path: str) -> None:
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            # No reason to end a recording.
            self._tell("not-deleted", f"{path} cannot be deleted (--keep): {error.strerror}")


class _File(NamedTuple):
    """A complete file, to be ordered by age."""

    written_ns: int
    path: str
    size: int


def _after(moment_ns: int, period_ns: int) -> int:
    """The first edge behind a moment; edges are multiples of the period since 1970, UTC."""
    return (moment_ns // period_ns + 1) * period_ns
