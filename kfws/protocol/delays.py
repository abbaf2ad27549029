"""How long messages took from the venue to here, of a run of any length."""

from __future__ import annotations

__all__ = ["Delays"]

SAMPLES_KEPT = 8192


class Delays:
    """Samples of a run of any length: when there are too many, every other one goes."""

    def __init__(self) -> None:
        self._samples: list[int] = []
        self._every = 1
        self._count = 0

    def add(self, delay: int) -> None:
        self._count += 1
        if self._count % self._every:
            return
        self._samples.append(delay)
        if len(self._samples) >= SAMPLES_KEPT:
            del self._samples[::2]
            self._every *= 2

    def percentile(self, percent: float) -> int | None:
        """The delay below which so many of a hundred stay; None without samples."""
        if not self._samples:
            return None
        ordered = sorted(self._samples)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
