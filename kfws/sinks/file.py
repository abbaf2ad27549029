"""A file that holds whole lines only, whatever happens to the disk or to us.

The rule of this room: after every call that fails, the file is readable to its end without an
error and ends with a whole line; what did not get in is handed back.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from kfws.errors import DiskFull, InUse, OutputError
from kfws.tapes import files, names
from kfws.tapes.files import Compression

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Compression", "FileSink", "cannot_open", "cannot_write", "rename"]

# A frame is what is rewritten after a full disk and what is lost to rot, and where a reader may
# enter; below a MiB compression suffers (DESIGN.md, section 8).
_FRAME_BYTES = 1 << 20
_FRAME_NS = 60_000_000_000


class FileSink:
    """One output file. ``tape`` says that lines may be appended to a tape found there, ``own``
    to anything that a crash left there, ``append`` that all there is whole.

    ``open`` before the run connects, ``write`` whole lines, ``sync`` about once a second,
    ``close`` at the end. All raise OutputError, DiskFull where room would help; but for
    ``open`` the file is closed then, and ``unwritten`` holds the lines that are not in it.
    """

    def __init__(
        self,
        path: Path,
        *,
        compression: Compression | None = None,
        overwrite: bool = False,
        tape: bool = False,
        append: bool = False,
        own: bool = False,
    ) -> None:
        self.path = path
        self.unwritten = b""
        """After a failure: those of the lines handed in that are not in the file."""
        self.is_torn = False
        """After a failure: whether there was no room even for the end of a compressed frame."""
        self.torn_bytes = 0
        """How much of a tape that was taken up had been torn, and is in ``torn_path`` now."""
        self.torn_path = names.torn(path)
        self._compression = compression
        self._overwrite = overwrite
        self._tape = tape
        self._append = append
        self._own = own
        self._descriptor = -1
        self._is_regular = True
        self._end = 0
        """Where the file ends; all before is whole lines, or whole frames and the open one."""
        self._synced_end = 0
        self._frame: _Frame | None = None

    @property
    def lines_lost(self) -> int:
        return self.unwritten.count(b"\n")

    @property
    def size(self) -> int:
        """Bytes on disk; what a compressor holds back comes later."""
        return self._end

    @property
    def was_moved(self) -> bool:
        """Whether the file is no more what its name stands for."""
        if self._descriptor < 0 or not self._is_regular:
            return False
        try:
            return not os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return True
        except OSError:
            return False  # nobody can say

    # ── opening ──

    def open(self) -> None:
        """Opens, locks, and takes up or empties what is there."""
        try:
            self._descriptor = _open(self.path)
            self._is_regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            if self._is_regular:
                self._lock()
                self._end = self._synced_end = self._prepared()
            elif sys.platform != "win32":
                os.set_blocking(self._descriptor, True)
        except OSError as error:
            self._drop()
            raise cannot_open(self.path, error) from error
        except OutputError:
            self._drop()
            raise

    def _lock(self) -> None:
        """Keeps a second writer out. A file system without locks has to do without."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"another program writes to {self.path}", hint="end it, or choose another name"
            ) from None
        except OSError:
            pass

    def _prepared(self) -> int:
        """Where to go on writing."""
        if os.fstat(self._descriptor).st_size == 0:
            return 0
        if self._overwrite:
            os.ftruncate(self._descriptor, 0)
            return 0
        if self._append:
            return os.lseek(self._descriptor, 0, os.SEEK_END)
        if not (self._tape or self._own):
            raise OutputError(
                f"{self.path} exists and is not empty",
                hint="choose another name, or replace it with --overwrite",
            )
        with os.fdopen(self._descriptor, "r+b", buffering=0, closefd=False) as file:
            self.torn_bytes = files.take_up(file, self.path, self._compression, own=self._own)
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def hand_over(self) -> int | None:
        """The descriptor of a plain FIFO or device, which may block: no more ours. Else None."""
        if self._is_regular or self._compression is not None:
            return None
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    # ── writing ──

    def write(self, data: bytes, now_ns: int) -> None:
        """Appends whole lines; a compressed file has them on disk after the next ``sync``."""
        if not data:
            return
        if self._compression is None:
            self._write_lines(data)
            return
        frame = self._frame
        if frame is None:
            frame = self._frame = _Frame(self._compression, self._end, now_ns)
        frame.text += data
        self._put(frame.compressor.compress(data))
        if len(frame.text) >= _FRAME_BYTES or now_ns - frame.began_ns >= _FRAME_NS:
            self._finish_frame(frame)

    def sync(self, now_ns: int) -> None:
        """Forces all that was written to the disk, where others can read it."""
        self._flush(now_ns)
        if self._synced_end == self._end or not self._is_regular:
            return
        try:
            _force(self._descriptor)
        except OSError as error:
            self._drop()
            raise cannot_write(self.path, error) from error
        self._synced_end = self._end

    def _flush(self, now_ns: int) -> None:
        """Ends a block, so that all that was written can be read."""
        frame = self._frame
        if frame is None:
            return
        if now_ns - frame.began_ns >= _FRAME_NS:
            self._finish_frame(frame)
        elif frame.synced < len(frame.text):
            self._put(frame.compressor.flush())
            frame.synced, frame.synced_end = len(frame.text), self._end

    def close(self, final: Path | None = None) -> None:
        """Completes the file, forces it to disk, and gives it its ``final`` name if it has one,
        all while the lock is held. A second call does nothing."""
        if self._descriptor < 0:
            return
        if self._frame is not None:
            self._finish_frame(self._frame)
        try:
            if self._is_regular:
                os.fsync(self._descriptor)
            if final is not None:
                self.path = rename(self.path, final)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        finally:
            self._drop()

    def _finish_frame(self, frame: _Frame) -> None:
        self._put(frame.compressor.finish())
        self._frame = None

    def _write_lines(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:] if written else data)
        except OSError as error:
            whole = data.rfind(b"\n", 0, written) + 1
            self._cut(self._end + whole)
            self.unwritten = data[whole:]
            self._drop()
            raise cannot_write(self.path, error) from error
        self._end += written

    def _put(self, compressed: bytes) -> None:
        """Writes a part of the open frame; if it does not fit, the frame is written anew."""
        try:
            self._end += _write_all(self._descriptor, compressed)
        except OSError as error:
            if self._frame is not None:
                self._reseal(self._frame)
            self._drop()
            raise cannot_write(self.path, error) from error

    def _reseal(self, frame: _Frame) -> None:
        """Ends the open frame within the room that it has: with all its lines (in one go they
        take less than flushed in parts), else those that were on disk. It is written over
        itself, since room that is given back may be another's at once."""
        text = bytes(frame.text)
        self.unwritten = text[frame.synced :]
        if not self._is_regular:
            return
        room = os.fstat(self._descriptor).st_size - frame.start
        for kept in (len(text), frame.synced):
            sealed = files.seal(text[:kept], frame.compression) if kept else b""
            if len(sealed) <= room:
                self.unwritten = text[kept:]
                self._write_over(frame.start, sealed)
                return
        # No room for the end of the frame; what was flushed of it can be read all the same.
        self._cut(frame.synced_end)
        self.is_torn = True

    def _write_over(self, start: int, sealed: bytes) -> None:
        try:
            os.lseek(self._descriptor, start, os.SEEK_SET)
            _write_all(self._descriptor, sealed)
        except OSError:
            pass  # the disk itself fails; the error that brought us here is the one to tell
        self._cut(start + len(sealed))

    def _cut(self, size: int) -> None:
        """Ends the file there, and goes on writing there."""
        if self._is_regular:
            try:
                os.ftruncate(self._descriptor, size)
                os.lseek(self._descriptor, size, os.SEEK_SET)
            except OSError:
                pass  # the disk itself fails; the error that brought us here is the one to tell

    def _drop(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._frame = -1, None


class _Frame:
    """The compressed frame that is being written, and its text as long as it is open."""

    def __init__(self, compression: Compression, start: int, began_ns: int) -> None:
        self.compression = compression
        self.start = start
        self.began_ns = began_ns
        self.compressor = files.Compressor(compression)
        self.text = bytearray()
        self.synced = 0
        """How much of the text is readable on disk, and up to where in the file."""
        self.synced_end = start


def _open(path: Path) -> int:
    kind = path.stat().st_mode if path.exists() else stat.S_IFREG
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    else:
        # Without O_NONBLOCK opening a pipe waits for its reader, perhaps for ever; with O_RDWR
        # we would be its reader ourselves.
        flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)
    return os.open(path, flags, 0o666)


def _force(descriptor: int) -> None:
    """Forces data to the disk, and of what the file system knows of the file only its size:
    less to wait for than fsync, and enough to read all of it after a loss of power."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def rename(path: Path, final: Path) -> Path:
    """Gives a file its final name, or where that is taken one like it; survives a loss of power.

    Raises OSError.
    """
    final = names.free(final, own=path)
    path.rename(final)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return final


def _write_all(descriptor: int, data: bytes) -> int:
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:] if written else data)
    return written


# ── sentences ──

# Folders that hold no files of ours, such as /proc, say that there is no such file.
_NOT_THERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)


def cannot_open(path: Path, error: OSError) -> OutputError:
    """What is to be said of a file that cannot be made or opened."""
    if error.errno == errno.ENOENT and not path.parent.exists():
        return OutputError(
            f"cannot write {path}: there is no folder {path.parent}",
            hint=f"make it: mkdir -p {path.parent}",
        )
    hints = {
        errno.EISDIR: "name a file in it",
        errno.ENXIO: "start its reader first",
        **dict.fromkeys(_NOT_THERE, "choose a place where you may write"),
    }
    reason = "nobody reads that pipe" if error.errno == errno.ENXIO else _reason(error)
    return OutputError(f"cannot write {path}: {reason}", hint=hints.get(error.errno or 0, ""))


def cannot_write(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"disk full: {path}", hint="make room, then record on")
    if error.errno == errno.EFBIG:
        return OutputError(f"file size limit reached: {path}", hint="raise it: ulimit -f unlimited")
    if error.errno == errno.EPIPE:
        return OutputError(f"the reader of {path} left")
    return OutputError(f"cannot write {path}: {_reason(error)}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
