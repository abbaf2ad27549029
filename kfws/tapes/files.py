"""Tapes as files: read them, plain or compressed, and take up what a crash left.

A compressed tape is a row of frames (gzip calls them members), each complete in itself; what a
crash cuts is the last one, so at most the text behind its last flushed block is lost.
"""

from __future__ import annotations

import errno
import glob
import gzip
import io
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol

from kfws.errors import OutputError
from kfws.protocol.auth import as_shown
from kfws.tapes import line, names
from kfws.tapes.subjects import is_jetstream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "Compression",
    "Compressor",
    "Damage",
    "Reader",
    "check",
    "compression_of",
    "find",
    "first_ns",
    "last_ns",
    "no_tape",
    "place_of",
    "read_lines",
    "seal",
    "take_up",
]

Compression = Literal["gz", "zst"]

# What a frame begins with: enough of it that compressed text seldom looks like it by chance.
_BEGINS: dict[Compression, bytes] = {"gz": b"\x1f\x8b\x08", "zst": b"\x28\xb5\x2f\xfd"}
_MAGIC = {begins[:2]: compression for compression, begins in _BEGINS.items()}
_BLOCK = 1 << 16
_PIECE = 1 << 20
_TAIL_MOST = 1 << 22
# The venue's frames end at 16 MB; what is longer is no line, and not kept in memory.
_LINE_MOST = 1 << 25
_TAPE = re.compile(r"\.ndjson(\.gz|\.zst)?(\.open)?$")
# A checksum lets a reader tell rot from truth; gzip always has one.
_OPTIONS = {int(zstd.CompressionParameter.checksum_flag): 1}


def compression_of(path: Path) -> Compression | None:
    """How a file of this name is compressed: by its last suffix, ``.gz`` or ``.zst``."""
    suffixes: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}
    return suffixes.get(path.suffix.lower())


def seal(text: bytes, compression: Compression) -> bytes:
    """The text as one complete frame."""
    if compression == "gz":
        return gzip.compress(text, mtime=0)
    return zstd.compress(text, options=_OPTIONS)


class Compressor:
    """One frame in the making. Each call gives what is due to be written."""

    def __init__(self, compression: Compression) -> None:
        self._gz = zlib.compressobj(wbits=31) if compression == "gz" else None
        self._zst = zstd.ZstdCompressor(options=_OPTIONS)

    def compress(self, text: bytes) -> bytes:
        """Takes text in; most of it stays inside for a while."""
        return self._zst.compress(text) if self._gz is None else self._gz.compress(text)

    def flush(self) -> bytes:
        """Ends a block, so that all text so far can be read from what was given."""
        if self._gz is not None:
            return self._gz.flush(zlib.Z_SYNC_FLUSH)
        return self._zst.flush(self._zst.FLUSH_BLOCK)

    def finish(self) -> bytes:
        """Ends the frame; nothing may be compressed after it."""
        if self._gz is not None:
            return self._gz.flush(zlib.Z_FINISH)
        return self._zst.flush(self._zst.FLUSH_FRAME)


def find(names: Iterable[str], *, faults: list[OutputError] | None = None) -> list[Path]:
    """The tapes that are named: files, folders with all tapes below, globs; the oldest first.

    Raises OutputError where a name finds nothing, and for what cannot be read; but with
    ``faults`` the latter is put there, and the rest is given.
    """
    unread: list[OutputError] = []
    found: dict[Path, int] = {}
    for name in names:
        # Path.exists and is_dir raise for names too long; "" is no folder.
        exists = os.path.exists(name)  # noqa: PTH110
        paths = [Path(name)] if exists else sorted(map(Path, _glob(name)))
        known = len(unread)
        tapes = [
            tape
            for path in paths
            for tape in (_below(path, unread) if os.path.isdir(path) else [path])  # noqa: PTH112
        ]
        if not tapes and len(unread) == known:
            shown = as_shown(name) if is_jetstream(name) else name
            what = (
                f"no tape in {name}" if paths else f"there is no {shown or 'tape without a name'}"
            )
            raise OutputError(what, hint="name a tape, a folder with tapes or a glob")
        for tape in tapes:
            try:
                found[tape] = first_ns(tape) or 0
            except OutputError as error:
                unread.append(error)
    if unread and faults is None:
        raise unread[0]
    if faults is not None:
        faults += unread
    return sorted(found, key=lambda path: (found[path], path))


def _glob(name: str) -> list[str]:
    found = glob.glob(name, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute ones
    return [path for path in found if not path.endswith(".torn")]


def _below(folder: Path, unread: list[OutputError]) -> list[Path]:
    """All tapes in a folder and its subfolders; what cannot be looked at goes to ``unread``."""
    tapes = []
    for place, _, files in os.walk(folder, onerror=lambda error: unread.append(_unread(error))):
        for name in files:
            path = Path(place, name)
            try:
                is_file = stat.S_ISREG(path.stat().st_mode)
            except FileNotFoundError:  # renamed meanwhile, or a link to nowhere
                continue
            except OSError as error:
                unread.append(_unread(error))
                continue
            tapes += [path] if is_file and _TAPE.search(name) else []
    return sorted(tapes)


def _unread(error: OSError) -> OutputError:
    return cannot_read(error.filename, error)


def cannot_read(path: Path | str, error: OSError) -> OutputError:
    """What is to be said of a tape that the system does not give."""
    if isinstance(error, io.UnsupportedOperation) or error.errno == errno.ESPIPE:
        return OutputError(f"{path} is a pipe; tapes are files: write it to one first")
    return OutputError(f"cannot read {path}: {error.strerror or error}")


def check(path: Path) -> None:
    """Raises OutputError for a file of which no line is a tape's; it is read as far as needed."""
    reader = Reader(path, damages=[])
    has_lines = False
    for batch in reader.batches():
        if any(line.moment_of(each) is not None for each in batch):
            return
        has_lines |= bool(batch)
    if has_lines or not line.is_begun(reader.torn):
        raise no_tape(path)


def no_tape(path: Path) -> OutputError:
    """What is to be said of such a file."""
    return OutputError(
        f"{path} is no tape: none of its lines begins with received_ns or kfws",
        hint="tapes are what `kfws subscribe … -o NAME.ndjson` writes",
    )


def first_ns(path: Path, start: int = 0) -> int | None:
    """The moment of the first line that has one, from a byte on; of a header that is far ahead
    of the message behind it, that of the message. Raises OutputError."""
    for batch in Reader(path, start=start, damages=[]).batches():
        for at, each in enumerate(batch):
            if (moment := line.moment_of(each)) is not None:
                is_header = each.startswith(line.HEADER)
                message_ns = _message_ns(batch[at + 1 :]) if is_header else None
                is_wrong = message_ns is not None and moment > message_ns + line.AHEAD_NS
                return message_ns if is_wrong else moment
    return None


def _message_ns(lines: Iterable[bytes]) -> int | None:
    """The moment of the first message among some lines."""
    frames = (each for each in lines if not each.startswith(line.OWN))
    moments = (line.moment_of(each) for each in frames)
    return next((each for each in moments if each is not None), None)


def last_ns(path: Path) -> int | None:
    """The moment of a tape's last line that has one; None where that is too long to look for,
    as in one compressed frame of any length. Raises OutputError."""
    start = place_of(path, 1 << 63)
    if path.stat().st_size - start > _TAIL_MOST:
        return None
    lines = (each for batch in Reader(path, start=start, damages=[]).batches() for each in batch)
    moments = [moment for each in lines if (moment := line.moment_of(each)) is not None]
    return moments[-1] if moments else None


def place_of(path: Path, moment_ns: int) -> int:
    """Where a Reader has to start so that it misses no line of this moment or later.

    Found by halving, by lines or compressed frames: what comes before is not read. Lines are
    taken to be in the order of time. Raises OutputError.
    """
    try:
        with path.open("rb") as file:
            compression = _MAGIC.get(file.read(2))
            low, high = 0, os.fstat(file.fileno()).st_size
            while high - low > _BLOCK:
                middle = (low + high) // 2
                place = _entrance(file, compression, middle, high)
                first = first_ns(path, place) if place < high else None
                if first is not None and first < moment_ns:
                    low = place
                else:
                    high = middle
            return low
    except OSError as error:
        raise cannot_read(path, error) from error


def _entrance(file: BinaryIO, compression: Compression | None, position: int, end: int) -> int:
    """Where the next line or compressed frame begins; not before ``end`` if there is none."""
    if compression is not None:
        return _next_frame(file, compression, position, end)
    file.seek(position)
    file.readline()
    return file.tell()


class Damage(NamedTuple):
    """A part of a compressed file that is not what was written: bytes from, and up to."""

    start: int
    end: int


class Reader:
    """A tape on its way in: batches of whole lines, plain or compressed as its first bytes say.

    Bounded in memory, whatever the file holds. ``start`` is the byte where a line begins, or
    in a compressed file a frame. Where the file is damaged OutputError is raised; but with
    ``damages`` the place is put there, and reading goes on at the next frame.
    """

    def __init__(self, path: Path, *, start: int = 0, damages: list[Damage] | None = None) -> None:
        self.path = path
        self.position = start
        """How much of the file has been taken in."""
        self.compression: Compression | None = None
        self.frames = 0
        """Compressed frames that were whole, their checksums right."""
        self.torn = b""
        """The last line if it has no line end, once all is read."""
        self.is_cut = False
        """Whether a compressed file ends within a frame, once all is read."""
        self._start = start
        self._damages = damages

    def batches(self) -> Iterator[list[bytes]]:
        """The lines without their line ends. Raises OutputError when the file cannot be read."""
        # Grown in place: a line may come in as many pieces as there are compressed frames.
        begun = bytearray()
        for text in self._texts():
            if text is None or len(begun) > _LINE_MOST:
                # What begins ahead of a damage does not go on behind it.
                if begun:
                    yield [bytes(begun)]
                begun.clear()
            first, *more = (text or b"").split(b"\n")
            begun += first
            if more:
                *whole, last = bytes(begun), *more
                begun = bytearray(last)
                yield whole
        self.torn = bytes(begun)

    def _texts(self) -> Iterator[bytes | None]:
        """The text piece by piece; None where some of it is missing."""
        try:
            with self.path.open("rb") as file:
                self.compression = _MAGIC.get(file.read(2))
                file.seek(self._start)
                if self.compression is None:
                    while text := file.read(_PIECE):
                        self.position += len(text)
                        yield text
                else:
                    yield from self._unpacked(file, self.compression)
        except OSError as error:
            raise cannot_read(self.path, error) from error

    def _unpacked(self, file: BinaryIO, compression: Compression) -> Iterator[bytes | None]:
        start, size = self._start, os.fstat(file.fileno()).st_size
        while True:
            try:
                for piece in _pieces(file, compression, self.path, start):
                    self.position = file.tell()
                    self.is_cut = piece.end is None
                    self.frames += piece.end is not None
                    start = piece.start if piece.end is None else piece.end
                    yield piece.text
            except OutputError:
                if self._damages is None:
                    raise
                end = _next_frame(file, compression, start + 1)
            else:
                if not self.is_cut or self._damages is None:
                    return
                # A wrong length may have swallowed what stands behind it.
                end = _next_frame(file, compression, start + 1)
                if end >= size:
                    return
            self._damages.append(Damage(start, end))
            self.is_cut = False
            yield None
            start = file.seek(end)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their line ends; a torn last line has none.

    Raises OutputError when the file cannot be read or is damaged; a compressed file that only
    ends too early ends the lines.
    """
    reader = Reader(path)
    for batch in reader.batches():
        for each in batch:
            yield each + b"\n"
    if reader.torn:
        yield reader.torn


# ── compressed files, frame by frame ──


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Piece(NamedTuple):
    text: bytes
    start: int
    """Where the frame begins in the file."""
    end: int | None
    """Where it ends, in the last piece of a complete frame."""


def _decompressor(compression: Compression) -> _Decompressor:
    return zlib.decompressobj(wbits=31) if compression == "gz" else zstd.ZstdDecompressor()


def _pieces(
    file: BinaryIO, compression: Compression, path: Path, start: int = 0
) -> Iterator[_Piece]:
    """The text of a compressed file from the frame at ``start`` on, where the file stands.

    Raises OutputError where it is damaged.
    """
    position = start
    frame = _decompressor(compression)
    try:
        while block := file.read(_BLOCK):
            position += len(block)
            while block:
                for text in _unpack(frame, block):
                    end = position - len(frame.unused_data) if frame.eof else None
                    yield _Piece(text, start, end)
                if not frame.eof:
                    break
                block = frame.unused_data
                start, frame = position - len(block), _decompressor(compression)
    except (zlib.error, zstd.ZstdError) as error:
        raise OutputError(
            f"{path} is damaged in the frame at byte {start}",
            hint="move it aside, or choose another name",
        ) from error


def _unpack(frame: _Decompressor, block: bytes) -> Iterator[bytes]:
    """What a block gives, in pieces: a few bytes may hold a mountain of text."""
    text = frame.decompress(block, _PIECE)
    while len(text) == _PIECE and not frame.eof:
        yield text
        # zlib hands back what it has not taken yet, zstd keeps it.
        text = frame.decompress(getattr(frame, "unconsumed_tail", b""), _PIECE)
    yield text


def _next_frame(
    file: BinaryIO, compression: Compression, position: int, end: int | None = None
) -> int:
    """Where the next frame begins that can be read, at least in part; else the end of the file,
    or a place behind ``end``."""
    begins = _BEGINS[compression]
    block = b""
    while end is None or position < end:
        found = block.find(begins)
        if found < 0:
            position += max(0, len(block) + 1 - len(begins))
            file.seek(position)
            block = file.read(_BLOCK)
            if len(block) < len(begins):
                return position + len(block)
        elif _can_be_read(file, compression, position + found):
            return position + found
        else:
            position, block = position + found + 1, block[found + 1 :]
    return position


def _can_be_read(file: BinaryIO, compression: Compression, position: int) -> bool:
    """Whether it is no chance that the bytes look like the beginning of a frame."""
    file.seek(position)
    try:
        return bool(_decompressor(compression).decompress(file.read(_BLOCK), _BLOCK))
    except (zlib.error, zstd.ZstdError):
        return False


# ── taking up ──


def take_up(
    file: BinaryIO, path: Path, compression: Compression | None, *, own: bool = False
) -> int:
    """Makes a tape that a crash left end with a whole line, its position there.

    ``file`` is open for reading and writing, unbuffered. What was torn is appended to
    ``PATH.torn`` first; gives the number of bytes that went there. ``own``: the file is ours
    for sure, so it need not begin as a tape does, and what is damaged is torn.
    Raises OutputError when the file is no tape, not compressed as said, or damaged.
    """
    file.seek(0)
    if compression is None:
        return _take_up_plain(file, path, own)
    begin = file.read(2)
    if not own and _MAGIC.get(begin) != compression and _BEGINS[compression][:1] != begin:
        raise _taken(path)
    file.seek(0)
    return _take_up_frames(file, path, compression, own)


def _take_up_plain(file: BinaryIO, path: Path, own: bool) -> int:
    if not own and not _begins_a_tape(file.read(len(line.HEADER))):
        raise _taken(path)
    size = file.seek(0, os.SEEK_END)
    whole = _after_last_newline(file, size)
    return _set_aside(file, path, whole, size)


def _begins_a_tape(text: bytes) -> bool:
    """A crash may have come within the first line, even within its first bytes."""
    return line.HEADER.startswith(text[: len(line.HEADER)])


def _after_last_newline(file: BinaryIO, size: int) -> int:
    """The position behind the last newline; 0 if there is none."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _take_up_frames(file: BinaryIO, path: Path, compression: Compression, own: bool) -> int:
    first = last = b""
    start, end = 0, None
    try:
        for piece in _pieces(file, compression, path):
            if len(first) < len(line.HEADER):
                first += piece.text[: len(line.HEADER)]
            last = piece.text or last
            start, end = piece.start, piece.end
    except OutputError:
        if not own:
            raise
        start, end = start if end is None else end, None
    if not own and not _begins_a_tape(first):
        raise _taken(path)
    size = file.seek(0, os.SEEK_END)
    if end == size and last.endswith(b"\n"):
        return 0
    text = _text_from(file, compression, start)
    torn = _set_aside(file, path, start, size)
    # What could still be read of the torn frame stays on the tape, as a frame of its own.
    if whole := text[: text.rfind(b"\n") + 1]:
        file.write(seal(whole, compression))
    return torn


def _text_from(file: BinaryIO, compression: Compression, start: int) -> bytes:
    """What can be read of the frame that begins there, up to where it is torn or damaged."""
    file.seek(start)
    frame = _decompressor(compression)
    text = bytearray()
    while not frame.eof and (block := file.read(_BLOCK)):
        try:
            text += b"".join(_unpack(frame, block))
        except (zlib.error, zstd.ZstdError):
            return bytes(text) + _last_words(file, compression, start, file.tell() - len(block))
    return bytes(text)


def _last_words(file: BinaryIO, compression: Compression, start: int, good: int) -> bytes:
    """Byte by byte, what can be read behind ``good``, where a block ends in damage."""
    file.seek(start)
    frame = _decompressor(compression)
    while (left := good - file.tell()) > 0:
        for _ in _unpack(frame, file.read(min(left, _BLOCK))):
            pass
    text = bytearray()
    try:
        while byte := file.read(1):
            text += b"".join(_unpack(frame, byte))
    except (zlib.error, zstd.ZstdError):
        pass
    return bytes(text)


def _set_aside(file: BinaryIO, path: Path, start: int, size: int) -> int:
    """Moves the bytes behind ``start`` to ``PATH.torn``, which is safe on disk before the cut."""
    if start < size:
        file.seek(start)
        torn = names.torn(path)
        try:
            with torn.open("ab") as aside:
                while block := file.read(_BLOCK):
                    aside.write(block)
                aside.flush()
                os.fsync(aside.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {torn}: {error.strerror or error}") from error
    file.truncate(start)
    file.seek(start)
    return size - start


def _taken(path: Path) -> OutputError:
    return OutputError(
        f"{path} exists and is no tape", hint="choose another name, or replace it with --overwrite"
    )
