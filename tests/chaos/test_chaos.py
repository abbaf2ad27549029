"""The short form of the chaos suite: real processes, real sockets, every fault once.

The runs wait for deadlines more than they work, so they share the machine; ``make chaos`` runs
the long form and prints a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.chaos.run import Run, Scenario, run
from tests.chaos.scenarios import alone, mix, redundant

AT_ONCE = 16

SCENARIOS = [
    Scenario((), seconds=3),
    *alone(),
    *redundant(),
    mix(1),
    mix(2),
    mix(1, redundancy=2, faults=4, apart_s=3),
]
# The longest begin first.
SCENARIOS.sort(key=lambda scenario: -scenario.seconds)


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Scenario, Future[Run]]]:
    """The runs of those tests that were selected, under way."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = [call.params["scenario"] for call in calls if call and "scenario" in call.params]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            scenario: pool.submit(run, scenario, tmp_path_factory.mktemp("chaos"))
            for scenario in wanted
        }


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_every_message_is_accounted_for(
    scenario: Scenario, runs: dict[Scenario, Future[Run]]
) -> None:
    done = runs[scenario].result()
    problems = "\n".join(done.problems())
    if problems:
        pytest.fail(f"{problems}\n{done.result}\n{done.talk}", pytrace=False)
