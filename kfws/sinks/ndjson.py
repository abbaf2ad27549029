"""One JSON object a line, as the venue sent it.

The payload's own bytes are passed on. Three stated exceptions: line breaks inside become
spaces, a stamp is spliced in front, and ``fields`` makes a smaller object of the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from kfws.protocol.events import Data, Event, describe
from kfws.sinks import columns
from kfws.tapes import line

__all__ = ["Ndjson"]

_MANY = 5
"""Fewer lines are stamped faster one by one."""


class Ndjson:
    """``stamp`` adds ``received_ns`` (ns, UTC) as the first key, ``events`` the stream's own
    objects; with ``fields`` only these keys are written, dotted paths for nested ones."""

    def __init__(
        self, *, stamp: bool = False, events: bool = False, fields: tuple[str, ...] = ()
    ) -> None:
        self._stamp = stamp
        self._events = events
        self._fields = fields

    def encode(self, events: Sequence[Event]) -> bytes:
        """The lines of a batch, all of them complete; empty if there are none."""
        payloads = [event.payload for event in events if type(event) is Data]
        is_mixed = self._events and len(payloads) < len(events)
        if is_mixed or self._fields or (self._stamp and len(payloads) < _MANY):
            return _joined(list(self.lines(events)))
        if self._stamp:
            moments = [event.received_ns for event in events if type(event) is Data]
            return line.stamped(payloads, moments)
        return _joined(payloads)

    def lines(self, events: Sequence[Event]) -> Iterator[bytes]:
        """The objects one by one, without line ends; line breaks inside are as they came."""
        for event in events:
            if type(event) is not Data:
                own = describe(event) if self._events else None
                if own is not None:
                    yield orjson.dumps(own)
            elif self._fields:
                yield from self._picked(event)
            elif self._stamp:
                yield line.stamp(event.payload, event.received_ns)
            else:
                yield event.payload

    def _picked(self, data: Data) -> Iterator[bytes]:
        for picked in _pick(data, self._fields):
            yield line.stamp(picked, data.received_ns) if self._stamp else picked


def _joined(lines: list[bytes]) -> bytes:
    """The lines, each with its end and no break inside."""
    # Joined twice: to count the line ends of what was joined costs ten times as much.
    has_breaks = line.has_breaks(b"".join(lines))
    lines.append(b"")
    return b"\n".join([line.one_line(each) for each in lines] if has_breaks else lines)


def _pick(data: Data, fields: tuple[str, ...]) -> list[bytes]:
    """The message with these keys only. Keys that stand in its entries make a line per entry."""
    message = columns.read(data.payload)
    whole = {path: columns.find(message, path) for path in fields}
    missing = [path for path in fields if whole[path] is None]
    entries = columns.entries(data.feed, message) if missing else []
    parts = [{path: columns.find(entry, path) for path in missing} for entry in entries]
    if not any(value is not None for part in parts for value in part.values()):
        parts = [{}]
    return [
        columns.as_object(
            [
                (path, value)
                for path in fields
                if (value := part.get(path) or whole[path]) is not None
            ]
        )
        for part in parts
    ]
