"""Sets of whole numbers that are mostly consecutive, as runs: nine million of them in a few."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["Numbers"]

Run = tuple[int, int]
"""First and last."""


class Numbers:
    """A set of numbers. ``doubled`` are those that were put in more than once."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.runs: list[Run] = []
        twice: list[Run] = []
        for first, last in sorted(run for run in runs if run[0] <= run[1]):
            if self.runs and first <= self.runs[-1][1]:
                twice.append((first, min(last, self.runs[-1][1])))
            if self.runs and first <= self.runs[-1][1] + 1:
                self.runs[-1] = self.runs[-1][0], max(last, self.runs[-1][1])
            else:
                self.runs.append((first, last))
        self._twice = twice

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Numbers:
        """Numbers in any order; quick where they rise by one."""
        runs: list[Run] = []
        first = last = None
        for number in numbers:
            if last is not None and first is not None and number == last + 1:
                last = number
                continue
            if last is not None and first is not None:
                runs.append((first, last))
            first = last = number
        if last is not None and first is not None:
            runs.append((first, last))
        return cls(runs)

    @property
    def doubled(self) -> Numbers:
        return Numbers(self._twice)

    def __or__(self, other: Numbers) -> Numbers:
        return Numbers([*self.runs, *other.runs])

    def __and__(self, other: Numbers) -> Numbers:
        return Numbers([*self.runs, *other.runs]).doubled

    def __sub__(self, other: Numbers) -> Numbers:
        left: list[Run] = []
        common = iter((self & other).runs)
        hole = next(common, None)
        for first, last in self.runs:
            while hole is not None and hole[0] <= last:
                left.append((first, hole[0] - 1))
                first = hole[1] + 1
                hole = next(common, None)
            left.append((first, last))
        return Numbers(left)

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.runs)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.runs:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.runs)

    def __str__(self) -> str:
        shown = [f"{a}" if a == b else f"{a} to {b}" for a, b in self.runs[:3]]
        more = f" and {len(self.runs) - 3} runs more" if len(self.runs) > 3 else ""
        return ", ".join(shown) + more
