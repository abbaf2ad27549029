"""Snapshots of books that were looked up, woven into the one stream where each belongs.

Pure. Who begins to read in the middle begins a little before the snapshot: what is older than it
falls away, and what follows it by number makes the book whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kfws.protocol.events import Data, Event, Gap, Restart
from kfws.protocol.sequence import NEWER_MS

__all__ = ["Kept", "Weaving"]


class Kept(NamedTuple):
    """A snapshot of a book that the stream keeps."""

    data: Data
    is_early: bool
    """Whether it is older than what was asked for: deltas before it are nobody's then."""


class Weaving:
    """Fed with the events of the one stream, once and in order."""

    def __init__(self, kept: Sequence[Kept]) -> None:
        self._waiting = {each.data.product: each for each in kept}
        """Until the first message comes that is newer."""
        self._given: set[str | None] = set()

    def take(self, events: list[Event]) -> list[Event]:
        """The events with the snapshots among them."""
        if not self._waiting:
            return events
        out: list[Event] = []
        for event in events:
            if type(event) is Data and event.feed == "book":
                self._weave(event, out)
            elif not (isinstance(event, (Gap, Restart)) and self._is_past(event)):
                out.append(event)
        return out

    def _weave(self, data: Data, out: list[Event]) -> None:
        kept = self._waiting.get(data.product)
        if kept is None:
            out.append(data)
        elif _is_newer(data, kept.data):
            del self._waiting[data.product]
            if data.kind == "delta" and data.product not in self._given:
                out.append(kept.data)
            out.append(data)
        elif data.kind == "snapshot" and data.seq == kept.data.seq:
            if data.product not in self._given:
                out.append(data)
                self._given.add(data.product)
        elif not kept.is_early and data.product not in self._given:
            out.append(data)

    def _is_past(self, event: Gap | Restart) -> bool:
        """Whether it is about what the snapshot stands for."""
        kept = self._waiting.get(event.product) if event.feed == "book" else None
        if kept is None or not (kept.is_early or event.product in self._given):
            return False
        if isinstance(event, Restart):
            return (event.venue_ms or 0) <= (kept.data.venue_ms or 0)
        return event.last is not None and event.last <= (kept.data.seq or 0)

    def catch_up(self) -> list[Event]:
        """All came that the stream had at the beginning: the snapshots that nothing followed."""
        given = [each.data for key, each in self._waiting.items() if key not in self._given]
        self._given |= {each.product for each in given}
        return [*given]


def _is_newer(data: Data, kept: Data) -> bool:
    """By number; where the venue's times are far apart it may have begun to count anew."""
    later_ms = (data.venue_ms or 0) - (kept.venue_ms or 0)
    if abs(later_ms) > NEWER_MS and data.venue_ms and kept.venue_ms:
        return later_ms > 0
    return (data.seq or 0) > (kept.seq or 0)
