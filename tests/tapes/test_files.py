from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.errors import OutputError
from kfws.tapes import files
from kfws.tapes.files import Compression, Reader
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


# ── reading ──


def _read(path: Path, **more: Any) -> tuple[list[bytes], Reader]:
    reader = Reader(path, **more)
    return [each for batch in reader.batches() for each in batch], reader


_WHOLE = [each.removesuffix(b"\n") for each in _LINES]


@given(cut=st.integers(0, len(b"".join(_LINES))))
def test_a_plain_tape_cut_anywhere_reads_up_to_the_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "tape"
    content = b"".join(_LINES)[:cut]
    path.write_bytes(content)
    found, reader = _read(path)
    assert b"\n".join([*found, reader.torn]) == content
    assert reader.position == cut


@pytest.mark.parametrize("compression", _COMPRESSIONS)
@given(share=st.floats(0, 1))
def test_a_compressed_tape_cut_anywhere_reads_as_far_as_it_goes(
    tmp_path_factory: pytest.TempPathFactory, compression: Compression, share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "tape"
    content = _frames(compression)
    path.write_bytes(content[: int(len(content) * share)])
    found, reader = _read(path, damages=[])
    assert found == _WHOLE[: len(found)]
    if reader.frames == 2:
        assert found == _WHOLE


@pytest.mark.parametrize("compression", _COMPRESSIONS)
@given(data=st.data())
def test_a_compressed_tape_is_read_on_behind_a_damage(
    tmp_path_factory: pytest.TempPathFactory, compression: Compression, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("rot") / "tape"
    first = files.seal(_HEAD, compression)
    rest = _frames(compression)
    rotten = bytearray(first + rest)
    at = data.draw(st.integers(len(files._BEGINS[compression]), len(first) - 1))
    rotten[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(rotten)
    damages: list[files.Damage] = []
    found, _ = _read(path, damages=damages)
    # Where a flag was hit, a frame may seem whole that is followed by bytes of no frame.
    assert [each.end for each in damages] in ([len(first)], [])
    assert found[-len(_WHOLE) :] == _WHOLE
    assert damages or found[0] == _HEAD.removesuffix(b"\n")


def test_a_few_bytes_that_hold_a_mountain_of_text_come_in_pieces(tmp_path: Path) -> None:
    text = b"x" * (8 << 20) + b"\n" + _HEAD
    for compression in _COMPRESSIONS:
        path = tmp_path / compression
        path.write_bytes(files.seal(text, compression))
        assert _read(path)[0] == text.split(b"\n")[:-1]


def test_a_line_without_end_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    found, reader = _read(path)
    assert max(map(len, [*found, reader.torn])) < 40 << 20


def test_tapes_are_found_by_name_in_folders_and_by_globs_the_oldest_first(tmp_path: Path) -> None:
    names = ["b/a.ndjson", "a/z.ndjson.zst", "a/b.ndjson.gz.open"]
    for age, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'{"kfws":"header","at_ns":%d}\n' % (9 - age))
    (tmp_path / "a" / "b.ndjson.gz.torn").write_bytes(b"torn")
    (tmp_path / "a" / "notes.txt").write_bytes(b"{}")
    wanted = [tmp_path / name for name in reversed(names)]
    assert files.find([str(tmp_path)]) == wanted
    assert files.find([str(tmp_path / "*"), str(wanted[0])]) == wanted
    assert files.find([str(tmp_path / "a" / "b*")]) == wanted[:1]


def test_a_name_that_finds_no_tape_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no"):
        files.find([str(tmp_path / "none*")])
    with pytest.raises(OutputError, match="no tape in"):
        files.find([str(tmp_path)])


@contextmanager
def _as_nobody() -> Iterator[None]:
    """What root would read all the same is shut to others."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_what_cannot_be_looked_at_is_named_and_the_rest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.ndjson").write_bytes(_HEAD)
    (tmp_path / "gone.ndjson").symlink_to("nowhere")
    shut = tmp_path / "shut"
    shut.mkdir()
    (shut / "b.ndjson").write_bytes(_HEAD)
    (tmp_path / "link.ndjson").symlink_to("shut/b.ndjson")
    shut.chmod(0)
    faults: list[OutputError] = []
    try:
        with _as_nobody():
            assert files.find(["."], faults=faults) == [Path("a.ndjson")]
            with pytest.raises(OutputError, match="cannot read"):
                files.find(["."])
            assert files.find(["./*"], faults=[]) == [Path("a.ndjson")]
    finally:
        shut.chmod(0o755)
    assert sorted(each.message for each in faults) == [
        "cannot read ./shut: Permission denied",
        "cannot read link.ndjson: Permission denied",
    ]


def test_a_file_without_a_line_of_a_tape_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    for text in (b"notes\n", b"notes", b"a,b\n1,2\n"):
        path.write_bytes(text)
        with pytest.raises(OutputError, match="is no tape"):
            files.check(path)
    for text in (b"", _HEAD, _HEAD[:5], b"junk\n" + _HEAD, _frames("zst")[:30]):
        path.write_bytes(text)
        files.check(path)
