from __future__ import annotations

import json
from pathlib import Path

import pytest

from kfws.tapes.files import read_lines
from tests.cli.inside import run
from tests.tapes.taping import AT, SECOND_NS, book, closed, header, opened, tape, ticker, totals

END = AT + 60 * SECOND_NS


def recorded(path: Path, *seqs: int) -> str:
    venue = header(venue="sim", feeds=["book"], products=["PF_A"])
    return str(tape(path, [venue, opened(), *map(book, seqs), closed(END), totals(END)]))


@pytest.mark.parametrize("name", ["m.ndjson", "m.ndjson.gz", "m.ndjson.zst"])
def test_the_end_line_says_what_is_missing_on_all_tapes(tmp_path: Path, name: str) -> None:
    first, second = recorded(tmp_path / "a.ndjson", 1, 2, 6), recorded(tmp_path / "b.ndjson", 1, 3)
    done = run("merge", first, second, "-o", str(tmp_path / name))
    assert done.status == 0
    assert done.err.endswith("; 1 copy or snapshot left out\n")
    head, *lines, end = [json.loads(line) for line in read_lines(tmp_path / name)]
    assert (head["kfws"], head["venue"], head["feeds"]) == ("header", "sim", ["book"])
    assert head["merged"] == [first, second]
    assert [line["seq"] for line in lines if line.get("feed") == "book" and "seq" in line] == [
        1,
        2,
        3,
        6,
    ]
    assert (end["kfws"], end["missing"], end["messages_here"]) == ("totals", 2, 4)
    assert end["missing_on_all"] == [
        {"feed": "book", "product_id": "PF_A", "first": 4, "last": 5, "missing": 2}
    ]


def test_what_was_merged_verifies_with_just_that_missing(tmp_path: Path) -> None:
    recorded(tmp_path / "a.ndjson", 1, 2, 6)
    recorded(tmp_path / "b.ndjson", 1, 3)
    out = str(tmp_path / "m.ndjson.zst")
    assert run("merge", str(tmp_path), "-o", out, "-q").status == 0
    report = json.loads(run("verify", out).out)
    [gap] = report["gaps"]
    assert (gap["first"], gap["last"], report["missing"]) == (4, 5, 2)
    assert report["tapes"][0]["ended"]


def test_under_strict_missing_messages_end_with_7_and_the_tape_is_there(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.ndjson", 1, 5)
    done = run("merge", path, "-o", str(tmp_path / "m.ndjson"), "--strict")
    assert done.status == 7
    assert done.said[-1] == "kfws: 3 messages are missing on all tapes"
    assert (tmp_path / "m.ndjson").exists()


@pytest.mark.parametrize("out", ["-", "nats://x", "m.csv", "m"])
def test_what_is_no_name_of_a_tape_is_refused(tmp_path: Path, out: str) -> None:
    assert run("merge", recorded(tmp_path / "a.ndjson", 1), "-o", out).status == 2


def test_a_tape_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.ndjson", 1)
    before = Path(path).read_bytes()
    done = run("merge", path, "-o", path)
    assert done.status == 8
    assert Path(path).read_bytes() == before


def test_damage_is_a_warning(tmp_path: Path) -> None:
    path = Path(recorded(tmp_path / "a.ndjson", 1, 2))
    path.write_bytes(path.read_bytes() + b"junk\n")
    done = run("merge", str(path), "-o", str(tmp_path / "m.ndjson"))
    assert done.status == 0
    assert "1 broken lines" in done.said[0]


def test_what_is_no_tape_or_holds_no_message_is_not_merged(tmp_path: Path) -> None:
    path, out = tmp_path / "products.txt", tmp_path / "m.ndjson"
    path.write_text("PF_A\n")
    done = run("merge", recorded(tmp_path / "a.ndjson", 1), str(path), "-o", str(out))
    assert done.status == 8
    assert done.said[0].startswith(f"kfws: {path} is no tape: ")
    empty = str(tape(tmp_path / "b.ndjson", [header()]))
    done = run("merge", empty, "-o", str(out))
    assert (done.status, done.said) == (
        8,
        [f"kfws: no message in {empty}; `kfws verify` says more"],
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "a.ndjson",
        "b.ndjson",
        "products.txt",
    ]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc")
@pytest.mark.parametrize("command", ["merge", "convert"])
def test_where_nothing_can_be_written_the_name_is_the_one_that_was_typed(
    tmp_path: Path, command: str
) -> None:
    path = recorded(tmp_path / "a.ndjson", 1)
    out = {"merge": ["-o", "/proc/a.ndjson"], "convert": ["/proc/a.csv"]}[command]
    done = run(command, path, *out)
    assert done.status == 8
    assert done.said == [
        f"kfws: cannot write {out[-1]}: no such file or directory; "
        "choose a place where you may write"
    ]


def test_merging_step_by_step_gives_what_merging_at_once_gives(tmp_path: Path) -> None:
    parts = [
        recorded(tmp_path / f"{name}.ndjson", *range(first, first + 300))
        for name, first in (("a", 1), ("b", 200), ("c", 400))
    ]
    two, steps, once = (str(tmp_path / name) for name in ("ab.ndjson", "s.ndjson", "o.ndjson"))
    assert run("merge", *parts[:2], "-o", two, "-q").status == 0
    assert run("merge", two, parts[2], "-o", steps, "-q").status == 0
    assert run("merge", *parts, "-o", once, "-q").status == 0

    def numbers(path: str) -> list[int]:
        lines = map(json.loads, read_lines(Path(path)))
        return [each["seq"] for each in lines if each.get("feed") == "book" and "seq" in each]

    assert numbers(steps) == numbers(once) == list(range(1, 700))
    head = json.loads(next(read_lines(Path(two))))
    assert head["at_ns"] == AT


def test_a_merged_tape_says_that_its_market_was_simulated(tmp_path: Path) -> None:
    venue = header(venue="sim", feeds=["book"], products=["PF_A"], simulated=True)
    path = str(tape(tmp_path / "a.ndjson", [venue, opened(), book(1), closed(END), totals(END)]))
    assert run("merge", path, "-o", str(tmp_path / "m.ndjson"), "-q").status == 0
    assert json.loads(next(read_lines(tmp_path / "m.ndjson")))["simulated"] is True


def test_what_is_no_copy_and_has_no_place_is_counted_and_told(tmp_path: Path) -> None:
    paths = [
        str(tape(tmp_path / name, [header(), opened(), *map(ticker, moments)]))
        for name, moments in {
            "a.ndjson": (AT, AT + 2, AT + 4),
            "b.ndjson": (AT + 1, AT + 3),
        }.items()
    ]
    done = run("merge", *paths, "-o", str(tmp_path / "m.ndjson"), "--strict")
    assert done.status == 7
    assert done.said == [
        "kfws: left out: 2 of ticker; only one tape has them, and nothing says where they belong",
        "kfws: 2 messages that only one tape has were left out",
    ]
    assert "; 0 copies and snapshots left out\n" in done.err
    *_, end = read_lines(tmp_path / "m.ndjson")
    assert json.loads(end)["left_out"] == {"ticker": 2}
