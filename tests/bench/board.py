"""What a live table costs beyond the stream itself: CPU of one core, at a rate of messages.

Seconds of tickers of many products are played into a display, batch by batch, and drawn ten times
for each of these seconds, as the loop does. Nothing waits: the time that it takes is the CPU time
that these seconds cost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC

from kfws.protocol.events import Data, Event, Opened
from kfws.sinks.board import Board
from kfws.sinks.display import Display
from kfws.sinks.paint import Paint
from kfws.sinks.screen import Size
from kfws.sinks.status import Status
from tests.bench.figures import Bench, spread, table
from tests.bench.load import FIRST_MS, recorded

__all__ = ["cost", "report"]

PRODUCTS = 350
PER_SECOND = 10_000
DRAWINGS = 10
BATCH = 25
"""About what one read of a socket holds at this rate."""


def messages(number: int, products: int) -> Iterator[Data]:
    """Tickers of the venue's own shape, each product in turn, all their prices moving."""
    [text] = recorded("ticker", "delta")
    for i in range(number):
        product, at_ms = f"PF_X{i % products:03}USD", FIRST_MS + i // 10
        moved = re.sub(rb'"(bid|ask|last|markPrice|index)":(\d+)', _moved(i), text)
        payload = moved.replace(b'"PF_XBTUSD"', b'"%b"' % product.encode())
        yield Data(
            payload=payload,
            received_ns=at_ms * 1_000_000,
            feed="ticker",
            product=product,
            venue_ms=at_ms,
        )


def _moved(step: int) -> bytes:
    return rb'"\1":%d' % (80_000 + step % 997)


def cost(seconds: int, lines: int, *, products: int = PRODUCTS) -> float:
    """The share of one core that a board on a terminal of so many lines takes."""
    paint = Paint(True)
    status = Status(venue="bench", asked="ticker", paint=paint)
    display = Display([Board("ticker", paint=paint, zone=UTC)], status)
    display.encode([Opened(received_ns=0, connection=1, url="ws://x")])
    size = Size(140, lines)
    events: list[Event] = [*messages(seconds * PER_SECOND, products)]
    part = PER_SECOND // DRAWINGS
    display.encode(events[:products])
    display.draw(FIRST_MS * 1_000_000, size)  # what is done once is not counted
    started_at = time.process_time()
    for drawing in range(seconds * DRAWINGS):
        begin = drawing * part
        for at in range(begin, begin + part, BATCH):
            display.encode(events[at : at + BATCH])
        display.draw((FIRST_MS + (drawing + 1) * 1000 // DRAWINGS) * 1_000_000, size)
    return (time.process_time() - started_at) / seconds


def report(bench: Bench) -> str:
    """A row for each height of terminal."""
    rows = []
    for lines in (24, 50, 100, PRODUCTS + 4):
        for _ in range(min(3, bench.rounds)):
            bench.add(f"board {lines} lines", cost(min(5, bench.rounds), lines) * 100)
        rows.append((f"{lines} lines", spread(bench.figures[f"board {lines} lines"], ".1f")))
    told = f"{PRODUCTS} products, {PER_SECOND:,} messages and {DRAWINGS} drawings a second."
    return f"{told}\n\n{table(('terminal', '% of a core'), rows)}"
