"""The objects of ndjson for human eyes: indented, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kfws.protocol.events import Event
from kfws.sinks.ndjson import Ndjson

__all__ = ["Json"]


class Json:
    """The options are those of Ndjson. Layout changes, tokens do not."""

    def __init__(
        self, *, stamp: bool = False, events: bool = False, fields: tuple[str, ...] = ()
    ) -> None:
        self._ndjson = Ndjson(stamp=stamp, events=events, fields=fields)

    def encode(self, events: Sequence[Event]) -> bytes:
        """The objects of a batch, indented by 2, a line end behind each."""
        objects = [msgspec.json.format(each, indent=2) for each in self._ndjson.lines(events)]
        return b"\n".join([*objects, b""])
