"""What a person sees, from the seeded market: whole displays, and their colours."""

from __future__ import annotations

from datetime import UTC

import pyte
import pytest

from kfws.sinks.board import Board
from kfws.sinks.columns import BOARD
from kfws.sinks.display import Display, View
from kfws.sinks.paint import Paint, cells, unpainted
from kfws.sinks.roll import Roll
from kfws.sinks.screen import Size
from kfws.sinks.status import Status
from tests.golden_files import assert_golden
from tests.sinks.market import played

PRODUCTS = ("PF_XBTUSD", "PF_ETHUSD", "PI_XBTUSD", "FF_XBTUSD_261225", "PF_PEPEUSD", "PF_DOGEUSD")
SECONDS = 12.0
SCENES = {
    "board": (("ticker",), PRODUCTS),
    "roll": (("trade",), PRODUCTS[:2]),
    "account": (("open_positions", "open_orders", "fills"), ()),
    "wallets": (("balances",), ()),
    "mixed": (("trade", "ticker_lite"), PRODUCTS[:3]),
}


def views(feeds: tuple[str, ...], products: tuple[str, ...], *, color: bool) -> list[View]:
    paint = Paint(color)
    rolling = tuple(feed for feed in feeds if feed not in BOARD)
    found: list[View] = []
    if rolling:
        found.append(Roll(rolling, paint=paint, zone=UTC, products=products))
    for feed in feeds:
        if feed in BOARD:
            found.append(Board(feed, paint=paint, zone=UTC, order=products))
    return found


@pytest.mark.golden
@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("scene", SCENES)
def test_a_person_sees_the_picture_of_the_golden_file(scene: str, width: int) -> None:
    feeds, products = SCENES[scene]
    size = Size(width, 24)
    status = Status(venue="sim", asked=",".join(feeds), paint=Paint(False))
    display = Display(views(feeds, products, color=False), status)
    screen = pyte.Screen(width, 24)
    stream = pyte.ByteStream(screen)
    for now_ns, events in played(feeds, products, SECONDS):
        display.encode(events)
        stream.feed(display.draw(now_ns, size))
    assert_golden(f"{scene}-{width}.txt", "\n".join(map(str.rstrip, screen.display)).rstrip())


@pytest.mark.golden
@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("scene", SCENES)
def test_the_colours_are_those_of_the_golden_file(scene: str, width: int) -> None:
    feeds, products = SCENES[scene]
    size = Size(width, 20)
    colored = views(feeds, products, color=True)
    plain = views(feeds, products, color=False)
    above: list[str] = []
    for now_ns, events in played(feeds, products, SECONDS):
        for one, other in zip(colored, plain, strict=True):
            one.take(events)
            other.take(events)
        part = [line for view in colored for line in view.above(now_ns, size)]
        rows = [row for view in colored for row in view.rows(now_ns, size)]
        uncolored = [line for view in plain for line in view.above(now_ns, size)]
        uncolored += [row for view in plain for row in view.rows(now_ns, size)]
        assert [unpainted(line) for line in (*part, *rows)] == uncolored
        assert max(map(cells, uncolored), default=0) <= width
        above += part
    assert_golden(f"{scene}-{width}.ansi", "\n".join([*above[-10:], *rows]))
