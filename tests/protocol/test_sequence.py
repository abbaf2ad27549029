"""The audit: what never came is named exactly, and nothing that came is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import Data, Duplicate, Event, Gap, Restart
from kfws.protocol.sequence import GRACE_NS, SNAPSHOT_NS, WINDOW, Sequences, holes
from tests.frames_of import frames

P = "PF_XBTUSD"
S = 1_000_000_000


def delta(feed: str, seq: int, at: int = 0) -> Data:
    payload = json.dumps({"feed": feed, "product_id": P, "seq": seq}).encode()
    return Data(payload=payload, received_ns=at, feed=feed, product=P, seq=seq)


def book_snapshot(seq: int, at: int = 0) -> Data:
    return Data(payload=b"{}", received_ns=at, feed="book", kind="snapshot", product=P, seq=seq)


def trade_snapshot(numbers: Iterable[int], at: int = 0) -> Data:
    message = {"feed": "trade_snapshot", "trades": [{"seq": each} for each in numbers]}
    return Data(
        payload=json.dumps(message).encode(),
        received_ns=at,
        feed="trade",
        kind="snapshot",
        product=P,
    )


def listing(feed: str, ids: Iterable[object], kind: Any = "snapshot", at: int = 0) -> Data:
    message: dict[str, Any]
    if feed == "fills":
        message = {"fills": [{"fill_id": each} for each in ids]}
    elif kind == "snapshot":
        message = {"logs": [{"id": each} for each in ids]}
    else:
        message = {"new_entry": {"id": next(iter(ids))}}
    return Data(payload=json.dumps(message).encode(), received_ns=at, feed=feed, kind=kind)


class Listener:
    """Feeds messages as a Session does, and keeps what is said and what is passed on."""

    def __init__(self, **options: bool) -> None:
        self.audit = Sequences(**options)
        self.said: list[Event] = []
        self.passed: list[Data] = []
        self.now = 0

    def hear(self, *messages: Data) -> Listener:
        for each in messages:
            self.now = max(self.now, each.received_ns)
            passes, events = self.audit.look(each)
            self.said += events
            self.passed += [each] if passes else []
        return self

    def wait(self, ns: int) -> Listener:
        """Time passes; the first look only starts the clock of what is held."""
        self.said += self.audit.tick(self.now, self.now)
        self.now += ns
        self.said += self.audit.tick(self.now, self.now)
        return self

    def reconnect(self, *, at: int = 5 * S, acknowledged: str = "", product: Any = P) -> Listener:
        self.said += self.audit.lost(at, at, "outage")
        self.now = at + S
        if acknowledged:
            self.said += self.audit.acknowledged(acknowledged, product, self.now)
        return self

    @property
    def gaps(self) -> list[Gap]:
        return [each for each in self.said if isinstance(each, Gap)]

    @property
    def ranges(self) -> list[tuple[Any, ...]]:
        return [(each.first, each.last, each.missing, each.healed_by) for each in self.gaps]


# On one connection


@pytest.mark.parametrize("feed", ["book", "trade"])
def test_who_begins_in_the_middle_gets_what_comes_late_once(feed: str) -> None:
    listener = Listener().hear(*(delta(feed, seq) for seq in (7, 6, 8, 5, 6, 7))).wait(S)
    assert [each.seq for each in listener.passed] == [7, 6, 8, 5]
    assert [(type(each), each.seq) for each in listener.said if isinstance(each, Duplicate)] == [
        (Duplicate, 6),
        (Duplicate, 7),
    ]
    assert len(listener.said) == 2


@pytest.mark.parametrize("begin", [[book_snapshot(7)], [delta("book", 7), book_snapshot(8)]])
def test_what_is_lower_than_a_snapshot_is_in_it(begin: list[Data]) -> None:
    listener = Listener().hear(*begin, delta("book", 6))
    assert [type(each) for each in listener.said[-1:]] == [Duplicate]


def test_what_is_lower_on_a_new_connection_came_before_or_is_missing() -> None:
    listener = Listener().hear(delta("book", 7)).reconnect().hear(delta("book", 8))
    assert isinstance(listener.hear(delta("book", 6)).said[-1], Duplicate)


def test_numbers_below_a_new_count_are_not_taken_for_those_below_the_old() -> None:
    listener = Listener().hear(delta("book", 2 * WINDOW), delta("book", 9), delta("book", 8))
    assert [type(each) for each in listener.said] == [Restart, Duplicate]


def test_numbers_in_a_row_say_nothing() -> None:
    listener = Listener().hear(book_snapshot(7), delta("book", 8), delta("book", 9)).wait(S)
    assert listener.said == []
    assert len(listener.passed) == 3


@pytest.mark.parametrize("feed", ["book", "trade"])
def test_missing_numbers_are_named_when_their_grace_is_over(feed: str) -> None:
    listener = Listener().hear(delta(feed, 5, 1), delta(feed, 9, 2))
    assert listener.said == []
    listener.wait(GRACE_NS - 1)
    assert listener.said == []
    [gap] = listener.wait(1).gaps
    assert (gap.feed, gap.product, gap.cause, gap.healed) == (feed, P, "venue", False)
    assert (gap.first, gap.last, gap.missing, gap.from_ns, gap.to_ns) == (6, 8, 3, 1, 2)


def test_a_number_that_comes_late_came() -> None:
    listener = Listener().hear(*(delta("book", seq) for seq in (5, 7, 6, 8))).wait(S)
    assert listener.said == []
    assert [each.seq for each in listener.passed] == [5, 7, 6, 8]


def test_only_what_did_not_come_late_is_named() -> None:
    listener = Listener().hear(*(delta("book", seq) for seq in (5, 10, 7))).wait(S)
    assert listener.ranges == [(6, 6, 1, None), (8, 9, 2, None)]


def test_a_number_that_came_before_is_left_out_and_said() -> None:
    listener = Listener().hear(*(delta("book", seq) for seq in (5, 6, 6)))
    [twice] = listener.said
    assert isinstance(twice, Duplicate)
    assert (twice.seq, twice.payload) == (6, listener.passed[-1].payload)
    assert len(listener.passed) == 2


def test_a_number_that_came_before_is_a_new_count_if_its_time_is_younger() -> None:
    def at(seq: int, venue_ms: int) -> Data:
        return Data(
            payload=b"{}",
            received_ns=venue_ms * 10**6,
            feed="trade",
            product="PF_XBTUSD",
            seq=seq,
            venue_ms=venue_ms,
        )

    listener = Listener().hear(at(12, 1000), at(14, 1100), at(13, 1050), at(1, 2201), at(2, 2202))
    [restart] = [each for each in listener.said if isinstance(each, Restart)]
    assert (restart.last, restart.seq, restart.from_ns) == (14, 1, 1100 * 10**6)
    assert [each.seq for each in listener.passed] == [12, 14, 13, 1, 2]
    assert isinstance(listener.hear(at(2, 2202)).said[-1], Duplicate)


def test_a_number_far_below_is_a_new_count() -> None:
    listener = Listener().hear(delta("book", 10_000), delta("book", 10_001 - WINDOW - 1))
    [restart] = listener.said
    assert isinstance(restart, Restart)
    assert (restart.last, restart.seq) == (10_000, 10_000 - WINDOW)
    assert len(listener.passed) == 2
    assert listener.hear(delta("book", 10_001 - WINDOW)).said == [restart]


def test_streams_are_counted_apart() -> None:
    other = Data(payload=b"{}", feed="book", product="PF_ETHUSD", seq=100)
    listener = Listener().hear(delta("book", 5), other, delta("trade", 50), delta("book", 6))
    assert listener.wait(S).said == []


def test_a_second_snapshot_of_a_book_names_what_it_stands_for() -> None:
    listener = Listener().hear(book_snapshot(5), delta("book", 6), book_snapshot(9))
    assert listener.ranges == [(7, 9, 3, None)]
    assert listener.gaps[0].cause == "resync"
    assert listener.hear(delta("book", 10)).wait(S).ranges == [(7, 9, 3, None)]


def test_deltas_ahead_of_the_first_snapshot_are_no_gap() -> None:
    listener = Listener().hear(delta("book", 6), delta("book", 7), book_snapshot(5))
    assert listener.hear(delta("book", 8)).wait(S).said == []


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_for_any_numbers_dropped_the_gaps_are_exactly_those(came: list[bool]) -> None:
    kept = [100 + at for at, each in enumerate(came) if each]
    messages = [delta("book", seq) for seq in (99, *kept, 100 + len(came))]
    listener = Listener().hear(*messages).wait(S)
    named = [seq for gap in listener.gaps for seq in range(gap.first or 0, (gap.last or 0) + 1)]
    assert sorted(named) == [100 + at for at, each in enumerate(came) if not each]
    assert [each.seq for each in listener.passed] == [each.seq for each in messages]


@given(st.permutations(range(10)))
def test_any_order_of_all_numbers_is_no_gap(order: list[int]) -> None:
    listener = Listener().hear(delta("book", 99), *(delta("book", 100 + each) for each in order))
    assert listener.wait(S).gaps == []
    assert len(listener.passed) == 11


# Across connections


@pytest.mark.parametrize(("snapshot", "ranges"), [(9, [(7, 9, 3, None)]), (6, [])])
def test_a_book_after_an_outage_misses_all_up_to_its_snapshot(
    snapshot: int, ranges: list[Any]
) -> None:
    listener = Listener().hear(book_snapshot(5), delta("book", 6, 4 * S)).reconnect()
    listener.hear(book_snapshot(snapshot, 6 * S), delta("book", snapshot + 1, 6 * S)).wait(S)
    assert listener.ranges == ranges
    assert all(
        (gap.cause, gap.from_ns, gap.to_ns) == ("outage", 5 * S, 6 * S) for gap in listener.gaps
    )


def test_a_lower_number_on_a_new_connection_is_a_new_count_and_no_gap() -> None:
    for messages in ([book_snapshot(3), delta("book", 4)], [delta("book", 3), delta("book", 4)]):
        listener = Listener().hear(book_snapshot(50)).reconnect().hear(*messages).wait(S)
        [restart] = listener.said
        assert isinstance(restart, Restart)
        assert (restart.last, restart.seq) == (50, 3)


def test_the_next_number_on_a_new_connection_is_complete() -> None:
    assert Listener().hear(delta("trade", 5)).reconnect().hear(delta("trade", 6)).wait(S).said == []


def test_a_book_without_a_snapshot_is_judged_by_its_first_delta() -> None:
    listener = Listener().hear(delta("book", 5)).reconnect().hear(delta("book", 9)).wait(S)
    assert listener.ranges == [(6, 8, 3, None)]


def test_a_snapshot_of_trades_heals_what_it_lists() -> None:
    listener = Listener().hear(trade_snapshot([10, 9, 8])).hear(delta("trade", 11)).reconnect()
    listener.hear(trade_snapshot([16, 15, 14]), delta("trade", 17)).wait(S)
    assert listener.ranges == [(14, 16, 3, "snapshot"), (12, 13, 2, None)]


def test_a_snapshot_that_is_not_passed_on_heals_nothing() -> None:
    listener = Listener(snapshots_pass=False).hear(trade_snapshot([10])).reconnect()
    assert listener.hear(trade_snapshot([12, 11])).ranges == [(11, 12, 2, None)]


def test_trades_that_come_ahead_of_their_snapshot_wait_for_it() -> None:
    listener = Listener().hear(delta("trade", 5)).reconnect().hear(delta("trade", 9)).wait(S)
    assert listener.said == []
    listener.hear(trade_snapshot([8, 7])).wait(SNAPSHOT_NS)
    assert listener.ranges == [(7, 8, 2, "snapshot"), (6, 6, 1, None)]
    assert listener.hear(delta("trade", 10)).wait(S).ranges[2:] == []


def test_trades_whose_snapshot_stays_away_are_missing_in_the_end() -> None:
    listener = Listener().hear(delta("trade", 5)).reconnect().hear(delta("trade", 9))
    assert listener.wait(SNAPSHOT_NS).ranges == [(6, 8, 3, None)]


def test_an_empty_snapshot_of_trades_is_no_news() -> None:
    listener = Listener().hear(trade_snapshot([])).hear(delta("trade", 1), delta("trade", 2))
    assert listener.reconnect().hear(trade_snapshot([]), delta("trade", 3)).wait(S).said == []


def test_the_numbers_of_trades_begin_anew_as_well() -> None:
    listener = Listener().hear(trade_snapshot([50])).reconnect().hear(trade_snapshot([2, 1]))
    [restart] = listener.said
    assert isinstance(restart, Restart)


def test_nonsense_in_a_snapshot_of_trades_is_stepped_over() -> None:
    odd = Data(
        payload=b'{"trades":[{"seq":true},{"seq":"7"},5,{"seq":8}]}',
        feed="trade",
        kind="snapshot",
        product=P,
    )
    assert Listener().hear(odd, delta("trade", 9)).wait(S).said == []
    none = Data(payload=b'{"trades":null}', feed="trade", kind="snapshot", product=P)
    assert Listener().hear(none, delta("trade", 9)).wait(S).said == []


def test_gaps_that_are_held_are_said_when_the_connection_is_lost() -> None:
    listener = Listener().hear(delta("book", 5), delta("book", 7)).reconnect()
    assert listener.ranges == [(6, 6, 1, None)]


@pytest.mark.parametrize("feed", ["ticker", "open_orders", "balances", "feed_of_tomorrow"])
def test_what_cannot_be_proven_is_named_at_each_reconnect(feed: str) -> None:
    message = Data(payload=b"{}", received_ns=4 * S, feed=feed, product=P)
    for acknowledged in ("", feed):
        listener = Listener().hear(message).reconnect(acknowledged=acknowledged)
        listener.hear(message, message).wait(S)
        [gap] = listener.gaps
        assert (gap.feed, gap.product, gap.missing, gap.first) == (feed, P, None, None)
        assert (gap.cause, gap.from_ns) == ("outage", 5 * S)


def test_a_stream_that_was_acknowledged_and_gave_nothing_is_named_too() -> None:
    listener = Listener()
    listener.said += listener.audit.acknowledged("open_orders", None, 1)
    listener.reconnect(acknowledged="open_orders", product=None)
    assert [each.feed for each in listener.gaps] == ["open_orders"]


def test_an_outage_that_goes_on_keeps_its_beginning() -> None:
    message = Data(payload=b"{}", received_ns=4 * S, feed="ticker", product=P)
    listener = Listener().hear(message).reconnect(at=5 * S).reconnect(at=9 * S)
    [gap] = listener.hear(Data(payload=b"{}", received_ns=12 * S, feed="ticker", product=P)).gaps
    assert (gap.from_ns, gap.to_ns) == (5 * S, 12 * S)


@pytest.mark.parametrize("feed", ["fills", "account_log"])
def test_a_snapshot_with_the_last_id_proves_that_nothing_is_missing(feed: str) -> None:
    newest_first = feed == "account_log"
    first, second = ([2, 1], [4, 3, 2]) if newest_first else ([1, 2], [2, 3, 4])
    listener = Listener().hear(listing(feed, first))
    listener.reconnect(acknowledged=feed, product=None)
    listener.hear(listing(feed, second)).wait(SNAPSHOT_NS)
    assert listener.ranges == [(None, None, 2, "snapshot")]


@pytest.mark.parametrize("feed", ["fills", "account_log"])
def test_a_snapshot_without_the_last_id_proves_nothing(feed: str) -> None:
    listener = Listener().hear(listing(feed, [1])).hear(listing(feed, [2], "delta"))
    listener.reconnect(acknowledged=feed, product=None)
    assert listener.hear(listing(feed, [1, 5])).ranges == [(None, None, None, None)]


def test_an_entry_that_comes_ahead_of_the_snapshot_proves_nothing() -> None:
    listener = Listener().hear(listing("fills", [1, 2]))
    listener.reconnect(acknowledged="fills", product=None)
    listener.hear(listing("fills", [9], "delta"), listing("fills", [8, 9]))
    assert listener.ranges == [(None, None, None, None)]


def test_an_empty_snapshot_of_trades_after_an_outage_leaves_it_to_the_first_trade() -> None:
    listener = Listener().hear(delta("trade", 5)).reconnect().hear(trade_snapshot([]))
    listener.hear(delta("trade", 9)).wait(SNAPSHOT_NS)
    assert listener.ranges == [(6, 8, 3, None)]
    assert listener.gaps[0].cause == "outage"


def test_a_stream_in_doubt_is_unprovable_until_it_speaks_again_unless_it_counts() -> None:
    listener = Listener().hear(delta("book", 5), listing("fills", [1, 2], at=3))
    for feed, product in (("book", P), ("fills", None), ("ticker", P)):
        listener.audit.doubt(feed, product)
    listener.hear(delta("book", 6), listing("fills", [2], at=9))
    [gap] = listener.gaps
    assert (gap.feed, gap.healed_by, gap.from_ns, gap.to_ns) == ("fills", "snapshot", 3, 9)


def test_an_empty_snapshot_of_trades_on_the_same_connection_changes_nothing() -> None:
    listener = Listener().hear(delta("trade", 5), trade_snapshot([]), delta("trade", 6))
    assert listener.wait(S).said == []


def test_no_id_ever_seen_and_none_in_the_snapshot_is_complete() -> None:
    listener = Listener().hear(listing("fills", []))
    listener.reconnect(acknowledged="fills", product=None)
    assert listener.hear(listing("fills", [])).ranges == [(None, None, 0, "snapshot")]


def test_ids_whose_snapshot_stays_away_are_unprovable() -> None:
    listener = Listener().hear(listing("fills", [1])).reconnect(acknowledged="fills", product=None)
    assert listener.wait(SNAPSHOT_NS).ranges == [(None, None, None, None)]
    assert listener.audit.moments == []


def test_the_recorded_fills_and_logs_have_ids() -> None:
    for feed, count in (("fills", 2), ("account_log", 2)):
        payload = frames(feed, kind="snapshot")[0]
        listener = Listener().hear(Data(payload=payload, feed=feed, kind="snapshot"))
        listener.reconnect(acknowledged=feed, product=None)
        listener.hear(Data(payload=payload, feed=feed, kind="snapshot"))
        assert listener.ranges == [(None, None, 0, "snapshot")], count


# Standing still, and the end


def test_a_time_in_which_we_stood_still_is_unprovable_but_for_numbers() -> None:
    audit = (
        Listener()
        .hear(
            delta("book", 5),
            Data(payload=b"{}", feed="ticker", product=P),
        )
        .audit
    )
    [gap] = audit.suspended(3, 9)
    assert isinstance(gap, Gap)
    assert (gap.feed, gap.cause, gap.from_ns, gap.to_ns) == ("ticker", "suspended", 3, 9)


@pytest.mark.parametrize("greeting", ["delta", "snapshot", "list"])
def test_what_goes_back_behind_an_outage_is_there_twice_unless_its_time_is_later(
    greeting: str,
) -> None:
    feed = "trade" if greeting == "list" else "book"

    def at(seq: int) -> Data:
        data = delta(feed, seq, seq * S)
        data.venue_ms = seq * 1000
        return data

    first = {
        "delta": at(5),
        "snapshot": book_snapshot(5, 5 * S),
        "list": trade_snapshot([4, 5], 5 * S),
    }[greeting]
    first.venue_ms = 5000
    listener = Listener(goes_back=True).hear(*map(at, range(1, 9)))
    listener.audit.lost(8 * S, 9 * S, "outage")
    listener.hear(first, *map(at, range(6, 12)))
    twice = [each.seq for each in listener.said if isinstance(each, Duplicate)]
    assert twice == [*range(5 if greeting == "delta" else 6, 9)]
    assert len(listener.said) == len(twice)

    restarted = Listener(goes_back=True).hear(*map(at, range(1, 9)))
    restarted.audit.lost(8 * S, 9 * S, "outage")
    first.venue_ms = 9000
    restarted.hear(first)
    assert [type(each) for each in restarted.said] == [Restart]


def test_behind_a_restart_that_was_told_there_is_no_gap() -> None:
    listener = Listener().hear(delta("book", 5))
    listener.audit.restarted("book", P)
    listener.audit.restarted("trade", P)
    listener.hear(delta("book", 900)).reconnect()
    listener.audit.restarted("book", P)
    assert listener.hear(delta("book", 7)).said == []
    assert listener.audit.moments == []


def test_the_end_names_what_is_still_open() -> None:
    listener = Listener().hear(delta("book", 5), delta("book", 7), delta("trade", 1))
    ticker = Data(payload=b"{}", feed="ticker", product=P)
    listener.hear(ticker).reconnect()
    listener.said += listener.audit.end(9 * S)
    assert listener.ranges == [
        (6, 6, 1, None),
        (8, None, None, None),
        (2, None, None, None),
        (None, None, None, None),
    ]
    assert listener.audit.end(9 * S) == []


def test_the_end_names_what_is_held() -> None:
    listener = Listener().hear(delta("book", 5), delta("book", 7))
    assert listener.audit.moments == [0]
    assert len(listener.audit.end(S)) == 1


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ([], [(1, 5)]),
        ([1], [(2, 5)]),
        ([5], [(1, 4)]),
        ([2, 3], [(1, 1), (4, 5)]),
        ([1, 2, 3, 4, 5], []),
    ],
)
def test_holes_are_the_ranges_between_what_is_present(
    present: list[int], found: list[tuple[int, int]]
) -> None:
    assert holes(1, 5, present) == found


@pytest.mark.parametrize("given_up", [P, P.lower()])
def test_what_was_given_up_is_forgotten_wherever_it_stands(given_up: str) -> None:
    listener = Listener().hear(delta("book", 1), delta("book", 5), delta("trade", 1))
    listener.hear(listing("fills", ["a"]))
    listener.audit.lost(0, 0, "outage")
    listener.hear(delta("trade", 9, at=S))  # a gap that waits for its snapshot
    for feed, product in (("book", given_up), ("trade", given_up), ("fills", None), ("ticker", P)):
        listener.audit.forget(feed, product)
    listener.said.clear()
    listener.hear(delta("book", 100), delta("trade", 200), listing("fills", ["z"]))
    assert listener.said == []
    assert listener.audit.tick(100 * S, 100 * S) + listener.audit.end(100 * S) == []
