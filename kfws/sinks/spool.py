"""What waits on disk while a server is away: a tape, written at its end, read from its start.

Nothing leaves it before it was published and acknowledged; a crash at any moment costs at most
that it is published again, under the same ids.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from kfws.errors import DiskFull, OutputError
from kfws.protocol.events import Data, Event, Report
from kfws.sinks.file import FileSink
from kfws.sinks.ndjson import Ndjson
from kfws.tapes.line import Frame, read
from kfws.tapes.recordings import data_of

__all__ = ["Spool"]

CHUNK_BYTES = 1_000_000


class Spool:
    """At most ``most_bytes`` on disk. All methods raise OutputError, DiskFull beyond that."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._sink = FileSink(path, tape=True)
        self._ndjson = Ndjson(stamp=True, events=True)
        self._position = 0
        """Up to where all is published."""
        self.messages = 0
        """How many were put here in this run."""
        self.unwritten: list[Event] = []
        """After a failure: those of the events handed in that are not here."""
        self._is_open = False

    def open(self) -> None:
        """Opens and locks it; what an earlier run left stays, and is there to be published."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            why = exc.strerror or exc
            raise OutputError(f"cannot make the folder {self.path.parent}: {why}") from exc
        self._sink.open()
        self._is_open = True

    @property
    def is_empty(self) -> bool:
        """Whether all that was put here is published."""
        return self._position >= self._sink.size

    def put(self, events: Sequence[Event]) -> None:
        """Appends messages and the stream's own events, in their order, each of which makes a
        line. After a failure it may be tried again with what is ``unwritten``."""
        self.unwritten = [*events]
        text = self._ndjson.encode(events)
        if not text:
            return
        if not self._is_open:
            self._reopen()
        if self._sink.size == 0:
            header = Report(received_ns=time.time_ns(), name="header", fields={"spool": True})
            text = self._ndjson.encode([header]) + text
        if self._sink.size - self._position + len(text) > self._most_bytes:
            raise DiskFull(
                f"the spool {self.path} is full ({self._most_bytes:,} bytes)",
                hint="bring the server back, or give it more with --spool-size",
            )
        try:
            self._sink.write(text, 0)
            self.unwritten = []
        except OutputError:
            self._is_open = False
            lost = min(self._sink.lines_lost, len(events))
            self.unwritten = [*events[len(events) - lost :]]
            raise
        finally:
            kept = events[: len(events) - len(self.unwritten)]
            self.messages += sum([type(each) is Data for each in kept])

    def _reopen(self) -> None:
        """A file that could not be written is closed; it ends with a whole line."""
        self._sink = FileSink(self.path, tape=True)
        self._sink.open()
        self._is_open = True

    def next(self) -> tuple[list[Data | bytes], int]:
        """What is to be published next, messages and own events (as JSON) that are to be found
        at about one megabyte, and the position behind it for ``published``."""
        found: list[Data | bytes] = []
        try:
            with self.path.open("rb") as file:
                file.seek(self._position)
                lines = file.readlines(CHUNK_BYTES)
        except OSError as exc:
            raise OutputError(f"cannot read {self.path}: {exc.strerror or exc}") from exc
        for line in lines:
            what = _read(line)
            if what is not None:
                found.append(what)
        return found, self._position + sum(map(len, lines))

    def published(self, position: int) -> None:
        """All up to there is acknowledged; a spool that is empty begins anew."""
        self._position = position
        if self.is_empty:
            self._sink.close()
            self._sink = FileSink(self.path, overwrite=True)
            self._sink.open()
            self._is_open = True
            self._position = 0

    def sync(self, now_ns: int) -> None:
        """Forces it to the disk."""
        try:
            if self._is_open:
                self._sink.sync(now_ns)
        except OutputError:
            self._is_open = False
            raise

    def close(self) -> None:
        """Closes it; an empty one is removed."""
        if self.is_empty:
            self.path.unlink(missing_ok=True)
        self._sink.close()


def _read(line: bytes) -> Data | bytes | None:
    """A message, or one of the stream's own events; but the spool's own header."""
    try:
        found = read(line)
    except ValueError:
        return None
    if isinstance(found, Frame):
        return data_of(found.payload, found.received_ns)
    return None if found.get("spool") else line.rstrip(b"\n")
