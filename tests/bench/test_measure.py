from __future__ import annotations

import sys

import pytest

from tests.bench.measure import ClientFailed, Cost, measure


def test_a_message_costs_what_many_cost_more_than_one() -> None:
    assert Cost(1.5, 3.0).per_message(Cost(0.5, 1.0), 100) == Cost(0.01, 0.02)


def test_a_run_costs_the_time_of_its_client() -> None:
    cost = measure([sys.executable, "-c", "print(sum(range(1000)))"])
    assert cost.cpu_s > 0
    assert cost.wall_s > 0


def test_a_client_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(ClientFailed, match=r"status 3: no venue"):
        measure([sys.executable, "-c", "import sys; sys.stderr.write('no venue'); sys.exit(3)"])
