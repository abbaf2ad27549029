"""The catalogue of feeds, as data.

A new feed of the venue is one row here. Facts and their sources: the venue's
documentation and recordings of its production server, protocol page sections 9 and 11.
"""

from __future__ import annotations

import difflib
from typing import Literal, NamedTuple

__all__ = ["FEEDS", "NUMBERED", "PRIVATE", "PUBLIC", "Feed", "base_name", "nearest", "spelled"]

SNAPSHOT_SUFFIX = "_snapshot"


class Feed(NamedTuple):
    """One named stream of the venue."""

    name: str
    private: bool
    products: Literal["required", "optional", "none"]
    """Whether the venue wants products named in the request."""
    summary: str
    """What the feed carries, in one line for ``kfws feeds``."""

    snapshot: bool = True
    """Whether the venue sends ``<name>_snapshot`` after the acknowledgement."""

    entries: tuple[str, ...] = ()
    """Keys of the top level that hold the message's entries: lists, or one object."""

    names_products: bool = False
    """Whether entries of a private feed name their product, so that products named by the user
    select among them."""

    needs: tuple[str, ...] = ()
    """Keys without which a message of this feed cannot be accounted for."""

    identified_by: str = ""
    """The key of an entry's id, where a snapshot that holds the last id seen proves that
    nothing is missing."""

    silent_after_s: float | None = None
    """A subscription without a message for so long, while its connection beats, is not quiet
    but dead. Tickers come once a second; a book rests for minutes on thin products."""

    numbered: bool = False
    """Whether ``seq`` rises by one per product and message, so that a loss can be proven."""


FEEDS: dict[str, Feed] = {
    feed.name: feed
    for feed in (
        Feed(
            "trade",
            private=False,
            products="required",
            summary="executed trades, last 100 first",
            entries=("trades",),
            needs=("product_id", "seq"),
            numbered=True,
        ),
        Feed(
            "book",
            private=False,
            products="required",
            summary="full depth, then level by level",
            entries=("bids", "asks"),
            needs=("product_id", "seq"),
            numbered=True,
            silent_after_s=600,
        ),
        Feed(
            "ticker",
            private=False,
            products="required",
            summary="prices, volume, funding; 1/s",
            snapshot=False,
            needs=("product_id",),
            silent_after_s=60,
        ),
        Feed(
            "ticker_lite",
            private=False,
            products="required",
            summary="best prices, volume; 1/s",
            snapshot=False,
            needs=("product_id",),
            silent_after_s=60,
        ),
        Feed(
            "heartbeat",
            private=False,
            products="none",
            summary="a beat of the connection",
            snapshot=False,
        ),
        Feed(
            "fills",
            private=True,
            products="optional",
            summary="your executions",
            entries=("fills",),
            names_products=True,
            identified_by="fill_id",
        ),
        Feed(
            "open_positions",
            private=True,
            products="none",
            summary="your positions, all each time",
            snapshot=False,
            entries=("positions",),
            names_products=True,
        ),
        Feed(
            "open_orders",
            private=True,
            products="none",
            summary="your open orders, each change",
            entries=("orders", "order"),
            names_products=True,
        ),
        Feed(
            "open_orders_verbose",
            private=True,
            products="none",
            summary="the same, rejected ones too",
            entries=("orders", "order"),
            names_products=True,
        ),
        Feed(
            "balances",
            private=True,
            products="none",
            summary="wallets, collateral, margins",
        ),
        Feed(
            "deposits_withdrawals",
            private=True,
            products="none",
            summary="deposits, withdrawals (legacy)",
            snapshot=False,
        ),
        Feed(
            "account_balances_and_margins",
            private=True,
            products="none",
            summary="margin accounts (legacy)",
            snapshot=False,
            entries=("margin_accounts",),
        ),
        Feed(
            "account_log",
            private=True,
            products="none",
            summary="bookings on your account",
            entries=("logs", "new_entry"),
            names_products=True,
            identified_by="id",
        ),
        Feed(
            "notifications_auth",
            private=True,
            products="none",
            summary="notices, maintenance",
            snapshot=False,
            entries=("notifications",),
        ),
    )
}

PUBLIC = tuple(name for name, feed in FEEDS.items() if not feed.private)
PRIVATE = tuple(name for name, feed in FEEDS.items() if feed.private)
NUMBERED = frozenset(name for name, feed in FEEDS.items() if feed.numbered)
"""Feeds whose messages count, per product: what is missing can be proven."""


def base_name(wire_name: str) -> tuple[str, bool]:
    """The feed that a message's ``feed`` names, and whether the message is a snapshot."""
    if wire_name.endswith(SNAPSHOT_SUFFIX):
        return wire_name[: -len(SNAPSHOT_SUFFIX)], True
    return wire_name, False


def spelled(typed: str) -> str:
    """The venue's spelling of a feed name typed in kebab-case (``open-orders``)."""
    return typed.replace("-", "_")


def nearest(typed: str) -> list[str]:
    """Feed names that look like what was typed, the nearest first."""
    return difflib.get_close_matches(spelled(typed).lower(), FEEDS, n=3, cutoff=0.6)
