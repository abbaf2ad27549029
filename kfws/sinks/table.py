"""Plain aligned rows that scroll, with the columns of each feed.

The venue's own digits; its texts are made harmless before they meet the terminal. A row never
wraps: the columns at the right, which matter least, are dropped where the width is short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

import msgspec
import orjson
from msgspec import Raw

from kfws.protocol.events import Data, Event, describe
from kfws.sinks import columns
from kfws.sinks.columns import Column, Row, printable, text_of
from kfws.sinks.paint import Paint, cells, fit

__all__ = ["Table"]

_SNAPSHOT_TRADES = 10
_NARROWEST_TEXT = 10
_SIDES = {"true": "buy", "false": "sell", "0": "buy", "1": "sell"}
_JSON = (Column("TIME", (), 12, "time"),)


_STYLES = {"buy": "green", "sell": "red"}


@dataclass(frozen=True, slots=True)
class _Layout:
    columns: tuple[Column, ...]
    header: str
    side: int | None
    """Which column is coloured by what it says."""


class Table:
    """``width`` in cells; ``zone`` is where the times of day are. With ``events`` the stream's
    own objects are shown too, as JSON."""

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

    def encode(self, events: Sequence[Event]) -> bytes:
        """The rows of a batch, with a header line wherever the feed changes."""
        lines = [line for event in events for line in self.lines(event)]
        return "\n".join([*lines, ""]).encode()

    def lines(self, event: Event) -> Iterator[str]:
        """The rows of one event, none for most that are no messages."""
        if type(event) is Data:
            if event.feed != self._shown:
                self._shown = event.feed
                yield self._paint("bold", self._of(event.feed).header)
            yield from self._rows(event)
        elif self._events and (own := describe(event)) is not None:
            yield self._paint("dim", self._cut(printable(orjson.dumps(own).decode())))

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
        elif data.feed == "trade" and data.kind == "snapshot":
            yield from self._past_trades(layout, message, entries, data)
        else:
            for row in columns.rows(message, entries):
                yield self._row(layout, row, data)

    def _past_trades(
        self, layout: _Layout, message: Row, entries: list[Row], data: Data
    ) -> Iterator[str]:
        """The newest trades of a snapshot, the newest last, as those to come will stand."""
        more = len(entries) - _SNAPSHOT_TRADES
        if more > 0:
            about = f"… {more} earlier trades of {printable(data.product or '')} in the snapshot"
            yield self._paint("dim", self._cut(about))
        for row in columns.rows(message, entries[:_SNAPSHOT_TRADES][::-1]):
            plain = self._row(replace(layout, side=None), row, data)
            yield self._paint("dim", plain)

    def _row(self, layout: _Layout, row: Row, data: Data, *, note: str = "", keep: int = 0) -> str:
        """One line. With a note it is dim, and the note stands behind the first ``keep`` cells."""
        if self._fields:
            row = row | {
                "received_ns": Raw(b"%d" % data.received_ns),
                "kind": Raw(b'"%b"' % data.kind.encode()),
            }
            keep = len(layout.columns)
        wanted = layout.columns[:keep] if note else layout.columns
        texts = [self._cell(column, row, data.received_ns) for column in wanted]
        if note:
            return self._paint("dim", self._cut(" ".join([*texts, note])))
        line = " ".join(texts).rstrip()
        if cells(line) > self._width:
            return self._cut(line)
        if (side := layout.side) is not None and (said := texts[side].rstrip()) in _STYLES:
            texts[side] = self._paint(_STYLES[said], texts[side])
            line = " ".join(texts).rstrip()
        return line

    # ── a value as a cell ──

    def _cell(self, column: Column, row: Row, received_ns: int) -> str:
        text = ""
        for key in column.keys:
            token = columns.find(row, key)
            if token is not None:
                text = printable(text_of(token))
                break
        width = column.width
        match column.form:
            case "number" | "any":
                return _number(text, width)
            case "text":
                return fit(text, width)
            case "side":
                return fit(_SIDES.get(text, text), width)
            case "time" if not text:
                return fit(self._time(received_ns // 1_000_000, received_ns), width)
            case "time" | "moment":
                return fit(self._moment(text, received_ns), width)
            case "percent":
                return f"{_number(text, width - 1)}%" if text else " " * width
            case "ratio":
                return _percent(text).rjust(width)

    def _moment(self, text: str, received_ns: int) -> str:
        """A time of the venue in the wanted zone, or its text where it is none."""
        try:
            if text.isdecimal():
                return self._time(int(text), received_ns)
            at = datetime.fromisoformat(text)
            return self._time(int(at.timestamp() * 1000), received_ns)
        except (ValueError, OverflowError, OSError):
            return text

    def _time(self, at_ms: int, received_ns: int) -> str:
        """The time of day; the day where it was another, long before or after the arrival."""
        at = datetime.fromtimestamp(at_ms // 1000, self._zone)
        away = abs(at_ms - received_ns // 1_000_000)
        if away <= _HALF_A_DAY:
            return f"{at.hour:02}:{at.minute:02}:{at.second:02}.{at_ms % 1000:03}"
        return f"{at:%m-%d %H:%M}" if away <= _MOST_OF_A_YEAR else f"{at:%Y-%m-%d}"

    # ── layout ──

    def _of(self, feed: str) -> _Layout:
        layout = self._layouts.get(feed)
        if layout is None:
            layout = self._layouts[feed] = self._layout(feed)
        return layout

    def _layout(self, feed: str) -> _Layout:
        known = columns.TABLE.get(feed, _JSON)
        wanted = tuple(_named(name, known) for name in self._fields) or known
        fitting = tuple(_fitting(wanted, self._width))
        titles = [
            column.title.rjust(column.width) if column.right else column.title.ljust(column.width)
            for column in fitting
        ]
        if wanted is _JSON:
            titles.append("MESSAGE")
        sides = [place for place, column in enumerate(fitting) if column.form == "side"]
        header = self._cut(" ".join(titles).rstrip())
        return _Layout(fitting, header, sides[0] if sides else None)

    def _cut(self, line: str) -> str:
        return line if cells(line) <= self._width else fit(line, max(self._width, 1))


_SNAPSHOT = {"side": Raw(b'"snapshot"')}
_HALF_A_DAY = int(timedelta(hours=12) / timedelta(milliseconds=1))
_MOST_OF_A_YEAR = int(timedelta(days=300) / timedelta(milliseconds=1))


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
