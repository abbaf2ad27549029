"""What the long forms say of their runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.chaos.__main__ import kind, scenarios, table
from tests.chaos.check import Result
from tests.chaos.run import Run, Scenario
from tests.chaos.soak import Sample, growth_mb, report


def done(scenario: Scenario, *differences: str) -> Run:
    strikes = Counter(scenario.faults)
    result = Result(list(differences), sent=1000, came=900, missing=3, strikes=strikes)
    result.told["gap"] = 1
    return Run(scenario, result, 0, "", Path())


def test_the_table_has_a_row_for_each_fault() -> None:
    drop = Scenario(("drop@1s",))
    lines = table([done(drop), done(drop, "altered"), done(Scenario(()))]).splitlines()
    assert lines[2] == "| `none` | 1 | 1 | 1,000 | 900 | 3 | 0 | 0 | 0 |"
    assert lines[3] == "| `drop@1s` | 1 | 2 | 2,000 | 1,800 | 6 | 0 | 0 | 1 |"


def test_the_connection_that_was_hit_makes_no_row_of_its_own() -> None:
    assert kind(Scenario(("gap=5@3s:feed=book:conn=2",))) == "gap=5@3s:feed=book"
    assert kind(Scenario(("drop@1s", "drop@2s", "gap@3s", "drop@4s"))) == "4 mixed"


def test_the_long_form_hits_each_of_two_connections() -> None:
    faults = {fault for each in scenarios([1, 2], 0) for fault in each.faults}
    assert {"drop@3s:conn=1", "drop@3s:conn=2"} <= faults


def test_a_run_whose_fault_never_struck_has_a_problem() -> None:
    run = done(Scenario(("drop@1s",)))
    assert run.problems() == []
    run.result.strikes.clear()
    assert "not every fault struck" in run.problems()[0]


def test_a_fault_that_nobody_is_told_of_is_a_problem() -> None:
    run = done(Scenario(("broken=3@1s",)))
    assert run.problems() == ["no 'broken' event tells of broken=3@1s"]


def test_memory_is_judged_after_the_first_quarter() -> None:
    sizes = [10, 20, 30, 30, 31, 30, 33, 33]
    samples = [Sample(at_s, size, 0.0) for at_s, size in enumerate(sizes)]
    assert growth_mb(samples) == 3
    assert "+3.0 MB" in report(done(Scenario(())), samples)
