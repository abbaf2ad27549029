"""A sink for eyes: it remembers what came, and is drawn when there is time for it.

``encode`` is called for every batch and gives nothing; ``draw`` is called at most ten times a
second. So decoding for the eye happens at drawing rate, whatever the rate of messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from kfws.protocol.events import Event
from kfws.sinks.screen import Screen, Size
from kfws.sinks.status import Status

__all__ = ["Display", "View"]

# Where nothing is drawn for long, the older lines go: they stood on nobody's screen.
SAID_MOST = 1000


class View(Protocol):
    """One part of a picture: a board, a ladder, the roll."""

    def take(self, events: Sequence[Event]) -> None:
        """A batch, with events that may be no matter of this view. On the hot way: it remembers
        payloads, and leaves decoding to the next picture."""
        ...

    def above(self, now_ns: int, size: Size) -> list[str]:
        """Lines that came since the last time and scroll away above the picture, where
        ``size.lines`` of them can be seen."""
        ...

    def rows(self, now_ns: int, size: Size) -> list[str]:
        """The view as it stands: at most ``size.lines`` rows, none wider than ``size.columns``,
        styled and harmless. Only rows that are others than the last time are written."""
        ...


class Display:
    """Views, one below the other, over a status line. Nothing here knows what time it is."""

    def __init__(self, views: Sequence[View], status: Status) -> None:
        self._views = views
        self._status = status
        self._screen = Screen()
        self._said: deque[str] = deque(maxlen=SAID_MOST)

    def encode(self, events: Sequence[Event]) -> bytes:
        """Nothing: the events are remembered."""
        self._status.take(events)
        for view in self._views:
            view.take(events)
        return b""

    def say(self, line: str) -> None:
        """A line that stands above the picture from the next drawing on."""
        self._said.append(line)

    def draw(self, now_ns: int, size: Size, *, buffered: int = 0) -> bytes:
        """What turns the picture that stands into that of now; nothing if it is the same.

        ``buffered``: bytes that came and have not been handed to us yet.
        """
        status = self._status.line(now_ns, size.columns, buffered=buffered)
        rows = [*self._rows(now_ns, Size(size.columns, size.lines - 1)), status]
        return self._screen.show(self._above(now_ns, size, rows), rows, size)

    def leave(self, now_ns: int, size: Size) -> bytes:
        """The last picture, which stays on the terminal, without the status line."""
        rows = self._rows(now_ns, size)
        return self._screen.leave(self._above(now_ns, size, rows), rows, size)

    def _above(self, now_ns: int, size: Size, rows: list[str]) -> list[str]:
        room = Size(size.columns, size.lines - len(rows))
        lines = [line for view in self._views for line in view.above(now_ns, room)]
        said = [*self._said]
        self._said.clear()
        return lines + said

    def _rows(self, now_ns: int, size: Size) -> list[str]:
        """Each view gets its share of the lines, and what those before it left over."""
        rows: list[str] = []
        # One line less than there are, so that what is said above can be seen.
        left = size.lines - 1
        for place, view in enumerate(self._views):
            share = left // (len(self._views) - place)
            part = view.rows(now_ns, Size(size.columns, share)) if share > 0 else []
            rows += part
            left -= len(part)
        return rows
