from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.inside import run
from tests.tapes.taping import (
    AT,
    SECOND_NS,
    book,
    closed,
    header,
    opened,
    subscribed,
    tape,
    ticker,
    totals,
)

END = AT + 60 * SECOND_NS


def recorded(path: Path, *seqs: int) -> str:
    lines = [header(), opened(), ticker(AT), *map(book, seqs), closed(END), totals(END)]
    return str(tape(path, lines))


def test_a_complete_tape_gives_status_0(tmp_path: Path) -> None:
    done = run("verify", recorded(tmp_path / "a.ndjson.zst", 1, 2, 3))
    assert (done.status, done.err) == (0, "")
    report = json.loads(done.out)
    assert report["verdict"] == "no outage"
    assert [(each["feed"], each["verdict"]) for each in report["streams"]] == [
        ("book", "complete"),
        ("ticker", "no outage"),
    ]


def test_missing_messages_give_status_7_and_are_listed_by_number(tmp_path: Path) -> None:
    done = run("verify", recorded(tmp_path / "a.ndjson", 1, 2, 7))
    assert done.status == 7
    [gap] = json.loads(done.out)["gaps"]
    assert (gap["feed"], gap["product_id"], gap["first"], gap["last"]) == ("book", "PF_A", 3, 6)
    assert done.said[-1].startswith("kfws: not complete: 4 messages missing; ")


def test_people_get_a_table(tmp_path: Path) -> None:
    done = run("verify", recorded(tmp_path / "a.ndjson", 1, 2, 7), "-f", "table")
    lines = done.out.decode().splitlines()
    assert lines[1].split()[1:] == ["8", "4", "1", "-", "whole"]
    [row] = [line.split() for line in lines if line.startswith("book")]
    assert row[1:3] + row[6:] == ["PF_A", "3", "1–7", "4", "5/5", "ms", "incomplete"]
    assert "gap: book PF_A 3–6: 4 messages missing (venue)" in lines
    assert lines[-1] == "incomplete: 4 messages, 4 missing"


def test_a_terminal_gets_the_table_without_being_asked(tmp_path: Path) -> None:
    done = run("verify", recorded(tmp_path / "a.ndjson", 1), terminal=True)
    assert done.out.startswith(b"TAPE")


def test_many_gaps_are_listed_in_part(tmp_path: Path) -> None:
    done = run("verify", recorded(tmp_path / "a.ndjson", *range(1, 101, 2)), "-f", "table")
    assert b"\xe2\x80\xa6 and 29 gaps more; -f json lists them" in done.out


def test_doubts_are_warnings_and_end_with_7_under_strict(tmp_path: Path) -> None:
    path = Path(recorded(tmp_path / "a.ndjson", 1, 2, 2))
    path.write_bytes(path.read_bytes()[:-5])
    done = run("verify", str(path))
    assert done.status == 0
    assert done.said == [
        f"kfws: {path} is torn: it ends with 41 bytes of an unfinished line",
        "kfws: book PF_A: 1 message twice",
    ]
    strict = run("verify", str(path), "--strict")
    assert strict.status == 7
    assert strict.said[-1] == "kfws: 2 doubts, and --strict was given"


def test_a_tape_that_is_still_written_has_no_clean_end(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(), opened(), book(1)])
    done = run("verify", str(path))
    assert done.status == 0
    assert done.said == [
        f"kfws: {path} has no clean end: it is being written, or its recorder was killed, "
        "or its disk was full"
    ]
    seen = run("verify", str(path), "-f", "table").out.decode().splitlines()
    assert seen[-1] == "complete up to an end that is no clean one: 1 message"
    assert json.loads(done.out)["verdict"] == "complete"
    assert run("verify", str(path), "--strict").status == 7


def test_damage_is_told_by_frame(tmp_path: Path) -> None:
    path = Path(recorded(tmp_path / "a.ndjson.zst", *range(1, 300)))
    content = bytearray(path.read_bytes())
    content[40] ^= 255
    path.write_bytes(content)
    done = run("verify", str(path), "-f", "table")
    assert done.status == 7
    assert b"damaged: 1 frame, the first at byte 0" in done.out
    assert "lines lost inside" in done.err


def test_lines_that_were_cut_out_of_a_tape_are_named(tmp_path: Path) -> None:
    lines = [header(), opened(), ticker(AT), closed(END), totals(END, messages_here=3)]
    done = run("verify", str(tape(tmp_path / "a.ndjson", lines)), "-f", "table")
    assert done.status == 7
    assert done.out.splitlines()[1].endswith(b"2 messages fewer than recorded")
    assert done.said[0] == (
        "kfws: not complete: lines lost inside (2 messages fewer than recorded); "
        "another recording of the same time may have them: `kfws merge`"
    )


def test_what_is_no_tape_gives_status_8(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"a,b\n")
    assert run("verify", str(tmp_path / "a.ndjson")).status == 8
    assert run("verify", str(tmp_path / "none")).status == 8


def test_a_file_that_is_no_tape_is_named_and_the_rest_is_audited(tmp_path: Path) -> None:
    recorded(tmp_path / "a.ndjson", 1, 2, 5)
    (tmp_path / "b.ndjson").write_bytes(b"a,b\n")
    (tmp_path / "c.ndjson").symlink_to("x" * 300)
    done = run("verify", str(tmp_path))
    assert done.status == 8
    assert done.said == [
        f"kfws: cannot read {tmp_path}/c.ndjson: File name too long",
        f"kfws: {tmp_path}/b.ndjson is no tape: none of its lines begins with received_ns or kfws; "
        "tapes are what `kfws subscribe … -o NAME.ndjson` writes",
        "kfws: book PF_A: of 2 missing the recorder said nothing",
        "kfws: 2 paths not audited, and of the rest: 2 messages missing",
    ]
    report = json.loads(done.out)
    assert (report["missing"], len(report["tapes"]), len(report["unread"])) == (2, 1, 2)


def test_a_tape_without_a_message_is_nothing_to_audit(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    empty, torn = path, tmp_path / "b.ndjson.zst"
    empty.write_bytes(b"")
    torn.write_bytes(Path(recorded(torn, 1)).read_bytes()[:30])
    done = run("verify", str(empty), "-f", "table")
    assert done.status == 8
    assert done.out.splitlines()[-1] == b"nothing to audit: 0 messages"
    assert done.said[-1] == "kfws: nothing to audit: no message was recorded"
    done = run("verify", str(torn))
    assert done.status == 7
    assert json.loads(done.out)["verdict"] == "nothing to audit"


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.touch()
    for name in (str(path), os.devnull):
        done = run("verify", name, "-f", "table")
        assert done.status == 8
        assert done.said == [
            f"kfws: {name} is empty: it is no tape, or its recorder was killed as it began",
            "kfws: nothing to audit: no message was recorded",
        ]
        assert b" empty\n" in done.out


def test_a_subscription_without_a_message_is_named(tmp_path: Path) -> None:
    lines = [header(), opened(), subscribed(AT, "trade", "PF_A"), book(1), closed(END), totals(END)]
    path = str(tape(tmp_path / "a.ndjson", lines))
    done = run("verify", path)
    assert done.status == 0
    assert json.loads(done.out)["verdict"] == "unprovable"
    told = "kfws: trade PF_A: subscribed to, but no message of it was recorded"
    assert done.said == [told]
    assert run("verify", path, "--strict").status == 7


@pytest.mark.parametrize("columns", [20, 60, 80])
def test_on_a_terminal_nothing_is_wider_than_it(tmp_path: Path, columns: int) -> None:
    path = recorded(tmp_path / ("long" * 20 + ".ndjson.zst"), *range(1, 101, 2))
    done = run("verify", path, terminal=True, environ={"COLUMNS": str(columns)})
    lines = done.out.decode().splitlines()
    assert max(map(len, lines)) <= columns
    if columns > 20:
        assert lines[1].split()[0].endswith("long.ndjson.zst")
        [row] = [line for line in lines if line.startswith("book")]
        assert row.endswith("incomplete")
    piped = run("verify", path, "-f", "table").out.decode().splitlines()
    assert piped[1].startswith(path)


@pytest.mark.parametrize("format", ["csv", "raw"])
def test_formats_that_make_no_sense_are_refused(tmp_path: Path, format: str) -> None:
    done = run("verify", recorded(tmp_path / "a.ndjson", 1), "-f", format)
    assert done.status == 2
    assert done.said == [f"kfws: verify has no -f {format}; there are table, json and ndjson"]


def test_several_recordings_are_numbered(tmp_path: Path) -> None:
    recorded(tmp_path / "a.ndjson", 1, 5)
    recorded(tmp_path / "b.ndjson", 1, 2)
    lines = run("verify", str(tmp_path), "-f", "table").out.decode().splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["REC", "1", "2"]
    assert "recording 1: gap: book PF_A 2–4: 3 messages missing (venue)" in lines


def test_a_folder_is_all_tapes_in_it(tmp_path: Path) -> None:
    recorded(tmp_path / "a.ndjson", 1)
    recorded(tmp_path / "b.ndjson.gz", 1)
    report = json.loads(run("verify", str(tmp_path)).out)
    assert [Path(each["path"]).name for each in report["tapes"]] == ["a.ndjson", "b.ndjson.gz"]


def test_a_pipe_is_said_to_be_none_of_the_files_that_tapes_are(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb") as file:  # noqa: PTH123  # descriptors
        file.write(Path(recorded(tmp_path / "a.ndjson", 1)).read_bytes())
        file.flush()
        done = run("verify", f"/dev/fd/{reader}")
    assert done.status == 8
    assert done.err == (
        f"kfws: /dev/fd/{reader} is a pipe; tapes are files: write it to one first\n"
    )
