"""Tapes played again: paced by a clock that is handed in, and read from real files."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import (
    Broken,
    Closed,
    Data,
    Duplicate,
    Event,
    Gap,
    Opened,
    Report,
    Restart,
    Subscribed,
)
from kfws.sources.replay import BATCH, Pace, Replay
from kfws.tapes import files
from kfws.tapes.tape import tapes_in
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

MAX = Pace(None)


def gap(first: int, last: int, *, product: str = "PF_A") -> Gap:
    return Gap(
        received_ns=AT, feed="book", product=product, first=first, last=last,
        missing=last - first + 1, cause="venue", from_ns=AT, to_ns=AT,
    )  # fmt: skip


async def played(*paths: Path, **options: Any) -> list[Event]:
    """All events of tapes, as fast as it goes."""
    options.setdefault("say", lambda code, sentence: None)
    replay = Replay(tapes_in(map(str, paths)), pace=Pace(None), **options)
    events = [event async for batch in replay.events() for event in batch]
    assert [*replay.rest()] == []
    return events


def numbers(events: Iterable[Event]) -> list[int | None]:
    return [event.seq for event in events if type(event) is Data]


def gaps(events: Iterable[Event]) -> list[tuple[int | None, int | None]]:
    return [(event.first, event.last) for event in events if isinstance(event, Gap)]


# Time


def test_what_was_recorded_a_second_later_is_due_a_second_later() -> None:
    pace = Pace(1.0)
    assert pace.wait_s(AT, 100.0) == 0
    assert pace.wait_s(AT + SECOND_NS, 100.0) == pytest.approx(1.0)
    assert pace.wait_s(AT + SECOND_NS, 101.5) == pytest.approx(-0.5)


@given(st.lists(st.integers(0, 10**10), min_size=1), st.floats(0.01, 1000))
def test_being_late_once_makes_nothing_late_that_comes_behind(
    steps_ns: list[int], speed: float
) -> None:
    pace = Pace(speed)
    now, moment_ns = 50.0, AT
    pace.wait_s(moment_ns, now)
    for step_ns in steps_ns:
        moment_ns += step_ns
        now += max(0.0, pace.wait_s(moment_ns, now)) + 0.001
    due = 50.0 + (moment_ns - AT) / 1e9 / speed
    assert pace.wait_s(moment_ns, now) == pytest.approx(due - now, abs=1e-3)


def test_at_full_speed_all_is_due_at_once() -> None:
    assert MAX.wait_s(AT + 10**18, 0.0) == 0


def test_a_pause_stands_still_and_what_is_left_of_a_wait_is_left_behind_it() -> None:
    pace = Pace(2.0)
    pace.wait_s(AT, 10.0)
    pace.pause(10.5)
    assert pace.wait_s(AT + 2 * SECOND_NS, 20.0) == math.inf
    pace.go_on(20.0)
    assert pace.wait_s(AT + 2 * SECOND_NS, 20.0) == pytest.approx(0.5)


def test_a_step_lets_one_message_through_and_goes_on_from_there() -> None:
    pace = Pace(1.0)
    pace.wait_s(AT, 10.0)
    pace.step(10.0)
    later_ns = AT + 60 * SECOND_NS
    assert pace.wait_s(later_ns, 10.0) == 0
    pace.stepped(later_ns, 10.0)
    assert pace.wait_s(later_ns + SECOND_NS, 11.0) == math.inf
    pace.go_on(12.0)
    assert pace.wait_s(later_ns + SECOND_NS, 12.0) == pytest.approx(1.0)


def test_a_pause_before_the_beginning_changes_nothing_but_the_beginning() -> None:
    pace = Pace(1.0)
    pace.pause(1.0)
    pace.go_on(2.0)
    assert pace.wait_s(AT, 3.0) == 0


@pytest.mark.parametrize("where", ["first", "in the middle"])
async def test_a_header_of_a_wrong_clock_does_not_hold_up_what_follows(
    tmp_path: Path, where: str
) -> None:
    wrong_ns = AT + 10**17
    before = [header(), opened(), book(1), book(2)] if where == "in the middle" else []
    seqs = [3, 4, 5] if before else [1, 2, 3, 4, 5]
    head: list[Event] = [*before, header(wrong_ns), opened(wrong_ns + 1, 2)]
    path = tape(tmp_path / "a.ndjson", [*head, *map(book, seqs)])
    replay = Replay(
        tapes_in([str(path)]), pace=Pace(1.0), to_ns=AT + SECOND_NS, say=lambda code, what: None
    )
    events = [event async for batch in replay.events() for event in batch]
    assert numbers(events) == [1, 2, 3, 4, 5]
    assert replay.now_ns() == AT + 5_000_000


async def test_a_file_that_is_gone_out_of_a_rotation_is_told(tmp_path: Path) -> None:
    later = AT + 60 * SECOND_NS
    end = Report(received_ns=AT + 2_000_000, name="continued", fields={})
    tape(tmp_path / "a.1.ndjson", [header(), opened(), book(1), end])
    third = tape(
        tmp_path / "a.3.ndjson",
        [header(later, continues="a.2.ndjson"), opened(), book(2, later)],
    )
    told: list[tuple[str, str]] = []
    await played(tmp_path, say=lambda code, what: told.append((code, what)))
    assert told == [("absent", f"{third} goes on with a.2.ndjson, which is not here")]


# Events


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.ndjson.zst"])
async def test_a_tape_gives_back_what_was_written(name: str, tmp_path: Path) -> None:
    written: list[Event] = [
        opened(),
        subscribed(AT + 1, "book", "PF_A"),
        snapshot(0, AT + 2),
        *(book(number) for number in range(1, 300)),
        closed(AT + SECOND_NS),
    ]
    path = tape(tmp_path / name, [header(), *written, totals(AT + SECOND_NS)])
    events = await played(path)
    assert text(events) == text(written)
    assert [type(event) for event in events] == [type(event) for event in written]


async def test_payloads_come_back_byte_for_byte(tmp_path: Path) -> None:
    payloads = [*frames("trade", kind="delta"), *frames("ticker"), *frames("fills", kind="delta")]
    lines = [b'{"received_ns":%d,%b' % (AT + n, each[1:]) for n, each in enumerate(payloads)]
    path = tape(tmp_path / "a.ndjson", [header()])
    path.write_bytes(path.read_bytes() + b"\n".join([*lines, b""]))
    data = [each for each in await played(path) if type(each) is Data]
    control = [each for each in payloads if b'"event"' in each]
    assert [each.payload for each in data] == [each for each in payloads if each not in control]
    assert [each.received_ns for each in data] == sorted(each.received_ns for each in data)


async def test_the_header_and_the_totals_of_a_tape_are_not_those_of_the_replay(
    tmp_path: Path,
) -> None:
    report = Report(received_ns=AT, name="of tomorrow", fields={"a": 1})
    path = tape(tmp_path / "a.ndjson", [header(), report, book(1), totals(AT)])
    assert [type(each) for each in await played(path)] == [Report, Data]


async def test_the_clock_of_a_replay_is_the_tapes(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(AT - 9), book(1), book(2)])
    replay = Replay(tapes_in([str(path)]), say=print, pace=Pace(None))
    assert replay.now_ns() == AT + 1_000_000
    async for _ in replay.events():
        pass
    assert replay.now_ns() == AT + 2_000_000
    assert replay.share == 1


async def test_a_long_tape_comes_in_batches(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(), *(book(n) for n in range(3 * BATCH))])
    replay = Replay(tapes_in([str(path)]), say=print, pace=Pace(None))
    sizes = [len(batch) async for batch in replay.events()]
    assert sum(sizes) == 3 * BATCH
    assert max(sizes) <= BATCH


# What is missing


async def test_a_gap_that_the_tape_names_is_named_once(tmp_path: Path) -> None:
    later = [book(n, AT + 60 * SECOND_NS + n) for n in range(7, 12)]
    path = tape(tmp_path / "a.ndjson", [header(), book(1), book(7), gap(2, 6), *later[1:]])
    assert gaps(await played(path)) == [(2, 6)]


async def test_a_gap_that_the_tape_does_not_name_is_named(tmp_path: Path) -> None:
    later = [book(n, AT + n * 10 * SECOND_NS) for n in range(8, 12)]
    path = tape(tmp_path / "a.ndjson", [header(), book(1), book(7), *later])
    events = await played(path)
    assert gaps(events) == [(2, 6)]
    assert not isinstance(events[-1], Gap)


@given(
    lost=st.sets(st.integers(2, 58)),
    named=st.lists(st.tuples(st.integers(2, 58), st.integers(0, 9)), max_size=8),
)
async def test_for_any_lost_numbers_each_is_named_exactly_once(
    lost: set[int], named: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    kept = [book(number) for number in range(1, 60) if number not in lost]
    told: list[Event] = []
    known: set[int] = set()
    for first, more in named:
        part = set(range(first, first + more + 1))
        if part <= lost and not part & known:
            known |= part
            told.append(gap(first, first + more))
    path = tape(tmp_path_factory.mktemp("lost") / "a.ndjson", [header(), *told, *kept])
    found = [n for a, b in gaps(await played(path)) for n in range(a or 0, (b or 0) + 1)]
    assert sorted(found) == sorted(lost)


async def test_numbers_of_a_filtered_tape_prove_nothing(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(filter={"where": "qty>1"}), book(1), book(9)])
    assert gaps(await played(path)) == []


async def test_a_hole_between_two_recordings_is_named(tmp_path: Path) -> None:
    one = tape(tmp_path / "1.ndjson", [header(), opened(), book(1), closed(AT + SECOND_NS)])
    at_ns = AT + 60 * SECOND_NS
    two = tape(tmp_path / "2.ndjson", [header(at_ns), opened(at_ns), book(5, at_ns), book(6)])
    found = [each for each in await played(two, one) if isinstance(each, Gap)]
    assert [(each.first, each.last, each.cause) for each in found] == [(2, 4, "outage")]


async def test_a_restart_that_the_tape_tells_of_is_believed(tmp_path: Path) -> None:
    restart = Restart(
        received_ns=AT, feed="book", product="PF_A", last=90, seq=88, from_ns=AT, to_ns=AT
    )
    path = tape(tmp_path / "a.ndjson", [header(), book(90), restart, book(88, AT + 10**8)])
    events = await played(path)
    assert [type(each) for each in events] == [Data, Restart, Data]


async def test_a_message_that_stands_on_the_tape_twice_is_left_out_and_named(
    tmp_path: Path,
) -> None:
    path = tape(tmp_path / "a.ndjson", [header(), book(1), book(2), book(2), book(3)])
    events = await played(path)
    assert numbers(events) == [1, 2, 3]
    assert [type(each) for each in events] == [Data, Data, Duplicate, Data]


async def test_a_part_that_begins_in_the_middle_has_what_comes_late_there(tmp_path: Path) -> None:
    late = [book(7, AT + 7), book(6, AT + 8), book(8, AT + 9)]
    path = tape(tmp_path / "a.ndjson", [header(), snapshot(4, AT), book(5, AT + 5), *late])
    events = await played(path, from_ns=AT + 7)
    assert [each.seq for each in events if isinstance(each, Data)] == [7, 6, 8]
    assert not [each for each in events if isinstance(each, (Duplicate, Gap))]


async def test_a_line_that_is_none_is_a_broken_frame_in_its_place(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(), book(1), book(2)])
    first, second, third = path.read_bytes().splitlines(keepends=True)
    junk = b'{"rec\n{"received_ns":5,"feed":}\n[]\n{"kfws":"gap"}\n'
    path.write_bytes(first + second + junk + third)
    events = await played(path)
    assert [type(each) for each in events] == [Data, Broken, Broken, Broken, Broken, Data]
    assert [each.payload for each in events if isinstance(each, Broken)] == [
        b'{"rec', b'{"feed":}', b"[]", b'{"kfws":"gap"}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("a.ndjson", "within a line: its end of 3 B"), ("a.ndjson.zst", "within a compressed")],
)
async def test_a_torn_end_is_said_once(name: str, sentence: str, tmp_path: Path) -> None:
    path = tape(tmp_path / name, [header(), *(book(n) for n in range(150))])
    cut = path.read_bytes()
    path.write_bytes(cut + b'{"r' if name == "a.ndjson" else cut[:-9])
    said: list[tuple[str, str]] = []
    events = await played(path, say=lambda code, text: said.append((code, text)))
    assert numbers(events)[:90] == [*range(90)]
    [(code, text)] = said
    assert code == "torn"
    assert sentence in text


async def test_damage_inside_is_said_and_what_it_cost_is_named(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson.zst", [header(), *(book(n) for n in range(450))])
    parts = path.read_bytes().split(b"\x28\xb5\x2f\xfd")
    parts[3] = parts[3][:20] + bytes(len(parts[3]) - 20)
    path.write_bytes(b"\x28\xb5\x2f\xfd".join(parts))
    said: list[str] = []
    events = await played(path, say=lambda code, _: said.append(code))
    assert said == ["damaged"]
    came = {number for number in numbers(events) if number is not None}
    missing = {n for a, b in gaps(events) for n in range(a or 0, (b or 0) + 1)}
    assert len(missing) > 50
    assert came | missing == set(range(450))
    assert not came & missing


# Parts


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.ndjson.zst"])
async def test_a_part_is_what_came_from_a_moment_on_and_before_another(
    name: str, tmp_path: Path
) -> None:
    path = tape(tmp_path / name, [header(), *(book(n) for n in range(5000))])
    begin, end = AT + 4000 * 1_000_000, AT + 4100 * 1_000_000
    events = await played(path, from_ns=begin, to_ns=end)
    assert numbers(events) == [*range(4000, 4100)]
    assert gaps(events) == []


async def test_tapes_outside_the_part_are_not_played(tmp_path: Path) -> None:
    paths = [
        tape(tmp_path / f"{hour}.ndjson", [header(), book(hour, AT + hour * SECOND_NS)])
        for hour in range(4)
    ]
    events = await played(*paths, from_ns=AT + SECOND_NS, to_ns=AT + 3 * SECOND_NS)
    assert numbers(events) == [1, 2]


async def test_just_some_feeds_and_products_can_be_played(tmp_path: Path) -> None:
    events = [
        opened(),
        subscribed(AT, "book", "PF_A"),
        subscribed(AT, "book", "PF_B"),
        subscribed(AT, "ticker", "PF_A"),
        book(1),
        book(1, product="PF_B"),
        ticker(AT + 2_000_000),
        gap(2, 3, product="PF_B"),
    ]
    path = tape(tmp_path / "a.ndjson", [header(), *events])
    mine = await played(path, feeds=["book"], products=["pf_a"])
    assert [type(each) for each in mine] == [Opened, Subscribed, Data]
    replay = Replay(tapes_in([str(path)]), say=print, pace=Pace(None), feeds=["ticker"])
    assert sum([len(batch) async for batch in replay.events()]) == 3
    assert replay.left_out == {"book": 2}


async def test_messages_of_private_feeds_pass_whatever_the_product(tmp_path: Path) -> None:
    payload = frames("fills", kind="delta")[0]
    line = b'{"received_ns":%d,%b\n' % (AT, payload[1:])
    path = tape(tmp_path / "a.ndjson", [header()])
    path.write_bytes(path.read_bytes() + line)
    assert len(await played(path, products=["PF_A"])) == 1


# Several


async def test_tapes_that_overlap_are_played_side_by_side(tmp_path: Path) -> None:
    connection = [opened(), subscribed(AT, "book", "PF_A"), subscribed(AT, "ticker", "PF_A")]
    books = [book(number) for number in range(1, 6)]
    tickers = [ticker(AT + number * 1_000_000 + 500) for number in range(1, 6)]
    one = tape(tmp_path / "book.ndjson", [header(), *connection, *books, closed(AT + SECOND_NS)])
    two = tape(tmp_path / "t.ndjson", [header(), *connection, *tickers, closed(AT + SECOND_NS)])
    events = await played(one, two)
    data = [each for each in events if type(each) is Data]
    assert [each.feed for each in data] == ["book", "ticker"] * 5
    assert sum(isinstance(each, Closed) for each in events) == 1


async def test_two_recordings_of_one_stream_are_said_to_be_two(tmp_path: Path) -> None:
    for name in ("1.ndjson", "2.ndjson"):
        events = [subscribed(AT, "book", "PF_A"), book(1), closed(AT + SECOND_NS)]
        tape(tmp_path / name, [header(), opened(connection=int(name[0])), *events])
    said: list[str] = []
    await played(tmp_path, say=lambda _, text: said.append(text))
    [text] = said
    assert text.startswith("two recordings of book PF_A overlap")


# A person at the keys


@asynccontextmanager
async def at_the_keys(path: Path, pace: Pace) -> AsyncIterator[tuple[Replay, Any]]:
    replay = Replay(tapes_in([str(path)]), say=print, pace=pace)
    async with aclosing(replay.events()) as batches:
        yield replay, batches


async def turns_of_the_loop() -> None:
    """Enough of them for whatever is due at once."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_pause_lasts_until_somebody_goes_on(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(), book(1), book(2), book(3)])
    async with at_the_keys(path, Pace(1.0)) as (replay, batches):
        replay.toggle()
        waiting = asyncio.ensure_future(anext(batches))
        await turns_of_the_loop()
        assert not waiting.done()
        replay.toggle()
        events = await waiting + [event async for batch in batches for event in batch]
        assert numbers(events) == [1, 2, 3]


async def test_a_step_plays_one_message_however_far_away_it_is(tmp_path: Path) -> None:
    far = AT + 3600 * SECOND_NS
    events = [opened(), book(1, far), closed(far + 1), opened(far + 2), book(2, far + SECOND_NS)]
    path = tape(tmp_path / "a.ndjson", [header(), *events, book(3, 2 * far)])
    async with at_the_keys(path, Pace(1.0)) as (replay, batches):
        for number in (1, 2, 3):
            replay.step()
            assert numbers(await anext(batches)) == [number]


async def test_who_leaves_gets_nothing_more(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.ndjson", [header(), book(1), book(2, AT + 3600 * SECOND_NS)])
    async with at_the_keys(path, Pace(1.0)) as (replay, batches):
        assert numbers(await anext(batches)) == [1]
        waiting = asyncio.ensure_future(anext(batches))
        await turns_of_the_loop()
        replay.leave()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_nothing_is_left_in_the_tail_of_an_unfinished_tape(tmp_path: Path) -> None:
    frame = files.Compressor("zst")
    path = tape(tmp_path / "a.ndjson.zst", [header(), book(1)])
    path.write_bytes(path.read_bytes() + frame.compress(text([book(2)])) + frame.flush())
    assert numbers(await played(path)) == [1, 2]
