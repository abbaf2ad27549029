"""What TAB offers. Every press is a process start: no network, and nothing heavy is imported."""

from __future__ import annotations

import typer

from kfws.cli.choices import VenueName
from kfws.cli.commands import COMMANDS
from kfws.cli.env import Env

__all__ = ["commands", "feed_names", "field_names", "product_ids", "sort_titles"]


def product_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of the kept products list that go on from what was typed, behind a last comma too."""
    from kfws.products_cache import kept, kept_at
    from kfws.protocol.products import is_well_formed

    env: Env = context.obj
    if context.params.get("url"):
        return []  # the list of a venue without a name is not kept
    venue = context.params.get("env") or VenueName.live
    try:
        products = kept(kept_at(env.cache, venue))
    except ValueError:
        return []
    ids = products.tradeable if products else ()
    return _going_on(incomplete, [each for each in ids if is_well_formed(each)])


def feed_names(context: typer.Context, incomplete: str) -> list[str]:
    """Feeds, behind a last comma too; in kebab-case for who began so."""
    from kfws.protocol.feeds import FEEDS

    kebab = "-" in incomplete
    return _going_on(incomplete, [name.replace("_", "-") if kebab else name for name in FEEDS])


def field_names(context: typer.Context, incomplete: str) -> list[str]:
    """Columns of the feeds that were typed."""
    from kfws.sinks.columns import csv_columns

    names = [name for feed in _feeds(context) for name in csv_columns(feed)]
    return _going_on(incomplete, [*dict.fromkeys(names)])


def sort_titles(context: typer.Context, incomplete: str) -> list[str]:
    """Titles that the rows of a live table can be ordered by."""
    from kfws.sinks.columns import BOARD

    minus = "-" if incomplete.startswith("-") else ""
    titles = [column.title.lower() for feed in _feeds(context) for column in BOARD.get(feed, ())]
    offered = [f"{minus}{title}" for title in dict.fromkeys(titles) if title.isalnum()]
    return [each for each in offered if each.startswith(incomplete)]


def commands(context: typer.Context, incomplete: str) -> list[str]:
    """Commands that settings may be shown of."""
    return [name for name in COMMANDS if name.startswith(incomplete)]


def _feeds(context: typer.Context) -> list[str]:
    """Those of the command; in the order typed."""
    from kfws.protocol.feeds import FEEDS, spelled

    typed = context.params.get("feeds") or ("book" if context.info_name == "book" else "")
    return [feed for feed in map(spelled, typed.split(",")) if feed in FEEDS]


def _going_on(incomplete: str, names: list[str]) -> list[str]:
    """Those that go on from what stands behind the last comma."""
    before, comma, begun = incomplete.rpartition(",")
    return [f"{before}{comma}{each}" for each in names if each.startswith(begun)]
