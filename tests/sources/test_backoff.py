"""How long to wait before a redial: what each wait may be, and what dials may never do."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kfws.sources.backoff import DialPace, delays, retry_after

NOW = 1_790_359_964.0
"""2026-09-25 18:12:44 UTC."""


def first(count: int, drawn: float) -> list[float]:
    return list(islice(delays(lambda: drawn), count))


# Delays


def test_the_first_redial_comes_at_once_but_for_a_jitter() -> None:
    assert first(1, 0.0) == [0.0]
    assert first(1, 1.0) == [0.25]


def test_the_longest_waits_double_from_half_a_second_to_thirty() -> None:
    assert first(10, 1.0)[1:] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_the_shortest_wait_after_the_first_is_half_a_second() -> None:
    assert first(10, 0.0)[1:] == [0.5] * 9


def test_waits_are_spread_over_the_whole_range_below_the_limit() -> None:
    assert first(5, 0.5)[1:] == [0.5, 0.75, 1.25, 2.25]


@given(st.lists(st.floats(0, 1), min_size=20, max_size=20))
def test_every_wait_is_within_its_limits(drawn: list[float]) -> None:
    at_once, *later = islice(delays(iter(drawn).__next__), 20)
    assert 0 <= at_once <= 0.25
    assert all(0.5 <= delay <= 30 for delay in later)


# The pace


def test_the_first_dial_need_not_wait() -> None:
    assert DialPace().wait(100.0) == 0.0


def test_a_second_dial_waits_for_the_rest_of_half_a_second() -> None:
    pace = DialPace()
    pace.dialled(100.0)
    assert pace.wait(100.0) == 0.5
    assert pace.wait(100.375) == 0.125
    assert pace.wait(100.5) == pace.wait(107.0) == 0.0


def test_the_twenty_first_dial_waits_for_the_rest_of_the_minute() -> None:
    pace = DialPace()
    for number in range(20):
        assert pace.wait(100.0 + number) == 0.0
        pace.dialled(100.0 + number)
    assert pace.wait(120.0) == 40.0
    assert pace.wait(160.0) == 0.0
    pace.dialled(160.0)
    assert pace.wait(160.0) == 1.0


def test_a_venue_that_asks_for_quiet_is_left_alone_by_all() -> None:
    pace = DialPace()
    pace.hold_until(107.0)
    pace.hold_until(103.0)
    assert pace.wait(100.0) == 7.0
    assert pace.wait(107.0) == 0.0


# Per attempt: how long until it is over, and whether it was a connection that delivered data
# for so long that the next failure is a new one.
attempts = st.tuples(st.floats(0, 100), st.booleans())


@given(
    st.lists(st.lists(attempts, max_size=60), min_size=1, max_size=3),
    st.integers(0, 2**32),
)
@example([[(0.0, True)] * 100] * 3, 0)
@example([[(0.0, False)] * 100], 0)
def test_whatever_fails_and_succeeds_dials_keep_both_limits(
    lives: list[list[tuple[float, bool]]], seed: int
) -> None:
    # Each life is a connection that is dialled again and again; all share one pace.
    pace, draw = DialPace(), random.Random(seed).random
    waits = [delays(draw) for _ in lives]
    ready = [(0.0, index, 0) for index in range(len(lives))]
    dialled: list[float] = []
    while ready:
        ready.sort()
        now, life, done = ready.pop(0)
        if done == len(lives[life]):
            continue
        if pause := pace.wait(now):
            ready.append((now + pause, life, done))
            continue
        pace.dialled(now)
        dialled.append(now)
        lasted, starts_afresh = lives[life][done]
        if starts_afresh:
            waits[life] = delays(draw)
        ready.append((now + lasted + next(waits[life]), life, done + 1))
    assert len(dialled) == sum(map(len, lives))
    for apart, distance in ((1, 0.5), (20, 60.0)):
        for early, late in zip(dialled, dialled[apart:], strict=False):
            assert late - early >= distance - 1e-9


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("Fri, 25 Sep 2026 18:13:14 GMT", 30.0),
        ("Fri, 25 Sep 2026 18:13:14 -0000", 30.0),
        ("Friday, 25-Sep-26 18:13:14 GMT", 30.0),
        ("Fri Sep 25 18:13:14 2026", 30.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float) -> None:
    assert retry_after(value, NOW) == seconds


def test_a_date_that_has_passed_asks_for_no_wait() -> None:
    assert retry_after("Fri, 25 Sep 2026 18:00:00 GMT", NOW) == 0.0


@pytest.mark.parametrize("value", ["86400", "9" * 5000, "Sat, 26 Sep 2026 18:12:44 GMT"])
def test_no_more_than_ten_minutes_are_granted(value: str) -> None:
    assert retry_after(value, NOW) == 600.0


@pytest.mark.parametrize("value", ["", " ", "soon", "-5", "1.5", "1e3", "²", "٣", "25 Foo 2026"])
def test_nonsense_asks_for_nothing(value: str) -> None:
    assert retry_after(value, NOW) is None


@given(st.one_of(st.text(), st.text("0123456789 :,-+JanGMTFri\x00").map("Fri, {}".format)))
def test_no_text_at_all_breaks_it(value: str) -> None:
    wait = retry_after(value, NOW)
    assert wait is None or 0 <= wait <= 600
