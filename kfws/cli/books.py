"""Messages of books → one message per change of what is visible of them.

Each tells the whole of the visible book, in an object of ours with the venue's own digits, and
takes the place of the message that made the difference. All that is no book passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from kfws.protocol.book import EXACT, Level, number_of, plain
from kfws.protocol.events import Closed, Data, Event, Opened, Redial, Stale
from kfws.protocol.visible import Visible

__all__ = ["Books", "Look"]

_TWO = Decimal(2)
_quoted = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen of the books."""

    depth: int
    """Levels a side."""
    steps: Mapping[str, Decimal] = field(default_factory=dict)
    """How far apart the groups of levels are, by product; without, levels stand alone."""
    every_s: float | None = None
    """Tells of changes at most so often; None: of each at once."""


class Books:
    """The books of a run. Fed with its events, once and in order."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._books: dict[str, Visible] = {}
        self._connections: set[int] = set()

    def fold(self, events: Sequence[Event]) -> list[Event]:
        """The batch with what is to be told in place of the messages of books."""
        told: list[Event] = []
        for event in events:
            if type(event) is Data and event.feed == "book" and event.product is not None:
                self._of(event.product).apply(event)
                self._tell([event.product], event.received_ns, told)
            else:
                told.append(event)
                self._doubt(event, told)
        return told

    def sample(self, now_ns: int) -> list[Event]:
        """What changed since the last sample, a message per product."""
        told: list[Event] = []
        for product, seen in self._books.items():
            if seen.look():
                told.append(_told(product, seen, now_ns))
        return told

    def _of(self, product: str) -> Visible:
        found = self._books.get(product)
        if found is None:
            step = self._look.steps.get(product)
            found = self._books[product] = Visible(self._look.depth, step)
        return found

    def _tell(self, products: Sequence[str], at_ns: int, told: list[Event]) -> None:
        if self._look.every_s is not None:
            return
        for product in products:
            seen = self._books[product]
            if seen.look():
                told.append(_told(product, seen, at_ns))

    def _doubt(self, event: Event, told: list[Event]) -> None:
        """Books become stale by what is said of them, or of all connections. (That a number is
        missing they see by themselves.)"""
        match event:
            case Opened():
                self._connections.add(event.connection)
            case Closed():
                self._connections.discard(event.connection)
            case Redial() if not self._connections:
                self._distrust([*self._books], event.received_ns, told)
            case Stale(feed="book", product=str(product)) if product in self._books:
                self._distrust([product], event.received_ns, told)

    def _distrust(self, products: Sequence[str], at_ns: int, told: list[Event]) -> None:
        for product in products:
            self._books[product].book.distrust()
        self._tell(products, at_ns, told)


def _told(product: str, seen: Visible, at_ns: int) -> Data:
    """What is visible of a book as a message. The names are the venue's own, levels are as in
    its snapshots; ``spread`` and ``mid`` are exact, and null where a side is empty."""
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
    return Data(payload, at_ns, "book", "snapshot", product, book.seq, book.venue_ms)


def _levels(levels: Sequence[Level]) -> str:
    return ",".join([f'{{"price":{price},"qty":{qty}}}' for price, qty in levels])


def _or_null(number: int | None) -> str:
    return "null" if number is None else str(number)
