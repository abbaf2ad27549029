"""Rows that roll up the terminal, one per thing that happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import tzinfo

from kfws.protocol.events import Event
from kfws.sinks.paint import Paint
from kfws.sinks.screen import Size
from kfws.sinks.table import Table

__all__ = ["Roll"]


class Roll:
    """A view of feeds whose messages each say something new."""

    def __init__(self, feeds: tuple[str, ...], *, paint: Paint, zone: tzinfo) -> None:
        self._feeds = feeds
        self._paint = paint
        self._zone = zone
        self._waiting: deque[Event] = deque()

    def take(self, events: Sequence[Event]) -> None:
        self._waiting.extend(events)

    def above(self, now_ns: int, size: Size) -> list[str]:
        table = Table(feeds=self._feeds, paint=self._paint, width=size.columns, zone=self._zone)
        lines = [line for event in self._waiting for line in table.lines(event)]
        self._waiting.clear()
        return lines

    def rows(self, now_ns: int, size: Size) -> list[str]:
        return []
