"""Every text frame exactly as it came, control messages too."""

from __future__ import annotations

from collections.abc import Sequence

from kfws.protocol.events import Beat, Broken, Data, Duplicate, Event, Notice, Refused, Subscribed

__all__ = ["Raw"]

_CARRIERS = (Data, Beat, Duplicate, Subscribed, Refused, Notice, Broken)


class Raw:
    """Payloads in the order of arrival, a line end behind each; line breaks inside stay."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """The frames of a batch. Each frame has exactly one event that carries it."""
        payloads = [
            event.payload
            for event in events
            if isinstance(event, _CARRIERS) and event.payload is not None
        ]
        payloads.append(b"")
        return b"\n".join(payloads)
