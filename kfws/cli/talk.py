"""What the program says to a person: one line each, on stderr."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from kfws.cli.env import LineWriter
from kfws.sinks.columns import printable

__all__ = ["Level", "Talk"]

Level = Literal["debug", "info", "warning", "error"]
_LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")


class Talk:
    """Lines on stderr, as text or as JSON objects with level, code, message and hint."""

    def __init__(
        self,
        writer: LineWriter,
        *,
        least: Level = "warning",
        as_json: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._writer = writer
        self._write: Callable[[str], None] = writer.write
        self._now_ns = now_ns
        self._least = _LEVELS.index(least)
        self._as_json = as_json
        self._said: Counter[tuple[str, str]] = Counter()
        self.told: Counter[str] = Counter()
        """How often each code was said, loud enough to be heard or not."""

    def through(self, write: Callable[[str], None] | None) -> None:
        """Hands lines to somebody who shows them on the terminal that stderr is; None: no more."""
        self._write = write or self._writer.write

    def say(self, level: Level, code: str, message: str, *, hint: str = "", **facts: Any) -> None:
        """One line, if the level is loud enough. ``code`` is one word for machines."""
        self.told[code] += 1
        if _LEVELS.index(level) < self._least:
            return
        if self._as_json:
            fields = {"at_ns": self._now_ns(), "level": level, "code": code, "message": message}
            fields |= {"hint": hint, **facts}
            self._write(json.dumps(fields))
            return
        line = f"kfws: {message}; {hint}" if hint else f"kfws: {message}"
        self._write(printable(line))

    def plain(self, line: str) -> None:
        """A line to copy, without our name in front; nothing for machines, or when quiet."""
        if not self._as_json and self._least <= _LEVELS.index("warning"):
            self._write(line)

    def once(self, level: Level, code: str, message: str, *, hint: str = "") -> None:
        """Says a thing the first time and counts it from then on; ``counted`` gives the rest."""
        self._said[code, message] += 1
        if self._said[code, message] == 1:
            self.say(level, code, message, hint=hint)

    def say_counts(self) -> None:
        """How often each thing came that was said but once."""
        for (code, message), times in self._said.items():
            if times > 1:
                self.say("warning", code, f"{message} (so {times} times in all)", times=times)
        self._said.clear()

    def flush(self) -> None:
        """Writes what a slow stderr held back, as far as it goes now."""
        self._writer.flush()
