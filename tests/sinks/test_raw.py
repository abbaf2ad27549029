from __future__ import annotations

from kfws.protocol.events import Broken, Closed, Notice, Opened, Refused, Subscribed, Tick
from kfws.sinks.raw import Raw
from tests.frames_of import frame
from tests.sinks.events import data


def test_every_frame_comes_out_as_it_came_control_and_broken_ones_too() -> None:
    trade = frame("trade", "recording kept only this one")
    events = [
        Opened(received_ns=1, connection=1, url="ws://127.0.0.1/"),
        Notice(payload=b'{"event":"info"}', received_ns=2, event="info"),
        Subscribed(payload=b'{"event":"subscribed"}', received_ns=3, feed="trade", quiet=True),
        data(trade),
        Refused(payload=None, received_ns=4, feed="x", product=None, message="no"),
        Refused(payload=b'{"event":"alert"}', received_ns=4, feed="x", product=None, message=""),
        Broken(payload=b"<html>\n", received_ns=5, reason="not JSON"),
        Tick(received_ns=6),
        Closed(received_ns=7, connection=1, code=1000, reason=""),
    ]
    assert Raw().encode(events) == b"\n".join(
        [
            b'{"event":"info"}',
            b'{"event":"subscribed"}',
            trade,
            b'{"event":"alert"}',
            b"<html>\n",
            b"",
        ]
    )


def test_a_batch_without_frames_gives_nothing() -> None:
    assert Raw().encode([Tick(received_ns=6)]) == b""
