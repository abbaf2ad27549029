"""A full buffer drops: all of it is named, the newest snapshot stays, and little is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import Beat, Data, Event, Gap, Notice, Restart, Resync, Stale
from kfws.sources.shedding import OTHERS_MOST, Shedding

P = "PF_XBTUSD"


def delta(seq: int, product: str = P) -> Data:
    return Data(payload=b"{}", received_ns=seq, feed="book", product=product, seq=seq)


def snapshot(seq: int) -> Data:
    return Data(payload=b"{}", received_ns=seq, feed="book", kind="snapshot", product=P, seq=seq)


def missing_at_venue(first: int, last: int) -> Gap:
    return Gap(
        received_ns=last, feed="book", product=P, first=first, last=last, missing=last - first + 1,
        cause="venue", from_ns=first, to_ns=last,
    )  # fmt: skip


def stale(at: int) -> Stale:
    return Stale(received_ns=at, feed="book", product=P)


def resync(seq: int) -> Resync:
    return Resync(received_ns=seq, feed="book", product=P, seq=seq, stale_ns=1)


def shown(events: list[Event]) -> list[object]:
    return [
        (each.first, each.last, each.missing, each.cause)
        if isinstance(each, Gap)
        else type(each).__name__ + (each.kind if isinstance(each, Data) else "")
        for each in events
    ]


def test_runs_of_numbers_are_one_gap_each_and_per_stream() -> None:
    shedding = Shedding()
    shedding.shed([delta(5), delta(6), delta(6, "PF_ETHUSD"), delta(7), delta(9)], 99)
    assert shown(shedding.take(99)) == [
        (5, 7, 3, "slow-reader"), (9, 9, 1, "slow-reader"), (6, 6, 1, "slow-reader"),
    ]  # fmt: skip
    assert shedding.take(99) == []


def test_the_newest_snapshot_stays_behind_what_was_dropped_before_it() -> None:
    shedding = Shedding()
    shedding.shed([delta(5)], 99)
    shedding.shed([stale(5)], 99)
    shedding.shed([delta(6), resync(6), snapshot(6), delta(7)], 99)
    assert [each.last for each in shedding.open_gaps()] == [7]
    assert shown(shedding.take(99)) == [
        (5, 6, 2, "slow-reader"), "Stale", "Resync", "Datasnapshot", (7, 7, 1, "slow-reader"),
    ]  # fmt: skip


def test_what_the_venue_left_out_stays_its_own_gap() -> None:
    shedding = Shedding()
    shedding.shed([delta(5), missing_at_venue(6, 7), delta(8), snapshot(8)], 99)
    ours, venues, after, kept = shown(shedding.take(99))
    assert (ours, venues) == ((5, 5, 1, "slow-reader"), (6, 7, 2, "venue"))
    assert (after, kept) == ((8, 8, 1, "slow-reader"), "Datasnapshot")


def test_messages_without_numbers_are_counted() -> None:
    shedding = Shedding()
    shedding.shed(
        [Data(payload=b"{}", received_ns=at, feed="ticker", product=P) for at in (1, 2, 3)],
        99,
    )
    [gap] = shedding.take(99)
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last, gap.missing, gap.from_ns, gap.to_ns) == (None, None, 3, 1, 3)


def test_answers_are_kept_and_quiet_heartbeats_are_not_counted() -> None:
    shedding = Shedding()
    notice = Notice(payload=b"{}", received_ns=1, event="alert", message="x")
    beat = Beat(payload=b"{}", received_ns=1)
    shedding.shed([beat, notice], 99)
    assert shedding.take(99) == [notice]


@given(st.lists(st.sampled_from(["delta", "snapshot"]), max_size=200))
def test_however_long_nobody_reads_all_is_named_and_little_is_held(kinds: list[str]) -> None:
    shedding, seq = Shedding(), 0
    for kind in kinds:
        if kind == "delta":
            seq += 1
            shedding.shed([delta(seq)], 99)
            shedding.shed([stale(seq)], 99)
        else:
            shedding.shed([resync(seq), snapshot(seq)], 99)
    events = shedding.take(99)
    gaps = [each for each in events if isinstance(each, Gap)]
    named = [n for each in gaps if each.first for n in range(each.first, (each.last or 0) + 1)]
    assert named == list(range(1, seq + 1))
    kept = sum(isinstance(each, Data) for each in events)
    assert kept == min(1, kinds.count("snapshot"))
    assert sum(each.missing or 0 for each in gaps) == len(kinds) - kept
    assert sum(not isinstance(each, Stale) for each in events) <= 5


def test_of_endless_answers_some_are_kept_and_the_rest_counted() -> None:
    shedding = Shedding()
    one = Notice(payload=b"{}", received_ns=1, event="alert", message="x")
    shedding.shed([one] * 300_000, 99)
    events = shedding.take(99)
    assert len(events) == OTHERS_MOST + 1
    last = events[-1]
    assert isinstance(last, Notice)
    assert last.message == "299000 answers and duplicates more came while nobody read"


def test_a_new_count_stands_behind_the_gaps_of_the_old_one() -> None:
    shedding = Shedding()
    restart = Restart(received_ns=9, feed="book", product=P, last=6, seq=1, from_ns=6, to_ns=9)
    shedding.shed([delta(5), delta(6), restart, delta(1), snapshot(1), delta(2)], 99)
    kinds = [type(each).__name__ for each in shedding.take(99)]
    assert kinds == ["Gap", "Gap", "Restart", "Data", "Gap"]
