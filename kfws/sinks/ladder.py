"""Order books as ladders: asks above, bids below, what stands between them in the middle.

A view for terminals. Prices and sizes have the venue's own digits, filled up with zeros so that
a column has one precision; what a colour says, a word says too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import NamedTuple

from kfws.protocol.book import EXACT, Level, number_of, plain
from kfws.protocol.events import Event, Refused
from kfws.protocol.visible import Books, Visible
from kfws.sinks.columns import printable
from kfws.sinks.digits import decimals, grouped
from kfws.sinks.paint import Paint, cells, fit
from kfws.sinks.screen import Size

__all__ = ["Ladder"]

# In cells: a price, a size, and a bar that says something.
NARROWEST, WIDEST = 38, 76
GAP = "   "
SHORTEST_BAR = 6
# Title, heads of the columns, and the row between the sides.
ROWS_OF_ITS_OWN = 3
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


class Ladder:
    """Books side by side, in the order of ``products``.

    ``depth``: levels a side, None: as many as the height allows. ``steps``: by product, how far
    apart the groups are that its levels are put in. ``places``: by product, digits behind the
    point of its prices; more are shown where more come.
    """

    def __init__(
        self,
        products: Sequence[str],
        *,
        paint: Paint,
        depth: int | None = None,
        steps: Mapping[str, Decimal] | None = None,
        places: Mapping[str, int] | None = None,
    ) -> None:
        self._asked = list(products)
        self._paint = paint
        self._depth = depth
        self._books = Books(depth or 1, steps or {})
        self._places = places or {}
        self._columns: dict[str, _Column] = {}

    def take(self, events: Sequence[Event]) -> None:
        """Folds a batch in: that cannot wait for the next picture, or nobody knew how much."""
        for event in events:
            self._books.apply(event)
            if isinstance(event, Refused) and event.feed == "book" and event.product in self._asked:
                self._asked.remove(event.product)

    def above(self, now_ns: int, size: Size) -> list[str]:
        return []

    def rows(self, now_ns: int, size: Size) -> list[str]:
        products = [*dict.fromkeys([*self._asked, *self._books.of])]
        side_by_side = (size.columns + len(GAP)) // (NARROWEST + len(GAP))
        shown = products[: max(1, side_by_side)]
        hidden = products[len(shown) :]
        depth = max(1, (size.lines - ROWS_OF_ITS_OWN - bool(hidden)) // 2)
        self._books.show(min(depth, self._depth or depth))
        width = (size.columns - len(GAP) * (len(shown) - 1)) // max(1, len(shown))
        columns = [self._column(product, min(width, WIDEST)) for product in shown]
        rows = [GAP.join(parts).rstrip() for parts in zip(*columns, strict=True)]
        if hidden:
            names = printable(", ".join(hidden))
            more = fit(f"{len(hidden)} more: {names}", size.columns).rstrip()
            rows.append(self._paint("dim", more))
        return rows[: size.lines]

    def _column(self, product: str, width: int) -> list[str]:
        column = self._columns.get(product)
        if column is None:
            column = self._columns[product] = _Column(
                product, self._paint, self._places.get(product, 0)
            )
        return column.rows(self._books.of.get(product) or Visible(self._books.depth), width)


class _Column:
    """The ladder of one product. It remembers how wide its numbers were, so that they stand
    still, and its last picture."""

    def __init__(self, product: str, paint: Paint, places: int) -> None:
        self._title = printable(product)
        self._paint = paint
        self._shown: list[str] = []
        self._width = self._depth = 0
        self._places = {"price": places, "size": 0}
        """Digits behind the point."""
        self._widths = {"price": len("PRICE"), "size": len("SIZE"), "total": len("TOTAL")}

    def rows(self, seen: Visible, width: int) -> list[str]:
        """As many as both sides have levels, and three; each exactly that wide."""
        changed = seen.look()
        if changed or not self._shown or (width, seen.depth) != (self._width, self._depth):
            self._width, self._depth = width, seen.depth
            self._shown = self._drawn(seen)
        return self._shown

    def _drawn(self, seen: Visible) -> list[str]:
        asks, bids = _steps(seen.asks), _steps(seen.bids)
        self._measure([*asks, *bids])
        deepest = max([side[-1].total for side in (asks, bids) if side], default=_NOTHING)
        style = "dim" if seen.stale else ""
        empty = " " * self._width
        rows_of = {
            word: [self._row(word, step, deepest, style or colour) for step in steps]
            for word, colour, steps in (("ask", "red", asks), ("bid", "green", bids))
        }
        room = [empty] * (seen.depth - len(asks)), [empty] * (seen.depth - len(bids))
        return [
            self._top(seen, asks, bids),
            self._heads(),
            *room[0],
            *reversed(rows_of["ask"]),
            self._middle(seen, asks, bids),
            *rows_of["bid"],
            *room[1],
        ]

    # ── numbers ──

    def _measure(self, steps: Sequence[_Step]) -> None:
        """One precision and one width for each column; they grow, and never shrink again."""
        for step in steps:
            self._places["price"] = max(self._places["price"], decimals(step.price))
            self._places["size"] = max(self._places["size"], decimals(step.size))
        for step in steps:
            for name, text in zip(self._widths, self._texts(step), strict=True):
                self._widths[name] = max(self._widths[name], len(text))

    def _texts(self, step: _Step) -> tuple[str, str, str]:
        size = self._places["size"]
        return (
            grouped(step.price, self._places["price"]),
            grouped(step.size, size),
            grouped(plain(step.total), size),
        )

    @property
    def _bar_cells(self) -> int:
        """What is left for bars; below 0 where there is not even room for the numbers."""
        return self._width - sum(self._cells) - len(self._cells)

    @property
    def _cells(self) -> list[int]:
        """Widths of the columns before the bar: the side's name, price, size, and total unless
        that left too little for a bar."""
        widths = [len("ask"), *self._widths.values()]
        if sum(widths) + len(widths) + SHORTEST_BAR > self._width:
            widths.pop()
        return widths

    # ── rows ──

    def _row(self, word: str, step: _Step, deepest: Decimal, style: str) -> str:
        texts = [
            text.rjust(width)
            for text, width in zip((word, *self._texts(step)), self._cells, strict=False)
        ]
        room = self._bar_cells
        if room < 0:
            return fit(" ".join(texts), self._width)
        texts[1] = self._paint(style, texts[1])
        bar = _bar(float(step.total / deepest), room)
        return f"{' '.join(texts)} {self._styled(style, bar)}{' ' * (room - len(bar))}"

    def _heads(self) -> str:
        heads = zip(("", "PRICE", "SIZE", "TOTAL"), self._cells, strict=False)
        text = " ".join([*(head.rjust(width) for head, width in heads), "DEPTH"])
        shown = fit(text, min(len(text), self._width))
        return self._paint("dim", shown) + " " * (self._width - len(shown))

    def _top(self, seen: Visible, asks: Sequence[_Step], bids: Sequence[_Step]) -> str:
        if seen.book.seq is None:
            return self._titled("waiting for its snapshot", "dim")
        if seen.stale:
            long = "STALE until its next snapshot"
            is_room = cells(self._title) + 1 + len(long) <= self._width
            return self._titled(long if is_room else "STALE", "bold yellow")
        if not (asks and bids):
            return self._titled("", "")
        share = float(bids[-1].total / (bids[-1].total + asks[-1].total))
        return self._titled(f"{share:.0%} bids", "green" if share >= 0.5 else "red")

    def _titled(self, text: str, style: str) -> str:
        left = self._width - len(text) - 1
        if left < 1:
            return fit(text, self._width)
        title = fit(self._title, min(left, cells(self._title)))
        room = " " * (left - cells(title) + 1)
        return self._paint("bold", title) + room + self._styled(style, text)

    def _styled(self, style: str, text: str) -> str:
        return self._paint(style, text) if text else ""

    def _middle(self, seen: Visible, asks: Sequence[_Step], bids: Sequence[_Step]) -> str:
        """What stands between the sides, as much of it as fits."""
        if seen.book.seq is None:
            return " " * self._width
        text = ""
        for part in _between(asks, bids, self._places["price"]):
            longer = f"{text}· {part} " if text else f"── {part} "
            if len(longer) + 2 <= self._width:
                text = longer
        style = "dim" if seen.stale else "bold"
        return self._styled(style, text + "─" * (self._width - len(text)))


class _Step(NamedTuple):
    """A level, and the quantity from the best price on to there."""

    price: str
    size: str
    total: Decimal


_NOTHING = Decimal(0)


def _steps(levels: Sequence[Level]) -> list[_Step]:
    totals = accumulate((number_of(level.qty) for level in levels), EXACT.add)
    return [_Step(*level, total) for level, total in zip(levels, totals, strict=True)]


def _bar(share: float, width: int) -> str:
    """A bar of at most so many cells, to an eighth of a cell."""
    full, rest = divmod(round(share * width * len(_EIGHTHS)), len(_EIGHTHS))
    return "█" * full + _EIGHTHS[rest]


def _between(asks: Sequence[_Step], bids: Sequence[_Step], places: int) -> list[str]:
    if not asks or not bids:
        sides = [name for name, side in (("asks", asks), ("bids", bids)) if not side]
        return [f"no {' and no '.join(sides)}"]
    ask, bid = number_of(asks[0].price), number_of(bids[0].price)
    spread = EXACT.subtract(ask, bid)
    mid = EXACT.divide(EXACT.add(ask, bid), Decimal(2))
    middle = plain(mid)
    word = "spread" if spread > 0 else "crossed"
    parts = [
        f"{word} {grouped(plain(spread), places)}",
        f"mid {grouped(middle, max(places, decimals(middle)))}",
    ]
    if mid > 0:
        parts.append(f"{float(spread / mid) * 10_000:.2f} bp")
    return parts
