"""The part of a book that is looked at: so many levels a side, and whether they changed.

Rule of this room: pure. A change beyond the worst visible price costs one comparison.
"""

from __future__ import annotations

from decimal import Decimal
from math import inf

from kfws.protocol.book import Book, Level, Side
from kfws.protocol.events import Data

__all__ = ["Visible"]


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
    def bids(self) -> list[Level]:
        return self._bids.levels

    @property
    def asks(self) -> list[Level]:
        return self._asks.levels

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

    __slots__ = ("_depth", "_side", "_step", "levels", "touched", "worst")

    def __init__(self, side: Side, depth: int, step: Decimal | None) -> None:
        self._side: Side = side
        self._depth = depth
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
            self.levels = book.levels(self._side, self._depth)
        else:
            self.levels = book.grouped(self._side, self._step, self._depth)
        is_full = len(self.levels) == self._depth
        self.worst = float(self.levels[-1].price) if is_full else self._farthest
        return self.levels != before
