"""Rows of the lines about books (`kfws book`): the best of both sides, where that changed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from kfws.protocol.events import Data
from kfws.sinks import columns
from kfws.sinks.columns import Column, Row
from kfws.sinks.table import Table

__all__ = ["Tops"]

_SHOWN = (
    Column("TIME", (), 12, "time"),
    Column("PRODUCT", ("product_id",), 16, "text"),
    Column("BID QTY", ("bid_qty",), 8),
    Column("BID", ("bid",), 9),
    Column("ASK", ("ask",), 9),
    Column("ASK QTY", ("ask_qty",), 8),
    Column("SPREAD", ("spread",), 6),
    Column("", ("stale",), 5, "text"),
)
"""As wide as a terminal of 80 columns."""
_WIDE = 100
_STALE = Raw(b'"stale"')


class Tops(Table):
    """The table where no ladder can be drawn. What changed further down has no row."""

    def __init__(self, **options: object) -> None:
        self._told: dict[str | None, Row] = {}
        super().__init__(**options)  # type: ignore[arg-type]

    def _known(self, feed: str) -> tuple[Column, ...]:
        more = 4 if self._width >= _WIDE else 0
        return tuple(
            replace(each, width=each.width + more) if each.right else each for each in _SHOWN
        )

    def _rows(self, data: Data) -> Iterator[str]:
        row = _top(columns.read(data.payload))
        if self._told.get(data.product) != row:
            self._told[data.product] = row
            yield self._row(self._of(data.feed), row, data)


def _top(line: Row) -> Row:
    row = {name: line[name] for name in ("product_id", "spread")}
    for side, name in (("bid", "bids"), ("ask", "asks")):
        for level in msgspec.json.decode(line[name], type=list[Row])[:1]:
            row |= {side: level["price"], f"{side}_qty": level["qty"]}
    return row | ({"stale": _STALE} if bytes(line["stale"]) == b"true" else {})
