from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import Closed, Data, Event, Opened, Redial
from kfws.sinks.board import FLASH_NS, QUEUED_MOST, ROWS_AT_ONCE, Board, Trend
from kfws.sinks.columns import BOARD
from kfws.sinks.paint import Paint, cells, unpainted
from kfws.sinks.screen import Size
from tests.frames_of import frame
from tests.sinks.events import AT_NS, all_data, data

SECOND = 1_000_000_000
WIDE = Size(160, 24)


def board(feed: str = "ticker", *events: Event, color: bool = False, **options: Any) -> Board:
    found = Board(feed, paint=Paint(color), zone=UTC, **options)
    found.take(events)
    return found


def ticker(product: str = "PF_XBTUSD", **fields: Any) -> Data:
    """A ticker with a value in every column."""
    return said(feed="ticker", product_id=product, **{**_FULL, **fields})


_FULL = {
    "bid": 99.0, "ask": 101.0, "last": 100.0, "change": 1.0, "markPrice": 100.0, "index": 100.0,
    "relative_funding_rate": 1e-6, "next_funding_rate_time": AT_NS // 1_000_000,
    "openInterest": 5.0, "volume": 5.0,
}  # fmt: skip


def said(**message: Any) -> Data:
    return data(orjson.dumps(message))


def rows(board: Board, now_ns: int = AT_NS, size: Size = WIDE) -> list[dict[str, str]]:
    """Each row as titles and values."""
    header, *lines = board.rows(now_ns, size)
    titles = header.replace("OPEN INT", "OPEN").split()
    return [dict(zip(titles, line.split(), strict=False)) for line in lines]


def products(board: Board, now_ns: int = AT_NS, size: Size = WIDE) -> list[str]:
    return [line.split()[0] for line in board.rows(now_ns, size)[1:]]


def test_a_ticker_of_the_venue_is_one_row_with_all_that_matters() -> None:
    shown = board("ticker", data(frame("ticker", "key order as on the wire")))
    header, row = shown.rows(AT_NS, WIDE)
    assert header.split()[:3] == ["PRODUCT", "LAST", "24H"]
    assert row.split() == [
        "PF_XBTUSD", "64,403", "-0.68%", "▄", "64,401", "64,402", "0.16bp", "64,400", "64,401",
        "+0.0003%", "0m00s", "2,157.63", "3,669.91",
    ]  # fmt: skip


def test_the_latest_message_of_each_product_is_shown() -> None:
    shown = board("ticker", ticker(last=1.5), ticker("PF_ETHUSD", last=3), ticker(last=2.5))
    assert [(row["PRODUCT"], row["LAST"]) for row in rows(shown)] == [
        ("PF_XBTUSD", "2.5"),
        ("PF_ETHUSD", "3"),
    ]


def test_rows_stand_in_the_order_asked_for_whoever_comes_first() -> None:
    shown = board("ticker", order=("PF_A", "PF_B", "PF_C"))
    for name in ("PF_C", "PF_A"):
        shown.take([ticker(name)])
    assert products(shown) == ["PF_A", "PF_C"]
    shown.take([ticker("PF_B")])
    assert products(shown) == ["PF_A", "PF_B", "PF_C"]


def test_before_the_first_message_it_says_what_it_waits_for() -> None:
    assert board().rows(AT_NS, WIDE) == ["waiting for the first ticker"]
    assert board().rows(AT_NS, Size(10, 5)) == ["waiting f…"]


# Prices


def test_a_price_that_moves_flashes_and_says_so_with_an_arrow() -> None:
    shown = board("ticker", ticker(last=50.0), color=True)
    shown.rows(AT_NS, WIDE)
    for price, arrow, style in ((51.0, "▲", "32"), (50.5, "▼", "31")):
        shown.take([ticker(last=price)])
        _, row = shown.rows(AT_NS, WIDE)
        assert f"{arrow}\x1b[0m" in row
        assert f"\x1b[1;7;{style}m" in row
        _, row = shown.rows(AT_NS + FLASH_NS, WIDE)
        assert "\x1b[1;7" not in row
        assert f"\x1b[{style}m{arrow}\x1b[0m" in row


def test_the_same_price_again_is_no_move() -> None:
    shown = board("ticker", ticker(last=50.0))
    shown.rows(AT_NS, WIDE)
    shown.take([ticker(last=50.0)])
    assert not {"▲", "▼"} & set("".join(shown.rows(AT_NS, WIDE)))


def test_a_product_has_one_precision_that_only_grows() -> None:
    shown = board("ticker", ticker(last=100.0, markPrice=100.123456789))
    assert (rows(shown)[0]["LAST"], rows(shown)[0]["MARK"]) == ("100", "100")
    shown.take([ticker(last=100.25, markPrice=100.123456789)])
    assert rows(shown)[0]["BID"] == "99.00"
    shown.take([ticker(last=101.0, markPrice=101.123456789)])
    assert (rows(shown)[0]["LAST"], rows(shown)[0]["MARK"]) == ("101.00▲", "101.12▲")


def test_the_precision_of_the_products_list_is_the_least_that_is_shown() -> None:
    shown = board("ticker", ticker(last=100.0), places={"PF_XBTUSD": 1})
    assert rows(shown)[0]["LAST"] == "100.0"
    shown.take([ticker(last=100.25)])
    assert rows(shown)[0]["LAST"] == "100.25▲"


def test_an_empty_side_of_the_book_leaves_blanks() -> None:
    shown = board("ticker", data(b'{"feed":"ticker","product_id":"PF_NEW","ask":2.5}'))
    _, row = shown.rows(AT_NS, WIDE)
    assert row.split() == ["PF_NEW", "2.5"]


@given(
    st.dictionaries(
        st.sampled_from(["last", "bid", "ask", "markPrice", "change", "openInterest", "volume",
                         "relative_funding_rate", "next_funding_rate_time"]),
        st.one_of(st.floats(), st.text(max_size=5), st.none(), st.integers(-(2**63), 2**63),
                  st.lists(st.none())),
    )
)  # fmt: skip
def test_whatever_the_venue_sends_is_one_harmless_row(fields: dict[str, Any]) -> None:
    shown = board("ticker", ticker(), ticker(**fields))
    for line in shown.rows(AT_NS, WIDE):
        assert line.isprintable()
        assert cells(line) <= WIDE.columns


def test_escapes_in_a_name_are_made_harmless() -> None:
    shown = board("ticker", ticker("PF_\x1b[2J\u202e"))
    assert products(shown) == ["PF_·[2J·"]


# The trend


def test_a_trend_rises_with_the_price() -> None:
    trend = Trend()
    for step in range(8):
        trend.add(float(step), step * SECOND)
    assert trend.bars(24) == "▁▂▃▄▅▆▇█"
    assert trend.direction == 1


def test_within_a_second_the_last_price_counts() -> None:
    trend = Trend()
    for value in (1.0, 9.0, 5.0):
        trend.add(value, AT_NS)
    assert trend.bars(24) == "▄"
    trend.add(4.0, AT_NS + SECOND)
    assert trend.bars(24) == "█▁"
    assert trend.direction == -1


@given(st.integers(1, 3000))
def test_a_trend_of_any_length_ends_with_now_and_fits(seconds: int) -> None:
    trend = Trend()
    for second in range(seconds):
        trend.add(float(second), second * SECOND)
    bars = trend.bars(24)
    assert bars[-1:] == ("█" if seconds > 1 else "▄")
    assert min(seconds, 20) <= len(bars) <= 24
    assert list(bars) == sorted(bars)


# More rows than lines, and their order


def test_rows_beyond_the_screen_are_counted_and_never_wrapped() -> None:
    shown = board("ticker", *(ticker(f"PF_{number:03}") for number in range(350)))
    for lines in (3, 10, 24):
        found = shown.rows(AT_NS, Size(60, lines))
        assert len(found) == lines
        assert found[-1] == f"… {350 - (lines - 2)} more"
    assert len(shown.rows(AT_NS, Size(60, 351))) == 351


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("24h", ["PF_C", "PF_A", "PF_B", "PF_D"]),
        ("-24h", ["PF_B", "PF_A", "PF_C", "PF_D"]),
        ("-change", ["PF_B", "PF_A", "PF_C", "PF_D"]),
        ("spread", ["PF_D", "PF_C", "PF_B", "PF_A"]),
        ("product", ["PF_A", "PF_B", "PF_C", "PF_D"]),
    ],
)
def test_rows_are_sorted_by_a_column_what_is_missing_last(sort: str, order: list[str]) -> None:
    shown = board(
        "ticker",
        ticker("PF_D", bid=100.9, change=None),
        ticker("PF_C", change=-3.5),
        ticker("PF_B", change=11.0),
        ticker("PF_A", change=2.0),
        sort=sort,
    )
    assert products(shown) == order
    title = {"-24h": "↓24H", "-change": "↓24H", "24h": "↑24H"}.get(sort, f"↑{sort.upper()}")
    assert title in shown.rows(AT_NS, WIDE)[0]


def test_rows_change_places_once_a_second_at_most() -> None:
    shown = board("ticker", ticker("PF_A", change=1), ticker("PF_B", change=2), sort="-24h")
    assert products(shown) == ["PF_B", "PF_A"]
    shown.take([ticker("PF_A", change=3)])
    assert products(shown, AT_NS + SECOND // 2) == ["PF_B", "PF_A"]
    assert products(shown, AT_NS + SECOND) == ["PF_A", "PF_B"]


# Width


@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("feed", BOARD)
@pytest.mark.parametrize("width", [1, 5, 20, 60, 80, 140, 300])
def test_no_row_of_any_board_is_wider_than_the_terminal(feed: str, width: int, color: bool) -> None:
    said = [each for each in all_data() if b'"orders":[]' not in each.payload]
    shown = board(feed, *said, color=color)
    found = shown.rows(AT_NS, Size(width, 50))
    assert len(found) > 1
    assert max(cells(unpainted(line)) for line in found) <= width


def test_columns_that_matter_least_are_dropped_first() -> None:
    shown = board("ticker", data(frame("ticker", "key order as on the wire")))
    seen: list[set[str]] = []
    for width in (40, 60, 80, 110, 160):
        header = shown.rows(AT_NS, Size(width, 24))[0]
        seen.append(set(header.split()))
    assert all(narrow <= wide for narrow, wide in pairwise(seen))
    assert {"PRODUCT", "LAST", "24H"} <= seen[0]


def test_a_row_that_says_the_same_is_the_same_text() -> None:
    shown = board("ticker", ticker("PF_A"), ticker("PF_B"))
    first = shown.rows(AT_NS, WIDE)
    shown.take([ticker("PF_B", last=7)])
    second = shown.rows(AT_NS, WIDE)
    assert second[1] is first[1]
    assert second[2] != first[2]


def test_only_the_columns_that_were_asked_for() -> None:
    shown = board("ticker", ticker(last=5.0, tag="perpetual"), fields=("product_id", "tag", "last"))
    assert [line.split() for line in shown.rows(AT_NS, WIDE)] == [
        ["PRODUCT", "tag", "LAST"],
        ["PF_XBTUSD", "perpetual", "5"],
    ]


# Outages


def test_while_nothing_comes_rows_are_marked_until_their_next_message() -> None:
    opened = Opened(received_ns=AT_NS, connection=1, url="ws://x")
    lost: Sequence[Event] = [
        Closed(received_ns=AT_NS, connection=1, code=1006, reason=""),
        Redial(received_ns=AT_NS + 1, reason="lost", failed=1, delay_s=1.0),
    ]
    shown = board("ticker", opened, ticker("PF_A"), ticker("PF_B"), color=True)
    shown.rows(AT_NS, WIDE)
    shown.take(lost)
    _, *found = shown.rows(AT_NS, WIDE)
    assert all(row.startswith("\x1b[2m~PF_") for row in found)
    fresh = ticker("PF_A")
    fresh.received_ns = AT_NS + 2
    shown.take([fresh])
    _, first, second = shown.rows(AT_NS, WIDE)
    assert first.startswith("\x1b[1mPF_A")
    assert second.startswith("\x1b[2m~PF_B")


def test_a_loss_beside_another_connection_marks_nothing() -> None:
    opened = [Opened(received_ns=AT_NS, connection=number, url="ws://x") for number in (1, 2)]
    shown = board("ticker", *opened, ticker())
    shown.take([Closed(received_ns=AT_NS, connection=1, code=1006, reason="")])
    shown.take([Redial(received_ns=AT_NS + 1, reason="lost", failed=1, delay_s=1.0)])
    assert products(shown) == ["PF_XBTUSD"]


# Private feeds


def order(number: int, **fields: Any) -> dict[str, Any]:
    return {"instrument": "PF_XBTUSD", "direction": 0, "qty": 5, "filled": 0,
            "limit_price": 100.5, "type": "limit", "order_id": f"id{number}", **fields}  # fmt: skip


def test_orders_come_change_and_go() -> None:
    shown = board(
        "open_orders", said(feed="open_orders_snapshot", orders=[order(1), order(2, direction=1)])
    )
    assert [row["SIDE"] for row in rows(shown)] == ["buy", "sell"]
    shown.take([said(feed="open_orders", order=order(3), is_cancel=False, reason="new")])
    shown.take([said(feed="open_orders", order_id="id1", is_cancel=True, reason="cancelled")])
    shown.take([said(feed="open_orders", order=order(2, qty=3, filled=2), is_cancel=False)])
    assert [(row["QTY"], row["FILLED"]) for row in rows(shown)] == [("3", "2"), ("5", "0")]
    shown.take([said(feed="open_orders", order=order(2, qty=0, filled=5), is_cancel=True)])
    assert len(rows(shown)) == 1
    shown.take([said(feed="open_orders_snapshot", orders=[])])
    assert shown.rows(AT_NS, WIDE) == ["none"]


def test_positions_that_are_not_listed_any_more_are_closed() -> None:
    def positions(*names: str) -> Data:
        values = {"balance": -2, "entry_price": 1, "mark_price": 2, "pnl": 1.5}
        listed = [{"instrument": name, **values} for name in names]
        return said(feed="open_positions", account="x", positions=listed)

    shown = board("open_positions", positions("PF_A", "PF_B"))
    assert products(shown) == ["PF_A", "PF_B"]
    shown.take([positions("PF_B")])
    assert products(shown) == ["PF_B"]
    assert (rows(shown)[0]["SIZE"], rows(shown)[0]["PNL"]) == ("-2", "+1.5")
    shown.take([positions()])
    assert shown.rows(AT_NS, WIDE) == ["none"]


def test_a_change_of_balances_leaves_the_others_as_they_were() -> None:
    shown = board("balances", said(feed="balances_snapshot", holding={"USD": 5000, "XBT": 1}))
    shown.take([said(feed="balances", holding={"XBT": 2.5})])
    assert [(row["NAME"], row["BALANCE"]) for row in rows(shown)] == [
        ("USD", "5,000"),
        ("XBT", "2.5"),
    ]


def test_the_old_margin_accounts_have_a_row_each() -> None:
    shown = board("account_balances_and_margins", *all_data())
    assert len(rows(shown)) >= 1


def test_numbers_that_no_eye_takes_in_are_shortened() -> None:
    shown = board("ticker", ticker(openInterest=13_539_419_028_000.0, volume=28_913_184_123.0))
    assert rows(shown)[0]["OPEN"] == "13.5394T"
    assert "28.9132B" in shown.rows(AT_NS, WIDE)[1]


@pytest.mark.parametrize("price", ["1e400", "-1e400", "NaN"])
def test_a_price_beyond_all_numbers_stops_no_picture(price: str) -> None:
    found = board("ticker", ticker(last=84000.0))
    rows(found)
    for second in range(1, 4):
        odd = ticker(last=84000.0 + second)
        payload = odd.payload.replace(b'"last":%b' % str(84000.0 + second).encode(), b'"last":' + (
            price if price[-1] != "N" else '"NaN"'
        ).encode())  # fmt: skip
        found.take(
            [
                Data(
                    payload=payload,
                    received_ns=AT_NS,
                    feed="ticker",
                    product="PF_XBTUSD",
                    seq=second,
                )
            ]
        )
        assert len(found.rows(AT_NS + second * 10**9, WIDE)) == 2


def test_rows_that_were_out_of_sight_come_back_in_the_layout_of_now() -> None:
    names = [f"PF_{letter}USD" for letter in "ABCDEF"]
    found = board("ticker", *(ticker(name) for name in names))
    for size in (Size(120, 10), Size(120, 4), Size(60, 4), Size(60, 10)):
        shown = found.rows(AT_NS, size)
    assert shown == board("ticker", *(ticker(name) for name in names)).rows(AT_NS, Size(60, 10))
    assert all(cells(unpainted(line)) <= 60 for line in shown)


def test_orders_are_folded_also_while_nothing_is_drawn() -> None:
    found = board("open_orders")
    for number in range(3 * QUEUED_MOST):
        found.take([said(feed="open_orders", order=order(number % 3), is_cancel=False)])
    assert len(found._state._queue) < QUEUED_MOST
    assert len(rows(found)) == 3


def test_on_a_very_tall_terminal_rows_take_turns_and_all_are_brought_up_to_date() -> None:
    names = [f"PF_{number:03}USD" for number in range(250)]
    found = board("ticker", *(ticker(name, last=100.0) for name in names), order=names)
    size = Size(80, 300)
    assert len(found.rows(AT_NS, size)) == 251
    found.take([ticker(name, last=200.0) for name in names])
    at = AT_NS + 10**9
    counts = [
        sum("200▲" in line for line in found.rows(at + turn * 10**8, size)) for turn in range(3)
    ]
    assert counts == [ROWS_AT_ONCE, 2 * ROWS_AT_ONCE, 250]


def test_the_trend_of_a_row_goes_on_while_it_is_out_of_sight() -> None:
    names = ["PF_AUSD", "PF_BUSD", "PF_CUSD"]
    found = board("ticker", *(ticker(name, last=100.0) for name in names), order=names)
    for second in range(1, 9):
        found.take([ticker("PF_CUSD", last=100.0 + second)])
        found.rows(AT_NS + second * 10**9, Size(140, 2))
    line = found.rows(AT_NS + 9 * 10**9, Size(140, 10))[3]
    assert "▁▂▃▄▅▆▇█" in line
