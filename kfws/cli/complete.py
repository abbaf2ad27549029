"""What TAB offers. Every press is a process start: no network, and nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from kfws.cli.commands import COMMANDS

__all__ = ["Asked", "commands", "feed_names", "field_names", "product_ids", "sort_titles"]


class Asked(Protocol):
    """What was typed before: of the parser's context as much as is looked at here."""

    obj: Any
    """The run's Env."""
    info_name: str | None
    params: dict[str, Any]


# The parser finds the parameter for the context by its name.
def product_ids(ctx: Asked, incomplete: str) -> list[str]:
    """Ids of the kept products list that go on from what was typed, behind a last comma too."""
    from kfws.products_ids import kept_at, kept_ids

    if ctx.params.get("url"):
        return []  # the list of a venue without a name is not kept
    path = kept_at(ctx.obj.cache, ctx.params.get("env") or "live")
    ids = kept_ids(path)
    return _going_on(incomplete, _ids_of_list(path) if ids is None else ids)


def _ids_of_list(path: Path) -> list[str]:
    from kfws.products_cache import kept
    from kfws.protocol.products import is_well_formed

    try:
        products = kept(path)
    except ValueError:
        return []
    return [each for each in products.tradeable if is_well_formed(each)] if products else []


def feed_names(ctx: Asked, incomplete: str) -> list[str]:
    """Feeds, behind a last comma too; in kebab-case for who began so."""
    from kfws.protocol.feeds import FEEDS

    kebab = "-" in incomplete
    return _going_on(incomplete, [name.replace("_", "-") if kebab else name for name in FEEDS])


def field_names(ctx: Asked, incomplete: str) -> list[str]:
    """Columns of the feeds that were typed."""
    from kfws.sinks.columns import csv_columns

    names = [name for feed in _feeds(ctx) for name in csv_columns(feed)]
    return _going_on(incomplete, [*dict.fromkeys(names)])


def sort_titles(ctx: Asked, incomplete: str) -> list[str]:
    """Titles that the rows of a live table can be ordered by."""
    from kfws.sinks.columns import BOARD

    minus = "-" if incomplete.startswith("-") else ""
    titles = [column.title.lower() for feed in _feeds(ctx) for column in BOARD.get(feed, ())]
    offered = [f"{minus}{title}" for title in dict.fromkeys(titles) if title.isalnum()]
    return [each for each in offered if each.startswith(incomplete)]


def commands(ctx: Asked, incomplete: str) -> list[str]:
    """Commands that settings may be shown of."""
    return [name for name in COMMANDS if name.startswith(incomplete)]


def _feeds(ctx: Asked) -> list[str]:
    """Those of the command; in the order typed."""
    from kfws.protocol.feeds import FEEDS, spelled

    typed = ctx.params.get("feeds") or ("book" if ctx.info_name == "book" else "")
    return [feed for feed in map(spelled, typed.split(",")) if feed in FEEDS]


def _going_on(incomplete: str, names: list[str]) -> list[str]:
    """Those that go on from what stands behind the last comma."""
    before, comma, begun = incomplete.rpartition(",")
    return [f"{before}{comma}{each}" for each in names if each.startswith(begun)]
