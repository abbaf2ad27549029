"""Snapshots that were looked up, among the events of a stream that is read from the middle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.book import Book
from kfws.protocol.events import Data, Event, Gap, Restart
from kfws.sources.weaving import Kept, Weaving

MS = 1_790_360_004_000


def delta(seq: int, product: str = "PF_XBTUSD", *, at_ms: int = 0, feed: str = "book") -> Data:
    price = 100 + seq * 7 % 10  # levels are set again, and some are taken out
    at_ms = at_ms or MS + seq
    text = (
        f'{{"feed":"{feed}","product_id":"{product}","side":"buy","seq":{seq},"price":{price}.0,'
        f'"qty":{seq * 3 % 5},"timestamp":{at_ms}}}'
    )
    return Data(
        payload=text.encode(),
        received_ns=at_ms * 1_000_000,
        feed=feed,
        product=product,
        seq=seq,
        venue_ms=at_ms,
    )


def snapshot(seq: int, product: str = "PF_XBTUSD", *, at_ms: int = 0, bids: str = "") -> Data:
    at_ms = at_ms or MS + seq
    text = (
        f'{{"feed":"book_snapshot","product_id":"{product}","timestamp":{at_ms},"seq":{seq},'
        f'"tickSize":null,"bids":[{bids}],"asks":[]}}'
    )
    return Data(
        payload=text.encode(),
        received_ns=at_ms * 1_000_000,
        feed="book",
        kind="snapshot",
        product=product,
        seq=seq,
        venue_ms=at_ms,
    )


def folded(events: list[Event]) -> Book:
    book = Book()
    for each in events:
        assert type(each) is Data
        book.apply(each)
    return book


def snapshot_of(book: Book) -> Data:
    bids = ",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in book.levels("buy"))
    return snapshot(book.seq or 0, bids=bids)


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 8), st.booleans())
def test_a_book_read_from_the_middle_is_that_which_was_read_from_the_beginning(
    kept_at: int, ahead: int, cut: int, is_early: bool
) -> None:
    whole: list[Event] = [snapshot(0), *map(delta, range(1, 61))]
    kept = snapshot_of(folded(whole[: kept_at + 1]))
    weaving = Weaving([Kept(kept, is_early)])
    came: list[Event] = []
    rest = whole[max(1, kept_at + 1 - ahead) :]
    for at in range(0, len(rest), cut):
        came += weaving.take(rest[at : at + cut])
    came += weaving.catch_up()
    here, there = folded(came), folded(whole)
    assert not here.stale
    assert (here.seq, here.levels("buy")) == (there.seq, there.levels("buy"))
    if is_early:
        assert came[0] is kept
        assert [each.seq for each in came if type(each) is Data] == [*range(kept_at, 61)]
    else:
        assert [each for each in came if each is not kept] == rest


def test_what_nothing_followed_is_given_when_all_came_and_once() -> None:
    weaving = Weaving([Kept(snapshot(9), True), Kept(snapshot(5, "PF_ETHUSD"), True)])
    assert weaving.take([delta(8), delta(9)]) == []
    assert weaving.catch_up() == [snapshot(9), snapshot(5, "PF_ETHUSD")]
    assert weaving.catch_up() == []
    assert weaving.take([delta(9), snapshot(9), delta(10)]) == [delta(10)]


def test_messages_of_others_pass() -> None:
    weaving = Weaving([Kept(snapshot(9), True)])
    others: list[Event] = [delta(1, feed="trade"), delta(1, "PF_ETHUSD")]
    assert weaving.take(others) == others


def test_a_snapshot_of_the_stream_that_is_newer_takes_its_place() -> None:
    weaving = Weaving([Kept(snapshot(9), True)])
    assert weaving.take([snapshot(5), snapshot(12), delta(13)]) == [snapshot(12), delta(13)]
    assert weaving.catch_up() == []


def test_the_same_snapshot_in_the_stream_is_given_once() -> None:
    weaving = Weaving([Kept(snapshot(9), True)])
    assert weaving.take([delta(9), snapshot(9), delta(10)]) == [snapshot(9), delta(10)]


def test_what_the_venue_counted_before_it_began_anew_is_older_whatever_its_number() -> None:
    weaving = Weaving([Kept(snapshot(9, at_ms=MS + 60_000), True)])
    restart = Restart(
        received_ns=1, feed="book", product="PF_XBTUSD", last=5_000, seq=1, from_ns=0, to_ns=1,
        venue_ms=MS + 50_000,
    )  # fmt: skip
    old: list[Event] = [delta(5_000, at_ms=MS), restart, delta(5, at_ms=MS + 59_990)]
    assert weaving.take(old) == []
    following = delta(10, at_ms=MS + 60_001)
    assert weaving.take([following]) == [snapshot(9, at_ms=MS + 60_000), following]


@pytest.mark.parametrize(("last", "is_told"), [(9, False), (10, True), (None, True)])
def test_gaps_that_the_snapshot_fills_are_none(last: int | None, is_told: bool) -> None:
    weaving = Weaving([Kept(snapshot(9), True)])
    gap = Gap(
        received_ns=1, feed="book", product="PF_XBTUSD", first=7, last=last, missing=None,
        cause="venue", from_ns=0, to_ns=1,
    )  # fmt: skip
    assert weaving.take([gap]) == ([gap] if is_told else [])
