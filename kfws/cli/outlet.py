"""A sink's bytes on their way out of the process, in writes that never block.

What cannot be written now waits here, and the loop that reads the venue goes on: Ctrl-C,
signals and keepalive work while nobody reads our pipe.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from kfws.cli.env import ATOMIC_BYTES, is_writable, opened_anew, unwritable
from kfws.errors import OutputError
from kfws.protocol.events import Data, Event

if TYPE_CHECKING:
    from kfws.sinks.shelf import Shelf

__all__ = ["DescriptorOutlet", "Dialled", "Drawn", "FileOutlet", "Outlet", "Sink"]

# Above this an outlet is full: no batch is taken until its reader has read.
FULL_BYTES = 256 * 1024
# A thread that is woken for each batch costs more than the batch; nobody watches a file so
# closely, and what a crash loses of it is counted in seconds.
HAND_OVER_S = 0.05
PARCEL_BYTES = 256 * 1024


class Sink(Protocol):
    """Batches of events → bytes."""

    def encode(self, events: Sequence[Event]) -> bytes | bytearray: ...


class Outlet(Protocol):
    """Where a sink's bytes go."""

    name: str
    is_gone: bool
    """Whether its reader left."""
    stuck_ns: int
    """Since when something has been waiting to be written."""

    @property
    def is_full(self) -> bool: ...

    @property
    def pending(self) -> int:
        """Bytes that are not out yet."""
        ...

    @property
    def pending_lines(self) -> int: ...

    @property
    def unwritten(self) -> bytes:
        """The lines that are not out, whole; empty where nobody knows them any more."""
        ...

    def write(self, events: Sequence[Event]) -> None:
        """A batch, encoded as the output has it. Raises OutputError."""
        ...

    def sync(self, now_ns: int) -> None:
        """Called about once a second. Raises OutputError."""
        ...

    async def drain(self) -> None:
        """Until there is room again, or the reader left."""
        ...

    async def flush(self) -> None:
        """Until all is out, or the reader left."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Drawn(Protocol):
    """An outlet that shows a picture, which is brought up to date when there is time for it."""

    def draw(self, now_ns: int, *, buffered: int = 0) -> None:
        """``buffered``: bytes that came and were not handed out. Raises OutputError."""
        ...

    def leave(self, now_ns: int) -> None:
        """Gives the terminal back, until the next drawing. Raises OutputError."""
        ...


@runtime_checkable
class Dialled(Protocol):
    """An outlet on another machine, which has to answer first."""

    async def open(self) -> None:
        """Raises KfwsError."""
        ...

    async def leave(self) -> None:
        """Behind ``close``: until the connection is closed."""
        ...


class DescriptorOutlet:
    """A descriptor as it was given to us: a pipe, a terminal, a file, a socket.

    ``own``: close it in the end.
    """

    def __init__(self, fd: int, sink: Sink, *, name: str = "stdout", own: bool = False) -> None:
        self.name = name
        self.sink = sink
        self.is_gone = False
        self._loop = asyncio.get_running_loop()
        self._pending = bytearray()
        self.stuck_ns = 0
        self._cut = b""
        """The part that is out of the line that the pending bytes go on with."""
        self._room: asyncio.Future[None] | None = None
        self._fault: OutputError | None = None
        self._fd, self._kind = _without_blocking(fd)
        # Closed in the end: what was opened here, and what is ours.
        self._to_close = {self._fd} - {fd} | ({fd} if own else set())
        self._watch_reader()

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def pending_lines(self) -> int:
        return self._pending.count(b"\n")

    @property
    def unwritten(self) -> bytes:
        return self._cut + self._pending

    @property
    def is_full(self) -> bool:
        return len(self._pending) > FULL_BYTES

    def write(self, events: Sequence[Event]) -> None:
        self.put(self.sink.encode(events))

    def put(self, data: bytes | bytearray) -> None:
        """Whole lines."""
        if self._fault:
            raise self._fault
        if self.is_gone or not data:
            return
        if self._pending:
            self._pending += data
            return
        written = self._write(data)
        if written < len(data) and not self.is_gone:
            self._remember_cut(data, written)
            self.stuck_ns = time.time_ns()
            self._pending += memoryview(data)[written:]
            if self._fault:
                raise self._fault
            self._loop.add_writer(self._fd, self._go_on)

    def _write(self, data: bytes | bytearray) -> int:
        """Writes what goes now; how many bytes went. A fault of the disk is kept, not raised."""
        written = 0
        try:
            written = self._write_some(data)
            while written < len(data):
                with memoryview(data)[written:] as rest:
                    written += self._write_some(rest)
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._reader_left()
        except OSError as exc:
            if exc.errno == errno.EIO and self._kind == "terminal":
                self._reader_left()  # the terminal was closed
            else:
                self._fault = unwritable(exc, self.name, hint="write elsewhere with -o")
                written -= self._cut_back(data, written)
        return written

    def _write_some(self, data: bytes | bytearray | memoryview) -> int:
        if self._kind == "polled":
            # Not ours to make non-blocking: others may hold the same description.
            if not is_writable(self._fd):
                raise BlockingIOError
            return os.write(self._fd, data[:ATOMIC_BYTES])
        if self._kind == "socket":
            with socket.socket(fileno=os.dup(self._fd)) as peer:
                return peer.send(data, socket.MSG_DONTWAIT)
        return os.write(self._fd, data)

    def _cut_back(self, data: bytes | bytearray, written: int) -> int:
        """A full disk under a redirect: leaves whole lines behind; how many bytes went again."""
        torn = written - (data.rfind(b"\n", 0, written) + 1)
        if self._kind != "file" or not torn:
            return 0
        try:
            end = os.fstat(self._fd).st_size
            if os.lseek(self._fd, 0, os.SEEK_CUR) != end:
                return 0
            os.ftruncate(self._fd, end - torn)
        except OSError:
            return 0  # the sentence about the full disk is what matters now
        return torn

    def _go_on(self) -> None:
        written = self._write(self._pending)
        self._remember_cut(self._pending, written)
        del self._pending[:written]
        if not self._pending or self._fault:
            self._loop.remove_writer(self._fd)
        if not self.is_full or self._fault:
            self._wake()

    def _remember_cut(self, data: bytes | bytearray, written: int) -> None:
        begin = data.rfind(b"\n", 0, written) + 1
        self._cut = (b"" if begin else self._cut) + data[begin:written]

    def _watch_reader(self) -> None:
        """A pipe reports that its reader left even while we have nothing to write."""
        if self._kind == "pipe":
            try:
                self._loop.add_reader(self._fd, self._reader_left)
            except (OSError, NotImplementedError):
                self._kind = "pipe, unwatched"

    def _reader_left(self) -> None:
        self.is_gone = True
        self._pending = bytearray()  # the old one may be held by the write that failed
        self._unwatch()
        self._wake()

    def _unwatch(self) -> None:
        if self._loop.is_closed() or self._kind == "closed":
            return
        if self._kind == "pipe":
            self._loop.remove_reader(self._fd)
        if self._kind != "file":
            try:
                self._loop.remove_writer(self._fd)
            except NotImplementedError:  # Windows, where none was added
                pass

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def sync(self, now_ns: int) -> None:
        pass

    async def drain(self) -> None:
        while self.is_full and not self.is_gone:
            await self._wait_for_room()

    async def flush(self) -> None:
        while self._pending and not self.is_gone:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        if self._fault:
            raise self._fault
        self._room = self._loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    def close(self) -> None:
        self._unwatch()
        self._kind = "closed"  # from now on the number may be another's
        while self._to_close:
            os.close(self._to_close.pop())


class FileOutlet:
    """Files of ``-o``, encoded and written in a thread of its own: a disk that is slow, or
    forced to write, holds up neither the venue nor the other outputs.

    What waits for the disk is bounded by ``full_bytes``. ``at_once``: each batch goes to the
    thread by itself; else what comes within 50 ms goes together.
    """

    is_gone = False
    stuck_ns = 0

    def __init__(
        self, shelf: Shelf, *, full_bytes: int = FULL_BYTES, at_once: bool = False
    ) -> None:
        self.name = shelf.name
        self.pending = 0
        self._shelf = shelf
        self._full_bytes = full_bytes
        self._at_once = at_once
        self._loop = asyncio.get_running_loop()
        self._batch: list[Event] = []
        self._weight = 0
        self._timer: asyncio.TimerHandle | None = None
        self._progress: asyncio.Future[None] | None = None
        self._fault: Exception | None = None
        self._is_closed = False
        self._wants_reopening = False
        self._has_all = False
        """Whether the thread has had the last parcel: what it does then is to end."""
        self._parcels: SimpleQueue[tuple[list[Event], int] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._record, name=self.name, daemon=True)
        self._thread.start()

    # In the loop

    @property
    def pending_lines(self) -> int:
        """Lines that did not get in before the disk was full; known once it is closed."""
        return self._shelf.lines_lost

    @property
    def unwritten(self) -> bytes:
        return b""  # the files know how many, not which

    @property
    def is_full(self) -> bool:
        return self.pending > self._full_bytes

    def write(self, events: Sequence[Event]) -> None:
        self._batch += events
        weight = sum([len(each.payload) for each in events if type(each) is Data])
        self._weight += weight
        self.pending += weight
        if self._at_once or self._weight > PARCEL_BYTES:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(HAND_OVER_S, self._hand_over)
        self._raise_fault()  # behind, so that this batch is counted as lost as well

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._parcels.put((self._batch, self._weight))
        self._batch, self._weight = [], 0

    def reopen(self) -> None:
        """Files that were moved away are completed, and have successors under their names."""
        self._wants_reopening = True
        self._hand_over()

    def sync(self, now_ns: int) -> None:
        """The thread keeps its own time; here it is found out what went wrong meanwhile."""
        self._raise_fault()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    async def drain(self) -> None:
        while self.is_full:
            await self._wait_for_progress()

    async def flush(self) -> None:
        self._hand_over()
        while self.pending:
            await self._wait_for_progress()

    async def _wait_for_progress(self) -> None:
        self._raise_fault()
        self._progress = self._loop.create_future()
        try:
            await self._progress
        finally:
            self._progress = None

    def _have_written(self, weight: int) -> None:
        self.pending -= weight
        if self._progress is not None and not self._progress.done():
            self._progress.set_result(None)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._hand_over()
        self._parcels.put(None)
        self._thread.join()
        self._raise_fault()

    # In the thread

    def _record(self) -> None:
        try:
            self._record_all()
        except Exception as exc:  # whatever it is, the loop is to know
            self._fault = exc
            self._loop.call_soon_threadsafe(self._have_written, 0)
            while not self._has_all and (parcel := self._parcels.get()) is not None:
                self._shelf.lose(parcel[0])

    def _record_all(self) -> None:
        try:
            while self._record_next():
                self._shelf.tick(time.time_ns())
        except Exception:
            with suppress(Exception):  # the first reason is told
                self._shelf.close(time.time_ns())
            raise
        self._shelf.close(time.time_ns())

    def _record_next(self) -> bool:
        """Writes the next parcel, unless something else is due first; whether there are more."""
        try:
            parcel = self._parcels.get(timeout=self._shelf.patience_ns(time.time_ns()) / 1e9)
        except Empty:
            return True
        if parcel is not None:
            events, weight = parcel
            self._shelf.write(events, time.time_ns())
            if self._wants_reopening:
                self._wants_reopening = False
                self._shelf.reopen(time.time_ns())
            self._loop.call_soon_threadsafe(self._have_written, weight)
        self._has_all = parcel is None
        return not self._has_all


def _without_blocking(fd: int) -> tuple[int, str]:
    """A descriptor that does not block, and what it is."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError as exc:
        raise OutputError("stdout is closed", hint="write to a file with -o PATH") from exc
    if stat.S_ISSOCK(mode) and hasattr(socket, "MSG_DONTWAIT"):
        return fd, "socket"
    if not (stat.S_ISFIFO(mode) or os.isatty(fd)):
        return fd, "file"
    own = opened_anew(fd)
    if own is None:
        return fd, "polled"
    return own, "pipe" if stat.S_ISFIFO(mode) else "terminal"
