from __future__ import annotations

import time
from pathlib import Path

import pytest

from kfws.cli.products_list import FRESH_S, ProductsList
from kfws.cli.talk import Talk
from kfws.errors import Unreachable
from kfws.products_cache import keep, kept, kept_at, parse
from kfws.sim.market import Market
from tests.cli.inside import NOWHERE
from tests.cli.test_talk import Paper

OLD, NEW = Market(1, 0, products=3).instruments(), Market(1, 0).instruments()
HOUR_NS = 3_600_000_000_000


class Venue:
    """Answers with a list, or is out of reach; counts how often it was asked."""

    def __init__(self, answer: bytes | None = NEW) -> None:
        self.answer = answer
        self.asked: list[float] = []

    async def fetch(self, timeout_s: float) -> bytes:
        self.asked.append(timeout_s)
        if self.answer is None:
            raise Unreachable("nothing is listening at venue:443", hint="look at --url")
        return self.answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return kept_at(tmp_path, "live")


def aged(path: Path, hours: float) -> Path:
    """A list that was kept so many hours ago."""
    keep(parse(OLD, int(time.time_ns() - hours * HOUR_NS)), path)
    return path


async def test_a_list_of_today_serves_without_asking_the_venue(path: Path) -> None:
    venue, paper = Venue(), Paper()
    listed = ProductsList(venue.fetch, aged(path, 3.5), Talk(paper))
    assert (await listed.get(told="warning")).rows == parse(OLD, 0).rows
    assert venue.asked == []
    assert paper.lines == [
        "kfws: the products list is 3 h old; `kfws products --refresh` asks the venue anew"
    ]


async def test_its_age_is_told_to_who_wants_to_know(path: Path) -> None:
    paper = Paper()
    await ProductsList(Venue().fetch, aged(path, 1), Talk(paper)).get()
    assert paper.lines == []


@pytest.mark.parametrize("hours", [FRESH_S / 3600 + 0.01, 24 * 400, -1])
async def test_an_older_one_or_one_of_tomorrow_is_replaced(path: Path, hours: float) -> None:
    venue, paper = Venue(), Paper()
    found = await ProductsList(venue.fetch, aged(path, hours), Talk(paper)).get(timeout_s=2)
    assert venue.asked == [2]
    assert found.rows == parse(NEW, 0).rows
    assert kept(path) == found
    assert abs(found.age_s(time.time_ns())) < 60
    assert paper.lines == []


async def test_a_refresh_asks_the_venue_in_any_case(path: Path) -> None:
    venue = Venue()
    listed = ProductsList(venue.fetch, aged(path, 0), Talk(Paper()))
    assert (await listed.get(refresh=True)).rows == parse(NEW, 0).rows
    assert listed.at_hand() == kept(path)


@pytest.mark.parametrize("refresh", [False, True])
async def test_an_old_list_serves_where_the_venue_is_out_of_reach(
    path: Path, refresh: bool
) -> None:
    paper = Paper()
    listed = ProductsList(Venue(None).fetch, aged(path, 50), Talk(paper))
    assert (await listed.get(refresh=refresh)).rows == parse(OLD, 0).rows
    assert paper.lines == [
        "kfws: nothing is listening at venue:443; the products list kept before serves, 2 d old"
    ]


@pytest.mark.parametrize("is_kept", [False, True])
async def test_without_a_list_and_a_venue_the_error_is_the_venues(
    path: Path, is_kept: bool
) -> None:
    listed = ProductsList(Venue(None).fetch, path if is_kept else None, Talk(Paper()))
    with pytest.raises(Unreachable, match="nothing is listening"):
        await listed.get()


async def test_an_answer_that_is_no_list_is_as_good_as_none(path: Path) -> None:
    with pytest.raises(Unreachable, match="no products list"):
        await ProductsList(Venue(b"<html>").fetch, path, Talk(Paper())).get()
    paper = Paper()
    await ProductsList(Venue(b"<html>").fetch, aged(path, 50), Talk(paper)).get()
    assert paper.lines[0].endswith("the products list kept before serves, 2 d old")


@pytest.fixture
def damaged(path: Path) -> Path:
    path.write_bytes(b'{"fetched_ns":1,"instru')
    return path


async def test_a_damaged_list_is_ignored_with_one_line_and_replaced(damaged: Path) -> None:
    path = damaged
    venue, paper = Venue(), Paper()
    listed = ProductsList(venue.fetch, path, Talk(paper))
    assert (listed.at_hand(), listed.at_hand()) == (None, None)
    assert paper.lines == [f"kfws: the products list kept in {path} is damaged, so it is not used"]
    assert await listed.get() == kept(path)


async def test_a_list_that_cannot_be_kept_serves_all_the_same() -> None:
    paper = Paper()
    path = kept_at(NOWHERE, "live")
    listed = ProductsList(Venue().fetch, path, Talk(paper, least="info"))
    assert (await listed.get()).rows == parse(NEW, 0).rows
    [line] = paper.lines
    assert line.startswith(f"kfws: the products list cannot be kept in {path}: ")


async def test_what_is_wrong_with_an_id_is_known_from_the_list_at_hand_alone(path: Path) -> None:
    venue = Venue()
    assert ProductsList(venue.fetch, None, Talk(Paper())).fault("PF_XBTUS") == ""
    listed = ProductsList(venue.fetch, aged(path, 5000), Talk(Paper()))
    assert listed.fault("PF_XBTUS") == "no product PF_XBTUS; similar: PF_XBTUSD"
    assert listed.fault("PF_XBTUSD") == ""
    assert venue.asked == []
