from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from kfws.sinks.clock import moment, time_left
from tests.sinks.events import AT_NS

AT_MS = AT_NS // 1_000_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (str(AT_MS), "18:13:24.400"),
        ("2026-09-25T18:13:24.400Z", "18:13:24.400"),
        (str(AT_MS - 86_400_000), "09-24 18:13"),
        (str(AT_MS - 400 * 86_400_000), "2025-08-21"),
        ("soon", "soon"),
        ("9" * 30, "9" * 30),
    ],
)
def test_a_moment_is_the_time_of_day_or_the_day(text: str, shown: str) -> None:
    assert moment(text, AT_NS, UTC) == shown


def test_a_moment_is_in_the_zone() -> None:
    assert moment(str(AT_MS), AT_NS, timezone(timedelta(hours=2))) == "20:13:24.400"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0m00s"),
        (-5, "0m00s"),
        (61, "1m01s"),
        (3600, "1h00m"),
        (86_399, "23h59m"),
        (90_000, "1d01h"),
    ],
)
def test_what_is_left_until_a_moment(seconds: int, shown: str) -> None:
    assert time_left(str(AT_MS + seconds * 1000), AT_NS) == shown


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "1e3", "9" * 16])
def test_nothing_is_left_until_no_moment(text: str) -> None:
    assert time_left(text, AT_NS) == ""
