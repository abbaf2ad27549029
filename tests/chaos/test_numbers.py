"""Numbers against the oracle: Python's own sets."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.numbers import Numbers

numbers = st.lists(st.integers(0, 40), max_size=40)


@given(numbers, numbers)
def test_numbers_are_a_set(these: list[int], those: list[int]) -> None:
    a, b = Numbers.of(these), Numbers.of(those)
    assert list(a) == sorted(set(these))
    assert set(a | b) == set(these) | set(those)
    assert set(a & b) == set(these) & set(those)
    assert set(a - b) == set(these) - set(those)
    assert len(a) == len(set(these))
    assert all((number in a) == (number in these) for number in range(41))


@given(numbers)
def test_what_was_put_in_twice_is_known(these: list[int]) -> None:
    doubled = {number for number, count in Counter(these).items() if count > 1}
    assert set(Numbers.of(these).doubled) == doubled


def test_runs_are_said_in_words() -> None:
    assert str(Numbers.of([1, 2, 3, 7])) == "1 to 3, 7"
    assert str(Numbers.of(range(0, 10, 2))) == "0, 2, 4 and 2 runs more"
