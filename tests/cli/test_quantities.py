from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.cli.quantities import (
    age,
    duration_s,
    length,
    moment_ms,
    moment_of_tape_ns,
    size_bytes,
    time_or_size,
)
from kfws.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("2d", 172800),
        ("250ms", 0.25),
        ("1m30s", 90),
        ("1h1m1s1ms", 3661.001),
        ("10", 10),
        ("0.5", 0.5),
        ("1.5h", 5400),
        (" 10s ", 10),
    ],
)
def test_a_duration_is_seconds(typed: str, seconds: float) -> None:
    assert duration_s(typed) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "s",
        "five",
        "-5s",
        "5 s",
        "5S",
        "1m30",
        "1e3",
        "1.s",
        ".5s",
        "nan",
        "inf",
        "٣s",
        "5µs",
    ],
)
def test_what_is_no_duration_is_quoted_with_what_to_type(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        duration_s(typed)
    assert caught.value.message == f"{typed!r} is not a duration"
    assert "30s" in caught.value.hint


@pytest.mark.parametrize("typed", ["0", "0s", "0.0h0ms", "9" * 400, "9" * 400 + "d"])
def test_a_duration_is_positive_and_finite(typed: str) -> None:
    with pytest.raises(UsageError, match="is not a duration above zero") as caught:
        duration_s(typed)
    assert len(caught.value.message) < 100


@pytest.mark.parametrize(
    ("typed", "epoch_ms"),
    [
        ("1791518718655", 1791518718655),
        ("0", 0),
        ("2026-11-24T16:00:00Z", 1795536000000),
        ("2026-11-24T16:00:00", 1795536000000),
        ("2026-11-24T17:00:00.250+01:00", 1795536000250),
        (" 2026-11-24 ", 1795478400000),
    ],
)
def test_a_moment_is_epoch_milliseconds(typed: str, epoch_ms: int) -> None:
    assert moment_ms(typed) == epoch_ms


@pytest.mark.parametrize("typed", ["", "now", "24.11.2026", "2026-13-01", "1" * 16, "-1"])
def test_what_is_no_moment_is_quoted_with_what_to_type(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment_ms(typed)
    assert caught.value.message == f"{typed!r} is not a moment"
    assert "2026-11-24T16:00:00Z" in caught.value.hint


# A tape from 16:00:05.5 UTC on.
START_NS = 1_795_536_005_500_000_000


@pytest.mark.parametrize(
    ("typed", "at"),
    [
        ("0", "2026-11-24T16:00:05.500"),
        ("0s", "2026-11-24T16:00:05.500"),
        ("10m", "2026-11-24T16:10:05.500"),
        ("1m30s", "2026-11-24T16:01:35.500"),
        ("90", "2026-11-24T16:01:35.500"),
        ("250ms", "2026-11-24T16:00:05.750"),
        ("16:00", "2026-11-24T16:00:00"),
        ("16:01", "2026-11-24T16:01:00"),
        ("16:01:02.5", "2026-11-24T16:01:02.500"),
        ("17:30+01:30", "2026-11-24T16:00:00"),
        ("18:01+02:00", "2026-11-24T16:01:00"),
        ("15:01", "2026-11-24T15:01:00"),
        ("15:00", "2026-11-25T15:00:00"),
        ("9:05", "2026-11-25T09:05:00"),
        ("2026-11-24T16:30", "2026-11-24T16:30:00"),
        ("2026-11-24T16:30:00Z", "2026-11-24T16:30:00"),
        ("2026-11-25", "2026-11-25T00:00:00"),
        ("1795536000", "2026-11-24T16:00:00"),
        ("1795536000250", "2026-11-24T16:00:00.250"),
        ("1795536000250000", "2026-11-24T16:00:00.250"),
        (" 1795536000250000000 ", "2026-11-24T16:00:00.250"),
    ],
)
def test_a_moment_on_a_tape_is_an_offset_a_time_of_day_or_a_time(typed: str, at: str) -> None:
    assert moment_of_tape_ns(typed, START_NS) == moment_ms(at) * 10**6


@pytest.mark.parametrize(
    "typed",
    [
        "1795536005512345678",
        "2026-11-24T16:00:05.512345678Z",
        "2026-11-24T17:00:05,512345678+01:00",
        "20261124T160005.5123456789",
        "16:00:05.512345678",
    ],
)
def test_a_moment_of_a_line_of_the_tape_is_exact(typed: str) -> None:
    assert moment_of_tape_ns(typed, START_NS) == 1_795_536_005_512_345_678


@given(st.integers(1, 10**9 - 1))
def test_a_fraction_of_a_second_is_what_was_typed(fraction_ns: int) -> None:
    typed = f"2026-11-24T16:00:05.{fraction_ns:09}".rstrip("0")
    assert moment_of_tape_ns(typed, START_NS) == 1_795_536_005 * 10**9 + fraction_ns


@pytest.mark.parametrize("typed", ["", "noon", "25:00", "16:", "-10m", "1:2", ":30", "99" * 20])
def test_what_is_no_moment_of_a_tape_is_quoted_with_what_to_type(typed: str) -> None:
    if typed.isdecimal():
        assert moment_of_tape_ns(typed, START_NS) > START_NS  # very late, but a moment
        return
    with pytest.raises(UsageError) as caught:
        moment_of_tape_ns(typed, START_NS)
    assert caught.value.message == f"{typed!r} is not a moment"
    assert "10m (from the start)" in caught.value.hint


@pytest.mark.parametrize(
    ("typed", "size"),
    [
        ("64MB", 64_000_000),
        ("64M", 64_000_000),
        ("64mb", 64_000_000),
        ("1GiB", 2**30),
        ("1Gi", 2**30),
        ("512k", 512_000),
        ("512KiB", 512 * 1024),
        ("2T", 2 * 10**12),
        ("1TiB", 2**40),
        ("100", 100),
        ("100B", 100),
        ("1.5kB", 1500),
        (" 1k ", 1000),
    ],
)
def test_a_size_is_bytes(typed: str, size: int) -> None:
    assert size_bytes(typed) == size


@pytest.mark.parametrize(
    "typed", ["", "MB", "-1MB", "1 MB", "1PB", "1iB", "1e6", "1MBs", "0x10", "٣k"]
)
def test_what_is_no_size_is_quoted_with_what_to_type(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        size_bytes(typed)
    assert caught.value.message == f"{typed!r} is not a size"
    assert "64MB" in caught.value.hint


@pytest.mark.parametrize("typed", ["0", "0.5", "0MB", "9" * 400])
def test_a_size_is_at_least_one_byte_and_finite(typed: str) -> None:
    with pytest.raises(UsageError, match="is not a size of at least one byte"):
        size_bytes(typed)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (200_000, "2 d")],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("typed", "seconds", "size"),
    [
        ("1h", 3600.0, None),
        ("256MB", None, 256_000_000),
        ("1h,256MB", 3600.0, 256_000_000),
        (" 1GiB , 5m", 300.0, 1 << 30),
        ("5m", 300.0, None),
        ("5M", None, 5_000_000),
    ],
)
def test_a_time_a_size_or_both(typed: str, seconds: float | None, size: int | None) -> None:
    assert time_or_size(typed) == (seconds, size)


@pytest.mark.parametrize("typed", ["", "60", "1h,2h", "1MB,2MB", "1h,", "hourly"])
def test_neither_a_time_nor_a_size(typed: str) -> None:
    with pytest.raises(UsageError, match="is not a time, a size or one of each"):
        time_or_size(typed)


@given(st.text() | st.from_regex(r"[0-9.]*(ms|s|m|h|d|k|M|GiB)?[0-9]*", fullmatch=True))
def test_any_text_is_a_quantity_or_a_usage_error(text: str) -> None:
    for read in (
        duration_s,
        size_bytes,
        _first_of_both,
        lambda typed: moment_of_tape_ns(typed, START_NS),
    ):
        try:
            found = read(text)
        except UsageError as error:
            assert error.hint  # noqa: PT017 - either outcome is right, a crash is not
        else:
            assert 0 < found < math.inf
    with contextlib.suppress(UsageError):
        moment_ms(text)


def _first_of_both(text: str) -> float:
    seconds, size = time_or_size(text)
    return seconds or size or 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.1, "0.1 s"), (12.3456, "12.3 s"), (198, "3 min 18 s"), (9960, "2 h 46 min")],
)
def test_a_length_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert length(seconds) == text
