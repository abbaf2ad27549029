from __future__ import annotations

from collections.abc import Sequence

import pytest

from kfws.protocol.events import Event, Opened
from kfws.sinks.display import Display
from kfws.sinks.paint import Paint
from kfws.sinks.screen import Size
from kfws.sinks.status import Status
from tests.sinks.events import AT_NS
from tests.sinks.test_screen import Terminal

OPENED = Opened(received_ns=AT_NS, connection=1, url="ws://x")


class Fixed:
    """A view that would show so many rows, and has lines to say."""

    def __init__(self, name: str, wanted: int, *said: str) -> None:
        self._name = name
        self._wanted = wanted
        self._said = [*said]
        self.taken: list[Event] = []
        self.sizes: list[Size] = []

    def take(self, events: Sequence[Event]) -> None:
        self.taken += events

    def above(self, now_ns: int, size: Size) -> list[str]:
        said, self._said = self._said, []
        return said

    def rows(self, now_ns: int, size: Size) -> list[str]:
        self.sizes.append(size)
        return [f"{self._name}{number}" for number in range(min(self._wanted, size.lines))]


def display(*views: Fixed) -> Display:
    return Display(views, Status(venue="sim", asked="ticker", paint=Paint(False)))


def seen(display: Display, size: Size) -> list[str]:
    terminal = Terminal(size)
    terminal.feed(display.draw(AT_NS, size))
    return terminal.seen


def test_events_go_to_every_view_and_give_no_bytes() -> None:
    views = [Fixed("a", 1), Fixed("b", 1)]
    shown = display(*views)
    assert shown.encode([OPENED]) == b""
    assert [view.taken for view in views] == [[OPENED], [OPENED]]


def test_views_stand_below_each_other_over_the_status_line() -> None:
    shown = display(Fixed("a", 2), Fixed("b", 1))
    shown.encode([OPENED])
    assert seen(shown, Size(60, 10)) == ["a0", "a1", "b0", " ● sim · ticker · no gaps · 0 messages"]


@pytest.mark.parametrize("lines", [1, 2, 3, 5, 8, 30])
def test_views_share_the_lines_and_leave_one_for_what_is_said(lines: int) -> None:
    shown = display(Fixed("a", 100), Fixed("b", 2), Fixed("c", 100))
    found = seen(shown, Size(40, lines))
    assert len(found) == max(1, lines - 1)
    assert found[-1].startswith(" ○ connecting")


def test_what_views_leave_over_goes_to_those_below() -> None:
    first, second = Fixed("a", 1), Fixed("b", 100)
    seen(display(first, second), Size(40, 22))
    assert [first.sizes[-1].lines, second.sizes[-1].lines] == [10, 19]


def test_what_is_said_scrolls_away_above() -> None:
    shown = display(Fixed("a", 1, "rolled"))
    shown.say("kfws: a warning")
    size, terminal = Size(40, 5), Terminal(Size(40, 5))
    terminal.feed(shown.draw(AT_NS, size))
    assert terminal.seen[:3] == ["rolled", "kfws: a warning", "a0"]
    assert shown.draw(AT_NS, size) == b""
    shown.say("the last word")
    terminal.feed(shown.leave(AT_NS, size))
    assert terminal.seen == ["rolled", "kfws: a warning", "the last word", "a0"]
