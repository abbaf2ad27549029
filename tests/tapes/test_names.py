from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.errors import OutputError, UsageError
from kfws.tapes.names import OPEN, Template, free, opened, torn

AT_NS = 1_795_536_000_000_000_000
"""2026-11-24 16:00:00 UTC."""


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("book.ndjson.zst", "book.20261124T160000Z.ndjson.zst"),
        ("book.csv", "book.20261124T160000Z.csv"),
        ("a.b/book", "a.b/book.20261124T160000Z"),
        ("{feed}-{product}.ndjson.gz", "book-PF_XBTUSD.20261124T160000Z.ndjson.gz"),
        ("{date}/{feed}.ndjson", "20261124/book.160000Z.ndjson"),
        ("{feed}.{time}.ndjson", "book.160000.ndjson"),
        ("book-{n}.ndjson", "book-7.ndjson"),
    ],
)
def test_a_rotation_puts_the_moment_ahead_of_the_suffixes_where_nothing_tells_files_apart(
    typed: str, name: str
) -> None:
    template = Template.of(typed, rotates=True)
    assert template.path("book", "PF_XBTUSD", AT_NS, 7) == Path(name)


def test_without_rotation_the_path_is_the_path() -> None:
    assert Template.of("book.ndjson", rotates=False).path("", "", AT_NS, 1) == Path("book.ndjson")


@pytest.mark.parametrize("path", [".", "..", "a/.", "/..", "/"])
@pytest.mark.parametrize("rotates", [True, False])
def test_a_folder_is_no_name_of_a_file(path: str, rotates: bool) -> None:
    with pytest.raises(OutputError, match="is a directory"):
        Template.of(path, rotates=rotates)


def test_what_is_no_field_is_said_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"there is no \{hour\}") as caught:
        Template.of("{feed}.{hour}.ndjson", rotates=True)
    assert caught.value.hint == "there are {feed} {product} {date} {time} {n}"


@given(feed=st.text(max_size=9), product=st.text(max_size=9))
def test_whatever_the_venue_calls_things_the_path_stays_in_its_folder(
    feed: str, product: str
) -> None:
    path = Template("x/{feed}.{product}.ndjson").path(feed, product, AT_NS, 1)
    assert path.parent == Path("x")
    assert os.fsencode(path).isascii()


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("a.ndjson", "."),
        ("/t/a.ndjson", "/t"),
        ("t/{date}/a", "t"),
        ("{feed}", "."),
        ("t/a{n}", "t"),
    ],
)
def test_the_folder_is_what_no_field_is_part_of(text: str, folder: str) -> None:
    assert Template(text).folder == Path(folder)


def test_only_files_of_the_template_are_found(tmp_path: Path) -> None:
    ours = ["book.20261124T150000Z.ndjson", "trade.20261124T140000Z_001.ndjson"]
    others = [
        "book.ndjson",
        "book.20261124T150000Z.ndjson.open",
        "book.20261124T150000Z.ndjson.torn",
        "book.20261124T150000Z.ndjson.zst",
        "ticker.20261124T150000Z.ndjson",
        "book.2026112T150000Z.ndjson",
        "my-book.20261124T150000Z.ndjson",
        "book.20261124T150000Z_1.ndjson",
    ]
    for name in ours + others:
        (tmp_path / name).touch()
    template = Template.of(str(tmp_path / "{feed}.ndjson"), rotates=True)
    assert [path.name for path in template.found(["book", "trade"])] == ours
    assert [path.name for path in template.found(["book"], ending=OPEN)] == [others[1]]


def test_files_are_found_in_folders_of_the_template_and_in_those_with_odd_names(
    tmp_path: Path,
) -> None:
    odd = tmp_path / "[a]*"
    for folder in ("20261124", "20261125", "notes"):
        (odd / folder).mkdir(parents=True)
        (odd / folder / "PF_XBTUSD.1.ndjson").touch()
    template = Template(f"{odd}/{{date}}/{{product}}.{{n}}.ndjson")
    found = [str(path.parent.name) for path in template.found(["book"])]
    assert found == ["20261124", "20261125"]
    assert [*template.found(["book"], product="PF_ETHUSD")] == []


def test_counting_goes_on_behind_the_highest_number_that_is_there(tmp_path: Path) -> None:
    for name in ("book-2.ndjson", "book-10.ndjson.open", "trade-30.ndjson", "book-x.ndjson"):
        (tmp_path / name).touch()
    template = Template(str(tmp_path / "{feed}-{n}.ndjson"))
    assert template.highest("book", "") == 10
    assert template.highest("ticker", "") == 0
    assert Template("{feed}.ndjson").highest("book", "") == 0


def test_a_field_that_stands_twice_has_one_value(tmp_path: Path) -> None:
    for folder, name in (("book", "book"), ("book", "trade")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.1.ndjson").touch()
    template = Template(str(tmp_path / "{feed}" / "{feed}.{n}.ndjson"))
    assert [path.name for path in template.found(["book", "trade"])] == ["book.1.ndjson"]


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.zst"
    assert free(path) == path
    path.touch()
    assert free(path) == tmp_path / "a_001.ndjson.zst"
    opened(tmp_path / "a_001.ndjson.zst").touch()
    assert free(path) == tmp_path / "a_002.ndjson.zst"
    own = opened(tmp_path / "a_001.ndjson.zst")
    assert free(path, own=own) == tmp_path / "a_001.ndjson.zst"


def test_what_was_torn_stands_beside_the_final_name() -> None:
    assert torn(Path("t/a.ndjson")) == Path("t/a.ndjson.torn")
    assert torn(Path("t/a.ndjson.open")) == Path("t/a.ndjson.torn")
