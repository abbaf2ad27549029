"""What stands at the bottom of a terminal, and the bytes that turn it into something else.

The picture stands below what was printed before, and stays there when the program leaves;
lines above it scroll away into the terminal's own memory.

Rule of this room: pure. Nothing here knows what the rows say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kfws.sinks.paint import cells, unpainted

__all__ = ["Screen", "Size"]

# Nothing wraps within the picture, whatever a terminal takes for the width of a letter.
_ENTER = "\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h"
_WRAPPED, _CUT = "\x1b[?7h", "\x1b[?7l"
# Terminals that know it show all between these at once, others pass over them.
_TOGETHER, _DONE = "\x1b[?2026h", "\x1b[?2026l"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[2K", "\x1b[J"


class Size(NamedTuple):
    """Of a terminal, in cells."""

    columns: int
    lines: int


class Screen:
    """The picture as it stands. Between two calls the cursor is hidden, at the start of the
    picture's last row."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._size: Size | None = None
        """None: we have not entered."""

    def show(self, above: Sequence[str], rows: Sequence[str], size: Size) -> bytes:
        """Prints the lines above the picture, and makes the picture these rows.

        Lines above may be of any length, rows at most as wide, and fewer, than the terminal.
        """
        out = []
        if self._size is None:
            out.append(_ENTER)
        elif size != self._size:
            out.append(self._erase(size))
        self._size = size
        if above or len(rows) != len(self._shown):
            out.append(self._anew(above, rows))
        else:
            out.append(self._changes(rows))
        self._shown = list(rows)
        return "".join(out).encode(errors="replace")

    def leave(self, above: Sequence[str], rows: Sequence[str], size: Size) -> bytes:
        """The last picture, which stays, and the terminal as it was. Nothing if it has been left,
        or never been entered."""
        if self._size is None:
            return b""
        last = self.show(above, rows, size) + (b"\r\n" if rows else b"")
        self._shown, self._size = [], None
        return last + _LEAVE.encode()

    def _anew(self, above: Sequence[str], rows: Sequence[str]) -> str:
        """The whole picture, over the old one, with lines before it."""
        up = f"\x1b[{len(self._shown) - 1}A" if len(self._shown) > 1 else ""
        lines = "".join(f"{line}\r\n" for line in above)
        if lines:
            lines = f"{_CLEAR_BELOW}{_WRAPPED}{lines}{_CUT}"
        first = "".join(f"{_CLEAR_LINE}{row}\r\n" for row in rows[:-1])
        # Cleared before it is written: behind a full row the cursor stands on its last letter.
        last = f"{_CLEAR_BELOW}{rows[-1] if rows else ''}"
        return f"{_TOGETHER}\r{up}{lines}{first}{last}\r{_DONE}"

    def _changes(self, rows: Sequence[str]) -> str:
        """Only the rows that are others now."""
        out, last = [], len(rows) - 1
        at = last
        for place, (old, new) in enumerate(zip(self._shown, rows, strict=True)):
            if old != new:
                out.append(f"{_move(at, place)}{_CLEAR_LINE}{new}\r")
                at = place
        return "".join([*out, _move(at, last)])

    def _erase(self, size: Size) -> str:
        """Takes the picture away after the terminal has another size: it may have broken rows
        that are wider than it is now, so that the first one stands higher up."""
        width = max(size.columns, 1)
        up = sum(max(1, -(-cells(unpainted(row)) // width)) for row in self._shown[:-1])
        self._shown = []
        return f"\r{_move(up, 0)}{_CLEAR_BELOW}"


def _move(place: int, to: int) -> str:
    if to < place:
        return f"\x1b[{place - to}A"
    return f"\x1b[{to - place}B" if to > place else ""
