from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import tty
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from kfws.cli.outlet import FULL_BYTES, DescriptorOutlet, FileOutlet
from kfws.errors import OutputError
from kfws.protocol.events import Event
from kfws.sinks.shelf import Keeping, Shelf
from kfws.tapes.names import Template
from tests.needs import lacking
from tests.sinks.events import all_data

LINE = b"x" * 99 + b"\n"
MUCH = LINE * 8_000
"""More than pipes, sockets and terminals hold."""


class Plain:
    """A sink; what it makes of events is no matter here."""

    def encode(self, events: Sequence[Event]) -> bytes:
        return LINE * len(events)


def outlet(fd: int) -> DescriptorOutlet:
    return DescriptorOutlet(fd, Plain(), name="it")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    close(reader, writer)


@pytest.fixture
def sockets() -> Iterator[tuple[int, int]]:
    ours, theirs = socket.socketpair()
    yield ours.detach(), (writer := theirs.detach())
    close(writer)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    far, near = os.openpty()
    tty.setraw(near)
    yield far, near
    close(far, near)


def close(*fds: int) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.fixture(params=["pipe", "sockets", "terminal", "polled"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The reader's and the writer's end of all that has a reader."""
    if request.param != "polled":
        ends: tuple[int, int] = request.getfixturevalue(request.param)
        yield ends
        return
    reader, writer = os.pipe()
    yield reader, writer
    close(reader, writer)


@pytest.fixture
async def opened(
    ends: tuple[int, int], request: pytest.FixtureRequest
) -> AsyncIterator[tuple[int, DescriptorOutlet]]:
    """The reader's end, and an outlet on the other."""
    reader, writer = ends
    if request.node.callspec.params["ends"] == "polled":
        # While a pipe has no reader it cannot be opened anew, so it is used as it is.
        os.close(reader)
        out = outlet(writer)
        reader = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY)
    else:
        out = outlet(writer)
    yield reader, out
    out.close()
    close(reader)


def read_some(fd: int) -> bytes:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1_000_000)
    except BlockingIOError:
        return b""


async def read(reader: int, out: DescriptorOutlet, size: int) -> bytes:
    """Reads so many bytes, as a person would who came back, and until all is out."""
    flushing = asyncio.create_task(out.flush())
    got = b""
    while len(got) < size:
        got += read_some(reader)
        await asyncio.sleep(0)
    await flushing
    return got


# Anything that has a reader


async def test_lines_are_out_at_once_where_there_is_room(
    opened: tuple[int, DescriptorOutlet],
) -> None:
    reader, out = opened
    out.put(LINE)
    assert (out.pending, out.pending_lines, out.is_full) == (0, 0, False)
    await out.drain()
    assert await read(reader, out, len(LINE)) == LINE


async def test_what_does_not_fit_waits_and_nothing_blocks(
    opened: tuple[int, DescriptorOutlet],
) -> None:
    reader, out = opened
    out.put(MUCH)
    assert out.is_full
    assert len(MUCH) > out.pending > FULL_BYTES
    assert out.pending_lines == out.pending // 100 + bool(out.pending % 100)
    out.put(b"the last\n")
    expected = MUCH + b"the last\n"
    assert await read(reader, out, len(expected)) == expected
    assert (out.pending, out.is_full, out.is_gone) == (0, False, False)


async def test_what_is_not_written_is_known_by_whole_lines(
    opened: tuple[int, DescriptorOutlet],
) -> None:
    reader, out = opened
    numbered = b"".join(b"%099d\n" % number for number in range(len(MUCH) // 100))
    out.put(numbered)
    for _ in range(3):
        read_some(reader)
        await asyncio.sleep(0)
        lines = out.unwritten.splitlines(keepends=True)
        assert len(lines) == out.pending_lines
        assert b"".join(lines) == numbered[-100 * len(lines) :]


async def test_it_can_be_written_again_after_it_was_full(
    opened: tuple[int, DescriptorOutlet],
) -> None:
    reader, out = opened
    for _ in range(3):
        out.put(MUCH)
        assert await read(reader, out, len(MUCH)) == MUCH
    out.put(LINE)
    assert await read(reader, out, len(LINE)) == LINE


async def test_drain_waits_for_room_and_not_for_all(
    opened: tuple[int, DescriptorOutlet],
) -> None:
    reader, out = opened
    out.put(MUCH)
    draining = asyncio.create_task(out.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    while not draining.done():
        read_some(reader)
        await asyncio.sleep(0)
    assert 0 < out.pending <= FULL_BYTES


async def test_waiting_can_be_given_up(opened: tuple[int, DescriptorOutlet]) -> None:
    reader, out = opened
    out.put(MUCH)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(out.flush(), 0.001)
    assert await read(reader, out, len(MUCH)) == MUCH


async def test_the_description_that_others_hold_too_goes_on_blocking(
    ends: tuple[int, int],
) -> None:
    out = outlet(ends[1])
    out.put(MUCH)
    assert os.get_blocking(ends[1])
    out.close()


async def test_closing_leaves_the_descriptor_that_was_handed_in(ends: tuple[int, int]) -> None:
    out = outlet(ends[1])
    out.close()
    out.close()
    os.fstat(ends[1])


async def test_closing_closes_a_descriptor_that_is_ours(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)
    DescriptorOutlet(fd, Plain(), own=True).close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_a_closed_outlet_leaves_whose_number_it_had_alone(pipe: tuple[int, int]) -> None:
    out = outlet(pipe[1])
    out.close()
    # The lowest free numbers are given out: one of them is the one that the outlet had.
    pairs = [socket.socketpair() for _ in range(4)]
    streams = [await asyncio.open_connection(sock=ours) for ours, _ in pairs]
    out.close()
    for (_, writer), (_, theirs) in zip(streams, pairs, strict=True):
        writer.close()
        await writer.wait_closed()
        theirs.close()


# Readers that leave


@pytest.mark.parametrize("kind", ["pipe", "sockets"])
@pytest.mark.parametrize("wait", ["drain", "flush"])
async def test_a_reader_that_leaves_with_much_waiting_ends_the_waiting(
    kind: str, wait: str, request: pytest.FixtureRequest
) -> None:
    reader, writer = request.getfixturevalue(kind)
    out = outlet(writer)
    out.put(MUCH)
    waiting = asyncio.create_task(out.drain() if wait == "drain" else out.flush())
    await asyncio.sleep(0)
    os.close(reader)
    await waiting
    assert out.is_gone
    assert (out.pending, out.is_full) == (0, False)
    out.put(MUCH)
    await out.flush()
    assert out.pending == 0
    out.close()


async def test_a_polled_reader_that_leaves_with_much_waiting_ends_the_waiting(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    os.close(reader)
    out = outlet(writer)
    reader = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY)
    out.put(MUCH)
    os.close(reader)
    await out.flush()
    assert out.is_gone
    out.close()


@pytest.mark.parametrize("kind", ["pipe", "sockets"])
async def test_a_reader_that_left_before_is_noticed_by_the_first_write(
    kind: str, request: pytest.FixtureRequest
) -> None:
    reader, writer = request.getfixturevalue(kind)
    os.close(reader)
    out = outlet(writer)
    out.put(LINE)
    assert out.is_gone
    assert out.pending == 0
    out.close()


async def test_a_reader_of_a_pipe_is_noticed_leaving_while_nothing_is_written(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    out = outlet(writer)
    os.close(reader)
    for _ in range(3):  # rounds of the loop; the system tells at once
        await asyncio.sleep(0)
    assert out.is_gone
    out.close()


async def test_a_terminal_that_hangs_up_is_a_reader_that_left(terminal: tuple[int, int]) -> None:
    far, near = terminal
    out = outlet(near)
    os.close(far)
    out.put(LINE)
    assert out.is_gone
    out.close()


async def test_a_terminal_that_hangs_up_ends_the_waiting(terminal: tuple[int, int]) -> None:
    far, near = terminal
    out = outlet(near)
    out.put(MUCH)
    waiting = asyncio.create_task(out.flush())
    await asyncio.sleep(0)
    os.close(far)
    await waiting
    assert out.is_gone
    out.close()


# Files and devices on stdout


async def test_a_file_takes_everything_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb") as file:
        out = outlet(file.fileno())
        out.put(MUCH)
        out.put(bytearray(LINE))
        out.put(b"")
        assert out.pending == 0
        out.close()
    assert path.read_bytes() == MUCH + LINE


async def test_a_closed_stdout_is_said() -> None:
    with pytest.raises(OutputError, match="stdout is closed"):
        outlet(-1)


@pytest.fixture
def full_disk() -> int:
    return os.open(dev_full(), os.O_WRONLY)


def dev_full() -> Path:
    if not Path("/dev/full").exists():
        lacking("/dev/full is not here")
    return Path("/dev/full")


async def test_a_full_disk_is_said_with_what_is_lost(full_disk: int) -> None:
    out = DescriptorOutlet(full_disk, Plain(), name="it", own=True)
    with pytest.raises(OutputError, match="disk full: it takes no more"):
        out.put(LINE * 3)
    assert out.pending_lines == 3
    with pytest.raises(OutputError, match="disk full"):
        out.put(LINE)
    out.close()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The same as a full disk to who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_a_file_size_limit_leaves_whole_lines(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"of before\n" if mode == "ab" else b"")

    async def write(fd: int) -> DescriptorOutlet:
        out = outlet(fd)
        with (
            file_size_limit(1050),
            pytest.raises(OutputError, match="it reached the file size limit"),
        ):
            out.put(LINE * 20)
        out.close()
        return out

    with path.open(mode) as file:
        out = asyncio.run(write(file.fileno()))
    before = b"of before\n" if mode == "ab" else b""
    assert path.read_bytes() == before + LINE * 10
    assert out.pending_lines == 10


def test_what_stood_behind_our_place_in_a_file_is_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"y" * 5000)

    async def write(fd: int) -> None:
        out = outlet(fd)
        with file_size_limit(1050), pytest.raises(OutputError):
            out.put(LINE * 20)
        out.close()

    with path.open("r+b") as file:
        asyncio.run(write(file.fileno()))
    assert len(path.read_bytes()) == 5000


# Files of -o


def shelf(path: Path, **how: Any) -> Shelf:
    shelf = Shelf(Keeping(template=Template(str(path)), **how), lambda feed: Plain())
    shelf.open(0)
    return shelf


async def test_a_file_outlet_writes_what_came_and_waits_for_it_only_where_asked(
    tmp_path: Path,
) -> None:
    out = FileOutlet(shelf(tmp_path / "x"))
    assert out.name == str(tmp_path / "x")
    assert (out.is_full, out.is_gone) == (False, False)
    events = all_data()
    out.write(events)
    assert out.pending == sum(len(each.payload) for each in events)
    await out.flush()
    assert out.pending == 0
    assert (tmp_path / "x").read_bytes() == LINE * len(events)
    out.write(events)
    out.sync(1)
    out.close()
    out.close()
    assert out.pending_lines == 0
    assert (tmp_path / "x").read_bytes() == LINE * len(events) * 2


@pytest.mark.parametrize("how", ["soon", "at once", "much"])
async def test_lines_reach_the_file_without_being_asked_for(tmp_path: Path, how: str) -> None:
    events = all_data() * (1000 if how == "much" else 1)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    out = FileOutlet(shelf(tmp_path / "pipe"), at_once=how == "at once")
    os.set_blocking(reader, True)
    out.write(events)
    await asyncio.to_thread(read_all, reader, len(LINE) * len(events))
    out.close()
    os.close(reader)


async def test_more_than_may_wait_for_the_disk_holds_up_the_run_until_it_is_written(
    tmp_path: Path,
) -> None:
    out = FileOutlet(shelf(tmp_path / "x"), full_bytes=1, at_once=True)
    out.write(all_data())
    assert out.is_full
    await out.drain()
    assert not out.is_full
    out.close()


async def test_a_pipe_that_nobody_reads_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    out = FileOutlet(shelf(tmp_path / "pipe"), at_once=True)
    events = all_data() * (len(MUCH) // len(LINE) // len(all_data()) + 1)
    out.write(events)
    out.write(events)  # the first is stuck in the thread, and we are here
    assert out.pending > 0
    os.set_blocking(reader, True)
    reading = asyncio.create_task(asyncio.to_thread(read_all, reader, 2 * len(events) * len(LINE)))
    await out.flush()
    await reading
    out.close()
    os.close(reader)


def read_all(fd: int, size: int) -> None:
    while size > 0:
        size -= len(os.read(fd, 65_536))


async def test_what_went_wrong_is_raised_from_then_on_and_lost_lines_are_counted(
    tmp_path: Path,
) -> None:
    out = FileOutlet(shelf(dev_full()))
    events = all_data()
    out.write(events)
    with pytest.raises(OutputError, match="disk full: /dev/full"):
        await out.flush()
    steps: list[Callable[[], None]] = [lambda: out.write(events), lambda: out.sync(1), out.close]
    for step in steps:
        with pytest.raises(OutputError, match="disk full: /dev/full"):
            step()
    assert out.pending_lines == 2 * len(events)
    out.close()


async def test_lines_that_came_after_the_failure_and_before_it_was_known_are_counted_too(
    tmp_path: Path,
) -> None:
    out = FileOutlet(shelf(tmp_path / "x"), at_once=True)
    with file_size_limit(1050):
        for _ in range(3):
            with suppress(OutputError):
                out.write(all_data()[:15])
        with pytest.raises(OutputError, match="file size limit reached"):
            out.close()
    assert (tmp_path / "x").read_bytes() == LINE * 10
    assert out.pending_lines == 35


async def test_a_folder_that_is_gone_at_the_end_ends_the_recording(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    out = FileOutlet(shelf(folder / "x.ndjson", rotate_ns=3600 * 10**9))
    out.write(all_data())
    await out.flush()
    shutil.rmtree(folder)
    with pytest.raises(OutputError, match="cannot write"):
        out.close()


async def test_a_disk_that_is_still_full_at_the_end_ends_the_recording() -> None:
    out = FileOutlet(shelf(dev_full(), on_disk_full="wait"))
    events = all_data()
    out.write(events)
    await out.flush()
    with pytest.raises(OutputError, match="disk full: /dev/full"):
        out.close()
    assert out.pending_lines == len(events)


async def test_a_bug_in_a_sink_is_not_swallowed_by_its_thread(tmp_path: Path) -> None:
    shelf = Shelf(Keeping(template=Template(str(tmp_path / "x"))), lambda feed: Broken())
    shelf.open(0)
    out = FileOutlet(shelf)
    out.write(all_data())
    with pytest.raises(ZeroDivisionError):
        out.close()


class Broken:
    def encode(self, events: Sequence[Event]) -> bytes:
        return b"x" * (1 // (not events))
