"""What TAB offers. Every press is a process start: no network, and nothing heavy is imported."""

from __future__ import annotations

import typer

from kfws.cli.choices import VenueName
from kfws.cli.env import Env

__all__ = ["product_ids"]


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
    before, comma, begun = incomplete.rpartition(",")
    ids = products.tradeable if products else ()
    return [
        f"{before}{comma}{each}" for each in ids if each.startswith(begun) and is_well_formed(each)
    ]
