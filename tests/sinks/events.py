"""Events for the sinks, made from literal frames."""

from __future__ import annotations

from kfws.protocol.events import Data
from kfws.protocol.feeds import base_name
from kfws.protocol.wire import read_head
from tests.frames_of import frames, names

AT_NS = 1_790_360_004_400_000_001


def data(payload: bytes, received_ns: int = AT_NS) -> Data:
    """The event of a data frame, as a Session would make it."""
    head = read_head(payload)
    assert isinstance(head, Data)
    assert head.feed
    feed, is_snapshot = base_name(head.feed)
    kind = "snapshot" if is_snapshot else "delta"
    at_ms = head.venue_ms or head.timestamp
    return Data(
        payload=payload,
        received_ns=received_ns,
        feed=feed,
        kind=kind,  # type: ignore[arg-type]
        product=head.product,
        seq=head.seq,
        venue_ms=at_ms,
    )


def all_data() -> list[Data]:
    """Every data frame of the venue that we have."""
    found = []
    for payload in (each for name in names() for each in frames(name)):
        head = read_head(payload)
        if isinstance(head, Data) and head.feed:
            found.append(data(payload))
    return found
