"""The simulated market: the same bytes each time, and a book, trades and ticker that agree."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfws.errors import UsageError
from kfws.protocol.feeds import PRIVATE
from kfws.protocol.venue import Publication
from kfws.sim.market import Market
from tests.frames_of import frame, frames, lines

START = 1_790_359_964_000

# One of each kind: busy, thin, tiny ticks and large sizes, mixed case, inverse, dated, made up.
KINDS = (
    "PF_XBTUSD",
    "PF_1INCHUSD",
    "PF_PEPEUSD",
    "PF_AAPLxUSD",
    "PI_XBTUSD",
    "FI_ETHUSD_261225",
    "FF_XBTUSD_261225",
    "PF_SIM0001USD",
)


def market(seed: int = 1, *, rate: float | None = None) -> Market:
    return Market(seed, START, products=40, rate=rate)


def first(market: Market, feed: str, product: str | None = None) -> dict[str, Any]:
    [payload] = market.snapshot(feed, product, START)
    message: dict[str, Any] = json.loads(payload)
    return message


def messages(
    published: Sequence[Publication], feed: str, product: str | None = None
) -> list[dict[str, Any]]:
    return [
        json.loads(each.payload)
        for each in published
        if each.feed == feed and product in (None, each.product)
    ]


def keys(frame: bytes) -> list[str]:
    return list(json.loads(frame))


# The same bytes


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4000), max_size=20))
def test_the_bytes_do_not_depend_on_how_often_the_market_is_advanced(stops: list[int]) -> None:
    once, often = market(), market()
    for each in (once, often):
        each.snapshot("book", "PF_XBTUSD", START)
        each.snapshot("trade", "PI_XBTUSD", START)
        each.snapshot("heartbeat", None, START)
    published = [each for stop in sorted(stops) for each in often.advance(START + stop)]
    assert published + often.advance(START + 4000) == once.advance(START + 4000)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    said = []
    for seed in (1, 1, 2):
        each = market(seed)
        said.append([each.snapshot("book", "PF_XBTUSD", START), each.advance(START + 2000)])
    assert said[0] == said[1] != said[2]


def test_what_a_product_does_depends_on_no_other_subscription() -> None:
    alone, amid = market(), market()
    alone.snapshot("book", "PF_ETHUSD", START)
    for feed in PRIVATE:
        amid.snapshot(feed, None, START)
    for product in KINDS:
        amid.snapshot("ticker", product, START)
    amid.tickers()
    amid.snapshot("book", "PF_ETHUSD", START)
    amid.snapshot("book", "PF_ETHUSD", START)
    expected = messages(alone.advance(START + 3000), "book", "PF_ETHUSD")
    assert messages(amid.advance(START + 3000), "book", "PF_ETHUSD") == expected


def test_nothing_moves_until_somebody_subscribes() -> None:
    quiet = market()
    quiet.instruments()
    quiet.tickers()
    assert not quiet.has_started
    assert quiet.advance(START + 60_000) == []
    quiet.snapshot("heartbeat", None, START + 60_000)
    assert quiet.has_started
    assert [each.feed for each in quiet.advance(START + 61_000)] == ["heartbeat"]


def test_a_product_begins_when_it_is_first_subscribed_to() -> None:
    late = market()
    late.snapshot("book", "PF_ETHUSD", START)
    late.advance(START + 5000)
    late.snapshot("book", "PF_DOGEUSD", START + 5000)
    began = messages(late.advance(START + 9000), "book", "PF_DOGEUSD")[0]["timestamp"]
    assert began >= START + 5000


def test_publications_come_in_the_order_of_their_time() -> None:
    whole = market()
    for product in KINDS:
        whole.snapshot("book", product, START)
    times = [message["timestamp"] for message in messages(whole.advance(START + 5000), "book")]
    assert times == sorted(times)


# The book


@pytest.mark.parametrize("product", KINDS)
@pytest.mark.parametrize("rate", [None, 1.0, 2000.0])
def test_a_folded_book_is_the_markets_own_and_never_crossed(
    product: str, rate: float | None
) -> None:
    live = market(rate=rate)
    snapshot = first(live, "book", product)
    sides = {
        "buy": {level["price"]: level["qty"] for level in snapshot["bids"]},
        "sell": {level["price"]: level["qty"] for level in snapshot["asks"]},
    }
    seq = snapshot["seq"]
    span_ms = 900_000 if rate == 1.0 else 5000
    deltas = messages(live.advance(START + span_ms), "book", product)
    assert deltas
    for delta in deltas:
        seq += 1
        assert delta["seq"] == seq
        side = sides[delta["side"]]
        assert side.get(delta["price"], 0.0) != delta["qty"]
        side[delta["price"]] = delta["qty"]
        if not delta["qty"]:
            del side[delta["price"]]
        assert 0 < max(sides["buy"]) < min(sides["sell"])
    book = live.book(product)
    assert book.seq == seq
    assert book.bids == sorted(sides["buy"].items(), reverse=True)
    assert book.asks == sorted(sides["sell"].items())


@pytest.mark.parametrize("product", KINDS)
def test_a_book_is_hundreds_of_levels_deep_and_thins_out_away_from_the_middle(
    product: str,
) -> None:
    snapshot = first(market(), "book", product)
    assert keys(frames("book", kind="snapshot")[0]) == list(snapshot)
    assert snapshot["tickSize"] is None
    asks = [(level["price"], level["qty"]) for level in snapshot["asks"]]
    assert 250 <= len(asks) <= 500
    reach = asks[-1][0] - asks[0][0]
    near = sum(qty for price, qty in asks if price - asks[0][0] < reach / 4)
    assert near > 0.5 * sum(qty for _, qty in asks)


def test_the_time_of_a_snapshot_is_that_of_the_last_change() -> None:
    live = market(rate=1)
    live.snapshot("book", "PF_DOGEUSD", START)
    last = messages(live.advance(START + 20_000), "book", "PF_DOGEUSD")[-1]
    snapshot = first(live, "book", "PF_DOGEUSD")
    assert (snapshot["timestamp"], snapshot["seq"]) == (last["timestamp"], last["seq"])


def test_a_market_that_is_told_of_often_stays_deep() -> None:
    live = market(rate=5000)
    live.snapshot("book", "PF_XBTUSD", START)
    live.advance(START + 10_000)
    book = live.book("PF_XBTUSD")
    assert 300 < len(book.bids) < 700
    assert 300 < len(book.asks) < 700


# Trades


@pytest.mark.parametrize("product", KINDS)
def test_trades_hit_the_best_level_and_the_change_of_the_book_follows(product: str) -> None:
    live = market(rate=100)
    snapshot = first(live, "book", product)
    seq = first(live, "trade", product)["trades"][0]["seq"]
    sides = {
        "sell": {level["price"]: level["qty"] for level in snapshot["bids"]},
        "buy": {level["price"]: level["qty"] for level in snapshot["asks"]},
    }
    pending: list[dict[str, Any]] = []
    traded = 0
    for each in live.advance(START + 30_000):
        if each.product != product or each.feed not in ("book", "trade"):
            continue
        message = json.loads(each.payload)
        if each.feed == "trade":
            seq += 1
            traded += 1
            assert message["seq"] == seq
            best = (max if message["side"] == "sell" else min)(sides[message["side"]])
            assert message["price"] == best
            pending.append(message)
            continue
        side = sides["sell" if message["side"] == "buy" else "buy"]
        if pending:
            taken = sum(trade["qty"] for trade in pending)
            left = pytest.approx(side[message["price"]] - taken, abs=1e-9)
            assert (message["price"], message["qty"]) == (pending[0]["price"], left)
            pending.clear()
        side[message["price"]] = message["qty"]
        if not message["qty"]:
            del side[message["price"]]
    assert traded > 10


@pytest.mark.parametrize("product", KINDS)
def test_a_trade_snapshot_is_the_last_hundred_newest_first(product: str) -> None:
    live = market()
    before = first(live, "trade", product)["trades"]
    new = messages(live.advance(START + 60_000), "trade", product)
    after = first(live, "trade", product)["trades"]
    assert len(before) == len(after) == 100
    assert after == (new[::-1] + before)[:100]
    assert [trade["seq"] for trade in after] == list(
        range(after[0]["seq"], after[-1]["seq"] - 1, -1)
    )
    assert all(late["time"] >= early["time"] for late, early in pairwise(after))
    assert list(new[0]) == list(after[0]) == keys(frames("trade", kind="delta")[0])


# Tickers


@pytest.mark.parametrize("product", KINDS)
def test_a_ticker_agrees_with_the_book_and_the_trades(product: str) -> None:
    live = market()
    live.snapshot("ticker", product, START)
    live.advance(START + 30_000)
    ticker, book = first(live, "ticker", product), live.book(product)
    assert (ticker["bid"], ticker["bid_size"]) == book.bids[0]
    assert (ticker["ask"], ticker["ask_size"]) == book.asks[0]
    trades = first(live, "trade", product)["trades"]
    assert ticker["last"] == trades[0]["price"]
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert ticker["low"] <= ticker["open"] <= ticker["high"]
    assert ticker["change"] == pytest.approx(100 * (ticker["last"] / ticker["open"] - 1), abs=0.05)
    middle = (ticker["bid"] + ticker["ask"]) / 2
    assert ticker["markPrice"] == pytest.approx(middle, rel=0.004)
    lite = first(live, "ticker_lite", product)
    assert lite.items() - {("feed", "ticker_lite")} <= ticker.items()


@pytest.mark.parametrize("product", KINDS)
def test_volume_rises_by_what_is_traded(product: str) -> None:
    live = market()
    before = first(live, "ticker", product)["volume"]
    traded = messages(live.advance(START + 20_000), "trade", product)
    after = first(live, "ticker", product)["volume"]
    assert after - before == pytest.approx(sum(trade["qty"] for trade in traded))


def test_tickers_have_the_keys_of_the_wire_in_its_order() -> None:
    live = market()
    perpetual, dated = (first(live, "ticker", each) for each in ("PF_XBTUSD", "FF_XBTUSD_261225"))
    lite = first(live, "ticker_lite", "PF_XBTUSD")
    assert list(perpetual) == keys(frame("ticker", "key order as on the wire"))
    assert list(dated) == keys(frame("ticker", "dated linear contract"))
    assert list(lite) == keys(frame("ticker_lite", "no time and no seq"))
    assert dated["tag"] == "quarter"
    assert (dated["dtm"], dated["maturityTime"]) == (90, 1_798_185_600_000)


def test_tickers_come_once_a_second() -> None:
    live = market()
    live.snapshot("ticker", "PF_ETHUSD", START)
    published = live.advance(START + 10_000)
    times = [ticker["time"] for ticker in messages(published, "ticker", "PF_ETHUSD")]
    assert times == [START + 1000 * number for number in range(1, 11)]
    assert len(messages(published, "ticker_lite", "PF_ETHUSD")) == 10


@pytest.mark.parametrize(("product", "inverse"), [("PF_XBTUSD", False), ("PI_XBTUSD", True)])
def test_funding_is_an_amount_of_the_relative_rate_until_the_next_full_hour(
    product: str, inverse: bool
) -> None:
    ticker = first(market(), "ticker", product)
    price = ticker["markPrice"]
    unit = 1 / price if inverse else price
    for key in ("funding_rate", "funding_rate_prediction"):
        assert ticker[key] == pytest.approx(ticker[f"relative_{key}"] * unit, rel=0.01)
    assert 0 < ticker["next_funding_rate_time"] - START <= 3_600_000
    assert ticker["next_funding_rate_time"] % 3_600_000 == 0


def test_inverse_volume_is_its_own_quote_and_sizes_are_whole_dollars() -> None:
    live = market()
    ticker = first(live, "ticker", "PI_XBTUSD")
    assert ticker["volumeQuote"] == ticker["volume"]
    assert all(qty == int(qty) for _, qty in live.book("PI_XBTUSD").bids)
    linear = first(live, "ticker", "PF_XBTUSD")
    assert linear["volumeQuote"] == pytest.approx(linear["volume"] * linear["last"])


def test_all_products_of_one_underlying_share_its_index() -> None:
    live = market()
    products = ("PF_XBTUSD", "PI_XBTUSD", "FF_XBTUSD_261127")
    indices = [first(live, "ticker", product)["index"] for product in products]
    assert max(indices) - min(indices) <= 0.01
    assert 0 < (indices[0] - 80_000) < 8000


def test_a_heart_beats_once_a_second() -> None:
    live = market()
    live.snapshot("heartbeat", None, START)
    live.snapshot("heartbeat", None, START)
    assert [each.payload for each in live.advance(START + 2000)] == [
        b'{"feed":"heartbeat","time":%d}' % (START + 1000 * second) for second in (1, 2)
    ]


# REST


def rest(body: bytes | None) -> dict[str, Any]:
    assert body is not None
    answer: dict[str, Any] = json.loads(body)
    assert answer["result"] == "success"
    assert answer["serverTime"] == "2026-09-25T18:12:44.000Z"
    return answer


def test_rest_lists_every_product_and_the_index_rates() -> None:
    live = Market(1, START, products=2)
    symbols = [row["symbol"] for row in rest(live.instruments())["instruments"]]
    assert symbols[:2] == ["PF_XBTUSD", "PF_ETHUSD"]
    assert "in_xbtusd" in symbols
    assert "PF_DOGEUSD" not in symbols


def test_rest_tickers_agree_with_the_stream() -> None:
    live = market()
    stream = first(live, "ticker", "PF_XBTUSD")
    rows = {row["symbol"]: row for row in rest(live.tickers())["tickers"]}
    row = rows["PF_XBTUSD"]
    recorded = next(line for line in lines("rest") if "tradeable market" in line.note)
    example = json.loads(recorded.payload)["tickers"]
    assert list(row) == list(example[0])
    assert (row["bid"], row["askSize"], row["last"]) == (
        stream["bid"],
        stream["ask_size"],
        stream["last"],
    )
    assert (row["fundingRate"], row["markPrice"]) == (stream["funding_rate"], stream["markPrice"])
    assert "fundingRate" not in rows["FI_XBTUSD_261225"]
    assert list(rows["in_xbtusd"]) == list(example[2])
    assert rows["in_xbtusd"]["last"] == stream["index"]
    assert rows["rr_xbtusd"]["lastTime"] == "2026-09-25T18:00:00.000Z"
    assert "FI_ETHUSD_210625" not in rows


def test_a_row_of_a_product_that_stands_still_is_what_it_begins_with() -> None:
    live = market()
    row = rest(live.ticker("pf_ethusd"))["ticker"]
    began = first(live, "ticker", "PF_ETHUSD")
    assert (row["bid"], row["ask"], row["last"]) == (began["bid"], began["ask"], began["last"])
    assert rest(live.ticker("PF_ETHUSD"))["ticker"]["bidSize"] == began["bid_size"]


def test_one_ticker_is_found_by_its_symbol_and_others_are_not() -> None:
    live = market()
    assert rest(live.ticker("IN_xbtusd"))["ticker"]["symbol"] == "in_xbtusd"
    assert live.ticker("PF_NOPEUSD") is None


def test_an_unknown_path_is_told_so_in_the_recorded_words() -> None:
    recorded = next(line for line in lines("rest") if "unknown path" in line.note)
    expected, said = json.loads(recorded.payload), json.loads(market().not_found())
    assert said | {"serverTime": ""} == expected | {"serverTime": ""}


@pytest.mark.parametrize("wrong", [{"products": 0}, {"rate": 0.0}, {"rate": -1.0}, {"rate": 1e9}])
def test_what_cannot_be_simulated_is_a_mistake_of_the_user(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Market(1, START, **wrong)


def test_bodies_of_books_that_nobody_subscribed_to_can_be_looked_at() -> None:
    live = market()
    before = live.book("PF_ETHUSD")
    snapshot = first(live, "book", "PF_ETHUSD")
    assert before.seq == snapshot["seq"]


def test_every_stream_says_only_what_belongs_to_it() -> None:
    live = market()
    live.snapshot("book", "PF_XBTUSD", START)
    named = defaultdict(set)
    for each in live.advance(START + 20_000):
        named[each.feed].add(json.loads(each.payload).get("product_id"))
    assert named["book"] == named["trade"] == named["ticker"] == {"PF_XBTUSD"}
    assert named["fills"] == named["balances"] == {None}
