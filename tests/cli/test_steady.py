"""The real program through outages: it goes on, says so, and leaves when it is asked to."""

from __future__ import annotations

import json
import signal
import socket
from typing import Any

import pytest

from tests.cli.program import PATIENCE_S, end, lines, run, start

TICKER = ("subscribe", "ticker", "PF_XBTUSD")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def nobody() -> str:
    return f"ws://127.0.0.1:{free_port()}/ws/v1"


def wait_for_nobody(seconds: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(seconds)
        server.accept()


def test_so_many_failed_dials_end_with_3_and_each_is_said() -> None:
    done = run(*TICKER, "--url", nobody(), "--attempts", "3")
    assert done.returncode == 3
    first, second, last = lines(done.stderr)
    for line in (first, second):
        assert "nothing is listening at 127.0.0.1:" in line
        assert "; dialling again in " in line
    assert last.endswith("; look at --url")


def test_a_signal_leaves_while_it_waits_to_dial_again() -> None:
    program = start(*TICKER, "--url", nobody(), "--attempts", "0")
    assert program.stderr is not None
    assert "dialling again" in program.stderr.readline()
    err, status = end(program, signal.SIGINT)
    assert status == 130
    assert "Traceback" not in err


def test_a_venue_that_is_not_there_yet_is_found_when_it_comes() -> None:
    port = free_port()
    program = start(*TICKER, "--url", f"ws://127.0.0.1:{port}/ws/v1", "--attempts", "0", "-n", "1")
    assert program.stderr is not None
    assert "dialling again" in program.stderr.readline()
    venue = start("sim", "--port", str(port))
    out, _ = program.communicate(timeout=PATIENCE_S)
    _, status = end(venue, signal.SIGTERM)
    assert program.returncode == 0
    assert json.loads(out)["product_id"] == "PF_XBTUSD"
    assert status == 143


@pytest.fixture
def faulty() -> Any:
    """Starts simulators with faults; ends them afterwards."""
    running = []

    def begin(*faults: str) -> str:
        options = [word for fault in faults for word in ("--fault", fault)]
        venue = start("sim", "--port", "0", *options)
        running.append(venue)
        assert venue.stderr is not None
        return venue.stderr.readline().split()[-1]

    yield begin
    for venue in running:
        end(venue, signal.SIGTERM)


def test_strict_ends_with_7_at_a_gap_that_nothing_heals(faulty: Any) -> None:
    url = faulty("gap=2@1s:feed=book")
    done = run("subscribe", "book", "PF_XBTUSD", "--url", url, "--strict", "--duration", "20s")
    assert done.returncode == 7
    assert "messages are missing of book PF_XBTUSD" in done.stderr


def test_the_sum_at_the_end_says_what_is_missing_for_people_and_machines(faulty: Any) -> None:
    url = faulty("gap=2@1s:feed=book", "drop@2s")
    book = ("subscribe", "book", "PF_XBTUSD", "--url", url, "--duration", "4s")
    done = run(*book, "--log-format", "json", "--events")
    assert done.returncode == 0
    said = [json.loads(line) for line in done.stderr.splitlines()]
    totals = next(each["totals"] for each in said if each["code"] == "totals")
    gaps = [each for each in map(json.loads, done.stdout.splitlines()) if each.get("kfws") == "gap"]
    assert totals["connections"] == 2
    assert totals["gaps"] == len(gaps)
    assert totals["missing"] == sum(gap["missing"] for gap in gaps if not gap["healed"])
    assert {each["code"] for each in said} >= {"gap", "stale", "resync", "redial", "opened"}


def test_a_process_that_was_stopped_names_the_time_that_it_did_not_see(faulty: Any) -> None:
    program = start(*TICKER, "--url", faulty(), "--events", "-v")
    assert program.stdout is not None
    seen = ""
    while '"time"' not in seen:
        seen = program.stdout.readline()
    program.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        wait_for_nobody(6.5)  # longer than any loop is busy
    program.send_signal(signal.SIGCONT)
    while '"cause":"suspended"' not in seen:
        seen = program.stdout.readline()
    gap = json.loads(seen)
    assert (gap["kfws"], gap["feed"], gap["missing"]) == ("gap", "ticker", None)
    assert gap["to_ns"] - gap["from_ns"] > 6e9
    _, status = end(program, signal.SIGINT)
    assert status == 130
