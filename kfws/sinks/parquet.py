"""Rows for data frames: typed columns, one feed a file. The only room that needs pyarrow.

What a column cannot hold exactly (a text where a number is expected, a number of more digits
than a float has) is empty there and stands whole in ``extra``, so no digit is ever lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from kfws.errors import MissingExtra, OutputError
from kfws.protocol.events import Data
from kfws.sinks import columns

try:
    import pyarrow as pa
    from pyarrow import parquet as pq
except ImportError as exc:
    raise MissingExtra(
        "Parquet needs pyarrow, which is not installed",
        hint="install it: pip install 'kfws[parquet]'; or convert to .csv",
    ) from exc

__all__ = ["Parquet"]

# Rows of one row group: what is held in memory before it is written, and what a reader skips.
GROUP = 1 << 15
# Every decimal number of so many digits is a float of its own (IEEE 754).
SAFE_DIGITS = 15
_NONE = object()
"""A token that the column cannot hold."""

# Types and units, by the names of columns (protocol page, section 11).
_NS, _MS = "ns since 1970-01-01 UTC", "ms since 1970-01-01 UTC"
_SIZE = "base currency on linear products, contracts on inverse ones"
_INTEGERS: dict[str, str] = {
    "received_ns": _NS,
    "message_no": "",
    "seq": "",
    "id": "",
    "direction": "0 buy, 1 sell",
    "dtm": "days",
    "expected_downtime_minutes": "minutes",
    **dict.fromkeys(("time", "timestamp", "last_update_time", "next_funding_rate_time"), _MS),
    **dict.fromkeys(("maturityTime", "effective_time"), _MS),
}
_BOOLEANS = columns.names("suspended post_only reduce_only is_cancel buy unified_balances")
# Few different values: kept as numbers and a dictionary, in memory too.
_DICTIONARIES = columns.names(
    "kind product_id instrument contract side type tag pair leverage fill_type fee_currency"
)
_TEXTS = columns.names("""
    uid account username order_id cli_ord_id fill_id taker_order_type order_type reason
    triggerSignal trailing_stop_options.unit section name unit pnl_currency fill_time date asset
    info booking_uid margin_account collateral execution priority note""")
_UNITS = {
    **_INTEGERS,
    **dict.fromkeys(("change", "premium"), "percent"),
    **dict.fromkeys(
        ("qty", "bid_size", "ask_size", "volume", "openInterest", "filled", "remaining_order_qty"),
        _SIZE,
    ),
    **dict.fromkeys(
        ("relative_funding_rate", "relative_funding_rate_prediction"), "fraction of price per hour"
    ),
    **dict.fromkeys(
        ("funding_rate", "funding_rate_prediction"),
        "quote currency (inverse: base currency) per unit and hour",
    ),
}

Token = Callable[[Raw], Any]


class _Column(NamedTuple):
    name: str
    type: Any
    value: Token


class Parquet:
    """One file of one feed; a nested message makes a row per entry, as in csv.

    Raises OutputError when the disk does not take it. ``messages`` are those handed in.
    """

    def __init__(self, path: Path, *, feed: str) -> None:
        self.messages = 0
        self.rows = 0
        self._path = path
        self._columns = [_column(name) for name in columns.csv_columns(feed)]
        self._known = columns.known_keys(feed)
        self._schema = pa.schema(
            [
                pa.field(each.name, each.type, metadata=_metadata(each.name))
                for each in self._columns
            ],
            metadata={"feed": feed, "writer": "kfws"},
        )
        self._waiting: list[columns.Row] = []
        try:
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        except OSError as exc:
            raise self._fault(exc) from exc

    def write(self, messages: Sequence[Data]) -> None:
        """Takes messages in; rows leave by the row group."""
        for data in messages:
            self.messages += 1
            self._waiting += columns.full_rows(data, self.messages, self._known)
            if len(self._waiting) >= GROUP:
                self._flush()

    def _flush(self) -> None:
        """One row group, column by column; ``extra`` last, with what did not fit before."""
        rows, self._waiting = self._waiting, []
        misfits: dict[int, list[tuple[str, Raw]]] = {}
        arrays = [self._array(column, rows, misfits) for column in self._columns]
        self.rows += len(rows)
        try:
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        except OSError as exc:
            raise self._fault(exc) from exc

    def _array(
        self, column: _Column, rows: list[columns.Row], misfits: dict[int, list[tuple[str, Raw]]]
    ) -> Any:
        value, name = column.value, column.name
        tokens = [row.get(name) for row in rows]
        cells: list[Any] = [None if token is None else value(token) for token in tokens]
        if name == "extra":
            for at, pairs in misfits.items():
                known = columns.read(cells[at].encode()) if cells[at] else {}
                cells[at] = columns.as_object([*known.items(), *pairs]).decode()
        elif _NONE in cells:
            for at, cell in enumerate(cells):
                if cell is _NONE:
                    cells[at] = None
                    misfits.setdefault(at, []).append((name, rows[at][name]))
        return pa.array(cells, column.type)

    def close(self) -> None:
        """Writes what is left and the footer, without which there is no file."""
        try:
            if self._waiting:
                self._flush()
        finally:
            self._writer.close()

    def count(self) -> int:
        """How many messages the file holds: read back, by the numbers that differ."""
        found, last = 0, None
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(columns=["message_no"]):
                for number in batch.column(0).unique().to_pylist():
                    found += number != last
                    last = number
        return found

    def _fault(self, exc: OSError) -> OutputError:
        return OutputError(
            f"{self._path} cannot be written: {exc.strerror or exc}", hint="look at the disk"
        )


def _metadata(name: str) -> dict[str, str] | None:
    unit = _UNITS.get(name)
    return {"unit": unit} if unit else None


def _column(name: str) -> _Column:
    if name in _INTEGERS:
        return _Column(name, pa.int64(), _integer)
    if name in _BOOLEANS:
        return _Column(name, pa.bool_(), _boolean)
    if name in _DICTIONARIES:
        return _Column(name, pa.dictionary(pa.int32(), pa.string()), _text)
    if name == "extra":
        return _Column(name, pa.string(), _json)
    if name in _TEXTS:
        return _Column(name, pa.string(), _text)
    return _Column(name, pa.float64(), _number)


# ── tokens → values; None of null, _NONE of what does not fit ──


def _integer(token: Raw) -> Any:
    text = bytes(token)
    if text == b"null":
        return None
    if text.removeprefix(b"-").isdigit():
        value = int(text) if len(text) <= 20 else 2**63
        return value if -(2**63) <= value < 2**63 else _NONE
    number = _number(token)  # 1.7e9 is an integer, too
    fits = type(number) is float and number.is_integer() and abs(number) < 2**53
    return int(number) if fits else _NONE


def _boolean(token: Raw) -> Any:
    return {b"true": True, b"false": False, b"null": None}.get(bytes(token), _NONE)


def _number(token: Raw) -> Any:
    text = bytes(token)
    if text[:1] not in _DIGITS:
        return None if text == b"null" else _NONE
    value = float(text)
    if len(text) <= SAFE_DIGITS and b"e" not in text.lower():
        return value
    if abs(value) == float("inf"):
        return _NONE
    return value if Decimal(repr(value)) == Decimal(text.decode()) else _NONE


_DIGITS = frozenset((b"-", *(b"%d" % digit for digit in range(10))))


def _text(token: Raw) -> Any:
    text = bytes(token)
    if text[:1] != b'"':
        return None if text == b"null" else _NONE
    return text[1:-1].decode() if b"\\" not in text else _read_text(text)


_read_text = msgspec.json.Decoder(str).decode


def _json(token: Raw) -> Any:
    text = bytes(token)
    return None if text == b"null" else text.decode()
