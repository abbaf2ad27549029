from __future__ import annotations

from pathlib import Path

from tests.bench.figures import Bench, ratios, spread, table


def test_only_figures_of_one_round_are_compared() -> None:
    figures = {"a": [1.0, 6.0, 8.0], "b": [2.0, 3.0]}
    assert ratios(figures, "a", "b") == [0.5, 2.0]
    assert ratios(figures, "a", "nothing") == []


def test_a_cost_that_drowned_in_noise_is_compared_with_nothing() -> None:
    assert ratios({"a": [-1.0, 1.0], "b": [2.0, 0.0]}, "a", "b") == []


def test_a_spread_says_minimum_median_and_maximum() -> None:
    assert spread([3.0, 1.0, 2.5]) == "1.00 / 2.50 / 3.00"
    assert spread([]) == "–"


def test_a_table_is_markdown() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n|---|--:|\n| 1 | 2 |"


def test_what_could_not_be_measured_is_said_once() -> None:
    bench = Bench(1, 1, Path())
    bench.say("no jq")
    bench.say("no jq")
    bench.add("a", 1.0)
    bench.add("a", 2.0)
    assert (bench.said, bench.figures) == (["no jq"], {"a": [1.0, 2.0]})


def test_rounds_end_when_there_is_no_time_for_another_but_one_is_always_made() -> None:
    bench = Bench(5, 1, Path())
    assert [*bench.turns(3, 1000, "a")] == [0, 1, 2]
    assert [*bench.turns(9, 1000, "a")] == [0, 1, 2, 3, 4]
    assert bench.said == []
    assert [*bench.turns(3, 0, "b")] == [0]
    assert bench.said == ["b: more than 1 of the rounds, for want of time"]
