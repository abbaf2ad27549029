"""``python -m tests.pictures``: the pictures of the pages, from the seeded market, into ``docs``.

The same seed, the same minute, so a picture changes only when the program looks otherwise.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from kfws.sinks.board import Board
from kfws.sinks.display import View
from kfws.sinks.ladder import Ladder
from kfws.sinks.paint import Paint
from kfws.sinks.roll import Roll
from kfws.sinks.screen import Size
from kfws.sinks.status import Status
from tests.sinks.market import played

__all__ = ["PICTURES", "drawn"]

DOCS = Path(__file__).parent.parent / "docs"
SECONDS = 60
PAINT = Paint(True)
Products = tuple[str, ...]


class Picture(NamedTuple):
    """What is asked for, and how it is shown."""

    feeds: tuple[str, ...]
    products: Products
    size: Size
    views: Callable[[Products], list[View]]

    @property
    def command(self) -> str:
        return f"kfws subscribe {','.join(self.feeds)} {' '.join(self.products)}"


def board(products: Products) -> list[View]:
    return [Board("ticker", paint=PAINT, zone=UTC, order=products)]


def roll(products: Products) -> list[View]:
    return [Roll(("trade",), paint=PAINT, zone=UTC, products=products)]


def ladder(products: Products) -> list[View]:
    return [Ladder(products, paint=PAINT)]


PICTURES = {
    "board": Picture(
        ("ticker",),
        ("PF_XBTUSD", "PF_ETHUSD", "PF_SOLUSD", "PF_XRPUSD", "PF_DOGEUSD", "PI_XBTUSD"),
        Size(116, 24),
        board,
    ),
    "roll": Picture(("trade",), ("PF_XBTUSD", "PF_ETHUSD"), Size(88, 18), roll),
    "ladder": Picture(("book",), ("PF_XBTUSD", "PF_ETHUSD"), Size(100, 22), ladder),
}


def drawn(picture: Picture) -> list[str]:
    """The lines that a person sees, styled, the status line last."""
    views = picture.views(picture.products)
    asked = f"{','.join(picture.feeds)} {len(picture.products)} products"
    status = Status(venue="live", asked=asked, paint=PAINT)
    above: list[str] = []
    rows: list[str] = []
    for now_ns, events in played(picture.feeds, picture.products, SECONDS):
        status.take(events)
        for view in views:
            view.take(events)
        above += [line for view in views for line in view.above(now_ns, picture.size)]
        rows = [row for view in views for row in view.rows(now_ns, picture.size)]
        rows.append(status.line(now_ns, picture.size.columns))
    room = picture.size.lines - len(rows)
    return [*above[-room:], *rows]


def main() -> int:
    for name, picture in PICTURES.items():
        console = Console(
            record=True, width=picture.size.columns, file=io.StringIO(), force_terminal=True
        )
        console.print(Text(f"$ {picture.command}"))
        for line in drawn(picture):
            console.print(Text.from_ansi(line))
        path = DOCS / f"{name}.svg"
        path.write_text(console.export_svg(title="kfws", unique_id=f"kfws-{name}"))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
