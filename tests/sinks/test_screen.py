from __future__ import annotations

import pyte
from hypothesis import given
from hypothesis import strategies as st

from kfws.sinks.paint import Paint
from kfws.sinks.screen import Screen, Size

SIZE = Size(20, 8)
LINES = st.text(alphabet="abc日▲", max_size=8)
PICTURES = st.lists(LINES, max_size=SIZE.lines - 1)


class Terminal:
    """A terminal that remembers what scrolled out of it."""

    def __init__(self, size: Size) -> None:
        self.screen = pyte.HistoryScreen(size.columns, size.lines, history=1000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)

    def feed(self, data: bytes) -> None:
        self._stream.feed(data)

    @property
    def seen(self) -> list[str]:
        """All lines, those that scrolled away first, without the empty ones at the end."""
        gone = ["".join(line[x].data for x in sorted(line)) for line in self.screen.history.top]
        found = [line.rstrip() for line in (*gone, *self.screen.display)]
        while found and not found[-1]:
            found.pop()
        return found


@given(st.lists(st.tuples(st.lists(LINES, max_size=3), PICTURES), min_size=1))
def test_a_person_sees_all_lines_in_order_and_below_them_the_last_picture(
    steps: list[tuple[list[str], list[str]]],
) -> None:
    screen, terminal = Screen(), Terminal(SIZE)
    printed: list[str] = []
    for above, rows in steps:
        terminal.feed(screen.show(above, rows, SIZE))
        printed += above
    expected = [*printed, *steps[-1][1]]
    while expected and not expected[-1]:
        expected.pop()
    assert terminal.seen == expected


def test_only_rows_that_changed_are_written() -> None:
    screen = Screen()
    screen.show([], ["one", "two", "three", "four"], SIZE)
    assert screen.show([], ["one", "two", "three", "four"], SIZE) == b""
    changed = screen.show([], ["one", "TWO", "three", "four"], SIZE)
    assert b"TWO" in changed
    assert b"one" not in changed
    assert b"three" not in changed


def test_a_row_as_wide_as_the_terminal_is_seen_whole() -> None:
    screen, terminal = Screen(), Terminal(SIZE)
    rows = ["a" * 20, "b" * 20]
    terminal.feed(screen.show([], rows, SIZE))
    terminal.feed(screen.show(["said"], rows, SIZE))
    assert terminal.seen == ["said", *rows]


def test_a_long_line_above_wraps_and_tears_nothing() -> None:
    screen, terminal = Screen(), Terminal(SIZE)
    rows = ["x" * 20, "y" * 20, "z"]
    terminal.feed(screen.show([], rows, SIZE))
    terminal.feed(screen.show(["w" * 25], rows, SIZE))
    assert terminal.seen == ["w" * 20, "w" * 5, *rows]


def test_between_drawings_the_cursor_is_hidden_and_behind_them_it_is_back() -> None:
    screen, terminal = Screen(), Terminal(SIZE)
    terminal.feed(screen.show([], ["one", "status"], SIZE))
    assert terminal.screen.cursor.hidden
    terminal.feed(screen.leave(["last words"], ["one"], SIZE))
    assert not terminal.screen.cursor.hidden
    assert pyte.modes.DECAWM in terminal.screen.mode
    assert terminal.seen == ["last words", "one"]
    terminal.feed(b"$ ")
    assert terminal.seen == ["last words", "one", "$"]
    assert screen.leave([], [], SIZE) == b""


def test_after_another_size_the_picture_stands_once() -> None:
    screen, terminal = Screen(), Terminal(SIZE)
    terminal.feed(screen.show(["said"], ["a" * 18, "b" * 18, "c" * 18], SIZE))
    for size in (Size(12, 8), Size(30, 8), Size(30, 4), Size(30, 10)):
        terminal.screen.resize(size.lines, size.columns)
        rows = [mark * size.columns for mark in "ab"]
        terminal.feed(screen.show([], rows, size))
        shown = [line for line in terminal.screen.display if line.strip()]
        assert shown[-2:] == rows
        assert not any("c" in line for line in shown)


def test_where_a_terminal_breaks_wide_rows_anew_all_of_them_are_taken_away() -> None:
    screen = Screen()
    painted = Paint(True)("bold", "a" * 18)
    screen.show([], [painted, "b" * 18, "c" * 18], SIZE)
    # At half the width each row takes two lines there, so the first one stands four lines up.
    assert screen.show([], ["a"], Size(9, 8)).startswith(b"\r\x1b[4A\x1b[J")
