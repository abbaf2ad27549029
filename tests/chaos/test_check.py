"""The checker on recordings made by hand: it sees what is wrong, and lets be what is right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chaos.check import Result, check

SECOND = 10**9
FEEDS = {"book", "trade", "ticker"}


def book(seq: int) -> str:
    return f'{{"feed":"book","product_id":"P","seq":{seq}}}'


def book_snapshot(seq: int) -> str:
    return f'{{"feed":"book_snapshot","product_id":"P","seq":{seq},"bids":[]}}'


def trade(seq: int) -> str:
    return f'{{"feed":"trade","product_id":"P","seq":{seq}}}'


def trade_snapshot(*numbers: int) -> str:
    trades = [{"seq": number} for number in numbers]
    return json.dumps({"feed": "trade_snapshot", "product_id": "P", "trades": trades})


def ticker(time: int) -> str:
    return f'{{"feed":"ticker","product_id":"P","time":{time}}}'


class Recording:
    """Ledger and output of a made-up run: half a second passes with each entry."""

    def __init__(self) -> None:
        self.ledger: list[bytes] = []
        self.output: list[bytes] = []
        self.at_ns = 0

    def note(self, conn: int = 0, **what: Any) -> Recording:
        self.at_ns += SECOND // 2
        self.ledger.append(json.dumps({"at_ns": self.at_ns, "conn": conn, **what}).encode() + b"\n")
        return self

    def sent(self, conn: int, *texts: str) -> Recording:
        for text in texts:
            self.note(conn, sent=text)
        return self

    def out(self, *texts: str) -> Recording:
        self.output += [text.encode() + b"\n" for text in texts]
        return self

    def both(self, conn: int, *texts: str) -> Recording:
        return self.sent(conn, *texts).out(*texts)

    def own(self, name: str, feed: str = "book", **fields: Any) -> Recording:
        return self.out(json.dumps({"kfws": name, "feed": feed, "product_id": "P", **fields}))

    def gap(
        self,
        first: int | None,
        last: int | None,
        feed: str = "book",
        healed: bool = False,
        since: float = 0,
        until: float = 1e6,
        **more: Any,
    ) -> Recording:
        missing = None if first is None or last is None else last - first + 1
        span = {"from_ns": int(since * SECOND), "to_ns": int(until * SECOND)}
        fields = {"first": first, "last": last, "missing": missing, "healed": healed, **span}
        return self.own("gap", feed, cause="outage", **fields | more)

    def check(self, **options: Any) -> Result:
        return check(self.ledger, self.output, FEEDS, **options)

    def differences(self, **options: Any) -> list[str]:
        return self.check(**options).differences


@pytest.fixture
def rec() -> Recording:
    return Recording().note(1, opened=True).both(1, book_snapshot(10), book(11), book(12))


def only(differences: list[str], kind: str) -> str:
    """The one difference, which is of this kind."""
    [difference] = differences
    assert difference.startswith(f"{kind}: ")
    return difference


# One connection at a time


def test_what_came_as_it_was_sent_is_right(rec: Recording) -> None:
    rec.sent(1, '{"event":"subscribed","feed":"book"}', '{"feed":"heartbeat","time":1}')
    result = rec.both(1, ticker(1), book(13)).note(1, closed=1000).check()
    assert result.differences == []
    assert (result.sent, result.came, result.connections) == (5, 5, 1)


def test_a_frame_that_did_not_come_out_is_a_difference(rec: Recording) -> None:
    rec.sent(1, book(13)).both(1, book(14))
    found = rec.differences()
    assert found[0] == "was sent and did not come out: book P 13 (line 4 of connection 1)"
    assert found[1] == "was sent and did not come out: book P: 1: 13"


def test_a_lost_ticker_is_a_difference(rec: Recording) -> None:
    only(rec.sent(1, ticker(1)).both(1, book(13)).differences(), "was sent and did not come out")


def test_the_tail_of_a_torn_connection_may_be_missing(rec: Recording) -> None:
    assert rec.sent(1, book(13), ticker(1)).note(1, closed=1006).differences() == []


def test_more_than_the_tail_may_not(rec: Recording) -> None:
    rec.sent(1, *(ticker(number) for number in range(5))).note(1, closed=1006)
    only(rec.differences(), "was sent and did not come out")
    assert rec.differences(tail_s=10) == []


def test_a_connection_that_the_venue_closed_properly_has_no_tail(rec: Recording) -> None:
    rec.sent(1, ticker(1)).note(1, closed=1012, clean=True)
    only(rec.differences(), "was sent and did not come out")


def test_altered_bytes_are_a_difference(rec: Recording) -> None:
    found = rec.sent(1, ticker(1)).out(ticker(1).replace(":", ": ")).differences()
    only(found, "was never sent like this")


def test_order_is_looked_at_across_streams(rec: Recording) -> None:
    rec.sent(1, ticker(1), book(13)).out(book(13), ticker(1))
    assert "came out of order, or once more: ticker P, payload line 5" in rec.differences()


def test_a_number_that_comes_out_twice_is_a_difference(rec: Recording) -> None:
    rec.sent(1, book(13), book(13)).out(book(13), book(13))
    only(rec.differences(), "came out twice")


def test_what_the_venue_doubled_comes_out_once(rec: Recording) -> None:
    rec.sent(1, book(13)).both(1, book(13)).own("duplicate", seq=13)
    assert rec.both(1, book(14)).differences() == []


def test_what_the_venue_swapped_comes_out_as_it_came(rec: Recording) -> None:
    assert rec.both(1, book(14), book(13), book(15)).differences() == []


def test_a_broken_frame_comes_out_as_an_event(rec: Recording) -> None:
    rec.sent(1, '{"feed":"bo').own("broken", payload='{"feed":"bo', reason="not JSON")
    rec.note(1, binary="AP8=").own("broken", payload="AP8=", encoding="base64")
    assert rec.both(1, book(13)).differences() == []
    rec.sent(1, "{").both(1, book(14))
    only(rec.differences(), "was sent and did not come out")


def test_torn_last_lines_are_left_out(rec: Recording) -> None:
    rec.ledger.append(b'{"at_n')
    rec.output.append(b'{"feed":"bo')
    assert rec.differences() == []


# Numbers


def test_missing_numbers_must_be_named(rec: Recording) -> None:
    rec.note(1, withheld=book(13), by="gap").both(1, book(14))
    only(rec.differences(), "neither came nor is named")
    result = rec.gap(13, 13).check()
    assert (result.differences, result.missing, result.causes["outage"]) == ([], 1, 1)


def test_numbers_of_an_outage_must_be_named_up_to_the_snapshot(rec: Recording) -> None:
    rec.note(1, closed=1006).both(2, book_snapshot(20), book(21))
    assert "13 to 19" in only(rec.differences(), "neither came nor is named")
    assert rec.gap(13, 20).differences() == []


def test_whether_the_snapshots_own_number_is_missing_is_left_open(rec: Recording) -> None:
    rec.note(1, closed=1006).both(2, book_snapshot(20), book(21))
    assert rec.gap(13, 19).differences() == []


def test_a_tail_that_did_not_come_must_be_named(rec: Recording) -> None:
    rec.sent(1, book(13)).note(1, closed=1006).both(2, book_snapshot(13), book(14))
    assert rec.differences() == []
    rec.note(2, closed=1006).both(3, book_snapshot(17), book(18))
    assert "15 to 16" in only(rec.differences(), "neither came nor is named")


def test_nothing_that_came_is_named_missing(rec: Recording) -> None:
    only(rec.gap(12, 12).differences(), "is named missing and came")


def test_nothing_is_named_missing_twice(rec: Recording) -> None:
    rec.both(1, book(15)).gap(13, 14).gap(14, 14)
    only(rec.differences(), "is named missing twice")


def test_a_gap_is_not_larger_than_what_the_venue_had(rec: Recording) -> None:
    rec.both(1, book(15)).gap(13, 14)
    only(rec.gap(90, 91).differences(), "names numbers that the venue never passed")


def test_a_gap_counts_right(rec: Recording) -> None:
    only(rec.both(1, book(15)).gap(13, 14, missing=3).differences(), "counts wrong")


def test_an_open_gap_at_the_end_is_no_difference(rec: Recording) -> None:
    assert rec.note(1, closed=1006).note(unheard=book(13)).gap(13, None).differences() == []


def test_trades_are_healed_by_a_snapshot_that_lists_them() -> None:
    rec = Recording().both(1, trade_snapshot(9, 8), trade(10)).note(1, closed=1006)
    rec.both(2, trade_snapshot(15, 14, 13)).gap(11, 12, "trade").gap(13, 15, "trade", healed=True)
    result = rec.check()
    assert (result.differences, result.missing, result.healed) == ([], 2, 3)


def test_healed_without_proof_is_a_difference() -> None:
    rec = Recording().both(1, trade_snapshot(9, 8), trade(10)).note(1, closed=1006)
    rec.both(2, trade_snapshot(15, 14, 13)).gap(11, 15, "trade", healed=True)
    assert "11 to 12" in only(rec.differences(), "is named healed and is not there")


def test_a_gap_that_is_healed_later_counts_as_healed() -> None:
    rec = Recording().both(1, trade_snapshot(9, 8), trade(12)).gap(10, 11, "trade")
    rec.both(1, trade_snapshot(12, 11, 10)).gap(10, 11, "trade", healed=True)
    result = rec.check()
    assert (result.differences, result.missing, result.healed) == ([], 0, 2)


def test_a_restart_begins_a_new_count(rec: Recording) -> None:
    rec.note(restart=True).note(1, closed=1006).own("restart", last=12, seq=5)
    rec.both(2, book_snapshot(5), book(6), book(7), book(8), book(9), book(10), book(11))
    assert rec.differences() == []


def test_a_restart_that_is_not_told_is_a_difference(rec: Recording) -> None:
    rec.note(restart=True).note(1, closed=1006).both(2, book_snapshot(5), book(6), book(11))
    assert rec.differences()


# Streams without numbers


def outage(rec: Recording) -> Recording:
    """From 2.5 to 4 s nobody listens, and a ticker is lost."""
    rec.both(1, ticker(1)).note(1, closed=1006).note(unheard=ticker(2))
    return rec.both(2, ticker(3))


def test_an_outage_is_named_for_every_stream(rec: Recording) -> None:
    lost, goes_on = outage(rec).differences()
    assert lost.startswith("was lost without a word: ticker P")
    assert goes_on.startswith("goes on after an outage that is not named: ticker P")
    result = rec.gap(None, None, "ticker", since=2.5, until=4).check()
    assert (result.differences, result.lost) == ([], 1)


def test_an_interval_elsewhere_names_nothing(rec: Recording) -> None:
    outage(rec).gap(None, None, "ticker", since=0, until=1).gap(None, None, since=2, until=4)
    assert len(rec.differences()) == 2


def test_what_was_lost_after_the_last_that_came_is_nobodys_fault(rec: Recording) -> None:
    rec.both(1, ticker(1)).note(1, withheld=ticker(2), by="silent")
    assert rec.differences() == []


def test_the_same_snapshot_by_two_connections_may_come_out_once(rec: Recording) -> None:
    """The first copy was lost with its connection, or the second would have come out, too."""
    rec.note(1, closed=1006).sent(2, book_snapshot(12)).note(2, closed=1006)
    assert rec.both(3, book_snapshot(12), book(13)).differences() == []


# Several connections at once


@pytest.fixture
def two() -> Recording:
    rec = Recording().both(1, book_snapshot(10), book(11)).sent(2, book_snapshot(11))
    return rec.both(1, book(12)).sent(2, book(12)).both(2, book(13)).sent(1, book(13))


def test_the_first_copy_wins(two: Recording) -> None:
    assert two.differences(redundant=True) == []


def test_what_one_connection_lacks_the_other_brings(two: Recording) -> None:
    two.note(1, withheld=book(14), by="gap").sent(1, book(15)).both(2, book(14), book(15))
    two.note(1, closed=1006).both(2, book(16))
    assert two.differences(redundant=True) == []


def test_what_any_connection_brought_must_come_out(two: Recording) -> None:
    two.note(1, withheld=book(14), by="gap").sent(1, book(15)).sent(2, book(14), book(15))
    two.out(book(15)).gap(14, 14)
    two.both(2, *map(book, range(16, 22))).note(2, closed=1000).note(1, closed=1000)
    only(two.differences(redundant=True), "was sent and did not come out")


def test_a_second_copy_is_a_difference(two: Recording) -> None:
    found = two.out(book(13)).differences(redundant=True)
    assert any(each.startswith("came out once more") for each in found)
    assert any(each.startswith("came out twice") for each in found)


def test_numbers_come_out_in_their_order(two: Recording) -> None:
    two.sent(1, book(14), book(15)).out(book(15), book(14))
    only(two.differences(redundant=True), "came out of order")


def test_a_takeover_is_named(two: Recording) -> None:
    two.both(1, ticker(1)).sent(2, ticker(1)).note(1, closed=1006)
    two.sent(2, ticker(2)).both(2, ticker(3))
    only(two.differences(redundant=True), "was lost without a word")
    assert two.gap(None, None, "ticker").differences(redundant=True) == []


def test_tickers_come_out_in_order_and_once(two: Recording) -> None:
    two.sent(1, ticker(1), ticker(2)).out(ticker(2), ticker(1))
    only(two.differences(redundant=True), "came out of order")
    two.out(ticker(9))
    assert len(two.differences(redundant=True)) == 2


def test_a_copy_that_was_padded_on_the_way_is_no_loss(two: Recording) -> None:
    padded = ticker(2)[:-1] + ',"padding":"xxx"}'
    two.both(1, ticker(1), ticker(2), ticker(3)).sent(2, ticker(1), padded, ticker(3))
    assert two.differences(redundant=True) == []
    two.sent(2, ticker(4)[:-1] + ',"padding":"xxx"}').both(1, ticker(5))
    only(two.differences(redundant=True), "was lost without a word")


def test_only_the_first_of_many_alike_are_shown(rec: Recording) -> None:
    rec.sent(1, *map(ticker, range(30))).both(1, book(13))
    assert len(rec.differences()) == 6
    assert str(rec.check()).startswith("6 differences; sent 34, came out 4")
