"""Tapes as a market: what was recorded, and what a late subscriber is told first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from kfws.protocol.book import Book
from kfws.protocol.events import Data, Event
from kfws.sim.desk import API, Asked
from kfws.sim.recorded import Recorded
from kfws.sim.server import SimOptions, serve
from kfws.tapes.tape import tapes_in
from tests.frames_of import frames
from tests.sinks.events import data
from tests.tapes.taping import AT, SECOND_NS, book, closed, header, snapshot, tape, ticker

START_MS = AT // 10**6
LIVE = frames("book", kind="snapshot", note="start of a contiguous run")
HELD = {"feeds": ["book", "trade", "ticker"], "products": ["PF_A"]}


def recorded(path: Path, events: Iterable[Event], *, speed: float = 1.0) -> Recorded:
    begin = header(feeds=HELD["feeds"], products=HELD["products"])
    return Recorded(tapes_in([str(tape(path / "a.ndjson", [begin, *events]))]), speed)


def payloads(market: Recorded, to_ms: float) -> list[bytes]:
    return [each.payload for each in market.advance(to_ms) if each.feed != "heartbeat"]


def first(market: Recorded, feed: str) -> dict[str, Any]:
    """What opens a subscription to a feed of PF_A now."""
    [frame] = market.snapshot(feed, "PF_A", START_MS)
    found: dict[str, Any] = json.loads(frame)
    return found


def test_what_was_recorded_comes_byte_for_byte_and_in_time(tmp_path: Path) -> None:
    events = [snapshot(0, AT), *(book(number) for number in range(1, 11))]
    market = recorded(tmp_path, events)
    assert payloads(market, START_MS + 4) == [each.payload for each in events[:5]]
    assert payloads(market, START_MS + 4) == []
    assert not market.is_over
    assert payloads(market, START_MS + 10) == [each.payload for each in events[5:]]
    assert market.is_over


def test_ten_times_as_fast_is_ten_times_as_much(tmp_path: Path) -> None:
    market = recorded(tmp_path, [book(number) for number in range(100)], speed=10)
    assert len(payloads(market, START_MS + 3)) == 31


def test_a_heart_beats_where_none_was_recorded(tmp_path: Path) -> None:
    market = recorded(tmp_path, [book(1), book(2, AT + 60 * SECOND_NS)])
    beats = [market.advance(START_MS + ms)[-1:] for ms in range(0, 5000, 500)]
    feeds = [each.feed for beat in beats for each in beat]
    assert feeds == ["book", *["heartbeat"] * 4]


def test_nobody_is_told_what_was_not_recorded_yet(tmp_path: Path) -> None:
    market = recorded(tmp_path, [snapshot(1, AT)])
    assert not market.has_started
    assert [market.snapshot(feed, "PF_A", START_MS) for feed in HELD["feeds"]] == [[], [], []]
    assert market.has_started


@given(changes=st.lists(st.tuples(st.booleans(), st.integers(90, 110), st.integers(0, 3))))
def test_a_late_subscriber_to_a_book_gets_it_folded_up_to_now(
    changes: list[tuple[bool, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    deltas = [
        b'{"feed":"book","product_id":"PF_A","side":"%b","seq":%d,"price":%d.50,"qty":%d.0,'
        b'"timestamp":%d}' % (b"buy" if is_bid else b"sell", seq, price, qty, START_MS + seq)
        for seq, (is_bid, price, qty) in enumerate(changes, 1)
    ]
    events: list[Data] = [snapshot(0, AT), *(data(each, AT + 1) for each in deltas)]
    market = recorded(tmp_path_factory.mktemp("fold"), events)
    market.advance(START_MS + 1000)
    [frame] = market.snapshot("book", "PF_A", START_MS)
    mine, tapes = Book(), Book()
    mine.apply(data(frame))
    for event in events:
        tapes.apply(event)
    assert mine.seq == tapes.seq == len(changes)
    assert [mine.levels(side) for side in ("buy", "sell")] == [
        tapes.levels(side) for side in ("buy", "sell")
    ]


def test_a_folded_book_has_the_form_of_the_venues_snapshot(tmp_path: Path) -> None:
    [live] = LIVE
    path = tape(tmp_path / "a.ndjson", [header(feeds=["book"], products=["PF_XBTUSD"])])
    path.write_bytes(path.read_bytes() + b'{"received_ns":%d,%b\n' % (AT, live[1:]))
    market = Recorded(tapes_in([str(path)]))
    market.advance(START_MS)
    assert market.snapshot("book", "PF_XBTUSD", START_MS) == [live]


def test_of_a_book_with_a_gap_nothing_is_told_until_its_next_snapshot(tmp_path: Path) -> None:
    market = recorded(tmp_path, [snapshot(1, AT), book(2), book(5), snapshot(7, AT + SECOND_NS)])
    market.advance(START_MS + 500)
    assert market.snapshot("book", "PF_A", START_MS) == []
    market.advance(START_MS + 1000)
    assert first(market, "book")["seq"] == 7


def test_a_late_subscriber_to_trades_gets_the_last_hundred(tmp_path: Path) -> None:
    trade = b'{"feed":"trade","product_id":"PF_A","seq":%d,"price":1.50,"qty":2,"time":%d}'
    snap = b'{"feed":"trade_snapshot","product_id":"PF_A","trades":[%b,%b]}' % (
        trade % (2, START_MS), trade % (1, START_MS),
    )  # fmt: skip
    events = [data(snap, AT), *(data(trade % (n, START_MS), AT + n) for n in range(3, 150))]
    market = recorded(tmp_path, events)
    market.advance(START_MS)
    assert [each["seq"] for each in first(market, "trade")["trades"]] == [2, 1]
    market.advance(START_MS + 1)
    listed = first(market, "trade")["trades"]
    assert [each["seq"] for each in listed] == [*range(149, 49, -1)]
    assert b'"price":1.50' in market.snapshot("trade", "PF_A", START_MS)[0]


def test_other_feeds_open_with_the_last_message_that_says_all(tmp_path: Path) -> None:
    events = [ticker(AT), ticker(AT + 1)]
    market = recorded(tmp_path, events)
    market.advance(START_MS + 1)
    assert market.snapshot("ticker", "PF_A", START_MS) == [events[1].payload]


def test_private_feeds_open_with_the_snapshot_that_was_recorded(tmp_path: Path) -> None:
    [first_frame, *_] = frames("fills", kind="snapshot")
    delta = frames("fills", kind="delta")[0]
    path = tape(tmp_path / "a.ndjson", [header(feeds=["fills"])])
    lines = [b'{"received_ns":%d,%b\n' % (AT, each[1:]) for each in (first_frame, delta)]
    path.write_bytes(path.read_bytes() + b"".join(lines))
    market = Recorded(tapes_in([str(path)]))
    published = [each for each in market.advance(START_MS) if each.feed == "fills"]
    instrument = json.loads(delta)["fills"][0]["instrument"]
    assert [each.product for each in published] == [None, instrument]
    assert market.snapshot("fills", None, START_MS) == [first_frame]


@pytest.mark.parametrize("trades", [b"null", b"[1,2]", b"{}"])
def test_odd_messages_are_passed_on_and_harm_nothing(trades: bytes, tmp_path: Path) -> None:
    odd = b'{"feed":"trade_snapshot","product_id":"PF_A","trades":%b}' % trades
    market = recorded(tmp_path, [data(odd, AT)])
    assert payloads(market, START_MS) == [odd]
    assert len(market.snapshot("trade", "PF_A", START_MS)) == 1


def test_rest_knows_the_products_of_the_tapes_and_nothing_else(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(feeds=["book"], products=["PF_XBTUSD", "PF_A"])])
    market = Recorded(tapes_in([str(path)]))
    answer = market.answer(Asked("GET", f"{API}instruments"))
    rows = json.loads(answer.body)["instruments"]
    assert [row["symbol"] for row in rows] == ["PF_XBTUSD", "PF_A"]
    assert all(row["tradeable"] for row in rows)
    for method, name in (("GET", "tickers"), ("POST", "sendorder"), ("POST", "instruments")):
        answer = market.answer(Asked(method, f"{API}{name}"))
        assert (answer.status, json.loads(answer.body)["status"]) == (404, "NOT_FOUND")


# Over real sockets


def ask(feed: str, product: str = "PF_A") -> str:
    return json.dumps({"event": "subscribe", "feed": feed, "product_ids": [product]})


async def test_a_client_gets_the_tape_to_its_end_and_is_told_that_it_ended(tmp_path: Path) -> None:
    begin = header(feeds=["book"], products=["PF_A"])
    events = [snapshot(0, AT), *(book(number) for number in range(1, 200)), closed(AT + SECOND_NS)]
    tapes = tapes_in([str(tape(tmp_path / "a.ndjson.zst", [begin, *events]))])
    async with serve(SimOptions(tapes=tapes, tape_speed=50)) as venue, connect(venue.url) as client:
        await client.recv()
        for feed, answer in (("ticker", "alert"), ("book", "subscribed")):
            await client.send(ask(feed))
            assert json.loads(await client.recv())["event"] == answer
        got = [text async for text in client]
        await venue.ended.wait()
    assert got == [each.payload.decode() for each in events if type(each) is Data]
    assert (client.close_code, client.close_reason) == (1000, "end of the tape")
