from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.delays import SAMPLES_KEPT, Delays


def test_without_samples_there_is_no_percentile() -> None:
    assert Delays().percentile(50) is None


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=300))
def test_few_samples_give_the_percentiles_exactly(samples: list[int]) -> None:
    delays = Delays()
    for each in samples:
        delays.add(each)
    ordered = sorted(samples)
    assert delays.percentile(0) == ordered[0]
    assert delays.percentile(50) == ordered[len(ordered) // 2]
    assert delays.percentile(100) == ordered[-1]


def test_of_many_samples_every_other_one_goes() -> None:
    delays = Delays()
    for each in range(SAMPLES_KEPT * 4):
        delays.add(each)
    middle = delays.percentile(50)
    assert middle is not None
    assert abs(middle - SAMPLES_KEPT * 2) < SAMPLES_KEPT // 100
