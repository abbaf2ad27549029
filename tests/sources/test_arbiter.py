"""Copies of a stream become one: nothing lost that anybody brought, nothing twice, in order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import (
    Beat,
    Closed,
    Data,
    Duplicate,
    Event,
    Gap,
    Notice,
    Opened,
    Refused,
    Restart,
    Resync,
    Silent,
    Stale,
    Subscribed,
)
from kfws.sources.arbiter import HELD_MOST, SILENT_NS, WAIT_NS, Arbiter

P = "PF_XBTUSD"
S = 1_000_000_000


def book(seq: int, at: int = 0) -> Data:
    return Data(payload=b'{"seq":%d}' % seq, received_ns=at, feed="book", product=P, seq=seq)


def snapshot(seq: int, at: int = 0) -> Data:
    return Data(
        payload=b'{"snapshot":%d}' % seq,
        received_ns=at,
        feed="book",
        kind="snapshot",
        product=P,
        seq=seq,
    )


def trades(numbers: Iterable[int], at: int = 0) -> Data:
    payload = json.dumps({"trades": [{"seq": each} for each in numbers]}).encode()
    return Data(payload=payload, received_ns=at, feed="trade", kind="snapshot", product=P)


def trade(seq: int, at: int = 0) -> Data:
    return Data(payload=b'{"seq":%d}' % seq, received_ns=at, feed="trade", product=P, seq=seq)


def ticker(text: str, at: int = 0, kind: Any = "delta") -> Data:
    return Data(payload=text.encode(), received_ns=at, feed="ticker", kind=kind, product=P)


def fill(text: str, at: int) -> Data:
    return Data(payload=text.encode(), received_ns=at, feed="fills", product=P)


def opened(at: int = 0) -> Opened:
    return Opened(received_ns=at, connection=1, url="ws://x")


def closed(at: int = 0) -> Closed:
    return Closed(received_ns=at, connection=1, code=1006, reason="")


def subscribed(feed: str, at: int = 0) -> Subscribed:
    return Subscribed(payload=b"{}", received_ns=at, feed=feed, products=(P,))


def counts_anew(feed: str, last: int, seq: int, venue_ms: int | None = None) -> Restart:
    return Restart(
        received_ns=0, feed=feed, product=P, last=last, seq=seq, from_ns=0, to_ns=0,
        venue_ms=venue_ms,
    )  # fmt: skip


def gap(feed: str, at: int = 0) -> Gap:
    return Gap(
        received_ns=at, feed=feed, product=P, first=None, last=None, missing=None,
        cause="outage", from_ns=0, to_ns=at,
    )  # fmt: skip


class Stream:
    """Two connections into one arbiter, and all that comes out."""

    def __init__(self, *feeds: str, legs: int = 2, **options: Any) -> None:
        self.arbiter = Arbiter(**options)
        self.now = 0
        self.out: list[Event] = []
        for leg in range(1, legs + 1):
            self.hear(leg, opened(), *(subscribed(feed) for feed in feeds or ("book",)))
        self.out.clear()

    def hear(self, leg: int, *events: Event) -> Stream:
        self.out += self.arbiter.receive(leg, events, self.now)
        return self

    def wait(self, ns: int = WAIT_NS) -> Stream:
        self.now += ns
        self.out += self.arbiter.tick(self.now)
        return self

    @property
    def numbers(self) -> list[int | None]:
        return [each.seq for each in self.out if isinstance(each, Data) and each.kind == "delta"]

    @property
    def payloads(self) -> list[bytes]:
        return [each.payload for each in self.out if isinstance(each, Data)]

    @property
    def ranges(self) -> list[tuple[Any, ...]]:
        gaps = [each for each in self.out if isinstance(each, Gap)]
        return [(each.first, each.last, each.missing, each.healed_by) for each in gaps]


# Numbered streams


def test_each_message_that_is_missing_is_waited_for_as_long() -> None:
    stream = Stream().hear(1, book(1), book(3)).hear(2, book(1))
    stream.wait(WAIT_NS - 1).hear(1, book(5))
    stream.hear(2, book(2)).wait(WAIT_NS - 1).hear(2, book(3), book(4))
    assert stream.numbers == [1, 2, 3, 4, 5]
    assert stream.ranges == []


def test_what_was_given_up_is_not_waited_for() -> None:
    stream = Stream().hear(1, book(1), book(3))
    assert stream.arbiter.next_at() == WAIT_NS
    stream.arbiter.forget("book", P)
    assert stream.arbiter.next_at() is None
    assert not stream.arbiter.is_waiting


def test_a_connection_that_comes_back_tells_late_of_a_restart_that_is_over() -> None:
    stream = Stream().hear(1, *map(book, range(1000, 1004))).hear(2, book(1003))
    stream.hear(1, closed(1)).hear(2, closed(1)).out.clear()
    stream.hear(1, opened(2), counts_anew("book", 1003, 100), snapshot(100, at=2))
    stream.hear(1, *(book(each, at=3) for each in range(101, 110)))
    stream.hear(2, opened(4), counts_anew("book", 1003, 107), snapshot(107, at=4), book(108, at=4))
    stream.hear(1, book(110, at=5), closed(6)).hear(2, book(109, at=6), book(110), book(111))
    assert stream.numbers == [*range(101, 112)]
    assert [each.seq for each in stream.out if isinstance(each, Restart)] == [100]


def test_what_is_missing_is_waited_for_by_our_own_clock_where_there_is_one() -> None:
    arbiter = Arbiter()
    arbiter.here_ns = 1000 * S
    arbiter.receive(1, [book(1)], 0)
    arbiter.receive(1, [book(3, at=5)], 5)
    assert arbiter.tick(60 * S) == []  # a recorder's minute went by, and no time of ours
    assert numbers_of_data(arbiter.receive(2, [book(2)], 60 * S)) == [2, 3]
    arbiter.receive(1, [book(5)], 60 * S)
    arbiter.here_ns += WAIT_NS
    (found, _, data) = arbiter.tick(60 * S)
    assert isinstance(found, Gap)
    assert (found.first, found.last) == (4, 4)
    assert numbers_of_data([data]) == [5]


def numbers_of_data(events: Iterable[Event]) -> list[int | None]:
    return [each.seq for each in events if type(each) is Data]


def test_the_first_copy_wins() -> None:
    stream = Stream().hear(1, snapshot(5), book(6)).hear(2, snapshot(5), book(6), book(7))
    stream.hear(1, book(7), book(8))
    assert stream.payloads == [snapshot(5).payload, *(book(n).payload for n in (6, 7, 8))]
    assert stream.arbiter.swallowed == 3


def test_who_begins_in_the_middle_gets_what_comes_late_once() -> None:
    stream = Stream().hear(1, book(7), book(6), book(8)).hear(2, book(6), book(7), book(5))
    assert stream.numbers == [7, 6, 8, 5]
    assert stream.arbiter.swallowed == 2


def test_what_is_lower_than_a_snapshot_is_in_it() -> None:
    assert Stream().hear(1, snapshot(7), book(6), book(8)).numbers == [8]
    assert Stream().hear(1, book(7), snapshot(8), book(6)).numbers == [7]


def test_a_gap_of_one_is_filled_from_the_other_before_anybody_hears_of_it() -> None:
    stream = Stream().hear(1, book(1), book(4), book(5)).hear(2, book(1), book(2), book(3))
    assert stream.numbers == [1, 2, 3, 4, 5]
    assert stream.wait().ranges == []


def test_what_nobody_brings_in_time_is_missing_and_what_waited_goes_on() -> None:
    stream = Stream(resync=False).hear(1, book(1), book(4), book(7)).hear(2, book(1), book(4))
    assert stream.arbiter.next_at() == WAIT_NS
    assert stream.wait(WAIT_NS - 1).numbers == [1]
    assert stream.wait(1).numbers == [1, 4]
    assert stream.wait().numbers == [1, 4, 7]
    assert stream.ranges == [(2, 3, 2, None), (5, 6, 2, None)]
    assert stream.arbiter.next_at() is None


@given(st.data())
def test_if_each_number_came_on_any_connection_all_come_out_once_in_order(data: Any) -> None:
    count = data.draw(st.integers(1, 40))
    brought = data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=count, max_size=count))
    queues = {leg: [book(n) for n, by in enumerate(brought, 1) if by in (leg, 3)] for leg in (1, 2)}
    stream = Stream().hear(1, snapshot(0)).hear(2, snapshot(0))
    while any(queues.values()):
        leg = data.draw(st.sampled_from([leg for leg, queue in queues.items() if queue]))
        stream.hear(leg, queues[leg].pop(0))
    assert stream.numbers == list(range(1, count + 1))
    assert stream.wait(10 * S).ranges == []


@given(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=40))
def test_exactly_what_came_on_none_is_named(brought: list[int]) -> None:
    stream = Stream(resync=False).hear(1, snapshot(0)).hear(2, snapshot(0))
    for n, by in enumerate([*brought, 3], 1):
        for leg in (1, 2):
            if by in (leg, 3):
                stream.hear(leg, book(n))
    for _ in range(len(brought)):
        stream.wait()
    named = [n for first, last, *_ in stream.ranges for n in range(first, last + 1)]
    assert named == [n for n, by in enumerate(brought, 1) if by == 0]
    assert stream.numbers == [n for n, by in enumerate([*brought, 3], 1) if by]


def test_too_much_held_back_ends_the_waiting() -> None:
    stream = Stream(resync=False).hear(1, book(1))
    stream.hear(1, *(book(n) for n in range(3, HELD_MOST + 4)))
    assert stream.ranges == [(2, 2, 1, None)]
    assert len(stream.numbers) == HELD_MOST + 2


def test_the_snapshot_of_a_connection_that_comes_back_is_swallowed() -> None:
    stream = Stream().hear(1, snapshot(1), book(2)).hear(2, closed(), opened(), subscribed("book"))
    stream.hear(2, snapshot(3), book(4)).hear(1, book(3), book(4))
    assert stream.numbers == [2, 3, 4]
    assert stream.wait().payloads[0] == snapshot(1).payload
    assert len(stream.payloads) == 4


def test_after_an_outage_of_all_the_first_snapshot_passes_behind_its_gap() -> None:
    stream = Stream().hear(1, snapshot(1), book(2), closed()).hear(2, closed())
    stream.hear(2, opened(), subscribed("book"), snapshot(9), book(10)).hear(1, snapshot(8))
    assert stream.numbers == [2]
    stream.wait()
    assert stream.numbers == [2, 10]
    assert stream.ranges == [(3, 9, 7, None)]
    assert snapshot(9).payload in stream.payloads
    assert snapshot(8).payload not in stream.payloads


def test_a_snapshot_of_trades_heals_what_it_lists_and_held_messages_come_first() -> None:
    stream = Stream("trade").hear(1, trades([2, 1])).hear(2, trades([2, 1]))
    stream.hear(1, closed()).hear(2, closed(), opened(), trade(5), trades([6, 5, 4]), trade(7))
    stream.wait()
    assert stream.ranges == [(3, 3, 1, None), (4, 4, 1, "snapshot"), (6, 6, 1, "snapshot")]
    assert stream.numbers == [5, 7]


def test_a_snapshot_that_is_not_passed_on_heals_nothing() -> None:
    stream = Stream("trade", snapshots_pass=False).hear(1, trades([1]), closed()).hear(2, closed())
    assert stream.hear(1, trades([3, 2])).wait().ranges == [(2, 3, 2, None)]


def test_an_empty_snapshot_of_trades_is_passed_once() -> None:
    stream = Stream("trade").hear(1, trades([])).hear(2, trade(1)).hear(1, trades([]), trade(1))
    assert stream.payloads == [trades([]).payload, trade(1).payload]


def test_a_book_that_nobody_could_complete_is_asked_for_by_one_connection() -> None:
    stream = Stream().hear(1, book(1), book(3)).hear(2, book(1), book(3)).wait()
    assert [type(each) for each in stream.out if not isinstance(each, Data)] == [Gap, Stale]
    assert stream.arbiter.asks == [(1, ("book", P))]
    stream.arbiter.asks.clear()
    stream.hear(2, book(4)).hear(1, snapshot(3))  # too old by now: another asks
    assert stream.arbiter.asks == [(2, ("book", P))]
    stream.hear(2, snapshot(4, 7 * S))
    assert isinstance(stream.out[-2], Resync)
    assert stream.payloads[-1] == snapshot(4).payload


def test_a_snapshot_that_is_ahead_ends_the_stale_time_too() -> None:
    stream = Stream().hear(1, book(1), book(3)).wait().hear(1, snapshot(6)).wait()
    assert stream.ranges == [(2, 2, 1, None), (4, 6, 3, None)]
    assert isinstance(stream.out[-2], Resync)


def test_a_new_count_of_the_venue_is_one_for_all_connections() -> None:
    restart = counts_anew("book", 9000, 1)
    stream = Stream().hear(1, book(9000)).hear(2, book(9000))
    stream.hear(1, restart, snapshot(1), book(2))
    stream.hear(2, book(9001), restart, snapshot(1), book(2), book(3)).hear(1, book(3))
    assert stream.numbers == [9000, 2, 3]
    assert [each for each in stream.out if isinstance(each, Restart)] == [restart]
    assert stream.wait().ranges == []


def test_a_restart_lets_go_of_what_was_held() -> None:
    restart = counts_anew("book", 9003, 1)
    stream = Stream(resync=False).hear(1, book(9001), book(9003), restart, book(1))
    assert stream.numbers == [9001, 9003, 1]
    assert stream.ranges == [(9002, 9002, 1, None)]
    unknown = counts_anew("trade", 9, 1)
    assert stream.hear(1, unknown).out[-1] is not unknown


def test_a_connection_that_lags_is_not_believed_until_the_others_agree() -> None:
    restart = counts_anew("book", 9, 5)
    stream = Stream().hear(1, book(9)).hear(2, book(9))
    stream.hear(1, restart, snapshot(5), book(6)).hear(2, book(10)).hear(1, book(10), book(11))
    assert stream.numbers == [9, 10, 11]
    stream.hear(2, restart, snapshot(5), book(6))
    assert stream.numbers == [9, 10, 11, 6]
    assert [type(each) for each in stream.out[-4:-2]] == [Restart, Gap]


def test_when_all_connections_were_away_the_first_to_see_a_new_count_is_believed() -> None:
    stream = Stream().hear(1, book(9, 5)).hear(2, book(9, 5)).hear(1, closed()).hear(2, closed())
    stream.hear(1, opened(7)).hear(2, opened(7), subscribed("book"))
    restart = counts_anew("book", 9, 2)
    stream.hear(1, restart, snapshot(2, 8), book(3, 8)).hear(2, restart, snapshot(3, 8), book(4, 8))
    assert stream.numbers == [9, 3, 4]
    assert [each for each in stream.out if isinstance(each, Restart)] == [restart]


def test_a_lower_number_from_before_the_last_message_is_an_old_copy() -> None:
    newest = Data(payload=b'{"seq":9}', received_ns=5, feed="book", product=P, seq=9, venue_ms=1000)
    stream = Stream().hear(1, newest, closed()).hear(2, closed()).hear(1, opened(7))
    stream.hear(1, counts_anew("book", 9, 8, venue_ms=999), book(8, 8), book(9, 8), book(10, 8))
    assert stream.numbers == [9, 10]
    assert not any(isinstance(each, Restart) for each in stream.out)


def test_a_connection_that_was_away_meanwhile_is_of_the_present_count() -> None:
    stream = Stream().hear(1, book(5000, 5)).hear(2, book(5000, 5)).hear(1, closed())
    stream.hear(2, closed()).hear(1, opened(7), counts_anew("book", 5000, 1), book(1, 8))
    stream.hear(1, closed(), opened(9), counts_anew("book", 1, 1), book(1, 10), book(2, 10))
    # It missed a restart, and what it sees is no lower than what it saw last.
    stream.hear(2, opened(9), book(3, 11)).hear(1, closed()).hear(2, book(4, 12), book(5, 12))
    assert stream.numbers == [5000, 1, 1, 2, 3, 4, 5]
    assert stream.wait().ranges == []


def at(seq: int, venue_ms: int) -> Data:
    return Data(
        payload=b'{"seq":%d}' % seq,
        received_ns=venue_ms * 10**6,
        feed="trade",
        product=P,
        seq=seq,
        venue_ms=venue_ms,
    )


def test_a_number_of_before_with_a_younger_time_is_of_a_new_count() -> None:
    stream = Stream("trade").hear(1, at(60, 1000)).hear(2, at(60, 1000))
    stream.hear(1, closed(1), opened(2000 * 10**6), counts_anew("trade", 60, 4, venue_ms=1900))
    stream.hear(1, at(4, 1900), at(5, 2500), at(6, 2600))
    assert stream.numbers == [60, 5, 6]
    [restart] = [each for each in stream.out if isinstance(each, Restart)]
    assert (restart.last, restart.seq, restart.from_ns) == (60, 5, 1000 * 10**6)


def test_a_snapshot_of_before_with_a_younger_time_begins_a_new_count() -> None:
    def told(kind: Any, seq: int, venue_ms: int) -> Data:
        return Data(
            payload=b'{"seq":%d}' % seq,
            received_ns=venue_ms * 10**6,
            feed="book",
            kind=kind,
            product=P,
            seq=seq,
            venue_ms=venue_ms,
        )

    stream = Stream().hear(1, told("delta", 60, 1000)).hear(2, told("delta", 60, 1000))
    stream.hear(2, told("snapshot", 60, 9000), told("snapshot", 50, 1900))  # of the same count
    assert stream.numbers == [60]
    stream.hear(1, told("snapshot", 5, 2500), told("delta", 6, 2600))
    assert [each.seq for each in stream.out if type(each) is Data] == [60, 5, 6]
    [restart] = [each for each in stream.out if isinstance(each, Restart)]
    assert (restart.last, restart.seq) == (60, 5)


def test_who_says_that_the_count_began_anew_is_believed_when_the_last_witness_goes() -> None:
    stream = Stream().hear(1, book(9, 5)).hear(2, book(9, 5))
    stream.hear(1, counts_anew("book", 9, 2), book(2, 6)).hear(2, closed(7)).hear(1, book(3, 8))
    assert stream.numbers == [9, 3]
    assert any(isinstance(each, Restart) for each in stream.out)


def test_a_message_that_the_leader_never_brings_is_given_in_time() -> None:
    stream = Stream("fills").hear(1, fill("a", 0)).hear(2, fill("a", 0)).hear(2, fill("b", 3 * S))
    stream.now = 4 * S
    assert stream.wait(0).payloads == [b"a"]
    stream.now = 9 * S
    assert stream.wait(0).payloads == [b"a", b"b"]
    assert any(isinstance(each, Gap) and each.cause == "takeover" for each in stream.out)


def test_a_message_that_the_leader_never_brought_is_given_at_the_end() -> None:
    stream = Stream("fills").hear(1, fill("a", 0)).hear(2, fill("a", 0)).hear(2, fill("b", 3 * S))
    stream.out += stream.arbiter.end(4 * S)
    assert stream.payloads == [b"a", b"b"]


def test_one_connection_that_is_refused_what_another_has_is_no_refusal() -> None:
    stream = Stream()
    no = Refused(payload=b"{}", received_ns=0, feed="book", product=P, message="no")
    assert stream.hear(2, no).out == []
    stream.hear(1, closed()).hear(2, closed())
    assert stream.hear(2, opened(), no).out[-1] is no


def test_that_there_are_no_trades_yet_is_said_once() -> None:
    stream = Stream("trade").hear(1, trades([])).hear(2, trades([]))
    assert len(stream.payloads) == 1


def test_after_a_takeover_a_third_connection_gives_nothing_twice_either() -> None:
    stream = Stream("ticker", legs=3).hear(1, ticker("a"), ticker("b"), closed())
    stream.hear(3, ticker("a"), ticker("b"), ticker("c"), ticker("d"))
    stream.hear(2, ticker("a"), ticker("b"), ticker("c"), ticker("d"), ticker("e"))
    assert stream.payloads == [b"a", b"b", b"c", b"d", b"e"]


def test_what_others_brought_ahead_of_a_slow_leader_is_at_hand_when_it_dies() -> None:
    stream = Stream("ticker").hear(2, ticker("a")).hear(1, ticker("a"), ticker("b"), ticker("c"))
    stream.hear(2, ticker("b"), closed())
    assert stream.payloads == [b"a", b"b", b"c"]


def test_a_gap_that_a_slow_reader_made_is_put_down_to_it() -> None:
    stream = Stream(resync=False).hear(1, book(1)).hear(2, book(1))
    dropped = gap("book")
    dropped.cause = "slow-reader"
    stream.hear(1, dropped).hear(1, book(3)).hear(2, book(3)).wait()
    assert [each.cause for each in stream.out if isinstance(each, Gap)] == ["slow-reader"]


def test_the_end_lets_go_of_what_is_held_and_names_an_outage_of_all() -> None:
    stream = Stream(resync=False).hear(1, book(1), book(3), closed()).hear(2, closed())
    stream.out += stream.arbiter.end(S)
    assert stream.ranges == [(2, 2, 1, None), (4, None, None, None)]


# Streams without numbers


def test_the_leader_is_passed_on_and_the_others_are_not() -> None:
    stream = Stream("ticker").hear(1, ticker("a")).hear(2, ticker("a"), ticker("b"))
    assert stream.hear(1, ticker("b")).payloads == [b"a", b"b"]
    assert stream.ranges == []


def test_a_dead_leader_is_replaced_at_once_and_nothing_is_given_twice() -> None:
    stream = Stream("ticker").hear(1, ticker("a", 1 * S)).hear(2, ticker("a"), ticker("b"))
    stream.now = 3 * S
    stream.hear(1, closed()).hear(2, ticker("c", 4 * S))
    assert stream.payloads == [b"a", b"b", b"c"]
    [takeover] = [each for each in stream.out if isinstance(each, Gap)]
    assert (takeover.cause, takeover.missing) == ("takeover", None)
    assert (takeover.from_ns, takeover.to_ns) == (1 * S, 3 * S)


def test_a_quiet_market_that_repeats_itself_is_given_after_a_takeover_too() -> None:
    stream = Stream("ticker")
    for second in range(300):
        stream.hear(1, ticker("same", second * S)).hear(2, ticker("same", second * S))
    stream.hear(1, closed())
    for second in range(300, 600):
        stream.hear(2, ticker("same", second * S))
    assert stream.payloads == [b"same"] * 600
    assert len(stream.ranges) == 1


def test_a_connection_that_came_later_owes_a_quiet_market_the_last_seconds_alone() -> None:
    stream = Stream("ticker").hear(2, closed())
    for second in range(100):
        stream.hear(1, ticker("same", second * S))
    stream.hear(2, opened(100 * S), subscribed("ticker", 100 * S)).hear(1, closed(100 * S))
    for second in range(101, 201):
        stream.hear(2, ticker("same", second * S))
    assert 194 <= len(stream.payloads) < 200


@given(
    said=st.lists(st.sampled_from("ab"), min_size=1, max_size=30),
    turns=st.lists(st.sampled_from([1, 2]), min_size=1, max_size=40),
    is_let_go=st.booleans(),
)
def test_equal_messages_of_a_dead_leader_are_given_once_each_and_so_are_those_to_come(
    said: list[str], turns: list[int], is_let_go: bool
) -> None:
    """Neither connection loses anything here, so that what is given is what was said."""
    stream, brought = Stream("ticker"), {1: 0, 2: 0}

    def bring(leg: int) -> None:
        if brought[leg] < len(said):
            stream.hear(leg, ticker(said[brought[leg]]))
            brought[leg] += 1

    for leg in turns:
        bring(leg)
    if is_let_go:
        stream.arbiter.hand_over(turns[0])
        for leg in turns:
            bring(leg)
    stream.hear(turns[0], closed())
    for _ in said:
        bring(3 - turns[0])
    assert "".join(each.decode() for each in stream.payloads) == "".join(said)


@given(
    said=st.lists(st.sampled_from("abc"), min_size=1, max_size=30),
    turns=st.lists(st.sampled_from([1, 2]), min_size=1, max_size=40),
    lost=st.sets(st.integers(0, 29)),
)
def test_what_the_next_leader_lost_makes_no_message_come_twice(
    said: list[str], turns: list[int], lost: set[int]
) -> None:
    stream, brought = Stream("ticker").hear(1, ticker("first")), {1: 0, 2: 0}

    def bring(leg: int) -> None:
        if brought[leg] < len(said):
            if leg == 1 or brought[leg] not in lost:
                stream.hear(leg, ticker(said[brought[leg]]))
            brought[leg] += 1

    for leg in turns:
        bring(leg)
    stream.hear(1, closed())
    for _ in said:
        bring(2)
    given_out = Counter(each.decode() for each in stream.payloads[1:])
    assert given_out <= Counter(said)
    assert stream.payloads[1 : 1 + brought[1]] == [each.encode() for each in said[: brought[1]]]


def test_copies_that_trickle_in_after_a_takeover_are_known() -> None:
    stream = Stream("ticker").hear(1, ticker("a"), ticker("b"), closed())
    assert stream.hear(2, ticker("a"), ticker("b"), ticker("c")).payloads == [b"a", b"b", b"c"]


def test_a_leader_that_is_let_go_hands_over_where_the_other_is_level_and_names_no_gap() -> None:
    stream = Stream("ticker").hear(1, ticker("a")).hear(2, ticker("a")).hear(1, ticker("b"))
    stream.arbiter.hand_over(1)
    stream.hear(2, ticker("b")).hear(1, ticker("c")).hear(2, ticker("c")).hear(1, closed())
    assert stream.hear(2, ticker("d")).payloads == [b"a", b"b", b"c", b"d"]
    assert stream.ranges == []


def test_what_only_greeted_a_follower_is_not_given_at_a_takeover() -> None:
    stream = Stream("ticker").hear(1, ticker("a")).hear(2, ticker("hello"))
    stream.hear(2, ticker("all", kind="snapshot"))
    stream.hear(1, ticker("b")).hear(2, ticker("b"), ticker("c")).hear(1, closed())
    assert stream.payloads == [b"a", b"b", b"c"]


def test_what_is_older_than_the_last_that_was_given_stays_away() -> None:
    def timed(text: str, venue_ms: int) -> Data:
        return Data(payload=text.encode(), feed="ticker", product=P, venue_ms=venue_ms)

    stream = Stream("ticker").hear(1, timed("a", 1)).hear(2, timed("hello", 2))
    stream.hear(1, timed("b", 3), closed()).hear(2, timed("c", 4))
    assert stream.payloads == [b"a", b"b", b"c"]


def test_a_leader_that_returns_follows() -> None:
    stream = Stream("ticker").hear(1, ticker("a"), closed()).hear(2, ticker("b"))
    stream.hear(1, opened(), gap("ticker"), ticker("c")).hear(2, ticker("c"))
    assert stream.payloads == [b"a", b"b", b"c"]
    assert len(stream.ranges) == 1


def test_a_silent_leader_is_replaced_when_another_is_well_ahead() -> None:
    stream = Stream("ticker").hear(1, ticker("a"))
    for n in range(3):
        stream.hear(2, ticker(f"b{n}")).wait(SILENT_NS // 2)
    assert stream.payloads == [b"a", b"b0", b"b1", b"b2"]
    assert len(stream.ranges) == 1


def test_a_quiet_stream_has_no_takeover() -> None:
    stream = Stream("ticker").hear(1, ticker("a")).hear(2, ticker("a")).wait(60 * S)
    assert stream.ranges == []


def test_after_an_outage_of_all_the_leader_names_it_or_who_comes_first() -> None:
    alone = Stream("ticker", legs=1).hear(1, ticker("a"), closed())
    back = gap("ticker", 5)
    alone.hear(1, opened(), subscribed("ticker"), back, ticker("b"))
    assert alone.out[-2] is back
    stream = Stream("ticker").hear(1, ticker("a"), closed()).hear(2, closed())
    stream.hear(1, opened(), subscribed("ticker"), back, ticker("b"))
    assert [type(each) for each in stream.out[-2:]] == [Gap, Data]
    other = Stream("ticker").hear(1, ticker("a"), closed()).hear(2, closed())
    other.hear(2, opened(), ticker("b"), subscribed("ticker"), ticker("c"))
    assert other.payloads == [b"a", b"b", b"c"]
    assert len(other.ranges) == 1


# Everything else


def test_acknowledgements_and_refusals_are_passed_once() -> None:
    stream = Stream("ticker")
    refused = Refused(payload=b"{}", received_ns=0, feed="book", product=P, message="no")
    stream.hear(1, subscribed("ticker"), refused).hear(2, subscribed("ticker"), refused)
    assert stream.out == [refused]


def test_notices_come_from_one_connection_and_copies_are_swallowed() -> None:
    stream = Stream("ticker")
    notice = Notice(payload=b"{}", received_ns=0, event="info")
    twice = Duplicate(payload=b"{}", received_ns=0, feed="book", product=P, seq=1)
    silent = Silent(received_ns=0, feed="ticker", product=P, reason="no")
    stream.hear(1, notice, twice, silent).hear(2, notice, gap("book"))
    assert stream.out == [notice, silent]


def test_quiet_heartbeats_are_passed() -> None:
    beat = Beat(payload=b"{}", received_ns=0)
    assert Stream().hear(1, beat).hear(2, beat).out == [beat, beat]


@pytest.mark.parametrize("leg", [1, 2])
def test_either_connection_may_come_first(leg: int) -> None:
    assert Stream().hear(leg, snapshot(1)).hear(3 - leg, snapshot(2)).wait().numbers == []


def test_what_was_given_up_begins_without_a_past() -> None:
    arbiter = Arbiter()
    arbiter.receive(1, [opened(), subscribed("book"), subscribed("ticker"), snapshot(5)], 0)
    arbiter.receive(1, [book(6), ticker("a")], 0)
    refused = Refused(payload=b"{}", received_ns=0, feed="book", product=P, message="no")
    arbiter.receive(1, [refused], 0)
    assert arbiter.is_acknowledged("book", P)
    assert arbiter.is_acknowledged("book", P.lower())
    arbiter.forget("book", P.lower())
    assert not arbiter.is_acknowledged("book", P)
    again = [refused, subscribed("book"), snapshot(50), book(51)]
    assert arbiter.receive(1, again, 0) == again
    assert arbiter.tick(10 * S) == []


def test_a_quiet_acknowledgement_is_passed_on_and_leaves_room_for_a_loud_one() -> None:
    arbiter = Arbiter()
    quiet = Subscribed(payload=b"{}", received_ns=0, feed="heartbeat", quiet=True)
    loud = Subscribed(payload=b"{}", received_ns=0, feed="heartbeat")
    assert arbiter.receive(1, [quiet, loud], 0) == [quiet, loud]
    assert arbiter.receive(2, [quiet, loud], 0) == [quiet]
