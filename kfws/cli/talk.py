"""What the program says to a person: one line each, on stderr."""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from kfws.cli.env import LineWriter
from kfws.sinks.columns import printable

__all__ = ["Level", "Talk"]

Level = Literal["debug", "info", "warning", "error"]
_INDENT = " " * len("kfws: ")
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

    def say(
        self,
        level: Level,
        code: str,
        message: str,
        *,
        hint: str = "",
        though_quiet: bool = False,
        **facts: Any,
    ) -> None:
        """One line, if the level is loud enough, or ``though_quiet``: it is about what was typed.
        ``code`` is one word for machines."""
        self.told[code] += 1
        if _LEVELS.index(level) < self._least and not though_quiet:
            return
        if self._as_json:
            fields = {"at_ns": self._now_ns(), "level": level, "code": code, "message": message}
            fields |= {"hint": hint, **facts}
            self._write(json.dumps(fields))
            return
        line = printable(f"kfws: {message}; {hint}" if hint else f"kfws: {message}")
        for piece in _broken(line, self._writer.columns):
            self._write(piece)

    def plain(self, line: str) -> None:
        """A line to copy, without our name in front; nothing for machines, or when quiet."""
        if self.is_for_people:
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

    @property
    def is_for_people(self) -> bool:
        """Whether somebody may look on who did not ask for silence."""
        return not self._as_json and self._least <= _LEVELS.index("warning")

    def wipe_echo(self) -> None:
        """Ctrl-C was typed: unless a picture stands there, its ``^C`` is wiped away."""
        if self._write == self._writer.write and not self._as_json:
            self._writer.wipe_echo()


def _broken(line: str, columns: int) -> list[str]:
    """The line in pieces that fit a terminal, broken at words; whole where there is none."""
    if not 0 < columns < len(line):
        return [line]
    return textwrap.wrap(
        line,
        max(columns, len(_INDENT) + 1),
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
