from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kfws.protocol.events import Data, Event, Opened, Tick
from kfws.protocol.feeds import FEEDS
from kfws.sinks.columns import printable, table_columns
from kfws.sinks.paint import Paint
from kfws.sinks.table import Table
from tests.frames_of import frame
from tests.sinks.events import AT_NS, all_data, data

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_TRADE = frame("trade", "recording kept only this one")


def _table(**options: Any) -> Table:
    paint = Paint(options.pop("color", False))
    return Table(**{"feeds": (), "paint": paint, "width": 80, "zone": UTC, **options})


def _lines(table: Table, events: list[Event]) -> list[str]:
    text = table.encode(events).decode()
    assert not text or text.endswith("\n")
    return text.split("\n")[:-1]


def test_rows_align_under_their_header() -> None:
    trades = [data(_TRADE), data(frame("trade", "type=liquidation"))]
    assert _lines(_table(feeds=("trade",)), [*trades]) == [
        "TIME         PRODUCT           SIDE        PRICE          QTY TYPE",
        "18:13:24.381 PF_XBTUSD         sell      83994.0       0.0002 fill",
        "18:13:24.400 PF_XBTUSD         sell      83990.0         0.05 liquidation",
    ]


def test_a_header_comes_whenever_the_feed_changes_also_across_batches() -> None:
    table = _table()
    beat = data(b'{"feed":"heartbeat","time":1790360004400}')
    assert len(_lines(table, [beat, beat])) == 3
    assert len(_lines(table, [beat])) == 1
    assert [line.split()[0] for line in _lines(table, [data(_TRADE), beat])] == [
        "TIME",
        "18:13:24.381",
        "TIME",
        "18:13:24.400",
    ]


@pytest.mark.parametrize("width", [1, 20, 39, 60, 80, 81, 140, 300])
@pytest.mark.parametrize("color", [False, True])
def test_no_row_is_wider_than_the_terminal(width: int, color: bool) -> None:
    opened = Opened(received_ns=1, connection=1, url="ws://127.0.0.1/" + "x" * 300)
    lines = _lines(_table(width=width, color=color, events=True), [opened, *all_data()])
    assert max(cell_len(_ANSI.sub("", line)) for line in lines) <= width


def test_the_last_columns_are_dropped_where_the_width_is_short() -> None:
    ticker = data(frame("ticker", "key order as on the wire"))
    for width, last in ((60, "BID"), (80, "CHANGE"), (120, "MARK"), (200, "TAG")):
        assert _lines(_table(width=width), [ticker])[0].split()[-1] == last


def test_a_book_snapshot_is_one_row_with_its_best_prices() -> None:
    _, row = _lines(_table(), [data(frame("book", "start of a contiguous run"))])
    assert row.endswith("PF_XBTUSD         snapshot 6 levels, bid 82380.0, ask 82381.0")
    _, row = _lines(_table(), [data(frame("book", "zero-quantity levels"))])
    assert row.endswith("5 levels, bid 3161.9, ask 3162.1")
    _, row = _lines(_table(), [data(frame("book", "empty side(s) are legal"))])
    assert row.endswith("0 levels, bid none, ask none")


def test_levels_of_an_odd_shape_are_no_offers() -> None:
    levels = b'[{"qty":1},{"price":"x","qty":"y"}]'
    odd = b'{"feed":"book_snapshot","product_id":"P","seq":1,"bids":%b}' % levels
    assert _lines(_table(), [data(odd)])[1].endswith("2 levels, bid none, ask none")


def test_of_past_trades_the_last_ten_are_shown_oldest_first_and_dim() -> None:
    trades = [{"side": "buy", "price": 1.0, "qty": 1, "seq": 100 - n} for n in range(100)]
    payload = orjson.dumps({"feed": "trade_snapshot", "product_id": "PF_XBTUSD", "trades": trades})
    lines = _lines(_table(width=100, color=True), [data(payload)])
    assert "… 90 earlier in the snapshot of trade PF_XBTUSD" in lines[1]
    assert [int(_ANSI.sub("", line).split()[-1]) for line in lines[2:]] == list(range(91, 101))
    assert all(line.startswith("\x1b[2m") and "\x1b[32m" not in line for line in lines[1:])


def _past_trades(*seqs: int, product: str = "PF_XBTUSD") -> Data:
    trades = [{"side": "buy", "price": 1.0, "qty": 1, "seq": seq} for seq in reversed(seqs)]
    return data(orjson.dumps({"feed": "trade_snapshot", "product_id": product, "trades": trades}))


def _trade(seq: int) -> Data:
    return data(b'{"feed":"trade","product_id":"PF_XBTUSD","side":"buy","seq":%d}' % seq)


def test_after_a_redial_just_what_is_not_shown_yet_comes_all_of_it_and_undimmed() -> None:
    table = _table(width=100, color=True)
    _lines(table, [_past_trades(*range(1, 51)), _trade(51)])
    healed = _lines(table, [_past_trades(*range(1, 81)), _trade(81)])
    assert [int(_ANSI.sub("", line).split()[-1]) for line in healed] == list(range(52, 82))
    assert not any(line.startswith("\x1b[2m") for line in healed)
    assert _lines(table, [_past_trades(*range(1, 82))]) == []
    first = _lines(table, [_past_trades(70, 71, product="PF_ETHUSD")])
    assert [line.startswith("\x1b[2m") for line in first] == [True, True]


def test_where_the_venue_counts_anew_its_snapshot_is_as_the_first() -> None:
    table = _table(width=100)
    _lines(table, [_trade(500)])
    assert [line.split()[-1] for line in _lines(table, [_past_trades(1, 2)])] == ["1", "2"]
    assert _lines(table, [_past_trades(1, 2)]) == []


def test_fills_that_were_shown_do_not_come_again() -> None:
    table = _table()
    _lines(table, [data(frame("fills", "not consecutive across products"))])
    assert _lines(table, [data(frame("fills", "not consecutive across products"))]) == []


def test_private_feeds_have_a_row_per_entry_and_sides_in_letters() -> None:
    lines = _lines(_table(), [data(frame("fills", "not consecutive across products"))])
    assert [line.split()[1:4] for line in lines[1:]] == [
        ["PF_XBTUSD", "buy", "24189.0"],
        ["PI_ETHUSD", "sell", "1645.65"],
    ]
    lines = _lines(_table(), [data(frame("open_orders", "placement"))])
    assert lines[1].split()[1:3] == ["PF_XBTUSD", "buy"]


def test_an_empty_list_is_said_so() -> None:
    assert (
        _lines(_table(), [data(frame("open_orders", "no open orders"))])[1] == "18:13:24.400 none"
    )
    row = _lines(_table(), [data(frame("trade", "brand-new product"))])[1]
    assert row == "18:13:24.400 PF_NEWUSD         none"


def test_a_side_is_coloured_and_its_column_keeps_its_width() -> None:
    sold, bought = data(_TRADE), data(frame("trade", "no uid at that time"))
    lines = _lines(_table(color=True), [sold, bought])
    assert lines[0].startswith("\x1b[1mTIME")
    assert "\x1b[31msell\x1b[0m" in lines[1]
    assert "\x1b[32mbuy \x1b[0m" in lines[2]
    plain = _lines(_table(), [sold, bought])
    assert [_ANSI.sub("", line) for line in lines] == plain


def test_times_are_those_of_the_wanted_zone() -> None:
    table = _table(zone=timezone(timedelta(hours=-5)))
    assert _lines(table, [data(_TRADE)])[1].startswith("13:13:24.381 ")


def test_a_time_far_from_the_arrival_shows_its_day() -> None:
    days = 24 * 3600 * 1_000_000_000
    late = [data(_TRADE, AT_NS + away * days) for away in (0, 2, 400)]
    times = [line[:12].strip() for line in _lines(_table(), [*late])[1:]]
    assert times == ["18:13:24.381", "09-25 18:13", "2026-09-25"]


@pytest.mark.parametrize("time", [b'"soon"', b"99999999999999999999", b"true", b"{}"])
def test_a_time_that_is_none_is_shown_as_it_stands(time: bytes) -> None:
    [_, row] = _lines(
        _table(),
        [Data(payload=b'{"time":%b}' % time, received_ns=AT_NS, feed="heartbeat")],
    )
    assert row.strip()


def test_a_message_without_a_time_has_that_of_its_arrival() -> None:
    lite = data(frame("ticker_lite", "no time and no seq"))
    assert _lines(_table(), [lite])[1].startswith("18:13:24.400 PF_XBTUSD ")


def test_funding_is_the_relative_rate_in_percent() -> None:
    ticker = data(frame("ticker", "key order as on the wire"))
    header, row = _lines(_table(width=110), [ticker])
    assert header.endswith("FUNDING/H")
    assert row.endswith("+0.000275%")


def test_only_digits_behind_the_point_are_ever_cut() -> None:
    payload = (
        b'{"feed":"trade","product_id":"P","seq":1,"price":12.34567890123,"qty":1234567890123456}'
    )
    row = _lines(_table(), [data(payload)])[1]
    assert " 12.34567890… 1234567890123456" in row
    payload = b'{"feed":"trade","product_id":"P","seq":1,"price":1.2345678901e-12}'
    assert " 1.2345678901e-12" in _lines(_table(), [data(payload)])[1]


def test_a_long_text_is_cut_with_an_ellipsis_and_wide_letters_count_double() -> None:
    payload = '{"feed":"trade","product_id":"產品產品產品產品產品","seq":1,"side":"buy"}'.encode()
    row = _lines(_table(), [data(payload)])[1]
    assert " 產品產品產品產品… buy" in row


def test_an_unknown_feed_is_compact_json_cut_to_the_width() -> None:
    payload = b'{ "feed": "news",\n "text": "\\u001b[2J", "more": "%b" }' % (b"x" * 99)
    header, row = _lines(_table(width=60), [data(payload)])
    assert header == "TIME         MESSAGE"
    assert row == '18:13:24.400 {"feed":"news","text":"\\u001b[2J","more":"xxxx…'


def test_own_events_are_shown_only_when_asked_for() -> None:
    opened = Opened(received_ns=1, connection=1, url="ws://127.0.0.1/")
    assert _lines(_table(), [opened, Tick(received_ns=1)]) == []
    assert _lines(_table(events=True, width=30), [opened, Tick(received_ns=1)]) == [
        '{"kfws":"opened","at_ns":1,"c…'
    ]


def test_fields_pick_columns_in_the_order_asked_for() -> None:
    table = _table(fields=("price", "side", "seq", "received_ns", "kind"))
    assert _lines(table, [data(_TRADE)]) == [
        "       price side         seq  received_ns         kind",
        "     83994.0 sell      421135 1790360004400000001        delta",
    ]


def test_fields_of_an_unknown_feed_are_looked_up_by_dotted_paths() -> None:
    candle = next(event for event in all_data() if event.feed == "candles_trade_1m")
    lines = _lines(_table(fields=("product_id", "candle.open")), [candle])
    assert lines[1].split() == ["PF_XBTUSD", "83954"]


def test_a_book_snapshot_with_fields_keeps_its_note_behind_them() -> None:
    snapshot = data(frame("book", "start of a contiguous run"))
    row = _lines(_table(fields=("product_id", "side")), [snapshot])[1]
    assert row == "PF_XBTUSD         snapshot 6 levels, bid 82380.0, ask 82381.0"


@pytest.mark.parametrize("feed", sorted(FEEDS))
def test_every_column_that_may_be_asked_for_is_shown(feed: str) -> None:
    events: list[Event] = [event for event in all_data() if event.feed == feed]
    for name in table_columns(feed):
        lines = _lines(_table(fields=(name,), width=200), events)
        assert not lines or lines[0].strip() == name


@given(
    text=st.text(),
    width=st.integers(1, 120),
    key=st.sampled_from(["product_id", "side", "type", "price", "time"]),
)
def test_no_text_of_the_venue_reaches_the_terminal_raw(text: str, width: int, key: str) -> None:
    payload = orjson.dumps({"feed": "trade", key: text})
    event = Data(payload=payload, received_ns=AT_NS, feed="trade")
    lines = _lines(_table(width=width), [event])
    assert len(lines) == 2
    assert lines[1] == printable(lines[1])
    assert cell_len(lines[1]) <= width
