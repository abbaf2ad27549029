"""The notes on the protocol say of the feeds what the catalogue says."""

from __future__ import annotations

import re
from pathlib import Path

from kfws.protocol.feeds import FEEDS, Feed

NOTES = Path(__file__).parent.parent / "docs" / "protocol.md"


def row(feed: Feed) -> str:
    first = "a snapshot" if feed.snapshot else "nothing of its own"
    return (
        f"| `{feed.name}` | {'yes' if feed.private else 'no'} | {feed.products} | {first} "
        f"| {'yes' if feed.numbered else 'no'} |"
    )


def test_the_table_of_feeds_is_the_catalogue() -> None:
    rows = re.findall(r"^\| `\w+` \| (?:yes|no) \|.*$", NOTES.read_text(encoding="utf-8"), re.M)
    assert rows == [row(feed) for feed in FEEDS.values()]


def test_every_feed_has_a_word_of_its_own() -> None:
    said = set(re.findall(r"\*\*(\w+)\*\*", NOTES.read_text(encoding="utf-8")))
    assert set(FEEDS) - said <= {"open_orders_verbose", "notifications_auth"}
