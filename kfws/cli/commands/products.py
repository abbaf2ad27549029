"""``kfws products``: what the venue lists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from kfws.cli import options
from kfws.cli.choices import Format, LogFormat, VenueName
from kfws.cli.complete import product_ids
from kfws.cli.env import Env
from kfws.cli.rows import Column, as_csv, as_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfws.cli.products_list import ProductsList
    from kfws.products_cache import Product, Products

__all__ = ["products"]


def products(
    context: typer.Context,
    globs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[GLOB…]",
            help="Ids, or globs over them such as 'PF_*', in any case. (default: all)",
            show_default=False,
            autocompletion=product_ids,
        ),
    ] = None,
    type: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Of this type alone, e.g. flexible_futures or 'futures*'. (default: all)",
            rich_help_panel=options.SELECT,
        ),
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Ask the venue, also if the list kept here is of today.",
            rich_help_panel=options.VENUE,
        ),
    ] = False,
    env: options.EnvOption = None,
    url: options.Url = None,
    rest_url: options.RestUrl = None,
    insecure: options.Insecure = False,
    proxy: options.Proxy = None,
    ca_file: options.CaFile = None,
    format: options.FormatOption = Format.auto,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """List the products of the venue.

    The list is kept for a day, and serves for as long as the venue is out of reach.

    Examples:

        kfws products

        kfws products 'PF_*' --type flexible_futures

        kfws products | jq -r 'select(.tradeable).symbol'
    """
    import asyncio

    from kfws.cli.plan import rest_base
    from kfws.cli.products_list import open_list

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    base = rest_base(rest_url, url, env, insecure=insecure)
    if env is VenueName.sim:
        talk.say("warning", "simulated", "simulated products: --env sim, not the venue")
    found = asyncio.run(
        _get(open_list(base, world, talk, proxy=proxy, ca_file=ca_file), refresh=refresh)
    )
    if format is Format.auto:
        format = Format.table if world.stdout_is_terminal else Format.ndjson
    rows = _chosen(found, globs or ["*"], type or "*")
    text = _table(rows, world.columns) if format is Format.table else _FORMATS[format](rows)
    if format is Format.csv and world.stdout_is_terminal:
        from kfws.sinks.columns import printable_lines

        text = printable_lines(text)
    world.print(text)


async def _get(products_list: ProductsList, *, refresh: bool) -> Products:
    import asyncio

    from kfws.sources.lookup import DaemonThreads

    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    return await products_list.get(refresh=refresh, told="warning")


_Rows = list[tuple["Product", bytes]]


def _chosen(products: Products, globs: Sequence[str], type: str) -> _Rows:
    """What any of the globs matches, in the order of the list. Raises UsageError for nothing."""
    from kfws.errors import UsageError
    from kfws.protocol.products import match
    from kfws.sinks.columns import text_of

    wanted: set[str] = set()
    for glob in globs:
        found = match(glob, products.ids)
        if not found and products.ids:
            raise UsageError(
                f"no product matches {glob}{products.similar(glob)}",
                hint="`kfws products` lists them",
            )
        wanted |= set(found)
    rows = [row for row in products.rows if row[0].id in wanted]
    types = {text_of(product.type) for product, _ in rows}
    of_type = set(match(type, types))
    if not of_type and rows:
        raise UsageError(f"no product of type {type}", hint=f"types: {', '.join(sorted(types))}")
    return [row for row in rows if text_of(row[0].type) in of_type]


def _cells(product: Product) -> list[str]:
    from kfws.sinks.columns import text_of

    tokens = (product.type, product.tick_size, product.contract_size, product.tradeable)
    return [product.id, *map(text_of, (*tokens, product.expiry))]


def _table(rows: _Rows, width: int | None) -> str:
    from kfws.sinks.columns import printable

    cells = []
    for product, _ in rows:
        *texts, tradeable, expiry = map(printable, _cells(product))
        cells.append([*texts, _YES.get(tradeable, tradeable), _to_the_minute(expiry)])
    columns = [
        Column("PRODUCT"),
        Column("TYPE", cut="end", spare=1),
        Column("TICK", right=True),
        Column("CONTRACT", right=True, spare=2),
        Column("TRADED"),
        Column("EXPIRY UTC", cut="end"),
    ]
    return as_table(columns, cells, width=width)


def _to_the_minute(moment: str) -> str:
    """2026-12-25T08:00:00Z in fewer columns; any other text as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[:.\d]*Z", moment)
    return " ".join(found.groups()) if found else moment


_YES = {"true": "yes", "false": "no"}


def _ndjson(rows: _Rows) -> str:
    from kfws.tapes.line import one_line

    return "".join(f"{one_line(row).decode()}\n" for _, row in rows)


def _json(rows: _Rows) -> str:
    import msgspec

    return "".join(f"{msgspec.json.format(row, indent=2).decode()}\n" for _, row in rows)


def _csv(rows: _Rows) -> str:
    titles = ("symbol", "type", "tickSize", "contractSize", "tradeable", "lastTradingTime")
    return as_csv(titles, [_cells(product) for product, _ in rows])


_FORMATS = {
    Format.ndjson: _ndjson,
    Format.raw: _ndjson,
    Format.json: _json,
    Format.csv: _csv,
}
