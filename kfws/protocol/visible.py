"""The books of a run, and what is looked at of each: so many levels a side.

Rule of this room: pure. A change beyond the worst visible price costs one comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import inf

from kfws.protocol.book import Book, Level, Side
from kfws.protocol.events import Closed, Data, Event, Opened, Redial, Stale

__all__ = ["Books", "Visible"]


class Books:
    """A book for each product that a snapshot or delta came of.

    ``steps``: by product, how far apart the groups are that its levels are put in.
    """

    def __init__(self, depth: int, steps: Mapping[str, Decimal]) -> None:
        self.of: dict[str, Visible] = {}
        self.depth = depth
        """Levels a side that are visible; ``show`` changes it."""
        self._steps = steps
        self._connections: set[int] = set()

    def apply(self, event: Event) -> Sequence[str]:
        """Takes the next event of the run; gives the products whose books it is about.

        A book sees by itself that a number is missing. That its connection was lost, or that it
        is asked for anew, it cannot know.
        """
        if type(event) is Data:
            product = event.product
            if event.feed != "book" or product is None:
                return ()
            self._visible(product).apply(event)
            return (product,)
        match event:
            case Opened():
                self._connections.add(event.connection)
            case Closed():
                self._connections.discard(event.connection)
            case Redial() if not self._connections:
                return self._distrust([*self.of])
            case Stale(feed="book", product=str(stale)) if stale in self.of:
                return self._distrust([stale])
        return ()

    def show(self, depth: int) -> None:
        """So many levels a side from now on."""
        if depth != self.depth:
            self.depth = depth
            for seen in self.of.values():
                seen.show(depth)

    def _visible(self, product: str) -> Visible:
        found = self.of.get(product)
        if found is None:
            found = self.of[product] = Visible(self.depth, self._steps.get(product))
        return found

    def _distrust(self, products: Sequence[str]) -> Sequence[str]:
        for product in products:
            self.of[product].book.distrust()
        return products


class Visible:
    """The ``depth`` best levels of each side of one product, the best first.

    ``step``: levels are put together in groups so far apart.
    """

    __slots__ = ("_asks", "_bids", "book", "stale")

    def __init__(self, depth: int, step: Decimal | None = None) -> None:
        self.book = Book()
        """All of it, as of the last message; what is visible is as of the last ``look``."""
        self.stale = True
        self._bids = _Half("buy", depth, step)
        self._asks = _Half("sell", depth, step)

    @property
    def depth(self) -> int:
        return self._bids.depth

    @property
    def bids(self) -> list[Level]:
        return self._bids.levels

    @property
    def asks(self) -> list[Level]:
        return self._asks.levels

    def show(self, depth: int) -> None:
        """So many levels from the next look on."""
        for half in (self._bids, self._asks):
            half.depth, half.touched = depth, True

    def apply(self, data: Data) -> None:
        """Folds a message of the product in."""
        change = self.book.apply(data)
        if change is None:
            # A snapshot is all news. What could not be read or was passed over changed nothing.
            self._bids.touched |= data.kind == "snapshot"
            self._asks.touched |= data.kind == "snapshot"
        elif change.side == "buy":
            self._bids.touched |= change.price >= self._bids.worst
        else:
            self._asks.touched |= change.price <= self._asks.worst

    def look(self) -> bool:
        """Whether what is visible differs from what it was at the last look."""
        was_stale, self.stale = self.stale, self.book.stale
        bids, asks = self._bids.look(self.book), self._asks.look(self.book)
        return bids or asks or was_stale != self.stale


class _Half:
    """What is visible of one side."""

    __slots__ = ("_side", "_step", "depth", "levels", "touched", "worst")

    def __init__(self, side: Side, depth: int, step: Decimal | None) -> None:
        self._side: Side = side
        self.depth = depth
        self._step = step
        self.levels: list[Level] = []
        self.touched = False
        """Whether something came since the last look that may be visible."""
        self.worst = self._farthest
        """The last visible price; where there is room left, any price is visible."""

    @property
    def _farthest(self) -> float:
        return -inf if self._side == "buy" else inf

    def look(self, book: Book) -> bool:
        if not self.touched:
            return False
        before, self.touched = self.levels, False
        if self._step is None:
            self.levels = book.levels(self._side, self.depth)
        else:
            self.levels = book.grouped(self._side, self._step, self.depth)
        is_full = len(self.levels) == self.depth
        self.worst = float(self.levels[-1].price) if is_full else self._farthest
        return self.levels != before
