"""Lines about books: right after every message, in the venue's own digits."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.cli.booklines import BookLines
from kfws.cli.plan import Look
from kfws.protocol.book import Level, Side
from kfws.protocol.events import Closed, Data, Event, Gap, Opened, Redial, Stale, Tick
from kfws.sim.market import Market
from tests.frames_of import frame, frames
from tests.protocol.test_book import (
    START_MS,
    Rebuilt,
    changes,
    delta,
    floats,
    level,
    levels,
    read,
    snapshot,
)
from tests.sinks.events import data

RUN = [*frames("book", kind="snapshot"), *frames("book", kind="delta")]
GAP = Gap(
    received_ns=1, feed="book", product="PF_XBTUSD", first=1, last=1, missing=1,
    cause="venue", from_ns=1, to_ns=1,
)  # fmt: skip


def recorded(first: int, last: int) -> list[Event]:
    """A run of frames of the venue, by their numbers."""
    came = [data(payload, 7) for payload in RUN]
    found = [each for each in came if each.seq is not None and first <= each.seq <= last]
    assert len(found) == last - first + 1
    return [*found]


def told(events: list[Event], **look: Any) -> list[str]:
    lines = BookLines(Look(**{"depth": 2, **look}))
    return [each.payload.decode() for each in lines.fold(events) if type(each) is Data]


def read_line(line: Data) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(line.payload, parse_float=str, parse_int=str)
    return message


def levels_of(message: dict[str, Any], key: str) -> list[Level]:
    return [Level(each["price"], each["qty"]) for each in message[key]]


def test_a_line_is_the_visible_book_in_the_venues_own_digits() -> None:
    [line] = told(recorded(173877391, 173877391))
    assert line == (
        '{"product_id":"PF_XBTUSD","seq":173877391,"timestamp":1791518718655,'
        '"bids":[{"price":82380.0,"qty":0.0003},{"price":82379.0,"qty":0.0012}],'
        '"asks":[{"price":82381.0,"qty":0.6051},{"price":82382.0,"qty":0.4345}],'
        '"spread":1.0,"mid":82380.5,"stale":false}'
    )


def test_a_change_out_of_sight_gives_no_line() -> None:
    assert len(told(recorded(173877391, 173877394))) == 1
    assert len(told(recorded(173877391, 173877394), depth=10)) == 4


def test_a_gap_is_seen_in_the_lines_until_the_next_snapshot() -> None:
    run = recorded(173877391, 173877394)
    run.append(data(frame("book", "a gap: 173877395 is missing")))
    run += recorded(173877391, 173877391)
    assert [json.loads(line)["stale"] for line in told(run)] == [False, True, False]


def test_one_side_alone_has_no_spread_and_no_middle() -> None:
    [line] = told([snapshot(1, level("1.0", "2"))])
    assert line.endswith('"asks":[],"spread":null,"mid":null,"stale":false}')


def test_messages_without_a_time_have_a_line_without_one() -> None:
    old = read(frame("book", "no timestamp at that time"))
    assert old.seq is not None
    start = snapshot(old.seq - 1, "", level("60.58", "1"))
    start.product = old.product
    assert '"timestamp":null,"bids":[],"asks":[],' in told([start, old])[1]


@pytest.mark.parametrize(
    ("bid", "ask", "spread", "mid"),
    [
        ("0.1", "0.3", "0.2", "0.2"),
        ("0.1", "0.4", "0.3", "0.25"),
        ("84001", "84002.0", "1.0", "84001.5"),
        ("9.8195E-6", "9.8197E-6", "0.0000000002", "0.0000098196"),
        ("102.0", "101.0", "-1.0", "101.5"),
        ("1e22", "2e22", "10000000000000000000000", "15000000000000000000000"),
        ("1e-999999999", "1e-999999999", "0E-1000698", "0E-1000698"),
        ("0.12345678901234567890", "0.2", "0.07654321098765432110", "0.16172839450617283945"),
    ],
)
def test_spread_and_mid_are_exact(bid: str, ask: str, spread: str, mid: str) -> None:
    [line] = told([snapshot(1, level(bid, "1"), level(ask, "1"))])
    assert line.endswith(f'"spread":{spread},"mid":{mid},"stale":false}}')


def test_a_product_of_any_name_gives_one_json_object() -> None:
    odd = snapshot(1)
    odd.product = 'PF_"\\\n'
    [line] = told([odd])
    assert json.loads(line)["product_id"] == odd.product


def test_all_that_is_no_book_passes_in_its_place() -> None:
    trade = data(frame("trade", "recording kept only this one"))
    nameless = snapshot(1)
    nameless.product = None
    events = [trade, snapshot(1), GAP, delta(2, "buy", "5.0"), nameless]
    passed = BookLines(Look(depth=2)).fold(events)
    assert [passed[0], passed[2], passed[4]] == [trade, GAP, nameless]
    assert len(passed) == 5


def test_what_makes_a_book_stale_stands_before_the_line_that_says_so() -> None:
    opened = Opened(received_ns=1, connection=1, url="ws://x")
    closed = Closed(received_ns=1, connection=1, code=1006, reason="")
    redial = Redial(received_ns=1, reason="", failed=0, delay_s=1.0)
    stale = Stale(received_ns=1, feed="book", product="PF_XBTUSD")
    for reasons in ([stale], [closed, redial]):
        lines = BookLines(Look(depth=2))
        lines.fold([opened, snapshot(1)])
        *passed, line = lines.fold([*reasons])
        assert passed == reasons
        assert isinstance(line, Data)
        assert line.payload.endswith(b'"stale":true}')


def test_a_line_has_number_and_times_of_its_last_message() -> None:
    [_, line] = BookLines(Look(depth=2)).fold(
        [snapshot(1), delta(2, "buy", "5.0", venue_ms=START_MS + 3, received_ns=9)]
    )
    assert isinstance(line, Data)
    assert (line.feed, line.product, line.seq) == ("book", "PF_XBTUSD", 2)
    assert (line.venue_ms, line.received_ns) == (START_MS + 3, 9)


def test_samples_tell_of_what_changed_since_the_last_one() -> None:
    lines = BookLines(Look(depth=2, every_s=0.1))
    other = snapshot(5)
    other.product = "PF_ETHUSD"
    assert lines.fold([snapshot(1), delta(2, "buy", "5.0"), GAP, other]) == [GAP]
    assert [each.seq for each in lines.sample() if isinstance(each, Data)] == [2, 5]
    assert lines.sample() == []
    lines.fold([delta(3, "buy", "5.0", "7.0"), delta(4, "buy", "5.0", "1.0")])
    assert lines.sample() == []  # as it was


def test_of_the_past_is_told_how_the_books_stand_in_the_end() -> None:
    lines = BookLines(Look(depth=2), is_catching_up=True)
    assert lines.fold([snapshot(1), GAP, delta(2, "buy", "5.0")]) == [GAP]
    assert lines.sample() == []
    tick = Tick(received_ns=9)
    came = lines.fold([delta(3, "buy", "5.0", "7.0"), tick, delta(4, "buy", "5.0", "9.0")])
    assert [each.seq for each in came if isinstance(each, Data)] == [3, 4]


def test_lines_have_ten_levels_a_side_unless_told_otherwise() -> None:
    many = ",".join(level(f"{price}.0", "1") for price in range(50))
    [line] = BookLines(Look()).fold([snapshot(1, many, many)])
    assert isinstance(line, Data)
    assert [len(line.message[key]) for key in ("bids", "asks")] == [10, 10]


# Against oracles


@given(
    st.integers(1, 4),
    st.lists(levels, max_size=6),
    st.lists(levels, max_size=6),
    st.lists(changes, max_size=30),
)
def test_after_every_message_the_last_line_is_what_a_rebuild_gives(
    depth: int,
    bids: list[tuple[str, str]],
    asks: list[tuple[str, str]],
    told: list[tuple[Side, tuple[str, str]]],
) -> None:
    sides = [",".join(level(*each) for each in side) for side in (bids, asks)]
    messages = [snapshot(100, *sides)]
    messages += [delta(101 + at, side, *each) for at, (side, each) in enumerate(told)]
    lines = BookLines(Look(depth=depth))
    shown: dict[str, Any] = {}
    for number, message in enumerate(messages):
        before = shown
        for line in lines.fold([message]):
            assert isinstance(line, Data)
            shown = read_line(line)
            assert shown["seq"] == str(message.seq)
        book = Rebuilt(messages[: number + 1])
        rebuilt = [book.levels(side)[:depth] for side in ("buy", "sell")]
        assert [levels_of(shown, key) for key in ("bids", "asks")] == rebuilt
        same = before and all(before[key] == shown[key] for key in ("bids", "asks"))
        assert (shown is before) is bool(same)
        if all(rebuilt):
            bid, ask = (Decimal(side[0].price) for side in rebuilt)
            assert Decimal(shown["spread"]) == ask - bid
            assert Decimal(shown["mid"]) * 2 == ask + bid


@pytest.mark.parametrize("product", ["PF_XBTUSD", "PF_PEPEUSD"])
def test_the_last_line_is_the_simulated_markets_own_book_all_along(product: str) -> None:
    market = Market(3, START_MS, products=40, rate=200)
    lines = BookLines(Look(depth=5))
    last = [*lines.fold([*map(read, market.snapshot("book", product, START_MS))])][-1]
    compared = 0
    for now_ms in range(START_MS, START_MS + 600):
        published = [read(each.payload) for each in market.advance(now_ms) if each.feed == "book"]
        told = lines.fold([*published])
        if told:
            last = told[-1]
            compared += 1
        assert isinstance(last, Data)
        own = market.book(product)
        assert floats(levels_of(read_line(last), "bids")) == own.bids[:5]
        assert floats(levels_of(read_line(last), "asks")) == own.asks[:5]
    assert compared > 20


def test_a_line_that_says_stale_has_the_moment_of_the_loss() -> None:
    lines = BookLines(Look(depth=2))
    lines.fold([Opened(received_ns=1, connection=1, url="ws://x"), snapshot(1)])
    lost_ns = 2**61
    [_, line] = lines.fold([Stale(received_ns=lost_ns, feed="book", product="PF_XBTUSD")])
    assert isinstance(line, Data)
    assert line.received_ns == lost_ns
