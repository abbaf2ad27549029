"""One row per product, position, order or wallet, as it stands now.

Messages are kept as they come and decoded when the board is drawn, the latest of each product
alone; a row is written again only when it says something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from math import isfinite

from msgspec import Raw

from kfws.protocol.events import Closed, Data, Event, Opened, Redial
from kfws.sinks import columns
from kfws.sinks.clock import moment, time_left
from kfws.sinks.columns import SIDES, Column, Row, printable, text_of
from kfws.sinks.digits import decimals, figure, grouped, percent
from kfws.sinks.paint import Paint, cells, fit
from kfws.sinks.screen import Size

__all__ = ["Board"]

FLASH_NS = 600_000_000
SORT_EVERY_NS = 1_000_000_000
SECOND_NS = 1_000_000_000
GAP = "  "
TREND_WIDEST = 24
# The trend shows the last minutes: its samples move apart until they are so far from each other.
TREND_SLOWEST_NS = 15 * SECOND_NS
SIZE_DIGITS = 6
NARROWEST_TEXT = 10
BARS = "▁▂▃▄▅▆▇█"

# So many messages are remembered for the next picture; where none comes they are folded.
QUEUED_MOST = 500
# Of so many rows the text is made anew for one picture.
ROWS_AT_ONCE = 100


class Trend:
    """A number over the last minutes. When its samples are too many, every other one goes."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._every_ns = SECOND_NS
        self._next_ns = 0

    def add(self, value: float, now_ns: int) -> None:
        if now_ns < self._next_ns and self._samples:
            self._samples[-1] = value
            return
        self._samples.append(value)
        self._next_ns = now_ns + self._every_ns
        if len(self._samples) > 2 * TREND_WIDEST:
            if self._every_ns < TREND_SLOWEST_NS:
                del self._samples[-2::-2]
                self._every_ns *= 2
            else:
                del self._samples[0]

    def bars(self, width: int) -> str:
        shown = self._samples[-width:]
        if not shown:
            return ""
        low, high = min(shown), max(shown)
        step = (high - low) / (len(BARS) - 1) or 1.0
        middle = high == low
        return "".join(BARS[3 if middle else round((each - low) / step)] for each in shown)

    @property
    def direction(self) -> int:
        """1 when it rose, -1 when it fell, else 0."""
        shown = self._samples[-TREND_WIDEST:] or [0.0]
        return (shown[-1] > shown[0]) - (shown[-1] < shown[0])


class State:
    """What a feed says of each thing: its messages, folded. Keys tell the things apart."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._latest: dict[str | None, Data] = {}
        self._queue: list[Data] = []
        self._found: dict[str, int] = {}
        """Rows that changed since the last picture, and when."""
        self._is_folded = feed in _FOLDED
        self.rows: dict[str, Row] = {}
        self.heard = False

    def take(self, message: Data) -> None:
        """A message that replaces the one before it is not even looked at."""
        if self._is_folded:
            self._queue.append(message)
            if len(self._queue) >= QUEUED_MOST:  # nothing is drawn meanwhile
                self._fold_queue()
        else:
            self._latest[message.product] = message

    def news(self) -> list[tuple[str, Row, int]]:
        """Key, row and arrival of what came since the last time, the latest of each thing."""
        latest, self._latest = self._latest, {}
        for message in latest.values():
            self._found |= dict.fromkeys(self._fold(message), message.received_ns)
        self._fold_queue()
        found, self._found = self._found, {}
        self.heard |= bool(latest or found)
        return [(key, self.rows[key], at) for key, at in found.items() if key in self.rows]

    def _fold_queue(self) -> None:
        self.heard |= bool(self._queue)
        for message in self._queue:
            self._found |= dict.fromkeys(self._fold(message), message.received_ns)
        self._queue = []

    def _fold(self, data: Data) -> list[str]:
        """The keys of the rows that the message changed."""
        message = columns.read(data.payload)
        if self._feed in _BY_PRODUCT:
            key = data.product or ""
            self.rows[key] = message
            return [key]
        entries = columns.entries(self._feed, message)
        if data.kind == "snapshot" or self._feed in _WHOLE:
            self.rows.clear()
        cancelled = message.get("is_cancel") == Raw(b"true")
        changed = []
        for row in columns.rows(message, entries) if entries or "order_id" in message else []:
            key = _key(row)
            if cancelled:
                self.rows.pop(key, None)
                continue
            self.rows[key] = self.rows.get(key, {}) | row
            changed.append(key)
        return changed


_BY_PRODUCT = frozenset({"ticker", "ticker_lite"})
_WHOLE = frozenset({"open_positions", "account_balances_and_margins"})
_FOLDED = frozenset({"open_orders", "open_orders_verbose", "balances"})


def _key(row: Row) -> str:
    """What tells the rows of a feed apart: an order its id, a wallet its place and name."""
    names = ("order_id",) if "order_id" in row else ("section", "name", "instrument")
    return " ".join(text_of(row[name]) for name in names if name in row)


class Cell:
    """What stands in one column of one row."""

    __slots__ = (
        "arrow", "flashes", "moved_ns", "places", "shown", "style", "text", "token", "value",
        "width",
    )  # fmt: skip

    def __init__(self) -> None:
        self.token: Raw | None = None
        self.text = ""
        self.style = ""
        self.value: float | None = None
        self.arrow = ""
        """``▲`` or ``▼``: how a price moved last."""
        self.moved_ns = 0
        self.flashes = False
        self.places = 0
        """The most digits behind the point so far: a column of a row keeps its precision."""
        self.shown = ""
        """The text in its style and width; empty when it has to be made again."""
        self.width = 0


class Line:
    """One row of the board: its cells, and the text that was made of them."""

    def __init__(
        self, board: tuple[Column, ...], widths: list[int], places: int, zone: tzinfo
    ) -> None:
        self._columns = board
        self._widths = widths
        """Of the columns of the whole board; they grow with what stands in them."""
        self._places = places
        self._zone = zone
        self._trend = Trend()
        self._second = 0
        self._row: Row = {}
        self._is_new = True
        """Whether the message says something that the cells do not say yet."""
        self.cells = [Cell() for _ in board]
        self.at_ns = 0
        self.text = ""

    def update(self, row: Row, at_ns: int) -> None:
        """Another message came; its cells are written when somebody looks."""
        self._row, self.at_ns, self._is_new = row, at_ns, True

    def look(self, places: Iterable[int], now_ns: int, *, anew: bool = False) -> bool:
        """Brings these cells up to date, or all that they say ``anew``; whether one changed."""
        second = now_ns // SECOND_NS
        ticked, self._second = second != self._second, second
        is_new, self._is_new = self._is_new or anew, False
        anew |= is_new and self._has_finer_prices()
        changed = False
        for place in places:
            column, cell = self._columns[place], self.cells[place]
            if column.form in CLOCKED:
                says_more = (ticked or anew) and self._tell(column, cell, now_ns)
            else:
                says_more = is_new and self._write(column, cell, now_ns, anew=anew)
            if cell.flashes and now_ns - cell.moved_ns >= FLASH_NS:
                cell.flashes, says_more = False, True
            if says_more:
                changed, cell.shown = True, ""
                taken = _taken(column, cell)
                if taken > self._widths[place]:
                    self._widths[place] = taken
        return changed

    def _has_finer_prices(self) -> bool:
        """Whether a price has more digits behind the point than any before it."""
        before = self._places
        for key in EXACT:
            if (token := self._row.get(key)) is not None:
                self._places = max(self._places, decimals(text_of(token)))
        return self._places != before

    def _write(self, column: Column, cell: Cell, now_ns: int, *, anew: bool) -> bool:
        """Whether the cell says something else now."""
        token = _first(self._row, column.keys)
        if column.form == "spread":
            text = _spread(self._row, column.keys)
        elif token == cell.token and not anew:
            return False
        else:
            text = "" if token is None else printable(text_of(token))
        cell.token = token
        before = cell.text
        match column.form:
            case "price":
                self._move(cell, text, now_ns)
                exact = not EXACT.isdisjoint(self._row)
                cell.text = grouped(text, self._places) if exact else _rounded(text)
            case "time" | "moment":
                cell.text = moment(text, self.at_ns, self._zone)
            case _:
                _write_value(column, cell, text)
        return cell.text != before or cell.flashes

    def _tell(self, column: Column, cell: Cell, now_ns: int) -> bool:
        """The same for what changes with time."""
        before = cell.text
        token = _first(self._row, column.keys)
        text = "" if token is None else text_of(token)
        if column.form == "until":
            cell.text = time_left(text, now_ns)
        else:
            self._sample(cell, text, now_ns)
        return cell.text != before

    def keep_trend(self, now_ns: int) -> None:
        """Once a second, whether anybody sees it or not: it is to tell of the last minutes."""
        for column in self._columns:
            token = _first(self._row, column.keys) if column.form == "trend" else None
            if token is not None and (value := _number(text_of(token))) is not None:
                self._trend.add(value, now_ns)

    def _sample(self, cell: Cell, text: str, now_ns: int) -> None:
        if (value := _number(text)) is not None:
            self._trend.add(value, now_ns)
        cell.text = self._trend.bars(TREND_WIDEST)
        cell.style = {1: "green", -1: "red"}.get(self._trend.direction, "")

    def _move(self, cell: Cell, text: str, now_ns: int) -> None:
        value = _number(text)
        if value is not None and cell.value is not None and value != cell.value:
            cell.arrow = "▲" if value > cell.value else "▼"
            cell.moved_ns, cell.flashes = now_ns, True
        cell.value = value


# What changes with time, and is looked at once a second.
CLOCKED = frozenset({"trend", "until"})
# Prices as the venue trades them: their digits say the precision of all prices of a product.
EXACT = frozenset({"bid", "ask", "last"})


def _write_value(column: Column, cell: Cell, text: str) -> None:
    match column.form:
        case "size":
            cell.places = max(cell.places, decimals(text))
            cell.text = _rounded(text, cell.places)
        case "signed":
            cell.places = max(cell.places, decimals(text))
            cell.style = _sign_style(text)
            cell.text = ("+" if cell.style == "green" else "") + _rounded(text, cell.places)
        case "percent":
            cell.text, cell.style = percent(text, 2), _sign_style(text)
        case "ratio":
            cell.text, cell.style = percent(text, 4, factor=100), _sign_style(text)
        case "side":
            cell.text = SIDES.get(text, text)
            cell.style = {"buy": "green", "sell": "red"}.get(cell.text, "")
        case "number":
            cell.text = grouped(text)
        case _:
            cell.text = text


def _first(row: Row, keys: tuple[str, ...]) -> Raw | None:
    for key in keys:
        if (token := row.get(key)) is not None:
            return token
    return None


def _number(text: str) -> float | None:
    """For comparing; None where there is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _rounded(text: str, places: int = 12) -> str:
    """As many digits as an eye takes in, but never digits before the point."""
    number = figure(text)
    if number is None:
        return text
    before = max(1, number.adjusted() + 1) if number else 1
    for unit, digits in (("T", 12), ("B", 9)):
        if before > max(digits, 10):
            return f"{number.scaleb(-digits):,.{max(0, SIZE_DIGITS - before + digits)}f}{unit}"
    return grouped(text, max(0, min(places, SIZE_DIGITS - before)))


def _sign_style(text: str) -> str:
    number = figure(text)
    if not number:
        return ""
    return "green" if number > 0 else "red"


def _spread(row: Row, keys: tuple[str, ...]) -> str:
    """Between bid and ask, in hundredths of a percent of the middle."""
    value = _basis_points(row, keys)
    return "" if value is None else f"{value:,.2f}bp"


def _basis_points(row: Row, keys: tuple[str, ...]) -> float | None:
    bid, ask = (_number(text_of(row[key])) if key in row else None for key in keys)
    if not bid or not ask or bid + ask <= 0:
        return None
    return (ask - bid) / (ask + bid) * 20_000


class Board:
    """A view of one feed whose messages say what is.

    ``order``: products in the order asked for; ``sort``: the title or key of a column, with ``-``
    in front the greatest first; ``places``: digits behind the point of each product's prices,
    where known; a price that has more shows them.
    """

    def __init__(
        self,
        feed: str,
        *,
        paint: Paint,
        zone: tzinfo,
        order: Sequence[str] = (),
        sort: str | None = None,
        fields: Sequence[str] = (),
        places: Mapping[str, int] | None = None,
    ) -> None:
        self._feed = feed
        self._paint = paint
        self._zone = zone
        self._places = places or {}
        self._columns = columns.board_columns(feed, fields)
        self._state = State(feed)
        self._lines: dict[str, Line] = {}
        self._asked = {product: place for place, product in enumerate(order)}
        self._sort = _sorted_by(sort, self._columns)
        self._keys: list[str] = []
        self._sorted_ns = 0
        self._turn = 0
        self._second = 0
        self._widths = [_least(column) for column in self._columns]
        if self._sort is not None:
            self._widths[self._columns.index(self._sort[0])] += 1  # for the arrow
        self._layout: list[tuple[int, int]] = []
        """The columns that are shown, by their place, with their widths."""
        self._width = 0
        self._open: set[int] = set()
        self._lost_ns = 0

    def take(self, events: Sequence[Event]) -> None:
        for event in events:
            if type(event) is Data:
                if event.feed == self._feed:
                    self._state.take(event)
            elif isinstance(event, Opened):
                self._open.add(event.connection)
            elif isinstance(event, Closed):
                self._open.discard(event.connection)
            elif isinstance(event, Redial) and not self._open:
                self._lost_ns = event.received_ns

    def above(self, now_ns: int, size: Size) -> list[str]:
        return []

    def rows(self, now_ns: int, size: Size) -> list[str]:
        self._take_news()
        self._order(now_ns)
        if not self._keys:
            what = "none" if self._state.heard else f"waiting for the first {self._feed}"
            return [self._paint("dim", fit(what, min(len(what), size.columns)))]
        most = size.lines - 1
        hidden = len(self._keys) - most
        shown = self._keys[: most - 1] if hidden > 0 else self._keys
        lines = [self._lines[key] for key in shown]
        if now_ns // SECOND_NS != self._second:
            self._second = now_ns // SECOND_NS
            for line in self._lines.values():
                line.keep_trend(now_ns)
        self._lay_out(lines, size.columns, now_ns)
        found = [self._header(), *(line.text for line in lines)]
        if hidden > 0:
            more = f"… {hidden + 1:,} more"
            found.append(self._paint("dim", fit(more, min(len(more), size.columns))))
        return found[: size.lines]

    def _take_news(self) -> None:
        for key, row, at_ns in self._state.news():
            line = self._lines.get(key)
            if line is None:
                line = self._lines[key] = Line(
                    self._columns, self._widths, self._places.get(key, 0), self._zone
                )
            line.update(row, at_ns)

    def _order(self, now_ns: int) -> None:
        rows = self._state.rows
        if len(self._lines) != len(rows):
            self._lines = {key: line for key, line in self._lines.items() if key in rows}
        if set(self._keys) != rows.keys():
            late = len(self._asked)
            self._keys = sorted(rows, key=lambda key: self._asked.get(key, late))
            self._sorted_ns = 0
        # Rows that change places ten times a second cannot be read.
        if self._sort is not None and now_ns - self._sorted_ns >= SORT_EVERY_NS:
            self._sorted_ns = now_ns
            column, falling = self._sort
            self._keys.sort(key=lambda key: _weight(rows[key], column, falling))

    # ── layout ──

    def _lay_out(self, lines: Sequence[Line], width: int, now_ns: int) -> None:
        """Writes what changed; all, where the columns have to be others for it."""
        before = self._widths.copy()
        places = [place for place, _ in self._layout]
        changed: list[Line] = []
        # On a very tall terminal rows take turns: no eye sees a third of a second.
        self._turn = self._turn % max(1, len(lines))
        turned = [*lines[self._turn :], *lines[: self._turn]]
        for count, line in enumerate(turned, 1):
            anew = not line.text  # out of sight meanwhile, its cells may be of another layout
            if not anew and len(changed) >= ROWS_AT_ONCE:
                continue
            if line.look(range(len(self._columns)) if anew else places, now_ns, anew=anew) or anew:
                changed.append(line)
                if len(changed) == ROWS_AT_ONCE:
                    self._turn += count
        if not places or width != self._width or self._widths != before:
            self._width = width
            for line in self._lines.values():
                line.text = ""  # also of those that are out of sight: they come back
            for line in lines:
                line.look(range(len(self._columns)), now_ns, anew=True)
            self._layout = _fitting(self._columns, self._widths, width)
            changed = list(lines)
        for line in lines if self._lost_ns else changed:
            line.text = self._text(line)

    def _header(self) -> str:
        sorted_by = self._sort[0] if self._sort else None
        titles = []
        for place, width in self._layout:
            column = self._columns[place]
            arrow = ("↓" if self._sort[1] else "↑") if self._sort and column is sorted_by else ""
            title = fit(f"{arrow}{column.title}", width - _arrow_cells(column), right=column.right)
            titles.append(title + " " * _arrow_cells(column))
        return self._paint("bold", GAP.join(titles).rstrip())

    def _text(self, line: Line) -> str:
        if line.at_ns <= self._lost_ns:
            parts = [self._cell(line.cells[place], place, width) for place, width in self._layout]
            parts[0] = fit(f"~{parts[0]}".rstrip(), self._layout[0][1])
            return self._paint("dim", GAP.join(parts).rstrip())
        for place, width in self._layout:
            cell = line.cells[place]
            if not cell.shown or cell.width != width:
                cell.shown, cell.width = self._styled(cell, place, width), width
        return GAP.join([line.cells[place].shown for place, _ in self._layout]).rstrip()

    def _cell(self, cell: Cell, place: int, width: int) -> str:
        """The plain text, as wide as the column; an arrow has a place of its own."""
        column = self._columns[place]
        if column.form == "trend":
            return fit(cell.text[-width:], width)
        if column.form == "price":
            return fit(cell.text, width - 1, right=True) + (cell.arrow or " ")
        return fit(cell.text, width, right=column.right)

    def _styled(self, cell: Cell, place: int, width: int) -> str:
        text = self._cell(cell, place, width)
        if not cell.arrow:
            bare = text.rstrip()
            styled = self._paint(cell.style or ("bold" if place == 0 else ""), bare)
            return styled + " " * (len(text) - len(bare))
        style = "green" if cell.arrow == "▲" else "red"
        if cell.flashes:
            # The price that matters most in full, the others so that one can still read.
            strong = "bold reverse" if self._columns[place].rank <= 1 else "bold"
            return self._paint(f"{strong} {style}", text)
        return text[:-1] + self._paint(style, text[-1])


def _arrow_cells(column: Column) -> int:
    return 1 if column.form == "price" else 0


def _least(column: Column) -> int:
    return max(len(column.title) + _arrow_cells(column), column.width)


def _taken(column: Column, cell: Cell) -> int:
    if column.form == "trend":
        return column.width
    return cells(cell.text) + _arrow_cells(column)


def _fitting(board: Sequence[Column], widths: Sequence[int], width: int) -> list[tuple[int, int]]:
    """The most important columns that fit, in their order, with their widths.

    What is left over is the trend's; a text that ends the row is narrowed before it is dropped.
    """
    chosen: dict[int, int] = {}
    left = width
    for place in sorted(range(len(board)), key=lambda place: board[place].rank):
        gap = len(GAP) if chosen else 0
        wanted = widths[place] if chosen else min(widths[place], width)
        if wanted + gap > left and board[place].form == "text" and left - gap >= NARROWEST_TEXT:
            wanted = left - gap
        if wanted + gap <= left:
            chosen[place] = wanted
            left -= wanted + gap
    for place in chosen:
        if board[place].form == "trend":
            chosen[place] = min(TREND_WIDEST, chosen[place] + left)
    return sorted(chosen.items())


def _sorted_by(typed: str | None, board: Sequence[Column]) -> tuple[Column, bool] | None:
    """The column that was typed, and whether the greatest comes first."""
    if typed is None:
        return None
    found = columns.named(typed.removeprefix("-"), board)
    return None if found is None else (found, typed.startswith("-"))


def _weight(row: Row, column: Column, falling: bool) -> tuple[bool, float, str]:
    """For sorting: numbers by size, texts by the alphabet, what is missing last."""
    if column.form == "spread":
        value = _basis_points(row, column.keys)
        return value is None, (value or 0.0) * (-1 if falling else 1), ""
    token = _first(row, column.keys)
    text = "" if token is None else text_of(token)
    number = figure(text)
    if number is None:
        return not text, 0.0, text
    return False, float(number) * (-1 if falling else 1), ""
