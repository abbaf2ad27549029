from __future__ import annotations

import csv
import gzip
import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet as pq

from kfws.protocol.events import Event
from tests.cli import program
from tests.cli.inside import run
from tests.tapes.taping import AT, book, closed, header, opened, snapshot, tape, ticker, totals


def recorded(path: Path, *events: Event) -> str:
    return str(tape(path, [header(), opened(), *events, closed(AT), totals(AT)]))


def test_a_tape_becomes_a_parquet_file_with_as_many_messages(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    found = run(
        "convert", recorded(tmp_path / "a.ndjson", snapshot(1, AT), book(2), book(3)), str(out)
    )
    assert found.status == 0
    assert found.said == [
        f"kfws: 3 messages in {out}, 4 rows",
        "kfws: 3 messages on the tapes, 3 converted",
    ]
    rows = pq.read_table(out).to_pylist()
    assert [(row["message_no"], row["seq"], row["side"], row["price"]) for row in rows] == [
        (1, 1, "buy", 100.5),
        (1, 1, "sell", 101.5),
        (2, 2, "buy", 102.5),
        (3, 3, "buy", 103.5),
    ]


def test_csv_keeps_the_digits_of_the_venue(tmp_path: Path) -> None:
    out = tmp_path / "a.csv.gz"
    assert run("convert", recorded(tmp_path / "a.ndjson.zst", book(2)), str(out), "-q").status == 0
    [row] = csv.DictReader(io.StringIO(gzip.decompress(out.read_bytes()).decode()))
    assert (row["price"], row["qty"], row["kind"]) == ("102.5", "0.10", "delta")


def test_several_feeds_need_a_name_with_the_feed_in_it(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.ndjson", book(1), ticker(AT))
    done = run("convert", path, str(tmp_path / "a.csv"))
    assert done.status == 2
    assert done.said == [
        "kfws: the tapes hold book and ticker, and a file holds one feed; "
        "put {feed} into the name: '{feed}.csv'"
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["a.ndjson"]
    done = run("convert", path, str(tmp_path / "{feed}.csv"))
    assert done.status == 0
    assert (tmp_path / "book.csv").exists()
    assert (tmp_path / "ticker.csv").exists()


def test_all_feeds_that_do_not_fit_one_file_are_named(tmp_path: Path) -> None:
    begin = header(feeds=["trade", "book", "ticker"])
    path = str(tape(tmp_path / "a.ndjson", [begin, book(1), ticker(AT)]))
    done = run("convert", path, str(tmp_path / "a.csv"))
    assert done.status == 2
    assert done.said[0].startswith("kfws: the tapes hold book, ticker and trade, and a file ")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["all.ndjson.zst"], "OUT is missing; kfws convert all.ndjson.zst NAME.parquet, or"),
        (["a.csv.gz"], "TAPE is missing; kfws convert NAME.ndjson.zst a.csv.gz"),
        (["a.parquet"], "TAPE is missing; kfws convert NAME.ndjson.zst a.parquet"),
        ([], "missing argument 'TAPE… OUT'; see `kfws convert --help`"),
    ],
)
def test_what_is_missing_is_named(args: list[str], text: str) -> None:
    done = run("convert", *args)
    assert done.status == 2
    assert done.said[0].startswith(f"kfws: {text}")


def test_tapes_are_taken_in_the_order_of_time(tmp_path: Path) -> None:
    late = recorded(tmp_path / "a.ndjson", book(7), book(8))
    early = str(tape(tmp_path / "b.ndjson", [book(1), book(2)]))
    assert run("convert", late, early, str(tmp_path / "x.csv"), "-q").status == 0
    rows = [*csv.DictReader((tmp_path / "x.csv").read_text().splitlines())]
    assert [row["seq"] for row in rows] == ["1", "2", "7", "8"]
    assert [row["message_no"] for row in rows] == ["1", "2", "3", "4"]


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    path = Path(recorded(tmp_path / "a.ndjson", book(1), book(2)))
    path.write_bytes(path.read_bytes() + b"junk\n" + b'{"received_ns":3,"feed":\n')
    done = run("convert", str(path), str(tmp_path / "a.csv"))
    assert done.status == 7
    assert done.said[-2:] == [
        "kfws: 2 messages read, 2 converted",
        "kfws: not all could be read: 2 broken lines; `kfws verify` says where",
    ]
    assert len((tmp_path / "a.csv").read_bytes().splitlines()) == 3


def test_messages_that_came_twice_are_all_converted(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.ndjson", book(2), book(2))
    assert run("convert", path, str(tmp_path / "a.parquet"), "-q").status == 0
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 2


def test_a_name_that_says_no_format_is_refused(tmp_path: Path) -> None:
    done = run("convert", recorded(tmp_path / "a.ndjson", book(1)), str(tmp_path / "a.xlsx"))
    assert done.status == 2
    assert "is no name for Parquet or csv" in done.said[0]


def test_a_tape_without_messages_is_said_so(tmp_path: Path) -> None:
    done = run("convert", recorded(tmp_path / "a.ndjson"), str(tmp_path / "a.csv"))
    assert done.status == 8
    assert done.said[0].startswith("kfws: no message in ")


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.ndjson", book(1))
    code = (
        "import sys; sys.modules['pyarrow'] = None; from kfws.__main__ import main; "
        "sys.argv[1:] = sys.argv[1:]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "convert", path, str(tmp_path / "a.parquet")],
        capture_output=True,
        text=True,
        env=program.environment(),
        timeout=program.PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "kfws: Parquet needs pyarrow, which is not installed; "
        "install it: pip install 'kfws[parquet]'; or convert to .csv\n"
    )


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    path = recorded(tmp_path / "a.ndjson", *(book(seq) for seq in range(1, 60_000)))
    started = program.start("convert", path, str(tmp_path / name))
    partial, patience = tmp_path / f"{name}.part", time.monotonic() + program.PATIENCE_S
    while not partial.exists() and started.poll() is None:
        assert time.monotonic() < patience
    err, status = program.end(started, signal.SIGINT)
    assert (status, err) == (130, "")
    assert [each.name for each in tmp_path.iterdir()] == ["a.ndjson"]
