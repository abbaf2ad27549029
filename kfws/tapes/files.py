"""Tapes as files: read them, plain or compressed, and take up what a crash left.

A compressed tape is a row of frames (gzip calls them members), each complete in itself; what a
crash cuts is the last one, so at most the text behind its last flushed block is lost.
"""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol

from kfws.errors import OutputError
from kfws.tapes import line, names

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["Compression", "Compressor", "compression_of", "read_lines", "seal", "take_up"]

Compression = Literal["gz", "zst"]

_MAGICS: dict[Compression, bytes] = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5"}
_MAGIC = {begin: compression for compression, begin in _MAGICS.items()}
_BLOCK = 1 << 16
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


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their line ends, plain or compressed as its first bytes say.

    A last line without a line end is a torn one. Raises OutputError when the file cannot be
    read or is damaged; a compressed file that only ends too early ends the lines.
    """
    try:
        with path.open("rb") as file:
            compression = _MAGIC.get(file.read(2))
            file.seek(0)
            if compression is None:
                yield from file
            else:
                yield from _split(piece.text for piece in _pieces(file, compression, path))
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def _split(texts: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for text in texts:
        *whole, rest = (rest + text).split(b"\n")
        for each in whole:
            yield each + b"\n"
    if rest:
        yield rest


# ── compressed files, frame by frame ──


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Piece(NamedTuple):
    text: bytes
    start: int
    """Where the frame begins in the file."""
    end: int | None
    """Where it ends, in the last piece of a complete frame."""


def _decompressor(compression: Compression) -> _Decompressor:
    return zlib.decompressobj(wbits=31) if compression == "gz" else zstd.ZstdDecompressor()


def _pieces(file: BinaryIO, compression: Compression, path: Path) -> Iterator[_Piece]:
    """The text of a compressed file, piece by piece. Raises OutputError where it is damaged."""
    start = position = 0
    frame = _decompressor(compression)
    try:
        while block := file.read(_BLOCK):
            position += len(block)
            while block:
                text = frame.decompress(block)
                if not frame.eof:
                    yield _Piece(text, start, None)
                    break
                block = frame.unused_data
                end = position - len(block)
                yield _Piece(text, start, end)
                start, frame = end, _decompressor(compression)
    except (zlib.error, zstd.ZstdError) as error:
        raise OutputError(
            f"{path} is damaged in the frame at byte {start}",
            hint="move it aside, or choose another name",
        ) from error


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
    if not own and _MAGIC.get(begin) != compression and _MAGICS[compression][:1] != begin:
        raise _no_tape(path)
    file.seek(0)
    return _take_up_frames(file, path, compression, own)


def _take_up_plain(file: BinaryIO, path: Path, own: bool) -> int:
    if not own and not _begins_a_tape(file.read(len(line.HEADER))):
        raise _no_tape(path)
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
        raise _no_tape(path)
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
            text += frame.decompress(block)
        except (zlib.error, zstd.ZstdError):
            return bytes(text) + _last_words(file, compression, start, file.tell() - len(block))
    return bytes(text)


def _last_words(file: BinaryIO, compression: Compression, start: int, good: int) -> bytes:
    """Byte by byte, what can be read behind ``good``, where a block ends in damage."""
    file.seek(start)
    frame = _decompressor(compression)
    while (left := good - file.tell()) > 0:
        frame.decompress(file.read(min(left, _BLOCK)))
    text = bytearray()
    try:
        while byte := file.read(1):
            text += frame.decompress(byte)
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
            raise OutputError(f"cannot write {torn}: {error.strerror}") from error
    file.truncate(start)
    file.seek(start)
    return size - start


def _no_tape(path: Path) -> OutputError:
    return OutputError(
        f"{path} exists and is no tape", hint="choose another name, or replace it with --overwrite"
    )
