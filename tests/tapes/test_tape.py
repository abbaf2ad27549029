from __future__ import annotations

from pathlib import Path

import pytest

from kfws.errors import OutputError
from kfws.tapes import files
from kfws.tapes.tape import tapes_in
from tests.tapes.taping import AT, book, header, opened, tape


def test_a_tape_says_what_it_holds(tmp_path: Path) -> None:
    begin = header(AT - 5, feeds=["book", 7], products=["PF_A"], simulated=True)
    path = tape(tmp_path / "a.ndjson.zst", [begin, opened(AT + 3)])
    [found] = tapes_in([str(path)])
    assert (found.feeds, found.products) == (("book",), ("PF_A",))
    assert (found.first_ns, found.size) == (AT + 3, path.stat().st_size)
    assert found.is_simulated
    assert not found.is_filtered


def test_a_header_alone_is_a_tape_too(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(AT, feeds=None, filter={"where": "a"})])
    [found] = tapes_in([str(path)])
    assert (found.first_ns, found.feeds, found.products) == (AT, (), ())
    assert found.is_filtered


def test_tapes_are_ordered_by_what_comes_first_on_them(tmp_path: Path) -> None:
    for name, seq in (("a", 3), ("b", 1), ("c", 2)):
        tape(tmp_path / f"{name}.ndjson", [header(), book(seq)])
    assert [each.path.stem for each in tapes_in([str(tmp_path)])] == ["b", "c", "a"]


@pytest.mark.parametrize("content", [b"", b"notes\n", b'{"kfws":"gap"}\n', b'{"kfws":"header"\n'])
def test_what_does_not_begin_as_a_tape_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is no tape"):
        tapes_in([str(path)])


# Finding a place


@pytest.fixture(name="long", params=["a.ndjson", "a.ndjson.gz", "a.ndjson.zst"])
def _long(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tape of so many messages that its places are worth finding, each at its number of ms."""
    events = [book(number, product=f"PF_{number * 7919 % 99991}USD") for number in range(20_000)]
    return tape(tmp_path / request.param, [header(AT), *events])


@pytest.mark.parametrize("number", [0, 1, 9_999, 15_000, 19_999, 30_000])
def test_no_line_behind_a_moment_is_missed_and_few_before_it_are_read(
    number: int, long: Path
) -> None:
    moment_ns = AT + number * 1_000_000
    place = files.place_of(long, moment_ns)
    first = files.first_ns(long, place)
    assert first is not None
    assert first <= moment_ns
    whole = long.stat().st_size
    ideal = whole * min(number, 20_000) / 20_000
    assert ideal - place < 140_000


def test_the_last_moment_is_found_from_behind(long: Path) -> None:
    assert files.last_ns(long) == AT + 19_999 * 1_000_000


def test_a_tape_in_one_compressed_piece_is_read_from_its_beginning(tmp_path: Path) -> None:
    plain = tape(tmp_path / "a.ndjson", [header(), *(book(n) for n in range(20_000))])
    path = tmp_path / "b.ndjson.zst"
    path.write_bytes(files.seal(plain.read_bytes(), "zst"))
    assert files.place_of(path, AT + 15_000 * 1_000_000) == 0


def test_the_end_of_a_tape_is_not_looked_for_at_any_price(tmp_path: Path) -> None:
    junk = tmp_path / "a.ndjson"
    junk.write_bytes(b'{"kfws":"header","at_ns":5}\n' + b"x" * (5 << 20))
    assert files.last_ns(junk) is None


def test_a_place_in_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot read"):
        files.place_of(tmp_path / "none", AT)
