"""Messages of books → a line per change of what is visible of them.

A line tells the whole of the visible book, in an object of ours with the venue's own digits, and
takes the place of the message that made the difference. All other events pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec

from kfws.cli.plan import Look
from kfws.protocol.book import EXACT, Level, number_of, plain
from kfws.protocol.events import Data, Event, Tick
from kfws.protocol.visible import Books, Visible

__all__ = ["BookLines"]

DEPTH = 10
"""Levels a side in lines, unless told otherwise."""
_TWO = Decimal(2)
_quoted = msgspec.json.encode


class BookLines:
    """Fed with the events of a run, once and in order."""

    def __init__(self, look: Look, *, is_catching_up: bool = False) -> None:
        self.every_s = look.every_s
        """How often samples are wanted; None: every change is told at once."""
        self._is_catching_up = is_catching_up
        """Whether what comes is of the past, until the first Tick: nothing is told of it but how
        the books stand in the end."""
        self._books = Books(look.depth or DEPTH, look.steps)

    def fold(self, events: Sequence[Event]) -> list[Event]:
        """The batch with lines in place of the messages of books."""
        told: list[Event] = []
        for event in events:
            if self._is_catching_up and isinstance(event, Tick):
                self._is_catching_up = False
                told += self.sample()
            products = self._books.apply(event)
            if type(event) is not Data or not products:
                told.append(event)
            for product in products if self.every_s is None and not self._is_catching_up else ():
                told += self._news(product, getattr(event, "received_ns", 0))
        return told

    def sample(self) -> list[Event]:
        """What changed since the last sample: a line per product."""
        if self._is_catching_up:
            return []
        return [line for product in self._books.of for line in self._news(product, 0)]

    def _news(self, product: str, at_ns: int) -> Iterator[Data]:
        seen = self._books.of[product]
        if seen.look():
            yield _line(product, seen, max(at_ns, seen.book.received_ns or 0))


def _line(product: str, seen: Visible, at_ns: int) -> Data:
    """The names are the venue's own, levels are as in its snapshots; ``spread`` and ``mid`` are
    exact, and null where a side is empty."""
    book, bids, asks = seen.book, seen.bids, seen.asks
    spread = mid = "null"
    if bids and asks:
        bid, ask = number_of(bids[0].price), number_of(asks[0].price)
        spread = plain(EXACT.subtract(ask, bid))
        mid = plain(EXACT.divide(EXACT.add(ask, bid), _TWO))
    text = (
        f'"seq":{_or_null(book.seq)},"timestamp":{_or_null(book.venue_ms)},'
        f'"bids":[{_levels(bids)}],"asks":[{_levels(asks)}],'
        f'"spread":{spread},"mid":{mid},"stale":{"true" if seen.stale else "false"}}}'
    )
    payload = b'{"product_id":%b,%b' % (_quoted(product), text.encode())
    return Data(
        payload=payload,
        received_ns=at_ns,
        feed="book",
        kind="snapshot",
        product=product,
        seq=book.seq,
        venue_ms=book.venue_ms,
    )


def _levels(levels: Sequence[Level]) -> str:
    return ",".join([f'{{"price":{price},"qty":{qty}}}' for price, qty in levels])


def _or_null(number: int | None) -> str:
    return "null" if number is None else str(number)
