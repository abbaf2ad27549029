"""``kfws book`` over real sockets: its lines are the venue's own book at every moment."""

from __future__ import annotations

import json
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from kfws.sim.market import Market
from kfws.sim.server import SimOptions, serve
from tests.cli.inside import Done, beside, run
from tests.cli.test_terminal import CTRL_C, terminal

SIM = ("--env", "sim", "-q")
START_MS = 1_790_359_964_000
SEED = 5
PRODUCT = "PF_XBTUSD"
RATE = 1000.0


def lines(done: Done) -> list[dict[str, Any]]:
    assert done.status == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def compare(told: list[dict[str, Any]], depth: int) -> int:
    """Holds each line against the simulated market's own book of that number; how many it could.

    (A trade changes several levels at one moment, in several messages.)
    """
    lines = {line["seq"]: line for line in told if not line["stale"]}
    last = max(lines)
    market = Market(SEED, START_MS, rate=RATE)
    market.snapshot("book", PRODUCT, START_MS)
    compared, moment, number = 0, float(START_MS), 0
    while number < last:
        moment += 0.1
        for each in market.advance(moment):
            number = json.loads(each.payload)["seq"] if each.feed == "book" else number
        if number in lines:
            line, own = lines.pop(number), market.book(PRODUCT)
            assert own.seq == number
            assert levels(line, "bids") == own.bids[:depth]
            assert levels(line, "asks") == own.asks[:depth]
            compared += 1
    return compared


def levels(line: dict[str, Any], key: str) -> list[tuple[float, float]]:
    return [(each["price"], each["qty"]) for each in line[key]]


@pytest.mark.parametrize("more", [(), ("--redundancy", "2")])
def test_every_line_is_the_simulators_own_book_of_that_number(more: tuple[str, ...]) -> None:
    with beside(lambda: serve(SimOptions(seed=SEED, start_ms=START_MS, rate=RATE))) as venue:
        done = run("book", PRODUCT, "--url", venue.url, "--depth", "5", "-n", "200", *more)
    told = lines(done)
    assert len(told) == 200
    assert not any(line["stale"] for line in told)
    assert compare(told, 5) > 150


def test_after_a_gap_lines_say_stale_until_the_resync() -> None:
    faults = ("gap=3@60msgs:feed=book",)
    options = SimOptions(seed=SEED, start_ms=START_MS, rate=RATE, faults=faults)
    with beside(lambda: serve(options)) as venue:
        done = run("book", PRODUCT, "--url", venue.url, "--events", "-n", "200", "--stamp")
    told = [line for line in lines(done) if "kfws" not in line]
    events = [line["kfws"] for line in lines(done) if "kfws" in line]
    assert [stale for stale, _ in groupby(line["stale"] for line in told)] == [False, True, False]
    assert events[:3] == ["opened", "notice", "subscribed"]
    assert {"gap", "stale", "resync"} <= {*events}
    assert next(iter(told[0])) == "received_ns"
    assert compare(told, 10) > 20
    assert "gap: book PF_XBTUSD" in done.err


def test_a_lost_connection_is_a_stale_book_until_the_next_one_stands() -> None:
    options = SimOptions(seed=SEED, start_ms=START_MS, rate=RATE, faults=("drop@100msgs",))
    with beside(lambda: serve(options)) as venue:
        done = run("book", PRODUCT, "--url", venue.url, "--depth", "1", "--until", "stale==true")
        assert lines(done)[-1]["stale"]
        again = run("book", PRODUCT, "--url", venue.url, "-n", "1")
        assert not lines(again)[-1]["stale"]


def test_two_products_have_lines_of_their_own() -> None:
    told = lines(run("book", "PF_XBTUSD", "PF_ETHUSD", *SIM, "--depth", "1", "-n", "20"))
    assert {line["product_id"] for line in told} == {"PF_XBTUSD", "PF_ETHUSD"}
    assert {len(line[key]) for line in told for key in ("bids", "asks")} == {1}


def test_samples_come_one_by_one_in_their_time() -> None:
    told = lines(run("book", PRODUCT, *SIM, "--every", "20ms", "-n", "5"))
    assert len(told) == 5
    numbers = [line["seq"] for line in told]
    assert numbers == sorted(set(numbers))


def test_groups_are_multiples_of_the_step() -> None:
    [line] = lines(run("book", PRODUCT, *SIM, "--group", "10", "--tick", "0.5", "-n", "1"))
    assert {each["price"] % 5 for key in ("bids", "asks") for each in line[key]} == {0}
    assert line["spread"] % 5 == 0


@pytest.mark.parametrize("name", ["book.ndjson", "book.json", "book.ndjson.gz"])
def test_a_file_of_lines_is_no_tape_and_is_never_mixed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    command = ("book", PRODUCT, *SIM, "-n", "2", "-o", str(path))
    assert run(*command).status == 0
    if name == "book.ndjson":
        assert ["bids" in json.loads(line) for line in path.read_text().splitlines()] == [True] * 2
    again = run(*command)
    assert again.status == 8
    assert run(*command, "--overwrite").status == 0


def test_fields_and_expressions_know_the_keys_of_a_line() -> None:
    command = ("book", "PF_XBTUSD", "--env", "sim", "--fields", "mid,stale", "-n", "2")
    done = run(*command, "--where", "spread>0 and stale==false")
    assert (done.status, done.said) == (0, [])
    assert done.out.startswith(b'{"mid":')


# On a terminal


def a_ladder(seen: list[str]) -> bool:
    """Asks over what stands between them and the bids, once, above the status line."""
    words = [line.split(" ", 1)[0] for line in seen]
    shown = [word for word in words if word in ("ask", "──", "bid")]
    middle = shown.index("──") if "──" in shown else 0
    return shown == ["ask"] * middle + ["──"] + ["bid"] * middle != ["──"]


@pytest.mark.parametrize("command", [("book",), ("subscribe", "book")])
def test_a_person_sees_ladders_side_by_side_and_the_last_ones_stay(
    command: tuple[str, ...],
) -> None:
    with terminal(*command, PRODUCT, "PF_ETHUSD", "PF_SOLUSD", "--env", "sim") as person:
        person.until(lambda seen: a_ladder(seen) and "1 more: PF_SOLUSD" in seen)
        top = next(line for line in person.seen if line.startswith(PRODUCT))
        assert " PF_ETHUSD " in top
        person.resize(140, 24)
        person.until(lambda seen: a_ladder(seen) and any("PF_SOLUSD " in line for line in seen))
        person.type(CTRL_C)
        assert person.end() == 130
        assert a_ladder(person.seen)
        assert not person.screen.cursor.hidden


def test_a_person_sees_that_a_book_is_stale_when_the_venue_went_away() -> None:
    with ExitStack() as venues:
        venue = venues.enter_context(beside(lambda: serve(SimOptions())))
        with terminal("book", PRODUCT, "--url", venue.url) as person:
            person.until(a_ladder)
            venues.close()
            person.until(lambda seen: any("STALE until its next snapshot" in line for line in seen))
            person.type(CTRL_C)
            assert person.end() == 130


def test_a_limit_counts_visible_changes_and_the_ladder_shows_as_much_as_fits(
    tmp_path: Path,
) -> None:
    path = tmp_path / "top.ndjson"
    more = ("--depth", "3", "-n", "5", "-o", "-", "-o", str(path))
    with terminal("book", PRODUCT, "--env", "sim", *more) as person:
        assert person.end() == 0
        assert sum(line.startswith("ask ") for line in person.seen) == 3
        assert any(line.startswith("kfws: 5 messages") for line in person.seen)
    assert len(path.read_text().splitlines()) == 5


def test_where_not_all_messages_of_a_book_pass_there_is_no_ladder() -> None:
    command = ("subscribe", "book", PRODUCT, "--env", "sim", "--no-snapshots", "-n", "3")
    with terminal(*command) as person:
        assert person.end() == 0
        assert not a_ladder(person.seen)
        assert sum("PF_XBTUSD" in line for line in person.seen) == 3


def test_without_a_terminal_a_table_is_one_plain_row_a_line() -> None:
    done = run("book", PRODUCT, *SIM, "-f", "table", "-n", "2", "--depth", "1")
    header, *rows = done.out.decode().splitlines()
    assert header.split() == "TIME PRODUCT BID QTY BID ASK ASK QTY SPREAD".split()  # noqa: SIM905
    assert len(rows) == 2
    for row in rows:
        _, product, bid_qty, bid, ask, ask_qty, spread = row.split()
        assert product == PRODUCT
        assert float(spread) == float(ask) - float(bid) > 0
        assert min(float(bid_qty), float(ask_qty)) > 0
    assert b"\x1b" not in done.out
