"""Text for a terminal: how wide it is, cut to a width, in a style.

Rule of this room: pure, and the only one that knows rich. What comes from the venue has been
through ``columns.printable`` before it comes here.
"""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

__all__ = ["Paint", "cells", "fit", "unpainted"]

_STYLED = re.compile(r"\x1b\[[0-9;]*m")


class Paint:
    """Puts texts in styles, written as rich writes them (``bold green on black``), or not at all.

    The 16 basic colours only, since those a person has chosen to be readable.
    """

    def __init__(self, color: bool) -> None:
        self.color = color
        self._known: dict[str, tuple[str, str]] = {}

    def __call__(self, style: str, text: str) -> str:
        if not self.color or not style:
            return text
        found = self._known.get(style)
        if found is None:
            parts = Style.parse(style).render("|", color_system=ColorSystem.STANDARD)
            before, _, behind = parts.partition("|")
            found = self._known[style] = before, behind
        return f"{found[0]}{text}{found[1]}"


def unpainted(text: str) -> str:
    """The text without its styles."""
    return _STYLED.sub("", text)


def cells(text: str) -> int:
    """How many cells a text without styles takes; wide letters take two."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly that many cells, with ``…`` where it was cut."""
    taken = cells(text)
    if taken <= width:
        return " " * (width - taken) + text if right else text + " " * (width - taken)
    return set_cell_size(text, width - 1) + "…" if width > 0 else ""
