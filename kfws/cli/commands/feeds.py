"""``kfws feeds``: what there is to subscribe to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import typer

from kfws.cli import options
from kfws.cli.choices import Format
from kfws.cli.env import Env
from kfws.cli.rows import Column, as_csv, as_table

__all__ = ["as_rows", "feeds"]


def feeds(context: typer.Context, format: options.FormatOption = Format.auto) -> None:
    """List the feeds.

    Examples:

        kfws feeds

        kfws feeds -f ndjson | jq -r 'select(.private).feed'
    """
    from kfws.protocol.feeds import FEEDS

    env: Env = context.obj
    rows = [
        {
            "feed": feed.name,
            "private": feed.private,
            "products": "optional" if feed.names_products else feed.products,
            "summary": feed.summary,
        }
        for feed in FEEDS.values()
    ]
    table = partial(_table, width=env.columns)
    env.print(as_rows(rows, format, table, is_terminal=env.stdout_is_terminal))


def as_rows(
    rows: list[dict[str, object]],
    format: Format,
    table: Callable[[list[dict[str, object]]], str],
    *,
    is_terminal: bool,
) -> str:
    """A short list as ``-f`` has it."""
    if format is Format.auto:
        format = Format.table if is_terminal else Format.ndjson
    return table(rows) if format is Format.table else _FORMATS[format](rows)


def _table(rows: list[dict[str, object]], width: int | None) -> str:
    cells = [
        [
            str(row["feed"]),
            "private" if row["private"] else "public",
            _PRODUCTS[str(row["products"])],
            str(row["summary"]),
        ]
        for row in rows
    ]
    columns = [
        Column("FEED"),
        Column("ACCESS", spare=1),
        Column("PRODUCTS", spare=2),
        Column("CARRIES", cut="end"),
    ]
    return as_table(columns, cells, width=width)


_PRODUCTS = {"required": "named", "optional": "filter", "none": "-"}


def _ndjson(rows: list[dict[str, object]]) -> str:
    import json

    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def _json(rows: list[dict[str, object]]) -> str:
    import json

    return "".join(json.dumps(row, indent=2) + "\n" for row in rows)


def _csv(rows: list[dict[str, object]]) -> str:
    return as_csv(list(rows[0]), [list(row.values()) for row in rows])


_FORMATS = {
    Format.ndjson: _ndjson,
    Format.raw: _ndjson,
    Format.json: _json,
    Format.csv: _csv,
}
