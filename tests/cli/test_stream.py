from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kfws.cli.choices import Format
from kfws.cli.outlet import DescriptorOutlet, FileOutlet, Outlet, Sink
from kfws.cli.plan import Output, Plan, TypedLook
from kfws.cli.stream import Run
from kfws.cli.talk import Level, Talk
from kfws.errors import (
    Interrupted,
    KfwsError,
    NothingCame,
    OutputError,
    ProtocolBroken,
    Unreachable,
)
from kfws.errors import Refused as AllRefused
from kfws.protocol.events import (
    Beat,
    Broken,
    Closed,
    Data,
    Event,
    Notice,
    Opened,
    Refused,
    Subscribed,
)
from kfws.sinks.csv import Csv
from kfws.sinks.ndjson import Ndjson
from kfws.sinks.raw import Raw
from kfws.sinks.shelf import Keeping, Shelf
from kfws.tapes.files import read_lines
from kfws.tapes.names import Template
from tests.cli.inside import Collected, signals_kept
from tests.cli.program import lines as without_sum
from tests.cli.test_plan import planned
from tests.cli.test_talk import Paper
from tests.frames_of import frames
from tests.sinks.events import data

TRADES = [data(payload) for payload in frames("trade", kind="delta")]
BEAT = Beat(payload=b'{"feed":"heartbeat","time":1}', received_ns=1)
OPENED = Opened(received_ns=1, connection=1, url="ws://x")
INFO = Notice(payload=b'{"event":"info","version":1}', received_ns=1, event="info")
SUBSCRIBED = Subscribed(
    payload=b'{"event":"subscribed","feed":"trade"}', received_ns=1, feed="trade"
)
BROKEN = Broken(payload=b"{", received_ns=1, reason="not JSON")
REFUSED = Refused(payload=b"{}", received_ns=1, feed="book", product="PF_NO", message="no")
CLOSED = Closed(received_ns=1, connection=1, code=1000, reason="")


def trade(number: int) -> Data:
    payload = b'{"feed":"trade","product_id":"PF_XBTUSD","seq":%d,"price":%d.0}' % (number, number)
    return Data(
        payload=payload,
        received_ns=number,
        feed="trade",
        product="PF_XBTUSD",
        seq=number,
        venue_ms=number,
    )


def trades(first: int, last: int) -> list[Event]:
    return [trade(number) for number in range(first, last + 1)]


class Scripted:
    """A source that gives what a test tells it to, then ends, fails, or stands still."""

    def __init__(
        self,
        *batches: list[Event],
        rest: Iterable[list[Event]] = (),
        error: Exception | None = None,
        stands: bool = False,
    ) -> None:
        self.on_failure: Callable[[KfwsError], None] | None = None
        self._batches = batches
        self._rest = list(rest)
        self._error = error
        self._stands = stands
        self.standing = asyncio.Event()
        self.closed = asyncio.Event()

    async def events(self) -> AsyncGenerator[list[Event]]:
        try:
            for batch in self._batches:
                yield batch
            if self._error is not None:
                raise self._error
            if self._stands:
                self.standing.set()
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # a connection is closed by going back and forth
            self.closed.set()

    buffered = 0

    def rest(self, patience_s: float | None = None) -> Iterator[list[Event]]:
        yield from self._rest


class Stage:
    """Outputs of a run, and what it says."""

    def __init__(self, *, least: Level = "warning", look_every_s: float = 1.0) -> None:
        self.look_every_s = look_every_s
        self.paper = Paper()
        self.talk = Talk(self.paper, least=least)
        self.pairs: list[tuple[Output, Outlet]] = []
        self._pipes: list[Collected] = []

    @property
    def said(self) -> list[str]:
        """What was said, but for the sum at the end."""
        return [*without_sum("\n".join(self.paper.lines))]

    def pipe(self, sink: Sink | None = None, format: Format = Format.ndjson) -> Collected:
        """An output into a pipe that is read all the time."""
        pipe = Collected()
        self._pipes.append(pipe)
        self.descriptor(pipe.writer, sink, format)
        return pipe

    def descriptor(
        self, fd: int, sink: Sink | None = None, format: Format = Format.ndjson
    ) -> DescriptorOutlet:
        outlet = DescriptorOutlet(fd, sink or Ndjson())
        self.pairs.append((Output(None, format), outlet))
        return outlet

    def tape(self, path: Path) -> FileOutlet:
        keeping = Keeping(template=Template(str(path)), is_tape=True)
        shelf = Shelf(keeping, lambda feed: Ndjson(stamp=True, events=True))
        shelf.open(time.time_ns())
        outlet = FileOutlet(shelf)
        self.pairs.append((Output(str(path), Format.ndjson), outlet))
        return outlet

    async def run(self, source: Scripted, plan: Plan | None = None, **more: Any) -> None:
        plan = plan or planned("trade")
        header: dict[str, Any] = {"version": "0"}
        if plan.until is not None:
            header["until"] = plan.until.text
        try:
            more |= {"header": header, "look_every_s": self.look_every_s}
            run = Run(plan, self.pairs, self.talk, **more)
            await run.run(source)
        finally:
            for _, outlet in self.pairs:
                outlet.close()
            for pipe in self._pipes:
                # The reader sees the end once nobody writes any more.
                await asyncio.to_thread(pipe.close)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    with signals_kept():
        yield


@pytest.fixture
def standing_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads unless the test does."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


def payloads(events: Sequence[Event]) -> bytes:
    return b"".join(each.payload + b"\n" for each in events if isinstance(each, Data))


def kinds(tape: Path) -> list[str]:
    """Of each line of a tape the name of our event, or the number of the trade."""
    lines = [json.loads(line) for line in read_lines(tape)]
    return [str(line.get("kfws") or line["seq"]) for line in lines]


def last(tape: Path) -> dict[str, Any]:
    *_, line = read_lines(tape)
    found: dict[str, Any] = json.loads(line)
    return found


# What goes where


async def test_what_came_is_passed_on_unchanged_and_in_order_to_every_output(
    tmp_path: Path,
) -> None:
    stage = Stage()
    ndjson, raw = stage.pipe(), stage.pipe(Raw(), Format.raw)
    stage.tape(tmp_path / "x")
    events: list[Event] = [OPENED, INFO, SUBSCRIBED, *TRADES, BEAT, CLOSED]
    await stage.run(Scripted(events[:2], events[2:4], events[4:]))
    assert ndjson.bytes == payloads(TRADES)
    control = [INFO.payload, SUBSCRIBED.payload]
    assert bytes(raw.bytes).splitlines() == [
        *control,
        *(each.payload for each in TRADES),
        BEAT.payload,
    ]
    assert kinds(tmp_path / "x") == [
        "header", "opened", "notice", "subscribed",
        *(str(each.seq) for each in TRADES),
        "closed", "totals",
    ]  # fmt: skip
    assert stage.said == []


async def test_totals_count_what_was_passed_on(tmp_path: Path) -> None:
    stage = Stage()
    stage.tape(tmp_path / "x")
    events = [OPENED, *trades(1, 5), BEAT, BROKEN, REFUSED]
    await stage.run(Scripted(events), planned("trade", where="price>2"))
    totals = last(tmp_path / "x")
    assert totals["kfws"] == "totals"
    assert (totals["messages"], totals["connections"]) == (3, 1)
    assert totals["bytes"] == len(payloads(trades(3, 5))) - 3
    assert (totals["broken"], totals["refused"]) == (1, 1)


async def test_header_and_totals_are_for_tapes_and_for_who_asks_for_events() -> None:
    stage = Stage()
    plain, events = stage.pipe(), stage.pipe(Ndjson(events=True))
    raw, csv = stage.pipe(Raw(), Format.raw), stage.pipe(Csv(feed="trade"), Format.csv)
    await stage.run(Scripted([OPENED]))
    assert plain.bytes + raw.bytes == b""
    assert csv.bytes.startswith(b"received_ns,kind,message_no,")
    assert csv.bytes.count(b"\n") == 1
    assert [json.loads(line)["kfws"] for line in events.bytes.splitlines()] == ["opened", "totals"]


async def test_a_broken_frame_stands_in_its_place_on_a_tape_and_is_said(tmp_path: Path) -> None:
    stage = Stage()
    out = stage.pipe()
    stage.tape(tmp_path / "x")
    await stage.run(Scripted([trade(1), BROKEN, trade(2)], [BROKEN]))
    assert out.bytes == payloads(trades(1, 2))
    assert kinds(tmp_path / "x") == ["header", "1", "broken", "2", "broken", "totals"]
    assert stage.said == [
        "kfws: the venue sent a broken frame: not JSON",
        "kfws: the venue sent a broken frame: not JSON (so 2 times in all)",
    ]


async def test_raw_keeps_control_and_heartbeats_and_leaves_out_what_was_filtered() -> None:
    stage = Stage()
    ndjson, raw = stage.pipe(), stage.pipe(Raw(), Format.raw)
    events: list[Event] = [INFO, trade(1), BEAT, trade(2), SUBSCRIBED, trade(3)]
    await stage.run(Scripted(events), planned("trade", where="price==2"))
    assert ndjson.bytes == payloads([trade(2)])
    assert bytes(raw.bytes).splitlines() == [
        each.payload for each in (INFO, BEAT, trade(2), SUBSCRIBED)
    ]


async def test_a_refusal_is_told_once_the_stream_goes_on() -> None:
    stage = Stage()
    stage.pipe()
    await stage.run(Scripted([REFUSED], [trade(1)]))
    assert stage.said == ["kfws: the venue refused book PF_NO: no; going on without it"]


class Lesson:
    """What is to be learnt of products, and when."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_end = asyncio.Event()
        self.knows = False
        self.was_used = asyncio.Event()

    async def learn(self) -> None:
        self.asked += 1
        await self.may_end.wait()
        self.knows = True

    def fault(self, product: str) -> str:
        if not self.knows:
            return ""
        self.was_used.set()
        return f"no product {product}; similar: PF_N"


UNKNOWN = Refused(
    payload=b"{}",
    received_ns=1,
    feed="book",
    product="PF_NO",
    message="Couldn't subscribe to invalid product `PF_NO`",
)


async def test_what_is_like_an_unknown_product_is_looked_up_beside_the_stream() -> None:
    stage, lesson = Stage(), Lesson()
    pipe = stage.pipe()
    source = Scripted([UNKNOWN], trades(1, 3), [UNKNOWN], trades(4, 6), stands=True)
    run = asyncio.create_task(
        stage.run(source, planned("trade", count=None), learn=lesson.learn, fault=lesson.fault)
    )
    await source.standing.wait()
    await asyncio.to_thread(pipe.until, trade(6).payload)  # nothing waited for the list
    assert (lesson.asked, stage.said) == (1, [])
    lesson.may_end.set()
    line = "the venue refused book PF_NO: no product PF_NO; similar: PF_N; going on without it"
    await lesson.was_used.wait()
    run.cancel()
    await asyncio.wait([run])
    assert stage.said == [f"kfws: {line}"] * 2
    assert lesson.asked == 1


async def test_what_could_not_be_looked_up_in_time_is_said_in_the_end() -> None:
    stage, lesson = Stage(), Lesson()
    stage.pipe()
    source = Scripted([UNKNOWN], trades(1, 3))
    await stage.run(source, learn=lesson.learn, fault=lesson.fault)
    [line] = stage.said
    assert line == f"kfws: the venue refused book PF_NO: {UNKNOWN.message}; going on without it"


async def test_nothing_is_looked_up_for_what_is_no_matter_of_products() -> None:
    stage, lesson = Stage(), Lesson()
    stage.pipe()
    await stage.run(Scripted([REFUSED], trades(1, 3)), learn=lesson.learn, fault=lesson.fault)
    assert (lesson.asked, len(stage.said)) == (0, 1)


# Limits


@pytest.mark.parametrize("size", [1, 2, 3, 10])
async def test_a_count_cuts_inside_a_batch(size: int, tmp_path: Path) -> None:
    stage = Stage()
    ndjson, raw = stage.pipe(), stage.pipe(Raw(), Format.raw)
    stage.tape(tmp_path / "x")
    came = trades(1, 10)
    batches = [came[at : at + size] for at in range(0, 10, size)]
    await stage.run(Scripted(*batches, rest=[trades(11, 12), [CLOSED]]), planned(count=4))
    assert ndjson.bytes == raw.bytes == payloads(trades(1, 4))
    assert kinds(tmp_path / "x") == ["header", "1", "2", "3", "4", "closed", "totals"]
    assert last(tmp_path / "x")["messages"] == 4


async def test_what_stands_behind_the_limit_in_its_batch_is_in_no_output() -> None:
    stage = Stage()
    ndjson, raw = stage.pipe(Ndjson(events=True)), stage.pipe(Raw(), Format.raw)
    await stage.run(Scripted([INFO, BEAT, trade(1), BEAT, SUBSCRIBED, trade(2)]), planned(count=1))
    assert bytes(raw.bytes).splitlines() == [each.payload for each in (INFO, BEAT, trade(1))]
    names = [json.loads(line).get("kfws") for line in ndjson.bytes.splitlines()]
    assert names == ["notice", None, "totals"]


async def test_heartbeats_and_what_was_filtered_do_not_count() -> None:
    stage = Stage()
    out = stage.pipe()
    events = [BEAT, trade(1), BEAT, trade(2), trade(3), INFO, trade(4), trade(5)]
    await stage.run(Scripted(events), planned(count=2, where="price>=3"))
    assert out.bytes == payloads(trades(3, 4))


async def test_until_ends_with_the_first_match_inside_a_batch() -> None:
    stage = Stage()
    out = stage.pipe()
    await stage.run(Scripted(trades(1, 3), trades(4, 9)), planned(until="price>4"))
    assert out.bytes == payloads(trades(1, 5))


async def test_until_that_never_matched_is_an_error_whatever_ended_the_run() -> None:
    for options in ({"count": 2}, {}, {"duration": "10ms"}):
        stage = Stage()
        stage.pipe()
        source = Scripted(trades(1, 3), stands="duration" in options)
        with pytest.raises(NothingCame, match="no message matched --until 'price>9'"):
            await stage.run(source, planned(until="price>9", **options))


async def test_a_count_and_a_match_on_the_same_message_is_a_match() -> None:
    stage = Stage()
    stage.pipe()
    await stage.run(Scripted(trades(1, 3)), planned(until="price==2", count=2))


async def test_a_duration_passes_on_what_came_in_the_meantime() -> None:
    stage = Stage()
    out = stage.pipe()
    source = Scripted(trades(1, 2), rest=[trades(3, 5), trades(6, 8)], stands=True)
    await stage.run(source, planned(duration="10ms"))
    assert out.bytes == payloads(trades(1, 8))
    assert source.closed.is_set()


async def test_a_timeout_ends_with_an_error_when_nothing_came() -> None:
    stage = Stage()
    out = stage.pipe()
    source = Scripted([OPENED, BEAT], stands=True)
    with pytest.raises(NothingCame, match=r"no message came for 0\.01 s"):
        await stage.run(source, planned(timeout="10ms"))
    assert out.bytes == b""
    assert source.closed.is_set()


async def test_a_timeout_tells_silence_from_messages_of_which_none_matched() -> None:
    for came, what in ((trades(1, 3), "no message matched --where"), ([BEAT], "no message came")):
        stage = Stage()
        stage.pipe()
        source = Scripted([OPENED, *came], stands=True)
        with pytest.raises(NothingCame, match=rf"{what} for 0\.01 s \(--timeout\)"):
            await stage.run(source, planned(timeout="10ms", where="price>9"))


async def test_a_full_output_is_no_silence_of_the_venue(standing_pipe: tuple[int, int]) -> None:
    reader, writer = standing_pipe
    stage = Stage()
    outlet = stage.descriptor(writer)
    source = Scripted(trades(1, 20_000), trades(20_001, 20_002), stands=True)
    run = asyncio.create_task(stage.run(source, planned(timeout="10ms", duration="100ms")))
    await source.closed.wait()  # by the duration, ten times as late as the timeout
    assert outlet.is_full
    got = await drained(reader, run)
    await run
    assert got == payloads(trades(1, 20_000))


async def drained(reader: int, run: asyncio.Task[None]) -> bytes:
    """Reads what comes until the run is over, however it ends."""
    os.set_blocking(reader, False)
    got = b""
    while not run.done():
        await asyncio.sleep(0)
        got += at_once(reader)
    return got + at_once(reader)


def at_once(reader: int) -> bytes:
    try:
        return os.read(reader, 1_000_000)
    except BlockingIOError:
        return b""


# Lines about books

BOOK: list[Event] = [data(payload) for payload in frames("book", note="contiguous run")]


def sampled(count: int | None = None) -> Plan:
    return planned("book", look=TypedLook(every="1ms"), count=count)


async def test_a_sample_that_reaches_the_limit_ends_a_run_in_which_nothing_comes() -> None:
    stage = Stage()
    pipe = stage.pipe()
    await stage.run(Scripted(BOOK, stands=True), sampled(count=1))
    assert [json.loads(line)["seq"] for line in pipe.bytes.splitlines()] == [173877391]


async def test_a_sample_that_cannot_be_written_ends_the_run() -> None:
    stage = Stage()
    full = os.open("/dev/full", os.O_WRONLY)
    stage.descriptor(full)
    with pytest.raises(OutputError, match="disk full"):
        await stage.run(Scripted(BOOK, stands=True), sampled())
    os.close(full)


async def test_what_changed_since_the_last_sample_is_told_in_the_end() -> None:
    stage = Stage()
    pipe = stage.pipe()
    await stage.run(Scripted(rest=[BOOK]), planned("book", look=TypedLook(every="1h")))
    assert [json.loads(line)["seq"] for line in pipe.bytes.splitlines()] == [173877391]


# Leaving


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_flushes_closes_and_passes_on_what_came(
    signum: signal.Signals, tmp_path: Path
) -> None:
    stage = Stage()
    out = stage.pipe()
    stage.tape(tmp_path / "x")
    source = Scripted(trades(1, 2), rest=[trades(3, 4), [CLOSED]], stands=True)
    run = asyncio.create_task(stage.run(source))
    await source.standing.wait()
    os.kill(os.getpid(), signum)
    with pytest.raises(Interrupted) as caught:
        await run
    assert caught.value.signum == signum
    assert out.bytes == payloads(trades(1, 4))
    assert kinds(tmp_path / "x") == ["header", "1", "2", "3", "4", "closed", "totals"]
    assert source.closed.is_set()
    assert stage.said == []


async def test_a_disk_that_stands_still_is_told_as_such(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "disk")  # a pipe that nobody reads is a disk that does not answer
    reader = os.open(tmp_path / "disk", os.O_RDONLY | os.O_NONBLOCK)
    stage = Stage(look_every_s=0.001)
    stage.tape(tmp_path / "disk")
    run = asyncio.create_task(stage.run(Scripted(trades(1, 20000), stands=True)))
    while not stage.paper.lines:  # noqa: ASYNC110
        await asyncio.sleep(0)
    os.set_blocking(reader, True)
    reading = threading.Thread(target=lambda: [*iter(lambda: os.read(reader, 65536), b"")])
    reading.start()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    reading.join()
    os.close(reader)
    assert stage.said[0] == (
        f"kfws: the disk is too slow for {tmp_path / 'disk'}: its output waits; "
        "--on-full says what then happens"
    )


async def test_a_reader_that_stands_still_is_told_once(standing_pipe: tuple[int, int]) -> None:
    _, writer = standing_pipe
    stage = Stage(look_every_s=0.001)
    stage.descriptor(writer)
    run = asyncio.create_task(stage.run(Scripted(trades(1, 20000), stands=True)))
    while not stage.paper.lines:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0.001)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [each for each in stage.said if "nobody reads" in each] == [
        "kfws: nobody reads stdout: its output waits; --on-full says what then happens"
    ]


async def test_a_signal_does_not_wait_for_a_reader_that_stands_still(
    standing_pipe: tuple[int, int],
) -> None:
    _, writer = standing_pipe
    stage = Stage()
    stage.descriptor(writer)
    source = Scripted(trades(1, 2000), stands=True)
    run = asyncio.create_task(stage.run(source))
    await source.standing.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        await run
    lost, gap = stage.said
    assert lost.endswith("lines not written to stdout")
    first, last = map(int, gap.split("trade PF_XBTUSD ")[1].split(":")[0].split("–"))
    assert last == 2000
    assert lost == f"kfws: {last - first + 1} lines not written to stdout"
    assert gap.endswith(f"{last - first + 1:,} messages missing (slow-reader)")


async def test_a_signal_ends_the_wait_for_a_slow_reader_after_a_limit(
    standing_pipe: tuple[int, int],
) -> None:
    _, writer = standing_pipe
    stage = Stage()
    stage.descriptor(writer)
    source = Scripted(trades(1, 5000))
    run = asyncio.create_task(stage.run(source, planned(count=3000)))
    await source.closed.wait()
    for _ in range(3):  # until the flush is what is waited for
        await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted):
        await run


async def test_a_slow_reader_is_waited_for_after_a_limit(standing_pipe: tuple[int, int]) -> None:
    reader, writer = standing_pipe
    stage = Stage()
    stage.descriptor(writer)
    run = asyncio.create_task(stage.run(Scripted(trades(1, 5000)), planned(count=3000)))
    assert await drained(reader, run) == payloads(trades(1, 3000))
    await run
    assert stage.said == []


async def test_signals_are_given_back_after_the_run() -> None:
    stage = Stage()
    stage.pipe()
    await stage.run(Scripted())
    # While the interpreter winds down there is nothing to flush: they end it at once.
    assert callable(signal.getsignal(signal.SIGTERM))


async def test_a_lost_connection_passes_on_all_that_came_before(tmp_path: Path) -> None:
    stage = Stage()
    out = stage.pipe()
    stage.tape(tmp_path / "x")
    with pytest.raises(Unreachable, match="lost"):
        await stage.run(Scripted(trades(1, 3), [CLOSED], error=Unreachable("lost")))
    assert out.bytes == payloads(trades(1, 3))
    assert kinds(tmp_path / "x") == ["header", "1", "2", "3", "closed", "totals"]


async def test_a_bug_in_a_source_is_not_swallowed() -> None:
    stage = Stage()
    stage.pipe()
    with pytest.raises(ZeroDivisionError):
        await stage.run(Scripted(trades(1, 3), error=ZeroDivisionError()))


async def test_the_last_words_of_a_verbose_run() -> None:
    stage = Stage(least="info")
    stage.pipe()
    await stage.run(Scripted([OPENED], trades(1, 2)))
    assert stage.paper.lines[0] == "kfws: connected to ws://x"
    assert stage.paper.lines[-1].startswith("kfws: 2 messages, 122 bytes in ")


# Readers that leave, disks that are full


async def test_the_run_ends_without_an_error_when_the_only_reader_left(
    standing_pipe: tuple[int, int],
) -> None:
    reader, writer = standing_pipe
    stage = Stage()
    stage.descriptor(writer)
    os.close(reader)
    source = Scripted(trades(1, 3), trades(4, 5), stands=True)
    await stage.run(source, planned(until="price==9"))
    assert stage.said == []


async def test_the_source_is_closed_properly_when_the_only_reader_left(
    standing_pipe: tuple[int, int],
) -> None:
    reader, writer = standing_pipe
    stage = Stage()
    stage.descriptor(writer)
    os.close(reader)
    source = Scripted(trades(1, 3), stands=True)
    await stage.run(source)
    assert source.closed.is_set()


async def test_a_reader_that_left_is_noticed_while_nothing_comes(
    standing_pipe: tuple[int, int],
) -> None:
    reader, writer = standing_pipe
    stage = Stage()
    stage.descriptor(writer)
    ticks = asyncio.Event()

    class Ticking(Scripted):
        async def events(self) -> AsyncGenerator[list[Event]]:
            yield [trade(1)]
            os.close(reader)
            while True:
                ticks.set()
                await asyncio.sleep(0)
                yield []

    await stage.run(Ticking())
    assert ticks.is_set()


async def test_the_other_outputs_go_on_when_one_reader_left(
    standing_pipe: tuple[int, int],
) -> None:
    reader, writer = standing_pipe
    stage = Stage()
    stage.descriptor(writer)
    out = stage.pipe()
    os.close(reader)
    await stage.run(Scripted(trades(1, 3), trades(4, 5)))
    assert out.bytes == payloads(trades(1, 5))
    assert stage.said == ["kfws: the reader of stdout left"]


@contextmanager
def small_files() -> Iterator[None]:
    """Files end at 2000 bytes: the same as a full disk to who writes them.

    Within a test only, since the test runner's own output may be a file as well.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_ends_the_run_with_the_number_of_lost_lines(
    tmp_path: Path,
) -> None:
    stage = Stage()
    stage.tape(tmp_path / "x")
    with small_files(), pytest.raises(OutputError, match="file size limit reached") as caught:
        await stage.run(Scripted(trades(1, 100)))
    written = kinds(tmp_path / "x")
    assert written[:3] == ["header", "1", "2"]
    assert f"({102 - len(written)} lines not written to " in caught.value.message
    assert stage.said == []


async def test_a_full_disk_takes_nothing_from_the_other_outputs(
    tmp_path: Path,
) -> None:
    stage = Stage()
    stage.tape(tmp_path / "x")
    out = stage.pipe(Ndjson(events=True))
    with small_files(), pytest.raises(OutputError):
        await stage.run(Scripted(trades(1, 100)))
    lines = [json.loads(line) for line in out.bytes.splitlines()]
    assert [line["seq"] for line in lines[:-1]] == list(range(1, 101))
    assert lines[-1]["kfws"] == "totals"


async def test_a_full_disk_does_not_keep_a_slow_reader_from_its_lines(
    tmp_path: Path, standing_pipe: tuple[int, int]
) -> None:
    reader, writer = standing_pipe
    stage = Stage()
    stage.descriptor(writer)
    stage.tape(tmp_path / "x")
    with small_files():
        run = asyncio.create_task(stage.run(Scripted(trades(1, 5000))))
        got = await drained(reader, run)
    with pytest.raises(OutputError):
        await run
    assert got.endswith(trade(5000).payload + b"\n")


# Strict


async def test_strict_ends_at_a_broken_frame_and_passes_on_what_came_with_it() -> None:
    stage = Stage()
    out = stage.pipe()
    with pytest.raises(ProtocolBroken, match="broken frame: not JSON"):
        await stage.run(Scripted([trade(1), BROKEN], trades(2, 3)), planned(strict=True))
    assert out.bytes == payloads([trade(1)])


async def test_strict_closes_a_tape_as_any_run_does_and_takes_nothing_more(tmp_path: Path) -> None:
    stage = Stage()
    stage.tape(tmp_path / "x")
    rest: list[list[Event]] = [trades(2, 3), [CLOSED]]
    with pytest.raises(ProtocolBroken):
        await stage.run(Scripted([trade(1), BROKEN], rest=rest), planned(strict=True))
    assert kinds(tmp_path / "x") == ["header", "1", "broken", "closed", "totals"]


async def test_strict_ends_at_a_refusal() -> None:
    stage = Stage()
    stage.pipe()
    with pytest.raises(AllRefused, match="refused book PF_NO: no"):
        await stage.run(Scripted([trade(1), REFUSED]), planned(strict=True))
    assert stage.said == []


async def test_strict_does_not_mind_what_nobody_asked_for() -> None:
    stage = Stage()
    stage.pipe()
    quiet = Refused(
        payload=b"{}", received_ns=1, feed="heartbeat", product=None, message="no", quiet=True
    )
    await stage.run(Scripted([quiet, trade(1)]), planned(strict=True))


async def test_strict_does_not_look_behind_the_limit() -> None:
    stage = Stage()
    stage.pipe()
    await stage.run(Scripted([trade(1), BROKEN]), planned(strict=True, count=1))


# What comes while the run ends


@pytest.mark.parametrize("limit", [{"count": 100}, {"until": "price>100"}])
async def test_a_limit_that_was_not_reached_cuts_nothing_off_the_rest(
    limit: dict[str, Any],
) -> None:
    stage = Stage()
    out = stage.pipe()
    source = Scripted(trades(1, 2), rest=[trades(3, 5), trades(6, 8)], stands=True)
    run = asyncio.create_task(stage.run(source, planned(**limit)))
    await source.standing.wait()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KfwsError):
        await run
    assert out.bytes == payloads(trades(1, 8))


async def test_raw_leaves_out_a_rest_that_was_filtered_whole() -> None:
    stage = Stage()
    raw = stage.pipe(Raw(), Format.raw)
    source = Scripted([trade(1)], rest=[trades(2, 3)], stands=True)
    await stage.run(source, planned(where="price==1", duration="10ms"))
    assert raw.bytes == payloads([trade(1)])


async def test_a_count_that_is_reached_in_the_rest_ends_there() -> None:
    stage = Stage()
    out = stage.pipe()
    source = Scripted(trades(1, 2), rest=[[trade(3)], trades(4, 6)], stands=True)
    await stage.run(source, planned(count=3, duration="10ms"))
    assert out.bytes == payloads(trades(1, 3))


class Faulty(DescriptorOutlet):
    """A display with a bug in it."""

    def draw(self, now_ns: int, *, buffered: int = 0) -> None:
        raise ZeroDivisionError("a bug")

    def leave(self, now_ns: int) -> None: ...


async def test_a_bug_beside_the_pump_ends_the_run_at_once() -> None:
    stage = Stage()
    pipe = Collected()
    stage._pipes.append(pipe)
    stage.pairs.append((Output(None, Format.table), Faulty(pipe.writer, Ndjson())))
    source = Scripted(trades(1, 2), stands=True)
    with pytest.raises(ZeroDivisionError):
        await stage.run(source)
    assert source.closed.is_set()
