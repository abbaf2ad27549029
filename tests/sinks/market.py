"""The simulated market without a socket: its messages as events, at moments that are handed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kfws.protocol.events import Event, Opened
from kfws.protocol.feeds import FEEDS
from kfws.sim.market import Market
from tests.sinks.events import data

__all__ = ["START_NS", "played"]

START_MS = 1_790_360_004_000
START_NS = START_MS * 1_000_000
STEP_MS = 100


def played(
    feeds: Sequence[str], products: Sequence[str], seconds: float, *, seed: int = 1
) -> Iterator[tuple[int, list[Event]]]:
    """A tenth of a second at a time: its end, when what was sent within it came."""
    market = Market(seed, START_MS)
    wanted = [
        (feed, product)
        for feed in feeds
        for product in ([None] if FEEDS[feed].products != "required" else products)
    ]
    events: list[Event] = [Opened(received_ns=START_NS, connection=1, url="ws://x")]
    for feed, product in wanted:
        payloads = market.snapshot(feed, product, START_MS)
        events += [data(payload, START_NS) for payload in payloads]
    yield START_NS, events
    asked = {(feed, product or "") for feed, product in wanted}
    for now_ms in range(START_MS, START_MS + int(seconds * 1000), STEP_MS):
        now_ns = (now_ms + STEP_MS) * 1_000_000
        yield (
            now_ns,
            [
                data(each.payload, now_ns)
                for each in market.advance(now_ms + STEP_MS)
                if (each.feed, each.product or "") in asked or (each.feed, "") in asked
            ],
        )
