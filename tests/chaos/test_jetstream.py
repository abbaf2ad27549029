"""The short form of the JetStream faults, on one server; ``make chaos`` has a cluster of three."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.jetstream import FAULTS, Fault, run

SHORT = (
    "recorder killed",
    "leader killed",
    "network of a recorder cut",
    "reader ended, and another begins",
    "room of the server used up",
)
CHOSEN = [each for each in FAULTS if each.name in SHORT]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", CHOSEN, ids=lambda each: each.name)
def test_two_recorders_lose_and_double_nothing(fault: Fault, tmp_path: Path) -> None:
    done = run(fault, 1, tmp_path)
    assert done.problems == []
