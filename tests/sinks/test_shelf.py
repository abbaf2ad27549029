from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.errors import DiskFull, InUse, OutputError
from kfws.protocol.events import Closed, Data, Gap, Notice, Opened, Report, Subscribed
from kfws.sinks import shelf as shelves
from kfws.sinks.csv import Csv
from kfws.sinks.ndjson import Ndjson
from kfws.sinks.shelf import GRACE_NS, Encoder, Keeping, Shelf
from kfws.tapes import line
from kfws.tapes.files import compression_of, read_lines
from kfws.tapes.names import Template
from tests.sinks.events import all_data
from tests.sinks.test_file import mounted

S = 1_000_000_000
H = 3600 * S
AT = 1_795_536_000 * S
"""2026-11-24 16:00:00 UTC: the edge of an hour."""


def message(number: int, feed: str = "book", product: str = "PF_XBTUSD", at: int = AT) -> Data:
    payload = b'{"feed":"%b","product_id":"%b","seq":%d,"noise":"%b"}' % (
        feed.encode(), product.encode(), number, os.urandom(24).hex().encode(),
    )  # fmt: skip
    return Data(
        payload=payload, received_ns=at, feed=feed, product=product, seq=number, venue_ms=number
    )


def opened(number: int = 1) -> Opened:
    return Opened(received_ns=AT - 60 * S, connection=number, url="ws://x")


def closed(number: int = 1) -> Closed:
    return Closed(received_ns=AT - 60 * S, connection=number, code=1000, reason="")


def subscribed(feed: str, product: str) -> Subscribed:
    return Subscribed(payload=b"{}", received_ns=AT - 60 * S, feed=feed, products=(product,))


HEADER = Report(received_ns=AT - 60 * S, name="header", fields={"feeds": ["book"]})
TOTALS = Report(received_ns=AT, name="totals", fields={})


class Told(list[str]):
    """Sentences that a person would read."""

    def __call__(self, code: str, sentence: str) -> None:
        self.append(sentence)


def ndjson(feed: str) -> Encoder:
    return Ndjson(stamp=True, events=True)


def tape(path: Path, *, at: int = AT, tell: Told | None = None, **how: Any) -> Shelf:
    rotates = bool(how.get("rotate_ns") or how.get("rotate_bytes"))
    keeping = Keeping(
        template=Template.of(str(path), rotates=rotates),
        compression=compression_of(path),
        is_tape=True,
        **{"feeds": ("book", "trade")} | how,
    )
    shelf = Shelf(keeping, ndjson, Told() if tell is None else tell)
    shelf.open(at)
    return shelf


def kinds(path: Path) -> list[str]:
    """Of each line the name of our own event, or the number of the message."""
    lines = [json.loads(each) for each in read_lines(path)]
    return [str(each.get("kfws") or each["seq"]) for each in lines]


def names(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


# Rotation


def test_a_file_has_its_final_name_when_it_is_complete(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "x.ndjson.zst", at=AT - 5 * S, rotate_ns=H)
    assert names(tmp_path) == ["x.20261124T155955Z.ndjson.zst.open"]
    shelf.write([HEADER, message(1, at=AT - S)], AT - S)
    shelf.write([message(2)], AT)
    assert names(tmp_path) == [
        "x.20261124T155955Z.ndjson.zst",
        "x.20261124T160000Z.ndjson.zst.open",
    ]
    shelf.write([TOTALS], AT)
    shelf.close(AT + S)
    first, second = names(tmp_path)
    assert kinds(tmp_path / first) == ["header", "1", "continued"]
    assert kinds(tmp_path / second) == ["header", "2", "totals"]


def test_the_end_of_a_file_counts_its_messages_and_the_next_names_it(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "x.ndjson", at=AT - 1, rotate_ns=H)
    shelf.write([HEADER, message(1, at=AT - 1), message(2, at=AT - 1), message(3)], AT)
    shelf.close(AT)
    first, second = names(tmp_path)
    *_, end = read_lines(tmp_path / first)
    assert json.loads(end) == {"kfws": "continued", "at_ns": AT, "messages_here": 2}
    header = json.loads(next(read_lines(tmp_path / second)))
    assert header == {"kfws": "header", "at_ns": AT, "feeds": ["book"], "continues": first}


@pytest.mark.parametrize("name", ["x.ndjson", "{feed}.ndjson", "{product}.{n}.ndjson.zst"])
def test_each_file_counts_its_own_messages_also_behind_other_runs(
    tmp_path: Path, name: str
) -> None:
    rotate_bytes = 2000 if "{n}" in name else None
    for run in range(3):
        shelf = tape(tmp_path / name, rotate_bytes=rotate_bytes)
        shelf.write([HEADER, opened()], AT)
        for number in range(run + 20):
            shelf.write([message(number), message(number, "trade", f"PF_{number % 3}")], AT)
        shelf.write([message(99, "ticker"), TOTALS], AT)
        shelf.close(AT)
    for file in names(tmp_path):
        here = 0
        for each in map(json.loads, read_lines(tmp_path / file)):
            here += "seq" in each
            if each.get("kfws") in ("totals", "continued"):
                assert each["messages_here"] == here > 0
                here = 0
        assert here == 0


def test_a_batch_is_parted_at_the_edge_by_the_moments_of_arrival(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "x.ndjson", at=AT - S, rotate_ns=H)
    shelf.write([HEADER], AT - S)
    shelf.tick(AT + GRACE_NS - 1)  # what came ahead of the edge may still be on its way
    late = [message(1, at=AT - 1), message(2, at=AT), message(3, at=AT + 1)]
    shelf.write(late, AT + GRACE_NS - 1)
    shelf.close(AT + S)
    first, second = names(tmp_path)
    assert kinds(tmp_path / first) == ["header", "1", "continued"]
    assert kinds(tmp_path / second) == ["header", "2", "3"]


def test_a_file_ends_at_its_edge_when_no_message_comes_too(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "x.ndjson", at=AT - S, rotate_ns=H)
    shelf.write([HEADER, opened()], AT - S)
    assert shelf.patience_ns(AT) <= GRACE_NS
    for hour in range(2):
        shelf.tick(AT + hour * H + GRACE_NS)
    shelf.close(AT + H + S)
    assert [kinds(tmp_path / name) for name in names(tmp_path)] == [
        ["header", "opened", "continued"],
        ["header", "opened", "continued"],
        ["header", "opened"],
    ]


def test_hours_that_the_machine_slept_through_are_no_files(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "x.ndjson", at=AT - S, rotate_ns=H)
    shelf.write([HEADER], AT - S)
    shelf.tick(AT + 5 * H + S)
    shelf.close(AT + 5 * H + S)
    assert names(tmp_path) == ["x.20261124T155959Z.ndjson", "x.20261124T210000Z.ndjson"]


def test_headers_stand_in_the_order_of_their_files_when_both_ends_meet(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "{n}.ndjson", at=AT - S, rotate_ns=H, rotate_bytes=1)
    shelf.write([HEADER, message(1, at=AT - 2)], AT + 100)
    shelf.write([message(2, at=AT - 1)], AT + 200)  # a little late, but of the hour before
    shelf.write([message(3, at=AT), message(4, at=AT - 1)], AT + 300)
    shelf.write([message(5, at=AT - 1)], AT + 400)
    shelf.close(AT + S)
    headers = [json.loads(next(read_lines(tmp_path / f"{n}.ndjson"))) for n in range(1, 5)]
    moments = [header["at_ns"] for header in headers]
    assert moments == sorted(set(moments))
    assert [kinds(tmp_path / f"{n}.ndjson")[1] for n in range(1, 5)] == ["1", "2", "3", "5"]


@pytest.mark.parametrize("name", ["x.ndjson", "x.ndjson.zst", "x.ndjson.gz"])
def test_a_file_ends_once_it_has_its_size(tmp_path: Path, name: str) -> None:
    shelf = tape(tmp_path / name, rotate_bytes=2000)
    shelf.write([HEADER], AT)
    for number in range(100):
        shelf.write([message(number)], AT)
        shelf.tick(AT + number * S)
    shelf.write([TOTALS], AT)
    shelf.close(AT)
    files = [tmp_path / each for each in names(tmp_path)]
    assert len(files) > 3
    assert all(2000 <= each.stat().st_size < 3000 for each in files[:-1])
    assert [each for path in files for each in kinds(path) if each.isdecimal()] == [
        str(number) for number in range(100)
    ]
    assert all(kinds(path)[-1] == "continued" for path in files[:-1])
    assert kinds(files[-1])[-1] == "totals"


def test_time_and_size_rotate_together(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "{n}.ndjson", at=AT - S, rotate_ns=H, rotate_bytes=1000)
    numbers = iter(range(100))
    for _ in range(20):
        shelf.write([message(next(numbers), at=AT - S)], AT - S)
    by_size = len(names(tmp_path))
    shelf.write([message(next(numbers), at=AT)], AT)
    shelf.close(AT)
    assert by_size > 1
    assert names(tmp_path) == [f"{n}.ndjson" for n in range(1, by_size + 2)]


def test_each_csv_has_the_columns_and_messages_are_counted_through(tmp_path: Path) -> None:
    keeping = Keeping(
        template=Template.of(str(tmp_path / "x.csv"), rotates=True), feeds=("trade",), rotate_ns=H
    )
    shelf = Shelf(keeping, lambda feed: Csv(feed=feed, fields=("message_no", "seq")))
    shelf.open(AT - S)
    shelf.write([message(7, "trade", at=AT - 1), message(8, "trade")], AT)
    shelf.close(AT)
    texts = [(tmp_path / name).read_text() for name in names(tmp_path)]
    assert texts == ["message_no,seq\n1,7\n", "message_no,seq\n2,8\n"]


# Files side by side


def test_feeds_and_products_have_files_of_their_own_with_what_concerns_them(
    tmp_path: Path,
) -> None:
    shelf = tape(tmp_path / "{feed}" / "{product}.ndjson")
    gap = Gap(
        received_ns=AT, feed="trade", product="PF_XBTUSD", first=3, last=4, missing=2,
        cause="venue", from_ns=AT, to_ns=AT,
    )  # fmt: skip
    shelf.write([HEADER, opened(), subscribed("book", "A"), subscribed("trade", "A")], AT)
    shelf.write(
        [message(1, "book", "A"), message(2, "trade", "A"), gap, message(9, "book", "B")], AT
    )
    shelf.write([subscribed("book", "B"), closed(), TOTALS], AT)
    shelf.close(AT)
    assert {name: kinds(tmp_path / name) for name in names(tmp_path)} == {
        "book/A.ndjson": ["header", "opened", "subscribed", "1", "closed", "totals"],
        "book/B.ndjson": ["header", "opened", "9", "subscribed", "closed", "totals"],
        "trade/A.ndjson": ["header", "opened", "subscribed", "2", "closed", "totals"],
        "trade/PF_XBTUSD.ndjson": ["header", "opened", "gap", "closed", "totals"],
    }


def test_what_concerns_no_single_product_has_a_file_for_all(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "{product}.ndjson")
    fills = Data(
        payload=b'{"feed":"fills","seq":1}', received_ns=AT, feed="fills", seq=1, venue_ms=1
    )
    shelf.write([HEADER, fills, message(2)], AT)
    shelf.close(AT)
    assert names(tmp_path) == ["PF_XBTUSD.ndjson", "all.ndjson"]


def test_an_interval_of_a_whole_feed_is_named_in_all_its_files_or_in_one_of_its_own(
    tmp_path: Path,
) -> None:
    def unprovable(feed: str) -> Gap:
        return Gap(
            received_ns=AT, feed=feed, product=None, first=None, last=None, missing=None,
            cause="outage", from_ns=AT, to_ns=AT,
        )  # fmt: skip

    shelf = tape(tmp_path / "{feed}.{product}.ndjson")
    shelf.write([message(1, "book", "A"), message(2, "book", "B")], AT)
    shelf.write([unprovable("book"), unprovable("trade")], AT)
    shelf.close(AT)
    assert {name: kinds(tmp_path / name) for name in names(tmp_path)} == {
        "book.A.ndjson": ["1", "gap"],
        "book.B.ndjson": ["2", "gap"],
        "trade.all.ndjson": ["gap"],
    }


def test_a_connection_that_ended_is_no_part_of_what_a_new_file_tells(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "x.ndjson", at=AT - S, rotate_ns=H)
    shelf.write([HEADER, opened(1), subscribed("book", "A"), closed(1), opened(2)], AT - S)
    shelf.write([message(1)], AT)
    shelf.close(AT)
    _, second = names(tmp_path)
    assert kinds(tmp_path / second) == ["header", "opened", "1"]


def test_more_files_than_may_be_open_take_turns(
    tmp_path: Path,
) -> None:
    products = [f"PF_{n}" for n in range(shelves.OPEN_MOST + 5)]
    shelf = tape(tmp_path / "{product}.ndjson.zst", rotate_ns=H)
    before = len([*Path("/proc/self/fd").iterdir()])
    for number in range(3):
        shelf.write([HEADER, *(message(number, product=each) for each in products)], AT)
    assert len([*Path("/proc/self/fd").iterdir()]) - before <= shelves.OPEN_MOST
    shelf.write([TOTALS], AT)
    shelf.close(AT)
    assert len(names(tmp_path)) == len(products)
    for name in names(tmp_path):
        assert kinds(tmp_path / name) == ["header", "0", "1", "2", "totals"]


def test_what_fails_for_one_file_is_not_lost_for_the_others(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "{product}.ndjson")
    (tmp_path / "A.ndjson").mkdir()
    with pytest.raises(OutputError, match="is a directory"):
        shelf.write([message(1, product="A"), message(2, product="B")], AT)
    shelf.close(AT)
    assert kinds(tmp_path / "B.ndjson") == ["2"]


# What a crash left


@pytest.mark.parametrize("name", ["x.ndjson", "x.ndjson.zst", "x.ndjson.gz"])
def test_what_a_crash_left_is_completed_at_the_next_start(tmp_path: Path, name: str) -> None:
    crashed = tape(tmp_path / name, rotate_ns=H)
    crashed.write([HEADER, message(1), message(2)], AT)
    crashed.tick(AT + S)
    crashed.write([message(3)], AT + S)
    [left] = names(tmp_path)
    whole = (tmp_path / left).read_bytes()
    crashed.close(AT)
    final = left.removesuffix(".open")
    (tmp_path / final).unlink()
    (tmp_path / left).write_bytes(whole + b"torn")
    told = Told()
    tape(tmp_path / name, at=AT + 5 * S, tell=told, rotate_ns=H).close(AT)
    assert kinds(tmp_path / final)[:3] == ["header", "1", "2"]
    assert (tmp_path / f"{final}.torn").read_bytes().endswith(b"torn")
    [sentence] = told
    assert sentence.startswith(f"{tmp_path / left} was left by a run that was cut off: it is ")


@pytest.mark.parametrize("content", [b"", b"\x28\xb5\x2f", b"\0\0\0\0\0\0\0\0"])
def test_what_a_crash_left_without_a_whole_line_is_no_tape(tmp_path: Path, content: bytes) -> None:
    left = tmp_path / "x.20261124T150000Z.ndjson.zst.open"
    left.write_bytes(content)
    told = Told()
    tape(tmp_path / "x.ndjson.zst", rotate_ns=H, tell=told).close(AT)
    assert names(tmp_path) == (["x.20261124T150000Z.ndjson.zst.torn"] if content else [])
    assert "there was no whole line in it" in told[0]


def test_a_tail_of_zeros_as_a_loss_of_power_leaves_it_is_torn(tmp_path: Path) -> None:
    crashed = tape(tmp_path / "x.ndjson.zst", rotate_ns=H)
    crashed.write([HEADER, message(1)], AT)
    crashed.close(AT)
    [final] = names(tmp_path)
    content = (tmp_path / final).read_bytes()
    (tmp_path / final).unlink()
    (tmp_path / f"{final}.open").write_bytes(content + bytes(4096))
    tape(tmp_path / "x.ndjson.zst", rotate_ns=H).close(AT)
    assert kinds(tmp_path / final) == ["header", "1"]
    assert (tmp_path / f"{final}.torn").read_bytes() == bytes(4096)


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    first = tape(tmp_path / "x.ndjson", rotate_ns=H)
    with pytest.raises(InUse, match="another program writes to"):
        tape(tmp_path / "x.ndjson", rotate_ns=H)
    first.close(AT)
    tape(tmp_path / "x.ndjson", rotate_ns=H).close(AT)


def test_two_recorders_may_share_a_template_but_not_a_product(tmp_path: Path) -> None:
    path = tmp_path / "{product}.ndjson"
    first, second = tape(path, rotate_ns=H), tape(path, rotate_ns=H)
    first.write([message(1, product="A")], AT)
    second.write([message(1, product="B")], AT)
    with pytest.raises(InUse, match=r"another program writes to .*A\."):
        second.write([message(2, product="A")], AT)
    first.close(AT)
    second.close(AT)
    assert [kinds(tmp_path / name) for name in names(tmp_path)] == [["1"], ["1"]]


def test_a_run_within_the_same_second_gets_a_name_of_its_own(tmp_path: Path) -> None:
    for number in range(3):
        shelf = tape(tmp_path / "x.ndjson", rotate_ns=H)
        shelf.write([message(number)], AT)
        shelf.close(AT)
    stem = "x.20261124T160000Z"
    assert names(tmp_path) == [f"{stem}.ndjson", f"{stem}_001.ndjson", f"{stem}_002.ndjson"]


def test_a_folder_that_is_not_there_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder") as caught:
        tape(tmp_path / "no" / "{feed}.ndjson")
    assert caught.value.hint == f"make it: mkdir -p {tmp_path / 'no'}"


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "book").touch()
    shelf = tape(tmp_path / "{feed}" / "x.ndjson")
    with pytest.raises(OutputError, match="file exists"):
        shelf.write([message(1)], AT)
    shelf.close(AT)


# How much is kept


def aged(path: Path, written_ns: int, size: int = 10) -> None:
    path.write_bytes(b"x" * size)
    os.utime(path, ns=(written_ns, written_ns))


def test_complete_files_that_are_too_old_are_deleted_and_no_others(tmp_path: Path) -> None:
    old = AT - 8 * 24 * H
    for name in ("x.20261116T160000Z.ndjson", "y.20261116T160000Z.ndjson", "x.ndjson"):
        aged(tmp_path / name, old)
    aged(tmp_path / "x.20261116T160000Z.ndjson.torn", old)
    aged(tmp_path / "x.20261120T160000Z.ndjson", AT - 4 * 24 * H)
    shelf = tape(tmp_path / "x.ndjson", rotate_ns=H, keep_ns=7 * 24 * H)
    assert "x.20261116T160000Z.ndjson" not in names(tmp_path)
    shelf.close(AT)
    assert len(names(tmp_path)) == 4


def test_the_oldest_are_deleted_while_all_are_too_large_but_never_the_open_one(
    tmp_path: Path,
) -> None:
    for hour in range(5):
        aged(tmp_path / f"x.20261124T0{hour}0000Z.ndjson", AT - (9 - hour) * H, 1000)
    shelf = tape(tmp_path / "x.ndjson", at=AT - S, rotate_ns=H, keep_bytes=3000)
    assert [name[11:13] for name in names(tmp_path)] == ["02", "03", "04", "15"]
    shelf.write([HEADER, *(message(number, at=AT - S) for number in range(30))], AT - S)
    shelf.tick(AT + S)  # 30 messages are more than 3000 bytes
    assert names(tmp_path) == ["x.20261124T160000Z.ndjson.open"]
    shelf.close(AT + S)
    assert names(tmp_path) == ["x.20261124T160000Z.ndjson"]


def test_a_file_that_cannot_be_deleted_does_not_end_the_recording(tmp_path: Path) -> None:
    (tmp_path / "x.20261116T160000Z.ndjson").mkdir()
    told = Told()
    tape(tmp_path / "x.ndjson", rotate_ns=H, keep_bytes=1, tell=told).close(AT)
    assert "cannot be deleted (--keep): " in told[0]


# A disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "256k") as disk:
        yield disk


def blocked(disk: Path, *, leave: int) -> Path:
    """Takes all room of a disk but for so many bytes; deleting the file gives it back."""
    stuff = disk / "stuff"
    free = os.statvfs(disk)
    stuff.write_bytes(bytes(free.f_bavail * free.f_frsize - leave))
    return stuff


@pytest.mark.parametrize("name", ["x.ndjson", "x.ndjson.zst", "x.ndjson.gz"])
def test_a_recording_that_waits_for_room_goes_on_and_has_lost_nothing(
    small_disk: Path, name: str
) -> None:
    told = Told()
    shelf = tape(small_disk / name, on_disk_full="wait", tell=told)
    shelf.write([HEADER], AT)
    stuff = blocked(small_disk, leave=4096)
    for number in range(200):
        shelf.write([message(number)], AT + number * S)
        shelf.tick(AT + number * S)
    [sentence] = told
    assert sentence == f"disk full: {small_disk / name}; waiting for room (--on-disk-full wait)"
    stuff.unlink()
    shelf.tick(AT + 200 * S)
    shelf.write([message(200), TOTALS], AT + 200 * S)
    shelf.close(AT + 201 * S)
    assert told[1] == f"there is room again: {small_disk / name}; nothing was lost"
    assert kinds(small_disk / name) == ["header", *map(str, range(201)), "totals"]


def test_what_does_not_fit_into_memory_meanwhile_is_named_by_its_numbers(
    small_disk: Path,
) -> None:
    told = Told()
    shelf = tape(small_disk / "x.ndjson", on_disk_full="wait", held_bytes=1000, tell=told)
    stuff = blocked(small_disk, leave=0)
    for number in range(50):
        shelf.write([message(number), message(number * 2, "trade", at=AT + number)], AT)
    shelf.write([Notice(payload=None, received_ns=AT, event="info")], AT)
    stuff.unlink()
    shelf.tick(AT + S)
    shelf.write([message(50), TOTALS], AT)
    shelf.close(AT)
    lines = [json.loads(each) for each in read_lines(small_disk / "x.ndjson")]
    came = [(each["feed"], each["seq"]) for each in lines if "kfws" not in each]
    gaps = [each for each in lines if each.get("kfws") == "gap"]
    assert [each.get("kfws") for each in lines].count("notice") == 1
    assert {(gap["cause"], gap["healed"]) for gap in gaps} == {("disk-full", False)}
    lost = [
        (gap["feed"], number) for gap in gaps for number in range(gap["first"], gap["last"] + 1)
    ]
    assert all(gap["missing"] == gap["last"] - gap["first"] + 1 for gap in gaps)
    assert lines[-1]["messages_here"] == len(came)
    everything = [("book", n) for n in range(51)] + [("trade", 2 * n) for n in range(50)]
    assert sorted(came + lost) == sorted(everything)
    assert told[1].endswith(f"{len(lost)} messages lost, named on the tape")


def test_messages_without_numbers_are_counted_and_named_by_their_interval(
    small_disk: Path,
) -> None:
    shelf = tape(small_disk / "x.ndjson", on_disk_full="wait", held_bytes=0)
    stuff = blocked(small_disk, leave=0)
    shelf.write([message(0, at=AT)], AT)
    shelf.write([message(n, "ticker", at=AT + n) for n in range(1, 6)], AT)
    stuff.unlink()
    shelf.tick(AT + S)
    shelf.close(AT)
    *_, last = read_lines(small_disk / "x.ndjson")
    gap = json.loads(last)
    assert (gap["first"], gap["last"], gap["missing"]) == (None, None, 5)
    assert (gap["from_ns"], gap["to_ns"]) == (AT + 1, AT + 5)


def test_a_file_whose_time_is_over_while_the_disk_is_full_is_completed_later(
    small_disk: Path,
) -> None:
    shelf = tape(small_disk / "x.ndjson", at=AT - S, rotate_ns=H, on_disk_full="wait")
    shelf.write([HEADER], AT - S)
    stuff = blocked(small_disk, leave=0)
    shelf.write([message(n, at=AT - S) for n in range(200)], AT - S)
    shelf.tick(AT + S)
    shelf.write([message(200, at=AT + S)], AT + S)
    assert [name for name in names(small_disk) if name.endswith(".ndjson")] == []
    stuff.unlink()
    shelf.tick(AT + 2 * S)
    shelf.tick(AT + H + S)
    shelf.write([TOTALS], AT + H + S)
    shelf.close(AT + H + S)
    came = [each for name in names(small_disk) for each in kinds(small_disk / name)]
    assert [each for each in came if each.isdecimal()] == [str(n) for n in range(201)]


def test_a_disk_that_is_still_full_at_the_end_is_status_8_with_what_is_lost(
    small_disk: Path,
) -> None:
    shelf = tape(small_disk / "x.ndjson", on_disk_full="wait")
    shelf.write([HEADER], AT)
    blocked(small_disk, leave=0)
    shelf.write([message(n) for n in range(200)], AT)
    with pytest.raises(DiskFull, match="disk full"):
        shelf.close(AT)
    assert shelf.lines_lost + len(kinds(small_disk / "x.ndjson")) == 201


@pytest.mark.parametrize("name", ["x.ndjson", "x.ndjson.zst", "x.ndjson.gz"])
def test_without_waiting_a_full_disk_leaves_whole_lines_and_counts_the_rest(
    small_disk: Path, name: str
) -> None:
    shelf = tape(small_disk / name, rotate_ns=H)
    shelf.write([HEADER], AT)
    blocked(small_disk, leave=0)
    recorded = ["header"]
    with pytest.raises(DiskFull):
        record_until_it_fails(shelf, recorded)
    shelf.close(AT)
    [left] = [path for path in small_disk.iterdir() if path.name.endswith(".open")]
    kept = kinds(left)
    assert kept == recorded[: len(kept)]
    assert len(kept) + shelf.lines_lost == len(recorded)


def record_until_it_fails(shelf: Shelf, recorded: list[str]) -> None:
    for number in range(10_000):
        recorded.append(str(number))
        shelf.write([message(number)], AT + number * S)
        shelf.tick(AT + number * S)


# What was written can be read


_EVENTS = all_data()
_BATCHES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(_EVENTS), max_size=5),
        st.sampled_from([0, 1000, 400_000_000, S, 61 * S]),
    ),
    max_size=12,
)
_NAMES = st.sampled_from(["{n}.ndjson", "{n}.ndjson.gz", "{n}.ndjson.zst"])
_ROTATIONS = st.sampled_from(
    [{}, {"rotate_ns": S}, {"rotate_bytes": 1}, {"rotate_ns": 2 * S, "rotate_bytes": 4000}]
)


def read_frames(folder: Path) -> list[line.Frame]:
    """Of all files in the order of their numbers, which are their names."""
    in_order = sorted(folder.iterdir(), key=lambda path: int(path.name.split(".")[0]))
    lines = [line.read(each) for path in in_order for each in read_lines(path)]
    return [each for each in lines if isinstance(each, line.Frame)]


@given(batches=_BATCHES, name=_NAMES, how=_ROTATIONS)
def test_the_frames_that_were_written_are_those_that_are_read(
    tmp_path_factory: pytest.TempPathFactory,
    batches: Sequence[tuple[list[Data], int]],
    name: str,
    how: dict[str, Any],
) -> None:
    folder = tmp_path_factory.mktemp("written")
    now = AT
    shelf = tape(folder / name, **how)
    written: list[line.Frame] = []
    for events, later_ns in batches:
        now += later_ns
        shelf.write([HEADER, *events], now)
        shelf.tick(now)
        written += [line.Frame(line.one_line(each.payload), each.received_ns) for each in events]
    shelf.close(now)
    assert read_frames(folder) == written


@given(
    name=_NAMES,
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=8),
    cut_back=st.integers(0, 2000),
    synced=st.integers(1, 7),
)
def test_a_tape_cut_at_any_byte_behind_its_last_sync_has_all_that_was_synced(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    counts: list[int],
    cut_back: int,
    synced: int,
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path, now = folder / name.replace("{n}", "x"), AT
    shelf = tape(path)
    number, safe, safe_size = 0, 0, 0
    for at, count in enumerate(counts):
        now += S // 4  # within the time of a sync
        shelf.write([HEADER, *(message(number + n) for n in range(count))], now)
        number += count
        if at == min(synced, len(counts) - 1):
            now += S
            shelf.tick(now)
            safe, safe_size = number, path.stat().st_size
    shelf.close(now)
    content = path.read_bytes()
    path.write_bytes(content[: max(safe_size, len(content) - cut_back)])
    tape(path).close(now)
    kept = [each for each in kinds(path) if each.isdecimal()]
    assert kept == [str(n) for n in range(len(kept))]
    assert len(kept) >= safe


def test_a_sync_is_due_a_little_ahead_of_its_time(tmp_path: Path) -> None:
    shelf = tape(tmp_path / "x.ndjson.zst", sync_ns=5 * S)
    shelf.write([message(1)], AT)
    shelf.tick(AT + 9 * S // 2 - 1)
    assert kinds(tmp_path / "x.ndjson.zst") == []
    assert shelf.patience_ns(AT + 9 * S // 2 - 1) == 1
    shelf.tick(AT + 9 * S // 2)
    assert kinds(tmp_path / "x.ndjson.zst") == ["1"]
    shelf.close(AT)


@pytest.mark.parametrize(("sync_ns", "there"), [(0, ["1"]), (None, [])])
def test_always_is_after_each_batch_and_never_not_before_the_end(
    tmp_path: Path, sync_ns: int | None, there: list[str]
) -> None:
    shelf = tape(tmp_path / "x.ndjson.zst", sync_ns=sync_ns)
    shelf.write([message(1)], AT)
    shelf.tick(AT + 30 * S)
    assert kinds(tmp_path / "x.ndjson.zst") == there
    shelf.close(AT)
    assert kinds(tmp_path / "x.ndjson.zst") == ["1"]


# Files that were moved away


@pytest.mark.parametrize("suffix", ["ndjson", "ndjson.gz", "ndjson.zst"])
def test_a_moved_file_is_completed_and_has_a_successor_of_its_name(
    suffix: str, tmp_path: Path
) -> None:
    path, moved = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    keeping = Keeping(template=Template(str(path)), is_tape=True, compression=compression_of(path))
    shelf = Shelf(keeping, lambda feed: Ndjson(stamp=True, events=True))
    shelf.open(AT)
    shelf.write([HEADER, opened(), message(1)], AT)
    shelf.reopen(AT)  # it is where it was
    path.rename(moved)
    shelf.write([message(2)], AT)
    shelf.reopen(AT)
    shelf.write([message(3), TOTALS], AT)
    shelf.close(AT)
    assert kinds(moved) == ["header", "opened", "1", "2", "continued"]
    assert kinds(path) == ["header", "opened", "3", "totals"]


def test_a_moved_csv_of_many_has_a_successor_once_there_is_more(tmp_path: Path) -> None:
    template = Template(str(tmp_path / "{product}.csv"))
    shelf = Shelf(Keeping(template=template), lambda feed: Csv(feed="book"))
    shelf.open(AT)
    shelf.write([message(1, product="PF_A"), message(2, product="PF_B")], AT)
    for name in ("PF_A", "PF_B"):
        (tmp_path / f"{name}.csv").rename(tmp_path / f"{name}.csv.1")
    shelf.reopen(AT)
    shelf.write([message(3, product="PF_A")], AT)
    shelf.close(AT)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["PF_A.csv", "PF_A.csv.1", "PF_B.csv.1"]
    first, second = (tmp_path / name for name in ("PF_A.csv.1", "PF_A.csv"))
    assert first.read_text().splitlines()[0] == second.read_text().splitlines()[0]
