"""What the event loop of a run is made of."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from kfws.cli import loop
from kfws.cli.choices import LoopName
from tests.cli.program import lines, run

SIM = ("--env", "sim", "-f", "ndjson")


@pytest.mark.parametrize(
    ("name", "is_uvloop"),
    [(LoopName.auto, True), (LoopName.uvloop, True), (LoopName.asyncio, False)],
)
def test_uvloop_is_used_where_it_is_installed(name: LoopName, is_uvloop: bool) -> None:
    seen = []

    async def look() -> None:
        seen.append(isinstance(asyncio.get_running_loop(), uvloop.Loop))

    loop.run(look(), name)
    assert seen == [is_uvloop]


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_a_run_is_the_same_on_either(name: str) -> None:
    done = run("subscribe", "book", "PF_XBTUSD", *SIM, "--loop", name, "-n", "20")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 20)


def test_reads_that_are_kept_apart_bring_all() -> None:
    done = run("subscribe", "book", "PF_XBTUSD", *SIM, "--coalesce", "5ms", "-n", "50")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 50)


def test_stats_are_talk_or_with_events_part_of_the_stream() -> None:
    options = ("subscribe", "book", "PF_XBTUSD", *SIM, "--duration", "1s", "--stats", "300ms")
    talk = run(*options)
    assert any("messages/s" in line and "no gaps so far" in line for line in lines(talk.stderr))
    assert '"kfws":"stats"' not in talk.stdout
    stream = run(*options, "--events")
    assert not any("messages/s" in line for line in lines(stream.stderr))
    assert '"kfws":"stats"' in stream.stdout
    assert '"messages_per_s":' in stream.stdout
