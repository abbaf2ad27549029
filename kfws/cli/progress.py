"""How far a long job is: one line on a terminal's stderr, drawn a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from kfws.cli.env import Env
from kfws.cli.quantities import length, size_text

__all__ = ["Progress", "line"]

EVERY_S = 0.1
CELLS = 20


class Progress:
    """``total`` in bytes of the input. The line is gone when the job is over."""

    def __init__(
        self, env: Env, verb: str, total: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._writer = env.stderr if env.stderr_is_terminal else None
        self._verb = verb
        self._total = total
        self._clock = clock
        self._began = self._drawn_at = clock()

    def show(self, done: int, messages: int | None = None) -> None:
        """So many bytes are read, so many messages done."""
        now = self._clock()
        if self._writer is None or now - self._drawn_at < EVERY_S:
            return
        self._drawn_at = now
        self._writer.draw(line(self._verb, done, self._total, now - self._began, messages))

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.draw("")


def line(verb: str, done: int, total: int, elapsed_s: float, messages: int | None = None) -> str:
    """``verifying ━━━━━───── 50 %, 21 MB/s, 3 s left``."""
    share = min(1.0, done / total) if total else 1.0
    full = int(share * CELLS)
    parts = [f"{verb} {'━' * full}{'─' * (CELLS - full)} {int(share * 100)} %"]
    if elapsed_s > 0:
        parts.append(f"{size_text(int(done / elapsed_s))}/s")
        if messages is not None:
            parts.append(f"{int(messages / elapsed_s):,} messages/s")
    if share > 0:
        parts.append(f"{length(round(elapsed_s / share - elapsed_s))} left")
    return ", ".join(parts)
