"""The short form of the crash suite; ``make crash`` runs the long one and prints a table."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.crash.run import RECORDINGS, Outcome, Recording, record

AT_ONCE = 4


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Recording, Future[Outcome]]]:
    """The recordings of those tests that were selected, under way."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = [call.params["recording"] for call in calls if call and "recording" in call.params]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            recording: pool.submit(
                record, replace(recording, kills=2), tmp_path_factory.mktemp("crash")
            )
            for recording in wanted
        }


@pytest.mark.timeout(180)
@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_a_kill_costs_no_more_than_what_was_not_synced(
    recording: Recording, outcomes: dict[Recording, Future[Outcome]]
) -> None:
    outcome = outcomes[recording].result()
    assert outcome.kept
    assert outcome.problems == []
