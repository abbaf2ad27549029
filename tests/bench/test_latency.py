"""The venue that spins, with the real program as its client."""

from __future__ import annotations

import sys

import pytest

from tests.bench.clients import OURS, Client, Place
from tests.bench.latency import delays, seen_by
from tests.bench.measure import ClientFailed
from tests.needs import lacking


def stamped(ns: int) -> bytes:
    return b'{"seq":1,"sent_ns":%19d}\n' % ns


def test_a_line_is_as_late_as_the_read_that_brought_its_end() -> None:
    first, second = stamped(1_000), stamped(2_000)
    reads = [(4_000, first + second[:9]), (9_000, second[9:])]
    assert [*delays(reads)] == [3.0, 7.0]


def test_every_message_comes_out_with_the_moment_of_its_write() -> None:
    if sys.platform != "linux":
        lacking("the time of another process has a clock on Linux only")
    seen = seen_by(OURS, 1000, 0.1)
    assert len(seen.delays_us) == 100
    assert min(seen.delays_us) > 0


def test_a_client_that_loses_messages_is_named() -> None:
    def command(place: Place) -> list[str]:
        return [*OURS.command(place), "--where", "seq < 0"]

    with pytest.raises(ClientFailed, match="lossy: 10 of 10 lines did not come"):
        seen_by(Client("lossy", command), 1000, 0.01)
