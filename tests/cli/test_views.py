from __future__ import annotations

import pytest

from kfws.cli.env import Env
from kfws.cli.views import views_of
from kfws.sinks.board import Board
from kfws.sinks.columns import BOARD
from kfws.sinks.roll import Roll
from tests.cli.test_plan import planned


@pytest.mark.parametrize(
    ("feeds", "kinds"),
    [
        ("ticker", [Board]),
        ("trade", [Roll]),
        ("ticker,ticker_lite", [Board, Board]),
        ("ticker,trade", [Roll, Board]),
        ("fills,open_orders,open_positions", [Roll, Board, Board]),
    ],
)
def test_states_stand_below_what_rolls(feeds: str, kinds: list[type]) -> None:
    plan = planned(feeds, terminal=True)
    assert [type(view) for view in views_of(plan, Env({}), None)] == kinds


@pytest.mark.parametrize("feed", BOARD)
def test_own_events_roll_above_a_board(feed: str) -> None:
    plan = planned(feed, terminal=True, events=True)
    assert [type(view) for view in views_of(plan, Env({}), None)] == [Roll, Board]
