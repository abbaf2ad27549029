from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kfws.errors import OutputError
from kfws.sinks.file import FileSink
from kfws.tapes import files
from kfws.tapes.files import Compression
from kfws.tapes.line import HEADER
from tests.needs import lacking, need

_HEAD = HEADER + b',"at_ns":1}\n'
_SECOND = 1_000_000_000
_ALL: list[Compression | None] = [None, "gz", "zst"]
_COMPRESSIONS: list[Compression] = ["gz", "zst"]


def _line(number: int) -> bytes:
    # Digests do not compress, so that a compressed file grows as a plain one does.
    return b'{"received_ns":%d,"noise":"%b"}\n' % (number, os.urandom(24).hex().encode())


def _read(path: Path) -> list[bytes]:
    return list(files.read_lines(path))


def _recorded(path: Path, compression: Compression | None, lines: list[bytes]) -> None:
    sink = FileSink(path, compression=compression, tape=True)
    sink.open()
    for number, line in enumerate(lines):
        sink.write(line, number * _SECOND)
        sink.sync(number * _SECOND)
    sink.close()


def _given(sink: FileSink, data: bytes) -> None:
    sink.write(data, 0)
    sink.close()


def _tested(path: Path, compression: Compression) -> None:
    """The program of the format itself finds no fault."""
    program = need("gzip" if compression == "gz" else "zstd")
    with path.open("rb") as file:
        subprocess.run([program, "-t"], stdin=file, check=True, capture_output=True)


# ── writing ──


@pytest.mark.parametrize("compression", _ALL)
def test_lines_are_in_the_file_after_close(tmp_path: Path, compression: Compression | None) -> None:
    lines = [_HEAD, *(_line(n) for n in range(100))]
    _recorded(tmp_path / "tape", compression, lines)
    assert _read(tmp_path / "tape") == lines
    if compression:
        _tested(tmp_path / "tape", compression)


@pytest.mark.parametrize("compression", _ALL)
def test_lines_are_readable_after_each_sync(
    tmp_path: Path, compression: Compression | None
) -> None:
    sink = FileSink(tmp_path / "out", compression=compression)
    sink.open()
    for number in range(3):
        sink.write(b"%d\n" % number, number)
        sink.sync(number)
        assert _read(tmp_path / "out") == [b"%d\n" % n for n in range(number + 1)]
    sink.close()


@pytest.mark.parametrize("compression", _COMPRESSIONS)
def test_a_sync_without_news_writes_nothing(tmp_path: Path, compression: Compression) -> None:
    sink = FileSink(tmp_path / "out", compression=compression)
    sink.open()
    sink.sync(0)
    assert (tmp_path / "out").stat().st_size == 0
    sink.write(b"a\n", 0)
    sink.write(b"", 0)
    sink.sync(1)
    size = (tmp_path / "out").stat().st_size
    sink.sync(2)
    assert (tmp_path / "out").stat().st_size == size
    sink.close()


def _frame_count(path: Path) -> int:
    with path.open("rb") as file:
        return len({piece.start for piece in files._pieces(file, "zst", path)})


def test_a_frame_ends_after_a_mebibyte_of_text_or_a_minute(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out", compression="zst")
    sink.open()
    sink.write(b"x" * (1 << 20) + b"\n", 0)
    sink.write(b"second\n", 0)
    sink.sync(59 * _SECOND)
    sink.write(b"still second\n", 59 * _SECOND)
    sink.sync(60 * _SECOND)
    sink.write(b"third\n", 61 * _SECOND)
    sink.write(b"third, for long\n", 121 * _SECOND)
    sink.write(b"fourth\n", 121 * _SECOND)
    sink.close()
    assert _frame_count(tmp_path / "out") == 4
    _tested(tmp_path / "out", "zst")


def test_a_second_close_does_nothing(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out")
    sink.open()
    sink.close()
    sink.close()


# ── what is there already ──


@pytest.mark.parametrize("compression", _ALL)
def test_a_tape_is_appended_to(tmp_path: Path, compression: Compression | None) -> None:
    first, second = [_HEAD, _line(1)], [_HEAD, _line(2)]
    _recorded(tmp_path / "tape", compression, first)
    _recorded(tmp_path / "tape", compression, second)
    assert _read(tmp_path / "tape") == first + second
    if compression:
        _tested(tmp_path / "tape", compression)


@pytest.mark.parametrize("compression", _ALL)
def test_a_torn_tape_is_taken_up_and_the_torn_part_set_aside(
    tmp_path: Path, compression: Compression | None
) -> None:
    path = tmp_path / "tape"
    _recorded(path, compression, [_HEAD, _line(1)])
    whole = _read(path)
    path.write_bytes(
        path.read_bytes() + (files.seal(_line(2), compression)[:-9] if compression else b'{"r')
    )
    sink = FileSink(path, compression=compression, tape=True)
    sink.open()
    assert sink.torn_bytes == path.with_name("tape.torn").stat().st_size > 0
    sink.write(b"after\n", 0)
    sink.close()
    lines = _read(path)
    assert lines[:2] == whole
    assert lines[-1] == b"after\n"
    if compression:
        _tested(path, compression)


def test_anything_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(b"notes\n")
    for tape in (False, True):
        with pytest.raises(OutputError) as caught:
            FileSink(path, tape=tape).open()
        assert "--overwrite" in caught.value.hint
    assert path.read_bytes() == b"notes\n"


def test_what_is_no_tape_is_not_appended_to_even_if_a_tape_is_there(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(_HEAD)
    with pytest.raises(OutputError, match="is not empty"):
        FileSink(path, tape=False).open()


def test_overwrite_replaces_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(b"notes\n")
    sink = FileSink(path, overwrite=True)
    sink.open()
    sink.write(b"new\n", 0)
    sink.close()
    assert path.read_bytes() == b"new\n"


def test_an_empty_file_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    sink = FileSink(path)
    sink.open()
    sink.close()


# ── what cannot be opened ──


def test_a_second_writer_is_kept_out_until_the_first_is_done(tmp_path: Path) -> None:
    first = FileSink(tmp_path / "out", overwrite=True)
    first.open()
    first.write(b"mine\n", 0)
    with pytest.raises(OutputError, match="another program writes to"):
        FileSink(tmp_path / "out", overwrite=True).open()
    first.close()
    assert (tmp_path / "out").read_bytes() == b"mine\n"
    second = FileSink(tmp_path / "out", overwrite=True)
    second.open()
    second.close()


def test_a_missing_folder_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder") as caught:
        FileSink(tmp_path / "no" / "where" / "out").open()
    assert f"mkdir -p {tmp_path / 'no' / 'where'}" in caught.value.hint


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a directory"):
        FileSink(tmp_path).open()


def test_a_folder_that_is_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="not a directory"):
        FileSink(tmp_path / "file" / "out").open()


def test_a_file_without_leave_to_write_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "out").touch(mode=0o400)
    with pytest.raises(OutputError, match="permission denied"):
        FileSink(tmp_path / "out").open()


# ── what is no regular file ──


def test_dev_null_takes_everything() -> None:
    for _ in range(2):
        sink = FileSink(Path(os.devnull), tape=True)
        sink.open()
        sink.write(b"gone\n", 0)
        sink.sync(1)
        sink.close()


def test_a_pipe_that_nobody_reads_is_said_so_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="nobody reads that pipe") as caught:
        FileSink(tmp_path / "pipe").open()
    assert caught.value.hint == "start its reader first"


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A named pipe, and the descriptor of its reader."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    yield tmp_path / "pipe", reader
    if reader >= 0:
        os.close(reader)


def test_a_pipe_with_a_reader_gets_the_lines(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    sink = FileSink(path)
    sink.open()
    sink.write(b"one\ntwo\n", 0)
    sink.close()
    assert os.read(reader, 100) == b"one\ntwo\n"


def test_a_pipe_takes_more_than_it_holds_as_its_reader_reads(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    os.set_blocking(reader, True)
    sink = FileSink(path)
    sink.open()
    data = b"x" * 499_999 + b"\n"
    writer = threading.Thread(target=_given, args=(sink, data))
    writer.start()
    received = bytearray()
    while block := os.read(reader, 65_536):
        received += block
    writer.join()
    assert received == data


@pytest.mark.parametrize("compression", _ALL)
def test_a_reader_that_left_ends_the_output(
    tmp_path: Path, compression: Compression | None
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    sink = FileSink(tmp_path / "pipe", compression=compression)
    sink.open()
    os.close(reader)
    with pytest.raises(OutputError, match=r"reader of .* left"):
        _given(sink, b"one\ntwo\n")
    assert sink.lines_lost == 2


# ── disks that are full ──

_RECORDER = """
    import resource, sys
    from pathlib import Path
    from kfws.errors import OutputError
    from kfws.sinks.file import FileSink

    path, compression, limit, syncs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sink = FileSink(Path(path), compression=compression if compression != "None" else None)
    sink.open()
    lines = sys.stdin.buffer.read().splitlines(keepends=True)
    taken = 0
    try:
        for at in range(0, len(lines), 7):
            taken += len(lines[at : at + 7])
            sink.write(b"".join(lines[at : at + 7]), at)
            if at % syncs == 0:
                sink.sync(at)
        sink.close()
    except OutputError as error:
        print(error.message, taken, sink.lines_lost, sep="|")
"""


def _filled(
    path: Path, compression: Compression | None, lines: list[bytes], *, limit: int, syncs: int
) -> tuple[str, list[bytes]]:
    """Records in a process of its own until it fails; the sentence, and what it says is kept."""
    arguments = [path, compression, limit, syncs]
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_RECORDER), *map(str, arguments)],
        input=b"".join(lines),
        capture_output=True,
        check=True,
    )
    assert answer.stderr == b""
    sentence, taken, lost = answer.stdout.decode().split("|")
    return sentence, lines[: int(taken) - int(lost)]


@pytest.mark.parametrize("compression", _ALL)
@pytest.mark.parametrize("syncs", [1, 7, 7000])
def test_at_a_file_size_limit_the_file_holds_whole_lines_and_the_rest_is_counted(
    tmp_path: Path, compression: Compression | None, syncs: int
) -> None:
    path = tmp_path / "out"
    lines = [_line(number) for number in range(6000)]
    sentence, kept = _filled(path, compression, lines, limit=100_000, syncs=syncs)
    assert sentence == f"file size limit reached: {path}"
    assert _read(path) == kept
    assert path.stat().st_size <= 100_000
    if compression:
        _tested(path, compression)
    if not (compression and syncs == 7000):
        assert kept


@pytest.mark.parametrize("compression", _COMPRESSIONS)
def test_frames_that_were_sealed_survive_a_limit_reached_later(
    tmp_path: Path, compression: Compression
) -> None:
    path = tmp_path / "out"
    lines = [_line(number) for number in range(20_000)]
    limit = len(files.seal(b"".join(lines), compression)) - 5000
    sentence, kept = _filled(path, compression, lines, limit=limit, syncs=7000)
    assert "limit" in sentence
    assert len(kept) > len(lines) // 2
    assert _read(path) == kept
    _tested(path, compression)


@pytest.mark.parametrize("compression", _COMPRESSIONS)
def test_lines_that_were_synced_are_kept_where_there_is_no_room_to_end_their_frame(
    tmp_path: Path, compression: Compression
) -> None:
    lines = [_line(number) for number in range(14)]
    sink = FileSink(tmp_path / "first", compression=compression)
    sink.open()
    sink.write(b"".join(lines[:7]), 0)
    sink.sync(0)
    limit = sink.size
    sink.close()
    path = tmp_path / "out"
    _, kept = _filled(path, compression, lines, limit=limit, syncs=1)
    assert kept == _read(path) == lines[:7]
    again = FileSink(path, compression=compression, own=True)
    again.open()
    again.close()
    assert _read(path) == kept
    _tested(path, compression)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "256k") as disk:
        yield disk


@contextmanager
def mounted(disk: Path, size: str) -> Iterator[Path]:
    """A disk of that size."""
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("compression", _ALL)
def test_a_full_disk_is_one_sentence_and_whole_lines(
    small_disk: Path, compression: Compression | None
) -> None:
    path = small_disk / "out"
    lines = [_line(number) for number in range(12_000)]
    sentence, kept = _filled(path, compression, lines, limit=0, syncs=70)
    assert sentence == f"disk full: {path}"
    assert kept
    assert _read(path) == kept
    if compression:
        _tested(path, compression)


def test_dev_full_is_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        lacking("there is no /dev/full")
    sink = FileSink(Path("/dev/full"))
    sink.open()
    with pytest.raises(OutputError, match="disk full: /dev/full"):
        sink.write(b"one\ntwo\n", 0)
    assert sink.lines_lost == 2
