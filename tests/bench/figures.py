"""What a run has measured: a list of values, one per round, under a name.

Only values of one round are compared with each other: a shared machine swings by a quarter
from one minute to the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

__all__ = ["Bench", "Figures", "ratios", "spread", "table"]

Figures = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the benchmarks: how much of it, and what it found."""

    rounds: int
    messages: int
    """Per run of a fast client."""
    scratch: Path
    figures: Figures = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """What could not be measured, and why; one line each."""

    def add(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def turns(self, most: int, seconds: float, part: str) -> Iterator[int]:
        """Rounds: at least one, and no more than have room in so many seconds."""
        began = time.monotonic()
        for turn in range(min(most, self.rounds)):
            spent_s = time.monotonic() - began
            if turn and spent_s / turn * (turn + 1) > seconds:
                self.say(f"{part}: more than {turn} of the rounds, for want of time")
                return
            yield turn

    def say(self, line: str) -> None:
        if line not in self.said:
            self.said.append(line)


def ratios(figures: Figures, above: str, below: str) -> list[float]:
    """One figure divided by another, round by round; empty where one is missing.

    A cost that is not above nothing drowned in the noise of the start-up: it tells nothing.
    """
    pairs = zip(figures.get(above, []), figures.get(below, []), strict=False)
    return [a / b for a, b in pairs if a > 0 and b > 0]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Minimum, median and maximum; a dash where there is none."""
    if not values:
        return "–"
    return " / ".join(format(each, form) for each in (min(values), median(values), max(values)))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, the first column to the left."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
