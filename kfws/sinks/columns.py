"""What a message looks like as rows: which columns each feed has, and what stands in them.

Rule of this room: pure, and values stay the venue's own tokens (``msgspec.Raw``), so that no
digit is ever changed. A new feed is one row in ``_CSV`` and one in ``TABLE``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal
from unicodedata import category

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from kfws.protocol.events import Data
from kfws.protocol.feeds import FEEDS

__all__ = [
    "BOARD",
    "SIDES",
    "TABLE",
    "Column",
    "Row",
    "as_object",
    "board_columns",
    "csv_columns",
    "entries",
    "find",
    "full_rows",
    "known_keys",
    "named",
    "names",
    "printable",
    "printable_lines",
    "read",
    "rows",
    "table_columns",
    "text_of",
    "token_reader",
]

Row = dict[str, Raw]
"""Keys and the venue's own tokens for their values."""

read = msgspec.json.Decoder(Row).decode
"""One JSON object, one level deep; what lies below stays a token."""

_read_rows = msgspec.json.Decoder(list[Row]).decode
_read_text = msgspec.json.Decoder(str).decode
_quoted = msgspec.json.encode


def printable(text: str) -> str:
    """The text with every character made visible that could move, hide or turn what a terminal
    shows: controls, escapes, bidi marks, line separators, lone surrogates; and what takes no cell
    of its own, of which any number could hang on a letter."""
    if text.isascii() and text.isprintable():
        return text
    return "".join([mark if _stands_alone(mark) else "·" for mark in text])


def printable_lines(text: str) -> str:
    """The same of a text of several lines, which stay lines."""
    return "\n".join([printable(each) for each in text.split("\n")])


def _stands_alone(mark: str) -> bool:
    if not mark.isprintable() or category(mark) in ("Mn", "Me"):
        return False
    # Vowels and finals of Korean syllables join the letter before them.
    return not ("\u1160" <= mark <= "\u11ff" or "\ud7b0" <= mark <= "\ud7ff")


def text_of(token: bytes | Raw) -> str:
    """What a token says: a string without its quotes, null as nothing, all else as it stands."""
    text = str(token, "utf-8")
    if text[:1] != '"':
        return "" if text == "null" else text
    if "\\" not in text:
        return text[1:-1]
    try:
        return _read_text(token)
    except msgspec.DecodeError:  # half a surrogate pair: legal JSON, no text
        return text[1:-1]


def as_object(pairs: list[tuple[str, Raw]]) -> bytes:
    """The pairs as one JSON object, their tokens untouched."""
    return b"{%b}" % b",".join(b"%b:%b" % (_quoted(key), raw) for key, raw in pairs)


def find(row: Row, path: str) -> Raw | None:
    """The value under a key, or under a dotted path of keys of nested objects."""
    value = row.get(path)
    if value is not None or "." not in path:
        return value
    key, _, rest = path.partition(".")
    nested = _object(row.get(key))
    return None if nested is None else find(nested, rest)


# ── a message as rows ──


def rows(message: Row, found: list[Row]) -> list[Row]:
    """One row per entry, each with the keys of the whole message too; one row if there is none.

    Nested objects with a known shape are flattened (``greeks.iv``).
    """
    return [_flat(message | entry) for entry in found or [{}]]


def full_rows(data: Data, message_no: int, known: frozenset[str]) -> Iterator[Row]:
    """The rows of a message with all of ``csv_columns``, as far as they have a value; keys that
    are not ``known`` stand in ``extra`` as one object."""
    message = read(data.payload)
    found = entries(data.feed, message)
    for row in rows(message, found):
        unknown = [(key, row[key]) for key in row if key not in known]
        row["received_ns"] = Raw(b"%d" % data.received_ns)
        row["kind"] = Raw(b'"%b"' % data.kind.encode())
        row["message_no"] = Raw(b"%d" % message_no)
        row["extra"] = Raw(as_object(unknown)) if unknown else _NULL
        yield row


def known_keys(feed: str) -> frozenset[str]:
    """The keys that have a column, and ``feed``, which each file has but one of. Our own columns
    are not among them: the venue may use such keys one day."""
    return frozenset((*csv_columns(feed)[3:-1], "feed"))


def token_reader(feed: str) -> Callable[[bytes], tuple[Raw, ...]] | None:
    """What gives the tokens of a message in the order of the feed's own columns, the feed's last,
    an empty one for each key that it lacks. It raises msgspec.DecodeError at a key without a
    column, and so at entries and nested objects. None for a feed whose messages are all such."""
    if feed == "balances" or feed not in _CSV:
        return None
    keys = (*csv_columns(feed)[3:-1], "feed")
    if set(FEEDS[feed].entries) & {*keys}:
        return None
    absent = Raw(b"")
    tokens = msgspec.defstruct(
        "_Tokens",
        [(f"token_{n}", Raw, absent) for n in range(len(keys))],
        rename={f"token_{n}": key for n, key in enumerate(keys)},
        forbid_unknown_fields=True,
        gc=False,
    )
    decode, as_tuple = msgspec.json.Decoder(tokens).decode, msgspec.structs.astuple
    return lambda payload: as_tuple(decode(payload))


_NULL = Raw(b"null")


def entries(feed: str, message: Row) -> list[Row]:
    """The entries of a message, which are taken out of it.

    What does not have the shape of entries stays in the message.
    """
    if feed == "balances":
        return _wallets(message)
    found: list[Row] = []
    for key in FEEDS[feed].entries if feed in FEEDS else ():
        listed = _listed(message.get(key))
        if listed is None:
            continue
        del message[key]
        for entry in listed:
            # The levels of a book snapshot say their side by the list they stand in.
            found.append({"side": _SIDES[key]} | entry if key in _SIDES else entry)
    return found


_SIDES = {"bids": Raw(b'"buy"'), "asks": Raw(b'"sell"')}
SIDES = {"true": "buy", "false": "sell", "0": "buy", "1": "sell"}
"""What the ``buy`` of a fill and the ``direction`` of an order say."""


def _listed(value: Raw | None) -> list[Row] | None:
    """A list of objects, or one object as a list."""
    if value is None:
        return None
    try:
        return [read(value)] if bytes(value).startswith(b"{") else _read_rows(value)
    except msgspec.DecodeError:
        return None


def _object(value: Raw | None) -> Row | None:
    if value is None or not bytes(value).startswith(b"{"):
        return None
    return read(value)


def _wallets(message: Row) -> list[Row]:
    """The rows of ``balances``: ``section`` is where in the message, ``name`` which one there."""
    found = [
        {"section": Raw(b'"holding"'), "name": Raw(_quoted(name)), "quantity": quantity}
        for name, quantity in (_taken(message, "holding") or {}).items()
    ]
    found += _named(message, "futures", "futures")
    flex = _taken(message, "flex_futures")
    if flex is None:
        return found
    nested = [
        *_named(flex, "currencies", "flex_futures.currencies"),
        *_named(flex, "isolated", "flex_futures.isolated"),
    ]
    cross = _taken(flex, "cross")
    if flex:
        found.append({"section": Raw(b'"flex_futures"')} | flex)
    found += nested
    if cross is not None:
        found.append({"section": Raw(b'"flex_futures.cross"')} | cross)
    return found


def _named(within: Row, key: str, section: str) -> list[Row]:
    """A map of names to objects as rows; what is no object stays where it is."""
    found: list[Row] = []
    left: list[tuple[str, Raw]] = []
    for name, value in (_taken(within, key) or {}).items():
        wallet = _object(value)
        if wallet is None:
            left.append((name, value))
            continue
        place = {"section": Raw(_quoted(section)), "name": Raw(_quoted(name))}
        found.append(place | wallet)
    if left:
        within[key] = Raw(as_object(left))
    return found


def _taken(within: Row, key: str) -> Row | None:
    """The object under a key, taken out; None, and nothing taken, if there is no object."""
    found = _object(within.get(key))
    if found is not None:
        del within[key]
    return found


_NESTED = ("greeks", "trailing_stop_options", "portfolio_margin_breakdown")


def _flat(row: Row) -> Row:
    for key in _NESTED:
        if key in row and (nested := _taken(row, key)) is not None:
            for name, value in nested.items():
                row[f"{key}.{name}"] = value
    return row


# ── csv: every documented key (protocol page, section 11), in the venue's order ──


def csv_columns(feed: str) -> tuple[str, ...]:
    """The csv columns of a feed, in order. A feed of tomorrow has them too: most of it is
    in ``extra`` then."""
    return ("received_ns", "kind", "message_no", *_CSV.get(feed, ("product_id", "seq")), "extra")


def names(text: str) -> tuple[str, ...]:
    """The names in a text, which are apart by blanks and line ends."""
    return tuple(text.split())


_GREEKS = tuple(f"greeks.{name}" for name in ("iv", "delta", "gamma", "theta", "vega", "rho"))
_ORDERS = names("""
        account instrument time last_update_time order_id cli_ord_id direction type qty filled
    limit_price stop_price reduce_only triggerSignal trailing_stop_options.max_deviation
    trailing_stop_options.unit is_cancel reason""")
_CSV: dict[str, tuple[str, ...]] = {
    "trade": ("product_id", "time", "seq", "side", "price", "qty", "type", "uid"),
    "book": ("product_id", "timestamp", "seq", "side", "price", "qty", "tickSize"),
    "ticker": (
        *names("""
        product_id time bid ask bid_size ask_size last volume volumeQuote open high low change
        index markPrice premium openInterest funding_rate funding_rate_prediction
        relative_funding_rate relative_funding_rate_prediction next_funding_rate_time leverage tag
        pair dtm maturityTime suspended post_only"""),
        *_GREEKS,
    ),
    "ticker_lite": (
        *names("""
        product_id bid ask change premium volume volumeQuote tag pair dtm
        maturityTime"""),
        *_GREEKS,
    ),
    "heartbeat": ("time",),
    "fills": names("""
        account username instrument time price qty buy seq remaining_order_qty order_id
        cli_ord_id fill_id fill_type fee_paid fee_currency taker_order_type order_type"""),
    "open_positions": names("""
        account timestamp seq instrument balance entry_price mark_price index_price pnl
        liquidation_threshold effective_leverage return_on_equity unrealized_funding
        initial_margin initial_margin_with_orders maintenance_margin pnl_currency
        max_fixed_leverage fill_time iv delta theta gamma vega rho"""),
    "open_orders": _ORDERS,
    "open_orders_verbose": _ORDERS,
    "balances": names("""
        account timestamp seq section name pair unit quantity value collateral_value available
        haircut conversion_spread balance cash_value balance_value portfolio_value initial_margin
        initial_margin_without_orders maintenance_margin pnl unrealized_funding total_unrealized
        total_unrealized_as_margin margin_equity available_margin effective_leverage
        total_position_size unified_balances portfolio_margin_breakdown.market_risk
        portfolio_margin_breakdown.abs_options_delta
        portfolio_margin_breakdown.net_position_delta
        portfolio_margin_breakdown.futures_maintenance_margin futures_cash_value
        futures_upnl_cash_value"""),
    "account_balances_and_margins": names("account seq name balance pnl funding pv am im mm"),
    "account_log": names("""
        id date asset contract info booking_uid margin_account collateral execution old_balance
        new_balance old_average_entry_price new_average_entry_price trade_price mark_price
        realized_pnl fee funding_rate realized_funding conversion_spread_percentage
        liquidation_fee"""),
    "notifications_auth": names("id type priority note effective_time expected_downtime_minutes"),
}


# ── tables: the most important columns first, since the last are dropped where width is short ──


Form = Literal[
    "any", "text", "number", "percent", "ratio", "time", "moment", "side",
    "bar", "price", "size", "signed", "spread", "trend", "until",
]  # fmt: skip
"""How a value is shown. ``ratio`` is a fraction shown as percent; ``time`` and ``moment`` are in
epoch ms or ISO 8601, and where there is none ``time`` is that of the arrival.

On a terminal: a ``bar`` is as long as the value is great, a ``price`` flashes when it moves, a
``size`` is rounded to what an eye takes in,
``signed`` is a gain or a loss, ``spread`` lies between two prices, ``trend`` is a price over the
last minutes, ``until`` is the time that is left to a moment."""


class Column(msgspec.Struct, frozen=True):
    """One column of a table; ``keys`` are looked up in turn, the first that has a value counts."""

    title: str
    keys: tuple[str, ...]
    width: int
    form: Form = "number"
    rank: int = 0
    """On a board: the columns of the highest rank are dropped first where the width is short."""

    @property
    def right(self) -> bool:
        """Whether the title stands at the right, as the values do."""
        return self.form not in ("text", "time", "moment", "side", "trend", "bar")


_TIME = Column("TIME", ("time", "timestamp"), 12, "time")
_NOW = Column("TIME", (), 12, "time")
_PRODUCT = Column("PRODUCT", ("product_id",), 17, "text")
_SIDE = Column("SIDE", ("side",), 4, "side")
_BID = Column("BID", ("bid",), 12)
_ASK = Column("ASK", ("ask",), 12)
_CHANGE = Column("CHANGE", ("change",), 8, "percent")
_VOLUME = Column("VOLUME", ("volume",), 14)
_PREMIUM = Column("PREMIUM", ("premium",), 8, "percent")
_PAIR = Column("PAIR", ("pair",), 10, "text")
_TAG = Column("TAG", ("tag",), 10, "text")
# Cancels may carry the id alone: better that than a blank.
_INSTRUMENT = Column("PRODUCT", ("instrument", "product_id", "order_id"), 17, "text")
_OPEN_ORDERS = (
    _TIME,
    _INSTRUMENT,
    Column("SIDE", ("direction",), 4, "side"),
    Column("QTY", ("qty",), 10),
    Column("LIMIT", ("limit_price",), 11),
    Column("REASON", ("reason",), 21, "text"),
    Column("FILLED", ("filled",), 10),
    Column("STOP", ("stop_price",), 11),
    Column("TYPE", ("type",), 13, "text"),
    Column("ORDER", ("order_id",), 36, "text"),
    Column("CLIENT ORDER", ("cli_ord_id",), 36, "text"),
)
TABLE: dict[str, tuple[Column, ...]] = {
    "trade": (
        _TIME,
        _PRODUCT,
        _SIDE,
        Column("PRICE", ("price",), 12),
        Column("QTY", ("qty",), 12),
        Column("", ("qty",), 10, "bar"),
        Column("TYPE", ("type",), 18, "text"),
        Column("SEQ", ("seq",), 11),
        Column("UID", ("uid",), 36, "text"),
    ),
    "book": (
        _TIME,
        _PRODUCT,
        Column("SIDE", ("side",), 8, "side"),
        Column("PRICE", ("price",), 12),
        Column("QTY", ("qty",), 12),
        Column("SEQ", ("seq",), 12),
    ),
    "ticker": (
        _TIME,
        _PRODUCT,
        Column("LAST", ("last",), 12),
        _BID,
        _ASK,
        _CHANGE,
        _VOLUME,
        Column("FUNDING/H", ("relative_funding_rate",), 11, "ratio"),
        Column("MARK", ("markPrice",), 12),
        Column("INDEX", ("index",), 12),
        Column("OPEN INTEREST", ("openInterest",), 14),
        _PREMIUM,
        _TAG,
    ),
    "ticker_lite": (_NOW, _PRODUCT, _BID, _ASK, _CHANGE, _VOLUME, _PREMIUM, _PAIR, _TAG),
    "heartbeat": (_TIME,),
    "fills": (
        _TIME,
        _INSTRUMENT,
        Column("SIDE", ("buy",), 4, "side"),
        Column("PRICE", ("price",), 12),
        Column("QTY", ("qty",), 10),
        Column("", ("qty",), 10, "bar"),
        Column("TYPE", ("fill_type",), 11, "text"),
        Column("FEE", ("fee_paid",), 12),
        Column("IN", ("fee_currency",), 5, "text"),
        Column("REMAINING", ("remaining_order_qty",), 10),
        Column("ORDER", ("order_id",), 36, "text"),
    ),
    "open_positions": (
        _TIME,
        _INSTRUMENT,
        Column("SIZE", ("balance",), 10),
        Column("ENTRY", ("entry_price",), 11),
        Column("MARK", ("mark_price",), 11),
        Column("PNL", ("pnl",), 12),
        Column("LIQUIDATION", ("liquidation_threshold",), 12),
        Column("LEVERAGE", ("effective_leverage",), 9),
        Column("MARGIN", ("initial_margin",), 12),
    ),
    "open_orders": _OPEN_ORDERS,
    "open_orders_verbose": _OPEN_ORDERS,
    "balances": (
        _TIME,
        Column("SECTION", ("section",), 23, "text"),
        Column("NAME", ("name",), 12, "text"),
        Column("BALANCE", ("balance", "quantity", "balance_value"), 14),
        Column("AVAILABLE", ("available", "available_margin"), 14),
        Column("VALUE", ("portfolio_value", "value"), 14),
        Column("PNL", ("pnl",), 12),
        Column("MARGIN", ("initial_margin",), 12),
        Column("MAINTENANCE", ("maintenance_margin",), 12),
    ),
    "account_balances_and_margins": (
        _NOW,
        Column("NAME", ("name",), 12, "text"),
        Column("BALANCE", ("balance",), 14),
        Column("VALUE", ("pv",), 12),
        Column("AVAILABLE", ("am",), 12),
        Column("PNL", ("pnl",), 12),
        Column("MARGIN", ("im",), 12),
        Column("MAINTENANCE", ("mm",), 12),
        Column("FUNDING", ("funding",), 12),
    ),
    "account_log": (
        Column("TIME", ("date",), 12, "time"),
        Column("ID", ("id",), 9),
        Column("ASSET", ("asset",), 12, "text"),
        Column("INFO", ("info",), 20, "text"),
        Column("NEW BALANCE", ("new_balance",), 14),
        Column("PNL", ("realized_pnl",), 12),
        Column("FEE", ("fee",), 12),
        Column("FUNDING", ("realized_funding",), 12),
        Column("ACCOUNT", ("margin_account",), 12, "text"),
    ),
    "notifications_auth": (
        _NOW,
        Column("TYPE", ("type",), 11, "text"),
        Column("PRIORITY", ("priority",), 8, "text"),
        Column("EFFECTIVE", ("effective_time",), 12, "moment"),
        Column("NOTE", ("note",), 80, "text"),
    ),
}
"""Columns of the feeds that have a table. All others show their JSON."""


# ── boards: one row per thing that has a state; which columns go first is said by their rank ──

_TREND = Column("TREND", ("last", "bid"), 12, "trend", 3)
_SPREAD = Column("SPREAD", ("bid", "ask"), 6, "spread", 7)
_BOARD_ORDERS = (
    Column("PRODUCT", ("instrument",), 7, "text"),
    Column("SIDE", ("direction",), 4, "side", 1),
    Column("TYPE", ("type",), 5, "text", 5),
    Column("QTY", ("qty",), 6, "size", 2),
    Column("FILLED", ("filled",), 6, "size", 4),
    Column("LIMIT", ("limit_price",), 6, "number", 3),
    Column("STOP", ("stop_price",), 6, "number", 6),
    Column("REASON", ("reason",), 10, "text", 8),
    Column("CHANGED", ("last_update_time", "time"), 12, "time", 7),
    Column("ORDER", ("order_id",), 36, "text", 9),
    Column("CLIENT ORDER", ("cli_ord_id",), 12, "text", 10),
)
BOARD: dict[str, tuple[Column, ...]] = {
    "ticker": (
        Column("PRODUCT", ("product_id",), 7, "text"),
        Column("LAST", ("last",), 8, "price", 1),
        Column("24H", ("change",), 7, "percent", 2),
        _TREND,
        Column("BID", ("bid",), 8, "price", 5),
        Column("ASK", ("ask",), 8, "price", 6),
        _SPREAD,
        Column("MARK", ("markPrice",), 8, "price", 8),
        Column("INDEX", ("index",), 8, "price", 11),
        Column("FUNDING/H", ("relative_funding_rate",), 9, "ratio", 4),
        Column("NEXT", ("next_funding_rate_time",), 6, "until", 12),
        Column("OPEN INT", ("openInterest",), 8, "size", 9),
        Column("VOLUME", ("volume",), 8, "size", 10),
    ),
    "ticker_lite": (
        Column("PRODUCT", ("product_id",), 7, "text"),
        Column("BID", ("bid",), 8, "price", 1),
        Column("ASK", ("ask",), 8, "price", 2),
        Column("24H", ("change",), 7, "percent", 4),
        _TREND,
        _SPREAD,
        Column("PREMIUM", ("premium",), 7, "percent", 8),
        Column("VOLUME", ("volume",), 8, "size", 6),
        Column("PAIR", ("pair",), 7, "text", 9),
        Column("TAG", ("tag",), 9, "text", 10),
    ),
    "open_positions": (
        Column("PRODUCT", ("instrument",), 7, "text"),
        Column("SIZE", ("balance",), 6, "signed", 1),
        Column("ENTRY", ("entry_price",), 8, "size", 4),
        Column("MARK", ("mark_price",), 8, "price", 3),
        Column("PNL", ("pnl",), 8, "signed", 2),
        Column("LIQUIDATION", ("liquidation_threshold",), 11, "size", 5),
        Column("LEVERAGE", ("effective_leverage",), 8, "size", 6),
        Column("FUNDING", ("unrealized_funding",), 8, "signed", 8),
        Column("MARGIN", ("initial_margin",), 8, "size", 7),
    ),
    "open_orders": _BOARD_ORDERS,
    "open_orders_verbose": _BOARD_ORDERS,
    "balances": (
        Column("SECTION", ("section",), 7, "text", 1),
        Column("NAME", ("name",), 5, "text"),
        Column("BALANCE", ("balance", "quantity", "balance_value"), 8, "size", 2),
        Column("AVAILABLE", ("available", "available_margin"), 9, "size", 3),
        Column("VALUE", ("portfolio_value", "value"), 8, "size", 4),
        Column("PNL", ("pnl",), 8, "signed", 5),
        Column("MARGIN", ("initial_margin",), 8, "size", 6),
        Column("MAINTENANCE", ("maintenance_margin",), 11, "size", 7),
    ),
    "account_balances_and_margins": (
        Column("NAME", ("name",), 5, "text"),
        Column("BALANCE", ("balance",), 8, "size", 1),
        Column("VALUE", ("pv",), 8, "size", 2),
        Column("AVAILABLE", ("am",), 9, "size", 3),
        Column("PNL", ("pnl",), 8, "signed", 4),
        Column("MARGIN", ("im",), 8, "size", 5),
        Column("MAINTENANCE", ("mm",), 11, "size", 6),
        Column("FUNDING", ("funding",), 8, "signed", 7),
    ),
}
"""Columns of the feeds whose messages say what is, so that one row is enough for each thing."""


def table_columns(feed: str) -> tuple[str, ...]:
    """The keys that a table of the feed can show. Empty for a feed without a table of its own:
    any key may be asked for there."""
    if feed not in TABLE:
        return ()
    return tuple(name for name in csv_columns(feed) if name not in ("message_no", "extra"))


def board_columns(feed: str, fields: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns of a feed's board: its own, or the keys that were asked for."""
    own = BOARD[feed]
    if not fields:
        return own
    wanted = [named(name, own) or Column(name, (name,), 1, "any") for name in fields]
    return tuple(replace(column, rank=place) for place, column in enumerate(wanted))


def named(typed: str, board: Sequence[Column]) -> Column | None:
    """The column with that title, or that key, in whatever case."""
    wanted = typed.lower()
    titled = (column for column in board if column.title.lower() == wanted)
    keyed = (column for column in board if wanted in map(str.lower, column.keys))
    return next(titled, None) or next(keyed, None)
