"""What a message costs, counted instead of timed: how often each function is called for it.

The seam is the interpreter's own hook for profilers. What is called for each message stands in
``PER_MESSAGE``; all else (awaits, writes, flushes, decoding the whole of it) is done once for a
read of the socket, which holds hundreds, or not at all.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from tests.bench.load import PRODUCT, Load, serve
from tests.cli.inside import beside, run

MESSAGES = 5000

PER_MESSAGE = {
    # The session: one typed pass for the head, the stream that it belongs to.
    *("Decoder.decode", "dict.get"),
    # Lists of what was found.
    *("list.append", "len", "isinstance"),
}
WITH_COMPRESSION = {"Decompress.decompress"}


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Every call in this thread, Python's and C's, and every time that a coroutine goes on."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, what: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            calls[what.__qualname__] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def calls_for(messages: int, feed: str, *options: str) -> Counter[str]:
    """Of the whole program, in this process."""
    load = Load(feed, messages, deflate="--compression" in options)
    with beside(lambda: serve(load)) as port, counted() as calls:
        asked = ("subscribe", feed, PRODUCT, "--url", f"ws://127.0.0.1:{port}/ws/v1", "-q")
        done = run(*asked, "-f", "ndjson", "-n", str(messages), *options)
    assert (done.status, done.out.count(b"\n")) == (0, messages)
    return calls


def grown_with_messages(feed: str, *options: str) -> dict[str, int]:
    """How often each function is called for one more message, where that is not never."""
    calls_for(1, feed, *options)  # imports
    few, many = calls_for(1, feed, *options), calls_for(MESSAGES, feed, *options)
    each = {name: round((many[name] - few[name]) / (MESSAGES - 1)) for name in many}
    return {name: times for name, times in each.items() if times}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("feed", ["book", "ticker"])
def test_a_message_is_read_once_and_nothing_waits_writes_or_flushes_for_it(
    feed: str, loop: str
) -> None:
    grown = grown_with_messages(feed, "--loop", loop)
    assert grown.keys() <= PER_MESSAGE
    assert grown["Decoder.decode"] == 1
    assert sum(grown.values()) <= 9


def test_a_compressed_message_costs_one_call_more() -> None:
    grown = grown_with_messages("book", "--compression")
    assert grown.keys() <= PER_MESSAGE | WITH_COMPRESSION
    assert grown["Decompress.decompress"] == grown["Decoder.decode"] == 1


def test_a_stamp_costs_no_call_more_and_decodes_nothing() -> None:
    assert grown_with_messages("book", "--stamp") == grown_with_messages("book")


def test_the_count_would_see_what_is_done_for_each_message() -> None:
    grown = grown_with_messages("ticker", "--where", "last > 0")
    assert grown["Decoder.decode"] == 2
