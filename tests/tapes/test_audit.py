from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import Cause, Data, Event, Gap, Report, Restart
from kfws.tapes.audit import Audit, Stream
from kfws.tapes.files import first_ns
from tests.frames_of import frames
from tests.tapes.taping import (
    AT,
    SECOND_NS,
    book,
    closed,
    header,
    opened,
    snapshot,
    subscribed,
    tape,
    text,
    ticker,
    totals,
)


def audit(*paths: Path) -> Audit:
    found = Audit(paths)
    for _ in found.run():
        pass
    return found


def only(found: Audit, feed: str = "book") -> Stream:
    [stream] = [each for each in found.streams if each.feed == feed]
    return stream


def ranges(stream: Stream, *, healed: bool = False) -> list[tuple[int | None, int | None]]:
    return [(gap.first, gap.last) for gap in stream.gaps if gap.healed == healed]


def told(first: int | None, last: int | None, cause: Cause, at_ns: int, **more: object) -> Gap:
    missing = None if first is None or last is None else last - first + 1
    gap = Gap(
        received_ns=at_ns, feed="book", product="PF_A", first=first, last=last, missing=missing,
        cause=cause, from_ns=at_ns - 1, to_ns=at_ns,
    )  # fmt: skip
    for name, value in more.items():
        setattr(gap, name, value)
    return gap


def run(*events: Event, end_ns: int = AT + 600 * SECOND_NS) -> list[Event]:
    return [header(), opened(), *events, closed(end_ns), totals(end_ns)]


@given(dropped=st.sets(st.integers(2, 199), max_size=60), cut=st.integers(1, 199))
def test_the_gaps_are_exactly_what_was_left_out_also_over_two_files(
    tmp_path_factory: pytest.TempPathFactory, dropped: set[int], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("tapes")
    lines = run(*(book(seq) for seq in range(1, 201) if seq not in dropped))
    paths = [
        tape(folder / "a.1.ndjson", lines[: cut + 2]),
        tape(folder / "a.2.ndjson.zst", lines[cut + 2 :]),
    ]
    found = audit(*paths[: 1 + bool(lines[cut + 2 :])])
    stream = only(found)
    named = {seq for first, last in ranges(stream) for seq in range(first or 0, (last or 0) + 1)}
    assert named == dropped
    assert stream.missing == stream.untold == len(dropped)
    assert stream.messages == 200 - len(dropped)
    assert found.verdict == ("incomplete" if dropped else "complete")


def test_what_the_recorder_said_gives_the_cause_and_nothing_is_counted_twice(
    tmp_path: Path,
) -> None:
    gap = told(4, 9, "slow-reader", AT + 20_000_000)
    path = tape(tmp_path / "a.ndjson", run(book(1), book(2), book(3), book(10), gap, book(11)))
    stream = only(audit(path))
    assert [(each.first, each.last, each.cause) for each in stream.gaps] == [(4, 9, "slow-reader")]
    assert (stream.missing, stream.untold) == (6, 0)


def test_of_a_gap_that_is_longer_than_was_told_the_rest_was_not_told(tmp_path: Path) -> None:
    gap = told(5, 6, "venue", AT + 20_000_000)
    path = tape(tmp_path / "a.ndjson", run(book(3), book(10), gap))
    stream = only(audit(path))
    assert (stream.missing, stream.untold) == (6, 4)


def test_gaps_outside_the_numbers_on_the_tape_are_known_from_the_recorder(tmp_path: Path) -> None:
    before, after = told(1, 2, "outage", AT), told(6, 8, "slow-reader", AT + 20_000_000)
    path = tape(tmp_path / "a.ndjson", run(before, book(3), book(4), book(5), after))
    stream = only(audit(path))
    assert ranges(stream) == [(1, 2), (6, 8)]
    assert stream.missing == 5


def test_a_gap_that_was_told_and_whose_messages_are_there_is_none(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", run(book(1), told(2, 3, "venue", AT), book(2), book(3)))
    assert audit(path).verdict == "complete"


def test_an_outage_without_end_is_unprovable(tmp_path: Path) -> None:
    gap = told(3, None, "outage", AT + SECOND_NS)
    path = tape(tmp_path / "a.ndjson", run(book(1), book(2), gap))
    found = audit(path)
    assert only(found).unprovable == 1
    assert found.verdict == "unprovable"


def test_an_outage_without_end_is_told_behind_a_counter_that_began_anew_as_well(
    tmp_path: Path,
) -> None:
    restart = Restart(
        received_ns=AT + 10, feed="book", product="PF_A", last=900, seq=7, from_ns=AT, to_ns=AT
    )
    gap = told(8, None, "outage", AT + 2 * SECOND_NS)
    path = tape(tmp_path / "a.ndjson", run(book(900), restart, book(7, AT + SECOND_NS), gap))
    assert ranges(only(audit(path))) == [(8, None)]


def test_a_stream_without_numbers_has_an_interval_for_each_reconnect(tmp_path: Path) -> None:
    lines = run(
        subscribed(AT, "ticker", "PF_A"),
        ticker(AT + 1),
        closed(AT + 2),
        opened(AT + SECOND_NS, 2),
        subscribed(AT + SECOND_NS + 1, "ticker", "PF_A"),
        ticker(AT + SECOND_NS + 2),
    )
    stream = only(audit(tape(tmp_path / "a.ndjson", lines)), "ticker")
    assert [(gap.from_ns, gap.to_ns) for gap in stream.gaps] == [(AT + 1, AT + SECOND_NS + 1)]
    assert stream.verdict == "unprovable"


def test_when_one_of_two_connections_ends_the_stream_goes_on(tmp_path: Path) -> None:
    lines = [opened(AT, 2), ticker(AT + 1), closed(AT + 2, 2), ticker(AT + 3)]
    assert only(audit(tape(tmp_path / "a.ndjson", run(*lines))), "ticker").verdict == "no outage"


def test_a_killed_recorder_leaves_an_outage_until_it_runs_again(tmp_path: Path) -> None:
    first = [header(), opened(), book(1), book(2), ticker(AT + 5)]
    later = AT + 60 * SECOND_NS
    second = [header(later), opened(later), book(9, later + 1), ticker(later + 2)]
    found = audit(tape(tmp_path / "a.ndjson", [*first, *second]))
    assert ranges(only(found)) == [(3, 8)]
    assert only(found, "ticker").unprovable == 1
    assert not found.tapes[0].ended


def test_a_file_that_continues_another_goes_on_with_its_connection(tmp_path: Path) -> None:
    later = AT + 60 * SECOND_NS
    story = [opened(), subscribed(AT, "ticker", "PF_A")]
    end = Report(received_ns=later, name="continued", fields={})
    first = tape(tmp_path / "a.1.ndjson", [header(), *story, ticker(AT + 1), book(1), end])
    second = tape(
        tmp_path / "a.2.ndjson",
        [header(later, continues="a.1.ndjson"), *story, ticker(later + 1), book(2, later + 2)],
    )
    found = audit(first, second)
    assert {each.verdict for each in found.streams} == {"complete", "no outage"}
    assert found.tapes[0].ended
    assert found.tapes[1].set_back == 0


def test_a_file_that_continues_one_that_is_not_there_is_no_continuation(tmp_path: Path) -> None:
    later = AT + 60 * SECOND_NS
    story = [opened(), subscribed(AT, "ticker", "PF_A")]
    end = Report(received_ns=AT + 2, name="continued", fields={})
    first = tape(tmp_path / "a.1.ndjson", [header(), *story, ticker(AT + 1), end])
    third = tape(
        tmp_path / "a.3.ndjson",
        [header(later, continues="a.2.ndjson"), *story, ticker(later + 1)],
    )
    assert only(audit(first, third), "ticker").unprovable == 1


def counted(*events: Event) -> list[Event]:
    """A run as a recorder writes it, which says how many messages it holds."""
    here = sum(type(event) is Data for event in events)
    *lines, end = run(*events)
    return [*lines, totals(end.received_ns, messages_here=here)]  # type: ignore[attr-defined]


@given(runs=st.lists(st.lists(st.booleans(), min_size=1, max_size=20), min_size=1, max_size=3))
def test_lines_without_numbers_that_were_cut_out_are_counted(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[bool]]
) -> None:
    lines: list[bytes] = []
    for kept in runs:
        head, up, *rest = text(counted(*(ticker(AT + n) for n in range(len(kept))))).splitlines()
        stay = [each for each, stays in zip(rest, kept, strict=False) if stays]
        lines += [head, up, *stay, *rest[len(kept) :]]
    path = tmp_path_factory.mktemp("tapes") / "a.ndjson"
    path.write_bytes(b"\n".join([*lines, b""]))
    found = audit(path)
    lost = sum(not stays for kept in runs for stays in kept)
    assert (found.lost, found.lost_inside) == (lost, lost)
    assert (found.verdict == "incomplete") == bool(lost)


def test_a_broken_line_is_not_counted_as_gone_too(tmp_path: Path) -> None:
    lines = text(counted(ticker(AT + 1), ticker(AT + 2))).splitlines(keepends=True)
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"".join([*lines[:2], b"junk\n", *lines[3:]]))
    assert (audit(path).tapes[0].broken, audit(path).lost) == (1, 0)


def test_two_tapes_in_one_file_hold_more_than_either_says_and_nothing_is_gone(
    tmp_path: Path,
) -> None:
    one = text(counted(ticker(AT + 1))).splitlines(keepends=True)
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"".join([*one[:3], *one]))
    assert audit(path).verdict == "unprovable"
    path.write_bytes(b"".join([*one[:3], *one[2:]]))
    assert audit(path).verdict == "no outage"


def test_tapes_that_overlap_by_number_alone_do_not_begin_anew(tmp_path: Path) -> None:
    ahead_ns = 3600 * SECOND_NS
    first = tape(tmp_path / "a.ndjson", run(*map(book, range(1, 31)), end_ns=AT + SECOND_NS))
    later = [book(seq, later_ns=ahead_ns) for seq in range(21, 51)]
    second = tape(
        tmp_path / "b.ndjson",
        [header(AT + ahead_ns), opened(AT + ahead_ns), *later, closed(AT + 2 * ahead_ns)],
    )
    stream = only(audit(first, second))
    assert (stream.restarts, stream.duplicates, stream.missing) == (0, 10, 0)
    assert stream.verdict == "complete"


def test_a_header_of_a_wrong_clock_does_not_hold_up_time(tmp_path: Path) -> None:
    wrong_ns = AT + 10**17
    head = [header(wrong_ns), opened(wrong_ns + 1), subscribed(wrong_ns + 2, "book", "PF_A")]
    wrong = tape(tmp_path / "a.ndjson", [*head, *map(book, range(1, 31)), totals(AT + SECOND_NS)])
    whole = tape(tmp_path / "b.ndjson", run(*map(book, range(1, 31))))
    assert first_ns(wrong) == AT + 1_000_000
    found = audit(whole, wrong)
    assert [tape.recording for tape in found.tapes] == [1, 2]  # side by side
    assert found.tapes[1].last_ns == AT + SECOND_NS
    assert {each.verdict for each in found.streams} == {"complete"}


def test_trades_that_a_snapshot_lists_are_healed(tmp_path: Path) -> None:
    def trade(seq: int) -> bytes:
        return b'{"product_id":"PF_A","seq":%d}' % seq

    listed = b'{"feed":"trade_snapshot","product_id":"PF_A","trades":[%b]}' % b",".join(
        trade(seq) for seq in (5, 4, 3)
    )
    one = b'{"feed":"trade","product_id":"PF_A","seq":1}'
    lines = run(
        Data(payload=one, received_ns=AT + 1, feed="trade", product="PF_A", seq=1),
        closed(AT + 2),
        opened(AT + 3, 2),
        Data(payload=listed, received_ns=AT + 4, feed="trade", kind="snapshot", product="PF_A"),
    )
    stream = only(audit(tape(tmp_path / "a.ndjson", lines)), "trade")
    assert ranges(stream) == [(2, 2)]
    assert ranges(stream, healed=True) == [(3, 5)]
    assert (stream.missing, stream.healed) == (1, 3)
    assert (stream.first_seq, stream.last_seq) == (1, 5)


def test_a_late_message_is_a_step_back_and_not_missing(tmp_path: Path) -> None:
    late = book(2, AT + 9 * SECOND_NS)
    path = tape(tmp_path / "a.ndjson", run(book(1), book(3), late, book(4, AT + 9 * SECOND_NS)))
    stream = only(audit(path))
    assert (stream.missing, stream.steps_back, stream.verdict) == (0, 1, "complete")


def test_a_message_that_came_twice_is_counted(tmp_path: Path) -> None:
    found = audit(tape(tmp_path / "a.ndjson", run(book(1), book(2), book(2), book(3))))
    assert only(found).duplicates == 1
    assert found.tapes[0].messages == 4
    assert found.verdict == "complete"


def test_a_counter_that_began_anew_proves_nothing(tmp_path: Path) -> None:
    restart = Restart(
        received_ns=AT + 10, feed="book", product="PF_A", last=900, seq=7, from_ns=AT, to_ns=AT
    )
    path = tape(tmp_path / "a.ndjson", run(book(899), book(900), restart, book(7, AT + SECOND_NS)))
    stream = only(audit(path))
    assert (stream.restarts, stream.missing, stream.verdict) == (1, 0, "unprovable")


def test_a_filtered_tape_is_not_auditable(tmp_path: Path) -> None:
    lines = run(book(1), book(7))
    lines[0] = header(filter={"where": "qty>1", "snapshots": True})
    found = audit(tape(tmp_path / "a.ndjson", lines))
    assert found.verdict == "not auditable"
    assert found.missing == 0


def test_a_tape_without_snapshots_is_audited_all_the_same(tmp_path: Path) -> None:
    lines = run(book(1), closed(AT + SECOND_NS), opened(AT + SECOND_NS, 2), book(5, AT + SECOND_NS))
    lines[0] = header(filter={"where": None, "snapshots": False})
    assert ranges(only(audit(tape(tmp_path / "a.ndjson", lines)))) == [(2, 4)]


def test_recordings_that_overlap_are_audited_each_by_itself(tmp_path: Path) -> None:
    first = tape(tmp_path / "a.ndjson", run(snapshot(10, AT), book(11), book(13)))
    second = tape(tmp_path / "b.ndjson", run(snapshot(12, AT + 5), book(13), book(14)))
    streams = audit(first, second).streams
    assert [(each.recording, each.missing) for each in streams] == [(1, 1), (2, 0)]


def test_files_that_follow_each_other_are_told_apart_by_their_names(tmp_path: Path) -> None:
    def part(name: str, product: str, seqs: Iterable[int]) -> Path:
        lines = [book(seq, product=product) for seq in seqs]
        return tape(tmp_path / f"{name}.ndjson", [header(lines[0].received_ns), *lines])

    paths = [
        part("PF_A.1", "PF_A", range(1, 5)),
        part("PF_B.1", "PF_B", range(1, 6)),
        part("PF_A.2", "PF_A", range(9, 12)),
        part("PF_B.2", "PF_B", range(9, 12)),
    ]
    streams = audit(*paths).streams
    assert [(each.product, ranges(each)) for each in streams] == [
        ("PF_A", [(5, 8)]),
        ("PF_B", [(6, 8)]),
    ]


# ── damage ──


def test_lines_that_are_none_are_lost_inside(tmp_path: Path) -> None:
    content = text(run(book(1), book(2), book(3))).splitlines()
    content[3] = content[3][:30]
    content.insert(2, b"\0\0\0")
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"\n".join(content) + b"\n")
    found = audit(path)
    assert found.tapes[0].broken_lines == [3, 5]
    assert found.lost_inside == 2
    assert found.verdict == "incomplete"
    assert ranges(only(found)) == [(2, 2)]


def test_a_torn_tail_is_no_loss_inside(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(text(run(book(1)))[:-9])
    found = audit(path)
    assert found.tapes[0].is_torn
    assert not found.tapes[0].ended
    assert found.lost_inside == 0


@given(at=st.integers(0, 2000), flip=st.integers(1, 255))
def test_rot_in_a_compressed_tape_never_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int
) -> None:
    path = tape(
        tmp_path_factory.mktemp("rot") / "a.ndjson.zst", run(*(book(seq) for seq in range(1, 400)))
    )
    content = bytearray(path.read_bytes())
    content[4 + at % (len(content) - 4)] ^= flip
    path.write_bytes(content)
    found = audit(path)
    assert (
        found.lost_inside or found.missing or found.tapes[0].is_torn or found.verdict == "complete"
    )
    if found.verdict == "complete":  # a flag that changes nothing of the text
        assert only(found).messages == 399


@given(share=st.floats(0.01, 1))
def test_a_tape_cut_anywhere_is_torn_or_has_no_clean_end_and_misses_nothing_inside(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    for name in ("a.ndjson", "a.ndjson.gz", "a.ndjson.zst"):
        path = tape(folder / name, run(*(book(seq) for seq in range(1, 400))))
        content = path.read_bytes()
        path.write_bytes(content[: max(80, int(len(content) * share)) - 1])
        found = audit(path)
        assert found.lost_inside == found.missing == 0
        assert not found.tapes[0].ended


def test_what_is_no_tape_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"a,b\n1,2\n")
    found = audit(path, tape(tmp_path / "b.ndjson", run(book(1))))
    assert [each.message for each in found.faults] == [
        f"{path} is no tape: none of its lines begins with received_ns or kfws"
    ]
    assert [Path(each.path).name for each in found.tapes] == ["b.ndjson"]
    assert (found.verdict, found.lost_inside) == ("complete", 0)


def test_an_empty_file_is_a_tape_without_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"")
    found = audit(path)
    assert found.tapes[0].lines == 0
    assert found.verdict == "nothing to audit"


def test_of_a_tape_without_messages_nothing_can_be_said(tmp_path: Path) -> None:
    lines = [header(), opened(), subscribed(AT, "book", "PF_A"), totals(AT)]
    for count in (1, 2, 3, 4):
        assert audit(tape(tmp_path / "a.ndjson", lines[:count])).verdict == "nothing to audit"
    told_missing = [*lines[:3], told(1, 2, "slow-reader", AT), totals(AT)]
    assert audit(tape(tmp_path / "a.ndjson", told_missing)).verdict == "incomplete"


def test_what_was_subscribed_to_and_gave_nothing_is_unprovable(tmp_path: Path) -> None:
    acknowledged = [subscribed(AT, "book", each) for each in ("PF_A", "PF_B")]
    found = audit(tape(tmp_path / "a.ndjson", run(*acknowledged, subscribed(AT, "fills"), book(1))))
    assert [(each.feed, each.product, each.messages, each.verdict) for each in found.streams] == [
        ("book", "PF_A", 1, "complete"),
        ("book", "PF_B", 0, "unprovable"),
        ("fills", None, 0, "unprovable"),
    ]
    assert found.verdict == "unprovable"


def test_a_subscription_to_all_products_is_heard_by_any_of_them(tmp_path: Path) -> None:
    lines = run(subscribed(AT, "ticker"), ticker(AT + 1))
    assert only(audit(tape(tmp_path / "a.ndjson", lines)), "ticker").verdict == "no outage"


def test_every_frame_of_the_venue_is_a_message_to_the_audit(tmp_path: Path) -> None:
    for name in ("trade", "book", "ticker", "fills", "balances", "open_orders", "account_log"):
        payloads = [*frames(name, kind="snapshot"), *frames(name, kind="delta")]
        lines = [Data(payload=each, received_ns=AT, feed=name) for each in payloads]
        found = audit(tape(tmp_path / f"{name}.ndjson", run(*lines)))
        assert found.tapes[0].messages == len(payloads)


def test_the_delay_is_from_the_venue_s_time_to_the_arrival(tmp_path: Path) -> None:
    stream = only(audit(tape(tmp_path / "a.ndjson", run(*(book(seq) for seq in range(1, 50))))))
    assert (stream.delay_p50_ms, stream.delay_p99_ms) == (5, 5)


def test_a_clock_that_went_back_is_counted(tmp_path: Path) -> None:
    path = tape(
        tmp_path / "a.ndjson", run(book(1, AT + 99 * SECOND_NS), book(2, AT), book(3, AT + 7))
    )
    assert audit(path).tapes[0].set_back == 1
