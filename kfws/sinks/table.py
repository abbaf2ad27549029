"""Plain aligned rows that scroll, with the columns of each feed.

The venue's own digits; its texts are made harmless before they meet the terminal. A row never
wraps: the columns at the right, which matter least, are dropped where the width is short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo

import msgspec
import orjson
from msgspec import Raw
from msgspec.structs import replace

from kfws.protocol.events import Data, Event, describe
from kfws.sinks import columns
from kfws.sinks.clock import moment, time_of_day
from kfws.sinks.columns import SIDES, Column, Row, printable, text_of
from kfws.sinks.paint import Paint, cells, fit

__all__ = ["Layout", "Table"]

_SNAPSHOT_ROWS = 10
_NARROWEST_TEXT = 10
_JSON = (Column("TIME", (), 12, "time"),)
_STYLES = {"buy": "green", "sell": "red"}
_NEWEST_FIRST = frozenset({"trade", "account_log"})
_NUMBERS = {"trade": "seq", "fills": "seq", "account_log": "id"}
"""What counts the entries of a feed whose snapshots are its past."""


class Layout(msgspec.Struct, frozen=True):
    """The columns that a width holds."""

    columns: tuple[Column, ...]
    header: str
    side: int | None
    """Which column is coloured by what it says."""


class Table:
    """``width`` in cells; ``zone`` is where the times of day are. With ``events`` the stream's
    own objects are shown too, as JSON."""

    shortened = frozenset({"trade"})
    """Feeds of whose snapshots the last rows are enough."""

    def __init__(
        self,
        *,
        feeds: tuple[str, ...],
        paint: Paint,
        width: int,
        zone: tzinfo,
        fields: tuple[str, ...] = (),
        events: bool = False,
    ) -> None:
        self._paint = paint
        self._width = width
        self._zone = zone
        self._fields = fields
        self._events = events
        self._layouts = {feed: self._layout(feed) for feed in feeds}
        self._shown = ""
        """The feed of the row printed last."""
        self.seen: dict[tuple[str, str], int] = {}
        """The number of the last entry shown of each feed and product."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """The rows of a batch, with a header line wherever the feed changes."""
        lines = [line for event in events for line in self.lines(event)]
        return "\n".join([*lines, ""]).encode()

    def lines(self, event: Event) -> Iterator[str]:
        """The rows of one event, none for most that are no messages."""
        if type(event) is Data:
            for row in self._rows(event):
                if event.feed != self._shown:
                    yield self.header(event.feed)
                yield row
        elif self._events and (own := describe(event)) is not None:
            yield self._paint("dim", self._cut(printable(orjson.dumps(own).decode())))

    def header(self, feed: str) -> str:
        """The titles of a feed's columns."""
        self._shown = feed
        return self._paint("bold", self._of(feed).header)

    # ── a message as lines ──

    def _rows(self, data: Data) -> Iterator[str]:
        layout = self._of(data.feed)
        if not self._fields and data.feed not in columns.TABLE:
            compact = msgspec.json.format(data.payload, indent=-1).decode()
            yield self._row(layout, {}, data, note=printable(compact), keep=1)
            return
        message = columns.read(data.payload)
        size = len(message)
        entries = columns.entries(data.feed, message)
        if data.feed == "book" and data.kind == "snapshot":
            yield self._row(layout, message | _SNAPSHOT, data, note=_best(entries), keep=3)
        elif not entries and len(message) < size:
            keep = 2 if "product_id" in message else 1
            yield self._row(layout, message, data, note="none", keep=keep)
        elif data.kind == "snapshot" and entries:
            yield from self._past(layout, message, entries, data)
        else:
            for row in columns.rows(message, entries):
                self._note(data.feed, row)
                yield self._row(layout, row, data)

    def _past(self, layout: Layout, message: Row, entries: list[Row], data: Data) -> Iterator[str]:
        """A snapshot, dim, the newest entries last, as those to come will stand; after a redial
        just those that are not on the screen yet, as if they had come in time."""
        if data.feed in _NEWEST_FIRST:
            entries = entries[::-1]
        rows = columns.rows(message, entries)
        unseen = self._unseen(data.feed, rows)
        for row in rows:
            self._note(data.feed, row)
        if unseen is not None:
            for row in unseen:
                yield self._row(layout, row, data)
            return
        more = len(rows) - _SNAPSHOT_ROWS if data.feed in self.shortened else 0
        if more > 0:
            about = f"… {more} earlier in the snapshot of {data.feed} {data.product or ''}".rstrip()
            yield self._paint("dim", self._cut(printable(about)))
        for row in rows[max(more, 0) :]:
            yield self._paint("dim", self._row(replace(layout, side=None), row, data))

    def _unseen(self, feed: str, rows: list[Row]) -> list[Row] | None:
        """The rows above what was shown; None where nothing was, or where all are below it: the
        venue counts anew."""
        known = [(row, self.seen.get(_stream_of(feed, row)), _number_of(feed, row)) for row in rows]
        if all(last is None or number is None or number < last for _, last, number in known):
            return None
        return [row for row, last, number in known if number is None or number > (last or 0)]

    def _note(self, feed: str, row: Row) -> None:
        if (number := _number_of(feed, row)) is not None:
            self.seen[_stream_of(feed, row)] = number

    def _row(self, layout: Layout, row: Row, data: Data, *, note: str = "", keep: int = 0) -> str:
        """One line. With a note it is dim, and the note stands behind the first ``keep`` cells."""
        if self._fields:
            row = row | {
                "received_ns": Raw(b"%d" % data.received_ns),
                "kind": Raw(b'"%b"' % data.kind.encode()),
            }
            keep = len(layout.columns)
        wanted = layout.columns[:keep] if note else layout.columns
        texts = [self._cell(column, row, data) for column in wanted]
        if note:
            return self._paint("dim", self._cut(" ".join([*texts, note])))
        line = " ".join(texts).rstrip()
        if cells(line) > self._width:
            return self._cut(line)
        return self._painted(layout, texts, row)

    def _painted(self, layout: Layout, texts: list[str], row: Row) -> str:
        """The line with its side in colour."""
        if (side := layout.side) is not None and (said := texts[side].rstrip()) in _STYLES:
            texts[side] = self._paint(_STYLES[said], texts[side])
        return " ".join(texts).rstrip()

    # ── a value as a cell ──

    def _cell(self, column: Column, row: Row, data: Data) -> str:
        text = ""
        for key in column.keys:
            token = columns.find(row, key)
            if token is not None:
                text = printable(text_of(token))
                break
        return self._written(column, text, data)

    def _written(self, column: Column, text: str, data: Data) -> str:
        """A value, as wide as its column."""
        width, received_ns = column.width, data.received_ns
        match column.form:
            case "text":
                return fit(text, width)
            case "side":
                return fit(SIDES.get(text, text), width)
            case "time" if not text:
                return fit(time_of_day(received_ns // 1_000_000, received_ns, self._zone), width)
            case "time" | "moment":
                return fit(moment(text, received_ns, self._zone), width)
            case "percent":
                return f"{_number(text, width - 1)}%" if text else " " * width
            case "ratio":
                return _percent(text).rjust(width)
            case _:
                return _number(text, width)

    # ── layout ──

    def _of(self, feed: str) -> Layout:
        layout = self._layouts.get(feed)
        if layout is None:
            layout = self._layouts[feed] = self._layout(feed)
        return layout

    def _layout(self, feed: str) -> Layout:
        known = self._known(feed)
        wanted = tuple(_named(name, known) for name in self._fields) or known
        fitting = tuple(_fitting(wanted, self._width))
        titles = [
            column.title.rjust(column.width) if column.right else column.title.ljust(column.width)
            for column in fitting
        ]
        if wanted == _JSON:
            titles.append("MESSAGE")
        sides = [place for place, column in enumerate(fitting) if column.form == "side"]
        header = self._cut(" ".join(titles).rstrip())
        return Layout(fitting, header, sides[0] if sides else None)

    def _known(self, feed: str) -> tuple[Column, ...]:
        known = columns.TABLE.get(feed, _JSON)
        return tuple(column for column in known if column.form != "bar")

    def _cut(self, line: str) -> str:
        return line if cells(line) <= self._width else fit(line, max(self._width, 1))


_SNAPSHOT = {"side": Raw(b'"snapshot"')}


def _stream_of(feed: str, row: Row) -> tuple[str, str]:
    """Where a row's number counts: each product has numbers of its own."""
    return feed, text_of(row.get("product_id") or row.get("instrument") or Raw(b'""'))


def _number_of(feed: str, row: Row) -> int | None:
    number = row.get(_NUMBERS.get(feed, ""))
    text = text_of(number) if number is not None else ""
    return int(text) if text.isascii() and text.isdigit() else None


def _named(name: str, known: tuple[Column, ...]) -> Column:
    """The column that shows a key, as the feed's own table does where it has one."""
    for column in known:
        if name in column.keys:
            return replace(column, title=name, keys=(name,), width=max(column.width, len(name)))
    return Column(name, (name,), max(12, len(name)), "any")


def _fitting(wanted: Sequence[Column], width: int) -> Iterator[Column]:
    """The columns that a width holds; a text is narrowed before it is dropped."""
    left = width
    for column in wanted:
        if column.width > left and column.form == "text" and left >= _NARROWEST_TEXT:
            yield replace(column, width=left)
            return
        if column.width > left and left < width:
            return
        yield column
        left -= column.width + 1


def _number(text: str, width: int) -> str:
    """Digits at the right. Only digits behind the point are cut: too wide is better than wrong."""
    if len(text) <= width:
        return text.rjust(width)
    point = text.find(".")
    if not 0 < point < width - 1 or "e" in text or "E" in text:
        return text
    return text[: width - 1] + "…"


def _percent(text: str) -> str:
    """A fraction such as 0.0000027 as percent."""
    try:
        return f"{float(text) * 100:+.6f}%"
    except ValueError:
        return text


def _best(levels: list[Row]) -> str:
    """How many levels a book snapshot has, and the best prices on both sides.

    Levels of no quantity are legal in a snapshot and no offer.
    """
    offers = [level for level in levels if "price" in level and _value(level, "qty") > 0]
    bids = [level for level in offers if text_of(level["side"]) == "buy"]
    asks = [level for level in offers if text_of(level["side"]) == "sell"]
    bid = text_of(max(bids, key=_level_price)["price"]) if bids else "none"
    ask = text_of(min(asks, key=_level_price)["price"]) if asks else "none"
    return printable(f"{len(levels)} levels, bid {bid}, ask {ask}")


def _level_price(level: Row) -> float:
    return _value(level, "price")


def _value(row: Row, key: str) -> float:
    """A number for comparisons; 0 where there is none."""
    try:
        return float(bytes(row[key]))
    except (KeyError, ValueError):
        return 0.0
