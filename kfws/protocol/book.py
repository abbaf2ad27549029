"""The order book of one product: a fold of its snapshot and deltas.

Rule of this room: pure. What may have been lost makes the book stale, and only the next
snapshot makes it good again. Prices and quantities keep the venue's own digits; floats only
compare.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from decimal import Context, Decimal
from math import inf
from typing import Literal, NamedTuple

import msgspec

from kfws.protocol.events import Data

__all__ = ["EXACT", "Book", "Change", "Level", "Side", "number_of", "plain"]

Side = Literal["buy", "sell"]
"""As the venue spells it: ``buy`` are the bids, ``sell`` the asks."""

EXACT = Context(prec=700)
"""For sums of what the venue sends: a float has up to 309 digits before the point."""

LONGEST_KEPT = 300
"""Bytes of a message that a level may hold on to; a delta of the venue has about 120."""


class Level(NamedTuple):
    """A price and the whole quantity there, each spelled as the venue spelled it."""

    price: str
    qty: str


class Change(msgspec.Struct, gc=False):
    """What a delta did to its book: the whole quantity at a price now; floats, to compare with."""

    side: Side
    price: float
    qty: float


class Book:
    """All levels of both sides, as of the last message that was applied.

    Where several products are followed, each has its own book. ``apply`` never raises for what
    a message holds, and costs about 1.3 µs a delta; nothing is sorted until somebody looks.
    """

    __slots__ = ("_asks", "_bids", "_crossed_since_ns", "received_ns", "seq", "stale", "venue_ms")

    def __init__(self) -> None:
        self.stale = True
        """Not to be trusted until the next snapshot: there was none yet, or something is missing.
        A stale book still follows its deltas, so that there is something to look at."""
        self.seq: int | None = None
        """The number of the last message; None before the first snapshot."""
        self.venue_ms: int | None = None
        """The venue's own time of the last message, ms since the epoch, where it had one."""
        self.received_ns: int | None = None
        """When the last message arrived, ns since the epoch."""
        self._bids, self._asks = _Half(), _Half()
        self._crossed_since_ns: int | None = None

    # What comes

    def apply(self, data: Data) -> Change | None:
        """Folds a ``book`` message of this product in; gives what a delta changed.

        Passed over are late copies of what is in already, what has no number, and all before
        the first snapshot. A missing number makes the book stale, and so does a message that
        cannot be read.
        """
        if data.kind == "snapshot":
            self._replace(data)
            return None
        seq = data.seq
        if seq is None or (seq - 1 != self.seq and not self._is_news(seq, data.venue_ms)):
            return None
        change = None
        try:
            change = _read_change(data.payload)
            half = self._bids if change.side == "buy" else self._asks
            half.put(change.price, change.qty, data.payload)
        except _UNREADABLE:
            self.stale = True
        self.seq = seq
        self.venue_ms = data.venue_ms
        self.received_ns = data.received_ns
        if self._crossed_since_ns is not None and not self.is_crossed:
            self._crossed_since_ns = None
        return change

    def distrust(self) -> None:
        """Stale from here on: the connection ended, or a loss was found elsewhere."""
        self.stale = True

    def _replace(self, data: Data) -> None:
        try:
            message = _read_snapshot(data.payload)
            bids, asks = _half(message.bids), _half(message.asks)
        except _UNREADABLE:
            self.stale = True
            return
        self._bids, self._asks = bids, asks
        self._crossed_since_ns = None
        self.seq = data.seq
        self.venue_ms = data.venue_ms
        self.received_ns = data.received_ns
        # Without a number nobody could tell which deltas follow; a Session lets none through.
        self.stale = data.seq is None

    def _is_news(self, seq: int, venue_ms: int | None) -> bool:
        """Whether a delta counts that is not the next one; if it does, the book is stale."""
        if self.seq is None:
            return False
        # A late copy is as old as its number. Where the number fell and the venue's time went
        # on, the venue restarted its counter, and what happened in between is unknown.
        if seq <= self.seq and (venue_ms or 0) <= (self.venue_ms or 0):
            return False
        self.stale = True
        return True

    # What can be seen

    def levels(self, side: Side, depth: int | None = None) -> list[Level]:
        """The levels of a side, the best first; the ``depth`` best ones if it is given."""
        half = self._bids if side == "buy" else self._asks
        return [half.level(price) for price in half.best_first(depth, rising=side == "sell")]

    def grouped(self, side: Side, step: Decimal, depth: int) -> list[Level]:
        """The ``depth`` best levels of a side in groups ``step`` apart, each at the end of its
        group that is farther from the other side; quantities are exact sums."""
        half, up = (self._bids, False) if side == "buy" else (self._asks, True)
        ends: list[Decimal] = []
        sums: list[Decimal] = []
        bound = -inf if up else inf  # of the group that is being filled; the first level opens one
        for price in half.best_first(None, rising=up):
            level = half.level(price)
            if price > bound if up else price < bound:
                if len(ends) == depth:
                    break
                ends.append(_multiple(number_of(level.price), step, up=up))
                sums.append(_NOTHING)
                bound = float(ends[-1])
            sums[-1] = EXACT.add(sums[-1], number_of(level.qty))
        return [Level(plain(end), plain(qty)) for end, qty in zip(ends, sums, strict=True)]

    def best(self) -> tuple[Level | None, Level | None]:
        """The best bid and the best ask; None for a side that is empty."""
        bids, asks = self._bids.in_order(), self._asks.in_order()
        return (
            self._bids.level(bids[-1]) if bids else None,
            self._asks.level(asks[0]) if asks else None,
        )

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is no lower than the best ask, where both sides have levels.

        It is so for an instant between two deltas, since each tells of one level only.
        """
        bids, asks = self._bids.in_order(), self._asks.in_order()
        return bool(bids and asks) and bids[-1] >= asks[0]

    def crossed_since_ns(self) -> int | None:
        """When the message arrived since which the book is crossed without a break, as ns since
        the epoch; None if it is not crossed.

        A crossing is noticed by asking and followed from then on, so ask now and then (twice a
        second): what was asked about twice cannot have been two short crossings.
        """
        if self._crossed_since_ns is None and self.is_crossed:
            self._crossed_since_ns = self.received_ns
        return self._crossed_since_ns


class _Half:
    """One side of a book: what stands at each price."""

    __slots__ = ("_at", "_order")

    def __init__(self) -> None:
        # Keyed by value: 84001 and 84001.0 are one level, whose last spelling counts. Until
        # somebody looks, the JSON object that told of the level stands for its digits.
        self._at: dict[float, bytes | Level] = {}
        self._order: list[float] | None = None

    def put(self, price: float, qty: float, told: bytes) -> None:
        """Sets a level; a quantity of 0 or less takes it out, known or not."""
        if qty > 0:
            if self._order is not None and price not in self._at:
                insort(self._order, price)
            self._at[price] = told if len(told) <= LONGEST_KEPT else _spelled(told)
        elif self._at.pop(price, None) is not None and self._order is not None:
            del self._order[bisect_left(self._order, price)]

    def in_order(self) -> list[float]:
        """The prices, rising. Sorted at the first look, kept in order from then on."""
        if self._order is None:
            self._order = sorted(self._at)
        return self._order

    def best_first(self, depth: int | None, *, rising: bool) -> list[float]:
        """The ``depth`` lowest prices, rising, or the highest, falling."""
        order = self.in_order()
        if rising:
            return order[:depth]
        return order[::-1] if depth is None else order[max(0, len(order) - depth) :][::-1]

    def level(self, price: float) -> Level:
        level = self._at[price]
        if isinstance(level, bytes):
            level = self._at[price] = _spelled(level)
        return level


class _Quantity(msgspec.Struct, gc=False):
    price: float
    qty: float


class _Digits(msgspec.Struct, gc=False):
    price: msgspec.Raw
    qty: msgspec.Raw


class _Snapshot(msgspec.Struct, gc=False):
    bids: list[msgspec.Raw]
    asks: list[msgspec.Raw]


_read_change = msgspec.json.Decoder(Change).decode
_read_snapshot = msgspec.json.Decoder(_Snapshot).decode
_read_quantity = msgspec.json.Decoder(_Quantity).decode
_read_digits = msgspec.json.Decoder(_Digits).decode


# What a message can be that is JSON, and yet no message of a book.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


_NOTHING = Decimal(0)


def number_of(digits: str) -> Decimal:
    """What the venue's digits say; what no float could tell from 0 may be 0."""
    return EXACT.create_decimal(digits)


def plain(number: Decimal) -> str:
    """The number in JSON without an exponent, unless that were hundreds of zeros."""
    return f"{number:f}" if -400 < number.adjusted() < 400 else str(number)


def _multiple(price: Decimal, step: Decimal, *, up: bool) -> Decimal:
    """The nearest multiple of the step that is not below the price, or not above it."""
    number, rest = EXACT.divmod(price, step)
    if rest and up == (rest > 0):
        number += 1 if up else -1
    return EXACT.multiply(number, step)


def _spelled(told: bytes) -> Level:
    digits = _read_digits(told)
    return Level(str(digits.price, "ascii"), str(digits.qty, "ascii"))


def _half(levels: list[msgspec.Raw]) -> _Half:
    """One side of a snapshot. Recorded ones have levels of quantity 0 in them."""
    half = _Half()
    for level in levels:
        told = bytes(level)  # a Raw would hold on to the whole snapshot
        quantity = _read_quantity(told)
        half.put(quantity.price, quantity.qty, told)
    return half
