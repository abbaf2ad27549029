"""Rows that roll up the terminal, one for each thing that happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import tzinfo

from msgspec.structs import replace

from kfws.protocol.events import Data, Event, describe
from kfws.sinks import columns
from kfws.sinks.columns import SIDES, Column, Row, text_of
from kfws.sinks.digits import decimals, figure, grouped
from kfws.sinks.paint import Paint, fit
from kfws.sinks.screen import Size
from kfws.sinks.table import Layout, Table

__all__ = ["Roll"]

# Between two drawings nobody reads more than some screens; of what is older the number is told.
SCREENS_KEPT = 4
# And where nothing is drawn at all (Ctrl-S, in the background) no more than this is held.
WAITING_MOST = 2000
PARTS = "▏▎▍▌▋▊▉█"
# A size that was the greatest fades as others come, so that bars stay comparable.
FADE = 0.995
# Below this many columns a time of day goes without its milliseconds.
NARROW = 72
TIME_SHORT, TIME_LONG = 8, 12
ARROWS = {"buy": "▲ buy", "sell": "▼ sell"}
STYLES = {"buy": "green", "sell": "red"}
FORCED = "◆"
"""In the place of the arrow where nobody wanted the trade."""


class Roll:
    """A view of feeds whose messages each say something new; ``events``: of our own as well.

    ``products``: those that were asked for, as far as they are known.
    """

    def __init__(
        self,
        feeds: tuple[str, ...],
        *,
        paint: Paint,
        zone: tzinfo,
        products: Sequence[str] = (),
        fields: tuple[str, ...] = (),
        events: bool = False,
    ) -> None:
        self._feeds = frozenset(feeds)
        self._events = events
        self._fields = fields
        self._paint = paint
        self._zone = zone
        self._product_cells = max(map(len, products), default=0)
        self._rows: Rows | None = None
        self._columns = 0
        self._since_header = 0
        self._waiting: deque[Event] = deque(maxlen=WAITING_MOST)
        self._left_out = 0
        """What nobody drew for so long that it was dropped here; every other output has it."""

    def take(self, events: Sequence[Event]) -> None:
        for event in events:
            if type(event) is Data:
                if event.feed in self._feeds:
                    self._keep(event)
            elif self._events and describe(event) is not None:
                self._keep(event)

    def _keep(self, event: Event) -> None:
        self._left_out += len(self._waiting) == WAITING_MOST
        self._waiting.append(event)

    def above(self, now_ns: int, size: Size) -> list[str]:
        if not self._waiting:
            return []
        lines = []
        surplus = max(0, len(self._waiting) - SCREENS_KEPT * size.lines)
        if more := surplus + self._left_out:
            told = f"… {more:,} messages came faster than they can be read"
            lines.append(self._paint("dim", fit(told, min(len(told), size.columns))))
            for _ in range(surplus):
                self._waiting.popleft()
            self._left_out = 0
        rows = self._table(size.columns)
        for event in self._waiting:
            lines += self._lines(rows, event, size.lines)
        self._waiting.clear()
        return lines

    def rows(self, now_ns: int, size: Size) -> list[str]:
        """Nothing stands: all that there is has rolled on."""
        return []

    def _lines(self, rows: Rows, event: Event, height: int) -> Iterator[str]:
        """The rows of an event; the titles again when the last ones leave the screen."""
        for line in rows.lines(event):
            self._since_header += 1
            if isinstance(event, Data) and self._since_header >= height > 4:
                self._since_header = 1
                yield rows.header(event.feed)
            yield line

    def _table(self, width: int) -> Rows:
        if self._rows is None or width != self._columns:
            self._columns = width
            seen = self._rows.seen if self._rows is not None else {}
            self._rows = Rows(
                feeds=tuple(self._feeds),
                paint=self._paint,
                width=width,
                zone=self._zone,
                fields=self._fields,
                events=self._events,
                product_cells=self._product_cells,
            )
            self._rows.seen = seen
        return self._rows


class Rows(Table):
    """The rows of a table for eyes alone: separators, arrows, and bars for sizes."""

    shortened = frozenset(columns.TABLE)

    def __init__(self, *, product_cells: int, **options: object) -> None:
        self._product_cells = product_cells
        self._places: dict[tuple[str, str], int] = {}
        self._greatest: dict[str, float] = {}
        super().__init__(**options)  # type: ignore[arg-type]

    def _known(self, feed: str) -> tuple[Column, ...]:
        return tuple(map(self._widened, columns.TABLE.get(feed, super()._known(feed))))

    def _widened(self, column: Column) -> Column:
        """A column as wide as what stands in it here."""
        if column.title == "PRODUCT" and self._product_cells:
            return replace(column, width=max(len(column.title), self._product_cells))
        if column.form == "time" and self._width < NARROW:
            return replace(column, width=TIME_SHORT)
        return replace(column, width=6) if column.form == "side" else column

    def _written(self, column: Column, text: str, data: Data) -> str:
        match column.form:
            case "side":
                side = SIDES.get(text, text)
                return fit(ARROWS.get(side, side), column.width)
            case "number" if column.title in ("PRICE", "QTY"):
                return grouped(text, self._precision(column, text, data)).rjust(column.width)
            case "number" if column.title not in ("SEQ", "ID"):
                return super()._written(column, grouped(text), data)
            case "time" if column.width == TIME_SHORT:
                whole = super()._written(replace(column, width=TIME_LONG), text, data)
                return fit(whole.split(".")[0].rstrip(), column.width)
            case "bar":
                return self._bar(text, data.product or "").ljust(column.width)
            case _:
                return super()._written(column, text, data)

    def _precision(self, column: Column, text: str, data: Data) -> int:
        """The most digits behind the point that the column has seen of this product."""
        key = (column.title, data.product or "")
        self._places[key] = places = max(self._places.get(key, 0), decimals(text))
        return places

    def _bar(self, text: str, product: str) -> str:
        """As long as the square root of the size, so that small ones can be told apart too."""
        number = figure(text)
        size = float(number) if number is not None and number > 0 else 0.0
        greatest = max(self._greatest.get(product, 0.0) * FADE, size)
        self._greatest[product] = greatest
        parts = round((size / greatest) ** 0.5 * 10 * len(PARTS)) if greatest else 0
        whole, part = divmod(parts, len(PARTS))
        return "█" * whole + (PARTS[part - 1] if part else "")

    def _painted(self, layout: Layout, texts: list[str], row: Row) -> str:
        if layout.side is None:
            return " ".join(texts).rstrip()
        side = texts[layout.side].split()[-1:]
        style = STYLES.get(side[0], "") if side else ""
        forced = _is_forced(row)
        for place, column in enumerate(layout.columns):
            if column.form == "side" and forced:
                texts[place] = FORCED + texts[place][1:]
            if style and (column.form in ("side", "bar") or column.title == "PRICE"):
                bare = texts[place].rstrip()
                texts[place] = self._paint(style, bare) + " " * (len(texts[place]) - len(bare))
        line = " ".join(texts).rstrip()
        return self._paint("bold", line) if forced else line


def _is_forced(row: Row) -> bool:
    """Whether it is a liquidation, or what comes of one."""
    kinds = " ".join(text_of(row[key]) for key in ("type", "fill_type") if key in row).lower()
    return any(word in kinds for word in ("liquid", "terminat", "unwind", "assign"))
