"""`kfws replay`: what was seen live is seen again."""

from __future__ import annotations

import json
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.cli.inside import Done, run
from tests.cli.program import KFWS, PATIENCE_S, end, environment, start
from tests.cli.program import run as run_apart
from tests.cli.test_terminal import BASH, CTRL_Z, terminal
from tests.frames_of import frames
from tests.needs import need
from tests.tapes.taping import (
    AT,
    SECOND_NS,
    book,
    header,
    opened,
    snapshot,
    subscribed,
    tape,
    ticker,
    totals,
)

BOOK = [opened(), subscribed(AT, "book", "PF_A"), snapshot(0, AT)]
FAST = ("--speed", "max", "-q")


def books(path: Path, count: int = 100, *, product: str = "PF_A") -> str:
    """A tape of a snapshot and so many deltas, a millisecond apart."""
    begin = [header(feeds=["book"], products=[product]), opened()]
    first = [subscribed(AT, "book", product), snapshot(0, AT, product=product)]
    deltas = [book(number, product=product) for number in range(1, count + 1)]
    return str(tape(path, [*begin, *first, *deltas, totals(AT + SECOND_NS)]))


def replay(*args: str, terminal: bool = False) -> Done:
    return run("replay", *args, *FAST, terminal=terminal)


# What was live


@pytest.fixture(name="live", scope="module")
def _live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run in every format, a tape beside it."""
    folder = tmp_path_factory.mktemp("live")
    names = ("tape.ndjson.zst", "x.raw", "x.json", "x.csv")
    outputs = [part for name in names for part in ("-o", str(folder / name))]
    asked = ("trade", "PF_XBTUSD", "PF_ETHUSD", "--env", "sim", "-n", "40")
    done = run("subscribe", *asked, *outputs, "-o", "-", "-q", "--events")
    assert done.status == 0
    (folder / "x.ndjson").write_bytes(done.out)
    return folder


@pytest.mark.parametrize("format", ["csv", "json", "ndjson"])
def test_what_was_live_comes_again_byte_for_byte(format: str, live: Path) -> None:
    events = ("--events",) if format != "csv" else ()
    done = replay(str(live / "tape.ndjson.zst"), "-f", format, *events)
    assert (done.status, done.said) == (0, [])
    was = (live / f"x.{format}").read_bytes()
    if events:
        # The last object is the sum of the run, and this is another run.
        mark = b'"totals"'
        assert done.out.count(mark) == was.count(mark) == 1
        was, done = was[: was.rindex(mark)], Done(0, done.out[: done.out.rindex(mark)], "")
    assert done.out == was


def test_raw_frames_come_again_but_for_control_frames(live: Path) -> None:
    done = replay(str(live / "tape.ndjson.zst"), "-f", "raw")
    was = (live / "x.raw").read_bytes().splitlines()
    kept = [each for each in was if b'"event"' not in each and b'"heartbeat"' not in each]
    assert done.out.splitlines() == kept


def test_a_tape_of_a_replay_is_the_tape_again(live: Path, tmp_path: Path) -> None:
    first, second = live / "tape.ndjson.zst", tmp_path / "again.ndjson"
    assert replay(str(first), "-o", str(second)).status == 0
    one, two = (replay(str(path), "--events").out.splitlines() for path in (first, second))
    assert one[:-1] == two[:-1]
    begin = json.loads(second.read_bytes().split(b"\n")[0])
    assert (begin["venue"], begin["simulated"]) == ("sim", True)
    assert (begin["feeds"], begin["products"]) == (["trade"], ["PF_XBTUSD", "PF_ETHUSD"])
    assert begin["played"] == ["tape.ndjson.zst"]
    assert begin["at_ns"] <= json.loads(two[0])["at_ns"]


@pytest.mark.parametrize("feed", ["ticker", "trade", "book"])
def test_the_table_of_a_replay_is_the_live_one(feed: str, tmp_path: Path) -> None:
    path = str(tmp_path / "x.ndjson.gz")
    asked = (feed, "PF_XBTUSD", "--env", "sim", "-n", "5")
    live = run("subscribe", *asked, "-q", "-o", path, "-o", "-", terminal=True)
    assert replay(path, terminal=True).out == live.out


# What is chosen


def test_a_part_by_offset_and_by_time_of_day(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson")
    done = replay(path, "--from", "50ms", "--to", "52ms", "--fields", "seq")
    assert done.out == b'{"seq":50}\n{"seq":51}\n'
    assert replay(path, "--from", str(AT + 100_000_000), "--fields", "seq").out == b'{"seq":100}\n'


def test_options_of_subscribe_choose_and_end(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson")
    where = replay(path, "--no-snapshots", "--where", "seq>=7", "-n", "2", "--fields", "seq")
    assert where.out == b'{"seq":7}\n{"seq":8}\n'
    until = replay(path, "--no-snapshots", "--until", "seq==3", "--fields", "seq")
    assert until.out.splitlines()[-1] == b'{"seq":3}'
    never = replay(path, "--until", "seq==1000")
    assert (never.status, never.err.count("\n")) == (9, 1)


def test_feeds_and_products_choose(tmp_path: Path) -> None:
    begin = header(feeds=["book", "ticker"], products=["PF_XBTUSD", "PF_ETHUSD"])
    events = [
        begin,
        book(1, product="PF_XBTUSD"),
        book(1, product="PF_ETHUSD"),
        ticker(AT + 5_000_000),
    ]
    path = str(tape(tmp_path / "a.ndjson", events))
    done = replay(
        path, "--feed", "ticker,book", "--product", "PF_ETHUSD", "--fields", "feed,product_id"
    )
    assert done.out == b'{"feed":"book","product_id":"PF_ETHUSD"}\n'
    csv = replay(path, "-f", "csv", "--feed", "ticker")
    assert (csv.status, csv.out.count(b"\n")) == (0, 2)
    two = replay(path, "-f", "csv")
    assert two.status == 2
    assert "csv holds one feed, not 2 (book, ticker)" in two.err


def test_a_private_feed_is_filtered_by_what_its_entries_name(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(feeds=["fills"])])
    lines = [b'{"received_ns":%d,%b\n' % (AT, each[1:]) for each in frames("fills", kind="delta")]
    path.write_bytes(path.read_bytes() + b"".join(lines))
    every = replay(str(path)).out.splitlines()
    one = replay(str(path), "--product", "PF_NOSUCHUSD").out.splitlines()
    assert (len(every), one) == (len(lines), [])


def test_a_feed_that_no_tape_begins_with_is_doubted_and_looked_for(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson")
    done = run("replay", path, "--speed", "max", "--feed", "trade", "--product", "PF_NO")
    assert (done.status, done.out) == (0, b"")
    assert done.said[:2] == [
        "kfws: --feed: no tape begins with trade; they name book",
        "kfws: --product: no tape begins with PF_NO; they name PF_A",
    ]


def test_a_feed_that_is_none_is_refused_with_those_that_look_like_it(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson")
    done = run("replay", path, "--feed", "tikcer,book")
    assert (done.status, done.out) == (2, b"")
    assert done.said == ["kfws: no feed tikcer; similar: ticker; `kfws feeds` lists them"]


def test_a_feed_that_only_the_tape_knows_can_be_named(tmp_path: Path) -> None:
    begin = header(feeds=["new-feed", "book"])
    path = str(tape(tmp_path / "a.ndjson", [begin, book(1)]))
    assert replay(path, "--feed", "new-feed").status == 0
    assert replay(path).out.count(b"\n") == 1


def test_what_begins_behind_the_end_is_refused_with_the_end(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson.zst")
    done = run("replay", path, "--from", "2h")
    assert (done.status, done.out) == (2, b"")
    assert done.said == [
        "kfws: nothing from 2h on: the tape ends at 1 s (2026-10-09 04:05:19 UTC); look at --from"
    ]
    later = AT + 7200 * SECOND_NS
    second = tape(tmp_path / "b.ndjson", [header(later, feeds=["book"]), book(101, later)])
    assert replay(path, str(second), "--from", "2h").out.count(b"\n") == 1


def test_what_cannot_be_played_is_said_before_what_it_would_be(tmp_path: Path) -> None:
    begin = header(feeds=["book"], simulated=True)
    path = str(tape(tmp_path / "a.ndjson", [begin, book(1)]))
    done = run("replay", path, "--from", "noon")
    assert (done.status, done.err.count("\n")) == (2, 1)


def test_what_a_csv_has_no_room_for_is_counted(tmp_path: Path) -> None:
    path = Path(books(tmp_path / "a.ndjson", 2))
    more = tape(tmp_path / "more", [header(AT + SECOND_NS), ticker(AT + SECOND_NS)])
    path.write_bytes(path.read_bytes() + more.read_bytes())
    more.unlink()
    done = run("replay", str(path), "--speed", "max", "-f", "csv")
    assert done.status == 0
    assert done.said[-1] == "kfws: left out: 1 message of ticker; see --feed"


def test_several_tapes_are_played_in_the_order_of_time(tmp_path: Path) -> None:
    begin = {"feeds": ["book"], "products": ["PF_A"]}
    for name, first in (("b", 1), ("a", 11), ("c", 21)):
        deltas = [book(number) for number in range(first, first + 10)]
        lines = [header(AT + first * 1_000_000, **begin), *deltas]
        tape(tmp_path / "tapes" / f"{name}.ndjson.zst", lines)
    for names in (["tapes"], ["tapes/*.zst"], ["tapes/c.ndjson.zst", "tapes/[ab]*"]):
        done = replay(*(str(tmp_path / name) for name in names), "--fields", "seq")
        assert [json.loads(line)["seq"] for line in done.out.splitlines()] == [*range(1, 31)]


# What is wrong


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (("--speed", "0"), 2, "--speed 0 is no speed; 1, 10, 0.5 or max"),
        (("--speed", "fast"), 2, "--speed fast is no speed; 1, 10, 0.5 or max"),
        (("--from", "noon"), 2, "'noon' is not a moment"),
        (("--from", "5s", "--to", "4s"), 2, "--to 4s is not behind the beginning"),
        (("--fields", "seq", "-o", "y.ndjson"), 2, "--fields would thin out the tape y.ndjson"),
        (("-o", "a.ndjson"), 2, "a.ndjson cannot be played and written at once"),
        (("-o", "a.ndjson", "--overwrite"), 2, "cannot be played and written at once"),
        (("none.ndjson",), 8, "there is no none.ndjson"),
        (("notes.txt",), 8, "notes.txt is no tape: it does not begin with a header"),
        (("headless.ndjson",), 8, "headless.ndjson is no tape"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    args: tuple[str, ...], status: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    books(Path("a.ndjson"))
    before = Path("a.ndjson").read_bytes()
    Path("notes.txt").write_text("notes\n")
    Path("headless.ndjson").write_bytes(b'{"kfws":"header"\n')
    done = run("replay", "a.ndjson", *args)
    assert (done.status, done.out) == (status, b"")
    [line] = done.said
    assert text in line
    assert Path("a.ndjson").read_bytes() == before


@pytest.mark.parametrize(
    "odd", ["", " ", "\0", "\n", "\x1b[31m", "é" * 300, "\udcff", "@", "[", "**"]
)
def test_odd_names_of_tapes_are_one_harmless_line(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("replay", odd)
    assert (done.status, done.out) == (8, b"")
    [line] = done.err.splitlines()
    assert line.startswith("kfws: ")
    assert line.isprintable()


def test_a_tape_that_names_no_feed_wants_it_named(tmp_path: Path) -> None:
    path = str(tape(tmp_path / "a.ndjson", [header(), book(1)]))
    assert replay(path).status == 2
    assert replay(path, "--feed", "book").out.count(b"\n") == 1


def test_a_torn_tail_is_one_warning(tmp_path: Path) -> None:
    path = Path(books(tmp_path / "a.ndjson"))
    path.write_bytes(path.read_bytes()[:-5])
    done = run("replay", str(path), "--speed", "max")
    assert (done.status, done.out.count(b"\n")) == (0, 101)
    [line] = done.said
    assert line.startswith(f"kfws: {path} ends within a line")


def test_what_a_damaged_tape_lacks_ends_a_strict_replay(tmp_path: Path) -> None:
    begin = header(feeds=["book"], products=["PF_A"])
    path = str(tape(tmp_path / "a.ndjson", [begin, *BOOK, book(1), book(4), book(5)]))
    done = replay(path, "--strict")
    assert done.status == 7
    assert run("replay", path, "--speed", "max").said[0] == (
        "kfws: gap: book PF_A 2–3: 2 messages missing (venue)"
    )


def test_a_tape_cut_out_of_a_filtered_one_says_that_it_is_filtered(tmp_path: Path) -> None:
    kept = {"where": "qty>1", "snapshots": True}
    path = str(tape(tmp_path / "a.ndjson", [header(feeds=["book"], filter=kept), book(1)]))
    copy = tmp_path / "b.ndjson"
    assert replay(path, "-o", str(copy)).status == 0
    assert json.loads(copy.read_bytes().split(b"\n")[0])["filter"] == kept


# The process


def test_ctrl_c_leaves_clean(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson.zst", 20_000)
    program = start("replay", path)
    assert program.stdout is not None
    program.stdout.readline()
    err, status = end(program, signal.SIGINT)
    assert status == 130
    [line] = err.splitlines()
    assert "message" in line


def test_who_reads_no_further_ends_the_replay(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson", 50_000)
    line = f"{' '.join(KFWS)} replay {path} --speed max | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env=environment(),
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_keys_pause_step_and_leave_and_the_terminal_is_put_right(tmp_path: Path) -> None:
    far = [ticker(AT + hour * 3600 * SECOND_NS) for hour in (1, 2, 3)]
    begin = header(feeds=["ticker"], products=["PF_A"])
    path = str(tape(tmp_path / "a.ndjson", [begin, opened(), ticker(AT), *far]))

    def says(text: str, seen: list[str]) -> bool:
        return any(text in line for line in seen)

    with terminal("replay", path, "--utc", columns=80) as person:
        before = person.echoes()
        person.until(partial(says, "● playing 2026-10-09 04:05:18 ×1 0%"))
        person.type(" ")
        person.until(partial(says, "· space plays, → steps, q leaves"))
        for hour, share in ((5, 33), (6, 67)):
            person.type("\x1b[C")
            person.until(partial(says, f"○ paused 2026-10-09 0{hour}:05:18 ×1 {share}%"))
        person.type(" ")
        person.until(partial(says, "● playing 2026-10-09 06:05:18"))
        person.type("q")
        assert person.end() == 0
        assert says("3 messages", person.seen)
        assert person.echoes() is before is True


def test_after_ctrl_z_the_keys_are_keys_again(tmp_path: Path) -> None:
    need("bash")
    begin = header(feeds=["ticker"], products=["PF_A"])
    events = [begin, opened(), ticker(AT), ticker(AT + 3600 * SECOND_NS)]
    path = str(tape(tmp_path / "a.ndjson", events))
    with terminal(command=BASH, columns=110) as person:
        person.type(f"{' '.join(KFWS)} replay {path}\n")
        person.until(lambda seen: any("● playing" in line for line in seen))
        person.type(CTRL_Z)
        person.until(lambda seen: any("Stopped" in line for line in seen))
        person.type("fg\n")
        person.until(lambda seen: "● playing" in seen[person.screen.cursor.y])
        person.type("q")
        person.until(lambda seen: any("2 messages" in line or "1 message" in line for line in seen))
        person.type("exit\n")
        assert person.end() == 0


def test_progress_is_for_a_terminal_that_shows_nothing_else(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson", 20_000)
    command = ("bash", "-c", f"{' '.join(KFWS)} replay {path} > {tmp_path}/out")
    with terminal(command=command) as person:
        person.until(lambda seen: any("● playing 20" in line for line in seen))
        person.type("\x03")
        person.end()
        assert not any("● playing" in line for line in person.seen)
    assert (tmp_path / "out").read_bytes().startswith(b'{"feed":"book_snapshot"')


def test_no_progress_is_drawn_into_what_reads_our_pipe_and_writes_to_the_terminal(
    tmp_path: Path,
) -> None:
    path = books(tmp_path / "a.ndjson")
    command = ("bash", "-c", f"{' '.join(KFWS)} replay {path} | cat")
    with terminal(command=command) as person:
        person.end()
        assert b'"seq":100' in person.raw
        assert b"playing" not in person.raw
    command = ("bash", "-c", f"{' '.join(KFWS)} replay {path} > /dev/null")
    with terminal(command=command) as person:
        person.end()
        assert b"playing" in person.raw


def test_help_shows_how() -> None:
    done = run_apart("replay", "--help")
    assert "space pauses" in done.stdout


# As a venue


def test_a_tape_is_served_until_its_end(tmp_path: Path) -> None:
    path = books(tmp_path / "a.ndjson", 300, product="PF_XBTUSD")
    venue = start("sim", "--tape", path, "--port", "0", "--tape-speed", "3")
    assert venue.stderr is not None
    first = venue.stderr.readline()
    assert first.startswith("kfws: replayed venue at ws://127.0.0.1:")
    assert first.endswith(": book recorded from 2026-10-09 04:05:18 UTC on, from a.ndjson\n")
    url = first.split()[4].rstrip(":")
    served = run("subscribe", "book", "PF_XBTUSD", "--url", url, "-q", "-n", "301")
    _, err = venue.communicate(timeout=PATIENCE_S)
    assert venue.returncode == 0
    assert err.splitlines()[-1] == "kfws: the tape is at its end; connections were closed (1000)"
    assert served.out == replay(path).out
