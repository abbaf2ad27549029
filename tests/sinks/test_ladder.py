"""Ladders as a person sees them: in one precision, never too wide, stale said in a word."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import Closed, Data, Event, Opened, Redial, Refused, Stale
from kfws.sinks.ladder import Ladder
from kfws.sinks.paint import Paint, cells, unpainted
from kfws.sinks.screen import Size
from tests.golden_files import assert_golden
from tests.protocol.test_book import ASKS, BIDS, delta, level, snapshot
from tests.sinks.market import played

PRODUCTS = ("PF_XBTUSD", "PF_ETHUSD", "PF_PEPEUSD", "PI_XBTUSD")


def ladder(*events: Event, products: tuple[str, ...] = ("PF_XBTUSD",), **options: Any) -> Ladder:
    view = Ladder(products, **{"paint": Paint(False), **options})
    view.take(events)
    return view


def seen(view: Ladder, columns: int = 60, lines: int = 9) -> list[str]:
    return [row.rstrip() for row in view.rows(0, Size(columns, lines))]


def of(product: str, message: Data) -> Data:
    message.product = product
    return message


# Pictures


@pytest.mark.golden
@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_person_sees_the_picture_of_the_golden_file(width: int) -> None:
    plain, colored = (Ladder(PRODUCTS, paint=Paint(color)) for color in (False, True))
    size = Size(width, 22)
    for now_ns, events in played(("book",), PRODUCTS, 3.0):
        for view in (plain, colored):
            view.take(events)
            assert view.above(now_ns, size) == []
        rows, painted = plain.rows(now_ns, size), colored.rows(now_ns, size)
        assert [unpainted(row) for row in painted] == rows
        assert max(map(cells, rows)) <= width
    assert_golden(f"ladder-{width}.txt", "\n".join(rows))
    assert_golden(f"ladder-{width}.ansi", "\n".join(painted))


@pytest.mark.golden
def test_a_person_sees_groups_and_what_is_stale() -> None:
    steps = {"PF_XBTUSD": Decimal(10), "PF_ETHUSD": Decimal("0.5")}
    view = Ladder(PRODUCTS[:2], paint=Paint(True), depth=5, steps=steps)
    for _, events in played(("book",), PRODUCTS[:2], 3.0):
        view.take(events)
    view.take([Stale(received_ns=1, feed="book", product="PF_ETHUSD")])
    assert_golden("ladder-groups.ansi", "\n".join(view.rows(0, Size(80, 22))))


def test_both_sides_stand_around_the_spread() -> None:
    assert seen(ladder(snapshot(100, BIDS, ASKS))) == [
        "PF_XBTUSD                                           33% bids",
        "    PRICE SIZE TOTAL DEPTH",
        "",
        "ask 102.0  4.0   7.0 ███████████████████████████████████████",
        "ask 101.0  3.0   3.0 ████████████████▊",
        "── spread 2.0 · mid 100.0 · 200.00 bp ──────────────────────",
        "bid  99.0  1.0   1.0 █████▋",
        "bid  98.5  2.5   3.5 ███████████████████▌",
        "",
    ]


# Stale


def test_before_its_snapshot_a_product_waits() -> None:
    rows = seen(ladder())
    assert rows[0].endswith("waiting for its snapshot")
    assert [*filter(None, rows[2:])] == []


def test_what_is_stale_says_so_in_a_word_until_the_next_snapshot() -> None:
    view = ladder(snapshot(100, BIDS, ASKS), delta(102, "buy", "99.5"))
    assert seen(view)[0].endswith(" STALE until its next snapshot")
    assert seen(view, columns=38)[0].endswith(" STALE")
    view.take([snapshot(103, BIDS, ASKS)])
    assert seen(view)[0].endswith("33% bids")


def test_a_lost_connection_makes_all_of_them_stale() -> None:
    view = ladder(
        Opened(received_ns=1, connection=1, url="ws://x"),
        snapshot(1, BIDS, ASKS),
        of("PF_ETHUSD", snapshot(1, BIDS, ASKS)),
        Closed(received_ns=1, connection=1, code=1006, reason=""),
        Redial(received_ns=1, reason="", failed=0, delay_s=1.0),
        products=("PF_XBTUSD", "PF_ETHUSD"),
    )
    assert seen(view, columns=80)[0].count("STALE") == 2


# Sides


@pytest.mark.parametrize(
    ("bids", "asks", "said"),
    [
        ("", "", "── no asks and no bids ─"),
        (BIDS, "", "── no asks ─"),
        ("", ASKS, "── no bids ─"),
        (level("102.0", "1"), ASKS, "── crossed -1 · mid 101.5 · -98.52 bp ─"),
        (level("101.0", "1"), ASKS, "── crossed 0 · mid 101 · 0.00 bp ─"),
        (level("-3.0", "1"), level("-2.0", "1"), "── spread 1 · mid -2.5 ─"),
    ],
)
def test_the_row_between_says_what_is_there(bids: str, asks: str, said: str) -> None:
    assert seen(ladder(snapshot(1, bids, asks)))[5].startswith(said)


# Products


def test_products_beyond_the_width_are_counted() -> None:
    products = ("PF_XBTUSD", "PF_ETHUSD", "PF_SOLUSD")
    assert seen(ladder(products=products))[-1] == "2 more: PF_ETHUSD, PF_SOLUSD"
    assert seen(ladder(products=products), columns=80)[-1] == "1 more: PF_SOLUSD"
    assert "more" not in seen(ladder(products=products), columns=140)[-1]


def test_a_refused_product_makes_room_for_the_next() -> None:
    refused = Refused(payload=b"", received_ns=1, feed="book", product="PF_NO", message="no")
    other = Refused(payload=b"", received_ns=1, feed="trade", product="PF_XBTUSD", message="no")
    view = ladder(refused, other, products=("PF_NO", "PF_XBTUSD"))
    assert seen(view)[0].startswith("PF_XBTUSD")
    view.take([refused])
    assert seen(ladder(refused, products=("PF_NO",))) == []


def test_products_that_nobody_named_stand_behind_those_that_were() -> None:
    view = ladder(of("PF_ETHUSD", snapshot(1)), products=("PF_XBTUSD",))
    top = seen(view, columns=80)[0]
    assert top.index("PF_XBTUSD") < top.index("PF_ETHUSD")


def test_names_of_the_venue_are_harmless() -> None:
    view = ladder(of("PF_\x1b[2J", snapshot(1)), of("\u202e\n", snapshot(1)), products=())
    assert all(row.isprintable() for columns in (30, 80) for row in seen(view, columns))


# Numbers


def test_columns_keep_their_precision_and_width_when_numbers_get_shorter() -> None:
    view = ladder(snapshot(1, level("1000.25", "7"), level("1001.5", "1234.125")))
    before = seen(view)
    assert before[4].split()[:4] == ["ask", "1,001.50", "1,234.125", "1,234.125"]
    assert before[6].split()[:4] == ["bid", "1,000.25", "7.000", "7.000"]
    view.take([snapshot(2, level("1", "7"), level("2", "1"))])
    after = seen(view)
    assert after[4].split()[:4] == ["ask", "2.00", "1.000", "1.000"]
    assert after[1] == before[1]


def test_prices_have_the_digits_of_their_tick_from_the_start() -> None:
    view = ladder(snapshot(1, level("84001", "1")), places={"PF_XBTUSD": 1})
    assert seen(view)[6].split()[:2] == ["bid", "84,001.0"]


def test_small_numbers_are_written_out() -> None:
    view = ladder(snapshot(1, level("9.8195E-6", "1E+6"), level("9.82E-6", "2")))
    assert seen(view)[6].split()[:3] == ["bid", "0.0000098195", "1,000,000"]


def test_totals_give_way_where_bars_would_have_no_room() -> None:
    view = ladder(snapshot(1, level("0.0000098195", "1234567890.0")))
    assert "TOTAL" in seen(view)[1]
    assert "TOTAL" not in seen(view, columns=38)[1]
    assert "DEPTH" in seen(view, columns=38)[1]


def test_bars_are_full_to_an_eighth() -> None:
    levels = ",".join(level(f"{100 - at}.0", "1.0") for at in range(4))
    rows = seen(ladder(snapshot(1, levels, level("200.0", "0.1"))), lines=11)
    room = 60 - len("bid 100.0  1.0   1.0 ")
    shown = [row.split()[4] for row in rows[7:11]]
    eighths = [8 * bar.count("█") + " ▏▎▍▌▋▊▉".find(bar.strip("█")) for bar in shown]
    assert eighths == [round(room * 8 * share / 4) for share in (1, 2, 3, 4)]
    assert rows[5].split()[4] == "█"


# Room


@pytest.mark.parametrize(("lines", "depth"), [(4, 1), (5, 1), (8, 2), (24, 10), (25, 11)])
def test_as_many_levels_are_shown_as_fit(lines: int, depth: int) -> None:
    many = ",".join(level(f"{price}.0", "1") for price in range(1, 50))
    view = ladder(snapshot(1, many, many))
    rows = seen(view, lines=lines)
    assert len(rows) <= lines
    assert sum(row.startswith("bid") for row in rows) in (depth, lines - 4)
    wanted = ladder(snapshot(1, many, many), depth=3)
    assert sum(row.startswith("ask") for row in seen(wanted, lines=40)) == 3


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_a_picture_of_few_lines_has_no_more(lines: int) -> None:
    assert len(seen(ladder(snapshot(1, BIDS, ASKS)), lines=lines)) == lines


def test_a_picture_that_did_not_change_is_the_same_one() -> None:
    view = ladder(snapshot(100, BIDS, ASKS))
    before = view.rows(0, Size(60, 7))
    view.take([delta(101, "buy", "1.0")])  # out of sight
    assert view.rows(1, Size(60, 7)) == before
    assert view.rows(1, Size(61, 7)) != before
    assert view.rows(1, Size(60, 7)) == before


@pytest.mark.parametrize("columns", range(40))
def test_a_narrow_terminal_gets_what_fits(columns: int) -> None:
    rows = ladder(snapshot(1, BIDS, ASKS)).rows(0, Size(columns, 9))
    assert max(map(cells, rows)) <= columns


SIZES = ("1", "0.00000001", "123456789.5", "1e30", "5e-324", "1e308")


@given(
    st.integers(0, 150),
    st.integers(0, 40),
    st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from(SIZES)), max_size=5),
    st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from(SIZES)), max_size=5),
    st.sampled_from(["PF_XBTUSD", "PF_漢字", "x" * 200]),
    st.booleans(),
)
def test_no_row_is_wider_than_the_terminal_and_colours_change_no_text(
    columns: int,
    lines: int,
    bids: list[tuple[str, str]],
    asks: list[tuple[str, str]],
    product: str,
    stale: bool,
) -> None:
    sides = [",".join(level(*each) for each in side) for side in (bids, asks)]
    events: list[Event] = [snapshot(1, *sides), of(product, snapshot(1, *sides))]
    if stale:
        events.append(Stale(received_ns=1, feed="book", product=product))
    plain, colored = (
        ladder(*events, products=("PF_XBTUSD", product), paint=Paint(color))
        for color in (False, True)
    )
    rows = plain.rows(0, Size(columns, lines))
    assert len(rows) <= lines
    assert max(map(cells, rows), default=0) <= columns
    painted = colored.rows(0, Size(columns, lines))
    assert [unpainted(row) for row in painted] == rows
