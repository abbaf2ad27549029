from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from kfws.errors import UsageError
from kfws.protocol.events import Closed, Data, Event, Gap, Opened, Report, Restart
from kfws.sources.merging import Merging
from kfws.tapes.files import Reader
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
    ticker,
    totals,
)

END = AT + 60 * SECOND_NS


def recording(path: Path, *events: Event) -> Path:
    return tape(path, [header(), opened(), *events, closed(END), totals(END)])


def merged(*paths: Path) -> tuple[list[Event], Merging]:
    merging = Merging([Reader(path, damages=[]) for path in paths])
    return [event for _, events in merging.batches() for event in events], merging


def numbers(events: Iterable[Event]) -> list[int | None]:
    return [event.seq for event in events if type(event) is Data]


def gaps(events: Iterable[Event]) -> list[tuple[int | None, int | None]]:
    return [(event.first, event.last) for event in events if isinstance(event, Gap)]


@given(
    had=st.lists(st.sets(st.integers(1, 80)), min_size=2, max_size=3),
    delays=st.lists(st.integers(0, 3_000_000_000), min_size=3, max_size=3),
)
def test_what_any_tape_has_is_there_once_and_in_order_and_the_rest_is_named(
    tmp_path_factory: pytest.TempPathFactory, had: list[set[int]], delays: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("tapes")
    paths = [
        recording(
            folder / f"{name}.ndjson",
            *(book(seq, AT + seq * 20_000_000, later_ns=delay) for seq in sorted({1, 80, *seqs})),
        )
        for name, (seqs, delay) in enumerate(zip(had, delays, strict=False))
    ]
    found, merging = merged(*paths)
    union = {1, 80}.union(*had)
    assert numbers(found) == sorted(union)
    named = {seq for first, last in gaps(found) for seq in range(first or 0, (last or 0) + 1)}
    assert named == set(range(1, 81)) - union
    assert merging.copies == sum(len(seqs | {1, 80}) for seqs in had) - len(union)


@given(
    had=st.lists(st.sets(st.integers(1, 80)), min_size=2, max_size=3),
    delays=st.lists(st.integers(0, 3_000_000_000), min_size=3, max_size=3),
    apart_ns=st.sampled_from([20_000_000, 700_000_000, 8_000_000_000]),
    cut=st.none() | st.tuples(st.integers(0, 2), st.integers(2, 79)),
)
@example(
    had=[{1, 2, 3, 6, 44}, {43}, {1, 2, 3, 4, 43, 44}],
    delays=[0, 0, 0],
    apart_ns=700_000_000,
    cut=None,
)
def test_of_a_stream_without_numbers_too_what_any_tape_has_is_there_once_or_named(
    tmp_path_factory: pytest.TempPathFactory,
    had: list[set[int]],
    delays: list[int],
    apart_ns: int,
    cut: tuple[int, int] | None,
) -> None:
    folder = tmp_path_factory.mktemp("tapes")
    payloads = [ticker(number).payload for number in range(81)]
    came: list[bytes] = []
    paths = []
    for name, (kept, delay) in enumerate(zip(had, delays, strict=False)):
        lines: list[Event] = [subscribed(AT, "ticker", "PF_A")]
        for number in sorted({1, 80, *kept}):
            at_ns = AT + number * apart_ns + delay
            lines.append(structs.replace(ticker(at_ns), payload=payloads[number]))
            came.append(payloads[number])
            if cut == (name, number):
                lines += [closed(at_ns + 1), opened(at_ns + 2, 2)]
                lines.append(subscribed(at_ns + 3, "ticker", "PF_A"))
        end_ns = AT + 81 * apart_ns + 4 * SECOND_NS
        story = [header(), opened(), *lines, closed(end_ns), totals(end_ns)]
        paths.append(tape(folder / f"{name}.ndjson", story))
    found, merging = merged(*paths)
    there = [event.payload for event in found if type(event) is Data]
    assert len(there) == len(set(there))
    assert merging.left_out.total() >= sum(each not in there for each in came)
    assert merging.copies + merging.left_out.total() + len(there) == len(came)
    if cut is None and len(paths) == 2 and apart_ns == 20_000_000:
        assert set(there) == set(came)
        assert not merging.left_out


def test_a_merge_is_never_poorer_than_a_tape_whose_messages_repeat(tmp_path: Path) -> None:
    payloads = [ticker(number).payload for number in range(4)]
    said = [(1, 0), (3, 1), (6, 0), (9, 1), (12, 0), (15, 2), (22, 0), (23, 3)]

    def told(name: str, kept: int, later_ns: int) -> Path:
        moments = [(AT + second * SECOND_NS + later_ns, number) for second, number in said[:kept]]
        lines = [structs.replace(ticker(at), payload=payloads[number]) for at, number in moments]
        ends_ns = moments[-1][0] + SECOND_NS
        begin = [header(), opened(), subscribed(AT, "ticker", "PF_A")]
        return tape(tmp_path / name, [*begin, *lines, closed(ends_ns), totals(ends_ns)])

    found, merging = merged(told("a.ndjson", 2, 0), told("b.ndjson", 8, 10_000_000))
    there = [event.payload for event in found if type(event) is Data]
    assert there == [payloads[number] for _, number in said]
    assert merging.copies == 2
    assert not merging.left_out


@given(
    said=st.lists(st.integers(0, 2), min_size=1, max_size=30),
    lost=st.lists(st.sets(st.integers(0, 29)), min_size=2, max_size=3),
)
def test_of_equal_messages_too_each_that_came_is_there_or_a_copy_or_counted(
    tmp_path_factory: pytest.TempPathFactory, said: list[int], lost: list[set[int]]
) -> None:
    folder = tmp_path_factory.mktemp("tapes")
    payloads = [ticker(number).payload for number in range(3)]
    came: list[Counter[bytes]] = []
    paths = []
    for name, gone in enumerate(lost):
        kept = [(n, payloads[each]) for n, each in enumerate(said) if n not in gone]
        lines = [
            structs.replace(ticker(AT + n * SECOND_NS // 2 + name), payload=payload)
            for n, payload in kept
        ]
        came.append(Counter(payload for _, payload in kept))
        paths.append(recording(folder / f"{name}.ndjson", subscribed(AT, "ticker", "PF_A"), *lines))
    found, merging = merged(*paths)
    there = Counter(event.payload for event in found if type(event) is Data)
    for each in came:
        assert (each - there).total() <= merging.left_out.total()
    assert merging.copies >= 0


def test_the_first_copy_by_time_wins(tmp_path: Path) -> None:
    early = recording(tmp_path / "a.ndjson", book(1, AT), book(2, AT + 20))
    late = recording(tmp_path / "b.ndjson", book(1, AT + 5), book(2, AT + 10))
    found, _ = merged(early, late)
    moments = [event.received_ns for event in found if type(event) is Data]
    assert moments == [AT, AT + 10]


def test_a_tape_that_begins_in_the_middle_of_a_connection_takes_part(tmp_path: Path) -> None:
    first = recording(tmp_path / "a.ndjson", ticker(AT + 1), book(1, AT + 2))
    second = tape(tmp_path / "b.ndjson", [book(2, AT + 3), book(3, AT + 4)])
    found, _ = merged(first, second)
    assert numbers(found) == [None, 1, 2, 3]
    assert [event.connection for event in found if isinstance(event, Opened)] == [1, 2]
    assert gaps(found) == []


def test_a_stream_without_numbers_is_taken_over_and_that_is_named(tmp_path: Path) -> None:
    first = recording(
        tmp_path / "a.ndjson",
        subscribed(AT, "ticker", "PF_A"),
        ticker(AT + 1),
        closed(AT + SECOND_NS),
    )
    second = recording(
        tmp_path / "b.ndjson",
        subscribed(AT, "ticker", "PF_A"),
        *(ticker(AT + number * SECOND_NS) for number in range(2, 5)),
    )
    found, _ = merged(first, second)
    assert len(numbers(found)) == 4
    assert [event.cause for event in found if isinstance(event, Gap)] == ["takeover"]


def test_an_outage_to_the_end_of_all_is_told_and_another_is_not(tmp_path: Path) -> None:
    outage = Gap(
        received_ns=AT + 9, feed="book", product="PF_A", first=2, last=None, missing=None,
        cause="outage", from_ns=AT, to_ns=AT + 9,
    )  # fmt: skip
    first = recording(tmp_path / "a.ndjson", book(1, AT), outage)
    assert gaps(merged(first)[0]) == [(2, None)]
    second = recording(tmp_path / "b.ndjson", book(1, AT), book(2, AT + 5), book(3, AT + 99))
    assert gaps(merged(first, second)[0]) == []


def test_tapes_that_overlap_by_number_alone_are_one_stream(tmp_path: Path) -> None:
    ahead_ns = 3600 * SECOND_NS
    first = recording(tmp_path / "a.ndjson", snapshot(1, AT), *map(book, range(2, 31)))
    later = [book(seq, later_ns=ahead_ns) for seq in range(21, 51)]
    second = tape(tmp_path / "b.ndjson", [header(AT + ahead_ns), opened(AT + ahead_ns), *later])
    found, merging = merged(first, second)
    assert numbers(found) == [*range(1, 51)]
    assert gaps(found) == []
    assert not any(isinstance(event, Restart) for event in found)
    assert merging.copies == 10


def test_a_file_that_is_gone_out_of_a_rotation_is_told(tmp_path: Path) -> None:
    later = AT + 60 * SECOND_NS
    end = Report(received_ns=AT + 2_000_000, name="continued", fields={})
    first = tape(tmp_path / "a.1.ndjson", [header(), opened(), book(1), end])
    third = tape(
        tmp_path / "a.3.ndjson",
        [header(later, continues="a.2.ndjson"), opened(), book(2, later)],
    )
    _, merging = merged(first, third)
    assert merging.absent == [f"{third} goes on with a.2.ndjson, which is not here"]


def test_a_killed_recorder_is_a_connection_that_ended(tmp_path: Path) -> None:
    later = AT + 30 * SECOND_NS
    path = tape(
        tmp_path / "a.ndjson",
        [header(), opened(), book(1, AT), header(later), opened(later), book(5, later + 1)],
    )
    found, _ = merged(path)
    ends = [(event.connection, event.reason) for event in found if isinstance(event, Closed)]
    assert ends == [(1, "the recording ended")]
    assert gaps(found) == [(2, 4)]


def test_snapshots_that_others_have_are_left_out(tmp_path: Path) -> None:
    first = recording(tmp_path / "a.ndjson", snapshot(1, AT), book(2, AT + 5), book(3, AT + 6))
    second = recording(tmp_path / "b.ndjson", snapshot(2, AT + 7), book(3, AT + 8))
    found, merging = merged(first, second)
    assert numbers(found) == [1, 2, 3]
    assert merging.copies == 2


def test_a_filtered_tape_is_refused(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(filter={"where": "qty>1"}), book(1)])
    with pytest.raises(UsageError, match="was recorded with --where"):
        merged(path)


def test_broken_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.ndjson", book(1), book(2))
    path.write_bytes(path.read_bytes() + b'junk\n{"received_ns":1,"feed":}\n')
    found, merging = merged(path)
    assert merging.broken == 2
    assert numbers(found) == [1, 2]
