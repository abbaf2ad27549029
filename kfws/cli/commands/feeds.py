"""``kfws feeds``: what there is to subscribe to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import typer

from kfws.cli import options
from kfws.cli.choices import Format, LogFormat
from kfws.cli.env import Env
from kfws.cli.rows import Column, Row, as_rows, as_table

__all__ = ["feeds"]


def feeds(
    context: typer.Context,
    format: options.FormatOption = Format.auto,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """List the feeds.

    Examples:

        kfws feeds

        kfws feeds -f ndjson | jq -r 'select(.private).feed'
    """
    from kfws.protocol.feeds import FEEDS

    env: Env = context.obj
    env.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
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
    env.print(as_rows(rows, format, table, is_terminal=env.stdout_is_terminal, is_ascii=True))


def _table(rows: Sequence[Row], width: int | None) -> str:
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
