"""The order book: a fold that is always what a rebuild would be, or says that it is stale."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol import wire
from kfws.protocol.book import Book, Level, Side
from kfws.protocol.events import Data, Kind
from kfws.protocol.feeds import base_name
from kfws.sim.market import Market
from tests.frames_of import frame, frames

START_MS = 1_790_359_964_000


def read(payload: bytes, received_ns: int = 0) -> Data:
    """A payload as a Session gives it."""
    head = wire.read_head(payload)
    assert isinstance(head, Data)
    feed, is_snapshot = base_name(head.feed)
    kind: Kind = "snapshot" if is_snapshot else "delta"
    return Data(
        payload=payload,
        received_ns=received_ns,
        feed=feed,
        kind=kind,
        product=head.product,
        seq=head.seq,
        venue_ms=head.timestamp,
    )


def level(price: str, qty: str) -> str:
    return f'{{"price":{price},"qty":{qty}}}'


def snapshot(
    seq: int = 100,
    bids: str = "",
    asks: str = "",
    *,
    venue_ms: int = START_MS,
    received_ns: int = 0,
) -> Data:
    payload = (
        f'{{"feed":"book_snapshot","product_id":"PF_XBTUSD","timestamp":{venue_ms},"seq":{seq},'
        f'"tickSize":null,"bids":[{bids}],"asks":[{asks}]}}'
    )
    return read(payload.encode(), received_ns)


def delta(
    seq: int,
    side: Side = "buy",
    price: str = "1.0",
    qty: str = "1.0",
    *,
    venue_ms: int = START_MS,
    received_ns: int = 0,
    more: str = "",
) -> Data:
    payload = (
        f'{{"feed":"book","product_id":"PF_XBTUSD","side":"{side}","seq":{seq},'
        f'"price":{price},"qty":{qty},"timestamp":{venue_ms}{more}}}'
    )
    return read(payload.encode(), received_ns)


def book(*messages: Data) -> Book:
    folded = Book()
    for message in messages:
        folded.apply(message)
    return folded


def sides(book: Book) -> tuple[list[Level], list[Level]]:
    return book.levels("buy"), book.levels("sell")


BIDS = ",".join([level("99.0", "1.0"), level("98.5", "2.50")])
ASKS = ",".join([level("101.0", "3.0"), level("102", "4")])


# What a book is


def test_before_the_first_snapshot_nothing_is_known() -> None:
    fresh = book(delta(7))
    assert fresh.stale
    assert (fresh.seq, fresh.venue_ms, fresh.received_ns) == (None, None, None)
    assert sides(fresh) == ([], [])
    assert fresh.best() == (None, None)
    assert not fresh.is_crossed
    assert fresh.crossed_since_ns() is None


def test_a_snapshot_is_the_whole_book() -> None:
    whole = book(snapshot(100, BIDS, ASKS, received_ns=5))
    assert not whole.stale
    assert (whole.seq, whole.venue_ms, whole.received_ns) == (100, START_MS, 5)
    assert sides(whole) == ([("99.0", "1.0"), ("98.5", "2.50")], [("101.0", "3.0"), ("102", "4")])
    assert whole.best() == (("99.0", "1.0"), ("101.0", "3.0"))


def test_a_later_snapshot_leaves_no_ghosts() -> None:
    again = book(snapshot(100, BIDS, ASKS), snapshot(7, level("50.0", "1.0")))
    assert (again.seq, sides(again)) == (7, ([("50.0", "1.0")], []))


def test_levels_are_sorted_whatever_their_order_on_the_wire() -> None:
    mixed = ",".join(level(price, "1") for price in ("9.5", "10.0", "1e1", "8"))
    both = book(snapshot(1, mixed, mixed))
    assert [each.price for each in both.levels("buy")] == ["1e1", "9.5", "8"]
    assert [each.price for each in both.levels("sell")] == ["8", "9.5", "1e1"]


@pytest.mark.parametrize(("depth", "seen"), [(0, 0), (1, 1), (2, 2), (3, 2), (None, 2)])
def test_the_best_levels_can_be_had_alone(depth: int | None, seen: int) -> None:
    whole = book(snapshot(100, BIDS, ASKS))
    for side in ("buy", "sell"):
        assert whole.levels(side, depth) == whole.levels(side)[:seen]
        assert len(whole.levels(side, depth)) == seen


def test_a_delta_sets_the_whole_quantity_of_a_level() -> None:
    changed = book(
        snapshot(100, BIDS, ASKS),
        delta(101, "buy", "99.0", "7.0"),
        delta(102, "sell", "100.5", "0.10", venue_ms=START_MS + 3, received_ns=9),
    )
    assert changed.best() == (("99.0", "7.0"), ("100.5", "0.10"))
    assert (changed.seq, changed.venue_ms, changed.received_ns) == (102, START_MS + 3, 9)
    assert not changed.stale


@pytest.mark.parametrize("nothing", ["0", "0.0", "0e5", "-1.0", "-0"])
def test_a_quantity_of_zero_or_less_takes_a_level_out(nothing: str) -> None:
    for looked_at in (False, True):
        changed = book(snapshot(100, BIDS, ASKS))
        if looked_at:
            changed.best()
        changed.apply(delta(101, "sell", "101", nothing))
        changed.apply(delta(102, "sell", "555", nothing))
        assert changed.levels("sell") == [("102", "4")]
        assert not changed.stale


@pytest.mark.parametrize(
    ("price", "qty"),
    [("84001", "2"), ("84001.0", "0.0400"), ("8.4001E4", "1e-3"), ("84001.000000000001", "1.10")],
)
def test_digits_stay_as_the_venue_spelled_them(price: str, qty: str) -> None:
    spelled = book(snapshot(1, level(price, qty)), delta(2, "sell", "1" + price, qty))
    assert spelled.best()[0] == (price, qty)
    assert spelled.levels("sell")[-1] == ("1" + price, qty)


def test_two_spellings_of_one_price_are_one_level_and_the_last_one_counts() -> None:
    respelled = book(snapshot(1, level("84001", "1")), delta(2, "buy", "84001.0", "2"))
    assert respelled.levels("buy") == [("84001.0", "2")]


def test_a_level_holds_on_to_no_long_message() -> None:
    padded = delta(2, "buy", "5.0", "2.0", more=f',"note":"{"x" * 1000}"')
    assert book(snapshot(1), padded).levels("buy") == [("5.0", "2.0")]


# The venue's own frames


def test_a_recorded_run_of_frames_folds_to_the_book_it_tells_of() -> None:
    came = map(read, (*frames("book", kind="snapshot"), *frames("book", kind="delta")))
    start, *run = [each for each in came if each.seq in range(173877391, 173877395)]
    folded = book(start, *run)
    assert not folded.stale
    assert folded.seq == 173877394
    assert [each.price for each in folded.levels("buy")] == [
        "82380.0", "82379.0", "82378.0", "82343.0", "81529.0", "81235.0",
    ]  # fmt: skip
    folded.apply(read(frame("book", "a gap: 173877395 is missing")))
    assert folded.stale
    assert folded.best()[1] == ("82382.0", "0.4345")


def test_levels_of_no_quantity_in_a_snapshot_are_skipped() -> None:
    folded = book(read(frame("book", "zero-quantity levels can appear")))
    assert sides(folded) == (
        [("3161.9", "1.204"), ("3161.5", "22.5")],
        [("3162.1", "4.75")],
    )
    folded.apply(read(frame("book", "removal of a level the client never saw")))
    folded.apply(read(frame("book", "negative quantity")))
    assert not folded.stale
    assert folded.levels("buy") == [("3161.9", "1.204")]


def test_empty_and_one_sided_books_are_legal() -> None:
    folded = book(read(frame("book", "empty side(s) are legal")))
    assert not folded.stale
    assert folded.best() == (None, None)
    folded.apply(delta(2, "sell", "5.0", "1.0"))
    assert folded.best() == (None, ("5.0", "1.0"))
    assert not folded.is_crossed


def test_a_delta_without_a_time_is_applied() -> None:
    old = read(frame("book", "no timestamp at that time"))
    assert old.seq is not None
    folded = book(snapshot(old.seq - 1, "", level("60.58", "1")), old)
    assert (folded.levels("sell"), folded.venue_ms, folded.stale) == ([], None, False)


# Stale


def test_a_gap_makes_the_book_stale_until_the_next_snapshot() -> None:
    gapped = book(snapshot(100, BIDS, ASKS), delta(102, "buy", "99.5"))
    assert gapped.stale
    gapped.apply(delta(103, "buy", "99.7"))
    assert gapped.stale
    assert gapped.best()[0] == ("99.7", "1.0")  # there is still something to look at
    gapped.apply(snapshot(104, BIDS, ASKS))
    assert not gapped.stale
    assert gapped.best()[0] == ("99.0", "1.0")


def test_whoever_knows_of_a_loss_can_say_so() -> None:
    lost = book(snapshot(100, BIDS, ASKS))
    lost.distrust()
    lost.apply(delta(101))
    assert lost.stale


@pytest.mark.parametrize("late", [99, 100, 101])
def test_a_late_copy_is_passed_over(late: int) -> None:
    folded = book(snapshot(100, BIDS), delta(101, "buy", "99.0", "7.0"))
    folded.apply(delta(late, "buy", "99.0", "1.0"))
    assert not folded.stale
    assert (folded.seq, folded.best()[0]) == (101, ("99.0", "7.0"))


def test_a_number_that_fell_while_time_went_on_is_a_restart_of_the_counter() -> None:
    folded = book(snapshot(100, BIDS))
    folded.apply(delta(1, "buy", "99.0", "7.0", venue_ms=START_MS + 1))
    assert folded.stale
    assert folded.seq == 1


@pytest.mark.parametrize(
    "unreadable",
    [
        '"side":"buy","price":1.0',
        '"side":"buy","qty":1.0',
        '"price":1.0,"qty":1.0',
        '"side":"both","price":1.0,"qty":1.0',
        '"side":"buy","price":"1.0","qty":1.0',
        '"side":"buy","price":true,"qty":1.0',
        '"side":"buy","price":1.0,"qty":null',
        '"side":"buy","price":1.0,"qty":[1.0]',
        '"side":"buy","price":1e999,"qty":1.0',
    ],
)
def test_a_delta_that_cannot_be_read_makes_the_book_stale(unreadable: str) -> None:
    folded = book(snapshot(100, BIDS))
    payload = f'{{"feed":"book","product_id":"PF_XBTUSD","seq":101,{unreadable}}}'
    folded.apply(read(payload.encode()))
    assert folded.stale
    assert folded.seq == 101
    assert folded.levels("buy") == book(snapshot(100, BIDS)).levels("buy")


@pytest.mark.parametrize("unreadable", ["1", "null", '"1"', '{"price":1.0}', level("1.0", "true")])
def test_a_snapshot_that_cannot_be_read_makes_the_book_stale(unreadable: str) -> None:
    folded = book(snapshot(100, BIDS), snapshot(200, "", unreadable))
    assert folded.stale
    assert folded.seq == 100
    assert sides(folded) == sides(book(snapshot(100, BIDS)))


def test_what_has_no_number_is_not_trusted() -> None:
    numbered, unnumbered = delta(101, "buy", "99.0", "7.0"), snapshot(100, BIDS)
    numbered.seq = unnumbered.seq = None
    passed_over = book(snapshot(100, BIDS), numbered)
    assert (passed_over.seq, passed_over.stale) == (100, False)
    assert book(unnumbered).stale


@given(st.binary(), st.sampled_from(["snapshot", "delta"]))
def test_no_bytes_at_all_break_it(payload: bytes, kind: Kind) -> None:
    folded = book(
        snapshot(100, BIDS),
        Data(payload=payload, feed="book", kind=kind, product="PF_XBTUSD", seq=101),
    )
    assert folded.stale
    assert len(folded.levels("buy")) == 2


def test_depth_without_end_is_no_more_than_unreadable() -> None:
    nested = b'{"feed":"book","more":' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert book(
        snapshot(100),
        Data(payload=nested, feed="book", seq=101),
    ).stale


# Crossed


@pytest.mark.parametrize(("bid", "crossed"), [("100.5", False), ("101.0", True), ("101.5", True)])
def test_a_book_is_crossed_when_a_bid_is_no_lower_than_an_ask(bid: str, crossed: bool) -> None:
    folded = book(snapshot(100, BIDS, ASKS), delta(101, "buy", bid))
    assert folded.is_crossed is crossed


def test_a_crossing_lasts_from_the_message_before_the_first_look_at_it() -> None:
    crossing = book(snapshot(100, BIDS, ASKS), delta(101, "buy", "101.5", received_ns=7))
    assert crossing.crossed_since_ns() == 7
    crossing.apply(delta(102, "buy", "5.0", received_ns=8))
    assert crossing.crossed_since_ns() == 7


def test_two_short_crossings_are_not_one_long_one() -> None:
    crossing = book(snapshot(100, BIDS, ASKS), delta(101, "buy", "101.5", received_ns=7))
    assert crossing.crossed_since_ns() == 7
    crossing.apply(delta(102, "buy", "101.5", "0.0", received_ns=8))
    crossing.apply(delta(103, "buy", "101.5", "1.0", received_ns=9))
    assert crossing.crossed_since_ns() == 9


def test_a_snapshot_ends_a_crossing() -> None:
    crossing = book(snapshot(100, BIDS, ASKS), delta(101, "buy", "101.5", received_ns=7))
    assert crossing.crossed_since_ns() == 7
    crossing.apply(snapshot(102, BIDS, ASKS))
    assert crossing.crossed_since_ns() is None


# Against oracles

PRICES = ("99", "99.0", "9.9e1", "100.0", "100", "100.5", "101.25", "1.0125E2", "102.0", "7")
QUANTITIES = ("1.0", "2", "0.0300", "5e-1", "0.0", "0", "-1.0")
levels = st.tuples(st.sampled_from(PRICES), st.sampled_from(QUANTITIES))
changes = st.tuples(st.sampled_from(["buy", "sell"]), levels)


class Rebuilt:
    """A book built anew from every message so far, in exact arithmetic."""

    def __init__(self, messages: list[Data]) -> None:
        self.at: dict[str, dict[Decimal, Level]] = {"buy": {}, "sell": {}}
        for message in messages:
            told = json.loads(message.payload, parse_int=str, parse_float=str)
            for side, key in (("buy", "bids"), ("sell", "asks")):
                for each in told.get(key, []):
                    self.put(side, Level(each["price"], each["qty"]))
            if message.kind == "delta":
                self.put(told["side"], Level(told["price"], told["qty"]))

    def put(self, side: str, level: Level) -> None:
        self.at[side].pop(Decimal(level.price), None)
        if Decimal(level.qty) > 0:
            self.at[side][Decimal(level.price)] = level

    def levels(self, side: str) -> list[Level]:
        return [self.at[side][key] for key in sorted(self.at[side], reverse=side == "buy")]

    @property
    def is_crossed(self) -> bool:
        bids, asks = self.at["buy"], self.at["sell"]
        return bool(bids and asks) and max(bids) >= min(asks)


@given(
    st.lists(levels, max_size=6),
    st.lists(levels, max_size=6),
    st.lists(st.tuples(changes, st.booleans()), max_size=30),
)
def test_a_folded_book_is_what_a_rebuild_gives_after_every_message(
    bids: list[tuple[str, str]],
    asks: list[tuple[str, str]],
    told: list[tuple[tuple[Side, tuple[str, str]], bool]],
) -> None:
    texts = [",".join(level(*each) for each in side) for side in (bids, asks)]
    messages = [snapshot(100, *texts)]
    messages += [delta(101 + at, side, *each) for at, ((side, each), _) in enumerate(told)]
    looks = [True, *(look for _, look in told[:-1]), True]
    folded = Book()
    for number, message in enumerate(messages):
        folded.apply(message)
        # Now and then only: what nobody looked at is folded in another way.
        if looks[number] or number == len(messages) - 1:
            rebuilt = Rebuilt(messages[: number + 1])
            assert folded.levels("buy") == rebuilt.levels("buy")
            assert folded.levels("sell") == rebuilt.levels("sell")
            assert folded.is_crossed is rebuilt.is_crossed
    assert not folded.stale


@given(st.sets(st.integers(101, 120)), st.lists(st.integers(101, 120), max_size=5))
def test_a_book_is_stale_exactly_from_the_first_missing_number_on(
    dropped: set[int], repeated: list[int]
) -> None:
    folded = book(snapshot(100))
    came = [seq for seq in range(101, 121) if seq not in dropped]
    for seq in came:
        folded.apply(delta(seq))
        for late in repeated:
            if late <= seq:
                folded.apply(delta(late, "buy", "2.0"))
        assert folded.seq == seq
        assert folded.stale is any(missing < seq for missing in dropped)
    assert len(folded.levels("buy")) == bool(came)


@pytest.mark.parametrize("product", ["PF_XBTUSD", "PF_PEPEUSD", "FI_ETHUSD_261225"])
def test_the_book_is_the_simulated_markets_own_all_along(product: str) -> None:
    market = Market(3, START_MS, products=40, rate=200)
    folded = book(*map(read, market.snapshot("book", product, START_MS)))
    compared = 0
    for now_ms in range(START_MS, START_MS + 600):
        published = [each for each in market.advance(now_ms) if each.feed == "book"]
        for each in published:
            folded.apply(read(each.payload))
        if published:
            own = market.book(product)
            assert folded.seq == own.seq
            assert floats(folded.levels("buy")) == own.bids
            assert floats(folded.levels("sell")) == own.asks
            compared += 1
    assert compared > 50
    assert not folded.stale
    assert not folded.is_crossed


def floats(levels: list[Level]) -> list[tuple[float, float]]:
    return [(float(price), float(qty)) for price, qty in levels]
