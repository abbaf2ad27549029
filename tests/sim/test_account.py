"""The simulated account: fills, orders, positions, balances and log tell one story."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kfws.protocol.feeds import FEEDS, PRIVATE
from kfws.protocol.venue import Publication
from kfws.sim.market import Market
from tests.frames_of import frame, frames

START = 1_790_359_964_000
MINUTES_MS = 10 * 60_000


@pytest.fixture(name="market", scope="module")
def _market() -> Market:
    return Market(1, START)


@pytest.fixture(name="before", scope="module")
def _before(market: Market) -> dict[str, dict[str, Any]]:
    feeds = [feed for feed in PRIVATE if feed != "deposits_withdrawals"]
    return {feed: json.loads(market.snapshot(feed, None, START)[0]) for feed in feeds}


@pytest.fixture(name="published", scope="module")
def _published(market: Market, before: dict[str, dict[str, Any]]) -> list[Publication]:
    assert before
    return market.advance(START + MINUTES_MS)


def said(published: list[Publication], feed: str) -> list[dict[str, Any]]:
    return [json.loads(each.payload) for each in published if each.feed == feed]


def test_snapshots_have_the_name_that_the_feed_gives_them(
    before: dict[str, dict[str, Any]],
) -> None:
    for feed, message in before.items():
        assert message["feed"] == (f"{feed}_snapshot" if FEEDS[feed].snapshot else feed)


def test_nobody_knows_what_deposits_and_withdrawals_carry(market: Market) -> None:
    assert market.snapshot("deposits_withdrawals", None, START) == []


def test_every_fill_is_a_public_trade(published: list[Publication]) -> None:
    trades = {trade["uid"]: trade for trade in said(published, "trade")}
    fills = [fill for message in said(published, "fills") for fill in message["fills"]]
    assert len(fills) > 50
    for fill in fills:
        trade = trades[fill["fill_id"]]
        assert (fill["price"], fill["qty"], fill["time"]) == (
            trade["price"],
            trade["qty"],
            trade["time"],
        )
        assert trade["side"] == ("sell" if fill["buy"] else "buy")


def test_orders_are_placed_filled_in_parts_and_then_whole(published: list[Publication]) -> None:
    left: dict[str, float] = {}
    reasons = set()
    for message in said(published, "open_orders"):
        reasons.add(message["reason"])
        if "order" not in message:
            assert message["is_cancel"]
            assert left.pop(message["order_id"]) > 0
            continue
        order = message["order"]
        if message["reason"] == "new_placed_order_by_user":
            assert not left
            left[order["order_id"]] = order["qty"]
            continue
        total = order["qty"] + order["filled"]
        assert order["qty"] < left[order["order_id"]] <= total + 1e-9
        left[order["order_id"]] = order["qty"]
        assert message["is_cancel"] == (order["qty"] == 0.0)
        if message["is_cancel"]:
            del left[order["order_id"]]
    assert reasons == {
        "new_placed_order_by_user",
        "partial_fill",
        "full_fill",
        "cancelled_by_user",
    }


def test_only_the_verbose_feed_tells_of_rejected_orders(published: list[Publication]) -> None:
    plain, verbose = (said(published, feed) for feed in ("open_orders", "open_orders_verbose"))
    shown = [message | {"feed": "open_orders"} for message in verbose]
    rejected = [message for message in shown if message not in plain]
    assert {message["reason"] for message in rejected} == {
        "post_order_failed_because_it_would_be_filled"
    }


def test_fills_and_orders_agree_on_what_is_left(published: list[Publication]) -> None:
    fills = [fill for message in said(published, "fills") for fill in message["fills"]]
    changes = [
        message["order"]
        for message in said(published, "open_orders")
        if message["reason"] in ("partial_fill", "full_fill")
    ]
    assert [(fill["order_id"], fill["remaining_order_qty"]) for fill in fills] == [
        (order["order_id"], order["qty"]) for order in changes
    ]


def test_the_position_is_the_sum_of_all_fills(
    published: list[Publication], before: dict[str, dict[str, Any]], market: Market
) -> None:
    fills = [fill for message in said(published, "fills") for fill in message["fills"]]
    fills = before["fills"]["fills"] + fills
    total = sum(fill["qty"] if fill["buy"] else -fill["qty"] for fill in fills)
    last = said(published, "open_positions")[-1]["positions"]
    assert sum(position["balance"] for position in last) == pytest.approx(total)
    for position in last:
        gained = (position["mark_price"] - position["entry_price"]) * position["balance"]
        assert position["pnl"] == pytest.approx(gained)
        assert position["index_price"] == pytest.approx(position["mark_price"], rel=0.001)


def test_the_log_accounts_for_the_balance(
    published: list[Publication], before: dict[str, dict[str, Any]]
) -> None:
    usd = before["balances"]["flex_futures"]["currencies"]["USD"]["quantity"]
    ids = [entry["id"] for entry in before["account_log"]["logs"]]
    assert ids == sorted(ids, reverse=True)
    seq = 0
    for each in published:
        if each.feed == "account_log":
            entry = json.loads(each.payload)["new_entry"]
            assert entry["id"] == max(ids) + 1
            ids.append(entry["id"])
            if entry["asset"] == "usd":
                assert entry["old_balance"] == usd
                change = entry["realized_pnl"] - entry["fee"]
                assert entry["new_balance"] == pytest.approx(usd + change)
                usd = entry["new_balance"]
        if each.feed == "balances":
            message = json.loads(each.payload)
            seq += 1
            assert message["seq"] == seq
            assert message["flex_futures"]["currencies"]["USD"]["quantity"] == usd
    assert usd != before["balances"]["flex_futures"]["currencies"]["USD"]["quantity"]


def test_positions_are_numbered_from_their_first_frame(
    published: list[Publication], before: dict[str, dict[str, Any]]
) -> None:
    numbers = [message["seq"] for message in said(published, "open_positions")]
    assert before["open_positions"]["seq"] == 0
    assert numbers == list(range(1, len(numbers) + 1))


def test_private_frames_have_the_keys_of_the_wire(
    published: list[Publication], before: dict[str, dict[str, Any]]
) -> None:
    fill = json.loads(frame("fills", "delta: same list shape"))
    ours = said(published, "fills")[0]
    assert list(ours) == list(fill)
    assert list(ours["fills"][0]) == list(fill["fills"][0])
    placed = json.loads(frame("open_orders", "placement"))
    order = said(published, "open_orders")[0]
    assert list(order) == list(placed)
    assert list(order["order"]) == list(placed["order"])
    snapshot = json.loads(frames("balances", kind="snapshot")[0])
    assert list(before["balances"]) == list(snapshot)
    assert set(before["balances"]["flex_futures"]) == set(snapshot["flex_futures"])
    assert set(before["balances"]["flex_futures"]["cross"]) == set(
        snapshot["flex_futures"]["cross"]
    )
    entry = json.loads(frames("account_log", kind="delta")[0])["new_entry"]
    assert set(entry) <= set(said(published, "account_log")[0]["new_entry"])


def test_fills_are_snapshot_by_product(market: Market, published: list[Publication]) -> None:
    assert published
    named, other = (
        json.loads(market.snapshot("fills", product, START)[0])["fills"]
        for product in ("PF_XBTUSD", "PF_ETHUSD")
    )
    assert len(named) == 100
    assert other == []


def test_an_open_order_is_in_the_snapshot_with_the_stop(market: Market) -> None:
    market.advance(START + MINUTES_MS)
    orders = json.loads(market.snapshot("open_orders", None, START)[0])["orders"]
    assert orders[0]["type"] == "stop"
    assert len(orders) in (1, 2)


def test_the_first_notice_says_that_all_is_simulated(before: dict[str, dict[str, Any]]) -> None:
    [notice] = before["notifications_auth"]["notifications"]
    assert "simulated" in notice["note"]
