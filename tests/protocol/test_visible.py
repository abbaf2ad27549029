"""What is looked at of books: it differs exactly when a rebuild of the book looks otherwise."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.book import Level, Side
from kfws.protocol.events import Closed, Data, Event, Gap, Opened, Redial, Stale
from kfws.protocol.visible import Books, Visible
from tests.protocol.test_book import (
    ASKS,
    BIDS,
    Rebuilt,
    changes,
    delta,
    level,
    levels,
    read,
    snapshot,
)

Seen = tuple[list[Level], list[Level], bool]


def visible(*messages: Data, depth: int = 2, step: str | None = None) -> Visible:
    seen = Visible(depth, Decimal(step) if step else None)
    for message in messages:
        seen.apply(message)
    return seen


def prices(levels: list[Level]) -> list[str]:
    return [each.price for each in levels]


def test_before_the_first_snapshot_there_is_nothing_to_see() -> None:
    seen = visible(delta(7))
    assert not seen.look()
    assert (seen.bids, seen.asks, seen.stale, seen.depth) == ([], [], True, 2)


def test_an_empty_book_is_something_to_see() -> None:
    seen = visible(snapshot(1))
    assert seen.look()
    assert (seen.bids, seen.asks, seen.stale) == ([], [], False)
    assert not seen.look()


@pytest.mark.parametrize(
    ("side", "price", "qty", "differs"),
    [
        ("buy", "99.0", "7.0", True),
        ("buy", "98.5", "0.0", True),
        ("buy", "98.0", "7.0", False),
        ("buy", "98.7", "0.0", False),
        ("sell", "101.5", "7.0", True),
        ("sell", "102", "4", False),  # as it was
        ("sell", "102.5", "7.0", False),
    ],
)
def test_only_what_is_visible_makes_a_difference(
    side: Side, price: str, qty: str, differs: bool
) -> None:
    seen = visible(snapshot(100, BIDS, ASKS))
    assert seen.look()
    seen.apply(delta(101, side, price, qty))
    assert seen.look() is differs
    assert not seen.look()


def test_what_was_hidden_comes_up_when_a_better_level_goes() -> None:
    seen = visible(snapshot(100, BIDS), delta(101, "buy", "98.0", "3.0"))
    assert seen.look()
    assert prices(seen.bids) == ["99.0", "98.5"]
    seen.apply(delta(102, "buy", "99.0", "0.0"))
    assert seen.look()
    assert prices(seen.bids) == ["98.5", "98.0"]


def test_where_there_is_room_left_every_price_is_visible() -> None:
    seen = visible(snapshot(100, BIDS, ASKS), depth=3)
    assert seen.look()
    for number, side, price in ((101, "buy", "1.0"), (102, "sell", "900.0")):
        seen.apply(delta(number, "buy" if side == "buy" else "sell", price))
        assert seen.look()


def test_a_late_copy_or_a_broken_message_shows_nothing_new() -> None:
    seen = visible(snapshot(100, BIDS, ASKS))
    assert seen.look()
    seen.apply(delta(100, "buy", "99.0", "9.0"))
    assert not seen.look()
    seen.apply(read(b'{"feed":"book","product_id":"PF_XBTUSD","seq":101,"side":"buy"}'))
    assert seen.look()  # for it is stale
    assert (seen.stale, prices(seen.bids)) == (True, ["99.0", "98.5"])


def test_a_gap_out_of_sight_is_seen_all_the_same() -> None:
    seen = visible(snapshot(100, BIDS, ASKS))
    assert seen.look()
    seen.apply(delta(102, "buy", "1.0"))
    assert seen.look()
    assert seen.stale
    seen.apply(snapshot(103, BIDS, ASKS))
    assert seen.look()
    assert not seen.stale


def test_more_or_fewer_levels_are_seen_at_the_next_look() -> None:
    seen = visible(snapshot(100, BIDS, ASKS))
    assert seen.look()
    seen.show(1)
    assert seen.look()
    assert (prices(seen.bids), prices(seen.asks)) == (["99.0"], ["101.0"])
    seen.apply(delta(101, "buy", "98.5", "7.0"))
    assert not seen.look()
    seen.show(5)
    assert seen.look()
    assert len(seen.bids) == 2


# In groups


@pytest.mark.parametrize(
    ("step", "bids", "asks"),
    [
        ("1", [("99", "1.0"), ("98", "2.50")], [("101", "3.0"), ("102", "4")]),
        ("5.0", [("95.0", "3.50")], [("105.0", "7.0")]),
        ("0.25", [("99.00", "1.0"), ("98.50", "2.50")], [("101.00", "3.0"), ("102.00", "4")]),
        ("100", [("0", "3.50")], [("200", "7.0")]),
    ],
)
def test_groups_end_away_from_the_spread_and_sum_exactly(
    step: str, bids: list[Level], asks: list[Level]
) -> None:
    seen = visible(snapshot(100, BIDS, ASKS), depth=5, step=step)
    assert seen.look()
    assert (seen.bids, seen.asks) == (bids, asks)


def test_groups_of_prices_below_zero_end_away_from_the_spread_too() -> None:
    below = ",".join(level(price, "1") for price in ("-1.5", "-2", "-2.5"))
    seen = visible(snapshot(100, below, below), depth=5, step="1")
    assert seen.look()
    assert seen.bids == [("-2", "2"), ("-3", "1")]
    assert seen.asks == [("-2", "2"), ("-1", "1")]


def test_a_tenth_and_two_tenths_are_three_tenths() -> None:
    dimes = ",".join([level("99.1", "0.1"), level("99.2", "0.2")])
    seen = visible(snapshot(100, dimes), step="1")
    assert seen.look()
    assert seen.bids == [("99", "0.3")]


@pytest.mark.parametrize("odd", ["1e308", "1e-999999999999999999999", "4e-320", "123456789" * 30])
def test_numbers_of_any_size_are_grouped(odd: str) -> None:
    seen = visible(snapshot(100, level(odd, odd) if float(odd) else "", level(odd, "1")), step="5")
    assert seen.look()
    assert len(seen.asks) == 1


# Against an oracle: a book built anew from all messages, and looked at


def seen_anew(messages: list[Data], depth: int, step: Decimal | None, stale: bool) -> Seen:
    book = Rebuilt(messages)
    sides = [book.levels(side) for side in ("buy", "sell")]
    if step is not None:
        sides = [grouped(side, step, up) for side, up in zip(sides, (False, True), strict=True)]
    return sides[0][:depth], sides[1][:depth], stale


def grouped(levels: list[Level], step: Decimal, up: bool) -> list[Level]:
    ends: dict[int, Decimal] = {}
    for price, qty in levels:
        number = Fraction(price) / Fraction(step)
        end = ceil(number) if up else floor(number)
        ends[end] = ends.get(end, Decimal(0)) + Decimal(qty)
    return [Level(str(end * step), str(qty)) for end, qty in ends.items()]


@given(
    st.integers(1, 4),
    st.sampled_from([None, Decimal("0.5"), Decimal(1), Decimal(10)]),
    st.lists(levels, max_size=6),
    st.lists(levels, max_size=6),
    st.lists(st.tuples(changes, st.booleans()), max_size=30),
)
def test_a_look_tells_exactly_what_a_rebuild_of_all_messages_tells(
    depth: int,
    step: Decimal | None,
    bids: list[tuple[str, str]],
    asks: list[tuple[str, str]],
    told: list[tuple[tuple[Side, tuple[str, str]], bool]],
) -> None:
    sides = [",".join(level(*each) for each in side) for side in (bids, asks)]
    seen = Visible(depth, step)
    messages: list[Data] = []
    before: Seen = ([], [], True)
    stale = False
    seq = 100
    came = [(snapshot(seq, *sides), False)]
    for (side, each), lost in told:
        seq += 2 if lost else 1
        came.append((delta(seq, side, *each), lost))
    for message, lost in came:
        stale |= lost
        messages.append(message)
        seen.apply(message)
        now = seen_anew(messages, depth, step, stale)
        assert seen.look() is (now != before)
        assert (seen.bids, seen.asks, seen.stale) == now
        before = now


# The books of a run


def opened(connection: int) -> Opened:
    return Opened(received_ns=1, connection=connection, url="ws://x")


def closed(connection: int) -> Closed:
    return Closed(received_ns=1, connection=connection, code=1006, reason="")


REDIAL = Redial(received_ns=1, reason="", failed=0, delay_s=1.0)


def stale_of(books: Books) -> list[bool]:
    return [seen.book.stale for seen in books.of.values()]


def other(message: Data, product: str | None) -> Data:
    message.product = product
    return message


def run(*events: Event) -> tuple[Books, list[list[str]]]:
    books = Books(2, {"PF_XBTUSD": Decimal(5)})
    return books, [[*books.apply(event)] for event in events]


def test_each_product_has_a_book_of_its_own() -> None:
    books, told = run(
        snapshot(1, BIDS), other(snapshot(9, ASKS), "PF_ETHUSD"), delta(2, "buy", "96.0", "2.0")
    )
    assert told == [["PF_XBTUSD"], ["PF_ETHUSD"], ["PF_XBTUSD"]]
    assert [seen.look() for seen in books.of.values()] == [True, True]
    assert books.of["PF_XBTUSD"].bids == [("95", "5.50")]
    assert prices(books.of["PF_ETHUSD"].bids) == ["102", "101.0"]


def test_what_is_no_message_of_a_book_is_passed_over() -> None:
    trade = Data(
        payload=b'{"feed":"trade"}', received_ns=1, feed="trade", product="PF_XBTUSD", seq=7
    )
    gap = Gap(
        received_ns=1, feed="book", product="PF_XBTUSD", first=1, last=1, missing=1,
        cause="venue", from_ns=1, to_ns=1,
    )  # fmt: skip
    books, told = run(trade, other(snapshot(1), None), gap, REDIAL)
    assert told == [[], [], [], []]
    assert books.of == {}


def test_a_lost_connection_makes_all_books_stale_when_it_is_dialled_anew() -> None:
    books, told = run(opened(1), snapshot(1), closed(1), REDIAL)
    assert told == [[], ["PF_XBTUSD"], [], ["PF_XBTUSD"]]
    assert stale_of(books) == [True]


def test_a_connection_that_was_closed_for_good_leaves_books_as_they_are() -> None:
    books, _ = run(opened(1), snapshot(1), closed(1))
    assert stale_of(books) == [False]


def test_books_are_as_good_as_before_while_another_connection_stands() -> None:
    books, _ = run(opened(1), opened(2), snapshot(1), closed(1), REDIAL)
    assert stale_of(books) == [False]
    assert books.apply(closed(2)) == ()
    assert books.apply(REDIAL) == ["PF_XBTUSD"]
    assert stale_of(books) == [True]


def test_a_book_that_is_asked_for_anew_is_stale() -> None:
    books, _ = run(snapshot(1), other(snapshot(1), "PF_ETHUSD"))
    for product, told in (("PF_ETHUSD", ["PF_ETHUSD"]), ("PF_SOLUSD", []), (None, [])):
        event = Stale(received_ns=1, feed="book", product=product)
        assert [*books.apply(event)] == told
    assert stale_of(books) == [False, True]


def test_all_books_show_as_many_levels_as_asked_for() -> None:
    books, _ = run(snapshot(1), other(snapshot(1), "PF_ETHUSD"))
    for depth in (2, 5):
        books.show(depth)
        assert [seen.depth for seen in books.of.values()] == [depth, depth]
    books.apply(other(snapshot(1), "PF_SOLUSD"))
    assert books.of["PF_SOLUSD"].depth == 5
