from __future__ import annotations

import pytest

from kfws.protocol.events import Closed, Data, Event, Gap, Opened, Redial
from kfws.sinks.paint import Paint
from kfws.sinks.status import Status
from tests.sinks.events import AT_NS

SECOND = 1_000_000_000
OPENED = Opened(received_ns=AT_NS, connection=1, url="ws://x")
CLOSED = Closed(received_ns=AT_NS, connection=1, code=1006, reason="")
REDIAL = Redial(received_ns=AT_NS, reason="lost", failed=1, delay_s=3.0)


def status(*events: Event, color: bool = False) -> Status:
    found = Status(venue="live", asked="ticker PF_XBTUSD", paint=Paint(color))
    found.take(events)
    return found


def gap(healed_by: str | None = None) -> Gap:
    return Gap(
        received_ns=AT_NS, feed="book", product="P", first=1, last=2, missing=2, cause="outage",
        from_ns=0, to_ns=1, healed_by=healed_by,
    )  # fmt: skip


def message(delay_ms: int = 12) -> Data:
    at_ms = AT_NS // 1_000_000
    return Data(
        payload=b"{}",
        received_ns=AT_NS,
        feed="ticker",
        product="PF_XBTUSD",
        venue_ms=at_ms - delay_ms,
    )


def test_it_says_where_from_what_and_how_it_goes() -> None:
    line = status(OPENED, *[message()] * 3)
    line.line(AT_NS, 120)
    line.take([message(15)] * 1234)
    shown = line.line(AT_NS + SECOND, 120, buffered=3 * 1024)
    assert shown.rstrip() == (
        " ● live · ticker PF_XBTUSD · 1,234/s · delay 15 ms · no gaps · buffer 3 KiB"
        " · 1,237 messages"
    )
    assert len(shown) == 120


def test_before_the_first_connection_it_says_so() -> None:
    assert status().line(AT_NS, 80).startswith(" ○ connecting live · ticker PF_XBTUSD")


def test_while_it_waits_for_a_redial_it_is_yellow_and_counts_down() -> None:
    line = status(OPENED, CLOSED, REDIAL, color=True)
    for passed, left in ((0, "3.0"), (1, "2.0"), (5, "0.0")):
        shown = line.line(AT_NS + passed * SECOND, 80)
        assert f"○ live reconnecting in {left} s" in shown
        assert shown.startswith("\x1b[30;43m")
    line.take([Opened(received_ns=AT_NS, connection=2, url="ws://x")])
    assert "● live" in line.line(AT_NS, 80)
    assert "1 reconnect ·" in line.line(AT_NS, 80)


def test_a_connection_that_is_lost_beside_another_is_no_outage() -> None:
    second = Opened(received_ns=AT_NS, connection=2, url="ws://x")
    line = status(OPENED, second)
    assert "● live ×2" in line.line(AT_NS, 80)
    line.take([CLOSED, REDIAL])
    assert line.line(AT_NS, 80).startswith(" ● live ·")


def test_gaps_are_counted_and_said_to_be_healed_only_when_all_are() -> None:
    line = status(OPENED, gap("snapshot"))
    assert "1 gap healed" in line.line(AT_NS, 80)
    line.take([gap()])
    assert "2 gaps ·" in line.line(AT_NS, 80)


def test_what_matters_least_is_left_out_where_it_is_narrow() -> None:
    line = status(OPENED, message())
    for width in range(1, 100):
        assert len(line.line(AT_NS, width)) == width
    assert line.line(AT_NS, 30).rstrip() == " ● live · ticker PF_XBTUSD"


def test_a_venue_cannot_move_the_cursor() -> None:
    line = Status(venue="ws://x/\x1b[2J", asked="ticker \u202e", paint=Paint(False))
    assert line.line(AT_NS, 80).isprintable()


def test_of_a_replay_it_says_where_it_stands_instead_of_how_connections_do() -> None:
    found = Status(venue="", asked="book", paint=Paint(False), played=lambda: "● playing ×10")
    found.take([REDIAL, CLOSED, message()])
    assert found.line(AT_NS, 60).rstrip() == (
        " ● playing ×10 · book · delay 12 ms · no gaps · 1 message"
    )


@pytest.mark.parametrize("state", ["● playing", "○ paused"])
def test_the_state_is_always_there_and_is_cut_where_it_is_too_long(state: str) -> None:
    told = f"{state} 2026-10-09 04:05:18 ×1 0% · space plays, → steps, q leaves"
    found = Status(venue="", asked="book PF_XBTUSD", paint=Paint(False), played=lambda: told)
    assert found.line(AT_NS, 60) == f" {told}"[:59] + "…"
    assert found.line(AT_NS, 12).startswith(f" {state}")
    assert len(found.line(AT_NS, 12)) == 12
    assert status(OPENED, CLOSED, REDIAL).line(AT_NS, 20) == " ○ live reconnectin…"
