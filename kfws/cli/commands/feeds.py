"""``kfws feeds``: what there is to subscribe to."""

from __future__ import annotations

import typer

from kfws.cli import options
from kfws.cli.choices import Format
from kfws.cli.env import Env

__all__ = ["feeds"]


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
            "products": feed.products,
            "summary": feed.summary,
        }
        for feed in FEEDS.values()
    ]
    if format is Format.auto:
        format = Format.table if env.stdout_is_terminal else Format.ndjson
    env.print(_FORMATS[format](rows))


def _table(rows: list[dict[str, object]]) -> str:
    width = max(len(str(row["feed"])) for row in rows)
    lines = [
        f"{row['feed']:<{width}}  {'private' if row['private'] else 'public':<7}  "
        f"{_PRODUCTS[str(row['products'])]:<8}  {row['summary']}"
        for row in rows
    ]
    return "\n".join([f"{'FEED':<{width}}  {'ACCESS':<7}  {'PRODUCTS':<8}  CARRIES", *lines, ""])


_PRODUCTS = {"required": "named", "optional": "filter", "none": "-"}


def _ndjson(rows: list[dict[str, object]]) -> str:
    import json

    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def _json(rows: list[dict[str, object]]) -> str:
    import json

    return "".join(json.dumps(row, indent=2) + "\n" for row in rows)


def _csv(rows: list[dict[str, object]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


_FORMATS = {
    Format.table: _table,
    Format.ndjson: _ndjson,
    Format.raw: _ndjson,
    Format.json: _json,
    Format.csv: _csv,
}
