from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.sinks.digits import decimals, figure, grouped, percent

TOKENS = st.one_of(
    st.decimals(-(10**12), 10**12, allow_nan=False, places=8).map(str),
    st.floats(-1e15, 1e15, allow_nan=False).map(repr),
    st.integers(-(10**18), 10**18).map(str),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("83984.0", "83,984.0"), ("1e-09", "0.000000001"), ("1.5E+3", "1,500"), ("-0.0", "-0.0"),
        ("12345678901", "12,345,678,901"), ("", ""), ("none", "none"), ("NaN", "NaN"),
        ("1e999", "1e999"), ("-Infinity", "-Infinity"),
    ],
)  # fmt: skip
def test_a_number_is_written_out_with_separators(text: str, shown: str) -> None:
    assert grouped(text) == shown


@given(TOKENS)
def test_no_digit_is_changed_by_separators(text: str) -> None:
    shown = grouped(text)
    assert Decimal(shown.replace(",", "")) == Decimal(text)


@given(TOKENS, st.integers(0, 8))
def test_a_precision_is_kept_and_is_never_further_off_than_half_a_step(
    text: str, places: int
) -> None:
    number = figure(text)
    if number is None:
        return
    shown = grouped(text, places)
    assert len(shown.partition(".")[2]) == places
    step = Decimal(1).scaleb(-places)
    assert abs(Decimal(shown.replace(",", "")) - number) <= step / 2


@given(TOKENS)
def test_its_own_decimals_are_all_that_a_number_needs(text: str) -> None:
    number = figure(text)
    if number is not None:
        assert Decimal(grouped(text, decimals(text)).replace(",", "")) == number


@pytest.mark.parametrize(
    ("text", "places"), [("8.250", 2), ("83984.0", 0), ("1e-09", 9), ("0", 0), ("x", 0), ("1e3", 0)]
)
def test_decimals_are_those_that_say_something(text: str, places: int) -> None:
    assert decimals(text) == places


@pytest.mark.parametrize(
    ("text", "factor", "shown"),
    [
        ("0.7", 1, "+0.70%"), ("-3", 1, "-3.00%"), ("-0.0", 1, "0.00%"), ("-0.001", 1, "0.00%"),
        ("0.00012", 100, "+0.01%"), ("1234.5", 1, "+1,234.50%"), ("", 1, ""), ("odd", 1, "odd"),
    ],
)  # fmt: skip
def test_a_percentage_has_its_sign(text: str, factor: int, shown: str) -> None:
    assert percent(text, 2, factor=factor) == shown
