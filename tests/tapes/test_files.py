from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.errors import OutputError
from kfws.tapes import files
from kfws.tapes.files import Compression
from kfws.tapes.line import HEADER

_HEAD = HEADER + b',"at_ns":1}\n'
_LINES = [_HEAD, *(b'{"received_ns":%d,"feed":"heartbeat"}\n' % n for n in range(40))]
_COMPRESSIONS: list[Compression] = ["gz", "zst"]


def _frames(compression: Compression) -> bytes:
    half = len(_LINES) // 2
    first, second = b"".join(_LINES[:half]), b"".join(_LINES[half:])
    return files.seal(first, compression) + files.seal(second, compression)


def _taken_up(path: Path, compression: Compression | None) -> int:
    with path.open("r+b", buffering=0) as file:
        torn = files.take_up(file, path, compression)
        assert file.tell() == path.stat().st_size
    return torn


@pytest.mark.parametrize(
    ("name", "compression"),
    [("a.ndjson", None), ("a.ndjson.gz", "gz"), ("a.ndjson.zst", "zst"), ("A.ZST", "zst")],
)
def test_compression_is_told_by_the_last_suffix(name: str, compression: str | None) -> None:
    assert files.compression_of(Path(name)) == compression


@pytest.mark.parametrize("compression", _COMPRESSIONS)
def test_a_file_of_several_frames_reads_as_one(tmp_path: Path, compression: Compression) -> None:
    path = tmp_path / "tape"
    path.write_bytes(_frames(compression))
    assert list(files.read_lines(path)) == _LINES


def test_a_torn_last_line_has_no_line_end(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(_HEAD + b'{"rec')
    assert list(files.read_lines(path)) == [_HEAD, b'{"rec']


@pytest.mark.parametrize("compression", _COMPRESSIONS)
def test_what_was_flushed_is_readable_before_the_frame_ends(
    tmp_path: Path, compression: Compression
) -> None:
    path = tmp_path / "tape"
    frame = files.Compressor(compression)
    path.write_bytes(frame.compress(_HEAD) + frame.flush() + frame.compress(_LINES[1]))
    assert list(files.read_lines(path)) == [_HEAD]


@pytest.mark.parametrize("compression", _COMPRESSIONS)
def test_rot_is_told_by_the_checksum(tmp_path: Path, compression: Compression) -> None:
    path = tmp_path / "tape"
    sealed = bytearray(files.seal(_HEAD, compression))
    sealed[-5 if compression == "gz" else -1] ^= 1
    path.write_bytes(sealed)
    with pytest.raises(OutputError, match="damaged in the frame at byte 0"):
        list(files.read_lines(path))


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot read"):
        list(files.read_lines(tmp_path / "none"))


@pytest.mark.parametrize("compression", [None, *_COMPRESSIONS])
def test_a_whole_tape_is_taken_up_as_it_is(tmp_path: Path, compression: Compression | None) -> None:
    path = tmp_path / "tape"
    content = _frames(compression) if compression else b"".join(_LINES)
    path.write_bytes(content)
    assert _taken_up(path, compression) == 0
    assert path.read_bytes() == content
    assert not path.with_name("tape.torn").exists()


@given(cut=st.integers(len(HEADER), len(b"".join(_LINES)) - 1))
def test_a_plain_tape_cut_anywhere_loses_the_torn_line_and_that_is_kept_aside(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "tape"
    content = b"".join(_LINES)[:cut]
    path.write_bytes(content)
    whole = content[: content.rfind(b"\n") + 1]
    assert _taken_up(path, None) == len(content) - len(whole)
    assert path.read_bytes() == whole
    torn = path.with_name("tape.torn")
    assert (torn.read_bytes() if torn.exists() else b"") == content[len(whole) :]


@pytest.mark.parametrize("compression", _COMPRESSIONS)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_compressed_tape_cut_anywhere_reads_whole_again(
    tmp_path_factory: pytest.TempPathFactory, compression: Compression, share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "tape"
    half = len(_LINES) // 2
    sealed = files.seal(b"".join(_LINES[:half]), compression)
    open_frame = files.Compressor(compression)
    synced = open_frame.compress(b"".join(_LINES[half:-1])) + open_frame.flush()
    unsynced = open_frame.compress(_LINES[-1]) + open_frame.finish()
    content = sealed + synced + unsynced[: int(share * len(unsynced))]
    path.write_bytes(content)
    torn = _taken_up(path, compression)
    recovered = list(files.read_lines(path))
    assert recovered[: len(_LINES) - 1] == _LINES[:-1]
    assert path.with_name("tape.torn").read_bytes() == content[len(sealed) :]
    assert torn == len(content) - len(sealed)


@pytest.mark.parametrize("compression", _COMPRESSIONS)
def test_a_frame_of_others_that_ends_inside_a_line_is_torn_too(
    tmp_path: Path, compression: Compression
) -> None:
    path = tmp_path / "tape"
    path.write_bytes(files.seal(_HEAD + b'{"rec', compression))
    assert _taken_up(path, compression) > 0
    assert list(files.read_lines(path)) == [_HEAD]


@pytest.mark.parametrize("compression", [None, *_COMPRESSIONS])
@pytest.mark.parametrize("content", [b"notes\n", b'{"kfws":"gap"}\n', b"PK\x03\x04"])
def test_what_is_no_tape_is_refused_and_left_alone(
    tmp_path: Path, compression: Compression | None, content: bytes
) -> None:
    path = tmp_path / "tape"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is no tape"):
        _taken_up(path, compression)
    assert path.read_bytes() == content


@pytest.mark.parametrize("compression", _COMPRESSIONS)
def test_a_compressed_file_of_something_else_is_no_tape(
    tmp_path: Path, compression: Compression
) -> None:
    path = tmp_path / "tape"
    path.write_bytes(files.seal(b"notes\n", compression))
    with pytest.raises(OutputError, match="is no tape"):
        _taken_up(path, compression)


def test_a_plain_tape_under_a_compressed_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tape.zst"
    path.write_bytes(_HEAD)
    with pytest.raises(OutputError, match="is no tape"):
        _taken_up(path, "zst")


def test_nothing_is_cut_when_the_torn_part_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(_HEAD + b"torn")
    path.with_name("tape.torn").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*tape\.torn"):
        _taken_up(path, None)
    assert path.read_bytes() == _HEAD + b"torn"


def test_a_line_longer_than_a_block_is_found_from_the_end() -> None:
    content = _HEAD + b"x" * 200_000
    assert files._after_last_newline(io.BytesIO(content), len(content)) == len(_HEAD)
