from __future__ import annotations

from datetime import UTC
from typing import Any

import orjson
import pytest

from kfws.protocol.events import Data, Event, Opened, Tick
from kfws.sinks.paint import Paint, cells, unpainted
from kfws.sinks.roll import WAITING_MOST, Roll
from kfws.sinks.screen import Size
from tests.sinks.events import AT_NS, all_data, data

SIZE = Size(80, 24)
BUY = "\x1b[32m"


def roll(*feeds: str, color: bool = False, **options: Any) -> Roll:
    return Roll(feeds or ("trade",), paint=Paint(color), zone=UTC, **options)


def lines(roll: Roll, *events: Event, size: Size = SIZE) -> list[str]:
    roll.take(events)
    return roll.above(AT_NS, size)


def trade(qty: float = 1.0, *, side: str = "buy", price: float = 100.0, **fields: Any) -> Data:
    message = {"feed": "trade", "product_id": "PF_XBTUSD", "side": side, "type": "fill", "seq": 7,
               "time": AT_NS // 1_000_000, "qty": qty, "price": price, **fields}  # fmt: skip
    return data(orjson.dumps(message))


def test_trades_roll_with_arrows_separators_and_bars() -> None:
    trades = trade(4.0, price=1234.5), trade(1.0, side="sell", price=1234.0)
    assert lines(roll(products=("PF_XBTUSD",)), *trades) == [
        "TIME         PRODUCT   SIDE          PRICE          QTY            TYPE",
        "18:13:24.400 PF_XBTUSD ▲ buy       1,234.5            4 ██████████ fill",
        "18:13:24.400 PF_XBTUSD ▼ sell      1,234.0            1 █████      fill",
    ]


def test_nothing_is_shown_twice_and_nothing_stands() -> None:
    shown = roll()
    assert len(lines(shown, trade())) == 2
    assert lines(shown) == []
    assert shown.rows(AT_NS, SIZE) == []


def test_a_side_is_coloured_and_lettered() -> None:
    _, bought, sold = lines(roll(color=True), trade(), trade(side="sell"))
    assert f"{BUY}▲ buy\x1b[0m" in bought
    assert "\x1b[31m▼ sell\x1b[0m" in sold
    plain = lines(roll(), trade(), trade(side="sell"))[1:]
    assert [unpainted(line) for line in (bought, sold)] == plain


@pytest.mark.parametrize("kind", ["liquidation", "partialLiquidation", "termination"])
def test_a_liquidation_is_marked_with_more_than_colour(kind: str) -> None:
    _, usual, forced = lines(roll(color=True), trade(), trade(type=kind))
    assert "◆ buy" in forced
    assert forced.startswith("\x1b[1m")
    assert "◆" not in usual


def test_a_fill_by_liquidation_is_marked() -> None:
    fill = {"instrument": "PF_XBTUSD", "buy": False, "price": 1, "qty": 1, "time": 1,
            "fill_type": "liquidation"}  # fmt: skip
    _, row = lines(roll("fills"), data(orjson.dumps({"feed": "fills", "fills": [fill]})))
    assert "◆ sell" in row


def test_rows_of_a_snapshot_are_dim_and_the_last_ten_the_newest_last() -> None:
    trades = [{"side": "buy", "price": 1.0, "qty": 1, "seq": 100 - n} for n in range(100)]
    snapshot = {"feed": "trade_snapshot", "product_id": "PF_XBTUSD", "trades": trades}
    _, told, *rows = lines(roll(color=True), data(orjson.dumps(snapshot)), size=Size(120, 24))
    assert "… 90 earlier in the snapshot of trade PF_XBTUSD" in told
    assert [int(unpainted(row).split()[-1]) for row in rows] == list(range(91, 101))
    assert all(row.startswith("\x1b[2m") and BUY not in row for row in rows)


def test_an_account_log_rolls_with_its_newest_entry_last() -> None:
    logs = [{"id": number, "date": "2026-09-25T18:13:24Z"} for number in (3, 2, 1)]
    snapshot = data(orjson.dumps({"feed": "account_log_snapshot", "logs": logs}))
    assert [line.split()[1] for line in lines(roll("account_log"), snapshot)[1:]] == ["1", "2", "3"]


def test_the_titles_come_again_before_the_last_ones_leave_the_screen() -> None:
    shown = roll()
    printed: list[str] = []
    for _ in range(40):
        printed += lines(shown, trade(), size=Size(80, 10))
    for at in range(len(printed) - 9):
        assert any(line.startswith("TIME") for line in printed[at : at + 10])


def test_what_comes_faster_than_it_can_be_read_is_told_by_number() -> None:
    told, *rows = lines(roll(), *(trade(price=n) for n in range(1000)), size=Size(80, 10))
    assert told == "… 960 messages came faster than they can be read"
    assert [line.split()[4] for line in rows if "buy" in line][-1] == "999"
    assert len([line for line in rows if "buy" in line]) == 40


def test_a_product_has_one_precision_that_only_grows() -> None:
    shown = lines(roll(), trade(0.5), trade(0.125), trade(2.0))[1:]
    assert [line.split()[5] for line in shown] == ["0.5", "0.125", "2.000"]


def test_the_milliseconds_go_before_the_size_does() -> None:
    wide, narrow = (lines(roll(), trade(), size=Size(width, 24))[1] for width in (80, 60))
    assert wide.startswith("18:13:24.400 PF_XBTUSD")
    assert narrow.startswith("18:13:24 PF_XBTUSD")
    assert narrow.split()[-1] == "1"


def test_own_events_roll_where_they_were_asked_for() -> None:
    opened = Opened(received_ns=1, connection=1, url="ws://x")
    assert lines(roll(), opened, Tick(received_ns=1)) == []
    [line] = lines(roll(events=True), opened, Tick(received_ns=1))
    assert line.startswith('{"kfws":"opened"')


def test_only_the_fields_that_were_asked_for() -> None:
    shown = lines(roll(fields=("seq", "side")), trade())
    assert [line.split() for line in shown] == [["seq", "side"], ["7", "▲", "buy"]]


def test_other_feeds_are_none_of_its_business() -> None:
    assert lines(roll("fills"), trade()) == []


def test_an_unknown_feed_rolls_as_json() -> None:
    news = data(b'{"feed":"news"}')
    assert lines(roll("news"), news)[1].endswith('{"feed":"news"}')


@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("width", [1, 20, 60, 80, 140, 300])
def test_no_row_is_wider_than_the_terminal(width: int, color: bool) -> None:
    events = all_data()
    shown = roll(*{each.feed for each in events}, color=color)
    found = lines(shown, *events, size=Size(width, 100))
    assert len(found) > 50
    assert max(cells(unpainted(line)) for line in found) <= width


def test_where_nothing_is_drawn_little_is_held_and_the_rest_counted() -> None:
    found = roll()
    found.take([trade() for _ in range(WAITING_MOST + 500)])
    assert len(found._waiting) == WAITING_MOST
    first = found.above(0, SIZE)[0]
    kept = 4 * SIZE.lines
    assert f"{WAITING_MOST + 500 - kept:,} messages came faster" in first


def test_what_was_shown_is_known_in_another_width_too() -> None:
    shown = roll()
    lines(shown, trade(seq=7))
    past = [{"side": "buy", "price": 1.0, "qty": 1, "seq": seq} for seq in (8, 7, 6)]
    again = data(
        orjson.dumps({"feed": "trade_snapshot", "product_id": "PF_XBTUSD", "trades": past})
    )
    assert len(lines(shown, again, size=Size(120, 24))) == 2
