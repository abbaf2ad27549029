from __future__ import annotations

import msgspec
import pytest

from kfws.protocol.feeds import FEEDS, PRIVATE, PUBLIC, base_name, nearest, spelled
from tests.frames_of import frames


def test_the_catalogue_has_the_five_public_and_nine_private_feeds_of_the_venue() -> None:
    assert PUBLIC == ("trade", "book", "ticker", "ticker_lite", "heartbeat")
    assert PRIVATE == (
        "fills",
        "open_positions",
        "open_orders",
        "open_orders_verbose",
        "balances",
        "deposits_withdrawals",
        "account_balances_and_margins",
        "account_log",
        "notifications_auth",
    )


def test_a_row_stands_under_its_own_name_and_has_a_summary() -> None:
    for name, feed in FEEDS.items():
        assert feed.name == name
        assert feed.summary


def test_no_feed_is_named_like_a_snapshot() -> None:
    assert not any(name.endswith("_snapshot") for name in FEEDS)


def test_private_feeds_never_need_products() -> None:
    assert not any(FEEDS[name].products == "required" for name in PRIVATE)


@pytest.mark.parametrize("name", FEEDS)
def test_recorded_messages_have_what_the_row_says(name: str) -> None:
    feed = FEEDS[name]
    for payload in frames(name, kind="snapshot") + frames(name, kind="delta"):
        message = msgspec.json.decode(payload)
        named, is_snapshot = base_name(message["feed"])
        assert named == name
        needs = set(feed.needs)
        if message["feed"] == "trade_snapshot":
            needs.remove("seq")  # it numbers its trades, not itself
        assert needs <= set(message)
        if feed.entries and is_snapshot:
            assert any(key in message for key in feed.entries)


def test_numbered_feeds_need_their_number() -> None:
    assert [name for name, feed in FEEDS.items() if feed.numbered] == ["trade", "book"]
    assert all("seq" in feed.needs for feed in FEEDS.values() if feed.numbered)


def test_the_name_on_the_wire_says_whether_a_message_is_a_snapshot() -> None:
    assert base_name("book_snapshot") == ("book", True)
    assert base_name("book") == ("book", False)
    assert base_name("open_orders_verbose_snapshot") == ("open_orders_verbose", True)
    assert base_name("candles_trade_1m_snapshot") == ("candles_trade_1m", True)
    assert base_name("_snapshot") == ("", True)
    assert base_name("") == ("", False)


def test_kebab_case_is_spelled_as_the_venue_does() -> None:
    assert spelled("open-orders-verbose") == "open_orders_verbose"
    assert spelled("ticker_lite") == "ticker_lite"


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("trades", "trade"),
        ("open-order", "open_orders"),
        ("Ticker", "ticker"),
        ("heartbeats", "heartbeat"),
        ("notifications", "notifications_auth"),
    ],
)
def test_the_nearest_feed_comes_first(typed: str, first: str) -> None:
    assert nearest(typed)[0] == first


def test_what_resembles_nothing_has_no_nearest_feed() -> None:
    assert nearest("zzz") == []
