"""Which messages lines that nobody took were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kfws.cli.unwritten import RUNS_MOST, Unwritten
from kfws.protocol.events import Gap
from tests import frames_of


def book(seq: int) -> bytes:
    return b'{"feed":"book","product_id":"PF_A","side":"buy","seq":%d,"price":1,"qty":2}' % seq


def gaps_of(lines: list[bytes], now_ns: int) -> list[Gap]:
    unwritten = Unwritten(now_ns)
    unwritten.take_lines(lines)
    return unwritten.gaps()


def ranges(lines: list[bytes]) -> list[tuple[str, str | None, int | None, int | None, int | None]]:
    return [
        (each.feed, each.product, each.first, each.last, each.missing) for each in gaps_of(lines, 9)
    ]


def test_runs_of_numbers_are_ranges_and_other_messages_are_counted() -> None:
    ticker = b'{"received_ns":5,"feed":"ticker","product_id":"PF_A"}'
    snapshot = b'{"feed":"book_snapshot","product_id":"PF_A","seq":7,"bids":[],"asks":[]}'
    assert ranges([book(5), ticker, book(6), snapshot, book(7), ticker, book(9)]) == [
        ("book", "PF_A", None, None, 1),
        ("book", "PF_A", 5, 7, 3),
        ("book", "PF_A", 9, 9, 1),
        ("ticker", "PF_A", None, None, 2),
    ]


def test_what_is_no_message_of_a_feed_is_passed_over() -> None:
    own = b'{"kfws":"gap","feed":"book","product_id":"PF_A","first":1}'
    assert ranges([own, b"1,2,3", b"", b'{"event":"info","version":1}']) == []


def test_every_message_of_the_venue_is_counted_once() -> None:
    frames = frames_of.frames("ticker") + frames_of.frames("fills")
    data = [each for each in frames if b'"event"' not in each]
    assert sum(each.missing or 0 for each in gaps_of(data, 9)) == len(data)


def test_very_many_runs_are_one_count() -> None:
    lines = [book(2 * each) for each in range(1, 100)]
    assert ranges(lines[:RUNS_MOST])[0] == ("book", "PF_A", 2, 2, 1)
    assert ranges(lines) == [("book", "PF_A", None, None, 99)]


@given(st.sets(st.integers(1, 40)).filter(lambda some: len(some) <= RUNS_MOST))
def test_exactly_the_numbers_of_the_lines_are_named(numbers: set[int]) -> None:
    gaps = gaps_of([book(each) for each in sorted(numbers)], 9)
    named = [n for each in gaps for n in range(each.first or 0, (each.last or 0) + 1)]
    assert named == sorted(numbers)
