from __future__ import annotations

from tests.bench.figures import Figures
from tests.bench.targets import TARGETS, Target, ratio, report, unevenness

FIGURES: Figures = {"ours": [1.0, 1.2, 9.0], "theirs": [2.0, 2.0, 2.0]}


def verdict(limit: float, *, is_least: bool = False) -> str:
    return Target("", ratio("ours", "theirs"), limit, is_least=is_least).row(FIGURES)[-1]


def test_the_median_decides_whether_a_target_is_met() -> None:
    assert verdict(0.6) == "met"
    assert verdict(0.59) == "**not met**"
    assert verdict(0.6, is_least=True) == "met"
    assert verdict(0.61, is_least=True) == "**not met**"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert Target("", ratio("ours", "nobody's"), 1).row(FIGURES)[-1] == "not measured"
    assert report({}).startswith("0 of 0 ")
    assert report({}).count("not measured") == len(TARGETS)


def test_growth_is_judged_by_the_dearest_and_the_cheapest_of_a_round() -> None:
    rows = {f"growth book x1 {each} cpu": [1.0, 2.0] for each in (1, 10, 100)}
    figures = {**rows, "growth book x1 350 cpu": [1.5, 1.0]}
    assert unevenness("growth book x1")(figures) == [1.5, 2.0]


def test_every_target_is_named_once() -> None:
    words = [target.words for target in TARGETS]
    assert len(set(words)) == len(words)
